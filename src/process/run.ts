/**
 * `sallyport run` from the checked configuration to the exit code: state folder, admin listener, primary, signals.
 *
 * Source: operations.md O-01, O-10, O-20, O-29.
 */
import { createHash, randomBytes } from 'node:crypto'
import { accessSync, constants, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createLogger, type Logger } from '../access-log/logger.ts'
import { AdminError, startAdmin, type AdminServer, type AdminSubject } from '../admin/server.ts'
import type { ConfigurationInput } from '../config/load.ts'
import { workerEnvironment } from '../listener/head-limit.ts'
import { collectionsSummary, createCollections } from '../native/collections.ts'
import { ticketSecret } from '../native/front.ts'
import { MemoryStore } from '../rate-limit/memory-store.ts'
import { SharedBoard } from '../shared-state/board.ts'
import { checkBundle, checkFromDisk, type LoadedAndChecked } from './configuration.ts'
import { startControlServer, type ControlAnswer, type ControlRequest, type ControlServer } from './control.ts'
import { hasErrors, plainReport } from './diagnostic-report.ts'
import {
  Primary,
  StartError,
  type CheckedConfiguration,
  type PrimarySettings,
  type PrimaryStatus,
  type SharedBuckets,
} from './primary.ts'
import { TargetWatch } from './target-watch.ts'
import { loadLastGood, lockStateDir, saveLastGood, StateDirError, type StateDirLock } from './state-dir.ts'

export interface RunOptions {
  readonly input: ConfigurationInput
  readonly version: string
  readonly logFormat: 'json' | 'text'
  /** Warnings and start errors, as people read them. */
  readonly say: (text: string) => void
  /** The script that workers run. */
  readonly workerScript: string
}

const EXIT_FAILURE = 1

/** Runs until the gateway is stopped. Resolves with the exit code (O-10). */
export async function runGateway(options: RunOptions): Promise<number> {
  const { say } = options
  const fail = (message: string): number => {
    say(`sallyport: ${message}\n`)
    return EXIT_FAILURE
  }
  let first = await checkFromDisk(options.input)
  const fallback = first.isUnreadable ? await lastGood(first.stateDir, options.input) : undefined
  for (const { rendered } of first.reports) say(`${rendered}\n`)
  if (fallback !== undefined) {
    say(`sallyport: the configuration cannot be read; the last good one, of ${fallback.savedAt}, is served\n`)
    first = fallback.configuration
  }
  const { settings } = first
  if (settings === undefined) return fail('the configuration was refused')
  if (settings.listeners.length === 0) return fail('the configuration has no public endpoint and no listener')

  let lock: StateDirLock
  try {
    lock = await lockStateDir(first.stateDir)
  } catch (error) {
    if (error instanceof StateDirError) return fail(error.message)
    throw error
  }
  const logger = createLogger({ level: settings.logLevel, format: options.logFormat })
  const instance = new Instance(options, lock.stateDir, logger)
  try {
    return await instance.run(first)
  } catch (error) {
    if (error instanceof StartError) say(`${error.message}\n`)
    else if (!(error instanceof AdminError)) throw error
    return fail(error instanceof StartError ? 'the gateway could not start' : error.message)
  } finally {
    await instance.close()
    await logger.flush()
    lock.release()
  }
}

/** O-29: what served last under the same arguments, when its files cannot be had now. */
async function lastGood(
  stateDir: string,
  input: ConfigurationInput,
): Promise<{ readonly savedAt: string; readonly configuration: LoadedAndChecked } | undefined> {
  const kept = loadLastGood(stateDir)
  if (kept === undefined || kept.input !== JSON.stringify(input)) return undefined
  // written by us, under this version or another: what does not load any more is refused like any configuration
  const configuration = await checkBundle(kept.bundle as LoadedAndChecked['bundle'])
  return configuration.settings === undefined ? undefined : { savedAt: kept.savedAt, configuration }
}

/** What `sallyport status` and `/api/status` show. */
export interface InstanceStatus extends PrimaryStatus {
  /** `endpoint` or `endpoint/host:port`, and the requests that are still under way to it. */
  readonly drained: readonly { readonly name: string; readonly inFlight: number }[]
}

/** One running gateway, seen from its primary process. */
class Instance {
  readonly #options: RunOptions
  readonly #stateDir: string
  readonly #logger: Logger
  readonly #primary: Primary
  #admin: AdminServer | undefined
  #control: ControlServer | undefined
  readonly #sharedPaths: string[] = []
  readonly #boardPath: string
  readonly #targets: TargetWatch
  #exitCode: Promise<number> | undefined
  #ended: (code: Promise<number>) => void = () => undefined

  constructor(options: RunOptions, stateDir: string, logger: Logger) {
    this.#options = options
    this.#stateDir = stateDir
    this.#logger = logger
    this.#boardPath = this.#sharedPath('board')
    const board = SharedBoard.create(this.#boardPath)
    this.#primary = new Primary({
      boardPath: this.#boardPath,
      logger,
      stateDir,
      version: options.version,
      instanceId: randomBytes(6).toString('hex'),
      tickets: ticketSecret,
      logFormat: options.logFormat,
      workerScript: options.workerScript,
      workerEnvironment: (settings) => workerEnvironment(settings.limits),
      check: () => this.#checkAgain(),
      onAccepted: (configuration) => this.#keep(configuration),
      createBuckets: (settings) => this.#createBuckets(settings),
    })
    this.#targets = new TargetWatch({
      board,
      logger,
      metrics: this.#primary.metrics,
      uses: () => this.#primary.targetUses,
    })
  }

  async run(first: LoadedAndChecked): Promise<number> {
    const ended = new Promise<number>((resolve) => {
      this.#ended = resolve
    })
    this.#installSignals()
    const address = first.settings?.admin.address
    if (address !== undefined) {
      this.#admin = await startAdmin({ address, token: adminToken(), subject: this.#adminSubject() })
    }
    this.#control = await startControlServer(this.#stateDir, (request) => this.#answer(request))
    await this.#primary.start(first)
    return await ended
  }

  async close(): Promise<void> {
    this.#admin?.close()
    await this.#control?.close()
    this.#targets.close()
    for (const path of this.#sharedPaths) rmSync(path, { force: true })
    rmSync(this.#boardPath, { force: true })
  }

  #adminSubject(): AdminSubject {
    const primary = this.#primary
    return {
      notReadyReasons: () => primary.notReadyReasons(),
      get hasBeenReady() {
        return primary.hasBeenReady
      },
      status: () => this.#status(),
      exposition: (format) => primary.exposition(format),
      reload: () => primary.reload(),
      endpoints: () => this.#targets.endpoints(),
      targets: async (endpoint) => {
        await primary.collect()
        return this.#targets.targets(endpoint)
      },
      targetsVersion: (endpoint) => this.#targets.version(endpoint),
      drain: (name, isDrained) => this.#targets.drain(name, isDrained),
    }
  }

  #status(): InstanceStatus {
    const inFlight = (name: string): number =>
      this.#primary.targetUses
        .filter(({ endpoint, target, address }) =>
          [endpoint, `${endpoint}/${target}`, `${endpoint}/${address}`].includes(name),
        )
        .reduce((sum, use) => sum + use.inFlight, 0)
    const drained = this.#targets.drained().map((name) => ({ name, inFlight: inFlight(name) }))
    return { ...this.#primary.status(), drained }
  }

  async #checkAgain(): Promise<CheckedConfiguration> {
    if (this.#options.input.files.includes('-')) {
      const report = plainReport(
        'STANDARD_INPUT',
        'the configuration came from standard input, which cannot be read again',
      )
      return { reports: [report], settings: undefined, certificates: [], bundle: undefined, fingerprint: '' }
    }
    const checked = await checkFromDisk(this.#options.input)
    if (checked.settings?.listeners.length !== 0 || hasErrors(checked.reports)) return checked
    const report = plainReport('NO_LISTENER', 'the configuration has no public endpoint and no listener')
    return { ...checked, reports: [...checked.reports, report], settings: undefined }
  }

  #keep(configuration: CheckedConfiguration): void {
    const { endpoints, dns } = configuration
    if (endpoints !== undefined && dns !== undefined) this.#targets.use(endpoints, dns)
    saveLastGood(this.#stateDir, {
      savedAt: new Date().toISOString(),
      version: this.#options.version,
      input: JSON.stringify(this.#options.input),
      bundle: configuration.bundle,
    })
  }

  #sharedPath(what: string): string {
    const name = `sallyport-${createHash('sha256').update(this.#stateDir).digest('hex').slice(0, 16)}.${what}`
    return join(isWritable('/dev/shm') ? '/dev/shm' : this.#stateDir, name)
  }

  /** In memory-backed files where the system has them: the table is rewritten all the time, and worthless after a restart. */
  #createBuckets(settings: PrimarySettings): SharedBuckets {
    const path = this.#sharedPath('buckets')
    try {
      const store = MemoryStore.create(path, settings.rateLimit.memoryBuckets)
      this.#sharedPaths.push(path)
      const collectionsPath = path.replace(/buckets$/, 'collections')
      const collections = createCollections(collectionsPath, settings.waf.collectionRecords)
      this.#sharedPaths.push(collectionsPath)
      return {
        path,
        evictions: () => store.summary().evictions,
        collections: { path: collectionsPath, losses: () => collectionsSummary(collections) },
      }
    } catch (error) {
      throw new StartError([plainReport('SHARED_MEMORY', (error as Error).message)])
    }
  }

  #installSignals(): void {
    let hasBegun = false
    const stop = (signal: NodeJS.Signals): void => {
      if (hasBegun && signal !== 'SIGQUIT') this.#end(this.#primary.stopNow(signal))
      else this.#end(this.#primary.drain(signal))
      hasBegun = true
    }
    process.on('SIGTERM', stop)
    process.on('SIGINT', stop)
    process.on('SIGQUIT', stop)
    process.on('SIGHUP', () => void this.#primary.reload())
    process.on('SIGUSR1', () => this.#primary.reopenLogs())
    process.on('SIGUSR2', () =>
      this.#logger.warn({}, 'SIGUSR2 is ignored: this version does not hand over its sockets'),
    )
  }

  #end(code: Promise<number>): void {
    this.#exitCode ??= code
    this.#ended(this.#exitCode)
  }

  async #answer(request: ControlRequest): Promise<ControlAnswer> {
    switch (request.verb) {
      case 'reload':
        return { ...(await this.#primary.reload()) }
      case 'stop': {
        const code = request.now ? this.#primary.stopNow('stop --now') : this.#primary.drain('stop')
        this.#end(code)
        return { ok: true, cut: (await code) !== 0, pid: process.pid }
      }
      case 'status':
        await this.#primary.collect()
        return { ok: true, status: this.#status() }
      case 'drain':
      case 'undrain':
        return { ...this.#targets.drain(request.name, request.verb === 'drain') }
      case 'health': {
        const reasons = this.#primary.notReadyReasons()
        return reasons.length === 0 ? { ok: true } : { ok: false, message: reasons.join('; ') }
      }
      case 'reopen-logs':
        this.#primary.reopenLogs()
        return { ok: true }
    }
  }
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK)
    return true
  } catch {
    // not there, or not ours: then the state folder serves
    return false
  }
}

/** O-13: the variable or its `_FILE` twin. Throws AdminError when both are set or the file cannot be read. */
function adminToken(): string | undefined {
  const { SALLYPORT_ADMIN_TOKEN: value, SALLYPORT_ADMIN_TOKEN_FILE: file } = process.env
  if (value !== undefined && file !== undefined) {
    throw new AdminError('SALLYPORT_ADMIN_TOKEN and SALLYPORT_ADMIN_TOKEN_FILE are both set; one is enough')
  }
  let token = value
  if (file !== undefined) {
    try {
      token = readFileSync(file, 'utf8').trim()
    } catch (error) {
      throw new AdminError(`SALLYPORT_ADMIN_TOKEN_FILE: ${(error as Error).message}`, { cause: error })
    }
  }
  if (token === '') throw new AdminError('the admin token is empty')
  return token
}

/** Beside this file, built: the entry that both primary and workers start from. */
export const MAIN_SCRIPT: string = fileURLToPath(new URL('../main.js', import.meta.url))
