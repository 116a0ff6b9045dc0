/** Sealing: what opens, what does not, and how the gateway's own key comes about. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { keysInText, ownKeys, SealingKeys } from '../../../src/sealing/sealing-keys.ts'

const [OLD, NEW] = ['an-old-key-of-more-than-32-characters', 'a-new-key-of-more-than-32-characters!']
const plain = Buffer.from('what nobody may read')

describe('SealingKeys', () => {
  it('opens what it sealed, for the same purpose only', () => {
    const keys = new SealingKeys([OLD], 'cookie')
    const sealed = keys.seal(plain, 'session\0a')
    expect(keys.open(sealed, 'session\0a')).toEqual(plain)
    expect(keys.open(sealed, 'session\0b')).toBeUndefined()
    expect(sealed).toMatch(/^[A-Za-z0-9_-]+$/)
    expect(Buffer.from(sealed, 'base64url').includes(plain)).toBe(false)
  })

  it('never seals the same bytes twice to the same text', () => {
    const keys = new SealingKeys([OLD], 'cookie')
    expect(keys.seal(plain, 'p')).not.toBe(keys.seal(plain, 'p'))
  })

  it('opens with every listed key, and seals with the first', () => {
    const before = new SealingKeys([OLD], 'cookie')
    const during = new SealingKeys([NEW, OLD], 'cookie')
    const after = new SealingKeys([NEW], 'cookie')
    expect(during.open(before.seal(plain, 'p'), 'p')).toEqual(plain)
    expect(after.open(during.seal(plain, 'p'), 'p')).toEqual(plain)
    expect(after.open(before.seal(plain, 'p'), 'p')).toBeUndefined()
  })

  it('opens nothing in which any one bit was changed, and nothing cut short', () => {
    const keys = new SealingKeys([OLD], 'cookie')
    const sealed = Buffer.from(keys.seal(plain, 'p'), 'base64url')
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      expect(keys.open(changed.toString('base64url'), 'p')).toBeUndefined()
    }
    for (let length = 0; length < sealed.length; length++) {
      expect(keys.open(sealed.subarray(0, length).toString('base64url'), 'p')).toBeUndefined()
    }
  })

  it('reads one key in each line', () => {
    expect(keysInText(`# newest first\n${NEW}\n\n  ${OLD}\r\n`)).toEqual([NEW, OLD])
  })
})

describe("the gateway's own key", () => {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-keys-'))
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  it('is made once, for its owner only, and found by whoever comes later', () => {
    const first = ownKeys(folder, 'session.keys')
    expect(ownKeys(folder, 'session.keys')).toEqual(first)
    expect(first[0]).toMatch(/^[0-9a-f]{64}$/)
    expect(statSync(join(folder, 'session.keys')).mode & 0o777).toBe(0o600)
    expect(readFileSync(join(folder, 'session.keys'), 'utf8')).toBe(`${first[0]}\n`)
  })
})
