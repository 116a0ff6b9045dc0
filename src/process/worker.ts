/**
 * A worker's life: say hello, build and swap configurations when told to, drain, leave. What it serves is a
 * `WorkerProgram`; this file only knows when.
 *
 * Source: operations.md O-20 (only the primary decides), O-21, O-23.
 */
import type { MetricsReport } from '../metrics/metrics.ts'
import type { DiagnosticReport } from './diagnostic-report.ts'
import { reportThrown } from './diagnostic-report.ts'
import type { FromWorker, TargetUse, ToWorker, WorkerSetting } from './messages.ts'

/** A configuration that is built and waits to be used. */
export interface PreparedConfiguration {
  /** Warnings found while building. */
  readonly diagnostics: readonly DiagnosticReport[]
  /** Puts it in place of the one that serves. Its listeners are bound already: this must not fail. */
  commit(): void
  /** Gives up what was built. */
  abort(): void
}

/** What a worker runs. */
export interface WorkerProgram {
  /**
   * Builds a configuration off the request path and binds the listeners it adds. Rejects with ConfigError (or any
   * Error) when that is impossible; then nothing of it is left.
   */
  prepare(bundle: unknown): Promise<PreparedConfiguration>
  /** Answers close their connections from now on; resolves when no new connection is taken any more. */
  drain(): Promise<void>
  /** Exchanges that are not over. */
  readonly inFlight: number
  report(known: number): MetricsReport
  /** How much goes to which target now. */
  targetUses?(): readonly TargetUse[]
  reopenLogs(): void
  /** Closes everything at once and writes out the logs. */
  close(): Promise<void>
  /** Something threw where nobody catches: log it and make sure the line is written. */
  fatal(error: unknown): void
}

const EXIT_INTERNAL = 70
const DRAIN_POLL_MS = 20
/** After a drain nothing must be in flight for so long: a request may sit in a socket's buffer. */
const QUIET_MS = 100
const CLOSE_TIMEOUT_MS = 2000

/** Signals that a terminal or a supervisor sends to the whole process group. */
const GROUP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGQUIT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const

/**
 * Runs the worker until the primary ends it or is gone.
 *
 * @param start makes the program; called once, with the first configuration's facts
 */
export function runWorker(start: (setting: WorkerSetting) => Promise<WorkerProgram>): void {
  for (const signal of GROUP_SIGNALS) process.on(signal, () => undefined)
  let program: Promise<WorkerProgram> | undefined
  let running: WorkerProgram | undefined
  let prepared: { readonly generation: number; readonly configuration: PreparedConfiguration } | undefined
  /** The generation that is being built or waits for its commit; 0 = none. */
  let wanted = 0
  let isLeaving = false

  const fatal = (error: unknown): never => {
    if (running === undefined) process.stderr.write(`worker: ${String((error as Error)?.stack ?? error)}\n`)
    else running.fatal(error)
    process.exit(EXIT_INTERNAL)
  }
  process.on('uncaughtException', fatal)
  process.on('unhandledRejection', fatal)
  // the primary is gone: nobody would stop or reload this process any more
  process.on('disconnect', () => process.exit(isLeaving ? 0 : EXIT_INTERNAL))

  const prepare = async (message: Extract<ToWorker, { kind: 'prepare' }>): Promise<void> => {
    const { generation } = message
    wanted = generation
    try {
      program ??= start(message.setting)
      running = await program
      const configuration = await running.prepare(message.bundle)
      // taken back while it was built
      if (wanted !== generation) return configuration.abort()
      prepared = { generation, configuration }
      await send({ kind: 'prepared', generation, diagnostics: configuration.diagnostics })
    } catch (error) {
      await send({ kind: 'refused', generation, diagnostics: reportThrown(error) })
    }
  }

  const commit = (generation: number): void => {
    if (prepared?.generation !== generation) throw new Error(`nothing to commit for generation ${generation}`)
    prepared.configuration.commit()
    prepared = undefined
    wanted = 0
    void send({ kind: 'committed', generation })
  }

  const abort = (generation: number): void => {
    if (wanted === generation) wanted = 0
    if (prepared?.generation !== generation) return
    prepared.configuration.abort()
    prepared = undefined
  }

  const leave = async (cut: number): Promise<void> => {
    if (isLeaving) return
    isLeaving = true
    if (running !== undefined) await sendMetrics(0, 0)
    await send({ kind: 'leaving', cut })
    const closed = running?.close() ?? Promise.resolve()
    await Promise.race([closed, pause(CLOSE_TIMEOUT_MS)])
    process.exit(0)
  }

  const drain = async (): Promise<void> => {
    if (running !== undefined) {
      await running.drain()
      let quietSinceMs = performance.now()
      for (;;) {
        const nowMs = performance.now()
        if (running.inFlight > 0) quietSinceMs = nowMs
        else if (nowMs - quietSinceMs >= QUIET_MS) break
        await pause(DRAIN_POLL_MS)
      }
    }
    await leave(0)
  }

  const sendMetrics = async (request: number, known: number): Promise<void> => {
    if (running === undefined) return
    await send({
      kind: 'metrics',
      request,
      inFlight: running.inFlight,
      report: running.report(known),
      targets: running.targetUses?.() ?? [],
    })
  }

  process.on('message', (message: ToWorker) => {
    switch (message.kind) {
      case 'prepare':
        void prepare(message)
        break
      case 'commit':
        commit(message.generation)
        break
      case 'abort':
        abort(message.generation)
        break
      case 'collect':
        void sendMetrics(message.request, message.known)
        break
      case 'reopen-logs':
        running?.reopenLogs()
        break
      case 'drain':
        void drain()
        break
      case 'stop':
        void leave(running?.inFlight ?? 0)
        break
    }
  })
  void send({ kind: 'hello' })
}

/** Resolves when the message is on its way, or can no longer be. */
function send(message: FromWorker): Promise<void> {
  return new Promise((resolve) => {
    if (process.send === undefined || !process.connected) resolve()
    else process.send(message, undefined, undefined, () => resolve())
  })
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}
