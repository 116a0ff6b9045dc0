/**
 * What an endpoint is, whichever way it was written: gateway.yaml, a manifest, the command line.
 *
 * Source: kubernetes-objects.md §1–§4.
 */
import {
  bindingProblem,
  formatHostPort,
  isLoopbackHost,
  parseEndpointUrl,
  parseUpstreamUrl,
  upstreamAddress,
  type AddressProblem,
  type EndpointUrl,
  type HostPort,
  type UpstreamAddress,
} from './address.ts'
import type { Diagnostics } from './diagnostic.ts'
import type { MapNode } from './node.ts'
import { readOrReport, type FileReader } from './reader.ts'
import type { Located } from './schema-kit.ts'
import { besideItsFile, type PathText, type UpstreamTimerSettings } from './settings.ts'
import type { Span } from './source.ts'
import type { UpstreamTraffic } from './upstream-settings.ts'
import { nearest } from './spelling.ts'

/** Who can reach an endpoint (§3). `kubernetes` parses and checks; `run` refuses it. */
export type Binding = 'public' | 'internal' | 'kubernetes'

/** URL + policy, and an upstream for agent endpoints. */
export interface EndpointDefinition {
  /** Label in logs and metrics; `namespace/name` for manifests outside the namespace `default`. */
  readonly name: string
  readonly kind: 'agent' | 'cloud'
  readonly binding: Binding
  /** Others with the same url and binding share its requests. */
  readonly pooling: boolean
  readonly url: EndpointUrl
  readonly upstream?: UpstreamDefinition | undefined
  readonly policy?: PolicyDocument | undefined
  /** Forwarding fields of untrusted peers are continued, as ngrok does (O-69). */
  readonly appendsForwarded?: boolean | undefined
  /** Where it is named. */
  readonly span?: Span | undefined
}

export interface UpstreamDefinition {
  /** After `upstream_hosts`. At least one. */
  readonly targets: readonly WeightedAddress[]
  readonly protocol: 'http1' | 'http2'
  /** The first url as written, normalised. */
  readonly href: string
  /** For https targets. */
  readonly tls: UpstreamTlsDefinition
  readonly timers: UpstreamTimerSettings
  readonly traffic: UpstreamTraffic
}

export interface WeightedAddress extends UpstreamAddress {
  readonly weight: number
}

export interface UpstreamTlsDefinition {
  readonly verify: boolean
  /** PEM text. */
  readonly ca: string | undefined
  /** Undefined: the target's own host. */
  readonly serverName: string | undefined
}

export interface PolicyDocument {
  /** After `$NAMES`; today's format or the one of 2024. */
  readonly node: MapNode
  readonly origin: 'file' | 'inline' | 'manifest'
}

/** Stands for a url that was refused, so that what hangs below is checked all the same. */
const UNKNOWN_URL: EndpointUrl = { href: 'http://unknown.invalid', scheme: 'http', host: 'unknown.invalid', port: 80 }

/** The url and binding of an endpoint; what is wrong is reported, and something is answered nevertheless. */
export function endpointAddress(
  url: Located<string> | undefined,
  bindings: readonly Located<string>[] | undefined,
  kind: 'agent' | 'cloud',
  diagnostics: Diagnostics,
): { readonly url: EndpointUrl; readonly binding: Binding } {
  const parsed = url === undefined ? undefined : parseEndpointUrl(url.value, kind)
  if (url !== undefined && parsed !== undefined && 'problem' in parsed) report(parsed.problem, url.span, diagnostics)
  const known = parsed !== undefined && 'value' in parsed ? parsed.value : undefined
  const named = bindings?.[0]
  const binding = bindingOf(named, known, kind, diagnostics)
  const problem = known && bindingProblem(known, binding)
  const span = named?.span ?? url?.span
  if (problem === undefined || span === undefined) return { url: known ?? UNKNOWN_URL, binding }
  report(problem, span, diagnostics)
  // the host decides what else is checked
  return { url: known ?? UNKNOWN_URL, binding: inferredBinding(known) }
}

function inferredBinding(url: EndpointUrl | undefined): 'public' | 'internal' {
  return url?.host.endsWith('.internal') === true ? 'internal' : 'public'
}

function bindingOf(
  named: Located<string> | undefined,
  url: EndpointUrl | undefined,
  kind: 'agent' | 'cloud',
  diagnostics: Diagnostics,
): Binding {
  const inferred = inferredBinding(url)
  if (named === undefined) return inferred
  const { value, span } = named
  if (value === 'public' || value === 'internal') return value
  const code = kind === 'agent' ? 'ERR_NGROK_15005' : 'ERR_NGROK_18007'
  if (value === 'kubernetes') {
    const text = 'the binding kubernetes needs an operator in the cluster: endpoints with it cannot be served'
    const hint = 'use internal and forward-internal, or public with a listener that only the cluster reaches'
    diagnostics.notServed('BINDING_NOT_SERVED', text, span, hint)
    return 'kubernetes'
  }
  const near = nearest(value, ['public', 'internal', 'kubernetes'])
  const hint = near === undefined ? undefined : `did you mean ${near}?`
  diagnostics.error(code, `a binding is public, internal or kubernetes, not ${JSON.stringify(value)}`, span, hint)
  return inferred
}

/** What an upstream is built from. */
export interface UpstreamInput {
  readonly targets: readonly { readonly url: Located<string>; readonly weight: number }[]
  readonly endpoint: EndpointUrl
  readonly protocol: Located<'http1' | 'http2'> | undefined
  readonly verify: Located<boolean> | undefined
  readonly caFile: PathText | undefined
  readonly serverName: string | undefined
  readonly timers: UpstreamTimerSettings
  readonly traffic: UpstreamTraffic
}

/** `upstream_hosts` by normalised `host:port`, and which of them were of use. */
export interface HostMap {
  readonly byName: ReadonlyMap<string, readonly HostPort[]>
  readonly used: Set<string>
}

/** What an upstream definition needs of the load it is part of. */
export interface UpstreamContext {
  readonly hosts: HostMap
  readonly reader: FileReader
  readonly diagnostics: Diagnostics
  readonly timers: UpstreamTimerSettings
  readonly traffic: UpstreamTraffic
}

/** One server with nothing said about its TLS: what manifests and files of ngrok's agent can have. */
export function singleUpstream(
  { url, protocol }: { readonly url: Located<string>; readonly protocol: UpstreamInput['protocol'] },
  endpoint: EndpointUrl,
  { hosts, reader, diagnostics, timers, traffic }: UpstreamContext,
): UpstreamDefinition | undefined {
  return upstreamDefinition(
    {
      targets: [{ url, weight: 1 }],
      endpoint,
      protocol,
      verify: undefined,
      caFile: undefined,
      serverName: undefined,
      timers,
      traffic,
    },
    hosts,
    reader,
    diagnostics,
  )
}

/** Undefined when no url is right; everything wrong is reported. */
export function upstreamDefinition(
  input: UpstreamInput,
  hosts: HostMap,
  reader: FileReader,
  diagnostics: Diagnostics,
): UpstreamDefinition | undefined {
  const targets: WeightedAddress[] = []
  let first: UpstreamAddress | undefined
  let serverName = input.serverName
  for (const { url, weight } of input.targets) {
    const parsed = parseUpstreamUrl(url.value, { endpointScheme: input.endpoint.scheme })
    if ('problem' in parsed) {
      report(parsed.problem, url.span, diagnostics)
      continue
    }
    const address = parsed.value
    first ??= address
    const mapped = hosts.byName.get(address.name)
    if (mapped === undefined) {
      targets.push({ ...address, weight })
      continue
    }
    hosts.used.add(address.name)
    targets.push(...mapped.map(({ host, port }) => ({ ...upstreamAddress(address.protocol, host, port), weight })))
    // the certificate is that of the name in the url (H-54), wherever we connect to
    if (address.protocol === 'https') serverName ??= address.host
  }
  const { protocol, verify } = input
  const overTls = targets.some((target) => target.protocol === 'https' || target.protocol === 'tls')
  if (verify?.value === false) {
    const text = 'certificates of this upstream are not verified'
    if (overTls)
      diagnostics.warning('UPSTREAM_NOT_VERIFIED', text, verify.span, 'name its authority with ca_file instead')
  }
  const ca = input.caFile === undefined ? undefined : certificateText(input.caFile, reader, diagnostics)
  if (first === undefined) return undefined
  return {
    targets,
    protocol: protocol?.value ?? 'http1',
    href: `${first.protocol}://${first.name}`,
    tls: { verify: verify?.value ?? true, ca, serverName },
    timers: input.timers,
    traffic: input.traffic,
  }
}

function certificateText(file: PathText, reader: FileReader, diagnostics: Diagnostics): string | undefined {
  const text = readText(file, reader, diagnostics)
  if (text === undefined) return undefined
  if (text.includes('-----BEGIN CERTIFICATE-----')) return text
  diagnostics.error('INVALID_CA_FILE', `${file.value} holds no PEM certificate`, file.span)
  return undefined
}

/** The text of a file that a setting names; undefined, and reported at the setting, when it cannot be read. */
export function readText(file: PathText, reader: FileReader, diagnostics: Diagnostics): string | undefined {
  return readOrReport(besideItsFile(file), reader, diagnostics, file.span)?.text
}

/**
 * Reports names given twice and urls that may not be shared: endpoints with one url and binding form a pool only when
 * all of them allow it (kubernetes-objects.md §4).
 */
export function checkClashes(endpoints: readonly EndpointDefinition[], diagnostics: Diagnostics): void {
  const byName = new Map<string, EndpointDefinition>()
  const byUrl = new Map<string, EndpointDefinition>()
  for (const endpoint of endpoints) {
    const nameKey = `${endpoint.kind} ${endpoint.name}`
    const namesake = byName.get(nameKey)
    if (namesake === undefined) byName.set(nameKey, endpoint)
    else if (endpoint.name !== '') {
      const related = namesake.span && { message: 'the other one', span: namesake.span }
      diagnostics.error(
        'DUPLICATE_NAME',
        `two endpoints have the name ${endpoint.name}`,
        endpoint.span,
        undefined,
        related,
      )
    }
    if (endpoint.url === UNKNOWN_URL) continue
    const first = byUrl.get(urlKey(endpoint))
    if (first === undefined) byUrl.set(urlKey(endpoint), endpoint)
    else if (!first.pooling || !endpoint.pooling) reportClash(first, endpoint, diagnostics)
  }
}

/** What makes two urls the same place: a public listener cannot tell schemes on one port, nor names of this machine. */
function urlKey({ url, binding }: EndpointDefinition): string {
  if (binding !== 'public') return `${binding} ${url.href}`
  return `${isLoopbackHost(url.host) ? 'localhost' : url.host}:${url.port}`
}

function reportClash(first: EndpointDefinition, second: EndpointDefinition, diagnostics: Diagnostics): void {
  const cloudCode = first.pooling ? '18017' : second.pooling ? '18016' : first.kind === 'cloud' ? '18009' : '18017'
  const code = `ERR_NGROK_${second.kind === 'agent' ? '334' : cloudCode}`
  const text = `the endpoints ${first.name} and ${second.name} both answer to ${second.url.href}`
  const hint = 'give one of them another url, or let both pool (pooling_enabled, in a CloudEndpoint poolingEnabled)'
  const related = first.span && { message: 'the other one', span: first.span }
  diagnostics.error(code, text, second.span, hint, related)
}

function report(problem: AddressProblem, span: Span, diagnostics: Diagnostics): void {
  diagnostics.error(problem.code, problem.message, span, problem.hint)
}

/** The normal form under which `upstream_hosts` and upstream urls meet. */
export function hostKey({ host, port }: HostPort): string {
  return formatHostPort(host, port)
}
