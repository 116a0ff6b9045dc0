/** The front end with a trivial gateway behind it: no policy, everything goes to one upstream. */
import './head-limit.ts'
import type {
  Engine,
  ExchangeHandle,
  ExchangeRecord,
  FrontEnd,
  FrontEndEvents,
  FrontEndLimits,
  Peer,
  RefusedRequest,
  RequestFacts,
  ResponseFacts,
  UpstreamFailure,
  UpstreamTarget,
} from '../../src/listener/front-end.ts'
import { NativeFrontEnd } from '../../src/listener/native/native-front-end.ts'
import { UwsFrontEnd } from '../../src/listener/uws.ts'
import { AddressBook } from '../../src/upstream/address-book.ts'
import { UndiciPool } from '../../src/upstream/pool.ts'
import { UpstreamPools } from '../../src/upstream/pools.ts'
import type { UpstreamPool } from '../../src/upstream/upstream-pool.ts'
import { echoTls } from './echo-upstream.ts'
import { testEngine } from './test-engine.ts'

export const WIRE_LIMITS: FrontEndLimits = {
  headBytes: 64 * 1024,
  uriBytes: 16 * 1024,
  bodyBytes: 0,
  streamBufferBytes: 256 * 1024,
  webSocket: { maxMessageBytes: 1024 * 1024, idleMs: 300_000, pingMs: 20_000, maxOpen: 100, compress: false },
}

export function target(port: number, options: Partial<UpstreamTarget> = {}): UpstreamTarget {
  const ca = echoTls.material?.certificate
  const tls = ca === undefined ? {} : { protocol: 'https' as const, tls: { verify: true, ca, ...options.tls } }
  return {
    name: `127.0.0.1:${port}`,
    protocol: 'http',
    host: '127.0.0.1',
    port,
    timers: { connectMs: 3_000, queueMs: 2_000, firstByteMs: 60_000, idleMs: 300_000, keepAliveMs: 60_000 },
    maxConnections: 256,
    maxQueued: 1024,
    ...options,
    ...tls,
  }
}

const STATUS: Record<UpstreamFailure['reason'], string> = {
  connect_failed: '502 Bad Gateway',
  connect_timeout: '504 Gateway Timeout',
  tls_failed: '502 Bad Gateway',
  upstream_reset: '502 Bad Gateway',
  upstream_bad_response: '502 Bad Gateway',
  first_byte_timeout: '504 Gateway Timeout',
  idle_timeout: '504 Gateway Timeout',
  overflow: '503 Service Unavailable',
}

/** Forwards everything, records everything; a test replaces single methods. */
export class PlainEvents implements FrontEndEvents {
  frontEnd!: FrontEnd
  target!: UpstreamTarget
  readonly heads: string[] = []
  readonly facts: RequestFacts[] = []
  readonly responses: { head: string; facts: ResponseFacts }[] = []
  readonly failures: UpstreamFailure[] = []
  readonly done: { handle: ExchangeHandle; record: ExchangeRecord }[] = []
  readonly refused: RefusedRequest[] = []
  readonly peers: Peer[] = []
  onConnect?: (listenerId: number, peer: Peer) => boolean

  onRequest(handle: ExchangeHandle, head: string, facts: RequestFacts): void {
    this.heads.push(head)
    this.facts.push(facts)
    this.peers.push(this.frontEnd.peer(handle))
    this.frontEnd.forward(handle, this.target, head)
  }
  onRequestBody(_handle: ExchangeHandle, _body: Uint8Array, _complete: boolean): void {}
  onResponse(handle: ExchangeHandle, head: string, facts: ResponseFacts): void {
    this.responses.push({ head, facts })
    this.frontEnd.continueResponse(handle, head)
  }
  onResponseBody(_handle: ExchangeHandle, _body: Uint8Array, _complete: boolean): void {}
  onUpstreamError(handle: ExchangeHandle, failure: UpstreamFailure): void {
    this.failures.push(failure)
    this.frontEnd.respond(
      handle,
      `HTTP/1.1 ${STATUS[failure.reason]}\r\ncontent-type: text/plain\r\n`,
      `${failure.reason}\n`,
    )
  }
  onDone(handle: ExchangeHandle, record: ExchangeRecord): void {
    this.done.push({ handle, record })
  }
  onRefused(refused: RefusedRequest): void {
    this.refused.push(refused)
  }
}

/** The pool behind the gateways of a test file; `wire-native.ts` chooses the other one for the files imported after it. */
export const wirePool: { name: 'undici' | 'native' } = { name: 'undici' }

export interface WireGateway<E extends PlainEvents> {
  readonly port: number
  readonly frontEnd: FrontEnd & (UwsFrontEnd | NativeFrontEnd)
  readonly pool: UpstreamPool
  readonly events: E
  readonly errors: unknown[]
  close(): Promise<void>
}

export async function startWireGateway<E extends PlainEvents>(
  events: E,
  upstream: UpstreamTarget,
  options: {
    readonly limits?: Partial<FrontEndLimits>
    readonly proxyProtocol?: boolean
    readonly host?: string
    readonly progressWindowMs?: number
    readonly engine?: Engine
    /** See library-head.ts. */
    readonly readsMemory?: boolean
  } = {},
): Promise<WireGateway<E>> {
  const limits = { ...WIRE_LIMITS, ...options.limits }
  const bufferBytes = limits.streamBufferBytes
  const pool = wirePool.name === 'native' ? new UpstreamPools({ bufferBytes }) : new UndiciPool({ bufferBytes })
  const errors: unknown[] = []
  const shared = {
    events,
    limits,
    report: (error: unknown) => errors.push(error),
    ...(options.progressWindowMs === undefined ? {} : { progressWindowMs: options.progressWindowMs }),
  }
  const frontEnd =
    (options.engine ?? testEngine) === 'native'
      ? new NativeFrontEnd({ ...shared, addressBook: new AddressBook() })
      : new UwsFrontEnd({ ...shared, pool, readsMemory: options.readsMemory ?? true })
  events.frontEnd = frontEnd
  events.target = upstream
  await frontEnd.listen({
    id: 1,
    host: options.host ?? '127.0.0.1',
    port: 0,
    proxyProtocol: options.proxyProtocol ?? false,
  })
  return {
    port: frontEnd.portOf(1),
    frontEnd,
    pool,
    events,
    errors,
    close: async () => {
      await frontEnd.close()
      await pool.close()
    },
  }
}
