/**
 * `request-body-find-replace`: replaces what patterns find in the request body. The body is collected up to
 * `limits.buffered_body` (413 beyond) and goes upstream with its new length; gzip, deflate and br are taken off, other
 * codings are answered 415. Requests without a body pass. Never ends the phase. Publishes
 * `request_body_find_replace.replacements[]`. Source: traffic-policy.md §5.19.
 */
import type { Exchange } from '../exchange/exchange.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { Action } from './action.ts'
import {
  compileReplacements,
  describeChange,
  type ReadableBody,
  readable,
  replaceInBody,
  REPLACEMENTS_SCHEMA,
  type ReplacementsConfig,
  type ReplacementsPlan,
  replacementsResult,
} from './body-replacements.ts'

export const requestBodyFindReplace: Action<ReplacementsConfig, ReplacementsPlan> = {
  type: 'request-body-find-replace',
  phases: ['on_http_request'],
  configRequired: true,
  schema: REPLACEMENTS_SCHEMA,
  compile: (config, context) => compileReplacements(config.replacements, context),
  async run(plan, exchange) {
    const limitBytes = exchange.snapshot.settings.limits.bufferedBodyBytes
    if (exchange.requestBodyLength > limitBytes) throw new GatewayError('BODY_TOO_LARGE')
    if (exchange.requestBodyLength === 0) return finish(exchange, [])
    const body = await readable(
      await exchange.requestBody(limitBytes),
      exchange.head.first('content-encoding'),
      limitBytes,
    )
    if (exchange.finished || !isReadable(body)) return NEXT
    if (body.length === 0) return finish(exchange, [])
    const { bytes, matches } = await replaceInBody(plan, exchange, body)
    // an untouched body goes on as it came, in its coding
    if (bytes !== undefined) {
      exchange.head.remove('content-encoding')
      describeChange(exchange.head)
      exchange.replaceRequestBody(bytes)
    }
    return finish(exchange, matches)
  },
}

function isReadable(body: ReadableBody): body is Uint8Array {
  if (body === 'too large') throw new GatewayError('BODY_TOO_LARGE')
  if (body === 'unreadable') throw new GatewayError('UNSUPPORTED_ENCODING')
  return true
}

function finish(exchange: Exchange, matches: Parameters<typeof replacementsResult>[0]): Outcome {
  exchange.setResult('request_body_find_replace', replacementsResult(matches))
  return NEXT
}
