/**
 * The life of one request as the library sees it: the head has come, its body and the upstream's answer meet here, and the
 * end is told once. Top to bottom in the order in which it happens.
 *
 * A slot is reused for many exchanges; the functions given to the library are made once per slot. `res` is set exactly
 * while the library lets us touch its object: from the handler until the answer is complete or the client is gone.
 * Nobody else touches it but the slot's own request body and response writer (T-25).
 *
 * Source: H-30 … H-39, H-60; T-25, T-26, T-27.
 */
import { performance } from 'node:perf_hooks'
import { openWebSocket, type UpstreamWebSocket, type WebSocketHandler } from '../upstream/web-socket.ts'
import type { RelayedHead, UpstreamHandler, UpstreamLeg } from '../upstream/upstream-pool.ts'
import type {
  AnswerEdits,
  BodyFilter,
  ExchangeHandle,
  ExchangeRecord,
  FilterSink,
  FrontEndEvents,
  FrontEndLimits,
  Peer,
  UpstreamFailure,
  UpstreamFailureReason,
  UpstreamTarget,
  WebSocketLimits,
} from './front-end.ts'
import type { HttpResponse, UpgradeContext } from './library.ts'
import { statusOf, withClocks } from './outgoing-head.ts'
import type { WebSocketRequest } from './read-head.ts'
import { DISCARD_BYTES, RequestBody, type RequestBodyOwner } from './request-body.ts'
import { type ResponseOwner, ResponseWriter } from './response-writer.ts'
import type { Slotted } from './slots.ts'
import { type RelayEnd, type RelayOwner, WebSocketRelay } from './web-socket-relay.ts'
import { switchProtocols } from './web-socket-upgrade.ts'

/** How long an answered connection stays open for a client that is still sending (H-37), or that reads slowly. */
const LINGER_SENDING_MS = 2_000
const LINGER_SLOW_READER_MS = 10_000
const LINGER_MS = 250
/** Longer bodies of answers are gathered in one block when they are collected: they come in many pieces. */
const GATHER_BYTES = 64 * 1024

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
  /** Calls `bodyDue` of the slot when what the library has at hand was read. */
  later(slot: ExchangeSlot): void
  /** An announced exchange is over. */
  ended(): void
  /** Nothing is left of the exchange. */
  release(slot: ExchangeSlot): void
  /** An exception in an event, for the log. */
  report(error: unknown): void
}

/** The pool's `send`, handed in so that it is called with everything ready. */
type Send = (
  target: UpstreamTarget,
  head: string,
  bodyLength: number,
  body: Uint8Array | undefined,
  handler: UpstreamHandler,
  relayed?: RelayedHead,
) => UpstreamLeg

export class ExchangeSlot
  implements Slotted, RequestBodyOwner, UpstreamHandler, FilterSink, ResponseOwner, WebSocketHandler, RelayOwner
{
  readonly slot: number
  generation = 0
  handle: ExchangeHandle = 0
  readonly #owner: SlotOwner

  // ── connection ──
  res: HttpResponse | null = null
  listenerId = 0
  peer: Peer | null = null

  // ── request ──
  readonly body: RequestBody = new RequestBody(this)
  isHead = false
  expectsContinue = false
  clientCloses = false
  libraryCloses = false
  /** The head as it came, and its number where the native pool may still have it (library-head.ts); 0 = it has not. */
  received = ''
  kept = 0
  /** What the answer leaves with, where it leaves without a question. */
  #edits: AnswerEdits | undefined
  /** Set while the request may still become a WebSocket. */
  webSocket: { readonly request: WebSocketRequest; readonly context: UpgradeContext } | null = null
  /** Refused by its head: whatever follows is not a request to anybody. */
  refused = false
  /** The gateway was told of this exchange, and not yet that it is over. */
  isOpen = false

  // ── upstream ──
  #leg: UpstreamLeg | null = null
  #target: UpstreamTarget | null = null
  /** What goes upstream when its body is there. */
  #heldBack: { readonly head: string; readonly send: Send } | null = null
  #connectedAtMs = 0
  #firstByteAtMs = 0
  #reused = false
  /** 0 = no answer yet. */
  #upstreamStatus = 0
  #upstreamEnded = false
  #upstreamSocket: UpstreamWebSocket | null = null

  // ── response ──
  readonly #answer = new ResponseWriter(this)
  /** How much the gateway wants to see before anything leaves; -1 = nothing. */
  #collectBytes = -1
  /** What changes the body between the upstream and the answer. */
  #filter: BodyFilter | null = null
  #relay: WebSocketRelay | null = null

  /** When a lingering connection closes. */
  closeAtMs = 0

  readonly #onAborted = (): void => {
    try {
      this.#aborted()
    } catch (error) {
      this.failed(error)
    }
  }

  constructor(slot: number, owner: SlotOwner) {
    this.slot = slot
    this.#owner = owner
  }

  // ── the head has come ──

  /** Takes over a response object in the library's handler. */
  begin(res: HttpResponse, listenerId: number, isHead: boolean, bodyLength: number): void {
    this.res = res
    this.listenerId = listenerId
    this.isHead = isHead
    this.body.begin(bodyLength)
    this.expectsContinue = this.clientCloses = this.libraryCloses = this.refused = this.isOpen = false
    this.webSocket = null
    this.peer = null
    this.#leg = null
    this.#target = null
    this.#heldBack = null
    this.#connectedAtMs = 0
    this.#reused = false
    this.#resetUpstream()
    this.#upstreamSocket = null
    this.#answer.begin()
    this.#filter = null
    this.#relay = null
    this.closeAtMs = 0
    res.onAborted(this.#onAborted)
    if (bodyLength !== 0) {
      res.onData(this.body.onData)
      this.#owner.watch(this)
    }
  }

  /** From here on the gateway is owed an `onDone`. */
  announce(): void {
    this.isOpen = true
  }

  /** Whether bytes of the request are still to come from the client. */
  get isReceiving(): boolean {
    return this.res !== null && !this.body.isComplete
  }

  /** Whether the client has to read before more can be written. */
  get isStalled(): boolean {
    return this.res !== null && this.#answer.isBlocked
  }

  /** Since when, while it is. */
  get stalledSinceMs(): number {
    return this.#answer.blockedSinceMs
  }

  // ── its body ──

  get frontEndLimits(): FrontEndLimits {
    return this.#owner.limits
  }

  get hasSentAnswer(): boolean {
    return this.#answer.isSent
  }

  /** See FrontEnd.readRequestBody. */
  readBody(limitBytes: number): void {
    this.body.collect(limitBytes)
  }

  bodyCollected(body: Uint8Array, isComplete: boolean): void {
    this.#emit(() => this.#owner.events.onRequestBody(this.handle, body, isComplete))
  }

  bodyTooLarge(): void {
    this.#dropLeg()
    if (this.#answer.hasBegun || this.#answer.hasHead) {
      this.#end('truncated')
      this.#closeNow()
      return
    }
    this.respond(
      'HTTP/1.1 413 Content Too Large\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n',
      'the request body is too large\n',
    )
  }

  /** The rest of the body has come while the answered connection lingers. */
  bodyDiscarded(): void {
    if (this.#answer.isSent && this.closeAtMs > 0 && !this.#answer.wasBlocked) {
      this.closeAtMs = performance.now() + LINGER_MS
    }
  }

  /** F-10: the library's timer of 10 seconds starts again when reading is paused and resumed. */
  refreshTimer(): void {
    if (this.res === null || this.body.isPaused) return
    this.res.pause()
    this.res.resume()
  }

  /** H-83: the client sends too slowly. 408 if nothing is out yet. */
  tooSlow(): void {
    this.clientCloses = true
    if (this.#answer.hasBegun || this.#answer.hasHead) {
      this.abort()
      return
    }
    this.respond(
      'HTTP/1.1 408 Request Timeout\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n',
      'the request body came too slowly\n',
    )
  }

  // ── to the upstream ──

  /** See FrontEnd.forward. */
  forward(target: UpstreamTarget, head: string, body: Uint8Array | undefined, send: Send): void {
    if (this.#answer.hasBegun || this.#answer.hasHead) return
    this.#beginLeg(target)
    if (this.webSocket !== null) {
      this.#askForWebSocket(target, head)
    } else if (body !== undefined) {
      this.#leg = send(target, head, body.length, body, this)
      this.body.discard()
    } else if (this.body.mayComeAtOnce && !this.expectsContinue) {
      // head and body then leave in one write
      this.#heldBack = { head, send }
      this.body.await()
      this.#owner.later(this)
    } else {
      this.#send(target, head, send)
    }
  }

  #beginLeg(target: UpstreamTarget): void {
    const wasAnswered = this.#upstreamStatus !== 0 && this.canRepeat
    // an answer that the gateway does not want: another server is asked
    this.#dropLeg()
    this.#answer.drop()
    if (wasAnswered) this.body.retract(true)
    this.#resetUpstream()
    this.#target = target
  }

  /** See FrontEnd.relay. */
  relay(target: UpstreamTarget, lines: string, answer: AnswerEdits | undefined, send: Send): void {
    // never looked at, and so never joined, where the pool has its first part
    const head = this.received + lines
    const { kept } = this
    if (kept === 0 || this.body.length !== 0 || this.webSocket !== null) {
      this.forward(target, head, undefined, send)
      return
    }
    // for a repeat another head has been read
    this.kept = 0
    // an answer that fields are to be taken from comes as always
    const mayPass = this.#owner.events.onAnswered !== undefined && answer?.removed === ''
    this.#beginLeg(target)
    this.#edits = answer
    this.#leg = send(target, head, 0, undefined, this, { kept, lines, answerLines: mayPass ? answer.lines : undefined })
  }

  /** With all of the body when it is there, else with what comes. */
  #send(target: UpstreamTarget, head: string, send: Send): void {
    const { body } = this
    if (!body.isComplete) {
      this.#leg = send(target, head, body.length, undefined, this)
      body.streamTo(this.#leg)
      return
    }
    const whole = body.joinHeld()
    const announced = whole.length === 0 && body.length !== -1 ? body.length : whole.length
    this.#leg = send(target, head, announced, whole, this)
  }

  bodyDue(): void {
    const heldBack = this.#heldBack
    if (heldBack === null) return
    this.#heldBack = null
    this.body.awaited()
    try {
      this.#send(this.#target!, heldBack.head, heldBack.send) // set by `forward`
    } catch (error) {
      this.failed(error)
    }
  }

  /** See FrontEnd.canRepeat. */
  get canRepeat(): boolean {
    return this.res !== null && !this.#answer.hasBegun && !this.#answer.hasHead && this.body.isRepeatable
  }

  onUpstreamWritable(): void {
    if (this.#leg !== null) this.body.writable()
  }

  // ── the upstream's answer ──

  onUpstreamHead(status: number, head: string, bodyLength: number, contentLength: number): void {
    this.#answerBegins(status, bodyLength, contentLength)
    const leg = this.#leg
    this.#tellResponse(head, status, bodyLength)
    // Nobody has said yet where the body goes: it waits upstream. Unless the request is on its way once more.
    if (!this.#answer.hasHead && this.#collectBytes === -1 && this.#leg === leg) leg?.pause()
  }

  onUpstreamAnswer(
    status: number,
    head: string,
    bodyLength: number,
    contentLength: number,
    body: Uint8Array | undefined,
    hasPassed: boolean,
  ): void {
    this.#answerBegins(status, bodyLength, contentLength)
    this.#leg = null
    this.body.legGone()
    this.#upstreamEnded = true
    if (body !== undefined) this.#answer.push(body, true)
    if (hasPassed) this.#pass(head, status)
    else this.#tellResponse(head, status, bodyLength)
    this.#answer.keepBorrowed()
  }

  /** The whole answer is here, and leaves without a question (see FrontEnd.relay). */
  #pass(head: string, status: number): void {
    if (!this.isOpen || this.res === null) return
    try {
      this.#owner.events.onAnswered?.(this.handle, status, this.#firstByteAtMs)
    } catch (error) {
      this.failed(error)
      return
    }
    const answer = this.#answer
    answer.setPassedHead(this.#edits === undefined ? head : withClocks(head, this.#edits))
    answer.hasEnded = true
    this.body.forgetReplay()
    this.#flush()
  }

  #tellResponse(head: string, status: number, bodyLength: number): void {
    if (!this.isOpen) return
    try {
      this.#owner.events.onResponse(this.handle, head, { status, bodyLength })
    } catch (error) {
      this.failed(error)
    }
  }

  #answerBegins(status: number, bodyLength: number, contentLength: number): void {
    this.#firstByteAtMs = performance.now()
    this.#noteLeg()
    this.#upstreamStatus = status
    this.#answer.length = bodyLength
    this.#answer.contentLength = contentLength
  }

  onUpstreamData(chunk: Uint8Array, isBorrowed: boolean): void {
    if (this.#filter !== null) {
      if (!this.#filter.write(isBorrowed ? new Uint8Array(chunk) : chunk)) this.#leg?.pause()
      return
    }
    const answer = this.#answer
    answer.push(chunk, isBorrowed)
    if (answer.hasHead) {
      if (isBorrowed) this.#flush()
      else answer.flushSoon()
      answer.keepBorrowed()
      if (answer.isBlocked || answer.waitingBytes >= this.#owner.limits.streamBufferBytes) this.#leg?.pause()
      return
    }
    answer.keepBorrowed()
    if (this.#collectBytes !== -1 && answer.waitingBytes >= this.#collectBytes) this.#responseCollected(false)
  }

  onUpstreamEnd(): void {
    this.#noteLeg()
    this.#leg = null
    this.body.legGone()
    this.#upstreamEnded = true
    if (this.#filter !== null) {
      this.#filter.end()
    } else if (this.#answer.hasHead) {
      this.#answer.hasEnded = true
      this.#answer.flushSoon()
    } else if (this.#collectBytes !== -1) {
      this.#responseCollected(true)
    }
  }

  onUpstreamFailure(failure: UpstreamFailure): void {
    this.#noteLeg()
    this.#leg = null
    this.body.legGone()
    this.#dropFilter()
    if (this.#answer.hasBegun) {
      // H-33: the client must see that the answer is not whole.
      this.#end('truncated', failure)
      this.#closeNow()
      return
    }
    // Nothing has left us: not even a head that was promised a moment ago.
    this.#answer.dropHead()
    this.#answer.drop()
    this.#collectBytes = -1
    // A body that was not touched, or is still at hand, can go to another target.
    const bodyConsumed = !this.body.retract(failure.bodyConsumed)
    const told = bodyConsumed === failure.bodyConsumed ? failure : { ...failure, bodyConsumed }
    this.#emit(() => this.#owner.events.onUpstreamError(this.handle, told))
  }

  /** See FrontEnd.readResponseBody. */
  readResponse(limitBytes: number, isLent: boolean): void {
    const answer = this.#answer
    if (!isLent) answer.disown()
    if (this.#upstreamStatus === 0 || limitBytes <= this.#collectBytes || answer.hasHead) return
    this.#collectBytes = limitBytes
    const isHere = this.#upstreamEnded || answer.waitingBytes >= limitBytes
    const { length } = answer
    if (isLent && !isHere && (length === -1 || length > GATHER_BYTES)) answer.gather(Math.min(length, limitBytes))
    answer.keepBorrowed()
    if (isHere) this.#responseCollected(this.#upstreamEnded)
    else this.#leg?.resume()
  }

  #responseCollected(isComplete: boolean): void {
    this.#leg?.pause()
    const body = this.#answer.join()
    const limitBytes = this.#collectBytes
    const fits = body.length <= limitBytes
    const shown = fits ? body : body.subarray(0, limitBytes)
    this.#emit(() => this.#owner.events.onResponseBody(this.handle, shown, isComplete && fits))
  }

  // ── to the client ──

  /** See FrontEnd.continueResponse. */
  continueResponse(head: string, body: Uint8Array | undefined, filter: (() => BodyFilter) | undefined): void {
    const answer = this.#answer
    if (this.#upstreamStatus === 0 || answer.hasHead || answer.hasBegun || this.res === null) return
    if (this.#upstreamSocket !== null) {
      this.#upgrade(head, this.#upstreamSocket)
      return
    }
    answer.setHead(head)
    this.body.forgetReplay()
    if (filter !== undefined && this.#filterBody(head, filter)) return
    if (body !== undefined) {
      this.#dropLeg()
      this.#answerWith(body)
    } else if (this.#upstreamEnded) {
      answer.hasEnded = true
    } else {
      this.#leg?.resume()
      answer.flushSoon()
      return
    }
    this.#flush()
  }

  /** See FrontEnd.respond. */
  respond(head: string, body: Uint8Array | string): void {
    if (this.res === null) return
    if (this.#answer.hasBegun) {
      // Bytes of another answer are out.
      this.#dropLeg()
      this.#end('aborted')
      this.#closeNow()
      return
    }
    this.#answer.setHead(head)
    this.#answer.isFiltered = false
    this.#dropFilter()
    this.#dropLeg()
    this.#answerWith(typeof body === 'string' ? Buffer.from(body, 'utf8') : body)
    this.body.release()
    this.body.discard()
    this.#flush()
  }

  /** The whole body, instead of whatever waits. */
  #answerWith(body: Uint8Array): void {
    const answer = this.#answer
    answer.drop()
    if (body.length > 0) answer.push(body, false)
    answer.contentLength = -1
    answer.length = body.length
    answer.hasEnded = true
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

  // ── through a filter ──

  /** The body goes through a filter from here on. False when none follows. */
  #filterBody(head: string, make: () => BodyFilter): boolean {
    const answer = this.#answer
    answer.contentLength = -1
    const status = statusOf(head)
    answer.keepBorrowed()
    if (this.isHead || status === 204 || status === 304 || answer.length === 0) return false
    const filter = make()
    // it may go on looking at what it was given
    answer.disown()
    this.#filter = filter
    answer.isFiltered = true
    answer.length = -1
    const collected = answer.take()
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
    const answer = this.#answer
    answer.push(chunk, false)
    answer.flushSoon()
    if (answer.isBlocked || answer.waitingBytes >= this.#owner.limits.streamBufferBytes) this.#filter?.pause()
  }

  /** See FilterSink. */
  ready(): void {
    this.#leg?.resume()
  }

  /** See FilterSink. */
  finished(): void {
    this.#filter = null
    this.#answer.hasEnded = true
    this.#answer.flushSoon()
  }

  /** See FilterSink: the upstream's body was not what it had to be. */
  broken(detail: string): void {
    const target = this.#target
    this.#dropLeg()
    if (target === null) this.failed(new Error(detail))
    else this.onUpstreamFailure({ ...this.#failure('upstream_bad_response', detail), bodyConsumed: true })
  }

  #dropFilter(): void {
    const filter = this.#filter
    this.#filter = null
    filter?.close()
  }

  // ── writing ──

  /** Whether this connection must not carry another request. */
  get mustClose(): boolean {
    const { length, isComplete, received } = this.body
    // a refused upgrade: what follows may have been meant for a WebSocket (H-60)
    if (this.clientCloses || length === -1 || this.#owner.draining || this.webSocket !== null) return true
    if (isComplete) return false
    return this.expectsContinue || length - received > DISCARD_BYTES
  }

  get requestIsOver(): boolean {
    return this.body.isComplete && this.body.isQuiet && !this.refused
  }

  answerDue(): void {
    if (this.res === null) return
    try {
      this.#flush()
    } catch (error) {
      this.failed(error)
    }
  }

  answerWritable(): void {
    if (!this.#answer.isSent) this.answerDue()
  }

  answerBlocked(): void {
    this.#owner.watch(this)
    if (this.#filter === null) this.#leg?.pause()
    else this.#filter.pause()
  }

  #flush(): void {
    const answer = this.#answer
    if (this.res === null || answer.isSent) return
    try {
      answer.flush()
    } catch (error) {
      this.#owner.report(error)
      this.#dropLeg()
      this.#end('aborted')
      this.#closeNow()
      return
    }
    if (answer.isSent) this.#sent()
    else if (!answer.isBlocked && answer.waitingBytes < this.#owner.limits.streamBufferBytes) {
      // more of the body may come
      if (this.#filter === null) this.#leg?.resume()
      else this.#filter.resume()
    }
  }

  /** All bytes of the answer are with the library or the system. */
  #sent(): void {
    this.#letLegGo()
    if (this.isOpen) this.#end('complete')
    if (this.res === null) {
      this.#owner.release(this)
      return
    }
    const { body } = this
    const lingerMs = body.isComplete && body.isQuiet ? LINGER_MS : LINGER_SENDING_MS
    this.closeAtMs = performance.now() + (this.#answer.wasBlocked ? LINGER_SLOW_READER_MS : lingerMs)
    body.discard()
    this.#owner.linger(this)
  }

  // ── WebSockets ──

  get limits(): WebSocketLimits {
    return this.#owner.limits.webSocket
  }

  get streamBufferBytes(): number {
    return this.#owner.limits.streamBufferBytes
  }

  #askForWebSocket(target: UpstreamTarget, head: string): void {
    if (this.#owner.hasRoomForRelay) {
      const { maxMessageBytes, compress } = this.limits
      this.#leg = openWebSocket(target, head, { maxMessageBytes, compress }, this)
      return
    }
    const { handle } = this
    queueMicrotask(() => {
      if (this.handle === handle) this.onUpstreamFailure(this.#failure('overflow', 'too many WebSockets are open'))
    })
  }

  onUpstreamWebSocket(socket: UpstreamWebSocket): void {
    this.#answerBegins(101, 0, -1)
    this.#upstreamSocket = socket
    this.#tellResponse(socket.head, 101, 0)
  }

  /** Both sides agreed and the policy did: 101, and from here on messages. */
  #upgrade(head: string, socket: UpstreamWebSocket): void {
    const { res, webSocket } = this
    if (res === null || webSocket === null) return
    const relay = new WebSocketRelay(this, socket)
    this.#relay = relay
    this.#leg = null
    this.#answer.status = 101
    this.res = null
    switchProtocols(res, head, relay, socket, webSocket)
    this.#owner.relayOpens(relay, this)
  }

  relayEnded(relay: WebSocketRelay, how: RelayEnd): void {
    this.#owner.relayCloses(relay, this)
    this.body.received = relay.bytesIn
    this.#answer.bodyBytes = relay.bytesOut
    if (how === 'upstream') this.#end('truncated', this.#failure('upstream_reset', 'the WebSocket was lost'))
    else if (how === 'idle') this.#end('truncated', this.#failure('idle_timeout', 'nothing came from either side'))
    else this.#end(how === 'client' ? 'client_abort' : how === 'gateway' ? 'aborted' : 'complete')
    this.#owner.release(this)
  }

  /** Only asked while there is a target. */
  #failure(reason: UpstreamFailureReason, detail: string): UpstreamFailure {
    return { target: this.#target!, reason, detail, notProcessed: false, bodyConsumed: false }
  }

  // ── the leg ──

  #noteLeg(): void {
    const leg = this.#leg
    if (leg === null) return
    this.#connectedAtMs = leg.connectedAtMs
    this.#reused = leg.connectionReused
  }

  #dropLeg(): void {
    this.#heldBack = null
    const leg = this.#leg
    if (leg === null) return
    this.#noteLeg()
    this.#leg = null
    this.body.legGone()
    leg.abort()
  }

  /** The answer is complete: a connection that has nothing but its end to report stays usable. */
  #letLegGo(): void {
    const leg = this.#leg
    if (leg === null) return
    const { length, bodyBytes } = this.#answer
    if (length < 0 || bodyBytes < length || this.body.length === -1 || !this.body.isComplete) {
      this.#dropLeg()
      return
    }
    this.#noteLeg()
    this.#leg = null
    this.body.legGone()
    leg.detach()
  }

  #resetUpstream(): void {
    this.#upstreamStatus = 0
    this.#upstreamEnded = false
    this.#answer.length = 0
    this.#answer.contentLength = -1
    this.#firstByteAtMs = 0
    this.#collectBytes = -1
  }

  // ── the end ──

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
    if (this.isOpen) this.abort()
    else this.#closeNow()
  }

  #end(end: ExchangeRecord['end'], failure?: UpstreamFailure): void {
    this.#dropFilter()
    if (!this.isOpen) return
    this.isOpen = false
    this.#owner.ended()
    const { handle } = this
    this.body.release()
    this.#answer.release()
    const relay = this.#relay
    const record: ExchangeRecord = {
      status: this.#answer.status,
      requestBodyBytes: this.body.received,
      responseBodyBytes: this.#answer.bodyBytes,
      end,
      failure,
      connectedAtMs: this.#connectedAtMs,
      firstByteAtMs: this.#firstByteAtMs,
      endedAtMs: performance.now(),
      connectionReused: this.#reused,
      webSocket: relay === null ? undefined : { messagesIn: relay.messagesIn, messagesOut: relay.messagesOut },
    }
    try {
      this.#owner.events.onDone(handle, record)
    } catch (error) {
      this.#owner.report(error)
    }
  }

  /** Calls into the gateway; what it throws ends this exchange only (T-26). */
  #emit(call: () => void): void {
    if (!this.isOpen) return
    try {
      call()
    } catch (error) {
      this.failed(error)
    }
  }

  /** An event has thrown: 500 if nothing is out yet, else the connection closes. */
  failed(error: unknown): void {
    this.#owner.report(error)
    if (this.res === null) return
    if (this.#answer.hasBegun) {
      this.abort()
      return
    }
    this.respond(
      'HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\ncache-control: no-store\r\n',
      'internal error\n',
    )
  }
}
