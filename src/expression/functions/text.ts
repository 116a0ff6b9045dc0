/**
 * Functions on text. Positions and lengths count code points (T-66).
 *
 * Source: CEL language definition and its strings extension; traffic-policy.md §7.5 (`split` truncates there).
 */
import { celToText, doubleText, durationText, timestampText } from '../convert.ts'
import { EvaluationError } from '../evaluation-error.ts'
import type { Frame } from '../frame.ts'
import { lengthCost } from '../meter.ts'
import type { Meter } from '../meter.ts'
import {
  CelAddress,
  CelDuration,
  CelMap,
  CelNetwork,
  CelTimestamp,
  CelType,
  CelUint,
  compareText,
  isList,
  plain,
  typeNameOf,
} from '../value.ts'
import type { CelList, CelValue } from '../value.ts'
import { integerOf, wantInt, wantList, wantText } from './arguments.ts'
import type { FunctionServices, FunctionTable, Implementation } from './registry.ts'

export function defineTextFunctions(table: FunctionTable, services: FunctionServices): void {
  defineSearches(table, services)
  const text = (name: string, change: (value: string) => string): void => {
    table.define(name, [`string.${name}() -> string`], (frame, a) => {
      const value = wantText(a, name)
      frame.spendLength(value.length)
      return change(value)
    })
  }
  text('lowerAscii', (value) => value.replace(/[A-Z]+/g, (part) => part.toLowerCase()))
  text('upperAscii', (value) => value.replace(/[a-z]+/g, (part) => part.toUpperCase()))
  text('trim', trimmed)
  text('reverse', (value) => [...value].toReversed().join(''))
  if (services.overrides) {
    text('lower', (value) => mapCase(value, 'toLowerCase'))
    text('upper', (value) => mapCase(value, 'toUpperCase'))
  }
  table.define('charAt', ['string.charAt(int) -> string'], (frame, a, index) => {
    const points = codePointsOf(wantText(a, 'charAt'), frame)
    const at = Number(wantInt(index, 'charAt'))
    if (at < 0 || at > points.length) throw outOfRange(at)
    return points[at] ?? ''
  })
  table.define('substring', ['string.substring(int) -> string', 'string.substring(int, int) -> string'], substring)
  table.define(
    'indexOf',
    ['string.indexOf(string) -> int', 'string.indexOf(string, int) -> int'],
    (frame, a, part, from: CelValue | undefined) => indexOf(frame, a, part, from),
  )
  table.define(
    'lastIndexOf',
    ['string.lastIndexOf(string) -> int', 'string.lastIndexOf(string, int) -> int'],
    (frame, a, part, from: CelValue | undefined) => lastIndexOf(frame, a, part, from),
  )
  table.define(
    'replace',
    ['string.replace(string, string) -> string', 'string.replace(string, string, int) -> string'],
    replace,
  )
  table.define(
    'split',
    [
      ...(services.overrides ? ['string.split() -> list(string)'] : []),
      'string.split(string) -> list(string)',
      'string.split(string, int) -> list(string)',
    ],
    services.overrides ? splitTruncating : splitKeepingRest,
  )
  table.define(
    'join',
    ['list(string).join() -> string', 'list(string).join(string) -> string'],
    (frame, a, separator: CelValue | undefined) => {
      const parts = wantList(a, 'join').map((part) => wantText(part, 'join'))
      const between = separator === undefined ? '' : wantText(separator, 'join')
      let length = parts.length * between.length
      for (const part of parts) length += part.length
      frame.spendLength(length) // before the text is made
      return parts.join(between)
    },
  )
  table.define('format', ['string.format(list(dyn)) -> string'], (frame, a, values) => {
    return formatted(wantText(a, 'format'), wantList(values, 'format'), frame)
  })
  table.define('strings.quote', ['strings.quote(string) -> string'], (frame, a) => {
    const value = wantText(a, 'strings.quote')
    frame.spendLength(value.length)
    return quoted(value)
  })
}

/** contains, startsWith, endsWith, matches: the functions of nearly every policy. */
function defineSearches(table: FunctionTable, services: FunctionServices): void {
  const search = (
    name: 'contains' | 'startsWith' | 'endsWith' | 'starts_with' | 'ends_with',
    test: (text: string, part: string) => boolean,
  ): void => {
    const call: Implementation = (frame, a, b) => {
      const value = wantText(a, name)
      frame.spendLength(value.length)
      return test(value, wantText(b, name))
    }
    table.define(name, [`string.${name}(string) -> bool`], call, {
      specialize: ([, part]) =>
        typeof part === 'string' ? (_frame, a) => test(typeof a === 'string' ? a : wantText(a, name), part) : undefined,
    })
  }
  search('contains', (text, part) => text.includes(part))
  search('startsWith', (text, part) => text.startsWith(part))
  search('endsWith', (text, part) => text.endsWith(part))
  // as some pages of ngrok's reference write them
  search('starts_with', (text, part) => text.startsWith(part))
  search('ends_with', (text, part) => text.endsWith(part))
  const compiled = (text: string): { test(text: string): boolean } => {
    if (text.length > MAX_PATTERN_LENGTH) throw new EvaluationError('the regular expression is too long')
    try {
      return services.pattern(text)
    } catch (error) {
      throw new EvaluationError(`invalid regular expression: ${(error as Error).message}`)
    }
  }
  table.define(
    'matches',
    ['matches(string, string) -> bool', 'string.matches(string) -> bool'],
    (frame, a, pattern) => {
      const text = wantText(a, 'matches')
      frame.spend(16 + (text.length >> 2)) // a pattern that is only known now costs its compilation too
      return compiled(wantText(pattern, 'matches')).test(text)
    },
    {
      specialize: ([, pattern]) => {
        if (typeof pattern !== 'string') return undefined
        const matcher = compiled(pattern)
        return (frame, a) => {
          const text = wantText(a, 'matches')
          frame.spendLength(text.length)
          return matcher.test(text)
        }
      },
    },
  )
}

const MAX_PATTERN_LENGTH = 4096

// -- code points ------------------------------------------------------------------------------------------------------

const SURROGATES = /[\ud800-\udfff]/

export function codePointCount(text: string): number {
  if (!SURROGATES.test(text)) return text.length
  let count = 0
  for (const _ of text) count++
  return count
}

/** Something indexable by code point: the text itself where every code point is one unit. */
function codePointsOf(text: string, frame: Frame): string | readonly string[] {
  frame.spendLength(text.length)
  return SURROGATES.test(text) ? [...text] : text
}

function outOfRange(index: number): EvaluationError {
  return new EvaluationError(`index out of range: ${index}`)
}

/** UTF-16 offset to code point offset. */
function pointsBefore(text: string, offset: number): number {
  return codePointCount(text.slice(0, offset))
}

/** Code point offset to UTF-16 offset. */
function unitsBefore(text: string, points: number): number {
  if (!SURROGATES.test(text)) return points
  let units = 0
  let left = points
  for (const char of text) {
    if (left-- <= 0) break
    units += char.length
  }
  return units
}

function substring(frame: Frame, a: CelValue, from: CelValue, to: CelValue | undefined): string {
  const points = codePointsOf(wantText(a, 'substring'), frame)
  const start = Number(wantInt(from, 'substring'))
  const end = to === undefined ? points.length : Number(wantInt(to, 'substring'))
  if (start < 0 || start > points.length) throw outOfRange(start)
  if (end < 0 || end > points.length) throw outOfRange(end)
  if (start > end) throw new EvaluationError(`invalid substring range: ${start} to ${end}`)
  const part = points.slice(start, end)
  return typeof part === 'string' ? part : part.join('')
}

function indexOf(frame: Frame, a: CelValue, b: CelValue, from: CelValue | undefined): bigint {
  const text = wantText(a, 'indexOf')
  const part = wantText(b, 'indexOf')
  frame.spendLength(text.length)
  const start = from === undefined ? 0 : Number(wantInt(from, 'indexOf'))
  if (start < 0 || (from !== undefined && start > codePointCount(text))) throw outOfRange(start)
  const found = text.indexOf(part, unitsBefore(text, start))
  return BigInt(found <= 0 ? found : pointsBefore(text, found))
}

function lastIndexOf(frame: Frame, a: CelValue, b: CelValue, from: CelValue | undefined): bigint {
  const text = wantText(a, 'lastIndexOf')
  const part = wantText(b, 'lastIndexOf')
  frame.spendLength(text.length)
  const length = codePointCount(text)
  const start = from === undefined ? length : Number(wantInt(from, 'lastIndexOf'))
  if (start < 0 || start > length) throw outOfRange(start)
  const found = text.lastIndexOf(part, unitsBefore(text, start))
  return BigInt(found <= 0 ? found : pointsBefore(text, found))
}

function replace(frame: Frame, a: CelValue, b: CelValue, c: CelValue, ...more: CelValue[]): string {
  const text = wantText(a, 'replace')
  const old = wantText(b, 'replace')
  const replacement = wantText(c, 'replace')
  const limit = more[0] === undefined ? -1 : Number(wantInt(more[0], 'replace'))
  frame.spendLength(text.length)
  if (limit === 0) return text
  const parts: string[] = []
  let at = 0
  let count = 0
  // with nothing to look for, the replacement goes before every character and to the end (Go's strings.Replace)
  const points = old === '' ? [...text, ''] : undefined
  if (points !== undefined) {
    for (const [index, char] of points.entries()) parts.push(limit < 0 || index < limit ? replacement + char : char)
  } else {
    let found = text.indexOf(old)
    while (found !== -1 && count !== limit) {
      parts.push(text.slice(at, found), replacement)
      at = found + old.length
      found = text.indexOf(old, at)
      count++
    }
    parts.push(text.slice(at))
  }
  frame.spendLength(parts.length * replacement.length + text.length)
  return parts.join('')
}

/** The strings extension: at most `limit` parts, the last one keeps the rest; negative = all. */
function splitKeepingRest(frame: Frame, a: CelValue, b: CelValue, c: CelValue | undefined): CelList {
  const text = wantText(a, 'split')
  const separator = wantText(b, 'split')
  const limit = c === undefined ? -1 : Number(wantInt(c, 'split'))
  frame.spendLength(text.length)
  if (limit === 0) return []
  const parts = separator === '' ? [...text] : text.split(separator)
  if (limit < 0 || parts.length <= limit) return parts
  return [...parts.slice(0, limit - 1), parts.slice(limit - 1).join(separator)]
}

/** §7.5: at most `limit` parts, the rest is dropped; without separator at blanks. */
function splitTruncating(frame: Frame, a: CelValue, b: CelValue | undefined, c: CelValue | undefined): CelList {
  const text = wantText(a, 'split')
  frame.spendLength(text.length)
  if (b === undefined) return trimmed(text) === '' ? [] : trimmed(text).split(/[\t-\r \u0085\u00a0\u2028\u2029]+/)
  const separator = wantText(b, 'split')
  const parts = separator === '' ? [...text] : text.split(separator)
  const limit = c === undefined ? -1 : Number(wantInt(c, 'split'))
  return limit < 0 ? parts : parts.slice(0, limit)
}

const SPACE = String.raw`[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]`
const LEADING_SPACE = new RegExp(`^${SPACE}+`)
const ONE_SPACE = new RegExp(SPACE)

function trimmed(text: string): string {
  const start = LEADING_SPACE.exec(text)?.[0].length ?? 0
  let end = text.length
  while (end > start && ONE_SPACE.test(text[end - 1]!)) end--
  return text.slice(start, end)
}

/** Go's mapping, one code point to one: `İ` becomes `i`, `ß` stays. */
function mapCase(text: string, change: 'toLowerCase' | 'toUpperCase'): string {
  // oxlint-disable-next-line no-control-regex -- the range is ASCII as a whole
  if (/^[\x00-\x7f]*$/.test(text)) return text[change]()
  let result = ''
  for (const char of text) {
    const mapped = char === 'İ' && change === 'toLowerCase' ? 'i' : char[change]()
    result += codePointCount(mapped) === 1 ? mapped : char
  }
  return result
}

const QUOTED: Readonly<Record<string, string>> = {
  '\x07': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
}

function quoted(text: string): string {
  // oxlint-disable-next-line no-control-regex -- these are the characters that have escapes
  return `"${text.replace(/\p{Surrogate}/gu, '\ufffd').replace(/[\x07-\x0d"\\]/g, (char) => QUOTED[char]!)}"`
}

// -- format -----------------------------------------------------------------------------------------------------------

const MAX_PRECISION = 100

/** `%s %d %f %e %b %x %X %o %%`. Throws EvaluationError for unknown verbs, missing and unfitting arguments. */
function formatted(format: string, values: CelList, frame: Frame): string {
  let next = 0
  let result = ''
  let at = 0
  while (at < format.length) {
    const percent = format.indexOf('%', at)
    if (percent === -1) break
    result += format.slice(at, percent)
    if (format[percent + 1] === '%') {
      result += '%'
      at = percent + 2
      continue
    }
    const clause = /^%(?:\.(\d+))?([a-zA-Z])/.exec(format.slice(percent, percent + 8))
    if (clause === null) throw new EvaluationError('format: a clause has no verb')
    const precision = clause[1] === undefined ? 6 : Number(clause[1])
    if (precision > MAX_PRECISION) throw new EvaluationError(`format: precision above ${MAX_PRECISION}`)
    if (next >= values.length) throw new EvaluationError(`format: index ${next} out of range`)
    result += formatOne(clause[2]!, precision, plain(values[next]!), frame)
    frame.spendLength(result.length)
    next++
    at = percent + clause[0].length
  }
  return result + format.slice(at)
}

function formatOne(verb: string, precision: number, value: CelValue, meter: Meter): string {
  const refused = (): EvaluationError => new EvaluationError(`format: %${verb} does not take a ${typeNameOf(value)}`)
  const integer = integerOf(value)
  switch (verb) {
    case 's':
      return formatText(value, meter)
    case 'd':
      if (integer !== undefined) return String(integer)
      if (typeof value === 'number' && !Number.isFinite(value)) return String(value)
      throw refused()
    case 'f':
    case 'e': {
      const number = integer === undefined ? value : Number(integer)
      if (typeof number !== 'number') throw refused()
      if (!Number.isFinite(number)) return String(number)
      return verb === 'f' ? fixed(number, precision) : exponential(number, precision)
    }
    case 'b':
      if (typeof value === 'boolean') return value ? '1' : '0'
      if (integer === undefined) throw refused()
      return integer.toString(2)
    case 'o':
      if (integer === undefined) throw refused()
      return integer.toString(8)
    case 'x':
    case 'X': {
      let hex: string
      if (integer !== undefined) hex = integer.toString(16)
      else if (typeof value === 'string') hex = Buffer.from(value, 'utf8').toString('hex')
      else if (value instanceof Uint8Array) hex = Buffer.from(value).toString('hex')
      else throw refused()
      return verb === 'x' ? hex : hex.toUpperCase()
    }
    default:
      throw new EvaluationError(`format: unknown verb %${verb}`)
  }
}

function formatText(value: CelValue, meter: Meter): string {
  switch (typeof value) {
    case 'string':
      meter.spend(lengthCost(value.length))
      return value
    case 'boolean':
    case 'bigint':
      return String(value)
    case 'number':
      return doubleText(value)
    default:
      break
  }
  if (value === null) return 'null'
  if (value instanceof CelUint) return String(value.value)
  if (value instanceof CelTimestamp) return timestampText(value)
  if (value instanceof CelDuration) return durationText(value)
  if (value instanceof CelType) return value.name
  if (value instanceof Uint8Array) return Buffer.from(value).toString('utf8')
  if (isList(value)) {
    meter.spend(1 + value.length)
    return `[${value.map((item) => formatText(plain(item), meter)).join(', ')}]`
  }
  if (value instanceof CelMap) {
    meter.spend(1 + value.size)
    const entries = value
      .keys()
      .map((key) => [formatText(key, meter), formatText(plain(value.get(key)!), meter)] as const) // keys() names existing keys only
      .sort((a, b) => compareText(a[0], b[0]))
    return `{${entries.map(([key, member]) => `${key}: ${member}`).join(', ')}}`
  }
  if (value instanceof CelAddress || value instanceof CelNetwork) return celToText(value)
  throw new EvaluationError(`format: %s does not take a ${typeNameOf(value)}`)
}

/** `%.nf` with ties to the even digit, as Go writes it (JavaScript rounds ties up). */
function fixed(value: number, precision: number): string {
  if (Math.abs(value) >= 1e21) {
    const whole = BigInt(value).toString()
    return precision === 0 ? whole : `${whole}.${'0'.repeat(precision)}`
  }
  const plainText = value.toFixed(precision)
  const exact = value.toFixed(Math.min(100, precision + 60))
  const tail = exact.slice(exact.length - (Math.min(100, precision + 60) - precision))
  if (!/^50*$/.test(tail)) return plainText
  // exactly between two: take the neighbour whose last digit is even
  const cut = exact.slice(0, exact.length - tail.length).replace(/\.$/, '')
  return Number(cut.at(-1)) % 2 === 0 ? cut : plainText
}

function exponential(value: number, precision: number): string {
  return value.toExponential(precision).replace(/e([+-])(\d)$/, 'e$10$2')
}
