/**
 * Turns an error into an HTTP answer: the one door from `GatewayError` (or anything thrown) to bytes.
 *
 * Source: traffic-policy.md §8.1 (content negotiation, error headers), operations.md O-73, H-86; RFC 9457.
 */
import { ERRORS, GatewayError } from './gateway-error.ts'
import type { ErrorEntry } from './gateway-error.ts'
import { reasonPhrase } from './status-line.ts'

export interface ErrorAnswer {
  readonly status: number
  readonly lines: string
  readonly body: string
}

/** Everything that is not a GatewayError is an internal one: 500, no detail. */
export function toGatewayError(error: unknown): GatewayError {
  return error instanceof GatewayError ? error : new GatewayError('INTERNAL', { cause: error })
}

/** `accept` is the request's Accept value, empty when there was none. */
export function errorAnswer(error: GatewayError, accept: string, requestId: string): ErrorAnswer {
  const entry: ErrorEntry = ERRORS[error.code]
  const format = formatFor(accept)
  const code = entry.ngrok === undefined ? `ERR_GW_${entry.gw}` : `ERR_NGROK_${entry.ngrok}`
  const lines =
    `content-type: ${CONTENT_TYPES[format]}\r\ncache-control: no-store\r\nserver: sallyport\r\n` +
    `sallyport-error-code: ERR_GW_${entry.gw}\r\n` +
    (entry.ngrok === undefined ? '' : `ngrok-error-code: ERR_NGROK_${entry.ngrok}\r\n`) +
    error.lines
  return { status: entry.status, lines, body: render(format, entry, code, requestId, error.retryPath) }
}

type Format = 'html' | 'json' | 'text'

const CONTENT_TYPES: Record<Format, string> = {
  html: 'text/html; charset=utf-8',
  json: 'application/problem+json',
  text: 'text/plain; charset=utf-8',
}

function render(
  format: Format,
  entry: ErrorEntry,
  code: string,
  requestId: string,
  retryPath: string | undefined,
): string {
  const title = reasonPhrase(entry.status)
  if (format === 'json') {
    return JSON.stringify({
      type: `urn:sallyport:error:${code}`,
      title,
      status: entry.status,
      detail: entry.message,
      instance: requestId,
      error_code: code,
      request_id: requestId,
    })
  }
  if (format === 'text') return `${entry.message} (${code})\n`
  const again = retryPath === undefined ? '' : `<p><a href="${escaped(retryPath)}">Try again</a></p>\n`
  // the request id is ours or matched [A-Za-z0-9._~+/=-], so nothing else here needs escaping (H-86)
  return (
    `<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>${entry.status} ${title}</title></head>\n` +
    `<body><h1>${entry.status} ${title}</h1>\n<p>${entry.message} (${code})</p>\n${again}<p>Request ${requestId}</p></body></html>\n`
  )
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}

/** What was negotiated before; a refused client comes again with the same field. */
const formats = new Map<string, Format>()
const MOST_FORMATS = 256
const LONGEST_REMEMBERED = 256

function formatFor(accept: string): Format {
  const known = formats.get(accept)
  if (known !== undefined) return known
  const format = negotiate(accept)
  if (accept.length <= LONGEST_REMEMBERED) {
    if (formats.size >= MOST_FORMATS) formats.clear()
    formats.set(accept, format)
  }
  return format
}

/** HTML for `text/html`, a wildcard or nothing; JSON when asked for and HTML is not; plain text when only text is asked for. */
function negotiate(accept: string): Format {
  if (accept === '') return 'html'
  const types = accept
    .toLowerCase()
    .split(',')
    .filter((range) => !/;\s*q=0(?:\.0*)?\s*(?:;|$)/.test(range))
    .map((range) => range.split(';', 1)[0]!.trim())
  if (types.includes('text/html')) return 'html'
  if (types.some((type) => /^application\/(?:[a-z0-9.+-]*\+)?json$/.test(type))) return 'json'
  if (types.includes('*/*') || types.includes('application/xhtml+xml')) return 'html'
  if (types.some((type) => type.startsWith('text/'))) return 'text'
  return 'html'
}
