/** Configuration files of ngrok's agent, version 3 (kubernetes-objects.md §7). */
import { describe, expect, it } from 'vitest'
import type { AgentInput } from '../../../src/config/agent-file.ts'
import { loadConfiguration, type LoadedConfiguration } from '../../../src/config/load.ts'
import { problems, readerOf, rendered, type Files } from './memory-files.ts'

function start(
  text: string,
  names: AgentInput['names'] = 'all',
  more: Files = {},
  settings: readonly string[] = [],
): LoadedConfiguration {
  const reader = readerOf({ 'ngrok.yml': text, ...more })
  return loadConfiguration({ files: settings, agent: { files: ['ngrok.yml'], names } }, reader)
}

const WEB = `version: 3
endpoints:
  - name: web
    url: http://web.example.org
    upstream: {url: 9001}
`
const DENY = '{on_http_request: [{actions: [{type: deny}]}]}'

describe('endpoints of an agent configuration', () => {
  it('every field of §7 has its meaning', () => {
    const loaded = start(
      `${WEB}    description: the site
    metadata: '{"team": "a"}'
    bindings: [public]
    pooling_enabled: true
    traffic_policy: ${DENY}
  - name: users
    url: https://users.internal
    upstream: {url: "http://10.0.0.1:8080", protocol: http1}
    traffic_policy_file: policies/users.yml
  - name: gate
    url: http://gate.example.org
    traffic_policy: ${DENY}
`,
      'all',
      { 'policies/users.yml': 'on_http_request: []\n' },
    )
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints).toMatchObject([
      {
        name: 'web',
        kind: 'agent',
        binding: 'public',
        pooling: true,
        url: { href: 'http://web.example.org' },
        upstream: { targets: [{ name: 'localhost:9001', protocol: 'http' }], protocol: 'http1' },
        policy: { origin: 'inline' },
      },
      { name: 'users', binding: 'internal', pooling: false, policy: { origin: 'file' } },
      // without an upstream the policy must end every request, as a cloud endpoint's
      { name: 'gate', kind: 'cloud', upstream: undefined },
    ])
    expect(loaded.settings.listeners).toMatchObject([{ port: 80 }])
  })

  it('start NAME serves the named ones, yet keys of all are checked', () => {
    const text = `${WEB}  - {name: api, url: http://api.example.org, upstream: {url: 9002}}\n`
    expect(start(text, ['api']).endpoints.map(({ name }) => name)).toEqual(['api'])
    expect(start(text, ['api', 'web']).endpoints.map(({ name }) => name)).toEqual(['web', 'api'])
    const unknown = start(text, ['wbe'])
    expect(problems(unknown)).toEqual(['UNKNOWN_ENDPOINT the agent configuration has no endpoint wbe'])
    expect(rendered(unknown)).toContain('hint: did you mean web?')
    expect(problems(start(text.replace('upstream: {url: 9001}', 'upsteam: {url: 9001}'), ['api']))).toEqual([
      'UNKNOWN_KEY unknown key upsteam in endpoint',
    ])
  })

  it('of several files, later single values and lists replace, mappings merge', () => {
    const reader = readerOf({
      'a.yml': `version: 3\nagent: {authtoken: one}\nendpoints: [{name: a, url: http://a.example, upstream: {url: 1}}]\n`,
      'b.yml': `agent: {region: eu}\nendpoints: [{name: b, url: http://b.example, upstream: {url: 2}}]\n`,
    })
    const loaded = loadConfiguration({ files: [], agent: { files: ['a.yml', 'b.yml'], names: 'all' } }, reader)
    expect(loaded.endpoints.map(({ name }) => name)).toEqual(['b'])
    expect(problems(loaded)).toEqual([
      'AGENT_KEY_IGNORED agent.authtoken is ignored: no account is needed',
      'AGENT_KEY_IGNORED agent.region is ignored: the region of a gateway is region in the settings',
    ])
  })

  it('without a name of a file it is looked for where ngrok has it', () => {
    const input = { files: [], agent: { files: [], names: 'all' as const } }
    const home = loadConfiguration(input, readerOf({ '/h/.config/ngrok/ngrok.yml': WEB }, { HOME: '/h' }))
    expect(home.endpoints).toHaveLength(1)
    const environment = { HOME: '/h', XDG_CONFIG_HOME: '/x' }
    const moved = loadConfiguration(input, readerOf({ '/x/ngrok/ngrok.yml': WEB }, environment))
    expect(moved.endpoints).toHaveLength(1)
    expect(problems(loadConfiguration(input, readerOf({}, { HOME: '/h' })))).toEqual([
      'NO_CONFIGURATION no agent configuration found: looked for /h/.config/ngrok/ngrok.yml, /h/Library/Application Support/ngrok/ngrok.yml',
    ])
  })

  it('settings of the gateway give listeners, hosts and names', () => {
    const settings = `listeners: [{address: 0.0.0.0:8080}]
upstream_hosts: {"users.svc:8080": "127.0.0.1:9"}
substitutions: {values: {YOUR_DOMAIN: shop.example.org}}
`
    const text = `version: 3
endpoints: [{name: shop, url: $YOUR_DOMAIN, upstream: {url: "http://users.svc:8080"}}]
`
    const loaded = start(text, 'all', { 'gateway.yaml': settings }, ['gateway.yaml'])
    expect(problems(loaded)).toEqual([])
    expect(loaded.endpoints).toMatchObject([
      { url: { href: 'https://shop.example.org' }, upstream: { targets: [{ name: '127.0.0.1:9' }] } },
    ])
    expect(loaded.settings.listeners).toMatchObject([{ port: 8080 }])
  })

  it('an https url without a listener is right in such a file, and refused by start alone', () => {
    const loaded = start(WEB.replace('http://web', 'https://web'))
    expect(loaded.diagnostics.hasErrors).toBe(false)
    expect(loaded.diagnostics.all).toMatchObject([
      { code: 'TLS_NOT_AVAILABLE', severity: 'warning', refusesRun: true, hint: expect.stringContaining('--settings') },
    ])
  })

  it('two endpoints with one url pool only when both say so', () => {
    const second = '  - {name: b, url: http://web.example.org, upstream: {url: 2}, pooling_enabled: true}\n'
    expect(problems(start(WEB + second))).toEqual([
      'ERR_NGROK_334 the endpoints web and b both answer to http://web.example.org',
    ])
    expect(problems(start(`${WEB}    pooling_enabled: true\n${second}`))).toEqual([])
  })
})

describe('what is wrong is said with its place', () => {
  it('an unknown key', () => {
    expect(rendered(start(WEB.replace('url: http', 'uri: http')))).toContain(
      'ngrok.yml:4:5: error: unknown key uri in endpoint [UNKNOWN_KEY]',
    )
    expect(rendered(start(`${WEB}endpoint: []\n`))).toContain('hint: did you mean endpoints?')
    expect(rendered(start(`${WEB}agent: {auth_token: x}\n`))).toMatch(
      /ngrok\.yml:6:9: error: unknown key auth_token in .*\n.*\n.*\n {2}hint: did you mean authtoken\?/,
    )
  })

  it.each([
    ['version: "2"', 'OLD_AGENT_VERSION', 'ngrok config upgrade'],
    ['version: 1', 'OLD_AGENT_VERSION', 'make each tunnel an entry of endpoints'],
    ['version: 4', 'UNKNOWN_AGENT_VERSION', 'version must be 3'],
    ['tunnels: {a: {proto: http, addr: 80}}\nversion: 3', 'UNKNOWN_KEY', 'tunnels are endpoints since version 3'],
    ['authtoken: x\nversion: 3', 'UNKNOWN_KEY', 'in version 3 it stands under agent'],
  ])('%s: %s', (head, code, words) => {
    const loaded = start(`${head}\nendpoints: [{name: a, url: http://a.example, upstream: {url: 1}}]\n`)
    expect(loaded.diagnostics.all.map((it) => it.code)).toEqual([code])
    expect(loaded.diagnostics.hasErrors).toBe(true)
    expect(rendered(loaded)).toMatch(/^ngrok\.yml:1:\d+: error: /)
    expect(rendered(loaded)).toContain(words)
  })

  it.each([
    ['{url: http://a.example, upstream: {url: 1}}', 'MISSING_KEY'],
    ['{name: a, upstream: {url: 1}}', 'ERR_NGROK_9034'],
    ['{name: a, url: "https://", upstream: {url: 1}}', 'ERR_NGROK_9034'],
    ['{name: a, url: http://a.example/, upstream: {url: 1}}', 'ERR_NGROK_9038'],
    ['{name: a, url: http://a.example}', 'MISSING_KEY'],
    ['{name: a, url: http://a.example, upstream: {}}', 'MISSING_KEY'],
    ['{name: a, url: http://a.example, upstream: {url: 1, protocol: h2}}', 'ERR_NGROK_15003'],
    ['{name: a, url: http://a.example, upstream: {url: 1}, bindings: [public, internal]}', 'ERR_NGROK_15006'],
    ['{name: a, url: http://a.example, upstream: {url: 1}, bindings: [internal]}', 'ERR_NGROK_9029'],
    [
      '{name: a, url: http://a.example, upstream: {url: 1}, traffic_policy: {}, traffic_policy_file: p}',
      'POLICY_GIVEN_TWICE',
    ],
    [`{name: a, url: http://a.example, upstream: {url: 1}, description: ${'x'.repeat(256)}}`, 'ERR_NGROK_18012'],
    ['{name: a, url: http://a.example, proto: http, upstream: {url: 1}}', 'UNKNOWN_KEY'],
  ])('%s: %s', (endpoint, code) => {
    const loaded = start(`version: 3\nendpoints: [${endpoint}]\n`, 'all', { p: '' })
    expect(loaded.diagnostics.all.map((it) => it.code)).toEqual([code])
    expect(rendered(loaded)).toMatch(/^ngrok\.yml:2:\d+: error: /)
  })

  it('names are unique', () => {
    const loaded = start(`${WEB}  - {name: web, url: http://b.example.org, upstream: {url: 2}}\n`)
    expect(problems(loaded)).toEqual(['DUPLICATE_NAME two endpoints have the name web'])
  })

  it.each([
    ['upstream: {url: 1, proxy_protocol: 2}', 'PROXY_PROTOCOL_NOT_SERVED'],
    ['upstream: {url: 1}, agent_tls_termination: {server_certificate: c.pem}', 'AGENT_TLS_NOT_SERVED'],
  ])('%s is right, and refused by start with a sentence', (rest, code) => {
    const loaded = start(`version: 3\nendpoints: [{name: a, url: http://a.example, ${rest}}]\n`)
    expect(loaded.diagnostics.all).toMatchObject([{ code, severity: 'warning', refusesRun: true }])
  })

  it('a missing version is a warning, missing endpoints are an error', () => {
    expect(problems(start(WEB.replace('version: 3\n', '')))).toEqual([
      'MISSING_VERSION the agent configuration names no version; it is read as version 3',
    ])
    expect(problems(start('version: 3\n'))).toEqual(['NO_ENDPOINTS the agent configuration names no endpoints'])
    expect(problems(start('[1]'))).toEqual(['WRONG_TYPE an agent configuration must be a mapping'])
  })
})
