/** Decides when a store is no longer asked. Source: O-76 (5 failures in 1 s open it; only a probe closes it). */

/** Failures within the span that open the breaker. */
const FAILURES = 5
const SPAN_MS = 1000

/** Counts failures; times are milliseconds of any clock that does not run backward. */
export class Breaker {
  readonly #failures: number[] = []
  #isOpen: boolean

  constructor(isOpen: boolean) {
    this.#isOpen = isOpen
  }

  /** Whether the store must not be asked. */
  get isOpen(): boolean {
    return this.#isOpen
  }

  /** Notes a failure. Returns true when this one opened the breaker. */
  fail(nowMs: number): boolean {
    if (this.#isOpen) return false
    this.#failures.push(nowMs)
    if (this.#failures.length > FAILURES) this.#failures.shift()
    const first = this.#failures[0] as number // one was just added
    if (this.#failures.length < FAILURES || nowMs - first > SPAN_MS) return false
    this.#failures.length = 0
    this.#isOpen = true
    return true
  }

  /** Notes a probe that succeeded. Returns true when it closed the breaker. */
  close(): boolean {
    const wasOpen = this.#isOpen
    this.#isOpen = false
    this.#failures.length = 0
    return wasOpen
  }
}
