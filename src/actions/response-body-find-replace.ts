/**
 * `response-body-find-replace`: replaces what patterns find in the response body. The body is collected up to
 * `limits.buffered_body` (502 beyond) before anything goes out; gzip, deflate and br are taken off, other codings are
 * answered 502. HEAD, 204, 304 and empty bodies pass; so do event streams, which never end: `sse-find-replace` is for
 * them. Never ends the phase. Publishes `response_body_find_replace.replacements[]`. Source: traffic-policy.md §5.20.
 */
import type { Exchange, ResponseState } from '../exchange/exchange.ts'
import { isEventStream } from '../exchange/event-phase.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'
import { isBodiless } from '../response/status-line.ts'
import type { Action } from './action.ts'
import {
  compileReplacements,
  describeChange,
  readable,
  replaceInBody,
  REPLACEMENTS_SCHEMA,
  type ReplacementsConfig,
  type ReplacementsPlan,
  replacementsResult,
} from './body-replacements.ts'

export const responseBodyFindReplace: Action<ReplacementsConfig, ReplacementsPlan> = {
  type: 'response-body-find-replace',
  phases: ['on_http_response'],
  configRequired: true,
  schema: REPLACEMENTS_SCHEMA,
  compile: (config, context) => compileReplacements(config.replacements, context),
  run(plan, exchange) {
    // phases run only with a response
    const state = exchange.responseState!
    if (exchange.method === 'HEAD' && !isBodiless(state.status)) {
      // what GET would answer may have another length, and other bytes
      describeChange(state.head)
      exchange.setResponse({ ...state, bodyChanged: true })
      return finish(exchange, [])
    }
    if (state.bodyLength === 0 || isBodiless(state.status) || isEventStream(state)) return finish(exchange, [])
    return replaceIn(plan, exchange, state)
  },
}

async function replaceIn(plan: ReplacementsPlan, exchange: Exchange, state: ResponseState): Promise<Outcome> {
  // ranges are not asked for where this action may run (forward-head.ts): a part cannot be searched as the whole would be
  if (state.status === 206) throw new GatewayError('BODY_CHANGE_FAILED', { cause: 'the upstream sent a range' })
  const limitBytes = exchange.snapshot.settings.limits.bufferedBodyBytes
  if (state.bodyLength > limitBytes) throw new GatewayError('RESPONSE_TOO_LARGE')
  const coding = exchange.responseCoding
  const body = await readable(await exchange.responseBody(limitBytes), coding, limitBytes)
  if (exchange.finished) return NEXT
  if (body === 'too large') throw new GatewayError('RESPONSE_TOO_LARGE')
  if (body === 'unreadable') throw new GatewayError('RESPONSE_UNREADABLE')
  if (body.length === 0) return finish(exchange, [])
  const { bytes, matches } = await replaceInBody(plan, exchange, body)
  if (bytes !== undefined) {
    if (state.compression === undefined) state.head.remove('content-encoding')
    describeChange(state.head)
    exchange.setResponse({ ...state, bodyLength: bytes.length, ownBody: bytes })
  }
  return finish(exchange, matches)
}

function finish(exchange: Exchange, matches: Parameters<typeof replacementsResult>[0]): Outcome {
  exchange.setResult('response_body_find_replace', replacementsResult(matches))
  return NEXT
}
