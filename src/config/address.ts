/**
 * Addresses and URLs of a configuration: what an endpoint answers to, where its upstream is, where a listener stands.
 *
 * Source: kubernetes-objects.md §2.1–2.4 (accepted forms and codes), §11 (codes of cloud endpoints).
 */
import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'

export type UrlScheme = 'http' | 'https' | 'tcp' | 'tls'

const SCHEMES: readonly UrlScheme[] = ['http', 'https', 'tcp', 'tls']

/** What an endpoint answers to. */
export interface EndpointUrl {
  /** Normalised: lower case, no default port, no trailing slash. */
  readonly href: string
  readonly scheme: UrlScheme
  /** Lower case, A-labels, no trailing dot; may start with `*.`; IPv6 in brackets. */
  readonly host: string
  readonly port: number
}

/** One server behind an endpoint. */
export interface UpstreamAddress {
  readonly protocol: UrlScheme
  /** Name or IP address; IPv6 without brackets. */
  readonly host: string
  readonly port: number
  /** `host:port`, IPv6 in brackets: the label in logs and metrics. */
  readonly name: string
}

/** A host and a port; IPv6 without brackets. */
export interface HostPort {
  readonly host: string
  readonly port: number
}

/** Why a text is refused. */
export interface AddressProblem {
  readonly code: string
  readonly message: string
  readonly hint?: string
}

type Result<T> = { readonly value: T } | { readonly problem: AddressProblem }

/** Default port of a scheme; 0 where a port must be written. */
export function defaultPort(scheme: UrlScheme): number {
  return scheme === 'http' ? 80 : scheme === 'https' || scheme === 'tls' ? 443 : 0
}

/** `host:port` with brackets round IPv6. */
export function formatHostPort(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** Whether a host (as in EndpointUrl) is reachable from this machine only. */
export function isLoopbackHost(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || (isIP(host) === 4 && host.startsWith('127.'))
}

/**
 * An endpoint's `url`. `kind` chooses between the agent's codes (`ERR_NGROK_90xx`) and those of cloud endpoints
 * (`ERR_NGROK_180xx`). Addresses that the service would invent (empty, `https://`) are refused: nobody invents them here.
 */
export function parseEndpointUrl(text: string, kind: 'agent' | 'cloud'): Result<EndpointUrl> {
  const code = (agent: string, cloud: string): string => `ERR_NGROK_${kind === 'agent' ? agent : cloud}`
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(text)
  const schemeText = match?.[1]?.toLowerCase() ?? 'https'
  const rest = match === null ? text : match[2]! // the second group took part in the match
  if (!isScheme(schemeText)) {
    return refuse(code('9036', '18022'), `the scheme must be one of ${SCHEMES.join(', ')}, not ${schemeText}`)
  }
  if (rest === '') {
    const hint = 'a host must be written here: no address is chosen for you'
    return refuse(code('9034', '18001'), text === '' ? 'the url is empty' : `${text} names no host`, hint)
  }
  const end = rest.search(/[/?#]/)
  const authority = end === -1 ? rest : rest.slice(0, end)
  if (end !== -1) {
    const tail = rest.slice(end)
    if (tail === '/') {
      return refuse(code('9038', '18001'), 'the url must not end in /', `write ${text.slice(0, -1)}`)
    }
    const part = tail.startsWith('/') ? 'a path' : tail.startsWith('?') ? 'a query' : 'a fragment'
    const hint = `write ${text.slice(0, text.length - tail.length)}; rules of the policy choose by path`
    return refuse(code('9037', '18001'), `the url must not have ${part} (${tail})`, hint)
  }
  if (authority.includes('@')) return refuse(code('9037', '18001'), 'the url must not have user info')
  const split = splitAuthority(authority)
  if (split === undefined) return refuse(code('9034', '18001'), `${authority} is not a host`)
  const host = normalHost(split.host, true)
  if (host === undefined) {
    const wild = split.host.includes('*')
    const hint = wild ? 'a wildcard is `*.` at the start, followed by a domain' : undefined
    return refuse(code('9034', '18001'), `${split.host || text} is not a host`, hint)
  }
  const port = portOf(split.port, schemeText, code('9033', '18001'), code('9030', '18023'))
  if (typeof port !== 'number') return port
  if (port === 0) {
    return refuse(code('9030', '18003'), `a ${schemeText} url must name a port`, `write ${schemeText}://${host}:12345`)
  }
  const shown = port === defaultPort(schemeText) ? '' : `:${port}`
  return { value: { href: `${schemeText}://${host}${shown}`, scheme: schemeText, host, port } }
}

/** Whether a text is a name of several labels, or a wildcard for such names: no IP address, no scheme, port or path. */
export function isDomain(text: string): boolean {
  const host = /^[^:/?#@[\]]+$/.test(text) ? normalHost(text, true) : undefined
  return host !== undefined && isIP(host) === 0 && host.includes('.')
}

/** Checks a URL against its binding (kubernetes-objects.md §2.2, without the account's rules on reserved names). */
export function bindingProblem(
  url: EndpointUrl,
  binding: 'public' | 'internal' | 'kubernetes',
): AddressProblem | undefined {
  if (binding === 'kubernetes') {
    const isService = /^[^.*[]+\.[^.]+$/.test(url.host)
    if (isService) return undefined
    const message = `the host of an endpoint with the binding kubernetes must be name.namespace, not ${url.host}`
    return { code: 'ERR_NGROK_9039', message }
  }
  const internal = url.host.endsWith('.internal')
  if (binding === 'internal' && !internal) {
    return { code: 'ERR_NGROK_9029', message: `an internal endpoint's host must end in .internal, not ${url.host}` }
  }
  if (binding === 'public' && internal) {
    const hint = 'leave bindings out, or write internal'
    return { code: 'ERR_NGROK_9029', message: `${url.host} can only be bound internally`, hint }
  }
  // five names before `.internal`: the wider of the two readings
  if (internal && url.host.split('.').length > 6) {
    return { code: 'ERR_NGROK_9031', message: `${url.host} has more than 5 parts before .internal` }
  }
  return undefined
}

/** Options of parseUpstreamUrl. */
export interface UpstreamUrlOptions {
  /** The scheme of the endpoint it stands behind. */
  readonly endpointScheme: UrlScheme
}

/**
 * An upstream's `url` in all the forms people write: origin, domain, `host:port`, a bare port, a scheme alone.
 * `443` and `localhost:443` mean https.
 */
export function parseUpstreamUrl(text: string, options: UpstreamUrlOptions): Result<UpstreamAddress> {
  const { endpointScheme } = options
  const overHttp = endpointScheme === 'http' || endpointScheme === 'https'
  if (text.startsWith('file:')) {
    return refuseUpstream('files are not served', 'put a file server behind the endpoint and name its address')
  }
  if (text === '') return refuseUpstream('the upstream url is empty', 'write http://127.0.0.1:8080, for example')
  if (/^[0-9]+$/.test(text)) {
    const port = Number(text)
    if (port < 1 || port > 65535) return refuseUpstream(`${text} is not a port`)
    const protocol = overHttp ? (port === 443 ? 'https' : 'http') : endpointScheme
    return { value: upstreamAddress(protocol, 'localhost', port) }
  }
  const match = /^([A-Za-z][A-Za-z0-9+.-]*):\/\/(.*)$/s.exec(text)
  const schemeText = match?.[1]?.toLowerCase()
  if (schemeText !== undefined && !isScheme(schemeText)) {
    return refuseUpstream(`the scheme must be one of ${SCHEMES.join(', ')}, not ${schemeText}`)
  }
  if (schemeText !== undefined && overHttp !== (schemeText === 'http' || schemeText === 'https')) {
    const wanted = overHttp ? 'http or https' : 'tcp or tls'
    return refuseUpstream(`an endpoint with ${endpointScheme} needs an upstream with ${wanted}, not ${schemeText}`)
  }
  const rest = match === null ? text : match[2]! // the second group took part in the match
  if (rest === '' && schemeText !== undefined) {
    const port = defaultPort(schemeText)
    if (port === 0) return refuseUpstream(`${text} names no host and no port`)
    return { value: upstreamAddress(schemeText, 'localhost', port) }
  }
  const end = rest.search(/[/?#]/)
  if (end !== -1 && rest.slice(end) !== '/') {
    const hint = 'the request keeps its own path; the action url-rewrite changes it'
    return refuseUpstream(`the upstream url must not have a path, query or fragment (${rest.slice(end)})`, hint)
  }
  const authority = end === -1 ? rest : rest.slice(0, end)
  if (authority.includes('@')) {
    return refuseUpstream('the upstream url must not have user info', 'add an authorization header with add-headers')
  }
  const split = splitAuthority(authority)
  const host = split === undefined ? undefined : normalHost(split.host, false)
  if (split === undefined || host === undefined) return refuseUpstream(`${authority || text} is not a host`)
  if (!overHttp && split.port === undefined && schemeText !== 'tls') return refuseUpstream(`${text} needs a port`)
  const protocol = schemeText ?? (overHttp ? (split.port === '443' ? 'https' : 'http') : endpointScheme)
  const port = portOf(split.port, protocol, 'INVALID_UPSTREAM_URL', 'INVALID_UPSTREAM_URL')
  if (typeof port !== 'number') return port
  if (port === 0) return refuseUpstream(`${text} needs a port`)
  return { value: upstreamAddress(protocol, unbracketed(host), port) }
}

/** An upstream address with its label. `host` without brackets. */
export function upstreamAddress(protocol: UrlScheme, host: string, port: number): UpstreamAddress {
  return { protocol, host, port, name: formatHostPort(host, port) }
}

/** `127.0.0.1:8080`, `[::1]:80`, `name:80`; with `anyHost` also `:80`, which is 0.0.0.0. Undefined when it is none of them. */
export function parseHostPort(text: string, anyHost = false): HostPort | undefined {
  const split = splitAuthority(text)
  if (split?.port === undefined || !/^[0-9]{1,5}$/.test(split.port)) return undefined
  const port = Number(split.port)
  if (port < 1 || port > 65535) return undefined
  if (split.host === '') return anyHost ? { host: '0.0.0.0', port } : undefined
  const host = normalHost(split.host, false)
  return host === undefined ? undefined : { host: unbracketed(host), port }
}

function isScheme(text: string): text is UrlScheme {
  return (SCHEMES as readonly string[]).includes(text)
}

/** Host and port as written; undefined when brackets do not pair or several colons stand outside them. */
function splitAuthority(text: string): { host: string; port: string | undefined } | undefined {
  const match = /^(\[[^\]]*\]|[^:[\]]*)(?::(.*))?$/s.exec(text)
  if (match === null) return undefined
  return { host: match[1]!, port: match[2] } // the first group always takes part
}

/** Lower case, A-labels, one trailing dot dropped; undefined when it is no host. */
function normalHost(text: string, wildcard: boolean): string | undefined {
  if (text.startsWith('[')) {
    const inner = text.slice(1, -1)
    // the URL parser compresses an IPv6 address the one way RFC 5952 asks for
    return isIP(inner) === 6 && !inner.includes('%') ? new URL(`http://[${inner}]`).hostname : undefined
  }
  if (isIP(text) === 4) return text
  const star = wildcard && text.startsWith('*.')
  let name = star ? text.slice(2) : text
  // domainToASCII answers '' for what it cannot take; plain names with `_` are left as they are
  if (/[^\u0021-\u007e]/.test(name)) name = domainToASCII(name)
  name = name.toLowerCase().replace(/\.$/, '')
  const labels = name.split('.')
  const fits = name.length <= 253 && labels.every((label) => /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label))
  // four numbers that are no IPv4 address, and 0x7f.1, are traps: some resolvers read them as addresses
  if (!fits || /^(0x[0-9a-f]*|[0-9]+)$/.test(labels.at(-1) ?? '')) return undefined
  return star ? `*.${name}` : name
}

function unbracketed(host: string): string {
  return host.startsWith('[') ? host.slice(1, -1) : host
}

/** The port, 0 when there is none and the scheme has no default. */
function portOf(
  text: string | undefined,
  scheme: UrlScheme,
  notNumeric: string,
  outOfRange: string,
): number | { readonly problem: AddressProblem } {
  if (text === undefined) return defaultPort(scheme)
  if (!/^[0-9]+$/.test(text)) return refuse(notNumeric, `${JSON.stringify(text)} is not a port number`)
  const port = Number(text)
  return port >= 1 && port <= 65535 ? port : refuse(outOfRange, `the port must be 1 to 65535, not ${text}`)
}

function refuse(code: string, message: string, hint?: string): { readonly problem: AddressProblem } {
  return { problem: { code, message, ...(hint !== undefined && { hint }) } }
}

function refuseUpstream(message: string, hint?: string): { readonly problem: AddressProblem } {
  return refuse('INVALID_UPSTREAM_URL', message, hint)
}
