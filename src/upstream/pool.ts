/**
 * Keep-alive connections to upstreams over undici's dispatch interface; sole import of undici.
 *
 * One undici client per connection, so that the pool itself decides which connection is used (the most recently used
 * idle one), how many there are, and how many requests may wait. undici parses answers with llhttp in strict mode,
 * drops connections with unsolicited bytes, and sends a request to a reused connection only after a turn of the event
 * loop in which a close would have been noticed.
 *
 * Two deviations come with undici: a received `Content-Length: 0` of GET, HEAD, DELETE and OPTIONS is not sent on, and
 * POST, PUT and PATCH without a body get one (H-28). The version of an answer is not known (H-08 cannot be checked).
 *
 * Interim answers (1xx) are dropped, at most 16 per request (H-62 allows dropping them; the front end library sends
 * `100 Continue` by itself). Trailers are dropped.
 *
 * Source: H-31 … H-35, H-56, H-62, H-70, H-80, H-122; T-30, T-31, T-32, T-34, T-35.
 */
import { Readable } from 'node:stream'
import type { Socket } from 'node:net'
import { Client, type Dispatcher } from 'undici'
import type { UpstreamFailureReason, UpstreamTarget } from '../listener/front-end.ts'
import { ConnectError, openConnection } from './connector.ts'
import { checkRequestHead } from './request-head.ts'
import { type LatinBytes, readResponseHead } from './response-head.ts'
import { targetKey } from './target-key.ts'
import type { ConnectionCounts, UpstreamHandler, UpstreamLeg, UpstreamPool, UpstreamRequest } from './upstream-pool.ts'

/** Deadlines are looked at this often; a timer fires at most this much late. */
const TICK_MS = 100
const MAX_INTERIM = 16
/** Response head; beyond it `upstream_bad_response`. */
const MAX_RESPONSE_HEAD_BYTES = 128 * 1024

export interface PoolOptions {
  /** Request body bytes that may wait in memory per request (H-38). */
  readonly bufferBytes: number
}

export class UndiciPool implements UpstreamPool {
  readonly #options: PoolOptions
  readonly #targets = new Map<string, TargetPool>()
  readonly #legs = new Set<Leg>()
  #ticker: NodeJS.Timeout | undefined
  #closed = false

  constructor(options: PoolOptions) {
    this.#options = options
  }

  get connections(): ConnectionCounts {
    const counts = { active: 0, idle: 0, pending: 0 }
    for (const pool of this.#targets.values()) {
      const { open, idle, pending } = pool
      counts.active += open - idle
      counts.idle += idle
      counts.pending += pending
    }
    return counts
  }

  send(target: UpstreamTarget, request: UpstreamRequest, handler: UpstreamHandler): UpstreamLeg {
    checkRequestHead(request.head)
    const leg = new Leg(target, request, handler, this.#options.bufferBytes, this.#legs)
    this.#legs.add(leg)
    this.#ticker ??= setInterval(() => this.#tick(), TICK_MS).unref()
    if (this.#closed) {
      leg.refuse('connect_failed', 'the pool is closed')
      return leg
    }
    this.#poolOf(target).start(leg)
    return leg
  }

  retain(targets: readonly UpstreamTarget[]): void {
    const kept = new Set(targets.map(targetKey))
    for (const [key, pool] of this.#targets) {
      if (kept.has(key)) continue
      this.#targets.delete(key)
      pool.retire()
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#ticker)
    this.#ticker = undefined
    for (const leg of this.#legs) leg.abort()
    const pools = [...this.#targets.values()]
    this.#targets.clear()
    await Promise.all(pools.map((pool) => pool.destroy()))
  }

  #poolOf(target: UpstreamTarget): TargetPool {
    const key = targetKey(target)
    let pool = this.#targets.get(key)
    if (pool === undefined) {
      pool = new TargetPool(target)
      this.#targets.set(key, pool)
    } else {
      pool.target = target
    }
    return pool
  }

  #tick(): void {
    if (this.#legs.size === 0) {
      clearInterval(this.#ticker)
      this.#ticker = undefined
      return
    }
    const nowMs = performance.now()
    for (const leg of this.#legs) leg.checkDeadline(nowMs)
  }
}

/** The connections of one target, and the requests that wait for one. */
class TargetPool {
  target: UpstreamTarget
  readonly #idle: Connection[] = []
  readonly #all = new Set<Connection>()
  #waiting: Leg[] = []
  #retired = false

  constructor(target: UpstreamTarget) {
    this.target = target
  }

  get open(): number {
    let count = 0
    for (const connection of this.#all) if (connection.socket !== undefined) count++
    return count
  }

  get idle(): number {
    return this.#idle.filter(({ socket }) => socket !== undefined).length
  }

  get pending(): number {
    return this.#waiting.filter((leg) => !leg.isOver).length
  }

  start(leg: Leg): void {
    const connection = this.#take()
    if (connection !== undefined) {
      connection.run(leg)
      return
    }
    if (this.#waiting.length >= this.target.maxQueued) {
      this.#waiting = this.#waiting.filter((waiting) => !waiting.isOver)
      if (this.#waiting.length >= this.target.maxQueued) {
        leg.refuse('overflow', `${this.#waiting.length} requests wait for a connection`)
        return
      }
    }
    this.#waiting.push(leg)
    leg.wait()
  }

  #take(): Connection | undefined {
    let connection = this.#idle.pop()
    while (connection !== undefined && connection.client.destroyed) {
      this.#all.delete(connection)
      connection = this.#idle.pop()
    }
    if (connection !== undefined) return connection
    if (this.#all.size >= this.target.maxConnections) return undefined
    connection = new Connection(this)
    this.#all.add(connection)
    return connection
  }

  /** A connection has finished its request. */
  release(connection: Connection): void {
    let next = this.#waiting.shift()
    while (next !== undefined && next.isOver) next = this.#waiting.shift()
    if (next !== undefined) connection.run(next)
    else if (this.#retired) void connection.client.destroy()
    else this.#idle.push(connection)
  }

  /** No new requests come: idle connections close now, the others after their request. */
  retire(): void {
    this.#retired = true
    for (const connection of this.#idle.splice(0)) void connection.client.destroy()
  }

  async destroy(): Promise<void> {
    this.#retired = true
    this.#waiting = []
    await Promise.all([...this.#all].map((connection) => connection.client.destroy()))
    this.#all.clear()
  }
}

/** One connection, opened when first needed and again after a close. */
class Connection {
  readonly client: Client
  readonly pool: TargetPool
  socket: Socket | undefined
  /** Requests that the present socket has carried. */
  uses = 0

  constructor(pool: TargetPool) {
    this.pool = pool
    const { target } = pool
    const host = target.host.includes(':') ? `[${target.host}]` : target.host
    this.client = new Client(`${target.protocol}://${host}:${target.port}`, {
      // Only the socket matters; name and verification are the connector's (H-54).
      connect: ((_options: unknown, done: (error: Error | null, socket: Socket | null) => void) => {
        openConnection(pool.target, (error, socket) => {
          if (socket !== null) this.#opened(socket)
          done(error, socket)
        })
      }) as never,
      pipelining: 1,
      // Deadlines are ours: undici's have a resolution of a second, and their errors do not tell the phases apart.
      headersTimeout: 0,
      bodyTimeout: 0,
      keepAliveTimeout: target.timers.keepAliveMs > 0 ? target.timers.keepAliveMs : 4_000_000,
      keepAliveMaxTimeout: target.timers.keepAliveMs > 0 ? target.timers.keepAliveMs : 4_000_000,
      // H-82: give up a second before the upstream does.
      keepAliveTimeoutThreshold: 1_000,
      maxHeaderSize: MAX_RESPONSE_HEAD_BYTES,
      strictContentLength: true,
    })
  }

  #opened(socket: Socket): void {
    this.socket = socket
    this.uses = 0
    socket.once('close', () => {
      if (this.socket === socket) this.socket = undefined
    })
  }

  run(leg: Leg): void {
    leg.begin(this)
  }
}

/** Body of a streamed request: what the front end writes, handed to undici as a stream. */
class RequestBody extends Readable {
  readonly #leg: Leg
  #isFull = false

  constructor(leg: Leg, bufferBytes: number) {
    super({ highWaterMark: bufferBytes })
    this.#leg = leg
    // undici destroys it with the error that the leg is told anyway.
    this.on('error', ignore)
  }

  write(chunk: Uint8Array): boolean {
    this.#isFull = !this.push(chunk)
    return !this.#isFull
  }

  override _read(): void {
    if (!this.#isFull) return
    this.#isFull = false
    this.#leg.bodyWritable()
  }
}

/** One request; implements undici's handler so that no closure is needed per request. */
class Leg implements UpstreamLeg {
  connectedAtMs = 0
  connectionReused = false

  readonly #target: UpstreamTarget
  readonly #request: UpstreamRequest
  readonly #legs: Set<Leg>
  #handler: UpstreamHandler | null
  #connection: Connection | null = null
  #body: RequestBody | null = null
  #abort: ((reason?: Error) => void) | null = null
  #resume: (() => void) | null = null
  #isPaused = false
  #isHead = false
  #headSeen = false
  #bodyTouched = false
  #interim = 0
  /** Inside `send`: events wait until it has returned. */
  #isStarting = false
  /** `performance.now()` at which `#deadlineReason` strikes; 0 = no deadline. */
  #deadlineAtMs = 0
  #deadlineReason: UpstreamFailureReason = 'first_byte_timeout'

  constructor(
    target: UpstreamTarget,
    request: UpstreamRequest,
    handler: UpstreamHandler,
    bufferBytes: number,
    legs: Set<Leg>,
  ) {
    this.#target = target
    this.#request = request
    this.#handler = handler
    this.#legs = legs
    if (request.body === undefined && request.bodyLength !== 0) this.#body = new RequestBody(this, bufferBytes)
  }

  get isOver(): boolean {
    return this.#handler === null
  }

  // What the front end calls.

  write(chunk: Uint8Array): boolean {
    if (this.#handler === null || this.#body === null) return true
    this.#bodyTouched = true
    return this.#body.write(Buffer.from(chunk)) // undici sends it later
  }

  end(): void {
    if (this.#handler === null || this.#body === null) return
    this.#bodyTouched = true
    this.#body.push(null)
  }

  pause(): void {
    this.#isPaused = true
    this.#deadlineAtMs = 0
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    if (this.#headSeen) this.#setDeadline('idle_timeout', this.#target.timers.idleMs)
    const resume = this.#resume
    if (resume !== null) resume()
  }

  detach(): void {
    if (this.#handler === null) return
    const isWaiting = this.#isPaused
    this.#finish()
    this.#isPaused = false
    if (isWaiting) this.#resume?.()
  }

  abort(): void {
    if (this.#handler === null) return
    this.#finish()
    this.#stop('aborted')
  }

  // What the pool calls.

  /** Waits for a connection to become free. */
  wait(): void {
    this.#setDeadline('overflow', this.#target.timers.queueMs)
  }

  begin(connection: Connection): void {
    this.#connection = connection
    this.#deadlineAtMs = 0
    const head = this.#request.head
    const lineEnd = head.indexOf('\r\n')
    const methodEnd = head.indexOf(' ')
    const targetEnd = head.indexOf(' ', methodEnd + 1)
    const method = head.slice(0, methodEnd)
    this.#isHead = method === 'HEAD'
    const fields: string[] = []
    let start = lineEnd + 2
    while (start < head.length) {
      const colon = head.indexOf(': ', start)
      const end = head.indexOf('\r\n', colon)
      if (colon === -1 || end === -1) break
      fields.push(head.slice(start, colon), head.slice(colon + 2, end))
      start = end + 2
    }
    const { body, bodyLength } = this.#request
    if (this.#body !== null && bodyLength > 0) fields.push('content-length', String(bodyLength))
    const options: Dispatcher.DispatchOptions & { servername?: string } = {
      path: head.slice(methodEnd + 1, targetEnd),
      method: method as Dispatcher.HttpMethod,
      headers: fields,
      body: body === undefined ? this.#body : body,
      // Every method may carry a body here (H-29), and HEAD is framed right by the parser: neither costs the connection.
      reset: false,
      // Constant per connection: undici would open a new one whenever the Host of the requests differs.
      servername: 'upstream',
    }
    this.#isStarting = true
    connection.client.dispatch(options, this as unknown as Dispatcher.DispatchHandler)
    this.#isStarting = false
  }

  /** Fails before anything was tried, but not before `send` has returned. */
  refuse(reason: UpstreamFailureReason, detail: string): void {
    queueMicrotask(() => this.fail(reason, detail, true))
  }

  fail(reason: UpstreamFailureReason, detail: string, notProcessed: boolean): void {
    const handler = this.#handler
    if (handler === null) return
    this.#finish()
    handler.onUpstreamFailure({
      target: this.#target,
      reason,
      detail,
      notProcessed,
      bodyConsumed: this.#bodyTouched,
    })
  }

  checkDeadline(nowMs: number): void {
    if (this.#deadlineAtMs === 0 || nowMs < this.#deadlineAtMs) return
    const reason = this.#deadlineReason
    const detail = reason === 'overflow' ? 'no connection became free in time' : 'no progress in time'
    this.fail(reason, detail, this.connectedAtMs === 0)
    this.#stop(reason)
  }

  bodyWritable(): void {
    this.#handler?.onUpstreamWritable()
  }

  // What undici calls.

  onConnect(abort: (reason?: Error) => void): void {
    if (this.#handler === null) {
      abort()
      return
    }
    this.#abort = abort
    const connection = this.#connection
    if (connection !== null) {
      this.connectionReused = connection.uses > 0
      connection.uses++
    }
    this.connectedAtMs = performance.now()
    this.#setDeadline('first_byte_timeout', this.#target.timers.firstByteMs)
    if (this.#body === null) return
    if (this.#isStarting) queueMicrotask(() => this.bodyWritable())
    else this.bodyWritable()
  }

  onBodySent(): void {
    if (!this.#headSeen) this.#setDeadline('first_byte_timeout', this.#target.timers.firstByteMs)
  }

  onRequestSent(): void {
    if (!this.#headSeen) this.#setDeadline('first_byte_timeout', this.#target.timers.firstByteMs)
  }

  onHeaders(status: number, fields: LatinBytes[], resume: () => void, reason: string): boolean {
    const handler = this.#handler
    if (handler === null) return true
    if (status >= 100 && status < 200) {
      this.#interim++
      if (this.#interim > MAX_INTERIM || status === 101) {
        this.fail(
          'upstream_bad_response',
          status === 101 ? '101 without an upgrade' : 'too many interim answers',
          false,
        )
        this.#stop('interim')
      }
      return true
    }
    const head = readResponseHead(status, reason, fields, this.#isHead)
    if (typeof head === 'string') {
      this.fail('upstream_bad_response', head, false)
      this.#stop('bad head')
      return true
    }
    this.#headSeen = true
    this.#resume = resume
    this.#setDeadline('idle_timeout', this.#target.timers.idleMs)
    handler.onUpstreamHead(status, head.head, head.bodyLength, head.contentLength)
    return !this.#isPaused
  }

  onData(chunk: Buffer): boolean {
    const handler = this.#handler
    if (handler === null) return true
    this.#setDeadline('idle_timeout', this.#target.timers.idleMs)
    handler.onUpstreamData(chunk, false)
    return !this.#isPaused
  }

  onComplete(): void {
    const handler = this.#handler
    if (handler !== null) {
      this.#finish()
      handler.onUpstreamEnd()
    }
    this.#giveBack()
  }

  onError(error: Error & { code?: string }): void {
    if (this.#isStarting) {
      queueMicrotask(() => this.onError(error))
      return
    }
    const handler = this.#handler
    if (handler !== null) this.fail(reasonOf(error, this.#headSeen), error.message, this.connectedAtMs === 0)
    this.#giveBack()
  }

  #setDeadline(reason: UpstreamFailureReason, afterMs: number): void {
    this.#deadlineReason = reason
    this.#deadlineAtMs = afterMs > 0 && !this.#isPaused ? performance.now() + afterMs : 0
  }

  /** No event after this. */
  #finish(): void {
    this.#handler = null
    this.#deadlineAtMs = 0
    this.#legs.delete(this)
  }

  /** Breaks the connection off (H-122), or leaves the queue. */
  #stop(why: string): void {
    const abort = this.#abort
    if (abort !== null) abort(new Error(why))
    this.#body?.destroy()
  }

  #giveBack(): void {
    const connection = this.#connection
    if (connection === null) return
    this.#connection = null
    // Not in this tick: bytes after the end of the answer are still being parsed, and must not meet a new request (T-31).
    setImmediate(release, connection)
  }
}

function ignore(): void {}

function release(connection: Connection): void {
  connection.pool.release(connection)
}

/** undici's error codes and the system's, as reasons of ours. */
function reasonOf(error: Error & { code?: string }, headSeen: boolean): UpstreamFailureReason {
  if (error instanceof ConnectError) return error.reason
  const code = error.code ?? ''
  if (code === 'UND_ERR_SOCKET')
    return /bad (?:response|upgrade)/.test(error.message) ? 'upstream_bad_response' : 'upstream_reset'
  if (code.startsWith('HPE_') || error.name === 'HTTPParserError') return 'upstream_bad_response'
  if (code === 'UND_ERR_HEADERS_OVERFLOW') return 'upstream_bad_response'
  // Also what undici says when a head with a Content-Length is itself wrong.
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH' && !headSeen) return 'upstream_bad_response'
  return 'upstream_reset'
}
