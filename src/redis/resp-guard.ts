/**
 * Watches the bytes of a Redis connection and says when they are no RESP, or announce more than we ever ask for. The
 * client library believes what it is sent: it reads letters as digits and allocates what a length announces.
 * Source: RESP2 and RESP3 protocol descriptions; T-62.
 */

/** What an answer may hold. Ours are integers; the largest we read is a cluster's table of slots. */
const LONGEST_LINE_BYTES = 64 * 1024
const LONGEST_BULK_BYTES = 8 * 1024 * 1024
const MOST_ELEMENTS = 65_536
const DEEPEST_NESTING = 16
/** An answer as a whole: elements and bytes of bulk strings. */
const MOST_ELEMENTS_PER_ANSWER = 1_000_000
const MOST_BYTES_PER_ANSWER = 32 * 1024 * 1024

const CR = 13
const LF = 10

const INTEGER = /^[+-]?\d{1,19}$/
const COUNT = /^(?:\d{1,10}|-1)$/
const DOUBLE = /^(?:[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?inf|nan)$/
const BIG_NUMBER = /^[+-]?\d+$/
const LARGEST_INTEGER = 9_223_372_036_854_775_807n

/** One connection's guard: feed it every chunk, in order. */
export class RespGuard {
  /** Type byte of the line being read; 0 between elements. */
  #type = 0
  #line = ''
  #lineBytes = 0
  #sawCr = false
  /** Bytes of a bulk string still to come, its CR LF included; 0: none. */
  #bulk = 0
  /** Elements still to come, per open aggregate. */
  readonly #open: number[] = []
  #elements = 0
  #bytes = 0

  /** Returns undefined while the bytes are sound, else what is wrong with them; then the connection must be dropped. */
  check(chunk: Uint8Array): string | undefined {
    let at = 0
    while (at < chunk.length) {
      if (this.#bulk > 0) {
        // The last two bytes must be CR LF; the rest is skipped.
        const skip = Math.min(Math.max(this.#bulk - 2, 0), chunk.length - at)
        if (skip > 0) {
          this.#bulk -= skip
          at += skip
          continue
        }
        if (chunk[at] !== (this.#bulk === 2 ? CR : LF)) return 'a bulk string does not end where it said'
        this.#bulk -= 1
        at += 1
        if (this.#bulk === 0) this.#endOfElement()
        continue
      }
      const byte = chunk[at] as number // at < length
      at += 1
      if (this.#type === 0) {
        this.#type = byte
        this.#line = ''
        this.#lineBytes = 0
        if (!TYPES.has(byte)) return `no RESP type begins with byte ${byte}`
        continue
      }
      if (this.#sawCr) {
        if (byte !== LF) return 'CR without LF'
        this.#sawCr = false
        const wrong = this.#endOfLine()
        if (wrong !== undefined) return wrong
        continue
      }
      if (byte === CR) {
        this.#sawCr = true
        continue
      }
      if (byte === LF) return 'LF without CR'
      this.#lineBytes += 1
      if (this.#lineBytes > LONGEST_LINE_BYTES) return `a line longer than ${LONGEST_LINE_BYTES} bytes`
      // The text of simple strings and errors does not matter here.
      if (this.#type !== PLUS && this.#type !== MINUS) {
        if (this.#lineBytes > 64) return 'a number longer than 64 characters'
        this.#line += String.fromCharCode(byte)
      }
    }
    return undefined
  }

  #endOfLine(): string | undefined {
    const line = this.#line
    switch (String.fromCharCode(this.#type)) {
      case ':': {
        if (!INTEGER.test(line)) return 'an integer that is none'
        const value = BigInt(line.startsWith('+') ? line.slice(1) : line)
        if (value > LARGEST_INTEGER || value < -LARGEST_INTEGER - 1n) return 'an integer beyond 64 bits'
        break
      }
      case ',':
        if (!DOUBLE.test(line)) return 'a double that is none'
        break
      case '(':
        if (!BIG_NUMBER.test(line)) return 'a big number that is none'
        break
      case '#':
        if (line !== 't' && line !== 'f') return 'a boolean that is none'
        break
      case '_':
        if (line !== '') return 'a null with text'
        break
      case '$':
      case '!':
      case '=': {
        if (!COUNT.test(line)) return 'a length that is none'
        const length = Number(line)
        if (length === -1) {
          if (this.#type !== DOLLAR) return 'a length below zero'
          break
        }
        this.#bytes += length
        if (length > LONGEST_BULK_BYTES || this.#bytes > MOST_BYTES_PER_ANSWER) return `${length} bytes announced`
        this.#bulk = length + 2
        this.#type = 0
        return undefined
      }
      case '*':
      case '~':
      case '>':
      case '%':
      case '|': {
        if (!COUNT.test(line)) return 'a count that is none'
        const announced = Number(line)
        if (announced === -1) {
          if (this.#type !== STAR) return 'a count below zero'
          break
        }
        const count = this.#type === PERCENT || this.#type === BAR ? announced * 2 : announced
        this.#elements += count
        if (count > MOST_ELEMENTS || this.#elements > MOST_ELEMENTS_PER_ANSWER) return `${count} elements announced`
        this.#type = 0
        if (count === 0) {
          this.#endOfElement()
          return undefined
        }
        this.#open.push(count)
        return this.#open.length > DEEPEST_NESTING ? 'nested too deeply' : undefined
      }
    }
    this.#type = 0
    this.#endOfElement()
    return undefined
  }

  #endOfElement(): void {
    while (this.#open.length > 0) {
      const last = this.#open.length - 1
      const left = (this.#open[last] as number) - 1 // last < length
      this.#open[last] = left
      if (left > 0) return
      this.#open.pop()
    }
    this.#elements = 0
    this.#bytes = 0
  }
}

const code = (character: string): number => character.charCodeAt(0)
const PLUS = code('+')
const MINUS = code('-')
const DOLLAR = code('$')
const STAR = code('*')
const PERCENT = code('%')
const BAR = code('|')
const TYPES: ReadonlySet<number> = new Set([...'+-:$*_#,(!=%~>|'].map(code))
