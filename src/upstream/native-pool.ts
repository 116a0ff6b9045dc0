/**
 * Keep-alive connections to upstreams over the native pool: sockets, TLS, parsing, queue and deadlines are native
 * (native/upstream); here are the names' addresses, the order of events while a leg is paused, and the timer.
 *
 * Servers that speak a TLS which the native pool does not (TLS 1.2 without AEAD suites or elliptic curves), or whose
 * certificates it cannot judge (without alternative names, keys on P-521, and the like), are left to another pool, if
 * there is one: found out when a handshake fails for such a reason, before anything of a request was sent.
 *
 * One call into native per request, one event per answer that comes in one piece. A received `Content-Length: 0` is
 * not told apart from no body: POST, PUT and PATCH get one, other methods none (H-28). Interim answers are dropped, at
 * most 16 per request (H-62), trailers too.
 *
 * Source: H-31 … H-35, H-56, H-62, H-70, H-80, H-82, H-122; T-30 … T-35.
 */
import { performance } from 'node:perf_hooks'
import type { UpstreamFailureReason, UpstreamTarget } from '../listener/front-end.ts'
import * as native from '../native/upstream-pool.ts'
import { AddressBook } from './address-book.ts'
import { type NativeServer, NativeServers, NO_VERIFYING } from './native-servers.ts'
import { checkRequestHead, InvalidHeadError } from './request-head.ts'
import type { ConnectionCounts, UpstreamHandler, UpstreamLeg, UpstreamPool, UpstreamRequest } from './upstream-pool.ts'

/** Deadlines are looked at this often; a timer fires at most this much late. */
const TICK_MS = 100
/** Head and end in one event. */
const WHOLE = native.UPSTREAM_HEAD | native.UPSTREAM_END
/** Without requests only idle connections have deadlines. */
const IDLE_TICKS = 10
/** For so long a server that was left to the other pool stays there. */
const LEFT_MS = 600_000

export interface NativePoolOptions {
  /** Request body bytes that may wait in memory per request (H-38). */
  readonly bufferBytes: number
  readonly addressBook?: AddressBook
  /** Takes the servers whose TLS is not for the native pool; without it they fail. */
  readonly other?: UpstreamPool
}

export class NativePool implements UpstreamPool {
  readonly #pool: native.UpstreamPoolHandle
  /** Data of the present event; nobody else keeps it or hands it to another thread. */
  readonly #data = Buffer.allocUnsafeSlow(native.UPSTREAM_DATA_BYTES)
  #lastView: Buffer = this.#data.subarray(0, 0)
  readonly #servers: NativeServers
  readonly #other: UpstreamPool | undefined
  /** By slot. */
  readonly #legs: (Leg | undefined)[] = []
  #legCount = 0
  #ticker: NodeJS.Timeout | undefined
  #tickerHolds = false
  #idleTicks = 0
  #isClosed = false

  /** Throws when the system has no descriptors left, and NativeAddonError when the native part is missing. */
  constructor(options: NativePoolOptions) {
    this.#other = options.other
    this.#pool = native.createUpstreamPool(
      options.bufferBytes,
      this.#data,
      (slot, kind, status, text, bodyLength, contentLength, dataLength) => {
        const leg = this.#legs[slot]
        if (leg === undefined) return
        if ((kind & (native.UPSTREAM_END | native.UPSTREAM_FAILURE)) !== 0) this.#forget(slot)
        const data = dataLength === 0 ? undefined : this.#view(dataLength)
        if ((kind & WHOLE) === WHOLE) leg.receiveWhole(kind, status, text!, bodyLength, contentLength, data)
        else leg.receive(kind, status, text, bodyLength, contentLength, data)
      },
    )
    const pool = this.#pool
    this.#servers = new NativeServers(
      {
        add: (settings) => native.addUpstreamTarget(pool, settings),
        change: (handle, settings) => native.changeUpstreamTarget(pool, handle, settings),
        retire: (handle) => native.retireUpstreamTarget(pool, handle),
        secure: (handle, authorities, name, isHttp2) =>
          native.secureUpstreamTarget(pool, handle, authorities, name, isHttp2),
        speakHttp2: (handle) => native.upstreamSpeaksHttp2(pool, handle),
      },
      options.addressBook ?? new AddressBook(),
    )
  }

  get connections(): ConnectionCounts {
    if (this.#isClosed) return { active: 0, idle: 0, pending: 0 }
    const [open, idle, pending] = native.upstreamConnections(this.#pool)
    return { active: open - idle, idle, pending }
  }

  /** Reads made so far; for tests of idle connections. */
  get reads(): number {
    return native.upstreamReads(this.#pool)
  }

  send(target: UpstreamTarget, request: UpstreamRequest, handler: UpstreamHandler): UpstreamLeg {
    const leg = new Leg(this, this.#pool, target, request, handler)
    if (this.#isClosed) {
      leg.failSoon('connect_failed', 'the pool is closed')
      return leg
    }
    const server = this.#servers.of(target)
    if (this.#other !== undefined && server.isLeft()) return this.#other.send(target, request, handler)
    const addresses = this.#servers.addresses(server, target)
    if (addresses instanceof Promise) this.#startLater(server, leg, addresses)
    else this.#start(server, leg, addresses)
    return leg
  }

  retain(targets: readonly UpstreamTarget[]): void {
    this.#servers.retain(targets)
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#stopTicker()
    for (const leg of this.#legs) leg?.abort()
    this.#legs.length = 0
    this.#servers.clear()
    native.closeUpstreamPool(this.#pool)
  }

  /** A server's TLS is not for us. The pool that its requests go to from now on; undefined = there is none. */
  leave(target: UpstreamTarget): UpstreamPool | undefined {
    // no other pool speaks it
    if (target.http2 === true) return undefined
    this.#servers.of(target).leftUntilMs = performance.now() + LEFT_MS
    return this.#other
  }

  /** A leg whose request was taken back. */
  abort(id: native.UpstreamLegHandle): void {
    this.#forget(native.upstreamSlot(id))
    if (!this.#isClosed) native.abortUpstream(this.#pool, id)
  }

  /** The data of the present event. Answers of one kind have one length: what shows it is not made again. */
  #view(length: number): Buffer {
    if (this.#lastView.length !== length) this.#lastView = this.#data.subarray(0, length)
    return this.#lastView
  }

  #forget(slot: number): void {
    if (this.#legs[slot] === undefined) return
    this.#legs[slot] = undefined
    this.#legCount--
  }

  #start(server: NativeServer, leg: Leg, addresses: readonly string[]): void {
    const handle = this.#servers.settle(server, leg.target, addresses)
    const { request } = leg
    if (!server.isPossible) {
      checkRequestHead(request.head)
      leg.failSoon('tls_failed', NO_VERIFYING, true)
      return
    }
    const { relayed } = request
    let sent =
      relayed === undefined
        ? native.UPSTREAM_NOT_KEPT
        : native.relayUpstream(this.#pool, handle, relayed.kept, relayed.lines, relayed.answerLines)
    if (sent === native.UPSTREAM_NOT_KEPT) {
      sent = native.sendUpstream(this.#pool, handle, request.head, request.bodyLength, request.body ?? null)
    }
    if (sent < 0) {
      if (sent === native.UPSTREAM_BAD_HEAD) throw new InvalidHeadError()
      if (sent === native.UPSTREAM_OVERFLOW) leg.failSoon('overflow', 'too many requests wait for a connection')
      else leg.failSoon('connect_failed', 'the target is gone')
      return
    }
    const id = native.upstreamLeg(sent)
    this.#legs[native.upstreamSlot(id)] = leg
    this.#legCount++
    leg.started(id, native.upstreamIsReused(sent))
    this.#startTicker()
  }

  #startLater(server: NativeServer, leg: Leg, asked: Promise<readonly string[]>): void {
    const { connectMs } = leg.target.timers
    const timer =
      connectMs > 0
        ? setTimeout(() => leg.fail('connect_timeout', `no address within ${connectMs} ms`, true), connectMs)
        : undefined
    asked.then(
      (addresses) => {
        clearTimeout(timer)
        if (leg.isOver) return
        if (this.#isClosed) leg.abort()
        else this.#start(server.isRetired ? this.#servers.of(leg.target) : server, leg, addresses)
      },
      (error: unknown) => {
        clearTimeout(timer)
        leg.fail('connect_failed', error instanceof Error ? error.message : String(error), true)
      },
    )
  }

  #startTicker(): void {
    if (this.#tickerHolds) return
    if (this.#ticker === undefined) this.#ticker = setInterval(() => this.#tick(), TICK_MS)
    else this.#ticker.ref()
    this.#tickerHolds = true
  }

  #stopTicker(): void {
    clearInterval(this.#ticker)
    this.#ticker = undefined
    this.#tickerHolds = false
  }

  #tick(): void {
    if (this.#legCount === 0) {
      if (this.#tickerHolds) this.#ticker?.unref()
      this.#tickerHolds = false
      this.#idleTicks = (this.#idleTicks + 1) % IDLE_TICKS
      if (this.#idleTicks !== 0) return
    }
    if (native.tickUpstream(this.#pool) === 0 && this.#legCount === 0) this.#stopTicker()
  }
}

/** One request. */
class Leg implements UpstreamLeg {
  #connectedAtMs = 0
  #connectionReused = false
  /** The same request in the other pool, if it was left to it. */
  #other: UpstreamLeg | undefined
  readonly target: UpstreamTarget
  readonly request: UpstreamRequest
  readonly #owner: NativePool
  readonly #pool: native.UpstreamPoolHandle
  #handler: UpstreamHandler | null
  /** 0 = not known to the native pool, or not any more. */
  #id: native.UpstreamLegHandle = 0
  #isPaused = false
  #isDelivering = false
  #bodyTouched = false
  // What has come and waits for `resume` (then it is ours), or is being handed on: no more than one read holds.
  #chunk: Uint8Array | undefined
  #hasEnded = false
  #failure:
    | { readonly reason: UpstreamFailureReason; readonly detail: string; readonly notProcessed: boolean }
    | undefined

  constructor(
    owner: NativePool,
    pool: native.UpstreamPoolHandle,
    target: UpstreamTarget,
    request: UpstreamRequest,
    handler: UpstreamHandler,
  ) {
    this.#owner = owner
    this.#pool = pool
    this.target = target
    this.request = request
    this.#handler = handler
  }

  get isOver(): boolean {
    return this.#handler === null
  }

  get connectedAtMs(): number {
    return this.#other?.connectedAtMs ?? this.#connectedAtMs
  }

  get connectionReused(): boolean {
    return this.#other?.connectionReused ?? this.#connectionReused
  }

  // What the front end calls.

  write(chunk: Uint8Array): boolean {
    if (this.#other !== undefined) return this.#other.write(chunk)
    if (this.#handler === null || this.#id === 0) return true
    this.#bodyTouched = true
    return native.writeUpstream(this.#pool, this.#id, chunk)
  }

  end(): void {
    if (this.#other !== undefined) {
      this.#other.end()
      return
    }
    if (this.#handler === null || this.#id === 0) return
    this.#bodyTouched = true
    native.endUpstream(this.#pool, this.#id)
  }

  pause(): void {
    this.#other?.pause()
    if (this.#isPaused) return
    this.#isPaused = true
    if (this.#id !== 0) native.pauseUpstream(this.#pool, this.#id)
  }

  resume(): void {
    this.#other?.resume()
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#deliver()
    if (!this.#isPaused && this.#id !== 0) native.resumeUpstream(this.#pool, this.#id)
  }

  detach(): void {
    this.#other?.detach()
    if (this.#handler === null) return
    this.#finish()
    this.resume()
  }

  abort(): void {
    this.#other?.abort()
    this.#finish()
    const id = this.#id
    if (id === 0) return
    this.#id = 0
    this.#owner.abort(id)
  }

  // What the pool calls.

  started(id: native.UpstreamLegHandle, isReused: boolean): void {
    this.#id = id
    if (this.#isPaused) native.pauseUpstream(this.#pool, id)
    if (!isReused) return
    this.#connectedAtMs = performance.now()
    this.#connectionReused = true
    const { body, bodyLength } = this.request
    if (body === undefined && bodyLength !== 0) queueMicrotask(() => this.#handler?.onUpstreamWritable())
  }

  /** The usual answer: all of it in one event. */
  receiveWhole(
    kind: number,
    status: number,
    head: string,
    bodyLength: number,
    contentLength: number,
    body: Uint8Array | undefined,
  ): void {
    const handler = this.#handler
    const hasPassed = (kind & native.UPSTREAM_PASSED) !== 0
    const isUsual = hasPassed || (!this.#isPaused && (kind & native.UPSTREAM_WRITABLE) === 0)
    if (handler?.onUpstreamAnswer === undefined || !isUsual) {
      this.receive(kind, status, head, bodyLength, contentLength, body)
      return
    }
    this.#id = 0
    this.#connected(kind)
    this.#finish()
    handler.onUpstreamAnswer(status, head, bodyLength, contentLength, body, hasPassed)
  }

  #connected(kind: number): void {
    if ((kind & (native.UPSTREAM_CONNECTED_NEW | native.UPSTREAM_CONNECTED_REUSED)) === 0) return
    this.#connectedAtMs = performance.now()
    this.#connectionReused = (kind & native.UPSTREAM_CONNECTED_REUSED) !== 0
  }

  receive(
    kind: number,
    status: number,
    text: string | undefined,
    bodyLength: number,
    contentLength: number,
    chunk: Uint8Array | undefined,
  ): void {
    if ((kind & (native.UPSTREAM_END | native.UPSTREAM_FAILURE)) !== 0) this.#id = 0
    if (this.#handler === null) {
      // Detached: only the end was still to come.
      if (chunk !== undefined) this.abort()
      return
    }
    this.#connected(kind)
    this.#chunk = chunk
    this.#hasEnded = (kind & native.UPSTREAM_END) !== 0
    if ((kind & native.UPSTREAM_FAILURE) !== 0) {
      if (status === native.UPSTREAM_TLS_INCOMPATIBLE && this.#leave()) return
      const reason = native.UPSTREAM_REASONS[status] ?? 'upstream_reset'
      this.#failure = { reason, detail: text ?? '', notProcessed: bodyLength === 1 }
    }
    this.#isDelivering = true
    if ((kind & native.UPSTREAM_WRITABLE) !== 0) this.#handler.onUpstreamWritable()
    if ((kind & native.UPSTREAM_HEAD) !== 0)
      this.#handler?.onUpstreamHead(status, text ?? '', bodyLength, contentLength)
    this.#isDelivering = false
    this.#deliver()
    // The pool's memory serves the next event.
    if (this.#chunk !== undefined && this.#chunk === chunk) this.#chunk = new Uint8Array(chunk)
  }

  /** Goes on in the other pool, from the beginning. False: there is none. */
  #leave(): boolean {
    const handler = this.#handler
    const other = handler === null ? undefined : this.#owner.leave(this.target)
    if (handler === null || other === undefined) return false
    this.#finish()
    this.#other = other.send(this.target, this.request, handler)
    if (this.#isPaused) this.#other.pause()
    return true
  }

  /** Fails before anything was tried, but not before `send` has returned. `mayLeave`: another pool may do better. */
  failSoon(reason: UpstreamFailureReason, detail: string, mayLeave = false): void {
    queueMicrotask(() => {
      if (!mayLeave || !this.#leave()) this.fail(reason, detail, true)
    })
  }

  fail(reason: UpstreamFailureReason, detail: string, notProcessed: boolean): void {
    const handler = this.#handler
    if (handler === null) return
    this.#finish()
    handler.onUpstreamFailure({ target: this.target, reason, detail, notProcessed, bodyConsumed: this.#bodyTouched })
  }

  /** Hands on what waits, in its order, as far as the receiver lets it. */
  #deliver(): void {
    if (this.#isDelivering) return
    this.#isDelivering = true
    const chunk = this.#chunk
    if (chunk !== undefined && !this.#isPaused) {
      this.#chunk = undefined
      const handler = this.#handler
      const isBorrowed = handler?.onUpstreamAnswer !== undefined
      handler?.onUpstreamData(isBorrowed ? chunk : new Uint8Array(chunk), isBorrowed)
    }
    this.#isDelivering = false
    const handler = this.#handler
    if (handler === null || this.#chunk !== undefined) return
    const failure = this.#failure
    if (failure !== undefined) {
      this.fail(failure.reason, failure.detail, failure.notProcessed)
    } else if (this.#hasEnded && !this.#isPaused) {
      this.#finish()
      handler.onUpstreamEnd()
    }
  }

  /** No event after this. */
  #finish(): void {
    this.#handler = null
    this.#chunk = undefined
  }
}
