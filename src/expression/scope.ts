/** Names that an expression may use: variables and functions of its environment. */
import type { Frame } from './frame.ts'
import type { FunctionEntry } from './functions/registry.ts'
import type { HeaderView } from './source.ts'
import type { StaticType } from './type.ts'
import type { CelValue } from './value.ts'

export interface Variable {
  /** Dotted, for messages. */
  readonly name: string
  readonly type: StaticType
  /** The value now; undefined = absent (`has()` is false, reading it is a run-time error). */
  readonly read: (frame: Frame) => CelValue | undefined
  /** `read` never returns undefined. */
  readonly always: boolean
  /** A namespace with exactly these fields: any other name below it is a mistake. */
  readonly fieldNames?: readonly string[] | undefined
  /** Reads a plain JSON tree that the path continues in, without making CEL values of it. */
  readonly json?: ((frame: Frame) => unknown) | undefined
  /** Headers of a message: single names are looked up without building a map. */
  readonly headers?: ((frame: Frame) => HeaderView) | undefined
  /** Absent results of actions compare equal to null instead of failing (traffic-policy.md §2.5). */
  readonly nullWhenAbsent?: boolean | undefined
  /** Known but not to be used here; a compile error. */
  readonly problem?: { readonly message: string; readonly hint?: string | undefined } | undefined
  /** Accepted, but should be written differently. */
  readonly warning?: string | undefined
}

export interface Advice {
  readonly message: string
  readonly hint?: string | undefined
}

export interface Scope {
  /** The variable of exactly this path; undefined when there is none (a shorter path may still be one). */
  variable(path: readonly string[], absolute: boolean): Variable | undefined
  /** The function of that (dotted) name. */
  function(name: string): FunctionEntry | undefined
  /** What to say about a name that `variable` does not know. */
  unknownVariable(path: readonly string[]): Advice
  /** What to say about a function that `function` does not know. `receiver` = called as `x.name()`. */
  unknownFunction(name: string, receiver: boolean): Advice
}
