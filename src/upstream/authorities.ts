/**
 * The authorities that Node.js trusts: those it brings along and those of NODE_EXTRA_CA_CERTS, or what its options say
 * instead. The native pool verifies against the same as everything else that asks over TLS.
 *
 * Source: H-56; Node.js, "tls.rootCertificates" and "NODE_EXTRA_CA_CERTS".
 */
import { readFileSync } from 'node:fs'
import * as tls from 'node:tls'

/** Of Node.js 22.15 and newer. */
type CaCertificatesOf = ((store: 'default') => readonly string[]) | undefined

let known: string | undefined

/** PEM. Undefined: only Node.js knows (it takes OpenSSL's own, and this version cannot tell which those are). */
export function defaultAuthorities(): string | undefined {
  known ??= readAuthorities()
  return known
}

function readAuthorities(): string | undefined {
  const { getCACertificates } = tls as { readonly getCACertificates?: CaCertificatesOf }
  if (getCACertificates !== undefined) return getCACertificates('default').join('\n')
  const options = [...process.execArgv, process.env.NODE_OPTIONS ?? '']
  if (options.some((option) => option.includes('--use-openssl-ca'))) return undefined
  const texts = [...tls.rootCertificates]
  const { NODE_EXTRA_CA_CERTS: path } = process.env
  if (path !== undefined && path !== '') {
    try {
      texts.push(readFileSync(path, 'utf8'))
    } catch {
      // Node.js has said so, and goes on without
    }
  }
  return texts.join('\n')
}
