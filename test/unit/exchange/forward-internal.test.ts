/** Endpoints in a row: what `forward-internal` hands over, what comes back after a failure (traffic-policy.md §5.8, §2.4, §5.24). */
import { describe, expect, it } from 'vitest'
import { gatewayWith } from './memory-gateway.ts'

const INTERNAL = (name: string, policy: string, port = 9001): string =>
  `  - {name: ${name}, url: "https://${name}.internal", upstream: {url: "http://127.0.0.1:${port}"}, traffic_policy_file: ${policy}}`

describe('a chain of forward-internal with on_error: continue', () => {
  const policy = `
on_http_request:
  - actions:
      - type: set-vars
        config: {vars: [{first: one}, {second: two}]}
      - {type: forward-internal, config: {url: "https://\${vars.first}.internal", on_error: continue}}
      - {type: add-headers, config: {headers: {x-failed: "\${actions.ngrok.forward_internal.url} \${actions.ngrok.forward_internal.error.code}"}}}
      - {type: forward-internal, config: {url: "https://\${vars.second}.internal", on_error: continue}}
  - actions: [{type: add-headers, config: {headers: {x-fell-through: "\${vars.second}"}}}]
`
  const inner = 'on_http_request: [{actions: [{type: set-vars, config: {vars: [{second: stolen}]}}]}]\n'
  const options = {
    endpoints: `${INTERNAL('one', 'inner.yaml')}\n${INTERNAL('two', 'inner.yaml', 9002)}`,
    files: { 'inner.yaml': inner },
    settings: 'upstream: {retries: 0}',
  }

  it('goes on with the next action, and the variables of the phase are still there', async () => {
    const gateway = await gatewayWith(policy, options)
    const exchange = gateway.request()
    expect(exchange.last('forward').target.port).toBe(9001)
    exchange.fails('connect_failed')
    // the internal policy set its own vars.second, which is none of ours
    expect(exchange.last('forward').target.port).toBe(9002)
    expect(exchange.last('forward').head).toContain('x-failed: https://one.internal ERR_NGROK_3006\r\n')
  })

  it('falls off the end of the list to the upstream of its own endpoint', async () => {
    const gateway = await gatewayWith(policy, options)
    const exchange = gateway.request()
    exchange.fails('connect_failed')
    exchange.fails('connect_timeout')
    expect(exchange.last('forward').target.port).toBe(9000)
    expect(exchange.last('forward').head).toContain('x-fell-through: two\r\n')
  })

  it('O-69: what a trusted proxy said about the client survives a failed forward', async () => {
    const trusted = { ...options, settings: `${options.settings}\ntrusted_proxies: [198.51.100.0/24]` }
    const gateway = await gatewayWith(policy, trusted)
    const exchange = gateway.request({
      fields: 'x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\nx-forwarded-host: www.example.com\r\n',
    })
    exchange.fails('connect_failed')
    const { head } = exchange.last('forward')
    expect(head).toContain('x-forwarded-for: 203.0.113.9, 198.51.100.7\r\n')
    expect(head).toContain('x-forwarded-proto: https\r\n')
    expect(head).toContain('x-forwarded-host: www.example.com\r\n')
    expect(head.match(/^via: /gm)).toHaveLength(1)
  })

  it('an answer of the internal endpoint, 503 too, is a success of the forward', async () => {
    const gateway = await gatewayWith(policy, options)
    const exchange = gateway.request()
    exchange.answers(503)
    expect(exchange.last('continue').head).toMatch(/^HTTP\/1\.1 503 /)
  })

  it.each(['first_byte_timeout', 'upstream_reset', 'idle_timeout'] as const)(
    '%s is no failure to deliver: the error is the answer',
    async (reason) => {
      const gateway = await gatewayWith(policy, options)
      const exchange = gateway.request({ method: 'POST' })
      exchange.fails(reason)
      expect(exchange.last('respond').head).toMatch(/^HTTP\/1\.1 50[24] /)
    },
  )

  it('a body that is gone cannot go to another endpoint', async () => {
    const gateway = await gatewayWith(policy, options)
    const exchange = gateway.request({ method: 'POST', bodyLength: 5 })
    exchange.fails('connect_failed', { bodyConsumed: true })
    expect(exchange.status).toBe(502)
  })
})

describe('results and variables', () => {
  const rules = (name: string, extra = ''): string => `
on_http_request:
  - actions:
      - {type: set-vars, config: {vars: [{who: ${name}}]}}
      - {type: log, config: {metadata: {seen-by: ${name}}}}
      ${extra}
on_http_response:
  - actions:
      - {type: add-headers, config: {headers: {"x-${name}": "\${actions.ngrok.log.metadata['seen-by']} \${has(vars.who)} \${endpoint.id != ''}"}}}
`

  it('§2.5, §5.24: each policy has its own; results live on in its response phase, variables do not', async () => {
    const gateway = await gatewayWith(
      rules('outer', '- {type: forward-internal, config: {url: "https://inner.internal"}}'),
      {
        endpoints: INTERNAL('inner', 'inner.yaml'),
        files: { 'inner.yaml': rules('inner') },
      },
    )
    const exchange = gateway.request()
    exchange.answers(200)
    const { head } = exchange.last('continue')
    expect(head).toContain('x-inner: inner false true\r\n')
    expect(head).toContain('x-outer: outer false true\r\n')
    // §2.4: inside out
    expect(head.indexOf('x-inner')).toBeLessThan(head.indexOf('x-outer'))
  })
})

describe('what ends a chain', () => {
  it('§5.8: a loop of internal endpoints ends with 508 ERR_NGROK_3501 after limits.hops', async () => {
    const loop = 'on_http_request: [{actions: [{type: forward-internal, config: {url: "https://loop.internal"}}]}]\n'
    const gateway = await gatewayWith(loop, {
      endpoints: INTERNAL('loop', 'loop.yaml'),
      files: { 'loop.yaml': loop },
    })
    const exchange = gateway.request()
    expect(exchange.status).toBe(508)
    expect(exchange.last('respond').head).toContain('ngrok-error-code: ERR_NGROK_3501\r\n')
  })

  it('§5.8: no such endpoint is 404 ERR_NGROK_3200, or goes on', async () => {
    const gateway = await gatewayWith(`
on_http_request:
  - expressions: ["req.url.path == '/halt'"]
    actions: [{type: forward-internal, config: {url: "https://\${'nobody'}.internal"}}]
  - actions:
      - {type: forward-internal, config: {url: "https://nobody.internal", on_error: continue}}
      - {type: custom-response, config: {status_code: 503, body: "\${actions.ngrok.forward_internal.error.code} \${actions.ngrok.forward_internal.url}"}}
`)
    const halted = gateway.request({ path: '/halt' })
    expect(halted.status).toBe(404)
    expect(halted.last('respond').head).toContain('ngrok-error-code: ERR_NGROK_3200\r\n')
    expect(gateway.request().last('respond').body).toBe('ERR_NGROK_3200 https://nobody.internal:443')
  })

  it('§4: a url that cannot be computed fails closed with 500', async () => {
    const gateway = await gatewayWith(
      'on_http_request: [{actions: [{type: forward-internal, config: {url: "https://${req.headers[\'x-cell\'][0]}.internal", on_error: continue}}]}]',
    )
    expect(gateway.request().status).toBe(500)
  })

  it('H-66: a path with two readings is refused by the endpoint whose rules look at it, wherever it stands in the chain', async () => {
    const forward = 'on_http_request: [{actions: [{type: forward-internal, config: {url: "https://inner.internal"}}]}]'
    const guarded = (expression: string): string =>
      `on_http_request: [{expressions: ["${expression}"], actions: [{type: deny}]}]`
    const inner = (policy: string) => ({ endpoints: INTERNAL('inner', 'inner.yaml'), files: { 'inner.yaml': policy } })
    const path = '/public/%2e%2e/admin'
    const looking = await gatewayWith(forward, inner(guarded("req.url.path.startsWith('/admin')")))
    expect(looking.request({ path }).status).toBe(400)
    const byIndex = await gatewayWith(forward, inner(guarded("req['url'].path.startsWith('/admin')")))
    expect(byIndex.request({ path }).status).toBe(400)
    const notLooking = await gatewayWith(forward, inner(guarded("req.method == 'PUT'")))
    expect(notLooking.request({ path }).last('forward').head).toContain(`GET ${path} HTTP/1.1\r\n`)
  })

  it('H-67, H-68: above the root and a null byte are refused whatever the policy looks at', async () => {
    const gateway = await gatewayWith('on_http_request: []')
    expect(gateway.request({ path: '/a/../../b' }).status).toBe(400)
    expect(gateway.request({ path: '/a%00b' }).status).toBe(400)
  })
})
