import { describe, expect, it } from 'vitest'
import { Malformed, MAX_TOKEN_CHARS, parseClaims, parseJws } from '../../../src/jwt/compact.ts'

const encode = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const HEADER = { alg: 'RS256', kid: 'k1', typ: 'JWT' }
const SIGNATURE = Buffer.alloc(64, 7).toString('base64url')
const token = (header: unknown = HEADER, payload: unknown = { sub: 'a' }, signature = SIGNATURE): string =>
  `${encode(header)}.${encode(payload)}.${signature}`

function reasonOf(text: string): string {
  const parsed = parseJws(text)
  return parsed instanceof Malformed ? parsed.reason : 'is taken'
}

describe('the form of a token', () => {
  it('is taken apart', () => {
    const text = token()
    const parsed = parseJws(text)
    if (parsed instanceof Malformed) throw new Error(parsed.reason)
    expect(parsed).toMatchObject({ header: HEADER, algorithm: 'RS256', keyId: 'k1' })
    expect(parsed.signingInput.toString()).toBe(text.slice(0, text.lastIndexOf('.')))
    expect(parsed.payload.toString()).toBe('{"sub":"a"}')
    expect(parsed.signature).toEqual(Buffer.alloc(64, 7))
  })

  it.each([
    ['nothing', ''],
    ['one part', encode(HEADER)],
    ['two parts', `${encode(HEADER)}.${encode({})}`],
    ['five parts, as JWE has', `${token()}.x.y`],
    ['an empty signature', token(HEADER, {}, '')],
    ['an empty header', `.${encode({})}.${SIGNATURE}`],
    ['padding', `${token()}=`],
    ['white space', token().replace('.', ' .')],
    ['a line end', `${token()}\n`],
    ['the other alphabet', `${token()}+/`],
    ['20000 dots', '.'.repeat(15_000)],
  ])('is refused with %s (T-53)', (_name, text) => {
    expect(reasonOf(text)).toBe('not three base64url parts')
  })

  it.each([
    ['the header', `${encode('{"alg":"RS256" }').slice(0, -1)}R.${encode({})}.${SIGNATURE}`],
    ['the signature', token(HEADER, {}, `${Buffer.alloc(64).toString('base64url').slice(0, -1)}B`)],
    ['two bytes', token(HEADER, {}, 'AAB')],
  ])('is refused with unused bits in %s: one token has one spelling (T-53)', (_name, text) => {
    expect(reasonOf(text)).toBe('base64url of impossible length or with unused bits')
  })

  it('is refused with a part of impossible length', () => {
    expect(reasonOf(token(HEADER, {}, 'AAAAA'))).toBe('base64url of impossible length or with unused bits')
  })

  it('is refused beyond its bound, whatever it holds', () => {
    expect(reasonOf('a'.repeat(MAX_TOKEN_CHARS + 1))).toBe('longer than 16384 characters')
  })

  it.each([
    [{ alg: 'RS256', crit: ['b64'], b64: false }, 'crit names extensions that are not implemented'],
    [{ alg: 'RS256', crit: [] }, 'crit names extensions that are not implemented'],
    [{ alg: 'RS256', b64: false }, 'unencoded payload'],
    [{ alg: 'RS256', zip: 'DEF' }, 'compressed or encrypted'],
    [{ alg: 'dir', enc: 'A128GCM' }, 'compressed or encrypted'],
    [{ alg: 'RS256', cty: 'JWT' }, 'nested token'],
    [{ alg: 'RS256', cty: 'application/jwt' }, 'nested token'],
    [{ alg: 'RS256', kid: 1 }, 'kid is not a string'],
    [{ alg: 'RS256', typ: null }, 'typ is not a string'],
    [{ alg: 'RS256', typ: 'dpop+jwt' }, 'typ is another kind of token'],
    [{ alg: 'RS256', typ: 'application/LOGOUT+JWT' }, 'typ is another kind of token'],
    [{ kid: 'k1' }, 'alg is not a string'],
    [{ alg: '' }, 'alg is not a string'],
    [['RS256'], 'header: not a JSON object'],
    ['{"alg":"none","alg":"RS256"}', 'header: a member occurs twice'],
    ['{"alg":"RS256"', 'header: not JSON'],
    ['\ufeff{"alg":"RS256"}', 'header: not JSON'],
  ])('is refused with the header %j (T-52, RFC 8725)', (header, reason) => {
    expect(reasonOf(token(header))).toBe(reason)
  })

  it('refuses a header that is not UTF-8', () => {
    const header = Buffer.from([...Buffer.from('{"alg":"RS256","x":"'), 0xff, ...Buffer.from('"}')])
    expect(reasonOf(`${header.toString('base64url')}.e30.${SIGNATURE}`)).toBe('header: not UTF-8')
  })

  it.each([
    { alg: 'RS256', typ: 'at+jwt' },
    { alg: 'RS256', typ: 'anything' },
    { alg: 'RS256', b64: true, jku: 'x' },
  ])('is taken with the header %j: other members are ignored', (header) => {
    expect(reasonOf(token(header))).toBe('is taken')
  })
})

describe('the claims of a token', () => {
  it.each(['[1]', '1', 'null', '"x"', '', '{"exp":1,"exp":2}', '{"a":1}{'])('are not %j', (text) => {
    expect(parseClaims(Buffer.from(text))).toBeInstanceOf(Malformed)
  })

  it('may be called kind and malformed', () => {
    expect(parseClaims(Buffer.from('{"kind":"malformed"}'))).toEqual({ kind: 'malformed' })
  })
})
