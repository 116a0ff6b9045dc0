/**
 * What a worker serves: services made once, a front end, and configurations that are swapped under it.
 *
 * Source: operations.md O-21, O-23 … O-26.
 */
import { availableParallelism } from 'node:os'
import { createLogger, openAccessLog, type Logger } from '../access-log/logger.ts'
import { MatchLog } from '../access-log/match-log.ts'
import { ConfigError } from '../config/diagnostic.ts'
import { BundleReader, loadBundle, type ConfigurationBundle } from '../config/load.ts'
import type { DnsSettings, ListenerSettings, Settings } from '../config/settings.ts'
import { ExchangeHandler } from '../exchange/handle.ts'
import { JwtService } from '../jwt/service.ts'
import type { FrontEndLimits, ListenTls, PreparedTls } from '../listener/front-end.ts'
import { FrontEnds } from '../listener/front-ends.ts'
import { NativeFrontEnd } from '../listener/native/native-front-end.ts'
import { UwsFrontEnd } from '../listener/uws.ts'
import { OpenidClients } from '../login/openid.ts'
import { type CollectionsHandle, openCollections } from '../native/collections.ts'
import { useTicketSecret } from '../native/front.ts'
import { openTransactions } from '../native/rule-set.ts'
import { stopNewConnections } from '../native/system.ts'
import { Metrics } from '../metrics/metrics.ts'
import { registerProcessMetrics, watchEventLoop } from '../metrics/process-metrics.ts'
import { MemoryStore } from '../rate-limit/memory-store.ts'
import { ExternalRequests } from '../outbound/external.ts'
import type { RateLimitStore } from '../rate-limit/store.ts'
import { SharedBoard, sharedBoard, useSharedBoard } from '../shared-state/board.ts'
import { ThreadPool } from '../threads/pool.ts'
import { targetKey } from '../upstream/target-key.ts'
import { UpstreamPools } from '../upstream/pools.ts'
import type { UpstreamPool } from '../upstream/upstream-pool.ts'
import { descriptorLimit, descriptorNeed } from './descriptor-need.ts'
import { reportDiagnostic } from './diagnostic-report.ts'
import { WORKER_STANDARD_OUTPUT, type TargetUse, type WorkerSetting } from './messages.ts'
import type { GatewayServices } from './services.ts'
import { buildSnapshot, type Snapshot, type UpstreamSources } from './snapshot.ts'
import type { PreparedConfiguration, WorkerProgram } from './worker.ts'
import { WorkerUpstreams } from './worker-upstreams.ts'

/** A turn of the event loop that takes no longer had nothing to do. */
const QUIET_TURN_MS = 0.03
/** Handshakes that have begun are given this long; a slow client's may be reset. */
const HANDSHAKE_MS = 150
/** How long to wait for such a turn before listeners close anyway. */
const LISTENER_CLOSE_MS = 250
/** O-47: what is spoken on connections, as the metric names it. */
const PROTOCOLS = [
  ['http/1.1', 'http1'],
  ['http/2', 'http2'],
  ['websocket', 'webSockets'],
] as const

/** The gateway in one worker. It listens nowhere before the first configuration is prepared. */
export function startGateway(setting: WorkerSetting): WorkerProgram {
  const { workerId, tickets } = setting
  if (tickets !== undefined) useTicketSecret(tickets)
  const metrics = new Metrics()
  const logger = createLogger({
    level: 'info',
    format: setting.logFormat,
    fields: { worker: workerId },
    onDropped: (lines) => metrics.logDropped('operational', lines),
  })
  registerProcessMetrics(metrics, `worker-${workerId}`)
  const stopWatching = watchEventLoop(metrics, workerId)
  if (setting.boardPath !== '') useSharedBoard(SharedBoard.open(setting.boardPath))
  const upstreams = new WorkerUpstreams(sharedBoard(), logger)
  let gateway: Gateway | undefined

  return {
    prepare: async (bundle) => {
      // the primary sends what it recorded
      const built = await build(bundle as ConfigurationBundle, setting, (dns) => upstreams.sources(dns))
      gateway ??= new Gateway(built, await openStores(built.snapshot.settings, setting, logger, metrics), {
        setting,
        logger,
        metrics,
        upstreams,
      })
      return gateway.prepare(built)
    },
    drain: () => gateway?.drain() ?? Promise.resolve(),
    get inFlight() {
      return gateway?.inFlight ?? 0
    },
    report: (known) => metrics.report(known),
    targetUses: () => gateway?.targetUses() ?? [],
    reopenLogs: () => gateway?.reopenLogs(),
    close: async () => {
      stopWatching()
      await gateway?.close()
      await logger.flush()
    },
    fatal: (error) => {
      logger.crit({ err: error }, 'worker ends after an internal error')
      gateway?.flushLogs()
      logger.flushSync()
    },
  }
}

interface Built {
  readonly snapshot: Snapshot
  readonly warnings: PreparedConfiguration['diagnostics']
}

/** The collections of this gateway; 0 = not opened yet. */
let collections: CollectionsHandle = 0

async function build(
  bundle: ConfigurationBundle,
  setting: WorkerSetting,
  sources: (dns: DnsSettings) => UpstreamSources,
): Promise<Built> {
  const loaded = loadBundle(bundle)
  const reader = new BundleReader(bundle)
  // one for the process: its rule sets come and go, what they keep stays
  if (setting.collectionsPath !== '' && collections === 0) collections = openCollections(setting.collectionsPath)
  const upstreams = sources(loaded.settings.upstream.dns)
  const snapshot = await buildSnapshot(loaded, reader, setting.stateDir, upstreams, collections)
  if (snapshot === undefined) throw new ConfigError(loaded.diagnostics.all)
  return { snapshot, warnings: loaded.diagnostics.all.map((diagnostic) => reportDiagnostic(diagnostic)) }
}

/** An address that is listened on. Ids are never used twice: the front end may still have connections under an old one. */
interface OpenListener {
  readonly port: number
  readonly id: number
  readonly identity: string
  /** What its clients are shown; '' without TLS. */
  readonly tlsIdentity: string
}

interface Stores {
  readonly memory: MemoryStore
  /** `memory` itself when there is no Redis. */
  readonly rateLimits: RateLimitStore
}

/** What there is before the first configuration. */
interface Basics {
  readonly setting: WorkerSetting
  readonly logger: Logger
  readonly metrics: Metrics
  readonly upstreams: WorkerUpstreams
}

class Gateway {
  readonly #workerId: number
  readonly #logger: Logger
  readonly #services: GatewayServices
  readonly #frontEnd: FrontEnds
  readonly #handler: ExchangeHandler
  readonly #memory: MemoryStore
  readonly #pool: UpstreamPool
  /** Once a listener runs on it; it has connections to upstreams of its own. */
  #native: NativeFrontEnd | undefined
  readonly #upstreams: WorkerUpstreams
  #listeners: readonly OpenListener[] = []
  #lastListenerId = 0
  readonly #watched = new Set<string>()
  #keySetUrls: readonly string[] = []

  constructor({ snapshot }: Built, stores: Stores, { setting, logger, metrics, upstreams }: Basics) {
    const { settings } = snapshot
    this.#workerId = setting.workerId
    this.#logger = logger
    this.#memory = stores.memory
    const maxThreads = threadShare(setting.workers)
    const threads = new ThreadPool({ maxThreads })
    const { streamBufferBytes } = settings.limits
    const pool = new UpstreamPools({ bufferBytes: streamBufferBytes, addressBook: upstreams.addressBook })
    this.#pool = pool
    this.#upstreams = upstreams
    upstreams.onChange = () => {
      this.#handler.decideAgain()
      this.#retain()
    }
    this.#services = {
      logger,
      metrics,
      threads,
      upstreams: pool,
      external: new ExternalRequests(),
      instanceId: setting.instanceId,
      accessLog: openAccessLog({
        output: settings.accessLog.output,
        standardOutput: WORKER_STANDARD_OUTPUT,
        onDropped: (lines) => metrics.logDropped('access', lines),
      }),
      matchLog: new MatchLog({ logger, metrics, modsecurityOutput: settings.waf.modsecurityLog }),
      rateLimits: stores.rateLimits,
      openid: new OpenidClients(),
      jwt: new JwtService({ ...settings.jwt, stateDirectory: setting.stateDir, threads, logger }),
    }
    this.#handler = new ExchangeHandler(snapshot, this.#services, (handle) =>
      handle === undefined ? this.#frontEnd : this.#frontEnd.of(handle),
    )
    const shared = {
      events: this.#handler,
      limits: frontEndLimits(snapshot),
      report: (error: unknown) => logger.error({ err: error }, 'an exchange failed'),
    }
    this.#frontEnd = new FrontEnds((engine) => {
      if (engine === 'uws') return new UwsFrontEnd({ ...shared, pool })
      this.#native = new NativeFrontEnd({
        ...shared,
        addressBook: upstreams.addressBook,
        maxScanThreads: maxThreads,
      })
      return this.#native
    })
    for (const state of ['active', 'idle', 'pending'] as const) {
      const ofNative = (): number => this.#native?.connections[state] ?? 0
      metrics.gauge('upstreamConnections', [state], () => pool.connections[state] + ofNative())
    }
    metrics.gauge('wafTransactions', [], openTransactions)
    countKeySetFetches(this.#services.jwt, metrics)
  }

  get inFlight(): number {
    return this.#frontEnd.inFlight
  }

  async prepare({ snapshot, warnings }: Built): Promise<PreparedConfiguration> {
    const open = new Map(this.#listeners.map((listener) => [listener.identity, listener]))
    const added: OpenListener[] = []
    const next: OpenListener[] = []
    const renewed: PreparedTls[] = []
    try {
      for (const [place, listener] of snapshot.settings.listeners.entries()) {
        const tls = snapshot.listenTls[place]
        const { address, engine, proxyProtocol } = listener
        const identity = `${address} ${engine} ${proxyProtocol} ${tls === undefined ? 'plain' : 'tls'}`
        const known = open.get(identity)
        if (known === undefined) {
          added.push(await this.#listen(listener, tls, identity))
          next.push(added.at(-1)!)
          continue
        }
        // the listen socket stays: only what new connections are shown changes (O-25)
        if (tls !== undefined && tls.identity !== known.tlsIdentity) {
          renewed.push(this.#frontEnd.prepareTls(known.id, tls))
        }
        next.push({ ...known, tlsIdentity: tls?.identity ?? '' })
      }
    } catch (error) {
      for (const tls of renewed) tls.abort()
      for (const { id } of added) this.#frontEnd.closeListener(id)
      snapshot.release()
      throw error
    }
    await this.#upstreams.prepare(snapshot)
    // fetched while the other workers still build, so that the first token after the swap finds its key
    const { jwt } = this.#services
    jwt.watch([...this.#keySetUrls, ...snapshot.keySetUrls])
    return {
      diagnostics: warnings,
      commit: () => this.#commit(snapshot, next, renewed),
      abort: () => {
        jwt.watch(this.#keySetUrls)
        for (const tls of renewed) tls.abort()
        for (const { id } of added) this.#frontEnd.closeListener(id)
        snapshot.release()
      },
    }
  }

  drain(): Promise<void> {
    const listeners = this.#listeners
    this.#listeners = []
    this.#frontEnd.drain()
    return this.#closeListeners(listeners)
  }

  /** Gauges of what this configuration is the first to name; they are read when metrics are collected. */
  #watch(snapshot: Snapshot): void {
    const { metrics } = this.#services
    for (const { address } of snapshot.settings.listeners) {
      if (this.#watched.has(`listener ${address}`)) continue
      this.#watched.add(`listener ${address}`)
      for (const [protocol, kind] of PROTOCOLS) {
        const count = (): number => this.#sumAt(address, (id) => this.#frontEnd.openOf(id)[kind])
        metrics.gauge('connections', [address, protocol, 'open'], count)
      }
    }
  }

  #sumAt(address: string, count: (listenerId: number) => number): number {
    const open = this.#listeners.filter(({ identity }) => identity.startsWith(`${address} `))
    return open.reduce((sum, { id }) => sum + count(id), 0)
  }

  /** Only these servers are used from now on. */
  #retain(): void {
    this.#pool.retain(this.#upstreams.targets)
    this.#native?.retain(this.#upstreams.targets)
  }

  /** O-38: load and response times of the targets, as this worker sees them. */
  targetUses(): readonly TargetUse[] {
    return this.#upstreams.uses(this.#handler.snapshot, (member) => this.#handler.standingTo(member))
  }

  reopenLogs(): void {
    try {
      this.#services.accessLog.reopen()
    } catch (error) {
      this.#logger.error({ err: error }, 'the access log cannot be opened anew; the old file is kept')
    }
    try {
      this.#services.matchLog.reopen()
    } catch (error) {
      this.#logger.error({ err: error }, 'waf.modsecurity_log cannot be opened anew; the old file is kept')
    }
  }

  flushLogs(): void {
    this.#services.accessLog.flushSync()
    this.#services.matchLog.flushSync()
  }

  async close(): Promise<void> {
    const { jwt, threads, external, rateLimits, accessLog, matchLog } = this.#services
    this.#upstreams.close()
    // closing ends the exchanges, and their log lines are still to be written
    await this.#frontEnd.close()
    await this.#pool.close()
    await Promise.allSettled([jwt.close(), external.close(), threads.close(), rateLimits.close(), this.#memory.close()])
    await Promise.all([accessLog.close(), matchLog.close()])
  }

  async #listen(listener: ListenerSettings, tls: ListenTls | undefined, identity: string): Promise<OpenListener> {
    const id = ++this.#lastListenerId
    const { host, port, proxyProtocol, engine } = listener
    await this.#frontEnd.listen({ id, engine, host, port, proxyProtocol, tls })
    return { id, identity, port, tlsIdentity: tls?.identity ?? '' }
  }

  /**
   * Closes them when nothing waits in their queues any more: the kernel resets connections that it has taken and we have
   * not (each worker has a queue of its own). First it is told to begin no more of them; those whose handshake is under way
   * come within a round trip. A port on which another listener stays is only waited for: a filter goes by port.
   */
  async #closeListeners(listeners: readonly OpenListener[]): Promise<void> {
    if (listeners.length === 0) return
    const staying = new Set(this.#listeners.map(({ port }) => port))
    const leaving = listeners.map(({ port }) => port).filter((port) => !staying.has(port))
    if (leaving.length > 0 && stopNewConnections(leaving) > 0) {
      await new Promise((resolve) => {
        setTimeout(resolve, HANDSHAKE_MS)
      })
    }
    const giveUpAtMs = performance.now() + LISTENER_CLOSE_MS
    // the first turn ends what is being handled now
    let beforeMs = await nextTurn()
    for (
      let nowMs = await nextTurn();
      nowMs - beforeMs > QUIET_TURN_MS && nowMs < giveUpAtMs;
      nowMs = await nextTurn()
    ) {
      beforeMs = nowMs
    }
    for (const { id } of listeners) this.#frontEnd.closeListener(id)
  }

  /** O-78; said once for all workers. */
  #compareDescriptors({ settings }: Snapshot): void {
    if (this.#workerId !== 1) return
    const limit = descriptorLimit()
    const targets = new Map(this.#upstreams.targets.map((target) => [targetKey(target), target.maxConnections]))
    const needed = descriptorNeed({
      listeners: settings.listeners.length,
      clients: settings.limits.connections,
      targets: [...targets.values()],
    })
    if (limit === undefined || limit >= needed) return
    this.#logger.warn(
      { limit, needed },
      'the limit of open files is lower than what a worker may need; raise it (ulimit -n, LimitNOFILE), or lower limits.connections and max_connections',
    )
  }

  #commit(snapshot: Snapshot, listeners: readonly OpenListener[], renewed: readonly PreparedTls[]): void {
    const { settings } = snapshot
    for (const tls of renewed) tls.commit()
    this.#handler.activate(snapshot, new Map(listeners.map(({ id }, place) => [id, place])))
    this.#frontEnd.setLimits(frontEndLimits(snapshot))
    this.#services.jwt.watch(snapshot.keySetUrls)
    this.#upstreams.use(snapshot)
    this.#retain()
    this.#watch(snapshot)
    this.#keySetUrls = snapshot.keySetUrls
    this.#logger.setLevel(settings.logLevel)
    this.#compareDescriptors(snapshot)
    const kept = new Set(listeners.map(({ id }) => id))
    const gone = this.#listeners.filter(({ id }) => !kept.has(id))
    this.#listeners = listeners
    void this.#closeListeners(gone)
  }
}

/** Resolves right after the event loop has looked for events and handled them; with the time. */
function nextTurn(): Promise<number> {
  return new Promise((resolve) => {
    setImmediate(() => resolve(performance.now()))
  })
}

function frontEndLimits({ settings, allowsUpgrades }: Snapshot): FrontEndLimits {
  const { limits, clients, webSocket } = settings
  const { headBytes, uriBytes, bodyBytes, streamBufferBytes } = limits
  const otherUpgrades = allowsUpgrades
  return { headBytes, uriBytes, bodyBytes, streamBufferBytes, webSocket, timers: clients, otherUpgrades }
}

/** Threads of one worker: the machine's cores divided among the workers, at least one. */
function threadShare(workers: number): number {
  return Math.max(1, Math.min(4, Math.ceil(availableParallelism() / workers)))
}

/** The gateway's own buckets, and Redis in front of them where the settings name one. */
async function openStores(
  settings: Settings,
  setting: WorkerSetting,
  logger: Logger,
  metrics: Metrics,
): Promise<Stores> {
  const memory = MemoryStore.open(setting.bucketsPath)
  const { url } = settings.redis
  if (url === undefined) return { memory, rateLimits: memory }
  let isUp = 0
  metrics.gauge('rateLimitStoreUp', [], () => isUp)
  // a tenth of a worker's start-up time that most gateways need not spend
  const { RedisStore } = await import('../rate-limit/redis-store.ts')
  const rateLimits = new RedisStore({
    redis: { url },
    local: memory,
    logger,
    gatewayId: setting.instanceId,
    mode: settings.rateLimit.mode,
    onAvailable: (isAvailable) => {
      isUp = isAvailable ? 1 : 0
    },
  })
  return { memory, rateLimits }
}

/** The service counts per key set, and key sets come and go: the series only grow. */
function countKeySetFetches(jwt: JwtService, metrics: Metrics): void {
  const counted = { success: 0, failure: 0 }
  const read = (result: 'success' | 'failure'): number => {
    const now = jwt.counters.keySets.reduce(
      (sum, { fetches, failures }) => sum + (result === 'failure' ? failures : fetches - failures),
      0,
    )
    counted[result] = Math.max(counted[result], now)
    return counted[result]
  }
  metrics.gauge('jwksRefresh', ['success'], () => read('success'))
  metrics.gauge('jwksRefresh', ['failure'], () => read('failure'))
}
