/** How functions are declared: their overloads in CEL's notation and one implementation over all of them. */
import type { Frame } from '../frame.ts'
import type { PhaseName } from '../source.ts'
import { parseOverload } from '../type.ts'
import type { Overload } from '../type.ts'
import type { CelValue } from '../value.ts'

/** The receiver, if there is one, is the first argument. Missing optional arguments are undefined. */
export type Implementation = (frame: Frame, a: CelValue, b: CelValue, c: CelValue, ...more: CelValue[]) => CelValue

/** What functions may use of the environment they are compiled in. */
export interface FunctionServices {
  readonly phase: PhaseName
  readonly overrides: boolean
  now(): Date
  /** 0 ≤ x < 1. */
  random(): number
  /** Compiles a regular expression. Throws PatternError-like errors with one line of text. */
  pattern(text: string): { test(text: string): boolean }
  /** The secret's text, undefined when there is none. */
  secret(vault: string, name: string): string | undefined
}

export interface FunctionEntry {
  readonly name: string
  readonly overloads: readonly Overload[]
  readonly call: Implementation
  /** Depends on its arguments alone: calls with literals are computed when the expression is compiled. */
  readonly pure: boolean
  /**
   * Better code for a call some of whose arguments are literals (undefined = not literal). Throwing EvaluationError
   * refuses the expression at compile time.
   */
  readonly specialize?: ((literals: readonly (CelValue | undefined)[]) => Implementation | undefined) | undefined
  /** Phases in which it exists; absent = all. */
  readonly phases?: readonly PhaseName[] | undefined
}

export interface FunctionOptions {
  readonly pure?: boolean
  readonly specialize?: FunctionEntry['specialize']
  readonly phases?: readonly PhaseName[]
}

export class FunctionTable {
  readonly #entries = new Map<string, FunctionEntry>()

  /** Declares a function. Later declarations of a name replace earlier ones. */
  define(name: string, overloads: readonly string[], call: Implementation, options: FunctionOptions = {}): void {
    this.#entries.set(name, {
      name,
      overloads: overloads.map((text) => parseOverload(name, text)),
      call,
      pure: options.pure ?? true,
      specialize: options.specialize,
      phases: options.phases,
    })
  }

  get(name: string): FunctionEntry | undefined {
    return this.#entries.get(name)
  }

  names(): IterableIterator<string> {
    return this.#entries.keys()
  }
}
