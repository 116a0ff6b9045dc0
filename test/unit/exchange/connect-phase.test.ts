/** `on_tcp_connect` (traffic-policy.md §2.1, §2.6): when it runs, what it sees, what closes a connection. */
import { describe, expect, it } from 'vitest'
import { gatewayWith } from './memory-gateway.ts'

const DENY_LAB = `
on_tcp_connect:
  - expressions: ["inCidrRange(conn.client_ip, '198.51.100.0/24')"]
    actions: [{type: deny}]
`
const OTHER = '  - {name: other, url: "http://other.example.com:8080", upstream: {url: "http://127.0.0.1:9001"}}'

describe('one endpoint behind a listener', () => {
  it('its rules decide when the connection is accepted', async () => {
    const gateway = await gatewayWith(DENY_LAB)
    expect(gateway.connect()).toBe(false)
    gateway.peer = { ...gateway.peer, address: '203.0.113.1' }
    expect(gateway.connect()).toBe(true)
  })

  it('and do not run again for its requests', async () => {
    const gateway = await gatewayWith('on_tcp_connect: [{actions: [{type: log, config: {metadata: {a: b}}}]}]')
    gateway.connect()
    gateway.request()
    gateway.request()
    expect(gateway.log.filter(({ message }) => message === 'tcp connection')).toHaveLength(1)
  })

  it('O-71: the address of a PROXY header counts only from a trusted proxy', async () => {
    const proxied = { proxiedAddress: '198.51.100.9', proxiedPort: 5 }
    const gateway = await gatewayWith(DENY_LAB, { settings: 'trusted_proxies: [10.0.0.0/8]' })
    gateway.peer = { ...gateway.peer, address: '10.1.1.1', ...proxied }
    expect(gateway.connect()).toBe(false)
    gateway.peer = { ...gateway.peer, address: '192.0.2.1', ...proxied }
    expect(gateway.connect()).toBe(true)
  })
})

describe('several endpoints behind a listener', () => {
  it('the rules run when the Host has named one, before its request rules, and close without an answer', async () => {
    const policy = `${DENY_LAB}on_http_request: [{actions: [{type: custom-response, config: {body: x}}]}]`
    const gateway = await gatewayWith(policy, { endpoints: OTHER })
    expect(gateway.connect()).toBe(true)
    expect(gateway.request().calls).toEqual([{ kind: 'abort' }])
    expect(gateway.request({ host: 'other.example.com:8080' }).last('forward').target.port).toBe(9001)
    gateway.peer = { ...gateway.peer, address: '203.0.113.1' }
    expect(gateway.request().status).toBe(200)
  })
})

describe('what rules of a connection can do', () => {
  const rules = (list: string): string => `on_tcp_connect:\n${list}`

  it('§2.6: variables and results reach later rules of the phase', async () => {
    const gateway = await gatewayWith(
      rules(`
  - actions:
      - {type: set-vars, config: {vars: [{net: "198.51.100.0/24"}]}}
      - {type: restrict-ips, config: {enforce: false, allow: ["10.0.0.0/8"]}}
  - expressions: ["inCidrRange(conn.client_ip, vars.net)", "actions.ngrok.restrict_ips.action == 'deny'"]
    actions: [{type: deny}]
`),
    )
    expect(gateway.connect()).toBe(false)
  })

  it('they do not reach the request phase', async () => {
    const gateway = await gatewayWith(`
on_tcp_connect: [{actions: [{type: set-vars, config: {vars: [{a: b}]}}]}]
on_http_request:
  - expressions: ["has(vars.a)"]
    actions: [{type: deny}]
`)
    expect(gateway.connect()).toBe(true)
    expect(gateway.request().last('forward').target.port).toBe(9000)
  })

  it.each([
    ['allowed', '{allow: ["198.51.100.7"]}', true],
    ['not allowed', '{allow: ["198.51.100.8"]}', false],
    ['denied though allowed', '{allow: ["0.0.0.0/0"], deny: ["198.51.100.0/24"]}', false],
    ['only a deny list: nobody is allowed', '{deny: ["10.0.0.0/8"]}', false],
    ['a range that cannot be computed', '{allow: ["${vars.missing}"]}', false],
    ['the same, not enforced', '{allow: ["${vars.missing}"], enforce: false}', true],
  ])('§5.22: restrict-ips, %s', async (_, config, allowed) => {
    const gateway = await gatewayWith(rules(`  - actions: [{type: restrict-ips, config: ${config}}]`))
    expect(gateway.connect()).toBe(allowed)
  })

  it('§2.2: an expression that fails counts as false and leaves a trace; strict closes', async () => {
    const failing = rules(`  - {expressions: ["vars.missing == 'x'"], actions: [{type: deny}]}`)
    const gateway = await gatewayWith(failing)
    expect(gateway.connect()).toBe(true)
    expect(gateway.warnings('ERR_NGROK_2254')).toHaveLength(1)
    expect((await gatewayWith(failing, { settings: 'policy: {strict: true}' })).connect()).toBe(false)
  })

  it('§4: a log entry that cannot be computed is written empty, with a warning', async () => {
    const gateway = await gatewayWith(rules('  - actions: [{type: log, config: {metadata: {who: "${vars.missing}"}}}]'))
    expect(gateway.connect()).toBe(true)
    expect(gateway.warnings('ERR_NGROK_2238')).toHaveLength(1)
    expect(gateway.log.find(({ message }) => message === 'tcp connection')?.fields['metadata']).toEqual({ who: '' })
  })
})
