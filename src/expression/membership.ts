/** `in`. */
import { noSuchOverload } from './evaluation-error.ts'
import { lengthCost } from './meter.ts'
import type { Meter } from './meter.ts'
import { CelMap, celEquals, isList, typeNameOf } from './value.ts'
import type { CelValue } from './value.ts'

/** Whether a list has an equal element or a map has the key. Throws EvaluationError for anything else. */
export function memberOf(key: CelValue, container: CelValue, meter: Meter): boolean {
  if (isList(container)) {
    meter.spend(lengthCost(container.length))
    return container.some((item) => celEquals(item, key, meter))
  }
  if (container instanceof CelMap) return container.has(key)
  throw noSuchOverload(`${typeNameOf(key)} in ${typeNameOf(container)}`)
}
