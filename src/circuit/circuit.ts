/**
 * A circuit breaker after Hystrix: counts failures in ten buckets of a rolling window, opens when their share is reached,
 * and after a pause lets one trial request through that closes it or opens it anew.
 *
 * Source: traffic-policy.md §5.3; operations.md O-26 (state survives a reload).
 */

export interface CircuitSettings {
  /** Share of failures, 0 to 1, at which it opens. */
  readonly errorThreshold: number
  /** Requests that must lie in the window before it may open. */
  readonly volumeThreshold: number
  readonly windowMs: number
  /** How long an open circuit refuses before the trial. */
  readonly trippedMs: number
}

/** `allow_while_open` is the trial. */
export type CircuitDecision = 'allow' | 'block' | 'allow_while_open'

const BUCKETS = 10

export class Circuit {
  readonly #settings: CircuitSettings
  readonly #nowMs: () => number
  readonly #requests = new Float64Array(BUCKETS)
  readonly #errors = new Float64Array(BUCKETS)
  /** Number of the newest bucket, counted from the clock's zero. */
  #newest = 0
  #state: 'closed' | 'open' | 'trying' = 'closed'
  #openedAtMs = 0

  /** @param nowMs a clock that never goes back */
  constructor(settings: CircuitSettings, nowMs: () => number = () => performance.now()) {
    this.#settings = settings
    this.#nowMs = nowMs
  }

  get isOpen(): boolean {
    return this.#state !== 'closed'
  }

  /** A request would be refused now. An open circuit whose pause is over does not: the next request is its trial. */
  get isRefusing(): boolean {
    return this.#state === 'trying' || (this.#state === 'open' && !this.#pauseIsOver(this.#nowMs()))
  }

  /** May this request go upstream? Whoever is let through must call `settle` once with this answer. */
  ask(): CircuitDecision {
    const nowMs = this.#nowMs()
    // successes may have left the window since the last outcome
    if (this.#state === 'closed') this.#openIfDue(nowMs)
    if (this.#state === 'closed') return 'allow'
    if (this.#state === 'trying' || !this.#pauseIsOver(nowMs)) return 'block'
    this.#state = 'trying'
    return 'allow_while_open'
  }

  /** What became of a request that was let through; undefined = it says nothing about the upstream. */
  settle(decision: Exclude<CircuitDecision, 'block'>, hasFailed: boolean | undefined): void {
    const nowMs = this.#nowMs()
    if (decision === 'allow_while_open') {
      this.#settleTrial(hasFailed, nowMs)
      return
    }
    // an answer that was under way when the circuit opened changes nothing any more
    if (hasFailed === undefined || this.#state !== 'closed') return
    const bucket = this.#advance(nowMs)
    this.#requests[bucket]! += 1 // bucket is below BUCKETS, here and below
    if (hasFailed) this.#errors[bucket]! += 1
    this.#openIfDue(nowMs)
  }

  #pauseIsOver(nowMs: number): boolean {
    return nowMs - this.#openedAtMs >= this.#settings.trippedMs
  }

  #settleTrial(hasFailed: boolean | undefined, nowMs: number): void {
    if (hasFailed === false) {
      this.#state = 'closed'
      this.#requests.fill(0)
      this.#errors.fill(0)
      return
    }
    this.#state = 'open'
    // a trial that never reached the upstream leaves the next request to be one
    if (hasFailed === true) this.#openedAtMs = nowMs
  }

  #openIfDue(nowMs: number): void {
    this.#advance(nowMs)
    const requests = this.#requests.reduce((sum, count) => sum + count, 0)
    if (requests < this.#settings.volumeThreshold) return
    const errors = this.#errors.reduce((sum, count) => sum + count, 0)
    if (errors / requests < this.#settings.errorThreshold) return
    this.#state = 'open'
    this.#openedAtMs = nowMs
  }

  /** Empties the buckets that left the window; the index of the present one. */
  #advance(nowMs: number): number {
    const current = Math.floor((nowMs * BUCKETS) / this.#settings.windowMs)
    for (let bucket = Math.max(this.#newest + 1, current - BUCKETS + 1); bucket <= current; bucket++) {
      this.#requests[bucket % BUCKETS] = 0
      this.#errors[bucket % BUCKETS] = 0
    }
    this.#newest = Math.max(this.#newest, current)
    return this.#newest % BUCKETS
  }
}

/** Circuits by name and settings, so that a new configuration finds those of the one before. The newest are kept. */
export class Circuits {
  readonly #circuits = new Map<string, Circuit>()
  readonly #maxCircuits: number

  constructor(maxCircuits = 10_000) {
    this.#maxCircuits = maxCircuits
  }

  /** The circuit of that name, or a new one when there is none with exactly these settings. */
  obtain(name: string, settings: CircuitSettings): Circuit {
    const { errorThreshold, volumeThreshold, windowMs, trippedMs } = settings
    const key = [name, errorThreshold, volumeThreshold, windowMs, trippedMs].join('\0')
    const circuit = this.#circuits.get(key) ?? new Circuit(settings)
    this.#circuits.delete(key)
    this.#circuits.set(key, circuit)
    if (this.#circuits.size > this.#maxCircuits) {
      const [oldest] = this.#circuits.keys() // a Map remembers the order of insertion
      if (oldest !== undefined) this.#circuits.delete(oldest)
    }
    return circuit
  }

  get size(): number {
    return this.#circuits.size
  }
}
