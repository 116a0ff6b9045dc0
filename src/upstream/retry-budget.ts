/**
 * How many requests of an endpoint may be repeated: a share of those that come in, counted over all workers, so that a
 * failing upstream is not asked twice as often as a healthy one.
 *
 * Source: operations.md H-72 (at most 20 % of live requests, at least 3 per second).
 */
import type { SharedBoard } from '../shared-state/board.ts'

/** Words: the second that is counted, its requests and repeats, and the requests of the second before. */
const SECOND = 0
const REQUESTS = 1
const REPEATS = 2
const REQUESTS_BEFORE = 3

const TICKS_PER_SECOND = 10
/** Repeats per second that are always allowed. */
const LEAST_REPEATS = 3

export class RetryBudget {
  readonly #words: Int32Array
  readonly #board: SharedBoard
  readonly #percent: number

  constructor(words: Int32Array, board: SharedBoard, percent: number) {
    this.#words = words
    this.#board = board
    this.#percent = percent
  }

  /** So many requests go upstream for the first time; `atMs`: `performance.now()`, where the caller has looked at it. */
  requested(count = 1, atMs?: number): void {
    this.#turnSecond(atMs === undefined ? this.#board.tick() : this.#board.tickAt(atMs))
    Atomics.add(this.#words, REQUESTS, count)
  }

  /** Takes a repeat out of the budget. False: there is none left in this second. */
  take(): boolean {
    this.#turnSecond(this.#board.tick())
    const requests = Math.max(Atomics.load(this.#words, REQUESTS), Atomics.load(this.#words, REQUESTS_BEFORE))
    const most = Math.max(LEAST_REPEATS, Math.floor((requests * this.#percent) / 100))
    if (Atomics.add(this.#words, REPEATS, 1) < most) return true
    Atomics.sub(this.#words, REPEATS, 1)
    return false
  }

  /** The first process that notices a new second begins it; what others count meanwhile may fall into either. */
  #turnSecond(tick: number): void {
    const second = Math.floor(tick / TICKS_PER_SECOND) + 1
    const before = this.#words[SECOND]! // a row has it
    if (before === second || Atomics.compareExchange(this.#words, SECOND, before, second) !== before) return
    const requests = Atomics.exchange(this.#words, REQUESTS, 0)
    Atomics.store(this.#words, REQUESTS_BEFORE, second === before + 1 ? requests : 0)
    Atomics.store(this.#words, REPEATS, 0)
  }
}
