/** Certificates of listeners: what is accepted, and what each error says. */
import { describe, expect, it } from 'vitest'
import { nameCovers, reportDates, serverCertificate, type CertificateSource } from '../../../src/config/certificate.ts'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import { SourceFile, type Span } from '../../../src/config/source.ts'
import { makeCertificate, opensslSkipReason } from '../../support/certificates.ts'

const source = new SourceFile('gateway.yaml', 'certificate key')
const certificateSpan: Span = { source, start: 0, end: 11 }
const keySpan: Span = { source, start: 12, end: 15 }

function read(
  certificate: string,
  key: string,
  names?: readonly string[],
): { names?: readonly string[]; said: string[] } {
  const diagnostics = new Diagnostics()
  const wanted: CertificateSource = {
    certificate,
    certificateSpan,
    key,
    keySpan,
    names: names?.map((value) => ({ value, span: certificateSpan })),
  }
  const made = serverCertificate(wanted, diagnostics)
  const said = diagnostics.all.map(({ code, span, hint }) => `${code}@${span?.start} ${hint ?? ''}`.trim())
  return { ...(made === undefined ? {} : { names: made.names }), said }
}

describe.skipIf(opensslSkipReason !== undefined)('certificates', () => {
  const one = makeCertificate({ names: 'DNS:Shop.test,DNS:*.shop.test,IP:127.0.0.1' })
  const other = makeCertificate({ names: 'DNS:other.test', newKey: ['rsa:2048'] })

  it('holds the names of the certificate, in lower case, without addresses', () => {
    expect(read(one.certificate, one.key)).toEqual({ names: ['shop.test', '*.shop.test'], said: [] })
    expect(read(other.certificate, other.key)).toEqual({ names: ['other.test'], said: [] })
  })

  it('takes the chain as it stands, the certificate itself first', () => {
    expect(read(one.certificate + other.certificate, one.key).said).toEqual([])
    const [said] = read(other.certificate + one.certificate, one.key).said
    expect(said).toMatch(/^CERTIFICATE_KEY_MISMATCH@12 it belongs to a later one of the chain/)
  })

  it('names the key as the place of a key of another certificate', () => {
    expect(read(one.certificate, other.key)).toEqual({
      said: ['CERTIFICATE_KEY_MISMATCH@12 name the key that the certificate was made for'],
    })
  })

  it('refuses what is no certificate, no key, or an encrypted key', async () => {
    const { createPrivateKey } = await import('node:crypto')
    const encrypted = createPrivateKey(one.key).export({
      type: 'pkcs8',
      format: 'pem',
      cipher: 'aes-256-cbc',
      passphrase: 'x',
    })
    const cut = one.certificate.replace(/\n[^\n]*\n-----END/, '\n-----END')
    expect(read('', one.key).said[0]).toMatch(/^INVALID_CERTIFICATE@0/)
    expect(read(cut, one.key).said[0]).toMatch(/^INVALID_CERTIFICATE@0/)
    expect(read(one.key, one.key).said[0]).toMatch(/^INVALID_CERTIFICATE@0 this is a private key/)
    expect(read(one.certificate, one.certificate).said[0]).toMatch(/^INVALID_KEY@12/)
    expect(read(one.certificate, String(encrypted)).said[0]).toMatch(/^INVALID_KEY@12 decrypt it/)
  })

  it('checks configured names: what is no name is an error, what the certificate lacks a warning', () => {
    expect(read(one.certificate, one.key, ['SHOP.test', '*.shop.test'])).toEqual({
      names: ['shop.test', '*.shop.test'],
      said: [],
    })
    expect(read(one.certificate, one.key, ['127.0.0.1']).said[0]).toMatch(/^INVALID_SERVER_NAME/)
    expect(read(one.certificate, one.key, ['a b.test']).said[0]).toMatch(/^INVALID_SERVER_NAME/)
    expect(read(one.certificate, one.key, ['a.*.test']).said[0]).toMatch(/^INVALID_SERVER_NAME/)
    expect(read(one.certificate, one.key, ['x.other.test']).said[0]).toMatch(/^CERTIFICATE_NAME@0 it holds shop\.test/)
  })

  it('reports ends: an error when it is over, a warning two weeks before', () => {
    const dates = (notBeforeMs: number, notAfterMs: number): string[] => {
      const diagnostics = new Diagnostics()
      const made = serverCertificate(
        { certificate: one.certificate, certificateSpan, key: one.key, keySpan, names: undefined },
        diagnostics,
      )!
      reportDates({ ...made, notBeforeMs, notAfterMs }, 1_000_000_000_000, diagnostics)
      return diagnostics.all.map(({ severity, code }) => `${severity} ${code}`)
    }
    const now = 1_000_000_000_000
    const day = 86_400_000
    expect(dates(0, now)).toEqual(['error CERTIFICATE_EXPIRED'])
    expect(dates(0, now + 13 * day)).toEqual(['warning CERTIFICATE_ENDS_SOON'])
    expect(dates(0, now + 15 * day)).toEqual([])
    expect(dates(now + 1, now + 90 * day)).toEqual(['warning CERTIFICATE_NOT_YET_VALID'])
  })
})

it('a wildcard stands for one label (RFC 6125 §6.4.3)', () => {
  expect(nameCovers('a.test', 'a.test')).toBe(true)
  expect(nameCovers('*.a.test', 'b.a.test')).toBe(true)
  expect(nameCovers('*.a.test', 'a.test')).toBe(false)
  expect(nameCovers('*.a.test', 'c.b.a.test')).toBe(false)
  expect(nameCovers('*.a.test', '.a.test')).toBe(false)
})
