/**
 * The URL of a request: as received, as rules see it (canonical), and as a rewrite left it.
 *
 * Source: operations.md H-55, H-65 … H-69; traffic-policy.md §6.7; RFC 3986 §5.2.4, §6.2.
 */
import type { UrlView } from '../expression/source.ts'

/** Why the raw and the canonical path may mean different things to an upstream (H-66). */
export type PathAmbiguity = 'null byte' | 'encoded dot segment' | 'encoded backslash'

interface CanonicalPath {
  readonly path: string
  /** More `..` than segments (H-67). */
  readonly aboveRoot: boolean
  readonly ambiguity: PathAmbiguity | undefined
}

export class RequestUrl implements UrlView {
  readonly scheme: 'http' | 'https'
  readonly rawPath: string
  readonly ambiguity: PathAmbiguity | undefined
  readonly aboveRoot: boolean
  host: string
  port: number | undefined
  path: string
  query: string
  /** What goes upstream: the received target byte for byte until a rewrite changes it (H-55). */
  target: string
  readonly #receivedAuthority: string
  readonly #receivedTarget: string

  /**
   * `authority`: Host value, already checked (H-15). `target`: origin-form, begins with `/`. `isPlain`: its path is known to be
   * canonical.
   */
  constructor(scheme: 'http' | 'https', authority: string, target: string, isPlain = false) {
    this.scheme = scheme
    this.target = target
    const mark = target.indexOf('?')
    this.rawPath = mark === -1 ? target : target.slice(0, mark)
    this.query = mark === -1 ? '' : target.slice(mark + 1)
    this.#receivedAuthority = authority
    this.#receivedTarget = target
    const canonical = isPlain ? undefined : canonicalPath(this.rawPath)
    this.path = canonical === undefined ? this.rawPath : canonical.path
    this.aboveRoot = canonical !== undefined && canonical.aboveRoot
    this.ambiguity = canonical?.ambiguity
    const { host, port } = splitAuthority(authority)
    this.host = host
    this.port = port === (scheme === 'http' ? 80 : 443) ? undefined : port
  }

  /** The URL as received. */
  get raw(): string {
    return `${this.scheme}://${this.#receivedAuthority}${this.#receivedTarget}`
  }

  get authority(): string {
    return this.port === undefined ? this.host : `${this.host}:${this.port}`
  }

  /** The normalised URL: lower-case scheme and host, default port omitted, canonical path, query as received. */
  get href(): string {
    return `${this.scheme}://${this.authority}${this.path}${this.query === '' ? '' : `?${this.query}`}`
  }

  /**
   * Takes over path, query and host of a rewritten URL. An empty authority keeps the host (§5.26).
   * Returns false, changing nothing, when `href` is not an http(s) URL.
   */
  rewrite(href: string): boolean {
    const match = /^(https?):\/\/([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?$/i.exec(href)
    if (match === null) return false
    // groups 2 and 3 always take part in a match
    const authority = match[2]!.replace(/^[^@]*@/, '')
    const path = match[3]!
    const encodedPath = encodeUnsafe(path === '' ? '/' : path)
    const query = encodeUnsafe(match[4] ?? '')
    const { host, port } = authority === '' ? this : splitAuthority(authority)
    if (!/^(?:\[[0-9a-f:.]+\]|[a-z0-9._~%-]*)$/i.test(host)) return false
    this.host = host
    this.port = port === (this.scheme === 'http' ? 80 : 443) ? undefined : port
    this.path = canonicalPath(encodedPath).path
    this.query = query
    this.target = match[4] === undefined ? encodedPath : `${encodedPath}?${query}`
    return true
  }
}

export interface Authority {
  /** What was split: the same string for the same text, so that whoever compares it later compares no characters. */
  readonly text: string
  readonly host: string
  readonly port: number | undefined
}

/** A gateway is asked for few hosts; what was split once is remembered. */
const MAX_REMEMBERED = 256
const remembered = new Map<string, Authority>()
let lastAuthority = ''
let lastSplit: Authority | undefined

/** Host in lower case without a trailing dot; IPv6 keeps its brackets (H-16). */
export function splitAuthority(authority: string): Authority {
  if (lastSplit !== undefined && authority === lastAuthority) return lastSplit
  let split = remembered.get(authority)
  if (split === undefined) {
    split = partsOf(authority)
    if (remembered.size >= MAX_REMEMBERED) remembered.clear()
    remembered.set(authority, split)
  }
  lastAuthority = authority
  lastSplit = split
  return split
}

function partsOf(authority: string): Authority {
  const bracket = authority.lastIndexOf(']')
  const colon = authority.indexOf(':', bracket === -1 ? 0 : bracket)
  const host = (colon === -1 ? authority : authority.slice(0, colon)).toLowerCase().replace(/\.$/, '')
  const port = colon === -1 || colon === authority.length - 1 ? undefined : Number(authority.slice(colon + 1))
  return { text: authority, host, port: port === undefined || Number.isNaN(port) ? undefined : port }
}

/** Percent-encodes what may not stand in a URL (a space becomes `%20`); existing escapes stay. */
export function encodeUnsafe(text: string): string {
  return text.replace(/[^\x21-\x7e]|["<>\\^`{|}]/gu, (character) =>
    [...Buffer.from(character, 'utf8')].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  )
}

/** H-65: unreserved escapes decoded, others upper-cased, dot segments removed, slashes merged. */
export function canonicalPath(raw: string): CanonicalPath {
  // by far the usual case: nothing to decode, no dot segment, no doubled slash
  if (!/%|\/\.|\/\//.test(raw)) return { path: raw, aboveRoot: false, ambiguity: undefined }
  let ambiguity: PathAmbiguity | undefined
  if (/%00/.test(raw)) ambiguity = 'null byte'
  else if (/%5c/i.test(raw)) ambiguity = 'encoded backslash'
  else if (hasEncodedDotSegment(raw)) ambiguity = 'encoded dot segment'
  const decoded = raw.replace(/%([0-9a-f]{2})/gi, (escape, hex: string) => {
    const character = String.fromCharCode(Number.parseInt(hex, 16))
    return /[A-Za-z0-9._~-]/.test(character) ? character : escape.toUpperCase()
  })
  const { path, aboveRoot } = removeDotSegments(decoded)
  return { path: path.replace(/\/{2,}/g, '/'), aboveRoot, ambiguity }
}

/** A segment that is `.` or `..` only after decoding, also one level deeper (`%252e`), or cut off by an encoded slash. */
function hasEncodedDotSegment(raw: string): boolean {
  if (!/%(?:25)*2e/i.test(raw) && !/%(?:25)*2f/i.test(raw)) return false
  return raw.split(/\/|%(?:25)*2f|%(?:25)*5c/i).some((segment) => {
    const plain = segment.replace(/%(?:25)*2e/gi, '.').replace(/;.*$/, '')
    return (plain === '.' || plain === '..') && (segment !== plain || /%(?:25)*(?:2f|5c)/i.test(raw))
  })
}

/** RFC 3986 §5.2.4 over whole segments. */
function removeDotSegments(path: string): { path: string; aboveRoot: boolean } {
  const kept: string[] = []
  let aboveRoot = false
  const segments = path.split('/')
  for (const [index, segment] of segments.entries()) {
    const last = index === segments.length - 1
    if (segment === '.' || segment === '..') {
      if (segment === '..') {
        // the first element is the empty text before the leading slash
        if (kept.length > 1) kept.pop()
        else aboveRoot = true
      }
      if (last) kept.push('')
    } else kept.push(segment)
  }
  return { path: kept.join('/'), aboveRoot }
}
