/**
 * Keys of this process alone: they sign the tokens of policy tests, and stand in every key set those tests ask for.
 * Source: RFC 7515 §7.1, RFC 7518 §3.1, RFC 8037.
 */
import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto'

export const TEST_ALGORITHMS = ['RS256', 'ES256', 'EdDSA'] as const
export type TestAlgorithm = (typeof TEST_ALGORITHMS)[number]

/** How long a token is good. */
const LIFE_SECONDS = 300

const pairs = new Map<TestAlgorithm, { readonly publicKey: KeyObject; readonly privateKey: KeyObject }>()

/** Made when first asked for: an RSA key takes a while. */
function pairOf(algorithm: TestAlgorithm): { readonly publicKey: KeyObject; readonly privateKey: KeyObject } {
  let pair = pairs.get(algorithm)
  if (pair === undefined) {
    pair =
      algorithm === 'RS256'
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : algorithm === 'ES256'
          ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
          : generateKeyPairSync('ed25519')
    pairs.set(algorithm, pair)
  }
  return pair
}

/** The public keys that signed so far, as a JWKS document. */
export function testKeySet(): string {
  const keys = [...pairs].map(([alg, { publicKey }]) => {
    return { ...publicKey.export({ format: 'jwk' }), kid: alg, alg, use: 'sig' }
  })
  return JSON.stringify({ keys })
}

/** A token with these claims; `iat` and `exp` are added where they are missing. */
export function signTestToken(claims: Readonly<Record<string, unknown>>, algorithm: TestAlgorithm): string {
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  const nowSeconds = Math.floor(Date.now() / 1000)
  const header = part({ alg: algorithm, typ: 'JWT', kid: algorithm })
  const input = `${header}.${part({ iat: nowSeconds, exp: nowSeconds + LIFE_SECONDS, ...claims })}`
  const { privateKey } = pairOf(algorithm)
  const signature = sign(algorithm === 'EdDSA' ? null : 'sha256', Buffer.from(input), {
    key: privateKey,
    dsaEncoding: 'ieee-p1363',
  })
  return `${input}.${signature.toString('base64url')}`
}
