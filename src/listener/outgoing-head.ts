/**
 * Response heads as the library wants them: checked, without the lines that the library or we write, in one piece.
 *
 * Source: H-03, H-123 (what may stand in a head), F-11 (lines that must not be there twice).
 */
import type { AnswerEdits } from './front-end.ts'
import type { HttpResponse } from './library.ts'

/** As upstreams and policies make them: ASCII, and with no line that the library or we write. One look is enough. */
const USUAL_HEAD =
  /^HTTP\/1\.1 (?:101|[2-5][0-9]{2}) [\t\x20-\x7e]*\r\n(?:(?!(?:date|connection|content-length|transfer-encoding): )[!#$%&'*+.^_`|~0-9a-z-]+: [\t\x20-\x7e]*\r\n)*$/
const RESPONSE_HEAD =
  /^HTTP\/1\.1 (?:101|[2-5][0-9]{2}) [\t\x20-\x7e\x80-\xff]*\r\n(?:[!#$%&'*+.^_`|~0-9a-z-]+: [\t\x20-\x7e\x80-\xff]*\r\n)*$/

// oxlint-disable-next-line no-control-regex
const ASCII = /^[\x00-\x7f]*$/

/** Beginnings of the lines that the library or we write. */
const DATE_LINE = '\r\ndate: '
const OWN_LINES = ['\r\nconnection: ', '\r\ncontent-length: ', '\r\ntransfer-encoding: ']

export interface ReadyHead {
  readonly text: string
  readonly isAscii: boolean
}

/**
 * The head without the lines that the library or we write (F-11). Throws when a head that the gateway made is none: it
 * would be two answers for somebody (H-123).
 */
export function readyHead(head: string): ReadyHead {
  const dateless = withoutLine(head, DATE_LINE)
  if (USUAL_HEAD.test(dateless)) return { text: dateless, isAscii: true }
  if (!RESPONSE_HEAD.test(dateless)) throw new Error('not a valid response head')
  const text = OWN_LINES.reduce(withoutLine, dateless)
  return { text, isAscii: ASCII.test(text) }
}

/** `line`: CRLF and the name with its colon and blank. Every line of that name goes. */
function withoutLine(head: string, line: string): string {
  let kept = head
  for (let at = kept.indexOf(line); at !== -1; at = kept.indexOf(line, at)) {
    const end = kept.indexOf('\r\n', at + 2)
    // a line without an end is no line, and the head none
    if (end === -1) return kept
    kept = kept.slice(0, at) + kept.slice(end)
  }
  return kept
}

/** The three digits behind `HTTP/1.1 `, checked before. */
export function statusOf(head: string): number {
  return head.charCodeAt(9) * 100 + head.charCodeAt(10) * 10 + head.charCodeAt(11) - DIGITS_OFFSET
}
const DIGITS_OFFSET = 0x30 * 111

/**
 * Writes status line and all lines with one call: the library puts `HTTP/1.1 ` before a status and CRLF behind it, and a
 * status may hold the lines that follow. `head` ends in CRLF; an empty line at its end is written too. As bytes when it
 * is not ASCII: the library encodes text as UTF-8.
 */
export function writeHead(res: HttpResponse, head: string, isAscii: boolean): void {
  const text = head.slice(9, -2)
  res.writeStatus(isAscii ? text : Buffer.from(text, 'latin1'))
}

/** A head that ends in the lines of `edits`, at the time that it is now. */
export function withClocks(head: string, { lines, clocks }: AnswerEdits): string {
  if (clocks.length === 0) return head
  const time = new Date().toISOString()
  const start = head.length - lines.length
  let text = head
  for (const place of clocks) text = text.slice(0, start + place) + time + text.slice(start + place + time.length)
  return text
}
