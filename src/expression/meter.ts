/** Bounds for work on values whose parts may be shared: `[a, a]` in itself twenty times is small, walking it is not (T-67). */
import { EvaluationError } from './evaluation-error.ts'

/** Something that work is charged to; throws EvaluationError when there is nothing left. A Frame is one. */
export interface Meter {
  spend(cost: number): void
}

/** Units outside of an evaluation (conversion of a result): about six megabytes of text. */
const SIZE_LIMIT = 400_000

/** A meter of its own for one walk over one value. */
export class SizeMeter implements Meter {
  #left = SIZE_LIMIT

  spend(cost: number): void {
    this.#left -= cost
    if (this.#left < 0) throw new EvaluationError('the value is too large')
  }
}

/** What so many characters, bytes or elements cost. */
export function lengthCost(length: number): number {
  return 1 + (length >> 4)
}
