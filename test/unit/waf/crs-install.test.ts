/**
 * `crs install` against a local server and commands of our own: what is checked, in which order sources are tried, and
 * that rules which work stay until better ones are in their place.
 */
import { createHash } from 'node:crypto'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type CrsRelease, type CrsSource, installCrs } from '../../../src/waf/crs-install.ts'
import { tarGzOf } from './tar-archive.ts'

const CONTENT = { 'rules/a.conf': 'SecRule A', 'rules/a.data': 'words', 'crs-setup.conf.example': 'SecAction' }

let server: Server
let answer: { status: number; body: Buffer | 'hang' }
let folder: string
let path: string | undefined
const said: string[] = []

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-crs-install-'))
  said.length = 0
  path = process.env['PATH']
  // no go, no apt-get: only what a test puts there
  process.env['PATH'] = join(folder, 'bin')
  mkdirSync(join(folder, 'bin'))
  server = createServer((_, response) => {
    if (answer.body === 'hang') response.socket?.destroy()
    else response.writeHead(answer.status).end(answer.body)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
})

afterEach(async () => {
  process.env['PATH'] = path
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  rmSync(folder, { recursive: true, force: true })
})

function releaseOf(version: string, files: Readonly<Record<string, string>> = CONTENT): CrsRelease {
  const sums = Object.entries(files).map(([name, text]) => [name, createHash('sha256').update(text).digest('hex')])
  return {
    version,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v${version}.tar.gz`,
    files: Object.fromEntries(sums),
  }
}

function archiveOf(files: Readonly<Record<string, string>>): Buffer {
  return tarGzOf([
    { path: 'coreruleset-1/', type: '5' },
    ...Object.entries(files).map(([name, content]) => ({ path: `coreruleset-1/${name}`, content })),
  ])
}

function install(release: CrsRelease, from?: CrsSource) {
  const stateDir = join(folder, 'state')
  return installCrs({ stateDir, say: (line) => void said.push(line), release, ...(from && { from }) })
}

/** What readers of the current rules find. */
function current(file: string): string {
  return readFileSync(join(folder, 'state', 'crs', 'current', file), 'utf8')
}

function command(name: string, script: string): void {
  const file = join(folder, 'bin', name)
  writeFileSync(file, `#!/bin/sh\n${script}\n`)
  chmodSync(file, 0o755)
}

describe('the release archive', () => {
  it('is unpacked file by file, named by its version, readable by everybody, and current', async () => {
    answer = { status: 200, body: archiveOf({ ...CONTENT, 'README.md': 'not asked for' }) }
    const installed = await install(releaseOf('4.1.0'))
    expect(installed.version).toBe('4.1.0')
    expect(current('rules/a.conf')).toBe('SecRule A')
    expect(current('rules/a.data')).toBe('words')
    expect(readlinkSync(join(folder, 'state', 'crs', 'current'))).toBe('4.1.0')
    expect(readdirSync(installed.folder).toSorted()).toEqual(['crs-setup.conf.example', 'rules'])
    expect(statSync(installed.folder).mode & 0o777).toBe(0o755)
    expect(said).toEqual([
      'trying the release archive v4.1.0',
      'installed the Core Rule Set 4.1.0 from the release archive v4.1.0',
    ])
  })

  it('replaces the same version and a former one, and leaves nothing half done behind', async () => {
    answer = { status: 200, body: archiveOf(CONTENT) }
    await install(releaseOf('4.1.0'))
    const changed = { ...CONTENT, 'rules/a.conf': 'SecRule B' }
    answer = { status: 200, body: archiveOf(changed) }
    await install(releaseOf('4.1.0', changed))
    expect(current('rules/a.conf')).toBe('SecRule B')
    await install(releaseOf('4.2.0', changed))
    expect(readdirSync(join(folder, 'state', 'crs')).toSorted()).toEqual(['4.1.0', '4.2.0', 'current'])
  })

  it.each([
    [
      'a file with another checksum',
      () => archiveOf({ ...CONTENT, 'rules/a.conf': 'SecRule EVIL' }),
      'rules/a.conf has the SHA-256',
    ],
    ['a missing file', () => archiveOf({ 'rules/a.conf': CONTENT['rules/a.conf'] }), 'is missing in the archive'],
    ['no archive at all', () => Buffer.from('<html>'), 'header'],
    ['an archive cut in transit', () => archiveOf(CONTENT).subarray(0, 100), 'end of file'],
  ])('%s is refused, and the rules that work stay', async (_, body, problem) => {
    answer = { status: 200, body: archiveOf(CONTENT) }
    await install(releaseOf('4.1.0'))
    answer = { status: 200, body: body() }
    await expect(install(releaseOf('4.1.0'), 'release')).rejects.toThrow(problem)
    expect(current('rules/a.conf')).toBe('SecRule A')
    expect(readdirSync(join(folder, 'state', 'crs')).toSorted()).toEqual(['4.1.0', 'current'])
  })

  it('a path that climbs out of the archive is written nowhere', async () => {
    answer = { status: 200, body: archiveOf({ ...CONTENT, '../../evil.conf': 'x' }) }
    await install(releaseOf('4.1.0'))
    expect(readdirSync(join(folder, 'state'))).toEqual(['crs'])
    expect(readdirSync(folder).toSorted()).toEqual(['bin', 'state'])
  })
})

describe('sources in turn', () => {
  const goModule = (): void => {
    const rules = join(folder, 'module', 'rules')
    mkdirSync(join(rules, '@owasp_crs'), { recursive: true })
    writeFileSync(join(rules, '@owasp_crs', 'a.conf'), 'SecRule FROM-GO')
    writeFileSync(join(rules, '@owasp_crs', 'a_test.go'), 'no rule')
    writeFileSync(join(rules, '@crs-setup.conf.example'), 'SecAction')
    command('go', `echo '{"Dir": "${join(folder, 'module')}"}'`)
  }

  it('the Go module when the release cannot be had', async () => {
    goModule()
    answer = { status: 404, body: Buffer.from('') }
    const { version, source } = await install(releaseOf('4.1.0'))
    expect(version).toMatch(/^4\.\d+\.\d+$/)
    expect(source).toContain('Go module')
    expect(current('rules/a.conf')).toBe('SecRule FROM-GO')
    expect(readdirSync(join(folder, 'state', 'crs', 'current', 'rules'))).toEqual(['a.conf'])
    expect(said.map((line) => line.replace(/ \S*\/\S*/, ''))).toEqual([
      'trying the release archive v4.1.0',
      '  not from there: status 404',
      'trying the Go module',
      `installed the Core Rule Set ${version} from the Go module`,
    ])
  })

  it('Debian’s package when there is no go command either', async () => {
    // what apt-get and dpkg leave behind, in the places of the real package
    command('apt-get', 'echo x > modsecurity-crs_3.3.4-1+deb12u3_all.deb')
    command(
      'dpkg',
      'PATH=/bin:/usr/bin; mkdir -p "$3/usr/share/modsecurity-crs/rules" "$3/etc/modsecurity/crs"; ' +
        'echo DEB > "$3/usr/share/modsecurity-crs/rules/a.conf"; echo SETUP > "$3/etc/modsecurity/crs/crs-setup.conf"',
    )
    answer = { status: 200, body: 'hang' }
    const { version } = await install(releaseOf('4.1.0'))
    expect(version).toBe('3.3.4')
    expect(current('rules/a.conf')).toBe('DEB\n')
    expect(current('crs-setup.conf.example')).toBe('SETUP\n')
    expect(said).toContain('  not from there: there is no go command here')
  })

  it('when nothing works, one sentence names every source and why', async () => {
    answer = { status: 503, body: Buffer.from('') }
    await expect(install(releaseOf('4.1.0'))).rejects.toThrow(
      /^no Core Rule Set could be installed; tried: release archive v4\.1\.0 \(status 503\); Go module \S+ \(there is no go command here\); Debian package modsecurity-crs \(there is no apt-get command here\)$/,
    )
    expect(readdirSync(join(folder, 'state', 'crs'))).toEqual([])
  })

  it('only the one that is asked for', async () => {
    answer = { status: 200, body: archiveOf(CONTENT) }
    await expect(install(releaseOf('4.1.0'), 'go')).rejects.toThrow(/tried: Go module/)
    expect(said).toHaveLength(2)
  })
})
