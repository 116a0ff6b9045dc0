import { describe, expect, it } from 'vitest'
import type { VerificationKey } from '../../../src/jwt/jwk.ts'
import { VerifiedTokens } from '../../../src/jwt/verified-tokens.ts'

const entry = (
  verdict: string,
): { verdict: string; key: VerificationKey; notBeforeMs: number; expiresAtMs: number } => ({
  verdict,
  key: {} as VerificationKey, // only carried
  notBeforeMs: 0,
  expiresAtMs: 1,
})

describe('remembered tokens', () => {
  it('are found by the whole token, per requirements', () => {
    const all = new VerifiedTokens<string>(10)
    const one = all.forRequirements()
    const other = all.forRequirements()
    one.set('a.b.c', entry('one'))
    expect(one.get('a.b.c')?.verdict).toBe('one')
    expect(one.get('a.b.d')).toBeUndefined()
    expect(other.get('a.b.c')).toBeUndefined()
    one.delete('a.b.c')
    expect(one.get('a.b.c')).toBeUndefined()
  })

  it('are bounded over all requirements together', () => {
    const all = new VerifiedTokens<string>(100)
    const caches = [all.forRequirements(), all.forRequirements(), all.forRequirements()]
    for (let index = 0; index < 10_000; index++) caches[index % 3]!.set(`token-${index}`, entry('x'))
    expect(all.size).toBeLessThanOrEqual(100)
    expect(all.size).toBeGreaterThanOrEqual(50)
  })

  it('stay as long as they are used', () => {
    const all = new VerifiedTokens<string>(20)
    const cache = all.forRequirements()
    cache.set('busy', entry('busy'))
    for (let index = 0; index < 1000; index++) {
      cache.set(`token-${index}`, entry('x'))
      if (index % 5 === 0) expect(cache.get('busy')?.verdict).toBe('busy')
    }
    expect(cache.get('token-1')).toBeUndefined()
  })

  it('are bounded in characters, and very long ones are not kept', () => {
    const all = new VerifiedTokens<string>(10) // 5 a generation, 5 KiB
    const cache = all.forRequirements()
    cache.set('x'.repeat(8193), entry('x'))
    expect(all.size).toBe(0)
    for (let index = 0; index < 10; index++) cache.set(`${index}`.padEnd(4000, 'y'), entry('x'))
    expect(all.size).toBeLessThanOrEqual(2)
  })

  it('are given up with their requirements', () => {
    const all = new VerifiedTokens<string>(10)
    const cache = all.forRequirements()
    cache.set('a', entry('x'))
    all.forget(cache)
    expect(all.size).toBe(0)
    expect(new VerifiedTokens(0).isOff).toBe(true)
  })
})
