/** Published manifests and policies, read from the shared folder beside the checkout: what loads and what does not. */
import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { Diagnostics, renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { DiskReader, loadConfiguration } from '../../../src/config/load.ts'
import { policyDocument } from '../../../src/config/policy-source.ts'
import type { FileReader } from '../../../src/config/reader.ts'
import { SourceFile } from '../../../src/config/source.ts'

const FOLDER = fileURLToPath(new URL('../../../../shared/policies/', import.meta.url))
const present = existsSync(FOLDER)
if (!present) console.log('skipped: the collection of published policies is not beside the checkout')

/** Manifests that must be refused here, by the codes they are refused with. */
const REFUSED: Readonly<Record<string, readonly string[]>> = {
  // a template of the operator's own tests, not a url
  'k8s--agentendpoint--operator-domain-controller-labels-agentendpoint.yaml': ['ERR_NGROK_9037'],
  // a tcp url without port (§2.2), and bindings inside trafficPolicy
  'k8s--cloudendpoint--forward-internal--guides-endpoint-types--tcp-endpoints.yaml': ['UNKNOWN_KEY', 'ERR_NGROK_18003'],
}

function loadManifest(file: string): Diagnostics {
  const disk = new DiskReader('/', {})
  const settings = [
    'listeners: [{address: 0.0.0.0:8080}]',
    `manifests: [${JSON.stringify(file)}]`,
    'substitutions: {values: {YOUR_DOMAIN: shop.example.org, NGROK_DOMAIN: shop.example.org}}',
  ].join('\n')
  const reader: FileReader = {
    read: (path) => (path === 'gateway.yaml' ? new SourceFile(path, settings) : disk.read(path)),
    list: (pattern) => (pattern === 'gateway.yaml' ? [pattern] : disk.list(pattern)),
    variable: () => undefined,
  }
  return loadConfiguration({ files: ['gateway.yaml'] }, reader).diagnostics
}

const errorsOf = (diagnostics: Diagnostics) => diagnostics.all.filter(({ severity }) => severity === 'error')

describe.runIf(present)('published documents', () => {
  it('every Kubernetes manifest loads, or is refused for a reason that is written down', () => {
    const files = readdirSync(`${FOLDER}manifests`).filter((name) => name.startsWith('k8s--'))
    const unexpected: string[] = []
    for (const name of files) {
      const errors = errorsOf(loadManifest(`${FOLDER}manifests/${name}`))
      const codes = errors.map(({ code }) => code)
      if (JSON.stringify(codes) !== JSON.stringify(REFUSED[name] ?? [])) {
        unexpected.push(`${name}\n${errors.map((it) => renderDiagnostic(it)).join('\n')}`)
      }
    }
    console.log(`${files.length} manifests, ${Object.keys(REFUSED).length} refused`)
    expect(unexpected).toEqual([])
    expect(files.length).toBeGreaterThanOrEqual(45)
  })

  it('every policy parses without an error, in all YAML styles', () => {
    const reader = new DiskReader(FOLDER, {})
    let count = 0
    for (const sub of ['', 'legacy/', 'generated/', 'invalid/']) {
      for (const name of readdirSync(`${FOLDER}${sub}`)) {
        if (!name.endsWith('.yaml') || name.startsWith('k8s--')) continue
        const diagnostics = new Diagnostics()
        const node = policyDocument(reader.read(`${sub}${name}`), new Map(), diagnostics)
        expect(
          errorsOf(diagnostics).map((it) => renderDiagnostic(it)),
          name,
        ).toEqual([])
        expect(node?.entries.length, name).toBeGreaterThan(0)
        count++
      }
    }
    console.log(`${count} policies`)
    expect(count).toBeGreaterThanOrEqual(220)
  })
})
