/**
 * Certificates of listeners: a PEM chain with its key, read and checked as they will be used.
 *
 * Source: RFC 5280 §4 (certificates), RFC 6066 §3 (server names), RFC 6125 §6.4.3 (a wildcard stands for one label);
 * operations.md O-02 ("certificates parsed").
 */
import { createHash, createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { isIP } from 'node:net'
import type { Diagnostics } from './diagnostic.ts'
import type { Span } from './source.ts'

/** A certificate that a listener can show, with its key. */
export interface ServerCertificate {
  /** PEM, the certificate itself first. */
  readonly chain: string
  /** PEM (PKCS #8). */
  readonly key: string
  /** Server names it is shown for, lower case; `*.example.org` stands for one label. */
  readonly names: readonly string[]
  readonly notBeforeMs: number
  readonly notAfterMs: number
  /** Where it is configured. */
  readonly span: Span
  /** Equal when nothing of it changed. */
  readonly fingerprint: string
}

/** What a certificate is read from. Texts are PEM, spans are the places that name them. */
export interface CertificateSource {
  readonly certificate: string
  readonly certificateSpan: Span
  readonly key: string
  readonly keySpan: Span
  /** Names to show it for; undefined = those that it holds. */
  readonly names: readonly { readonly value: string; readonly span: Span }[] | undefined
}

const BLOCK = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[\s\S]*?-----END (?:X509 |TRUSTED )?CERTIFICATE-----/g
const SERVER_NAME = /^(?:\*\.)?(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*$/

/** A certificate that ends within this time is a warning. */
export const EXPIRES_SOON_MS: number = 14 * 86_400_000

/** Every certificate of a PEM text in order; undefined when one of them cannot be read, or there is none. */
export function certificatesIn(pem: string): X509Certificate[] | undefined {
  const blocks = pem.match(BLOCK)
  if (blocks === null) return undefined
  try {
    return blocks.map((block) => new X509Certificate(block))
  } catch {
    return undefined
  }
}

/**
 * Checks a certificate and its key. Undefined after errors, which name the setting: no PEM, an encrypted key, a key of
 * another certificate, a name that is no server name. Dates are not looked at here (see `reportDates`).
 */
export function serverCertificate(source: CertificateSource, diagnostics: Diagnostics): ServerCertificate | undefined {
  const chain = certificatesIn(source.certificate)
  if (chain === undefined) {
    const holdsKey = source.certificate.includes('PRIVATE KEY-----')
    const text = 'the certificate cannot be read: it is not a PEM certificate'
    const hint = holdsKey
      ? 'this is a private key: it belongs under key'
      : 'it begins with -----BEGIN CERTIFICATE-----; intermediates follow in the same text'
    diagnostics.error('INVALID_CERTIFICATE', text, source.certificateSpan, hint)
  }
  const key = privateKey(source, diagnostics)
  const leaf = chain?.[0]
  if (chain === undefined || leaf === undefined || key === undefined) return undefined
  if (!leaf.checkPrivateKey(key)) {
    const text = 'the key does not belong to the certificate'
    const other = chain.slice(1).some((certificate) => certificate.checkPrivateKey(key))
    const hint = other
      ? "it belongs to a later one of the chain: the server's own certificate must come first"
      : 'name the key that the certificate was made for'
    diagnostics.error('CERTIFICATE_KEY_MISMATCH', text, source.keySpan, hint)
    return undefined
  }
  const names = namesOf(source, leaf, diagnostics)
  if (names === undefined) return undefined
  const chainText = chain.map((certificate) => certificate.toString()).join('')
  const keyText = String(key.export({ type: 'pkcs8', format: 'pem' }))
  return {
    chain: chainText,
    key: keyText,
    names,
    notBeforeMs: Date.parse(leaf.validFrom),
    notAfterMs: Date.parse(leaf.validTo),
    span: source.certificateSpan,
    fingerprint: createHash('sha256')
      .update(JSON.stringify([chainText, keyText, names]))
      .digest('hex'),
  }
}

function privateKey(source: CertificateSource, diagnostics: Diagnostics): KeyObject | undefined {
  try {
    return createPrivateKey(source.key)
  } catch (error) {
    // the error's own text may quote the file
    const encrypted =
      source.key.includes('ENCRYPTED') || (error as NodeJS.ErrnoException).code === 'ERR_MISSING_PASSPHRASE'
    const text = encrypted ? 'the key is encrypted' : 'the key cannot be read: it is not a PEM private key'
    const hint = encrypted
      ? 'decrypt it with openssl pkey -in KEY -out PLAIN, and let only the gateway read the file'
      : 'it begins with -----BEGIN PRIVATE KEY-----, or with RSA or EC before PRIVATE'
    diagnostics.error('INVALID_KEY', text, source.keySpan, hint)
    return undefined
  }
}

function namesOf(
  source: CertificateSource,
  leaf: X509Certificate,
  diagnostics: Diagnostics,
): readonly string[] | undefined {
  if (source.names === undefined) return namesIn(leaf)
  let isValid = true
  const names: string[] = []
  for (const { value, span } of source.names) {
    const name = value.toLowerCase().replace(/\.$/, '')
    if (!SERVER_NAME.test(name) || isIP(name) !== 0) {
      const hint = 'write www.example.org, or *.example.org for every name one label below'
      diagnostics.error('INVALID_SERVER_NAME', `${JSON.stringify(value)} is not a server name`, span, hint)
      isValid = false
      continue
    }
    // a wildcard is covered when the names below it are
    if (leaf.checkHost(name.replace(/^\*\./, 'any.')) === undefined) {
      const held = namesIn(leaf).join(', ')
      const hint = held === '' ? undefined : `it holds ${held}`
      diagnostics.warning(
        'CERTIFICATE_NAME',
        `the certificate is not valid for ${name}: clients will refuse it`,
        span,
        hint,
      )
    }
    names.push(name)
  }
  return isValid ? names : undefined
}

/** The DNS names of a certificate; its common name when it has none at all (old ones). */
export function namesIn(leaf: X509Certificate): string[] {
  const names = (leaf.subjectAltName ?? '')
    .split(', ')
    .flatMap((entry) => (entry.startsWith('DNS:') ? entry.slice(4).replace(/^"|"$/g, '') : []))
  const common = /^CN=(.*)$/m.exec(leaf.subject)?.[1]
  const all = leaf.subjectAltName === undefined && common !== undefined ? [common] : names
  return [...new Set(all.map((name) => name.toLowerCase()))].filter(
    (name) => SERVER_NAME.test(name) && isIP(name) === 0,
  )
}

/**
 * An expired certificate is an error, one that ends soon or is not valid yet a warning. Kept apart from reading: a
 * worker that is replaced must come up with a certificate that has ended meanwhile.
 */
export function reportDates(certificate: ServerCertificate, nowMs: number, diagnostics: Diagnostics): void {
  const { notBeforeMs, notAfterMs, span } = certificate
  const day = (ms: number): string => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')} UTC`
  if (notAfterMs <= nowMs) {
    diagnostics.error('CERTIFICATE_EXPIRED', `the certificate ended on ${day(notAfterMs)}`, span, 'renew it')
  } else if (notAfterMs - nowMs < EXPIRES_SOON_MS) {
    diagnostics.warning('CERTIFICATE_ENDS_SOON', `the certificate ends on ${day(notAfterMs)}`, span, 'renew it')
  }
  if (notBeforeMs > nowMs) {
    diagnostics.warning('CERTIFICATE_NOT_YET_VALID', `the certificate is valid from ${day(notBeforeMs)} on`, span)
  }
}

/** Whether a certificate's name stands for a host: equal, or a wildcard for its first label. Lower case. */
export function nameCovers(name: string, host: string): boolean {
  if (!name.startsWith('*.')) return name === host
  const dot = host.indexOf('.')
  return dot > 0 && host.slice(dot) === name.slice(1)
}
