/**
 * The form of a token: three base64url parts, a header we understand, claims that are an object. Nothing is believed yet.
 * Source: RFC 7515 §3.1, §4.1, §7.1; RFC 7519 §7.2; RFC 8725 §3.11; threats.md T-52, T-53.
 */
import { isUtf8 } from 'node:buffer'
import { isJsonObject, parseStrictJson, type JsonObject } from './strict-json.ts'

/** Longest token that is looked at, in characters. Header limits of clients and servers end at 8 to 16 KiB. */
export const MAX_TOKEN_CHARS = 16_384

/** A token that was refused before any key was touched. `reason` is for the log and quotes nothing. */
export class Malformed {
  readonly reason: string

  constructor(reason: string) {
    this.reason = reason
  }
}

/** A JWS in compact form whose payload may be anything. */
export interface CompactJws {
  readonly header: JsonObject
  /** Never empty; whether it is allowed is for the caller. */
  readonly algorithm: string
  readonly keyId: string | undefined
  /** ASCII of `header.payload` as received: what was signed. */
  readonly signingInput: Buffer
  readonly payload: Buffer
  readonly signature: Buffer
}

/** Kinds of token that are signed by the same keys or in the same form but are no proof of access (RFC 8725 §3.11). */
const FOREIGN_TYPES = new Set([
  'client-authentication+jwt',
  'dpop+jwt', // RFC 9449
  'entity-statement+jwt',
  'kb+jwt', // SD-JWT key binding
  'logout+jwt', // OpenID Connect back-channel logout
  'oauth-authz-req+jwt', // RFC 9101
  'secevent+jwt', // RFC 8417
  'statuslist+jwt',
  'token-introspection+jwt', // RFC 9701
  'trust-mark+jwt',
  'wallet-attestation+jwt',
])

/**
 * Takes a compact JWS apart. Checks come in the order of their price: size, alphabet, parts, unused bits, header.
 * Refuses: other alphabets, padding, white space, unused bits that are not zero, more or fewer than three parts,
 * `crit` of any kind (we implement no extension), `b64` other than true, `zip`, `enc`, nested tokens (`cty: JWT`),
 * `kid` and `typ` that are not strings, `typ` of another kind of token.
 */
export function parseJws(text: string): CompactJws | Malformed {
  if (text.length > MAX_TOKEN_CHARS) return new Malformed('longer than 16384 characters')
  // One pass over the text; it cannot backtrack, since a dot is in no class.
  if (!/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+$/.test(text)) {
    return new Malformed('not three base64url parts')
  }
  const firstDot = text.indexOf('.')
  const secondDot = text.lastIndexOf('.')
  const headerText = text.slice(0, firstDot)
  const payloadText = text.slice(firstDot + 1, secondDot)
  const signatureText = text.slice(secondDot + 1)
  if (!isCanonical(headerText) || !isCanonical(payloadText) || !isCanonical(signatureText)) {
    return new Malformed('base64url of impossible length or with unused bits')
  }
  const header = parseObject(Buffer.from(headerText, 'base64url'))
  if (typeof header === 'string') return new Malformed(`header: ${header}`)
  const problem = headerProblem(header)
  if (problem !== undefined) return new Malformed(problem)
  return {
    header,
    algorithm: header['alg'] as string, // headerProblem saw a string
    keyId: header['kid'] as string | undefined, // headerProblem saw a string or nothing
    signingInput: Buffer.from(text.slice(0, secondDot), 'latin1'),
    payload: Buffer.from(payloadText, 'base64url'),
    signature: Buffer.from(signatureText, 'base64url'),
  }
}

/** The claims of a JWS: one JSON object in UTF-8 (RFC 7519 §7.2 step 10). */
export function parseClaims(payload: Buffer): JsonObject | Malformed {
  const claims = parseObject(payload)
  return typeof claims === 'string' ? new Malformed(`payload: ${claims}`) : claims
}

function parseObject(bytes: Buffer): JsonObject | string {
  if (!isUtf8(bytes)) return 'not UTF-8'
  const parsed = parseStrictJson(bytes.toString('utf8')) // keeps a byte order mark, which JSON.parse then refuses
  if (!parsed.ok) return parsed.reason
  return isJsonObject(parsed.value) ? parsed.value : 'not a JSON object'
}

function headerProblem(header: JsonObject): string | undefined {
  if (typeof header['alg'] !== 'string' || header['alg'] === '') return 'alg is not a string'
  if ('crit' in header) return 'crit names extensions that are not implemented' // RFC 7515 §4.1.11
  if ('b64' in header && header['b64'] !== true) return 'unencoded payload' // RFC 7797 §7: not for JWTs
  if ('zip' in header || 'enc' in header) return 'compressed or encrypted'
  if ('kid' in header && typeof header['kid'] !== 'string') return 'kid is not a string'
  const type = header['typ']
  if (type !== undefined) {
    if (typeof type !== 'string') return 'typ is not a string'
    if (FOREIGN_TYPES.has(mediaType(type))) return 'typ is another kind of token'
  }
  const content = header['cty']
  if (content !== undefined && (typeof content !== 'string' || mediaType(content) === 'jwt')) return 'nested token'
  return undefined
}

/** RFC 7515 §4.1.9: `application/` may be left out; media types are case-insensitive. */
function mediaType(text: string): string {
  return text.toLowerCase().replace(/^application\//, '')
}

/** Whether a text over the base64url alphabet is the one spelling of its bytes (RFC 4648 §3.5). */
function isCanonical(text: string): boolean {
  const rest = text.length & 3
  if (rest === 0) return true
  if (rest === 1) return false
  const bits = sextet(text.charCodeAt(text.length - 1))
  return rest === 2 ? (bits & 15) === 0 : (bits & 3) === 0
}

function sextet(unit: number): number {
  if (unit >= 0x61) return unit - 0x61 + 26 // a-z
  if (unit === 0x5f) return 63 // _
  if (unit >= 0x41) return unit - 0x41 // A-Z
  if (unit >= 0x30) return unit - 0x30 + 52 // 0-9
  return 62 // -
}
