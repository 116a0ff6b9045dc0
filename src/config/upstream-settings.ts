/**
 * What an endpoint says about its servers beyond their addresses: how one is chosen, how they are checked, what is repeated.
 * What it leaves out is taken from `upstream` of gateway.yaml.
 *
 * Source: operations.md H-70 … H-74, H-80; threats.md T-37.
 */
import type { Diagnostics } from './diagnostic.ts'
import type { TextSource } from './node.ts'
import {
  boolean,
  byKind,
  described,
  durationMs,
  enumeration,
  expressionText,
  INVALID,
  integer,
  list,
  located,
  locatedDefault,
  object,
  optional,
  string,
  transform,
  withDefault,
  type InferSchema,
  type Located,
  type Schema,
} from './schema-kit.ts'

/** How one of several targets is chosen. */
export interface BalanceSettings {
  readonly method: 'round-robin' | 'least-request' | 'ewma' | 'hash'
  /** For `hash`: what the request is known by. */
  readonly key: TextSource | undefined
  /** 0 = off. */
  readonly slowStartMs: number
  readonly sticky: StickySettings | undefined
}

/** A cookie that brings a client back to the target that answered it first. */
export interface StickySettings {
  readonly cookie: string
  /** 0 = until the browser ends. */
  readonly maxAgeMs: number
  readonly path: string
  readonly sameSite: 'lax' | 'strict' | 'none'
  /** `auto`: when the client used https. */
  readonly secure: 'auto' | 'always' | 'never'
}

/** Questions that the gateway asks targets by itself. */
export interface HealthCheckSettings {
  /** Undefined: a TCP connection is enough. */
  readonly path: string | undefined
  /** Host field; undefined: that of the target. */
  readonly host: string | undefined
  readonly intervalMs: number
  readonly timeoutMs: number
  /** Statuses that pass, as ranges with both ends. */
  readonly expect: readonly (readonly [number, number])[]
  /** Checks in a row that change the state. */
  readonly passesAfter: number
  readonly failsAfter: number
}

/** Which failed or refused requests are sent once more (H-70 … H-74). */
export interface RetrySettings {
  /** Further tries. */
  readonly max: number
  /** Statuses of the upstream that are not passed on but tried again. */
  readonly on: readonly number[]
  /** Share of requests in percent that may be repeated. */
  readonly budgetPercent: number
  /** Every method may be repeated. */
  readonly unsafe: boolean
  /** Whether the upstream sees `X-Retry-Attempt`. */
  readonly attemptHeader: boolean
}

/** Everything above for one endpoint. */
export interface UpstreamTraffic {
  readonly maxConnections: number
  readonly maxQueued: number
  readonly retry: RetrySettings
  /** Failures in a row that take a target out; 0 = never. */
  readonly ejectAfter: number
  readonly ejectTimeMs: number
  readonly panicPercent: number
  readonly balance: BalanceSettings
  readonly healthCheck: HealthCheckSettings | undefined
  /** Protocols beside WebSocket that requests may upgrade to (H-60). */
  readonly upgrades: readonly string[]
}

/** What `upstream` of gateway.yaml says for all endpoints. */
export type UpstreamTrafficDefaults = Omit<UpstreamTraffic, 'balance' | 'healthCheck' | 'upgrades'>

const LONGEST_MS = 2 ** 31 - 1
const time = (minMs: number): Schema<number> => durationMs({ minMs, maxMs: LONGEST_MS })

/** H-73. */
export const RETRY_STATUSES = [429, 502, 503, 504] as const
export const retryOn = (): Schema<readonly number[]> => list(enumeration(RETRY_STATUSES), { max: 4, unique: true })

/** `200`, `200-299`. */
const statusRange: Schema<readonly [number, number]> = transform(
  string(),
  (text, { node, diagnostics, label }) => {
    const [first = '', last = first, ...more] = text.split('-').map((part) => part.trim())
    const range = [Number(first), Number(last)] as const
    const isRight = (number: number, digits: string): boolean => /^[1-5][0-9]{2}$/.test(digits) && number >= 100
    if (more.length === 0 && isRight(range[0], first) && isRight(range[1], last) && range[0] <= range[1]) return range
    const problem = `${label} must be a status or a range of them, not ${JSON.stringify(text)}`
    diagnostics.error('INVALID_STATUS', problem, node.span, 'write 200 or 200-299')
    return INVALID
  },
  {
    jsonSchema: () => ({ anyOf: [{ type: 'integer', minimum: 100, maximum: 599 }, { type: 'string' }] }),
    write: ([first, last]) => (first === last ? String(first) : `${first}-${last}`),
  },
)

const weighted = object({
  url: described(located(string()), 'As in upstream.url.'),
  weight: described(
    withDefault(integer({ min: 1, max: 1000 }), 1),
    'How much of the requests it gets, beside the weights of the others.',
    'share',
  ),
})

/** An entry of `targets`. */
export interface TargetDocument {
  readonly url: Located<string>
  readonly weight: number
}

export const targetEntry: Schema<TargetDocument> = byKind({
  scalar: transform(located(string()), (url): TargetDocument => ({ url, weight: 1 })),
  map: weighted as Schema<TargetDocument>,
})

/** RFC 6265 §4.1.1: a token. */
const cookieName = string({
  pattern: /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/,
  must: "must be a cookie name: letters, digits and !#$%&'*+.^_`|~-",
})

/** RFC 9110 §7.8: a token, or two with a slash. HTTP itself is never gone on with. */
const protocolName = string({
  pattern: /^(?!http(?:\/|$)|h2c?$)[!#$%&'*+.^_`|~0-9a-z-]{1,64}(?:\/[!#$%&'*+.^_`|~0-9a-z-]{1,64})?$/i,
  must: 'must be a protocol of Upgrade beside HTTP, such as DERP',
})

const balanceSchema = object({
  method: described(
    locatedDefault(enumeration(['round-robin', 'least-request', 'ewma', 'hash']), 'round-robin'),
    'round-robin; least-request (the less busy of two); ewma (the quicker of two); hash (the same key, the same target).',
  ),
  key: described(optional(expressionText()), 'For hash: an expression, such as conn.client_ip.'),
  slow_start: described(withDefault(time(0), 0), 'How long a target that comes into use is spared; 0 = off.'),
  sticky: described(
    optional(
      object({
        cookie: described(cookieName, 'Name of the cookie.'),
        max_age: described(withDefault(time(0), 0), 'How long browsers keep it; 0 = until they are closed.'),
        path: described(
          withDefault(string({ pattern: /^\/[\x21-\x3a\x3c-\x7e]*$/, must: 'must begin with /' }), '/'),
          'Its path.',
        ),
        same_site: described(withDefault(enumeration(['lax', 'strict', 'none']), 'lax'), 'lax, strict or none.'),
        secure: described(
          withDefault(enumeration(['auto', 'always', 'never']), 'auto'),
          'Whether it is sent over https only: auto (when the client used https), always, never.',
        ),
      }),
    ),
    'A cookie that brings a client back to the same target.',
  ),
})

const healthCheckSchema = object({
  path: described(
    optional(string({ pattern: /^\/[\x21-\x7e]*$/, must: 'must begin with / and hold no space' })),
    'Path of a GET; without it a TCP connection is enough.',
  ),
  host: described(
    optional(string({ minLength: 1, maxLength: 255, pattern: /^[\x21-\x7e]+$/ })),
    'Host field instead of that of the url.',
  ),
  interval: described(withDefault(time(100), 5000), 'How often each target is asked.'),
  timeout: described(withDefault(time(10), 2000), 'How long an answer may take.'),
  expect: described(
    withDefault(list(statusRange, { min: 1, max: 20 }), [[200, 399]]),
    'Statuses that pass: 200, 200-399.',
  ),
  healthy_after: described(
    withDefault(integer({ min: 1, max: 100 }), 2),
    'Checks in a row that bring a target back.',
    'checks',
  ),
  unhealthy_after: described(
    withDefault(integer({ min: 1, max: 100 }), 3),
    'Checks in a row that take a target out.',
    'checks',
  ),
})

/** Keys of an endpoint's `upstream` beside its addresses. */
export const trafficFields = {
  balance: described(optional(balanceSchema), 'How a target is chosen.'),
  health_check: described(optional(healthCheckSchema), 'Questions that the gateway asks each target by itself.'),
  max_connections: described(
    optional(integer({ min: 1, max: 65_536 })),
    'For this endpoint, instead of upstream.max_connections.',
  ),
  max_queued: described(
    optional(integer({ min: 0, max: 1_000_000 })),
    'For this endpoint, instead of upstream.max_queued.',
  ),
  retries: described(optional(integer({ min: 0, max: 10 })), 'For this endpoint, instead of upstream.retries.'),
  retry_on: described(optional(retryOn()), 'For this endpoint, instead of upstream.retry_on.'),
  retry_budget: described(
    optional(integer({ min: 0, max: 100 })),
    'For this endpoint, instead of upstream.retry_budget.',
  ),
  retry_unsafe: described(
    optional(boolean()),
    'Whether requests of every method may be repeated, POST too; false unless the service bears it.',
  ),
  eject_after: described(
    optional(integer({ min: 0, max: 10_000 })),
    'For this endpoint, instead of upstream.eject_after.',
  ),
  eject_time: described(optional(time(0)), 'For this endpoint, instead of upstream.eject_time.'),
  panic_threshold: described(
    optional(integer({ min: 0, max: 100 })),
    'For this endpoint, instead of upstream.panic_threshold.',
  ),
  upgrades: described(
    optional(list(protocolName, { max: 16 })),
    'Protocols beside websocket that clients may upgrade to, on listeners with engine native, by a GET without a body: DERP.',
  ),
}

const trafficSchema = object(trafficFields)
export type TrafficDocument = InferSchema<typeof trafficSchema>

/** Settings of one endpoint; what is wrong is reported. */
export function trafficOf(
  document: Partial<TrafficDocument>,
  defaults: UpstreamTrafficDefaults,
  diagnostics: Diagnostics,
): UpstreamTraffic {
  const { balance, health_check: check } = document
  if (balance?.method.value === 'hash' && balance.key === undefined) {
    const text = 'the method hash needs a key: what a request is known by'
    diagnostics.error('MISSING_KEY', text, balance.method.span, 'write key: conn.client_ip')
  }
  if (balance?.key !== undefined && balance.method.value !== 'hash') {
    diagnostics.error(
      'UNUSED_KEY',
      'key is for the method hash',
      balance.key.span,
      'write method: hash, or leave it out',
    )
  }
  return {
    maxConnections: document.max_connections ?? defaults.maxConnections,
    maxQueued: document.max_queued ?? defaults.maxQueued,
    retry: {
      max: document.retries ?? defaults.retry.max,
      on: document.retry_on ?? defaults.retry.on,
      budgetPercent: document.retry_budget ?? defaults.retry.budgetPercent,
      unsafe: document.retry_unsafe ?? defaults.retry.unsafe,
      attemptHeader: defaults.retry.attemptHeader,
    },
    ejectAfter: document.eject_after ?? defaults.ejectAfter,
    ejectTimeMs: document.eject_time ?? defaults.ejectTimeMs,
    panicPercent: document.panic_threshold ?? defaults.panicPercent,
    balance: {
      method: balance?.method.value ?? 'round-robin',
      key: balance?.key,
      slowStartMs: balance?.slow_start ?? 0,
      sticky: balance?.sticky && {
        cookie: balance.sticky.cookie,
        maxAgeMs: balance.sticky.max_age,
        path: balance.sticky.path,
        sameSite: balance.sticky.same_site,
        secure: balance.sticky.secure,
      },
    },
    healthCheck: check && {
      path: check.path,
      host: check.host,
      intervalMs: check.interval,
      timeoutMs: check.timeout,
      expect: check.expect,
      passesAfter: check.healthy_after,
      failsAfter: check.unhealthy_after,
    },
    upgrades: document.upgrades ?? [],
  }
}

/** What holds where an endpoint cannot say anything: manifests. */
export function plainTraffic(defaults: UpstreamTrafficDefaults): UpstreamTraffic {
  return {
    ...defaults,
    balance: { method: 'round-robin', key: undefined, slowStartMs: 0, sticky: undefined },
    healthCheck: undefined,
    upgrades: [],
  }
}
