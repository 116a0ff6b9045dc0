/** The shape of a verb of the command line, and what a verb may touch. Source: operations.md O-01 … O-11. */
import type { Arguments, Flags } from './arguments.ts'

/** O-10. */
export const EXIT = {
  ok: 0,
  /** Configuration or start-up failure: starting again would fail again. */
  failure: 1,
  usage: 2,
  unreachable: 3,
  /** Stopped by the drain deadline, or at once, with work left. */
  cut: 4,
  internal: 70,
} as const

/** Where a verb reads and writes; tests give their own. */
export interface Surroundings {
  readonly environment: Readonly<Record<string, string | undefined>>
  out(text: string): void
  err(text: string): void
  /** Whether stderr is a terminal. */
  readonly isTerminal: boolean
}

export interface Verb {
  readonly name: string
  readonly aliases: readonly string[]
  readonly summary: string
  /** Operands as they stand in the usage line. */
  readonly operands: { readonly usage: string; readonly min: number; readonly max: number }
  readonly flags: Flags
  /** Flags of ngrok that make no sense here, with what to do instead. */
  readonly refused?: Readonly<Record<string, string>>
  /** Paragraphs under the flags. */
  readonly notes?: readonly string[]
  /** Resolves with the exit code. Throws UsageError for what only it can check. */
  run(given: Arguments, surroundings: Surroundings): Promise<number>
}

/** Flags that several verbs have. */
export const CONFIG_FLAG = {
  config: {
    type: 'text',
    value: 'FILE|DIR',
    short: 'c',
    repeats: true,
    meaning:
      'Configuration; may repeat, later ones override earlier ones key by key. Default: gateway.yaml in ., the XDG configuration folder, /etc/sallyport.',
  },
} as const satisfies Flags

export const STATE_DIR_FLAG = {
  'state-dir': {
    type: 'text',
    value: 'DIR',
    meaning: 'State folder of the gateway (control socket, last good configuration, rule sets); instead of state_dir.',
  },
} as const satisfies Flags

export const LOG_FLAGS = {
  'log-level': {
    type: 'text',
    value: 'LEVEL',
    oneOf: ['crit', 'error', 'warn', 'info', 'debug', 'trace'],
    meaning: 'crit, error, warn, info, debug or trace; instead of log_level.',
  },
  'log-format': {
    type: 'text',
    value: 'FORMAT',
    oneOf: ['json', 'text'],
    meaning: 'json or text. Default: text at a terminal, json elsewhere.',
  },
} as const satisfies Flags

/** Flags of ngrok's commands that only an account gives a meaning: taken, and said to be ignored. */
export const ACCOUNT_FLAGS = {
  authtoken: {
    type: 'text',
    value: 'TOKEN',
    meaning: 'Taken for compatibility; no account is needed.',
    only: 'command-line',
  },
  region: {
    type: 'text',
    value: 'REGION',
    meaning: 'Taken for compatibility; has no meaning here.',
    only: 'command-line',
  },
} as const satisfies Flags
