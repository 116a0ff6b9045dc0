/**
 * `close-connection`: closes the client's connection at once, without an answer. Terminating. Publishes nothing.
 * Source: traffic-policy.md §5.4.
 */
import { policyKit } from '../config/schema-kit.ts'
import type { Close } from '../phase/outcome.ts'
import type { Action } from './action.ts'

const CLOSE: Close = Object.freeze({ kind: 'close', reason: 'denied:close-connection' })

export const closeConnection: Action<object, object> = {
  type: 'close-connection',
  phases: ['on_tcp_connect', 'on_http_request'],
  configRequired: false,
  schema: policyKit.object({}, { allowNull: true }),
  terminates: () => true,
  compile: (config) => config,
  run: () => CLOSE,
  runOnConnect: () => CLOSE,
}
