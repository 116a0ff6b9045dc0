/**
 * Published Traffic Policy documents and expressions through our loader and policy compiler.
 *
 * Every document loads, or is refused where its folder or the index says that it is invalid. One whose only errors are
 * about parts that are not built or not served yet counts as skipped and is listed by what it waits for.
 * The folder is `../shared/policies` beside the checkout, or SALLYPORT_POLICIES_DIR; its README describes the format.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import type { AgentInput } from '../../../src/config/agent-file.ts'
import { Diagnostics, renderDiagnostic, type Diagnostic } from '../../../src/config/diagnostic.ts'
import { BundleReader, type FileReader, loadConfiguration, parseDocuments } from '../../../src/config/load.ts'
import type { ConfigNode, MapNode } from '../../../src/config/node.ts'
import { SourceFile } from '../../../src/config/source.ts'
import { compileExpression } from '../../../src/expression/expression.ts'
import { compilePolicy } from '../../../src/policy/compile.ts'
import { parsePolicy } from '../../../src/policy/parse.ts'
import { checkConfiguration } from '../../../src/process/snapshot.ts'
import { CERTIFICATE, fillPlaceholders } from './placeholders.ts'

const checkout = fileURLToPath(new URL('../../../', import.meta.url))
const given = process.env['SALLYPORT_POLICIES_DIR']
const directory = given ?? join(checkout, '..', 'shared', 'policies')

interface Expectations {
  /** Documents that may come out otherwise than their folder says, with the reason. */
  readonly documents: Readonly<Record<string, string>>
  /** Expressions likewise. */
  readonly expressions: Readonly<Record<string, string>>
  /** Fewest documents and expressions that must come out as expected. */
  readonly floor: { readonly documents: number; readonly expressions: number }
}

const expectations = parse(readFileSync(new URL('expectations.yaml', import.meta.url), 'utf8')) as Expectations

/** Errors that say "not yet", not "wrong". */
const WAITING = new Set([
  'IP_POLICY_NOT_SERVED',
  'ENDPOINT_NOT_SERVED',
  'UPSTREAM_NOT_SERVED',
  // what another front end could do
  'TLS_RANGE',
  'TLS_STRATEGY',
  'TLS_INTERPOLATION',
])

function isWaiting({ code }: Diagnostic): boolean {
  return WAITING.has(code)
}

type Carrier = 'policy' | 'manifest' | 'agent configuration'

/** Everything that loading and compiling a document says. */
async function problemsOf(carrier: Carrier, text: string): Promise<readonly Diagnostic[]> {
  if (carrier === 'policy') return checked({ 'policy.yaml': text }, policySettings(text))
  const documents = parseDocuments(new SourceFile('document.yaml', text), new Diagnostics())
  const policies = documents.flatMap((document) => policiesIn(document))
  if (carrier === 'agent configuration') {
    const isWhole = documents.some((document) => textAt(document, 'version') !== undefined)
    if (isWhole) return checked({ 'ngrok.yml': text }, listenersFor(text), { files: ['ngrok.yml'], names: 'all' })
    // an excerpt; its policies are policies all the same
    return policies.flatMap((policy) => compiled(policy))
  }
  const settings = `${listenersFor(text)}manifests: [document.yaml]\n`
  const said = await checked({ 'document.yaml': text }, settings)
  // a policy that no endpoint of the document names is compiled by itself
  const alone = documents.filter((document) => textAt(document, 'kind') === 'NgrokTrafficPolicy')
  return [...said, ...alone.flatMap((document) => policiesIn(document)).flatMap((policy) => compiled(policy))]
}

function policySettings(text: string): string {
  const scheme = /\burl:\s*["']?(tcp|tls):\/\//.exec(text)?.[1]
  const endpoint =
    scheme === undefined
      ? `{name: it, url: "${terminatesTls(text) ? 'https://it.example.org:443' : 'http://it.example.org:8080'}", upstream: {url: 8000}, traffic_policy_file: policy.yaml}`
      : `{name: it, url: "${scheme}://it.example.org:5000", upstream: {url: "tcp://localhost:5000"}, traffic_policy_file: policy.yaml}`
  return `${listenersFor(text)}waf: {rules: rules}\nendpoints: [${endpoint}]\n`
}

const terminatesTls = (text: string): boolean => /terminate[-_]tls/.test(text)

/** TLS is terminated where TLS is spoken, by the engine that can be told how. */
function listenersFor(text: string): string {
  const tls = '{address: 0.0.0.0:443, engine: native, tls: {certificates: [{certificate: it.pem, key: it.key}]}}'
  return `listeners: [{address: 0.0.0.0:8080}${terminatesTls(text) ? `, ${tls}` : ''}]\n`
}

async function checked(
  files: Readonly<Record<string, string>>,
  settings: string,
  agent?: AgentInput,
): Promise<readonly Diagnostic[]> {
  const texts = new Map([
    ...Object.entries(files),
    ['gateway.yaml', settings],
    ['rules/none.conf', '# no rule\n'],
    ['it.pem', CERTIFICATE.certificate],
    ['it.key', CERTIFICATE.key],
  ])
  const reader: FileReader = {
    read: (path) => new SourceFile(path, texts.get(path)!),
    list: (pattern) => (pattern === 'rules/*.conf' ? ['rules/none.conf'] : [pattern].filter((path) => texts.has(path))),
    variable: () => undefined,
  }
  const loaded = loadConfiguration({ files: ['gateway.yaml'], ...(agent && { agent }) }, reader)
  await checkConfiguration(loaded, reader, 'state')
  return loaded.diagnostics.all
}

/** A policy by itself, as an agent endpoint would have it. */
function compiled(policy: MapNode): readonly Diagnostic[] {
  const nothing = new BundleReader({ folder: '/m', files: {}, globs: {}, environment: {} })
  const { settings } = loadConfiguration({ files: [], inline: { upstream: '8000', url: 'it.internal' } }, nothing)
  const diagnostics = new Diagnostics()
  const parsed = parsePolicy(policy, diagnostics)
  compilePolicy(parsed, { settings, diagnostics, identity: 'it', scheme: 'http', mustTerminate: false })
  return diagnostics.all
}

/** Every policy in a document of another kind: `traffic_policy`, `policy`, and a manifest's `spec.policy`. */
function policiesIn(node: ConfigNode): MapNode[] {
  if (node.kind === 'list') return node.items.flatMap((item) => policiesIn(item))
  if (node.kind === 'scalar') return []
  return node.entries.flatMap(({ key, value }) =>
    (key === 'traffic_policy' || key === 'policy') && value.kind === 'map' ? [value] : policiesIn(value),
  )
}

function textAt(node: ConfigNode, key: string): string | undefined {
  const value = node.kind === 'map' ? node.entries.find((entry) => entry.key === key)?.value : undefined
  return value?.kind === 'scalar' ? value.text : undefined
}

function documentsOf(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.ya?ml$/.test(name) && statSync(join(folder, name)).isFile())
    .toSorted()
}

function carrierOf(name: string): Carrier {
  const file = name.slice(name.lastIndexOf('/') + 1)
  return file.startsWith('k8s--') ? 'manifest' : file.startsWith('agent-config--') ? 'agent configuration' : 'policy'
}

/** The last column of a `.tsv`, by the first. */
function notesOf(file: string): ReadonlyMap<string, string> {
  if (!existsSync(file)) return new Map()
  const rows = readFileSync(file, 'utf8')
    .split('\n')
    .slice(1)
    .filter((line) => line !== '')
  return new Map(rows.map((line) => line.split('\t')).map((cells) => [cells[0]!, cells.at(-1) ?? '']))
}

if (!existsSync(directory)) {
  test.skip(`skipped: ${directory} is not there`, () => {})
  process.stdout.write(`policy conformance: skipped: ${directory} is not there\n`)
} else {
  test('published documents load, or are refused with the place of the mistake', async () => {
    const notes = notesOf(join(directory, 'index.tsv'))
    const counts = { passed: 0, failed: 0, skipped: 0 }
    const outcomes = { loaded: 0, refused: 0 }
    const waiting = new Map<string, string[]>()
    const unexpected: string[] = []
    for (const name of documentsOf(directory)) {
      const invalid = name.startsWith('invalid/') || (notes.get(name) ?? '').startsWith('INVALID')
      const text = fillPlaceholders(readFileSync(join(directory, name), 'utf8'))
      const errors = (await problemsOf(carrierOf(name), text)).filter(({ severity }) => severity === 'error')
      const wrong = errors.filter((it) => !isWaiting(it))
      const missing = errors.filter((it) => isWaiting(it))
      if (wrong.length === 0 && missing.length > 0) {
        counts.skipped += 1
        for (const what of new Set(
          missing.map(({ message }) =>
            message.replace(/^\S+ is an? /, 'a ').replace(/^req\.user_agent\.\w+/, 'req.user_agent.*'),
          ),
        )) {
          waiting.set(what, [...(waiting.get(what) ?? []), name])
        }
        continue
      }
      const unplaced = wrong.filter(({ span }) => span === undefined)
      const asExpected = wrong.length > 0 === invalid && unplaced.length === 0
      const excused = Object.hasOwn(expectations.documents, name)
      if (wrong.length > 0) outcomes.refused += 1
      else outcomes.loaded += 1
      if (asExpected) counts.passed += 1
      else counts.failed += 1
      if (asExpected === excused) {
        const said = wrong.map((it) => `    ${renderDiagnostic(it).replaceAll('\n', '\n    ')}`).join('\n')
        const what = excused
          ? 'comes out as its folder says, against expectations.yaml'
          : invalid
            ? 'loads, and is invalid'
            : 'is refused'
        unexpected.push(`${name}: ${what}\n${said}`)
      }
    }
    for (const [what, names] of [...waiting].toSorted((a, b) => b[1].length - a[1].length)) {
      process.stdout.write(`  waiting, ${names.length} documents: ${what}\n`)
    }
    process.stdout.write(`  ${outcomes.loaded} load, ${outcomes.refused} are refused\n`)
    process.stdout.write(
      `policy conformance: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`,
    )
    expect(unexpected.join('\n')).toBe('')
    expect(counts.passed).toBeGreaterThanOrEqual(given === undefined ? expectations.floor.documents : 1)
  })

  test('published expressions compile, but for known mistakes', () => {
    const notes = notesOf(join(directory, 'expressions.tsv'))
    const counts = { passed: 0, failed: 0, skipped: 0 }
    const unexpected: string[] = []
    for (const [text, note] of notes) {
      const diagnostics = new Diagnostics()
      const source = new SourceFile('expression', text)
      const whole = { source, start: 0, end: text.length }
      const spanAt = (start: number, length: number) => ({ source, start, end: start + length })
      compileExpression(
        { text, span: whole, spanAt },
        { phase: 'on_http_response', overrides: true, now: () => new Date() },
        diagnostics,
      )
      const errors = diagnostics.all.filter(({ severity }) => severity === 'error')
      if (errors.length > 0 && errors.every((it) => isWaiting(it))) {
        counts.skipped += 1
        continue
      }
      const asExpected = errors.length > 0 === (note !== '')
      const excused = Object.hasOwn(expectations.expressions, text)
      if (asExpected) counts.passed += 1
      else counts.failed += 1
      if (asExpected === excused) {
        unexpected.push(`${text}: note ${JSON.stringify(note)}\n${errors.map((it) => renderDiagnostic(it)).join('\n')}`)
      }
    }
    process.stdout.write(
      `policy expressions: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`,
    )
    expect(unexpected.join('\n')).toBe('')
    if (notes.size > 0) {
      expect(counts.passed).toBeGreaterThanOrEqual(given === undefined ? expectations.floor.expressions : 1)
    }
  })
}
