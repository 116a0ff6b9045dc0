/**
 * Configuration files of ngrok's agent, version 3: their endpoints become endpoints of the gateway.
 *
 * Settings of the agent's session have no meaning here; each is said to be ignored. References stay as published:
 * `$NAME` is filled in, `${…}` is not touched (O-12: these files are not ours).
 * Source: kubernetes-objects.md §7 (keys, several files), §2–§4 (urls, bindings, pooling).
 */
import { join } from 'node:path'
import type { Diagnostics } from './diagnostic.ts'
import { readDocuments } from './document.ts'
import { endpointAddress, singleUpstream, type EndpointDefinition, type HostMap } from './endpoint-definition.ts'
import { mergeNodes, type ConfigNode, type MapNode } from './node.ts'
import type { PolicyFiles } from './policy-source.ts'
import { readOrReport, type FileReader } from './reader.ts'
import {
  boolean,
  deferred,
  enumeration,
  list,
  located,
  object,
  optional,
  string,
  type Field,
  type InferSchema,
} from './schema-kit.ts'
import { policyNode, type UpstreamTimerSettings } from './settings.ts'
import type { Span } from './source.ts'
import { nearest } from './spelling.ts'
import { substituteNames, type Substitutions } from './substitution.ts'
import type { UpstreamTraffic } from './upstream-settings.ts'

/** `sallyport start`: which endpoints of which files. Plain JSON. */
export interface AgentInput {
  /** In order: single values and lists of later files replace, mappings merge. Empty: where ngrok's agent looks. */
  readonly files: readonly string[]
  readonly names: readonly string[] | 'all'
}

/** What reading them needs of the rest of the configuration. */
export interface AgentContext {
  readonly reader: FileReader
  readonly diagnostics: Diagnostics
  readonly substitutions: Substitutions
  readonly policies: PolicyFiles
  readonly hosts: HostMap
  readonly timers: UpstreamTimerSettings
  readonly traffic: UpstreamTraffic
}

const NO_ACCOUNT = 'no account is needed'
const NO_SESSION = 'no session with a service is held'
const NO_CONSOLE = 'nothing is drawn on the terminal'
const OWN_LOG = 'the log goes to standard error; its level is log_level in the settings or --log-level'
const OWN_ADMIN = 'the address for operators is admin.address in the settings'
const NO_UPDATES = 'the gateway never updates itself'

/** Keys under `agent`, each with the reason why it is ignored. */
const SESSION_KEYS: Readonly<Record<string, string>> = {
  api_key: NO_ACCOUNT,
  authtoken: NO_ACCOUNT,
  connect_cas: NO_SESSION,
  connect_interface: NO_SESSION,
  connect_timeout: NO_SESSION,
  connect_url: NO_SESSION,
  console_ui: NO_CONSOLE,
  console_ui_color: NO_CONSOLE,
  crl_noverify: NO_SESSION,
  dns_resolver_ips: 'names are resolved as the system does',
  heartbeat_interval: NO_SESSION,
  heartbeat_tolerance: NO_SESSION,
  inspect_db_size: 'there is no request inspector',
  log: OWN_LOG,
  log_format: OWN_LOG,
  log_level: OWN_LOG,
  metadata: NO_SESSION,
  proxy_url: NO_SESSION,
  region: 'the region of a gateway is region in the settings',
  remote_management: NO_SESSION,
  root_cas: NO_SESSION,
  server_addr: NO_SESSION,
  update_channel: NO_UPDATES,
  update_check: NO_UPDATES,
  web_addr: OWN_ADMIN,
  web_allow_hosts: OWN_ADMIN,
}

const anything = (): Field<ConfigNode | undefined> => optional(deferred(string()))

const endpointSchema = object(
  {
    name: located(string({ minLength: 1 })),
    url: optional(located(string())),
    bindings: optional(list(located(string()), { max: 1, code: 'ERR_NGROK_15006' })),
    description: optional(string({ maxLength: 255, code: 'ERR_NGROK_18012' })),
    metadata: optional(string({ maxLength: 4096, code: 'ERR_NGROK_18013' })),
    pooling_enabled: optional(boolean()),
    traffic_policy: optional(policyNode),
    traffic_policy_file: optional(located(string({ minLength: 1 }))),
    upstream: optional(
      object({
        url: located(string()),
        protocol: optional(located(enumeration(['http1', 'http2'], { code: 'ERR_NGROK_15003' }))),
        proxy_protocol: optional(located(string({ pattern: /^[12]$/, must: 'must be 1 or 2' }))),
      }),
    ),
    agent_tls_termination: optional(
      located(
        object({
          server_certificate: optional(string()),
          server_private_key: optional(string()),
          mutual_tls_certificate_authorities: optional(list(string())),
        }),
      ),
    ),
  },
  {
    hints: {
      addr: 'this is upstream.url since version 3',
      proto: 'the scheme stands in the url since version 3',
      domain: 'this is url since version 3',
      hostname: 'this is url since version 3',
      binding: 'this is a list: bindings: [internal]',
      policy: 'this is traffic_policy since version 3',
      labels: 'labels went with the edges; give the endpoint a url',
      schemes: 'the scheme stands in the url since version 3',
      inspect: 'there is no request inspector; leave it out',
      on_http_request: 'phases stand under traffic_policy',
      on_http_response: 'phases stand under traffic_policy',
      on_tcp_connect: 'phases stand under traffic_policy',
    },
  },
)

const UNDER_AGENT = 'in version 3 it stands under agent, and has no meaning here; leave it out'
const UNDER_ENDPOINT = 'a policy stands in an endpoint, under traffic_policy'

const agentSchema = object(
  {
    version: anything(), // looked at before
    agent: optional(
      object(Object.fromEntries(Object.keys(SESSION_KEYS).map((key) => [key, anything()])), { allowNull: true }),
    ),
    endpoints: optional(list(deferred(endpointSchema))),
  },
  {
    allowNull: true,
    hints: {
      ...Object.fromEntries(Object.keys(SESSION_KEYS).map((key) => [key, UNDER_AGENT])),
      tunnels: 'tunnels are endpoints since version 3: a list with name, url and upstream.url',
      on_http_request: UNDER_ENDPOINT,
      on_http_response: UNDER_ENDPOINT,
      on_tcp_connect: UNDER_ENDPOINT,
      traffic_policy: UNDER_ENDPOINT,
      listeners: 'this is a setting of the gateway; name its file with --settings',
      manifests: 'this is a setting of the gateway; name its file with --settings',
    },
  },
)

type AgentEndpoint = Partial<InferSchema<typeof endpointSchema>>

/** The chosen endpoints, in order; all are checked as far as their keys go. Everything wrong is reported. */
export function readAgentFiles(input: AgentInput, context: AgentContext): EndpointDefinition[] {
  const { diagnostics } = context
  let root: MapNode | undefined
  for (const file of agentFiles(input, context)) {
    const node = readAgentFile(file, context)
    if (node !== undefined) root = root === undefined ? node : (mergeNodes(root, node) as MapNode) // of two mappings
  }
  if (root === undefined || !isVersion3(root, diagnostics)) return []
  const document = agentSchema.parseParts(root, diagnostics, 'the agent configuration').value
  reportSessionKeys(root, diagnostics)
  const entries = (document.endpoints ?? []).map((node) => ({
    node,
    endpoint: endpointSchema.parseParts(node, diagnostics, 'endpoint').value as AgentEndpoint,
  }))
  reportDuplicates(entries, diagnostics)
  return chosen(entries, input.names, root, diagnostics).flatMap(({ node, endpoint }) =>
    node.kind === 'map' ? [definitionOf(node, endpoint, context)] : [],
  )
}

function agentFiles(input: AgentInput, { reader, diagnostics }: AgentContext): readonly string[] {
  if (input.files.length > 0) {
    return input.files.flatMap((file) => {
      const found = reader.list(file)
      if (found.length === 0) diagnostics.error('FILE_NOT_FOUND', `${file}: no such file`)
      return found
    })
  }
  const places = searchPlaces(reader)
  const found = places.find((place) => reader.list(place).length > 0)
  if (found !== undefined) return [found]
  const text = `no agent configuration found: looked for ${places.join(', ')}`
  diagnostics.error('NO_CONFIGURATION', text, undefined, 'name one with --config FILE')
  return []
}

/** Where ngrok's agent has its file on Linux and macOS. */
function searchPlaces(reader: FileReader): string[] {
  const home = reader.variable('HOME')
  const configHome = reader.variable('XDG_CONFIG_HOME') ?? (home === undefined ? undefined : join(home, '.config'))
  return [
    ...(configHome === undefined ? [] : [join(configHome, 'ngrok', 'ngrok.yml')]),
    ...(home === undefined ? [] : [join(home, 'Library', 'Application Support', 'ngrok', 'ngrok.yml')]),
  ]
}

function readAgentFile(file: string, context: AgentContext): MapNode | undefined {
  const { reader, diagnostics, substitutions } = context
  const source = readOrReport(file, reader, diagnostics)
  if (source === undefined) return undefined
  const documents = readDocuments(source, diagnostics)
  if (documents === undefined) return undefined
  const [document, second] = documents
  if (second !== undefined) {
    const text = 'an agent configuration holds one document; a second one starts here'
    diagnostics.error('SEVERAL_DOCUMENTS', text, startOf(second.span))
  }
  if (document === undefined || (document.kind === 'scalar' && document.value === null)) {
    return { kind: 'map', entries: [], span: { source, start: 0, end: 0 } }
  }
  if (document.kind !== 'map') {
    diagnostics.error('WRONG_TYPE', 'an agent configuration must be a mapping', startOf(document.span))
    return undefined
  }
  return substituteNames(document, substitutions, diagnostics) as MapNode // a mapping stays one
}

/** Published fragments leave the version out; they are of version 3 unless they say otherwise. */
function isVersion3(root: MapNode, diagnostics: Diagnostics): boolean {
  const entry = root.entries.find(({ key }) => key === 'version')
  if (entry === undefined) {
    const text = 'the agent configuration names no version; it is read as version 3'
    diagnostics.warning('MISSING_VERSION', text, startOf(root.span), 'write version: 3')
    return true
  }
  const { value } = entry
  const text = value.kind === 'scalar' ? value.text : ''
  if (text === '3') return true
  if (text === '1' || text === '2') {
    const hint =
      'run `ngrok config upgrade`; or write version: 3, put settings of the session under agent, and make each tunnel an entry of endpoints with name, url and upstream.url'
    const said = `agent configurations of version ${text} are not read, only those of version 3`
    diagnostics.error('OLD_AGENT_VERSION', said, value.span, hint)
  } else {
    diagnostics.error('UNKNOWN_AGENT_VERSION', 'version must be 3', value.span)
  }
  return false
}

function reportSessionKeys(root: MapNode, diagnostics: Diagnostics): void {
  const agent = root.entries.find(({ key }) => key === 'agent')?.value
  if (agent?.kind !== 'map') return
  for (const { key, keySpan } of agent.entries) {
    const reason = Object.hasOwn(SESSION_KEYS, key) ? SESSION_KEYS[key] : undefined
    if (reason === undefined) continue
    diagnostics.warning('AGENT_KEY_IGNORED', `agent.${key} is ignored: ${reason}`, keySpan)
  }
}

interface Entry {
  readonly node: ConfigNode
  readonly endpoint: AgentEndpoint
}

function reportDuplicates(entries: readonly Entry[], diagnostics: Diagnostics): void {
  const names = new Map<string, Span>()
  for (const { name } of entries.map(({ endpoint }) => endpoint)) {
    if (name === undefined) continue
    const first = names.get(name.value)
    names.set(name.value, first ?? name.span)
    if (first === undefined) continue
    const related = { message: 'the other one', span: first }
    diagnostics.error('DUPLICATE_NAME', `two endpoints have the name ${name.value}`, name.span, undefined, related)
  }
}

function chosen(
  entries: readonly Entry[],
  names: AgentInput['names'],
  root: MapNode,
  diagnostics: Diagnostics,
): readonly Entry[] {
  if (entries.length === 0) {
    diagnostics.error('NO_ENDPOINTS', 'the agent configuration names no endpoints', startOf(root.span))
  }
  if (names === 'all') return entries
  const known = entries.flatMap(({ endpoint }) => (endpoint.name === undefined ? [] : [endpoint.name.value]))
  for (const name of names.filter((it) => !known.includes(it) && known.length > 0)) {
    const near = nearest(name, known)
    const hint = near === undefined ? `there are ${known.join(', ')}` : `did you mean ${near}?`
    diagnostics.error('UNKNOWN_ENDPOINT', `the agent configuration has no endpoint ${name}`, undefined, hint)
  }
  return entries.filter(({ endpoint }) => endpoint.name !== undefined && names.includes(endpoint.name.value))
}

function definitionOf(node: MapNode, endpoint: AgentEndpoint, context: AgentContext): EndpointDefinition {
  const { diagnostics } = context
  const span = endpoint.name?.span ?? startOf(node.span)
  const has = (key: string): boolean => node.entries.some((entry) => entry.key === key)
  if (!has('url')) {
    const hint = 'write url: no address is chosen for you here'
    diagnostics.error('ERR_NGROK_9034', `the endpoint ${endpoint.name?.value ?? ''} has no url`, span, hint)
  }
  if (!has('upstream') && !has('traffic_policy') && !has('traffic_policy_file')) {
    const text = `the endpoint ${endpoint.name?.value ?? ''} has neither upstream nor policy`
    diagnostics.error('MISSING_KEY', text, span, 'write upstream: {url: …}')
  }
  const kind = has('upstream') ? 'agent' : 'cloud' // without upstream the policy must answer every request
  const address = endpointAddress(endpoint.url, endpoint.bindings, kind, diagnostics)
  const { upstream, agent_tls_termination: tls } = endpoint
  if (tls !== undefined) {
    const text = 'TLS is not terminated for single endpoints here: agent_tls_termination cannot be served'
    diagnostics.notServed(
      'AGENT_TLS_NOT_SERVED',
      text,
      startOf(tls.span),
      'give a listener certificates, with --settings',
    )
  }
  if (upstream?.proxy_protocol !== undefined) {
    const text = 'PROXY headers are not sent to upstreams: proxy_protocol cannot be served'
    diagnostics.notServed('PROXY_PROTOCOL_NOT_SERVED', text, upstream.proxy_protocol.span, 'leave it out')
  }
  return {
    name: endpoint.name?.value ?? '',
    kind,
    ...address,
    pooling: endpoint.pooling_enabled ?? false,
    policy: policyOf(endpoint, context),
    span,
    upstream: upstream && singleUpstream(upstream, address.url, context),
  }
}

function policyOf(endpoint: AgentEndpoint, { diagnostics, policies }: AgentContext): EndpointDefinition['policy'] {
  const { traffic_policy: inline, traffic_policy_file: file } = endpoint
  if (inline !== undefined && file !== undefined) {
    const related = { message: 'the other one', span: startOf(inline.span) }
    const text = 'give either traffic_policy or traffic_policy_file'
    diagnostics.error('POLICY_GIVEN_TWICE', text, file.span, undefined, related)
  }
  if (inline !== undefined) return { node: inline, origin: 'inline' }
  const node = file && policies.read(file)
  return node && { node, origin: 'file' }
}

function startOf(span: Span): Span {
  return { ...span, end: Math.min(span.end, span.start + 1) }
}
