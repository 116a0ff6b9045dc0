/** Conversions between types, `size`, `type`, `dyn`. Source: CEL language definition, "Standard Definitions"; traffic-policy.md §7.7. */
import { addressText, durationText, doubleText, floorDivide, networkText, timestampText } from '../convert.ts'
import { EvaluationError } from '../evaluation-error.ts'
import {
  CelAddress,
  CelDuration,
  CelMap,
  CelNetwork,
  CelTimestamp,
  CelUint,
  INT_MAX,
  INT_MIN,
  TYPES,
  UINT_MAX,
  isList,
  plain,
  typeOf,
} from '../value.ts'
import type { CelType, CelValue } from '../value.ts'
import { wantText, wrong } from './arguments.ts'
import type { FunctionTable } from './registry.ts'
import { codePointCount } from './text.ts'

export function defineConversions(table: FunctionTable): void {
  const from = (name: string, result: string, ...types: string[]): string[] =>
    types.map((type) => `${name}(${type}) -> ${result}`)
  table.define('int', from('int', 'int', 'int', 'uint', 'double', 'string', 'timestamp', 'duration'), (_f, a) =>
    toInt(plain(a)),
  )
  table.define('uint', from('uint', 'uint', 'uint', 'int', 'double', 'string'), (_f, a) => toUint(plain(a)))
  table.define('double', from('double', 'double', 'double', 'int', 'uint', 'string'), (_f, a) => toDouble(plain(a)))
  table.define(
    'string',
    from(
      'string',
      'string',
      'string',
      'bool',
      'int',
      'uint',
      'double',
      'bytes',
      'timestamp',
      'duration',
      'net.IP',
      'net.CIDR',
    ),
    (frame, a) => {
      if (a instanceof Uint8Array) frame.spendLength(a.length)
      return toText(plain(a))
    },
  )
  table.define('bytes', from('bytes', 'bytes', 'bytes', 'string'), (frame, a) => {
    if (a instanceof Uint8Array) return a
    const text = wantText(a, 'bytes')
    frame.spendLength(text.length)
    return new Uint8Array(Buffer.from(text, 'utf8'))
  })
  table.define('bool', from('bool', 'bool', 'bool', 'string'), (_f, a) => {
    if (typeof a === 'boolean') return a
    const value = BOOLS.get(wantText(a, 'bool'))
    if (value === undefined) throw new EvaluationError('not a bool')
    return value
  })
  table.define('duration', from('duration', 'duration', 'duration', 'string'), (_f, a) =>
    a instanceof CelDuration ? a : parseDuration(wantText(a, 'duration')),
  )
  table.define('timestamp', from('timestamp', 'timestamp', 'timestamp', 'string', 'int'), (_f, a) => {
    if (a instanceof CelTimestamp) return a
    if (typeof a === 'bigint') return new CelTimestamp(a * 1_000_000_000n)
    return parseTimestamp(wantText(a, 'timestamp'))
  })
  table.define('dyn', ['dyn(A) -> dyn'], (_f, a) => a)
  table.define('type', ['type(A) -> type'], (_f, a) => typeOf(a))
  table.define(
    'size',
    ['string', 'bytes', 'list(A)', 'map(A, B)'].flatMap((type) => [`size(${type}) -> int`, `${type}.size() -> int`]),
    (frame, a) => {
      const value = plain(a)
      if (typeof value === 'string') {
        frame.spendLength(value.length)
        return BigInt(codePointCount(value))
      }
      if (isList(value) || value instanceof Uint8Array) return BigInt(value.length)
      if (value instanceof CelMap) return BigInt(value.size)
      throw wrong(value, 'size')
    },
  )
}

/** Names that stand for types. */
export const TYPE_NAMES: ReadonlyMap<string, CelType> = new Map(
  Object.values(TYPES).map((type) => [type.name, type] as const),
)

const BOOLS: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((text) => [text, false] as const),
])

function toInt(value: CelValue): bigint {
  if (typeof value === 'bigint') return value
  if (value instanceof CelUint) return withinInt(value.value)
  if (typeof value === 'number') {
    // both ends excluded, as the conformance tests have it: at 2^63 a double no longer tells neighbours apart
    if (!(value > -(2 ** 63) && value < 2 ** 63)) throw new EvaluationError('int out of range')
    return BigInt(Math.trunc(value))
  }
  if (typeof value === 'string') {
    if (!/^[+-]?\d{1,20}$/.test(value)) throw new EvaluationError('not an int')
    return withinInt(BigInt(value.startsWith('+') ? value.slice(1) : value))
  }
  if (value instanceof CelTimestamp) return floorDivide(value.nanos, 1_000_000_000n)
  if (value instanceof CelDuration) return value.nanos
  throw wrong(value, 'int')
}

function withinInt(value: bigint): bigint {
  if (value > INT_MAX || value < INT_MIN) throw new EvaluationError('int out of range')
  return value
}

function toUint(value: CelValue): CelUint {
  if (value instanceof CelUint) return value
  let number: bigint
  if (typeof value === 'bigint') number = value
  else if (typeof value === 'number') {
    if (!(value >= 0 && value < 2 ** 64)) throw new EvaluationError('uint out of range')
    number = BigInt(Math.trunc(value))
  } else if (typeof value === 'string') {
    if (!/^\d{1,20}$/.test(value)) throw new EvaluationError('not a uint')
    number = BigInt(value)
  } else throw wrong(value, 'uint')
  if (number < 0n || number > UINT_MAX) throw new EvaluationError('uint out of range')
  return new CelUint(number)
}

function toDouble(value: CelValue): number {
  if (typeof value === 'number') return value
  if (typeof value === 'bigint') return Number(value)
  if (value instanceof CelUint) return Number(value.value)
  if (typeof value !== 'string') throw wrong(value, 'double')
  if (/^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/.test(value)) return Number(value)
  const special = /^([+-]?)(?:inf|infinity)$/i.exec(value)
  if (special !== null) return special[1] === '-' ? -Infinity : Infinity
  if (/^nan$/i.test(value)) return NaN
  throw new EvaluationError('not a double')
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function toText(value: CelValue): string {
  switch (typeof value) {
    case 'string':
      return value
    case 'boolean':
    case 'bigint':
      return String(value)
    case 'number':
      return doubleText(value)
    default:
      break
  }
  if (value instanceof CelUint) return String(value.value)
  if (value instanceof CelTimestamp) return timestampText(value)
  if (value instanceof CelDuration) return durationText(value)
  if (value instanceof CelAddress) return addressText(value.bytes)
  if (value instanceof CelNetwork) return networkText(value)
  if (!(value instanceof Uint8Array)) throw wrong(value, `string`)
  try {
    return UTF8.decode(value)
  } catch {
    throw new EvaluationError('the bytes are not UTF-8')
  }
}

const DURATION_UNITS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1000n,
  µs: 1000n,
  μs: 1000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
}

/** Go's duration text: `1h30m`, `-1.5s`, `0`. Throws EvaluationError. */
export function parseDuration(text: string): CelDuration {
  const negative = text.startsWith('-')
  let rest = negative || text.startsWith('+') ? text.slice(1) : text
  if (rest === '0') return new CelDuration(0n)
  let total = 0n
  if (rest === '' || text.length > 128) throw new EvaluationError('not a duration')
  while (rest !== '') {
    const part = /^(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)/.exec(rest)
    if (part === null) throw new EvaluationError('not a duration')
    const [whole = '', fraction = ''] = part[1]!.split('.')
    const unit = DURATION_UNITS[part[2]!]! // the pattern names every unit
    total += BigInt(whole === '' ? '0' : whole) * unit
    if (fraction !== '') total += (BigInt(fraction) * unit) / 10n ** BigInt(fraction.length)
    rest = rest.slice(part[0].length)
  }
  return new CelDuration(negative ? -total : total)
}

/** RFC 3339. Throws EvaluationError. */
export function parseTimestamp(text: string): CelTimestamp {
  const match = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:Z|([+-])(\d\d):(\d\d))$/.exec(text)
  if (match === null) throw new EvaluationError('not an RFC 3339 time')
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const date = new Date(0)
  date.setUTCFullYear(year, month - 1, day)
  const sameDay = date.getUTCMonth() === month - 1 && date.getUTCDate() === day
  if (!sameDay || hour > 23 || minute > 59 || second > 59) throw new EvaluationError('not an RFC 3339 time')
  date.setUTCHours(hour, minute, second)
  const nanos = BigInt((match[7] ?? '').padEnd(9, '0'))
  const offset = (match[8] === '-' ? -1 : 1) * (Number(match[9] ?? 0) * 60 + Number(match[10] ?? 0))
  return new CelTimestamp(BigInt(date.getTime() - offset * 60_000) * 1_000_000n + nanos)
}
