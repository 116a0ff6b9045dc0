/**
 * Vaults and their secrets, in one file of the state folder (`vaults.json`, mode 0600). Values are sealed one by one;
 * names, descriptions and times are readable. The command line writes it, workers read it.
 *
 * Source: kubernetes-objects.md §8, §9 (fields, rules, codes); operations.md O-39 (values are write-only).
 */
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
  fsyncSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import type { SealingKeys } from '../sealing/sealing-keys.ts'

/** What the API shows of a vault. */
export interface Vault {
  readonly id: string
  readonly created_at: string
  readonly updated_at: string
  readonly name: string
  readonly description: string
  readonly metadata: string
}

/** What the API shows of a secret: never its value. */
export interface Secret {
  readonly id: string
  readonly created_at: string
  readonly updated_at: string
  readonly name: string
  readonly description: string
  readonly metadata: string
  readonly vault: { readonly id: string; readonly name: string }
}

interface StoredSecret extends Omit<Secret, 'vault'> {
  readonly vault_id: string
  readonly sealed: string
}

interface Content {
  readonly version: 1
  readonly vaults: readonly Vault[]
  readonly secrets: readonly StoredSecret[]
}

/** Something that the rules of vaults and secrets do not allow. */
export class VaultError extends Error {
  override readonly name = 'VaultError'
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** Text fields as they are given; those left out stay as they are, or empty. */
export interface ObjectFields {
  readonly name?: string | undefined
  readonly description?: string | undefined
  readonly metadata?: string | undefined
}

const EMPTY: Content = { version: 1, vaults: [], secrets: [] }
const NAME = /^[a-zA-Z0-9_/.-]+$/
const MAX_NAME_CHARS = 255
const MAX_TEXT_CHARS = 4096
const MAX_VALUE_BYTES = 64 * 1024
const MAX_VAULTS = 1000
const MAX_SECRETS = 10_000
/** How long a second writer waits for the first, and how old a lock is that nobody holds any more. */
const LOCK_WAIT_MS = 2000
const LOCK_STALE_MS = 10_000

export function vaultPath(stateDir: string): string {
  return join(stateDir, 'vaults.json')
}

/** Vaults of one state folder, for whoever changes them. Every call reads the file anew; changes take a lock. */
export class VaultFile {
  readonly #path: string
  readonly #keys: SealingKeys

  constructor(path: string, keys: SealingKeys) {
    this.#path = path
    this.#keys = keys
  }

  vaults(): readonly Vault[] {
    return readContent(this.#path).vaults
  }

  secrets(): readonly Secret[] {
    const content = readContent(this.#path)
    return content.secrets.map((secret) => shown(secret, content))
  }

  createVault(fields: ObjectFields): Vault {
    return this.#change((content) => {
      const name = nameOf(fields.name, 'vault', content.vaults)
      if (content.vaults.length >= MAX_VAULTS) throw new VaultError('ERR_NGROK_23005', `there are ${MAX_VAULTS} vaults`)
      const vault: Vault = { ...stamps('vault'), name, ...texts(fields) }
      return [{ ...content, vaults: [...content.vaults, vault] }, vault]
    })
  }

  updateVault(id: string, fields: ObjectFields): Vault {
    return this.#change((content) => {
      const before = vaultOf(content, id)
      const others = content.vaults.filter((vault) => vault !== before)
      const name = fields.name === undefined ? before.name : nameOf(fields.name, 'vault', others)
      const vault: Vault = { ...before, ...texts(fields, before), name, updated_at: now() }
      return [{ ...content, vaults: content.vaults.map((one) => (one === before ? vault : one)) }, vault]
    })
  }

  deleteVault(id: string): void {
    this.#change((content) => {
      const vault = vaultOf(content, id)
      if (content.secrets.some(({ vault_id }) => vault_id === vault.id)) {
        throw new VaultError('ERR_NGROK_23003', `the vault ${vault.name} still holds secrets`)
      }
      return [{ ...content, vaults: content.vaults.filter((one) => one !== vault) }, undefined]
    })
  }

  /** `vault`: id or name. */
  createSecret(vault: string, value: string, fields: ObjectFields): Secret {
    return this.#change((content) => {
      const home = vaultOf(content, vault)
      const beside = content.secrets.filter(({ vault_id }) => vault_id === home.id)
      const name = nameOf(fields.name, 'secret', beside)
      if (content.secrets.length >= MAX_SECRETS) {
        throw new VaultError('ERR_NGROK_24007', `there are ${MAX_SECRETS} secrets`)
      }
      const stamped = stamps('secret')
      const secret: StoredSecret = {
        ...stamped,
        name,
        ...texts(fields),
        vault_id: home.id,
        sealed: this.#seal(stamped.id, value),
      }
      const after = { ...content, secrets: [...content.secrets, secret] }
      return [after, shown(secret, after)]
    })
  }

  updateSecret(id: string, value: string | undefined, fields: ObjectFields): Secret {
    return this.#change((content) => {
      const before = secretOf(content, id)
      const beside = content.secrets.filter((one) => one !== before && one.vault_id === before.vault_id)
      const secret: StoredSecret = {
        ...before,
        ...texts(fields, before),
        name: fields.name === undefined ? before.name : nameOf(fields.name, 'secret', beside),
        updated_at: now(),
        sealed: value === undefined ? before.sealed : this.#seal(before.id, value),
      }
      const after = { ...content, secrets: content.secrets.map((one) => (one === before ? secret : one)) }
      return [after, shown(secret, after)]
    })
  }

  deleteSecret(id: string): void {
    this.#change((content) => {
      const secret = secretOf(content, id)
      return [{ ...content, secrets: content.secrets.filter((one) => one !== secret) }, undefined]
    })
  }

  #seal(id: string, value: string): string {
    if (value === '') throw new VaultError('ERR_NGROK_24003', 'the value of a secret must not be empty')
    if (Buffer.byteLength(value) > MAX_VALUE_BYTES) {
      throw new VaultError('ERR_NGROK_24004', `the value of a secret has ${MAX_VALUE_BYTES} bytes at most`)
    }
    return this.#keys.seal(Buffer.from(value), id)
  }

  #change<T>(change: (content: Content) => [Content, T]): T {
    mkdirSync(dirname(this.#path), { recursive: true, mode: 0o700 })
    const unlock = lock(`${this.#path}.lock`)
    try {
      const [after, result] = change(readContent(this.#path))
      writeWhole(this.#path, `${JSON.stringify(after, undefined, 2)}\n`)
      return result
    } finally {
      unlock()
    }
  }
}

/** Every value, by vault and name. Those that no key opens are missing. Throws VaultError when the file is damaged. */
export function readSecrets(path: string, keys: SealingKeys): ReadonlyMap<string, ReadonlyMap<string, string>> {
  const content = readContent(path)
  return new Map(
    content.vaults.map((vault) => [
      vault.name,
      new Map(
        content.secrets
          .filter(({ vault_id }) => vault_id === vault.id)
          .flatMap(({ id, name, sealed }) => {
            const value = keys.open(sealed, id)
            return value === undefined ? [] : [[name, value.toString('utf8')] as const]
          }),
      ),
    ]),
  )
}

function readContent(path: string): Content {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return EMPTY
    throw error
  }
  let content: Content | undefined
  try {
    content = JSON.parse(text) as Content
  } catch {
    content = undefined
  }
  if (content?.version !== 1 || !Array.isArray(content.vaults) || !Array.isArray(content.secrets)) {
    throw new VaultError('VAULTS_DAMAGED', `${path} is no file of vaults`)
  }
  return content
}

function writeWhole(path: string, text: string): void {
  const fresh = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  const file = openSync(fresh, 'wx', 0o600)
  try {
    writeSync(file, text)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
  renameSync(fresh, path)
}

/** A file that only one process can make. Waits for the other one; takes over a lock whose holder is gone. */
function lock(path: string): () => void {
  const giveUpAtMs = Date.now() + LOCK_WAIT_MS
  for (;;) {
    try {
      closeSync(openSync(path, 'wx', 0o600))
      return () => rmSync(path, { force: true })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0)
    if (age > LOCK_STALE_MS) rmSync(path, { force: true })
    else if (Date.now() > giveUpAtMs) throw new VaultError('VAULTS_LOCKED', 'another command is changing the vaults')
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
  }
}

function shown({ vault_id, sealed: _sealed, ...secret }: StoredSecret, { vaults }: Content): Secret {
  const name = vaults.find(({ id }) => id === vault_id)?.name ?? ''
  return { ...secret, vault: { id: vault_id, name } }
}

function vaultOf({ vaults }: Content, idOrName: string): Vault {
  const found = vaults.find(({ id }) => id === idOrName) ?? vaults.find(({ name }) => name === idOrName)
  if (found === undefined) throw new VaultError('ERR_NGROK_24009', `there is no vault ${idOrName}`)
  return found
}

function secretOf({ secrets }: Content, id: string): StoredSecret {
  const found = secrets.find((secret) => secret.id === id)
  if (found === undefined) throw new VaultError('ERR_NGROK_24008', `there is no secret ${id}`)
  return found
}

const CODES = {
  vault: { empty: 'ERR_NGROK_23001', form: 'ERR_NGROK_23000', long: 'ERR_NGROK_23002', taken: 'ERR_NGROK_23004' },
  secret: { empty: 'ERR_NGROK_24001', form: 'ERR_NGROK_24000', long: 'ERR_NGROK_24002', taken: 'ERR_NGROK_24005' },
} as const

function nameOf(
  name: string | undefined,
  kind: 'vault' | 'secret',
  beside: readonly { readonly name: string }[],
): string {
  const codes = CODES[kind]
  if (name === undefined || name === '') throw new VaultError(codes.empty, `a ${kind} needs a name`)
  if (name.length > MAX_NAME_CHARS)
    throw new VaultError(codes.long, `the name of a ${kind} has ${MAX_NAME_CHARS} characters at most`)
  if (!NAME.test(name)) throw new VaultError(codes.form, `the name of a ${kind} has letters, digits and _ / . - only`)
  if (beside.some((one) => one.name === name)) throw new VaultError(codes.taken, `there is a ${kind} ${name} already`)
  return name
}

function texts(
  { description, metadata }: ObjectFields,
  before?: { readonly description: string; readonly metadata: string },
): { readonly description: string; readonly metadata: string } {
  for (const [name, text] of [
    ['description', description],
    ['metadata', metadata],
  ] as const) {
    if ((text?.length ?? 0) > MAX_TEXT_CHARS)
      throw new VaultError('TOO_LONG', `${name} has ${MAX_TEXT_CHARS} characters at most`)
  }
  return { description: description ?? before?.description ?? '', metadata: metadata ?? before?.metadata ?? '' }
}

function stamps(prefix: string): { readonly id: string; readonly created_at: string; readonly updated_at: string } {
  const at = now()
  return { id: `${prefix}_${randomBytes(16).toString('hex')}`, created_at: at, updated_at: at }
}

function now(): string {
  return new Date().toISOString().replace(/\.\d+Z$/, 'Z')
}
