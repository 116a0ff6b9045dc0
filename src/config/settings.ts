/**
 * Our own settings: the schema of gateway.yaml, and the shape the rest of the gateway reads.
 *
 * Keys are snake_case in the file; here they are camelCase with their unit in the name. Every key, default and meaning
 * stands in config/gateway.yaml, which a test compares with this schema.
 */
import { isIP } from 'node:net'
import { dirname, isAbsolute, join } from 'node:path'
import { formatHostPort, parseHostPort, type HostPort } from './address.ts'
import type { ClientTimers, Engine } from '../listener/front-end.ts'
import type { ServerCertificate } from './certificate.ts'
import type { MapNode } from './node.ts'
import {
  boolean,
  byKind,
  byteSize,
  deferred,
  described,
  durationMs,
  enumeration,
  fieldOf,
  INVALID,
  integer,
  list,
  located,
  locatedDefault,
  mapOf,
  object,
  optional,
  section,
  string,
  transform,
  withDefault,
  type Fields,
  type InferSchema,
  type Located,
  type Schema,
} from './schema-kit.ts'
import type { SourceFile, Span } from './source.ts'
import { retryOn, targetEntry, trafficFields, type UpstreamTrafficDefaults } from './upstream-settings.ts'
import type { TlsRange } from './tls-range.ts'

export interface Settings {
  /** As configured, else one per port of the public endpoints. */
  readonly listeners: readonly ListenerSettings[]
  readonly workers: number | 'auto'
  /** Undefined: the process chooses (spec "state"). */
  readonly stateDir: string | undefined
  /** `conn.server_region`. */
  readonly region: string
  readonly upstream: UpstreamSettings
  readonly limits: LimitSettings
  readonly clients: ClientTimers
  readonly webSocket: WebSocketSettings
  readonly waf: WafSettings
  readonly jwt: JwtSettings
  readonly login: LoginSettings
  /** `url` holds the password of `password_file`; undefined = no Redis. */
  readonly redis: { readonly url: string | undefined }
  readonly rateLimit: RateLimitSettings
  readonly vaults: VaultSettings
  /** Files in MaxMind's format, in the order in which they are asked. */
  readonly addressDatabases: readonly PathText[]
  /** CIDRs and addresses, checked. */
  readonly trustedProxies: readonly string[]
  /** `stdout`, `stderr`, `off`, or the path of a file. */
  readonly accessLog: { readonly output: string }
  readonly logLevel: LogLevel
  /** Undefined = off. */
  readonly admin: { readonly address: HostPort | undefined }
  readonly drain: { readonly delayMs: number; readonly timeoutMs: number }
  readonly reload: { readonly orphanTimeoutMs: number }
  readonly policy: { readonly strict: boolean }
  readonly httpRequest: {
    readonly external: boolean
    readonly privateNetworks: boolean
    readonly userAgent: string
  }
}

export type LogLevel = 'crit' | 'error' | 'warn' | 'info' | 'debug' | 'trace'

export interface ListenerSettings extends HostPort {
  /** `host:port`, IPv6 in brackets. */
  readonly address: string
  readonly proxyProtocol: boolean
  readonly engine: Engine
  /** Name of the endpoint that answers hosts nobody names. */
  readonly defaultEndpoint: string | undefined
  /** Undefined: plain HTTP. */
  readonly tls: ListenerTlsSettings | undefined
  /** Port of the https url that every request is sent to; undefined = requests are served. */
  readonly redirectPort: number | undefined
}

export interface ListenerTlsSettings {
  /** Of this listener's own settings; policies with `terminate-tls` may add more. */
  readonly certificates: readonly ServerCertificate[]
  /** For clients whose endpoint's policy says nothing else. */
  readonly versions: TlsRange
  /** Where it is configured. */
  readonly span: Span
}

/** Milliseconds, 0 = off (H-80). */
export interface UpstreamTimerSettings {
  readonly connectMs: number
  /** Longest wait for a free connection. */
  readonly queueMs: number
  readonly firstByteMs: number
  /** Longest pause inside a response body. */
  readonly idleMs: number
  /** How long an unused connection is kept. */
  readonly keepAliveMs: number
  /** From the first try to the end of the response. */
  readonly totalMs: number
}

export interface UpstreamSettings extends UpstreamTrafficDefaults {
  readonly timers: UpstreamTimerSettings
  readonly dns: DnsSettings
}

/** How names of upstreams are looked up. */
export interface DnsSettings {
  /** `ip` or `ip:port`; none: the system's. */
  readonly servers: readonly string[]
  /** Where an answer names no TTL. */
  readonly refreshMs: number
  readonly minTtlMs: number
  readonly maxTtlMs: number
}

export interface LimitSettings {
  readonly headBytes: number
  readonly uriBytes: number
  /** 0 = unlimited. */
  readonly bodyBytes: number
  readonly bufferedBodyBytes: number
  readonly streamBufferBytes: number
  readonly hops: number
  /** Client connections at a time, per worker; 0 = unlimited. */
  readonly connections: number
  /** Of one address; 0 = unlimited. */
  readonly connectionsPerAddress: number
}

/** Milliseconds, 0 = off. */
export interface WebSocketSettings {
  readonly maxMessageBytes: number
  readonly idleMs: number
  readonly pingMs: number
  /** Per worker. */
  readonly maxOpen: number
  readonly compress: boolean
}

export interface VaultSettings {
  /** Newest first; none = the key of the state folder. */
  readonly keys: readonly string[]
  readonly directory: string | undefined
}

export interface WafSettings {
  /** A folder; undefined = `<stateDir>/crs/current`. */
  readonly rules: string | undefined
  /** `off`: the actions let everything pass, and no rule set is loaded. */
  readonly mode: 'on' | 'detection_only' | 'off'
  readonly paranoiaLevel: number
  /** 0 = paranoiaLevel; rules up to this level run, scores count up to paranoiaLevel. */
  readonly detectionParanoiaLevel: number
  readonly inboundThreshold: number
  readonly outboundThreshold: number
  readonly requestBodyBytes: number
  readonly responseBodyBytes: number
  /** What happens to a body that is larger. */
  readonly requestBodyLimitAction: BodyLimitAction
  readonly responseBodyLimitAction: BodyLimitAction
  /** SecLang texts, in order. */
  /** Ids of rules that are not loaded. */
  readonly leaveOutRules: readonly number[]
  readonly includeBefore: readonly SourceFile[]
  readonly includeAfter: readonly SourceFile[]
  /** Bodies above it are scanned in a thread. */
  readonly threadThresholdBytes: number
  /** Where matches are written in ModSecurity's form: `stdout`, `stderr`, `off`, or the path of a file. */
  readonly modsecurityLog: string
  /** Records of `ip`, `global` and other collections, shared by all workers. */
  readonly collectionRecords: number
}

/** `reject`: the message is refused. `process_partial`: what fits is inspected, the rest passes unseen. */
export type BodyLimitAction = 'reject' | 'process_partial'

export interface JwtSettings {
  readonly leewayMs: number
  readonly refreshMs: number
  readonly staleMs: number
  readonly unknownKidCooldownMs: number
  readonly fetchTimeoutMs: number
  readonly cacheEntries: number
  /** Which plain http key set URLs are fetched. */
  readonly allowHttp: 'loopback' | boolean
}

export interface LoginSettings {
  /** Newest first; empty: the gateway makes one of its own and keeps it in its state folder. */
  readonly sessionKeys: readonly string[]
  /** Where providers send browsers back to, on every endpoint with a login. */
  readonly callbackPath: string
  readonly fetchTimeoutMs: number
  /** How long logins hold, and metadata serves, while a provider is out of reach. */
  readonly staleMs: number
  /** Sessions that are remembered, per worker. */
  readonly cacheEntries: number
  /** Which plain http URLs of providers are asked. */
  readonly allowHttp: 'loopback' | boolean
  /** A GitHub Enterprise Server, a self-managed GitLab; without a slash at the end. Undefined: the public ones. */
  readonly githubUrl: string | undefined
  readonly gitlabUrl: string | undefined
}

export interface RateLimitSettings {
  readonly onStoreError: 'local' | 'open' | 'closed'
  /** Whether workers hold permits of hot buckets. */
  readonly mode: 'exact' | 'lease'
  readonly memoryBuckets: number
  readonly headers: 'none' | 'draft' | 'legacy' | 'x'
}

/** A text that names a file or pattern, with the file it stands in: relative names are relative to that. */
export type PathText = Located<string>

/** `path` as a name for the reader: beside the file that mentions it. */
export function besideItsFile(path: PathText): string {
  return isAbsolute(path.value) ? path.value : join(dirname(path.span.source.path), path.value)
}

// ---------------------------------------------------------------------------------------------------------------------

const LONGEST_TIMER_MS = 2 ** 31 - 1 // what setTimeout takes
const timer = (minMs = 0): Schema<number> => durationMs({ minMs, maxMs: LONGEST_TIMER_MS })

/** An address to listen on; `''` and `off` mean none where `mayBeOff`. */
function address(mayBeOff: boolean): Schema<HostPort | undefined> {
  return transform(
    string(),
    (value, { node, diagnostics, label }) => {
      if (mayBeOff && (value === '' || value === 'off')) return undefined
      const parsed = parseHostPort(value, true)
      if (parsed !== undefined) return parsed
      const text = `${label} must be an address and port, not ${JSON.stringify(value)}`
      diagnostics.error('INVALID_ADDRESS', text, node.span, 'write 0.0.0.0:8080, 127.0.0.1:8080 or [::]:8080')
      return INVALID
    },
    { write: (value) => (value === undefined ? '' : formatHostPort(value.host, value.port)) },
  )
}

const path = (): Schema<PathText> => located(string({ minLength: 1 }))
/** Empty text means: not set. */
const optionalPath = (): Schema<PathText | undefined> =>
  transform(located(string()), (it) => (it.value === '' ? undefined : it), { write: (it) => it?.value ?? '' })

const cidr: Schema<string> = transform(string(), (value, { node, diagnostics, label }) => {
  const [ip = '', bits, ...more] = value.split('/')
  const family = isIP(ip)
  const width = family === 4 ? 32 : 128
  const bitsFit = bits === undefined || (/^[0-9]{1,3}$/.test(bits) && Number(bits) <= width)
  if (family !== 0 && !ip.includes('%') && bitsFit && more.length === 0) return value
  const text = `${label} must be an address or a range such as 10.0.0.0/8, not ${JSON.stringify(value)}`
  diagnostics.error('INVALID_CIDR', text, node.span)
  return INVALID
})

const workers: Schema<number | 'auto'> = {
  parse(node, diagnostics, label) {
    if (node.kind === 'scalar' && node.text === 'auto') return 'auto'
    return integer({ min: 1, max: 64 }).parse(node, diagnostics, label)
  },
  jsonSchema: () => ({ anyOf: [{ const: 'auto' }, { type: 'integer', minimum: 1, maximum: 64 }] }),
}

const allowHttp: Schema<'loopback' | boolean> = {
  parse(node, diagnostics, label = 'the value') {
    if (node.kind === 'scalar' && (node.value === 'loopback' || typeof node.value === 'boolean')) return node.value
    diagnostics.error('NOT_ONE_OF', `${label} must be loopback, true or false`, node.span)
    return INVALID
  },
  jsonSchema: () => ({ enum: ['loopback', true, false] }),
}

/** Where a path on the gateway's endpoints begins. */
const endpointPath: Schema<string> = string({
  pattern: /^\/(?:[A-Za-z0-9._~-]+\/)*[A-Za-z0-9._~-]+$/,
  maxLength: 128,
  must: 'must be a path such as /ngrok/oauth2/callback',
})

/** Scheme, host and perhaps a path, without the slash at the end; empty means: not set. */
const baseUrl: Schema<string | undefined> = transform(
  string(),
  (value, { node, diagnostics, label }) => {
    if (value === '') return undefined
    if (URL.canParse(value) && /^https?:\/\/[^?#@]+$/.test(value)) return value.replace(/\/+$/, '')
    diagnostics.error('INVALID_URL', `${label} must be a url such as https://git.example.com`, node.span)
    return INVALID
  },
  { write: (value) => value ?? '' },
)

// the message must not show the url: it may hold a password
const redisUrl: Schema<string> = transform(string(), (value, { node, diagnostics, label }) => {
  if (/^($|rediss?(\+cluster)?:\/\/[^\s/?#]+)/.test(value)) return value
  const hint = 'write redis://host:6379, rediss://host:6379 (TLS) or redis+cluster://host:6379,host:6379'
  diagnostics.error('INVALID_REDIS_URL', `${label} is not a url of a Redis`, node.span, hint)
  return INVALID
})

/** A value or a list of them, as a list. */
function oneOrMany<T>(item: Schema<T>): Schema<readonly T[]> {
  return transform(byKind({ scalar: transform(item, (value) => [value]), list: list(item, { min: 1 }) }), (it) => it)
}

const nameServer: Schema<string> = transform(string(), (value, { node, diagnostics, label }) => {
  if (isIP(value) !== 0) return value
  const parsed = parseHostPort(value)
  if (parsed !== undefined && isIP(parsed.host) !== 0) return value
  const text = `${label} must be the address of a name server, not ${JSON.stringify(value)}`
  diagnostics.error('INVALID_ADDRESS', text, node.span, 'write 10.0.0.2, 10.0.0.2:5353 or [fd00::2]:53')
  return INVALID
})

const hostPortText: Schema<HostPort> = transform(string(), (value, { node, diagnostics, label }) => {
  const parsed = parseHostPort(value)
  if (parsed !== undefined) return parsed
  const text = `${label} must be host:port, not ${JSON.stringify(value)}`
  diagnostics.error('INVALID_ADDRESS', text, node.span, 'the scheme stays that of the upstream url')
  return INVALID
})

/** A policy document inside another one. */
export const policyNode: Schema<MapNode> = {
  parse(node, diagnostics) {
    if (node.kind === 'map') return node
    if (node.kind === 'scalar' && node.value === null) return { kind: 'map', entries: [], span: node.span }
    const found = node.kind === 'list' ? 'a list' : 'a text'
    const hint = node.kind === 'scalar' ? 'a file is named with traffic_policy_file' : undefined
    diagnostics.error('ERR_NGROK_2236', `a traffic policy must be a mapping of phases, not ${found}`, node.span, hint)
    return INVALID
  },
  jsonSchema: () => ({ $ref: POLICY_REFERENCE }),
  acceptsNull: true,
}

/** Where the JSON Schema of gateway.yaml expects the one of policies. */
export const POLICY_REFERENCE = '#/$defs/policy'

const timerFields = {
  connect_timeout: described(optional(timer()), 'For this endpoint, instead of upstream.connect_timeout.'),
  queue_timeout: described(optional(timer()), 'For this endpoint, instead of upstream.queue_timeout.'),
  first_byte_timeout: described(optional(timer()), 'For this endpoint, instead of upstream.first_byte_timeout.'),
  idle_timeout: described(optional(timer()), 'For this endpoint, instead of upstream.idle_timeout.'),
  keep_alive: described(optional(timer()), 'For this endpoint, instead of upstream.keep_alive.'),
  total_timeout: described(optional(timer()), 'For this endpoint, instead of upstream.total_timeout.'),
}

/** One entry of `endpoints`; read apart, so that a wrong one does not hide the errors of the others. */
export const endpointSchema = object(
  {
    name: described(string({ minLength: 1, maxLength: 255 }), 'Label in logs and metrics; each name once.'),
    url: described(located(string()), 'What it answers to: http://shop.example.org:8080, https://cart.internal.'),
    bindings: described(
      optional(list(located(string()), { max: 1, code: 'ERR_NGROK_15006' })),
      'public or internal; found from the url when it is missing.',
    ),
    upstream: described(
      optional(
        object({
          url: described(
            optional(located(string())),
            'Where its requests go: http://127.0.0.1:9001, host:port or a port.',
          ),
          targets: described(
            optional(list(targetEntry, { min: 1, max: 1000 })),
            'Several servers instead of one url: urls, or url and weight.',
          ),
          protocol: described(
            locatedDefault(enumeration(['http1', 'http2']), 'http1'),
            'Protocol spoken to the upstream.',
          ),
          tls: described(
            optional(
              object({
                verify: described(
                  locatedDefault(boolean(), true),
                  'Whether certificates of https upstreams are verified.',
                ),
                ca_file: described(
                  optional(path()),
                  'PEM file with the authorities to trust, instead of those of the system.',
                ),
                server_name: described(
                  optional(string({ minLength: 1, maxLength: 253 })),
                  'Name for SNI and verification instead of the host of the url.',
                ),
              }),
            ),
            'How https upstreams are verified.',
          ),
          ...trafficFields,
        }),
      ),
      'The servers behind the endpoint; without it the policy must answer every request.',
    ),
    traffic_policy: described(optional(policyNode), 'The policy itself; or traffic_policy_file.'),
    traffic_policy_file: described(optional(path()), 'File that holds the policy, beside this file.'),
    pooling_enabled: described(
      withDefault(boolean(), false),
      'Whether other endpoints may have the same url; they then share its requests.',
    ),
    forwarded_for: described(
      withDefault(enumeration(['discard', 'append']), 'discard'),
      'X-Forwarded-For and X-Forwarded-Host of clients that are no trusted proxy: discard them, or append to them as ngrok does.',
    ),
    timers: described(optional(object(timerFields)), 'Timers for this endpoint only.'),
  },
  {
    aliases: { policy: 'traffic_policy' },
    twiceCode: 'ERR_NGROK_9025',
    hints: {
      description: 'write a comment instead',
      metadata: 'write a comment instead',
      agent_tls_termination: 'TLS is not terminated for single endpoints here',
      addr: 'this is upstream.url since version 3',
      proto: 'the scheme stands in the url since version 3',
    },
  },
)

const tlsVersion = (): Schema<Located<string>> => located(enumeration(['1.0', '1.1', '1.2', '1.3']))

const listenerSchema = object({
  address: described(
    address(false) as Schema<HostPort>, // `''` is refused, so the address is always there
    'Address and port: 0.0.0.0:8080, 127.0.0.1:8080, [::]:8080.',
  ),
  engine: described(optional(enumeration(['uws', 'native'])), 'What serves this listener, instead of engine.'),
  proxy_protocol: described(
    withDefault(boolean(), false),
    'Whether connections from trusted_proxies begin with a PROXY protocol header (uws: version 2, native: 1 and 2).',
  ),
  default_endpoint: described(
    optional(located(string({ minLength: 1 }))),
    'Name of the endpoint that answers hosts nobody names; without it they get 404.',
  ),
  tls: described(
    optional(
      object(
        {
          certificates: described(
            withDefault(
              list(
                object({
                  certificate: described(path(), 'PEM file: the certificate, then its intermediates.'),
                  key: described(path(), 'PEM file: its private key, not encrypted.'),
                  names: described(
                    optional(list(located(string({ minLength: 1 })), { min: 1, max: 1000 })),
                    'Names it is shown for, *.example.org among them; without it those that it holds.',
                  ),
                }),
                { max: 1000 },
              ),
              [],
            ),
            'What clients are shown, by the name they ask for; the first one also for names that none has.',
          ),
          min_version: described(
            optional(tlsVersion()),
            'Oldest version of TLS, 1.2 or 1.3; with engine: uws it is 1.2 and cannot be changed.',
          ),
          max_version: described(optional(tlsVersion()), 'Newest version of TLS; with engine: uws it is 1.3.'),
        },
        { allowNull: true },
      ),
    ),
    'Clients speak TLS here (https).',
  ),
  redirect_to_https: described(
    optional(integer({ min: 1, max: 65_535 })),
    'Every request is answered 308 with the https url of this port; 443 is left out of it.',
  ),
})

const gatewayFields = {
  listeners: described(
    withDefault(list(located(listenerSchema)), []),
    'Where clients connect; empty: one listener per port of the public endpoints.',
  ),
  engine: described(
    withDefault(enumeration(['uws', 'native']), 'uws'),
    'What serves listeners that do not say: uws (uWebSockets.js), or native (strict HTTP/1).',
  ),
  workers: described(withDefault(workers, 'auto'), 'Worker processes, 1 to 64; auto: the CPU quota, rounded up.'),
  state_dir: described(
    withDefault(optionalPath(), undefined),
    'Folder for control socket, last good configuration and rule sets; empty: /var/lib/sallyport when writable, else $XDG_STATE_HOME/sallyport.',
  ),
  region: described(withDefault(string({ maxLength: 64 }), ''), 'Value of conn.server_region in policies.'),
  endpoints: described(withDefault(list(deferred(endpointSchema)), []), 'What the gateway answers to.'),
  manifests: described(
    withDefault(list(path()), []),
    'Files or patterns (*, ?) of Kubernetes objects: AgentEndpoint, CloudEndpoint, NgrokTrafficPolicy.',
  ),
  substitutions: described(
    section(
      object({
        values: described(
          withDefault(mapOf(string(), { keyPattern: /^[A-Z][A-Z0-9_]*$/ }), new Map<string, string>()),
          'Name: value.',
        ),
        environment: described(
          withDefault(list(located(string({ pattern: /^[A-Z][A-Z0-9_]*$/ }))), []),
          'Names taken from the environment.',
        ),
        files: described(withDefault(list(path()), []), 'Files of NAME=value lines.'),
      }),
    ),
    'What $NAMES in policies and manifests are replaced by; no other name is.',
  ),
  upstream_hosts: described(
    withDefault(
      mapOf(oneOrMany(hostPortText)) as Schema<ReadonlyMap<string, readonly HostPort[]>>,
      new Map<string, readonly HostPort[]>(),
    ),
    'host:port of an upstream url → host:port (or a list) to connect to instead.',
  ),
  upstream: described(
    section(
      object({
        connect_timeout: described(withDefault(timer(), 3000), 'Longest wait for a connection; 0 = off.'),
        queue_timeout: described(
          withDefault(timer(), 10_000),
          'Longest wait for a free connection, beyond it 503; 0 = off.',
        ),
        first_byte_timeout: described(withDefault(timer(), 60_000), 'Longest wait for a response head; 0 = off.'),
        idle_timeout: described(withDefault(timer(), 300_000), 'Longest pause inside a response body; 0 = off.'),
        keep_alive: described(withDefault(timer(), 60_000), 'How long an unused connection is kept.'),
        total_timeout: described(
          withDefault(timer(), 0),
          'Longest time from the first try to the end of the response; 0 = off.',
        ),
        max_connections: described(
          withDefault(integer({ min: 1, max: 65_536 }), 256),
          'Connections per target and worker.',
          'connections',
        ),
        max_queued: described(
          withDefault(integer({ min: 0, max: 1_000_000 }), 1024),
          'Requests that may wait for a connection, per target and worker; beyond it 503.',
          'requests',
        ),
        retries: described(
          withDefault(integer({ min: 0, max: 10 }), 1),
          'Further targets tried when a request failed and may safely be repeated.',
          'attempts',
        ),
        retry_on: described(
          withDefault(retryOn(), []),
          'Statuses of upstreams that are tried again instead of passed on: 429, 502, 503, 504.',
        ),
        retry_budget: described(
          withDefault(integer({ min: 0, max: 100 }), 20),
          'Most requests that may be repeated, in percent of those of the last second; at least 3 a second.',
          'percent',
        ),
        retry_attempt_header: described(
          withDefault(boolean(), false),
          'Whether repeated requests carry X-Retry-Attempt: 1, 2, ….',
        ),
        eject_after: described(
          withDefault(integer({ min: 0, max: 10_000 }), 5),
          'Failures in a row that take a target out; 0 = never.',
          'failures',
        ),
        eject_time: described(withDefault(timer(), 10_000), 'How long a target stays out.'),
        panic_threshold: described(
          withDefault(integer({ min: 0, max: 100 }), 0),
          'With fewer usable targets all are used, in percent; 0 = only when none is left.',
          'percent',
        ),
        dns: described(
          section(
            object({
              servers: described(
                withDefault(list(nameServer, { max: 8, unique: true }), []),
                'Name servers for upstreams, ip or ip:port; empty: as the system looks names up.',
              ),
              refresh: described(withDefault(timer(100), 10_000), 'How long an answer holds that names no TTL.'),
              min_ttl: described(withDefault(timer(100), 1000), 'Shorter TTLs count as this.'),
              max_ttl: described(withDefault(timer(1000), 3_600_000), 'Longer TTLs count as this.'),
            }),
          ),
          'How names of upstreams are looked up.',
        ),
      }),
    ),
    'Connections to upstreams.',
  ),
  limits: described(
    section(
      object({
        headers: described(
          withDefault(byteSize({ min: 4096, max: 2 ** 20 }), 65_536),
          'Header section of a request; beyond it 431.',
        ),
        uri: described(withDefault(byteSize({ min: 8000, max: 2 ** 20 }), 16_384), 'Request target; beyond it 414.'),
        body: described(withDefault(byteSize(), 0), 'Request body that streams through; 0 = unlimited, beyond it 413.'),
        buffered_body: described(
          withDefault(byteSize({ max: 2 ** 30 }), 10 * 2 ** 20),
          'Body that an action needs as a whole; beyond it 413.',
        ),
        stream_buffer: described(
          withDefault(byteSize({ min: 16_384, max: 64 * 2 ** 20 }), 262_144),
          'What waits in memory per direction and request when a reader is slow.',
        ),
        hops: described(
          withDefault(integer({ min: 1, max: 100 }), 10),
          'Internal endpoints that a request may be handed on to; beyond it 508.',
          'hops',
        ),
        connections: described(
          withDefault(integer({ min: 0, max: 1_000_000 }), 0),
          'Client connections open at a time, per worker; more are closed as they come; 0 = unlimited.',
          'connections',
        ),
        connections_per_address: described(
          withDefault(integer({ min: 0, max: 1_000_000 }), 0),
          'Client connections of one address open at a time, in all workers together; more are closed as they come; 0 = unlimited.',
          'connections',
        ),
      }),
    ),
    'Sizes of requests, and how many connections clients may open.',
  ),
  clients: described(
    section(
      object({
        head_timeout: described(
          withDefault(timer(), 10_000),
          'Longest time for a request head, from its first byte, beyond it 408; 0 = off. Listeners with engine: uws always have 10s.',
        ),
        idle_timeout: described(
          withDefault(timer(), 75_000),
          'How long a connection without a request is kept; 0 = off. Listeners with engine: uws always have 10s.',
        ),
        progress_window: described(
          withDefault(timer(), 60_000),
          'A client must send or take 240 bytes a second on the average of such a time; 0 = off.',
        ),
      }),
    ),
    'Patience with clients.',
  ),
  websocket: described(
    section(
      object({
        max_message: described(
          withDefault(byteSize({ min: 1024, max: 2 ** 29 }), 16 * 2 ** 20),
          'Message of a WebSocket; beyond it the connection closes (1009).',
        ),
        idle_timeout: described(
          withDefault(timer(), 300_000),
          'Longest time in which nothing comes from either side, pings and pongs included; 0 = off.',
        ),
        ping_interval: described(
          withDefault(timer(), 20_000),
          'A side that was silent for so long is pinged; one that does not answer within 10s is gone; 0 = off.',
        ),
        max_open: described(
          withDefault(integer({ min: 0, max: 500_000 }), 10_000),
          'WebSockets open at a time, per worker; beyond it 503.',
          'connections',
        ),
        compression: described(
          withDefault(boolean(), false),
          'Whether messages are compressed where client and upstream both offer it (permessage-deflate).',
        ),
      }),
    ),
    'WebSockets.',
  ),
  waf: described(
    section(
      object({
        rules: described(
          withDefault(optionalPath(), undefined),
          'Folder of a core rule set; empty: crs/current in state_dir.',
        ),
        mode: described(
          withDefault(enumeration(['on', 'detection_only', 'off']), 'on'),
          'on; detection_only: rules run and are logged, nothing is blocked; off: no rule runs, no rule set is needed.',
        ),
        paranoia_level: described(withDefault(integer({ min: 1, max: 4 }), 1), 'Paranoia level, 1 to 4.', 'level'),
        detection_paranoia_level: described(
          withDefault(integer({ min: 0, max: 4 }), 0),
          'Rules up to this level run and are logged, without their scores counting; 0 = the paranoia level.',
          'level',
        ),
        inbound_threshold: described(
          withDefault(integer({ min: 1, max: 100_000 }), 5),
          'Anomaly score from which a request is blocked.',
          'score',
        ),
        outbound_threshold: described(
          withDefault(integer({ min: 1, max: 100_000 }), 4),
          'Anomaly score from which a response is blocked.',
          'score',
        ),
        request_body: described(
          withDefault(byteSize({ min: 1024, max: 2 ** 30 }), 131_072),
          'Request body that is inspected.',
        ),
        request_body_limit_action: described(
          withDefault(enumeration(['reject', 'process_partial']), 'reject'),
          'What happens to a larger one: reject (413), or process_partial (what fits is inspected, the rest passes).',
        ),
        response_body: described(
          withDefault(byteSize({ min: 1024, max: 2 ** 30 }), 524_288),
          'Response body that is inspected.',
        ),
        response_body_limit_action: described(
          withDefault(enumeration(['reject', 'process_partial']), 'process_partial'),
          'What happens to a larger one: process_partial (what fits is inspected, the rest passes), or reject (500).',
        ),
        leave_out_rules: described(
          withDefault(list(integer({ min: 1, max: 2 ** 32 - 1 })), []),
          'Ids of rules that are not loaded, such as those that use what the matcher does not have.',
        ),
        include_before: described(withDefault(list(path()), []), 'SecLang files read before the rule set.'),
        include_after: described(withDefault(list(path()), []), 'SecLang files read after the rule set.'),
        thread_threshold: described(
          withDefault(byteSize(), 65_536),
          'Bodies larger than this are scanned in a thread, not in the event loop.',
        ),
        modsecurity_log: described(
          locatedDefault(string({ minLength: 1 }), 'off'),
          'Matches as ModSecurity writes them, for tools that read that: stdout, stderr, off, or a file.',
        ),
        collection_records: described(
          withDefault(integer({ min: 64, max: 1_048_576 }), 8192),
          'Records of ip, global and other collections that rules keep between requests, 512 bytes each.',
          'records',
        ),
      }),
    ),
    'Rule set of owasp-crs-request and owasp-crs-response.',
  ),
  jwt: described(
    section(
      object({
        leeway: described(withDefault(timer(), 60_000), 'Allowed difference of clocks for exp and nbf.'),
        refresh: described(withDefault(timer(1000), 900_000), 'How often key sets are fetched anew.'),
        stale: described(
          withDefault(durationMs(), 86_400_000),
          'How long the last good key set serves while it cannot be fetched.',
        ),
        unknown_kid_cooldown: described(
          withDefault(timer(), 30_000),
          'Shortest time between two fetches that an unknown key id causes.',
        ),
        fetch_timeout: described(withDefault(timer(100), 5000), 'Longest time to fetch a key set.'),
        cache_entries: described(
          withDefault(integer({ min: 0, max: 10_000_000 }), 10_000),
          'Verified tokens that are remembered, per worker; 0 = none.',
          'tokens',
        ),
        allow_http: described(
          withDefault(allowHttp, 'loopback'),
          'Which http:// key set urls are fetched: loopback, true (all) or false (none).',
        ),
      }),
    ),
    'Key sets and tokens of jwt-validation.',
  ),
  login: described(
    section(
      object({
        session_keys: described(
          withDefault(list(string({ minLength: 32, maxLength: 1024 }), { max: 16, unique: true }), []),
          'Keys that seal session cookies, newest first; empty: one that the gateway makes and keeps in state_dir.',
        ),
        session_keys_file: described(
          withDefault(optionalPath(), undefined),
          'File with one key in each line, newest first, instead of session_keys.',
        ),
        callback_path: described(
          withDefault(endpointPath, '/ngrok/oauth2/callback'),
          'Path, on every endpoint with oauth or openid-connect, to which providers send browsers back.',
        ),
        fetch_timeout: described(withDefault(timer(100), 10_000), 'Longest time for one request to a provider.'),
        stale: described(
          withDefault(durationMs(), 86_400_000),
          'How long metadata serves, and sessions hold that should be renewed, while a provider cannot be reached.',
        ),
        cache_entries: described(
          withDefault(integer({ min: 0, max: 10_000_000 }), 10_000),
          'Sessions that are remembered so that their cookie is not opened again, per worker; 0 = none.',
          'sessions',
        ),
        allow_http: described(
          withDefault(allowHttp, 'loopback'),
          'Which http:// urls of providers are asked: loopback, true (all) or false (none).',
        ),
        github_url: described(
          withDefault(baseUrl, undefined),
          'GitHub Enterprise Server that the provider github means; empty: github.com.',
        ),
        gitlab_url: described(
          withDefault(baseUrl, undefined),
          'Self-managed GitLab that the provider gitlab means; empty: gitlab.com.',
        ),
      }),
    ),
    'Sessions and providers of oauth, openid-connect and saml.',
  ),
  redis: described(
    section(
      object({
        url: described(
          locatedDefault(redisUrl, ''),
          'Redis that shares rate limits between gateways; empty: limits count in this gateway only.',
        ),
        password_file: described(withDefault(optionalPath(), undefined), 'File that holds the password.'),
      }),
    ),
    'Store that gateways share.',
  ),
  rate_limit: described(
    section(
      object({
        on_store_error: described(
          withDefault(enumeration(['local', 'open', 'closed']), 'local'),
          'While Redis is out of reach: local (each gateway counts its share), open (all pass), closed (503).',
        ),
        mode: described(
          withDefault(enumeration(['exact', 'lease']), 'exact'),
          'With Redis: exact (every request asks it) or lease (workers take permits of hot buckets in batches; never more than the limit).',
        ),
        memory_buckets: described(
          withDefault(integer({ min: 1024, max: 16_777_216 }), 65_536),
          'Buckets kept in memory, 288 bytes each.',
          'buckets',
        ),
        headers: described(
          withDefault(enumeration(['none', 'draft', 'legacy', 'x']), 'none'),
          'Which headers tell clients their limit: none, draft (RateLimit), legacy (RateLimit-Limit …), x (X-RateLimit-*).',
        ),
      }),
    ),
    'Buckets of rate-limit.',
  ),
  vaults: described(
    section(
      object({
        keys: described(
          withDefault(list(string({ minLength: 32, maxLength: 1024 }), { max: 16, unique: true }), []),
          'Keys that seal secrets in state_dir, newest first; empty: one that is made and kept there.',
        ),
        keys_file: described(
          withDefault(optionalPath(), undefined),
          'File with one key in each line, newest first, instead of keys.',
        ),
        directory: described(
          withDefault(optionalPath(), undefined),
          'Folder with a folder per vault and a file per secret, as Kubernetes mounts secrets; asked last.',
        ),
      }),
    ),
    'Where secrets.get finds secrets.',
  ),
  address_data: described(
    section(
      object({
        databases: described(
          withDefault(list(path(), { max: 16 }), []),
          'Databases in MaxMind format (mmdb): places, networks, categories. The first that knows something wins.',
        ),
      }),
    ),
    'What expressions know of addresses: conn.client_ip.geo, .as, .categories.',
  ),
  trusted_proxies: described(
    withDefault(list(cidr, { unique: true }), []),
    'Addresses and ranges whose X-Forwarded-For and PROXY header are believed.',
  ),
  access_log: described(
    section(
      object({
        output: described(locatedDefault(string({ minLength: 1 }), 'stdout'), 'stdout, stderr, off, or a file.'),
      }),
    ),
    'One JSON line per request.',
  ),
  log_level: described(
    withDefault(enumeration(['crit', 'error', 'warn', 'info', 'debug', 'trace']), 'info'),
    'What the log on stderr holds: crit, error, warn, info, debug or trace.',
  ),
  admin: described(
    section(
      object({
        address: described(
          withDefault(address(true), { host: '127.0.0.1', port: 4040 }),
          'Address of /livez, /readyz and /metrics; empty: off.',
        ),
      }),
    ),
    'Listener for operators.',
  ),
  drain: described(
    section(
      object({
        delay: described(withDefault(timer(), 5000), 'How long new connections are still taken after SIGTERM.'),
        timeout: described(withDefault(timer(), 30_000), 'How long open requests may then take; the rest is cut.'),
      }),
    ),
    'Stopping.',
  ),
  reload: described(
    section(
      object({
        orphan_timeout: described(
          withDefault(timer(), 60_000),
          'How long requests and streams of an endpoint go on that a reload has taken away; 0 = until they end.',
        ),
      }),
    ),
    'Loading another configuration.',
  ),
  policy: described(
    section(
      object({
        strict: described(
          withDefault(boolean(), false),
          'Expressions that fail at run time answer 500, and policies of cloud endpoints must end every request.',
        ),
      }),
    ),
    'How policies are read.',
  ),
  http_request: described(
    section(
      object({
        external: described(
          withDefault(boolean(), false),
          'http-request may ask hosts that are no internal endpoints.',
        ),
        private_networks: described(
          withDefault(boolean(), false),
          'It may then ask hosts in private networks and on this machine, too.',
        ),
        user_agent: described(
          withDefault(string({ minLength: 1, maxLength: 200, pattern: /^[\x20-\x7e]+$/ }), 'sallyport'),
          'User-Agent of requests that policies make.',
        ),
      }),
    ),
    'Requests that policies make themselves.',
  ),
}

/** gateway.yaml. */
export const gatewaySchema = object(gatewayFields, {
  allowNull: true,
  hints: {
    version: 'this is a key of the ngrok agent; leave it out',
    agent: 'these are settings of the ngrok agent; leave them out',
    tunnels: 'tunnels are endpoints since version 3: name, url, upstream.url',
    authtoken: 'no account is needed; leave it out',
    on_http_request: 'this is a traffic policy: name the file in an endpoint with traffic_policy_file',
    on_http_response: 'this is a traffic policy: name the file in an endpoint with traffic_policy_file',
    on_tcp_connect: 'this is a traffic policy: name the file in an endpoint with traffic_policy_file',
    inbound: 'this is a traffic policy: name the file in an endpoint with traffic_policy_file',
    outbound: 'this is a traffic policy: name the file in an endpoint with traffic_policy_file',
  },
})

/** gateway.yaml as parsed; load.ts resolves files, endpoints and listeners. */
export type GatewayDocument = InferSchema<typeof gatewaySchema>
export type EndpointDocument = InferSchema<typeof endpointSchema>

// ---------------------------------------------------------------------------------------------------------------------

/** One setting for reference pages. */
export interface SettingDescription {
  /** Dotted; `[]` behind a list: `listeners[].address`. */
  readonly key: string
  /** As written in the file; undefined when the key has none. */
  readonly default: unknown
  readonly required: boolean
  /** `duration`, `size`, `connections`, …; undefined for texts, switches and words. */
  readonly unit: string | undefined
  readonly meaning: string
}

/** Every setting in the order of the file, sections left out, entries of lists included. */
export function describeSettings(): readonly SettingDescription[] {
  return describeFields(gatewayFields, '')
}

function describeFields(fields: Fields, prefix: string): SettingDescription[] {
  return Object.entries(fields).flatMap(([name, entry]) => {
    const field = fieldOf(entry)
    const { schema } = field
    const key = `${prefix}${name}`
    if (schema.fields !== undefined) return describeFields(schema.fields, `${key}.`)
    const own: SettingDescription = {
      key,
      default: field.written,
      required: field.presence === 'required',
      unit: schema.unit,
      meaning: schema.description ?? '',
    }
    const inner = schema.item?.fields
    return inner === undefined ? [own] : [own, ...describeFields(inner, `${key}[].`)]
  })
}
