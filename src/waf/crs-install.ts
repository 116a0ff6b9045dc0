/**
 * `sallyport crs install`: obtains the OWASP Core Rule Set and puts it under `<state_dir>/crs/<version>`, with
 * `crs/current` pointing at it.
 *
 * Sources in this order: the official release archive, checked file by file against the SHA-256 list in this folder;
 * the Go module of the same project through the `go` command (its own checksum database vouches for it); Debian's
 * package. Whatever comes is written beside its final place first, so that a broken download never replaces rules that
 * work.
 */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { gunzipSync } from 'node:zlib'
import manifest from './crs-manifest.json' with { type: 'json' }
import { readTar } from './tar.ts'

const run = promisify(execFile)

const RELEASE: CrsRelease = {
  version: manifest.version,
  url: `https://github.com/coreruleset/coreruleset/archive/refs/tags/v${manifest.version}.tar.gz`,
  files: manifest.files,
}
const GO_MODULE = 'github.com/corazawaf/coraza-coreruleset/v4'
const GO_VERSION = 'v4.25.0'
const DEBIAN_PACKAGE = 'modsecurity-crs'

/** Without internet the first source must fail in seconds. */
const CONNECT_TIMEOUT_MS = 5_000
const DOWNLOAD_TIMEOUT_MS = 60_000
const COMMAND_TIMEOUT_MS = 120_000
const MAX_ARCHIVE_BYTES = 32 * 1024 * 1024

/** Where a rule set may come from. */
export type CrsSource = 'release' | 'go' | 'debian'

export interface CrsInstallation {
  readonly version: string
  readonly source: string
  readonly folder: string
}

/** A release archive and what must be in it. */
export interface CrsRelease {
  readonly version: string
  /** A `.tar.gz` with one top folder. */
  readonly url: string
  /** Path below the top folder → SHA-256, hexadecimal. */
  readonly files: Readonly<Record<string, string>>
}

interface Source {
  readonly name: string
  /** Fills `folder` with `crs-setup.conf.example` and `rules/`; answers the version. */
  fetch(folder: string, release: CrsRelease): Promise<string>
}

const SOURCES: ReadonlyMap<CrsSource, Source> = new Map<CrsSource, Source>([
  ['release', { name: 'release archive', fetch: fromRelease }],
  ['go', { name: `Go module ${GO_MODULE}@${GO_VERSION}`, fetch: fromGoModule }],
  ['debian', { name: `Debian package ${DEBIAN_PACKAGE}`, fetch: fromDebian }],
])

export interface InstallOptions {
  readonly stateDir: string
  /** Told what is tried and what came of it, a line each. */
  readonly say: (line: string) => void
  /** Only this source; default: each in turn. */
  readonly from?: CrsSource
  /** Instead of the official release: a mirror of it, or a release of one's own. */
  readonly release?: CrsRelease
}

/** Rejects with one sentence that names every source tried. */
export async function installCrs(options: InstallOptions): Promise<CrsInstallation> {
  const { stateDir, say, from, release = RELEASE } = options
  const home = join(stateDir, 'crs')
  await mkdir(home, { recursive: true })
  const problems: string[] = []
  for (const [key, source] of SOURCES) {
    if (from !== undefined && from !== key) continue
    const name = key === 'release' ? `${source.name} v${release.version}` : source.name
    say(`trying the ${name}`)
    const staging = await mkdtemp(join(home, '.incoming-'))
    try {
      const version = await source.fetch(staging, release)
      const folder = join(home, version)
      // made for its owner alone, but whoever runs the gateway reads the rules
      await chmod(staging, 0o755)
      await replaceFolder(folder, staging)
      await pointTo(join(home, 'current'), version)
      say(`installed the Core Rule Set ${version} from the ${name}`)
      return { version, source: name, folder }
    } catch (error) {
      const problem = problemOf(error)
      say(`  not from there: ${problem}`)
      problems.push(`${name} (${problem})`)
    } finally {
      await rm(staging, { recursive: true, force: true })
    }
  }
  throw new Error(`no Core Rule Set could be installed; tried: ${problems.join('; ')}`)
}

async function fromRelease(folder: string, release: CrsRelease): Promise<string> {
  const archive = gunzipSync(await download(release.url), { maxOutputLength: 4 * MAX_ARCHIVE_BYTES })
  const wanted = new Map(Object.entries(release.files))
  for (const { path, content } of readTar(archive)) {
    // the archive has one top folder, coreruleset-<version>/
    const name = path.slice(path.indexOf('/') + 1)
    const sum = wanted.get(name)
    if (sum === undefined) continue
    const found = createHash('sha256').update(content).digest('hex')
    if (found !== sum) throw new Error(`${name} has the SHA-256 ${found}, not ${sum}`)
    await mkdir(dirname(join(folder, name)), { recursive: true })
    await writeFile(join(folder, name), content)
    wanted.delete(name)
  }
  if (wanted.size > 0) throw new Error(`${[...wanted.keys()][0]} is missing in the archive`)
  return release.version
}

async function download(url: string): Promise<Buffer> {
  // fetch has no connect time-out of its own: nothing heard within it counts as unreachable
  const connecting = new AbortController()
  const timer = setTimeout(() => connecting.abort(new Error('no connection in time')), CONNECT_TIMEOUT_MS)
  const signal = AbortSignal.any([connecting.signal, AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS)])
  try {
    const response = await fetch(url, { signal })
    clearTimeout(timer)
    if (!response.ok || response.body === null) throw new Error(`status ${response.status}`)
    const chunks: Uint8Array[] = []
    let bytes = 0
    for await (const chunk of response.body) {
      bytes += chunk.length
      if (bytes > MAX_ARCHIVE_BYTES) throw new Error('the archive is too large')
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  } finally {
    clearTimeout(timer)
  }
}

async function fromGoModule(folder: string): Promise<string> {
  const { stdout } = await run('go', ['mod', 'download', '-json', `${GO_MODULE}@${GO_VERSION}`], {
    cwd: tmpdir(),
    timeout: COMMAND_TIMEOUT_MS,
  })
  const { Dir: module } = JSON.parse(stdout) as { Dir?: string }
  if (module === undefined) throw new Error('the go command named no folder')
  await copyRules(join(module, 'rules', '@owasp_crs'), join(module, 'rules', '@crs-setup.conf.example'), folder)
  return GO_VERSION.slice(1)
}

async function fromDebian(folder: string): Promise<string> {
  const work = await mkdtemp(join(tmpdir(), 'sallyport-crs-'))
  try {
    await downloadPackage(work)
    const archive = (await readdir(work)).find((name) => name.endsWith('.deb'))
    if (archive === undefined) throw new Error('apt-get downloaded nothing')
    await run('dpkg', ['-x', join(work, archive), join(work, 'root')], { timeout: COMMAND_TIMEOUT_MS })
    const setup = join(work, 'root', 'etc', 'modsecurity', 'crs', 'crs-setup.conf')
    await copyRules(join(work, 'root', 'usr', 'share', 'modsecurity-crs', 'rules'), setup, folder)
    // modsecurity-crs_3.3.4-1+deb12u3_all.deb
    return basename(archive).split('_')[1]!.split('-')[0]!
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** A fresh machine has no package lists yet; root may fetch them. */
async function downloadPackage(folder: string): Promise<void> {
  const download = (): Promise<unknown> =>
    run('apt-get', ['download', DEBIAN_PACKAGE], { cwd: folder, timeout: COMMAND_TIMEOUT_MS })
  try {
    await download()
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    if (isMissing || process.getuid?.() !== 0) throw error
    await run('apt-get', ['update', '-qq'], { timeout: COMMAND_TIMEOUT_MS })
    await download()
  }
}

/** Rule and data files, and the set-up under the name that every source shares. */
async function copyRules(from: string, setup: string, folder: string): Promise<void> {
  const names = (await readdir(from)).filter((name) => name.endsWith('.conf') || name.endsWith('.data'))
  if (names.length === 0) throw new Error(`no rule files in ${from}`)
  await mkdir(join(folder, 'rules'), { recursive: true })
  for (const name of names) await writeFile(join(folder, 'rules', name), await readFile(join(from, name)))
  await writeFile(join(folder, 'crs-setup.conf.example'), await readFile(setup))
}

/** The rules that are there stand aside until the new ones are in their place. */
async function replaceFolder(folder: string, next: string): Promise<void> {
  const aside = `${next}.old`
  try {
    await rename(folder, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  await rename(next, folder)
  await rm(aside, { recursive: true, force: true })
}

/** A symbolic link replaced in one step, so that no reader finds it missing. */
async function pointTo(link: string, target: string): Promise<void> {
  const beside = `${link}.new`
  await rm(beside, { force: true })
  await symlink(target, beside)
  await rename(beside, link)
}

function problemOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const code = (error as NodeJS.ErrnoException).code
  if (code === 'ENOENT' && 'path' in error) return `there is no ${String(error.path)} command here`
  const cause = error.cause instanceof Error ? error.cause.message : undefined
  return (cause ?? error.message).split('\n', 1)[0]!
}
