/**
 * `conn.tls.*` of a connection, as far as the front end knows it: the name that was asked for, the certificate that was
 * shown, and the client's. Version, cipher suite, protocol and fingerprint are known to the native one only, and else empty
 * (§6.1).
 *
 * Source: traffic-policy.md §6.1, §6.4; operations.md F-17.
 */
import { X509Certificate } from 'node:crypto'
import type { TlsValue, TlsView } from '../expression/source.ts'
import type { ListenCertificate, PeerTls } from '../listener/front-end.ts'
import { certificateFields, type CertificateFields } from './certificate-fields.ts'

const NOTHING: CertificateFields = new Map()
const served = new WeakMap<ListenCertificate, CertificateFields>()
/** Clients come again with the same certificate on every request of a connection. */
const shown = new Map<string, CertificateFields>()
const MOST_SHOWN = 1000

/** Undefined on plain connections. */
export function tlsView(tls: PeerTls | undefined): TlsView | undefined {
  return tls === undefined ? undefined : new ConnectionTls(tls)
}

class ConnectionTls implements TlsView {
  readonly #tls: PeerTls

  constructor(tls: PeerTls) {
    this.#tls = tls
  }

  get clientAuthorities(): string {
    return this.#tls.clientAuthorities
  }

  get(path: string): TlsValue | undefined {
    if (path === 'sni') return this.#tls.serverName
    if (path === 'client.pem') return this.#tls.clientCertificate
    if (path.startsWith('client.')) return clientFields(this.#tls.clientCertificate).get(path.slice(7))
    if (path.startsWith('server.')) return serverFields(this.#tls.certificate).get(path.slice(7))
    return this.#ofSession(path)
  }

  #ofSession(path: string): TlsValue | undefined {
    const { session } = this.#tls
    switch (path) {
      case 'version':
        return session?.version
      case 'cipher_suite':
        return session?.cipherSuite
      case 'negotiated_alpn':
        return session?.alpn
      case 'ja4_fingerprint':
        return session?.ja4
      default:
        return undefined
    }
  }
}

function serverFields(certificate: ListenCertificate): CertificateFields {
  let fields = served.get(certificate)
  if (fields === undefined) served.set(certificate, (fields = read(certificate.chain)))
  return fields
}

function clientFields(pem: string): CertificateFields {
  if (pem === '') return NOTHING
  let fields = shown.get(pem)
  if (fields === undefined) {
    if (shown.size >= MOST_SHOWN) shown.clear()
    shown.set(pem, (fields = read(pem)))
  }
  return fields
}

function read(pem: string): CertificateFields {
  try {
    return certificateFields(new X509Certificate(pem))
  } catch {
    return NOTHING
  }
}
