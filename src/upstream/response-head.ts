/**
 * Turns an upstream's response head into one flat string, and decides its framing.
 *
 * Source: RFC 9110 §6.4.1, §8.6, §15.2; RFC 9112 §4, §6; H-03, H-31, H-33, H-35, H-50, T-30, T-35.
 */
import { STATUS_CODES } from 'node:http'
import { isHopByHop, parseConnection, withoutFields } from './hop-headers.ts'

/** Node's Buffer; `latin1Slice` is its fastest way to text and missing from the typings. */
export interface LatinBytes {
  latin1Slice(): string
}

export interface ResponseHead {
  readonly head: string
  /** 0 = no body follows, -1 = until the end of chunks or of the connection. */
  readonly bodyLength: number
  /** Content-Length as sent, -1 = none. */
  readonly contentLength: number
}

const LATIN1_LINES = /^(?:[!#$%&'*+.^_`|~0-9a-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*$/
const REASON = /^[\t\x20-\x7e]*$/
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/
const CONTENT_LENGTH = /^[0-9]{1,16}$/

/**
 * `fields`: names and values in turn, as bytes. Returns what is wrong as text when the head must not be used; the
 * answer is then 502 and the connection goes.
 */
export function readResponseHead(
  status: number,
  reason: string,
  fields: readonly LatinBytes[],
  isHead: boolean,
): ResponseHead | string {
  if (status < 200 || status > 599) return `status ${status}`
  if (CONTROL.test(reason)) return 'a control byte in the reason phrase'
  let lines = ''
  let contentLength = -1
  let chunked = false
  let connection: string | undefined
  for (let index = 0; index + 1 < fields.length; index += 2) {
    const name = fields[index]!.latin1Slice().toLowerCase()
    const value = fields[index + 1]!.latin1Slice()
    switch (name) {
      case 'content-length':
        if (contentLength !== -1) return 'Content-Length twice'
        if (!CONTENT_LENGTH.test(value)) return 'Content-Length is not a decimal number'
        contentLength = Number(value)
        continue
      case 'transfer-encoding':
        if (chunked || value.toLowerCase() !== 'chunked') return 'Transfer-Encoding is not exactly chunked'
        chunked = true
        continue
      case 'connection':
        connection = connection === undefined ? value : `${connection},${value}`
        continue
      default:
        if (isHopByHop(name)) continue
        lines += `${name}: ${value.trim()}\r\n`
    }
  }
  if (chunked && contentLength !== -1) return 'Content-Length beside Transfer-Encoding'
  if (!LATIN1_LINES.test(lines)) return 'a field name or value holds a byte that is not allowed there'
  if (connection !== undefined && connection !== 'keep-alive' && connection !== 'close') {
    // A response that names protected fields only harms itself: they stay (H-52 is about requests).
    const options = parseConnection(connection)
    if (options.named !== undefined) {
      const named = options.abuses === undefined ? options.named : options.named.filter((name) => !isKept(name))
      if (named.length > 0) lines = withoutFields(lines, named)
    }
  }
  const text = REASON.test(reason) ? reason : (STATUS_CODES[status] ?? '')
  const bodiless = isHead || status === 204 || status === 304
  return {
    head: `HTTP/1.1 ${status} ${text}\r\n${lines}`,
    bodyLength: bodiless ? 0 : contentLength,
    contentLength: status === 204 ? -1 : contentLength,
  }
}

const isKept = (name: string): boolean =>
  name === 'set-cookie' ||
  name === 'content-type' ||
  name === 'content-encoding' ||
  name === 'cache-control' ||
  name === 'location' ||
  name === 'content-range'
