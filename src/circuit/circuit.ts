/**
 * A circuit breaker after Hystrix: counts failures in ten buckets of a rolling window, opens when their share is reached,
 * and after a pause lets one trial request through that closes it or opens it anew.
 *
 * Its state lies in a row that all workers of the gateway share: they count together, open together, and one of them makes
 * the trial. Each word is changed by one atomic step, so a worker may die at any moment. Only a trial may get lost with it:
 * after another pause the next request is one.
 *
 * Source: traffic-policy.md §5.3 ("state is kept per gateway process"); operations.md O-26 (state survives a reload).
 */
import { ROW_LONG_WORDS, sharedBoard, type SharedBoard, type SharedRow } from '../shared-state/board.ts'

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

// 64-bit words of the row
/** The state in the low two bits, above it when it began. */
const STATE = 0
/** From here one word per bucket: its number in the high half, the count in the low half. */
const REQUESTS = 1
const ERRORS = REQUESTS + BUCKETS
/** Number of the bucket in which the last failure lies. */
const LAST_ERROR = ERRORS + BUCKETS

const CLOSED = 0
const OPEN = 1
const TRYING = 2

export class Circuit {
  readonly #settings: CircuitSettings
  readonly #nowMs: () => number
  readonly #row: BigInt64Array
  /** The bucket in which this process has looked last whether it is due to open. */
  #lookedAt = -1
  /** The state that this process has set last. */
  #mine = -1n

  /**
   * @param nowMs a clock that never goes back, the same for all who share the row
   * @param row where the state lies; absent: nobody shares it
   */
  constructor(
    settings: CircuitSettings,
    nowMs: () => number = () => performance.now(),
    row: Pick<SharedRow, 'longs'> = { longs: new BigInt64Array(ROW_LONG_WORDS) },
  ) {
    this.#settings = settings
    this.#nowMs = nowMs
    this.#row = row.longs
  }

  get isOpen(): boolean {
    return stateOf(this.#load()) !== CLOSED
  }

  /** A request would be refused now. An open circuit whose pause is over does not: the next request is its trial. */
  get isRefusing(): boolean {
    const value = this.#load()
    return stateOf(value) !== CLOSED && !this.#pauseIsOver(value, this.#nowMs())
  }

  /** It is this process that opened it, or that makes the trial: one process tells of it. */
  get isMine(): boolean {
    return this.#load() === this.#mine
  }

  /** May this request go upstream? Whoever is let through must call `settle` once with this answer. */
  ask(): CircuitDecision {
    const nowMs = this.#nowMs()
    let value = this.#load()
    if (stateOf(value) === CLOSED) {
      // successes may have left the window since the last outcome
      const bucket = this.#bucket(nowMs)
      if (bucket === this.#lookedAt) return 'allow'
      this.#lookedAt = bucket
      this.#openIfDue(nowMs)
      value = this.#load()
      if (stateOf(value) === CLOSED) return 'allow'
    }
    // also when a trial has been under way for as long: whoever made it may be gone
    if (!this.#pauseIsOver(value, nowMs)) return 'block'
    return this.#change(value, TRYING, nowMs) ? 'allow_while_open' : 'block'
  }

  /** What became of a request that was let through; undefined = it says nothing about the upstream. */
  settle(decision: Exclude<CircuitDecision, 'block'>, hasFailed: boolean | undefined): void {
    const nowMs = this.#nowMs()
    const value = this.#load()
    if (decision === 'allow_while_open') {
      if (stateOf(value) === TRYING) this.#settleTrial(value, hasFailed, nowMs)
      return
    }
    // an answer that was under way when the circuit opened changes nothing any more
    if (hasFailed === undefined || stateOf(value) !== CLOSED) return
    const bucket = this.#bucket(nowMs)
    this.#count(REQUESTS, bucket)
    if (hasFailed) {
      this.#count(ERRORS, bucket)
      Atomics.store(this.#row, LAST_ERROR, BigInt(bucket) + 1n)
    } else if (this.#settings.errorThreshold > 0 && this.#hasNoErrors(bucket)) {
      return
    }
    this.#openIfDue(nowMs)
  }

  #load(): bigint {
    return Atomics.load(this.#row, STATE)
  }

  /** False when another process was quicker. */
  #change(before: bigint, state: number, nowMs: number): boolean {
    const after = (BigInt(Math.floor(nowMs)) << 2n) | BigInt(state)
    if (Atomics.compareExchange(this.#row, STATE, before, after) !== before) return false
    this.#mine = after
    return true
  }

  #pauseIsOver(value: bigint, nowMs: number): boolean {
    return Math.floor(nowMs) - Number(value >> 2n) >= this.#settings.trippedMs
  }

  #settleTrial(value: bigint, hasFailed: boolean | undefined, nowMs: number): void {
    if (hasFailed === false) {
      // what was counted before must not open it again
      for (let at = REQUESTS; at <= LAST_ERROR; at++) Atomics.store(this.#row, at, 0n)
      this.#change(value, CLOSED, nowMs)
      return
    }
    // a trial that never reached the upstream leaves the next request to be one
    this.#change(value, OPEN, hasFailed === true ? nowMs : nowMs - this.#settings.trippedMs)
  }

  #openIfDue(nowMs: number): void {
    const bucket = this.#bucket(nowMs)
    const requests = this.#sum(REQUESTS, bucket)
    if (requests < this.#settings.volumeThreshold) return
    if (this.#sum(ERRORS, bucket) / requests < this.#settings.errorThreshold) return
    const value = this.#load()
    if (stateOf(value) === CLOSED) this.#change(value, OPEN, nowMs)
  }

  #bucket(nowMs: number): number {
    return Math.floor((nowMs * BUCKETS) / this.#settings.windowMs)
  }

  #hasNoErrors(bucket: number): boolean {
    const last = Atomics.load(this.#row, LAST_ERROR)
    return last === 0n || Number(last) - 1 <= bucket - BUCKETS
  }

  /** Adds one; a place that still holds an older bucket begins anew. */
  #count(start: number, bucket: number): void {
    const at = start + (bucket % BUCKETS)
    const fresh = BigInt(bucket) << 32n
    for (;;) {
      const before = Atomics.load(this.#row, at)
      const after = before >> 32n === BigInt(bucket) ? before + 1n : fresh + 1n
      if (Atomics.compareExchange(this.#row, at, before, after) === before) return
    }
  }

  /** What lies in the window that ends with this bucket. */
  #sum(start: number, bucket: number): number {
    let sum = 0
    for (let at = start; at < start + BUCKETS; at++) {
      const word = Atomics.load(this.#row, at)
      const age = bucket - Number(word >> 32n)
      if (age >= 0 && age < BUCKETS) sum += Number(word & 0xffff_ffffn)
    }
    return sum
  }
}

function stateOf(value: bigint): number {
  return Number(value & 3n)
}

/**
 * Circuits by name and settings, so that a new configuration finds those of the one before, and all workers the same.
 * This process keeps the newest at hand.
 */
export class Circuits {
  readonly #circuits = new Map<string, Circuit>()
  readonly #maxCircuits: number
  readonly #board: () => SharedBoard

  constructor(maxCircuits = 10_000, board: () => SharedBoard = sharedBoard) {
    this.#maxCircuits = maxCircuits
    this.#board = board
  }

  /** The circuit of that name, or a new one when there is none with exactly these settings. */
  obtain(name: string, settings: CircuitSettings): Circuit {
    const { errorThreshold, volumeThreshold, windowMs, trippedMs } = settings
    const key = [name, errorThreshold, volumeThreshold, windowMs, trippedMs].join('\0')
    const board = this.#board()
    // also for one that is at hand: its row stays while configurations name it
    const row = board.obtain(`circuit\0${key}`)
    const circuit = this.#circuits.get(key) ?? new Circuit(settings, () => board.elapsedMs(), row)
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
