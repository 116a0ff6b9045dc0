/**
 * Durations and byte sizes as people write them, to and from numbers.
 *
 * Source: traffic-policy.md §1.3 (the full Go duration grammar); gateway.yaml takes the same texts.
 */

const UNIT_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3, // U+00B5
  μs: 1e-3, // U+03BC
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
}

/** Go keeps durations in a signed 64-bit count of nanoseconds; this is its end in milliseconds. */
const LONGEST_MS = 9_223_372_036_854

/** A Go duration as a JSON Schema pattern (ECMA-262 syntax, whole text). */
export const DURATION_PATTERN = '^[-+]?(0|(([0-9]+(\\.[0-9]*)?|\\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$'

/** A byte size as a JSON Schema pattern. */
export const BYTE_SIZE_PATTERN = '^[0-9]+ ?(B|KiB|MiB|GiB)?$'

/**
 * `1h30m`, `500ms`, `1.5s`, `0` → milliseconds, possibly a fraction (`500us` is 0.5).
 * Undefined when the text is no Go duration or leaves Go's range.
 */
export function parseDurationMs(text: string): number | undefined {
  const signed = /^[-+]/.test(text)
  const body = signed ? text.slice(1) : text
  const sign = text.startsWith('-') ? -1 : 1
  if (body === '0') return 0
  let totalMs = 0
  let at = 0
  const part = /([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)/y
  while (at < body.length) {
    part.lastIndex = at
    const match = part.exec(body)
    if (match === null) return undefined
    // both groups took part in the match, and the unit is a key of the table
    totalMs += Number(match[1]) * UNIT_MS[match[2]!]!
    at = part.lastIndex
  }
  return at > 0 && totalMs <= LONGEST_MS ? sign * totalMs : undefined
}

/** Milliseconds → the shortest duration text that means the same, largest unit that divides it: 90000 → `90s`, 3600000 → `1h`. */
export function formatDurationMs(ms: number): string {
  if (ms === 0) return '0s'
  for (const unit of ['h', 'm', 's', 'ms'] as const) {
    const size = UNIT_MS[unit]! // a key of the table
    if (Number.isInteger(ms / size)) return `${ms / size}${unit}`
  }
  return `${Math.round(ms * 1000)}us`
}

const BYTE_UNITS: Readonly<Record<string, number>> = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }

/** `64KiB`, `10MiB`, `1GiB`, `512B`, `512` → bytes. Undefined for anything else, and beyond 2^53. */
export function parseByteSize(text: string): number | undefined {
  const match = /^([0-9]+) ?(B|KiB|MiB|GiB)?$/.exec(text)
  if (match === null) return undefined
  const bytes = Number(match[1]) * BYTE_UNITS[match[2] ?? 'B']! // the pattern admits keys of the table only
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/** Bytes → text with the largest unit that divides it: 65536 → `64KiB`; 0 → `0`. */
export function formatByteSize(bytes: number): string {
  if (bytes === 0) return '0'
  for (const unit of ['GiB', 'MiB', 'KiB'] as const) {
    const size = BYTE_UNITS[unit]! // a key of the table
    if (bytes % size === 0) return `${bytes / size}${unit}`
  }
  return `${bytes}B`
}
