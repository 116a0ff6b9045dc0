/** T-62: what passes the guard and what does not, however the bytes are cut. */
import { describe, expect, it } from 'vitest'
import { RespGuard } from '../../../src/redis/resp-guard.ts'

/** The verdict on bytes that arrive in pieces of a size. */
function check(text: string, pieceBytes: number): string | undefined {
  const guard = new RespGuard()
  const bytes = Buffer.from(text, 'latin1')
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const wrong = guard.check(bytes.subarray(at, at + pieceBytes))
    if (wrong !== undefined) return wrong
  }
  return undefined
}

const SOUND = [
  '+OK\r\n',
  '-ERR no such thing\r\n',
  ':0\r\n:-1\r\n:+7\r\n:9223372036854775807\r\n:-9223372036854775808\r\n',
  '$0\r\n\r\n$-1\r\n$5\r\nhello\r\n$4\r\n\r\n\r\n\r\n',
  '*0\r\n*-1\r\n*2\r\n:1\r\n$1\r\na\r\n',
  '*1\r\n*1\r\n*1\r\n:1\r\n+x\r\n',
  '%1\r\n+a\r\n:1\r\n~1\r\n+a\r\n>2\r\n+message\r\n$1\r\nx\r\n|1\r\n+ttl\r\n:3\r\n:1\r\n',
  '_\r\n#t\r\n#f\r\n,1.5\r\n,inf\r\n,-1e5\r\n(123456789012345678901234567890\r\n!3\r\nERR\r\n=7\r\ntxt:abc\r\n',
]

const BROKEN = [
  '\r\n',
  'hello\r\n',
  '+OK\n',
  '+OK\r\r\n',
  ':abc\r\n',
  ':\r\n',
  ':1.5\r\n',
  ':- 1\r\n',
  ':9223372036854775808\r\n',
  ':-9223372036854775809\r\n',
  `:${'1'.repeat(100)}`,
  '$-2\r\n',
  '$4294967296\r\n',
  '$8388609\r\n',
  '$5\r\nhelloxx',
  '$5\r\nhello\rx',
  '$ 5\r\n',
  '*-5\r\n',
  '*2147483647\r\n',
  '*65537\r\n',
  '*1.0\r\n',
  '~-1\r\n',
  '!-1\r\n',
  '#true\r\n',
  ',one\r\n',
  '(1x\r\n',
  '_null\r\n',
  '*1\r\n'.repeat(17),
  `+${'x'.repeat(70_000)}`,
]

describe('RespGuard', () => {
  it.each(SOUND)('lets %j pass, whole and in pieces', (text) => {
    for (const pieceBytes of [1, 2, 3, 7, 1000]) expect(check(text, pieceBytes)).toBeUndefined()
    expect(check(SOUND.join('').repeat(50), 61)).toBeUndefined()
  })

  it.each(BROKEN)('stops %j, whole and in pieces', (text) => {
    for (const pieceBytes of [1, 2, 3, 7, 100_000]) expect(check(text, pieceBytes)).toBeTypeOf('string')
    // Also behind sound answers.
    expect(check(SOUND.join('') + text, 13)).toBeTypeOf('string')
  })

  it('bounds an answer as a whole', () => {
    const guard = new RespGuard()
    expect(guard.check(Buffer.from('*10\r\n'))).toBeUndefined()
    const megabytes = Buffer.alloc(8 * 1024 * 1024 + 2, 'x')
    megabytes.write('\r\n', megabytes.length - 2)
    for (let string = 0; string < 4; string += 1) {
      expect(guard.check(Buffer.from('$8388608\r\n'))).toBeUndefined()
      expect(guard.check(megabytes)).toBeUndefined()
    }
    expect(guard.check(Buffer.from('$8388608\r\n'))).toMatch(/announced/)
  })
})
