import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { importKey, importKeySet } from '../../../src/jwt/jwk.ts'

type Jwk = Record<string, unknown>

const rsaPair = generateKeyPairSync('rsa', { modulusLength: 2048 })
const RSA: Jwk = { ...rsaPair.publicKey.export({ format: 'jwk' }), kid: 'rsa', alg: 'RS256', use: 'sig' }
const EC: Jwk = {
  ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'jwk' }),
  kid: 'ec',
  alg: 'ES256',
}
const ED: Jwk = { ...generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }), kid: 'ed' }
const SECRET: Jwk = { kty: 'oct', kid: 'hs', k: Buffer.alloc(40, 1).toString('base64url') }

const algorithmsOf = async (jwk: Jwk): Promise<unknown> => {
  const key = await importKey(jwk, 'accept')
  return typeof key === 'string' ? key : [...key.algorithms]
}

describe('a key', () => {
  it.each([
    ['alg RS256', RSA, ['RS256']],
    ['RSA without alg', { ...RSA, alg: undefined }, ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512']],
    ['EC by its curve', { ...EC, alg: undefined }, ['ES256']],
    ['Ed25519 under both of its names (RFC 9864)', { ...ED, alg: 'EdDSA' }, ['EdDSA', 'Ed25519']],
    ['a secret of 40 bytes: not long enough for HS384', SECRET, ['HS256']],
  ])('decides the algorithm (T-50): %s', async (_name, jwk, algorithms) => {
    expect(await algorithmsOf(JSON.parse(JSON.stringify(jwk)) as Jwk)).toEqual(algorithms)
  })

  it('may have unused bits and its operations named', async () => {
    expect(await algorithmsOf({ ...RSA, key_ops: ['verify', 'sign'] })).toEqual(['RS256'])
  })

  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' })
  it.each([
    ['RSA below 2048 bits', { ...weak }, 'RSA key below 2048 bits'],
    ['public exponent 1', { ...RSA, e: 'AQ' }, 'the public exponent is 1 or even'],
    ['an even public exponent', { ...RSA, e: 'BA' }, 'the public exponent is 1 or even'],
    ['a huge public exponent', { ...RSA, e: `${RSA['n'] as string}` }, 'RSA numbers are too large'],
    ['no modulus', { ...RSA, n: undefined }, 'n or e is missing'],
    ['padding', { ...RSA, n: `${RSA['n'] as string}=` }, 'n is not base64url'],
    ['use enc', { ...RSA, use: 'enc' }, 'use is not sig'],
    ['key_ops encrypt', { ...RSA, key_ops: ['encrypt'] }, 'key_ops does not allow verify'],
    ['key_ops twice', { ...RSA, key_ops: ['verify', 'verify'] }, 'key_ops names an operation twice'],
    ['an alg of another type', { ...RSA, alg: 'ES256' }, 'alg is unknown or does not fit the key type'],
    ['alg HS256 on a public key', { ...RSA, alg: 'HS256' }, 'alg is unknown or does not fit the key type'],
    ['alg none', { ...RSA, alg: 'none' }, 'alg is unknown or does not fit the key type'],
    ['an alg of another curve', { ...EC, alg: 'ES384' }, 'alg is unknown or does not fit the key type'],
    ['a point off the curve', { ...EC, y: EC['x'] }, 'the numbers are no key'],
    ['an unknown curve', { ...EC, crv: 'P-192' }, 'unknown key type or curve'],
    ['an unknown type', { kty: 'AKP' }, 'unknown key type or curve'],
    ['a kid that is no string', { ...RSA, kid: 7 }, 'kid is not a string'],
    ['a private key', { ...rsaPair.privateKey.export({ format: 'jwk' }) }, 'private key'],
    ['a secret', SECRET, 'symmetric keys are never taken from a key set'],
    ['null', null, 'not a JSON object'],
  ])('is left out: %s (T-57)', async (_name, jwk, reason) => {
    const given: unknown = jwk === null ? null : JSON.parse(JSON.stringify(jwk))
    expect(await importKey(given)).toBe(reason)
  })

  it('is kept without private members', async () => {
    const key = await importKey({ ...RSA, x5c: ['x'], extra: 1 })
    if (typeof key === 'string') throw new Error(key)
    expect(Object.keys(key.jwk).sort()).toEqual(['alg', 'e', 'kid', 'kty', 'n', 'use'])
    expect(key.object.type).toBe('public')
  })
})

describe('a key set', () => {
  it('goes on with its good keys (T-57)', async () => {
    const imported = await importKeySet({ keys: [null, { ...RSA, use: 'enc', kid: 'e' }, EC, SECRET, ED] })
    expect(imported.keys.map((key) => key.keyId)).toEqual(['ec', 'ed'])
    expect(imported.skipped.map((key) => [key.index, key.keyId])).toEqual([
      [0, undefined],
      [1, 'e'],
      [3, 'hs'],
    ])
  })

  it('may list one key for several algorithms, and an encryption key under the same kid', async () => {
    const imported = await importKeySet({ keys: [RSA, { ...RSA, alg: 'RS512' }, { ...EC, kid: 'rsa', use: 'enc' }] })
    expect(imported.keys.length).toBe(2)
  })

  it.each([
    ['two different keys of one kid', { keys: [RSA, { ...EC, kid: 'rsa' }] }, /same kid/],
    ['no usable key', { keys: [SECRET] }, /no usable key among 1/],
    ['no key at all', { keys: [] }, /no usable key/],
    ['keys is an object', { keys: { 0: RSA } }, /not a list/],
    ['no keys', {}, /not a list/],
    ['a list', [RSA], /not a JSON object/],
  ])('is refused as a whole: %s', async (_name, document, message) => {
    await expect(importKeySet(document)).rejects.toThrow(message)
  })

  it('is either symmetric or asymmetric, where secrets are accepted at all', async () => {
    await expect(importKeySet({ keys: [RSA, SECRET] }, 'accept')).rejects.toThrow(/mixed/)
    expect((await importKeySet({ keys: [SECRET] }, 'accept')).keys.length).toBe(1)
  })
})
