/** Values for the placeholders of published policies (`$YOUR_DOMAIN`, `<COUNTRY-01>`, `{your issuer url}`). */

import { makeCertificate } from '../../support/certificates.ts'

/** Stands for every certificate, authority and key that is left out. */
export const CERTIFICATE = makeCertificate({ names: 'DNS:it.example.org', isAuthority: true })

const DOMAIN = 'shop.example.org'
const ISSUER = 'https://id.example.net'

/** What stands for a `$NAME`, by what the name speaks of. */
function valueOf(name: string): string {
  if (/CIDR/.test(name)) return '203.0.113.0/24'
  if (/(?:^|_)IP(?:_|$)/.test(name)) return '203.0.113.7'
  if (/DOMAIN|HOST/.test(name)) return DOMAIN
  if (/PUBLIC_KEY_URL|JWKS/.test(name)) return `${ISSUER}/jwks.json`
  if (/ISSUER|URL/.test(name)) return ISSUER
  if (/EMAIL/.test(name)) return 'ada@example.org'
  return 'example-value'
}

/** Groups of regular expressions look like placeholders: `(?P<port>…)`. */
const NOT_A_GROUP = '(?<!\\(\\?P?)'

const RULES: readonly (readonly [RegExp, string | ((name: string) => string)])[] = [
  [/\{your issuer url\}/g, ISSUER],
  [/allowed ips here \(IPv4 or IPv6\)|\bALLOWED_IP_ADDRESS_CIDR\b/g, '203.0.113.0/24'],
  [/\{(?:your [a-z ]+|webhook_secret)\}/g, 'example-value'],
  [new RegExp(`${NOT_A_GROUP}<Internal endpoint URL Here>`, 'g'), 'https://service.internal'],
  [/<COUNTRY-\d+>/g, 'FR'],
  [/<[A-Z-_]*(?:AUTH-PROVIDER|AUTH_PROVIDER)[A-Z-_]*>/g, 'id.example.net'],
  [/<(?:YOUR[-_])?(?:NGROK[-_])?DOMAIN>/g, DOMAIN],
  [/<(?:my-host|service-name)>/g, 'service'],
  [/<service-port>/g, '8080'],
  [/<(?:your-[a-z-]+|[A-Z][A-Z0-9_-]+)>/g, 'example-value'],
  [/\$([A-Z][A-Z0-9_]{2,})\b/g, valueOf],
]

/** `-----BEGIN CERTIFICATE----- … -----END CERTIFICATE-----`, and the operator's words for them. */
function fillCertificates(text: string): string {
  return text
    .replace(
      /(-----BEGIN ([A-Z ]+)-----)(\s+)\.\.\. [a-z ]+ \.\.\.(\s+)(-----END)/g,
      (_, begin, kind, gap, last, end) => {
        const pem = String(kind).includes('KEY') ? CERTIFICATE.key : CERTIFICATE.certificate
        return `${begin}${gap}${pem.trim().split('\n').slice(1, -1).join(String(gap))}${last}${end}`
      },
    )
    .replace(/\b(?:CACert|ServerCert)\b/g, JSON.stringify(CERTIFICATE.certificate))
    .replace(/\bServerPrivateKey\b/g, JSON.stringify(CERTIFICATE.key))
}

export function fillPlaceholders(text: string): string {
  let filled = fillCertificates(text)
  for (const [pattern, value] of RULES) {
    filled = filled.replace(pattern, (_, name: string) => (typeof value === 'string' ? value : value(name)))
  }
  return filled
}
