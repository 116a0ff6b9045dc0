import { describe, expect, it } from 'vitest'
import { canonicalPath, encodeUnsafe, RequestUrl, splitAuthority } from '../../../src/exchange/request-url.ts'

describe('H-65: the canonical path', () => {
  for (const [raw, path] of [
    ['/', '/'],
    ['/a/b', '/a/b'],
    ['/%61/%7Eb', '/a/~b'],
    ['/a%2fb', '/a%2Fb'],
    ['/a/./b', '/a/b'],
    ['/a/../b', '/b'],
    ['/a/b/..', '/a/'],
    ['/a/b/.', '/a/b/'],
    ['/a//b///c', '/a/b/c'],
    ['/a/%2e/b', '/a/b'],
    ['/a/%2E%2e/b', '/b'],
    ['/.well-known/x', '/.well-known/x'],
    ['/a..b/c.', '/a..b/c.'],
    ['/a%zz', '/a%zz'],
    ['/caf%c3%a9', '/caf%C3%A9'],
  ] as const) {
    it(`${raw} → ${path}`, () => expect(canonicalPath(raw).path).toBe(path))
  }
})

describe('H-66, H-67, H-68: paths with two readings', () => {
  for (const [raw, ambiguity] of [
    ['/a/b', undefined],
    ['/a/../b', undefined],
    ['/a%2Fb', undefined],
    ['/a%00', 'null byte'],
    ['/a%5cb', 'encoded backslash'],
    ['/a/%2e%2e/b', 'encoded dot segment'],
    ['/a/.%2e/b', 'encoded dot segment'],
    ['/a/%252e%252e/b', 'encoded dot segment'],
    ['/a/..%2fb', 'encoded dot segment'],
    ['/a/..%252fb', 'encoded dot segment'],
    ['/a/%2e%2e;x/b', 'encoded dot segment'],
    ['/a/x%2ehtml', undefined],
  ] as const) {
    it(`${raw}: ${ambiguity ?? 'one reading'}`, () => expect(canonicalPath(raw).ambiguity).toBe(ambiguity))
  }

  for (const [raw, above] of [
    ['/..', true],
    ['/a/../../b', true],
    ['/%2e%2e/x', true],
    ['/a/..', false],
  ] as const) {
    it(`${raw} ${above ? 'climbs above the root' : 'stays'}`, () => expect(canonicalPath(raw).aboveRoot).toBe(above))
  }
})

describe('H-16: host and port', () => {
  for (const [authority, host, port] of [
    ['Example.COM', 'example.com', undefined],
    ['example.com.', 'example.com', undefined],
    ['example.com:8080', 'example.com', 8080],
    ['[2001:DB8::1]', '[2001:db8::1]', undefined],
    ['[::1]:80', '[::1]', 80],
    ['h:', 'h', undefined],
  ] as const) {
    it(`${authority} → ${host} ${port ?? ''}`, () =>
      expect(splitAuthority(authority)).toEqual({ text: authority, host, port }))
  }
})

describe('RequestUrl', () => {
  it('shows the normalised URL and keeps the raw one', () => {
    const url = new RequestUrl('http', 'Shop.Example:80', '/a/../b?x=1&x=2')
    expect(url.href).toBe('http://shop.example/b?x=1&x=2')
    expect(url.raw).toBe('http://Shop.Example:80/a/../b?x=1&x=2')
    expect(url.rawPath).toBe('/a/../b')
    expect(url.port).toBeUndefined()
  })

  it('H-55: forwards the received target byte for byte', () => {
    expect(new RequestUrl('http', 'h', '/%61//b?').target).toBe('/%61//b?')
  })

  it('takes over path, query and host of a rewrite', () => {
    const url = new RequestUrl('http', 'h', '/old?x=1')
    expect(url.rewrite('http://other:8080/new path?y=2')).toBe(true)
    expect(url.target).toBe('/new%20path?y=2')
    expect(url.authority).toBe('other:8080')
    expect(url.query).toBe('y=2')
  })

  it('§5.26: an empty authority keeps the host', () => {
    const url = new RequestUrl('http', 'h:8080', '/products/123')
    expect(url.rewrite('http:///products.php?query=123')).toBe(true)
    expect(url.authority).toBe('h:8080')
    expect(url.target).toBe('/products.php?query=123')
  })

  it('refuses what is no URL and changes nothing', () => {
    const url = new RequestUrl('http', 'h', '/a')
    for (const bad of ['ftp://h/', 'nonsense', 'http://bad host/', 'javascript:alert(1)']) {
      expect(url.rewrite(bad)).toBe(false)
    }
    expect(url.target).toBe('/a')
  })

  it('encodes what may not stand in a URL', () => {
    expect(encodeUnsafe('/a b"<>\\^`{|}é')).toBe('/a%20b%22%3C%3E%5C%5E%60%7B%7C%7D%C3%A9')
    expect(encodeUnsafe('/a%20b')).toBe('/a%20b')
  })
})
