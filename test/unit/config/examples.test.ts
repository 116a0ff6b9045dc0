/** Every example under config/examples loads, and means what its README says. */
import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { DiskReader, loadConfiguration, type LoadedConfiguration } from '../../../src/config/load.ts'
import type { ConfigNode } from '../../../src/config/node.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const names = readdirSync(`${ROOT}config/examples`)

function example(files: readonly string[], environment = {}): LoadedConfiguration {
  return loadConfiguration({ files: files.map((file) => `config/examples/${file}`) }, new DiskReader(ROOT, environment))
}

function texts(node: ConfigNode): string[] {
  if (node.kind === 'scalar') return [node.text]
  if (node.kind === 'list') return node.items.flatMap(texts)
  return node.entries.flatMap(({ key, value }) => [key, ...texts(value)])
}

const messages = (loaded: LoadedConfiguration): string[] => loaded.diagnostics.all.map((it) => renderDiagnostic(it))

describe('config/examples', () => {
  it.each(names)('%s loads without a word, and has a README that names its files', (name) => {
    const loaded = example([`${name}/gateway.yaml`])
    expect(messages(loaded)).toEqual([])
    expect(loaded.endpoints.length).toBeGreaterThan(0)
    const readme = readFileSync(`${ROOT}config/examples/${name}/README.md`, 'utf8')
    for (const file of readdirSync(`${ROOT}config/examples/${name}`)) {
      if (file !== 'README.md') expect(readme).toContain(`\`${file}\``)
    }
  })

  it('llm: the names of the policy come from the settings or the environment', () => {
    const loaded = example(['llm/gateway.yaml'], { JWT_AUDIENCE: 'mine', LLM_ADDRESS: 'http://10.0.0.5:11434' })
    expect(messages(loaded)).toEqual([])
    const [endpoint] = loaded.endpoints
    expect(endpoint).toMatchObject({
      url: { href: 'http://localhost:8080' },
      upstream: { targets: [{ name: '10.0.0.5:11434' }], timers: { firstByteMs: 600_000 } },
    })
    expect(texts(endpoint!.policy!.node)).toEqual(expect.arrayContaining(['mine', 'https://issuer.example.org']))
    expect(loaded.settings.listeners.map(({ address }) => address)).toEqual(['127.0.0.1:8080'])
  })

  it('llm: the policy in the old format has the same actions', () => {
    const today = example(['llm/gateway.yaml'])
    const old = example(['llm/gateway.yaml'], { LLM_POLICY: 'policy-legacy.yml' })
    expect(messages(old)).toEqual([])
    const rules = (loaded: LoadedConfiguration): string[] => texts(loaded.endpoints[0]!.policy!.node.entries[0]!.value)
    expect(old.endpoints[0]!.policy!.node.entries.map(({ key }) => key)).toEqual(['inbound', 'outbound'])
    expect(rules(old)).toEqual(rules(today))
  })

  it('microservices: three services behind one front door', () => {
    const loaded = example(['microservices/gateway.yaml'])
    expect(
      loaded.endpoints.map(({ name, kind, binding, upstream }) => [name, kind, binding, upstream?.targets[0]?.name]),
    ).toEqual([
      ['front', 'cloud', 'public', undefined],
      ['shop/accounts', 'agent', 'internal', '127.0.0.1:9001'],
      ['shop/baskets', 'agent', 'internal', '127.0.0.1:9002'],
      ['shop/messages', 'agent', 'internal', '127.0.0.1:9003'],
    ])
    expect(loaded.settings.listeners.map(({ address }) => address)).toEqual(['127.0.0.1:8080'])
  })

  it('microservices: the CloudEndpoint carries the very policy of policy.yaml', () => {
    const plain = example(['microservices/gateway.yaml'])
    const manifest = example(['microservices/gateway.yaml', 'microservices/with-cloud-endpoint.yaml'])
    expect(messages(manifest)).toEqual([])
    const front = manifest.endpoints.find(({ name }) => name === 'shop/front')
    expect(front).toMatchObject({
      kind: 'cloud',
      url: { href: 'http://localhost:8080' },
      policy: { origin: 'manifest' },
    })
    expect(manifest.endpoints).toHaveLength(4)
    expect(texts(front!.policy!.node)).toEqual(texts(plain.endpoints[0]!.policy!.node))
  })
})
