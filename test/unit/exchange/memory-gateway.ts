/**
 * The spine without sockets: policies loaded through the real loader, a front end that writes down what it is asked.
 * What happens is visible in the tick in which it happens, so that a test can tell what waited from what did not.
 */
import type { AccessLog, Logger } from '../../../src/access-log/logger.ts'
import type { MatchLog } from '../../../src/access-log/match-log.ts'
import { SharedBoard } from '../../../src/shared-state/board.ts'
import { TargetStates } from '../../../src/upstream/target-state.ts'
import { renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { loadConfiguration } from '../../../src/config/load.ts'
import { ExchangeHandler } from '../../../src/exchange/handle.ts'
import {
  NOTHING_OPEN,
  type ExchangeHandle,
  type FrontEnd,
  type Peer,
  type RequestFacts,
  type UpstreamFailure,
  type UpstreamFailureReason,
  type UpstreamTarget,
} from '../../../src/listener/front-end.ts'
import type { Metrics } from '../../../src/metrics/metrics.ts'
import type { GatewayServices } from '../../../src/process/services.ts'
import { buildSnapshot, type Snapshot } from '../../../src/process/snapshot.ts'
import type { TakeResult } from '../../../src/rate-limit/store.ts'
import { type Files, readerOf } from '../config/memory-files.ts'

/** One call into the front end. */
export type Call =
  | { readonly kind: 'forward'; readonly target: UpstreamTarget; readonly head: string }
  | { readonly kind: 'respond'; readonly head: string; readonly body: string }
  | { readonly kind: 'continue'; readonly head: string }
  | { readonly kind: 'abort' }
  | { readonly kind: 'readRequestBody' | 'readResponseBody'; readonly limitBytes: number }

export interface LogLine {
  readonly level: string
  readonly fields: Readonly<Record<string, unknown>>
  readonly message: string
}

export interface RequestOptions {
  readonly method?: string
  /** Empty: none, as HTTP/1.0 allows. */
  readonly host?: string
  readonly version?: RequestFacts['version']
  readonly path?: string
  /** Field lines with lower-case names, without Host. */
  readonly fields?: string
  /** -1: chunked. */
  readonly bodyLength?: number
}

export class MemoryGateway {
  readonly snapshot: Snapshot
  readonly handler: ExchangeHandler
  readonly log: LogLine[] = []
  /** Keys asked of the rate limit store. */
  readonly taken: string[] = []
  /** What the store answers; a promise makes the action wait. */
  take: () => TakeResult | Promise<TakeResult> = () => ({
    admitted: true,
    remaining: 1,
    retryAfterMs: 0,
    mode: 'memory',
  })
  peer: Peer = { address: '198.51.100.7', port: 40_000, localAddress: '127.0.0.1', localPort: 8080 }
  /** A test may put parts of its own there. */
  readonly services: GatewayServices
  readonly #calls = new Map<ExchangeHandle, Call[]>()
  #nextHandle = 1

  constructor(snapshot: Snapshot) {
    this.snapshot = snapshot
    const frontEnd = this.#frontEnd()
    this.services = this.#services()
    this.handler = new ExchangeHandler(snapshot, this.services, () => frontEnd)
    this.handler.activate(snapshot, new Map([[1, 0]]))
  }

  /** The connection is accepted. */
  connect(): boolean {
    return this.handler.onConnect(1, this.peer)
  }

  /** A request arrives; what the gateway did about it in the same tick is in `calls`. */
  request(options: RequestOptions = {}): MemoryExchange {
    const { method = 'GET', host = 'shop.example.com', path = '/', fields = '', bodyLength = 0, version } = options
    const handle = this.#nextHandle++
    const calls: Call[] = []
    this.#calls.set(handle, calls)
    const proxyFields = /^(?:x-|via:|forwarded:|trace)/m.test(fields)
    const facts = {
      listenerId: 1,
      bodyLength,
      receivedAtMs: performance.now(),
      connectionLines: '',
      proxyFields,
      version,
    }
    this.handler.onRequest(
      handle,
      `${method} ${path} HTTP/1.1\r\n${host === '' ? '' : `host: ${host}\r\n`}${fields}`,
      facts,
    )
    return new MemoryExchange(this, handle, calls)
  }

  warnings(code: string): readonly LogLine[] {
    return this.log.filter(({ fields }) => fields['code'] === code)
  }

  #frontEnd(): FrontEnd {
    const push = (handle: ExchangeHandle, call: Call): void => void this.#calls.get(handle)?.push(call)
    return {
      capabilities: {
        name: 'uws',
        http10: false,
        http2: false,
        trailers: false,
        tunnel: false,
        webSockets: true,
        tls: { versions: ['1.2', '1.3'], isFixed: true },
        proxyProtocol: false,
        strict: false,
        headLimits: true,
        slowHeads: false,
        interimAnswers: false,
        halfClose: false,
      },
      listen: () => Promise.resolve(),
      closeListener: () => {},
      prepareTls: () => ({ commit: () => {}, abort: () => {} }),
      setLimits: () => {},
      drain: () => {},
      inFlight: 0,
      connectionsOf: () => 0,
      openOf: () => NOTHING_OPEN,
      peer: () => this.peer,
      readRequestBody: (handle, limitBytes) => push(handle, { kind: 'readRequestBody', limitBytes }),
      forward: (handle, target, head) => push(handle, { kind: 'forward', target, head }),
      canRepeat: () => true,
      readResponseBody: (handle, limitBytes) => push(handle, { kind: 'readResponseBody', limitBytes }),
      continueResponse: (handle, head) => push(handle, { kind: 'continue', head }),
      respond: (handle, head, body) => push(handle, { kind: 'respond', head, body: Buffer.from(body).toString() }),
      abort: (handle) => push(handle, { kind: 'abort' }),
      close: () => Promise.resolve(),
    }
  }

  #services(): GatewayServices {
    const write =
      (level: string) =>
      (fields: Record<string, unknown>, message: string): void =>
        void this.log.push({ level, fields, message })
    const logger = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
    return {
      logger: logger as unknown as Logger,
      accessLog: new Proxy({}, { get: () => () => {} }) as AccessLog,
      matchLog: new Proxy({}, { get: () => () => {} }) as unknown as MatchLog,
      metrics: new Proxy({}, { get: () => () => {} }) as Metrics,
      rateLimits: {
        take: (key) => {
          this.taken.push(key)
          return this.take()
        },
        close: () => Promise.resolve(),
      },
      jwt: undefined as unknown as GatewayServices['jwt'],
      openid: undefined as unknown as GatewayServices['openid'],
      threads: undefined as unknown as GatewayServices['threads'],
      instanceId: 'gw1',
    } as Partial<GatewayServices> as GatewayServices
  }
}

export class MemoryExchange {
  readonly calls: readonly Call[]
  readonly #gateway: MemoryGateway
  readonly #handle: ExchangeHandle

  constructor(gateway: MemoryGateway, handle: ExchangeHandle, calls: readonly Call[]) {
    this.#gateway = gateway
    this.#handle = handle
    this.calls = calls
  }

  /** The last call, which must be of this kind. */
  last<K extends Call['kind']>(kind: K): Extract<Call, { kind: K }> {
    const call = this.calls.at(-1)
    if (call?.kind !== kind) throw new Error(`no ${kind} but ${JSON.stringify(call)}`)
    return call as Extract<Call, { kind: K }>
  }

  /** Status of the answer. */
  get status(): number {
    return Number(/^HTTP\/1\.1 (\d+)/.exec(this.last('respond').head)?.[1])
  }

  answers(status: number, fields = '', bodyLength = 0): void {
    this.#gateway.handler.onResponse(this.#handle, `HTTP/1.1 ${status} X\r\n${fields}`, { status, bodyLength })
  }

  fails(reason: UpstreamFailureReason, more: Partial<UpstreamFailure> = {}): void {
    const { target } = this.last('forward')
    const failure = { target, reason, detail: '', notProcessed: false, bodyConsumed: false, ...more }
    this.#gateway.handler.onUpstreamError(this.#handle, failure)
  }

  bodyArrives(text: string, complete = true): void {
    this.#gateway.handler.onRequestBody(this.#handle, Buffer.from(text), complete)
  }

  /** The client has gone, or everything was sent. */
  done(): void {
    this.#gateway.handler.onDone(this.#handle, {
      status: 0,
      requestBodyBytes: 0,
      responseBodyBytes: 0,
      end: 'client_abort',
      connectedAtMs: 0,
      firstByteAtMs: 0,
      endedAtMs: 0,
      connectionReused: false,
    })
  }
}

/** Builds what a worker serves; throws with the rendered diagnostics. */
export async function snapshotOf(files: Files): Promise<Snapshot> {
  const reader = readerOf(files)
  const loaded = loadConfiguration({ files: ['gateway.yaml'] }, reader)
  const snapshot = await buildSnapshot(loaded, reader, '/m/state', {
    states: new TargetStates(SharedBoard.local()),
    addresses: { version: 0, known: () => undefined },
  })
  if (snapshot === undefined) throw new Error(loaded.diagnostics.all.map((it) => renderDiagnostic(it)).join('\n'))
  return snapshot
}

/** One agent endpoint, `shop.example.com`, with this policy; `more`: endpoints as list items, settings before them. */
export async function gatewayWith(
  policy: string,
  more: { readonly endpoints?: string; readonly settings?: string; readonly files?: Files } = {},
): Promise<MemoryGateway> {
  const settings = [
    ...(more.settings?.includes('listeners:') === true ? [] : ['listeners: [{address: 127.0.0.1:8080}]']),
    more.settings ?? '',
    'endpoints:',
    '  - {name: shop, url: "http://shop.example.com:8080", upstream: {url: "http://127.0.0.1:9000"}, traffic_policy_file: policy.yaml}',
    more.endpoints ?? '',
  ].join('\n')
  return new MemoryGateway(await snapshotOf({ 'gateway.yaml': settings, 'policy.yaml': policy, ...more.files }))
}
