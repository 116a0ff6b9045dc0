/** `custom-response`, `redirect`, `deny` and `url-rewrite` (traffic-policy.md §5.6, §5.7, §5.17, §5.26, §2.4). */
import { describe, expect, it } from 'vitest'
import { inferContentType } from '../../../src/actions/custom-response.ts'
import { gatewayWith, type MemoryExchange } from '../exchange/memory-gateway.ts'

const actions = (list: string): string => `on_http_request: [{actions: [${list}]}]`

async function play(policy: string, path = '/', fields = ''): Promise<MemoryExchange> {
  return (await gatewayWith(policy)).request({ path, fields })
}

/** The answer's field, or undefined. */
function field(exchange: MemoryExchange, name: string, kind: 'respond' | 'continue' = 'respond'): string | undefined {
  return new RegExp(`^${name}: (.*)\r$`, 'm').exec(exchange.last(kind).head)?.[1]
}

describe('§5.6: the content type of a body', () => {
  it.each([
    ['{"a": 1}', 'application/json'],
    ['  [1, 2]\n', 'application/json'],
    ['{not json}', 'text/plain; charset=utf-8'],
    ['[maintenance]', 'text/plain; charset=utf-8'],
    ['"a json string"', 'text/plain; charset=utf-8'],
    ['42', 'text/plain; charset=utf-8'],
    ['<!DOCTYPE html><p>', 'text/html; charset=utf-8'],
    ['\n <HTML lang=en>', 'text/html; charset=utf-8'],
    ['<h1>Hi</h1>', 'text/html; charset=utf-8'],
    ['<br/>', 'text/html; charset=utf-8'],
    ['<article>', 'text/html; charset=utf-8'],
    ['<articles>', 'text/plain; charset=utf-8'],
    ['<?xml version="1.0"?><a/>', 'application/xml'],
    ['< 5 items', 'text/plain; charset=utf-8'],
    ['text with <b>tags</b>', 'text/plain; charset=utf-8'],
    ['', 'text/plain; charset=utf-8'],
  ])('%j is %s', (body, type) => expect(inferContentType(body)).toBe(type))

  it('is inferred from the rendered text, unless the headers name one', async () => {
    const body = '"${req.url.query_params[\'body\'][0]}"'
    const inferred = await play(actions(`{type: custom-response, config: {body: ${body}}}`), '/?body=%5B1%5D')
    expect(field(inferred, 'content-type')).toBe('application/json')
    const named = await play(
      actions(`{type: custom-response, config: {headers: {Content-Type: text/csv}, body: ${body}}}`),
      '/?body=%5B1%5D',
    )
    expect(named.last('respond').head.match(/^content-type: .*/gm)).toEqual(['content-type: text/csv'])
  })

  it('O-72: an answer of ours says `server: sallyport`, or what the policy says', async () => {
    for (const [config, server] of [
      ['custom-response', 'sallyport'],
      ['custom-response, config: {headers: {Server: mine}}', 'mine'],
      ['redirect, config: {to: /x}', 'sallyport'],
      ['redirect, config: {to: /x, headers: {server: mine}}', 'mine'],
      ['deny', 'sallyport'],
    ]) {
      const exchange = await play(actions(`{type: ${config}}`))
      expect(exchange.last('respond').head.match(/^server: .*/gm), config).toEqual([`server: ${server}`])
    }
  })

  it('an empty body has none', async () => {
    const exchange = await play(actions('{type: custom-response}'))
    expect(exchange.status).toBe(200)
    expect(field(exchange, 'content-type')).toBeUndefined()
  })
})

describe('custom-response', () => {
  it('§2.4: response rules of the same policy run on it, and see its length in bytes', async () => {
    const exchange = await play(`
on_http_request: [{actions: [{type: custom-response, config: {status_code: 418, body: "Grüße €"}}]}]
on_http_response:
  - expressions: ["res.status_code == 418"]
    actions: [{type: add-headers, config: {headers: {x-length: "\${res.content_length}", x-type: "\${res.content_type}"}}}]
`)
    expect(field(exchange, 'x-length')).toBe('11')
    expect(field(exchange, 'x-type')).toBe('text/plain')
    expect(exchange.last('respond').body).toBe('Grüße €')
  })

  it('in the response phase replaces status, fields and body of the upstream, and ends the phase', async () => {
    const gateway = await gatewayWith(`
on_http_response:
  - expressions: ["res.status_code >= 500"]
    actions: [{type: custom-response, config: {status_code: 503, body: "sorry, \${res.status_code}"}}]
  - actions: [{type: add-headers, config: {headers: {x-late: "1"}}}]
`)
    const broken = gateway.request()
    broken.answers(500, 'x-stack: secret\r\nset-cookie: a=b\r\n', 10)
    expect(broken.status).toBe(503)
    expect(broken.last('respond').body).toBe('sorry, 500')
    for (const name of ['x-stack', 'set-cookie', 'x-late']) expect(field(broken, name)).toBeUndefined()
    const fine = gateway.request()
    fine.answers(200)
    expect(field(fine, 'x-late', 'continue')).toBe('1')
  })

  it('§4: a body that cannot be computed is empty, a field with control bytes is left out', async () => {
    const gateway = await gatewayWith(
      actions(
        `{type: custom-response, config: {headers: {x-a: "\${req.url.query_params['a'][0]}", x-b: b}, body: "\${req.headers['none'][0]}"}}`,
      ),
    )
    const exchange = gateway.request({ path: '/?a=x%0d%0aset-cookie:%20y' })
    expect(exchange.last('respond').body).toBe('')
    expect(field(exchange, 'x-a')).toBeUndefined()
    expect(field(exchange, 'set-cookie')).toBeUndefined()
    expect(field(exchange, 'x-b')).toBe('b')
    expect(gateway.warnings('ERR_NGROK_2238')).toHaveLength(2)
  })
})

describe('§5.17: redirect', () => {
  it.each([
    ['without from, an absolute target', '{to: "https://new.example/"}', '/', 'https://new.example/'],
    ['a relative target is resolved', '{to: /a}', '/b', 'http://shop.example.com/a'],
    [
      'groups',
      '{from: "^(https?://[^/]+)/old/(.*)$", to: "$1/new/$2"}',
      '/old/x?y=1',
      'http://shop.example.com/new/x?y=1',
    ],
    ['named groups', '{from: "^(?P<base>https?://[^/]+)/a$", to: "$base/b"}', '/a', 'http://shop.example.com/b'],
    ['`$1x` is the group named 1x', '{from: "(a)$", to: "$1x"}', '/a', 'http://shop.example.com/'],
    ['every match is replaced', '{from: "o", to: "0"}', '/foo', 'http://sh0p.example.c0m/f00'],
    [
      'unsafe characters are encoded',
      '{from: "/a$", to: "/b c<é>"}',
      '/a',
      'http://shop.example.com/b%20c%3C%C3%A9%3E',
    ],
    [
      'an absolute target is pasted into the middle',
      '{from: "/a$", to: "https://x.test/"}',
      '/a',
      'http://shop.example.comhttps://x.test/',
    ],
    [
      'from may be interpolated',
      '{from: "^${req.url.scheme}://${req.url.authority}/p", to: "https://x.test/"}',
      '/p',
      'https://x.test/',
    ],
  ])('%s', async (_, config, path, location) => {
    const exchange = await play(actions(`{type: redirect, config: ${config}}`), path)
    expect(exchange.status).toBe(302)
    expect(field(exchange, 'location')).toBe(location)
  })

  it.each([
    ['from does not match', '{from: "^/old", to: "/new"}', '/old'],
    ['the result is what it was', '{from: "shop", to: "shop"}', '/'],
    ['without from, the same URL', '{to: "http://shop.example.com/a"}', '/a'],
    ['the same URL with characters that would be encoded', '{from: "shop", to: "shop"}', '/?q=a|b'],
    ['a pattern that is none at run time', '{from: "${\'(\'}", to: "/new"}', '/'],
  ])('goes on when %s', async (_, config, path) => {
    const exchange = await play(
      actions(`{type: redirect, config: ${config}}, {type: add-headers, config: {headers: {x-after: "1"}}}`),
      path,
    )
    expect(exchange.last('forward').head).toContain('x-after: 1\r\n')
  })

  it('publishes what it did, and its fields and status are those of the answer', async () => {
    const exchange = await play(
      `
on_http_request: [{actions: [{type: redirect, config: {from: "o+", to: "0", status_code: 308, headers: {X-Why: moved}}}]}]
on_http_response: [{actions: [{type: add-headers, config: {headers: {x-matches: "\${actions.ngrok.redirect.matches.join('|')}"}}}]}]
`,
      '/foo',
    )
    expect(exchange.status).toBe(308)
    expect(field(exchange, 'x-why')).toBe('moved')
    expect(field(exchange, 'x-matches')).toBe('o|o|oo')
  })
})

describe('§5.26: url-rewrite', () => {
  it.each([
    [
      'path and query',
      '{from: "/products/(\\\\d+)", to: "/p.php?id=$1"}',
      '/products/7',
      '/p.php?id=7',
      'shop.example.com',
    ],
    [
      'a swallowed host is kept',
      '{from: "${req.url.authority}/products/?([.*]+)?", to: "/products.php?query=$1"}',
      '/products/123',
      '/products.php?query=123',
      'shop.example.com',
    ],
    ['without from, a relative target', '{to: /all}', '/a?b=c', '/all', 'shop.example.com'],
    ['another host', '{from: "^http://[^/]+", to: "http://b.test:81"}', '/a', '/a', 'b.test:81'],
  ])('%s', async (_, config, path, target, host) => {
    const exchange = await play(actions(`{type: url-rewrite, config: ${config}}`), path)
    const { head } = exchange.last('forward')
    expect(head.startsWith(`GET ${target} HTTP/1.1\r\n`)).toBe(true)
    expect(head).toContain(`\r\nhost: ${host}\r\n`)
  })

  it('§2.1: later expressions see the new URL', async () => {
    const exchange = await play(
      `
on_http_request:
  - actions: [{type: url-rewrite, config: {from: "/old", to: "/new"}}]
  - expressions: ["req.url.path == '/new'", "req.url.raw_path == '/old'"]
    actions: [{type: deny, config: {status_code: 410}}]
`,
      '/old',
    )
    expect(exchange.status).toBe(410)
    expect(exchange.last('respond').body).toBe('')
  })

  it('a result that is no URL changes nothing and is told', async () => {
    const exchange = await play(
      actions(
        `{type: url-rewrite, config: {from: "^http", to: "ftp"}}, {type: add-headers, config: {headers: {x-code: "\${actions.ngrok.url_rewrite.error.code}"}}}`,
      ),
      '/a',
    )
    expect(exchange.last('forward').head).toMatch(/^GET \/a HTTP/)
    expect(exchange.last('forward').head).toContain('x-code: ERR_NGROK_2247\r\n')
  })

  it('§9: named variables are expanded in documents of the old format only', async () => {
    const config = '{from: "^$scheme://$host/(.*)$", to: "http://new.test/$1$is_args$args"}'
    const old = await play(`inbound: [{actions: [{type: url-rewrite, config: ${config}}]}]`, '/a')
    expect(old.last('forward').head).toContain('host: new.test\r\n')
    const today = await play(actions(`{type: url-rewrite, config: ${config}}`), '/a')
    expect(today.last('forward').head).toContain('host: shop.example.com\r\n')
  })
})

describe('§2.4: what response rules do not see', () => {
  it('an answer of deny or of an error', async () => {
    const late = 'on_http_response: [{actions: [{type: add-headers, config: {headers: {x-late: "1"}}}]}]'
    const denied = await play(`${actions('{type: deny}')}\n${late}`)
    expect(denied.status).toBe(403)
    expect(field(denied, 'x-late')).toBeUndefined()
    const restricted = await play(`${actions('{type: restrict-ips, config: {allow: ["10.0.0.0/8"]}}')}\n${late}`)
    expect(restricted.status).toBe(403)
    expect(field(restricted, 'ngrok-error-code')).toBe('ERR_NGROK_3203')
    expect(field(restricted, 'x-late')).toBeUndefined()
  })

  it('fields that prove where an error comes from never pass from upstream (§8.1)', async () => {
    const exchange = (await gatewayWith('on_http_request: []')).request()
    exchange.answers(200, 'ngrok-error-code: ERR_NGROK_1\r\nsallyport-error-code: GW-1\r\nx-request-id: theirs\r\n')
    expect(field(exchange, 'ngrok-error-code', 'continue')).toBeUndefined()
    expect(field(exchange, 'sallyport-error-code', 'continue')).toBeUndefined()
    expect(field(exchange, 'x-request-id', 'continue')).not.toBe('theirs')
  })
})
