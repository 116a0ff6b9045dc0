/**
 * What crosses between the primary and its workers. Structured clone ("advanced" serialisation), so typed arrays stay
 * what they are.
 *
 * A configuration is swapped in two steps (O-23): `prepare` builds everything off the request path and answers
 * `prepared` or `refused`; then `commit` (one assignment per worker) or `abort`. Generations number the attempts.
 */
import type { MetricsReport } from '../metrics/metrics.ts'
import type { DiagnosticReport } from './diagnostic-report.ts'

/** Descriptor of the primary's standard output in a worker; its own, 1, leads nowhere. */
export const WORKER_STANDARD_OUTPUT = 4

/** What a worker must know before it builds anything; the same for its whole life. */
export interface WorkerSetting {
  /** Slot, from 1; a replacement takes the slot of the dead. */
  readonly workerId: number
  readonly version: string
  /** How many workers there are. */
  readonly workers: number
  /** Names this gateway towards other gateways; the same in all its workers. */
  readonly instanceId: string
  /** By which TLS sessions are resumed at any of its workers; in memory only. */
  readonly tickets: Uint8Array | undefined
  readonly stateDir: string
  /** The table of memory buckets (rate limits) that all workers share; '' = none was made. */
  readonly bucketsPath: string
  /** The table of the rule matcher's collections that all workers share; '' = none was made. */
  readonly collectionsPath: string
  /** The board of states that all processes share (shared-state/board.ts); '' = none was made. */
  readonly boardPath: string
  readonly logFormat: 'json' | 'text'
}

/** What one worker makes of one target. */
export interface TargetUse {
  readonly endpoint: string
  readonly target: string
  readonly address: string
  readonly inFlight: number
  /** 0 = nothing is known. */
  readonly averageMs: number
}

export type ToWorker =
  | { readonly kind: 'prepare'; readonly generation: number; readonly bundle: unknown; readonly setting: WorkerSetting }
  | { readonly kind: 'commit'; readonly generation: number }
  | { readonly kind: 'abort'; readonly generation: number }
  | { readonly kind: 'collect'; readonly request: number; readonly known: number }
  | { readonly kind: 'reopen-logs' }
  /** Accept nothing new, finish what is in flight, exit. */
  | { readonly kind: 'drain' }
  /** Close everything and exit. */
  | { readonly kind: 'stop' }

export type FromWorker =
  /** The process is up and waits for its first configuration. */
  | { readonly kind: 'hello' }
  | { readonly kind: 'prepared'; readonly generation: number; readonly diagnostics: readonly DiagnosticReport[] }
  | { readonly kind: 'refused'; readonly generation: number; readonly diagnostics: readonly DiagnosticReport[] }
  | { readonly kind: 'committed'; readonly generation: number }
  /** Answer to `collect`; also sent unasked (request 0) as the last word before an orderly exit. */
  | {
      readonly kind: 'metrics'
      readonly request: number
      readonly inFlight: number
      readonly report: MetricsReport
      readonly targets?: readonly TargetUse[]
    }
  /** The worker is about to exit; so many exchanges were cut (0 after a drain that ended by itself). */
  | { readonly kind: 'leaving'; readonly cut: number }
