/**
 * Redis addresses as an operator writes them: `redis://`, `rediss://` (TLS), and clusters as `redis+cluster://h1,h2:7001`,
 * `rediss+cluster://…` or a comma-separated list of URLs.
 */

/** Where Redis is and how to log in. */
export interface RedisAddress {
  readonly nodes: readonly { readonly host: string; readonly port: number }[]
  readonly isCluster: boolean
  readonly isTls: boolean
  readonly username: string | undefined
  readonly password: string | undefined
  /** Number of the database; a cluster has only 0. */
  readonly database: number
}

/** An address that cannot be used; the message names the reason and never the password. */
export class RedisAddressError extends Error {
  override readonly name = 'RedisAddressError'
}

const DEFAULT_PORT = 6379
const SCHEME = /^(rediss?)(\+cluster)?:\/\//

/** Reads an address. Throws RedisAddressError. */
export function parseRedisAddress(text: string): RedisAddress {
  const trimmed = text.trim()
  const scheme = SCHEME.exec(trimmed)
  if (scheme === null) {
    throw new RedisAddressError(
      'a Redis address begins with redis://, rediss://, redis+cluster:// or rediss+cluster://',
    )
  }
  const isTls = scheme[1] === 'rediss'
  const parts = splitNodes(trimmed, isTls)
  const urls = parts.map((part) => parsePart(part, isTls))
  const first = urls[0] as ParsedPart // split never gives an empty list
  const isCluster = scheme[2] !== undefined || urls.length > 1
  if (isCluster && urls.some((url) => url.database !== 0)) {
    throw new RedisAddressError('a Redis Cluster has no databases: leave out the path of the address')
  }
  for (const url of urls) {
    if (url.username !== undefined && url.username !== first.username) {
      throw new RedisAddressError('all nodes of a Redis Cluster share one user: name it in the first address only')
    }
    if (url.password !== undefined && url.password !== first.password) {
      throw new RedisAddressError('all nodes of a Redis Cluster share one password: give it in the first address only')
    }
  }
  return {
    nodes: urls.map(({ host, port }) => ({ host, port })),
    isCluster,
    isTls,
    username: first.username,
    password: first.password,
    database: first.database,
  }
}

/** The addresses without user and password, for logs. */
export function describeRedisAddress(address: RedisAddress): string {
  const scheme = `redis${address.isTls ? 's' : ''}${address.isCluster ? '+cluster' : ''}`
  const nodes = address.nodes.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`)
  const database = address.database === 0 ? '' : `/${address.database}`
  return `${scheme}://${nodes.join(',')}${database}`
}

interface ParsedPart {
  readonly host: string
  readonly port: number
  readonly username: string | undefined
  readonly password: string | undefined
  readonly database: number
}

/** Nodes are separated by commas; a comma in a password must be written %2C. */
function splitNodes(text: string, isTls: boolean): string[] {
  return text.split(',').map((part) => {
    const node = part.trim()
    const scheme = SCHEME.exec(node)
    if (scheme === null) return node
    if ((scheme[1] === 'rediss') !== isTls) {
      throw new RedisAddressError('all nodes of a Redis Cluster are reached the same way: redis:// or rediss://')
    }
    return node.slice(scheme[0].length)
  })
}

function parsePart(part: string, isTls: boolean): ParsedPart {
  if (part === '') throw new RedisAddressError('a Redis address names a host')
  let url: URL
  try {
    // A scheme that URL reads like http: host names are lower-cased, IPv6 keeps its brackets.
    url = new URL(`http://${part}`)
  } catch {
    throw new RedisAddressError('a Redis address is not of the form redis://[user[:password]@]host[:port][/database]')
  }
  if (url.search !== '' || url.hash !== '') {
    throw new RedisAddressError(
      `a Redis address has no query or fragment (TLS is said by rediss://${isTls ? ', as here' : ''})`,
    )
  }
  const path = url.pathname.slice(1)
  if (path !== '' && !/^\d{1,5}$/.test(path)) {
    throw new RedisAddressError('the path of a Redis address is the number of a database')
  }
  // URL leaves out port 80, which is the default of the scheme lent above.
  const written = /:(\d+)(?:\/|$)/.exec(part.slice(part.lastIndexOf('@') + 1).replace(/^\[[^\]]*\]/, ''))?.[1]
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: written === undefined ? DEFAULT_PORT : Number(written),
    username: decode(url.username),
    password: decode(url.password),
    database: path === '' ? 0 : Number(path),
  }
}

function decode(text: string): string | undefined {
  if (text === '') return undefined
  try {
    return decodeURIComponent(text)
  } catch {
    throw new RedisAddressError('user or password of a Redis address are not percent-encoded: write % as %25')
  }
}
