/** Interpolation, traffic-policy.md §4. */
import { describe, expect, test } from 'vitest'
import { Diagnostics, renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { compileTemplate } from '../../../src/expression/template.ts'
import { environment, sourceOf, templateOf, textOf } from './exchange-source.ts'
import { shown } from './shown.ts'

const source = sourceOf({
  headers: [
    ['host', 'shop.example.com'],
    ['x-user-id', 'u7'],
    ['x-many', 'a'],
    ['x-many', 'b'],
  ],
  vars: { n: 7n, list: ['b', 'a'], map: null },
  results: { http_request: { res: { body: { b: 1, a: [1.5, null] } } } },
})

describe('§4 render', () => {
  const rows: readonly (readonly [template: string, text: string])[] = [
    ['plain', 'plain'],
    ['', ''],
    ['Your IP is ${conn.client_ip}!', 'Your IP is 203.0.113.9!'],
    ['${req.method} ${req.url.path}', 'GET /api/users/7'],
    ['$1 and $ and $x', '$1 and $ and $x'],
    ['$${req.host}', '${req.host}'],
    ['a$$${req.method}', 'a$${req.method}'],
    ['${"}"}', '}'],
    [`\${'\\'}'}`, `'}`],
    [`\${r'\\'}`, '\\'],
    ['${"""a"}b"""}', 'a"}b'],
    ['${ {"a": {"b": 1}}.a.b }', '1'],
    ['${[1, 2, 3].map(v, v * 2)[1]}', '4'],
    ['${[0, 1, 2].filter(i, [10, 50, 100][i] > 40)[0]}', '1'],
    ['${true}${null}${1u}${1.5}', 'true11.5'],
    ['${1e30} ${0.1 + 0.2}', '1e+30 0.30000000000000004'],
    ['${time.now}', '2026-11-22T08:00:00.250Z'],
    ['${conn.ts.start}', '2026-11-22T07:59:59Z'],
    [`\${duration('90m')} \${duration('1.5s')} \${duration('250ms')} \${duration('0s')}`, '1h30m0s 1.5s 250ms 0s'],
    [`\${b'caf\\xc3\\xa9'}`, 'café'],
    [`\${req.headers['X-User-Id']}`, 'u7'],
    [`\${req.headers['x-many']}`, 'a, b'],
    ['${vars.list}', 'b, a'],
    ['${[1, 2]}', '[1,2]'],
    ['${[]}', '[]'],
    [`\${ {'b': 1, 'a': 'x'} }`, '{"a":"x","b":1}'],
    ['${actions.ngrok.http_request.res.body}', '{"a":[1.5,null],"b":1}'],
    [`\${secrets.get('my-vault', 'password')}`, 'geheim'],
    ['${type(1)}', 'int'],
    ['${req.host.split(".example.com")[0]}', 'shop'],
  ]
  for (const [template, text] of rows) {
    test(`${template} → ${text}`, () => expect(templateOf(template).render(source)).toBe(text))
  }
})

describe('§4 result type of a lone interpolation', () => {
  const rows: readonly (readonly [template: string, value: string])[] = [
    ['${vars.n}', '7'],
    ['${vars.list}', `['b', 'a']`],
    ['${vars.map}', 'null'],
    ['${1 == 1}', 'true'],
    ['${vars.n} ', `'7 '`],
    ['${vars.n}${vars.n}', `'77'`],
    ['plain', `'plain'`],
    ['${conn.client_ip}', `hybrid('203.0.113.9')`],
    ['${req.host}', `'shop.example.com'`],
    ['$${x}', `'\${x}'`],
  ]
  for (const [template, value] of rows) {
    test(`${template} → ${value}`, () => expect(shown(templateOf(template).value(source))).toBe(value))
  }
})

test('a quote may carry a backslash, as in JSON bodies of real documents', () => {
  const text = '{ "user": "${req.headers[\\"x-user-id\\"]}", "b": "${\'a}\' + \\\'"}\\\'}" }'
  const diagnostics = new Diagnostics()
  const template = compileTemplate(textOf(text), environment, diagnostics)
  expect(template?.render(source)).toBe('{ "user": "u7", "b": "a}"}" }')
  expect(diagnostics.all.map((one) => `${one.severity}: ${one.message} at ${one.span?.start}`)).toEqual([
    'warning: a quote inside an interpolation needs no backslash at 25',
    'warning: a quote inside an interpolation needs no backslash at 58',
  ])
})

test('constants are known when the policy is loaded', () => {
  expect(templateOf('v1.0').constant).toBe('v1.0')
  expect(templateOf('$${x}').isConstant).toBe(true)
  expect(templateOf('${req.host}').isConstant).toBe(false)
})

test('a failing interpolation throws with its reason', () => {
  expect(() => templateOf('${vars.none}').render(source)).toThrow('vars.none is not set')
})

describe('errors (ERR_NGROK_2224) point into the text', () => {
  const rows: readonly (readonly [template: string, ...lines: string[]])[] = [
    [
      'a ${req.hots} b',
      'policy.yaml:1:9: error: req has no field "hots" [ERR_NGROK_2224]',
      '  1 | a ${req.hots} b',
      '    |         ^^^^',
      '  hint: did you mean req.host?',
    ],
    [
      'a ${req.host',
      'policy.yaml:1:3: error: the interpolation ${ is not closed: "}" is missing [ERR_NGROK_2224]',
      '  1 | a ${req.host',
      '    |   ^^',
    ],
    ['${}', 'policy.yaml:1:3: error: the expression is empty [ERR_NGROK_2224]', '  1 | ${}', '    |   ^'],
    [
      '${req.host} ${1 + "a"}',
      'policy.yaml:1:15: error: "+" does not take int and string [ERR_NGROK_2224]',
      '  1 | ${req.host} ${1 + "a"}',
      '    |               ^^^^^^^',
      '  hint: convert the number: string(x)',
    ],
  ]
  for (const [template, ...lines] of rows) {
    test(template, () => {
      const diagnostics = new Diagnostics()
      expect(compileTemplate(textOf(template), environment, diagnostics)).toBeUndefined()
      expect(diagnostics.all.map((one) => renderDiagnostic(one)).join('\n')).toBe(lines.join('\n'))
    })
  }
})
