/**
 * Which addresses of the internet a request that a policy describes may go to: not those of this machine, of the
 * networks around it, or of a cloud's metadata service.
 *
 * Source: traffic-policy.md §5.9 (guard for private ranges); RFC 6890 and its registries; F-38.
 */
import { BlockList, isIPv4 } from 'node:net'

const SPECIAL = new BlockList()
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  SPECIAL.addSubnet(network, prefix, 'ipv4')
}

/** Of IPv6 only global unicast is public, and of that not what stands for other addresses or for examples. */
const GLOBAL = new BlockList()
GLOBAL.addSubnet('2000::', 3, 'ipv6')
const SPECIAL_V6 = new BlockList()
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const) {
  SPECIAL_V6.addSubnet(network, prefix, 'ipv6')
}

/** `address`: IPv4 dotted or IPv6, as a resolver gives it. */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !SPECIAL.check(address, 'ipv4')
  return GLOBAL.check(address, 'ipv6') && !SPECIAL_V6.check(address, 'ipv6')
}
