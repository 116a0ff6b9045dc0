/**
 * What the claims of a token with a good signature say about time, issuer and audience.
 * Source: RFC 7519 §4.1; traffic-policy.md §5.10 (401 for a bad token, 403 for a good one of the wrong issuer or audience).
 */
import type { JsonObject } from './strict-json.ts'

export interface ClaimRules {
  /** Compared exactly, trailing slash included. */
  readonly issuers: readonly string[]
  /** Undefined: `aud` is not looked at. */
  readonly audiences: readonly string[] | undefined
  /** How far clocks may differ. */
  readonly leewayMs: number
  /** Longest time since `iat`; undefined: any. */
  readonly maximumAgeMs?: number | undefined
}

export type ClaimsVerdict =
  /** Good from `notBeforeMs` until before `expiresAtMs`, leeway included; both milliseconds since the epoch. */
  | { readonly kind: 'good'; readonly notBeforeMs: number; readonly expiresAtMs: number }
  /** `status` 401: the token itself is bad. 403: it is good, but not for us. */
  | { readonly kind: 'bad'; readonly status: 401 | 403; readonly reason: string }

/**
 * Judges claims at `nowMs` (milliseconds since the epoch). `exp` must be there. Times must be finite numbers; "on or
 * after" `exp` is expired (RFC 7519 §4.1.4). `iat` in the future is refused.
 */
export function checkClaims(claims: JsonObject, rules: ClaimRules, nowMs: number): ClaimsVerdict {
  const expires = claims['exp']
  if (!isDate(expires)) return bad(401, expires === undefined ? 'exp is missing' : 'exp is not a number')
  const notBefore = claims['nbf']
  if (notBefore !== undefined && !isDate(notBefore)) return bad(401, 'nbf is not a number')
  const issued = claims['iat']
  if (issued !== undefined && !isDate(issued)) return bad(401, 'iat is not a number')

  // Bounded, so that sums stay exact and a cache time can never turn negative.
  let expiresAtMs = Math.min(expires * 1000 + rules.leewayMs, Number.MAX_SAFE_INTEGER)
  const notBeforeMs = Math.max(notBefore ?? 0, issued ?? 0) * 1000 - rules.leewayMs
  if (nowMs >= expiresAtMs) return bad(401, 'expired')
  if (nowMs < notBeforeMs) return bad(401, 'not valid yet')
  if (rules.maximumAgeMs !== undefined) {
    if (issued === undefined) return bad(401, 'iat is missing')
    expiresAtMs = Math.min(expiresAtMs, issued * 1000 + rules.maximumAgeMs + rules.leewayMs)
    if (nowMs >= expiresAtMs) return bad(401, 'issued too long ago')
  }

  // Last, so that 403 is only said of tokens that are good otherwise.
  const issuer = claims['iss']
  if (typeof issuer !== 'string' || issuer === '') return bad(401, 'iss is missing or not a string')
  if (!rules.issuers.includes(issuer)) return bad(403, 'the issuer is not allowed')
  if (rules.audiences !== undefined) {
    const audience = claims['aud']
    const named = typeof audience === 'string' ? [audience] : audience
    if (!Array.isArray(named) || named.length === 0 || !named.every((entry) => typeof entry === 'string')) {
      return bad(401, 'aud is missing or not a list of strings')
    }
    if (!named.some((entry: string) => rules.audiences!.includes(entry))) {
      return bad(403, 'the audience is not allowed')
    }
  }
  return { kind: 'good', notBeforeMs, expiresAtMs }
}

function isDate(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value) // JSON 1e400 reads as Infinity
}

function bad(status: 401 | 403, reason: string): ClaimsVerdict {
  return { kind: 'bad', status, reason }
}
