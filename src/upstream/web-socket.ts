/**
 * WebSockets to upstreams. The sole import of `ws`: undici's own client can neither be paused nor hand over an answer
 * that refuses the upgrade, and both are needed here.
 *
 * The upstream's name, certificate and time to connect are those of other requests (connector.ts); such a connection
 * carries one WebSocket and never returns to a pool (H-60).
 *
 * Source: RFC 6455; H-60, H-70, H-80, H-90 … H-93.
 */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { WebSocket } from 'ws'
import type { UpstreamFailureReason, UpstreamTarget } from '../listener/front-end.ts'
import { openConnection } from './connector.ts'
import { isHopByHop } from './hop-headers.ts'
import { checkRequestHead } from './request-head.ts'
import { readResponseHead } from './response-head.ts'
import type { UpstreamHandler, UpstreamLeg } from './upstream-pool.ts'

export interface WebSocketOptions {
  /** Whole messages, decompressed; beyond it the connection closes with 1009. */
  readonly maxMessageBytes: number
  /** Offer permessage-deflate (RFC 7692), without memory that lasts from message to message. */
  readonly compress: boolean
}

/** What an open WebSocket tells; `onClose` comes once and last. */
export interface WebSocketEvents {
  /** The bytes are the receiver's to keep. */
  onMessage(data: Uint8Array, isBinary: boolean): void
  /** Anything came: a message, a ping or a pong. */
  onAlive(): void
  /** `code`: 1005 = closed without one, 1006 = the connection was lost. */
  onClose(code: number, reason: Uint8Array): void
}

/** An accepted upgrade. Nothing is read until `start`. */
export interface UpstreamWebSocket {
  /** Status line and lines of the 101 as for any answer, without those that belong to the handshake. */
  readonly head: string
  /** '' = none. */
  readonly protocol: string
  readonly compresses: boolean
  start(events: WebSocketEvents): void
  send(data: Uint8Array, isBinary: boolean): void
  /** Bytes that the upstream has not taken yet. */
  readonly bufferedBytes: number
  ping(): void
  pause(): void
  resume(): void
  /** Closes with a close frame; `code` 1005 = an empty one. The connection ends two seconds later at the latest. */
  close(code: number, reason: Uint8Array): void
  /** Ends the connection at once. */
  destroy(): void
}

/** What a handler of WebSocket legs gets beside an answer or a failure. */
export interface WebSocketHandler extends UpstreamHandler {
  onUpstreamWebSocket(socket: UpstreamWebSocket): void
}

const CLOSE_TIMEOUT_MS = 2000
/** Below it compressing costs more than it saves. */
const COMPRESS_FROM_BYTES = 1024
/** Fields of the handshake: each side has its own (H-92). */
const HANDSHAKE = new Set([
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-websocket-extensions',
  'sec-websocket-accept',
  'sec-websocket-protocol',
])

/** Sends an upgrade request. `head` as for any request; the fields of the handshake are made anew, protocols kept. */
export function openWebSocket(
  target: UpstreamTarget,
  head: string,
  options: WebSocketOptions,
  handler: WebSocketHandler,
): UpstreamLeg {
  checkRequestHead(head)
  return new WebSocketLeg(target, head, options, handler)
}

class WebSocketLeg implements UpstreamLeg {
  connectedAtMs = 0
  readonly connectionReused = false
  readonly #target: UpstreamTarget
  readonly #handler: WebSocketHandler
  readonly #options: WebSocketOptions
  #isOver = false
  #socket: Socket | undefined
  #webSocket: WebSocket | undefined
  #answer: IncomingMessage | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(target: UpstreamTarget, head: string, options: WebSocketOptions, handler: WebSocketHandler) {
    this.#target = target
    this.#options = options
    this.#handler = handler
    // WebSockets are asked for in HTTP/1.1, whatever other requests are sent in
    openConnection({ ...target, http2: false }, (error, socket) => {
      if (this.#isOver) {
        socket?.destroy()
        return
      }
      if (error !== null) {
        this.#fail(error.reason, error.message, true)
        return
      }
      this.#socket = socket!
      this.connectedAtMs = performance.now()
      this.#shake(socket!, head)
    })
  }

  // a WebSocket's handshake has no body
  write(): boolean {
    return true
  }
  end(): void {}

  pause(): void {
    this.#answer?.pause()
  }

  resume(): void {
    this.#answer?.resume()
  }

  detach(): void {
    this.abort()
  }

  abort(): void {
    if (this.#isOver) return
    this.#over()
    this.#webSocket?.terminate()
    this.#socket?.destroy()
  }

  #over(): void {
    this.#isOver = true
    clearTimeout(this.#timer)
  }

  #fail(reason: UpstreamFailureReason, detail: string, notProcessed = false): void {
    if (this.#isOver) return
    this.#over()
    this.#webSocket?.terminate()
    this.#socket?.destroy()
    this.#handler.onUpstreamFailure({ target: this.#target, reason, detail, notProcessed, bodyConsumed: false })
  }

  #shake(socket: Socket, head: string): void {
    const { path, headers, offered } = requestOf(head)
    const { maxMessageBytes, compress } = this.#options
    const { firstByteMs } = this.#target.timers
    if (firstByteMs > 0) {
      this.#timer = setTimeout(
        () => this.#fail('first_byte_timeout', `no answer within ${firstByteMs} ms`),
        firstByteMs,
      )
    }
    // only the path matters: the connection is there
    const webSocket = new WebSocket('ws://upstream', [], {
      headers,
      finishRequest: (request: { path: string; end(): void }) => {
        // as it came: the library would write it as a url parser does (H-55)
        request.path = path
        request.end()
      },
      createConnection: () => socket,
      followRedirects: false,
      maxPayload: maxMessageBytes,
      skipUTF8Validation: false,
      perMessageDeflate: compress
        ? { serverNoContextTakeover: true, clientNoContextTakeover: true, threshold: COMPRESS_FROM_BYTES }
        : false,
    } as ConstructorParameters<typeof WebSocket>[2])
    this.#webSocket = webSocket
    let accepted: { head: string; protocol: string } | undefined
    webSocket.on('upgrade', (answer: IncomingMessage) => {
      const read = acceptedHead(answer, offered)
      if (typeof read === 'string') {
        this.#fail('upstream_bad_response', read)
        return
      }
      accepted = read
      // it compares with what it offered itself; we offered for it
      delete answer.headers['sec-websocket-protocol']
    })
    webSocket.on('open', () => {
      webSocket.pause()
      if (this.#isOver || accepted === undefined) return
      clearTimeout(this.#timer)
      this.#handler.onUpstreamWebSocket(new OpenWebSocket(webSocket, accepted, () => (this.#isOver = true)))
    })
    webSocket.on('unexpected-response', (_request, answer: IncomingMessage) => this.#refused(answer))
    webSocket.on('error', (error: NodeJS.ErrnoException) => {
      const isReset = error.code === 'ECONNRESET' || error.code === 'EPIPE' || /socket hang up/.test(error.message)
      this.#fail(isReset ? 'upstream_reset' : 'upstream_bad_response', error.message)
    })
  }

  /** Any other answer is an ordinary one (H-60). */
  #refused(answer: IncomingMessage): void {
    if (this.#isOver) {
      answer.destroy()
      return
    }
    clearTimeout(this.#timer)
    this.#answer = answer
    const fields = answer.rawHeaders.map((text) => ({ latin1Slice: () => text }))
    const read = readResponseHead(answer.statusCode ?? 0, answer.statusMessage ?? '', fields, false)
    if (typeof read === 'string') {
      this.#fail('upstream_bad_response', read)
      return
    }
    answer.on('data', (chunk: Buffer) => {
      if (!this.#isOver) this.#handler.onUpstreamData(new Uint8Array(chunk), false)
    })
    answer.on('end', () => {
      if (this.#isOver) return
      this.#over()
      this.#socket?.destroy()
      this.#handler.onUpstreamEnd()
    })
    answer.on('error', (error) => this.#fail('upstream_reset', error.message))
    answer.on('close', () => this.#fail('upstream_reset', 'the connection ended inside the answer'))
    const { idleMs } = this.#target.timers
    if (idleMs > 0) this.#socket?.setTimeout(idleMs, () => this.#fail('idle_timeout', `nothing came for ${idleMs} ms`))
    answer.pause()
    this.#handler.onUpstreamHead(answer.statusCode ?? 0, read.head, read.bodyLength, read.contentLength)
    if (read.bodyLength === 0) answer.resume()
  }
}

class OpenWebSocket implements UpstreamWebSocket {
  readonly head: string
  readonly protocol: string
  readonly #webSocket: WebSocket
  readonly #ended: () => void

  constructor(webSocket: WebSocket, accepted: { head: string; protocol: string }, ended: () => void) {
    this.head = accepted.head
    this.protocol = accepted.protocol
    this.#webSocket = webSocket
    this.#ended = ended
  }

  get compresses(): boolean {
    return this.#webSocket.extensions.includes('permessage-deflate')
  }

  get bufferedBytes(): number {
    return this.#webSocket.bufferedAmount
  }

  start(events: WebSocketEvents): void {
    const webSocket = this.#webSocket
    let code: number | undefined
    webSocket.removeAllListeners('error')
    webSocket.on('message', (data: Buffer, isBinary: boolean) => {
      events.onAlive()
      events.onMessage(data, isBinary)
    })
    webSocket.on('ping', () => events.onAlive())
    webSocket.on('pong', () => events.onAlive())
    webSocket.on('error', (error: NodeJS.ErrnoException) => {
      // it has told the upstream why it closes; the other side is told the same
      code = ERROR_CODES[error.code ?? '']
    })
    webSocket.on('close', (closeCode: number, reason: Buffer) => {
      this.#ended()
      events.onClose(code ?? closeCode, code === undefined ? reason : new Uint8Array(0))
    })
    webSocket.resume()
  }

  send(data: Uint8Array, isBinary: boolean): void {
    this.#webSocket.send(data, { binary: isBinary, compress: this.compresses && data.length >= COMPRESS_FROM_BYTES })
  }

  ping(): void {
    this.#webSocket.ping()
  }

  pause(): void {
    this.#webSocket.pause()
  }

  resume(): void {
    this.#webSocket.resume()
  }

  close(code: number, reason: Uint8Array): void {
    // what was sent is still to be read by the other side, and its close frame by us
    this.#webSocket.resume()
    if (code === 1005) this.#webSocket.close()
    else this.#webSocket.close(code, Buffer.from(reason))
    setTimeout(() => this.destroy(), CLOSE_TIMEOUT_MS).unref()
  }

  destroy(): void {
    this.#webSocket.terminate()
  }
}

/** Which code stands for an error of the library (RFC 6455 §7.4.1). */
const ERROR_CODES: Readonly<Record<string, number>> = {
  WS_ERR_UNSUPPORTED_MESSAGE_LENGTH: 1009,
  WS_ERR_INVALID_UTF8: 1007,
  WS_ERR_EXPECTED_FIN: 1002,
  WS_ERR_EXPECTED_MASK: 1002,
  WS_ERR_INVALID_CLOSE_CODE: 1002,
  WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH: 1002,
  WS_ERR_INVALID_OPCODE: 1002,
  WS_ERR_UNEXPECTED_MASK: 1002,
  WS_ERR_UNEXPECTED_RSV_1: 1002,
  WS_ERR_UNEXPECTED_RSV_2_3: 1002,
  WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH: 1009,
}

/** Path and fields of a flat head, without those of the handshake; names in the order received. */
function requestOf(head: string): {
  path: string
  headers: Record<string, string | string[]>
  offered: readonly string[]
} {
  const [line = '', ...lines] = head.split('\r\n')
  const headers: Record<string, string | string[]> = {}
  const offered: string[] = []
  for (const field of lines) {
    if (field === '') continue
    const colon = field.indexOf(': ')
    const name = field.slice(0, colon)
    const value = field.slice(colon + 2)
    if (name === 'sec-websocket-protocol') offered.push(...value.split(',').map((protocol) => protocol.trim()))
    if (isHopByHop(name) || HANDSHAKE.has(name)) continue
    const known = headers[name]
    headers[name] = known === undefined ? value : [...(Array.isArray(known) ? known : [known]), value]
  }
  if (offered.length > 0) headers['sec-websocket-protocol'] = offered.join(', ')
  return { path: line.split(' ')[1] ?? '/', headers, offered }
}

/** The head of a 101, or what is wrong with it. */
function acceptedHead(
  answer: IncomingMessage,
  offered: readonly string[],
): { head: string; protocol: string } | string {
  const protocol = answer.headers['sec-websocket-protocol'] ?? ''
  if (protocol !== '' && !offered.includes(protocol)) return 'a subprotocol that was not offered'
  const fields = answer.rawHeaders.map((text) => ({ latin1Slice: () => text }))
  const kept = fields.filter((_, index) => !HANDSHAKE.has(answer.rawHeaders[index - (index % 2)]!.toLowerCase()))
  // 101 has the fields of any answer and no body
  const read = readResponseHead(200, '', kept, true)
  if (typeof read === 'string') return read
  return { head: read.head.replace(/^HTTP\/1\.1 200 [^\r]*/, 'HTTP/1.1 101 Switching Protocols'), protocol }
}
