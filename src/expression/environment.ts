/** What an expression is compiled for: its phase, its services, and which dialect it is. */
import type { PatternEngine } from './pattern.ts'
import type { PhaseName } from './source.ts'

export interface ExpressionEnvironment {
  readonly phase: PhaseName
  /** ngrok's readings (case-insensitive headers, its own `split`, §7 functions) on; off = plain CEL. */
  readonly overrides: boolean
  /** The clock behind `time.now`. */
  now(): Date
  /** A document in the old format: its spellings (§6.10) are accepted silently. */
  readonly legacy?: boolean | undefined
  /** Names of values that the caller gives with each evaluation (`attempts` in `retry_condition`). */
  readonly locals?: readonly string[] | undefined
  /** Regular expressions; default: the native engine. */
  readonly patterns?: PatternEngine | undefined
  /** Reads a secret at run time (§7.8); undefined = there is none of that name. */
  readonly secret?: ((vault: string, name: string) => string | undefined) | undefined
  /** 0 ≤ x < 1, behind `rand.*`; default: Math.random. */
  readonly random?: (() => number) | undefined
}
