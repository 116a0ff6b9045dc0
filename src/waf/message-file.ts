/**
 * An HTTP message that somebody saved in a file, read as leniently as files are written and as strictly as a head must
 * be: line ends may be LF, a body may end in an editor's newline, and everything that was put right is said.
 *
 * Source: RFC 9112 §2–§7 for the form; the head comes out as the front end gives it to the rules.
 */
import { readFileSync } from 'node:fs'
import type { Diagnostics } from '../config/diagnostic.ts'
import { SourceFile } from '../config/source.ts'

export interface MessageFile {
  /** `GET /path HTTP/1.1` or `HTTP/1.1 200 OK`, then `name: value` lines with names in lower case, each with CRLF. */
  readonly head: string
  readonly method: string
  readonly target: string
  /** Of a response; 0 for a request. */
  readonly status: number
  readonly body: Uint8Array
  /** The last value of a field; undefined when it is not there. */
  field(name: string): string | undefined
  /** What was put right, one sentence each. */
  readonly notes: readonly string[]
}

const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S(?:.*\S)?) HTTP\/\d(?:\.\d)?$/
const STATUS_LINE = /^HTTP\/\d(?:\.\d)? (\d{3})(?: (.*))?$/
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/

/** Reads a file, or standard input for `-`. Undefined after errors. */
export function readMessage(
  path: string,
  kind: 'request' | 'response',
  diagnostics: Diagnostics,
): MessageFile | undefined {
  let text: string
  try {
    text = readFileSync(path === '-' ? 0 : path, 'latin1')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    diagnostics.error(
      code === 'ENOENT' ? 'FILE_NOT_FOUND' : 'FILE_NOT_READABLE',
      code === 'ENOENT' ? `${path}: no such file` : `${path}: ${message}`,
    )
    return undefined
  }
  return readMessageFile(new SourceFile(path === '-' ? '<stdin>' : path, text), kind, diagnostics)
}

/** Undefined after errors. Texts are bytes: one character each (latin1). */
export function readMessageFile(
  source: SourceFile,
  kind: 'request' | 'response',
  diagnostics: Diagnostics,
): MessageFile | undefined {
  const { text } = source
  const notes: string[] = []
  const begin = /^(?:\r?\n)*/.exec(text)![0].length // matches at least the empty text
  const blank = /\r?\n\r?\n/.exec(text.slice(begin))
  const headEnd = blank === null ? text.length : begin + blank.index
  const lines = linesOf(text, begin, headEnd)
  const error = (message: string, line: Line, hint?: string): undefined => {
    diagnostics.error('HTTP_MESSAGE', message, { source, start: line.start, end: line.start + line.text.length }, hint)
  }
  const [first, ...rest] = lines
  if (first === undefined || first.text === '') {
    diagnostics.error('HTTP_MESSAGE', `${source.path} holds no ${kind}`, { source, start: 0, end: 0 })
    return undefined
  }
  const request = kind === 'request' ? REQUEST_LINE.exec(first.text) : null
  const response = kind === 'response' ? STATUS_LINE.exec(first.text) : null
  if (request === null && response === null) {
    const form = kind === 'request' ? 'GET /path HTTP/1.1' : 'HTTP/1.1 200 OK'
    const hint = /^[<>*] /.test(first.text)
      ? 'curl -v puts `> ` and `< ` before the lines of heads: take them away'
      : `write ${form}`
    return error(`the first line of a ${kind} has the form ${form}`, first, hint)
  }
  const fields: [name: string, value: string][] = []
  for (const line of rest) {
    const field = FIELD.exec(line.text)
    if (field === null) {
      const hint = /^[ \t]/.test(line.text)
        ? 'a header may not go on in the next line'
        : line.text.startsWith(':')
          ? 'names with a colon in front belong to HTTP/2: write Host instead of :authority'
          : 'a body begins behind an empty line'
      error('a header has the form Name: value', line, hint)
    } else {
      // the expression has two groups, which took part
      fields.push([field[1]!.toLowerCase(), field[2]!])
    }
  }
  if (diagnostics.hasErrors) return undefined
  const bytes = Buffer.from(blank === null ? '' : text.slice(headEnd + blank[0].length), 'latin1')
  const body = bodyOf(bytes, fields, kind, notes)
  if (kind === 'request' && !fields.some(([name]) => name === 'host')) {
    notes.push('the request has no Host: the gateway answers such a request 400 before any rule runs')
  }
  const start =
    request === null ? `HTTP/1.1 ${response![1]!} ${response![2] ?? ''}` : `${request[1]!} ${request[2]!} HTTP/1.1`
  return {
    head: `${[start, ...fields.map(([name, value]) => `${name}: ${value}`)].join('\r\n')}\r\n`,
    method: request?.[1] ?? '',
    target: request?.[2] ?? '',
    status: Number(response?.[1] ?? 0),
    body,
    field: (wanted) => fields.findLast(([name]) => name === wanted)?.[1],
    notes,
  }
}

interface Line {
  readonly text: string
  readonly start: number
}

function linesOf(text: string, begin: number, end: number): Line[] {
  const lines: Line[] = []
  for (let at = begin; at <= end;) {
    const feed = text.indexOf('\n', at)
    const stop = feed === -1 || feed > end ? end : feed
    lines.push({ text: text.slice(at, stop).replace(/\r$/, ''), start: at })
    at = stop + 1
  }
  // the file may end behind the head's last line end
  return lines.at(-1)?.text === '' ? lines.slice(0, -1) : lines
}

/** Takes the framing off, and makes Content-Length fit: people edit bodies. */
function bodyOf(
  bytes: Buffer,
  fields: [name: string, value: string][],
  kind: 'request' | 'response',
  notes: string[],
): Uint8Array {
  const chunked = fields.some(([name, value]) => name === 'transfer-encoding' && /\bchunked\s*$/i.test(value))
  if (chunked) {
    const whole = withoutChunks(bytes)
    if (whole !== undefined) return whole
    if (bytes.length > 0) notes.push('Transfer-Encoding says chunked, but the body is not: it is taken as it stands')
    return bytes
  }
  const length = fields.find(([name]) => name === 'content-length')
  const announced = length !== undefined && /^\d{1,15}$/.test(length[1]) ? Number(length[1]) : undefined
  const body = announced === bytes.length ? bytes : withoutLastNewline(bytes, announced)
  if (announced !== undefined && announced !== body.length) {
    notes.push(`Content-Length says ${announced}, the file has ${body.length} bytes of body: ${body.length} is taken`)
    length![1] = String(body.length)
  } else if (length === undefined && body.length > 0 && kind === 'request') {
    // a response may end with its connection, a request may not
    fields.push(['content-length', String(body.length)])
    notes.push(`Content-Length is missing: ${body.length} is taken`)
  }
  return body
}

/** An editor's newline goes, unless it belongs to the announced length. */
function withoutLastNewline(bytes: Buffer, announced: number | undefined): Buffer {
  if (bytes.at(-1) !== 0x0a || (announced !== undefined && bytes.length < announced)) return bytes
  return bytes.subarray(0, bytes.at(-2) === 0x0d ? -2 : -1)
}

/** Undefined when it is not what RFC 9112 §7.1 says. Trailers are dropped. */
function withoutChunks(bytes: Buffer): Buffer | undefined {
  const chunks: Buffer[] = []
  for (let at = 0; ;) {
    const lineEnd = bytes.indexOf('\n', at)
    if (lineEnd === -1) return undefined
    const size = /^([0-9a-f]{1,8})[ \t]*(?:;.*)?\r?$/i.exec(bytes.toString('latin1', at, lineEnd))
    if (size === null) return undefined
    const length = Number.parseInt(size[1]!, 16) // the group took part
    if (length === 0) return Buffer.concat(chunks)
    const end = lineEnd + 1 + length
    if (end > bytes.length) return undefined
    chunks.push(bytes.subarray(lineEnd + 1, end))
    const behind = /^\r?\n/.exec(bytes.toString('latin1', end, end + 2))
    if (behind === null) return undefined
    at = end + behind[0].length
  }
}
