/**
 * What the addresses of a name mean for balancing: each address of the family that comes first is a server of its own; the
 * other family's are tried when that one cannot be reached, since a name with one of each is usually one machine.
 *
 * Source: RFC 8305 §4 (the order of the lookup decides the family).
 */
import { isIP } from 'node:net'

/** For each server the addresses in the order in which they are tried. */
export function connectOrders(addresses: readonly string[]): readonly (readonly string[])[] {
  const family = isIP(addresses[0] ?? '')
  const first = addresses.filter((address) => isIP(address) === family)
  const others = addresses.filter((address) => isIP(address) !== family)
  // the second server falls back on the second address of the other family
  return first.map((address, index) => [address, ...others.slice(index), ...others.slice(0, index)])
}
