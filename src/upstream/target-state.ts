/**
 * How one target is: drained, checked, failing. The state lies in a row that all workers and the primary share, so that
 * what one of them learns all know at once; only load and response times are each worker's own.
 *
 * Source: T-37; operations.md O-26 (survives a reload), O-38 (what the admin API shows).
 */
import type { SharedBoard, SharedRow } from '../shared-state/board.ts'
import { TICK_MS } from '../shared-state/board.ts'

/** Words of the row. */
const DRAINED = 0
/** 0 = never checked, 1 = passes, 2 = fails. */
const CHECK = 1
const FAILURES_IN_ROW = 2
/** Tick; 0 = in use. */
const EJECTED_UNTIL = 3
/** Tick at which the target came into use; 0 = not yet. */
const SINCE = 4
const CHECKED_AT = 5
/** Index into `CHECK_RESULTS`, or a status. */
const CHECK_RESULT = 6
const EJECTIONS = 7

export type CheckState = 'unknown' | 'passing' | 'failing'
const CHECK_STATES: readonly CheckState[] = ['unknown', 'passing', 'failing']

/** What a check came to when no status did; statuses stand for themselves. */
const CHECK_RESULTS = ['none', 'connected', 'refused', 'timeout', 'bad_answer'] as const
export type CheckResult = (typeof CHECK_RESULTS)[number] | number

/** Averages forget with this time constant. */
const FORGET_MS = 10_000
/** What a failure counts as at least, or a target that fails quickly would look like the best one. */
const FAILURE_MS = 1000

export interface TargetView {
  readonly state: 'up' | 'ejected' | 'failing' | 'drained'
  readonly check: CheckState
  readonly checkResult: CheckResult
  /** Seconds since the last check; undefined when there was none. */
  readonly checkedAgoSeconds: number | undefined
  readonly failuresInRow: number
  readonly ejections: number
  /** Seconds until an ejected target is used again. */
  readonly ejectedForSeconds: number | undefined
}

export class TargetState {
  readonly name: string
  readonly #board: SharedBoard
  readonly #words: Int32Array
  /** Requests of this worker under way. */
  inFlight = 0
  #averageMs = 0
  #averagedAtMs = 0

  constructor(name: string, board: SharedBoard, row: SharedRow) {
    this.name = name
    this.#board = board
    this.#words = row.words
    Atomics.compareExchange(this.#words, SINCE, 0, board.tick())
  }

  get isDrained(): boolean {
    return this.#words[DRAINED] !== 0
  }

  /** True when that is news. */
  setDrained(isDrained: boolean): boolean {
    const before = Atomics.exchange(this.#words, DRAINED, isDrained ? 1 : 0)
    if ((before !== 0) === isDrained) return false
    if (!isDrained) Atomics.store(this.#words, SINCE, this.#board.tick())
    this.#board.changed()
    return true
  }

  /** Whether checks and answers let it take requests. */
  isHealthy(tick: number): boolean {
    return Atomics.load(this.#words, CHECK) !== 2 && Atomics.load(this.#words, EJECTED_UNTIL) <= tick
  }

  /** The tick at which an ejection ends that is still on; 0 = none. */
  ejectedUntil(tick: number): number {
    const until = Atomics.load(this.#words, EJECTED_UNTIL)
    return until > tick ? until : 0
  }

  /** Since which tick it has been in use. */
  get since(): number {
    return Math.max(Atomics.load(this.#words, SINCE), Atomics.load(this.#words, EJECTED_UNTIL))
  }

  /**
   * It failed in a way that speaks of the target. True when it is left out from now on: one process is told so, whoever
   * counted the last failure. A target that comes back and fails again goes at once: its row of failures was never broken.
   */
  failed(ejectAfter: number, ejectMs: number): boolean {
    const failures = Atomics.add(this.#words, FAILURES_IN_ROW, 1) + 1
    if (ejectAfter === 0 || failures < ejectAfter) return false
    const tick = this.#board.tick()
    const before = Atomics.load(this.#words, EJECTED_UNTIL)
    const until = tick + Math.max(1, Math.ceil(ejectMs / TICK_MS))
    if (Atomics.compareExchange(this.#words, EJECTED_UNTIL, before, until) !== before || before > tick) return false
    Atomics.add(this.#words, EJECTIONS, 1)
    this.#board.changed()
    return true
  }

  /** It answered. True when it had been left out. */
  answered(): boolean {
    if (this.#words[FAILURES_IN_ROW] === 0) return false
    Atomics.store(this.#words, FAILURES_IN_ROW, 0)
    const until = Atomics.exchange(this.#words, EJECTED_UNTIL, 0)
    if (until === 0) return false
    const tick = this.#board.tick()
    // the end of its ejection is when it came back, or now
    Atomics.store(this.#words, SINCE, Math.min(until, tick))
    this.#board.changed()
    return true
  }

  get check(): CheckState {
    return CHECK_STATES[Atomics.load(this.#words, CHECK)] ?? 'unknown'
  }

  /** What the primary's check came to. True when the state is another one now. */
  checked(state: CheckState, result: CheckResult): boolean {
    const code = typeof result === 'number' ? result : CHECK_RESULTS.indexOf(result)
    Atomics.store(this.#words, CHECK_RESULT, code)
    Atomics.store(this.#words, CHECKED_AT, this.#board.tick())
    const before = Atomics.exchange(this.#words, CHECK, CHECK_STATES.indexOf(state))
    if (CHECK_STATES[before] === state) return false
    if (state === 'passing') {
      if (before === 2) Atomics.store(this.#words, SINCE, this.#board.tick())
      // a check that passes is as good as an answer
      Atomics.store(this.#words, FAILURES_IN_ROW, 0)
      Atomics.store(this.#words, EJECTED_UNTIL, 0)
    }
    this.#board.changed()
    return true
  }

  /** Nobody checks it any more. */
  unchecked(): void {
    if (Atomics.exchange(this.#words, CHECK, 0) !== 0) this.#board.changed()
  }

  /** A response time of this worker: rises at once, falls slowly (peak EWMA). */
  observe(elapsedMs: number, nowMs: number, hasFailed: boolean): void {
    const sampleMs = hasFailed ? Math.max(elapsedMs, FAILURE_MS) : elapsedMs
    const averageMs = this.#averageMs
    const weight = Math.exp(-(nowMs - this.#averagedAtMs) / FORGET_MS)
    this.#averageMs = sampleMs > averageMs ? sampleMs : sampleMs + (averageMs - sampleMs) * weight
    this.#averagedAtMs = nowMs
  }

  /** The average, less what was forgotten since the last answer; 0 = nothing is known. */
  averageMs(nowMs: number): number {
    if (this.#averageMs === 0) return 0
    return this.#averageMs * Math.exp(-(nowMs - this.#averagedAtMs) / FORGET_MS)
  }

  view(isDrained: boolean): TargetView {
    const tick = this.#board.tick()
    const checkedAt = Atomics.load(this.#words, CHECKED_AT)
    const result = Atomics.load(this.#words, CHECK_RESULT)
    const until = this.ejectedUntil(tick)
    return {
      state: isDrained ? 'drained' : this.check === 'failing' ? 'failing' : until === 0 ? 'up' : 'ejected',
      check: this.check,
      checkResult: CHECK_RESULTS[result] ?? result,
      checkedAgoSeconds: checkedAt === 0 ? undefined : ((tick - checkedAt) * TICK_MS) / 1000,
      failuresInRow: Atomics.load(this.#words, FAILURES_IN_ROW),
      ejections: Atomics.load(this.#words, EJECTIONS),
      ejectedForSeconds: until === 0 ? undefined : ((until - tick) * TICK_MS) / 1000,
    }
  }
}

/** The states that this process knows, by name: a new configuration finds those of the one before. */
export class TargetStates {
  readonly #board: SharedBoard
  readonly #states = new Map<string, TargetState>()

  constructor(board: SharedBoard) {
    this.#board = board
  }

  get board(): SharedBoard {
    return this.#board
  }

  /** The state of a target of an endpoint; `address` where its name stands for several. */
  obtain(endpoint: string, target: string, address = ''): TargetState {
    const name = `target\0${endpoint}\0${target}\0${address}`
    let state = this.#states.get(name)
    if (state === undefined) {
      state = new TargetState(name, this.#board, this.#board.obtain(name))
      this.#states.set(name, state)
    }
    return state
  }

  /** The row of an endpoint as a whole. */
  group(endpoint: string): SharedRow {
    return this.#board.obtain(`group\0${endpoint}`)
  }

  /** Keeps their rows from being given up, and forgets the states that are not in use any more. */
  retain(names: ReadonlySet<string>): void {
    for (const [name, state] of this.#states) {
      if (names.has(name)) this.#board.obtain(name)
      else if (state.inFlight === 0) this.#states.delete(name)
    }
  }
}
