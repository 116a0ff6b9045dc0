/** Optional values. Source: CEL's optional types extension. */
import { EvaluationError } from '../evaluation-error.ts'
import type { Frame } from '../frame.ts'
import { CelMap, CelOptional, CelUint, isList } from '../value.ts'
import type { CelList, CelValue } from '../value.ts'
import { wantList, wrong } from './arguments.ts'
import type { FunctionTable } from './registry.ts'

export function defineOptionalFunctions(table: FunctionTable): void {
  table.define('optional.of', ['optional.of(A) -> optional(A)'], (_frame, a) => new CelOptional(a))
  table.define('optional.none', ['optional.none() -> optional(A)'], () => CelOptional.none)
  table.define('optional.ofNonZeroValue', ['optional.ofNonZeroValue(A) -> optional(A)'], (_frame, a) =>
    isZero(a) ? CelOptional.none : new CelOptional(a),
  )
  table.define(
    'hasValue',
    ['optional(A).hasValue() -> bool'],
    (_frame, a) => wantOptional(a, 'hasValue').value !== undefined,
  )
  table.define('value', ['optional(A).value() -> A'], (_frame, a) => {
    const { value } = wantOptional(a, 'value')
    if (value === undefined) throw new EvaluationError('the optional has no value')
    return value
  })
  table.define('or', ['optional(A).or(optional(A)) -> optional(A)'], (_frame, a, b) =>
    wantOptional(a, 'or').value === undefined ? wantOptional(b, 'or') : a,
  )
  const unwrapped = (frame: Frame, list: CelValue): CelList => {
    const values: CelValue[] = []
    for (const item of wantList(list, 'unwrap')) {
      const { value } = wantOptional(item, 'unwrap')
      if (value !== undefined) values.push(value)
    }
    frame.spendLength(values.length)
    return values
  }
  table.define('optional.unwrap', ['optional.unwrap(list(optional(A))) -> list(A)'], unwrapped)
  table.define('unwrapOpt', ['list(optional(A)).unwrapOpt() -> list(A)'], unwrapped)
  table.define('first', ['list(A).first() -> optional(A)'], (_frame, a) => new CelOptional(wantList(a, 'first')[0]))
  table.define('last', ['list(A).last() -> optional(A)'], (_frame, a) => new CelOptional(wantList(a, 'last').at(-1)))
  table.define('orValue', ['optional(A).orValue(A) -> A'], (_frame, a, b) => wantOptional(a, 'orValue').value ?? b)
}

function wantOptional(value: CelValue, name: string): CelOptional {
  if (value instanceof CelOptional) return value
  throw wrong(value, name)
}

function isZero(value: CelValue): boolean {
  if (value === null || value === false || value === 0 || value === 0n || value === '') return true
  if (value instanceof CelUint) return value.value === 0n
  if (isList(value) || value instanceof Uint8Array) return value.length === 0
  if (value instanceof CelMap) return value.size === 0
  return false
}
