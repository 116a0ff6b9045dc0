/**
 * The only way to the files and variables that make up a configuration. What the primary read is recorded and handed to
 * the workers, so that all of them compile the very same texts.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Diagnostics } from './diagnostic.ts'
import { SourceFile, type Span } from './source.ts'

/** Reads files; records what it read, so that workers can be given the very same texts. */
export interface FileReader {
  /**
   * The text of a file; `-` is standard input. The path stays as given: it is what messages show. Throws an Error with
   * a `code` (`ENOENT`, `EACCES`, `EISDIR`, `TOO_LARGE`, `NOT_TEXT`).
   */
  read(path: string): SourceFile
  /**
   * Files that a path or pattern means, sorted by name: a file itself, the `*.yml`, `*.yaml` and `*.json` of a folder
   * (without `*.schema.json`), or what `*` and `?` match within one name. Empty when there is none.
   */
  list(pattern: string): string[]
  /** An environment variable; undefined when it is not set. */
  variable(name: string): string | undefined
}

/** What a DiskReader read: plain JSON. */
export interface RecordedFiles {
  /** What relative paths are relative to. */
  readonly folder: string
  /** By absolute path; `-` for standard input. */
  readonly files: Readonly<Record<string, string>>
  readonly globs: Readonly<Record<string, readonly string[]>>
  /** Only names that were asked for and are set. */
  readonly environment: Readonly<Record<string, string>>
}

/** A file that cannot be had. */
export class FileError extends Error {
  override readonly name = 'FileError'
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

const LARGEST_FILE_BYTES = 32 * 2 ** 20
const MOST_MATCHES = 10_000

/** Reads from disk, each file once: a file that changes during a load has one text. */
export class DiskReader implements FileReader {
  readonly #folder: string
  readonly #environment: Readonly<Record<string, string | undefined>>
  readonly #files = new Map<string, string>()
  readonly #globs = new Map<string, string[]>()
  readonly #names = new Map<string, string>()

  /** `folder`: what relative paths are relative to. */
  constructor(folder: string = process.cwd(), environment: Readonly<Record<string, string | undefined>> = process.env) {
    this.#folder = resolve(folder)
    this.#environment = environment
  }

  read(path: string): SourceFile {
    const key = keyOf(this.#folder, path)
    let text = this.#files.get(key)
    if (text === undefined) {
      text = readText(key, path)
      this.#files.set(key, text)
    }
    return new SourceFile(shownPath(path), text)
  }

  list(pattern: string): string[] {
    const known = this.#globs.get(pattern)
    if (known !== undefined) return [...known]
    const found = pattern === '-' ? ['-'] : listFiles(this.#folder, pattern)
    this.#globs.set(pattern, found)
    return [...found]
  }

  variable(name: string): string | undefined {
    const value = this.#environment[name]
    if (value !== undefined) this.#names.set(name, value)
    return value
  }

  /** Everything read so far. */
  recorded(): RecordedFiles {
    return {
      folder: this.#folder,
      files: Object.fromEntries(this.#files),
      globs: Object.fromEntries(this.#globs),
      environment: Object.fromEntries(this.#names),
    }
  }
}

/** Gives back what a DiskReader recorded, and nothing else. */
export class BundleReader implements FileReader {
  readonly #recorded: RecordedFiles

  constructor(recorded: RecordedFiles) {
    this.#recorded = recorded
  }

  read(path: string): SourceFile {
    const text = own(this.#recorded.files, keyOf(this.#recorded.folder, path))
    if (text === undefined) throw new FileError('ENOENT', `${path}: no such file`)
    return new SourceFile(shownPath(path), text)
  }

  list(pattern: string): string[] {
    return [...(own(this.#recorded.globs, pattern) ?? [])]
  }

  variable(name: string): string | undefined {
    return own(this.#recorded.environment, name)
  }
}

/**
 * A file; undefined, and reported (at `span`, where it is named), when it cannot be read. `called`: what a message calls
 * it, when that is more than its path.
 */
export function readOrReport(
  path: string,
  reader: FileReader,
  diagnostics: Diagnostics,
  span?: Span,
  called: string = path,
): SourceFile | undefined {
  try {
    return reader.read(path)
  } catch (error) {
    const { code, message } = readFailure(error)
    diagnostics.error(code, `${called}: ${message}`, span)
    return undefined
  }
}

/** What a FileError or a system error of reading means, in words. */
function readFailure(error: unknown): { readonly code: string; readonly message: string } {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  if (code === 'ENOENT' || code === 'ENOTDIR') return { code: 'FILE_NOT_FOUND', message: 'no such file' }
  if (code === 'EACCES' || code === 'EPERM') return { code: 'FILE_NOT_READABLE', message: 'permission denied' }
  if (code === 'EISDIR') return { code: 'FILE_NOT_READABLE', message: 'this is a folder, not a file' }
  if (code === 'TOO_LARGE')
    return { code: 'FILE_TOO_LARGE', message: `larger than ${LARGEST_FILE_BYTES / 2 ** 20} MiB` }
  if (code === 'NOT_TEXT') return { code: 'FILE_NOT_TEXT', message: 'not UTF-8 text' }
  return { code: 'FILE_NOT_READABLE', message: error instanceof Error ? error.message : String(error) }
}

function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined
}

function keyOf(folder: string, path: string): string {
  return path === '-' ? '-' : resolve(folder, path)
}

function shownPath(path: string): string {
  return path === '-' ? '<stdin>' : path
}

function readText(key: string, path: string): string {
  if (key !== '-' && statSync(key).size > LARGEST_FILE_BYTES) throw new FileError('TOO_LARGE', `${path} is too large`)
  const bytes = readFileSync(key === '-' ? 0 : key)
  if (bytes.length > LARGEST_FILE_BYTES) throw new FileError('TOO_LARGE', `${path} is too large`)
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: false }).decode(bytes)
  } catch (error) {
    throw new FileError('NOT_TEXT', `${path} is not UTF-8 text`, { cause: error })
  }
}

function listFiles(folder: string, pattern: string): string[] {
  if (!/[*?]/.test(pattern)) {
    const kind = kindOf(folder, pattern)
    if (kind === 'file') return [pattern]
    if (kind === undefined) return []
    return namesIn(folder, pattern)
      .filter((name) => /\.(ya?ml|json)$/.test(name) && !/(^\.|\.schema\.json$)/.test(name))
      .map((name) => join(pattern, name))
      .filter((path) => kindOf(folder, path) === 'file')
  }
  let paths = [pattern.startsWith('/') ? '/' : '']
  const segments = pattern.split('/').filter((segment) => segment !== '')
  for (const [index, segment] of segments.entries()) {
    const last = index === segments.length - 1
    const next = paths.flatMap((path) => {
      if (!/[*?]/.test(segment)) return [join(path, segment)]
      const match = patternOf(segment)
      return namesIn(folder, path === '' ? '.' : path)
        .filter((name) => match.test(name))
        .map((name) => join(path, name))
    })
    paths = next.filter((path) => kindOf(folder, path) === (last ? 'file' : 'folder')).slice(0, MOST_MATCHES)
  }
  return paths
}

/** `*` and `?` never match a leading dot: Kubernetes mounts hold hidden folders. */
function patternOf(segment: string): RegExp {
  const body = segment
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${segment.startsWith('.') ? '' : '(?!\\.)'}${body}$`, 's')
}

function namesIn(folder: string, path: string): string[] {
  try {
    // by code unit: the same order on every machine, whatever its locale
    return readdirSync(resolve(folder, path)).sort()
  } catch {
    return [] // what cannot be listed matches nothing; the caller says so
  }
}

function kindOf(folder: string, path: string): 'file' | 'folder' | undefined {
  try {
    const stats = statSync(resolve(folder, path), { throwIfNoEntry: false })
    return stats === undefined ? undefined : stats.isDirectory() ? 'folder' : 'file'
  } catch {
    return 'file' // reading it will say why it cannot be had
  }
}
