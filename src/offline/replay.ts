/**
 * Sends requests through a configuration that serves nobody: the real policies, rules and limits behind a front end
 * without sockets. Upstreams are not asked; they answer what the caller says.
 */
import { SharedBoard } from '../shared-state/board.ts'
import { TargetStates } from '../upstream/target-state.ts'
import { randomUUID } from 'node:crypto'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { openAccessLog, type Logger } from '../access-log/logger.ts'
import { MatchLog } from '../access-log/match-log.ts'
import { DiskReader, loadConfiguration, type ConfigurationInput, type LoadedConfiguration } from '../config/load.ts'
import type { Diagnostic } from '../config/diagnostic.ts'
import { ExchangeHandler } from '../exchange/handle.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { FetchedKeySet } from '../jwt/key-set-fetch.ts'
import { JwtService } from '../jwt/service.ts'
import { OpenidClients } from '../login/openid.ts'
import { ExternalRequests } from '../outbound/external.ts'
import { Metrics } from '../metrics/metrics.ts'
import type { GatewayServices } from '../process/services.ts'
import { buildSnapshot, type Snapshot } from '../process/snapshot.ts'
import { defaultStateDir } from '../process/state-dir.ts'
import { MemoryStore } from '../rate-limit/memory-store.ts'
import { ThreadPool } from '../threads/pool.ts'
import { NO_UPSTREAMS } from './no-upstreams.ts'
import { OfflineFrontEnd, type OfflineAnswer, type UpstreamAnswer } from './offline-front-end.ts'
import type { WrittenRequest } from './written-request.ts'
import { signTestToken, testKeySet, type TestAlgorithm } from './test-keys.ts'
import { Trace } from './trace.ts'

/** A request with where it comes from. */
export interface ReplayedRequest extends WrittenRequest {
  readonly clientAddress: string
  /** Claims of a token that goes along as `Authorization: Bearer`, signed by a key that every key set then holds. */
  readonly claims?: Readonly<Record<string, unknown>> | undefined
  /** Default RS256. */
  readonly algorithm?: TestAlgorithm | undefined
}

/** What came of a request. */
export interface Replayed extends OfflineAnswer {
  readonly trace: Trace
  /** As in the access log; empty when it was refused before any policy. */
  readonly reason: string
  readonly endpoints: readonly string[]
  readonly rule: string
  readonly action: string
  readonly wafRuleIds: readonly number[]
}

/** A configuration that cannot be replayed, with everything that is wrong with it. */
export class ReplayError extends Error {
  override readonly name = 'ReplayError'
  readonly diagnostics: readonly Diagnostic[]

  constructor(diagnostics: readonly Diagnostic[]) {
    super('the configuration was refused')
    this.diagnostics = diagnostics
  }
}

const CLIENT_PORT = 50_000
const LISTENER = '127.0.0.1'
/** Buckets of one request's limits; each replay of a test begins with empty ones. */
const BUCKETS = 4096

/** One configuration. Close it after use. */
export class Replay {
  readonly #build: () => Promise<Snapshot | undefined>
  /** Keeps the rule set in memory between runs. */
  readonly #kept: Snapshot
  readonly #threads = new ThreadPool({ maxThreads: 1 })
  readonly #metrics = new Metrics()
  readonly #logger: Logger
  readonly #stateDir: string
  readonly warnings: readonly Diagnostic[]

  private constructor(
    kept: Snapshot,
    build: () => Promise<Snapshot | undefined>,
    stateDir: string,
    warnings: readonly Diagnostic[],
  ) {
    this.#kept = kept
    this.#build = build
    this.#stateDir = stateDir
    this.warnings = warnings
    this.#logger = silentLogger()
  }

  /** Loads and builds as `run` does, and opens no socket. Rejects with ReplayError. */
  static async open(input: ConfigurationInput): Promise<Replay> {
    const reader = new DiskReader()
    const loaded = withSessionKeys(loadConfiguration(input, reader))
    const stateDir = resolve(loaded.settings.stateDir ?? defaultStateDir())
    const build = async (): Promise<Snapshot | undefined> => {
      const built = await buildSnapshot(loaded, reader, stateDir, {
        states: new TargetStates(SharedBoard.local()),
        addresses: { version: 0, known: () => undefined },
      })
      return built === undefined || input.inline === undefined ? built : forEveryHost(built)
    }
    const snapshot = await build()
    if (snapshot === undefined) throw new ReplayError(loaded.diagnostics.all)
    return new Replay(snapshot, build, stateDir, [...loaded.diagnostics.all])
  }

  /**
   * Sends the requests one after the other. Limits, circuits and ejected targets begin as in a gateway that just started,
   * and go on from request to request.
   */
  async run(requests: readonly ReplayedRequest[], answer: UpstreamAnswer): Promise<readonly Replayed[]> {
    const snapshot = await this.#build()
    // it was built before from the same files
    if (snapshot === undefined) throw new ReplayError(this.warnings)
    const { settings } = snapshot
    const bucketsPath = join(tmpdir(), `sallyport-offline-${randomUUID()}`)
    const rateLimits = MemoryStore.create(bucketsPath, BUCKETS)
    const usesOwnKeys = requests.some(({ claims }) => claims !== undefined)
    const jwt = new JwtService({
      ...settings.jwt,
      logger: this.#logger,
      threads: this.#threads,
      ...(usesOwnKeys ? { fetch: ownKeySet } : { stateDirectory: this.#stateDir }),
    })
    const services: GatewayServices = {
      logger: this.#logger,
      metrics: this.#metrics,
      threads: this.#threads,
      accessLog: openAccessLog({ output: 'off' }),
      matchLog: new MatchLog({ logger: this.#logger, metrics: this.#metrics, modsecurityOutput: 'off' }),
      rateLimits,
      jwt,
      openid: new OpenidClients(),
      upstreams: NO_UPSTREAMS,
      external: new ExternalRequests({
        pool: NO_UPSTREAMS,
        lookup: (name, done) => done(new Error(`${name} is not looked up here`), undefined),
      }),
      instanceId: 'offline',
    }
    try {
      const results: Replayed[] = []
      for (const request of requests) results.push(await this.#send(request, answer, snapshot, services))
      return results
    } finally {
      await jwt.close()
      await rateLimits.close()
      rmSync(bucketsPath, { force: true })
      snapshot.release()
    }
  }

  async close(): Promise<void> {
    this.#kept.release()
    await this.#threads.close()
  }

  async #send(
    request: ReplayedRequest,
    answer: UpstreamAnswer,
    built: Snapshot,
    services: GatewayServices,
  ): Promise<Replayed> {
    const trace = new Trace()
    let seen: Exchange | undefined
    const snapshot = trace.watch(built)
    const handler = new WatchedHandler(
      snapshot,
      services,
      () => frontEnd,
      (exchange) => (seen = exchange),
    )
    // the whole configuration is judged by its first listener
    handler.activate(snapshot, new Map([[1, 0]]))
    const { headBytes, uriBytes, bodyBytes, streamBufferBytes } = snapshot.settings.limits
    const frontEnd: OfflineFrontEnd = new OfflineFrontEnd(handler, {
      headBytes,
      uriBytes,
      bodyBytes,
      streamBufferBytes,
      webSocket: snapshot.settings.webSocket,
    })
    const { claims, algorithm = 'RS256', clientAddress } = request
    const fields = [...request.fields]
    if (claims !== undefined) fields.push(['authorization', `Bearer ${signTestToken(claims, algorithm)}`])
    const localPort = snapshot.settings.listeners[0]?.port ?? 80
    const peer = { address: clientAddress, port: CLIENT_PORT, localAddress: LISTENER, localPort }
    const came = await frontEnd.send({ ...request, fields }, peer, answer)
    return {
      ...came,
      trace,
      reason: came.refusal?.reason ?? seen?.reason ?? '',
      endpoints: seen?.frames.map(({ endpoint }) => endpoint.name) ?? [],
      rule: seen?.decidingRule ?? '',
      action: seen?.decidingAction ?? '',
      wafRuleIds: seen?.waf?.ruleIds ?? [],
    }
  }
}

/** Instead of the network, whatever the URL. */
function ownKeySet(): Promise<FetchedKeySet> {
  return Promise.resolve({ kind: 'document', text: testKeySet(), etag: undefined })
}

/** A policy that is tried alone stands before every host. */
function forEveryHost(snapshot: Snapshot): Snapshot {
  return { ...snapshot, defaultEndpoint: () => snapshot.endpoints.all[0] }
}

/** Shows each exchange before it is forgotten. */
class WatchedHandler extends ExchangeHandler {
  readonly #show: (exchange: Exchange) => void

  constructor(
    snapshot: Snapshot,
    services: GatewayServices,
    frontEnd: () => OfflineFrontEnd,
    show: (exchange: Exchange) => void,
  ) {
    super(snapshot, services, frontEnd)
    this.#show = show
  }

  override onDone(...[handle, record]: Parameters<ExchangeHandler['onDone']>): void {
    const exchange = this.exchange(handle)
    if (exchange !== undefined) this.#show(exchange)
    super.onDone(handle, record)
  }
}

function silentLogger(): Logger {
  const silent: Logger = {
    crit: () => undefined,
    error: () => undefined,
    warn: () => undefined,
    info: () => undefined,
    infoJson: () => undefined,
    debug: () => undefined,
    trace: () => undefined,
    writesInfo: false,
    fill: 0,
    setLevel: () => undefined,
    with: () => silent,
    flush: () => Promise.resolve(),
    flushSync: () => undefined,
  }
  return silent
}

/** Sessions of a replay end with it: no key of its own is made in the state folder, which may be another gateway's. */
function withSessionKeys(loaded: LoadedConfiguration): LoadedConfiguration {
  const { settings } = loaded
  if (settings.login.sessionKeys.length > 0) return loaded
  const sessionKeys = [randomUUID() + randomUUID()]
  return { ...loaded, settings: { ...settings, login: { ...settings.login, sessionKeys } } }
}
