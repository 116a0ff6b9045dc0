/** Reading from disk, and again from what was read. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Diagnostics, renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { DiskReader, loadBundle, loadConfiguration, type ConfigurationInput } from '../../../src/config/load.ts'
import { BundleReader, readOrReport } from '../../../src/config/reader.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-reader-'))
  mkdirSync(join(folder, 'conf', '..data'), { recursive: true })
  mkdirSync(join(folder, 'conf', 'sub.yaml'))
  const texts: Record<string, string> = {
    'gateway.yaml': [
      'endpoints:',
      '  - {name: a, url: "http://a.example:8080", upstream: {url: "${PORT}"}, traffic_policy_file: p/policy.yaml}',
      'manifests: ["conf/m-*.yaml"]',
      'substitutions: {files: [names.env], environment: [ISSUER]}',
      'redis: {url: "redis://r:6379", password_file: pw}',
    ].join('\n'),
    'conf/b.yaml': 'log_level: debug',
    'conf/a.yml': 'log_level: warn',
    'conf/c.json': '{"region": "x"}',
    'conf/d.schema.json': '{}',
    'conf/e.txt': '',
    'conf/.hidden.yaml': 'log_level: trace',
    'conf/..data/x.yaml': '',
    'conf/m-1.yaml':
      'apiVersion: ngrok.k8s.ngrok.com/v1alpha1\nkind: AgentEndpoint\nmetadata: {name: m}\nspec: {url: "https://m.internal", upstream: {url: 9001}}\n',
    'names.env': 'AUDIENCE=aud\n',
    pw: 'p@ss\n',
    'latin1.yaml': '',
  }
  mkdirSync(join(folder, 'p'))
  writeFileSync(
    join(folder, 'p', 'policy.yaml'),
    'on_http_request: [{actions: [{type: deny, config: {x: "$ISSUER $AUDIENCE $X"}}]}]',
  )
  for (const [path, text] of Object.entries(texts)) writeFileSync(join(folder, path), text)
  writeFileSync(join(folder, 'latin1.yaml'), Buffer.from([0x61, 0xe9, 0xff]))
  symlinkSync('b.yaml', join(folder, 'conf', 'link.yaml'))
})
afterAll(() => {
  rmSync(folder, { recursive: true, force: true })
})

describe('DiskReader', () => {
  it('O-08: a folder means its *.yml, *.yaml and *.json in name order', () => {
    expect(new DiskReader(folder, {}).list('conf')).toEqual(
      ['a.yml', 'b.yaml', 'c.json', 'link.yaml', 'm-1.yaml'].map((name) => join('conf', name)),
    )
  })

  it('patterns match within names, never hidden files', () => {
    const reader = new DiskReader(folder, {})
    expect(reader.list('conf/?.yaml')).toEqual(['conf/b.yaml'])
    expect(reader.list('*/*.yml')).toEqual(['conf/a.yml'])
    expect(reader.list(join(folder, 'conf', 'm-*'))).toEqual([join(folder, 'conf', 'm-1.yaml')])
    expect(reader.list('conf/nope*')).toEqual([])
    expect(reader.list('nope')).toEqual([])
  })

  it('says why a file cannot be had', () => {
    const reader = new DiskReader(folder, {})
    const failure = (path: string): string | undefined => {
      const diagnostics = new Diagnostics()
      expect(readOrReport(path, reader, diagnostics)).toBeUndefined()
      return diagnostics.all[0]?.code
    }
    expect(['nope', 'conf', 'latin1.yaml'].map(failure)).toEqual([
      'FILE_NOT_FOUND',
      'FILE_NOT_READABLE',
      'FILE_NOT_TEXT',
    ])
  })

  it('a file that changes during a load has one text', () => {
    const reader = new DiskReader(folder, {})
    const path = join(folder, 'changing.yaml')
    writeFileSync(path, 'one')
    expect(reader.read('changing.yaml').text).toBe('one')
    writeFileSync(path, 'two')
    expect(reader.read('changing.yaml').text).toBe('one')
    expect(new DiskReader(folder, {}).read(path).text).toBe('two')
  })
})

describe('BundleReader', () => {
  const environment = { PORT: '9001', ISSUER: 'iss', SALLYPORT_LOG_LEVEL: 'debug', SECRET_OF_OTHERS: 'x' }

  it('gives the same result from what was recorded, after JSON and without the files', () => {
    const input: ConfigurationInput = {
      files: ['gateway.yaml'],
      overrides: [{ key: 'workers', text: '2', origin: '--workers' }],
    }
    const reader = new DiskReader(folder, environment)
    const first = loadConfiguration(input, reader)
    const bundle = JSON.parse(JSON.stringify({ input, ...reader.recorded(), folder: '/elsewhere' })) as {
      files: Record<string, string>
    }
    // paths are absolute in the record; a folder that does not exist shows that nothing is read from disk
    const moved = Object.fromEntries(
      Object.entries(bundle.files).map(([path, text]) => [path.replace(folder, '/elsewhere'), text]),
    )
    const second = loadBundle({ ...bundle, files: moved } as never)
    expect(first.diagnostics.all.map((it) => renderDiagnostic(it))).toEqual([
      expect.stringMatching(/policy\.yaml:1:\d+: warning: \$X is not replaced/) as string,
    ])
    expect(second.diagnostics.all.map((it) => renderDiagnostic(it))).toEqual(
      first.diagnostics.all.map((it) => renderDiagnostic(it)),
    )
    expect(JSON.stringify(second.settings)).toBe(JSON.stringify(first.settings))
    expect(JSON.stringify(second.endpoints)).toBe(JSON.stringify(first.endpoints))
    expect(first.settings).toMatchObject({ workers: 2, logLevel: 'debug', redis: { url: 'redis://:p%40ss@r:6379' } })
    expect(first.endpoints.map((endpoint) => endpoint.name)).toEqual(['a', 'm'])
  })

  it('records only variables that were asked for', () => {
    const reader = new DiskReader(folder, environment)
    loadConfiguration({ files: ['gateway.yaml'] }, reader)
    expect(Object.keys(reader.recorded().environment).sort()).toEqual(['ISSUER', 'PORT', 'SALLYPORT_LOG_LEVEL'])
  })

  it('knows nothing else', () => {
    const reader = new BundleReader({ folder: '/', files: {}, globs: {}, environment: {} })
    expect(reader.list('*')).toEqual([])
    expect(reader.variable('constructor')).toBeUndefined()
    expect(() => reader.read('/etc/passwd')).toThrow('no such file')
  })
})
