/**
 * What policies see of a certificate, by the paths below `conn.tls.client` and `conn.tls.server`.
 *
 * Node reads most of it. The signature algorithm and the extensions are not among that; they are found in the DER.
 *
 * Source: traffic-policy.md §6.4; RFC 5280 §4.1; RFC 2253 §2 (names as text, last part first); X.690 §8.1 (DER).
 */
import type { X509Certificate } from 'node:crypto'

export interface CertificateExtension {
  /** Object identifier: `2.5.29.17`. */
  readonly id: string
  readonly critical: boolean
  readonly value: Uint8Array
}

/** Texts, lists of texts, times in milliseconds since the epoch, and extensions. */
export type CertificateValue = string | readonly string[] | number | readonly CertificateExtension[]
export type CertificateFields = ReadonlyMap<string, CertificateValue>

/** OpenSSL's short names → ours. */
const NAME_PARTS: Readonly<Record<string, string>> = {
  C: 'country',
  L: 'locality',
  O: 'organization',
  OU: 'organizational_unit',
  postalCode: 'postal_code',
  ST: 'province',
  street: 'street_address',
}

/** As Go's x509 names them. */
const SIGNATURE_ALGORITHMS: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.5': 'SHA1-RSA',
  '1.2.840.113549.1.1.11': 'SHA256-RSA',
  '1.2.840.113549.1.1.12': 'SHA384-RSA',
  '1.2.840.113549.1.1.13': 'SHA512-RSA',
  '1.2.840.10045.4.1': 'ECDSA-SHA1',
  '1.2.840.10045.4.3.2': 'ECDSA-SHA256',
  '1.2.840.10045.4.3.3': 'ECDSA-SHA384',
  '1.2.840.10045.4.3.4': 'ECDSA-SHA512',
  '1.3.101.112': 'Ed25519',
}

/** Reads a certificate. What cannot be understood is left out; never throws for a certificate that node can read. */
export function certificateFields(certificate: X509Certificate): CertificateFields {
  const fields = new Map<string, CertificateValue>()
  addName(fields, 'subject', certificate.subject)
  addName(fields, 'issuer', certificate.issuer)
  const san = certificate.subjectAltName ?? ''
  fields.set('san', san)
  // a value with a comma in it is quoted
  const entries = san.match(/[A-Za-z ]+:(?:"(?:[^"\\]|\\.)*"|[^,]*)/g) ?? []
  const named = (kind: string): string[] =>
    entries.flatMap((entry) => {
      const text = entry.trim()
      return text.startsWith(`${kind}:`) ? text.slice(kind.length + 1).replace(/^"(.*)"$/, '$1') : []
    })
  fields.set('san.dns_names', named('DNS'))
  fields.set('san.email_addresses', named('email'))
  fields.set('san.ip_addresses', named('IP Address'))
  fields.set('san.uris', named('URI'))
  fields.set('serial_number', certificate.serialNumber.toLowerCase())
  fields.set('validity.not_before', Date.parse(certificate.validFrom))
  fields.set('validity.not_after', Date.parse(certificate.validTo))
  try {
    const { algorithm, extensions } = derFields(certificate.raw)
    fields.set('signature_algorithm', SIGNATURE_ALGORITHMS[algorithm] ?? algorithm)
    fields.set('extensions', extensions)
  } catch {
    // node has read it, so only a form that we do not know ends here
    fields.set('extensions', [])
  }
  return fields
}

/** `C=DE\nO=Shop\nCN=a` → `CN=a,O=Shop,C=DE`, and its parts. */
function addName(fields: Map<string, CertificateValue>, path: string, text: string | undefined): void {
  // an empty name is undefined in some versions of node
  const parts = (text ?? '')
    .split('\n')
    .filter((line) => line !== '')
    .flatMap((line) => line.split(/(?<!\\)\+/))
    .map((part) => [part.slice(0, part.indexOf('=')), part.slice(part.indexOf('=') + 1)] as const)
  const escaped = parts.map(([name, value]) => `${name}=${value.replace(/(?<!\\)([,;<>"])/g, '\\$1')}`)
  fields.set(path, escaped.toReversed().join(','))
  fields.set(`${path}.common_name`, parts.findLast(([name]) => name === 'CN')?.[1] ?? '')
  for (const [short, long] of Object.entries(NAME_PARTS)) {
    fields.set(
      `${path}.${long}`,
      parts.flatMap(([name, value]) => (name === short ? value : [])),
    )
  }
}

interface DerValue {
  readonly tag: number
  readonly content: Uint8Array
}

const SEQUENCE = 0x30
const BOOLEAN = 0x01
const EXTENSIONS = 0xa3

/** Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signatureValue } */
function derFields(raw: Uint8Array): { algorithm: string; extensions: CertificateExtension[] } {
  const [certificate] = derValues(raw)
  const [tbs, signature] = derValues(certificate!.content)
  const algorithm = oid(derValues(signature!.content)[0]!.content)
  const wrapped = derValues(tbs!.content).find(({ tag }) => tag === EXTENSIONS)
  const list = wrapped === undefined ? [] : derValues(derValues(wrapped.content)[0]!.content)
  const extensions = list.map(({ content }) => {
    const values = derValues(content)
    const critical = values[1]?.tag === BOOLEAN && values[1].content[0] !== 0
    return { id: oid(values[0]!.content), critical, value: values.at(-1)!.content }
  })
  return { algorithm, extensions }
}

/** The values that follow one another in `bytes`. Throws when a length does not fit. */
function derValues(bytes: Uint8Array): DerValue[] {
  const values: DerValue[] = []
  let at = 0
  while (at < bytes.length) {
    const tag = bytes[at]!
    let length = bytes[at + 1] ?? 0
    let start = at + 2
    if (length >= 0x80) {
      const digits = length & 0x7f
      if (digits > 4) throw new Error('a length that is too long')
      length = 0
      for (let index = 0; index < digits; index++) length = length * 256 + (bytes[start + index] ?? 0)
      start += digits
    }
    if (start + length > bytes.length) throw new Error('a length beyond the end')
    values.push({ tag, content: bytes.subarray(start, start + length) })
    at = start + length
  }
  if (values.length === 0 || (values[0]!.tag !== SEQUENCE && values[0]!.tag === 0)) throw new Error('no value')
  return values
}

/** X.690 §8.19: seven bits a byte; the first number holds two. */
function oid(content: Uint8Array): string {
  const numbers: number[] = []
  let number = 0
  for (const byte of content) {
    number = number * 128 + (byte & 0x7f)
    if (byte >= 0x80) continue
    numbers.push(number)
    number = 0
  }
  const first = numbers.shift() ?? 0
  const top = Math.min(2, Math.floor(first / 40))
  return [top, first - 40 * top, ...numbers].join('.')
}
