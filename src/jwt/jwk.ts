/**
 * JSON Web Keys: which are used, for which algorithms, and which are left out. jose imports and judges them; nothing
 * else of the gateway knows jose.
 * Source: RFC 7517 §4, §5; RFC 7518 §6; RFC 8037 §2; RFC 8725 §3.2; threats.md T-50, T-57.
 */
import { createSecretKey, KeyObject } from 'node:crypto'
import { calculateJwkThumbprint, importJWK, type JWK } from 'jose'
import { ALGORITHMS, isSignatureAlgorithm } from './signature.ts'
import { isJsonObject, type JsonObject } from './strict-json.ts'

/** A key that may check signatures. One object per key for as long as its set lists it. */
export interface VerificationKey {
  /** RFC 7638 thumbprint, SHA-256, base64url: the identity of the key material. */
  readonly thumbprint: string
  readonly keyId: string | undefined
  /** Exactly what this key may be used for; the token never widens it. */
  readonly algorithms: ReadonlySet<string>
  readonly object: KeyObject
  /** The public members as published, for the copy on disk. */
  readonly jwk: JsonObject
}

/** A member of `keys` that is not used. `reason` names no key material. */
export interface SkippedKey {
  readonly index: number
  readonly keyId: string | undefined
  readonly reason: string
}

export interface ImportedKeySet {
  readonly keys: readonly VerificationKey[]
  readonly skipped: readonly SkippedKey[]
}

/** A document that is no usable key set as a whole. */
export class KeySetError extends Error {
  override readonly name = 'KeySetError'
}

/**
 * Whether symmetric keys count. `skip`: a key set that comes over the network never yields one (what a URL serves is no
 * secret). `accept`: keys that were given to us directly; then a set is either symmetric or asymmetric, not both.
 */
export type SymmetricKeys = 'skip' | 'accept'

/** RFC 7518 §3.3: 2048 bits or larger. The upper bound keeps one check below 0.3 ms. */
const MIN_MODULUS_BITS = 2048
const MAX_MODULUS_BITS = 8192

/**
 * Imports a key set. Keys that we cannot or must not use are skipped one by one (T-57): unknown type, curve or algorithm,
 * weak or malformed numbers, `use` or `key_ops` other than checking signatures, private keys, symmetric keys (see
 * `symmetric`). Throws KeySetError when the document is no key set, when two different usable keys have one `kid`, when
 * symmetric and asymmetric keys are mixed in an accepted set, and when no usable key is left.
 */
export async function importKeySet(document: unknown, symmetric: SymmetricKeys = 'skip'): Promise<ImportedKeySet> {
  if (!isJsonObject(document)) throw new KeySetError('not a JSON object')
  const members = Object.hasOwn(document, 'keys') ? document['keys'] : undefined
  if (!Array.isArray(members)) throw new KeySetError('"keys" is not a list')
  const keys: VerificationKey[] = []
  const skipped: SkippedKey[] = []
  for (const [index, member] of (members as readonly unknown[]).entries()) {
    const key = await importKey(member, symmetric)
    if (typeof key !== 'string') keys.push(key)
    else skipped.push({ index, keyId: keyIdOf(member), reason: key })
  }
  refuseAmbiguity(keys)
  if (keys.length === 0) throw new KeySetError(`no usable key among ${members.length}${firstReason(skipped)}`)
  return { keys, skipped }
}

/** Imports one JWK; answers the reason as text when the key is not to be used. Never throws. */
export async function importKey(jwk: unknown, symmetric: SymmetricKeys = 'skip'): Promise<VerificationKey | string> {
  if (!isJsonObject(jwk)) return 'not a JSON object'
  const problem = memberProblem(jwk)
  if (problem !== undefined) return problem
  const keyType = jwk['kty']
  const rules = [...ALGORITHMS].filter(
    ([, rule]) => rule.keyType === keyType && (rule.curve === undefined || rule.curve === jwk['crv']),
  )
  if (rules.length === 0) return 'unknown key type or curve'
  if (keyType === 'oct' && symmetric === 'skip') return 'symmetric keys are never taken from a key set'
  if (keyType !== 'oct' && Object.hasOwn(jwk, 'd')) return 'private key'
  const algorithms = allowedAlgorithms(
    jwk,
    rules.map(([name]) => name),
  )
  if (algorithms === undefined) return 'alg is unknown or does not fit the key type'
  const number = numberProblem(jwk)
  if (number !== undefined) return number
  try {
    // The algorithm only tells WebCrypto what to check; the KeyObject taken from the result is not bound to it.
    const { use: _use, key_ops: _operations, ...numbers } = publicMembers(jwk) // both are judged above
    const imported = await importJWK(numbers as unknown as JWK, [...algorithms][0]!)
    const object = imported instanceof Uint8Array ? undefined : KeyObject.from(imported)
    const usable = object === undefined ? secretKey(jwk, algorithms) : { object, algorithms }
    if (typeof usable === 'string') return usable
    const weak = weakness(usable.object)
    if (weak !== undefined) return weak
    return {
      thumbprint: await calculateJwkThumbprint(jwk as unknown as JWK, 'sha256'),
      keyId: keyIdOf(jwk),
      algorithms: usable.algorithms,
      object: usable.object,
      jwk: publicMembers(jwk),
    }
  } catch {
    return 'the numbers are no key' // jose's and OpenSSL's own words differ by version and say no more
  }
}

/** RFC 7638 thumbprint (SHA-256, base64url). Throws when required members are missing. */
export async function thumbprint(jwk: JsonObject): Promise<string> {
  return await calculateJwkThumbprint(jwk as unknown as JWK, 'sha256')
}

function keyIdOf(jwk: unknown): string | undefined {
  if (!isJsonObject(jwk)) return undefined
  const keyId = jwk['kid']
  return typeof keyId === 'string' ? keyId : undefined
}

function memberProblem(jwk: JsonObject): string | undefined {
  if (typeof jwk['kty'] !== 'string') return 'kty is not a string'
  if (jwk['kid'] !== undefined && typeof jwk['kid'] !== 'string') return 'kid is not a string'
  if (jwk['use'] !== undefined && jwk['use'] !== 'sig') return 'use is not sig'
  const operations = jwk['key_ops']
  if (operations !== undefined) {
    // RFC 7517 §4.3: duplicate values MUST NOT be present.
    if (!Array.isArray(operations) || !operations.includes('verify')) return 'key_ops does not allow verify'
    if (new Set(operations).size !== operations.length) return 'key_ops names an operation twice'
  }
  for (const name of ['n', 'e', 'x', 'y', 'k']) {
    const value = jwk[name]
    if (value === undefined) continue
    // Unused bits are let pass: unlike in a token, a second spelling of a key does no harm.
    if (typeof value !== 'string' || !/^[A-Za-z0-9_-]+$/.test(value)) return `${name} is not base64url`
  }
  return undefined
}

/** `alg` of the key if it names one, else everything that its type and curve can do (T-50: the key decides). */
function allowedAlgorithms(jwk: JsonObject, possible: readonly string[]): ReadonlySet<string> | undefined {
  const named = jwk['alg']
  if (named === undefined) return new Set(possible)
  if (typeof named !== 'string' || !isSignatureAlgorithm(named) || !possible.includes(named)) return undefined
  // RFC 9864 §2.2: two names of one algorithm; which of them a token may carry is the policy's choice.
  if (named === 'EdDSA' || named === 'Ed25519') return new Set(['EdDSA', 'Ed25519'])
  return new Set([named])
}

/** What jose and OpenSSL let pass although no RSA key looks like that. */
function numberProblem(jwk: JsonObject): string | undefined {
  if (jwk['kty'] !== 'RSA') return undefined
  if (typeof jwk['n'] !== 'string' || typeof jwk['e'] !== 'string') return 'n or e is missing'
  const modulusBytes = Buffer.from(jwk['n'], 'base64url')
  const exponentBytes = Buffer.from(jwk['e'], 'base64url')
  // Bounded before any arithmetic; one byte more for a leading zero.
  if (modulusBytes.length > MAX_MODULUS_BITS / 8 + 1 || exponentBytes.length > 8) return 'RSA numbers are too large'
  const exponent = BigInt(`0x${exponentBytes.toString('hex')}`)
  if (exponent < 3n || exponent % 2n === 0n) return 'the public exponent is 1 or even'
  const modulus = BigInt(`0x${modulusBytes.toString('hex')}`)
  if (modulus % 2n === 0n) return 'the modulus is even'
  if (hasRocaFingerprint(modulus)) return 'weak key of a broken generator (CVE-2017-15361)'
  return undefined
}

function weakness(key: KeyObject): string | undefined {
  const bits = key.asymmetricKeyDetails?.modulusLength
  if (bits === undefined) return undefined
  if (bits < MIN_MODULUS_BITS) return 'RSA key below 2048 bits'
  return bits > MAX_MODULUS_BITS ? 'RSA key above 8192 bits' : undefined
}

/** RFC 7518 §3.2: a key of the same size as the hash output or larger MUST be used. */
function secretKey(
  jwk: JsonObject,
  algorithms: ReadonlySet<string>,
): { object: KeyObject; algorithms: ReadonlySet<string> } | string {
  const bytes = Buffer.from(String(jwk['k']), 'base64url')
  const fitting = [...algorithms].filter((name) => bytes.length >= (ALGORITHMS.get(name)?.signatureBytes ?? Infinity))
  if (fitting.length === 0) return 'the secret is shorter than the hash'
  return { object: createSecretKey(bytes), algorithms: new Set(fitting) }
}

/** The members that a check needs, and no private one. */
function publicMembers(jwk: JsonObject): JsonObject {
  const kept: Record<string, JsonObject[string]> = {}
  const names = jwk['kty'] === 'oct' ? [...PUBLIC_MEMBERS, 'k'] : PUBLIC_MEMBERS
  for (const name of names) {
    const value = jwk[name]
    if (value !== undefined) kept[name] = value
  }
  return kept
}

const PUBLIC_MEMBERS = ['kty', 'kid', 'alg', 'use', 'key_ops', 'crv', 'x', 'y', 'n', 'e']

function refuseAmbiguity(keys: readonly VerificationKey[]): void {
  const byId = new Map<string, string>()
  for (const key of keys) {
    if (key.keyId === undefined) continue
    const other = byId.get(key.keyId)
    // The same key listed for two algorithms is no ambiguity.
    if (other !== undefined && other !== key.thumbprint) throw new KeySetError('two different keys have the same kid')
    byId.set(key.keyId, key.thumbprint)
  }
  const symmetric = keys.filter((key) => key.object.type === 'secret').length
  if (symmetric > 0 && symmetric < keys.length) throw new KeySetError('symmetric and asymmetric keys are mixed')
}

function firstReason(skipped: readonly SkippedKey[]): string {
  return skipped[0] === undefined ? '' : ` (the first: ${skipped[0].reason})`
}

const SMALL_PRIMES = [
  3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113,
  127, 131, 137, 139, 149, 151, 157, 163, 167,
]

/** For each small prime, the residues that powers of 65537 reach. */
const ROCA_RESIDUES: readonly { readonly prime: bigint; readonly reached: ReadonlySet<bigint> }[] = SMALL_PRIMES.map(
  (small) => {
    const prime = BigInt(small)
    const reached = new Set<bigint>()
    for (let power = 1n; !reached.has(power); power = (power * 65537n) % prime) reached.add(power)
    return { prime, reached }
  },
)

/**
 * Whether a modulus was made by the library whose primes are all powers of 65537 modulo a primorial.
 * Source: Nemec, Sys, Svenda, Klinec, Matyas, "The Return of Coppersmith's Attack", CCS 2017, §2.2. A sound key is taken
 * for a weak one with a chance below 2^-27.
 */
function hasRocaFingerprint(modulus: bigint): boolean {
  return ROCA_RESIDUES.every(({ prime, reached }) => reached.has(modulus % prime))
}
