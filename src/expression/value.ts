/**
 * CEL values as we hold them, their equality and order.
 *
 * Source: CEL language definition ("Values", "Equality", "Ordering"); traffic-policy.md §6.1; T-66.
 */
import { EvaluationError, noSuchOverload } from './evaluation-error.ts'
import { SizeMeter } from './meter.ts'
import type { Meter } from './meter.ts'

export type CelValue =
  | null
  | boolean
  /** int: always within 64 bit. */
  | bigint
  | CelUint
  /** double. */
  | number
  | string
  | Uint8Array
  | CelList
  | CelMap
  | CelTimestamp
  | CelDuration
  | CelType
  | CelOptional
  | CelAddress
  | CelNetwork
  | HybridString

export type CelList = readonly CelValue[]

export const INT_MIN = -(2n ** 63n)
export const INT_MAX = 2n ** 63n - 1n
export const UINT_MAX = 2n ** 64n - 1n

/** An unsigned 64-bit integer. */
export class CelUint {
  readonly value: bigint

  constructor(value: bigint) {
    this.value = value
  }
}

const NANOS_PER_SECOND = 1_000_000_000n
/** 0001-01-01T00:00:00Z and 9999-12-31T23:59:59.999999999Z. */
export const TIMESTAMP_MIN_NANOS = -62_135_596_800n * NANOS_PER_SECOND
export const TIMESTAMP_MAX_NANOS = 253_402_300_800n * NANOS_PER_SECOND - 1n

/** A point in time, exact to the nanosecond. */
export class CelTimestamp {
  /** Nanoseconds since the epoch. */
  readonly nanos: bigint

  /** Throws EvaluationError outside the years 1 to 9999. */
  constructor(nanos: bigint) {
    if (nanos < TIMESTAMP_MIN_NANOS || nanos > TIMESTAMP_MAX_NANOS) throw new EvaluationError('timestamp out of range')
    this.nanos = nanos
  }

  static fromMs(ms: number): CelTimestamp {
    // Whole milliseconds are exact; the fraction keeps as much as the clock gave.
    const whole = Math.floor(ms)
    return new CelTimestamp(BigInt(whole) * 1_000_000n + BigInt(Math.round((ms - whole) * 1e6)))
  }
}

/** A span of time, exact to the nanosecond. */
export class CelDuration {
  readonly nanos: bigint

  /** Throws EvaluationError beyond 64 bit of nanoseconds (about 292 years), as cel-go does. */
  constructor(nanos: bigint) {
    if (nanos < INT_MIN || nanos > INT_MAX) throw new EvaluationError('duration out of range')
    this.nanos = nanos
  }
}

/** A type as a value: what `type(x)` and the name `int` give. */
export class CelType {
  readonly name: string

  constructor(name: string) {
    this.name = name
  }
}

/** `optional.of(x)` and `optional.none()`. */
export class CelOptional {
  /** `undefined` = none. */
  readonly value: CelValue | undefined

  constructor(value: CelValue | undefined) {
    this.value = value
  }

  static readonly none = new CelOptional(undefined)
}

/** An IP address; IPv4 as IPv4-mapped IPv6. */
export class CelAddress {
  /** 16 bytes. */
  readonly bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }
}

/** An address and the length of a prefix; host bits are kept. */
export class CelNetwork {
  /** 16 bytes. */
  readonly bytes: Uint8Array
  /** Of 128; IPv4 counts from 96. */
  readonly prefixBits: number

  constructor(bytes: Uint8Array, prefixBits: number) {
    this.bytes = bytes
    this.prefixBits = prefixBits
  }
}

/** §6.1: acts as its text everywhere and has fields beside it. */
export class HybridString {
  readonly text: string
  readonly fields: CelMap

  constructor(text: string, fields: CelMap) {
    this.text = text
    this.fields = fields
  }
}

/** A map. Keys are bool, int, uint or string; ints and uints of equal value are the same key. */
export abstract class CelMap {
  abstract readonly size: number
  /** `undefined` when there is no such key (values are never undefined). */
  abstract get(key: CelValue): CelValue | undefined
  abstract keys(): CelList

  has(key: CelValue): boolean {
    return this.get(key) !== undefined
  }
}

/** What a key is found by: int, uint and integral doubles share bigints. `undefined` = cannot be a key. */
type KeyIdentity = string | bigint | boolean

function keyIdentity(key: CelValue): KeyIdentity | undefined {
  switch (typeof key) {
    case 'string':
    case 'bigint':
    case 'boolean':
      return key
    case 'number':
      return Number.isInteger(key) ? BigInt(key) : undefined
    default:
      if (key instanceof CelUint) return key.value
      return key instanceof HybridString ? key.text : undefined
  }
}

/** A map of entries in insertion order. */
export class EntryMap extends CelMap {
  readonly #entries = new Map<KeyIdentity, readonly [CelValue, CelValue]>()

  get size(): number {
    return this.#entries.size
  }

  get(key: CelValue): CelValue | undefined {
    const identity = keyIdentity(key)
    return identity === undefined ? undefined : this.#entries.get(identity)?.[1]
  }

  keys(): CelList {
    return Array.from(this.#entries.values(), (entry) => entry[0])
  }

  /** Adds an entry. Throws EvaluationError for a key of a wrong type and for a key that is already there. */
  add(key: CelValue, value: CelValue): this {
    const identity = typeof key === 'number' ? undefined : keyIdentity(key)
    if (identity === undefined) throw new EvaluationError(`unsupported key type: ${typeNameOf(key)}`)
    if (this.#entries.has(identity)) throw new EvaluationError(`repeated key: ${String(identity)}`)
    this.#entries.set(identity, [key instanceof HybridString ? key.text : key, value])
    return this
  }

  static of(entries: Iterable<readonly [CelValue, CelValue]>): EntryMap {
    const map = new EntryMap()
    for (const [key, value] of entries) map.add(key, value)
    return map
  }
}

/** A map whose values are computed when asked: string keys, each with its getter. */
export class LazyMap extends CelMap {
  readonly #getters: ReadonlyMap<string, () => CelValue | undefined>

  constructor(getters: ReadonlyMap<string, () => CelValue | undefined>) {
    super()
    this.#getters = getters
  }

  get size(): number {
    return this.keys().length
  }

  get(key: CelValue): CelValue | undefined {
    const name = plain(key)
    return typeof name === 'string' ? this.#getters.get(name)?.() : undefined
  }

  keys(): CelList {
    const keys: string[] = []
    for (const [name, getter] of this.#getters) if (getter() !== undefined) keys.push(name)
    return keys
  }
}

export const EMPTY_MAP: CelMap = new EntryMap()

/** A hybrid's text, anything else as it is. */
export function plain(value: CelValue): Exclude<CelValue, HybridString> {
  return value instanceof HybridString ? value.text : value
}

export const TYPES = {
  null: new CelType('null_type'),
  bool: new CelType('bool'),
  int: new CelType('int'),
  uint: new CelType('uint'),
  double: new CelType('double'),
  string: new CelType('string'),
  bytes: new CelType('bytes'),
  list: new CelType('list'),
  map: new CelType('map'),
  timestamp: new CelType('google.protobuf.Timestamp'),
  duration: new CelType('google.protobuf.Duration'),
  type: new CelType('type'),
  optional: new CelType('optional_type'),
  address: new CelType('net.IP'),
  network: new CelType('net.CIDR'),
} as const

/** The value of `type(x)`. */
export function typeOf(value: CelValue): CelType {
  switch (typeof value) {
    case 'boolean':
      return TYPES.bool
    case 'bigint':
      return TYPES.int
    case 'number':
      return TYPES.double
    case 'string':
      return TYPES.string
    default:
      if (value === null) return TYPES.null
      if (Array.isArray(value)) return TYPES.list
      if (value instanceof CelMap) return TYPES.map
      if (value instanceof CelUint) return TYPES.uint
      if (value instanceof Uint8Array) return TYPES.bytes
      if (value instanceof CelTimestamp) return TYPES.timestamp
      if (value instanceof CelDuration) return TYPES.duration
      if (value instanceof HybridString) return TYPES.string
      if (value instanceof CelOptional) return TYPES.optional
      if (value instanceof CelAddress) return TYPES.address
      if (value instanceof CelNetwork) return TYPES.network
      return TYPES.type
  }
}

/** The type's name for messages: `string`, `google.protobuf.Timestamp`. */
export function typeNameOf(value: CelValue): string {
  return typeOf(value).name
}

export function isList(value: CelValue): value is CelList {
  return Array.isArray(value)
}

/**
 * `==`. Values of different types are unequal, except numbers, which compare by value (an int against a double as a
 * double, as cel-go does). NaN equals nothing. Comparing containers is charged to the meter.
 */
export function celEquals(left: CelValue, right: CelValue, meter?: Meter): boolean {
  if (left === right) return true // NaN !== NaN keeps CEL's rule
  const a = plain(left)
  const b = plain(right)
  if (typeof a === 'string' || typeof b === 'string') return a === b
  if (a === null || b === null || typeof a === 'boolean' || typeof b === 'boolean') return a === b
  if (isNumeric(a)) return isNumeric(b) && compareNumbers(a, b) === 0
  if (isList(a)) return isList(b) && listEquals(a, b, meter)
  if (a instanceof CelMap) return b instanceof CelMap && mapEquals(a, b, meter)
  if (a instanceof Uint8Array) return b instanceof Uint8Array && compareBytes(a, b) === 0
  if (a instanceof CelTimestamp) return b instanceof CelTimestamp && a.nanos === b.nanos
  if (a instanceof CelDuration) return b instanceof CelDuration && a.nanos === b.nanos
  if (a instanceof CelType) return b instanceof CelType && a.name === b.name
  if (a instanceof CelAddress) return b instanceof CelAddress && compareBytes(a.bytes, b.bytes) === 0
  if (a instanceof CelNetwork) {
    return b instanceof CelNetwork && a.prefixBits === b.prefixBits && compareBytes(a.bytes, b.bytes) === 0
  }
  if (a instanceof CelOptional && b instanceof CelOptional) {
    if (a.value === undefined || b.value === undefined) return a.value === b.value
    return celEquals(a.value, b.value, meter)
  }
  return false
}

type Numeric = bigint | number | CelUint

export function isNumeric(value: CelValue): value is Numeric {
  return typeof value === 'bigint' || typeof value === 'number' || value instanceof CelUint
}

/** -1, 0, 1; NaN when one side is NaN. */
function compareNumbers(left: Numeric, right: Numeric): number {
  const a = left instanceof CelUint ? left.value : left
  const b = right instanceof CelUint ? right.value : right
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : a === b ? 0 : NaN
  // One is a double: the conformance tests want the integer rounded to a double first.
  const x = Number(a)
  const y = Number(b)
  return x < y ? -1 : x > y ? 1 : x === y ? 0 : NaN
}

function listEquals(a: CelList, b: CelList, meter: Meter = new SizeMeter()): boolean {
  if (a.length !== b.length) return false
  meter.spend(1 + a.length)
  return a.every((item, index) => celEquals(item, b[index]!, meter)) // same length, so the element exists
}

function mapEquals(a: CelMap, b: CelMap, meter: Meter = new SizeMeter()): boolean {
  if (a.size !== b.size) return false
  meter.spend(1 + a.size)
  for (const key of a.keys()) {
    const left = a.get(key)
    const right = b.get(key)
    if (left === undefined || right === undefined || !celEquals(left, right, meter)) return false
  }
  return true
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  return Buffer.compare(a, b)
}

/** Order of two texts by code points (not by UTF-16 units). */
export function compareText(a: string, b: string): number {
  if (a === b) return 0
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x === y) continue
    // Surrogates (code points above U+FFFF) sort after every other unit.
    const highX = x >= 0xd800 && x <= 0xdfff
    const highY = y >= 0xd800 && y <= 0xdfff
    return highX === highY ? (x < y ? -1 : 1) : highX ? 1 : -1
  }
  return a.length < b.length ? -1 : 1
}

/**
 * The order behind `<`, `<=`, `>`, `>=` and `sort`: -1, 0, 1, or NaN when one side is NaN (every comparison false).
 * Throws EvaluationError for types without order and for two different types, except numbers.
 */
export function celCompare(left: CelValue, right: CelValue): number {
  const a = plain(left)
  const b = plain(right)
  if (isNumeric(a) && isNumeric(b)) return compareNumbers(a, b)
  if (typeof a === 'string' && typeof b === 'string') return compareText(a, b)
  if (typeof a === 'boolean' && typeof b === 'boolean') return Number(a) - Number(b)
  if (a instanceof Uint8Array && b instanceof Uint8Array) return compareBytes(a, b)
  if (
    (a instanceof CelTimestamp && b instanceof CelTimestamp) ||
    (a instanceof CelDuration && b instanceof CelDuration)
  ) {
    return a.nanos < b.nanos ? -1 : a.nanos > b.nanos ? 1 : 0
  }
  throw noSuchOverload(`${typeNameOf(a)} < ${typeNameOf(b)}`)
}
