/** Headers and cookies as CEL values. Source: traffic-policy.md §6.7, §6.8; RFC 6265 §4.2, §5.2; RFC 9110 §8.3. */
import type { HeaderView } from './source.ts'
import { CelDuration, CelMap, CelTimestamp, EntryMap, plain } from './value.ts'
import type { CelList, CelValue } from './value.ts'

/** Headers by name, in any case; iteration gives lower-case names. */
export class HeaderMap extends CelMap {
  readonly #headers: HeaderView

  constructor(headers: HeaderView) {
    super()
    this.#headers = headers
  }

  get size(): number {
    return this.#headers.names().length
  }

  get(key: CelValue): CelValue | undefined {
    const name = plain(key)
    if (typeof name !== 'string') return undefined
    const values = this.#headers.all(name.toLowerCase())
    return values.length === 0 ? undefined : values
  }

  keys(): CelList {
    return this.#headers.names()
  }
}

export const NO_HEADERS: HeaderView = { all: () => [], has: () => false, names: () => [] }

/** `text/html` of `Text/HTML; charset=utf-8`. */
export function mediaType(raw: string): string {
  const end = raw.indexOf(';')
  return (end === -1 ? raw : raw.slice(0, end)).trim().toLowerCase()
}

/** The parameters of a content type, names in lower case, quotes taken off. The first of a name counts. */
export function contentType(raw: string): CelMap {
  const parameters = new EntryMap()
  const start = raw.indexOf(';')
  if (start === -1) return parameters
  for (const match of raw.slice(start).matchAll(/;\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))/g)) {
    const name = match[1]!.toLowerCase() // group 1 always takes part
    if (!parameters.has(name)) parameters.add(name, match[2]?.replace(/\\(.)/g, '$1') ?? match[3] ?? '')
  }
  return parameters
}

/** Fields a cookie has when nothing is known of them. */
const COOKIE_ZERO: readonly (readonly [string, CelValue])[] = [
  ['name', ''],
  ['value', ''],
  ['domain', ''],
  ['path', ''],
  ['expires', new CelTimestamp(-62_135_596_800_000_000_000n)],
  ['max_age', new CelDuration(0n)],
  ['http_only', false],
  ['secure', false],
  ['same_site', ''],
  ['unparsed_attributes', new EntryMap()],
]

/** A cookie; fields not given have their zero values. */
export function cookie(fields: Readonly<Record<string, CelValue>>): CelMap {
  return EntryMap.of(COOKIE_ZERO.map(([name, zero]) => [name, fields[name] ?? zero] as const))
}

/** Name and value of every cookie of the request, in header order. */
export function requestCookiePairs(headers: HeaderView): (readonly [string, string])[] {
  return headers
    .all('cookie')
    .flatMap((line) => line.split(';'))
    .map((part) => {
      const equals = part.indexOf('=')
      return equals === -1
        ? (['', ''] as const)
        : ([part.slice(0, equals).trim(), unquoted(part.slice(equals + 1).trim())] as const)
    })
    .filter(([name]) => name !== '')
}

function unquoted(value: string): string {
  return value.length >= 2 && value.startsWith('"') && value.endsWith('"') ? value.slice(1, -1) : value
}

/** A cookie of a request, made when somebody looks into it: a client may send thousands (T-21). */
class RequestCookie extends CelMap {
  readonly size = COOKIE_ZERO.length
  readonly #name: string
  readonly #value: string
  #whole: CelMap | undefined

  constructor(name: string, value: string) {
    super()
    this.#name = name
    this.#value = value
  }

  get(key: CelValue): CelValue | undefined {
    return this.#fields.get(key)
  }

  keys(): CelList {
    return this.#fields.keys()
  }

  get #fields(): CelMap {
    return (this.#whole ??= cookie({ name: this.#name, value: this.#value }))
  }
}

/** map<string, list<cookie>> of a request. */
export function requestCookies(headers: HeaderView): CelMap {
  return grouped(requestCookiePairs(headers).map(([name, value]) => [name, new RequestCookie(name, value)]))
}

/** map<string, list<cookie>> of a response: of one name, the longest path first. */
export function responseCookies(headers: HeaderView): CelMap {
  const cookies = headers
    .all('set-cookie')
    .map((line) => setCookie(line))
    .filter((found) => found !== undefined)
  cookies.sort((a, b) => b.path.length - a.path.length)
  return grouped(cookies.map((found) => [found.name, found.value]))
}

function grouped(cookies: readonly (readonly [string, CelMap])[]): CelMap {
  const lists = new Map<string, CelMap[]>()
  for (const [name, value] of cookies) {
    const list = lists.get(name)
    if (list === undefined) lists.set(name, [value])
    else list.push(value)
  }
  return EntryMap.of(lists)
}

function setCookie(line: string): { name: string; path: string; value: CelMap } | undefined {
  const [pair = '', ...attributes] = line.split(';')
  const equals = pair.indexOf('=')
  if (equals <= 0) return undefined
  const name = pair.slice(0, equals).trim()
  const fields: Record<string, CelValue> = { name, value: unquoted(pair.slice(equals + 1).trim()) }
  const unparsed = new EntryMap()
  const keep = (key: string, text: string): void => {
    if (key !== '' && !unparsed.has(key)) unparsed.add(key, text)
  }
  let path = ''
  for (const attribute of attributes) {
    const at = attribute.indexOf('=')
    const key = (at === -1 ? attribute : attribute.slice(0, at)).trim()
    const text = at === -1 ? '' : attribute.slice(at + 1).trim()
    switch (key.toLowerCase()) {
      case 'domain':
        fields['domain'] = text.replace(/^\./, '').toLowerCase()
        break
      case 'path':
        fields['path'] = path = text
        break
      case 'expires': {
        const ms = Date.parse(text)
        if (Number.isNaN(ms)) keep(key, text)
        else fields['expires'] = CelTimestamp.fromMs(ms)
        break
      }
      case 'max-age':
        if (/^-?\d{1,9}$/.test(text)) fields['max_age'] = new CelDuration(BigInt(text) * 1_000_000_000n)
        else keep(key, text)
        break
      case 'httponly':
        fields['http_only'] = true
        break
      case 'secure':
        fields['secure'] = true
        break
      case 'samesite':
        fields['same_site'] = text
        break
      default:
        keep(key, text)
    }
  }
  fields['unparsed_attributes'] = unparsed
  return { name, path, value: cookie(fields) }
}
