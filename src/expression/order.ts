/** Sorting of CEL values. */
import { noSuchOverload } from './evaluation-error.ts'
import type { Frame } from './frame.ts'
import { celCompare, typeNameOf } from './value.ts'
import type { CelList, CelValue } from './value.ts'

/** Sorts by keys of one comparable type; equal keys keep their order. Throws EvaluationError otherwise. */
export function sortedByKey(items: readonly (readonly [CelValue, CelValue])[], frame: Frame): CelList {
  frame.spend(items.length * (32 - Math.clz32(items.length)))
  const type = items.length === 0 ? '' : typeNameOf(items[0]![0])
  for (const [key] of items) {
    if (typeNameOf(key) !== type) throw noSuchOverload('sort of values of different types')
    celCompare(key, key) // throws for types without order
  }
  return [...items].sort((a, b) => celCompare(a[0], b[0]) || 0).map((item) => item[1])
}
