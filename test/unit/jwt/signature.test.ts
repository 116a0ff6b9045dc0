import { createHmac, createSecretKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import {
  ALGORITHMS,
  checkSignature,
  isSignatureAlgorithm,
  isSlow,
  type SignatureAlgorithm,
} from '../../../src/jwt/signature.ts'

const INPUT = Buffer.from('header.payload')
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const curves = {
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  ES512: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
}
const ed = generateKeyPairSync('ed25519')
const secret = createSecretKey(Buffer.alloc(64, 3))

function signed(algorithm: SignatureAlgorithm): { key: KeyObject; signature: Buffer } {
  const hash = `sha${algorithm.slice(2)}`
  if (algorithm.startsWith('HS')) return { key: secret, signature: createHmac(hash, secret).update(INPUT).digest() }
  if (algorithm.startsWith('Ed')) return { key: ed.publicKey, signature: sign(null, INPUT, ed.privateKey) }
  if (algorithm in curves) {
    const pair = curves[algorithm as keyof typeof curves]
    return { key: pair.publicKey, signature: sign(hash, INPUT, { key: pair.privateKey, dsaEncoding: 'ieee-p1363' }) }
  }
  const salt = algorithm.startsWith('PS') ? { padding: 6, saltLength: -1 } : {}
  return { key: rsa.publicKey, signature: sign(hash, INPUT, { key: rsa.privateKey, ...salt }) }
}

describe('signatures', () => {
  it.each([...ALGORITHMS.keys()] as SignatureAlgorithm[])('%s: the right one and no other', (algorithm) => {
    const { key, signature } = signed(algorithm)
    expect(checkSignature(algorithm, key, INPUT, signature)).toBe(true)
    expect(checkSignature(algorithm, key, Buffer.from('header.other'), signature)).toBe(false)
    const flipped = Buffer.from(signature)
    flipped[7]! ^= 1
    expect(checkSignature(algorithm, key, INPUT, flipped)).toBe(false)
    expect(checkSignature(algorithm, key, INPUT, signature.subarray(1))).toBe(false)
    expect(checkSignature(algorithm, key, INPUT, Buffer.concat([Buffer.alloc(1), signature]))).toBe(false)
    expect(checkSignature(algorithm, key, INPUT, Buffer.alloc(0))).toBe(false)
    expect(checkSignature(algorithm, key, INPUT, Buffer.alloc(10_000))).toBe(false)
  })

  it('are r and s side by side, not DER (RFC 7518 §3.4)', () => {
    const der = sign('sha256', INPUT, curves.ES256.privateKey)
    expect(checkSignature('ES256', curves.ES256.publicKey, INPUT, der)).toBe(false)
  })

  it('of PSS have a salt as long as the hash (RFC 7518 §3.5)', () => {
    const short = sign('sha256', INPUT, { key: rsa.privateKey, padding: 6, saltLength: 20 })
    expect(checkSignature('PS256', rsa.publicKey, INPUT, short)).toBe(false)
  })

  it('have names that no prototype adds to', () => {
    for (const name of ['none', 'None', '__proto__', 'constructor', 'ES256K', 'rs256', '']) {
      expect(isSignatureAlgorithm(name)).toBe(false)
    }
  })

  it('are slow where they were measured to be', () => {
    expect(isSlow('RS256', rsa.publicKey)).toBe(false)
    expect(isSlow('ES256', curves.ES256.publicKey)).toBe(false)
    expect(isSlow('EdDSA', ed.publicKey)).toBe(false)
    expect(isSlow('HS256', secret)).toBe(false)
    expect(isSlow('ES384', curves.ES384.publicKey)).toBe(true)
    expect(isSlow('ES512', curves.ES512.publicKey)).toBe(true)
  })
})
