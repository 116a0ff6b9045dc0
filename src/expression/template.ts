/**
 * Texts with interpolations: `Hello ${req.host}`.
 *
 * Source: traffic-policy.md §4; errors are ERR_NGROK_2224 (§8.3).
 */
import type { Diagnostics } from '../config/diagnostic.ts'
import type { TextSource } from '../config/node.ts'
import { celToText } from './convert.ts'
import type { ExpressionEnvironment } from './environment.ts'
import { compileText } from './expression.ts'
import type { Expression } from './expression.ts'
import { Lexer } from './lexer.ts'
import type { VariableSource } from './source.ts'
import { ExpressionProblem } from './syntax.ts'
import type { CelValue } from './value.ts'

/** A compiled text; immutable. */
export interface Template {
  readonly source: TextSource
  /** There is no interpolation in it. */
  readonly isConstant: boolean
  /** The text, when it is constant. */
  readonly constant: string | undefined
  /** Whether `foretold` knows the text as it will be. */
  readonly canBeForetold: boolean
  /** What `foretold` says whatever the request is. */
  readonly fixed: { readonly text: string; readonly clocks: readonly number[] } | undefined
  /** The text now. Throws EvaluationError. */
  render(source: VariableSource): string
  /** The same, but a text that is one interpolation keeps the value's type (`set-vars`). Throws EvaluationError. */
  value(source: VariableSource): CelValue
  /**
   * The text as it will be when it is rendered later in the exchange, where it can be foretold: the time of then has
   * `CLOCK_PLACE` in its place, and where that begins is put behind `clocks`. Throws EvaluationError.
   */
  foretold(source: VariableSource, clocks: number[]): string
}

/** As long as `time.now`, and like it. */
export const CLOCK_PLACE = '0000-00-00T00:00:00.000Z'

type Part = string | Expression

class CompiledTemplate implements Template {
  readonly source: TextSource
  readonly constant: string | undefined
  readonly canBeForetold: boolean
  readonly fixed: Template['fixed']
  readonly #parts: readonly Part[]

  constructor(source: TextSource, parts: readonly Part[]) {
    this.source = source
    this.#parts = parts
    this.constant = parts.every((part) => typeof part === 'string') ? parts.join('') : undefined
    this.canBeForetold = parts.every((part) => typeof part === 'string' || part.settled !== 'no')
    if (parts.every((part) => typeof part === 'string' || part.settled === 'clock')) {
      const clocks: number[] = []
      let text = ''
      for (const part of parts) {
        if (typeof part !== 'string') clocks.push(text.length)
        text += typeof part === 'string' ? part : CLOCK_PLACE
      }
      this.fixed = { text, clocks }
    }
  }

  get isConstant(): boolean {
    return this.constant !== undefined
  }

  render(source: VariableSource): string {
    if (this.constant !== undefined) return this.constant
    let text = ''
    for (const part of this.#parts) text += typeof part === 'string' ? part : celToText(part.evaluate(source))
    return text
  }

  value(source: VariableSource): CelValue {
    const [only] = this.#parts
    if (this.#parts.length === 1 && only !== undefined && typeof only !== 'string') return only.evaluateWhole(source)
    return this.render(source)
  }

  foretold(source: VariableSource, clocks: number[]): string {
    let text = ''
    for (const part of this.#parts) {
      if (typeof part === 'string') text += part
      else if (part.settled === 'yes') text += celToText(part.evaluate(source))
      else {
        clocks.push(text.length)
        text += CLOCK_PLACE
      }
    }
    return text
  }
}

/**
 * Compiles a text with interpolations. `$${` stands for `${`; a `$` before anything else is a `$`. Reports every error
 * with its place (ERR_NGROK_2224) and returns undefined when there is one.
 */
export function compileTemplate(
  text: TextSource,
  environment: ExpressionEnvironment,
  diagnostics: Diagnostics,
): Template | undefined {
  const sink = { diagnostics, code: 'ERR_NGROK_2224', escapedQuotes: true }
  let pieces: readonly Piece[]
  try {
    pieces = splitTemplate(text.text)
  } catch (error) {
    if (!(error instanceof ExpressionProblem)) throw error
    diagnostics.error(
      sink.code,
      error.message,
      text.spanAt(error.start, Math.max(1, error.end - error.start)),
      error.hint,
    )
    return undefined
  }
  const parts: Part[] = []
  let failed = false
  for (const piece of pieces) {
    if (piece.kind === 'text') {
      parts.push(piece.text)
      continue
    }
    if (piece.escapedQuote !== undefined) {
      diagnostics.warning(
        'EXPRESSION_STYLE',
        'a quote inside an interpolation needs no backslash',
        text.spanAt(piece.escapedQuote, 2),
      )
    }
    const expression = compileText(inner(text, piece.start, piece.end), environment, sink)
    if (expression === undefined) failed = true
    else parts.push(expression)
  }
  return failed ? undefined : new CompiledTemplate(text, parts)
}

function inner(text: TextSource, start: number, end: number): TextSource {
  return {
    text: text.text.slice(start, end),
    span: text.spanAt(start, Math.max(1, end - start)),
    spanAt: (offset, length) => text.spanAt(start + offset, length),
  }
}

type Piece =
  | { readonly kind: 'text'; readonly text: string }
  /** Without `${` and `}`. */
  | {
      readonly kind: 'expression'
      readonly start: number
      readonly end: number
      /** Where a text begins with `\"`, if one does. */
      readonly escapedQuote: number | undefined
    }

/** Text and expressions of a template, in order. Throws ExpressionProblem for an interpolation that is not closed. */
export function splitTemplate(text: string): Piece[] {
  const pieces: Piece[] = []
  let literal = ''
  let at = 0
  for (;;) {
    const dollar = text.indexOf('$', at)
    if (dollar === -1) break
    literal += text.slice(at, dollar)
    if (text.startsWith('$${', dollar)) {
      literal += '${'
      at = dollar + 3
    } else if (text.startsWith('${', dollar)) {
      const { end, escapedQuote } = endOfInterpolation(text, dollar)
      if (literal !== '') pieces.push({ kind: 'text', text: literal })
      literal = ''
      pieces.push({ kind: 'expression', start: dollar + 2, end, escapedQuote })
      at = end + 1
    } else {
      literal += '$'
      at = dollar + 1
    }
  }
  literal += text.slice(at)
  if (literal !== '') pieces.push({ kind: 'text', text: literal })
  return pieces
}

/** Offset of the `}` that belongs to the `${` at `start`: brackets and quotes of the expression are CEL's. */
function endOfInterpolation(text: string, start: number): { end: number; escapedQuote: number | undefined } {
  const place = { start, end: start + 2 }
  const lexer = new Lexer(text, start + 2, true)
  let depth = 0
  let escapedQuote: number | undefined
  for (;;) {
    const token = lexer.next()
    if (token.kind === 'end') throw new ExpressionProblem('the interpolation ${ is not closed: "}" is missing', place)
    if (token.kind === 'string' && token.text.startsWith('\\')) escapedQuote ??= token.start
    if (token.kind !== 'punctuation') continue
    if ('([{'.includes(token.text)) depth++
    else if (token.text === '}' && depth === 0) return { end: token.start, escapedQuote }
    else if (')]}'.includes(token.text)) depth--
  }
}
