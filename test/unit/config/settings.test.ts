/** gateway.yaml lists exactly the settings there are, with their defaults; the JSON Schema is the one of the code. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { makeCertificate } from '../../support/certificates.ts'
import { gatewayJsonSchema, jsonSchemaText } from '../../../src/config/json-schema.ts'
import type { ConfigNode } from '../../../src/config/node.ts'
import { describeSettings } from '../../../src/config/settings.ts'
import { load, nodeOf, problems } from './memory-files.ts'

const FOLDER = new URL('../../../config/', import.meta.url)
const text = readFileSync(new URL('gateway.yaml', FOLDER), 'utf8')
/** The lines that show what an entry of an empty list looks like. */
const examples = text
  .split('\n')
  .filter((line) => line.startsWith('#: '))
  .map((line) => line.slice(3))
  .join('\n')

function keysOf(node: ConfigNode, prefix = ''): string[] {
  if (node.kind === 'list' && node.items.length > 0) {
    return [prefix, ...node.items.flatMap((item) => keysOf(item, `${prefix}[]`))]
  }
  if (node.kind !== 'map' || node.entries.length === 0) return [prefix]
  return node.entries.flatMap(({ key, value }) => keysOf(value, prefix === '' ? key : `${prefix}.${key}`))
}

/** Mappings with free keys and values that may be lists are one setting each. */
function settingOf(key: string): string {
  return key
    .replace(/^(substitutions\.values|upstream_hosts)\..*$/, '$1')
    .replace(/^(.*\.traffic_policy)\..*$/, '$1')
    .replace(
      /^(manifests|substitutions\.environment|substitutions\.files|.*\.(?:bindings|targets|names|expect|retry_on|upgrades))\[\].*$/,
      '$1',
    )
}

describe('config/gateway.yaml', () => {
  const described = describeSettings()

  it('names every setting, and no other', () => {
    const named = new Set([...keysOf(nodeOf(text)), ...keysOf(nodeOf(examples))].map(settingOf))
    const wanted = new Set(described.map(({ key }) => key))
    expect([...named].filter((key) => !wanted.has(key))).toEqual([])
    expect([...wanted].filter((key) => !named.has(key))).toEqual([])
    expect(named.size).toBeGreaterThan(65)
  })

  it('has the values that a missing file has', () => {
    const loaded = load({ 'gateway.yaml': text })
    expect(problems(loaded)).toEqual([])
    expect(loaded.settings).toEqual(load({ 'gateway.yaml': '' }).settings)
    expect(loaded.endpoints).toEqual([])
  })

  it('its examples are valid', () => {
    const shop = makeCertificate({ names: 'DNS:shop.example.org' })
    const files = {
      'tls/shop.pem': shop.certificate,
      'tls/shop.key': shop.key,
      'upstream-ca.pem': '-----BEGIN CERTIFICATE-----',
      'policy.yaml': '',
      'names.env': '',
      'manifests/*.yaml': '',
    }
    const loaded = load({ 'gateway.yaml': examples, ...files }, {}, { JWT_ISSUER: 'x' })
    // the mapped hosts belong to manifests that are not here
    expect(loaded.diagnostics.all.filter(({ severity }) => severity === 'error')).toEqual([])
    expect(loaded.endpoints.map(({ name }) => name)).toEqual(['shop', 'cart'])
  })

  it('tells each default, unit and meaning of the reference', () => {
    const plain = text.replace(/\n# ?/g, ' ').replace(/\s+/g, ' ').toLowerCase()
    const missing = []
    for (const { key, meaning } of described) {
      expect(meaning, key).toMatch(/^[A-Z*$a-z].*\.$/s)
      // the file says it in the same words, as far as the first clause goes
      const words = meaning
        .toLowerCase()
        .split(/[;,:(]/)[0]!
        .replace(/\.$/, '')
        .trim()
      if (!key.includes('[]') && !plain.includes(words)) missing.push(`${key}: ${words}`)
    }
    expect(missing).toEqual([])
  })

  it('describes every number with a unit', () => {
    const units = Object.fromEntries(described.map(({ key, unit }) => [key, unit]))
    expect(units).toMatchObject({
      'drain.delay': 'duration',
      'limits.headers': 'size',
      'upstream.max_queued': 'requests',
      'waf.paranoia_level': 'level',
    })
    for (const { key, default: value, unit } of described) {
      if (typeof value === 'number') expect(unit, key).toBeTypeOf('string')
    }
  })

  it('describes defaults as they are written', () => {
    const defaults = Object.fromEntries(described.map(({ key, default: value }) => [key, value]))
    expect(defaults).toMatchObject({
      listeners: [],
      workers: 'auto',
      'limits.body': 0,
      'limits.buffered_body': '10MiB',
      'jwt.stale': '24h',
      'jwt.allow_http': 'loopback',
      'admin.address': '127.0.0.1:4040',
      'access_log.output': 'stdout',
      upstream_hosts: {},
      'substitutions.values': {},
    })
  })
})

describe('values of settings', () => {
  it.each([
    ['workers: 8', 'workers', 8],
    ['jwt: {allow_http: true}', 'jwt', expect.objectContaining({ allowHttp: true })],
    ['admin: {address: ""}', 'admin', { address: undefined }],
    ['admin: {address: off}', 'admin', { address: undefined }],
    ['admin: {address: ":9"}', 'admin', { address: { host: '0.0.0.0', port: 9 } }],
    ['access_log: {output: stderr}', 'accessLog', { output: 'stderr' }],
    ['state_dir: s', 'stateDir', 's'],
  ])('%s', (line, key, value) => {
    const loaded = load({ 'gateway.yaml': line })
    expect(problems(loaded)).toEqual([])
    expect(loaded.settings[key as 'workers']).toEqual(value)
  })

  it.each([
    ['workers: 65', 'OUT_OF_RANGE'],
    ['workers: many', 'WRONG_TYPE'],
    ['jwt: {allow_http: yes}', 'NOT_ONE_OF'],
    ['admin: {address: localhost}', 'INVALID_ADDRESS'],
    ['listeners: [{address: ""}]', 'INVALID_ADDRESS'],
    ['trusted_proxies: [10.0.0.0/33]', 'INVALID_CIDR'],
    ['trusted_proxies: [::1, ::1]', 'DUPLICATE_VALUE'],
    ['limits: {uri: 1KiB}', 'OUT_OF_RANGE'],
    ['limits: {headers: 2MiB}', 'OUT_OF_RANGE'],
    ['drain: {timeout: 1000h}', 'OUT_OF_RANGE'],
    ['rate_limit: {on_store_error: ignore}', 'NOT_ONE_OF'],
    ['version: 3', 'UNKNOWN_KEY'],
    ['on_http_request: []', 'UNKNOWN_KEY'],
    ['waf: {include_before: [nope.conf]}', 'FILE_NOT_FOUND'],
  ])('%s is refused', (line, code) => {
    expect(load({ 'gateway.yaml': line }).diagnostics.all.map((it) => it.code)).toEqual([code])
  })
})

describe('config/gateway.schema.json', () => {
  const file = new URL('gateway.schema.json', FOLDER)
  interface SchemaDocument {
    $defs: Record<string, unknown>
    properties: Record<string, { properties?: Record<string, unknown>; [key: string]: unknown }>
  }
  const generated = JSON.parse(JSON.stringify(gatewayJsonSchema())) as SchemaDocument

  it('is what the settings give (npm run generate writes it)', () => {
    const committed = JSON.parse(readFileSync(file, 'utf8')) as SchemaDocument
    // the schema of policies comes from the actions, not from here
    expect(Object.keys(committed.$defs)).toContain('policy')
    expect({ ...committed, $defs: committed.$defs['expansion'] }).toEqual({
      ...generated,
      $defs: generated.$defs['expansion'],
    })
  })

  it('takes in the schema of policies with its definitions', () => {
    const policy = {
      $schema: 'x',
      type: 'object',
      $defs: { rule: { type: 'object' } },
      items: { $ref: '#/$defs/rule' },
    }
    expect(gatewayJsonSchema(policy)['$defs']).toMatchObject({
      rule: { type: 'object' },
      policy: { type: 'object', items: { $ref: '#/$defs/rule' } },
    })
    expect(jsonSchemaText({ type: 'object' }, { title: 't', description: 'd' })).toBe(
      '{\n  "$schema": "https://json-schema.org/draft/2020-12/schema",\n  "title": "t",\n  "description": "d",\n  "type": "object"\n}\n',
    )
  })

  it('has the keys, defaults and meanings of the reference', () => {
    for (const { key, default: value, meaning } of describeSettings()) {
      if (key.includes('[]')) continue
      const found = key
        .split('.')
        .reduce<{ properties?: Record<string, unknown> } | undefined>(
          (schema, name) => schema?.properties?.[name] as { properties?: Record<string, unknown> } | undefined,
          generated,
        )
      expect(found, key).toMatchObject({ description: meaning })
      if (value !== undefined) expect((found as { default?: unknown }).default, key).toEqual(value)
    }
  })

  it('lets single values be ${NAME}', () => {
    expect(generated.properties['log_level']).toMatchObject({
      anyOf: [{ enum: expect.arrayContaining(['info']) as string[] }, { $ref: '#/$defs/expansion' }],
      default: 'info',
    })
    expect(generated.properties['limits']?.properties?.['headers']).toMatchObject({
      anyOf: [{ type: ['string', 'integer'] }, { $ref: '#/$defs/expansion' }],
    })
  })
})
