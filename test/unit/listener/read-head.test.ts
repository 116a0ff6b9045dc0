import { describe, expect, test } from 'vitest'
import { type HeadSource, readHead, type RequestHead } from '../../../src/listener/read-head.ts'
import { expectLinear } from '../../support/linear-work.ts'

const LIMITS = {
  headBytes: 1_000,
  uriBytes: 100,
  bodyBytes: 500,
  streamBufferBytes: 1_000,
  webSocket: { maxMessageBytes: 1_000, idleMs: 0, pingMs: 0, maxOpen: 1, compress: false },
}

/** A request as the library hands it out: names in lower case, values as UTF-16 text. */
function source(method: string, target: string, fields: readonly (readonly [string, string])[]): HeadSource {
  const mark = target.indexOf('?')
  return {
    getCaseSensitiveMethod: () => method,
    getUrl: () => (mark === -1 ? target : target.slice(0, mark)),
    getQuery: () => (mark === -1 ? undefined : target.slice(mark + 1)),
    forEach: (take) => {
      for (const [name, value] of fields) take(name, value)
    },
  }
}

const HOST = ['host', 'gw.test'] as const
const read = (
  fields: readonly (readonly [string, string])[],
  method = 'GET',
  target = '/',
): ReturnType<typeof readHead> => readHead(source(method, target, fields), LIMITS)
const status = (result: ReturnType<typeof readHead>): number | 'passed' =>
  'status' in result ? result.status : 'passed'
const passed = (result: ReturnType<typeof readHead>): RequestHead => {
  if ('status' in result) throw new Error(`refused: ${result.reason}`)
  return result
}

describe('framing (H-20 … H-23, T-01, T-28)', () => {
  test.each([
    ['none', [], 0],
    ['zero', [['content-length', '0']], 0],
    ['a length', [['content-length', '42']], 42],
    ['leading zeros', [['content-length', '0042']], 42],
    ['chunked', [['transfer-encoding', 'chunked']], -1],
    ['chunked in capitals', [['transfer-encoding', 'CHUNKED']], -1],
  ] as const)('%s', (_name, fields, expected) => {
    expect(passed(read([HOST, ...fields])).bodyLength).toBe(expected)
  })

  test.each([
    [
      'both',
      [
        ['content-length', '1'],
        ['transfer-encoding', 'chunked'],
      ],
      400,
    ],
    [
      'both, far apart',
      [
        ['transfer-encoding', 'chunked'],
        ['x', 'y'],
        ['content-length', '1'],
      ],
      400,
    ],
    [
      'two lengths',
      [
        ['content-length', '1'],
        ['content-length', '1'],
      ],
      400,
    ],
    ['a list', [['content-length', '1, 1']], 400],
    ['a sign', [['content-length', '+1']], 400],
    ['empty', [['content-length', '']], 400],
    ['hexadecimal', [['content-length', '0x1']], 400],
    ['17 digits', [['content-length', '1'.repeat(17)]], 400],
    ['beyond safe integers', [['content-length', '9'.repeat(16)]], 400],
    ['an Arabic digit', [['content-length', '\u0661']], 400],
    [
      'two codings',
      [
        ['transfer-encoding', 'chunked'],
        ['transfer-encoding', 'chunked'],
      ],
      400,
    ],
    ['identity', [['transfer-encoding', 'identity']], 400],
    ['chunked twice', [['transfer-encoding', 'chunked, chunked']], 400],
    ['chunked not last', [['transfer-encoding', 'chunked, gzip']], 400],
    ['gzip before chunked', [['transfer-encoding', 'gzip, chunked']], 501],
    ['a tab', [['transfer-encoding', '\tchunked']], 400],
    ['a parameter', [['transfer-encoding', 'chunked;q=1']], 400],
    ['over the limit', [['content-length', '501']], 413],
  ] as const)('%s is refused', (_name, fields, expected) => {
    expect(status(read([HOST, ...fields]))).toBe(expected)
  })

  test('what one request left behind does not reach the next one', () => {
    read([
      HOST,
      ['content-length', '1'],
      ['transfer-encoding', 'chunked'],
      ['upgrade', 'x'],
      ['connection', 'upgrade'],
      ['expect', 'x'],
    ])
    expect(passed(read([HOST]))).toEqual({
      head: 'GET / HTTP/1.1\r\nhost: gw.test\r\n',
      host: 'gw.test',
      connectionLines: '',
      proxyFields: false,
      hasPlainPath: false,
      isHead: false,
      bodyLength: 0,
      close: false,
      libraryCloses: false,
      expectsContinue: false,
    })
  })
})

test.each(['x-request-id', 'x-a', 'via', 'forwarded', 'traceparent', 'tracestate'])(
  'a head with %s is marked as one with fields of proxies, and the next one is not',
  (name) => {
    expect(passed(read([HOST, [name, '1']])).proxyFields).toBe(true)
    expect(passed(read([HOST, ['accept', '*/*'], ['user-agent', 'x-agent']])).proxyFields).toBe(false)
  },
)

describe('request line', () => {
  test.each([
    ['/', 'passed'],
    ['/a?b', 'passed'],
    ['/a?', 'passed'],
    [`/${'a'.repeat(99)}`, 'passed'],
    [`/${'a'.repeat(100)}`, 414],
    ['/a#b', 400],
    ['/a\\b', 400],
    ['/\u00e4', 400],
    ['/a\ufffd', 400],
    ['/a b', 400],
    ['/a?b#c', 400],
    ['/a?b\\c', 'passed'],
    ['/a?\u00e4', 'passed'],
    ['/a?\ufffd', 400],
    ['*', 400],
    ['http://a/', 400],
  ])('T-09 target %s: %s', (target, expected) => {
    expect(status(read([HOST], 'GET', target))).toBe(expected)
  })

  test('T-12 the query is the bytes that came', () => {
    expect(passed(read([HOST], 'GET', '/a?\u00e4\u20ac')).head).toBe(
      'GET /a?\xc3\xa4\xe2\x82\xac HTTP/1.1\r\nhost: gw.test\r\n',
    )
  })

  test('H-55 a question mark without a query is kept', () => {
    expect(passed(read([HOST], 'GET', '/a?')).head).toBe('GET /a? HTTP/1.1\r\nhost: gw.test\r\n')
  })

  test.each([
    ['get', 'passed'],
    ['HEAD', 'passed'],
    ['M-SEARCH', 'passed'],
    ['CONNECT', 501],
    ['TRACE', 405],
    ['G(T', 400],
    ['G\u00c4T', 400],
    ['M'.repeat(33), 501],
  ])('T-07 method %s: %s', (method, expected) => {
    const result = read([HOST], method)
    expect(status(result)).toBe(expected)
    if (expected === 'passed') expect(passed(result).head.startsWith(`${method} / `)).toBe(true)
  })
})

describe('Host (H-15)', () => {
  test.each([
    ['gw.test', true],
    ['GW.test.', true],
    ['gw.test:8080', true],
    ['127.0.0.1:80', true],
    ['[::1]', true],
    ['[2001:db8::1]:443', true],
    ['my_service', true],
    ['xn--bcher-kva.example', true],
    ['', false],
    ['a b', false],
    ['a,b', false],
    ['user@gw.test', false],
    ['gw.test/', false],
    ['gw.test:', false],
    ['gw.test:x', false],
    ['gw.test:65536', false],
    ['[::1', false],
    ['::1', false],
    ['b\u00fccher.example', false],
    ['a%2fb', false],
    ['-a', false],
    ['.a', false],
  ])('%s: %s', (host, isValid) => {
    expect(status(read([['host', host]]))).toBe(isValid ? 'passed' : 400)
  })

  test('missing or twice', () => {
    expect(status(read([]))).toBe(400)
    expect(status(read([HOST, HOST]))).toBe(400)
  })
})

describe('lines', () => {
  test('T-12 text that was UTF-8 becomes its bytes again', () => {
    expect(passed(read([HOST, ['x', 'caf\u00e9 \u{1f600}!']])).head).toBe(
      'GET / HTTP/1.1\r\nhost: gw.test\r\nx: caf\u00c3\u00a9 \u00f0\u009f\u0098\u0080!\r\n',
    )
  })

  test.each([
    ['a replacement character', ['x', 'a\ufffdb']],
    ['NUL', ['x', 'a\0b']],
    ['DEL', ['x', 'a\x7fb']],
    ['CR', ['x', 'a\rb']],
    ['LF', ['x', 'a\nb']],
    ['a name with a space', ['x y', 'a']],
    ['an empty name', ['', 'a']],
    ['a name beyond ASCII', ['x\u00e4', 'a']],
    ['a control byte in a field that is taken out', ['te', 'a\x01']],
  ] as const)('%s is refused', (_name, field) => {
    const result = read([HOST, field as unknown as readonly [string, string]])
    expect(status(result)).toBe(400)
  })

  test('H-14 the section as a whole is bounded, hop-by-hop lines included', () => {
    expect(status(read([HOST, ['x', 'a'.repeat(900)]]))).toBe('passed')
    expect(status(read([HOST, ['x', 'a'.repeat(990)]]))).toBe(431)
    expect(status(read([HOST, ['x', 'a'.repeat(500)], ['te', 'a'.repeat(490)]]))).toBe(431)
  })

  test('H-18 underscore spellings', () => {
    const { head } = passed(
      read([
        HOST,
        ['x_forwarded_for', '1'],
        ['x_real-ip', '2'],
        ['content_length', '3'],
        ['transfer_encoding', '4'],
        ['x_a', '5'],
        ['proxy_connection', '6'],
      ]),
    )
    expect(head).toBe('GET / HTTP/1.1\r\nhost: gw.test\r\nx_a: 5\r\n')
  })
})

describe('Connection (H-50, H-52)', () => {
  test('what it names goes, and is told apart', () => {
    const { head, connectionLines, close } = passed(
      read([HOST, ['x-a', '1'], ['connection', 'X-A, close'], ['x-b', '2'], ['x-a', '3']]),
    )
    expect(head).toBe('GET / HTTP/1.1\r\nhost: gw.test\r\nx-b: 2\r\n')
    expect(connectionLines).toBe('connection: X-A, close\r\nx-a: 1\r\nx-a: 3\r\n')
    expect(close).toBe(true)
  })

  test.each([
    'host',
    'Content-Length',
    'authorization',
    'cookie',
    'X-Forwarded-Proto',
    'x-request-id',
    'via',
    'a b',
    'a;b',
  ])('%s: 400', (value) => {
    expect(status(read([HOST, ['connection', value]]))).toBe(400)
  })

  test('F-08 the library closes after any value of five characters', () => {
    expect(passed(read([HOST, ['connection', 'close']]))).toMatchObject({ close: true, libraryCloses: true })
    expect(passed(read([HOST, ['connection', 'close, x']]))).toMatchObject({ close: true, libraryCloses: false })
    expect(passed(read([HOST, ['connection', 'x-abc']]))).toMatchObject({ close: false, libraryCloses: true })
  })

  describe('H-90 requests to become a WebSocket', () => {
    const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
    const ask = (
      changes: Readonly<Record<string, string | undefined>> = {},
      method = 'GET',
      more: readonly (readonly [string, string])[] = [],
    ): ReturnType<typeof readHead> => {
      const fields: Record<string, string | undefined> = {
        connection: 'keep-alive, Upgrade',
        upgrade: 'WebSocket',
        'sec-websocket-version': '13',
        'sec-websocket-key': KEY,
        ...changes,
      }
      const given = Object.entries(fields).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, value] as const],
      )
      return read([HOST, ...given, ...more], method)
    }

    test('a valid one is told as such, and the policy sees what was asked', () => {
      const head = passed(ask({ 'sec-websocket-extensions': 'permessage-deflate', 'sec-websocket-protocol': 'a, b' }))
      expect(head.webSocket).toEqual({ key: KEY, extensions: 'permessage-deflate' })
      expect(head.head).toContain('connection: upgrade\r\nupgrade: websocket\r\n')
      expect(head.head).toContain('sec-websocket-protocol: a, b\r\n')
      expect(head.connectionLines).toBe('')
    })

    test('without both Connection and Upgrade it is an ordinary request', () => {
      expect(passed(ask({ connection: undefined })).webSocket).toBeUndefined()
      expect(passed(ask({ upgrade: undefined })).webSocket).toBeUndefined()
    })

    test('another version is 426, any other fault 400', () => {
      expect(status(ask({ 'sec-websocket-version': '8' }))).toBe(426)
      expect(status(ask({ 'sec-websocket-version': undefined }))).toBe(426)
      expect(status(ask({}, 'GET', [['sec-websocket-version', '13']]))).toBe(426)
      expect(status(ask({}, 'POST'))).toBe(400)
      expect(status(ask({ 'content-length': '5' }))).toBe(400)
      expect(status(ask({ 'content-length': '0' }))).toBe(400)
      expect(status(ask({ 'transfer-encoding': 'chunked' }))).toBe(400)
      expect(status(ask({ 'sec-websocket-key': undefined }))).toBe(400)
      expect(status(ask({ 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ=' }))).toBe(400)
      expect(status(ask({ 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZB==' }))).toBe(400)
      expect(status(ask({}, 'GET', [['sec-websocket-key', KEY]]))).toBe(400)
      expect(status(ask({ 'sec-websocket-protocol': 'a, a' }))).toBe(400)
      expect(status(ask({ 'sec-websocket-protocol': 'a b' }))).toBe(400)
      expect(status(ask({ 'sec-websocket-protocol': 'a,' }))).toBe(400)
    })
  })

  test('H-60 upgrades: only an offer of h2c may be ignored', () => {
    expect(status(read([HOST, ['connection', 'upgrade'], ['upgrade', 'other']]))).toBe(501)
    expect(status(read([HOST, ['connection', 'upgrade'], ['upgrade', 'websocket, other']]))).toBe(501)
    expect(
      status(read([HOST, ['connection', 'Upgrade, HTTP2-Settings'], ['upgrade', 'h2c'], ['http2-settings', 'x']])),
    ).toBe('passed')
    expect(status(read([HOST, ['upgrade', 'websocket']]))).toBe('passed')
  })
})

test('H-61 expectations', () => {
  const result = passed(read([HOST, ['expect', '100-Continue']]))
  expect(result.expectsContinue).toBe(true)
  expect(result.head).not.toContain('expect')
  expect(status(read([HOST, ['expect', 'x']]))).toBe(417)
  expect(status(read([HOST, ['expect', '']]))).toBe(417)
  expect(status(read([HOST, ['expect', '100-continue'], ['expect', '100-continue']]))).toBe(400)
})

test('a large head is judged in linear time', () => {
  const limits = { ...LIMITS, headBytes: 10_000_000 }
  const fieldsOf = (times: number): [string, string][] =>
    Array.from({ length: 90 * times }, (_, index): [string, string] => [`x-${index}`, 'a'.repeat(700)])
  expect(() =>
    expectLinear(fieldsOf, (fields) => readHead(source('GET', '/', [HOST, ...fields, ['bad', 'a\x01']]), limits)),
  ).not.toThrow()
})
