/**
 * From files to a checked configuration: the one loader behind `check` and `run`.
 *
 * It opens nothing but the files that are named, and collects every error of all of them. Endpoints of a configuration
 * with errors are there as far as they could be read, so that their policies are checked too.
 * Source: operations.md O-02, O-08, O-11 … O-13; spec/README.md "Settled".
 */
import { join } from 'node:path'
import { readAgentFiles, type AgentInput } from './agent-file.ts'
import { checkSelfTargets } from './self-targets.ts'
import { formatHostPort, isLoopbackHost, parseHostPort, type HostPort } from './address.ts'
import { serverCertificate } from './certificate.ts'
import { Diagnostics } from './diagnostic.ts'
import { readDocuments } from './document.ts'
import {
  checkClashes,
  endpointAddress,
  hostKey,
  readText,
  upstreamDefinition,
  type EndpointDefinition,
  type HostMap,
} from './endpoint-definition.ts'
import { readManifests } from './manifests.ts'
import { mergeNodes, type ConfigNode, type MapNode, type ScalarNode } from './node.ts'
import { plainValue } from './plain-scalar.ts'
import { PolicyFiles } from './policy-source.ts'
import { BundleReader, readOrReport, type FileReader, type RecordedFiles } from './reader.ts'
import type { Engine } from '../listener/front-end.ts'
import type { Located, Schema } from './schema-kit.ts'
import {
  besideItsFile,
  describeSettings,
  endpointSchema,
  gatewaySchema,
  type EndpointDocument,
  type GatewayDocument,
  type ListenerSettings,
  type ListenerTlsSettings,
  type PathText,
  type Settings,
  type UpstreamTimerSettings,
} from './settings.ts'
import { SourceFile, type Span } from './source.ts'
import { nearest } from './spelling.ts'
import { expandEnvironment, INVALID_VARIABLE, parseNameFile, variableOrFile } from './substitution.ts'
import { plainTraffic, trafficOf, type UpstreamTrafficDefaults } from './upstream-settings.ts'

export { parseDocuments } from './document.ts'
export type { EndpointDefinition, PolicyDocument, UpstreamDefinition } from './endpoint-definition.ts'
export type { UpstreamAddress } from './address.ts'
export { BundleReader, DiskReader, type FileReader, type RecordedFiles } from './reader.ts'
export type { Settings } from './settings.ts'
import { BOTH_VERSIONS, tlsRange } from './tls-range.ts'

/** Which configuration to load. Plain JSON. */
export interface ConfigurationInput {
  /** `-c`, in order: later files override earlier ones key by key; a folder means its *.yml, *.yaml and *.json. */
  readonly files: readonly string[]
  /** What `sallyport http` builds: one more endpoint. Without files no gateway.yaml is searched for then. */
  readonly inline?: InlineEndpoint
  /** What `sallyport start` adds: endpoints of ngrok's agent. Without files no gateway.yaml is searched for then. */
  readonly agent?: AgentInput
  /** Flags, in order of increasing precedence; they win over the environment, and that over files (O-11). */
  readonly overrides?: readonly SettingOverride[]
}

/** `sallyport http ADDR --url … --traffic-policy-file …`. Paths are relative to the working directory. */
export interface InlineEndpoint {
  /** ADDR, in any form of kubernetes-objects.md §2.4. */
  readonly upstream: string
  readonly url: string
  readonly trafficPolicyFile?: string
  readonly name?: string
  readonly pooling?: boolean
  /** `--upstream-tls-verify=false`. */
  readonly verifyUpstream?: boolean
  /** `--upstream-tls-verify-cas`. */
  readonly upstreamCaFile?: string
}

export interface SettingOverride {
  /** Dotted, as describeSettings names it. */
  readonly key: string
  readonly text: string
  /** Shown in messages: `--log-level`. */
  readonly origin: string
}

export interface LoadedConfiguration {
  readonly settings: Settings
  readonly endpoints: readonly EndpointDefinition[]
  /** Later stages add to it. */
  readonly diagnostics: Diagnostics
  /** Files of settings that were read, in order. */
  readonly files: readonly string[]
}

/** All that a worker needs to load what the primary loaded: plain JSON. */
export interface ConfigurationBundle extends RecordedFiles {
  readonly input: ConfigurationInput
}

/** Reads everything; never throws for bad content. Where settings are wrong, their defaults stand in. */
export function loadConfiguration(input: ConfigurationInput, reader: FileReader): LoadedConfiguration {
  const diagnostics = new Diagnostics()
  const files = settingFiles(input, reader, diagnostics)
  let root = emptyMap()
  for (const file of files) root = mergeNodes(root, readSettings(file, reader, diagnostics)) as MapNode
  for (const override of [...environmentOverrides(reader, diagnostics), ...(input.overrides ?? [])]) {
    root = mergeNodes(root, overrideNode(override)) as MapNode
  }
  // every key of gateway.yaml has a default, so the parts are the whole
  const document = gatewaySchema.parseParts(root, diagnostics, 'the configuration').value as GatewayDocument
  const substitutions = substitutionsOf(document, reader, diagnostics)
  const hosts = hostMapOf(document, root, diagnostics)
  const settings = settingsOf(document, reader, diagnostics)
  const context: Context = {
    reader,
    diagnostics,
    hosts,
    timers: settings.upstream.timers,
    traffic: settings.upstream,
    policies: new PolicyFiles(reader, diagnostics, substitutions),
  }
  const endpoints = document.endpoints.flatMap((node) => endpointOf(node, context, '') ?? [])
  if (input.inline !== undefined) endpoints.push(...(endpointOf(inlineNode(input.inline), context, 'agent') ?? []))
  const foreign = { ...context, traffic: plainTraffic(settings.upstream), substitutions }
  if (input.agent !== undefined) endpoints.push(...readAgentFiles(input.agent, foreign))
  endpoints.push(...readManifests(manifestFiles(document.manifests, reader, diagnostics), foreign))
  checkClashes(endpoints, diagnostics)
  reportUnusedHosts(hosts, root, diagnostics)
  const listeners = listenersOf(document, root, endpoints, reader, diagnostics, input.agent !== undefined)
  checkSelfTargets(endpoints, listeners, document.listeners.length === 0, diagnostics)
  checkUpgrades(endpoints, listeners, diagnostics)
  return { settings: { ...settings, listeners }, endpoints, diagnostics, files }
}

/** The same load in another process. */
export function loadBundle(bundle: ConfigurationBundle): LoadedConfiguration {
  return loadConfiguration(bundle.input, new BundleReader(bundle))
}

interface Context {
  readonly reader: FileReader
  readonly diagnostics: Diagnostics
  readonly hosts: HostMap
  readonly timers: UpstreamTimerSettings
  readonly traffic: UpstreamTrafficDefaults
  readonly policies: PolicyFiles
}

// ---------------------------------------------------------------------------------------------------------------------
// Files of settings

function settingFiles(input: ConfigurationInput, reader: FileReader, diagnostics: Diagnostics): string[] {
  if (input.files.length === 0) {
    if (input.inline !== undefined || input.agent !== undefined) return []
    const places = searchPlaces(reader)
    const found = places.find((place) => reader.list(place).length > 0)
    if (found !== undefined) return [found]
    const hint = 'name one with -c FILE'
    diagnostics.error('NO_CONFIGURATION', `no configuration found: looked for ${places.join(', ')}`, undefined, hint)
    return []
  }
  return input.files.flatMap((file) => {
    const found = reader.list(file)
    if (found.length === 0) {
      diagnostics.error('FILE_NOT_FOUND', `${file}: no such file, and no folder that holds *.yaml, *.yml or *.json`)
    }
    return found
  })
}

function searchPlaces(reader: FileReader): string[] {
  const home = reader.variable('HOME')
  const configHome = reader.variable('XDG_CONFIG_HOME') ?? (home === undefined ? undefined : join(home, '.config'))
  return [
    'gateway.yaml',
    ...(configHome === undefined ? [] : [join(configHome, 'sallyport', 'gateway.yaml')]),
    '/etc/sallyport/gateway.yaml',
  ]
}

function readSettings(file: string, reader: FileReader, diagnostics: Diagnostics): MapNode {
  const source = readOrReport(file, reader, diagnostics)
  if (source === undefined) return emptyMap()
  const [document, second] = readDocuments(source, diagnostics) ?? []
  if (second !== undefined) {
    const start = { ...second.span, end: Math.min(second.span.end, second.span.start + 1) }
    diagnostics.error('SEVERAL_DOCUMENTS', 'a file of settings holds one document; a second one starts here', start)
  }
  if (document === undefined || (document.kind === 'scalar' && document.value === null)) return emptyMap()
  if (document.kind !== 'map') {
    diagnostics.error('WRONG_TYPE', 'a file of settings must be a mapping', document.span)
    return emptyMap()
  }
  return expandEnvironment(document, reader, diagnostics, isPolicy) as MapNode // a mapping stays one
}

/** O-12: in policies `${…}` is CEL. */
function isPolicy(path: readonly string[]): boolean {
  return path.length === 3 && path[0] === 'endpoints' && (path[2] === 'traffic_policy' || path[2] === 'policy')
}

const EMPTY = new SourceFile('', '')
function emptyMap(span: Span = { source: EMPTY, start: 0, end: 0 }): MapNode {
  return { kind: 'map', entries: [], span }
}

// ---------------------------------------------------------------------------------------------------------------------
// Flags and environment

/** Settings that are no single value have no variable. */
const WITHOUT_VARIABLE = /^(listeners|endpoints|upstream_hosts|substitutions\.)/

/** `SALLYPORT_LOG_LEVEL` for log_level, `SALLYPORT_WAF_PARANOIA_LEVEL` for waf.paranoia_level, each with a `_FILE` twin. */
function environmentOverrides(reader: FileReader, diagnostics: Diagnostics): SettingOverride[] {
  return describeSettings().flatMap(({ key }) => {
    if (WITHOUT_VARIABLE.test(key)) return []
    const origin = environmentName(key)
    const text = variableOrFile(origin, reader, diagnostics, undefined)
    return text === undefined || text === INVALID_VARIABLE || text === '' ? [] : [{ key, text, origin }]
  })
}

/** The variable that sets a setting. */
export function environmentName(key: string): string {
  return `SALLYPORT_${key.toUpperCase().replaceAll('.', '_')}`
}

/** Lists are written with commas. */
function overrideNode({ key, text, origin }: SettingOverride): MapNode {
  const source = new SourceFile(origin, text)
  const path = key.split('.')
  let schema: Schema<unknown> | undefined = gatewaySchema
  for (const name of path) {
    const entry: Schema<unknown> | { readonly schema: Schema<unknown> } | undefined = schema?.fields?.[name]
    schema = entry !== undefined && 'schema' in entry ? entry.schema : entry
  }
  let node: ConfigNode
  if (schema?.item === undefined) node = plainNode(source, 0, text.length)
  else {
    let start = 0
    const items = text.split(',').map((part) => {
      const from = start + part.length - part.trimStart().length
      const item = plainNode(source, from, from + part.trim().length)
      start += part.length + 1
      return item
    })
    node = { kind: 'list', items, span: { source, start: 0, end: text.length } }
  }
  const keySpan = { source, start: 0, end: 0 }
  for (const name of path.toReversed()) {
    node = { kind: 'map', entries: [{ key: name, keySpan, value: node }], span: node.span }
  }
  return node as MapNode // a key has at least one part
}

function plainNode(source: SourceFile, start: number, end: number): ScalarNode {
  const text = source.text.slice(start, end)
  const value = text === '' ? '' : plainValue(text)
  const spanAt = (offset: number, length: number): Span => ({
    source,
    start: start + offset,
    end: start + offset + length,
  })
  return { kind: 'scalar', value, text, plain: true, span: { source, start, end }, spanAt }
}

/** The endpoint of `sallyport http`, as if it stood in a file: messages show the command line. */
function inlineNode(inline: InlineEndpoint): MapNode {
  const parts: { readonly words: string; readonly path: readonly string[]; readonly text: string }[] = [
    { words: 'http ', path: ['upstream', 'url'], text: inline.upstream },
    { words: ' --url ', path: ['url'], text: inline.url },
  ]
  const flag = (words: string, path: readonly string[], text: string | undefined): void => {
    if (text !== undefined) parts.push({ words: ` ${words} `, path, text })
  }
  flag('--traffic-policy-file', ['traffic_policy_file'], inline.trafficPolicyFile)
  flag('--name', ['name'], inline.name)
  flag('--pooling-enabled', ['pooling_enabled'], inline.pooling?.toString())
  flag('--upstream-tls-verify', ['upstream', 'tls', 'verify'], inline.verifyUpstream?.toString())
  flag('--upstream-tls-verify-cas', ['upstream', 'tls', 'ca_file'], inline.upstreamCaFile)
  const source = new SourceFile('<command line>', parts.map(({ words, text }) => words + text).join(''))
  let node: ConfigNode = emptyMap({ source, start: 0, end: source.text.length })
  let at = 0
  for (const { words, path, text } of parts) {
    const start = at + words.length
    at = start + text.length
    const keySpan = { source, start: at - text.length - words.trim().length - 1, end: start - 1 }
    let value: ConfigNode = plainNode(source, start, at)
    for (const name of path.toReversed()) {
      value = { kind: 'map', entries: [{ key: name, keySpan, value }], span: value.span }
    }
    node = mergeNodes(node, value)
  }
  const named = inline.name !== undefined
  const name = plainNode(new SourceFile('<command line>', 'command_line'), 0, 12)
  const entries = named ? [] : [{ key: 'name', keySpan: name.span, value: name }]
  return { kind: 'map', entries: [...entries, ...(node as MapNode).entries], span: { source, start: 0, end: 4 } } // merged from mappings
}

// ---------------------------------------------------------------------------------------------------------------------
// What names and hosts stand for

/** Files first, then `values`, then the environment: what comes later wins. */
function substitutionsOf(document: GatewayDocument, reader: FileReader, diagnostics: Diagnostics): Map<string, string> {
  const names = new Map<string, string>()
  const { files, values, environment } = document.substitutions
  for (const file of files) {
    const source = readOrReport(besideItsFile(file), reader, diagnostics, file.span)
    if (source !== undefined) parseNameFile(source, names, diagnostics)
  }
  for (const [name, value] of values) names.set(name, value)
  for (const { value: name, span } of environment) {
    const value = variableOrFile(name, reader, diagnostics, span)
    if (value === INVALID_VARIABLE) continue
    if (value !== undefined) names.set(name, value)
    else if (!names.has(name)) {
      const hint = 'set it, or give it a value under substitutions.values'
      diagnostics.error('MISSING_VARIABLE', `the environment variable ${name} is not set`, span, hint)
    }
  }
  return names
}

function hostMapOf(document: GatewayDocument, root: MapNode, diagnostics: Diagnostics): HostMap {
  const byName = new Map<string, readonly HostPort[]>()
  for (const [name, targets] of document.upstream_hosts) {
    const parsed = parseHostPort(name)
    if (parsed !== undefined) byName.set(hostKey(parsed), targets)
    else {
      const text = `upstream_hosts names ${JSON.stringify(name)}, which is not host:port`
      diagnostics.error('INVALID_ADDRESS', text, hostSpan(root, name), 'write it as in the upstream url, with its port')
    }
  }
  return { byName, used: new Set() }
}

function reportUnusedHosts(hosts: HostMap, root: MapNode, diagnostics: Diagnostics): void {
  for (const name of hosts.byName.keys()) {
    if (hosts.used.has(name)) continue
    const span = hostSpan(root, name)
    diagnostics.warning('UNUSED_UPSTREAM_HOST', `no upstream url has the host and port ${name}`, span)
  }
}

function hostSpan(root: MapNode, name: string): Span | undefined {
  const hosts = root.entries.find((entry) => entry.key === 'upstream_hosts')?.value
  return hosts?.kind === 'map'
    ? hosts.entries.find((entry) => entry.key.toLowerCase() === name.toLowerCase())?.keySpan
    : undefined
}

// ---------------------------------------------------------------------------------------------------------------------
// Endpoints

/** One endpoint of gateway.yaml or of the command line; everything wrong is reported. */
function endpointOf(node: ConfigNode, context: Context, kindName: 'agent' | ''): EndpointDefinition[] | undefined {
  const { diagnostics } = context
  const { value: document } = endpointSchema.parseParts(node, diagnostics, 'endpoint')
  if (node.kind !== 'map') return undefined
  const hasUpstream = node.entries.some((entry) => entry.key === 'upstream')
  const kind = kindName === 'agent' || hasUpstream ? 'agent' : 'cloud'
  const address = endpointAddress(document.url, document.bindings, kind, diagnostics)
  const policy = policyOf(document, context)
  const givesPolicy = node.entries.some((entry) => /^(traffic_)?policy(_file)?$/.test(entry.key))
  if (kind === 'cloud' && policy === undefined && !givesPolicy) {
    const hint = 'give it an upstream, or traffic_policy or traffic_policy_file'
    const text = `the endpoint ${document.name ?? ''} has neither upstream nor policy`
    diagnostics.error('ERR_NGROK_18011', text, startOf(node.span), hint)
  }
  const nameEntry = node.entries.find((entry) => entry.key === 'name')
  return [
    {
      name: document.name ?? '',
      kind,
      ...address,
      pooling: document.pooling_enabled ?? false,
      appendsForwarded: document.forwarded_for === 'append',
      upstream: document.upstream && endpointUpstream(document, document.upstream, address.url, node, context),
      policy,
      span: nameEntry?.value.span ?? startOf(node.span),
    },
  ]
}

function policyOf(document: Partial<EndpointDocument>, context: Context): EndpointDefinition['policy'] {
  const { traffic_policy: inline, traffic_policy_file: file } = document
  if (inline !== undefined && file !== undefined) {
    const related = { message: 'the other one', span: startOf(inline.span) }
    const text = 'give either traffic_policy or traffic_policy_file'
    context.diagnostics.error('POLICY_GIVEN_TWICE', text, file.span, undefined, related)
  }
  if (inline !== undefined) return { node: context.policies.inline(inline), origin: 'inline' }
  if (file === undefined) return undefined
  const node = context.policies.read(file)
  return node && { node, origin: 'file' }
}

function endpointUpstream(
  document: Partial<EndpointDocument>,
  upstream: NonNullable<EndpointDocument['upstream']>,
  endpoint: EndpointDefinition['url'],
  node: MapNode,
  context: Context,
): EndpointDefinition['upstream'] {
  const { url, targets } = upstream
  const { diagnostics, timers } = context
  const entry = node.entries.find((it) => it.key === 'upstream')
  if (url !== undefined && targets !== undefined) {
    const text = 'give either url or targets in upstream'
    diagnostics.error('UPSTREAM_GIVEN_TWICE', text, targets[0]?.url.span, undefined, {
      message: 'the url',
      span: url.span,
    })
  } else if (url === undefined && targets === undefined) {
    diagnostics.error('MISSING_KEY', 'missing key url in upstream', entry?.keySpan, 'or give several with targets')
  }
  return upstreamDefinition(
    {
      targets: targets ?? (url === undefined ? [] : [{ url, weight: 1 }]),
      endpoint,
      protocol: upstream.protocol,
      verify: upstream.tls?.verify,
      caFile: upstream.tls?.ca_file,
      serverName: upstream.tls?.server_name,
      timers: {
        connectMs: document.timers?.connect_timeout ?? timers.connectMs,
        queueMs: document.timers?.queue_timeout ?? timers.queueMs,
        firstByteMs: document.timers?.first_byte_timeout ?? timers.firstByteMs,
        idleMs: document.timers?.idle_timeout ?? timers.idleMs,
        keepAliveMs: document.timers?.keep_alive ?? timers.keepAliveMs,
        totalMs: document.timers?.total_timeout ?? timers.totalMs,
      },
      traffic: trafficOf(upstream, context.traffic, diagnostics),
    },
    context.hosts,
    context.reader,
    diagnostics,
  )
}

function manifestFiles(paths: readonly PathText[], reader: FileReader, diagnostics: Diagnostics): string[] {
  const files = new Set<string>()
  for (const path of paths) {
    const found = reader.list(besideItsFile(path))
    if (found.length === 0) diagnostics.error('FILE_NOT_FOUND', `${besideItsFile(path)}: no such file`, path.span)
    for (const file of found) files.add(file)
  }
  return [...files]
}

// ---------------------------------------------------------------------------------------------------------------------
// Listeners

function listenersOf(
  document: GatewayDocument,
  root: MapNode,
  endpoints: readonly EndpointDefinition[],
  reader: FileReader,
  diagnostics: Diagnostics,
  isAgentFile: boolean,
): ListenerSettings[] {
  const publicEndpoints = endpoints.filter((endpoint) => endpoint.binding === 'public')
  if (document.listeners.length === 0) {
    const written = root.entries.find((entry) => entry.key === 'listeners')?.value
    // listeners that were refused are not replaced by guesses
    if (written?.kind === 'list' && written.items.length > 0) return []
    return derivedListeners(publicEndpoints, document.engine, diagnostics, isAgentFile)
  }
  const seen = new Map<string, Span>()
  const listeners: ListenerSettings[] = []
  for (const { value, span } of document.listeners) {
    const address = formatHostPort(value.address.host, value.address.port)
    const first = seen.get(address)
    if (first !== undefined) {
      const related = { message: 'the other one', span: startOf(first) }
      diagnostics.error(
        'DUPLICATE_LISTENER',
        `two listeners have the address ${address}`,
        startOf(span),
        undefined,
        related,
      )
      continue
    }
    seen.set(address, span)
    if (value.proxy_protocol && document.trusted_proxies.length === 0) {
      const text = `the listener ${address} takes PROXY headers, but trusted_proxies is empty: none is believed`
      diagnostics.warning('NO_TRUSTED_PROXIES', text, startOf(span))
    }
    checkDefault(value.default_endpoint, publicEndpoints, diagnostics)
    const engine = value.engine ?? document.engine
    const tls = value.tls && listenerTls(value.tls, engine, startOf(span), reader, diagnostics)
    if (value.tls !== undefined && value.redirect_to_https !== undefined) {
      const text = `the listener ${address} speaks TLS and redirects to https: clients would be sent in a circle`
      diagnostics.error('REDIRECT_ON_TLS', text, startOf(span), 'redirect from a listener without tls')
    }
    listeners.push({
      ...value.address,
      address,
      proxyProtocol: value.proxy_protocol,
      engine,
      defaultEndpoint: value.default_endpoint?.value,
      tls,
      redirectPort: value.redirect_to_https,
    })
  }
  return listeners
}

/** Certificates are read now, so that workers show what was checked, whatever happens to the files (O-23). */
function listenerTls(
  tls: NonNullable<GatewayDocument['listeners'][number]['value']['tls']>,
  engine: Engine,
  span: Span,
  reader: FileReader,
  diagnostics: Diagnostics,
): ListenerTlsSettings {
  const written = [tls.min_version, tls.max_version].map(
    (version) => version && { text: version.value, span: version.span },
  )
  const versions = tlsRange([written[0], written[1]], engine !== 'native', BOTH_VERSIONS, diagnostics)
  const given = new Map<string, Span>()
  const certificates = tls.certificates.flatMap(({ certificate, key, names }) => {
    for (const { value, span: place } of names ?? []) {
      const name = value.toLowerCase()
      const first = given.get(name)
      if (first !== undefined) {
        const related = { message: 'the other one', span: first }
        diagnostics.error('DUPLICATE_SERVER_NAME', `two certificates are for ${name}`, place, undefined, related)
      }
      given.set(name, place)
    }
    const chainText = readText(certificate, reader, diagnostics)
    const keyText = readText(key, reader, diagnostics)
    if (chainText === undefined || keyText === undefined) return []
    const source = {
      certificate: chainText,
      certificateSpan: certificate.span,
      key: keyText,
      keySpan: key.span,
      names,
    }
    return serverCertificate(source, diagnostics) ?? []
  })
  return { certificates, versions, span }
}

function checkDefault(
  name: Located<string> | undefined,
  endpoints: readonly EndpointDefinition[],
  diagnostics: Diagnostics,
): void {
  if (name === undefined || endpoints.some((endpoint) => endpoint.name === name.value)) return
  const near = nearest(
    name.value,
    endpoints.map((endpoint) => endpoint.name),
  )
  const hint = near === undefined ? undefined : `did you mean ${near}?`
  diagnostics.error('UNKNOWN_ENDPOINT', `there is no public endpoint ${name.value}`, name.span, hint)
}

/** H-60: WebSocket is the only upgrade that every engine knows. */
function checkUpgrades(
  endpoints: readonly EndpointDefinition[],
  listeners: readonly ListenerSettings[],
  diagnostics: Diagnostics,
): void {
  if (listeners.some(({ engine }) => engine === 'native')) return
  for (const { name, upstream, span } of endpoints) {
    if (upstream === undefined || upstream.traffic.upgrades.length === 0) continue
    const text = `the upgrades of ${name} need a listener with engine: native`
    diagnostics.error('UPGRADES_NOT_AVAILABLE', text, span, 'uWebSockets.js knows WebSocket only')
  }
}

/** One listener per port of the public http urls; on the loopback only when no url of the port is meant for others. */
function derivedListeners(
  endpoints: readonly EndpointDefinition[],
  engine: Engine,
  diagnostics: Diagnostics,
  isAgentFile: boolean,
): ListenerSettings[] {
  const hosts = new Map<number, string[]>()
  for (const { url, span } of endpoints) {
    if (url.scheme === 'https') {
      const text = `${url.href} needs a listener: there is no certificate for it`
      const hint =
        'under listeners name an address with tls.certificates, or the one that your TLS terminator connects to'
      // a file of ngrok's agent says all that it can say: listeners stand in settings of the gateway
      if (isAgentFile) diagnostics.notServed('TLS_NOT_AVAILABLE', text, span, `in a file for --settings, ${hint}`)
      else diagnostics.error('TLS_NOT_AVAILABLE', text, span, hint)
    } else if (url.scheme === 'http') {
      hosts.set(url.port, [...(hosts.get(url.port) ?? []), url.host])
    }
  }
  return [...hosts].map(([port, names]) => {
    const host = !names.every(isLoopbackHost)
      ? '0.0.0.0'
      : names.every((name) => name === '[::1]')
        ? '::1'
        : '127.0.0.1'
    return {
      host,
      port,
      address: formatHostPort(host, port),
      proxyProtocol: false,
      engine,
      defaultEndpoint: undefined,
      tls: undefined,
      redirectPort: undefined,
    }
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// Settings

/** `stdout`, `stderr`, `off`, or a path. */
function logOutput(output: PathText): string {
  return ['stdout', 'stderr', 'off'].includes(output.value) ? output.value : besideItsFile(output)
}

function settingsOf(
  document: GatewayDocument,
  reader: FileReader,
  diagnostics: Diagnostics,
): Omit<Settings, 'listeners'> {
  const {
    upstream,
    limits,
    clients,
    websocket: webSocket,
    waf,
    jwt,
    redis,
    rate_limit: rateLimit,
    access_log: accessLog,
  } = document
  const texts = (paths: readonly PathText[]): SourceFile[] =>
    paths.flatMap((path) => {
      const text = readText(path, reader, diagnostics)
      return text === undefined ? [] : [new SourceFile(besideItsFile(path), text)]
    })
  return {
    workers: document.workers,
    stateDir: folderOf(document.state_dir),
    region: document.region,
    upstream: {
      timers: {
        connectMs: upstream.connect_timeout,
        queueMs: upstream.queue_timeout,
        firstByteMs: upstream.first_byte_timeout,
        idleMs: upstream.idle_timeout,
        keepAliveMs: upstream.keep_alive,
        totalMs: upstream.total_timeout,
      },
      maxConnections: upstream.max_connections,
      maxQueued: upstream.max_queued,
      retry: {
        max: upstream.retries,
        on: upstream.retry_on,
        budgetPercent: upstream.retry_budget,
        unsafe: false,
        attemptHeader: upstream.retry_attempt_header,
      },
      ejectAfter: upstream.eject_after,
      ejectTimeMs: upstream.eject_time,
      panicPercent: upstream.panic_threshold,
      dns: {
        servers: upstream.dns.servers,
        refreshMs: upstream.dns.refresh,
        minTtlMs: upstream.dns.min_ttl,
        maxTtlMs: upstream.dns.max_ttl,
      },
    },
    limits: {
      headBytes: limits.headers,
      uriBytes: limits.uri,
      bodyBytes: limits.body,
      bufferedBodyBytes: limits.buffered_body,
      streamBufferBytes: limits.stream_buffer,
      hops: limits.hops,
      connections: limits.connections,
      connectionsPerAddress: limits.connections_per_address,
    },
    clients: {
      headMs: clients.head_timeout,
      idleMs: clients.idle_timeout,
      progressMs: clients.progress_window,
    },
    webSocket: {
      maxMessageBytes: webSocket.max_message,
      idleMs: webSocket.idle_timeout,
      pingMs: webSocket.ping_interval,
      maxOpen: webSocket.max_open,
      compress: webSocket.compression,
    },
    waf: {
      rules: folderOf(waf.rules),
      mode: waf.mode,
      paranoiaLevel: waf.paranoia_level,
      detectionParanoiaLevel: waf.detection_paranoia_level,
      inboundThreshold: waf.inbound_threshold,
      outboundThreshold: waf.outbound_threshold,
      requestBodyBytes: waf.request_body,
      responseBodyBytes: waf.response_body,
      requestBodyLimitAction: waf.request_body_limit_action,
      responseBodyLimitAction: waf.response_body_limit_action,
      leaveOutRules: waf.leave_out_rules,
      includeBefore: texts(waf.include_before),
      includeAfter: texts(waf.include_after),
      threadThresholdBytes: waf.thread_threshold,
      modsecurityLog: logOutput(waf.modsecurity_log),
      collectionRecords: waf.collection_records,
    },
    jwt: {
      leewayMs: jwt.leeway,
      refreshMs: jwt.refresh,
      staleMs: jwt.stale,
      unknownKidCooldownMs: jwt.unknown_kid_cooldown,
      fetchTimeoutMs: jwt.fetch_timeout,
      cacheEntries: jwt.cache_entries,
      allowHttp: jwt.allow_http,
    },
    login: loginSettings(document.login, reader, diagnostics),
    redis: { url: redisUrl(redis, reader, diagnostics) },
    vaults: {
      keys: sealingKeys(document.vaults.keys, document.vaults.keys_file, 'vaults.keys', reader, diagnostics),
      directory: folderOf(document.vaults.directory),
    },
    addressDatabases: document.address_data.databases,
    rateLimit: {
      onStoreError: rateLimit.on_store_error,
      mode: rateLimit.mode,
      memoryBuckets: rateLimit.memory_buckets,
      headers: rateLimit.headers,
    },
    trustedProxies: document.trusted_proxies,
    accessLog: { output: logOutput(accessLog.output) },
    logLevel: document.log_level,
    admin: { address: document.admin.address },
    drain: { delayMs: document.drain.delay, timeoutMs: document.drain.timeout },
    reload: { orphanTimeoutMs: document.reload.orphan_timeout },
    policy: { strict: document.policy.strict },
    httpRequest: {
      external: document.http_request.external,
      privateNetworks: document.http_request.private_networks,
      userAgent: document.http_request.user_agent,
    },
  }
}

function loginSettings(
  login: GatewayDocument['login'],
  reader: FileReader,
  diagnostics: Diagnostics,
): Settings['login'] {
  return {
    sessionKeys: sealingKeys(login.session_keys, login.session_keys_file, 'login.session_keys', reader, diagnostics),
    callbackPath: login.callback_path,
    fetchTimeoutMs: login.fetch_timeout,
    staleMs: login.stale,
    cacheEntries: login.cache_entries,
    allowHttp: login.allow_http,
    githubUrl: login.github_url,
    gitlabUrl: login.gitlab_url,
  }
}

const SHORTEST_KEY = 32

/** Keys as listed, or one in each line of a file; blank lines and comments do not count. The texts stay out of messages. */
function sealingKeys(
  keys: readonly string[],
  file: PathText | undefined,
  key: string,
  reader: FileReader,
  diagnostics: Diagnostics,
): readonly string[] {
  if (file === undefined) return keys
  if (keys.length > 0) diagnostics.error('KEY_GIVEN_TWICE', `give either ${key} or ${key}_file`, file.span)
  const lines = (readText(file, reader, diagnostics) ?? '').split('\n').map((line) => line.trim())
  const read = lines.filter((line) => line !== '' && !line.startsWith('#'))
  if (read.length === 0) diagnostics.error('EMPTY', `${key}_file holds no key`, file.span)
  if (read.some((one) => one.length < SHORTEST_KEY)) {
    const hint = 'make one with `openssl rand -hex 32`'
    const text = `each key in ${key}_file must have at least ${SHORTEST_KEY} characters`
    diagnostics.error('TOO_SHORT', text, file.span, hint)
  }
  return read
}

function folderOf(path: PathText | undefined): string | undefined {
  return path === undefined ? undefined : besideItsFile(path)
}

function redisUrl(redis: GatewayDocument['redis'], reader: FileReader, diagnostics: Diagnostics): string | undefined {
  const { url, password_file: file } = redis
  if (file === undefined) return url.value === '' ? undefined : url.value
  const password = readText(file, reader, diagnostics)?.replace(/\r?\n$/, '')
  if (url.value === '') {
    diagnostics.error('MISSING_KEY', 'redis.password_file needs redis.url', file.span)
    return undefined
  }
  const match = /^([a-z+]+:\/\/)(?:([^@/]*)@)?(.*)$/s.exec(url.value)
  const [user = '', inUrl] = match?.[2]?.split(':') ?? []
  if (inUrl !== undefined) {
    diagnostics.error('PASSWORD_GIVEN_TWICE', 'redis.url holds a password, and password_file names another', file.span)
  }
  return match === null ? url.value : `${match[1]}${user}:${encodeURIComponent(password ?? '')}@${match[3]}`
}

function startOf(span: Span): Span {
  return { ...span, end: Math.min(span.end, span.start + 1) }
}
