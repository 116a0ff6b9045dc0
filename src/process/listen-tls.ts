/**
 * What a TLS listener shows its clients: the certificates of its settings, and those that policies bring.
 *
 * Source: traffic-policy.md §5.25; RFC 6066 §3.
 */
import { createHash } from 'node:crypto'
import { nameCovers } from '../config/certificate.ts'
import type { Diagnostics } from '../config/diagnostic.ts'
import type { EndpointDefinition } from '../config/load.ts'
import type { ListenerSettings } from '../config/settings.ts'
import type { ListenTls } from '../listener/front-end.ts'

/** Undefined for plain listeners. The configuration was checked. */
export function listenTls(listener: ListenerSettings): ListenTls | undefined {
  const { tls } = listener
  if (tls === undefined) return undefined
  const { certificates } = tls
  const identity = createHash('sha256')
    .update(certificates.map(({ fingerprint }) => fingerprint).join(' '))
    .digest('hex')
  return { identity, certificates, clientAuthorities: undefined }
}

/** Every TLS listener has a certificate, and every https endpoint behind it one that clients will accept. */
export function checkListenTls(
  listeners: readonly ListenerSettings[],
  endpoints: readonly EndpointDefinition[],
  diagnostics: Diagnostics,
): void {
  for (const { address, port, tls } of listeners) {
    if (tls === undefined) continue
    const names = tls.certificates.flatMap((certificate) => certificate.names)
    if (tls.certificates.length === 0) {
      const hint = 'give it tls.certificates'
      diagnostics.error('NO_CERTIFICATE', `the listener ${address} has no certificate to show`, tls.span, hint)
      continue
    }
    for (const { url, binding, name, span } of endpoints) {
      if (binding !== 'public' || url.scheme !== 'https' || url.port !== port) continue
      const isCovered = names.some((covering) => covering === url.host || nameCovers(covering, url.host))
      if (isCovered) continue
      const text = `no certificate of the listener ${address} is for ${url.host}, the host of ${name}: clients will refuse it`
      diagnostics.warning('CERTIFICATE_MISSING', text, span)
    }
  }
}
