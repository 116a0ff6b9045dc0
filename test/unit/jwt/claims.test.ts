import { describe, expect, it } from 'vitest'
import { checkClaims, type ClaimRules } from '../../../src/jwt/claims.ts'
import type { JsonObject } from '../../../src/jwt/strict-json.ts'

const NOW_S = 1_767_225_600
const GOOD = { iss: 'https://issuer.test/', aud: 'api', exp: NOW_S + 300, iat: NOW_S - 10 }
const RULES: ClaimRules = {
  issuers: ['https://issuer.test/', 'https://other.test'],
  audiences: ['api', 'web'],
  leewayMs: 5000,
}

function verdictOf(changes: Record<string, unknown>, rules: Partial<ClaimRules> = {}): string {
  const claims = Object.fromEntries(Object.entries({ ...GOOD, ...changes }).filter(([, value]) => value !== undefined))
  const verdict = checkClaims(claims as JsonObject, { ...RULES, ...rules }, NOW_S * 1000)
  return verdict.kind === 'good' ? 'good' : `${verdict.status} ${verdict.reason}`
}

describe('claims', () => {
  it.each([
    ['as issued', {}],
    ['aud as a list', { aud: ['x', 'web'] }],
    ['another allowed issuer', { iss: 'https://other.test' }],
    ['no iat', { iat: undefined }],
    ['a fraction of a second', { exp: NOW_S + 0.5 }],
    ['expired within the leeway', { exp: NOW_S - 4 }],
    ['not valid yet within the leeway', { nbf: NOW_S + 5 }],
    ['a far future that does not overflow', { exp: 1e300 }],
  ])('are good: %s', (_name, changes) => {
    expect(verdictOf(changes)).toBe('good')
  })

  it.each([
    [{ exp: undefined }, '401 exp is missing'],
    [{ exp: String(NOW_S + 300) }, '401 exp is not a number'],
    [{ exp: Infinity }, '401 exp is not a number'],
    [{ exp: NOW_S - 5 }, '401 expired'], // RFC 7519 §4.1.4: "on or after"
    [{ exp: -1 }, '401 expired'],
    [{ nbf: NOW_S + 6 }, '401 not valid yet'],
    [{ nbf: true }, '401 nbf is not a number'],
    [{ iat: NOW_S + 6 }, '401 not valid yet'],
    [{ iat: 'today' }, '401 iat is not a number'],
    [{ iss: undefined }, '401 iss is missing or not a string'],
    [{ iss: ['https://issuer.test/'] }, '401 iss is missing or not a string'],
    [{ iss: 'https://issuer.test' }, '403 the issuer is not allowed'], // the slash counts
    [{ iss: 'https://ISSUER.test/' }, '403 the issuer is not allowed'],
    [{ aud: undefined }, '401 aud is missing or not a list of strings'],
    [{ aud: ['api', 1] }, '401 aud is missing or not a list of strings'],
    [{ aud: { 0: 'api', length: 1 } }, '401 aud is missing or not a list of strings'],
    [{ aud: [] }, '401 aud is missing or not a list of strings'],
    [{ aud: 'api,web' }, '403 the audience is not allowed'],
    [{ aud: ['a', 'b'] }, '403 the audience is not allowed'],
  ])('are refused: %j', (changes, verdict) => {
    expect(verdictOf(changes)).toBe(verdict)
  })

  it('say 403 only of tokens that are good otherwise', () => {
    expect(verdictOf({ iss: 'https://evil.test/', exp: NOW_S - 60 })).toBe('401 expired')
  })

  it('need no audience when none is asked for', () => {
    expect(verdictOf({ aud: 7 }, { audiences: undefined })).toBe('good')
  })

  it('may be bound to an age', () => {
    expect(verdictOf({}, { maximumAgeMs: 60_000 })).toBe('good')
    expect(verdictOf({ iat: NOW_S - 65 }, { maximumAgeMs: 60_000 })).toBe('401 issued too long ago')
    expect(verdictOf({ iat: undefined }, { maximumAgeMs: 60_000 })).toBe('401 iat is missing')
  })

  it('say how long the verdict holds', () => {
    const claims = { ...GOOD, nbf: NOW_S - 100 }
    expect(checkClaims(claims, RULES, NOW_S * 1000)).toEqual({
      kind: 'good',
      notBeforeMs: (NOW_S - 10) * 1000 - 5000, // the later of nbf and iat
      expiresAtMs: (NOW_S + 300) * 1000 + 5000,
    })
    const bounded = checkClaims(claims, { ...RULES, maximumAgeMs: 60_000 }, NOW_S * 1000)
    expect(bounded).toMatchObject({ expiresAtMs: (NOW_S - 10) * 1000 + 65_000 })
  })
})
