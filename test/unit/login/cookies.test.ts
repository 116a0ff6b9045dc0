/** Cookies of logins on the wire. Source: RFC 6265 §4, §5; RFC 6265bis §4.1.3. */
import { describe, expect, it } from 'vitest'
import { cookieTest } from '../../../src/actions/login.ts'
import {
  cookieIn,
  cookieName,
  deleteParts,
  MAX_PARTS,
  readParts,
  setCookie,
  writeParts,
} from '../../../src/login/cookies.ts'

const tls = { secure: true, domain: undefined, authId: '' }
const plain = { secure: false, domain: undefined, authId: '' }

/** What a browser sends back for `set-cookie` lines. */
function field(lines: string): string {
  return [...lines.matchAll(/^set-cookie: ([^;]*)/gm)].map((match) => match[1]!).join('; ')
}

describe('names', () => {
  it.each([
    [tls, '__Host-session'],
    [{ ...tls, domain: 'example.com' }, '__Secure-session'],
    [{ ...tls, authId: 'staff' }, '__Host-session_staff'],
    [plain, 'session'],
  ])('%o is %s', (scope, name) => expect(cookieName('session', scope)).toBe(name))

  it('are told from those of the application', () => {
    const isOwn = cookieTest('')
    for (const name of [
      'session',
      '__Host-session',
      '__Secure-session',
      '__Host-session.1',
      'nonce.0',
      '__Host-nonce.4',
    ]) {
      expect(isOwn(name), name).toBe(true)
    }
    for (const name of ['sessions', 'my-session', 'session_staff', 'nonce', 'xnonce.0', '__Host-sid', 'session.10']) {
      expect(isOwn(name), name).toBe(false)
    }
    expect(cookieTest('staff')('__Host-session_staff.2')).toBe(true)
    expect(cookieTest('staff')('__Host-session')).toBe(false)
  })
})

describe('attributes', () => {
  it('__Host- has Secure, Path=/ and no Domain', () => {
    expect(setCookie('__Host-session', 'x', tls)).toBe(
      'set-cookie: __Host-session=x; Path=/; HttpOnly; SameSite=Lax; Secure\r\n',
    )
  })
  it('a domain and an age where they are given', () => {
    expect(setCookie('__Secure-session', 'x', { ...tls, domain: 'example.com' }, 60.9)).toBe(
      'set-cookie: __Secure-session=x; Path=/; Domain=example.com; Max-Age=60; HttpOnly; SameSite=Lax; Secure\r\n',
    )
  })
})

describe('cookieIn', () => {
  it.each([
    ['session=a', 'a'],
    ['x=1; session=a; y=2', 'a'],
    ['x=1;session=a;y=2', 'a'],
    ['my-session=b; session=a', 'a'],
    ['x=session=b; session=a', 'a'],
    ['session=a; session=b', 'a'],
    ['my-session=b', undefined],
    ['session', undefined],
    ['', undefined],
  ])('%s', (text, value) => expect(cookieIn(text, 'session')).toBe(value))
})

describe('parts', () => {
  it.each([1, 100, 3798, 3799, 7600, 15_000])('%i characters come back whole', (length) => {
    const text = Array.from({ length }, (_, at) => String.fromCharCode(97 + (at % 26))).join('')
    const lines = writeParts(text, 'session', plain, { field: '' })!
    for (const line of lines.split('\r\n')) expect(line.length).toBeLessThan(4096)
    expect(readParts(field(lines), 'session')).toBe(text)
  })

  it('more than fits is refused', () => {
    expect(writeParts('x'.repeat(MAX_PARTS * 3800 - 2), 'session', plain, { field: '' })).toBeDefined()
    expect(writeParts('x'.repeat(MAX_PARTS * 3800 - 1), 'session', plain, { field: '' })).toBeUndefined()
  })

  it('parts of a longer session are deleted with it, and before a shorter one', () => {
    const long = field(writeParts('x'.repeat(9000), 'session', plain, { field: '' })!)
    const short = writeParts('y', 'session', plain, { field: long })!
    expect(short).toContain('session.1=; Path=/; Max-Age=0')
    expect(short).toContain('session.2=; Path=/; Max-Age=0')
    expect([...deleteParts('session', plain, long).matchAll(/Max-Age=0/g)]).toHaveLength(3)
  })

  it('a session with a missing part is none', () => {
    const long = field(writeParts('x'.repeat(9000), 'session', plain, { field: '' })!)
    expect(readParts(long.replace('session.1=', 'session.9='), 'session')).toBeUndefined()
    for (const text of ['', 'a', '0.a', '7.a', '9.a', '-1.a', '..a']) {
      expect(readParts(`session=${text}`, 'session')).toBeUndefined()
    }
  })
})
