/**
 * The primary process: forks the workers, hands them configurations in two steps, replaces the dead, drains.
 *
 * It never handles traffic (O-28). Everything it knows of a configuration is a checked bundle that it passes on; what
 * the bundle means is the workers' business.
 *
 * Source: operations.md O-20 … O-29; threats.md T-70, T-72, T-73, T-76.
 */
import cluster, { type Worker } from 'node:cluster'
import type { LogFields, Logger } from '../access-log/logger.ts'
import type { EndpointDefinition } from '../config/load.ts'
import type { DnsSettings, Settings } from '../config/settings.ts'
import { MetricsAggregate } from '../metrics/aggregate.ts'
import { renderExposition, type ExpositionFormat } from '../metrics/exposition.ts'
import { Metrics } from '../metrics/metrics.ts'
import { registerProcessMetrics } from '../metrics/process-metrics.ts'
import { automaticWorkers } from './cpu-quota.ts'
import { CrashHistory } from './crash-history.ts'
import { hasErrors, plainReport, type DiagnosticReport } from './diagnostic-report.ts'
import type { FromWorker, TargetUse, ToWorker, WorkerSetting } from './messages.ts'
import { addressText, portProblem, type ListenAddress } from './ports.ts'

/** What the primary reads of the settings. */
export type PrimarySettings = Pick<
  Settings,
  'workers' | 'drain' | 'logLevel' | 'redis' | 'admin' | 'accessLog' | 'jwt'
> & {
  readonly listeners: readonly ListenAddress[]
  readonly limits: Pick<Settings['limits'], 'headBytes' | 'uriBytes' | 'streamBufferBytes'>
  readonly webSocket: Pick<Settings['webSocket'], 'maxMessageBytes'>
  readonly rateLimit: Pick<Settings['rateLimit'], 'memoryBuckets' | 'mode'>
  readonly waf: Pick<Settings['waf'], 'modsecurityLog' | 'collectionRecords'>
}

/** A configuration as the primary checked it. */
export interface CheckedConfiguration {
  /** Errors and warnings; with an error there are no settings. */
  readonly reports: readonly DiagnosticReport[]
  readonly settings: PrimarySettings | undefined
  /** Until when the certificates of listeners are valid, by name. */
  readonly certificates: readonly { readonly name: string; readonly notAfterMs: number }[]
  /** The very texts that were checked, for the workers; plain JSON. */
  readonly bundle: unknown
  /** Equal when nothing changed. */
  readonly fingerprint: string
  /** Its endpoints, for whoever watches their upstreams. */
  readonly endpoints?: readonly EndpointDefinition[]
  readonly dns?: DnsSettings
}

export interface PrimaryOptions {
  /** Reads and checks the configuration anew; never rejects for bad content. */
  readonly check: () => Promise<CheckedConfiguration>
  /** Called with each configuration that serves in every worker. */
  readonly onAccepted: (configuration: CheckedConfiguration) => void
  readonly logger: Logger
  readonly stateDir: string
  readonly version: string
  /** Names this gateway towards other gateways. */
  readonly instanceId: string
  /** By which TLS sessions are resumed at any worker; asked for as each worker is told. */
  readonly tickets?: () => Uint8Array
  /** Where the board of shared states lies; absent: workers have boards of their own. */
  readonly boardPath?: string
  readonly logFormat: 'json' | 'text'
  /** What the front end's library wants to find in a worker's environment (F-07). */
  readonly workerEnvironment: (settings: PrimarySettings) => Readonly<Record<string, string>>
  /** The script that workers run; it must end in `runWorker`. */
  readonly workerScript: string
  /** Makes the shared tables: memory buckets, and collections of the rule matcher. Throws StartError when it cannot. */
  readonly createBuckets: (settings: PrimarySettings) => SharedBuckets
  readonly deadlines?: Partial<Deadlines>
}

/** The tables that all workers map. */
export interface SharedBuckets {
  readonly path: string
  /** The table of the rule matcher's collections beside it. */
  readonly collections: { readonly path: string; losses(): { evictions: number; refusals: number } }
  /** Buckets ever thrown out although their window still held counts. */
  evictions(): number
}

/** How long the primary waits for a worker, milliseconds. */
export interface Deadlines {
  /** From fork to `hello`. */
  readonly helloMs: number
  /** Building a configuration: rule sets take a second, on a busy machine several. */
  readonly prepareMs: number
  readonly commitMs: number
  /** Until every worker serves what was committed. */
  readonly liveMs: number
  readonly collectMs: number
  /** From `stop` to SIGKILL. */
  readonly stopMs: number
}

const DEADLINES: Deadlines = {
  helloMs: 30_000,
  prepareMs: 120_000,
  commitMs: 10_000,
  liveMs: 60_000,
  collectMs: 500,
  stopMs: 500,
}

/** Counters of a worker that dies are lost since the last collection. */
const COLLECT_EVERY_MS = 5000

/** A start that failed; `reports` say why. */
export class StartError extends Error {
  override readonly name = 'StartError'
  readonly reports: readonly DiagnosticReport[]

  constructor(reports: readonly DiagnosticReport[]) {
    super(reports.map((report) => report.rendered).join('\n'))
    this.reports = reports
  }
}

export interface ReloadResult {
  readonly ok: boolean
  /** False when the configuration is the one that serves already (O-25). */
  readonly changed: boolean
  readonly message: string
  readonly reports: readonly DiagnosticReport[]
  readonly generation: number
}

type SlotState = 'down' | 'starting' | 'live' | 'leaving'

/** One worker's place. */
interface Slot {
  readonly id: number
  worker: Worker | undefined
  state: SlotState
  /** What the worker serves; 0 = nothing yet. */
  generation: number
  /** `performance.now()` of the fork. */
  startedAtMs: number
  restarts: number
  inFlight: number
  /** What it told of its targets. */
  targets: readonly TargetUse[]
  /** It said how much it cut before it went. */
  hasTakenLeave: boolean
  /** Answers that someone waits for. */
  readonly waits: Set<Wait>
}

interface Wait {
  readonly accepts: (message: FromWorker) => boolean
  readonly settle: (result: FromWorker | Error) => void
}

interface Serving {
  readonly generation: number
  readonly configuration: CheckedConfiguration
  readonly settings: PrimarySettings
}

/** What the primary knows of itself and its workers. */
export interface PrimaryStatus {
  readonly state: string
  readonly ready: boolean
  readonly reasons: readonly string[]
  readonly pid: number
  readonly version: string
  readonly uptimeSeconds: number
  readonly stateDir: string
  readonly generation: number
  readonly configurationSince: string | undefined
  readonly lastReload:
    | {
        readonly at: string
        readonly ok: boolean
        readonly message: string
        readonly reports: readonly DiagnosticReport[]
      }
    | undefined
  readonly listeners: readonly string[]
  readonly workers: readonly {
    readonly id: number
    readonly pid: number | undefined
    readonly state: string
    readonly generation: number
    readonly restarts: number
    readonly inFlight: number
    readonly uptimeSeconds: number
  }[]
}

export class Primary {
  readonly #options: PrimaryOptions
  readonly #deadlines: Deadlines
  readonly #log: Logger
  readonly #slots: Slot[] = []
  readonly #crashes = new CrashHistory()
  readonly #aggregate = new MetricsAggregate()
  readonly #metrics = new Metrics()
  readonly #startedAtMs = performance.now()
  readonly #changes = new Set<() => void>()
  #state: 'starting' | 'running' | 'draining' | 'stopped' = 'starting'
  #hasBeenReady = false
  #serving: Serving | undefined
  #lastGeneration = 0
  #acceptedAt: Date | undefined
  readonly #certificateNames = new Set<string>()
  #lastReload: PrimaryStatus['lastReload']
  #bucketsPath = ''
  #collectionsPath = ''
  #collectTimer: NodeJS.Timeout | undefined
  #collectRequest = 0
  #reloading: Promise<ReloadResult> | undefined
  #queuedReload: Promise<ReloadResult> | undefined
  #replaceTimers = new Set<NodeJS.Timeout>()
  #draining: Promise<number> | undefined
  #hurry: (() => void) | undefined
  #hurried = false
  #cut = 0

  constructor(options: PrimaryOptions) {
    this.#options = options
    this.#deadlines = { ...DEADLINES, ...options.deadlines }
    this.#log = options.logger
    this.#metrics.setGauge('buildInfo', [options.version, process.version, 'uws'], 1)
    this.#metrics.gauge('configLastReloadSuccess', [], () => (this.#lastReload?.ok === false ? 0 : 1))
    this.#metrics.gauge('configLastReloadTimestamp', [], () => (this.#acceptedAt?.getTime() ?? 0) / 1000)
    registerProcessMetrics(this.#metrics, 'primary')
  }

  /**
   * Forks the workers and waits until each of them serves. Rejects with StartError when the configuration has errors,
   * an address is taken, or a worker cannot build what it was given.
   */
  async start(first: CheckedConfiguration): Promise<void> {
    const { settings } = first
    if (settings === undefined || hasErrors(first.reports)) throw new StartError(first.reports)
    const problems = await portProblems(settings.listeners)
    if (problems.length > 0) throw new StartError(problems)
    const buckets = this.#options.createBuckets(settings)
    this.#bucketsPath = buckets.path
    this.#collectionsPath = buckets.collections.path
    this.#metrics.gauge('wafCollectionLosses', ['evicted'], () => buckets.collections.losses().evictions)
    this.#metrics.gauge('wafCollectionLosses', ['refused'], () => buckets.collections.losses().refusals)
    this.#metrics.gauge('rateLimitBucketEvictions', [], () => buckets.evictions())
    this.#serving = { generation: ++this.#lastGeneration, configuration: first, settings }
    cluster.setupPrimary({
      exec: this.#options.workerScript,
      args: [],
      serialization: 'advanced',
      // the front end's library prints to standard output as it likes: the access log has a descriptor of its own
      stdio: ['ignore', 'ignore', 'inherit', 'ipc', 1],
    })
    const count = settings.workers === 'auto' ? automaticWorkers() : settings.workers
    for (let id = 1; id <= count; id++) {
      const slot: Slot = {
        id,
        worker: undefined,
        state: 'down',
        generation: 0,
        startedAtMs: 0,
        restarts: 0,
        inFlight: 0,
        targets: [],
        hasTakenLeave: false,
        waits: new Set(),
      }
      this.#slots.push(slot)
      this.#metrics.gauge('workerUp', [String(id)], () => (this.#isCurrent(slot) ? 1 : 0))
    }
    // the first attempt must succeed everywhere: what cannot be built now will not be built by trying again
    try {
      await Promise.all(this.#slots.map((slot) => this.#firstStart(slot)))
    } catch (error) {
      this.#state = 'stopped'
      await this.#stopWorkers()
      throw error
    }
    if (this.#state !== 'starting') return
    this.#state = 'running'
    this.#hasBeenReady = true
    this.#accepted(this.#serving)
    this.#collectTimer = setInterval(() => void this.#collect(), COLLECT_EVERY_MS).unref()
    this.#log.info(
      { workers: count, listeners: settings.listeners.map(addressText), generation: this.#serving.generation },
      'ready',
    )
  }

  /** Reads the configuration again and swaps it in every worker, or nowhere. Never rejects. */
  reload(): Promise<ReloadResult> {
    // who asks while one is under way gets the next: the running one may have read the files already
    if (this.#reloading === undefined) {
      this.#reloading = this.#guardedReload().finally(() => {
        this.#reloading = undefined
      })
      return this.#reloading
    }
    this.#queuedReload ??= this.#reloading.then(() => {
      this.#queuedReload = undefined
      return this.reload()
    })
    return this.#queuedReload
  }

  /**
   * O-21. Resolves with the exit code when no worker is left: 0 when nothing was cut, 4 otherwise. A second call does
   * not start a second drain; `stopNow` cuts it short.
   */
  drain(cause: string): Promise<number> {
    this.#draining ??= this.#drainOnce(cause)
    return this.#draining
  }

  /** Ends at once, whatever is in flight. Resolves like `drain`. */
  stopNow(cause: string): Promise<number> {
    this.#log.warn({ cause }, 'stopping at once')
    this.#hurried = true
    this.#hurry?.()
    this.#draining ??= this.#drainOnce(cause)
    return this.#draining
  }

  /** SIGUSR1: log files were moved. */
  reopenLogs(): void {
    for (const slot of this.#slots) this.#send(slot, { kind: 'reopen-logs' })
  }

  /** Why traffic should not come here now; empty = ready (O-36). */
  notReadyReasons(): readonly string[] {
    if (this.#state === 'starting') return ['starting']
    if (this.#state !== 'running') return ['draining']
    const reasons = this.#slots
      .filter((slot) => !this.#isCurrent(slot))
      .map((slot) =>
        slot.generation === 0 || slot.state !== 'live'
          ? `worker ${slot.id} is ${slot.state}`
          : `worker ${slot.id} serves an older configuration`,
      )
    if (this.#crashes.isLoop(performance.now())) {
      reasons.push(`workers died ${this.#crashes.recent(performance.now())} times within a minute`)
    }
    return reasons
  }

  /** O-36 `/startupz`: true once the first configuration served everywhere, for good. */
  get hasBeenReady(): boolean {
    return this.#hasBeenReady
  }

  status(): PrimaryStatus {
    const reasons = this.notReadyReasons()
    const nowMs = performance.now()
    return {
      state: this.#state,
      ready: reasons.length === 0,
      reasons,
      pid: process.pid,
      version: this.#options.version,
      uptimeSeconds: Math.round((nowMs - this.#startedAtMs) / 1000),
      stateDir: this.#options.stateDir,
      generation: this.#serving?.generation ?? 0,
      configurationSince: this.#acceptedAt?.toISOString(),
      lastReload: this.#lastReload,
      listeners: this.#serving?.settings.listeners.map(addressText) ?? [],
      workers: this.#slots.map((slot) => ({
        id: slot.id,
        pid: slot.worker?.process.pid,
        state: slot.state,
        generation: slot.generation,
        restarts: slot.restarts,
        inFlight: slot.inFlight,
        uptimeSeconds: slot.worker === undefined ? 0 : Math.round((nowMs - slot.startedAtMs) / 1000),
      })),
    }
  }

  /** Counts of the primary itself. */
  get metrics(): Metrics {
    return this.#metrics
  }

  /** What the workers do with their targets, as they told last; `collect` asks them. */
  get targetUses(): readonly TargetUse[] {
    return this.#slots.flatMap(({ targets }) => targets)
  }

  /** Asks all workers for their numbers; those that do not answer in time count with what they told last. */
  collect(): Promise<void> {
    return this.#collect()
  }

  /** All series of all processes, collected now (O-46). Workers that do not answer in time count with what they told last. */
  async exposition(format: ExpositionFormat): Promise<string> {
    await this.#collect()
    this.#aggregate.update('primary', this.#metrics.report(this.#aggregate.known('primary')))
    return renderExposition(this.#aggregate.sums(), format)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Workers

  #isCurrent(slot: Slot): boolean {
    return slot.state === 'live' && slot.generation === this.#serving?.generation
  }

  async #firstStart(slot: Slot): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#fork(slot)
        return
      } catch (error) {
        if (error instanceof StartError) throw error
        if (this.#state !== 'starting') return
        // a worker that dies is not a refused configuration: twice more, then it is a failed start
        if (attempt === 3) throw new StartError([plainReport('WORKER_DIED', (error as Error).message)])
        this.#log.error({ worker: slot.id, err: error }, 'worker died while it started')
      }
    }
  }

  /** Starts a process in the slot and brings it to the current configuration. Rejects when it died or refused. */
  async #fork(slot: Slot): Promise<void> {
    const { settings } = this.#current()
    const worker = cluster.fork(this.#options.workerEnvironment(settings))
    slot.worker = worker
    slot.state = 'starting'
    slot.generation = 0
    slot.hasTakenLeave = false
    slot.startedAtMs = performance.now()
    worker.on('message', (message: FromWorker) => this.#received(slot, worker, message))
    worker.on('error', (error) => this.#log.error({ worker: slot.id, err: error }, 'worker process error'))
    worker.once('exit', (code, signal) => this.#exited(slot, worker, code, signal))
    await this.#wait(slot, this.#deadlines.helloMs, 'start', (message) => message.kind === 'hello')
    await this.#bringUp(slot)
  }

  /** Gives a worker the current configuration; again, when that changed in the meantime. */
  async #bringUp(slot: Slot): Promise<void> {
    for (;;) {
      const target = this.#current()
      const answer = await this.#prepare(slot, target.generation, target.configuration.bundle)
      if (answer.kind === 'refused') {
        slot.worker?.process.kill('SIGKILL')
        throw new StartError(answer.diagnostics)
      }
      await this.#commit(slot, target.generation)
      if (target === this.#current()) return
    }
  }

  async #prepare(
    slot: Slot,
    generation: number,
    bundle: unknown,
  ): Promise<Extract<FromWorker, { kind: 'prepared' | 'refused' }>> {
    const setting: WorkerSetting = {
      workerId: slot.id,
      version: this.#options.version,
      workers: this.#slots.length,
      instanceId: this.#options.instanceId,
      tickets: this.#options.tickets?.(),
      stateDir: this.#options.stateDir,
      bucketsPath: this.#bucketsPath,
      collectionsPath: this.#collectionsPath,
      boardPath: this.#options.boardPath ?? '',
      logFormat: this.#options.logFormat,
    }
    const answer = this.#wait(
      slot,
      this.#deadlines.prepareMs,
      'build the configuration',
      (message) => (message.kind === 'prepared' || message.kind === 'refused') && message.generation === generation,
    )
    this.#send(slot, { kind: 'prepare', generation, bundle, setting })
    // the condition above lets only these two through
    return (await answer) as Extract<FromWorker, { kind: 'prepared' | 'refused' }>
  }

  async #commit(slot: Slot, generation: number): Promise<void> {
    const answer = this.#wait(
      slot,
      this.#deadlines.commitMs,
      'swap the configuration',
      (message) => message.kind === 'committed' && message.generation === generation,
    )
    this.#send(slot, { kind: 'commit', generation })
    await answer
    slot.generation = generation
    if (slot.state === 'starting') slot.state = 'live'
    this.#changed()
  }

  #received(slot: Slot, worker: Worker, message: FromWorker): void {
    if (slot.worker !== worker) return
    if (message.kind === 'metrics') {
      slot.inFlight = message.inFlight
      slot.targets = message.targets ?? []
      this.#aggregate.update(sessionName(slot, worker), message.report)
    }
    if (message.kind === 'leaving') {
      this.#cut += message.cut
      slot.hasTakenLeave = true
      slot.state = 'leaving'
    }
    for (const wait of slot.waits) if (wait.accepts(message)) wait.settle(message)
  }

  #exited(slot: Slot, worker: Worker, code: number | null, signal: string | null): void {
    if (slot.worker !== worker) return
    const wasLive = slot.state === 'live'
    const wasLeaving = slot.state === 'leaving'
    // it could not say what it cut; what it told last is the best there is
    if (wasLeaving && !slot.hasTakenLeave) this.#cut += slot.inFlight
    this.#aggregate.retire(sessionName(slot, worker))
    slot.worker = undefined
    slot.state = 'down'
    slot.generation = 0
    slot.inFlight = 0
    slot.targets = []
    const how = signal === null ? `exited with code ${code}` : `was killed by ${signal}`
    for (const wait of slot.waits) wait.settle(new Error(`worker ${slot.id} ${how}`))
    this.#changed()
    if (wasLeaving || this.#state === 'stopped' || this.#hurried) return
    const fields: LogFields = { worker: slot.id, pid: worker.process.pid, code, signal }
    if (this.#state === 'starting') {
      this.#log.error(fields, 'worker died')
      return
    }
    this.#replace(slot, fields, wasLive)
  }

  #replace(slot: Slot, fields: LogFields, wasLive: boolean): void {
    const nowMs = performance.now()
    const loopedBefore = this.#crashes.isLoop(nowMs)
    const pauseMs = this.#crashes.record(nowMs)
    slot.restarts += 1
    this.#metrics.count('workerRestarts', [String(slot.id)])
    this.#log.error({ ...fields, pauseMs }, wasLive ? 'worker died; it is replaced' : 'worker died while it started')
    if (!loopedBefore && this.#crashes.isLoop(nowMs)) {
      this.#log.crit({ deaths: this.#crashes.recent(nowMs) }, 'workers die again and again; not ready, still trying')
    }
    const timer = setTimeout(() => {
      this.#replaceTimers.delete(timer)
      if (this.#state !== 'running' && this.#state !== 'draining') return
      if (slot.worker !== undefined || this.#drainSent) return
      this.#fork(slot).then(
        () => this.#log.info({ worker: slot.id, pid: slot.worker?.process.pid }, 'worker replaced'),
        (error: unknown) => {
          // its exit has scheduled the next attempt; when it still lives (a deadline passed), this ends it
          slot.worker?.process.kill('SIGKILL')
          this.#log.error({ worker: slot.id, err: error }, 'replacement failed')
        },
      )
    }, pauseMs)
    this.#replaceTimers.add(timer)
  }

  #current(): Serving {
    if (this.#serving === undefined) throw new Error('no configuration yet')
    return this.#serving
  }

  #send(slot: Slot, message: ToWorker): void {
    const { worker } = slot
    if (worker === undefined || !worker.isConnected()) return
    // a worker that dies while it is written to is seen by its exit
    worker.send(message, () => undefined)
  }

  #wait(slot: Slot, deadlineMs: number, what: string, accepts: (message: FromWorker) => boolean): Promise<FromWorker> {
    return new Promise((resolve, reject) => {
      const settle = (result: FromWorker | Error): void => {
        slot.waits.delete(wait)
        clearTimeout(timer)
        if (result instanceof Error) reject(result)
        else resolve(result)
      }
      const wait: Wait = { accepts, settle }
      const timer = setTimeout(
        () => settle(new Error(`worker ${slot.id} did not ${what} within ${deadlineMs / 1000} s`)),
        deadlineMs,
      )
      slot.waits.add(wait)
      if (slot.worker === undefined) settle(new Error(`worker ${slot.id} is down`))
    })
  }

  #changed(): void {
    for (const check of this.#changes) check()
  }

  /** Resolves with true when `condition` holds, with false when the time is over. Looked at when a worker changes. */
  #until(condition: () => boolean, deadlineMs: number): Promise<boolean> {
    if (condition()) return Promise.resolve(true)
    return new Promise((resolve) => {
      const finish = (result: boolean): void => {
        this.#changes.delete(check)
        clearTimeout(timer)
        resolve(result)
      }
      const check = (): void => {
        if (condition()) finish(true)
      }
      const timer = setTimeout(() => finish(condition()), deadlineMs)
      this.#changes.add(check)
    })
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Reload

  async #guardedReload(): Promise<ReloadResult> {
    let result: ReloadResult
    try {
      result = await this.#reloadOnce()
    } catch (error) {
      this.#log.error({ err: error }, 'reload failed')
      const message = error instanceof Error ? error.message : String(error)
      result = this.#refused([plainReport('RELOAD', message)], 'the reload failed; the old configuration keeps serving')
    }
    this.#lastReload = {
      at: new Date().toISOString(),
      ok: result.ok,
      message: result.message,
      reports: result.reports,
    }
    this.#metrics.count('configReloads', [result.ok ? (result.changed ? 'accepted' : 'unchanged') : 'refused'])
    if (result.ok) this.#log.info({ generation: result.generation, changed: result.changed }, result.message)
    else {
      const reasons = result.reports.filter(({ severity }) => severity === 'error').map(({ rendered }) => rendered)
      this.#log.error({ reasons }, result.message)
    }
    return result
  }

  #refused(reports: readonly DiagnosticReport[], message: string): ReloadResult {
    return { ok: false, changed: false, message, reports, generation: this.#serving?.generation ?? 0 }
  }

  async #reloadOnce(): Promise<ReloadResult> {
    const before = this.#serving
    if (this.#state !== 'running' || before === undefined) {
      const why = this.#state === 'starting' ? 'the gateway is still starting' : 'the gateway is stopping'
      return this.#refused([plainReport('NOT_RUNNING', why)], why)
    }
    const checked = await this.#options.check()
    const { settings } = checked
    const refusal = 'the configuration was refused; the old one keeps serving'
    if (settings === undefined || hasErrors(checked.reports)) return this.#refused(checked.reports, refusal)
    const warnings = [...checked.reports, ...needsRestart(before.settings, settings)]
    if (checked.fingerprint === before.configuration.fingerprint) {
      const message = 'nothing changed; the configuration serves already'
      return { ok: true, changed: false, message, reports: warnings, generation: before.generation }
    }
    const taken = new Set(before.settings.listeners.map(addressText))
    const added = settings.listeners.filter((address) => !taken.has(addressText(address)))
    const problems = await portProblems(added)
    if (problems.length > 0) return this.#refused([...warnings, ...problems], refusal)

    const generation = ++this.#lastGeneration
    const asked = this.#slots.filter((slot) => slot.state === 'live')
    const failures = await this.#prepareAll(asked, generation, checked.bundle)
    // a drain that began meanwhile wins: nothing is swapped under requests that are finishing
    if (this.#state !== 'running') failures.push(plainReport('NOT_RUNNING', 'the gateway is stopping'))
    if (failures.length > 0) {
      for (const slot of asked) this.#send(slot, { kind: 'abort', generation })
      return this.#refused([...warnings, ...failures], refusal)
    }
    const serving: Serving = { generation, configuration: checked, settings }
    this.#serving = serving
    await Promise.all(asked.map((slot) => this.#commitOrKill(slot, generation)))
    const everywhere = await this.#until(
      () => this.#slots.every((slot) => this.#isCurrent(slot)) || this.#state !== 'running',
      this.#deadlines.liveMs,
    )
    if (!everywhere || this.#state !== 'running') {
      const down = this.#slots.filter((slot) => !this.#isCurrent(slot)).map((slot) => slot.id)
      const message = `the new configuration was accepted, but does not serve in worker ${down.join(', ')} yet`
      return { ok: false, changed: true, message, reports: warnings, generation }
    }
    this.#log.setLevel(settings.logLevel)
    this.#accepted(serving)
    return {
      ok: true,
      changed: true,
      message: 'the new configuration serves in every worker',
      reports: warnings,
      generation,
    }
  }

  /** Resolves with what stands against the configuration; empty when every worker is ready to swap. */
  async #prepareAll(slots: readonly Slot[], generation: number, bundle: unknown): Promise<DiagnosticReport[]> {
    const answers = await Promise.allSettled(slots.map((slot) => this.#prepare(slot, generation, bundle)))
    const failures = new Map<string, DiagnosticReport>()
    for (const answer of answers) {
      const reports =
        answer.status === 'rejected'
          ? [plainReport('WORKER', (answer.reason as Error).message)]
          : answer.value.kind === 'refused'
            ? answer.value.diagnostics
            : []
      // every worker says the same: once is enough
      for (const report of reports) failures.set(report.rendered, report)
    }
    return [...failures.values()]
  }

  async #commitOrKill(slot: Slot, generation: number): Promise<void> {
    try {
      await this.#commit(slot, generation)
    } catch (error) {
      // it must not go on with what the others no longer serve; its replacement gets the new configuration
      this.#log.error({ worker: slot.id, err: error }, 'worker did not swap; it is replaced')
      slot.worker?.process.kill('SIGKILL')
    }
  }

  #accepted(serving: Serving): void {
    this.#acceptedAt = new Date()
    this.#tellCertificates(serving.configuration.certificates)
    try {
      this.#options.onAccepted(serving.configuration)
    } catch (error) {
      this.#log.warn({ err: error }, 'the last good configuration could not be kept on disk')
    }
  }

  /** Here and not in the workers, whose gauges are added up. A name that is shown no more goes to 0. */
  #tellCertificates(certificates: CheckedConfiguration['certificates']): void {
    for (const name of this.#certificateNames) this.#metrics.setGauge('tlsCertificateNotAfter', [name], 0)
    for (const { name, notAfterMs } of certificates) {
      this.#certificateNames.add(name)
      this.#metrics.setGauge('tlsCertificateNotAfter', [name], notAfterMs / 1000)
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // End

  #drainSent = false

  async #drainOnce(cause: string): Promise<number> {
    const { delayMs, timeoutMs } = this.#serving?.settings.drain ?? { delayMs: 0, timeoutMs: 0 }
    const hasServed = this.#hasBeenReady
    this.#state = 'draining'
    this.#log.info({ cause, delayMs, timeoutMs }, 'draining')
    const hurry = new Promise<void>((resolve) => {
      this.#hurry = resolve
      if (this.#hurried) resolve()
    })
    // nobody sends traffic to a gateway that was never ready
    if (hasServed) await Promise.race([pause(delayMs), hurry])
    this.#drainSent = true
    for (const timer of this.#replaceTimers) clearTimeout(timer)
    for (const slot of this.#slots) {
      // a worker without a configuration has nothing to finish
      if (slot.state === 'starting') slot.worker?.process.kill('SIGKILL')
      else this.#send(slot, { kind: 'drain' })
      if (slot.worker !== undefined) slot.state = 'leaving'
    }
    this.#changed()
    const isEmpty = (): boolean => this.#slots.every((slot) => slot.worker === undefined)
    await Promise.race([this.#until(isEmpty, timeoutMs), hurry])
    if (!isEmpty()) await this.#stopWorkers()
    this.#state = 'stopped'
    clearInterval(this.#collectTimer)
    this.#log.info({ cut: this.#cut }, 'stopped')
    return this.#cut > 0 ? 4 : 0
  }

  async #stopWorkers(): Promise<void> {
    const isEmpty = (): boolean => this.#slots.every((slot) => slot.worker === undefined)
    for (const slot of this.#slots) {
      this.#send(slot, { kind: 'stop' })
      slot.state = slot.worker === undefined ? 'down' : 'leaving'
    }
    if (await this.#until(isEmpty, this.#deadlines.stopMs)) return
    for (const slot of this.#slots) slot.worker?.process.kill('SIGKILL')
    await this.#until(isEmpty, 2000)
  }

  async #collect(): Promise<void> {
    const request = ++this.#collectRequest
    await Promise.all(
      this.#slots.map(async (slot) => {
        const { worker } = slot
        if (worker === undefined || slot.state !== 'live') return
        const answer = this.#wait(
          slot,
          this.#deadlines.collectMs,
          'report its metrics',
          (message) => message.kind === 'metrics' && message.request === request,
        )
        this.#send(slot, { kind: 'collect', request, known: this.#aggregate.known(sessionName(slot, worker)) })
        // its last report stands
        await answer.catch(() => undefined)
      }),
    )
  }
}

function sessionName(slot: Slot, worker: Worker): string {
  return `worker-${slot.id}/${worker.process.pid}`
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}

async function portProblems(addresses: readonly ListenAddress[]): Promise<DiagnosticReport[]> {
  const problems: DiagnosticReport[] = []
  for (const address of addresses) {
    const problem = await portProblem(address)
    if (problem !== undefined) problems.push(plainReport('LISTEN', problem))
  }
  return problems
}

/** Settings that are read once, when the processes start. */
function needsRestart(before: PrimarySettings, after: PrimarySettings): readonly DiagnosticReport[] {
  const facts = (settings: PrimarySettings): readonly (readonly [string, unknown])[] => [
    ['workers', settings.workers],
    ['limits.headers', settings.limits.headBytes],
    ['limits.uri', settings.limits.uriBytes],
    ['limits.stream_buffer', settings.limits.streamBufferBytes],
    ['websocket.max_message', settings.webSocket.maxMessageBytes],
    ['jwt', JSON.stringify(settings.jwt)],
    ['rate_limit.memory_buckets', settings.rateLimit.memoryBuckets],
    ['rate_limit.mode', settings.rateLimit.mode],
    ['redis.url', settings.redis.url],
    ['admin.address', JSON.stringify(settings.admin.address)],
    ['access_log.output', settings.accessLog.output],
    ['waf.modsecurity_log', settings.waf.modsecurityLog],
    ['waf.collection_records', settings.waf.collectionRecords],
  ]
  const now = facts(after)
  return facts(before).flatMap(([key, value], index) =>
    // both lists have the same shape
    now[index]![1] === value
      ? []
      : [plainReport('NEEDS_RESTART', `${key} changes with the next restart, not with a reload`, 'warning')],
  )
}
