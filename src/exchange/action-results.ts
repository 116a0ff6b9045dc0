/**
 * What the actions of one endpoint's policy came to (`actions.ngrok.*`). A result may be given as a function, which is called
 * when an expression, the log or a trace first asks for it: most results are never read. Source: traffic-policy.md §2.5.
 */
import type { JsonValue } from '../expression/source.ts'

/** A result, or how to make it: called once at most. */
export type ActionResult = JsonValue | (() => JsonValue)

export class ActionResults {
  // a policy has a few: that is less than a map, for each exchange
  readonly #names: string[] = []
  readonly #results: ActionResult[] = []

  /** Replaces an earlier one of the same name. */
  set(name: string, result: ActionResult): void {
    const at = this.#names.indexOf(name)
    if (at !== -1) {
      this.#results[at] = result
      return
    }
    this.#names.push(name)
    this.#results.push(result)
  }

  get(name: string): JsonValue | undefined {
    const at = this.#names.indexOf(name)
    const result = this.#results[at]
    if (typeof result !== 'function') return result
    const made = result()
    this.#results[at] = made
    return made
  }

  /** In the order in which they came first. */
  *[Symbol.iterator](): Iterator<readonly [string, JsonValue]> {
    for (const name of this.#names) yield [name, this.get(name)!] // it has this name
  }
}
