/**
 * Signature algorithms and the check itself, synchronous, on keys of node:crypto. Pure: runs on the loop and in threads.
 * Source: RFC 7518 §3, RFC 8037 §3.1, RFC 9864 §2.2; bench/results/2026-11-22-jwt.md for where it runs.
 */
import { constants, createHmac, timingSafeEqual, verify, type KeyObject } from 'node:crypto'

export type SignatureAlgorithm =
  | 'RS256'
  | 'RS384'
  | 'RS512'
  | 'PS256'
  | 'PS384'
  | 'PS512'
  | 'ES256'
  | 'ES384'
  | 'ES512'
  | 'EdDSA'
  | 'Ed25519'
  | 'HS256'
  | 'HS384'
  | 'HS512'

/** What an algorithm asks of a key. */
export interface AlgorithmRule {
  readonly keyType: 'RSA' | 'EC' | 'OKP' | 'oct'
  /** JWK `crv`; only for EC and OKP. */
  readonly curve?: string
  /** OpenSSL's name of the hash; null where the algorithm has its own. */
  readonly hash: string | null
  readonly pss?: true
  /** Bytes of a signature where the algorithm alone decides them; RSA: as long as the modulus. */
  readonly signatureBytes?: number
}

/** Every algorithm that is implemented. `none` is not, and never will be. */
export const ALGORITHMS: ReadonlyMap<string, AlgorithmRule> = new Map<SignatureAlgorithm, AlgorithmRule>([
  ['RS256', { keyType: 'RSA', hash: 'sha256' }],
  ['RS384', { keyType: 'RSA', hash: 'sha384' }],
  ['RS512', { keyType: 'RSA', hash: 'sha512' }],
  ['PS256', { keyType: 'RSA', hash: 'sha256', pss: true }],
  ['PS384', { keyType: 'RSA', hash: 'sha384', pss: true }],
  ['PS512', { keyType: 'RSA', hash: 'sha512', pss: true }],
  ['ES256', { keyType: 'EC', curve: 'P-256', hash: 'sha256', signatureBytes: 64 }],
  ['ES384', { keyType: 'EC', curve: 'P-384', hash: 'sha384', signatureBytes: 96 }],
  ['ES512', { keyType: 'EC', curve: 'P-521', hash: 'sha512', signatureBytes: 132 }],
  ['EdDSA', { keyType: 'OKP', curve: 'Ed25519', hash: null, signatureBytes: 64 }],
  ['Ed25519', { keyType: 'OKP', curve: 'Ed25519', hash: null, signatureBytes: 64 }],
  ['HS256', { keyType: 'oct', hash: 'sha256', signatureBytes: 32 }],
  ['HS384', { keyType: 'oct', hash: 'sha384', signatureBytes: 48 }],
  ['HS512', { keyType: 'oct', hash: 'sha512', signatureBytes: 64 }],
])

export function isSignatureAlgorithm(name: string): name is SignatureAlgorithm {
  return ALGORITHMS.has(name)
}

/**
 * Whether `signature` is the algorithm's signature of `input` under `key`. The caller has made sure that key and
 * algorithm fit (jwk.ts does at import). Wrong lengths are refused before any arithmetic. Never throws for bad signatures.
 */
export function checkSignature(
  algorithm: SignatureAlgorithm,
  key: KeyObject,
  input: Uint8Array,
  signature: Uint8Array,
): boolean {
  const rule = ALGORITHMS.get(algorithm)! // the type allows only names of the table
  if (rule.signatureBytes !== undefined && signature.length !== rule.signatureBytes) return false
  switch (rule.keyType) {
    case 'RSA': {
      // RFC 8017 §8.2.2 step 1: the signature is as long as the modulus.
      const bits = key.asymmetricKeyDetails?.modulusLength ?? 0
      if (signature.length !== (bits + 7) >> 3) return false
      if (rule.pss !== true) return verify(rule.hash, input, key, signature)
      // RFC 7518 §3.5: the salt is as long as the hash.
      const pss = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
      return verify(rule.hash, input, pss, signature)
    }
    case 'EC':
      return verify(rule.hash, input, { key, dsaEncoding: 'ieee-p1363' }, signature) // RFC 7518 §3.4: r || s
    case 'OKP':
      return verify(null, input, key, signature)
    case 'oct':
      return timingSafeEqual(createHmac(rule.hash!, key).update(input).digest(), signature) // lengths are equal: see above
  }
}

/** RSA modulus from which a check costs the loop more than handing it to a thread does. */
const SLOW_MODULUS_BITS = 6144

/** Whether one check takes so long (above 200 µs) that it belongs in a thread; measured in bench/results/2026-11-22-jwt.md. */
export function isSlow(algorithm: SignatureAlgorithm, key: KeyObject): boolean {
  if (algorithm === 'ES384' || algorithm === 'ES512') return true // OpenSSL has fast code for P-256 only
  return (key.asymmetricKeyDetails?.modulusLength ?? 0) >= SLOW_MODULUS_BITS
}
