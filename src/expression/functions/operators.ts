/** Operators. Source: CEL language definition, "Operators"; 64-bit overflow is an error (T-66). */
import { EvaluationError, noSuchOverload } from '../evaluation-error.ts'
import {
  CelDuration,
  CelTimestamp,
  CelUint,
  INT_MAX,
  INT_MIN,
  UINT_MAX,
  celCompare,
  celEquals,
  isList,
  plain,
  typeNameOf,
} from '../value.ts'
import type { CelValue } from '../value.ts'
import type { Frame } from '../frame.ts'
import { memberOf } from '../membership.ts'
import { wrong } from './arguments.ts'
import type { FunctionTable } from './registry.ts'

export function defineOperators(table: FunctionTable): void {
  const both = (name: string, ...types: string[]): string[] =>
    types.map((type) => `${name}(${type}, ${type}) -> ${type}`)
  table.define(
    '_+_',
    [
      ...both('_+_', 'int', 'uint', 'double', 'string', 'bytes', 'list(A)', 'duration'),
      '_+_(timestamp, duration) -> timestamp',
      '_+_(duration, timestamp) -> timestamp',
    ],
    add,
  )
  table.define(
    '_-_',
    [
      ...both('_-_', 'int', 'uint', 'double', 'duration'),
      '_-_(timestamp, duration) -> timestamp',
      '_-_(timestamp, timestamp) -> duration',
    ],
    subtract,
  )
  table.define('_*_', both('_*_', 'int', 'uint', 'double'), multiply)
  table.define('_/_', both('_/_', 'int', 'uint', 'double'), divide)
  table.define('_%_', both('_%_', 'int', 'uint'), modulo)
  table.define('-_', ['-_(int) -> int', '-_(double) -> double'], (_frame, a) => {
    if (typeof a === 'bigint') return int(-a)
    if (typeof a === 'number') return -a
    throw wrong(a, '-')
  })
  table.define('!_', ['!_(bool) -> bool'], (_frame, a) => {
    if (typeof a === 'boolean') return !a
    throw wrong(a, '!')
  })
  table.define('_==_', ['_==_(A, A) -> bool'], (frame, a, b) => celEquals(a, b, frame))
  table.define('_!=_', ['_!=_(A, A) -> bool'], (frame, a, b) => !celEquals(a, b, frame))
  const ordered = ['bool', 'int', 'uint', 'double', 'string', 'bytes', 'timestamp', 'duration']
  const mixed = ['int, uint', 'int, double', 'uint, int', 'uint, double', 'double, int', 'double, uint']
  const comparisons: readonly (readonly [string, (order: number) => boolean])[] = [
    ['_<_', (order) => order < 0],
    ['_<=_', (order) => order <= 0],
    ['_>_', (order) => order > 0],
    ['_>=_', (order) => order >= 0],
  ]
  for (const [name, decide] of comparisons) {
    const overloads = [...ordered.map((type) => `${type}, ${type}`), ...mixed].map(
      (types) => `${name}(${types}) -> bool`,
    )
    table.define(name, overloads, (_frame, a, b) => decide(celCompare(a, b)))
  }
  table.define('_in_', ['_in_(A, list(A)) -> bool', '_in_(A, map(A, B)) -> bool'], (frame, a, b) =>
    memberOf(a, b, frame),
  )
}

/** The value when it fits into 64 bit. Throws EvaluationError otherwise. */
export function int(value: bigint): bigint {
  if (value > INT_MAX || value < INT_MIN) throw new EvaluationError('int overflow')
  return value
}

/** The same for uint. */
export function uint(value: bigint): CelUint {
  if (value > UINT_MAX || value < 0n) throw new EvaluationError('uint overflow')
  return new CelUint(value)
}

function mismatch(a: CelValue, sign: string, b: CelValue): EvaluationError {
  return noSuchOverload(`${typeNameOf(a)} ${sign} ${typeNameOf(b)}`)
}

function add(frame: Frame, left: CelValue, right: CelValue): CelValue {
  const a = plain(left)
  const b = plain(right)
  if (typeof a === 'string' && typeof b === 'string') {
    frame.spendLength(a.length + b.length)
    return a + b
  }
  if (typeof a === 'bigint' && typeof b === 'bigint') return int(a + b)
  if (typeof a === 'number' && typeof b === 'number') return a + b
  if (a instanceof CelUint && b instanceof CelUint) return uint(a.value + b.value)
  if (isList(a) && isList(b)) {
    frame.spend((a.length + b.length) >> 2)
    return [...a, ...b]
  }
  if (a instanceof Uint8Array && b instanceof Uint8Array) {
    frame.spendLength(a.length + b.length)
    return new Uint8Array(Buffer.concat([a, b]))
  }
  if (a instanceof CelDuration && b instanceof CelDuration) return new CelDuration(a.nanos + b.nanos)
  if (
    (a instanceof CelTimestamp && b instanceof CelDuration) ||
    (a instanceof CelDuration && b instanceof CelTimestamp)
  ) {
    return new CelTimestamp(a.nanos + b.nanos)
  }
  throw mismatch(a, '+', b)
}

function subtract(_frame: Frame, a: CelValue, b: CelValue): CelValue {
  if (typeof a === 'bigint' && typeof b === 'bigint') return int(a - b)
  if (typeof a === 'number' && typeof b === 'number') return a - b
  if (a instanceof CelUint && b instanceof CelUint) return uint(a.value - b.value)
  if (a instanceof CelTimestamp && b instanceof CelTimestamp) return new CelDuration(a.nanos - b.nanos)
  if (a instanceof CelTimestamp && b instanceof CelDuration) return new CelTimestamp(a.nanos - b.nanos)
  if (a instanceof CelDuration && b instanceof CelDuration) return new CelDuration(a.nanos - b.nanos)
  throw mismatch(a, '-', b)
}

function multiply(_frame: Frame, a: CelValue, b: CelValue): CelValue {
  if (typeof a === 'bigint' && typeof b === 'bigint') return int(a * b)
  if (typeof a === 'number' && typeof b === 'number') return a * b
  if (a instanceof CelUint && b instanceof CelUint) return uint(a.value * b.value)
  throw mismatch(a, '*', b)
}

function divide(_frame: Frame, a: CelValue, b: CelValue): CelValue {
  if (typeof a === 'number' && typeof b === 'number') return a / b
  if (typeof a === 'bigint' && typeof b === 'bigint') {
    if (b === 0n) throw new EvaluationError('division by zero')
    return int(a / b)
  }
  if (a instanceof CelUint && b instanceof CelUint) {
    if (b.value === 0n) throw new EvaluationError('division by zero')
    return new CelUint(a.value / b.value)
  }
  throw mismatch(a, '/', b)
}

function modulo(_frame: Frame, a: CelValue, b: CelValue): CelValue {
  if (typeof a === 'bigint' && typeof b === 'bigint') {
    if (b === 0n) throw new EvaluationError('modulus by zero')
    if (b === -1n && a === INT_MIN) throw new EvaluationError('int overflow')
    return a % b
  }
  if (a instanceof CelUint && b instanceof CelUint) {
    if (b.value === 0n) throw new EvaluationError('modulus by zero')
    return new CelUint(a.value % b.value)
  }
  throw mismatch(a, '%', b)
}
