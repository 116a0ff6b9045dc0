/** Deadlines that are all equally far away: one queue and one timer for any number of them. */

/** Something that waits for an answer. */
export interface Waiting {
  dueMs: number
  isDone: boolean
  /** Called once, when the deadline passed before `isDone` was set. */
  expire(): void
}

/** Expires what was not done in time, in order. Times are performance.now(). */
export class Deadlines {
  readonly #afterMs: number
  #queue: Waiting[] = []
  #first = 0
  /** Where those begin that were added in this turn of the event loop. */
  #unstamped = 0
  #isArmed = false

  constructor(afterMs: number) {
    this.#afterMs = afterMs
  }

  /** Starts the deadline of something, counted from the end of this turn, when its call is sent. */
  add(waiting: Waiting): void {
    if (this.#unstamped === this.#queue.length) setImmediate(() => this.#stamp())
    this.#queue.push(waiting)
  }

  #stamp(): void {
    const dueMs = performance.now() + this.#afterMs
    for (; this.#unstamped < this.#queue.length; this.#unstamped += 1) {
      ;(this.#queue[this.#unstamped] as Waiting).dueMs = dueMs // below length
    }
    if (!this.#isArmed) this.#arm(this.#afterMs)
  }

  #arm(delayMs: number): void {
    this.#isArmed = true
    // Timers run before sockets are read. When this process was busy for longer than the deadline, the answers are there
    // and unread: they get their turn first.
    setTimeout(() => setImmediate(() => this.#expire()), delayMs)
  }

  #expire(): void {
    const nowMs = performance.now()
    const queue = this.#queue
    let at = this.#first
    for (; at < this.#unstamped; at += 1) {
      const waiting = queue[at] as Waiting // below length
      if (waiting.isDone) continue
      if (waiting.dueMs > nowMs) break
      waiting.isDone = true
      waiting.expire()
    }
    this.#first = at
    const next = at < this.#unstamped ? queue[at] : undefined
    // Done ones are forgotten in bulk.
    if (this.#first > 1024 || this.#first === queue.length) {
      this.#queue = queue.slice(this.#first)
      this.#unstamped -= this.#first
      this.#first = 0
    }
    if (next === undefined) this.#isArmed = false
    else this.#arm(Math.max(1, Math.ceil(next.dueMs - nowMs)))
  }
}
