/** IP addresses and CIDR ranges as numbers: parsed once, tested without allocation beyond the address itself. */
import { isIP } from 'node:net'

/** An address as 16 bytes; IPv4 as IPv4-mapped IPv6, so that both families compare in one space. */
export type AddressBytes = Uint8Array

/** Null when the text is no IP address. Accepts brackets round IPv6. A zone (`%eth0`) is not an address we route by. */
export function parseAddress(text: string): AddressBytes | null {
  const bare = text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text
  const family = isIP(bare)
  if (family === 4) {
    const bytes = new Uint8Array(16)
    bytes[10] = 0xff
    bytes[11] = 0xff
    for (const [index, part] of bare.split('.').entries()) bytes[12 + index] = Number(part)
    return bytes
  }
  if (family !== 6 || bare.includes('%')) return null
  const bytes = new Uint8Array(16)
  const groups = (part: string): number[] =>
    part === ''
      ? []
      : part.split(':').flatMap((group) => {
          if (!group.includes('.')) return [Number.parseInt(group, 16)]
          const octets = group.split('.').map(Number)
          // isIP accepted the text, so there are four octets
          return [(octets[0]! << 8) | octets[1]!, (octets[2]! << 8) | octets[3]!]
        })
  const [head, tail] = bare.split('::')
  const first = groups(head ?? '')
  const last = tail === undefined ? [] : groups(tail)
  for (const [index, group] of first.entries()) {
    bytes[index * 2] = group >> 8
    bytes[index * 2 + 1] = group & 0xff
  }
  for (const [index, group] of last.entries()) {
    const at = 16 - (last.length - index) * 2
    bytes[at] = group >> 8
    bytes[at + 1] = group & 0xff
  }
  return bytes
}

export interface Cidr {
  readonly text: string
  readonly bytes: AddressBytes
  /** Of 128; IPv4 prefixes count from 96. */
  readonly prefixBits: number
}

/** `10.0.0.0/8`, `2001:db8::/32`, or a bare address (= /32, /128). Host bits may be set. Null when it is neither. */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf('/')
  const bytes = parseAddress(slash === -1 ? text : text.slice(0, slash))
  if (bytes === null) return null
  const offset = isIP(slash === -1 ? text : text.slice(0, slash)) === 4 ? 96 : 0
  if (slash === -1) return { text, bytes, prefixBits: 128 }
  const prefix = text.slice(slash + 1)
  if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > 128 - offset) return null
  return { text, bytes, prefixBits: offset + Number(prefix) }
}

export function inCidr(address: AddressBytes, cidr: Cidr): boolean {
  const whole = cidr.prefixBits >> 3
  for (let index = 0; index < whole; index += 1) if (address[index] !== cidr.bytes[index]) return false
  const rest = cidr.prefixBits & 7
  if (rest === 0) return true
  const mask = (0xff << (8 - rest)) & 0xff
  // whole < 16 here, because prefixBits is at most 128
  return (address[whole]! & mask) === (cidr.bytes[whole]! & mask)
}
