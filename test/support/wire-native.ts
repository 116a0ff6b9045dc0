/** Import before a wire suite: its gateways then use the native upstream pool. */
import { wirePool } from './wire-gateway.ts'

wirePool.name = 'native'
