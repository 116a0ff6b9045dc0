/**
 * One request and its answer as the library sees them: the only code that touches a response object (T-25).
 *
 * A slot is reused for many exchanges; the functions given to the library are made once per slot. `res` is set exactly
 * while the library lets us touch its object: from the handler until the answer is complete or the client is gone.
 *
 * How an answer ends. The library closes a connection by itself only together with a whole body (`end(body, true)`):
 * after `write` the same call puts a header line into the body, and inside the tick of a chunked request's last chunk
 * it still serves what follows in the same segment (T-04). Therefore every other answer after which the connection
 * must close is left unfinished in the library's eyes: all its bytes are sent, framed completely, the library goes on
 * waiting, lets no second request through (it closes the connection when one arrives), and we close after a moment.
 *
 * Source: F-01 … F-14 and their measurements; H-30 … H-39; T-04, T-25, T-26, T-27.
 */
import type { UpstreamHandler, UpstreamLeg } from '../upstream/upstream-pool.ts'
import { withoutFields } from '../upstream/hop-headers.ts'
import { openWebSocket, type UpstreamWebSocket, type WebSocketHandler } from '../upstream/web-socket.ts'
import type {
  BodyFilter,
  FilterSink,
  ExchangeHandle,
  ExchangeRecord,
  FrontEndEvents,
  FrontEndLimits,
  PeerTls,
  UpstreamFailure,
  UpstreamFailureReason,
  UpstreamTarget,
  WebSocketLimits,
} from './front-end.ts'
import type { HttpResponse, UpgradeContext } from './library.ts'
import type { WebSocketRequest } from './read-head.ts'
import type { Slotted } from './slots.ts'
import { type RelayEnd, type RelayOwner, WebSocketRelay } from './web-socket-relay.ts'

/** H-37: what we read and throw away of a body that nobody wants any more. */
const DISCARD_BYTES = 64 * 1024
/** How long an answered connection stays open for a client that is still sending (H-37), or that reads slowly. */
const LINGER_SENDING_MS = 2_000
const LINGER_SLOW_READER_MS = 10_000
const LINGER_MS = 250

/** H-71: what is kept of a request body so that it can be sent again. */
const REPLAY_BYTES = 64 * 1024

const EMPTY = new Uint8Array(0)
/**
 * The last chunk, for a chunked answer after which the connection closes. The library writes header lines wherever it
 * is told to, as `name: value` and CRLF: here the colon lies inside the value of a chunk extension, which every
 * recipient must ignore (RFC 9112 §7.1.1).
 */
const LAST_CHUNK_NAME = '\r\n0;end="'
const LAST_CHUNK_VALUE = '"\r\n'

/** What a slot needs from the front end around it. */
export interface SlotOwner {
  readonly events: FrontEndEvents
  readonly limits: FrontEndLimits
  readonly draining: boolean
  /** The slot waits for bytes of a request, or for its client to read: refresh its timer, look at its progress. */
  watch(slot: ExchangeSlot): void
  /** The answer is out and the slot closes its connection later. */
  linger(slot: ExchangeSlot): void
  /** Whether one more WebSocket may open. */
  readonly hasRoomForRelay: boolean
  relayOpens(relay: WebSocketRelay, slot: ExchangeSlot): void
  relayCloses(relay: WebSocketRelay, slot: ExchangeSlot): void
  /** An announced exchange is over. */
  ended(): void
  /** Nothing is left of the exchange. */
  release(slot: ExchangeSlot): void
  /** An exception in an event, for the log. */
  report(error: unknown): void
}

type BodySink = 'hold' | 'collect' | 'upstream' | 'discard'
type OutMode = 'none' | 'length' | 'chunked'

export class ExchangeSlot implements Slotted, UpstreamHandler, WebSocketHandler, RelayOwner, FilterSink {
  readonly slot: number
  generation = 0
  handle: ExchangeHandle = 0
  readonly #owner: SlotOwner

  // ── connection ──
  res: HttpResponse | null = null
  listenerId = 0
  address: ArrayBuffer | null = null
  proxiedAddress: ArrayBuffer | null = null
  /** Null on plain connections. */
  tls: PeerTls | null = null

  // ── request ──
  /** -1 = chunked. */
  bodyLength = 0
  isHead = false
  expectsContinue = false
  clientCloses = false
  libraryCloses = false
  /** Set while the request may still become a WebSocket. */
  webSocket: { readonly request: WebSocketRequest; readonly context: UpgradeContext } | null = null
  #relay: WebSocketRelay | null = null
  #upstreamSocket: UpstreamWebSocket | null = null
  #target: UpstreamTarget | null = null
  /** Refused by its head: whatever follows is not a request to anybody. */
  refused = false
  /** The gateway was told of this exchange, and not yet that it is over. */
  #isOpen = false
  #received = 0
  #isComplete = false
  /** The library is not inside the segment that held the end of a chunked request. */
  #isQuiet = true
  #sink: BodySink = 'hold'
  #held: Uint8Array[] = []
  #heldBytes = 0
  #collectBytes = -1
  #isPaused = false
  #discarded = 0

  // ── upstream ──
  #leg: UpstreamLeg | null = null
  #legWritable = false
  /** What was written upstream, kept while it is little, so that it can be written again (H-71). */
  #replay: Uint8Array[] = []
  #replayBytes = 0
  #connectedAtMs = 0
  #reused = false

  // ── response ──
  #upstreamStatus = 0
  #upstreamLength = 0
  #upstreamContentLength = -1
  #upstreamEnded = false
  #firstByteAtMs = 0
  #collectResponseBytes = -1
  /** What changes the body between the upstream and `#out`. */
  #filter: BodyFilter | null = null
  /** It goes, or went, through a filter: chunked, whether or not its end is there when the head leaves. */
  #isFiltered = false
  #headToSend: string | null = null
  #status = 0
  #mode: OutMode = 'none'
  #total = 0
  #unfinished = false
  #isSent = false
  #out: Uint8Array[] = []
  #outBytes = 0
  #outEnded = false
  /** Bytes in `#out` that are the pool's again when its call returns. */
  #borrowed: Uint8Array | null = null
  #accepted = 0
  #isBlocked = false
  #wasBlocked = false
  #writableAsked = false
  #flushQueued = false
  #bodyOut = 0

  // ── upload progress (H-83) ──
  windowStartMs = 0
  windowBytes = 0
  /** Since when the client has taken nothing; only of interest while stalled. */
  stalledSinceMs = 0
  /** When a lingering connection closes. */
  closeAtMs = 0

  // What the library and the event loop call: nothing may be thrown back into them.
  readonly #onAborted = (): void => this.#guard(() => this.#aborted())
  readonly #onData = (chunk: ArrayBuffer, isLast: boolean): void => {
    try {
      this.#data(chunk, isLast)
    } catch (error) {
      this.failed(error)
    }
  }
  readonly #onWritable = (): boolean => {
    this.#guard(() => this.#writable())
    return !this.#isBlocked
  }
  readonly #flushCorked = (): void => this.#writeOut()
  readonly #flushLater = (): void => {
    this.#flushQueued = false
    if (this.res !== null) this.#guard(() => this.#flush())
  }
  readonly #settle = (): void => this.#guard(() => this.#lastChunkSettled())

  constructor(slot: number, owner: SlotOwner) {
    this.slot = slot
    this.#owner = owner
  }

  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Whether bytes of the request are still to come from the client. */
  get isReceiving(): boolean {
    return this.res !== null && !this.#isComplete
  }

  /** Whether the client has to read before more can be written. */
  get isStalled(): boolean {
    return this.res !== null && this.#isBlocked
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  get hasAnswered(): boolean {
    return this.#status !== 0
  }

  // ── beginning ──

  /** Takes over a response object in the library's handler. */
  begin(res: HttpResponse, listenerId: number, isHead: boolean, bodyLength: number): void {
    this.res = res
    this.listenerId = listenerId
    this.isHead = isHead
    this.bodyLength = bodyLength
    this.expectsContinue = this.clientCloses = this.libraryCloses = this.refused = false
    this.webSocket = null
    this.#relay = null
    this.#upstreamSocket = null
    this.#target = null
    this.address = this.proxiedAddress = this.tls = null
    this.#isOpen = false
    this.#received = 0
    this.#isComplete = bodyLength === 0
    this.#isQuiet = true
    this.#sink = 'hold'
    this.#held = []
    this.#heldBytes = 0
    this.#collectBytes = -1
    this.#isPaused = false
    this.#discarded = 0
    this.#leg = null
    this.#legWritable = false
    this.#replay = []
    this.#replayBytes = 0
    this.#connectedAtMs = 0
    this.#reused = false
    this.#resetUpstream()
    this.#filter = null
    this.#isFiltered = false
    this.#headToSend = null
    this.#status = 0
    this.#mode = 'none'
    this.#total = 0
    this.#unfinished = false
    this.#isSent = false
    this.#out = []
    this.#outBytes = 0
    this.#outEnded = false
    this.#accepted = 0
    this.#isBlocked = this.#wasBlocked = this.#writableAsked = false
    this.#bodyOut = 0
    this.windowStartMs = 0
    this.windowBytes = 0
    this.closeAtMs = 0
    res.onAborted(this.#onAborted)
    if (bodyLength !== 0) {
      res.onData(this.#onData)
      this.#owner.watch(this)
    }
  }

  /** From here on the gateway is owed an `onDone`. */
  announce(): void {
    this.#isOpen = true
  }

  // ── request body ──

  #data(chunk: ArrayBuffer, isLast: boolean): void {
    const { byteLength } = chunk
    this.#received += byteLength
    this.windowBytes += byteLength
    if (byteLength > 0) this.#take(chunk)
    if (this.res === null || !isLast || this.#isComplete) return
    if (this.bodyLength !== -1) {
      this.#completed()
      return
    }
    // T-04: whatever follows in this segment makes the library close the connection; only if that does not happen is
    // the request complete.
    this.#isQuiet = false
    setImmediate(this.#settle)
  }

  #lastChunkSettled(): void {
    // The connection may be gone and the slot may even serve another exchange.
    if (this.res === null || this.#isQuiet) return
    this.#isQuiet = true
    this.#completed()
  }

  #take(chunk: ArrayBuffer): void {
    const { bodyBytes } = this.#owner.limits
    if (bodyBytes > 0 && this.#received > bodyBytes && this.#sink !== 'discard') {
      this.#tooLarge()
      return
    }
    switch (this.#sink) {
      case 'discard':
        this.#discarded += chunk.byteLength
        if (this.#discarded > DISCARD_BYTES && this.#isSent) this.#pauseRequest()
        return
      case 'upstream':
        // The bytes are the library's only during this call.
        if (this.#heldBytes === 0 && this.#legWritable) {
          this.#legWritable = this.#write(this.#leg!, new Uint8Array(chunk.slice(0)))
          if (!this.#legWritable) this.#pauseRequest()
          return
        }
        this.#hold(chunk)
        if (this.#heldBytes >= this.#owner.limits.streamBufferBytes) this.#pauseRequest()
        return
      case 'collect':
        this.#hold(chunk)
        if (this.#heldBytes >= this.#collectBytes) this.#collected(false)
        return
      case 'hold':
        this.#hold(chunk)
        this.#pauseRequest()
    }
  }

  #hold(chunk: ArrayBuffer): void {
    this.#held.push(new Uint8Array(chunk.slice(0)))
    this.#heldBytes += chunk.byteLength
  }

  #completed(): void {
    this.#isComplete = true
    // Left paused, the connection would never read its next request.
    this.#resumeRequest()
    if (this.#sink === 'collect') this.#collected(true)
    else if (this.#sink === 'upstream' && this.#heldBytes === 0) this.#leg?.end()
    else if (this.#sink === 'discard') this.#closeSoon()
  }

  /** H-36: the body has crossed `limits.bodyBytes`. */
  #tooLarge(): void {
    this.#sink = 'discard'
    this.#dropLeg()
    if (this.#status !== 0 || this.#headToSend !== null) {
      this.#end('truncated')
      this.#closeNow()
      return
    }
    this.respond(
      'HTTP/1.1 413 Content Too Large\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n',
      'the request body is too large\n',
    )
  }

  /** See FrontEnd.readRequestBody. */
  readBody(limitBytes: number): void {
    if (this.#sink !== 'hold' || limitBytes <= this.#collectBytes) return
    this.#collectBytes = limitBytes
    this.#sink = 'collect'
    if (this.#isComplete || this.#heldBytes >= limitBytes) {
      this.#collected(this.#isComplete)
      return
    }
    this.#resumeRequest()
  }

  #collected(complete: boolean): void {
    this.#sink = 'hold'
    if (!complete) this.#pauseRequest()
    const body = this.#joinHeld()
    // Keeps what was handed over for `forward`: the gateway may look, not change.
    this.#emit(() =>
      this.#owner.events.onRequestBody(
        this.handle,
        body.subarray(0, this.#collectBytes),
        complete && body.length <= this.#collectBytes,
      ),
    )
  }

  #joinHeld(): Uint8Array {
    if (this.#held.length === 1) return this.#held[0]!
    const joined = this.#held.length === 0 ? EMPTY : concat(this.#held, this.#heldBytes)
    this.#held = joined.length === 0 ? [] : [joined]
    return joined
  }

  #pauseRequest(): void {
    if (this.#isPaused || this.#isComplete || this.res === null) return
    this.#isPaused = true
    this.res.pause()
  }

  #resumeRequest(): void {
    if (!this.#isPaused || this.res === null) return
    this.#isPaused = false
    this.windowStartMs = 0
    this.res.resume()
  }

  /** F-10: the library's timer of 10 seconds starts again when reading is paused and resumed. */
  refreshTimer(): void {
    if (this.res === null || this.#isPaused) return
    this.res.pause()
    this.res.resume()
  }

  // ── upstream ──

  /** See FrontEnd.forward; the pool's `send` is handed in, so that it is called with everything ready. */
  forward(
    target: UpstreamTarget,
    head: string,
    body: Uint8Array | undefined,
    send: (
      target: UpstreamTarget,
      head: string,
      bodyLength: number,
      body: Uint8Array | undefined,
      handler: UpstreamHandler,
    ) => UpstreamLeg,
  ): void {
    if (this.#status !== 0 || this.#headToSend !== null) return
    if (this.#upstreamStatus !== 0 && this.canRepeat) this.#retractAnswer()
    // an answer that the gateway does not want: another server is asked
    this.#dropLeg()
    this.#dropOut()
    this.#resetUpstream()
    this.#legWritable = false
    this.#target = target
    if (this.webSocket !== null) {
      if (!this.#owner.hasRoomForRelay) {
        const { handle } = this
        queueMicrotask(() => {
          if (this.handle === handle) this.onUpstreamFailure(this.#failure('overflow', 'too many WebSockets are open'))
        })
        return
      }
      const { maxMessageBytes, compress } = this.limits
      this.#leg = openWebSocket(target, head, { maxMessageBytes, compress }, this)
      return
    }
    if (body !== undefined) {
      this.#sink = 'discard'
      this.#leg = send(target, head, body.length, body, this)
      this.#resumeRequest()
      return
    }
    if (this.#isComplete) {
      const whole = this.#joinHeld()
      this.#leg = send(
        target,
        head,
        whole.length === 0 && this.bodyLength !== -1 ? this.bodyLength : whole.length,
        whole,
        this,
      )
      return
    }
    this.#sink = 'upstream'
    this.#leg = send(target, head, this.bodyLength, undefined, this)
    if (this.#heldBytes < this.#owner.limits.streamBufferBytes) this.#resumeRequest()
  }

  #write(leg: UpstreamLeg, chunk: Uint8Array): boolean {
    this.#replayBytes += chunk.length
    if (this.#replayBytes <= REPLAY_BYTES) this.#replay.push(chunk)
    else this.#replay = []
    return leg.write(chunk)
  }

  /** What went upstream comes back, to be sent again. False when it was too much to be kept. */
  #takeBack(): boolean {
    if (this.#replayBytes > REPLAY_BYTES) return false
    this.#held.unshift(...this.#replay)
    this.#heldBytes += this.#replayBytes
    this.#replay = []
    this.#replayBytes = 0
    return true
  }

  /** There is an answer: nothing is sent again. */
  #forgetReplay(): void {
    this.#replay = []
    if (this.#replayBytes > 0) this.#replayBytes = Infinity
  }

  /** See FrontEnd.canRepeat. */
  get canRepeat(): boolean {
    return this.res !== null && this.#status === 0 && this.#headToSend === null && this.#replayBytes <= REPLAY_BYTES
  }

  /** The upstream's answer so far is thrown away: the request goes out once more. */
  #retractAnswer(): void {
    this.#dropLeg()
    this.#dropOut()
    this.#upstreamEnded = false
    if (this.#sink === 'upstream') this.#sink = 'hold'
    this.#takeBack()
  }

  onUpstreamWritable(): void {
    const leg = this.#leg
    if (leg === null || this.#sink !== 'upstream') return
    this.#legWritable = true
    while (this.#held.length > 0 && this.#legWritable) {
      const chunk = this.#held.shift()!
      this.#heldBytes -= chunk.length
      this.#legWritable = this.#write(leg, chunk)
    }
    if (this.#heldBytes > 0) return
    if (this.#isComplete) leg.end()
    else if (this.#legWritable) this.#resumeRequest()
  }

  onUpstreamHead(status: number, head: string, bodyLength: number, contentLength: number): void {
    this.#firstByteAtMs = performance.now()
    this.#noteLeg()
    this.#upstreamStatus = status
    this.#upstreamLength = bodyLength
    this.#upstreamContentLength = contentLength
    const leg = this.#leg
    this.#emit(() => this.#owner.events.onResponse(this.handle, head, { status, bodyLength }))
    // Nobody has said yet where the body goes: it waits upstream. Unless the request is on its way once more.
    if (this.#headToSend === null && this.#collectResponseBytes === -1 && this.#leg === leg) leg?.pause()
  }

  // ── WebSockets ──

  get limits(): WebSocketLimits {
    return this.#owner.limits.webSocket
  }

  get streamBufferBytes(): number {
    return this.#owner.limits.streamBufferBytes
  }

  onUpstreamWebSocket(socket: UpstreamWebSocket): void {
    this.#firstByteAtMs = performance.now()
    this.#noteLeg()
    this.#upstreamStatus = 101
    this.#upstreamSocket = socket
    this.#emit(() => this.#owner.events.onResponse(this.handle, socket.head, { status: 101, bodyLength: 0 }))
  }

  /** Both sides agreed and the policy did: 101, and from here on messages. */
  #upgrade(head: string, socket: UpstreamWebSocket): void {
    const { res, webSocket } = this
    if (res === null || webSocket === null) return
    const relay = new WebSocketRelay(this, socket)
    this.#relay = relay
    this.#leg = null
    this.#status = 101
    this.res = null
    const { key, extensions } = webSocket.request
    const lineEnd = head.indexOf('\r\n')
    res.cork(() => {
      const lines = withoutFields(head.slice(lineEnd + 2), UPGRADE_FIELDS)
      writeHead(res, `HTTP/1.1 101 Switching Protocols\r\n${lines}`)
      // an extension that the upstream did not accept is not offered to the client (H-91)
      res.upgrade({ relay }, key, socket.protocol, socket.compresses ? extensions : '', webSocket.context)
    })
    this.#owner.relayOpens(relay, this)
  }

  relayEnded(relay: WebSocketRelay, how: RelayEnd): void {
    this.#owner.relayCloses(relay, this)
    this.#received = relay.bytesIn
    this.#bodyOut = relay.bytesOut
    if (how === 'upstream') this.#end('truncated', this.#failure('upstream_reset', 'the WebSocket was lost'))
    else if (how === 'idle') this.#end('truncated', this.#failure('idle_timeout', 'nothing came from either side'))
    else this.#end(how === 'client' ? 'client_abort' : how === 'gateway' ? 'aborted' : 'complete')
    this.#owner.release(this)
  }

  #failure(reason: UpstreamFailureReason, detail: string): UpstreamFailure {
    return { target: this.#target!, reason, detail, notProcessed: false, bodyConsumed: false }
  }

  onUpstreamAnswer(
    status: number,
    head: string,
    bodyLength: number,
    contentLength: number,
    body: Uint8Array | undefined,
  ): void {
    this.#firstByteAtMs = performance.now()
    this.#noteLeg()
    this.#leg = null
    this.#upstreamStatus = status
    this.#upstreamLength = bodyLength
    this.#upstreamContentLength = contentLength
    this.#upstreamEnded = true
    if (body !== undefined) {
      this.#out.push(body)
      this.#outBytes += body.length
      this.#borrowed = body
    }
    this.#emit(() => this.#owner.events.onResponse(this.handle, head, { status, bodyLength }))
    this.#keepBorrowed()
  }

  onUpstreamData(chunk: Uint8Array, isBorrowed: boolean): void {
    if (this.#filter !== null) {
      if (!this.#filter.write(isBorrowed ? new Uint8Array(chunk) : chunk)) this.#leg?.pause()
      return
    }
    this.#out.push(chunk)
    this.#outBytes += chunk.length
    if (isBorrowed) this.#borrowed = chunk
    if (this.#headToSend !== null || this.#mode !== 'none') {
      if (isBorrowed) this.#flush()
      else this.#flushSoon()
      this.#keepBorrowed()
      if (this.#isBlocked || this.#outBytes >= this.#owner.limits.streamBufferBytes) this.#leg?.pause()
      return
    }
    this.#keepBorrowed()
    if (this.#collectResponseBytes !== -1 && this.#outBytes >= this.#collectResponseBytes) {
      this.#responseCollected(false)
    }
  }

  /** Copies what has not left of bytes that the pool only lent. */
  #keepBorrowed(): void {
    const borrowed = this.#borrowed
    if (borrowed === null) return
    this.#borrowed = null
    const last = this.#out.at(-1)
    if (last?.buffer === borrowed.buffer) this.#out[this.#out.length - 1] = new Uint8Array(last)
  }

  onUpstreamEnd(): void {
    this.#noteLeg()
    this.#leg = null
    this.#upstreamEnded = true
    if (this.#filter !== null) {
      this.#filter.end()
    } else if (this.#headToSend !== null || this.#mode !== 'none') {
      this.#outEnded = true
      this.#flushSoon()
    } else if (this.#collectResponseBytes !== -1) {
      this.#responseCollected(true)
    }
  }

  onUpstreamFailure(failure: UpstreamFailure): void {
    this.#noteLeg()
    this.#leg = null
    this.#dropFilter()
    if (this.#status === 0 && (this.#headToSend === null || this.#mode === 'none')) {
      // Nothing has left us: not even a head that was promised a moment ago.
      this.#headToSend = null
      this.#dropOut()
      this.#collectResponseBytes = -1
      // A body that was not touched, or is still at hand, can go to another target.
      const isGone = failure.bodyConsumed && !this.#takeBack()
      if (this.#sink === 'upstream') {
        this.#sink = isGone ? 'discard' : 'hold'
        if (isGone) this.#resumeRequest()
      }
      const told = isGone === failure.bodyConsumed ? failure : { ...failure, bodyConsumed: isGone }
      this.#emit(() => this.#owner.events.onUpstreamError(this.handle, told))
      return
    }
    // H-33: the client must see that the answer is not whole.
    this.#end('truncated', failure)
    this.#closeNow()
  }

  #noteLeg(): void {
    const leg = this.#leg
    if (leg === null) return
    this.#connectedAtMs = leg.connectedAtMs
    this.#reused = leg.connectionReused
  }

  #dropLeg(): void {
    const leg = this.#leg
    if (leg === null) return
    this.#noteLeg()
    this.#leg = null
    leg.abort()
  }

  /** The answer is complete: a connection that has nothing but its end to report stays usable. */
  #letLegGo(): void {
    const leg = this.#leg
    if (leg === null) return
    if (
      this.#upstreamLength < 0 ||
      this.#bodyOut < this.#upstreamLength ||
      this.bodyLength === -1 ||
      !this.#isComplete
    ) {
      this.#dropLeg()
      return
    }
    this.#noteLeg()
    this.#leg = null
    leg.detach()
  }

  #resetUpstream(): void {
    this.#upstreamStatus = 0
    this.#upstreamLength = 0
    this.#upstreamContentLength = -1
    this.#upstreamEnded = false
    this.#firstByteAtMs = 0
    this.#collectResponseBytes = -1
  }

  // ── response ──

  /** See FrontEnd.readResponseBody. */
  readResponse(limitBytes: number): void {
    if (
      this.#upstreamStatus === 0 ||
      limitBytes <= this.#collectResponseBytes ||
      this.#headToSend !== null ||
      this.#mode !== 'none'
    )
      return
    this.#collectResponseBytes = limitBytes
    this.#keepBorrowed()
    if (this.#upstreamEnded || this.#outBytes >= limitBytes) this.#responseCollected(this.#upstreamEnded)
    else this.#leg?.resume()
  }

  #responseCollected(complete: boolean): void {
    this.#leg?.pause()
    const body = this.#joinOut()
    const limitBytes = this.#collectResponseBytes
    this.#emit(() =>
      this.#owner.events.onResponseBody(
        this.handle,
        body.subarray(0, limitBytes),
        complete && body.length <= limitBytes,
      ),
    )
  }

  #joinOut(): Uint8Array {
    const joined =
      this.#out.length === 1 ? this.#out[0]! : this.#out.length === 0 ? EMPTY : concat(this.#out, this.#outBytes)
    this.#out = joined.length === 0 ? [] : [joined]
    return joined
  }

  #dropOut(): void {
    this.#out = []
    this.#outBytes = 0
  }

  /** See FrontEnd.continueResponse. */
  continueResponse(head: string, body: Uint8Array | undefined, filter: (() => BodyFilter) | undefined): void {
    if (this.#upstreamStatus === 0 || this.#headToSend !== null || this.#mode !== 'none' || this.res === null) return
    if (this.#upstreamSocket !== null) {
      this.#upgrade(head, this.#upstreamSocket)
      return
    }
    this.#headToSend = head
    this.#forgetReplay()
    if (filter !== undefined && this.#filterBody(head, filter)) return
    if (body !== undefined) {
      this.#dropLeg()
      this.#out = body.length === 0 ? [] : [body]
      this.#outBytes = body.length
      this.#outEnded = true
      this.#upstreamContentLength = -1
      this.#upstreamLength = body.length
    } else if (this.#upstreamEnded) {
      this.#outEnded = true
    } else {
      this.#leg?.resume()
      this.#flushSoon()
      return
    }
    this.#flush()
  }

  /** The body goes through a filter from here on. False when none follows. */
  #filterBody(head: string, make: () => BodyFilter): boolean {
    this.#upstreamContentLength = -1
    const status = Number(head.slice(9, 12))
    this.#keepBorrowed()
    if (this.isHead || status === 204 || status === 304 || this.#upstreamLength === 0) return false
    const filter = make()
    this.#filter = filter
    this.#isFiltered = true
    this.#upstreamLength = -1
    const collected = this.#out
    this.#dropOut()
    filter.attach(this)
    let hasRoom = true
    for (const chunk of collected) hasRoom = filter.write(chunk)
    if (this.#upstreamEnded) filter.end()
    else if (hasRoom) this.#leg?.resume()
    return true
  }

  /** See FilterSink: a piece of the changed body. */
  output(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#out.push(chunk)
    this.#outBytes += chunk.length
    this.#flushSoon()
    if (this.#isBlocked || this.#outBytes >= this.#owner.limits.streamBufferBytes) this.#filter?.pause()
  }

  /** See FilterSink. */
  ready(): void {
    this.#leg?.resume()
  }

  /** See FilterSink. */
  finished(): void {
    this.#filter = null
    this.#outEnded = true
    this.#flushSoon()
  }

  /** See FilterSink: the upstream's body was not what it had to be. */
  broken(detail: string): void {
    const target = this.#target
    this.#dropLeg()
    if (target === null) this.failed(new Error(detail))
    else {
      this.onUpstreamFailure({
        target,
        reason: 'upstream_bad_response',
        detail,
        notProcessed: false,
        bodyConsumed: true,
      })
    }
  }

  /** More of the body may come: from the filter, or without one from the upstream. */
  #resumeResponse(): void {
    if (this.#filter === null) this.#leg?.resume()
    else this.#filter.resume()
  }

  #dropFilter(): void {
    const filter = this.#filter
    this.#filter = null
    filter?.close()
  }

  /** See FrontEnd.respond. */
  respond(head: string, body: Uint8Array | string): void {
    if (this.res === null) return
    this.#dropFilter()
    this.#isFiltered = false
    if (this.#status !== 0) {
      // Bytes of another answer are out.
      this.#dropLeg()
      this.#end('aborted')
      this.#closeNow()
      return
    }
    this.#dropLeg()
    this.#dropOut()
    this.#upstreamContentLength = -1
    const bytes = typeof body === 'string' ? Buffer.from(body, 'utf8') : body
    this.#upstreamLength = bytes.length
    this.#headToSend = head
    if (bytes.length > 0) this.#out.push(bytes)
    this.#outBytes = bytes.length
    this.#outEnded = true
    this.#sink = 'discard'
    this.#held = []
    this.#heldBytes = 0
    this.#flush()
    if (this.res !== null && !this.#isComplete) this.#resumeRequest()
  }

  /** See FrontEnd.abort. */
  abort(): void {
    if (this.#relay !== null) {
      this.#relay.destroy()
      return
    }
    this.#dropLeg()
    this.#end('aborted')
    this.#closeNow()
  }

  #flushSoon(): void {
    if (this.#flushQueued) return
    this.#flushQueued = true
    // After the upstream's present segment: a small answer then leaves as one write with its length known.
    queueMicrotask(this.#flushLater)
  }

  #flush(): void {
    const { res } = this
    if (res === null || this.#isSent) return
    try {
      res.cork(this.#flushCorked)
    } catch (error) {
      this.#owner.report(error)
      this.#dropLeg()
      this.#end('aborted')
      this.#closeNow()
      return
    }
    if (this.#isSent) this.#finished()
    else if (!this.#isBlocked && this.#outBytes < this.#owner.limits.streamBufferBytes) this.#resumeResponse()
  }

  /** Whether this connection must not carry another request. */
  #mustClose(): boolean {
    // a refused upgrade: what follows may have been meant for a WebSocket (H-60)
    if (this.clientCloses || this.bodyLength === -1 || this.#owner.draining || this.webSocket !== null) return true
    if (this.#isComplete) return false
    return this.expectsContinue || this.bodyLength - this.#received > DISCARD_BYTES
  }

  /** Runs inside `cork`: everything that may be written now. */
  #writeOut(): void {
    const res = this.res!
    if (this.#headToSend !== null) {
      // The library completes the head of a chunked answer with its first bytes only; until then a failure is still a 502.
      if (this.#upstreamLength === -1 && this.#out.length === 0 && !this.#outEnded) return
      if (!this.#start(res, this.#headToSend)) return
    }
    while (this.#out.length > 0 && !this.#isBlocked) {
      const chunk = this.#out[0]!
      if (this.#mode === 'chunked') {
        // The library keeps what the socket does not take; we stop giving it more.
        const taken = res.write(chunk)
        this.#out.shift()
        this.#outBytes -= chunk.length
        this.#bodyOut += chunk.length
        if (!taken) this.#block(res)
        continue
      }
      const [taken, isDone] = res.tryEnd(chunk, this.#total)
      if (isDone) {
        this.#bodyOut += chunk.length
        this.#dropOut()
        this.res = null
        this.#isSent = true
        return
      }
      const accepted = taken ? chunk.length : res.getWriteOffset() - this.#accepted
      this.#accepted += accepted
      this.#bodyOut += accepted
      this.#outBytes -= accepted
      if (accepted === chunk.length) this.#out.shift()
      else this.#out[0] = chunk.subarray(accepted)
      if (!taken) this.#block(res)
    }
    if (!this.#outEnded || this.#out.length > 0) return
    if (this.#mode === 'chunked') {
      if (!this.#unfinished) {
        res.end()
        this.res = null
      } else if (this.#isBlocked) {
        return
      } else {
        res.writeHeader(LAST_CHUNK_NAME, LAST_CHUNK_VALUE)
      }
      this.#isSent = true
    } else if (this.#unfinished) {
      this.#isSent = true
    }
    // Otherwise fewer bytes came than were announced; the pool reports that as a failure.
  }

  /** Writes the head, and the whole answer if it is at hand. False when nothing is left to write. */
  #start(res: HttpResponse, head: string): boolean {
    const status = statusOf(head)
    this.#headToSend = null
    this.#status = status
    const close = this.#mustClose()
    let text = withoutOwnFields(head)
    const bodiless = this.isHead || status === 204 || status === 304
    const length = bodiless ? 0 : this.#outEnded && !this.#isFiltered ? this.#outBytes : this.#upstreamLength
    const announced = bodiless ? this.#bodilessLength(status) : -1
    if (bodiless) this.#dropOut()
    // Announced by us, except where the library does it together with `end`.
    const endsAtOnce = this.#outEnded && length === this.#outBytes && !bodiless
    const mayEnd = this.#isComplete && this.#isQuiet && !this.refused
    const libraryEnds = close && endsAtOnce && mayEnd
    this.#unfinished = close && !libraryEnds && !(this.libraryCloses && mayEnd)
    if (close && (!libraryEnds || this.libraryCloses)) text += 'connection: close\r\n'

    if (bodiless) {
      if (announced >= 0) text += `content-length: ${announced}\r\n`
      if (this.#unfinished) {
        writeHead(res, `${text}date: ${new Date().toUTCString()}\r\n\r\n`)
      } else {
        writeHead(res, text)
        // Not with a length as argument: the library then waits for that many bytes.
        res.endWithoutBody()
        this.res = null
      }
      this.#isSent = true
      return false
    }
    if (length === 0 && this.#unfinished) {
      writeHead(res, `${text}date: ${new Date().toUTCString()}\r\ncontent-length: 0\r\n\r\n`)
      this.#isSent = true
      return false
    }
    writeHead(res, text)
    if (endsAtOnce && !this.#unfinished && length <= MAX_AT_ONCE_BYTES) {
      const body = this.#joinOut()
      this.#bodyOut = body.length
      this.#dropOut()
      res.end(body, libraryEnds)
      this.res = null
      this.#isSent = true
      return false
    }
    if (length === -1) {
      this.#mode = 'chunked'
      return true
    }
    this.#mode = 'length'
    this.#total = length
    if (this.#unfinished || this.#out.length === 0) {
      // Writes head and Content-Length only.
      res.tryEnd(EMPTY, length)
      // One byte more than there will be: never done in the library's eyes.
      if (this.#unfinished) this.#total = length + 1
    }
    return true
  }

  /** H-31: Content-Length of an answer without a body is metadata on HEAD and 304, and absent (-1) on 204. */
  #bodilessLength(status: number): number {
    if (status === 204) return -1
    if (this.#upstreamContentLength !== -1) return this.#upstreamContentLength
    return this.#outEnded && status !== 304 && this.#outBytes > 0 ? this.#outBytes : -1
  }

  #block(res: HttpResponse): void {
    this.#isBlocked = this.#wasBlocked = true
    this.stalledSinceMs = performance.now()
    this.#owner.watch(this)
    if (this.#filter === null) this.#leg?.pause()
    else this.#filter.pause()
    if (this.#writableAsked) return
    this.#writableAsked = true
    res.onWritable(this.#onWritable)
  }

  #writable(): void {
    this.#isBlocked = false
    if (this.res !== null && !this.#isSent) this.#flush()
  }

  /** All bytes of the answer are with the library or the system. */
  #finished(): void {
    const wasOpen = this.#isOpen
    this.#letLegGo()
    if (wasOpen) this.#end('complete')
    if (this.res === null) {
      this.#owner.release(this)
      return
    }
    this.#sink = 'discard'
    this.closeAtMs =
      performance.now() +
      (this.#wasBlocked ? LINGER_SLOW_READER_MS : this.#isComplete && this.#isQuiet ? LINGER_MS : LINGER_SENDING_MS)
    if (!this.#isComplete) this.#resumeRequest()
    this.#owner.linger(this)
  }

  /** The rest of the body has come while the answered connection lingers. */
  #closeSoon(): void {
    if (this.#isSent && this.closeAtMs > 0 && !this.#wasBlocked) this.closeAtMs = performance.now() + LINGER_MS
  }

  // ── end ──

  /** The library says that the connection is gone. */
  #aborted(): void {
    if (this.res === null) return
    this.res = null
    this.#dropLeg()
    this.#end('client_abort')
    this.#owner.release(this)
  }

  /** Closes the connection; whoever calls has told the gateway before. */
  #closeNow(): void {
    const { res } = this
    if (res === null) return
    this.res = null
    this.#dropLeg()
    try {
      res.close()
    } catch (error) {
      this.#owner.report(error)
    }
    this.#owner.release(this)
  }

  /** A lingering connection's time is over, or everything is being closed. */
  close(): void {
    if (this.#isOpen) this.abort()
    else this.#closeNow()
  }

  #end(end: ExchangeRecord['end'], failure?: UpstreamFailure): void {
    this.#dropFilter()
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#owner.ended()
    const { handle } = this
    this.#held = []
    this.#heldBytes = 0
    this.#dropOut()
    const record: ExchangeRecord = {
      status: this.#status,
      requestBodyBytes: this.#received,
      responseBodyBytes: this.#bodyOut,
      end,
      failure,
      connectedAtMs: this.#connectedAtMs,
      firstByteAtMs: this.#firstByteAtMs,
      endedAtMs: performance.now(),
      connectionReused: this.#reused,
      webSocket:
        this.#relay === null ? undefined : { messagesIn: this.#relay.messagesIn, messagesOut: this.#relay.messagesOut },
    }
    try {
      this.#owner.events.onDone(handle, record)
    } catch (error) {
      this.#owner.report(error)
    }
  }

  /** Calls into the gateway; what it throws ends this exchange only (T-26). */
  #emit(call: () => void): void {
    if (!this.#isOpen) return
    try {
      call()
    } catch (error) {
      this.failed(error)
    }
  }

  /** H-83: the client sends too slowly. 408 if nothing is out yet. */
  tooSlow(): void {
    this.clientCloses = true
    if (this.#status === 0 && this.#headToSend === null) {
      this.respond(
        'HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n',
        'the request body came too slowly\n',
      )
      return
    }
    this.abort()
  }

  #guard(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.failed(error)
    }
  }

  /** An event has thrown: 500 if nothing is out yet, else the connection closes. */
  failed(error: unknown): void {
    this.#owner.report(error)
    if (this.res === null) return
    if (this.#status === 0) {
      this.respond(
        'HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n',
        'internal error\n',
      )
      return
    }
    this.abort()
  }
}

/** Above it even a whole body goes out in pieces, so that the library does not copy it into its own buffer. */
const MAX_AT_ONCE_BYTES = 64 * 1024

/** The three digits behind `HTTP/1.1 `, checked before. */
function statusOf(head: string): number {
  return head.charCodeAt(9) * 100 + head.charCodeAt(10) * 10 + head.charCodeAt(11) - DIGITS_OFFSET
}
const DIGITS_OFFSET = 0x30 * 111

/**
 * Writes status line and all lines with one call: the library puts `HTTP/1.1 ` before a status and CRLF behind it, and a
 * status may hold the lines that follow. `head` ends in CRLF; an empty line at its end is written too. As bytes when it
 * is not ASCII: the library encodes text as UTF-8.
 */
function writeHead(res: HttpResponse, head: string): void {
  const text = head.slice(9, -2)
  res.writeStatus(ASCII.test(text) ? text : Buffer.from(text, 'latin1'))
}

// oxlint-disable-next-line no-control-regex
const ASCII = /^[\x00-\x7f]*$/

/** Beginnings of the lines that the library or this file writes: they must not be there twice (F-11). */
const OWN_LINES = ['\r\ndate: ', '\r\nconnection: ', '\r\ncontent-length: ', '\r\ntransfer-encoding: ']

function withoutOwnFields(head: string): string {
  let kept = head
  for (const line of OWN_LINES) {
    for (let at = kept.indexOf(line); at !== -1; at = kept.indexOf(line, at)) {
      kept = kept.slice(0, at) + kept.slice(kept.indexOf('\r\n', at + 2))
    }
  }
  return kept
}

/** Fields of a 101 that the library writes. */
const UPGRADE_FIELDS = [
  'date',
  'connection',
  'upgrade',
  'content-length',
  'transfer-encoding',
  'sec-websocket-accept',
  'sec-websocket-extensions',
  'sec-websocket-protocol',
]

function concat(chunks: readonly Uint8Array[], bytes: number): Uint8Array {
  return Buffer.concat(chunks, bytes)
}
