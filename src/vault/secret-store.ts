/**
 * What `secrets.get(vault, name)` answers while policies run: the file of vaults, and folders of files as Kubernetes
 * mounts them. A change is seen within a second, without a reload (kubernetes-objects.md §9).
 */
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ownKeys, SealingKeys } from '../sealing/sealing-keys.ts'
import { readSecrets, vaultPath } from './vault-file.ts'

/** How long what was read counts without looking again. */
const FRESH_MS = 1000
const MAX_VALUE_BYTES = 64 * 1024
/** Values from folders that are remembered. */
const REMEMBERED = 1024

/** Where secrets are. */
export interface SecretSources {
  readonly stateDir: string
  /** Keys of the file of vaults, newest first; none: the key that the state folder has. */
  readonly keys: readonly string[]
  /** Folder with a folder per vault and a file per secret. */
  readonly directory: string | undefined
}

/** The keys that seal the file of vaults. Makes one in the state folder where none is given. */
export function vaultKeys({ stateDir, keys }: Pick<SecretSources, 'stateDir' | 'keys'>): SealingKeys {
  return new SealingKeys(keys.length > 0 ? keys : ownKeys(stateDir, 'vault.keys'), 'vault')
}

export class SecretStore {
  readonly #sources: SecretSources
  readonly #path: string
  #keys: SealingKeys | undefined
  #version = ''
  #values: ReadonlyMap<string, ReadonlyMap<string, string>> = new Map()
  #lookedAtMs = -Infinity
  readonly #files = new Map<string, { readonly value: string | undefined; readonly readAtMs: number }>()

  constructor(sources: SecretSources) {
    this.#sources = sources
    this.#path = vaultPath(sources.stateDir)
  }

  /** Undefined when there is none of that name. Never throws: what cannot be read is not there. */
  get(vault: string, name: string): string | undefined {
    this.#look()
    return this.#values.get(vault)?.get(name) ?? this.#fromFolder(vault, name)
  }

  #look(): void {
    const nowMs = performance.now()
    if (nowMs - this.#lookedAtMs < FRESH_MS) return
    this.#lookedAtMs = nowMs
    const stats = statSync(this.#path, { throwIfNoEntry: false })
    const version = stats === undefined ? '' : `${stats.ino} ${stats.mtimeMs} ${stats.size}`
    if (version === this.#version) return
    try {
      this.#keys ??= vaultKeys(this.#sources)
      this.#values = stats === undefined ? new Map() : readSecrets(this.#path, this.#keys)
      this.#version = version
    } catch {
      // half a file, or no right to read it: what was known goes on, and the next look tries again
    }
  }

  #fromFolder(vault: string, name: string): string | undefined {
    const { directory } = this.#sources
    if (directory === undefined || !isPathPart(vault) || !isPathPart(name)) return undefined
    const path = join(directory, vault, name)
    const known = this.#files.get(path)
    const nowMs = performance.now()
    if (known !== undefined && nowMs - known.readAtMs < FRESH_MS) return known.value
    const value = readValue(path)
    if (this.#files.size >= REMEMBERED) this.#files.clear()
    this.#files.set(path, { value, readAtMs: nowMs })
    return value
  }
}

/** Nothing that leads out of the folder. */
function isPathPart(text: string): boolean {
  return /^[a-zA-Z0-9_.-]+$/.test(text) && text !== '.' && text !== '..'
}

/** Without the newline that editors leave at the end. */
function readValue(path: string): string | undefined {
  try {
    if (statSync(path).size > MAX_VALUE_BYTES) return undefined
    return readFileSync(path, 'utf8').replace(/\r?\n$/, '')
  } catch {
    return undefined
  }
}
