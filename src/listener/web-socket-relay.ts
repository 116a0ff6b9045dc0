/**
 * One WebSocket through the gateway: messages are taken whole from either side and sent as new frames on the other.
 *
 * The library cannot stop reading from a client, so what an upstream does not take is bounded by closing (1013); what a
 * client does not take stops the reading from the upstream. Messages above the library's own bound end the connection
 * without a close frame, likewise frames that break the protocol; the upstream is told the code that fits.
 *
 * Source: RFC 6455 §5, §7; H-80, H-92, H-93; operations.md F-18.
 */
import type { UpstreamWebSocket, WebSocketEvents } from '../upstream/web-socket.ts'
import type { WebSocketLimits } from './front-end.ts'
import type { ClientWebSocket } from './library.ts'

/** What a relay tells the exchange it belongs to. */
export interface RelayOwner {
  readonly limits: WebSocketLimits
  readonly streamBufferBytes: number
  /** Both sides are done. */
  relayEnded(relay: WebSocketRelay, how: RelayEnd): void
}

/** `closed`: by a close frame. `client`, `upstream`: that side was gone without one. `gateway`: cut by us. */
export type RelayEnd = 'closed' | 'client' | 'upstream' | 'idle' | 'gateway'

const EMPTY = new Uint8Array(0)
const GOING_AWAY = 1001
const NO_CODE = 1005
const LOST = 1006
const INVALID_DATA = 1007
const TOO_BIG = 1009
const INTERNAL = 1011
const TRY_LATER = 1013
/** A peer that is pinged answers within this time, or is gone (H-93). */
const PONG_MS = 10_000

export class WebSocketRelay implements WebSocketEvents {
  bytesIn = 0
  bytesOut = 0
  messagesIn = 0
  messagesOut = 0
  readonly #owner: RelayOwner
  readonly #upstream: UpstreamWebSocket
  #client: ClientWebSocket | undefined
  #isOver = false
  #isPaused = false
  #clientSeenMs = performance.now()
  #upstreamSeenMs = this.#clientSeenMs
  #clientPingedMs = 0
  #upstreamPingedMs = 0

  constructor(owner: RelayOwner, upstream: UpstreamWebSocket) {
    this.#owner = owner
    this.#upstream = upstream
  }

  // ── the client, as the library tells of it ──

  opened(client: ClientWebSocket): void {
    this.#client = client
    this.#upstream.start(this)
  }

  received(data: ArrayBuffer, isBinary: boolean): void {
    if (this.#isOver) return
    this.#clientSeenMs = performance.now()
    const { maxMessageBytes } = this.#owner.limits
    if (data.byteLength > maxMessageBytes) {
      this.#end(TOO_BIG, TOO_BIG, EMPTY)
      return
    }
    this.messagesIn++
    this.bytesIn += data.byteLength
    // the bytes are the library's only during this call
    this.#upstream.send(new Uint8Array(data.slice(0)), isBinary)
    if (this.#upstream.bufferedBytes > maxMessageBytes + this.#owner.streamBufferBytes) {
      this.#end(TRY_LATER, TRY_LATER, EMPTY)
    }
  }

  heard(): void {
    this.#clientSeenMs = performance.now()
  }

  drained(): void {
    if (!this.#isPaused || this.#isOver || this.#client === undefined) return
    if (this.#client.getBufferedAmount() > this.#owner.streamBufferBytes / 2) return
    this.#isPaused = false
    this.#upstream.resume()
  }

  /** The client's side is closed: by a close frame of either side, or because it is gone. */
  closed(code: number, reason: string): void {
    this.#client = undefined
    if (this.#isOver) return
    const told = code === LOST ? lostCode(reason) : code
    this.#isOver = true
    this.#upstream.close(told, code === LOST ? EMPTY : Buffer.from(reason, 'utf8'))
    this.#owner.relayEnded(this, code === LOST ? 'client' : 'closed')
  }

  // ── the upstream ──

  onMessage(data: Uint8Array, isBinary: boolean): void {
    const client = this.#client
    if (this.#isOver || client === undefined) return
    this.messagesOut++
    this.bytesOut += data.length
    client.send(data, isBinary, data.length >= COMPRESS_FROM_BYTES)
    if (!this.#isPaused && client.getBufferedAmount() > this.#owner.streamBufferBytes) {
      this.#isPaused = true
      this.#upstream.pause()
    }
  }

  onAlive(): void {
    this.#upstreamSeenMs = performance.now()
  }

  onClose(code: number, reason: Uint8Array): void {
    if (this.#isOver) return
    this.#isOver = true
    const client = this.#client
    this.#client = undefined
    if (code === NO_CODE) client?.end()
    else client?.end(code === LOST ? INTERNAL : code, reason)
    this.#owner.relayEnded(this, code === LOST ? 'upstream' : 'closed')
  }

  // ── the gateway ──

  /** Looks after silent peers; called every second or so. */
  tick(nowMs: number): void {
    if (this.#isOver) return
    const { idleMs, pingMs } = this.#owner.limits
    if (idleMs > 0 && nowMs - Math.max(this.#clientSeenMs, this.#upstreamSeenMs) >= idleMs) {
      this.#end(GOING_AWAY, GOING_AWAY, EMPTY, 'idle')
      return
    }
    if (pingMs === 0) return
    // a peer that is not read from cannot answer
    if (!this.#isPaused && nowMs - this.#upstreamSeenMs >= pingMs) {
      if (this.#upstreamPingedMs <= this.#upstreamSeenMs) {
        this.#upstreamPingedMs = nowMs
        this.#upstream.ping()
      } else if (nowMs - this.#upstreamPingedMs >= PONG_MS) {
        this.#upstream.destroy()
        return
      }
    }
    if (nowMs - this.#clientSeenMs >= pingMs) {
      if (this.#clientPingedMs <= this.#clientSeenMs) {
        this.#clientPingedMs = nowMs
        this.#client?.ping()
      } else if (nowMs - this.#clientPingedMs >= PONG_MS) {
        this.#client?.close()
      }
    }
  }

  /** O-21: the gateway goes. */
  goAway(): void {
    this.#end(GOING_AWAY, GOING_AWAY, EMPTY)
  }

  /** Ends both sides at once, without close frames. */
  destroy(): void {
    if (this.#isOver) return
    this.#isOver = true
    const client = this.#client
    this.#client = undefined
    this.#upstream.destroy()
    client?.close()
    this.#owner.relayEnded(this, 'gateway')
  }

  #end(clientCode: number, upstreamCode: number, reason: Uint8Array, how: RelayEnd = 'closed'): void {
    if (this.#isOver) return
    this.#isOver = true
    const client = this.#client
    this.#client = undefined
    client?.end(clientCode, reason)
    this.#upstream.close(upstreamCode, reason)
    this.#owner.relayEnded(this, how)
  }
}

/** Below it compressing costs more than it saves. */
const COMPRESS_FROM_BYTES = 1024

/** The library's words for why it gave a client up. */
function lostCode(reason: string): number {
  // it knows no codes between 1012 and 3999, and hides which one it was
  if (/close payload/i.test(reason)) return NO_CODE
  if (/too big/i.test(reason)) return TOO_BIG
  if (/UTF-8/i.test(reason)) return INVALID_DATA
  if (/invalid/i.test(reason)) return 1002
  return GOING_AWAY
}
