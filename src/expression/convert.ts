/**
 * Values to text and JSON, and back.
 *
 * Source: traffic-policy.md §4 (string conversion), §7.3 (numbers of decoded JSON); RFC 3339; Go's time.Duration text.
 */
import { EvaluationError } from './evaluation-error.ts'
import { SizeMeter, lengthCost } from './meter.ts'
import type { Meter } from './meter.ts'
import type { JsonValue } from './source.ts'
import {
  CelAddress,
  CelDuration,
  CelMap,
  CelNetwork,
  CelOptional,
  CelTimestamp,
  CelType,
  CelUint,
  HybridString,
  compareText,
  isList,
  plain,
} from './value.ts'
import type { CelList, CelValue } from './value.ts'

/** A JSON object as a map: members become CEL values when they are asked for. */
export class JsonMap extends CelMap {
  readonly #object: Readonly<Record<string, JsonValue>>
  readonly #depth: number

  constructor(object: Readonly<Record<string, JsonValue>>, depth = 0) {
    super()
    this.#object = object
    this.#depth = depth
  }

  get size(): number {
    return Object.keys(this.#object).length
  }

  get(key: CelValue): CelValue | undefined {
    const name = plain(key)
    // only own members: nothing of JavaScript's own objects is reachable (T-67)
    if (typeof name !== 'string' || !Object.hasOwn(this.#object, name)) return undefined
    const value = this.#object[name]
    return value === undefined ? undefined : celFromJson(value, this.#depth + 1)
  }

  keys(): CelList {
    return Object.keys(this.#object)
  }
}

/** Nesting of JSON that expressions can look into: walks over values are recursive. */
const MAX_JSON_DEPTH = 500

/**
 * JSON as CEL sees it: integral numbers that are exact are int, others double. Objects are converted lazily.
 * Throws EvaluationError (now or when a member is read) for nesting beyond 500 levels; `depth` is where `value` stands.
 */
export function celFromJson(value: JsonValue, depth = 0): CelValue {
  switch (typeof value) {
    case 'number':
      return Number.isSafeInteger(value) && !Object.is(value, -0) ? BigInt(value) : value
    case 'string':
    case 'boolean':
      return value
    default:
      if (value === null) return null
      if (depth > MAX_JSON_DEPTH) throw new EvaluationError(`JSON is nested deeper than ${MAX_JSON_DEPTH} levels`)
      if (Array.isArray(value)) return (value as readonly JsonValue[]).map((item) => celFromJson(item, depth + 1))
      return new JsonMap(value as Readonly<Record<string, JsonValue>>, depth)
  }
}

/**
 * What an interpolation writes (§4). A list of texts is its elements joined by ", " — one header value is that value.
 * Throws EvaluationError for values that have no text or would make too long a one.
 */
export function celToText(value: CelValue, meter: Meter = new SizeMeter()): string {
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
  if (value === null) return ''
  if (value instanceof HybridString) return value.text
  if (value instanceof CelUint) return String(value.value)
  if (value instanceof CelTimestamp) return timestampText(value)
  if (value instanceof CelDuration) return goDurationText(value)
  if (value instanceof Uint8Array) return Buffer.from(value).toString('utf8')
  if (value instanceof CelType) return value.name
  if (value instanceof CelAddress) return addressText(value.bytes)
  if (value instanceof CelNetwork) return networkText(value)
  if (value instanceof CelOptional) return value.value === undefined ? '' : celToText(value.value, meter)
  if (isList(value) && value.length > 0) {
    const texts = value.map((item) => plain(item)).filter((item) => typeof item === 'string')
    for (const text of texts) meter.spend(lengthCost(text.length))
    if (texts.length === value.length) return texts.join(', ')
  }
  return encodeJson(value, meter)
}

/** Compact JSON with sorted keys. Throws EvaluationError for values JSON has no form for (NaN, types). */
export function encodeJson(value: CelValue, meter: Meter = new SizeMeter()): string {
  switch (typeof value) {
    case 'string':
      meter.spend(lengthCost(value.length))
      return JSON.stringify(value)
    case 'boolean':
    case 'bigint':
      return String(value)
    case 'number':
      if (!Number.isFinite(value)) throw new EvaluationError('JSON has no NaN and no infinity')
      return String(value)
    default:
      break
  }
  if (value === null) return 'null'
  if (value instanceof CelUint) return String(value.value)
  if (isList(value)) {
    meter.spend(1 + value.length)
    return `[${value.map((item) => encodeJson(item, meter)).join(',')}]`
  }
  if (value instanceof CelMap) {
    meter.spend(1 + value.size)
    const members = value
      .keys()
      .map((key) => [celToText(key), value.get(key)!] as const) // keys() names existing keys only
      .sort((a, b) => compareText(a[0], b[0]))
    return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${encodeJson(member, meter)}`).join(',')}}`
  }
  if (value instanceof Uint8Array) return JSON.stringify(Buffer.from(value).toString('base64'))
  if (value instanceof CelType) throw new EvaluationError('a type has no JSON form')
  return JSON.stringify(celToText(value, meter))
}

/** The same as a tree. Ints beyond 2^53 become text, because a JSON number would round them. */
export function celToJson(value: CelValue, meter: Meter = new SizeMeter()): JsonValue {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value
    case 'bigint':
      return integerJson(value)
    case 'number':
      return Number.isFinite(value) ? value : String(value)
    default:
      break
  }
  if (value === null) return null
  if (value instanceof CelUint) return integerJson(value.value)
  if (isList(value)) {
    meter.spend(1 + value.length)
    return value.map((item) => celToJson(item, meter))
  }
  if (value instanceof CelMap) {
    meter.spend(1 + value.size)
    // fromEntries defines own members, `__proto__` included
    return Object.fromEntries(value.keys().map((key) => [celToText(key), celToJson(value.get(key)!, meter)]))
  }
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  if (value instanceof CelOptional) return value.value === undefined ? null : celToJson(value.value, meter)
  return celToText(value)
}

function integerJson(value: bigint): JsonValue {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : String(value)
}

/** Shortest text that reads back as the same double. */
export function doubleText(value: number): string {
  if (Object.is(value, -0)) return '-0'
  return String(value).replace(/e([+-])(\d)$/, 'e$10$2')
}

/** RFC 3339 in UTC with as many digits of the fraction as there are. */
export function timestampText(timestamp: CelTimestamp): string {
  const seconds = floorDivide(timestamp.nanos, 1_000_000_000n)
  const fraction = timestamp.nanos - seconds * 1_000_000_000n
  // years 1 to 9999 fit into a Date
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19)
  return `${whole}${fractionText(fraction)}Z`
}

function fractionText(nanos: bigint): string {
  return nanos === 0n ? '' : `.${String(nanos).padStart(9, '0').replace(/0+$/, '')}`
}

/** Seconds with a fraction: `6347s`, `0.5s` — what CEL's string() gives. */
export function durationText(duration: CelDuration): string {
  const negative = duration.nanos < 0n
  const nanos = negative ? -duration.nanos : duration.nanos
  return `${negative ? '-' : ''}${nanos / 1_000_000_000n}${fractionText(nanos % 1_000_000_000n)}s`
}

/** `1h30m0s`, `1.5s`, `250ms`, `0s`. */
export function goDurationText(duration: CelDuration): string {
  const negative = duration.nanos < 0n
  const nanos = negative ? -duration.nanos : duration.nanos
  const sign = negative ? '-' : ''
  if (nanos === 0n) return '0s'
  for (const [unit, size] of [
    ['ns', 1n],
    ['µs', 1000n],
    ['ms', 1_000_000n],
  ] as const) {
    if (nanos >= size * 1000n) continue
    const rest = String(nanos % size)
      .padStart(String(size).length - 1, '0')
      .replace(/0+$/, '')
    return `${sign}${nanos / size}${rest === '' ? '' : `.${rest}`}${unit}`
  }
  const seconds = nanos / 1_000_000_000n
  const hours = seconds / 3600n
  const minutes = (seconds / 60n) % 60n
  const tail = `${seconds % 60n}${fractionText(nanos % 1_000_000_000n)}s`
  if (hours > 0n) return `${sign}${hours}h${minutes}m${tail}`
  return minutes > 0n ? `${sign}${minutes}m${tail}` : `${sign}${tail}`
}

/** 4 when the sixteen bytes hold an IPv4 address. */
export function familyOf(bytes: Uint8Array): 4 | 6 {
  return bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff ? 4 : 6
}

/** Canonical text of sixteen bytes (RFC 5952): the longest run of zero groups is left out. */
export function addressText(bytes: Uint8Array): string {
  if (familyOf(bytes) === 4) return bytes.subarray(12).join('.')
  // sixteen bytes: both exist
  const groups = Array.from({ length: 8 }, (_, index) =>
    ((bytes[index * 2]! << 8) | bytes[index * 2 + 1]!).toString(16),
  )
  const runs = [...groups.join(':').matchAll(/(?<![0-9a-f])0(?::0)+(?![0-9a-f])/g)]
  const longest = runs.reduce((best, run) => (run[0].length > best.length ? run[0] : best), '')
  const text = groups.join(':')
  if (longest === '') return text
  const at = runs.find((run) => run[0] === longest)!.index // one of the runs is the longest
  return `${text.slice(0, at).replace(/:$/, '')}::${text.slice(at + longest.length).replace(/^:/, '')}`
}

/** `10.0.0.0/8`. */
export function networkText(network: CelNetwork): string {
  const length = familyOf(network.bytes) === 4 ? network.prefixBits - 96 : network.prefixBits
  return `${addressText(network.bytes)}/${length}`
}

/** Division that rounds towards minus infinity. */
export function floorDivide(a: bigint, b: bigint): bigint {
  const quotient = a / b
  return a % b !== 0n && a < 0n !== b < 0n ? quotient - 1n : quotient
}
