/**
 * A front end without sockets: one request at a time from memory, an upstream that answers what it was told to. The
 * gateway behind it is the real one.
 */
import {
  NO_SOCKETS,
  NOTHING_OPEN,
  type BodyFilter,
  type ExchangeHandle,
  type FrontEnd,
  type FrontEndEvents,
  type FrontEndLimits,
  type OpenConnections,
  type Peer,
  type UpstreamFailureReason,
  type UpstreamTarget,
} from '../listener/front-end.ts'
import { readHead, type HeadRefusal, type RequestHead } from '../listener/read-head.ts'
import type { WrittenRequest } from './written-request.ts'

/** What the upstream shall answer, or how it shall fail. */
export interface UpstreamAnswer {
  readonly status: number
  readonly fields: readonly (readonly [name: string, value: string])[]
  readonly body: Uint8Array
  readonly failure?: UpstreamFailureReason | undefined
}

/** What went upstream. */
export interface UpstreamLeg {
  readonly target: string
  /** Request line and lines. */
  readonly head: string
  readonly body: Uint8Array
}

/** What came of a request. */
export interface OfflineAnswer {
  /** Status line and lines; empty when the connection was closed without an answer. */
  readonly head: string
  readonly body: Uint8Array
  readonly legs: readonly UpstreamLeg[]
  /** The front end refused it before any policy. */
  readonly refusal: HeadRefusal | undefined
}

interface Running {
  readonly request: WrittenRequest
  readonly answer: UpstreamAnswer
  readonly peer: Peer
  readonly head: RequestHead
  readonly legs: UpstreamLeg[]
  readonly startedAtMs: number
  readonly resolve: (answer: OfflineAnswer) => void
}

/** Requests go in one after the other; handles count up. */
export class OfflineFrontEnd implements FrontEnd {
  readonly capabilities = NO_SOCKETS
  readonly #running = new Map<ExchangeHandle, Running>()
  readonly #events: FrontEndEvents
  #limits: FrontEndLimits
  #lastHandle = 0

  constructor(events: FrontEndEvents, limits: FrontEndLimits) {
    this.#events = events
    this.#limits = limits
  }

  /** Sends a request through; resolves with what came of it. */
  send(request: WrittenRequest, peer: Peer, answer: UpstreamAnswer): Promise<OfflineAnswer> {
    const query = request.target.indexOf('?')
    const head = readHead(
      {
        getCaseSensitiveMethod: () => request.method,
        getUrl: () => (query === -1 ? request.target : request.target.slice(0, query)),
        getQuery: () => (query === -1 ? undefined : request.target.slice(query + 1)),
        forEach: (take) => {
          for (const [name, value] of request.fields) {
            take(name.toLowerCase(), Buffer.from(value, 'latin1').toString('utf8'))
          }
        },
      },
      this.#limits,
    )
    if ('status' in head) {
      return Promise.resolve({ head: '', body: new Uint8Array(0), legs: [], refusal: head })
    }
    const handle = ++this.#lastHandle
    return new Promise((resolve) => {
      const startedAtMs = performance.now()
      this.#running.set(handle, { request, answer, peer, head, legs: [], startedAtMs, resolve })
      this.#events.onRequest(handle, head.head, {
        listenerId: 1,
        bodyLength: request.body.length,
        receivedAtMs: startedAtMs,
        connectionLines: head.connectionLines,
        proxyFields: head.proxyFields,
      })
    })
  }

  get inFlight(): number {
    return this.#running.size
  }

  peer(handle: ExchangeHandle): Peer {
    return this.#running.get(handle)!.peer
  }

  readRequestBody(handle: ExchangeHandle, limitBytes: number): void {
    this.#soon(handle, ({ request: { body } }) => {
      this.#events.onRequestBody(handle, body.slice(0, limitBytes), body.length <= limitBytes)
    })
  }

  canRepeat(): boolean {
    return true
  }

  forward(handle: ExchangeHandle, target: UpstreamTarget, head: string, body?: Uint8Array): void {
    const running = this.#running.get(handle)
    if (running === undefined) return
    const { answer, request, legs } = running
    legs.push({ target: target.name, head, body: body ?? request.body })
    this.#soon(handle, () => {
      if (answer.failure !== undefined) {
        const isUnreachable = answer.failure === 'connect_failed' || answer.failure === 'connect_timeout'
        this.#events.onUpstreamError(handle, {
          target,
          reason: answer.failure,
          detail: 'as the test says',
          notProcessed: isUnreachable,
          bodyConsumed: !isUnreachable && request.body.length > 0,
        })
        return
      }
      const lines = answer.fields.map(([name, value]) => `${name.toLowerCase()}: ${value}\r\n`).join('')
      const bodyLength = request.method === 'HEAD' ? 0 : answer.body.length
      this.#events.onResponse(handle, `HTTP/1.1 ${answer.status} \r\n${lines}`, { status: answer.status, bodyLength })
    })
  }

  readResponseBody(handle: ExchangeHandle, limitBytes: number): void {
    this.#soon(handle, ({ answer: { body } }) => {
      this.#events.onResponseBody(handle, body.slice(0, limitBytes), body.length <= limitBytes)
    })
  }

  continueResponse(handle: ExchangeHandle, head: string, body?: Uint8Array, filter?: () => BodyFilter): void {
    const running = this.#running.get(handle)
    if (running === undefined) return
    const whole = body ?? running.answer.body
    if (filter === undefined || running.request.method === 'HEAD' || whole.length === 0) {
      this.#end(handle, head, whole)
      return
    }
    const filtered: Uint8Array[] = []
    const end = (): void => {
      through.close()
      this.#end(handle, head, Buffer.concat(filtered))
    }
    const through = filter()
    through.attach({
      output: (chunk) => void filtered.push(chunk),
      ready: () => undefined,
      finished: end,
      // a client would see a truncated body
      broken: end,
    })
    through.write(whole.slice())
    through.end()
  }

  respond(handle: ExchangeHandle, head: string, body: Uint8Array | string): void {
    this.#end(handle, head, typeof body === 'string' ? Buffer.from(body) : body)
  }

  abort(handle: ExchangeHandle): void {
    this.#end(handle, '', new Uint8Array(0))
  }

  setLimits(limits: FrontEndLimits): void {
    this.#limits = limits
  }

  listen(): Promise<void> {
    return Promise.reject(new Error('nothing listens offline'))
  }

  prepareTls(): never {
    throw new Error('nothing listens offline')
  }

  closeListener(): void {}

  drain(): void {}

  connectionsOf(): number {
    return 0
  }

  openOf(): OpenConnections {
    return NOTHING_OPEN
  }

  close(): Promise<void> {
    for (const handle of this.#running.keys()) this.abort(handle)
    return Promise.resolve()
  }

  /** A socket would tell it in a later turn. */
  #soon(handle: ExchangeHandle, tell: (running: Running) => void): void {
    setImmediate(() => {
      const running = this.#running.get(handle)
      if (running !== undefined) tell(running)
    })
  }

  #end(handle: ExchangeHandle, head: string, body: Uint8Array): void {
    const running = this.#running.get(handle)
    if (running === undefined) return
    this.#running.delete(handle)
    const { request, legs, resolve } = running
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1] ?? 0)
    this.#events.onDone(handle, {
      status,
      requestBodyBytes: request.body.length,
      responseBodyBytes: body.length,
      end: status === 0 ? 'aborted' : 'complete',
      connectedAtMs: legs.length === 0 ? 0 : running.startedAtMs,
      firstByteAtMs: legs.length === 0 ? 0 : running.startedAtMs,
      endedAtMs: performance.now(),
      connectionReused: false,
    })
    resolve({ head, body: request.method === 'HEAD' ? new Uint8Array(0) : body, legs, refusal: undefined })
  }
}
