/**
 * A growing table of series, each a run of numbers in one Float64Array: counting is an addition at a known index.
 *
 * A series is never removed, so an index stays good for the life of the process, and another process only has to be
 * told about series it has not seen. The number of series is capped (O-49).
 */
import { FAMILIES, FAMILY_KEYS, LATENCY_BOUNDS_SECONDS, MAX_SERIES, OTHER_LABEL, type FamilyKey } from './families.ts'

/** One series as it crosses between processes: index into FAMILY_KEYS, then the label values. */
export type SeriesDefinition = readonly [familyIndex: number, ...labelValues: string[]]

/** Buckets, `+Inf`, sum of seconds. */
export const HISTOGRAM_WIDTH: number = LATENCY_BOUNDS_SECONDS.length + 2

/** Numbers that a series of this family takes in the table. */
export function seriesWidth(key: FamilyKey): number {
  return FAMILIES[key].type === 'histogram' ? HISTOGRAM_WIDTH : 1
}

/** Lines that a series of this family takes in the exposition; what the cap counts. */
function exposedLines(key: FamilyKey): number {
  return FAMILIES[key].type === 'histogram' ? HISTOGRAM_WIDTH + 1 : 1
}

const FAMILY_INDEX = new Map<FamilyKey, number>(FAMILY_KEYS.map((key, index) => [key, index]))

export class SeriesTable {
  readonly #maxSeries: number
  readonly #definitions: SeriesDefinition[] = []
  readonly #starts: number[] = []
  readonly #overflow = new Map<FamilyKey, number>()
  #values = new Float64Array(1024)
  #used = 0
  #lines = 0
  readonly #droppedAt: number

  constructor(maxSeries: number = MAX_SERIES) {
    this.#maxSeries = maxSeries
    this.#droppedAt = this.#append('metricsDropped', [])
  }

  /** Every series so far, in order of appearance. */
  get definitions(): readonly SeriesDefinition[] {
    return this.#definitions
  }

  /** Where each series' numbers start in `values`. */
  get starts(): readonly number[] {
    return this.#starts
  }

  /** The numbers. Replaced when the table grows: never keep it across a call of `add`. */
  get values(): Float64Array {
    return this.#values
  }

  /** How many of `values` are in use. */
  get used(): number {
    return this.#used
  }

  /** True when the next new series goes to `__other__`. */
  get isFull(): boolean {
    return this.#lines >= this.#maxSeries
  }

  /**
   * Makes a series and returns where its numbers start; the caller remembers that. When the table is full, the answer
   * is the family's `__other__` series, which the caller must not remember (it would grow without bound).
   */
  add(key: FamilyKey, labelValues: readonly string[]): number {
    if (!this.isFull) return this.#append(key, labelValues)
    this.#values[this.#droppedAt]! += 1 // made by the constructor
    let at = this.#overflow.get(key)
    if (at === undefined) {
      at = this.#append(
        key,
        FAMILIES[key].labels.map(() => OTHER_LABEL),
      )
      this.#overflow.set(key, at)
    }
    return at
  }

  #append(key: FamilyKey, labelValues: readonly string[]): number {
    const width = seriesWidth(key)
    if (this.#used + width > this.#values.length) {
      const grown = new Float64Array(this.#values.length * 2)
      grown.set(this.#values)
      this.#values = grown
    }
    const at = this.#used
    // every key stands in the map: it was built from all of them
    this.#definitions.push([FAMILY_INDEX.get(key)!, ...labelValues])
    this.#starts.push(at)
    this.#used += width
    this.#lines += exposedLines(key)
    return at
  }
}
