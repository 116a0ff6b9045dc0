/**
 * Reads a request head from the library once, as one flat string, and decides everything about it that the library
 * leaves to us: framing, target, host, method, hop-by-hop fields.
 *
 * The library hands out header values as UTF-16 text decoded from UTF-8, lower-cases names, and shows the method as
 * sent only through its case-sensitive accessor. Bytes beyond 0x7F therefore come back by encoding the text again;
 * text with a replacement character cannot be turned back and is refused (T-12). At both ends of a value the library
 * takes such bytes for white space and drops them unseen; every layer behind it sees the same shorter value.
 *
 * Source: RFC 9110 §5, §7; RFC 9112 §3, §6; H-07 … H-23, H-50, H-52, H-61; T-01, T-07, T-09, T-12, T-16, T-28.
 */
import { isHopByHop, onlyFields, parseConnection, withoutFields } from '../upstream/hop-headers.ts'
import type { FrontEndLimits } from './front-end.ts'

/** The part of the library's request object that is read; tests hand in their own. */
export interface HeadSource {
  getCaseSensitiveMethod(): string
  getUrl(): string
  getQuery(): string | undefined
  forEach(take: (name: string, value: string) => void): void
}

/** A head as it crosses to the gateway, with what was taken out of it. */
export interface RequestHead {
  /** Request line and lines, see front-end.ts. */
  readonly head: string
  /** The Host field. */
  readonly host: string
  /** The framing and hop-by-hop lines that `head` lacks. */
  readonly connectionLines: string
  /** See RequestFacts. */
  readonly proxyFields: boolean
  /** See RequestFacts; false = not known. */
  readonly hasPlainPath: boolean
  readonly isHead: boolean
  /** Announced body bytes, 0 = none, -1 = chunked. */
  readonly bodyLength: number
  /** The client asked for the connection to be closed. */
  readonly close: boolean
  /** The library closes the connection by itself after the answer: it goes by the length of the value (F-08). */
  readonly libraryCloses: boolean
  readonly expectsContinue: boolean
  /** A valid request to become a WebSocket. */
  readonly webSocket: WebSocketRequest | undefined
}

/** What the library must be given back when it upgrades. */
export interface WebSocketRequest {
  readonly key: string
  /** '' = none offered. */
  readonly extensions: string
}

/** Why a request is not passed on. */
export interface HeadRefusal {
  readonly status: 400 | 405 | 413 | 414 | 417 | 426 | 431 | 501
  /** Rule behind it, as in `bad_request:H-20`. */
  readonly reason: string
  /** Text of the answer; never contains request bytes (H-86). */
  readonly text: string
}

const METHOD = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const MAX_METHOD_BYTES = 32
/**
 * The path: visible ASCII without backslash and `#` (T-09). Of what RFC 3986 leaves out, only the harmless `"<>^`{|}`
 * pass: old clients send them raw.
 */
const PATH = /^\/[!"$->@-[\]^-~]*$/
/** The query routes nothing, so backslash and bytes above 0x7F pass there as they came (H-12): the rule matcher judges them. */
const QUERY = /^[!"$-~\x80-\xff]*$/
/** A start line, which is looked at by itself, and lines as they may travel: token, colon, visible ASCII, space and tab. */
const ASCII_HEAD = /^[^\r\n]*\r\n(?:[!#$%&'*+.^_`|~0-9a-z-]+: [\t\x20-\x7e]*\r\n)*$/
/** Lines with the bytes 0x80 to 0xFF in values. */
const LATIN1_LINES = /^(?:[!#$%&'*+.^_`|~0-9a-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*$/
/** uri-host [":" port] of RFC 9110 §7.2, without user information and without percent-escapes (no name in use has them). */
const HOST = /^(?:[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9._-])?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?$/
const CONTENT_LENGTH = /^[0-9]{1,16}$/

/** Fields we set, strip or trust: an underscore spelling of one of them is dropped (H-18). */
const COLLIDING =
  /^(?:x-forwarded-.*|x-real-ip|x-request-id|x-client-ip|x-original-.*|x-rewrite-.*|forwarded|via|host|connection|content-length|content-type|transfer-encoding|authorization|proxy-.*|cookie|te|trailer|upgrade|expect|keep-alive|traceparent|tracestate|sallyport-.*|ngrok-.*)$/

// What one call of forEach leaves behind. One worker reads one head at a time and the library calls synchronously,
// so these live beside the function instead of in a closure per request.
/** Start line and lines. */
let text = ''
let connectionLines = ''
let host: string | undefined
let contentLength: string | undefined
let transferEncoding: string | undefined
let connection: string | undefined
let expect: string | undefined
let upgrade: string | undefined
let webSocketKey: string | undefined
let webSocketVersion: string | undefined
let webSocketExtensions = ''
let webSocketProtocols = ''
let hasContentType = false
let hasAuthorization = false
let hasProxyFields = false
let repeated: string | undefined
let firstConnectionLength = 0

function takeLine(name: string, value: string): void {
  switch (name.length) {
    case 4:
      if (name === 'host') {
        if (host !== undefined) repeated = name
        host = value
      }
      break
    case 6:
      if (name === 'expect') {
        if (expect !== undefined) repeated = name
        expect = value
        connectionLines += `expect: ${value}\r\n`
        return
      }
      break
    case 3:
      if (name === 'via') hasProxyFields = true
      break
    case 7:
      if (name === 'upgrade') upgrade = upgrade === undefined ? value : `${upgrade},${value}`
      break
    case 9:
      if (name === 'forwarded') hasProxyFields = true
      break
    case 10:
      if (name === 'tracestate') hasProxyFields = true
      if (name === 'connection') {
        if (connection === undefined) firstConnectionLength = value.length
        connection = connection === undefined ? value : `${connection},${value}`
      }
      break
    case 11:
      if (name === 'traceparent') hasProxyFields = true
      break
    case 12:
      if (name === 'content-type') {
        if (hasContentType) repeated = name
        hasContentType = true
      }
      break
    case 13:
      if (name === 'authorization') {
        if (hasAuthorization) repeated = name
        hasAuthorization = true
      }
      break
    case 14:
      if (name === 'content-length') {
        if (contentLength !== undefined) repeated = name
        contentLength = value
        connectionLines += `content-length: ${value}\r\n`
        return
      }
      break
    case 17:
      if (name === 'transfer-encoding') {
        if (transferEncoding !== undefined) repeated = name
        transferEncoding = value
      } else if (name === 'sec-websocket-key') takeWebSocketLine(name, value)
      break
    case 21: // sec-websocket-version
    case 22: // sec-websocket-protocol
    case 24: // sec-websocket-extensions
      if (name.startsWith('sec-websocket-')) takeWebSocketLine(name, value)
      break
    default:
      break
  }
  if (name.charCodeAt(0) === 0x78 && name.charCodeAt(1) === 0x2d) hasProxyFields = true // x-
  if (isHopByHop(name)) {
    connectionLines += `${name}: ${value}\r\n`
    return
  }
  if (name.includes('_') && COLLIDING.test(name.replaceAll('_', '-'))) return
  text += `${name}: ${value}\r\n`
}

function takeWebSocketLine(name: string, value: string): void {
  switch (name) {
    case 'sec-websocket-key':
      webSocketKey = webSocketKey === undefined ? value : `${webSocketKey},${value}`
      break
    case 'sec-websocket-version':
      webSocketVersion = webSocketVersion === undefined ? value : `${webSocketVersion},${value}`
      break
    case 'sec-websocket-extensions':
      webSocketExtensions = webSocketExtensions === '' ? value : `${webSocketExtensions}, ${value}`
      break
    case 'sec-websocket-protocol':
      webSocketProtocols = webSocketProtocols === '' ? value : `${webSocketProtocols},${value}`
      break
    default:
      break
  }
}

const refusal = (status: HeadRefusal['status'], rule: string, text: string): HeadRefusal => ({
  status,
  reason: `bad_request:${rule}`,
  text,
})

const BAD_METHOD = refusal(400, 'H-10', 'the method is not a token')
const LONG_METHOD = refusal(501, 'H-10', 'the method is too long')
const CONNECT_REFUSED = refusal(501, 'H-10', 'CONNECT is not supported')
const TRACE_REFUSED = refusal(405, 'H-10', 'the method is not allowed')
const LONG_TARGET = refusal(414, 'H-13', 'the request target is too long')
const BAD_TARGET = refusal(400, 'H-12', 'the request target holds a byte that is not allowed there')
const LONG_HEAD = refusal(431, 'H-14', 'the header section is too large')
const BAD_LINE = refusal(400, 'H-03', 'a header name or value holds a byte that is not allowed there')
const REPEATED = refusal(400, 'H-07', 'a header that may appear once appears twice')
const NO_HOST = refusal(400, 'H-15', 'the Host header is missing')
const BAD_HOST = refusal(400, 'H-15', 'the Host header is not a valid host')
const TWO_LENGTHS = refusal(400, 'H-20', 'Content-Length and Transfer-Encoding exclude each other')
const BAD_CODING = refusal(400, 'H-21', 'Transfer-Encoding must be exactly chunked')
const UNKNOWN_CODING = refusal(501, 'H-21', 'the transfer coding is not supported')
const BAD_LENGTH = refusal(400, 'H-23', 'Content-Length must be one plain decimal number')
const LONG_BODY = refusal(413, 'H-36', 'the request body is too large')
const CONNECTION_ABUSE = refusal(400, 'H-52', 'Connection names a header that it may not remove')
const BAD_CONNECTION = refusal(400, 'H-50', 'the Connection header is not a list of names')
const BAD_EXPECTATION = refusal(417, 'H-61', 'the expectation cannot be met')
const UPGRADE_REFUSED = refusal(501, 'H-60', 'connections are upgraded to WebSockets only')
const WEB_SOCKET_METHOD = refusal(400, 'H-90', 'a WebSocket is asked for with GET and without a body')
const WEB_SOCKET_VERSION = refusal(426, 'H-90', 'the version of WebSockets is 13')
const WEB_SOCKET_KEY = refusal(400, 'H-90', 'Sec-WebSocket-Key must be 16 bytes in base64, once')
const WEB_SOCKET_PROTOCOL = refusal(400, 'H-90', 'Sec-WebSocket-Protocol must be a list of different names')

/** 16 bytes in base64: the last digit before the padding has four bits to spare. */
const WEB_SOCKET_KEY_FORM = /^[A-Za-z0-9+/]{21}[AQgw]==$/
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/

/** An offer to go on in HTTP/2 need not be taken up and is never passed on (H-60). */
const IGNORED_UPGRADE = /^(?:h2c|HTTP\/2(?:\.0)?)$/i

/** Whether a value of Transfer-Encoding lists, with `chunked` last, only known or unknown codings: 501 rather than 400. */
const CODINGS_THEN_CHUNKED =
  /^[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*(?:,[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*)*,[ \t]*chunked$/i

/**
 * Reads and checks one head. Must be called synchronously in the library's handler, and once: afterwards the
 * library's request object is gone.
 */
export function readHead(source: HeadSource, limits: FrontEndLimits): RequestHead | HeadRefusal {
  connectionLines = ''
  host = contentLength = transferEncoding = connection = expect = upgrade = repeated = undefined
  webSocketKey = webSocketVersion = undefined
  webSocketExtensions = webSocketProtocols = ''
  hasContentType = hasAuthorization = hasProxyFields = false
  firstConnectionLength = 0

  const method = source.getCaseSensitiveMethod()
  const path = source.getUrl()
  const query = source.getQuery()
  const startLine = query === undefined ? `${method} ${path} HTTP/1.1\r\n` : `${method} ${path}?${query} HTTP/1.1\r\n`
  text = startLine
  source.forEach(takeLine)
  return decide(limits, method, path, query, startLine)
}

/** The library decodes as UTF-8: what was UTF-8 becomes its bytes again, anything else is lost and refused (T-12). */
function queryBytes(query: string): string | undefined {
  if (!/[^\x00-\x7f]/.test(query)) return query // eslint-disable-line no-control-regex -- all of ASCII is meant
  return query.includes('\ufffd') ? undefined : Buffer.from(query, 'utf8').toString('latin1')
}

/** A gateway is asked for few hosts: the one that was looked at last is not looked at again. */
let goodHost = ''

/** From then on `goodHost` has the same text. */
function isGoodHost(name: string): boolean {
  if (name === goodHost) return true
  const match = HOST.exec(name)
  if (match === null || (match[1] !== undefined && Number(match[1]) > 65_535)) return false
  goodHost = name
  return true
}

/** Judges what `takeLine` has left behind. */
function decide(
  limits: FrontEndLimits,
  method: string,
  path: string,
  query: string | undefined,
  startLine: string,
): RequestHead | HeadRefusal {
  // T-28: framing is looked at first, in the full list, before anything else can happen.
  if (transferEncoding !== undefined) {
    if (contentLength !== undefined) return TWO_LENGTHS
    if (repeated === 'transfer-encoding') return BAD_CODING
    if (transferEncoding.toLowerCase() !== 'chunked') {
      return CODINGS_THEN_CHUNKED.test(transferEncoding) && !/chunked[ \t]*,/i.test(transferEncoding)
        ? UNKNOWN_CODING
        : BAD_CODING
    }
  }
  if (repeated === 'content-length' || (contentLength !== undefined && !CONTENT_LENGTH.test(contentLength))) {
    return BAD_LENGTH
  }
  if (repeated !== undefined) return REPEATED

  if (method.length > MAX_METHOD_BYTES) return LONG_METHOD
  if (!METHOD.test(method)) return BAD_METHOD
  if (method === 'CONNECT') return CONNECT_REFUSED
  if (method === 'TRACE' || method === 'TRACK') return TRACE_REFUSED

  const search = query === undefined ? undefined : queryBytes(query)
  if (path.length + (query?.length ?? 0) > limits.uriBytes) return LONG_TARGET
  if (!PATH.test(path) || (query !== undefined && (search === undefined || !QUERY.test(search)))) return BAD_TARGET

  if (host === undefined) return NO_HOST
  if (!isGoodHost(host)) return BAD_HOST

  let head = text
  let startLineLength = startLine.length
  if (!ASCII_HEAD.test(text)) {
    if (text.includes('\ufffd')) return BAD_LINE
    const lines = Buffer.from(text.slice(startLineLength), 'utf8').toString('latin1')
    if (!LATIN1_LINES.test(lines)) return BAD_LINE
    head = (search === query ? startLine : `${method} ${path}?${search} HTTP/1.1\r\n`) + lines
    startLineLength = head.length - lines.length
  } else if (search !== query) {
    // a query beyond ASCII
    head = `${method} ${path}?${search} HTTP/1.1\r\n${text.slice(startLineLength)}`
    startLineLength = head.indexOf('\r\n') + 2
  }
  if (connectionLines !== '' && !ASCII_HEAD.test(`\r\n${connectionLines}`)) return BAD_LINE
  if (head.length - startLineLength + connectionLines.length > limits.headBytes) return LONG_HEAD

  let close = false
  let libraryCloses = false
  let webSocket: WebSocketRequest | undefined
  if (connection !== undefined) {
    if (connection === 'keep-alive' || connection === 'close') {
      close = connection === 'close'
    } else {
      const options = parseConnection(connection)
      if (!options.valid) return BAD_CONNECTION
      if (options.abuses !== undefined) return CONNECTION_ABUSE
      if (options.named !== undefined) {
        // the start line begins with no name of a field
        connectionLines += onlyFields(head, options.named)
        head = withoutFields(head, options.named)
      }
      if (options.upgrade && upgrade !== undefined && !IGNORED_UPGRADE.test(upgrade)) {
        if (upgrade.toLowerCase() !== 'websocket') return UPGRADE_REFUSED
        const problem = webSocketProblem(method)
        if (problem !== undefined) return problem
        webSocket = { key: webSocketKey!, extensions: webSocketExtensions }
        // policies see them, as they see the rest of the handshake
        head += 'connection: upgrade\r\nupgrade: websocket\r\n'
        connectionLines = withoutFields(connectionLines, ['connection', 'upgrade'])
      }
      close = options.close
    }
    libraryCloses = firstConnectionLength === 5
  }
  const expectsContinue = expect !== undefined && expect.toLowerCase() === '100-continue'
  if (expect !== undefined && !expectsContinue) return BAD_EXPECTATION

  const bodyLength = transferEncoding !== undefined ? -1 : contentLength === undefined ? 0 : Number(contentLength)
  if (!Number.isSafeInteger(bodyLength)) return BAD_LENGTH
  if (limits.bodyBytes > 0 && bodyLength > limits.bodyBytes) return LONG_BODY

  return {
    // the text that was checked before, not its twin: it has been hashed
    host: goodHost,
    head,
    connectionLines,
    proxyFields: hasProxyFields,
    hasPlainPath: false,
    isHead: method === 'HEAD',
    bodyLength,
    close,
    libraryCloses,
    expectsContinue,
    webSocket,
  }
}

/** What the native part has found of a head in which nothing was to be decided but this. */
export type UsualHead = Omit<RequestHead, 'libraryCloses' | 'expectsContinue' | 'webSocket'>

/** Judges what is left: the host, and how long the body may be. */
export function acceptUsualHead(usual: UsualHead, limits: FrontEndLimits): RequestHead | HeadRefusal {
  if (!isGoodHost(usual.host)) return BAD_HOST
  if (limits.bodyBytes > 0 && usual.bodyLength > limits.bodyBytes) return LONG_BODY
  const { head, connectionLines, proxyFields, hasPlainPath, isHead, bodyLength, close } = usual
  return {
    host: goodHost,
    head,
    connectionLines,
    proxyFields,
    hasPlainPath,
    isHead,
    bodyLength,
    close,
    libraryCloses: close,
    expectsContinue: false,
    webSocket: undefined,
  }
}

/** What is wrong with a request to become a WebSocket, if anything (H-90, RFC 6455 §4.2.1). */
function webSocketProblem(method: string): HeadRefusal | undefined {
  if (method !== 'GET' || contentLength !== undefined || transferEncoding !== undefined) return WEB_SOCKET_METHOD
  if (webSocketVersion !== '13') return WEB_SOCKET_VERSION
  if (webSocketKey === undefined || !WEB_SOCKET_KEY_FORM.test(webSocketKey)) return WEB_SOCKET_KEY
  if (webSocketProtocols === '') return undefined
  const protocols = webSocketProtocols.split(',').map((protocol) => protocol.trim())
  const isList = protocols.every((protocol) => TOKEN.test(protocol)) && new Set(protocols).size === protocols.length
  return isList ? undefined : WEB_SOCKET_PROTOCOL
}

/** Method and target for the log of a refused request, bounded, with nothing that could end a line. */
export function describeRequestLine(source: HeadSource): string {
  const query = source.getQuery()
  const line = `${source.getCaseSensitiveMethod()} ${source.getUrl()}${query === undefined ? '' : `?${query}`}`
  return line.slice(0, 256)
}
