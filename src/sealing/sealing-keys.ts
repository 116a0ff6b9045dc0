/**
 * Keys that seal what must stay secret outside of the process, session cookies and the secrets of vaults: the newest
 * seals, all of them open. Shared by the workers of a gateway, and by gateways that are given the same ones.
 *
 * Each text is sealed under a key of its own, derived with HKDF-SHA256 from the configured key and 16 random bytes, so
 * that no nonce can ever repeat under one key. Cipher: AES-256-GCM; what a text is for stands in the additional data, so
 * that none can be used in another's place.
 * Source: RFC 5869, NIST SP 800-38D, traffic-policy.md §5.12 (cookies).
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'
import { linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Shortest text that is taken as a key: 32 characters of hex or base64 hold at least 128 bits. */
export const MIN_KEY_CHARS = 32

const VERSION = 1
const KEY_ID_BYTES = 4
const SALT_BYTES = 16
const TAG_BYTES = 16
const HEAD_BYTES = 1 + KEY_ID_BYTES + SALT_BYTES

interface SealingKey {
  readonly id: Buffer
  readonly secret: Buffer
}

export class SealingKeys {
  readonly #keys: readonly SealingKey[]
  readonly #info: string

  /**
   * `texts`: newest first, at least one, each of MIN_KEY_CHARS or more. `use` tells apart what the same key may seal in
   * several places.
   */
  constructor(texts: readonly string[], use: 'cookie' | 'vault') {
    if (texts.length === 0) throw new Error('no key to seal with')
    this.#info = `sallyport ${use} 1`
    this.#keys = texts.map((text) => ({
      secret: Buffer.from(text, 'utf8'),
      id: createHash('sha256').update(`id\0${text}`).digest().subarray(0, KEY_ID_BYTES),
    }))
  }

  /** Base64url without padding. `purpose` must be the same to open it. */
  seal(plain: Uint8Array, purpose: string): string {
    const key = this.#keys[0]! // the constructor wants one
    const salt = randomBytes(SALT_BYTES)
    const { secret, nonce } = derive(key, salt, this.#info)
    const cipher = createCipheriv('aes-256-gcm', secret, nonce).setAAD(Buffer.from(purpose, 'utf8'))
    const sealed = [Buffer.of(VERSION), key.id, salt, cipher.update(plain), cipher.final(), cipher.getAuthTag()]
    return Buffer.concat(sealed).toString('base64url')
  }

  /** Undefined when it was not sealed by one of these keys for this purpose, or was changed since. */
  open(text: string, purpose: string): Buffer | undefined {
    const bytes = Buffer.from(text, 'base64url')
    if (bytes.length < HEAD_BYTES + TAG_BYTES || bytes[0] !== VERSION) return undefined
    const id = bytes.subarray(1, 1 + KEY_ID_BYTES)
    const key = this.#keys.find((candidate) => candidate.id.equals(id))
    if (key === undefined) return undefined
    const { secret, nonce } = derive(key, bytes.subarray(1 + KEY_ID_BYTES, HEAD_BYTES), this.#info)
    const decipher = createDecipheriv('aes-256-gcm', secret, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(Buffer.from(purpose, 'utf8')).setAuthTag(bytes.subarray(-TAG_BYTES))
    try {
      return Buffer.concat([decipher.update(bytes.subarray(HEAD_BYTES, -TAG_BYTES)), decipher.final()])
    } catch {
      // the tag does not fit: not ours, or changed
      return undefined
    }
  }
}

function derive(key: SealingKey, salt: Uint8Array, info: string): { readonly secret: Buffer; readonly nonce: Buffer } {
  const bytes = Buffer.from(hkdfSync('sha256', key.secret, salt, info, 44))
  return { secret: bytes.subarray(0, 32), nonce: bytes.subarray(32) }
}

/** The keys of a text with one in each line, newest first; blank lines and lines that begin with `#` do not count. */
export function keysInText(text: string): readonly string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'))
}

/**
 * The key that a gateway makes for itself when none is configured: a file in its state folder, mode 0600. All workers
 * find the same one, whoever comes first. Throws when the folder cannot be written.
 */
export function ownKeys(stateDir: string, name: string): readonly string[] {
  const path = join(stateDir, name)
  const known = readKeys(path)
  if (known !== undefined) return known
  mkdirSync(stateDir, { recursive: true, mode: 0o700 })
  const fresh = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
  writeFileSync(fresh, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 })
  try {
    // unlike a rename, this never replaces what another worker has put there
    linkSync(fresh, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    rmSync(fresh, { force: true })
  }
  const keys = readKeys(path)
  if (keys === undefined) throw new Error(`${path} holds no key of at least ${MIN_KEY_CHARS} characters`)
  return keys
}

function readKeys(path: string): readonly string[] | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  const keys = keysInText(text).filter((key) => key.length >= MIN_KEY_CHARS)
  return keys.length === 0 ? undefined : keys
}
