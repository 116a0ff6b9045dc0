/**
 * Writes small databases in MaxMind's format, for tests. Source: MaxMind DB file format specification 2.0.
 */

export type MmdbValue = string | number | boolean | readonly MmdbValue[] | { readonly [key: string]: MmdbValue }

/** IPv4 networks (`192.0.2.0/24`) with their records. Longer prefixes must not lie inside shorter ones. */
export function mmdb(networks: Readonly<Record<string, MmdbValue>>): Buffer {
  // a node is a pair of children: another node's number, or the place of a record in `data`
  const nodes: [Child, Child][] = [['none', 'none']]
  const data: Buffer[] = []
  let dataBytes = 0
  for (const [network, value] of Object.entries(networks)) {
    const [address = '', length = '32'] = network.split('/')
    const bits = address
      .split('.')
      .map((part) => Number(part).toString(2).padStart(8, '0'))
      .join('')
    const record = encode(value)
    let node = 0
    for (let depth = 0; depth < Number(length); depth += 1) {
      const side = bits[depth] === '1' ? 1 : 0
      const children = nodes[node]!
      if (depth === Number(length) - 1) {
        children[side] = { data: dataBytes }
      } else {
        if (typeof children[side] !== 'number') {
          nodes.push(['none', 'none'])
          children[side] = nodes.length - 1
        }
        node = children[side] as number
      }
    }
    data.push(record)
    dataBytes += record.length
  }
  const tree = Buffer.alloc(nodes.length * 8)
  const pointer = (child: Child): number => {
    if (child === 'none') return nodes.length
    return typeof child === 'number' ? child : nodes.length + 16 + child.data
  }
  for (const [at, [left, right]] of nodes.entries()) {
    tree.writeUInt32BE(pointer(left), at * 8)
    tree.writeUInt32BE(pointer(right), at * 8 + 4)
  }
  const metadata = encode({
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1_764_000_000,
    database_type: 'Test',
    description: { en: 'made by a test' },
    ip_version: 4,
    languages: ['en'],
    node_count: nodes.length,
    record_size: 32,
  })
  return Buffer.concat([tree, Buffer.alloc(16), ...data, Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1'), metadata])
}

type Child = 'none' | number | { readonly data: number }

const TYPES = { text: 2, double: 3, uint32: 6, map: 7, list: 11, boolean: 14 } as const

function encode(value: MmdbValue): Buffer {
  if (typeof value === 'string')
    return Buffer.concat([control(TYPES.text, Buffer.byteLength(value)), Buffer.from(value)])
  if (typeof value === 'boolean') return control(TYPES.boolean, value ? 1 : 0)
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(Number.isInteger(value) ? 4 : 8)
    if (Number.isInteger(value)) bytes.writeUInt32BE(value)
    else bytes.writeDoubleBE(value)
    return Buffer.concat([control(Number.isInteger(value) ? TYPES.uint32 : TYPES.double, bytes.length), bytes])
  }
  if (Array.isArray(value)) {
    const items = value as readonly MmdbValue[]
    return Buffer.concat([control(TYPES.list, items.length), ...items.map(encode)])
  }
  const entries = Object.entries(value as Readonly<Record<string, MmdbValue>>)
  return Buffer.concat([
    control(TYPES.map, entries.length),
    ...entries.flatMap(([key, item]) => [encode(key), encode(item)]),
  ])
}

function control(type: number, size: number): Buffer {
  const sizeBits = size < 29 ? size : 29
  const head = type < 8 ? [(type << 5) | sizeBits] : [sizeBits, type - 7]
  return Buffer.from(size < 29 ? head : [...head, size - 29])
}
