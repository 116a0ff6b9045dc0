/**
 * A match as ModSecurity writes it into Apache's error log, for the tools that read that: fail2ban, CrowdSec, log
 * shippers, CRS's own scripts.
 *
 * Source: seclang.md §13 (order of the fields); ModSecurity v2's `msc_alert` and Apache's default ErrorLogFormat.
 */
import type { MatchedExchange, ShownMatch } from './match-log.ts'
import { maskTokens } from './redact.ts'

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
/** Longest text from a request, in characters. */
const MAX_TEXT = 512

/**
 * One line in ASCII, with its line feed.
 *
 * @param match already masked
 * @param decision of the rule, when it decided to stop the exchange
 */
export function modsecurityLine(
  exchange: MatchedExchange,
  match: ShownMatch,
  decision: { readonly status: number; readonly phase: number } | null,
  now: Date = new Date(),
): string {
  const verdict =
    decision !== null && exchange.enforced
      ? `Access denied with code ${decision.status} (phase ${decision.phase}).`
      : 'Warning.'
  const client = `${exchange.clientAddress}${exchange.clientPort === 0 ? '' : `:${exchange.clientPort}`}`
  const path = exchange.target.split('?', 1)[0] ?? ''
  const fields = [
    field('file', match.file),
    field('line', String(match.line)),
    field('id', String(match.id)),
    field('msg', match.message),
    field('data', match.data),
    field('severity', match.severity.toUpperCase()),
    field('ver', match.version ?? ''),
    ...match.tags.map((tag) => field('tag', tag)),
    field('hostname', requestText(exchange.host)),
    field('uri', requestText(path)),
    field('unique_id', requestText(exchange.requestId)),
  ]
  return `[${apacheTime(now)}] [security2:error] [pid ${process.pid}:tid ${process.pid}] [client ${client}] [client ${exchange.clientAddress}] ModSecurity: ${verdict} Match at ${match.variable}.${fields.join('')}\n`
}

/** For texts that the matcher gave: they are escaped. */
function field(name: string, value: string): string {
  return value === '' ? '' : ` [${name} "${value}"]`
}

/** Characters of a request are bytes here (latin1): what is not printable, quotes and backslashes become `\xHH`. */
function requestText(text: string): string {
  return maskTokens(text.slice(0, MAX_TEXT)).replace(
    /[^\x20-\x7e]|["\\]/g,
    (character) => `\\x${(character.charCodeAt(0) & 0xff).toString(16).padStart(2, '0')}`,
  )
}

/** `Sun Nov 22 11:25:10.123456 2026`, in local time as Apache does. */
function apacheTime(time: Date): string {
  const two = (number: number): string => String(number).padStart(2, '0')
  const clock = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`
  const micros = `${String(time.getMilliseconds()).padStart(3, '0')}000`
  // both indexes are within their lists
  return `${DAYS[time.getDay()]!} ${MONTHS[time.getMonth()]!} ${two(time.getDate())} ${clock}.${micros} ${time.getFullYear()}`
}
