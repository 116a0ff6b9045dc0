/**
 * The head that goes upstream: the client's as the policy left it, plus what a proxy must say about itself.
 *
 * Source: operations.md O-67 … O-69 (ids, X-Forwarded-*), H-54, H-55 (host and target), H-57 (Via, loops).
 */
import { GatewayError } from '../response/gateway-error.ts'
import type { RequestFacts } from '../listener/front-end.ts'
import type { Exchange, Frame } from './exchange.ts'
import { withOneHopLess } from './max-forwards.ts'
import { flatText, MessageHead } from './message-head.ts'
import { NewTrace } from './request-ids.ts'

/** What we say about the hop: an inbound list is continued for a trusted peer and discarded for others, as a rule (O-69). */
const FORWARDING_FIELDS = ['x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port'] as const

/** Fields that are ours to write. One that `add-headers` gave a value of its own goes upstream with that value. */
export const PROXY_FIELDS: ReadonlySet<string> = new Set([
  ...FORWARDING_FIELDS,
  'forwarded',
  'x-request-id',
  'traceparent',
  'tracestate',
])

/** Passing this gateway a second time is a loop (H-57). */
const ALLOWED_REPEATS = 1

/**
 * Leaves the exchange's own head as it is: rules of the response still read it, and a failed `forward-internal` begins
 * from it again. Throws `LOOP` (508) when the request has passed this gateway too often.
 */
export function forwardHead(exchange: Exchange): string {
  const head = upstreamHead(exchange)
  return exchange.method === 'OPTIONS' ? withOneHopLess(head) : head
}

function upstreamHead(exchange: Exchange): string {
  if (onlyAdds(exchange)) return exchange.head.text + ownLines(exchange)
  const { url, client, peer } = exchange
  const { instanceId } = exchange.services
  const readsBody = exchange.frames.some(changesResponseBody)
  const head = new MessageHead(exchange.head.text)
  if (readsBody) askForReadable(head)
  if (exchange.ownCookies !== undefined) dropOwnCookies(head, exchange.ownCookies)
  if (isOurs(exchange)) return `${exchange.method} ${url.target} HTTP/1.1\r\n${head.lines}${ownLines(exchange)}`
  const via = head.all('via')
  if (via.length > 0 && occurrences(via.join(','), `sallyport (${instanceId})`) > ALLOWED_REPEATS) {
    throw new GatewayError('LOOP')
  }
  const publicHost = exchange.publicHost
  // ngrok's way, where the public endpoint asks for it: what any peer says of the way so far is kept (O-69)
  const keeps = client.peerTrusted || exchange.frames[0]?.endpoint.appendsForwarded === true
  const inboundFor = keeps ? head.all('x-forwarded-for').join(', ') : ''
  const inboundProto = client.peerTrusted ? head.first('x-forwarded-proto') : undefined
  const inboundHost = keeps ? head.first('x-forwarded-host') : undefined
  const inboundPort = client.peerTrusted ? head.first('x-forwarded-port') : undefined
  for (const name of PROXY_FIELDS) {
    if (exchange.assigned?.has(name) === true) continue
    if (name === 'forwarded' ? !client.peerTrusted : name !== 'tracestate' || !exchange.trace.continued)
      head.remove(name)
  }
  const line = (name: string, value: string): string =>
    // `remove-headers` may name the fields we add (§5.18); what `add-headers` made of them stands
    exchange.suppressed?.has(name) === true || (exchange.assigned?.has(name) === true && head.has(name))
      ? ''
      : `${name}: ${value}\r\n`

  const added = [
    line('x-forwarded-for', inboundFor === '' ? peerAddress(exchange) : `${inboundFor}, ${peerAddress(exchange)}`),
    line('x-forwarded-proto', inboundProto ?? url.scheme),
    publicHost === '' && inboundHost === undefined ? '' : line('x-forwarded-host', inboundHost ?? publicHost),
    line('x-forwarded-port', inboundPort ?? String(peer.localPort)),
    line('x-request-id', exchange.requestId),
    line('traceparent', exchange.trace.traceparent),
    line('via', `${receivedVersion(exchange)} sallyport (${instanceId})`),
  ]
  return `${exchange.method} ${url.target} HTTP/1.1\r\n${head.lines}${missingHost(exchange)}${added.join('')}`
}

/** The protocol's version as it was received (H-57; RFC 9110 §7.6.3). */
function receivedVersion({ facts }: Exchange): string {
  return facts.version === undefined ? '1.1' : facts.version.slice('HTTP/'.length)
}

/** A request of HTTP/1.0 may name no host, one of HTTP/1.1 must (RFC 9112 §3.2): it gets that of the server it goes to. */
function missingHost({ publicHost, head, target }: Exchange): string {
  if (publicHost !== '' || target === undefined || head.has('host')) return ''
  const isDefault = target.port === (target.protocol === 'https' ? 443 : 80)
  return `host: ${target.host}${isDefault ? '' : `:${target.port}`}\r\n`
}

/** By far the usual case: the head goes on as it stands, with what we say about the hop behind it. */
function onlyAdds(exchange: Exchange): boolean {
  return (
    isOurs(exchange) &&
    exchange.ownCookies === undefined &&
    exchange.url.target === exchange.receivedTarget &&
    !exchange.frames.some(changesResponseBody)
  )
}

/** Nothing of what we write is there already, and no action had a say in it. */
function isOurs({ facts, assigned, suppressed }: Exchange): boolean {
  return !facts.proxyFields && assigned === undefined && suppressed === undefined
}

/** What is to be put behind the head that came, which stays as it is; undefined: `forwardHead` makes another one. */
export function addedLines(exchange: Exchange): string | undefined {
  const isWhole = exchange.head.isAsReceived && exchange.method !== 'OPTIONS' && onlyAdds(exchange)
  return isWhole ? ownLines(exchange) : undefined
}

function peerAddress({ peer, client }: Exchange): string {
  return peer.proxiedAddress !== undefined && client.peerTrusted ? peer.proxiedAddress : peer.address
}

function changesResponseBody({ endpoint }: Frame): boolean {
  return endpoint.policy.changesResponseBody
}

// Requests of one peer to one host share these lines, up to the value of the last one.
let sharedLines = ''
let sharedTimes = 0
let sharedAddress = ''
let sharedHost = ''
let sharedScheme = ''
let sharedPort = -1
let sharedInstance = ''
let sharedVersion: RequestFacts['version']

/** Everything that we say about the hop, when nobody else has said anything. */
function ownLines(exchange: Exchange): string {
  const { publicHost, requestId } = exchange
  const { version } = exchange.facts
  const { scheme } = exchange.url
  const { localPort } = exchange.peer
  const { instanceId } = exchange.services
  const address = peerAddress(exchange)
  if (
    address !== sharedAddress ||
    publicHost !== sharedHost ||
    scheme !== sharedScheme ||
    localPort !== sharedPort ||
    instanceId !== sharedInstance ||
    version !== sharedVersion
  ) {
    sharedTimes = 0
    sharedAddress = address
    sharedHost = publicHost
    sharedScheme = scheme
    sharedPort = localPort
    sharedInstance = instanceId
    sharedVersion = version
    sharedLines = `x-forwarded-for: ${address}\r\n${hopLines(exchange)}x-request-id: `
  }
  // for peers that take turns it is not worth it
  if (++sharedTimes === 2) sharedLines = flatText(sharedLines)
  const { trace } = exchange
  const traceLine = trace instanceof NewTrace ? trace.line : `\r\ntraceparent: ${trace.traceparent}\r\n`
  const host = publicHost === '' ? missingHost(exchange) : ''
  return `${host}${sharedLines}${requestId}${traceLine}`
}

/** What is the same for all requests for one host on one port: everything between the client's address and the names of the request. */
export function hopLines(exchange: Exchange): string {
  const { publicHost, url, peer, services } = exchange
  const host = publicHost === '' ? '' : `x-forwarded-host: ${publicHost}\r\n`
  return `x-forwarded-proto: ${url.scheme}\r\n${host}x-forwarded-port: ${peer.localPort}\r\nvia: ${receivedVersion(exchange)} sallyport (${services.instanceId})\r\n`
}

/** Codings that can be taken off (body/decoded-body.ts). */
const READABLE_CODING = /^\s*(?:gzip|x-gzip|deflate|br|identity)\s*(?:;|$)/i

/** The policy may look into the body: a whole one, in a coding that we know. A proxy may ask for less (RFC 9110 §14.2). */
function askForReadable(head: MessageHead): void {
  head.remove('range')
  head.remove('if-range')
  const accepted = head.all('accept-encoding')
  if (accepted.length === 0) return
  const readable = accepted
    .join(',')
    .split(',')
    .filter((member) => READABLE_CODING.test(member))
  head.set('accept-encoding', readable.length === 0 ? 'identity' : readable.map((member) => member.trim()).join(', '))
}

/** Whoever has a session cookie is that user: no upstream gets to see one. */
function dropOwnCookies(head: MessageHead, isOwn: readonly ((name: string) => boolean)[]): void {
  const fields = head.all('cookie')
  if (fields.length === 0) return
  head.remove('cookie')
  const nameOf = (pair: string): string => (pair.includes('=') ? pair.slice(0, pair.indexOf('=')) : pair).trim()
  for (const field of fields) {
    const kept = field.split(';').filter((pair) => !isOwn.some((test) => test(nameOf(pair))))
    const text = kept.join(';').trim()
    if (text !== '') head.add('cookie', text)
  }
}

function occurrences(text: string, part: string): number {
  return text.split(part).length - 1
}
