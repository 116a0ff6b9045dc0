/**
 * How soon a dead worker is replaced, and when deaths are so many that we call it a loop.
 *
 * Source: operations.md O-28 (replaced within 1 s; 5 crashes in 60 s make the gateway not ready, and it keeps trying).
 */

export const CRASH_WINDOW_MS = 60_000
export const CRASH_LOOP_COUNT = 5

/** Pause before the n-th replacement within the window: at once, then doubling. */
const FIRST_PAUSE_MS = 100
const LONGEST_PAUSE_MS = 10_000
/** Until the loop is called one, a replacement always begins this soon, so that it can serve within a second. */
const LONGEST_PAUSE_BEFORE_LOOP_MS = 400

/** Times are `performance.now()`: a jump of the wall clock changes nothing (T-76). */
export class CrashHistory {
  #times: number[] = []

  /** Notes a death and says how long to wait before the replacement starts. */
  record(nowMs: number): number {
    this.#forget(nowMs)
    this.#times.push(nowMs)
    const count = this.#times.length
    if (count === 1) return 0
    const pauseMs = FIRST_PAUSE_MS * 2 ** Math.min(count - 2, 20)
    return Math.min(pauseMs, count < CRASH_LOOP_COUNT ? LONGEST_PAUSE_BEFORE_LOOP_MS : LONGEST_PAUSE_MS)
  }

  /** Deaths within the last minute. */
  recent(nowMs: number): number {
    this.#forget(nowMs)
    return this.#times.length
  }

  isLoop(nowMs: number): boolean {
    return this.recent(nowMs) >= CRASH_LOOP_COUNT
  }

  #forget(nowMs: number): void {
    this.#times = this.#times.filter((time) => nowMs - time < CRASH_WINDOW_MS)
  }
}
