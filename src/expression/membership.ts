/** `in`. */
import { noSuchOverload } from './evaluation-error.ts'
import { CelMap, celEquals, isList, typeNameOf } from './value.ts'
import type { CelValue } from './value.ts'

/** Whether a list has an equal element or a map has the key. Throws EvaluationError for anything else. */
export function memberOf(key: CelValue, container: CelValue): boolean {
  if (isList(container)) return container.some((item) => celEquals(item, key))
  if (container instanceof CelMap) return container.has(key)
  throw noSuchOverload(`${typeNameOf(key)} in ${typeNameOf(container)}`)
}
