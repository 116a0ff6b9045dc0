/** Reference tables and the code say the same: settings, actions, errors, reasons, metrics, log fields, exit codes. */
import { readdirSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { makeCertificate } from '../../support/certificates.ts'
import { accessLine, emptyAccessRecord } from '../../../src/access-log/record.ts'
import { ACTIONS } from '../../../src/actions/index.ts'
import { environmentName as flagVariable } from '../../../src/cli/arguments.ts'
import { VERBS } from '../../../src/cli/command-line.ts'
import { EXIT } from '../../../src/cli/verb.ts'
import { Diagnostics, renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { parseDocuments } from '../../../src/config/document.ts'
import { environmentName } from '../../../src/config/load.ts'
import { describeSettings } from '../../../src/config/settings.ts'
import { SourceFile } from '../../../src/config/source.ts'
import { FAMILIES } from '../../../src/metrics/families.ts'
import { compilePolicy } from '../../../src/policy/compile.ts'
import { parsePolicy } from '../../../src/policy/parse.ts'
import { ERRORS, type ErrorEntry } from '../../../src/response/gateway-error.ts'
import { load, problems } from '../config/memory-files.ts'
import { codeBlocks, codeSpans, PAGES, ROOT, rows, section, text } from './pages.ts'

const plain = (cell: string | undefined): string => (cell ?? '').replaceAll('`', '')
const spansOf = (cell: string | undefined): string[] => codeSpans(cell ?? '')
const sources = readdirSync(`${ROOT}src`, { recursive: true })
  .map(String)
  .filter((path) => path.endsWith('.ts'))
const operations = text('docs/operations.md')
const policy = text('docs/policy.md')

describe('settings', () => {
  const keys = new Set(describeSettings().map(({ key }) => key))
  const sections = new Set([...keys].filter((key) => /[.[]/.test(key)).map((key) => key.split(/[.[]/, 1)[0]!))

  it.each(PAGES)('%s names only settings that exist', (path) => {
    for (const span of codeSpans(text(path))) {
      const [key] = span.split(': ', 1)
      if (key === undefined || !/^[a-z_]+(?:\[\])?(?:\.[a-z_]+)+$/.test(key)) continue
      if (!sections.has(key.split(/[.[]/, 1)[0]!) || /\.(?:ts|rs|md|yaml|yml|mjs|conf|json)$/.test(key)) continue
      const known = keys.has(key) || [...keys].some((other) => other.startsWith(`${key}.`))
      expect(known, `${path}: ${key}`).toBe(true)
    }
  })

  it.each(PAGES)('%s names only variables that something reads', (path) => {
    const excluded = /^(?:listeners|endpoints|upstream_hosts|substitutions\.)/
    const known = new Set([
      ...[...keys].filter((key) => !excluded.test(key)).map((key) => environmentName(key)),
      ...VERBS.flatMap(({ flags }) =>
        Object.entries(flags).flatMap(([name, flag]) => (flag.only === 'command-line' ? [] : [flagVariable(name)])),
      ),
      'SALLYPORT_ADMIN_TOKEN',
    ])
    for (const [name] of text(path).matchAll(/\bSALLYPORT_[A-Z_]*[A-Z]\b/g)) {
      expect(known.has(name) || known.has(name.replace(/_FILE$/, '')), `${path}: ${name}`).toBe(true)
    }
  })

  it('configuration.md lists what needs a restart as the primary does', () => {
    const source = text('src/process/primary.ts')
    const facts = source.slice(source.indexOf('function needsRestart'))
    const wanted = [...facts.slice(0, facts.indexOf('const now')).matchAll(/\['([a-z_.]+)',/g)].map(
      (match) => match[1]!,
    )
    const named = codeSpans(section(text('docs/configuration.md'), 'What needs a restart'))
    expect(wanted.length).toBeGreaterThan(5)
    expect([...named].sort()).toEqual([...wanted].sort())
  })
})

describe('examples in the pages', () => {
  const made = ['shop', 'example'].map((name) => [name, makeCertificate({ names: `DNS:${name}.example.org` })] as const)
  const CERTIFICATES = Object.fromEntries(
    made.flatMap(([name, { certificate, key }]) => [
      [`tls/${name}.pem`, certificate],
      [`tls/${name}.key`, key],
    ]),
  )
  const blocks = PAGES.flatMap((path) =>
    codeBlocks(text(path))
      .filter(({ language }) => language === 'yaml')
      .map(({ code }, index) => ({ name: `${path} (${index + 1})`, code })),
  )

  it.each(blocks)('$name is accepted', ({ code }) => {
    // policy tests are played in test/unit/offline
    if (/^tests:/m.test(code)) return
    if (/^on_\w+:/m.test(code)) {
      const diagnostics = new Diagnostics()
      const [document] = parseDocuments(new SourceFile('page', code), diagnostics)
      if (document?.kind !== 'map') throw new Error('not a mapping')
      const { settings } = load({ 'gateway.yaml': '' })
      compilePolicy(parsePolicy(document, diagnostics), {
        settings,
        diagnostics,
        identity: 'page',
        scheme: 'http',
        mustTerminate: false,
      })
      expect(diagnostics.all.map((it) => renderDiagnostic(it))).toEqual([])
      return
    }
    const manifest = (name: string): string =>
      `apiVersion: ngrok.k8s.ngrok.com/v1alpha1\nkind: AgentEndpoint\nmetadata: {name: ${name}}\nspec: {url: "https://${name}.internal", upstream: {url: "http://${name}-service.default.svc.cluster.local:8080"}}\n`
    const files = {
      ...CERTIFICATES,
      'policy.yaml': 'on_http_request: [{actions: [{type: deny}]}]',
      'manifests.yaml': `${manifest('user')}---\n${manifest('order')}`,
    }
    const isAgentFile = /^version: 3$/m.test(code)
    const loaded = isAgentFile
      ? load({ 'ngrok.yml': code }, { files: [], agent: { files: ['ngrok.yml'], names: 'all' } })
      : load({ 'gateway.yaml': code, ...files }, {}, { JWT_AUDIENCE: 'api' })
    expect(problems(loaded)).toEqual([])
  })

  it('there are some', () => {
    expect(blocks.length).toBeGreaterThanOrEqual(5)
  })
})

describe('actions', () => {
  it('policy.md has exactly the actions that are built, with their phases', () => {
    const letters = {
      on_tcp_connect: 'connect',
      on_http_request: 'request',
      on_http_response: 'response',
      on_event_stream_message: 'event',
    } as const
    const table = section(policy, 'Actions').split('\n### ', 1)[0]!
    const named = Object.fromEntries(rows(table).map(([name, phases]) => [plain(name), phases]))
    const built = [...new Set(ACTIONS.values())].map(({ type, phases }) => [
      type,
      phases.map((phase) => letters[phase]).join(', '),
    ])
    expect(named).toEqual(Object.fromEntries(built))
  })
})

describe('errors and reasons', () => {
  it('every error answer is in policy.md with its codes, status and text, and no other', () => {
    const documented = rows(section(policy, 'Error answers'))
      .slice(1) // the head of the table
      .map((cells) => cells.map(plain))
    const wanted = Object.values(ERRORS).map((entry: ErrorEntry) => [
      `ERR_GW_${entry.gw}`,
      entry.ngrok === undefined ? 'none' : `ERR_NGROK_${entry.ngrok}`,
      String(entry.status),
      entry.message,
    ])
    expect(documented.map((row) => row.join(' | ')).sort()).toEqual(wanted.map((row) => row.join(' | ')).sort())
    expect(new Set(wanted.map(([gw]) => gw)).size).toBe(wanted.length)
  })

  it('every reason of the access log is in operations.md, and no other', () => {
    const table = section(operations, 'Reasons')
    const documented = rows(table)
      .filter((cells) => cells.length === 2)
      .map(([reason]) => plain(reason).replace(/:<.*/, ''))
    const source = text('src/response/reason.ts')
    const known = [...source.matchAll(/^ {2}\| ['`]([a-z_]+)/gm)].map((match) => match[1]!)
    expect(known.length).toBeGreaterThan(15)
    // the front end's own word for a full table
    expect(documented.sort()).toEqual([...known, 'overload'].sort())
  })

  it('every rule of a bad request is in operations.md with its statuses', () => {
    const found = new Map<string, Set<string>>()
    const add = (rule: string, status: string): unknown =>
      found.set(rule, (found.get(rule) ?? new Set<string>()).add(status))
    for (const [, status, rule] of text('src/listener/read-head.ts').matchAll(/refusal\((\d+), '([HF]-\d+)'/g)) {
      add(rule!, status!)
    }
    for (const entry of Object.values(ERRORS)) {
      if (entry.reason.startsWith('bad_request:')) add(entry.reason.slice('bad_request:'.length), String(entry.status))
    }
    for (const path of sources) {
      for (const [, rule] of text(`src/${path}`).matchAll(/'bad_request:([A-Z]-\d+)'/g)) add(rule!, '')
    }
    const documented = rows(section(operations, 'Reasons')).filter((cells) => cells.length === 3)
    for (const [rule, statuses] of found) {
      const row = documented.find(([rules]) => spansOf(rules).includes(rule))
      expect(row, rule).toBeDefined()
      for (const status of statuses) expect(row![1], rule).toContain(status)
    }
    expect(found.size).toBeGreaterThan(10)
  })

  it('every exit code is in operations.md', () => {
    const table = section(operations, 'Starting and stopping')
    const documented = [...table.matchAll(/^\| (\d+) \|/gm)].map((match) => Number(match[1]))
    expect(documented.sort()).toEqual(Object.values(EXIT).sort())
  })
})

describe('metrics and log', () => {
  const metrics = section(operations, 'Metrics')

  it('operations.md has every series with its labels and help, and no other', () => {
    const documented = rows(metrics).map(([name, labels, help]) => `${plain(name)} {${labels}} ${help}`)
    const families = Object.values(FAMILIES).map(({ name, labels, help }) => `${name} {${labels.join(', ')}} ${help}`)
    expect(documented).toEqual(families)
  })

  it('operations.md names exactly the series that nothing counts', () => {
    const methods = text('src/metrics/metrics.ts').split(/^ {2}(?=\w+\()/m)
    const callers = sources
      .filter((path) => path !== 'metrics/families.ts' && path !== 'metrics/metrics.ts')
      .map((path) => text(`src/${path}`))
      .join('\n')
    const idle = Object.entries(FAMILIES).filter(([key]) => {
      const countedBy = methods.filter((body) => body.includes(`'${key}'`)).map((body) => /^\w+/.exec(body)?.[0] ?? '')
      // counted by the registry itself, or by a method that somebody calls, or by its key
      if (countedBy.includes('constructor')) return false
      const isCalled = countedBy.some((name) => name !== '' && new RegExp(`\\.${name}\\(`).test(callers))
      return !isCalled && !new RegExp(`[a-z]\\(\\s*'${key}'`).test(callers)
    })
    const internal = ['sallyport_metrics_dropped_series_total']
    const named = /Declared and not counted yet: ([^.]*)\./.exec(metrics.replace(/\n/g, ' '))?.[1] ?? ''
    expect(codeSpans(named).sort()).toEqual(
      idle
        .map(([, { name }]) => name)
        .filter((name) => !internal.includes(name))
        .sort(),
    )
  })

  it('every field of an access log line is in operations.md', () => {
    const full = Object.fromEntries(
      Object.entries(emptyAccessRecord()).map(([key, value]) => [key, value === '' ? 'x' : value === -1 ? 1 : value]),
    )
    const record = { ...emptyAccessRecord(), ...full, wafRuleIds: [1], logs: ['{}', `"${'x'.repeat(9000)}"`] }
    const fields = Object.keys(JSON.parse(accessLine(record)) as object)
    const named = new Set(rows(section(operations, 'Access log')).flatMap((cells) => cells.flatMap(spansOf)))
    expect(fields.length).toBeGreaterThan(28)
    for (const field of fields) expect(named, field).toContain(field)
  })
})
