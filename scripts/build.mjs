/** `npm run build`: packages where they are missing, then TypeScript and the native crate. */
import { setUp } from './set-up.mjs'

setUp()
