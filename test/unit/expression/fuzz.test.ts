/** Whatever is written as an expression or template gets a diagnostic, a value or an EvaluationError; never another fault (T-67). */
import { expect, test } from 'vitest'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import { celToJson, celToText } from '../../../src/expression/convert.ts'
import { EvaluationError } from '../../../src/expression/evaluation-error.ts'
import { compileExpression } from '../../../src/expression/expression.ts'
import { compileTemplate } from '../../../src/expression/template.ts'
import { environment, sourceOf, textOf } from './exchange-source.ts'

const PIECES = [
  ...`req res conn vars actions.ngrok.oauth time.now endpoint req.url req.url.path req.headers req.cookies conn.tls
  req.headers['x'] res.headers getReqHeader('x') getResCookie('a') vars.list vars.n req.url.query_params true false null
  1 0 -1 9223372036854775807 2u 1.5 1e400 'a' "" r'\\d' b'\\xff' '''x''' [] {} [1,2] {'a':1} int string type x y v`.split(
    /\s+/,
  ),
  ...`+ - * / % == != < <= > >= in && || ! ? : . , ( ) [ ] { } .? [? \` \\ $ \${ } =`.split(' '),
  ...`.all(v, .exists(v, .map(v, .filter(v, .sortBy(v, .sort(x,y, has( size( .size() .split('a',2) .join() .format([ .matches('a')
  json.encode( json.decode( cel.bind(x, .?a .orValue( optional.of( lists.range(3) .flatten() .distinct() .slice(0,1) timestamp(
  duration('1h') .getHours() math.greatest( hash.md5( .substring(1) ip('::1') cidr('10.0.0.0/8') url.parse( rand.int()`.split(
    /\s+/,
  ),
  ' ',
  ' ',
  ' ',
  '\n',
  '😀',
  '// c\n',
]

/** A small generator with a fixed seed: failures can be played again. */
function numbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

const source = sourceOf({
  headers: [['x', 'a']],
  responseHeaders: [['set-cookie', 'a=b']],
  query: 'a=1',
  vars: { list: ['a', 1n, [2n]], n: 7n },
  results: { oauth: { identity: { email: 'a@b.c' }, n: [1, 2] } },
})

function balanced(text: string): string {
  const open: string[] = []
  for (const char of text) {
    if ('([{'.includes(char)) open.push(char === '(' ? ')' : char === '[' ? ']' : '}')
    else if (char === open.at(-1)) open.pop()
  }
  return text + open.toReversed().join('')
}

test('8000 random expressions and templates', () => {
  const random = numbers(20_261_122)
  const counts = { refused: 0, failed: 0, evaluated: 0 }
  for (let round = 0; round < 8000; round++) {
    const length = 1 + Math.floor(random() * 9)
    const pieces = Array.from({ length }, () => PIECES[Math.floor(random() * PIECES.length)]!)
    const text = balanced(pieces.join(''))
    const diagnostics = new Diagnostics()
    const isTemplate = round % 4 === 0
    const whole = isTemplate ? `a\${${text}}` : text
    const compiled = isTemplate
      ? compileTemplate(textOf(whole), environment, diagnostics)
      : compileExpression(textOf(whole), environment, diagnostics)
    if (compiled === undefined) {
      counts.refused++
      expect(diagnostics.hasErrors, whole).toBe(true)
      for (const one of diagnostics.all) {
        expect(one.message, whole).not.toBe('')
        expect(one.span!.start, whole).toBeGreaterThanOrEqual(0)
        expect(one.span!.end, whole).toBeLessThanOrEqual(whole.length + 1)
        expect(one.span!.end, whole).toBeGreaterThan(one.span!.start)
      }
      continue
    }
    try {
      if ('render' in compiled) compiled.render(source)
      else {
        const value = compiled.evaluate(source)
        celToText(value)
        celToJson(value)
      }
      counts.evaluated++
    } catch (error) {
      if (!(error instanceof EvaluationError)) throw new Error(`${whole}: ${String(error)}`, { cause: error })
      counts.failed++
    }
  }
  // the pieces are chosen so that all three happen often enough
  expect(counts.evaluated).toBeGreaterThan(200)
  expect(counts.refused).toBeGreaterThan(2000)
  expect(counts.failed).toBeGreaterThan(10)
})
