import { describe, expect, test } from 'vitest'
import { readResponseHead } from '../../../src/upstream/response-head.ts'
import { parseConnection, withoutFields } from '../../../src/upstream/hop-headers.ts'

const fields = (...pairs: string[]): Buffer[] => pairs.map((text) => Buffer.from(text, 'latin1'))
const read = (pairs: string[], status = 200, isHead = false, reason = 'OK'): ReturnType<typeof readResponseHead> =>
  readResponseHead(status, reason, fields(...pairs) as never, isHead)

describe('framing (H-31, H-35)', () => {
  test.each([
    [['Content-Length', '5'], 200, false, 5, 5],
    [['Content-Length', '5'], 200, true, 0, 5],
    [['Content-Length', '5'], 304, false, 0, 5],
    [['Content-Length', '5'], 204, false, 0, -1],
    [['Transfer-Encoding', 'Chunked'], 200, false, -1, -1],
    [[], 200, false, -1, -1],
    [['Content-Length', '0'], 200, false, 0, 0],
  ] as const)('%j as %i: %s', (pairs, status, isHead, bodyLength, contentLength) => {
    expect(read([...pairs], status, isHead)).toMatchObject({
      bodyLength,
      contentLength,
      head: `HTTP/1.1 ${status} OK\r\n`,
    })
  })

  test.each([
    [['Content-Length', '1', 'Content-Length', '1']],
    [['Content-Length', '-1']],
    [['Content-Length', '1,1']],
    [['Transfer-Encoding', 'gzip, chunked']],
    [['Transfer-Encoding', 'chunked', 'Transfer-Encoding', 'chunked']],
    [['Content-Length', '1', 'Transfer-Encoding', 'chunked']],
    [['X-A', 'a\nb']],
    [['X-A', 'a\0b']],
    [['X A', 'a']],
    [['', 'a']],
  ])('%j is refused', (pairs) => {
    expect(typeof read(pairs)).toBe('string')
  })

  test.each([99, 100, 199, 600, 999])('status %i is refused', (status) => {
    expect(typeof read([], status)).toBe('string')
  })
})

test('names in lower case, order kept, hop-by-hop and named fields out, bytes kept', () => {
  const result = read([
    'Set-Cookie',
    'a=1',
    'Connection',
    'X-Hop, close',
    'X-Hop',
    '1',
    'Keep-Alive',
    'x',
    'Set-Cookie',
    'b=2',
    'X-Raw',
    'caf\xe9',
    'Upgrade',
    'h2c',
  ])
  expect(result).toMatchObject({ head: 'HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nx-raw: caf\xe9\r\n' })
})

test('Connection in a response cannot take Set-Cookie away', () => {
  expect(read(['Connection', 'set-cookie, x-a', 'Set-Cookie', 'a=1', 'X-A', '1'])).toMatchObject({
    head: 'HTTP/1.1 200 OK\r\nset-cookie: a=1\r\n',
  })
})

test('a reason phrase that is not ASCII gives way to the registered one; control bytes are refused', () => {
  expect(read([], 404, false, 'Nicht gefunden \u00fc')).toMatchObject({ head: 'HTTP/1.1 404 Not Found\r\n' })
  expect(read([], 404, false, '')).toMatchObject({ head: 'HTTP/1.1 404 \r\n' })
  expect(typeof read([], 404, false, 'a\rb')).toBe('string')
})

describe('Connection (H-50, H-52)', () => {
  test.each([
    ['close', { close: true, upgrade: false, named: undefined, abuses: undefined, valid: true }],
    [' Keep-Alive , ,CLOSE', { close: true, upgrade: false, named: undefined, abuses: undefined, valid: true }],
    ['Upgrade, X-A', { close: false, upgrade: true, named: ['x-a'], abuses: undefined, valid: true }],
    [
      'x-forwarded-host',
      { close: false, upgrade: false, named: ['x-forwarded-host'], abuses: 'x-forwarded-host', valid: true },
    ],
    ['a b', { close: false, upgrade: false, named: undefined, abuses: undefined, valid: false }],
  ])('%s', (value, expected) => {
    expect(parseConnection(value)).toEqual(expected)
  })

  test('fields are removed by whole name', () => {
    expect(withoutFields('x-a: 1\r\nx-ab: x-a: 2\r\nx-a: 3\r\n', ['x-a'])).toBe('x-ab: x-a: 2\r\n')
    expect(withoutFields('', ['x-a'])).toBe('')
  })
})
