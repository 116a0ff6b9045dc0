/**
 * What the actions of one endpoint's policy came to (`actions.ngrok.*`). A result may be given as a function, which is called
 * when an expression, the log or a trace first asks for it: most results are never read. Source: traffic-policy.md §2.5.
 */
import type { JsonValue } from '../expression/source.ts'

/** A result, or how to make it: called once at most. */
export type ActionResult = JsonValue | (() => JsonValue)

export class ActionResults {
  readonly #results = new Map<string, ActionResult>()

  /** Replaces an earlier one of the same name. */
  set(name: string, result: ActionResult): void {
    this.#results.set(name, result)
  }

  get(name: string): JsonValue | undefined {
    const result = this.#results.get(name)
    if (typeof result !== 'function') return result
    const made = result()
    this.#results.set(name, made)
    return made
  }

  /** In the order in which they came first. */
  *[Symbol.iterator](): Iterator<readonly [string, JsonValue]> {
    for (const name of this.#results.keys()) yield [name, this.get(name)!] // it has this name
  }
}
