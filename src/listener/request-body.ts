/**
 * The body of one request on its way from the client: held until somebody says where it goes, collected for the gateway,
 * written upstream, or read and thrown away. The client is paused whenever nobody takes its bytes (H-38).
 *
 * Source: H-30, H-36 … H-38, H-71 (what is kept so that it can be sent again), H-83; T-04, F-10.
 */
import type { UpstreamLeg } from '../upstream/upstream-pool.ts'
import { ByteQueue, SMALL_BYTES } from './byte-queue.ts'
import type { FrontEndLimits } from './front-end.ts'
import type { HttpResponse } from './library.ts'

/** H-37: what we read and throw away of a body that nobody wants any more. */
export const DISCARD_BYTES: number = 64 * 1024
/**
 * What piles up at most while the client is paused. The library reads on for as long as each read fills its 512 KiB, whatever
 * was said in between; a client on the same machine, or on a very fast link, can keep that up.
 */
const MOST_HELD_BYTES = 64 * 1024 * 1024
/** H-71: what is kept of a request body so that it can be sent again. */
const REPLAY_BYTES = 64 * 1024

/** The exchange that a body belongs to. */
export interface RequestBodyOwner {
  /** Null when the library's object must not be touched any more. */
  readonly res: HttpResponse | null
  readonly frontEndLimits: FrontEndLimits
  /** Everything was sent: what still comes is read for politeness only. */
  readonly hasSentAnswer: boolean
  /** Answer to `collect`. */
  bodyCollected(body: Uint8Array, isComplete: boolean): void
  /** What was awaited is here, or as much of it as will come at once. */
  bodyDue(): void
  /** H-36: more came than is allowed. */
  bodyTooLarge(): void
  /** A body that nobody wanted has come to its end. */
  bodyDiscarded(): void
  failed(error: unknown): void
}

type Sink = 'hold' | 'collect' | 'await' | 'upstream' | 'discard'

export class RequestBody {
  readonly #owner: RequestBodyOwner
  /** As announced; -1 = chunked. */
  length = 0
  received = 0
  isComplete = false
  /** The library is not inside the segment that held the end of a chunked request. */
  isQuiet = true
  /** The client is not read from. */
  isPaused = false

  // upload progress, looked at from outside (H-83)
  windowStartMs = 0
  windowBytes = 0

  #sink: Sink = 'hold'
  readonly #held = new ByteQueue()
  #collectBytes = -1
  #discarded = 0
  #leg: UpstreamLeg | null = null
  #legWritable = false
  /** Small chunks wait for those behind them in the same segment. */
  #isFlushDue = false
  /** What was written upstream, kept while it is little, so that it can be written again (H-71). */
  #replay: Uint8Array[] = []
  #replayBytes = 0

  /** What the library calls with each piece: nothing may be thrown back into it. */
  readonly onData = (chunk: ArrayBuffer, isLast: boolean): void => {
    try {
      this.#data(chunk, isLast)
    } catch (error) {
      this.#owner.failed(error)
    }
  }
  readonly #settle = (): void => {
    try {
      this.#lastChunkSettled()
    } catch (error) {
      this.#owner.failed(error)
    }
  }
  readonly #flush = (): void => {
    this.#isFlushDue = false
    try {
      if (this.#legWritable && this.#held.bytes > 0) this.writable()
    } catch (error) {
      this.#owner.failed(error)
    }
  }

  constructor(owner: RequestBodyOwner) {
    this.#owner = owner
  }

  begin(length: number): void {
    this.length = length
    this.received = 0
    this.isComplete = length === 0
    this.isQuiet = true
    this.isPaused = false
    this.windowStartMs = this.windowBytes = 0
    this.#sink = 'hold'
    this.#held.clear()
    this.#collectBytes = -1
    this.#discarded = 0
    this.#leg = null
    this.#legWritable = false
    if (this.#replay.length > 0) this.#replay = []
    this.#replayBytes = 0
  }

  // ── from the client ──

  #data(chunk: ArrayBuffer, isLast: boolean): void {
    const { byteLength } = chunk
    this.received += byteLength
    this.windowBytes += byteLength
    if (byteLength > 0) this.#take(chunk)
    if (!isLast && this.#sink === 'await') this.#owner.bodyDue()
    if (this.#owner.res === null || !isLast || this.isComplete) return
    if (this.length !== -1) {
      this.#completed()
      return
    }
    // T-04: whatever follows in this segment makes the library close the connection; only if that does not happen is
    // the request complete.
    this.isQuiet = false
    setImmediate(this.#settle)
  }

  #lastChunkSettled(): void {
    // The connection may be gone and the slot may even serve another exchange.
    if (this.#owner.res === null || this.isQuiet) return
    this.isQuiet = true
    this.#completed()
  }

  #take(chunk: ArrayBuffer): void {
    const { bodyBytes, streamBufferBytes } = this.#owner.frontEndLimits
    const isTooLarge = bodyBytes > 0 && this.received > bodyBytes
    if (this.#sink !== 'discard' && (isTooLarge || (this.isPaused && this.#held.bytes > MOST_HELD_BYTES))) {
      this.#sink = 'discard'
      this.#held.clear()
      this.#owner.bodyTooLarge()
      return
    }
    switch (this.#sink) {
      case 'discard':
        this.#discarded += chunk.byteLength
        if (this.#discarded > DISCARD_BYTES && this.#owner.hasSentAnswer) this.pause()
        return
      case 'upstream':
        if (this.#legWritable && this.length === -1 && chunk.byteLength < SMALL_BYTES) {
          this.#hold(chunk)
          if (!this.#isFlushDue) {
            this.#isFlushDue = true
            setImmediate(this.#flush)
          }
          return
        }
        if (this.#held.bytes === 0 && this.#legWritable) {
          this.#write(new Uint8Array(chunk))
          if (!this.#legWritable) this.pause()
          return
        }
        this.#hold(chunk)
        if (this.#held.bytes >= streamBufferBytes) this.pause()
        return
      case 'collect':
        this.#hold(chunk)
        if (this.#held.bytes >= this.#collectBytes) this.#collected(false)
        return
      case 'await':
        this.#hold(chunk)
        return
      case 'hold':
        this.#hold(chunk)
        this.pause()
    }
  }

  /** The bytes are the library's only during its call. */
  #hold(chunk: ArrayBuffer): void {
    this.#held.pushCopy(new Uint8Array(chunk))
  }

  #completed(): void {
    this.isComplete = true
    // Left paused, the connection would never read its next request.
    this.resume()
    if (this.#sink === 'collect') this.#collected(true)
    else if (this.#sink === 'await') this.#owner.bodyDue()
    else if (this.#sink === 'upstream' && this.#held.bytes === 0) this.#leg?.end()
    else if (this.#sink === 'discard') this.#owner.bodyDiscarded()
  }

  pause(): void {
    const { res } = this.#owner
    if (this.isPaused || this.isComplete || res === null) return
    this.isPaused = true
    res.pause()
  }

  resume(): void {
    const { res } = this.#owner
    if (!this.isPaused || res === null) return
    this.isPaused = false
    this.windowStartMs = 0
    res.resume()
  }

  // ── to the gateway ──

  /** Collects up to `limitBytes`, answered once by `bodyCollected`. Ignored unless more is asked for than before. */
  collect(limitBytes: number): void {
    if (this.#sink !== 'hold' || limitBytes <= this.#collectBytes) return
    this.#collectBytes = limitBytes
    this.#sink = 'collect'
    if (this.isComplete || this.#held.bytes >= limitBytes) {
      this.#collected(this.isComplete)
      return
    }
    this.resume()
  }

  #collected(isComplete: boolean): void {
    this.#sink = 'hold'
    if (!isComplete) this.pause()
    // Stays here for the upstream: the gateway may look, not change.
    const body = this.joinHeld()
    const limitBytes = this.#collectBytes
    this.#owner.bodyCollected(body.subarray(0, limitBytes), isComplete && body.length <= limitBytes)
  }

  /** What was received and not passed on, in one piece. */
  joinHeld(): Uint8Array {
    return this.#held.join()
  }

  // ── to the upstream ──

  /** All of it is little, and may well lie in the segment that the head came in. */
  get mayComeAtOnce(): boolean {
    return this.length > 0 && this.length <= REPLAY_BYTES && this.received === 0
  }

  /** The owner waits for it before it asks the upstream: `bodyDue` comes with it. */
  await(): void {
    this.#sink = 'await'
    this.resume()
  }

  /** It is waited for no longer. */
  awaited(): void {
    if (this.#sink === 'await') this.#sink = 'hold'
  }

  /** Goes upstream from now on, as fast as the leg takes it. `leg` has just been sent. */
  streamTo(leg: UpstreamLeg): void {
    this.#sink = 'upstream'
    this.#leg = leg
    this.#legWritable = false
    if (this.#held.bytes < this.#owner.frontEndLimits.streamBufferBytes) this.resume()
  }

  /** The leg takes more. */
  writable(): void {
    const leg = this.#leg
    if (leg === null || this.#sink !== 'upstream') return
    this.#legWritable = true
    while (this.#held.bytes > 0 && this.#legWritable) this.#write(this.#held.shift())
    if (this.#held.bytes > 0) return
    if (this.isComplete) leg.end()
    else if (this.#legWritable) this.resume()
  }

  #write(chunk: Uint8Array): void {
    this.#replayBytes += chunk.length
    if (this.#replayBytes <= REPLAY_BYTES) this.#replay.push(chunk.slice())
    else this.#replay = []
    this.#legWritable = this.#leg!.write(chunk) // where it goes upstream, there is one
  }

  /** The leg is gone, whoever ended it. */
  legGone(): void {
    this.#leg = null
    this.#legWritable = false
  }

  // ── once more (H-71) ──

  /** What went upstream can be sent again from the beginning. */
  get isRepeatable(): boolean {
    return this.#replayBytes <= REPLAY_BYTES
  }

  /** There is an answer: nothing is sent again. */
  forgetReplay(): void {
    if (this.#replayBytes === 0) return
    this.#replay = []
    this.#replayBytes = Infinity
  }

  /** The leg has failed or its answer is not wanted: what went upstream comes back. False when it cannot be sent again. */
  retract(wasConsumed: boolean): boolean {
    const isGone = wasConsumed && !this.#takeBack()
    if (this.#sink !== 'upstream') return !isGone
    this.#sink = isGone ? 'discard' : 'hold'
    if (isGone) this.resume()
    return !isGone
  }

  #takeBack(): boolean {
    if (!this.isRepeatable) return false
    this.#held.putBack(this.#replay)
    this.#replay = []
    this.#replayBytes = 0
    return true
  }

  // ── nobody wants it ──

  /** Whatever still comes is thrown away; what is held stays, for a repeat. */
  discard(): void {
    this.#sink = 'discard'
    this.resume()
  }

  /** The exchange is over: memory is given back. */
  release(): void {
    this.#held.clear()
  }
}
