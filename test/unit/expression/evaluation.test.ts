/** Evaluation: 64-bit numbers, errors in && and ||, comparison over types, limits (T-66, T-67). */
import { describe, expect, test } from 'vitest'
import { EvaluationError } from '../../../src/expression/evaluation-error.ts'
import { compileExpression } from '../../../src/expression/expression.ts'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import { celToJson, celToText } from '../../../src/expression/convert.ts'
import { COST_LIMIT, MAX_ITERATIONS } from '../../../src/expression/frame.ts'
import type { VariableSource } from '../../../src/expression/source.ts'
import { MAX_EXPRESSION_LENGTH, MAX_NESTING } from '../../../src/expression/parser.ts'
import {
  environment,
  expressionOf,
  javaScriptPatterns,
  problemsOf,
  sourceOf,
  templateOf,
  textOf,
} from './exchange-source.ts'
import { outcome } from './shown.ts'

const source = sourceOf({
  headers: [['x', 'a']],
  vars: { i: 5n, s: 'text', list: [1n, 2n], huge: 'x'.repeat(200_000), yes: true, no: false },
})

function check(rows: readonly (readonly [string, string])[]): void {
  for (const [expression, expected] of rows) {
    test(`${expression} → ${expected}`, () => expect(outcome(expressionOf(expression), source)).toBe(expected))
  }
}

describe('T-66: numbers', () => {
  check([
    [`9223372036854775807 + 1 > 0`, `error: int overflow`],
    [`-(-9223372036854775808) > 0`, `error: int overflow`],
    [`-9223372036854775808 / -1 > 0`, `error: int overflow`],
    [`-9223372036854775808 % -1 == 0`, `error: int overflow`],
    [`5000000000 * 5000000000 > 0`, `error: int overflow`],
    [`0u - 1u == 0u`, `error: uint overflow`],
    [`1 / 0 == 0`, `error: division by zero`],
    [`1 % 0 == 0`, `error: modulus by zero`],
    [`7 / 2`, `3`],
    [`-7 / 2`, `-3`],
    [`-7 % 2`, `-1`],
    [`9007199254740993 == 9007199254740992`, `false`],
    [`dyn(1) == 1u && dyn(1u) == 1.0`, `true`],
    [`dyn(9223372036854775807) < 9223372036854775808u`, `true`],
    [`dyn(1) < 1.5 && dyn(2u) > 1`, `true`],
    [`0.0 / 0.0 == 0.0 / 0.0`, `false`],
    [`1.0 / 0.0`, `Infinity`],
    [`vars.i + 1 == 6`, `true`],
    [`vars.i + '1'`, `error: no such overload: int + string`],
    [`vars.s + 1`, `error: no such overload: string + int`],
    [`vars.s > 1`, `error: no such overload: string < int`],
    [`vars.s == 1`, `false`],
    [`{1: 'a'}[dyn(1u)] + {2u: 'b'}[dyn(2.0)]`, `'ab'`],
    [`{1: 'a', 1u: 'b'}`, `error: repeated key: 1`],
    [`{'a': 1, 'a': 2}.a == 1`, `error: repeated key: a`],
    [`{1.5: 1}`, `error: unsupported key type: double`],
    [`timestamp('9999-12-31T23:59:59Z') + duration('1s') > timestamp(0)`, `error: timestamp out of range`],
    [`timestamp('2026-01-01T00:00:00.123456789Z') - timestamp('2026-01-01T00:00:00Z')`, `duration(0.123456789s)`],
  ])
})

describe('T-66: text', () => {
  check([
    [`size('😀') == 1`, `true`],
    [`size(b'😀') == 4`, `true`],
    [`'😀a'.indexOf('a') == 1`, `true`],
    [`'a\\u0000b' == 'a'`, `false`],
    [`'\\uffff' < '😀'`, `true`],
    [`'Abc' < 'abc' && !('a' < 'AB')`, `true`],
    [`r'\\d' == '\\\\d'`, `true`],
    [`'\\x41\\101\\u0041\\U00000041' == 'AAAA'`, `true`],
    [`b'\\xff' == b'\\377'`, `true`],
    [`'''a'b''' + """c"d"""`, `'a'bc"d'`],
  ])
})

describe('errors in && and || (T-66)', () => {
  check([
    [`req.headers['nope'][0] == 'a' || true`, `true`],
    [`true || req.headers['nope'][0] == 'a'`, `true`],
    [`req.headers['nope'][0] == 'a' && false`, `false`],
    [`req.headers['nope'][0] == 'a' || false`, `error: no such key: 'nope'`],
    [`req.headers['nope'][0] == 'a' && true`, `error: no such key: 'nope'`],
    [`vars.none == 1 || vars.no || vars.yes`, `true`],
    [`vars.none == 1 && vars.yes && vars.no`, `false`],
    [`vars.none == 1 || vars.other == 2 || vars.no`, `error: vars.none is not set`],
    [`vars.s || vars.yes`, `true`],
    [`vars.s || vars.no`, `error: no such overload: string ||`],
    [`vars.s && vars.yes`, `error: no such overload: string &&`],
    [`vars.s ? 1 : 2`, `error: no such overload: string ? :`],
    [`vars.yes ? 1 : 1 / 0`, `1`],
    [`[1, 0].exists(v, 1 / v == 1)`, `true`],
    [`[0, 2].exists(v, 1 / v == 1)`, `error: division by zero`],
    [`[0, 2].all(v, 1 / v == 1)`, `false`],
    [`[0, 1].all(v, 1 / v == 1)`, `error: division by zero`],
    [`[vars.s].map(v, v + 1)`, `error: no such overload: string + int`],
  ])
})

describe('macros and locals', () => {
  check([
    [`[1, 2].map(a, [10, 20].map(b, a + b))`, `[[11, 21], [12, 22]]`],
    [`[1].map(req, req + 1)`, `[2]`],
    [`[[1, 2], [3]].map(l, l.map(l, l * 2))`, `[[2, 4], [6]]`],
    [`cel.bind(x, req.host, x + x)`, `'shop.example.comshop.example.com'`],
    [`cel.bind(x, 1 / 0, true || x == 1)`, `true`],
    [`cel.bind(x, null, x == null && x == null)`, `true`],
    [`[1, 2].map(a, cel.bind(x, a * 10, [x, x + 1]))`, `[[10, 11], [20, 21]]`],
    [`[5, 6].exists(i, v, i == 1 && v == 6)`, `true`],
    [`[optional.of(1), optional.none()].unwrapOpt()`, `[1]`],
    [`[1, 2].first().value() + [1, 2].last().value()`, `3`],
    [`[].first().hasValue()`, `false`],
    [`{'a': 1}.transformMap(k, v, v + 1)`, `{'a': 2}`],
    [`{'a': 1}.transformMapEntry(k, v, {string(v): k})`, `{'1': 'a'}`],
    [`[1, 2].transformList(i, v, i + v)`, `[1, 3]`],
    [`vars.list.map(v, v + vars.i)`, `[6, 7]`],
    [`vars.s.map(v, v)`, `error: no such overload: string.map`],
    [`has(vars.list[0]) && !has(vars.list[5])`, `true`],
    [`{'a': 1}.?b.orValue(2)`, `2`],
    [`[?optional.none(), 1]`, `[1]`],
  ])
})

test('the result of test() is true only for true', () => {
  expect(expressionOf('true').test(source)).toBe(true)
  expect(expressionOf('false').test(source)).toBe(false)
  expect(expressionOf('1').test(source)).toBe(false)
  expect(expressionOf(`'true'`).test(source)).toBe(false)
  expect(() => expressionOf('vars.none').test(source)).toThrow('vars.none is not set')
})

test('the static type is known', () => {
  expect(expressionOf('req.host == "a"').type).toBe('bool')
  expect(expressionOf('req.headers').type).toBe('map(string, list(string))')
  expect(expressionOf('vars.x').type).toBe('dyn')
})

describe('T-67: limits', () => {
  const list = `[${Array.from({ length: 200 }, (_, index) => index).join(',')}]`

  test('an expression may have 16 KiB', () => {
    const longest = `'${'x'.repeat(MAX_EXPRESSION_LENGTH - 2)}'`
    expect(problemsOf(longest)).toBe('')
    expect(problemsOf(`${longest} `)).toContain('an expression may have at most 16384 characters, this one has 16385')
  })

  for (const [name, text] of [
    ['parentheses', `${'('.repeat(1000)}1${')'.repeat(1000)}`],
    ['unary minus', `${'-'.repeat(5000)}vars.i`],
    ['unary not', `${'!'.repeat(5000)}vars.yes`],
    ['ternary', `${'true ? 1 : '.repeat(1000)}2`],
    ['indexes', `vars.x${'[0]'.repeat(5000)}`],
    ['fields', `vars.x${'.a'.repeat(5000)}`],
    ['lists', `${'['.repeat(1000)}${']'.repeat(1000)}`],
    ['maps', `${'{1:'.repeat(1000)}1${'}'.repeat(1000)}`],
    ['sums', `1${'+1'.repeat(5000)}`],
    ['calls', `${'size('.repeat(1000)}1${')'.repeat(1000)}`],
  ] as const) {
    test(`nesting of ${name} stops at ${MAX_NESTING}`, () => {
      expect(problemsOf(text)).toContain(`nested deeper than ${MAX_NESTING} levels`)
    })
  }

  test('nesting just below the limit works', () => {
    expect(outcome(expressionOf(`${'('.repeat(240)}1${')'.repeat(240)}`), source)).toBe('1')
    expect(outcome(expressionOf(`1${'+1'.repeat(240)}`), source)).toBe('241')
  })

  test('a thousand terms of || are one level', () => {
    expect(outcome(expressionOf(`${'vars.no || '.repeat(1000)}vars.yes`), source)).toBe('true')
  })

  test(`${MAX_ITERATIONS} steps are allowed, more are not`, () => {
    expect(outcome(expressionOf(`lists.range(100000).exists(v, v < 0)`), source)).toBe('false')
    expect(outcome(expressionOf(`[0, 1].map(a, lists.range(50000).exists(v, v < 0))`), source)).toBe(
      `error: more than ${MAX_ITERATIONS} comprehension steps`,
    )
  })

  test('nested macros stop at the cost limit, quickly', () => {
    const nested = expressionOf(`${list}.all(a, ${list}.all(b, ${list}.all(c, ${list}.all(d, a + b + c + d >= 0))))`)
    const start = process.cpuUsage()
    expect(outcome(nested, source)).toMatch(/cost limit|comprehension steps/)
    expect(process.cpuUsage(start).user / 1000).toBeLessThan(500)
  })

  test('what a step costs grows with its body', () => {
    const body = Array.from({ length: 50 }, () => 'v >= 0').join(' && ')
    expect(outcome(expressionOf(`lists.range(${Math.ceil(COST_LIMIT / 100)}).all(v, ${body})`), source)).toBe(
      'error: the expression exceeds its cost limit',
    )
  })

  test('texts and lists cannot grow without end', () => {
    const doubled = Array.from({ length: 24 }, (_, index) => `cel.bind(a${index + 1}, a${index} + a${index}, `).join('')
    const grow = (seed: string): string => `cel.bind(a0, ${seed}, ${doubled}size(a24)${')'.repeat(25)}`
    expect(outcome(expressionOf(grow('vars.huge')), source)).toBe('error: the expression exceeds its cost limit')
    expect(outcome(expressionOf(grow('[vars.s, vars.s]')), source)).toBe('error: the expression exceeds its cost limit')
  })

  test('shared parts are not walked again and again', () => {
    const nested = (result: string): string =>
      `${Array.from({ length: 40 }, (_, at) => `cel.bind(a${at + 1}, [a${at}, a${at}], `).join('')}${result}${')'.repeat(40)}`
    const spent = 'error: the expression exceeds its cost limit'
    const shared = (result: string): string => `cel.bind(a0, [vars.i], cel.bind(b0, [vars.i], ${result}))`
    const twice = nested(
      nested('a40 == b40').replaceAll(/cel\.bind\(a(\d+), \[a(\d+), a\d+\]/g, 'cel.bind(b$1, [b$2, b$2]'),
    )
    for (const text of [
      shared(twice),
      shared(nested('json.encode(a40)')),
      shared(nested(`'%s'.format([a40])`)),
      shared(nested('a40.flatten(100)')),
      shared(nested('a40 in [[a39, a39, a39], a39, [a39, a38]]')),
    ]) {
      const start = process.cpuUsage()
      expect(outcome(expressionOf(text), source)).toMatch(/^(?:error: the expression exceeds its cost limit|false)$/)
      expect(process.cpuUsage(start).user / 1000).toBeLessThan(500)
    }
    expect(outcome(expressionOf(shared(nested('json.encode(a40)'))), source)).toBe(spent)
    expect(() => celToText(expressionOf(shared(nested('a40'))).evaluate(source))).toThrow('the value is too large')
    expect(() => celToJson(expressionOf(shared(nested('a40'))).evaluate(source))).toThrow('the value is too large')
    expect(outcome(expressionOf(`['a', 'b'].map(s, vars.huge).join(vars.huge).size() > 0`), source)).toBe('true')
    expect(outcome(expressionOf(`lists.range(1000).map(s, vars.huge).join('').size() > 0`), source)).toBe(spent)
  })

  test('a bound value that fails is not computed without end', () => {
    const binds = Array.from({ length: 60 }, (_, at) => `cel.bind(x${at + 1}, x${at} || x${at}, `).join('')
    const text = `cel.bind(x0, vars.none, ${binds}x60${')'.repeat(61)}`
    const start = process.cpuUsage()
    expect(outcome(expressionOf(text), source)).toMatch(/^error: /)
    expect(process.cpuUsage(start).user / 1000).toBeLessThan(500)
  })

  test('deeply nested JSON is refused, not walked until the stack ends', () => {
    const deep = (open: string, close: string): VariableSource =>
      sourceOf({ headers: [['x', `${open.repeat(50_000)}1${close.repeat(50_000)}`]] })
    for (const own of [deep('[', ']'), deep('{"a":', '}')]) {
      const text = `json.encode(json.decode(req.headers['x'][0]))`
      expect(outcome(expressionOf(text), own)).toBe('error: JSON is nested deeper than 500 levels')
      const template = templateOf(`\${json.decode(req.headers['x'][0])}`)
      expect(() => template.render(own)).toThrow(EvaluationError)
    }
    const shallow = sourceOf({ headers: [['x', `${'['.repeat(400)}${']'.repeat(400)}`]] })
    expect(outcome(expressionOf(`json.decode(req.headers['x'][0]) == json.decode(req.headers['x'][0])`), shallow)).toBe(
      'true',
    )
  })

  test('errors inside exists cost too', () => {
    const start = process.cpuUsage()
    const many = 'lists.range(100000).exists(v, vars.none == v)'
    expect(outcome(expressionOf(many), source)).toBe('error: the expression exceeds its cost limit')
    expect(outcome(expressionOf(`${many} || vars.yes`), source)).toBe('error: the expression exceeds its cost limit')
    expect(process.cpuUsage(start).user / 1000).toBeLessThan(500)
  })

  test('a comparison of sort costs what its body costs', () => {
    const body = Array.from({ length: 200 }, () => 'x < y').join(' && ')
    expect(outcome(expressionOf(`lists.range(1000).sort(x, y, ${body})`), source)).toBe(
      'error: the expression exceeds its cost limit',
    )
  })

  test('a limit inside || is not forgotten', () => {
    const nested = `${list}.all(a, ${list}.all(b, ${list}.all(c, a + b + c >= 0)))`
    expect(outcome(expressionOf(`[1].exists(v, ${nested} || ${nested})`), source)).toMatch(/^error: /)
  })

  test('a pattern that is only known at run time is compiled under the limits of the engine', () => {
    let compiled = 0
    const patterns = {
      compile: (pattern: string) => {
        compiled++
        return javaScriptPatterns.compile(pattern)
      },
    }
    const expression = expressionOf(`'abc'.matches(req.headers['x'][0])`, { ...environment, patterns })
    expect(compiled).toBe(0)
    for (let round = 0; round < 3; round++) expect(outcome(expression, source)).toBe('true')
    expect(compiled).toBe(1)
    const literal = expressionOf(`req.host.matches('^shop')`, { ...environment, patterns })
    expect(compiled).toBe(2)
    expect(outcome(literal, source)).toBe('true')
  })

  test('an error of ours is not taken for an error of the expression', () => {
    const broken = {
      ...environment,
      now: () => {
        throw new TypeError('broken clock')
      },
    }
    expect(() => expressionOf(`time.now == 'x' || true`, broken).evaluate(source)).not.toThrow()
    expect(() => expressionOf(`time.now == vars.s || vars.yes`, broken).evaluate(source)).toThrow('broken clock')
  })
})

test('diagnostics of a compilation that works stay empty', () => {
  const diagnostics = new Diagnostics()
  expect(compileExpression(textOf('req.url.path.startsWith("/")'), environment, diagnostics)).toBeDefined()
  expect(diagnostics.all).toEqual([])
})
