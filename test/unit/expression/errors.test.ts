/** Compile errors and warnings as people read them: message, place, caret, hint (traffic-policy.md §3, §11; ERR_NGROK_2200). */
import { describe, expect, test } from 'vitest'
import { environment, problemsOf } from './exchange-source.ts'

/** Expression; column and width of the mark; message; hint. */
type Row = readonly [expression: string, column: number, width: number, message: string, hint?: string]

function golden([expression, column, width, message, hint]: Row, severity = 'error', code = 'ERR_NGROK_2200'): string {
  const lines = [
    `policy.yaml:1:${column}: ${severity}: ${message} [${code}]`,
    `  1 | ${expression}`,
    `    | ${' '.repeat(column - 1)}${'^'.repeat(width)}`,
  ]
  if (hint !== undefined) lines.push(`  hint: ${hint}`)
  return lines.join('\n')
}

const numbersAndText = 'compare numbers with numbers (without quotes) and text with text'
const quotes = 'text must stand in quotes; a quote inside text of the same kind ends it'
const header = "a header has a list of values: take the first with […][0], or write 'x' in […]"
const request = 'the request is called req: req.headers, req.url.path, req.method'

describe('§11: what real documents contain', () => {
  const rows: readonly Row[] = [
    [
      `req.url.raw.includes('/foo')`,
      13,
      8,
      'unknown function "includes"',
      "write text.contains('…') for text and 'x' in list for lists",
    ],
    [`req.headers.get('x')`, 13, 3, 'unknown function "get"', "write map['key'], or getReqHeader('name') for headers"],
    [`request.headers['x']`, 1, 7, 'unknown variable "request"', request],
    [`request.headers.get('x') == 'y'`, 1, 7, 'unknown variable "request"', request],
    [`req.path == '/x'`, 5, 4, 'req has no field "path"', 'write req.url.path'],
    [`url.escape(req.raw)`, 16, 3, 'req has no field "raw"', 'write req.url.raw'],
    [
      `'\${req.host}' == 'x'`,
      1,
      13,
      'an interpolation ${…} has no meaning inside an expression',
      'join texts with +: "a" + req.host',
    ],
    [
      `\${req.host} == 'x'`,
      1,
      1,
      '"$" is not part of the expression language',
      'an expression is CEL as it is: leave out the ${ and the }',
    ],
    [
      `req.host == $HOST`,
      13,
      1,
      '"$" is not part of the expression language',
      'a placeholder ($NAME) must be given a value before the policy is loaded',
    ],
    [`res.status_code == '200'`, 1, 24, '"==" does not take int and string', numbersAndText],
    [`'8080' == conn.client_port`, 1, 26, '"==" does not take string and int', numbersAndText],
    [`res.status_code >= '500'`, 1, 24, '">=" does not take int and string', numbersAndText],
    [`res.status_code in ['200']`, 1, 26, '"in" does not take int and list(string)'],
    [
      `!req.host in ['a', 'b']`,
      1,
      9,
      '"!" binds tighter than "in": this negates the value, not the membership',
      'write !(x in list)',
    ],
    [
      `!vars.name in vars.list`,
      1,
      10,
      '"!" binds tighter than "in": this negates the value, not the membership',
      'write !(x in list)',
    ],
    [`conn.ts.end`, 1, 11, 'conn.ts.end is not known while a connection lives', 'time.now is the time of the rule'],
    [`['a'] && true`, 1, 5, '"&&" wants a bool, this is a list(string)', 'test its size: size(x) > 0'],
    [`!req.host`, 1, 9, '"!" does not take a string'],
    [`req.host || true`, 1, 8, '"||" wants a bool, this is a string'],
    [`[v*2 for v in vars.l]`, 6, 3, 'list comprehensions are not CEL', 'write list.map(v, …) or list.filter(v, …)'],
    [
      `var x = 1`,
      1,
      3,
      '"var" is a reserved word',
      'CEL has no variables of its own: set them with the action set-vars and read vars.<name>',
    ],
  ]
  for (const row of rows) test(row[0], () => expect(problemsOf(row[0])).toBe(golden(row)))

  test('a bool before "in" is what it says', () => {
    expect(problemsOf(`!true in [false]`)).toBe('')
    expect(problemsOf(`(!vars.a) in [false]`)).toBe('')
  })
})

describe('names', () => {
  const rows: readonly Row[] = [
    [`req.hedaers['x']`, 5, 7, 'req has no field "hedaers"', 'did you mean req.headers?'],
    [`req.url.pth`, 9, 3, 'req.url has no field "pth"', 'did you mean req.url.path?'],
    [`req['hedaers']`, 5, 9, 'req has no field "hedaers"', 'did you mean req.headers?'],
    [
      `conn.client_ip.country`,
      16,
      7,
      'conn.client_ip has no field "country"',
      'its fields are categories, is_on_blocklist, is_tor_node, as, geo',
    ],
    [`reqs.host`, 1, 4, 'unknown variable "reqs"', 'did you mean req?'],
    [
      `GET == req.method`,
      1,
      3,
      'unknown variable "GET"',
      'variables begin with conn, endpoint, req, res, time, vars or actions; text must stand in quotes',
    ],
    [`req.url.path.startWith('/')`, 14, 9, 'unknown function "startWith"', 'did you mean startsWith?'],
    [`hasReqHeaders('x')`, 1, 13, 'unknown function "hasReqHeaders"', 'did you mean hasReqHeader?'],
    [`size()`, 1, 4, 'size() takes 1 argument, not 0'],
    [`req.host.replace('a')`, 10, 7, 'replace() takes 2 or 3 arguments, not 1'],
    [`startsWith(req.host, 'a')`, 1, 10, 'startsWith() is called on a value', 'write x.startsWith(…)'],
    [`req.host.inCidrRange('10.0.0.0/8')`, 10, 11, 'inCidrRange() is not called on a value', 'write inCidrRange(…)'],
    [`[1].exists(v)`, 5, 6, 'exists() is not called with these arguments', 'list.exists(v, condition)'],
    [`[1].map(v.x, 1)`, 9, 3, 'map() wants a simple name here'],
    [`has(req)`, 5, 3, 'has() wants a field: has(a.b)'],
    [`req.host.length`, 10, 6, 'a string has no field "length"', 'write size(x)'],
  ]
  for (const row of rows) test(row[0], () => expect(problemsOf(row[0])).toBe(golden(row)))
})

describe('types', () => {
  const rows: readonly Row[] = [
    [`1 + 'a'`, 1, 7, '"+" does not take int and string', 'convert the number: string(x)'],
    [`1 == 1.0`, 1, 8, '"==" does not take int and double', 'convert one side: double(x) or int(x)'],
    [`req.headers['x'] == 'y'`, 1, 23, '"==" does not take list(string) and string', header],
    [`url.parse(req.headers['x'])`, 5, 5, 'url.parse() does not take (list(string))', header],
    [`req.host['a']`, 10, 3, 'a string cannot be indexed'],
    [`req.headers[1]`, 13, 1, "the map's keys are string, not int"],
    [`[1, 2]['a']`, 8, 3, 'a list is indexed by an int, not by a string'],
    [`req.host.all(c, c == 'a')`, 1, 8, 'all() walks over a list or a map, this is a string'],
    [`[1].all(v, v)`, 12, 1, '"all" wants a bool, this is an int'],
    [
      `req.ts.header_received > '2026-01-01T00:00:00Z'`,
      1,
      47,
      '">" does not take timestamp and string',
      'make a time of the text: timestamp(x)',
    ],
    [`'a' in 'abc'`, 1, 12, '"in" does not take string and string', 'write text.contains(part)'],
    [`1 ? 2 : 3`, 1, 1, '"?" wants a bool, this is an int'],
  ]
  for (const row of rows) test(row[0], () => expect(problemsOf(row[0])).toBe(golden(row)))
})

describe('syntax', () => {
  const rows: readonly Row[] = [
    [
      `conn.tls.client.issuer == 'O=Let's Encrypt'`,
      34,
      1,
      'expected an operator or the end of the expression, found "s"',
      quotes,
    ],
    [`req.host == 'x`, 13, 1, "the text in ' is not closed"],
    [`req.host = 'x'`, 10, 1, '"=" is not an operator', 'compare with =='],
    [`req.host == 'x' & true`, 17, 1, '"&" is not an operator', 'write &&'],
    [`req.host == “x”`, 13, 1, '"“" is a typographic quote', `write " or '`],
    [`req.host == 'x' and true`, 17, 3, 'expected an operator or the end of the expression, found "and"', 'write &&'],
    [`(req.host == 'x'`, 1, 1, '"(" is not closed: ")" is missing'],
    [`[1, 2`, 1, 1, '"[" is not closed: "]" is missing'],
    [`req.host ==`, 12, 1, 'expected a value, found the end of the expression'],
    [`req.`, 5, 1, 'expected a name after ".", found the end of the expression'],
    [
      `'\\d+'`,
      2,
      2,
      'unknown escape \\d',
      String.raw`in regular expressions write the text raw (r'\d+') or double the backslash ('\\d+')`,
    ],
    [`9223372036854775808`, 1, 19, 'does not fit into a 64-bit int'],
    [`18446744073709551616u`, 1, 21, 'does not fit into a 64-bit uint'],
    [`Foo{a: 1}`, 4, 1, 'messages cannot be built here', 'write a map: {"key": value}'],
    [`1.5.2`, 4, 2, 'expected an operator or the end of the expression, found ".2"'],
    [`12abc`, 1, 3, 'a number must not be followed by a letter or digit'],
  ]
  for (const row of rows) test(row[0], () => expect(problemsOf(row[0])).toBe(golden(row)))
})

describe('every error of an expression is reported', () => {
  test('two unknown fields', () => {
    const text = `req.pth == 'x' || res.statuscode == 1`
    expect(problemsOf(text)).toBe(
      [
        golden([
          text,
          5,
          3,
          'req has no field "pth"',
          'its fields are method, host, version, url, headers, trailers, content_type, content_length, content_encoding, location, cookies, user_agent, ts',
        ]),
        golden([text, 23, 10, 'res has no field "statuscode"', 'did you mean res.status_code?']),
      ].join('\n'),
    )
  })
  test('lines and columns of a block scalar', () => {
    expect(problemsOf(`req.method == 'GET' &&\n  req.pth == 'x'`)).toContain(
      'policy.yaml:2:7: error: req has no field "pth"',
    )
  })
})

describe('warnings', () => {
  test('text functions on all values of a header (§11)', () => {
    const text = `res.headers['content-type'].contains('application/json')`
    expect(problemsOf(text)).toBe(
      golden(
        [text, 1, 56, 'contains() is used on all values of a header: they are joined with ", "'],
        'warning',
        'EXPRESSION_STYLE',
      ),
    )
  })
})

test('an invalid regular expression is refused at its place', () => {
  const patterns = {
    compile: () => {
      throw new Error('unclosed group')
    },
  }
  expect(problemsOf(`req.host.matches('(')`, { ...environment, patterns })).toBe(
    golden([`req.host.matches('(')`, 18, 3, 'invalid regular expression: unclosed group']),
  )
})
