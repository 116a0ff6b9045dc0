/** `set-vars`, `log`, `rate-limit`, `restrict-ips` and header maps (traffic-policy.md §4, §5.1, §5.11, §5.16, §5.22, §5.24). */
import { describe, expect, it } from 'vitest'
import { gatewayWith, type MemoryExchange, type MemoryGateway } from '../exchange/memory-gateway.ts'

const actions = (list: string): string => `on_http_request:\n  - actions:\n${list}`

/** What the expression gives after these variables were set. */
async function valueAfter(vars: string, template: string, path = '/', fields = ''): Promise<string | undefined> {
  const gateway = await gatewayWith(
    actions(`
      - {type: set-vars, config: {vars: ${vars}}}
      - {type: custom-response, config: {headers: {content-type: x/y}, body: ${JSON.stringify(template)}}}`),
  )
  return gateway.request({ path, fields }).last('respond').body
}

describe('§5.24: set-vars', () => {
  it.each([
    ['a lone interpolation keeps its type', '[{a: "${[1, 2, 3]}"}]', '${vars.a[1] + 1}', '3'],
    ['text around it makes text', '[{a: "${1}0"}]', "${vars.a + '!'}", '10!'],
    ['a bool', '[{a: "${1 < 2}"}]', "${vars.a ? 'yes' : 'no'}", 'yes'],
    ['values of YAML keep theirs', '[{a: 7}, {b: true}, {c: [x, y]}]', "${vars.b ? vars.c[vars.a - 6] : ''}", 'y'],
    ['nested values', '[{a: {b: [{c: "${req.method}"}]}}]', '${vars.a.b[0].c}', 'GET'],
    ['later ones use earlier ones', '[{a: 2}, {b: "${vars.a * 21}"}]', '${vars.b}', '42'],
    ['the same name again', '[{a: x}, {a: "${vars.a + vars.a}"}]', '${vars.a}', 'xx'],
    ['`$${` is text', '[{a: "$${x}"}]', '${vars.a}', '${x}'],
    ['a `$` without brace is text', '[{a: "$1"}]', '${vars.a}', '$1'],
    ['keys are not interpolated', "[{a: {'${x}': 1}}]", '${vars.a}', '{"${x}":1}'],
    ['a failed interpolation is null', '[{a: "${req.headers[\'none\'][0]}"}]', '${vars.a == null}', 'true'],
    ['null', '[{a: }]', '${vars.a == null}', 'true'],
  ])('%s', async (_, vars, template, expected) => expect(await valueAfter(vars, template)).toBe(expected))

  it('are those of the phase, and of the rules behind them', async () => {
    const gateway = await gatewayWith(`
on_http_request:
  - expressions: ["!has(vars.a)"]
    actions: [{type: set-vars, config: {vars: [{a: b}]}}]
  - expressions: ["vars.a == 'b'"]
    actions: [{type: add-headers, config: {headers: {x-a: "\${vars.a}"}}}]
on_http_response:
  - expressions: ["!has(vars.a)"]
    actions: [{type: add-headers, config: {headers: {x-gone: "1"}}}]
`)
    const exchange = gateway.request()
    expect(exchange.last('forward').head).toContain('x-a: b\r\n')
    exchange.answers(200)
    expect(exchange.last('continue').head).toContain('x-gone: 1\r\n')
  })

  it('two requests never see each other’s', async () => {
    const gateway = await gatewayWith(
      actions(`
      - {type: rate-limit, config: {name: l, capacity: 1, rate: 60s, bucket_key: ["'k'"]}}
      - {type: set-vars, config: {vars: [{a: "\${has(vars.a)}"}]}}
      - {type: custom-response, config: {body: "\${vars.a}"}}`),
    )
    let release = (): void => {}
    gateway.take = () =>
      new Promise((resolve) => {
        release = () => resolve({ admitted: true, remaining: 0, retryAfterMs: 0, mode: 'redis' })
      })
    const slow = gateway.request()
    expect(slow.calls).toEqual([])
    gateway.take = () => ({ admitted: true, remaining: 0, retryAfterMs: 0, mode: 'memory' })
    expect(gateway.request().last('respond').body).toBe('false')
    release()
    await new Promise((resolve) => setImmediate(resolve))
    expect(slow.last('respond').body).toBe('false')
  })
})

describe('§4: text of values', () => {
  it.each([
    ['${true}', 'true'],
    ['${7u}', '7'],
    ['${0.5}', '0.5'],
    ['${null}', ''],
    ["${b'abc'}", 'abc'],
    ["${duration('90s')}", '1m30s'],
    ["${timestamp('2026-11-22T08:00:00Z')}", '2026-11-22T08:00:00Z'],
    ["${{'b': 1, 'a': [true, null]}}", '{"a":[true,null],"b":1}'],
    ["${['one']}", 'one'],
    ["${['one', 'two']}", 'one, two'],
    ["${req.headers['x-one']}", '1'],
  ])('%s gives %j', async (template, text) => expect(await valueAfter('[]', template, '/', 'x-one: 1\r\n')).toBe(text))
})

describe('§5.11: log', () => {
  it('publishes what was logged, numbers and bools as they are, interpolations as text', async () => {
    const gateway = await gatewayWith(
      actions(`
      - {type: log, config: {metadata: {n: 1, b: true, who: "\${1 + 1}", list: ["\${req.method}", {deep: x}]}}}
      - {type: log, config: {metadata: {only: last}}}
      - {type: custom-response, config: {body: "\${actions.ngrok.log.metadata}"}}`),
    )
    const exchange = gateway.request()
    expect(exchange.last('respond').body).toBe('{"only":"last"}')
  })
})

describe('§5.16: rate-limit', () => {
  const limit = (keys: string, more = ''): string =>
    actions(`
      - {type: rate-limit, config: {name: l, capacity: 2, rate: 60s, bucket_key: ${keys}${more}}}
      - {type: custom-response, config: {body: "\${actions.ngrok.rate_limit.limited} \${actions.ngrok.rate_limit.bucket_key}"}}`)

  async function keyOf(gateway: MemoryGateway, fields: string, path = '/'): Promise<string> {
    gateway.taken.length = 0
    gateway.request({ fields, path })
    return gateway.taken[0]!
  }

  it('the tuple of values is the key; a missing one is an empty part', async () => {
    const gateway = await gatewayWith(limit('["req.headers[\'x-a\'][0]", "req.headers[\'x-b\'][0]"]'))
    const keys = await Promise.all(
      ['x-a: 1\r\nx-b: 2\r\n', 'x-a: 1\r\n', 'x-b: 1\r\n', '', 'x-a: 12\r\n'].map((fields) => keyOf(gateway, fields)),
    )
    expect(new Set(keys).size).toBe(5)
    expect(await keyOf(gateway, 'x-b: 2\r\nx-a: 1\r\n')).toBe(keys[0])
  })

  it('no value can pose as two', async () => {
    const parts = `["req.url.query_params['a'][0]", "req.url.query_params['b'][0]"]`
    const gateway = await gatewayWith(limit(parts))
    const pairs = ['%00', '%00%00', 'x%00y', ',', '1:', '0:1:'].flatMap((text) => [
      `/?a=${text}&b=`,
      `/?a=&b=${text}`,
      `/?a=${text}&b=${text}`,
    ])
    const keys = []
    for (const path of pairs) keys.push(await keyOf(gateway, '', path))
    expect(new Set(keys).size).toBe(pairs.length)
  })

  it('each action has buckets of its own', async () => {
    const gateway = await gatewayWith(`
on_http_request:
  - actions:
      - {type: rate-limit, config: {name: l, capacity: 2, rate: 60s, bucket_key: [req.host]}}
      - {type: rate-limit, config: {name: l, capacity: 2, rate: 60s, bucket_key: [req.host]}}
  - actions:
      - {type: rate-limit, config: {name: l, capacity: 2, rate: 60s, bucket_key: [req.host]}}
`)
    gateway.request()
    expect(new Set(gateway.taken).size).toBe(3)
  })

  it('over the limit: 429 with retry-after, whole seconds rounded up', async () => {
    const gateway = await gatewayWith(limit('[req.host]'))
    gateway.take = () => ({ admitted: false, remaining: 0, retryAfterMs: 1001, mode: 'memory' })
    const exchange = gateway.request()
    expect(exchange.status).toBe(429)
    expect(exchange.last('respond').head).toContain('retry-after: 2\r\n')
    gateway.take = () => ({ admitted: false, remaining: 0, retryAfterMs: 0, mode: 'memory' })
    expect(gateway.request().last('respond').head).toContain('retry-after: 1\r\n')
  })

  it('enforce: false only tells', async () => {
    const gateway = await gatewayWith(limit('[req.host]', ', enforce: false'))
    gateway.take = () => ({ admitted: false, remaining: 0, retryAfterMs: 1, mode: 'memory' })
    expect(gateway.request().last('respond').body).toBe('true shop.example.com')
  })

  it('a client that goes while the store answers is not answered', async () => {
    const gateway = await gatewayWith(limit('[req.host]'))
    gateway.take = () => Promise.resolve({ admitted: true, remaining: 0, retryAfterMs: 0, mode: 'redis' })
    const exchange = gateway.request()
    exchange.done()
    await new Promise((resolve) => setImmediate(resolve))
    expect(exchange.calls).toEqual([])
  })
})

describe('§5.22: restrict-ips', () => {
  const guarded = (config: string): string =>
    actions(`
      - {type: restrict-ips, config: ${config}}
      - {type: custom-response, config: {body: "\${actions.ngrok.restrict_ips.action} \${actions.ngrok.restrict_ips.matched_cidr}"}}`)

  async function judge(config: string, address: string): Promise<MemoryExchange> {
    const gateway = await gatewayWith(guarded(config))
    gateway.peer = { ...gateway.peer, address }
    return gateway.request()
  }

  it.each([
    ['{allow: [10.0.0.0/8]}', '10.255.0.1', 'allow 10.0.0.0/8'],
    ['{allow: [10.0.0.5]}', '10.0.0.5', 'allow 10.0.0.5'],
    ['{allow: ["2001:db8::/32"]}', '2001:db8:1::1', 'allow 2001:db8::/32'],
    ['{allow: ["0.0.0.0/0", "::/0"], deny: [10.0.0.0/8]}', '192.0.2.1', 'allow 0.0.0.0/0'],
    ['{allow: ["::/0"], deny: [10.0.0.0/8]}', '2001:db8::1', 'allow ::/0'],
    ["{allow: [\"${'10.0.0.0' + '/8'}\"]}", '10.0.0.1', 'allow 10.0.0.0/8'],
    ['{allow: [10.0.0.0/8], enforce: false}', '192.0.2.1', 'deny '],
    ['{deny: [192.0.2.0/24], enforce: false}', '192.0.2.1', 'deny 192.0.2.0/24'],
  ])('%s lets %s in: %s', async (config, address, said) => {
    expect((await judge(config, address)).last('respond').body).toBe(said)
  })

  it.each([
    ['{allow: [10.0.0.0/8]}', '11.0.0.1', 403],
    ['{allow: [10.0.0.0/8], deny: [10.1.0.0/16]}', '10.1.2.3', 403],
    ['{deny: [10.0.0.0/8]}', '192.0.2.1', 403],
    ['{allow: ["0.0.0.0/0"]}', '2001:db8::1', 403],
    // fails closed
    ['{allow: ["${vars.none}"]}', '10.0.0.1', 500],
    ['{allow: ["${req.method}"]}', '10.0.0.1', 500],
  ])('%s refuses %s with %i', async (config, address, status) => {
    expect((await judge(config, address)).status).toBe(status)
  })

  it('not enforced, it still tells under which code it would have refused', async () => {
    const gateway = await gatewayWith(
      actions(`
      - {type: restrict-ips, config: {enforce: false, allow: [10.0.0.0/8]}}
      - {type: custom-response, config: {body: "\${actions.ngrok.restrict_ips.error.code}"}}`),
    )
    expect(gateway.request().last('respond').body).toBe('ERR_NGROK_3203')
  })

  it('X-Forwarded-For of an untrusted client is not looked at', async () => {
    const gateway = await gatewayWith(guarded('{allow: [10.0.0.0/8]}'))
    expect(gateway.request({ fields: 'x-forwarded-for: 10.0.0.1\r\n' }).status).toBe(403)
  })
})

describe('header maps', () => {
  it('H-123: a value with control bytes is left out, outer white space cut, text beyond latin1 sent as UTF-8', async () => {
    const gateway = await gatewayWith(
      actions(`
      - type: add-headers
        config:
          headers:
            x-bad: "\${req.url.query_params['a'][0]}"
            x-trim: "\${' b '}"
            X-Wide: "\${'€'}"
            x-empty: "\${req.headers['none'][0]}"`),
    )
    const { head } = gateway.request({ path: '/?a=1%0d%0ax-injected:%202' }).last('forward')
    expect(head).not.toContain('\r\nx-injected')
    expect(head).not.toContain('x-bad')
    expect(head).toContain('\r\nx-trim: b\r\n')
    expect(head).toContain(`\r\nx-wide: ${Buffer.from('€').toString('latin1')}\r\n`)
    expect(head).toContain('\r\nx-empty: \r\n')
    expect(gateway.warnings('ERR_NGROK_2238')).toHaveLength(2)
  })

  it('§5.1, §5.18 in the response phase: names in any case, every value removed, results tell which', async () => {
    const gateway = await gatewayWith(`
on_http_response:
  - actions:
      - {type: remove-headers, config: {headers: [SERVER, X-Absent]}}
      - {type: add-headers, config: {headers: {X-Removed: "\${actions.ngrok.remove_headers.headers_removed}", server: mine}}}
  - expressions: ["res.headers['Server'] == ['mine']", "actions.ngrok.add_headers.headers_added['server'] == 'mine'"]
    actions: [{type: add-headers, config: {headers: {x-seen: "1"}}}]
`)
    const exchange = gateway.request()
    exchange.answers(200, 'server: nginx\r\nx-keep: 1\r\nserver: again\r\n')
    const { head } = exchange.last('continue')
    expect(head.match(/^server: .*$/gm)).toEqual(['server: mine'])
    for (const line of ['x-removed: server', 'x-keep: 1', 'x-seen: 1']) expect(head).toContain(`${line}\r\n`)
  })
})
