/** Every function of traffic-policy.md §7 with the values its pages give, and the edges around them. */
import { describe, expect, test } from 'vitest'
import { environment, expressionOf, problemsOf, sourceOf } from './exchange-source.ts'
import { outcome } from './shown.ts'

const source = sourceOf({
  query: 'q=hello&a=1&a=2&sp=x+y%20z&broken=%zz&empty',
  headers: [
    ['host', 'shop.example.com'],
    ['user-agent', 'curl/8'],
    ['x-list', 'a'],
    ['x-list', 'b'],
    ['cookie', 'session=abc; theme="dark"; session=second'],
    ['x-json', '["first entry", 2]'],
  ],
  responseHeaders: [
    ['content-type', 'text/html; charset=utf-8'],
    ['set-cookie', 'id=1; Path=/; HttpOnly; Max-Age=60; SameSite=Lax; Priority=High'],
    ['set-cookie', 'id=2; Path=/shop; Secure; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Domain=.Example.com'],
  ],
  vars: { models: [], list: [3n, 1n, 2n] },
})

type Row = readonly [expression: string, expected: string]

function check(rows: readonly Row[]): void {
  for (const [expression, expected] of rows) {
    test(`${expression} → ${expected}`, () => {
      expect(outcome(expressionOf(expression), source)).toBe(expected)
    })
  }
}

describe('§7.1 request and response helpers', () => {
  check([
    [`getReqHeader('X-List')`, `['a', 'b']`],
    [`getReqHeader('x-none')`, `[]`],
    [`getReqHeader('host')[0].split('.', 1)[0]`, `'shop'`],
    [`getReqHeader('x-none')[0]`, `error: index out of range: 0`],
    [`hasReqHeader('User-Agent')`, `true`],
    [`hasReqHeader('x-none')`, `false`],
    [`getReqCookie('session').value`, `'abc'`],
    [`getReqCookie('theme').value`, `'dark'`],
    [`getReqCookie('none').value`, `''`],
    [`getReqCookie('session').secure`, `false`],
    [`hasReqCookie('session')`, `true`],
    [`hasReqCookie('none')`, `false`],
    [`getQueryParam('a')`, `['1', '2']`],
    [`getQueryParam('sp')`, `['x y z']`],
    [`getQueryParam('broken')`, `['%zz']`],
    [`getQueryParam('none')`, `[]`],
    [`hasQueryParam('empty')`, `true`],
    [`hasQueryParam('none')`, `false`],
    [`getResHeader('content-type')`, `['text/html; charset=utf-8']`],
    [`hasResHeader('Content-Type')`, `true`],
    [`getResCookie('id').value`, `'2'`],
    [`getResCookie('id').domain`, `'example.com'`],
    [`getResCookie('id').expires`, `timestamp(2026-10-21T07:28:00Z)`],
    [`hasResCookie('id')`, `true`],
    [`res.cookies['id'].map(c, c.path)`, `['/shop', '/']`],
    [`res.cookies['id'][1].max_age`, `duration(60s)`],
    [`res.cookies['id'][1].http_only && !res.cookies['id'][1].secure`, `true`],
    [`res.cookies['id'][1].same_site`, `'Lax'`],
    [`res.cookies['id'][1].unparsed_attributes`, `{'Priority': 'High'}`],
    [`json.decode(getReqHeader('x-json')[0])[0] == "first entry"`, `true`],
    [`size(getResHeader('Content-Type').filter(v, v.matches('text/html'))) > 0`, `true`],
  ])
})

describe('§7.2 network', () => {
  check([
    [`inCidrRange('66.249.66.77', '66.249.66.1/24')`, `true`],
    [`inCidrRange('66.249.67.1', '66.249.66.1/24')`, `false`],
    [`inCidrRange('10.1.2.3', 'not a range')`, `false`],
    [`inCidrRange('not an address', '10.0.0.0/8')`, `false`],
    [`inCidrRange(conn.client_ip, '203.0.113.0/24')`, `true`],
    [`inCidrRange('2001:4860::1', '2001:4860::/32')`, `true`],
    [`inCidrRange('10.1.2.3', '::/0')`, `true`],
    [`inCidrRanges('66.249.66.1', ['66.249.66.1/24', '2001:4860::/32'])`, `true`],
    [`inCidrRanges('8.8.8.8', ['nonsense', '8.8.8.0/24'])`, `true`],
    [`inCidrRanges('8.8.8.8', [])`, `false`],
    [`inCidrRanges('8.8.8.8', vars.models)`, `false`],
    [`'192.168.1.1'.isPrivateIp()`, `true`],
    [`'172.32.0.1'.isPrivateIp()`, `false`],
    [`'fd00::1'.isPrivateIp()`, `false`],
    [`conn.client_ip.isPrivateIp()`, `false`],
  ])
})

describe('§7.3 encoding', () => {
  check([
    [`base64.encode(b'hello')`, `'aGVsbG8='`],
    [`base64.decode('aGVsbG8=')`, `b'hello'`],
    [`base64.decode('aGVsbG8')`, `error: not base64`],
    [`base64.decode('*')`, `error: not base64`],
    [`'hello'.encodeBase64()`, `'aGVsbG8='`],
    [`'aGVsbG8='.decodeBase64()`, `'hello'`],
    [`basic_auth.encode('user', 'pass')`, `'Basic dXNlcjpwYXNz'`],
    [`json.encode({'b': [1, 2.5, true], 'a': null})`, `'{"a":null,"b":[1,2.5,true]}'`],
    [`json.encode([9223372036854775807])`, `'[9223372036854775807]'`],
    [`['x"y'].encodeJson()`, `'["x\\"y"]'`],
    [`{'k': 1u}.encodeJson()`, `'{"k":1}'`],
    [`json.decode('{"n": 1, "d": 1.5}')`, `{'n': 1, 'd': 1.5}`],
    [`json.decode('{"n": 1}').n == 1 && json.decode('{"n": 1}').n == 1.0`, `true`],
    [`'[1'.decodeJson()`, `error: not JSON`],
    [`'{"__proto__": 1}'.decodeJson().__proto__`, `1`],
    [`'{"a": 1}'.decodeJson().toString`, `error: no such key: 'toString'`],
    [`'{"a":1}'.isJson()`, `true`],
    [`'{a:1}'.isJson()`, `false`],
    [`queryString.encode({'b': 'x y', 'a': ['1', '2']})`, `'a=1&a=2&b=x%20y'`],
    [`queryString.decode(req.url.query)["q"] == "hello"`, `true`],
    [`queryString.decode('a=1&a=2&b=3')`, `{'a': ['1', '2'], 'b': '3'}`],
    [`{'a': 'b'}.encodeQueryString()`, `'a=b'`],
    [`'a=b&c=d'.decodeQueryString()`, `{'a': 'b', 'c': 'd'}`],
    [`'a=b&c=d'.isQueryString()`, `true`],
    [`'not a query string'.isQueryString()`, `false`],
    [`url.escape('i;md/r/$y')`, `'i%3Bmd%2Fr%2F%24y'`],
    [`url.unescape('i%3Bmd%2Fr%2F%24y')`, `'i;md/r/$y'`],
    [`url.escape('/foo') == '%2Ffoo'`, `true`],
    [`url.unescape('%2Ffoo') == '/foo'`, `true`],
    [`'a b+c'.escapeUrl()`, `'a%20b%2Bc'`],
    [`'a%20b+c'.unescapeUrl()`, `'a b+c'`],
    [`'%zz'.unescapeUrl()`, `error: an escape of the URL is not valid`],
    [`url.parse('https://user:pw@Example.com:8443/a%20b?q=1#top').host`, `'Example.com:8443'`],
    [`url.parse('HTTPS://example.com/a%20b?q=1#top').scheme`, `'https'`],
    [`'https://example.com/a%20b?q=1#top'.parseUrl().path`, `'/a b'`],
    [`'https://example.com/a%20b?q=1#top'.parseUrl().raw_query`, `'q=1'`],
    [`url.parse(req.url).host`, `'shop.example.com'`],
    [`url.parse('mailto:a@b.c').opaque`, `'a@b.c'`],
    [`'https://example.com'.isURL()`, `true`],
    [`'/only/a/path'.isURL()`, `false`],
    [`'not a url'.isURL()`, `false`],
  ])
})

describe('§7.4 hashes', () => {
  const sha512 =
    '9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043'
  check([
    [`hash.crc32('hello')`, `'3610a686'`],
    [`hash.crc64('hello')`, `'3c3eeee2d8100000'`],
    [`hash.md5('hello')`, `'5d41402abc4b2a76b9719d911017c592'`],
    [`hash.sha1('hello')`, `'aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d'`],
    [`hash.sha256('hello')`, `'2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824'`],
    [`hash.sha512('hello')`, `'${sha512}'`],
    [`hash.xxhash64('hello')`, `'26c7827d889f6da3'`],
    [`hash.crc32('hello', 'base64')`, `'NhCmhg=='`],
    [`'hello'.crc32('base64')`, `'NhCmhg=='`],
    [`'hello'.crc64()`, `'3c3eeee2d8100000'`],
    [`'hello'.md5('base64')`, `'XUFAKrxLKna5cZ2REBfFkg=='`],
    [`'hello'.sha1()`, `'aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d'`],
    [`'hello'.sha256().size()`, `64`],
    [`'hello'.sha512().size()`, `128`],
    [`'hello'.xxhash64('hex')`, `'26c7827d889f6da3'`],
    [`hash.xxhash64('')`, `'ef46db3751d8e999'`],
    [`hash.xxhash64('Nobody inspects the spammish repetition')`, `'fbcea83c8a378bf1'`],
    [`'hello'.md5('latin')`, `error: md5: the format is 'hex' or 'base64'`],
  ])
})

describe('§7.5 strings', () => {
  check([
    [`'hello'.contains('ell') && 'hello'.startsWith('he') && 'hello'.endsWith('lo')`, `true`],
    [`'hello'.contains(vars.list[0] == 3 ? 'll' : 'x')`, `true`],
    [`matches('curl/8', '^curl/[0-9]+$')`, `true`],
    [`req.user_agent.matches('(?i)CURL')`, `true`],
    [`size('😀') == 1 && '😀a'.size() == 2`, `true`],
    [`'hello'.charAt(4)`, `'o'`],
    [`'hello'.charAt(5)`, `''`],
    [`'hello'.charAt(6)`, `error: index out of range: 6`],
    [`'hello'.charAt(-1)`, `error: index out of range: -1`],
    [`'😀a'.charAt(1)`, `'a'`],
    [`'hello mellow'.indexOf('ello', 2)`, `7`],
    [`'hello'.indexOf('z')`, `-1`],
    [`'😀a'.indexOf('a')`, `1`],
    [`'hello mellow'.lastIndexOf('')`, `12`],
    [`'hello mellow'.lastIndexOf('ello', 6)`, `1`],
    [`'hello'.lastIndexOf('l', 9)`, `error: index out of range: 9`],
    [`'hello'.substring(1, 3)`, `'el'`],
    [`'😀ab'.substring(1)`, `'ab'`],
    [`'hello'.substring(3, 1)`, `error: invalid substring range: 3 to 1`],
    [`'a-b-c'.replace('-', '+')`, `'a+b+c'`],
    [`'a-b-c'.replace('-', '+', 1)`, `'a+b-c'`],
    [`'a-b'.replace('-', '+', 0)`, `'a-b'`],
    [`'ab'.replace('', '.')`, `'.a.b.'`],
    [`'hello mellow'.split()`, `['hello', 'mellow']`],
    [`'hello mellow'.split(' ', 1)`, `['hello']`],
    [`'hello,mellow,hi'.split(',', 2)`, `['hello', 'mellow']`],
    [`'a,b'.split(',', 0)`, `[]`],
    [`'a,b'.split(',', -1)`, `['a', 'b']`],
    [`'ab'.split('')`, `['a', 'b']`],
    [`['a', 'b'].join('-') + ['c'].join()`, `'a-bc'`],
    [`' x\\t'.trim()`, `'x'`],
    [`'a😀'.reverse()`, `'😀a'`],
    [`'TacoÆ'.lowerAscii()`, `'tacoÆ'`],
    [`'tacoæ'.upperAscii()`, `'TACOæ'`],
    [`'İSTANBUL'.lower()`, `'istanbul'`],
    [`'ΣΑΣ'.lower()`, `'σασ'`],
    [`'straße æ'.upper()`, `'STRAßE Æ'`],
    [`'%s %d %.2f %x'.format(['a', 7, 2.345, 255])`, `'a 7 2.35 ff'`],
    [`'%b %o %X %e'.format([true, 8, 'hi', 1234.5])`, `'1 10 6869 1.234500e+03'`],
    [`'%.0f %.0f %.1f'.format([0.5, 1.5, 0.25])`, `'0 2 0.2'`],
    [`'%d'.format(['x'])`, `error: format: %d does not take a string`],
    [`'%q'.format(['x'])`, `error: format: unknown verb %q`],
    [`strings.quote('a"\\n')`, `'"a\\"\\n"'`],
  ])

  test('without ngrok’s readings split keeps the rest (§7.5)', () => {
    const plain = expressionOf(`'a,b,c'.split(',', 2)`, { ...environment, overrides: false })
    expect(outcome(plain, source)).toBe(`['a', 'b,c']`)
    expect(problemsOf(`'a b'.split()`, { ...environment, overrides: false })).toContain(
      'split() takes 1 or 2 arguments',
    )
  })
})

describe('§7.6 lists and maps', () => {
  check([
    [`size([1, 2]) + [1].size() + size({'a': 1}) + {'a': 1}.size()`, `5`],
    [`[1, 2, 3].all(v, v > 0)`, `true`],
    [`[1, 2, 3].exists(v, v == 2)`, `true`],
    [`[1, 2, 3].exists_one(v, v > 1)`, `false`],
    [`[1, 2, 3].filter(v, v > 1)`, `[2, 3]`],
    [`[1, 2, 3].map(v, v * 2)`, `[2, 4, 6]`],
    [`[1, 2, 3].map(v, v > 1, v * 2)`, `[4, 6]`],
    [`{'a': 1, 'b': 2}.map(k, k)`, `['a', 'b']`],
    [`{'a': 1, 'b': 2}.exists(k, k == 'b')`, `true`],
    [`[1, 2, 3, 4].slice(1, 3)`, `[2, 3]`],
    [`[1, 2].slice(1, 3)`, `error: slice: 1 to 3 of a list of 2`],
    [`[1, [2, [3]]].flatten()`, `[1, 2, [3]]`],
    [`[1, [2, [3]]].flatten(2)`, `[1, 2, 3]`],
    [`[1].flatten(-1)`, `error: flatten: the depth must not be negative`],
    [`[3, 1, 2].sort()`, `[1, 2, 3]`],
    [`['b', 'a'].sort()`, `['a', 'b']`],
    [`[dyn(1), 'a'].sort()`, `error: no such overload: sort of values of different types`],
    [`[[1], [2]].sort()`, `error: no such overload: list < list`],
    [`[{'n': 2}, {'n': 1}].sort(x, y, x.n < y.n).map(m, m.n)`, `[1, 2]`],
    [`vars.list.sort(x, y, x > y)`, `[3, 2, 1]`],
    [`[{'n': 2}, {'n': 1}].sortBy(m, m.n).map(m, m.n)`, `[1, 2]`],
    [`[1, 2, 1, 2].distinct()`, `[1, 2]`],
    [`[dyn(1), 1.0, 1u, 'a', 'a', [1], [1]].distinct()`, `[1, 'a', [1]]`],
    [`lists.range(3)`, `[0, 1, 2]`],
    [`lists.range(0)`, `[]`],
    [`lists.range(100001)`, `error: lists.range: at most 100000`],
    [`2 in [1, 2] && 'k' in {'k': 1} && !('x' in {'k': 1})`, `true`],
    [`has({'f': 1}.f) && !has({'f': 1}.g)`, `true`],
    [`sets.contains([1, 2, 3], [2, 3]) && !sets.contains([1], [2])`, `true`],
    [`sets.equivalent([1, 1, 2], [2, 1])`, `true`],
    [`sets.intersects([1, 2], [2, 3])`, `true`],
  ])
})

describe('§7.7 numbers, random, time, conversion', () => {
  check([
    [`int(50.5)`, `50`],
    [`uint(1.5) + 10u`, `11u`],
    [`int('987') + int(3u)`, `990`],
    [`int('x')`, `error: not an int`],
    [`double('1.5') + double(2)`, `3.5`],
    [`string(1.5) + string(2) + string(true)`, `'1.52true'`],
    [`bytes('é')`, `b'Ã©'`],
    [`bool('true') && !bool('0')`, `true`],
    [`type(1) == int && type('') == string`, `true`],
    [`dyn(1) == 1.0`, `true`],
    [`timestamp('2026-11-22T08:00:00.5Z')`, `timestamp(2026-11-22T08:00:00.5Z)`],
    [`timestamp('2026-11-22T10:00:00+02:00') == timestamp('2026-11-22T08:00:00Z')`, `true`],
    [`timestamp('2026-02-30T08:00:00Z')`, `error: not an RFC 3339 time`],
    [`timestamp(time.now)`, `timestamp(2026-11-22T08:00:00.25Z)`],
    [`time.now`, `'2026-11-22T08:00:00.250Z'`],
    [`duration('1h30m').getMinutes()`, `90`],
    [`duration('1.234s').getMilliseconds()`, `234`],
    [`duration('1h30m').getHours() + duration('90s').getSeconds()`, `91`],
    [`timestamp('2026-11-22T08:00:00Z').getFullYear()`, `2026`],
    [`timestamp('2026-11-22T08:00:00Z').getMonth()`, `10`],
    [`timestamp('2026-11-22T08:00:00Z').getDate()`, `22`],
    [`timestamp('2026-11-22T08:00:00Z').getDayOfMonth()`, `21`],
    [`timestamp('2026-11-22T08:00:00Z').getDayOfWeek()`, `0`],
    [`timestamp('2026-01-02T08:00:00Z').getDayOfYear()`, `1`],
    [`timestamp('2026-11-22T08:00:00Z').getHours('Europe/Berlin')`, `9`],
    [`timestamp('2026-11-22T08:00:00Z').getHours('-02:30')`, `5`],
    [`timestamp('2026-11-22T08:00:00Z').getHours('Mars/Base')`, `error: unknown time zone`],
    [`timestamp('2026-11-22T08:00:01.5Z').getMilliseconds() + timestamp('2026-11-22T08:05:07Z').getSeconds()`, `507`],
    [`timestamp('2026-11-22T08:05:07Z').getMinutes()`, `5`],
    [`timestamp('2026-11-22T08:00:00Z') + duration('1h') > timestamp('2026-11-22T08:00:00Z')`, `true`],
    [`math.greatest(1, 2.5, 2u)`, `2.5`],
    [`math.least([3, 1, 2])`, `1`],
    [`math.ceil(1.2) + math.floor(1.8) + math.round(2.5) + math.trunc(-1.9)`, `5.0`],
    [`math.abs(-3) + math.sign(-9)`, `2`],
    [`math.sqrt(16)`, `4.0`],
    [`math.bitAnd(6, 3) + math.bitOr(4, 1) + math.bitXor(6, 3) + math.bitNot(0)`, `11`],
    [`math.bitShiftLeft(1, 4) + math.bitShiftRight(16, 2)`, `20`],
    [`math.isNaN(0.0 / 0.0) && math.isInf(1.0 / 0.0) && math.isFinite(1.0)`, `true`],
    [`rand.int(5, 5)`, `5`],
    [`rand.int(3, 1)`, `error: rand.int: no number between 3 and 1`],
    [`rand.int(-1, 1)`, `error: rand.int: no number between -1 and 1`],
    [`rand.double() >= 0.0 && rand.double() < 1.0`, `true`],
  ])

  test('rand.int includes both ends and defaults to 0 and 1', () => {
    const at = (random: number, text: string): string =>
      outcome(expressionOf(text, { ...environment, random: () => random }), source)
    expect(at(0, 'rand.int()')).toBe('0')
    expect(at(0.999_999, 'rand.int()')).toBe('1')
    expect(at(0, 'rand.int(0, 99)')).toBe('0')
    expect(at(1 - 2 ** -53, 'rand.int(0, 99)')).toBe('99')
    expect(at(0.5, 'rand.int(0, 11)')).toBe('6')
    expect(at(1 - 2 ** -53, 'rand.int(0, 9223372036854775806)')).toBe('9223372036854774783')
    expect(at(0.25, 'rand.double()')).toBe('0.25')
  })
})

describe('addresses and networks as values', () => {
  check([
    [`cidr('203.0.113.0/24').containsIP(conn.client_ip)`, `true`],
    [`string(ip('2001:DB8:0:0:1:0:0:1'))`, `'2001:db8::1:0:0:1'`],
    [`string(ip('0:0:0:1::'))`, `'0:0:0:1::'`],
    [`string(ip('::'))`, `'::'`],
    [`string(cidr('10.1.2.3/8').masked())`, `'10.0.0.0/8'`],
    [`string(cidr('2001:db8:ffff::/33').masked())`, `'2001:db8:8000::/33'`],
    [`isIP('10.0.0.1') && !isIP('10.0.0.0/8') && isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.1')`, `true`],
    [`ip('10.0.0.300')`, `error: not an IP address`],
    [`ip('224.0.0.1').isLinkLocalMulticast()`, `true`],
    [`cidr('::/0').containsIP('10.0.0.1')`, `false`],
    [`json.encode([ip('::1'), cidr('10.0.0.0/8')])`, `'["::1","10.0.0.0/8"]'`],
    [`'%s'.format([ip('::1')])`, `'::1'`],
  ])
})

describe('§7.8 secrets', () => {
  check([
    [`secrets.get('my-vault', 'password')`, `'geheim'`],
    [`secret('my-vault', 'password')`, `'geheim'`],
    [`security.secret('my-vault', 'password')`, `'geheim'`],
    [`secrets.get('my-vault', 'none')`, `error: there is no such secret (ERR_NGROK_24009)`],
  ])
})

test('functions of the response do not exist in on_http_request (§7.1)', () => {
  expect(problemsOf(`hasResHeader('x')`, { ...environment, phase: 'on_http_request' })).toBe(
    [
      `policy.yaml:1:1: error: hasResHeader() exists in on_http_response and on_event_stream_message only, not in on_http_request [ERR_NGROK_2200]`,
      `  1 | hasResHeader('x')`,
      `    | ^^^^^^^^^^^^`,
    ].join('\n'),
  )
})
