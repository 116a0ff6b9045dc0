/**
 * Requests that a policy makes of internal endpoints: exchanges like any other, with policy, upstream and log line, but
 * with nobody on a wire. What the front end does for clients, this does for them: the answer is collected and given back.
 *
 * Source: traffic-policy.md §5.9 (`.internal` urls run the endpoint's policy).
 */
import { throughFilter } from '../body/filter-chain.ts'
import {
  NO_SOCKETS,
  type BodyFilter,
  type ExchangeHandle,
  type ExchangeRecord,
  type FrontEnd,
  type FrontEndEvents,
  NOTHING_OPEN,
  type OpenConnections,
  type Peer,
  type PreparedTls,
  type UpstreamFailure,
  type UpstreamTarget,
} from '../listener/front-end.ts'
import { failureOf, type OutboundAnswer, OutboundError, tooLarge } from '../outbound/answer.ts'
import type { Endpoint } from '../routing/endpoints.ts'
import type { UpstreamHandler, UpstreamLeg, UpstreamPool } from '../upstream/upstream-pool.ts'
import type { Exchange } from './exchange.ts'

export interface SubrequestOptions {
  readonly endpoint: Endpoint
  /** Request line and lines, as a front end would give them. */
  readonly head: string
  readonly body: Uint8Array
  readonly maxAnswerBytes: number
  /** Ends it; the answer is then rejected with `timeout`. */
  readonly signal: AbortSignal
}

/** Who can make an exchange for a subrequest: the spine. */
export interface Subrequests {
  /** Rejects with OutboundError. */
  subrequest(parent: Exchange, options: SubrequestOptions): Promise<OutboundAnswer>
}

/** The front end of one subrequest. */
export class SubrequestFrontEnd implements FrontEnd, UpstreamHandler {
  readonly capabilities = NO_SOCKETS
  readonly inFlight = 0
  readonly answer: Promise<OutboundAnswer>
  readonly #events: FrontEndEvents
  readonly #handle: ExchangeHandle
  readonly #peer: Peer
  readonly #pool: UpstreamPool
  readonly #options: SubrequestOptions
  #resolve!: (answer: OutboundAnswer) => void
  #reject!: (error: Error) => void
  #isOver = false
  #leg: UpstreamLeg | undefined
  #address = ''
  #chunks: Uint8Array[] = []
  #bytes = 0
  #upstreamEnded = false
  #collectBytes = -1
  #head: string | undefined
  #filter: (() => BodyFilter) | undefined
  #firstByteAtMs = 0

  constructor(
    events: FrontEndEvents,
    handle: ExchangeHandle,
    peer: Peer,
    pool: UpstreamPool,
    options: SubrequestOptions,
  ) {
    this.#events = events
    this.#handle = handle
    this.#peer = peer
    this.#pool = pool
    this.#options = options
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    if (options.signal.aborted) queueMicrotask(this.#onAbort)
    else options.signal.addEventListener('abort', this.#onAbort, { once: true })
  }

  readonly #onAbort = (): void => this.#fail('aborted', new OutboundError('timeout', 'no answer in time'))

  peer(): Peer {
    return this.#peer
  }

  readRequestBody(_: ExchangeHandle, limitBytes: number): void {
    const { body } = this.#options
    this.#events.onRequestBody(this.#handle, body.subarray(0, limitBytes), body.length <= limitBytes)
  }

  forward(_: ExchangeHandle, target: UpstreamTarget, head: string, body = this.#options.body): void {
    if (this.#isOver) return
    this.#leg?.abort()
    this.#collectBytes = -1
    this.#chunks = []
    this.#bytes = 0
    this.#upstreamEnded = false
    this.#address = target.host
    this.#leg = this.#pool.send(target, { head, bodyLength: body.length, body }, this)
  }

  /** The body is at hand, and nothing leaves before the end. */
  canRepeat(): boolean {
    return !this.#isOver
  }

  readResponseBody(_: ExchangeHandle, limitBytes: number): void {
    if (limitBytes <= this.#collectBytes) return
    this.#collectBytes = limitBytes
    if (this.#upstreamEnded || this.#bytes >= limitBytes) this.#collected()
    else this.#leg?.resume()
  }

  continueResponse(_: ExchangeHandle, head: string, body?: Uint8Array, filter?: () => BodyFilter): void {
    if (body !== undefined) {
      this.respond(this.#handle, head, body)
      return
    }
    this.#head = head
    this.#filter = filter
    if (this.#upstreamEnded) this.#finish()
    else if (this.#fits()) this.#leg?.resume()
  }

  respond(_: ExchangeHandle, head: string, body: Uint8Array | string): void {
    this.#leg?.abort()
    this.#head = head
    this.#filter = undefined
    this.#chunks = [typeof body === 'string' ? Buffer.from(body) : body]
    this.#finish()
  }

  abort(): void {
    this.#fail('aborted', new OutboundError('failed', 'the endpoint closed the connection'))
  }

  // ── upstream ──

  onUpstreamHead(status: number, head: string, bodyLength: number): void {
    this.#firstByteAtMs = performance.now()
    this.#leg?.pause()
    this.#events.onResponse(this.#handle, head, { status, bodyLength })
  }

  onUpstreamData(chunk: Uint8Array): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#head !== undefined) this.#fits()
    else if (this.#collectBytes !== -1 && this.#bytes >= this.#collectBytes) this.#collected()
  }

  onUpstreamEnd(): void {
    this.#leg = undefined
    this.#upstreamEnded = true
    if (this.#head !== undefined) this.#finish()
    else if (this.#collectBytes !== -1) this.#collected()
  }

  onUpstreamFailure(failure: UpstreamFailure): void {
    this.#leg = undefined
    this.#collectBytes = -1
    if (this.#head === undefined) this.#events.onUpstreamError(this.#handle, failure)
    else this.#fail('truncated', failureOf(failure))
  }

  onUpstreamWritable(): void {
    // the body went with the request
  }

  // ── not for subrequests ──

  listen(): Promise<void> {
    return Promise.resolve()
  }
  prepareTls(): PreparedTls {
    throw new Error('no listener')
  }
  closeListener(): void {}
  setLimits(): void {}
  drain(): void {}
  connectionsOf(): number {
    return 0
  }
  openOf(): OpenConnections {
    return NOTHING_OPEN
  }
  close(): Promise<void> {
    return Promise.resolve()
  }

  #collected(): void {
    this.#leg?.pause()
    const body = Buffer.concat(this.#chunks, this.#bytes)
    this.#chunks = [body]
    const limitBytes = this.#collectBytes
    const isWhole = this.#upstreamEnded && body.length <= limitBytes
    this.#events.onResponseBody(this.#handle, body.subarray(0, limitBytes), isWhole)
  }

  #fits(): boolean {
    const { maxAnswerBytes } = this.#options
    if (this.#bytes <= maxAnswerBytes) return true
    this.#fail('truncated', tooLarge(maxAnswerBytes))
    return false
  }

  #finish(): void {
    const head = this.#head!
    const filter = this.#filter
    const body = Buffer.concat(this.#chunks)
    if (body.length > this.#options.maxAnswerBytes) {
      this.#fail('truncated', tooLarge(this.#options.maxAnswerBytes))
      return
    }
    const status = Number(head.slice(9, 12))
    const answer = { status, head, body, address: this.#address }
    if (!this.#end('complete', status, body.length)) return
    if (filter === undefined || body.length === 0) this.#resolve(answer)
    else throughFilter(filter(), body).then((bytes) => this.#resolve({ ...answer, body: bytes }), this.#reject)
  }

  #fail(end: ExchangeRecord['end'], error: Error): void {
    this.#leg?.abort()
    this.#leg = undefined
    if (this.#end(end, 0, 0)) this.#reject(error)
  }

  /** False when it was over before. */
  #end(end: ExchangeRecord['end'], status: number, bytes: number): boolean {
    if (this.#isOver) return false
    this.#isOver = true
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    this.#events.onDone(this.#handle, {
      status,
      requestBodyBytes: this.#options.body.length,
      responseBodyBytes: bytes,
      end,
      connectedAtMs: this.#leg?.connectedAtMs ?? 0,
      firstByteAtMs: this.#firstByteAtMs,
      endedAtMs: performance.now(),
      connectionReused: this.#leg?.connectionReused ?? false,
    })
    return true
  }
}
