/** `math.*` and `rand.*`. Source: CEL's math extension; traffic-policy.md §7.7. */
import { EvaluationError } from '../evaluation-error.ts'
import { CelUint, UINT_MAX, celCompare, isList, isNumeric } from '../value.ts'
import type { CelList, CelValue } from '../value.ts'
import { wantInt, wrong } from './arguments.ts'
import { int } from './operators.ts'
import type { FunctionServices, FunctionTable } from './registry.ts'

export function defineNumberFunctions(table: FunctionTable, services: FunctionServices): void {
  defineExtremes(table)
  defineRounding(table)
  defineBits(table)
  if (!services.overrides) return
  table.define('rand.double', ['rand.double() -> double'], () => services.random(), { pure: false })
  table.define(
    'rand.int',
    ['rand.int() -> int', 'rand.int(int, int) -> int'],
    (_frame, a: CelValue | undefined, b: CelValue | undefined) => {
      const min = a === undefined ? 0n : wantInt(a, 'rand.int')
      const max = b === undefined ? 1n : wantInt(b, 'rand.int')
      if (min < 0n || max < min) throw new EvaluationError(`rand.int: no number between ${min} and ${max}`)
      const span = max - min + 1n
      // 53 random bits, spread over the span without the bias of a remainder
      return min + (BigInt(Math.floor(services.random() * 2 ** 53)) * span) / 2n ** 53n
    },
    { pure: false },
  )
}

function defineExtremes(table: FunctionTable): void {
  const extreme = (name: string, wins: (order: number) => boolean): void => {
    const pick = (values: CelList): CelValue => {
      const [first] = values
      if (first === undefined) throw new EvaluationError(`${name}: the list is empty`)
      let best = first
      for (const value of values) {
        if (!isNumeric(value)) throw wrong(value, name)
        if (wins(celCompare(value, best))) best = value
      }
      return best
    }
    const overloads = ['int', 'uint', 'double'].flatMap((type) => [
      `${name}(${type}) -> ${type}`,
      `${name}(${type}, ${type}) -> ${type}`,
      `${name}(list(${type})) -> ${type}`,
    ])
    overloads.push(`${name}(list(dyn)) -> dyn`, `${name}(dyn, dyn, dyn...) -> dyn`)
    table.define(name, overloads, (_frame, a, b: CelValue | undefined, c: CelValue | undefined, ...more) => {
      if (b === undefined) return isList(a) ? pick(a) : pick([a])
      return pick(c === undefined ? [a, b] : [a, b, c, ...more])
    })
  }
  extreme('math.greatest', (order) => order > 0)
  extreme('math.least', (order) => order < 0)
}

function defineRounding(table: FunctionTable): void {
  const double = (name: string, compute: (value: number) => CelValue, result = 'double'): void => {
    table.define(name, [`${name}(double) -> ${result}`], (_frame, a) => {
      if (typeof a !== 'number') throw wrong(a, name)
      return compute(a)
    })
  }
  double('math.ceil', Math.ceil)
  double('math.floor', Math.floor)
  double('math.trunc', Math.trunc)
  double('math.round', (value) => Math.sign(value) * Math.round(Math.abs(value))) // ties away from zero
  double('math.isNaN', (value) => Number.isNaN(value), 'bool')
  double('math.isInf', (value) => Math.abs(value) === Infinity, 'bool')
  double('math.isFinite', (value) => Number.isFinite(value), 'bool')
  const numeric = (name: string): string[] => ['int', 'uint', 'double'].map((type) => `${name}(${type}) -> ${type}`)
  table.define('math.abs', numeric('math.abs'), (_frame, a) => {
    if (typeof a === 'bigint') return int(a < 0n ? -a : a)
    if (typeof a === 'number') return Math.abs(a)
    if (a instanceof CelUint) return a
    throw wrong(a, 'math.abs')
  })
  table.define('math.sign', numeric('math.sign'), (_frame, a) => {
    if (typeof a === 'bigint') return a > 0n ? 1n : a < 0n ? -1n : 0n
    if (typeof a === 'number') return Math.sign(a)
    if (a instanceof CelUint) return new CelUint(a.value === 0n ? 0n : 1n)
    throw wrong(a, 'math.sign')
  })
  table.define(
    'math.sqrt',
    ['int', 'uint', 'double'].map((type) => `math.sqrt(${type}) -> double`),
    (_frame, a) => {
      if (!isNumeric(a)) throw wrong(a, 'math.sqrt')
      return Math.sqrt(Number(a instanceof CelUint ? a.value : a))
    },
  )
}

function defineBits(table: FunctionTable): void {
  const binary = (name: string, compute: (a: bigint, b: bigint) => bigint): void => {
    table.define(name, [`${name}(int, int) -> int`, `${name}(uint, uint) -> uint`], (_frame, a, b) => {
      if (typeof a === 'bigint' && typeof b === 'bigint') return BigInt.asIntN(64, compute(a, b))
      if (a instanceof CelUint && b instanceof CelUint) return new CelUint(compute(a.value, b.value))
      throw wrong(typeof a === 'bigint' || a instanceof CelUint ? b : a, name)
    })
  }
  binary('math.bitAnd', (a, b) => a & b)
  binary('math.bitOr', (a, b) => a | b)
  binary('math.bitXor', (a, b) => a ^ b)
  table.define('math.bitNot', ['math.bitNot(int) -> int', 'math.bitNot(uint) -> uint'], (_frame, a) => {
    if (typeof a === 'bigint') return ~a
    if (a instanceof CelUint) return new CelUint(a.value ^ UINT_MAX)
    throw wrong(a, 'math.bitNot')
  })
  const shift = (name: string, compute: (a: bigint, by: bigint) => bigint): void => {
    table.define(name, [`${name}(int, int) -> int`, `${name}(uint, int) -> uint`], (_frame, a, b) => {
      const by = wantInt(b, name)
      if (by < 0n) throw new EvaluationError(`${name}: negative offset`)
      const far = by >= 64n
      if (typeof a === 'bigint') return far ? 0n : BigInt.asIntN(64, compute(BigInt.asUintN(64, a), by))
      if (a instanceof CelUint) return new CelUint(far ? 0n : BigInt.asUintN(64, compute(a.value, by)))
      throw wrong(a, name)
    })
  }
  shift('math.bitShiftLeft', (a, by) => a << by)
  shift('math.bitShiftRight', (a, by) => a >> by)
}
