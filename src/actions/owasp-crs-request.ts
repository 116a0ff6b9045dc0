/**
 * `owasp-crs-request`: judges the request by the Core Rule Set before anything else happens to it.
 *
 * `process_body` adds the body up to `waf.request_body`; a longer one is refused with 413 or inspected in part, as
 * `waf.request_body_limit_action` says, one in a content coding we cannot take off is refused with 415; one that cannot be parsed is blocked by the engine's rule for it (200002). Blocks with 403
 * ERR_NGROK_3700. Publishes `owasp_crs_request.*`.
 * Source: traffic-policy.md §5.14; T-39, T-40, T-43.
 */
import type { CollectedBody, Exchange, JudgedBody } from '../exchange/exchange.ts'
import type { Outcome } from '../phase/outcome.ts'
import { decodeBody, isPlain } from '../body/decoded-body.ts'
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
  refuse,
} from './owasp-crs.ts'

export const owaspCrsRequest: Action<OwaspConfig, OwaspPlan> = {
  type: 'owasp-crs-request',
  phases: ['on_http_request'],
  configRequired: false,
  schema: OWASP_SCHEMA,
  compile(config, context) {
    const profile = context.waf.forRequest({
      processBody: config.process_body,
      excludeRuleIds: config.exclude_rule_ids,
      enforce: config.on_error === 'halt',
    })
    return owaspPlan(config, 'inbound', profile, context.settings.waf)
  },
  run(plan, exchange) {
    const { mode, requestBodyBytes } = exchange.snapshot.settings.waf
    if (mode === 'off') return notJudged(plan, exchange, 'inbound')
    if (!plan.processBody || exchange.requestBodyLength === 0) {
      return judge(plan, exchange, 'inbound', null, false)
    }
    const rejects = rejectsLarge(plan, exchange)
    if (rejects && exchange.requestBodyLength > requestBodyBytes) return refuse('BODY_TOO_LARGE')
    // one byte more tells the matcher that there is more
    const limitBytes = rejects ? requestBodyBytes : requestBodyBytes + 1
    const encoding = exchange.head.first('content-encoding')
    if (encoding === undefined || isPlain(encoding)) {
      const body = exchange.judgedRequestBody(limitBytes)
      if (body instanceof Promise) return body.then((it) => judgeBody(plan, exchange, it, rejects))
      return judgeBody(plan, exchange, body, rejects)
    }
    const body = exchange.requestBody(limitBytes)
    if (body instanceof Promise) return body.then((it) => judgeEncoded(plan, exchange, encoding, it, rejects))
    return judgeEncoded(plan, exchange, encoding, body, rejects)
  },
}

/** A body over the limit is refused here; what is not enforced is told by the matcher instead, or inspected in part. */
function rejectsLarge(plan: OwaspPlan, exchange: Exchange): boolean {
  return plan.enforce && exchange.snapshot.settings.waf.requestBodyLimitAction === 'reject'
}

function judgeBody(
  plan: OwaspPlan,
  exchange: Exchange,
  body: JudgedBody,
  rejects: boolean,
): Outcome | Promise<Outcome> {
  if (rejects && isBeyond(exchange, body)) return refuse('BODY_TOO_LARGE')
  return judgeBytes(plan, exchange, body, false)
}

function isBeyond(exchange: Exchange, body: JudgedBody): boolean {
  return !body.complete || bytesOf(body) > exchange.snapshot.settings.waf.requestBodyBytes
}

function judgeEncoded(
  plan: OwaspPlan,
  exchange: Exchange,
  encoding: string,
  body: CollectedBody,
  rejects: boolean,
): Outcome | Promise<Outcome> {
  const { requestBodyBytes } = exchange.snapshot.settings.waf
  if (rejects && isBeyond(exchange, body)) return refuse('BODY_TOO_LARGE')
  return decodeBody(encoding, body, rejects ? requestBodyBytes : requestBodyBytes + 1).then((decoded) => {
    if (decoded.kind === 'decoded') {
      if (rejects && !decoded.complete) return refuse('BODY_TOO_LARGE')
      return judgeBytes(plan, exchange, decoded, true)
    }
    if (plan.enforce) return refuse('UNSUPPORTED_ENCODING')
    notInspected(exchange, 'request', 0, `its content coding is ${decoded.kind}`)
    return judge(plan, exchange, 'inbound', null, false)
  })
}

function judgeBytes(
  plan: OwaspPlan,
  exchange: Exchange,
  body: JudgedBody,
  isDecoded: boolean,
): Outcome | Promise<Outcome> {
  const { requestBodyBytes } = exchange.snapshot.settings.waf
  if (isBeyond(exchange, body)) {
    notInspected(exchange, 'request', requestBodyBytes, 'the rest lies beyond waf.request_body')
  }
  // of a body that is held no more was asked for
  const scanned = 'held' in body ? body : body.bytes.subarray(0, requestBodyBytes + 1)
  return judge(plan, exchange, 'inbound', scanned, isDecoded)
}
