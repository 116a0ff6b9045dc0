/** The head that goes upstream (operations.md O-67 … O-69, H-55, H-57) and what a policy may change of it (§5.1, §5.18). */
import { describe, expect, it } from 'vitest'
import { gatewayWith } from './memory-gateway.ts'

const NOTHING = 'on_http_request: []'
const TRUSTED = { settings: 'trusted_proxies: [198.51.100.0/24]' }

/** Values of a field, in order. */
function values(head: string, name: string): string[] {
  return [...head.matchAll(new RegExp(`^${name}: (.*)\r$`, 'gm'))].map((match) => match[1]!)
}

async function upstreamHead(policy: string, fields = '', more = {}, path = '/a?b=c'): Promise<string> {
  const gateway = await gatewayWith(policy, more)
  return gateway.request({ fields, path, host: 'Shop.example.com:8080' }).last('forward').head
}

const CLAIMS =
  'x-forwarded-for: 203.0.113.9, 203.0.113.10\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil.test\r\n' +
  'x-forwarded-port: 1\r\nforwarded: for=203.0.113.9\r\nx-request-id: chosen-by-client\r\n'

describe('O-69: who forwarded', () => {
  it('what an untrusted client claims is discarded', async () => {
    const head = await upstreamHead(NOTHING, CLAIMS)
    expect(values(head, 'x-forwarded-for')).toEqual(['198.51.100.7'])
    expect(values(head, 'x-forwarded-proto')).toEqual(['http'])
    expect(values(head, 'x-forwarded-host')).toEqual(['Shop.example.com:8080'])
    expect(values(head, 'x-forwarded-port')).toEqual(['8080'])
    expect(values(head, 'forwarded')).toEqual([])
  })

  it('what a trusted proxy says is kept, and its address appended', async () => {
    const head = await upstreamHead(NOTHING, CLAIMS, TRUSTED)
    expect(values(head, 'x-forwarded-for')).toEqual(['203.0.113.9, 203.0.113.10, 198.51.100.7'])
    expect(values(head, 'x-forwarded-proto')).toEqual(['https'])
    expect(values(head, 'x-forwarded-host')).toEqual(['evil.test'])
    expect(values(head, 'x-forwarded-port')).toEqual(['1'])
    expect(values(head, 'forwarded')).toEqual(['for=203.0.113.9'])
  })

  it('every peer, host and port has its own, however they take turns', async () => {
    const gateway = await gatewayWith(NOTHING)
    const turns = ['a', 'a', 'a', 'b', 'a', 'b', 'b', 'b', 'c', 'c', 'c', 'a']
    for (const turn of turns) {
      const address = turn === 'b' ? '198.51.100.8' : '198.51.100.7'
      gateway.peer = { ...gateway.peer, address }
      const host = turn === 'c' ? 'shop.example.com:8080' : 'Shop.example.com:8080'
      const { head } = gateway.request({ host }).last('forward')
      expect(values(head, 'x-forwarded-for')).toEqual([address])
      expect(values(head, 'x-forwarded-host')).toEqual([host])
      expect(values(head, 'x-forwarded-port')).toEqual(['8080'])
      expect(values(head, 'x-request-id')).toHaveLength(1)
    }
  })

  it('several lines of a trusted list become one', async () => {
    const head = await upstreamHead(
      NOTHING,
      'x-forwarded-for: 203.0.113.9\r\nx-forwarded-for: 203.0.113.10\r\n',
      TRUSTED,
    )
    expect(values(head, 'x-forwarded-for')).toEqual(['203.0.113.9, 203.0.113.10, 198.51.100.7'])
  })
})

describe('O-67, O-68: ids', () => {
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736'
  const parent = `traceparent: 00-${trace}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n`

  it('an id of an untrusted client is replaced, one of a trusted proxy kept', async () => {
    const [own] = values(await upstreamHead(NOTHING, CLAIMS), 'x-request-id')
    expect(own).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/)
    expect(values(await upstreamHead(NOTHING, CLAIMS, TRUSTED), 'x-request-id')).toEqual(['chosen-by-client'])
  })

  it('a valid trace goes on with a span of ours', async () => {
    const head = await upstreamHead(NOTHING, parent)
    expect(values(head, 'traceparent')[0]).toMatch(new RegExp(`^00-${trace}-[0-9a-f]{16}-01$`))
    expect(values(head, 'traceparent')[0]).not.toContain('00f067aa0ba902b7')
    expect(values(head, 'tracestate')).toEqual(['a=1'])
  })

  it('an invalid one is dropped together with its state', async () => {
    const head = await upstreamHead(
      NOTHING,
      `traceparent: 00-${'0'.repeat(32)}-00f067aa0ba902b7-01\r\ntracestate: a=1\r\n`,
    )
    expect(values(head, 'traceparent')).toHaveLength(1)
    expect(values(head, 'traceparent')[0]).not.toContain('0'.repeat(32))
    expect(values(head, 'tracestate')).toEqual([])
  })
})

describe('H-55, H-57', () => {
  it('target and Host go upstream byte for byte', async () => {
    const head = await upstreamHead(NOTHING, '', {}, '/A%2fb//c?x=%20&y')
    expect(head).toMatch(/^GET \/A%2fb\/\/c\?x=%20&y HTTP\/1\.1\r\nhost: Shop\.example\.com:8080\r\n/)
  })

  it('H-57: Via names this gateway, behind those before it', async () => {
    const head = await upstreamHead(NOTHING, 'via: 1.0 other\r\n')
    expect(values(head, 'via')).toEqual(['1.0 other', '1.1 sallyport (gw1)'])
  })

  it('H-57: Via tells the version that was received', async () => {
    const gateway = await gatewayWith(NOTHING)
    for (const fields of ['', 'via: 1.0 other\r\n']) {
      for (const [version, told] of [
        ['HTTP/1.0', '1.0'],
        ['HTTP/2.0', '2.0'],
        ['HTTP/1.1', '1.1'],
        [undefined, '1.1'],
      ] as const) {
        const { head } = gateway.request({ version, fields }).last('forward')
        expect(values(head, 'via').at(-1)).toBe(`${told} sallyport (gw1)`)
      }
    }
  })

  it('H-15: a request of HTTP/1.0 without Host goes up with that of the server (RFC 9112 §3.2)', async () => {
    const gateway = await gatewayWith(NOTHING, {
      settings: 'listeners: [{address: 127.0.0.1:8080, default_endpoint: shop}]',
    })
    for (const fields of ['', 'x-a: b\r\n', 'via: 1.0 other\r\n']) {
      const { head } = gateway.request({ host: '', version: 'HTTP/1.0', fields }).last('forward')
      expect(values(head, 'host')).toEqual(['127.0.0.1:9000'])
      expect(values(head, 'x-forwarded-host')).toEqual([])
      expect(values(head, 'x-forwarded-port')).toEqual(['8080'])
    }
    const { head } = gateway.request().last('forward')
    expect(values(head, 'x-forwarded-host')).toEqual(['shop.example.com'])
  })

  it('H-57: one pass through this gateway may be repeated, more is a loop: 508', async () => {
    const gateway = await gatewayWith(NOTHING)
    const pass = '1.1 sallyport (gw1)'
    expect(gateway.request({ fields: `via: ${pass}\r\n` }).last('forward').head).toContain('via: ')
    expect(gateway.request({ fields: `via: ${pass}, 1.1 other\r\nvia: ${pass}\r\n` }).status).toBe(508)
    expect(gateway.request({ fields: `via: ${pass}, ${pass}\r\n` }).status).toBe(508)
    // another gateway of the same make is none of ours
    const other = '1.1 sallyport (gw2)'
    expect(gateway.request({ fields: `via: ${other}, ${other}\r\n` }).last('forward').head).toContain('gw1')
  })
})

describe('what a policy makes of these fields', () => {
  const add = (headers: string): string =>
    `on_http_request: [{actions: [{type: add-headers, config: {headers: ${headers}}}]}]`

  it('a value that add-headers gives goes upstream instead of ours', async () => {
    const policy = add('{X-Forwarded-Host: "${req.host}", X-Forwarded-Proto: https, X-Request-Id: mine}')
    const head = await upstreamHead(policy, CLAIMS)
    expect(values(head, 'x-forwarded-host')).toEqual(['Shop.example.com:8080'])
    expect(values(head, 'x-forwarded-proto')).toEqual(['https'])
    expect(values(head, 'x-request-id')).toEqual(['mine'])
    // the others are ours as ever
    expect(values(head, 'x-forwarded-for')).toEqual(['198.51.100.7'])
  })

  it('§5.18: remove-headers keeps ours back, also together with a value of its own', async () => {
    const remove = (after: string): string =>
      `on_http_request: [{actions: [{type: remove-headers, config: {headers: [X-Forwarded-For, x-forwarded-host]}}${after}]}]`
    const removed = await upstreamHead(remove(''), CLAIMS, TRUSTED)
    expect(values(removed, 'x-forwarded-for')).toEqual([])
    expect(values(removed, 'x-forwarded-host')).toEqual([])
    expect(values(removed, 'x-forwarded-proto')).toEqual(['https'])
    const replaced = await upstreamHead(
      remove(', {type: add-headers, config: {headers: {x-forwarded-for: 192.0.2.1}}}'),
      CLAIMS,
      TRUSTED,
    )
    expect(values(replaced, 'x-forwarded-for')).toEqual(['192.0.2.1'])
  })

  it('§2.1: the response phase still reads the request as the policy left it', async () => {
    const gateway = await gatewayWith(`
on_http_response:
  - actions: [{type: add-headers, config: {headers: {x-seen: "\${req.headers['x-forwarded-for'][0]} \${req.headers['x-request-id'][0]}"}}}]
`)
    const exchange = gateway.request({ fields: CLAIMS })
    exchange.answers(200)
    expect(exchange.last('continue').head).toContain('x-seen: 203.0.113.9, 203.0.113.10 chosen-by-client\r\n')
  })

  it('§5.1: host is replaced, others get a second value, and later rules see both', async () => {
    const head = await upstreamHead(
      `
on_http_request:
  - actions: [{type: add-headers, config: {headers: {Host: "other.test", X-A: "2"}}}]
  - expressions: ["req.host == 'other.test'", "req.headers['x-a'] == ['1', '2']"]
    actions: [{type: remove-headers, config: {headers: [x-a]}}]
  - expressions: ["!('x-a' in req.headers)"]
    actions: [{type: add-headers, config: {headers: {x-removed: "\${actions.ngrok.remove_headers.headers_removed}"}}}]
`,
      'x-a: 1\r\n',
    )
    expect(values(head, 'host')).toEqual(['other.test'])
    expect(values(head, 'x-a')).toEqual([])
    expect(values(head, 'x-removed')).toEqual(['x-a'])
    expect(values(head, 'x-forwarded-host')).toEqual(['Shop.example.com:8080'])
  })
})
