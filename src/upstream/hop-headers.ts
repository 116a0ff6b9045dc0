/**
 * Hop-by-hop fields: which ones stop at the gateway, and which ones `Connection` may never take away.
 *
 * Source: RFC 9110 §7.6.1; H-50, H-52, T-16.
 */

/** Always removed, in both directions, whether `Connection` names them or not (H-50). */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-authentication-info',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
])

/** One bit for each length of these names (all below 32): a look at it spares most other names the look-up. */
const HOP_BY_HOP_LENGTHS = [...HOP_BY_HOP].reduce((bits, name) => bits | (1 << name.length), 0)

/** Fields that must travel end to end or that the gateway relies on: a `Connection` that names one is an attack (H-52). */
const PROTECTED: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'content-type',
  'content-encoding',
  'content-range',
  'authorization',
  'cookie',
  'set-cookie',
  'cache-control',
  'via',
  'forwarded',
  'x-real-ip',
  'x-request-id',
  'traceparent',
  'tracestate',
  'date',
  'expect',
  'location',
  'range',
])

/** Whether a field (lower-case name) is removed whatever `Connection` says. */
export function isHopByHop(name: string): boolean {
  return ((HOP_BY_HOP_LENGTHS >>> name.length) & 1) === 1 && HOP_BY_HOP.has(name)
}

/** Whether `Connection` must not name this field (lower-case). */
export function isProtected(name: string): boolean {
  return PROTECTED.has(name) || name.startsWith('x-forwarded-')
}

/** What the `Connection` lines of one message ask for. */
export interface ConnectionOptions {
  readonly close: boolean
  readonly upgrade: boolean
  /** Further fields to remove (lower-case); undefined when there are none. */
  readonly named: readonly string[] | undefined
  /** The first protected field that it names, if any. */
  readonly abuses: string | undefined
  /** False when the value is not a list of tokens. */
  readonly valid: boolean
}

const TOKEN = /^[!#$%&'*+.^_`|~0-9a-z-]+$/

/**
 * Reads a `Connection` value (several lines joined by commas). Empty list members are skipped, as RFC 9110 §5.6.1
 * asks of recipients.
 */
export function parseConnection(value: string): ConnectionOptions {
  let close = false
  let upgrade = false
  let valid = true
  let abuses: string | undefined
  let named: string[] | undefined
  for (const member of value.toLowerCase().split(',')) {
    const option = member.trim()
    if (option === '' || option === 'keep-alive') continue
    if (option === 'close') close = true
    else if (option === 'upgrade') upgrade = true
    else if (!TOKEN.test(option)) valid = false
    else {
      if (isProtected(option)) abuses ??= option
      if (!HOP_BY_HOP.has(option)) (named ??= []).push(option)
    }
  }
  return { close, upgrade, named, abuses, valid }
}

/** Removes every line of the named fields from flat `name: value\r\n` lines. */
export function withoutFields(lines: string, names: readonly string[]): string {
  return filterFields(lines, (name) => !names.includes(name))
}

/** The lines of the named fields only. */
export function onlyFields(lines: string, names: readonly string[]): string {
  return filterFields(lines, (name) => names.includes(name))
}

function filterFields(lines: string, keeps: (name: string) => boolean): string {
  let kept = ''
  let start = 0
  while (start < lines.length) {
    const end = lines.indexOf('\r\n', start) + 2
    if (end === 1) break
    if (keeps(lines.slice(start, lines.indexOf(':', start)))) kept += lines.slice(start, end)
    start = end
  }
  return kept
}
