/** Which endpoint answers (kubernetes-objects.md §2.3, §4). */
import { afterEach, describe, expect, it, vi } from 'vitest'
import { EMPTY_POLICY } from '../../../src/policy/policy.ts'
import { type Endpoint, endpointTable } from '../../../src/routing/endpoints.ts'

function endpoint(name: string, protocol: 'http' | 'https', host: string, port: number, internal = false): Endpoint {
  return {
    view: { id: name, url: `${protocol}://${host}:${port}`, host, port, protocol },
    name,
    kind: 'agent',
    binding: internal ? 'internal' : 'public',
    policy: EMPTY_POLICY,
    upstream: undefined,
  }
}

afterEach(() => vi.restoreAllMocks())

describe('public endpoints', () => {
  const table = endpointTable([
    endpoint('apex', 'http', 'example.com', 80),
    endpoint('exact', 'http', 'a.example.com', 80),
    endpoint('exact 8443', 'http', 'b.example.com', 8443),
    endpoint('wide', 'http', '*.example.com', 80),
    endpoint('long', 'http', '*.eu.example.com', 80),
    endpoint('six', 'http', '[2001:db8::1]', 8080),
    endpoint('many 1', 'http', 'many.test', 1001),
    endpoint('many 2', 'http', 'many.test', 1002),
  ])

  it.each([
    ['a.example.com', 80, 'exact'],
    ['b.example.com', 8443, 'exact 8443'],
    ['x.example.com', 80, 'wide'],
    ['x.y.z.example.com', 80, 'wide'],
    ['x.eu.example.com', 80, 'long'],
    ['x.y.eu.example.com', 80, 'long'],
    ['example.com', 80, 'apex'],
    ['[2001:db8::1]', 8080, 'six'],
    ['many.test', 1001, 'many 1'],
    ['many.test', 1002, 'many 2'],
    // `eu.example.com` is no subdomain of itself
    ['eu.example.com', 80, 'wide'],
    // a suffix that only looks alike
    ['notexample.com', 80, undefined],
    ['example.com.evil.test', 80, undefined],
    ['', 80, undefined],
    ['.', 80, undefined],
  ])('§2.3: %s:%i is answered by %s', (host, port, name) => {
    expect(table.findPublic(host, port)?.name).toBe(name)
  })

  it.each([
    ['a.example.com', 9999, 'exact'],
    ['[2001:db8::1]', 1, 'six'],
    ['x.eu.example.com', 9999, 'long'],
    ['many.test', 7, 'many 1'],
  ])('a host whose port nobody names is found by the host alone: %s:%i → %s', (host, port, name) => {
    expect(table.findPublic(host, port)?.name).toBe(name)
  })

  it('a wildcard with the right port comes before an exact host with another', () => {
    expect(table.findPublic('b.example.com', 80)?.name).toBe('wide')
  })

  it('a host name is no key of its own: "a.example.com:80" is not a host', () => {
    expect(table.findPublic('a.example.com:80', 80)).toBeUndefined()
  })

  it('names of the loopback reach a localhost endpoint', () => {
    const local = endpointTable([endpoint('local', 'http', 'localhost', 8080)])
    for (const host of ['localhost', '127.0.0.1', '[::1]']) expect(local.findPublic(host, 8080)?.name).toBe('local')
    expect(local.findPublic('127.0.0.2', 8080)).toBeUndefined()
  })

  it('an internal endpoint never answers a client, nor a public one a forward', () => {
    const both = endpointTable([
      endpoint('inner', 'http', 'a.internal', 80, true),
      endpoint('outer', 'http', 'b.internal.example.com', 80),
    ])
    expect(both.findPublic('a.internal', 80)).toBeUndefined()
    expect(both.findInternal('http', 'b.internal.example.com', 80)).toBeUndefined()
  })
})

describe('internal endpoints', () => {
  const table = endpointTable([
    endpoint('exact', 'https', 'api.internal', 443, true),
    endpoint('plain', 'http', 'api.internal', 80, true),
    endpoint('wide', 'https', '*.internal', 443, true),
    endpoint('cell', 'https', '*.cell.internal', 443, true),
  ])

  it.each([
    ['https', 'api.internal', 443, 'exact'],
    ['http', 'api.internal', 80, 'plain'],
    ['https', 'x.internal', 443, 'wide'],
    ['https', 'x.cell.internal', 443, 'cell'],
    ['https', 'x.y.cell.internal', 443, 'cell'],
    // scheme and port are part of an internal URL: nothing is found by the host alone
    ['http', 'x.internal', 80, undefined],
    ['https', 'api.internal', 8443, undefined],
  ])('§5.8: %s://%s:%i → %s', (scheme, host, port, name) => {
    expect(table.findInternal(scheme, host, port)?.name).toBe(name)
  })
})

describe('pools (§4)', () => {
  it('choose a member at random, each with the same chance', () => {
    const table = endpointTable(['a', 'b', 'c'].map((name) => endpoint(name, 'http', 'pool.test', 80)))
    const counts = new Map<string, number>()
    for (let index = 0; index < 9000; index++) {
      const { name } = table.findPublic('pool.test', 80)!
      counts.set(name, (counts.get(name) ?? 0) + 1)
    }
    expect(counts.size).toBe(3)
    // 3000 expected, standard deviation 45
    for (const count of counts.values()) expect(Math.abs(count - 3000)).toBeLessThan(300)
  })

  it('never miss at either end of the random numbers', () => {
    const table = endpointTable(['a', 'b'].map((name) => endpoint(name, 'http', '*.pool.internal', 80, true)))
    vi.spyOn(Math, 'random').mockReturnValueOnce(0).mockReturnValueOnce(0.999_999_999)
    expect(table.findInternal('http', 'x.pool.internal', 80)?.name).toBe('a')
    expect(table.findInternal('http', 'x.pool.internal', 80)?.name).toBe('b')
  })
})
