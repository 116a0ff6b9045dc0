/**
 * `owasp-crs-response`: judges the response before any byte of it reaches the client.
 *
 * `process_body` adds the body up to `waf.response_body`; what lies beyond passes uninspected, with one log event.
 * Bodies whose type the rule set does not ask for (event streams among them) are never held back. Blocks with 403
 * ERR_NGROK_3702. Publishes `owasp_crs_response.*`.
 * Source: traffic-policy.md §5.15; spec/README "limits"; T-47.
 */
import type { CollectedBody, Exchange } from '../exchange/exchange.ts'
import type { Outcome } from '../phase/outcome.ts'
import { scanResponse } from '../waf/scan.ts'
import type { Action } from './action.ts'
import { judge, OWASP_SCHEMA, type OwaspConfig, type OwaspPlan } from './owasp-crs.ts'

export const owaspCrsResponse: Action<OwaspConfig, OwaspPlan> = {
  type: 'owasp-crs-response',
  phases: ['on_http_response'],
  configRequired: false,
  schema: OWASP_SCHEMA,
  compile: (config, context) => ({
    profile: context.waf.forResponse({
      processBody: config.process_body,
      excludeRuleIds: config.exclude_rule_ids,
    }),
    processBody: config.process_body,
    enforce: config.on_error === 'halt',
  }),
  run(plan, exchange) {
    if (!plan.processBody || exchange.method === 'HEAD' || !isInspected(exchange)) {
      return judge(plan, exchange, 'outbound', () => scanResponse(exchange, plan.profile, null))
    }
    const body = exchange.responseBody(exchange.snapshot.settings.waf.responseBodyBytes)
    return body instanceof Promise ? body.then((it) => judgeBody(plan, exchange, it)) : judgeBody(plan, exchange, body)
  },
}

/** Whether the rule set wants to see bodies of this media type; encoded bodies are not decoded, so not seen. */
function isInspected(exchange: Exchange): boolean {
  const { head } = exchange.responseState!
  const type = (head.first('content-type') ?? '').split(';', 1)[0]!.trim().toLowerCase()
  const encoding = head.first('content-encoding')
  return (
    exchange.snapshot.inspectedMimeTypes.has(type) && (encoding === undefined || encoding.toLowerCase() === 'identity')
  )
}

function judgeBody(plan: OwaspPlan, exchange: Exchange, body: CollectedBody): Outcome | Promise<Outcome> {
  if (!body.complete) {
    exchange.services.logger.warn(
      { request_id: exchange.requestId, inspected_bytes: body.bytes.length },
      'response body beyond waf.response_body is not inspected',
    )
  }
  return judge(plan, exchange, 'outbound', () => scanResponse(exchange, plan.profile, body.bytes))
}
