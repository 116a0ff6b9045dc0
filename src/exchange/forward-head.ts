/**
 * The head that goes upstream: the client's as the policy left it, plus what a proxy must say about itself.
 *
 * Source: operations.md O-67 … O-69 (ids, X-Forwarded-*), H-54, H-55 (host and target), H-57 (Via, loops).
 */
import { GatewayError } from '../response/gateway-error.ts'
import type { Exchange } from './exchange.ts'

/** Fields of which an untrusted client's lines are discarded (O-69), unless we replace them anyway. */
const FORWARDING_FIELDS = ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port'] as const

/** Passing this gateway a second time is a loop (H-57). */
const ALLOWED_REPEATS = 1

/** Throws `LOOP` (508) when the request has passed this gateway too often. */
export function forwardHead(exchange: Exchange): string {
  const { head, url, client, peer } = exchange
  const { instanceId } = exchange.services
  const via = head.all('via')
  if (via.length > 0 && occurrences(via.join(','), `sallyport (${instanceId})`) > ALLOWED_REPEATS) {
    throw new GatewayError('LOOP')
  }
  const publicHost = exchange.publicHost
  const inboundFor = client.peerTrusted ? head.all('x-forwarded-for').join(', ') : ''
  const inboundProto = client.peerTrusted ? head.first('x-forwarded-proto') : undefined
  const inboundHost = client.peerTrusted ? head.first('x-forwarded-host') : undefined
  const inboundPort = client.peerTrusted ? head.first('x-forwarded-port') : undefined
  for (const name of FORWARDING_FIELDS) head.remove(name)
  if (!client.peerTrusted) head.remove('forwarded')
  head.remove('x-request-id')
  head.remove('traceparent')
  if (!exchange.trace.continued) head.remove('tracestate')

  const peerAddress = peer.proxiedAddress !== undefined && client.peerTrusted ? peer.proxiedAddress : peer.address
  const added = [
    line(exchange, 'x-forwarded-for', inboundFor === '' ? peerAddress : `${inboundFor}, ${peerAddress}`),
    line(exchange, 'x-forwarded-proto', inboundProto ?? url.scheme),
    line(exchange, 'x-forwarded-host', inboundHost ?? publicHost),
    line(exchange, 'x-forwarded-port', inboundPort ?? String(peer.localPort)),
    line(exchange, 'x-request-id', exchange.requestId),
    line(exchange, 'traceparent', exchange.trace.traceparent),
    line(exchange, 'via', `1.1 sallyport (${instanceId})`),
  ]
  return `${exchange.method} ${url.target} HTTP/1.1\r\n${head.lines}${added.join('')}`
}

/** `remove-headers` may name the fields we add (§5.18); then they are left out. */
function line(exchange: Exchange, name: string, value: string): string {
  return exchange.suppressed?.has(name) === true ? '' : `${name}: ${value}\r\n`
}

function occurrences(text: string, part: string): number {
  return text.split(part).length - 1
}
