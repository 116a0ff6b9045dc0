/**
 * From a decoded YAML scalar back to the characters it was written with, for every style, so that a caret stands under
 * the exact part of an expression.
 *
 * The decoding is done a second time here and compared with the parser's: where the two differ, no place is better
 * known than the whole scalar. Source: YAML 1.2.2 §7.3 (flow scalars), §8.1 (block scalars).
 */

export type ScalarStyle = 'plain' | 'single' | 'double' | 'literal' | 'folded'

/** For each UTF-16 unit of the decoded text: where it starts and ends, relative to the raw text. */
export interface Places {
  readonly starts: readonly number[]
  readonly ends: readonly number[]
}

/** `raw` is the scalar as it stands in the file, quotes or block header included. Undefined when it cannot be retraced. */
export function scalarPlaces(style: ScalarStyle, raw: string, decoded: string): Places | undefined {
  if (style === 'literal' || style === 'folded') return blockPlaces(style, raw, decoded)
  const trace = new Trace()
  traceFlow(style, raw, trace)
  return trace.text === decoded ? trace : undefined
}

class Trace implements Places {
  text = ''
  readonly starts: number[] = []
  readonly ends: number[] = []

  push(text: string, start: number, end: number): void {
    this.text += text
    for (let unit = 0; unit < text.length; unit++) {
      this.starts.push(start)
      this.ends.push(end)
    }
  }

  /** Takes back white space from the end, down to `floor` units. */
  trimEnd(floor: number): void {
    let length = this.text.length
    while (length > floor && (this.text[length - 1] === ' ' || this.text[length - 1] === '\t')) length--
    this.text = this.text.slice(0, length)
    this.starts.length = length
    this.ends.length = length
  }
}

const ESCAPES: Readonly<Record<string, string>> = {
  '0': '\0',
  a: '\u0007',
  b: '\b',
  t: '\t',
  '\t': '\t',
  n: '\n',
  v: '\v',
  f: '\f',
  r: '\r',
  e: '\u001b',
  ' ': ' ',
  '"': '"',
  '/': '/',
  '\\': '\\',
  N: '\u0085',
  _: '\u00a0',
  L: '\u2028',
  P: '\u2029',
}

function traceFlow(style: 'plain' | 'single' | 'double', raw: string, trace: Trace): void {
  const quoted = style !== 'plain'
  const end = quoted ? raw.length - 1 : raw.length
  let at = quoted ? 1 : 0
  let floor = 0 // escaped white space below it is never trimmed
  while (at < end) {
    const char = raw[at]! // at < end <= raw.length
    const breaks = lineBreaks(raw, at, end)
    if (breaks !== undefined) {
      trace.trimEnd(floor)
      trace.push(breaks.count === 1 ? ' ' : '\n'.repeat(breaks.count - 1), at, breaks.next)
      at = breaks.next
    } else if (style === 'single' && char === "'") {
      trace.push("'", at, at + 2)
      at += 2
    } else if (style === 'double' && char === '\\') {
      at = traceEscape(raw, at, end, trace)
      floor = trace.text.length
    } else {
      trace.push(char, at, at + 1)
      at++
    }
  }
}

function traceEscape(raw: string, at: number, end: number, trace: Trace): number {
  const breaks = lineBreaks(raw, at + 1, end)
  if (breaks !== undefined) {
    trace.push('\n'.repeat(breaks.count - 1), at, breaks.next)
    return breaks.next
  }
  const letter = raw[at + 1] ?? ''
  const digits = letter === 'x' ? 2 : letter === 'u' ? 4 : letter === 'U' ? 8 : 0
  const next = at + 2 + digits
  const code = digits === 0 ? Number.NaN : Number.parseInt(raw.slice(at + 2, next), 16)
  const text = digits === 0 ? ESCAPES[letter] : code <= 0x10_ffff ? String.fromCodePoint(code) : undefined
  trace.push(text ?? '', at, next)
  return next
}

/** A run of line breaks with the white space after each, when one starts at `at`. */
function lineBreaks(raw: string, at: number, end: number): { count: number; next: number } | undefined {
  let count = 0
  let next = at
  for (;;) {
    const width = raw.startsWith('\r\n', next) ? 2 : raw[next] === '\n' ? 1 : 0
    if (width === 0 || next >= end) break
    count++
    next += width
    while (next < end && (raw[next] === ' ' || raw[next] === '\t')) next++
  }
  return count === 0 ? undefined : { count, next }
}

interface BlockLine {
  readonly text: string
  readonly at: number
}

function blockPlaces(style: 'literal' | 'folded', raw: string, decoded: string): Places | undefined {
  const lines: BlockLine[] = []
  let at = raw.indexOf('\n') + 1
  if (at === 0) return decoded === '' ? new Trace() : undefined
  while (at < raw.length) {
    const stop = raw.indexOf('\n', at)
    const end = stop === -1 ? raw.length : stop
    lines.push({ text: raw.slice(at, end).replace(/\r$/, ''), at })
    at = end + 1
  }
  const first = lines.find((line) => /[^ ]/.test(line.text))
  if (first === undefined) {
    const blank = new Trace()
    for (const line of lines) blank.push('\n', line.at, line.at + line.text.length + 1)
    return blank.text.startsWith(decoded) ? blank : undefined
  }
  const widest = first.text.search(/[^ ]/)
  // an indentation indicator makes leading blanks part of the text: then a smaller indentation fits
  for (let indent = widest; indent >= 0; indent--) {
    const trace = new Trace()
    if (style === 'literal') traceLiteral(lines, indent, trace)
    else traceFolded(lines, indent, trace)
    if (trace.text.startsWith(decoded)) return trace
  }
  return undefined
}

function traceLine(line: BlockLine, indent: number, trace: Trace): void {
  for (let index = indent; index < line.text.length; index++) {
    trace.push(line.text[index]!, line.at + index, line.at + index + 1) // index < length
  }
}

function traceLiteral(lines: readonly BlockLine[], indent: number, trace: Trace): void {
  for (const line of lines) {
    traceLine(line, indent, trace)
    trace.push('\n', line.at + line.text.length, line.at + line.text.length + 1)
  }
}

/** Lines of equal indentation fold into one; more indented ones and empty lines keep their breaks. */
function traceFolded(lines: readonly BlockLine[], indent: number, trace: Trace): void {
  let last = lines.length
  while (last > 0 && !/[^ ]/.test(lines[last - 1]!.text)) last-- // 0 < last <= length
  let separator = ''
  let separatorAt = 0
  let wasIndented = false
  for (const line of lines.slice(0, last)) {
    const content = line.text.slice(indent)
    const isIndented = /^[ \t]/.test(content)
    if (content === '') {
      if (separator === '\n') trace.push('\n', separatorAt, line.at)
      else separator = '\n'
    } else if (isIndented) {
      if (separator === ' ') separator = '\n'
      else if (!wasIndented && separator === '\n') separator = '\n\n'
      trace.push(separator, separatorAt, separatorAt + 1)
      traceLine(line, indent, trace)
      separator = '\n'
    } else {
      trace.push(separator, separatorAt, separatorAt + 1)
      traceLine(line, indent, trace)
      separator = ' '
    }
    if (content !== '') wasIndented = isIndented
    separatorAt = line.at + line.text.length
  }
  trace.push('\n', separatorAt, separatorAt + 1)
  for (const line of lines.slice(last)) {
    traceLine(line, indent, trace)
    trace.push('\n', line.at + line.text.length, line.at + line.text.length + 1)
  }
}
