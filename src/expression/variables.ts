/**
 * The variables of the policy language, as a tree: every path leads to a getter, nothing is built that is not asked for.
 *
 * Source: traffic-policy.md §6; absent values §6.1; results of actions §2.5; phases §2.6.
 */
import { NO_FACTS, type AddressFacts, type PlaceFacts } from '../address-data/address-facts.ts'
import { celFromJson } from './convert.ts'
import { EvaluationError } from './evaluation-error.ts'
import type { Frame } from './frame.ts'
import { HeaderMap, NO_HEADERS, contentType, mediaType, requestCookies, responseCookies } from './headers.ts'
import { queryParameters } from './query.ts'
import type { HeaderView, PhaseName, RequestView, ResponseView, UrlView } from './source.ts'
import { BOOL, DYN, HEADER_MAP, INT, STRING, TIMESTAMP, listOf, mapOf } from './type.ts'
import type { StaticType } from './type.ts'
import { parseUserAgent, type UserAgent } from './user-agent.ts'
import { CelMap, CelTimestamp, EMPTY_MAP, EntryMap, HybridString, LazyMap } from './value.ts'
import type { CelList, CelValue } from './value.ts'

/** One node of the tree. */
export interface Branch {
  readonly type: StaticType
  /** Undefined result = absent. */
  readonly read: (frame: Frame) => CelValue | undefined
  readonly always: boolean
  /** Named fields below; with a text as value it is a hybrid (§6.1). */
  readonly fields?: ReadonlyMap<string, Branch> | undefined
  readonly headers?: ((frame: Frame) => HeaderView) | undefined
  readonly problem?: { readonly message: string; readonly hint?: string | undefined } | undefined
  /** Fields that are not known by name: the branch of any. */
  readonly any?: ((name: string) => Branch) | undefined
  readonly json?: ((frame: Frame) => unknown) | undefined
  readonly nullWhenAbsent?: boolean | undefined
}

type Fields = Readonly<Record<string, Branch>>

const MAP = mapOf(STRING, DYN)

/** The tree for one phase. `now` is the clock behind `time.now`; `locals` are known to one expression only. */
export function variableTree(
  phase: PhaseName,
  now: () => Date,
  locals: readonly string[] = [],
): ReadonlyMap<string, Branch> {
  const tree: Record<string, Branch> = {
    conn: namespace(connection(phase)),
    endpoint: namespace(ENDPOINT),
    time: namespace({ now: always(STRING, clockText(now)) }),
    vars: VARIABLES,
    actions: namespace({ ngrok: ACTIONS }),
  }
  const request = namespace(REQUEST)
  const response = namespace(RESPONSE)
  tree['req'] =
    phase === 'on_tcp_connect'
      ? refused('req is not known in on_tcp_connect', 'move the rule to on_http_request')
      : request
  tree['res'] =
    phase === 'on_http_response' || phase === 'on_event_stream_message'
      ? response
      : refused(`res is not known in ${phase}`, 'move the rule to on_http_response')
  for (const name of locals) tree[name] = optional(DYN, (frame) => frame.source.locals?.get(name))
  return new Map(Object.entries(tree))
}

/** The time as text, formatted once per millisecond. */
function clockText(now: () => Date): () => string {
  let lastMs = NaN
  let text = ''
  return () => {
    const at = now()
    if (at.getTime() !== lastMs) {
      lastMs = at.getTime()
      text = at.toISOString()
    }
    return text
  }
}

// -- building blocks --------------------------------------------------------------------------------------------------

function always(type: StaticType, read: (frame: Frame) => CelValue): Branch {
  return { type, read, always: true }
}

/** A value that may be absent. */
function optional(type: StaticType, read: (frame: Frame) => CelValue | undefined): Branch {
  return { type, read, always: false }
}

/** A text that is empty when nothing is known (§6.1). */
const unknownText = always(STRING, () => '')

function namespace(fields: Fields): Branch {
  const map = new Map(Object.entries(fields))
  return { type: MAP, read: (frame) => lazy(map, frame), always: true, fields: map }
}

/** The same for a namespace that may be missing as a whole. */
function optionalNamespace(fields: Fields, present: (frame: Frame) => boolean): Branch {
  const map = new Map(Object.entries(fields))
  return { type: MAP, read: (frame) => (present(frame) ? lazy(map, frame) : undefined), always: false, fields: map }
}

function hybrid(read: (frame: Frame) => CelValue | undefined, fields: Fields, isAlways = true): Branch {
  return { type: STRING, read, always: isAlways, fields: new Map(Object.entries(fields)) }
}

function refused(message: string, hint?: string): Branch {
  const problem = { message, hint }
  return { type: DYN, read: () => undefined, always: false, problem, any: () => refused(message, hint) }
}

function headerBranch(headers: (frame: Frame) => HeaderView): Branch {
  return { type: HEADER_MAP, read: (frame) => new HeaderMap(headers(frame)), always: true, headers }
}

function lazy(fields: ReadonlyMap<string, Branch>, frame: Frame): CelMap {
  const getters = new Map<string, () => CelValue | undefined>()
  for (const [name, branch] of fields) {
    if (branch.problem === undefined) getters.set(name, () => wholeValue(branch, frame))
  }
  return new LazyMap(getters)
}

/** The value with its fields: hybrids keep them where the text alone would lose them. */
export function wholeValue(branch: Branch, frame: Frame): CelValue | undefined {
  const value = branch.read(frame)
  const { fields } = branch
  return typeof value === 'string' && fields !== undefined ? new HybridString(value, lazy(fields, frame)) : value
}

// -- conn (§6.2 – §6.5) -----------------------------------------------------------------------------------------------

type ReadFacts = (frame: Frame) => AddressFacts

/** Address data is looked up when it is asked for, and remembered by whoever holds it. */
function factsOf(address: (frame: Frame) => string): ReadFacts {
  return (frame) => frame.source.connection.addressData?.(address(frame)) ?? NO_FACTS
}

function placeFields(read: (frame: Frame) => PlaceFacts): Fields {
  return {
    city: always(STRING, (frame) => read(frame).city),
    continent: always(STRING, (frame) => read(frame).continent),
    country: always(STRING, (frame) => read(frame).country),
    country_code: always(STRING, (frame) => read(frame).countryCode),
    subdivision: always(STRING, (frame) => read(frame).subdivision),
    timezone: always(STRING, (frame) => read(frame).timezone),
    metro_code: always(STRING, (frame) => read(frame).metroCode),
    is_eu: optional(BOOL, (frame) => read(frame).isEu),
  }
}

/** §6.3. Without a database texts and lists are empty; numbers and flags of places are absent. */
function addressFields(facts: ReadFacts): Fields {
  return {
    categories: always(listOf(STRING), (frame) => facts(frame).categories),
    is_on_blocklist: always(BOOL, (frame) => facts(frame).isOnBlocklist),
    is_tor_node: always(BOOL, (frame) => facts(frame).isTorNode),
    as: namespace({
      number: optional(INT, (frame) => {
        const { asNumber } = facts(frame)
        return asNumber === undefined ? undefined : BigInt(asNumber)
      }),
      organization: always(STRING, (frame) => facts(frame).asOrganization),
    }),
    geo: namespace({
      location: namespace({
        ...placeFields((frame) => facts(frame).location),
        latitude: always(STRING, (frame) => facts(frame).location.latitude),
        longitude: always(STRING, (frame) => facts(frame).location.longitude),
        radius: always(STRING, (frame) => facts(frame).location.radius),
        postal_code: always(STRING, (frame) => facts(frame).location.postalCode),
      }),
      registered_location: namespace(placeFields((frame) => facts(frame).registeredLocation)),
    }),
  }
}

const clientFacts = factsOf((frame) => frame.source.connection.clientAddress)
const serverFacts = factsOf((frame) => frame.source.connection.serverAddress)

/** The older, short form of the client's place. */
const SHORT_GEO: Fields = {
  city: always(STRING, (frame) => clientFacts(frame).location.city),
  country: always(STRING, (frame) => clientFacts(frame).location.country),
  country_code: always(STRING, (frame) => clientFacts(frame).location.countryCode),
  latitude: always(STRING, (frame) => clientFacts(frame).location.latitude),
  longitude: always(STRING, (frame) => clientFacts(frame).location.longitude),
  radius: always(STRING, (frame) => clientFacts(frame).location.radius),
  subdivision: always(STRING, (frame) => clientFacts(frame).location.subdivision),
}

function connection(phase: PhaseName): Fields {
  const bytes = (read: (frame: Frame) => CelValue): Branch =>
    phase === 'on_tcp_connect' ? refused('no bytes are counted yet in on_tcp_connect') : always(INT, read)
  return {
    client_ip: hybrid((frame) => frame.source.connection.clientAddress, addressFields(clientFacts)),
    client_port: always(INT, (frame) => BigInt(frame.source.connection.clientPort)),
    server_ip: hybrid((frame) => frame.source.connection.serverAddress, addressFields(serverFacts)),
    server_port: always(INT, (frame) => BigInt(frame.source.connection.serverPort)),
    server_region: always(STRING, (frame) => frame.source.connection.serverRegion),
    ts: namespace({
      start: always(TIMESTAMP, (frame) => CelTimestamp.fromMs(frame.source.connection.startedAtMs)),
      end: refused('conn.ts.end is not known while a connection lives', 'time.now is the time of the rule'),
    }),
    bytes_in: bytes((frame) => BigInt(frame.source.connection.bytesIn)),
    bytes_out: bytes((frame) => BigInt(frame.source.connection.bytesOut)),
    geo: namespace(SHORT_GEO),
    tls: optionalNamespace(TLS, (frame) => frame.source.connection.tls !== undefined),
    k8s: namespace({ pod: namespace(POD) }),
  }
}

const POD: Fields = {
  id: unknownText,
  metadata: namespace({
    name: unknownText,
    namespace: unknownText,
    annotations: always(mapOf(STRING, STRING), () => EMPTY_MAP),
    error_code: unknownText,
    error_message: unknownText,
  }),
}

/** A text of `conn.tls`, absent on plain connections. Keys of the source are dotted paths below `conn.tls`. */
function tlsRead(path: string): (frame: Frame) => CelValue | undefined {
  return (frame) => {
    const { tls } = frame.source.connection
    return tls && ((tls.get(path) ?? '') as string)
  }
}

function tlsText(path: string): Branch {
  return optional(STRING, tlsRead(path))
}

function tlsTexts(path: string): Branch {
  return optional(listOf(STRING), (frame) => {
    const { tls } = frame.source.connection
    return tls && ((tls.get(path) ?? []) as string[])
  })
}

function tlsTime(path: string): Branch {
  return optional(TIMESTAMP, (frame) => {
    const ms = frame.source.connection.tls?.get(path)
    return typeof ms === 'number' ? CelTimestamp.fromMs(ms) : undefined
  })
}

function tlsExtensions(path: string): Branch {
  return optional(listOf(MAP), (frame) => {
    const { tls } = frame.source.connection
    if (tls === undefined) return undefined
    const extensions = (tls.get(path) ?? []) as readonly { id: string; critical: boolean; value: Uint8Array }[]
    return extensions.map(({ id, critical, value }) =>
      EntryMap.of([
        ['id', id],
        ['critical', critical],
        ['value', value],
      ]),
    )
  })
}

function whenTls(type: StaticType, value: CelValue): Branch {
  return optional(type, (frame) => (frame.source.connection.tls === undefined ? undefined : value))
}

const NAME_LISTS = 'country locality organization organizational_unit postal_code province street_address'.split(' ')
const SAN_LISTS = 'dns_names email_addresses ip_addresses uris'.split(' ')

function certificate(path: string): Fields {
  const lists = (prefix: string, names: readonly string[]): Fields =>
    Object.fromEntries(names.map((name) => [name, tlsTexts(`${prefix}.${name}`)]))
  const name = (part: string): Branch =>
    hybrid(
      tlsRead(`${path}.${part}`),
      { common_name: tlsText(`${path}.${part}.common_name`), ...lists(`${path}.${part}`, NAME_LISTS) },
      false,
    )
  return {
    subject: name('subject'),
    issuer: name('issuer'),
    san: hybrid(tlsRead(`${path}.san`), lists(`${path}.san`, SAN_LISTS), false),
    serial_number: tlsText(`${path}.serial_number`),
    signature_algorithm: tlsText(`${path}.signature_algorithm`),
    validity: namespace({
      not_before: tlsTime(`${path}.validity.not_before`),
      not_after: tlsTime(`${path}.validity.not_after`),
    }),
    extensions: tlsExtensions(`${path}.extensions`),
  }
}

const TLS: Fields = {
  version: tlsText('version'),
  cipher_suite: tlsText('cipher_suite'),
  sni: tlsText('sni'),
  negotiated_alpn: tlsText('negotiated_alpn'),
  ja4_fingerprint: tlsText('ja4_fingerprint'),
  session_resumed: whenTls(BOOL, false),
  client: namespace({ ...certificate('client'), pem: tlsText('client.pem') }),
  server: namespace(certificate('server')),
}

// -- endpoint (§6.6) --------------------------------------------------------------------------------------------------

const ENDPOINT: Fields = {
  id: always(STRING, (frame) => frame.source.endpoint.id),
  url: always(STRING, (frame) => frame.source.endpoint.url),
  host: always(STRING, (frame) => frame.source.endpoint.host),
  port: always(INT, (frame) => BigInt(frame.source.endpoint.port)),
  addr: always(STRING, (frame) => `${frame.source.endpoint.host}:${frame.source.endpoint.port}`),
  protocol: always(STRING, (frame) => frame.source.endpoint.protocol),
}

// -- req and res (§6.7, §6.8) -----------------------------------------------------------------------------------------

export function requestOf(frame: Frame): RequestView {
  const { request } = frame.source
  if (request === undefined) throw new EvaluationError('there is no request')
  return request
}

export function responseOf(frame: Frame): ResponseView {
  const { response } = frame.source
  if (response === undefined) throw new EvaluationError('there is no response')
  return response
}

const LISTS_OF_COOKIES = mapOf(STRING, listOf(MAP))

function messageFields(headers: (frame: Frame) => HeaderView, length: (frame: Frame) => number | undefined): Fields {
  const first = (frame: Frame, name: string): string => headers(frame).all(name)[0] ?? ''
  return {
    headers: headerBranch(headers),
    trailers: headerBranch(() => NO_HEADERS),
    content_type: hybrid((frame) => mediaType(first(frame, 'content-type')), {
      raw: always(STRING, (frame) => first(frame, 'content-type')),
      parameters: always(mapOf(STRING, STRING), (frame) => contentType(first(frame, 'content-type'))),
    }),
    content_length: optional(INT, (frame) => {
      const value = length(frame)
      return value === undefined ? undefined : BigInt(value)
    }),
    content_encoding: always(listOf(STRING), (frame) =>
      headers(frame)
        .all('content-encoding')
        .flatMap((line) => line.split(','))
        .map((coding) => coding.trim())
        .filter((coding) => coding !== ''),
    ),
    location: always(STRING, (frame) => first(frame, 'location')),
  }
}

const requestHeaders = (frame: Frame): HeaderView => requestOf(frame).headers
const responseHeaders = (frame: Frame): HeaderView => responseOf(frame).headers
const urlOf = (frame: Frame): UrlView => requestOf(frame).url

function authority(url: UrlView): string {
  return url.port === undefined ? url.host : `${url.host}:${url.port}`
}

function uri(url: UrlView): string {
  return url.query === '' ? url.path : `${url.path}?${url.query}`
}

const URL_FIELDS: Fields = {
  scheme: always(STRING, (frame) => urlOf(frame).scheme),
  host: always(STRING, (frame) => urlOf(frame).host),
  path: always(STRING, (frame) => urlOf(frame).path),
  query: always(STRING, (frame) => urlOf(frame).query),
  uri: always(STRING, (frame) => uri(urlOf(frame))),
  port: optional(INT, (frame) => {
    const { port } = urlOf(frame)
    return port === undefined ? undefined : BigInt(port)
  }),
  authority: always(STRING, (frame) => authority(urlOf(frame))),
  // A target with credentials is refused before any policy sees it, so there is never anything to show.
  user_password: unknownText,
  query_params: always(mapOf(STRING, listOf(STRING)), (frame) => queryParameters(urlOf(frame).query)),
  raw: always(STRING, (frame) => urlOf(frame).raw),
  raw_path: always(STRING, (frame) => urlOf(frame).rawPath),
}

const userAgentText = (frame: Frame): string => requestHeaders(frame).all('user-agent')[0] ?? ''
const userAgentOf = (frame: Frame): UserAgent => parseUserAgent(userAgentText(frame))

const USER_AGENT_FIELDS: Fields = {
  name: always(STRING, (frame) => userAgentOf(frame).name),
  version: always(STRING, (frame) => userAgentOf(frame).version),
  os: always(STRING, (frame) => userAgentOf(frame).os),
  os_version: always(STRING, (frame) => userAgentOf(frame).osVersion),
  device: always(STRING, (frame) => userAgentOf(frame).device),
  url: always(STRING, (frame) => userAgentOf(frame).url),
  is_mobile: always(BOOL, (frame) => userAgentOf(frame).kind === 'mobile'),
  is_tablet: always(BOOL, (frame) => userAgentOf(frame).kind === 'tablet'),
  is_desktop: always(BOOL, (frame) => userAgentOf(frame).kind === 'desktop'),
  is_bot: always(BOOL, (frame) => userAgentOf(frame).kind === 'bot'),
}

const REQUEST: Fields = {
  method: always(STRING, (frame) => requestOf(frame).method),
  host: always(STRING, (frame) => requestOf(frame).host),
  version: always(STRING, (frame) => requestOf(frame).version),
  url: hybrid((frame) => {
    const url = urlOf(frame)
    return `${url.scheme}://${authority(url)}${uri(url)}`
  }, URL_FIELDS),
  ...messageFields(requestHeaders, (frame) => requestOf(frame).contentLength),
  cookies: always(LISTS_OF_COOKIES, (frame) => requestCookies(requestHeaders(frame))),
  user_agent: hybrid(userAgentText, USER_AGENT_FIELDS),
  ts: namespace({
    header_received: always(TIMESTAMP, (frame) => CelTimestamp.fromMs(requestOf(frame).headReceivedAtMs)),
    body_received: optional(TIMESTAMP, (frame) => {
      const at = requestOf(frame).bodyReceivedAtMs
      return at === undefined ? undefined : CelTimestamp.fromMs(at)
    }),
  }),
}

const RESPONSE: Fields = {
  status_code: always(INT, (frame) => BigInt(responseOf(frame).statusCode)),
  ...messageFields(responseHeaders, (frame) => responseOf(frame).contentLength),
  cookies: always(LISTS_OF_COOKIES, (frame) => responseCookies(responseHeaders(frame))),
  ts: namespace({
    header_sent: optional(TIMESTAMP, () => undefined),
    body_sent: optional(TIMESTAMP, () => undefined),
  }),
}

// -- vars and actions (§6.9, §2.5) ------------------------------------------------------------------------------------

class VariablesMap extends CelMap {
  readonly #values: ReadonlyMap<string, CelValue>

  constructor(values: ReadonlyMap<string, CelValue>) {
    super()
    this.#values = values
  }

  get size(): number {
    return this.#values.size
  }

  get(key: CelValue): CelValue | undefined {
    return typeof key === 'string' ? this.#values.get(key) : undefined
  }

  keys(): CelList {
    return [...this.#values.keys()]
  }
}

const VARIABLES: Branch = {
  ...always(MAP, (frame) => new VariablesMap(frame.source.variables)),
  any: (name) => optional(DYN, (frame) => frame.source.variables.get(name)),
}

const ACTIONS: Branch = {
  ...always(MAP, (frame) => {
    const getters = new Map<string, () => CelValue>()
    for (const [name, result] of frame.source.results) getters.set(name, () => celFromJson(result))
    return new LazyMap(getters)
  }),
  any: (name) => ({
    ...always(DYN, (frame) => {
      const result = frame.source.results.get(name)
      return result === undefined ? EMPTY_MAP : celFromJson(result)
    }),
    json: (frame) => frame.source.results.get(name),
    nullWhenAbsent: true,
  }),
}
