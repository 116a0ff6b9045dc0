/**
 * A board of small rows that all processes of a gateway share: how targets are, how circuits stand, what repeats have cost.
 *
 * Rows are found by name. Reading and writing one is a few machine instructions: no lock is held, no process is asked,
 * and a process that dies leaves every row whole, because each word is changed by one atomic step. The memory is a file
 * that all processes map; without one (tests, `check`) it is the process's own.
 *
 * Bounds: `ROWS` rows of 256 bytes. Rows are given up only when a new name finds no empty place: then the one that nobody
 * has touched for longest goes. A name that finds none at all gets a row of this process's own.
 *
 * Source: operations.md O-26 (states survive a reload), O-28 (a crash harms nobody else), T-76 (monotonic time only).
 */
import { createHash } from 'node:crypto'
import { performance } from 'node:perf_hooks'
import { mapSharedMemory } from '../native/system.ts'

/** Rows of one board, the first of which is the board's own. */
const ROWS = 8192
const ROW_BYTES = 256
const BOARD_BYTES = ROWS * ROW_BYTES
/** Places in which a name may be found. */
const PROBES = 32
/** Rows touched more recently are never given up. */
const KEPT_SECONDS = 120

/** Words of a row that are its user's, as 32-bit integers; the two views of a row show the same bytes. */
export const ROW_WORDS = 60
/** The same, as 64-bit integers. */
export const ROW_LONG_WORDS = 30

/** One row: `words` and `longs` overlap; write with `Atomics` only. One word
 * may be read without: it is never seen half written. All words begin as 0. */
export interface SharedRow {
  readonly words: Int32Array
  readonly longs: BigInt64Array
}

/** Milliseconds of one tick. */
export const TICK_MS = 100

export interface BoardOptions {
  /** Monotonic milliseconds, the same in all processes of the machine; tests bring their own. */
  readonly nowMs?: () => number
}

export class SharedBoard {
  readonly #memory: ArrayBuffer
  readonly #longs: BigInt64Array
  readonly #words: Int32Array
  readonly #nowMs: () => number
  /** `performance.now()` counts from the start of its process; the machine's clock behind it is the same for all. */
  readonly #offsetMs: number
  readonly #startedAtMs: number
  /** The number that `version` is, where it stands: for native code that asks for itself. */
  readonly versionWord: Int32Array

  private constructor(memory: ArrayBuffer, options: BoardOptions) {
    this.#memory = memory
    this.#longs = new BigInt64Array(memory)
    this.#words = new Int32Array(memory)
    this.versionWord = this.#words.subarray(2, 3)
    this.#offsetMs = Number(process.hrtime.bigint()) / 1e6 - performance.now()
    this.#nowMs = options.nowMs ?? (() => performance.now() + this.#offsetMs)
    // whoever comes first says when the board began
    Atomics.compareExchange(this.#longs, 0, 0n, BigInt(Math.max(1, Math.floor(this.#nowMs()))))
    this.#startedAtMs = Number(Atomics.load(this.#longs, 0))
  }

  /** Makes the file: the primary does, before it forks. Throws when it cannot be made. */
  static create(path: string): SharedBoard {
    return new SharedBoard(mapSharedMemory(path, BOARD_BYTES, true), {})
  }

  /** Maps the primary's file: workers do. Throws when it is not there. */
  static open(path: string): SharedBoard {
    return new SharedBoard(mapSharedMemory(path, BOARD_BYTES, false), {})
  }

  /** A board that nobody else sees. */
  static local(options: BoardOptions = {}): SharedBoard {
    return new SharedBoard(new ArrayBuffer(BOARD_BYTES), options)
  }

  /** Milliseconds since the board was made; the same in all processes, never stepped. */
  elapsedMs(): number {
    return this.#nowMs() - this.#startedAtMs
  }

  /** The same in ticks of 100 ms, from 1: fits a 32-bit word for six years. */
  tick(): number {
    return Math.floor(this.elapsedMs() / TICK_MS) + 1
  }

  /** The tick of a moment at which somebody looked at `performance.now()`. Not for boards with a clock of their own. */
  tickAt(performanceMs: number): number {
    return Math.floor((performanceMs + this.#offsetMs - this.#startedAtMs) / TICK_MS) + 1
  }

  /** Changes whenever somebody calls `changed`: what was derived from rows is to be derived again. */
  get version(): number {
    return Atomics.load(this.#words, 2)
  }

  /** Tells all processes that a row has changed in a way that decides something. */
  changed(): void {
    Atomics.add(this.#words, 2, 1)
  }

  /** The row of that name; made when there is none. Not for the path of a request. */
  obtain(name: string): SharedRow {
    const key = hashOf(name)
    const nowSeconds = Math.floor(this.elapsedMs() / 1000) + 1
    // a process that loses the race for a place looks again; there are only so many places to lose
    for (let attempt = 0; attempt < PROBES; attempt++) {
      const place = this.#find(key, nowSeconds)
      if (place === undefined) break
      if (!place.isTaken && !this.#take(place.row, place.before, key)) continue
      Atomics.store(this.#words, (place.row * ROW_BYTES) / 4 + 2, nowSeconds)
      return this.#view(place.row)
    }
    const own = new ArrayBuffer(ROW_BYTES)
    return { words: new Int32Array(own), longs: new BigInt64Array(own) }
  }

  /** Where a key stands, or where it could. */
  #find(
    key: bigint,
    nowSeconds: number,
  ): { readonly row: number; readonly isTaken: boolean; readonly before: bigint } | undefined {
    let oldest: { row: number; isTaken: boolean; before: bigint } | undefined
    let oldestSeconds = nowSeconds - KEPT_SECONDS
    for (let probe = 0; probe < PROBES; probe++) {
      // row 0 is the board's
      const row = 1 + Number((BigInt.asUintN(64, key) + BigInt(probe)) % BigInt(ROWS - 1))
      const before = Atomics.load(this.#longs, (row * ROW_BYTES) / 8)
      if (before === key) return { row, isTaken: true, before }
      if (before === 0n) return { row, isTaken: false, before }
      const touched = Atomics.load(this.#words, (row * ROW_BYTES) / 4 + 2)
      if (touched >= oldestSeconds) continue
      oldestSeconds = touched
      oldest = { row, isTaken: false, before }
    }
    return oldest
  }

  /** False when another process was quicker. */
  #take(row: number, before: bigint, key: bigint): boolean {
    // what nobody uses any more is cleared before it gets its new name
    if (before !== 0n) {
      const { words } = this.#view(row)
      for (let at = 0; at < words.length; at++) Atomics.store(words, at, 0)
    }
    return Atomics.compareExchange(this.#longs, (row * ROW_BYTES) / 8, before, key) === before
  }

  #view(row: number): SharedRow {
    const start = row * ROW_BYTES + 16
    return {
      words: new Int32Array(this.#memory, start, ROW_WORDS),
      longs: new BigInt64Array(this.#memory, start, ROW_LONG_WORDS),
    }
  }
}

/** 0 stands for an empty place. */
function hashOf(name: string): bigint {
  const hash = createHash('sha256').update(name).digest().readBigInt64LE(0)
  return hash === 0n ? 1n : hash
}

let processBoard: SharedBoard | undefined

/** The board of this process: the gateway's in a worker, one of its own elsewhere. */
export function sharedBoard(): SharedBoard {
  processBoard ??= SharedBoard.local()
  return processBoard
}

/** Puts the gateway's board in place, before anything asks for a row. */
export function useSharedBoard(board: SharedBoard): void {
  processBoard = board
}
