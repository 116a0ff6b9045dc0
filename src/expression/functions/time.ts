/** Parts of timestamps and durations. Source: CEL language definition, "Timestamps and Durations"; traffic-policy.md §7.7. */
import { floorDivide } from '../convert.ts'
import { EvaluationError } from '../evaluation-error.ts'
import { CelDuration, CelTimestamp } from '../value.ts'
import type { CelValue } from '../value.ts'
import { wantText, wrong } from './arguments.ts'
import type { FunctionTable } from './registry.ts'

const DAY_MS = 86_400_000

export function defineTimeFunctions(table: FunctionTable): void {
  const part = (name: string, read: (local: Date) => number, ofDuration?: (duration: CelDuration) => bigint): void => {
    const overloads = [`timestamp.${name}() -> int`, `timestamp.${name}(string) -> int`]
    if (ofDuration !== undefined) overloads.push(`duration.${name}() -> int`)
    table.define(name, overloads, (_frame, a, zone: CelValue | undefined) => {
      if (a instanceof CelTimestamp)
        return BigInt(read(localTime(a, zone === undefined ? 'UTC' : wantText(zone, name))))
      if (a instanceof CelDuration && ofDuration !== undefined) return ofDuration(a)
      throw wrong(a, name)
    })
  }
  part('getFullYear', (local) => local.getUTCFullYear())
  part('getMonth', (local) => local.getUTCMonth())
  part('getDate', (local) => local.getUTCDate())
  part('getDayOfMonth', (local) => local.getUTCDate() - 1)
  part('getDayOfWeek', (local) => local.getUTCDay())
  part('getDayOfYear', (local) => {
    const start = new Date(local.getTime())
    start.setUTCMonth(0, 1)
    return Math.round((local.getTime() - start.getTime()) / DAY_MS)
  })
  part(
    'getHours',
    (local) => local.getUTCHours(),
    (duration) => duration.nanos / 3_600_000_000_000n,
  )
  part(
    'getMinutes',
    (local) => local.getUTCMinutes(),
    (duration) => duration.nanos / 60_000_000_000n,
  )
  part(
    'getSeconds',
    (local) => local.getUTCSeconds(),
    (duration) => duration.nanos / 1_000_000_000n,
  )
  // of a duration: only what is below a second
  part(
    'getMilliseconds',
    (local) => local.getUTCMilliseconds(),
    (duration) => (duration.nanos / 1_000_000n) % 1000n,
  )
}

/** A Date whose UTC fields show the wall clock of the zone. Throws EvaluationError for an unknown zone. */
function localTime(timestamp: CelTimestamp, zone: string): Date {
  const ms = Number(floorDivide(timestamp.nanos, 1_000_000n))
  if (zone === 'UTC' || zone === '') return new Date(ms)
  const offset = /^([+-]?)(\d{1,2}):(\d{2})$/.exec(zone)
  if (offset !== null) {
    const minutes = Number(offset[2]) * 60 + Number(offset[3])
    return new Date(ms + (offset[1] === '-' ? -minutes : minutes) * 60_000)
  }
  const parts = new Map(
    zoneFormat(zone)
      .formatToParts(ms)
      .map((entry) => [entry.type, entry.value]),
  )
  const field = (type: Intl.DateTimeFormatPartTypes): number => Number(parts.get(type))
  const local = new Date(0)
  // eras: years before 1 do not occur, timestamps begin with year 1
  local.setUTCFullYear(field('year'), field('month') - 1, field('day'))
  local.setUTCHours(field('hour'), field('minute'), field('second'), ((ms % 1000) + 1000) % 1000)
  return local
}

/** Zones in use at a time; making a formatter takes tens of microseconds. */
const MAX_ZONES = 64
const formats = new Map<string, Intl.DateTimeFormat>()

function zoneFormat(zone: string): Intl.DateTimeFormat {
  const known = formats.get(zone)
  if (known !== undefined) return known
  let format: Intl.DateTimeFormat
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      calendar: 'gregory',
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    })
  } catch {
    throw new EvaluationError('unknown time zone')
  }
  if (formats.size >= MAX_ZONES) formats.clear()
  formats.set(zone, format)
  return format
}
