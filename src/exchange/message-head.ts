/**
 * A message head as one flat latin1 string: read once from the library, shared by policy, rule matcher, log and
 * upstream; fields are found lazily, no object per field.
 *
 * Form: start line, then `name: value\r\n` lines with lower-case names, each line ended by CRLF (front-end.ts).
 */
import type { HeaderView } from '../expression/source.ts'

const NO_VALUES: readonly string[] = Object.freeze([])

/** A policy asks for few names: how their lines begin is put together once. */
const MOST_BEGINNINGS = 256
const LATIN1 = /^[\x20-\xff]*$/
const beginnings = new Map<string, string>()

/** How the line of a field begins, behind the end of the line before. */
function beginningOf(name: string): string {
  let beginning = beginnings.get(name)
  if (beginning !== undefined) return beginning
  beginning = `\r\n${name}: `
  if (LATIN1.test(name)) beginning = flatText(beginning)
  if (beginnings.size >= MOST_BEGINNINGS) beginnings.clear()
  beginnings.set(name, beginning)
  return beginning
}

export class MessageHead implements HeaderView {
  readonly #received: string
  #text: string

  /** `text`: whole head in the form above; CR and LF occur nowhere but at line ends (the front end checked). */
  constructor(text: string) {
    this.#received = text
    this.#text = text
  }

  /** Nothing was changed since it was made. */
  get isAsReceived(): boolean {
    return this.#text === this.#received
  }

  /** The head as it stands now. */
  get text(): string {
    return this.#text
  }

  get startLine(): string {
    return this.#text.slice(0, this.#text.indexOf('\r\n'))
  }

  setStartLine(line: string): void {
    this.#text = line + this.#text.slice(this.#text.indexOf('\r\n'))
  }

  /** The field lines without the start line. */
  get lines(): string {
    return this.#text.slice(this.#text.indexOf('\r\n') + 2)
  }

  /** Value of the first line of that name; undefined when there is none. `name` in lower case. */
  first(name: string): string | undefined {
    const at = this.#text.indexOf(beginningOf(name))
    if (at === -1) return undefined
    const start = at + name.length + 4
    return this.#text.slice(start, this.#text.indexOf('\r\n', start))
  }

  all(name: string): readonly string[] {
    const needle = beginningOf(name)
    let at = this.#text.indexOf(needle)
    if (at === -1) return NO_VALUES
    const values: string[] = []
    while (at !== -1) {
      const start = at + needle.length
      const end = this.#text.indexOf('\r\n', start)
      values.push(this.#text.slice(start, end))
      at = this.#text.indexOf(needle, end)
    }
    return values
  }

  has(name: string): boolean {
    return this.#text.includes(beginningOf(name))
  }

  names(): readonly string[] {
    const names = new Set<string>()
    const text = this.#text
    let start = text.indexOf('\r\n') + 2
    while (start < text.length) {
      const end = text.indexOf('\r\n', start)
      names.add(text.slice(start, text.indexOf(':', start)))
      start = end + 2
    }
    return [...names]
  }

  /** Appends a line. `name` in lower case; `value` checked by the caller (`isFieldValue`). */
  add(name: string, value: string): void {
    this.#text += `${name}: ${value}\r\n`
  }

  /** Replaces every line of that name by one. */
  set(name: string, value: string): void {
    this.remove(name)
    this.add(name, value)
  }

  /** Removes every line of that name; true when there was one. */
  remove(name: string): boolean {
    const needle = beginningOf(name)
    let at = this.#text.indexOf(needle)
    if (at === -1) return false
    let kept = ''
    let from = 0
    while (at !== -1) {
      kept += this.#text.slice(from, at)
      from = this.#text.indexOf('\r\n', at + needle.length)
      at = this.#text.indexOf(needle, from)
    }
    this.#text = kept + this.#text.slice(from)
    return true
  }
}

/**
 * The same text in one piece of memory, for what is joined with other texts again and again: a text that was put together is a tree
 * of its pieces until somebody looks into it. latin1 only.
 */
export function flatText(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}

/** H-123: a value we build may hold neither control bytes (HTAB excepted) nor outer white space. */
export function isFieldValue(value: string): boolean {
  // eslint-disable-next-line no-control-regex -- the control bytes are the point
  return !/[\u0000-\u0008\u000a-\u001f\u007f]/.test(value) && value === value.trim()
}

/** Text to head bytes: characters above U+00FF make the whole value UTF-8, others are bytes already (latin1). */
export function toFieldText(value: string): string {
  return /[\u0100-\uffff]/.test(value) ? Buffer.from(value, 'utf8').toString('latin1') : value
}
