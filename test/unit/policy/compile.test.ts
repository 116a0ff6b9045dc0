/** Parsed and compiled policies as objects: order, labels, the old format, what depends on the path (H-66), identities. */
import { describe, expect, it } from 'vitest'
import { actionName } from '../../../src/actions/index.ts'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import type { MapNode } from '../../../src/config/node.ts'
import { compilePolicy } from '../../../src/policy/compile.ts'
import { policyJsonSchema } from '../../../src/policy/json-schema.ts'
import { parsePolicy } from '../../../src/policy/parse.ts'
import type { CompiledPolicy } from '../../../src/policy/policy.ts'
import { load, nodeOf } from '../config/memory-files.ts'

const { settings } = load({ 'gateway.yaml': '' })

function parse(text: string): { parsed: ReturnType<typeof parsePolicy>; codes: string[] } {
  const diagnostics = new Diagnostics()
  const parsed = parsePolicy(nodeOf(text) as MapNode, diagnostics)
  return { parsed, codes: diagnostics.all.map(({ code }) => code) }
}

function compile(text: string): { policy: CompiledPolicy; codes: string[]; keySetUrls: ReadonlySet<string> } {
  const diagnostics = new Diagnostics()
  const parsed = parsePolicy(nodeOf(text) as MapNode, diagnostics)
  const needs = compilePolicy(parsed, { settings, diagnostics, identity: 'shop', scheme: 'http', mustTerminate: false })
  return { ...needs, codes: diagnostics.all.map(({ code }) => code) }
}

const RULE = (name: string): string => `{name: ${name}, actions: [{type: log}]}`

describe('§9: the format of 2024', () => {
  it('rules of the new phases come first, the old ones behind them in their order', () => {
    const { parsed, codes } = parse(`
inbound: [${RULE('in1')}, ${RULE('in2')}]
on_http_request: [${RULE('new')}]
outbound: [${RULE('out')}]
`)
    expect(parsed.phases.on_http_request.map((rule) => rule.name)).toEqual(['new', 'in1', 'in2'])
    expect(parsed.phases.on_http_response.map((rule) => rule.name)).toEqual(['out'])
    expect(parsed.legacyFormat).toBe(true)
    expect(codes).toEqual(['LEGACY_POLICY_FORMAT'])
  })

  it('`enabled: false` makes an empty policy, whose mistakes are found all the same', () => {
    const { policy, codes } = compile('{enabled: false, inbound: [{actions: [{type: deny}]}], outbound: {}}')
    expect(policy.onHttpRequest).toEqual([])
    expect(codes).toContain('ENABLED_FIELD_DEPRECATED')
    expect(codes).toContain('ERR_NGROK_2236')
  })

  it('keys that every object inherits are unknown phases and unknown keys', () => {
    for (const key of ['constructor', 'toString', '__proto__', 'hasOwnProperty']) {
      expect(parse(`{${key}: []}`).codes).toEqual(['ERR_NGROK_2236'])
      expect(parse(`on_http_request: [{${key}: x, actions: [{type: log}]}]`).codes).toEqual(['ERR_NGROK_2236'])
    }
  })
})

describe('a compiled policy', () => {
  it('is frozen, keeps the order, and names rules by their place', () => {
    const { policy, codes } = compile(`
on_http_request:
  - actions: [{type: log}, {type: deny}]
  - {name: last, expressions: ["true"], actions: [{type: log}]}
  - {name: , actions: [{type: log}]}
`)
    expect(codes).toEqual([])
    expect(policy.onHttpRequest.map((rule) => rule.name)).toEqual(['on_http_request[0]', 'last', 'on_http_request[2]'])
    expect(policy.onHttpRequest[0]!.actions.map((action) => action.type)).toEqual(['log', 'deny'])
    expect(policy.onHttpRequest[1]!.expressions).toHaveLength(1)
    expect(Object.isFrozen(policy)).toBe(true)
    expect(Object.isFrozen(policy.onHttpRequest)).toBe(true)
  })

  it('collects the key sets that it will ask for', () => {
    const { keySetUrls } = compile(`
on_http_request:
  - actions:
      - type: jwt-validation
        config:
          issuer: {allow_list: [{value: https://id.example}]}
          http: {tokens: [{type: jwt, method: header, name: authorization}]}
          jws:
            allowed_algorithms: [RS256]
            keys:
              - sources: [{additional_jkus: [https://id.example/a]}, {additional_jkus: [https://id.example/b]}]
              - sources: {additional_jkus: ["https://\${req.host}/c"]}
`)
    expect([...keySetUrls]).toEqual(['https://id.example/a', 'https://id.example/b'])
  })
})

describe('H-66: a policy depends on the path when', () => {
  const rule = (expression: string): string =>
    `{on_http_request: [{expressions: [${JSON.stringify(expression)}], actions: [{type: deny}]}]}`
  const action = (type: string, config: string): string =>
    `{on_http_request: [{actions: [{type: ${type}, config: ${config}}]}]}`

  it.each([
    ['an expression reads it', rule("req.url.path == '/a'"), true],
    ['with spaces', rule("req . url.contains('/a')"), true],
    ['by index', rule("req['url'].path == '/a'"), true],
    [
      'in a response rule',
      `{on_http_response: [{expressions: ["req.url.query == ''"], actions: [{type: log}]}]}`,
      true,
    ],
    ['a variable is made of it', action('set-vars', '{vars: [{a: {b: ["${req.url.path}"]}}]}'), true],
    [
      'a limit counts by it',
      action('rate-limit', '{name: a, capacity: 1, rate: 60s, bucket_key: ["req.url.path"]}'),
      true,
    ],
    [
      'an endpoint is chosen by it',
      action('forward-internal', '{url: "https://${req.url.path.substring(1)}.internal"}'),
      true,
    ],
    ['a URL is matched', action('redirect', '{from: "/a", to: "/b"}'), true],
    ['a URL is rewritten', action('url_rewrite', '{from: "/a", to: "/b"}'), true],
  ])('%s', (_, policy) => expect(compile(policy).policy.dependsOnPath).toBe(true))

  it.each([
    ['other facts are read', rule("req.method == 'PUT' && req.headers['x'] == ['url']")],
    ['it is only logged', action('log', '{metadata: {path: "${req.url.path}"}}')],
    ['it is only told on', action('add-headers', '{headers: {x-path: "${req.url.path}"}}')],
    ['every URL is redirected', action('redirect', '{to: "https://new.example/"}')],
  ])('not when %s', (_, policy) => expect(compile(policy).policy.dependsOnPath).toBe(false))
})

describe('§11: names of actions', () => {
  it.each([
    ['add-headers', 'add-headers'],
    ['add_headers', 'add-headers'],
    ['custom_response', 'custom-response'],
    ['oidc', 'openid-connect'],
    ['webhook-verification', 'verify-webhook'],
    ['webhook_verification', 'verify-webhook'],
    ['something-else', 'something-else'],
  ])('%s means %s', (written, name) => expect(actionName(written)).toBe(name))

  it('an alias is taken with a warning, under any action', () => {
    const { policy, codes } = compile('on_http_request: [{actions: [{type: url_rewrite, config: {to: /a}}]}]')
    expect(policy.onHttpRequest[0]!.actions[0]!.type).toBe('url-rewrite')
    expect(codes).toEqual(['ACTION_ALIAS'])
  })
})

describe('the JSON Schema of policies', () => {
  const schema = policyJsonSchema() as any // any: walked below as editors do

  it('has every phase, every action where it may stand, and no other key', () => {
    expect(schema.additionalProperties).toBe(false)
    const typesIn = (phase: string): string[] =>
      schema.properties[phase].items.properties.actions.items.oneOf.map((it: any) => it.properties.type.enum[0])
    expect(typesIn('on_tcp_connect')).toContain('restrict-ips')
    expect(typesIn('on_tcp_connect')).not.toContain('add-headers')
    expect(typesIn('on_http_request')).toContain('jwt-validation')
    expect(typesIn('on_http_response')).not.toContain('deny')
  })

  it('knows limits and names of header maps', () => {
    const action = schema.properties.on_http_request.items.properties.actions.items.oneOf.find(
      (it: any) => it.properties.type.enum[0] === 'add-headers',
    )
    expect(action.properties.config.properties.headers).toMatchObject({ minProperties: 1, maxProperties: 10 })
    expect(action.properties.config.properties.headers.propertyNames.pattern).toBe('^[a-zA-Z0-9_-]+$')
    expect(action.required).toEqual(['type', 'config'])
  })
})
