/** Redis addresses as an operator writes them. */
import { describe, expect, it } from 'vitest'
import { describeRedisAddress, parseRedisAddress, RedisAddressError } from '../../../src/redis/address.ts'

const one = { isCluster: false, isTls: false, username: undefined, password: undefined, database: 0 }

describe('parseRedisAddress', () => {
  it.each([
    ['redis://localhost', { ...one, nodes: [{ host: 'localhost', port: 6379 }] }],
    ['redis://h:80', { ...one, nodes: [{ host: 'h', port: 80 }] }],
    ['redis://h:80/', { ...one, nodes: [{ host: 'h', port: 80 }] }],
    ['redis://H.Example:7000/3', { ...one, nodes: [{ host: 'h.example', port: 7000 }], database: 3 }],
    ['redis://[::1]:7000', { ...one, nodes: [{ host: '::1', port: 7000 }] }],
    ['redis://[::1]', { ...one, nodes: [{ host: '::1', port: 6379 }] }],
    ['rediss://h', { ...one, nodes: [{ host: 'h', port: 6379 }], isTls: true }],
    ['redis://:p%40ss%2C@h', { ...one, nodes: [{ host: 'h', port: 6379 }], password: 'p@ss,' }],
    ['redis://user:80@h', { ...one, nodes: [{ host: 'h', port: 6379 }], username: 'user', password: '80' }],
    [' redis://h ', { ...one, nodes: [{ host: 'h', port: 6379 }] }],
    [
      'redis+cluster://u:p@a,b:7001, c',
      {
        ...one,
        isCluster: true,
        username: 'u',
        password: 'p',
        nodes: [
          { host: 'a', port: 6379 },
          { host: 'b', port: 7001 },
          { host: 'c', port: 6379 },
        ],
      },
    ],
    ['redis+cluster://a', { ...one, isCluster: true, nodes: [{ host: 'a', port: 6379 }] }],
    ['rediss+cluster://a', { ...one, isCluster: true, isTls: true, nodes: [{ host: 'a', port: 6379 }] }],
    [
      'rediss://:p@a:1,rediss://:p@b:2',
      {
        ...one,
        isCluster: true,
        isTls: true,
        password: 'p',
        nodes: [
          { host: 'a', port: 1 },
          { host: 'b', port: 2 },
        ],
      },
    ],
  ])('%s', (text, expected) => {
    expect(parseRedisAddress(text)).toEqual(expected)
  })

  it.each([
    ['', /begins with redis:/],
    ['localhost:6379', /begins with redis:/],
    ['http://h', /begins with redis:/],
    ['redis://', /names a host/],
    ['redis://a,,b', /names a host/],
    ['redis://:hunter2@', /not of the form/],
    ['redis://h:99999', /not of the form/],
    ['redis://h/x', /number of a database/],
    ['redis://h?tls=true', /no query/],
    ['redis://:hunter2%@h', /percent-encoded/],
    ['redis://a/1,redis://b', /no databases/],
    ['redis+cluster://a/1', /no databases/],
    ['redis://a,rediss://b', /the same way/],
    ['redis://:hunter2@a,redis://:hunter3@b', /one password/],
    ['redis://u@a,redis://v@b', /one user/],
  ])('%s is refused, without the password', (text, message) => {
    expect(() => parseRedisAddress(text)).toThrow(RedisAddressError)
    expect(() => parseRedisAddress(text)).toThrow(message)
    try {
      parseRedisAddress(text)
    } catch (error) {
      expect((error as Error).message).not.toContain('hunter')
    }
  })

  it('is described without user and password', () => {
    expect(describeRedisAddress(parseRedisAddress('redis://u:hunter2@h/3'))).toBe('redis://h:6379/3')
    expect(describeRedisAddress(parseRedisAddress('rediss+cluster://:hunter2@a,[::1]:7'))).toBe(
      'rediss+cluster://a:6379,[::1]:7',
    )
  })
})
