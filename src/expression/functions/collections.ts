/** Functions on lists, and `sets.*`. Source: CEL's lists and sets extensions; traffic-policy.md §7.6. */
import { EvaluationError } from '../evaluation-error.ts'
import type { Frame } from '../frame.ts'
import { memberOf } from '../membership.ts'
import { sortedByKey } from '../order.ts'
import { CelDuration, CelTimestamp, CelUint, isList, plain } from '../value.ts'
import type { CelList, CelValue } from '../value.ts'
import { wantInt, wantList } from './arguments.ts'
import type { FunctionTable } from './registry.ts'

/** Longest list that `lists.range` makes. */
const MAX_RANGE = 100_000n

export function defineCollectionFunctions(table: FunctionTable): void {
  table.define('slice', ['list(A).slice(int, int) -> list(A)'], (frame, a, b, c) => {
    const list = wantList(a, 'slice')
    const start = Number(wantInt(b, 'slice'))
    const end = Number(wantInt(c, 'slice'))
    if (start < 0 || end > list.length || start > end) {
      throw new EvaluationError(`slice: ${start} to ${end} of a list of ${list.length}`)
    }
    frame.spendLength(end - start)
    return list.slice(start, end)
  })
  table.define(
    'flatten',
    ['list(A).flatten() -> list(dyn)', 'list(A).flatten(int) -> list(dyn)'],
    (frame, a, depth: CelValue | undefined) => {
      const levels = depth === undefined ? 1n : wantInt(depth, 'flatten')
      if (levels < 0n) throw new EvaluationError('flatten: the depth must not be negative')
      return flattened(wantList(a, 'flatten'), levels, frame)
    },
  )
  table.define('sort', ['list(A).sort() -> list(A)'], (frame, a) => {
    return sortedByKey(
      wantList(a, 'sort').map((item) => [plain(item), item] as const),
      frame,
    )
  })
  table.define('distinct', ['list(A).distinct() -> list(A)'], (frame, a) => distinct(wantList(a, 'distinct'), frame))
  table.define('lists.range', ['lists.range(int) -> list(int)'], (frame, a) => {
    const count = wantInt(a, 'lists.range')
    if (count > MAX_RANGE) throw new EvaluationError(`lists.range: at most ${MAX_RANGE}`)
    frame.spendLength(Number(count < 0n ? 0n : count))
    return Array.from({ length: Math.max(0, Number(count)) }, (_, index) => BigInt(index))
  })
  const contained = (frame: Frame, inner: CelList, outer: CelList): boolean => {
    frame.spend(inner.length * outer.length)
    return inner.every((item) => memberOf(item, outer, frame))
  }
  table.define('sets.contains', ['sets.contains(list(A), list(A)) -> bool'], (frame, a, b) =>
    contained(frame, wantList(b, 'sets.contains'), wantList(a, 'sets.contains')),
  )
  table.define('sets.equivalent', ['sets.equivalent(list(A), list(A)) -> bool'], (frame, a, b) => {
    const [left, right] = [wantList(a, 'sets.equivalent'), wantList(b, 'sets.equivalent')]
    return contained(frame, left, right) && contained(frame, right, left)
  })
  table.define('sets.intersects', ['sets.intersects(list(A), list(A)) -> bool'], (frame, a, b) => {
    const [left, right] = [wantList(a, 'sets.intersects'), wantList(b, 'sets.intersects')]
    frame.spend(left.length * right.length)
    return left.some((item) => memberOf(item, right, frame))
  })
}

function flattened(list: CelList, depth: bigint, frame: Frame): CelList {
  const result: CelValue[] = []
  for (const item of list) {
    if (depth > 0n && isList(item)) result.push(...flattened(item, depth - 1n, frame))
    else result.push(item)
  }
  frame.spend(result.length)
  return result
}

/** Keeps first occurrences. Simple values are told apart by a set, the rest one by one. */
function distinct(list: CelList, frame: Frame): CelList {
  const seen = new Set<CelValue>()
  const kept: CelValue[] = []
  const mixed = list.some((item) => typeof item === 'number' || item instanceof CelUint)
  const complex: CelValue[] = []
  for (const item of list) {
    const value = plain(item)
    const isSimple = typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'bigint' && !mixed)
    const isTime = value instanceof CelTimestamp || value instanceof CelDuration
    if (isSimple) {
      frame.spend(1)
      if (seen.has(value)) continue
      seen.add(value)
    } else {
      frame.spend(1 + complex.length * (isTime ? 1 : 4))
      if (memberOf(value, complex, frame)) continue
      complex.push(value)
    }
    kept.push(item)
  }
  return kept
}
