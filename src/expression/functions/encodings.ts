/** base64, JSON, query strings, URLs, Basic credentials. Source: traffic-policy.md §7.3; RFC 4648, RFC 3986. */
import { celFromJson, celToText, encodeJson } from '../convert.ts'
import { EvaluationError } from '../evaluation-error.ts'
import type { Frame } from '../frame.ts'
import { percentDecoded, queryPairs } from '../query.ts'
import type { JsonValue } from '../source.ts'
import { EntryMap, compareText, isList, plain } from '../value.ts'
import type { CelMap, CelValue } from '../value.ts'
import { wantBytes, wantMap, wantText } from './arguments.ts'
import type { FunctionServices, FunctionTable } from './registry.ts'

export function defineEncodingFunctions(table: FunctionTable, services: FunctionServices): void {
  table.define('base64.encode', ['base64.encode(bytes) -> string'], (frame, a) => {
    const bytes = wantBytes(a, 'base64.encode')
    frame.spendLength(bytes.length)
    return Buffer.from(bytes).toString('base64')
  })
  table.define('base64.decode', ['base64.decode(string) -> bytes'], (frame, a) => {
    const text = wantText(a, 'base64.decode')
    frame.spendLength(text.length)
    return new Uint8Array(decodedBase64(text, services.overrides))
  })
  if (!services.overrides) return
  /** `global(x)` and `x.receiver()` in one. */
  const both = (
    global: string,
    receiver: string,
    from: readonly string[],
    to: string,
    run: (a: CelValue, frame: Frame) => CelValue,
  ): void => {
    const call = (frame: Frame, a: CelValue): CelValue => {
      if (typeof a === 'string') frame.spendLength(a.length)
      const result = run(a, frame)
      if (typeof result === 'string') frame.spendLength(result.length)
      return result
    }
    if (global !== '') {
      table.define(
        global,
        from.map((type) => `${global}(${type}) -> ${to}`),
        call,
      )
    }
    table.define(
      receiver,
      from.map((type) => `${type}.${receiver}() -> ${to}`),
      call,
    )
  }
  both('', 'encodeBase64', ['string'], 'string', (a) => Buffer.from(wantText(a, 'encodeBase64')).toString('base64'))
  both('', 'decodeBase64', ['string'], 'string', (a) =>
    decodedBase64(wantText(a, 'decodeBase64'), true).toString('utf8'),
  )
  table.define('basic_auth.encode', ['basic_auth.encode(string, string) -> string'], (_frame, user, password) => {
    const pair = `${wantText(user, 'basic_auth.encode')}:${wantText(password, 'basic_auth.encode')}`
    return `Basic ${Buffer.from(pair).toString('base64')}`
  })
  both('json.encode', 'encodeJson', ['list(A)', 'map(A, B)'], 'string', (a, frame) => encodeJson(a, frame))
  both('json.decode', 'decodeJson', ['string'], 'dyn', (a) => decodedJson(wantText(a, 'json.decode')))
  both('', 'isJson', ['string'], 'bool', (a) => {
    try {
      JSON.parse(wantText(a, 'isJson'))
      return true
    } catch {
      return false
    }
  })
  both('queryString.encode', 'encodeQueryString', ['map(A, B)'], 'string', (a, frame) =>
    encodedQuery(wantMap(a, 'queryString.encode'), frame),
  )
  both('queryString.decode', 'decodeQueryString', ['string'], 'map(string, dyn)', (a) =>
    decodedQuery(wantText(a, 'queryString.decode')),
  )
  both('', 'isQueryString', ['string'], 'bool', (a) => {
    const text = wantText(a, 'isQueryString')
    return text.includes('=') && !/\s/.test(text)
  })
  both('url.escape', 'escapeUrl', ['string'], 'string', (a) => escapedUrl(wantText(a, 'url.escape')))
  both('url.unescape', 'unescapeUrl', ['string'], 'string', (a) => unescapedUrl(wantText(a, 'url.unescape')))
  both('url.parse', 'parseUrl', ['string'], 'map(string, string)', (a) => parsedUrl(wantText(a, 'url.parse')))
  both('', 'isURL', ['string'], 'bool', (a) => {
    try {
      const url = parsedUrl(wantText(a, 'isURL'))
      return url.get('scheme') !== '' && url.get('host') !== ''
    } catch (error) {
      if (error instanceof EvaluationError) return false
      throw error
    }
  })
}

function decodedBase64(text: string, strict: boolean): Buffer {
  const isPadded = text.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(text)
  const isBare = !strict && text.length % 4 !== 1 && /^[A-Za-z0-9+/]*$/.test(text)
  if (!isPadded && !isBare) throw new EvaluationError('not base64')
  return Buffer.from(text, 'base64')
}

function decodedJson(text: string): CelValue {
  let value: JsonValue
  try {
    value = JSON.parse(text) as JsonValue
  } catch {
    throw new EvaluationError('not JSON')
  }
  return celFromJson(value)
}

function encodedQuery(map: CelMap, frame: Frame): string {
  const names = map.keys().map((key) => [celToText(key), map.get(key)!] as const) // keys() names existing keys only
  return names
    .sort((a, b) => compareText(a[0], b[0]))
    .flatMap(([name, value]) => {
      const values = isList(value) ? value : [value]
      return values.map((one) => `${escapedUrl(name)}=${escapedUrl(celToText(plain(one), frame))}`)
    })
    .join('&')
}

/** A text for a name that occurs once, a list for one that occurs again. */
function decodedQuery(text: string): CelMap {
  const values = new Map<string, string | string[]>()
  for (const [name, value] of queryPairs(text)) {
    const before = values.get(name)
    if (before === undefined) values.set(name, value)
    else if (typeof before === 'string') values.set(name, [before, value])
    else before.push(value)
  }
  return EntryMap.of(values)
}

/** Everything but letters, digits and `-_.~` as percent escapes of its UTF-8. */
function escapedUrl(text: string): string {
  return encodeURIComponent(text.replace(/\p{Surrogate}/gu, '\ufffd')).replace(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  )
}

function unescapedUrl(text: string): string {
  if (/%(?![0-9a-fA-F]{2})/.test(text)) throw new EvaluationError('an escape of the URL is not valid')
  return percentDecoded(text)
}

/**
 * The parts of a URL under the names of Go's net/url. `host` keeps the port, as there. Throws EvaluationError for texts
 * that are no URL (control characters, broken escapes, a port that is no number).
 */
function parsedUrl(text: string): CelMap {
  // oxlint-disable-next-line no-control-regex -- control characters are what is refused
  if (/[\x00-\x20\x7f]/.test(text)) throw new EvaluationError('not a URL')
  const [, scheme = '', rest = ''] = /^(?:([A-Za-z][A-Za-z0-9+.-]*):)?(.*)$/s.exec(text) ?? []
  const hash = rest.indexOf('#')
  const beforeHash = hash === -1 ? rest : rest.slice(0, hash)
  const question = beforeHash.indexOf('?')
  const beforeQuery = question === -1 ? beforeHash : beforeHash.slice(0, question)
  let opaque = ''
  let authority = ''
  let rawPath = beforeQuery
  if (beforeQuery.startsWith('//')) {
    const slash = beforeQuery.indexOf('/', 2)
    authority = slash === -1 ? beforeQuery.slice(2) : beforeQuery.slice(2, slash)
    rawPath = slash === -1 ? '' : beforeQuery.slice(slash)
  } else if (scheme !== '' && !beforeQuery.startsWith('/')) {
    opaque = beforeQuery
    rawPath = ''
  }
  const at = authority.lastIndexOf('@')
  const host = authority.slice(at + 1)
  if (!/^(?:\[[0-9A-Fa-f:.%]+\]|[^\][:/?#@]*)(?::\d*)?$/.test(host)) throw new EvaluationError('not a URL')
  return EntryMap.of([
    ['scheme', scheme.toLowerCase()],
    ['opaque', opaque],
    ['user', at === -1 ? '' : authority.slice(0, at)],
    ['host', host],
    ['path', unescapedUrl(rawPath)],
    ['raw_path', rawPath],
    ['raw_query', question === -1 ? '' : beforeHash.slice(question + 1)],
    ['fragment', hash === -1 ? '' : unescapedUrl(rest.slice(hash + 1))],
  ])
}
