/** Dockerfile, docker-compose.yml and .dockerignore: what they name is there, and what the image promises is in them. */
import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { loadConfiguration } from '../../../src/config/load.ts'
import { renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { nodeOf, readerOf } from '../config/memory-files.ts'
import type { ConfigNode } from '../../../src/config/node.ts'
import { ROOT, text } from './pages.ts'

/** Instructions with continued lines joined, comments left out. */
const instructions = text('Dockerfile')
  .split('\n')
  .filter((line) => !/^\s*#/.test(line))
  .join('\n')
  .replace(/\\\n/g, ' ')
  .split('\n')
  .filter((line) => line.trim() !== '')
const of = (word: string): string[] =>
  instructions.filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length + 1))

describe('Dockerfile', () => {
  const stages = of('FROM').flatMap((line) => / AS (\w+)$/.exec(line)?.[1] ?? [])
  const copies = of('COPY').map((line) => {
    const words = line.split(/\s+/)
    const from = words.find((word) => word.startsWith('--from='))?.slice('--from='.length)
    return { from, sources: words.filter((word) => !word.startsWith('--')).slice(0, -1) }
  })
  const kept = text('.dockerignore')
    .split('\n')
    .filter((line) => line.startsWith('!'))
    .map((line) => line.slice(1))

  it('copies only what exists, is in the build context, and comes from a stage that exists', () => {
    expect(copies.length).toBeGreaterThan(6)
    for (const { from, sources } of copies) {
      if (from !== undefined) expect(stages).toContain(from)
      else {
        for (const source of sources) {
          expect(existsSync(ROOT + source), source).toBe(true)
          expect(kept, source).toContain(source.replace(/\/$/, ''))
        }
      }
    }
  })

  it('copies everything that the program reads beside its code', () => {
    const last = instructions.slice(instructions.findLastIndex((line) => line.startsWith('FROM ')))
    for (const path of ['dist', 'native', 'node_modules', 'package.json']) {
      expect(
        last.some((line) => line.startsWith('COPY') && line.includes(path)),
        path,
      ).toBe(true)
    }
  })

  it('runs as a fixed user other than root, drains on SIGTERM, and asks the gateway for its health (O-77)', () => {
    expect(of('USER')).toEqual(['10001:10001'])
    expect(of('STOPSIGNAL')).toEqual(['SIGTERM'])
    expect(of('HEALTHCHECK')).toEqual([expect.stringMatching(/CMD \["sallyport", "health"\]$/)])
    expect(of('VOLUME')).toEqual(['/var/lib/sallyport'])
    expect(of('ENTRYPOINT')).toEqual(['["sallyport"]'])
  })

  it('installs the rule set while it is built, and downloads nothing at start', () => {
    expect(of('RUN').some((line) => line.includes('crs install'))).toBe(true)
    expect(of('CMD')).toEqual(['["run"]'])
  })

  it('builds with a Node that package.json allows', () => {
    const allowed = (JSON.parse(text('package.json')) as { engines: { node: string } }).engines.node
    expect(allowed).toMatch(/^>=20[.\d]* <23$/)
    for (const base of of('FROM').filter((line) => line.startsWith('node:'))) expect(base).toMatch(/^node:2[0-2]-/)
  })
})

describe('docker-compose.yml', () => {
  const compose = plainOf(nodeOf(text('docker-compose.yml'), 'docker-compose.yml')) as {
    services: Record<string, Record<string, unknown>>
    configs: Record<string, { content: string }>
    volumes: object
  }
  const services = Object.entries(compose.services)

  it('has the gateway, Redis, three services and the issuer', () => {
    expect(Object.keys(compose.services).sort()).toEqual([
      'accounts',
      'baskets',
      'gateway',
      'issuer',
      'messages',
      'redis',
    ])
  })

  it.each(services)('%s refers to files, services, volumes and configs that exist', (_name, service) => {
    for (const volume of (service['volumes'] ?? []) as string[]) {
      const [source = ''] = volume.split(':')
      if (source.startsWith('.')) expect(existsSync(ROOT + source), source).toBe(true)
      else expect(Object.keys(compose.volumes)).toContain(source)
    }
    for (const name of (service['depends_on'] ?? []) as string[]) expect(compose.services).toHaveProperty(name)
    for (const { source } of (service['configs'] ?? []) as { source: string }[]) {
      expect(compose.configs).toHaveProperty(source)
    }
    const network = service['network_mode'] as string | undefined
    if (network !== undefined) expect(compose.services).toHaveProperty(network.replace('service:', ''))
    for (const word of (service['entrypoint'] ?? []) as string[]) {
      if (word.endsWith('.mjs')) expect(existsSync(ROOT + word), word).toBe(true)
    }
  })

  it('the services stand where the example policy looks for them', () => {
    const hosts = text('config/examples/microservices/gateway.yaml')
    for (const name of ['accounts', 'baskets', 'messages']) {
      const [, , service, port] = compose.services[name]!['entrypoint'] as string[]
      expect(hosts).toContain(`${service}.shop.svc.cluster.local:8080: 127.0.0.1:${port}`)
    }
  })

  it('the configuration that it puts together is good, and listens on all addresses', () => {
    const environment = compose.services['gateway']!['environment'] as Record<string, string>
    const files: Record<string, string> = { '/etc/sallyport-listen.yaml': compose.configs['listen']!.content }
    for (const name of ['gateway.yaml', 'policy.yaml', 'manifests.yaml']) {
      files[`/etc/sallyport/${name}`] = text(`config/examples/microservices/${name}`)
    }
    const loaded = loadConfiguration(
      { files: environment['SALLYPORT_CONFIG']!.split(',') },
      readerOf(files, environment),
    )
    expect(loaded.diagnostics.all.map((it) => renderDiagnostic(it))).toEqual([])
    expect(loaded.settings.listeners.map(({ address }) => address)).toEqual(['0.0.0.0:8080'])
    expect(loaded.settings.redis.url).toBe('redis://redis:6379')
    expect(loaded.endpoints).toHaveLength(4)
    // the issuer signs for what the policy asks
    const [, , , issuer, audience] = compose.services['issuer']!['entrypoint'] as string[]
    expect(`${issuer}`.replace('https://', '')).toBe('issuer.example.org')
    expect(text('config/examples/microservices/gateway.yaml')).toContain(`TOKEN_AUDIENCE: ${audience}`)
  })
})

/** YAML as plain values; merge keys are taken over. */
function plainOf(node: ConfigNode): unknown {
  if (node.kind === 'scalar') return node.value
  if (node.kind === 'list') return node.items.map(plainOf)
  const entries = node.entries.map(({ key, value }) => [key, plainOf(value)] as const)
  const merged = entries.flatMap(([key, value]) => (key === '<<' ? Object.entries(value as object) : []))
  return { ...Object.fromEntries(merged), ...Object.fromEntries(entries.filter(([key]) => key !== '<<')) }
}
