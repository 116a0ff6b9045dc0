import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { keySetPath, readKeySet, writeKeySet } from '../../../src/jwt/key-set-file.ts'

const URL_OF_SET = 'https://id.example/../../etc/passwd?x=1'
const STORED = { url: URL_OF_SET, fetchedAtMs: 1000, keys: [{ kty: 'RSA', n: 'x', e: 'AQAB' }] }
let folder = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-jwks-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

describe('a key set on disk (O-29)', () => {
  it('is read as it was written, by its owner only, and leaves nothing beside it', async () => {
    await writeKeySet(folder, STORED)
    await writeKeySet(folder, { ...STORED, fetchedAtMs: 2000 })
    expect(await readKeySet(folder, URL_OF_SET)).toEqual({ ...STORED, fetchedAtMs: 2000 })
    expect(statSync(keySetPath(folder, URL_OF_SET)).mode & 0o777).toBe(0o600)
    expect(readdirSync(join(folder, 'jwks')).length).toBe(1)
  })

  it('has a name that no URL can choose', () => {
    expect(keySetPath(folder, URL_OF_SET)).toMatch(/\/jwks\/[0-9a-f]{32}\.json$/)
    expect(dirname(keySetPath(folder, URL_OF_SET))).toBe(join(folder, 'jwks'))
  })

  it.each([
    ['nothing', undefined],
    ['half a file', '{"url":"https://id.example'],
    ['a list', '[]'],
    ['the set of another URL', JSON.stringify({ ...STORED, url: 'https://other.example/' })],
    ['no date', JSON.stringify({ ...STORED, fetchedAtMs: 'yesterday' })],
    ['no list of keys', JSON.stringify({ ...STORED, keys: {} })],
    ['far too much', ' '.repeat(1_000_000)],
  ])('counts as none when there is %s', async (_name, text) => {
    mkdirSync(join(folder, 'jwks'))
    if (text !== undefined) writeFileSync(keySetPath(folder, URL_OF_SET), text)
    expect(await readKeySet(folder, URL_OF_SET)).toBeUndefined()
  })

  it('cannot be written where there is no folder for it', async () => {
    writeFileSync(join(folder, 'jwks'), '')
    await expect(writeKeySet(folder, STORED)).rejects.toThrow()
  })
})
