/** One evaluation: what it reads, its local variables, and what it may still spend (T-67). */
import { EvaluationError } from './evaluation-error.ts'
import type { VariableSource } from './source.ts'
import type { CelValue } from './value.ts'

/** Steps of all comprehensions of one evaluation (traffic-policy.md §3). */
export const MAX_ITERATIONS = 100_000
/** Units of work of one evaluation: a node inside a comprehension costs 1, text and bytes cost 1 per 16 units. */
export const COST_LIMIT = 400_000

export class Frame {
  readonly source: VariableSource
  /** Variables of comprehensions, by slot. */
  readonly slots: CelValue[]
  // plain fields: one frame is made per evaluation, and hash-private ones double the price of that
  private cost = COST_LIMIT
  private iterations = MAX_ITERATIONS

  constructor(source: VariableSource, slotCount: number) {
    this.source = source
    this.slots = slotCount === 0 ? NO_SLOTS : []
  }

  /** Pays for one step of a comprehension. Throws EvaluationError beyond the limits. */
  step(cost: number): void {
    if (--this.iterations < 0) throw new EvaluationError(`more than ${MAX_ITERATIONS} comprehension steps`)
    this.spend(cost)
  }

  /** Pays for other work. Throws EvaluationError beyond the limit. */
  spend(cost: number): void {
    this.cost -= cost
    if (this.cost < 0) throw new EvaluationError('the expression exceeds its cost limit')
  }

  /** Pays for reading or writing so many characters, bytes or elements. */
  spendLength(length: number): void {
    if (length > 64) this.spend(length >> 4)
    else this.spend(1)
  }
}

const NO_SLOTS: CelValue[] = []
