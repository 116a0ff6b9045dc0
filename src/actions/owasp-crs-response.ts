/**
 * `owasp-crs-response`: judges the response before any byte of it reaches the client.
 *
 * `process_body` adds the body up to `waf.response_body`; what lies beyond passes uninspected, with one log event, or the
 * response is refused with 500, as `waf.response_body_limit_action` says.
 * Bodies whose type the rule set does not ask for (event streams among them) are never held back. Blocks with 403
 * ERR_NGROK_3702. Publishes `owasp_crs_response.*`.
 * Source: traffic-policy.md §5.15; spec/README "limits"; T-47.
 */
import type { CollectedBody, Exchange, JudgedBody, TextBody } from '../exchange/exchange.ts'
import type { Outcome } from '../phase/outcome.ts'
import { decodeBody, isPlain } from '../body/decoded-body.ts'
import type { ScannedBody } from '../waf/scan.ts'
import type { Action } from './action.ts'
import {
  bytesOf,
  judge,
  notInspected,
  notJudged,
  OWASP_SCHEMA,
  type OwaspConfig,
  type OwaspPlan,
  owaspPlan,
  tooLargeToJudge,
} from './owasp-crs.ts'

export const owaspCrsResponse: Action<OwaspConfig, OwaspPlan> = {
  type: 'owasp-crs-response',
  phases: ['on_http_response'],
  configRequired: false,
  schema: OWASP_SCHEMA,
  compile(config, context) {
    const profile = context.waf.forResponse({
      processBody: config.process_body,
      excludeRuleIds: config.exclude_rule_ids,
      enforce: config.on_error === 'halt',
    })
    return owaspPlan(config, 'outbound', profile, context.settings.waf)
  },
  run(plan, exchange) {
    if (exchange.snapshot.settings.waf.mode === 'off') return notJudged(plan, exchange, 'outbound')
    if (!plan.processBody || exchange.method === 'HEAD' || !isInspected(exchange)) {
      return judge(plan, exchange, 'outbound', null, false)
    }
    // one byte more tells whether there is more
    const limitBytes = exchange.snapshot.settings.waf.responseBodyBytes + 1
    const encoding = exchange.responseCoding
    if (isAsSent(encoding)) {
      // a compression that is still to come stands in the head already
      const isDecoded = exchange.responseState!.compression !== undefined
      const body = exchange.judgedResponseBody(limitBytes)
      if (body instanceof Promise) return body.then((it) => judgeBytes(plan, exchange, it, isDecoded))
      return judgeBytes(plan, exchange, body, isDecoded)
    }
    const body = exchange.responseBody(limitBytes)
    if (body instanceof Promise) return body.then((it) => judgeEncoded(plan, exchange, encoding, it))
    return judgeEncoded(plan, exchange, encoding, body)
  },
}

/** Whether the rule set wants to see bodies of this media type. */
function isInspected(exchange: Exchange): boolean {
  const value = exchange.responseState!.head.first('content-type') ?? ''
  const end = value.indexOf(';')
  const type = end === -1 ? value : value.slice(0, end)
  const { inspectedMimeTypes } = exchange.snapshot
  // as most write it, or else as it is meant
  return inspectedMimeTypes.has(type) || inspectedMimeTypes.has(type.trim().toLowerCase())
}

function isAsSent(encoding: string | undefined): encoding is undefined {
  return encoding === undefined || isPlain(encoding)
}

function judgeEncoded(plan: OwaspPlan, exchange: Exchange, encoding: string, body: CollectedBody): Promise<Outcome> {
  return decodeBody(encoding, body, exchange.snapshot.settings.waf.responseBodyBytes + 1).then((decoded) => {
    if (decoded.kind === 'decoded') return judgeBytes(plan, exchange, decoded, true)
    notInspected(exchange, 'response', 0, `its content coding is ${decoded.kind}`)
    return judge(plan, exchange, 'outbound', null, false)
  })
}

function judgeBytes(
  plan: OwaspPlan,
  exchange: Exchange,
  body: JudgedBody | TextBody,
  isDecoded: boolean,
): Outcome | Promise<Outcome> {
  const { responseBodyBytes, responseBodyLimitAction } = exchange.snapshot.settings.waf
  if (!body.complete || bytesOf(body) > responseBodyBytes) {
    if (plan.enforce && responseBodyLimitAction === 'reject') return tooLargeToJudge(plan, exchange)
    notInspected(
      exchange,
      'response',
      Math.min(bytesOf(body), responseBodyBytes),
      'the rest lies beyond waf.response_body',
    )
  }
  return judge(plan, exchange, 'outbound', scannedBody(body), isDecoded)
}

function scannedBody(body: JudgedBody | TextBody): ScannedBody {
  if ('bytes' in body) return body.bytes
  return 'text' in body ? body.text : body
}
