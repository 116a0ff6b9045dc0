/**
 * `remove-headers`: removes every value of each header, before the message goes on. Also keeps back the
 * `x-forwarded-*` fields that the gateway itself would add. Never ends the phase. Publishes
 * `remove_headers.headers_removed`. Source: traffic-policy.md §5.18.
 */
import { described, policyKit } from '../config/schema-kit.ts'
import { NEXT } from '../phase/outcome.ts'
import type { Action } from './action.ts'
import { headerNames } from './header-values.ts'

interface Config {
  readonly headers: readonly string[]
}

export const removeHeaders: Action<Config, Config> = {
  type: 'remove-headers',
  phases: ['on_http_request', 'on_http_response'],
  configRequired: true,
  schema: policyKit.object({ headers: described(headerNames(), 'Names, in any case. At most 10.') }),
  compile: (config) => config,
  run(plan, exchange) {
    const { responseState } = exchange
    const head = responseState?.head ?? exchange.head
    const removed: string[] = []
    for (const name of plan.headers) {
      // a request without Host cannot be forwarded; `add-headers` replaces it instead
      if (name === 'host' && responseState === undefined) continue
      if (head.remove(name)) removed.push(name)
      if (responseState === undefined && name.startsWith('x-forwarded-')) {
        exchange.suppressed ??= new Set()
        exchange.suppressed.add(name)
      }
    }
    exchange.setResult('remove_headers', { headers_removed: removed })
    return NEXT
  },
  canForetell: () => true,
  foretell: (plan, _, answer) => plan.headers.every((name) => answer.remove(name)),
}
