/**
 * The last good key set of a URL on disk, so that a restart while the key service is down still serves.
 * Source: operations.md O-29.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { MAX_KEY_SET_BYTES } from './key-set-fetch.ts'
import { isJsonObject, parseStrictJson, type JsonObject } from './strict-json.ts'

/** A key set as it lies on disk: public members of usable keys only. */
export interface StoredKeySet {
  readonly url: string
  /** When the key service last vouched for it; milliseconds since the epoch. */
  readonly fetchedAtMs: number
  readonly keys: readonly JsonObject[]
}

/** Where the key set of a URL lies: the name is a hash, so no URL can lead out of the directory. */
export function keySetPath(stateDirectory: string, url: string): string {
  return join(stateDirectory, 'jwks', `${createHash('sha256').update(url).digest('hex').slice(0, 32)}.json`)
}

/** Writes with mode 0600 beside the place and renames, so that a reader finds the old text or the new one. Throws. */
export async function writeKeySet(stateDirectory: string, stored: StoredKeySet): Promise<void> {
  const path = keySetPath(stateDirectory, stored.url)
  await mkdir(join(stateDirectory, 'jwks'), { recursive: true, mode: 0o700 })
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(JSON.stringify(stored))
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}

/** Reads it back; undefined when there is none, when it is not ours or when it is damaged. */
export async function readKeySet(stateDirectory: string, url: string): Promise<StoredKeySet | undefined> {
  const path = keySetPath(stateDirectory, url)
  try {
    if ((await stat(path)).size > MAX_KEY_SET_BYTES * 2) return undefined
    const parsed = parseStrictJson(await readFile(path, 'utf8'))
    if (!parsed.ok || !isJsonObject(parsed.value)) return undefined
    const { url: storedUrl, fetchedAtMs, keys } = parsed.value
    if (storedUrl !== url || typeof fetchedAtMs !== 'number' || !Array.isArray(keys)) return undefined
    return { url, fetchedAtMs, keys: (keys as unknown[]).filter((key) => isJsonObject(key)) }
  } catch {
    return undefined // not there or not readable: the same as none
  }
}
