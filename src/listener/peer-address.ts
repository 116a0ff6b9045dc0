/**
 * Addresses as canonical text.
 *
 * Source: RFC 5952 §4 (IPv6: lower case, no leading zeros, the longest run of zeros compressed); FrontEnd `Peer`.
 */

/** `bytes`: 4 or 16 bytes in network order, as the library gives them; anything else gives the empty text. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`
  if (bytes.length !== 16) return ''
  if (isMapped(bytes)) return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}`
  const groups: number[] = []
  for (let index = 0; index < 16; index += 2) groups.push((bytes[index]! << 8) | bytes[index + 1]!)
  let bestStart = -1
  let bestLength = 1 // a single zero group is not compressed (§4.2.2)
  for (let start = 0; start < 8;) {
    let end = start
    while (end < 8 && groups[end] === 0) end++
    if (end - start > bestLength) {
      bestStart = start
      bestLength = end - start
    }
    start = end + 1
  }
  const text = groups.map((group) => group.toString(16))
  if (bestStart === -1) return text.join(':')
  return `${text.slice(0, bestStart).join(':')}::${text.slice(bestStart + bestLength).join(':')}`
}

/** `::ffff:a.b.c.d`: an IPv4 client on a socket for both families. */
function isMapped(bytes: Uint8Array): boolean {
  for (let index = 0; index < 10; index++) if (bytes[index] !== 0) return false
  return bytes[10] === 0xff && bytes[11] === 0xff
}
