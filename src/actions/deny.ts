/**
 * `deny`: ends the exchange with a status and no body; in `on_tcp_connect` closes the connection. Terminating,
 * response rules do not run. Publishes nothing. Source: traffic-policy.md §5.7.
 */
import { described, policyKit, withDefault } from '../config/schema-kit.ts'
import type { Action } from './action.ts'

interface Config {
  readonly status_code: number
}

export const deny: Action<Config, Config> = {
  type: 'deny',
  phases: ['on_tcp_connect', 'on_http_request'],
  configRequired: false,
  schema: policyKit.object(
    {
      status_code: described(
        withDefault(policyKit.integer({ min: 400, max: 599 }), 403),
        'Status of the answer, which has no body.',
      ),
    },
    { allowNull: true, hints: { body: 'deny has no body; use custom-response' } },
  ),
  terminates: () => true,
  compile: (config) => config,
  run: (plan) => ({
    kind: 'respond',
    status: plan.status_code,
    lines: 'server: sallyport\r\ncache-control: no-store\r\n',
    body: '',
    reason: 'denied:deny',
    responsePhase: false,
  }),
  runOnConnect: () => ({ kind: 'close', reason: 'denied:deny' }),
}
