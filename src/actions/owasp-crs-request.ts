/**
 * `owasp-crs-request`: judges the request by the Core Rule Set before anything else happens to it.
 *
 * `process_body` adds the body up to `waf.request_body`; a longer one is refused with 413, one in a content coding we
 * cannot take off with 415; one that cannot be parsed is blocked by the engine's rule for it (200002). Blocks with 403
 * ERR_NGROK_3700. Publishes `owasp_crs_request.*`.
 * Source: traffic-policy.md §5.14; T-39, T-40, T-43.
 */
import type { CollectedBody, Exchange } from '../exchange/exchange.ts'
import type { Outcome } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'
import { decodeBody, isPlain } from '../waf/decoded-body.ts'
import { scanRequest } from '../waf/scan.ts'
import type { Action } from './action.ts'
import { judge, OWASP_SCHEMA, type OwaspConfig, type OwaspPlan } from './owasp-crs.ts'

export const owaspCrsRequest: Action<OwaspConfig, OwaspPlan> = {
  type: 'owasp-crs-request',
  phases: ['on_http_request'],
  configRequired: false,
  schema: OWASP_SCHEMA,
  compile: (config, context) => ({
    profile: context.waf.forRequest({
      processBody: config.process_body,
      excludeRuleIds: config.exclude_rule_ids,
    }),
    processBody: config.process_body,
    enforce: config.on_error === 'halt',
  }),
  run(plan, exchange) {
    if (!plan.processBody || exchange.facts.bodyLength === 0) {
      return judge(plan, exchange, 'inbound', () => scanRequest(exchange, plan.profile, null))
    }
    const limitBytes = exchange.snapshot.settings.waf.requestBodyBytes
    if (exchange.facts.bodyLength > limitBytes) throw new GatewayError('BODY_TOO_LARGE')
    const body = exchange.requestBody(limitBytes)
    return body instanceof Promise ? body.then((it) => judgeBody(plan, exchange, it)) : judgeBody(plan, exchange, body)
  },
}

function judgeBody(plan: OwaspPlan, exchange: Exchange, body: CollectedBody): Outcome | Promise<Outcome> {
  if (!body.complete) throw new GatewayError('BODY_TOO_LARGE')
  const encoding = exchange.head.first('content-encoding')
  if (encoding === undefined || isPlain(encoding)) {
    return judge(plan, exchange, 'inbound', () => scanRequest(exchange, plan.profile, body.bytes))
  }
  return decodeBody(encoding, body, exchange.snapshot.settings.waf.requestBodyBytes).then((decoded) => {
    if (decoded.kind !== 'decoded') throw new GatewayError('UNSUPPORTED_ENCODING')
    if (!decoded.complete) throw new GatewayError('BODY_TOO_LARGE')
    return judge(plan, exchange, 'inbound', () => scanRequest(exchange, plan.profile, decoded.bytes, true))
  })
}
