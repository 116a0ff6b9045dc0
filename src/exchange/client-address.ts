/**
 * Who the client is: the right-most address that no trusted proxy accounts for.
 *
 * Source: operations.md O-71.
 */
import type { Peer } from '../listener/front-end.ts'
import { type Cidr, inCidr, parseAddress } from './cidr.ts'
import type { MessageHead } from './message-head.ts'

export interface ClientAddress {
  readonly address: string
  /** 0 when a forwarding header named the client. */
  readonly port: number
  /** The direct peer is one of `trusted_proxies`: its forwarding headers and request id are believed. */
  readonly peerTrusted: boolean
}

export function isTrusted(address: string, trusted: readonly Cidr[]): boolean {
  if (trusted.length === 0) return false
  const bytes = parseAddress(address)
  return bytes !== null && trusted.some((cidr) => inCidr(bytes, cidr))
}

/** PROXY header first, then X-Forwarded-For from the right; a malformed entry ends the walk. */
export function clientAddress(peer: Peer, head: MessageHead, trusted: readonly Cidr[]): ClientAddress {
  const peerTrusted = isTrusted(peer.address, trusted)
  if (!peerTrusted) return { address: peer.address, port: peer.port, peerTrusted }
  let address = peer.proxiedAddress ?? peer.address
  let port = peer.proxiedAddress === undefined ? peer.port : (peer.proxiedPort ?? 0)
  if (peer.proxiedAddress !== undefined && !isTrusted(address, trusted)) return { address, port, peerTrusted }
  const hops = head.all('x-forwarded-for').join(',').split(',')
  for (let index = hops.length - 1; index >= 0; index -= 1) {
    const hop = hopAddress(hops[index]!)
    if (hop === undefined) break
    address = hop
    port = 0
    if (!isTrusted(hop, trusted)) break
  }
  return { address, port, peerTrusted }
}

/** An entry with optional brackets, quotes and port; undefined when it names no address. */
function hopAddress(entry: string): string | undefined {
  const text = entry.trim().replace(/^"(.*)"$/, '$1')
  const bracketed = /^\[([0-9a-f:.]+)\](?::\d{1,5})?$/i.exec(text)
  if (bracketed !== null) return parseAddress(bracketed[1]!) === null ? undefined : bracketed[1]!.toLowerCase()
  const withPort = /^([0-9.]+):\d{1,5}$/.exec(text)
  const bare = withPort === null ? text : withPort[1]!
  return parseAddress(bare) === null ? undefined : bare.toLowerCase()
}
