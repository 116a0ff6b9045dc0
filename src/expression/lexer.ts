/** Tokens of CEL. Source: CEL language definition, "Syntax" and "Escape sequences". */
import { ExpressionProblem } from './syntax.ts'
import { CelUint, INT_MAX, UINT_MAX } from './value.ts'

export type TokenKind = 'end' | 'ident' | 'quotedIdent' | 'int' | 'uint' | 'double' | 'string' | 'bytes' | 'punctuation'

export interface Token {
  readonly kind: TokenKind
  /** The text as written, except identifiers in backticks: without them. */
  readonly text: string
  /** Of literals. An int may be 2^63 here: only a minus before it makes it legal. */
  readonly value: bigint | number | string | Uint8Array | CelUint | undefined
  readonly start: number
  readonly end: number
}

const PUNCTUATION = ['&&', '||', '==', '!=', '<=', '>=', ...'?:,.()[]{}<>+-*/%!']
const SIMPLE_ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
  '?': '?',
  '"': '"',
  "'": "'",
  '`': '`',
}

/** Reads tokens from `text`, beginning at `at`. Errors are ExpressionProblem at their exact place. */
export class Lexer {
  readonly #text: string
  readonly #escapedQuotes: boolean
  #at: number

  /** `escapedQuotes`: `\"text\"` is a text, as documents write it in the midst of JSON bodies. */
  constructor(text: string, at = 0, escapedQuotes = false) {
    this.#text = text
    this.#at = at
    this.#escapedQuotes = escapedQuotes
  }

  /** The next token; `end` at the end of the text, again and again. */
  next(): Token {
    this.#skipBlanks()
    const text = this.#text
    const start = this.#at
    if (start >= text.length) return { kind: 'end', text: '', value: undefined, start, end: start }
    const char = text[start]!
    if (isLetter(char)) return this.#identifierOrString(start)
    if (isDigit(char) || (char === '.' && isDigit(text[start + 1] ?? ''))) return this.#number(start)
    if (char === '"' || char === "'") return this.#string(start, start, false, false)
    if (char === '\\' && this.#escapedQuotes && /["']/.test(text[start + 1] ?? '')) return this.#escapedString(start)
    if (char === '`') return this.#quotedIdentifier(start)
    for (const mark of PUNCTUATION) {
      if (text.startsWith(mark, start)) return this.#token('punctuation', start, start + mark.length)
    }
    throw unexpectedCharacter(text, start)
  }

  #token(kind: TokenKind, start: number, end: number, value?: Token['value']): Token {
    this.#at = end
    return { kind, text: this.#text.slice(start, end), value, start, end }
  }

  #skipBlanks(): void {
    const text = this.#text
    for (;;) {
      while (this.#at < text.length && ' \t\n\r\f'.includes(text[this.#at]!)) this.#at++
      if (!text.startsWith('//', this.#at)) return
      const lineEnd = text.indexOf('\n', this.#at)
      this.#at = lineEnd === -1 ? text.length : lineEnd + 1
    }
  }

  #identifierOrString(start: number): Token {
    const text = this.#text
    const prefix = /^(?:[rR]|[bB]|[rR][bB]|[bB][rR])(?=["'])/.exec(text.slice(start, start + 3))?.[0]
    if (prefix !== undefined) {
      return this.#string(start, start + prefix.length, /r/i.test(prefix), /b/i.test(prefix))
    }
    let end = start + 1
    while (end < text.length && (isLetter(text[end]!) || isDigit(text[end]!))) end++
    return this.#token('ident', start, end)
  }

  #quotedIdentifier(start: number): Token {
    const match = /^`([A-Za-z0-9_.\-/ ]+)`/.exec(this.#text.slice(start))
    if (match === null) {
      throw new ExpressionProblem('a name in backticks may hold letters, digits, "_", ".", "-", "/" and blanks', {
        start,
        end: start + 1,
      })
    }
    const end = start + match[0].length
    this.#at = end
    return { kind: 'quotedIdent', text: match[1]!, value: undefined, start, end } // group 1 always takes part
  }

  #number(start: number): Token {
    const rest = this.#text.slice(start, start + 400)
    const match = /^(?:0[xX][0-9a-fA-F]+|(?:\d*\.\d+|\d+)(?:[eE][+-]?\d+)?)/.exec(rest)
    if (match === null) throw new ExpressionProblem('not a number', { start, end: start + 1 })
    const digits = match[0]
    let end = start + digits.length
    const isHex = /^0[xX]/.test(digits)
    const isDouble = !isHex && /[.eE]/.test(digits)
    const isUint = !isDouble && /[uU]/.test(this.#text[end] ?? '')
    if (isUint) end++
    const after = this.#text[end] ?? ''
    if (isLetter(after) || isDigit(after)) {
      throw new ExpressionProblem('a number must not be followed by a letter or digit', { start, end: end + 1 })
    }
    if (isDouble) return this.#token('double', start, end, Number(digits))
    const value = BigInt(digits)
    if (isUint) {
      if (value > UINT_MAX) throw new ExpressionProblem('does not fit into a 64-bit uint', { start, end })
      return this.#token('uint', start, end, new CelUint(value))
    }
    if (value > INT_MAX + 1n) throw new ExpressionProblem('does not fit into a 64-bit int', { start, end })
    return this.#token('int', start, end, value)
  }

  /** No escapes inside: the next escaped quote of its kind ends it. */
  #escapedString(start: number): Token {
    const quote = this.#text.slice(start, start + 2)
    const close = this.#text.indexOf(quote, start + 2)
    if (close === -1) throw new ExpressionProblem(`the text in ${quote} is not closed`, { start, end: start + 2 })
    return this.#token('string', start, close + 2, this.#text.slice(start + 2, close))
  }

  #string(start: number, quoteAt: number, raw: boolean, bytes: boolean): Token {
    const text = this.#text
    const mark = text[quoteAt]!
    const triple = text.startsWith(mark.repeat(3), quoteAt)
    const quote = triple ? mark.repeat(3) : mark
    const parts: string[] = []
    const chunks: Buffer[] = []
    let at = quoteAt + quote.length
    for (;;) {
      if (at >= text.length) {
        throw new ExpressionProblem(`the text in ${quote} is not closed`, {
          start,
          end: Math.min(text.length, start + 1),
        })
      }
      if (text.startsWith(quote, at)) break
      const char = text[at]!
      if (!triple && (char === '\n' || char === '\r')) {
        throw new ExpressionProblem(`the text in ${quote} is not closed on its line`, { start, end: start + 1 })
      }
      if (char === '\\' && !raw) {
        const escape = readEscape(text, at, bytes)
        if (bytes) chunks.push(escape.octet === undefined ? Buffer.from(escape.text) : Buffer.of(escape.octet))
        else parts.push(escape.text)
        at = escape.end
        continue
      }
      let end = at + 1
      while (
        end < text.length &&
        text[end] !== mark &&
        text[end] !== '\\' &&
        text[end] !== '\n' &&
        text[end] !== '\r'
      ) {
        end++
      }
      const plain = text.slice(at, end)
      if (bytes) chunks.push(Buffer.from(plain))
      else parts.push(plain)
      at = end
    }
    const value = bytes ? new Uint8Array(Buffer.concat(chunks)) : parts.join('')
    return this.#token(bytes ? 'bytes' : 'string', start, at + quote.length, value)
  }
}

function readEscape(text: string, at: number, bytes: boolean): { text: string; octet?: number; end: number } {
  const problem = (message: string, length: number): ExpressionProblem =>
    new ExpressionProblem(message, { start: at, end: Math.min(text.length, at + length) })
  const letter = text[at + 1] ?? ''
  const simple = Object.hasOwn(SIMPLE_ESCAPES, letter) ? SIMPLE_ESCAPES[letter] : undefined
  if (simple !== undefined) return { text: simple, end: at + 2 }
  const octal = /^[0-3][0-7]{2}/.exec(text.slice(at + 1, at + 4))?.[0]
  if (octal !== undefined) {
    const code = Number.parseInt(octal, 8)
    return { text: String.fromCodePoint(code), octet: code, end: at + 4 }
  }
  const digits = { x: 2, X: 2, u: 4, U: 8 }[letter]
  if (digits === undefined) {
    throw new ExpressionProblem(
      `unknown escape \\${letter}`,
      { start: at, end: Math.min(text.length, at + 2) },
      String.raw`in regular expressions write the text raw (r'\d+') or double the backslash ('\\d+')`,
    )
  }
  const hex = text.slice(at + 2, at + 2 + digits)
  if (hex.length < digits || !/^[0-9a-fA-F]+$/.test(hex)) {
    throw problem(`\\${letter} needs ${digits} hexadecimal digits`, 2 + digits)
  }
  const code = Number.parseInt(hex, 16)
  const end = at + 2 + digits
  if (digits === 2) return { text: String.fromCodePoint(code), octet: code, end }
  if (bytes) throw problem(`\\${letter} is not allowed in bytes`, 2 + digits)
  if (code > 0x10_ffff || (code >= 0xd800 && code <= 0xdfff)) throw problem('not a Unicode code point', 2 + digits)
  return { text: String.fromCodePoint(code), end }
}

function unexpectedCharacter(text: string, at: number): ExpressionProblem {
  const char = String.fromCodePoint(text.codePointAt(at)!)
  const place = { start: at, end: at + char.length }
  if (char === '$') {
    const hint = text.startsWith('${', at)
      ? 'an expression is CEL as it is: leave out the ${ and the }'
      : 'a placeholder ($NAME) must be given a value before the policy is loaded'
    return new ExpressionProblem('"$" is not part of the expression language', place, hint)
  }
  if (char === '=') return new ExpressionProblem('"=" is not an operator', place, 'compare with ==')
  if (char === '&' || char === '|') {
    return new ExpressionProblem(`"${char}" is not an operator`, place, `write ${char}${char}`)
  }
  if (char === ';') return new ExpressionProblem('an expression is one value: ";" has no meaning', place)
  if ('“”‘’'.includes(char)) {
    return new ExpressionProblem(`"${char}" is a typographic quote`, place, `write " or '`)
  }
  return new ExpressionProblem(`unexpected character "${char}"`, place)
}

function isLetter(char: string): boolean {
  return (char >= 'a' && char <= 'z') || (char >= 'A' && char <= 'Z') || char === '_'
}

function isDigit(char: string): boolean {
  return char >= '0' && char <= '9'
}
