/** Addresses and networks as values: `ip()`, `cidr()`. Source: CEL's network extension; RFC 5952 for the text of IPv6. */
import { inCidr, parseAddress, parseCidr } from '../../exchange/cidr.ts'
import { addressText, familyOf } from '../convert.ts'
import { EvaluationError } from '../evaluation-error.ts'
import { CelAddress, CelNetwork } from '../value.ts'
import type { CelValue } from '../value.ts'
import { wantText, wrong } from './arguments.ts'
import type { FunctionTable } from './registry.ts'

export function defineAddressValues(table: FunctionTable): void {
  table.define('ip', ['ip(string) -> net.IP', 'net.CIDR.ip() -> net.IP'], (_frame, a) =>
    a instanceof CelNetwork ? new CelAddress(a.bytes) : addressOf(wantText(a, 'ip')),
  )
  table.define('cidr', ['cidr(string) -> net.CIDR'], (_frame, a) => networkOf(wantText(a, 'cidr')))
  table.define('isIP', ['isIP(string) -> bool'], (_frame, a) => succeeds(() => addressOf(wantText(a, 'isIP'))))
  table.define('isCIDR', ['isCIDR(string) -> bool'], (_frame, a) => succeeds(() => networkOf(wantText(a, 'isCIDR'))))
  table.define('ip.isCanonical', ['ip.isCanonical(string) -> bool'], (_frame, a) => {
    const text = wantText(a, 'ip.isCanonical')
    return addressText(addressOf(text).bytes) === text
  })
  const property = (name: string, result: string, read: (bytes: Uint8Array, family: 4 | 6) => CelValue): void => {
    table.define(name, [`net.IP.${name}() -> ${result}`], (_frame, a) => {
      if (!(a instanceof CelAddress)) throw wrong(a, name)
      return read(a.bytes, familyOf(a.bytes))
    })
  }
  // IPv4 stands in the last four of the sixteen bytes
  const [loopback4, loopback6] = [parseCidr('127.0.0.0/8')!, parseCidr('::1')!]
  const [local4, local6] = [parseCidr('169.254.0.0/16')!, parseCidr('fe80::/10')!]
  const [multicast4, multicast6] = [parseCidr('224.0.0.0/4')!, parseCidr('ff00::/8')!]
  const [localMulticast4, localMulticast6] = [parseCidr('224.0.0.0/24')!, parseCidr('ff02::/16')!]
  const isUnspecified = (bytes: Uint8Array, family: 4 | 6): boolean =>
    bytes.subarray(family === 4 ? 12 : 0).every((byte) => byte === 0)
  property('family', 'int', (_bytes, family) => BigInt(family))
  property('isUnspecified', 'bool', isUnspecified)
  property('isLoopback', 'bool', (bytes, family) => inCidr(bytes, family === 4 ? loopback4 : loopback6))
  property('isLinkLocalUnicast', 'bool', (bytes, family) => inCidr(bytes, family === 4 ? local4 : local6))
  property('isLinkLocalMulticast', 'bool', (bytes, family) =>
    inCidr(bytes, family === 4 ? localMulticast4 : localMulticast6),
  )
  property('isGlobalUnicast', 'bool', (bytes, family) => {
    const isBroadcast = family === 4 && bytes.subarray(12).every((byte) => byte === 0xff)
    const [loopback, local, multicast] =
      family === 4 ? [loopback4, local4, multicast4] : [loopback6, local6, multicast6]
    return (
      !isBroadcast &&
      !isUnspecified(bytes, family) &&
      ![loopback, local, multicast].some((range) => inCidr(bytes, range))
    )
  })
  const within = (network: CelValue, bytes: Uint8Array, name: string): boolean => {
    if (!(network instanceof CelNetwork)) throw wrong(network, name)
    const { prefixBits } = network
    return familyOf(network.bytes) === familyOf(bytes) && inCidr(bytes, { text: '', bytes: network.bytes, prefixBits })
  }
  table.define(
    'containsIP',
    ['net.CIDR.containsIP(net.IP) -> bool', 'net.CIDR.containsIP(string) -> bool'],
    (_frame, a, b) =>
      within(a, (b instanceof CelAddress ? b : addressOf(wantText(b, 'containsIP'))).bytes, 'containsIP'),
  )
  table.define(
    'containsCIDR',
    ['net.CIDR.containsCIDR(net.CIDR) -> bool', 'net.CIDR.containsCIDR(string) -> bool'],
    (_frame, a, b) => {
      const inner = b instanceof CelNetwork ? b : networkOf(wantText(b, 'containsCIDR'))
      return a instanceof CelNetwork && inner.prefixBits >= a.prefixBits && within(a, inner.bytes, 'containsCIDR')
    },
  )
  table.define('prefixLength', ['net.CIDR.prefixLength() -> int'], (_frame, a) => {
    if (!(a instanceof CelNetwork)) throw wrong(a, 'prefixLength')
    return BigInt(familyOf(a.bytes) === 4 ? a.prefixBits - 96 : a.prefixBits)
  })
  table.define('masked', ['net.CIDR.masked() -> net.CIDR'], (_frame, a) => {
    if (!(a instanceof CelNetwork)) throw wrong(a, 'masked')
    const bytes = a.bytes.map((byte, index) => byte & (0xff00 >> Math.min(8, Math.max(0, a.prefixBits - index * 8))))
    return new CelNetwork(bytes, a.prefixBits)
  })
}

function addressOf(text: string): CelAddress {
  const bytes = text.includes('[') || isMappedText(text) ? null : parseAddress(text)
  if (bytes === null) throw new EvaluationError('not an IP address')
  return new CelAddress(bytes)
}

function networkOf(text: string): CelNetwork {
  const range = text.includes('/') && !text.includes('[') && !isMappedText(text) ? parseCidr(text) : null
  if (range === null) throw new EvaluationError('not a CIDR range')
  return new CelNetwork(range.bytes, range.prefixBits)
}

/** `::ffff:192.0.2.1`: the extension refuses IPv4 in IPv6 notation. */
function isMappedText(text: string): boolean {
  return text.includes(':') && text.includes('.')
}

function succeeds(run: () => unknown): boolean {
  try {
    run()
    return true
  } catch (error) {
    if (error instanceof EvaluationError) return false
    throw error
  }
}
