/**
 * Expressions made to run away or to break out (T-67): our list `structured-inputs/cel-abuse.json` beside the checkout,
 * or SALLYPORT_CEL_ABUSE.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import { EvaluationError } from '../../../src/expression/evaluation-error.ts'
import { compileExpression } from '../../../src/expression/expression.ts'
import { NATIVE_ADDON_PATH } from '../../../src/native/addon.ts'
import { environment, sourceOf, textOf } from '../../unit/expression/exchange-source.ts'

interface AbuseCase {
  readonly id: string
  readonly expr: string
  readonly expect: 'true' | 'false' | 'error' | 'error-is-false' | 'limit' | 'ok-or-limit'
  readonly why: string
}

const checkout = fileURLToPath(new URL('../../../', import.meta.url))
const file =
  process.env['SALLYPORT_CEL_ABUSE'] ?? join(checkout, '..', 'shared', 'corpora', 'structured-inputs', 'cel-abuse.json')

const source = sourceOf({
  headers: [
    ['x', 'a'],
    ['y', '(a{1,1000}){1,1000}'],
  ],
})

/** `true`, `false`, another value as text, `refused: …` at load, or `error: …` when evaluated; and the processor time it took. */
function play(text: string): { result: string; ms: number } {
  const diagnostics = new Diagnostics()
  const start = process.cpuUsage()
  const expression = compileExpression(textOf(text), { ...environment, patterns: undefined }, diagnostics)
  let result: string
  if (expression === undefined) {
    result = `refused: ${diagnostics.all.map((one) => one.message).join('; ')}`
  } else {
    try {
      result = String(expression.evaluate(source))
    } catch (error) {
      if (!(error instanceof EvaluationError)) throw error
      result = `error: ${error.message}`
    }
  }
  const { user, system } = process.cpuUsage(start)
  return { result, ms: (user + system) / 1000 }
}

const ACCEPTED: Readonly<Record<AbuseCase['expect'], RegExp>> = {
  true: /^true$/,
  false: /^false$/,
  error: /^(?:refused|error): /,
  'error-is-false': /^error: no such key/,
  limit:
    /^(?:refused: .*(?:at most|nested deeper|unknown variable|invalid regular)|error: .*(?:limit|steps|invalid regular))/,
  'ok-or-limit': /^(?:true|false|\d+|x+|refused: .*(?:at most|nested deeper)|error: .*(?:limit|steps))/,
}

if (!existsSync(file) || !existsSync(NATIVE_ADDON_PATH)) {
  const reason = existsSync(file) ? 'the native part is not built' : `${file} is not there`
  process.stdout.write(`cel abuse: skipped: ${reason}\n`)
  test.skip(`skipped: ${reason}`, () => {})
} else {
  const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: AbuseCase[] }
  describe(`cel abuse: ${cases.length} cases`, () => {
    for (const one of cases) {
      test(`${one.id}: ${one.expect}`, () => {
        // the first rounds pay for compiling our own code
        const rounds = Array.from({ length: 4 }, () => play(one.expr))
        for (const { result } of rounds) expect(result).toMatch(ACCEPTED[one.expect])
        // what the event loop is held: a few milliseconds on an idle machine, with room for a busy one
        expect(Math.min(...rounds.map(({ ms }) => ms))).toBeLessThan(50)
      })
    }
    test('all of them ran', () => expect(cases.length).toBeGreaterThanOrEqual(32))
  })
}
