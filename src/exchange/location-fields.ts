/** `Location` and `Content-Location` of a server that was asked under another host than the client's. Source: H-54. */
import type { Exchange } from './exchange.ts'
import type { MessageHead } from './message-head.ts'
import { splitAuthority } from './request-url.ts'

const FIELDS = ['location', 'content-location'] as const

/**
 * Where the Host was rewritten, URLs that point at it point at what the client asked for: its scheme, host and port. One
 * with another scheme than the server was asked by is meant (a redirect to https) and stays.
 */
export function mapLocations(exchange: Exchange, head: MessageHead): void {
  const { publicHost, target, url } = exchange
  const asked = exchange.head.first('host')
  if (asked === undefined || asked === publicHost || publicHost === '' || target === undefined) return
  for (const name of FIELDS) {
    const values = head.all(name)
    if (values.length !== 1) continue
    const [, scheme = '', authority = '', rest = ''] = /^(https?):\/\/([^/?#]*)(.*)$/i.exec(values[0]!) ?? []
    if (scheme.toLowerCase() !== target.protocol || !isSame(authority, asked, target.protocol)) continue
    head.set(name, `${url.scheme}://${publicHost}${rest}`)
  }
}

function isSame(one: string, other: string, scheme: 'http' | 'https'): boolean {
  const [a, b] = [splitAuthority(one), splitAuthority(other)]
  const usual = scheme === 'https' ? 443 : 80
  return a.host === b.host && (a.port ?? usual) === (b.port ?? usual)
}
