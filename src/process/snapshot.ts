/**
 * One configuration, completely built and frozen: what the workers' exchanges run against. Built off the request path,
 * swapped in by one assignment (O-23).
 */
import { createHash } from 'node:crypto'
import { AddressDatabaseError, AddressDatabases, openAddressDatabase } from '../address-data/address-database.ts'
import type { AddressFacts } from '../address-data/address-facts.ts'
import type { ServerCertificate } from '../config/certificate.ts'
import type { Diagnostics } from '../config/diagnostic.ts'
import type { EndpointDefinition, LoadedConfiguration } from '../config/load.ts'
import type { FileReader } from '../config/reader.ts'
import { besideItsFile, type ListenerSettings, type Settings } from '../config/settings.ts'
import { SourceFile } from '../config/source.ts'
import { type Cidr, parseCidr } from '../exchange/cidr.ts'
import type { ExpressionEnvironment } from '../expression/environment.ts'
import { compileExpression, type Expression } from '../expression/expression.ts'
import type { ListenTls, UpstreamTarget } from '../listener/front-end.ts'
import type { CollectionsHandle } from '../native/collections.ts'
import {
  loadRuleSet,
  releaseRuleSet,
  type RuleSetHandle,
  RuleSetError,
  type RuleSetSources,
  ruleSetSummary,
} from '../native/rule-set.ts'
import { compilePolicy, type PolicyWithNeeds } from '../policy/compile.ts'
import { parsePolicy } from '../policy/parse.ts'
import { EMPTY_POLICY } from '../policy/policy.ts'
import { StickyCookie } from '../upstream/sticky-cookie.ts'
import { parseRedisAddress, RedisAddressError } from '../redis/address.ts'
import { type Endpoint, endpointTable, type EndpointTable, type EndpointUpstream } from '../routing/endpoints.ts'
import { SessionBox } from '../login/session.ts'
import { ownKeys, SealingKeys } from '../sealing/sealing-keys.ts'
import { SecretStore } from '../vault/secret-store.ts'
import { TargetGroup, type KnownAddresses } from '../upstream/balancer.ts'
import type { TargetStates } from '../upstream/target-state.ts'
import { installedRulesFolder, readRuleFiles } from '../waf/rule-files.ts'
import { WafProfiles } from '../waf/profiles.ts'
import { resolveTls, type ResolvedTls } from './listen-tls.ts'

export interface Snapshot {
  readonly settings: Settings
  readonly endpoints: EndpointTable
  readonly trustedProxies: readonly Cidr[]
  /** What databases know of an address; undefined without any. */
  readonly addressData: ((address: string) => AddressFacts) | undefined
  /** Media types whose response bodies the rule set wants to see. */
  readonly inspectedMimeTypes: ReadonlySet<string>
  readonly keySetUrls: readonly string[]
  /** Given exactly when some policy has a login. */
  readonly sessions: SessionBox | undefined
  /** What TLS listeners show, by their place in the settings; undefined = plain. */
  readonly listenTls: readonly (ListenTls | undefined)[]
  /** Upstreams of all endpoints. */
  readonly groups: readonly TargetGroup[]
  /** Some endpoint allows other upgrades than WebSocket. */
  readonly allowsUpgrades: boolean
  /** Who answers hosts that no endpoint names (listeners[].default_endpoint). Listeners by their place in the settings. */
  defaultEndpoint(listenerPlace: number): Endpoint | undefined
  /** The endpoint whose `on_tcp_connect` rules decide at accept: the only one behind a listener. */
  connectEndpoint(listenerPlace: number): Endpoint | undefined
  /** Gives native memory back, once no exchange runs against it any more. */
  release(): void
}

/** What targets are made of, beside the configuration: made once per process. */
export interface UpstreamSources {
  readonly states: TargetStates
  readonly addresses: KnownAddresses
}

/** Keys of targets read the request as rules of its first phase do. */
const REQUEST_ENVIRONMENT: ExpressionEnvironment = {
  phase: 'on_http_request',
  overrides: true,
  legacy: false,
  now: () => new Date(),
}

/** A configuration whose policies are compiled, and what the rest of the building needs. */
interface Compiled {
  readonly endpoints: readonly CompiledEndpoint[]
  readonly rules: RuleSetSources | undefined
  readonly addressData: Snapshot['addressData']
  readonly listenTls: readonly (ResolvedTls | undefined)[]
}

interface CompiledEndpoint {
  readonly definition: EndpointDefinition
  readonly needs: PolicyWithNeeds
  readonly hashKey: Expression | undefined
}

const NO_POLICY: PolicyWithNeeds = {
  policy: EMPTY_POLICY,
  waf: new WafProfiles(),
  keySetUrls: new Set(),
  terminations: [],
}

/**
 * Compiles every policy and the rule set; all errors land in `loaded.diagnostics`. Opens no socket and starts nothing:
 * `check` is this, and `run` begins with it. Resolves with the certificates that listeners will show.
 */
export async function checkConfiguration(
  loaded: LoadedConfiguration,
  reader: FileReader,
  stateDir: string,
): Promise<readonly ServerCertificate[]> {
  const compiled = compile(loaded, reader, stateDir)
  const certificates = compiled.listenTls.flatMap((tls) => tls?.certificates ?? [])
  if (compiled.rules === undefined) return certificates
  const ruleSet = await buildRuleSet(compiled.rules, loaded.diagnostics)
  if (ruleSet !== undefined) ruleSet.release()
  return certificates
}

/**
 * Builds what a worker serves. Undefined after errors, which are in `loaded.diagnostics`. `collections`: those of the
 * gateway, which outlive configurations; 0 = each rule set has its own.
 */
export async function buildSnapshot(
  loaded: LoadedConfiguration,
  reader: FileReader,
  stateDir: string,
  { states, addresses }: UpstreamSources,
  collections: CollectionsHandle = 0,
): Promise<Snapshot | undefined> {
  const { settings, diagnostics } = loaded
  const { endpoints: compiled, rules, addressData, listenTls } = compile(loaded, reader, stateDir)
  if (diagnostics.hasErrors) return undefined
  const ruleSet = rules === undefined ? undefined : await buildRuleSet(rules, diagnostics, collections)
  if (diagnostics.hasErrors) return undefined
  const profiles = compiled.flatMap(({ needs }) => needs.waf.all)
  if (ruleSet !== undefined) {
    // one after the other: equal ones then share what they need
    // oxlint-disable-next-line no-await-in-loop -- see above
    for (const profile of profiles) await profile.bind(ruleSet.handle, settings.waf)
  }
  const endpoints = compiled.map(({ definition, needs, hashKey }) => {
    const { upstream } = definition
    const group = upstream && targetGroup(definition.name, upstream, states, addresses)
    return endpoint(definition, needs, upstream && group && { group, ...servingOf(upstream, hashKey) })
  })
  const table = endpointTable(endpoints)
  const listeners = settings.listeners.map((listener) => {
    const named = endpoints.find((candidate) => candidate.name === listener.defaultEndpoint)
    const behind = endpoints.filter((it) => it.binding === 'public' && it.view.port === listener.port)
    return { named, only: behind.length === 1 && listener.tls === undefined ? behind[0] : undefined }
  })
  return {
    settings,
    endpoints: table,
    addressData,
    // the loader has checked them
    trustedProxies: settings.trustedProxies.flatMap((text) => parseCidr(text) ?? []),
    inspectedMimeTypes: new Set(ruleSet?.mimeTypes ?? []),
    sessions: endpoints.some(({ policy }) => policy.pathServers.length > 0)
      ? sessionBox(settings, stateDir)
      : undefined,
    keySetUrls: [...new Set(compiled.flatMap(({ needs }) => [...needs.keySetUrls]))],
    listenTls,
    groups: endpoints.flatMap((it) => it.upstream?.group ?? []),
    allowsUpgrades: endpoints.some(({ upstream }) => upstream !== undefined && upstream.upgrades.size > 0),
    defaultEndpoint: (place) => listeners[place]?.named,
    connectEndpoint: (place) => {
      const candidate = listeners[place]?.only
      return candidate?.policy.onTcpConnect.length === 0 ? undefined : candidate
    },
    release: () => {
      for (const profile of profiles) profile.release()
      ruleSet?.release()
    },
  }
}

/** Sessions that were opened are forgotten with the configuration, and with it the keys that were taken out. */
function sessionBox({ login }: Settings, stateDir: string): SessionBox {
  const keys = login.sessionKeys.length > 0 ? login.sessionKeys : ownKeys(stateDir, 'session.keys')
  return new SessionBox(new SealingKeys(keys, 'cookie'), login.cacheEntries)
}

function compile(loaded: LoadedConfiguration, reader: FileReader, stateDir: string): Compiled {
  const { settings, diagnostics } = loaded
  for (const definition of loaded.endpoints) refuseUnserved(definition, diagnostics)
  checkRedisAddress(settings, diagnostics)
  const secrets = new SecretStore({ stateDir, ...settings.vaults })
  const endpoints = loaded.endpoints.map((definition) => ({
    definition,
    needs: definition.policy === undefined ? NO_POLICY : policyOf(definition, settings, diagnostics, secrets),
    hashKey: hashKeyOf(definition, diagnostics),
  }))
  const needsRules = settings.waf.mode !== 'off' && endpoints.some(({ needs }) => needs.waf.all.length > 0)
  const folder = settings.waf.rules ?? installedRulesFolder(stateDir)
  const rules = needsRules ? readRuleFiles(settings.waf, folder, reader, diagnostics) : undefined
  const tlsEndpoints = endpoints.map(({ definition, needs }) => ({ definition, terminations: needs.terminations }))
  const isFixed = ({ engine }: ListenerSettings): boolean => engine !== 'native'
  const listenTls = resolveTls(settings.listeners, tlsEndpoints, diagnostics, isFixed)
  return { endpoints, rules, addressData: openAddressData(settings, diagnostics), listenTls }
}

/** A reload sees files that were renewed; those that were not are not read again. */
function openAddressData({ addressDatabases }: Settings, diagnostics: Diagnostics): Snapshot['addressData'] {
  if (addressDatabases.length === 0) return undefined
  const databases = addressDatabases.flatMap((path) => {
    try {
      return openAddressDatabase(besideItsFile(path))
    } catch (error) {
      if (!(error instanceof AddressDatabaseError)) throw error
      diagnostics.error('ADDRESS_DATABASE', error.message, path.span)
      return []
    }
  })
  const all = new AddressDatabases(databases)
  return (address) => all.lookUp(address)
}

/** The client would refuse it in the worker; here it is an error of the configuration. */
function checkRedisAddress(settings: Settings, diagnostics: Diagnostics): void {
  if (settings.redis.url === undefined) return
  try {
    parseRedisAddress(settings.redis.url)
  } catch (error) {
    if (!(error instanceof RedisAddressError)) throw error
    diagnostics.error('INVALID_REDIS_URL', `redis.url cannot be used: ${error.message}`)
  }
}

/** What parses and checks as ngrok's and cannot be served here: `run` refuses it, one sentence each. */
function refuseUnserved({ name, url, upstream, span }: EndpointDefinition, diagnostics: Diagnostics): void {
  if (url.scheme === 'tcp' || url.scheme === 'tls') {
    diagnostics.notServed(
      'ENDPOINT_NOT_SERVED',
      `${name} is a ${url.scheme} endpoint; only http and https ones are served`,
      span,
    )
  } else if (upstream?.targets.some((target) => target.protocol !== 'http' && target.protocol !== 'https') === true) {
    diagnostics.notServed('UPSTREAM_NOT_SERVED', `the upstream of ${name} must be an http or https one`, span)
  }
}

function policyOf(
  definition: EndpointDefinition,
  settings: Settings,
  diagnostics: Diagnostics,
  secrets: SecretStore,
): PolicyWithNeeds {
  // policyOf is called for endpoints with a policy only
  const parsed = parsePolicy(definition.policy!.node, diagnostics)
  if (definition.binding === 'internal' && parsed.phases.on_tcp_connect.length > 0) {
    const text = 'an internal endpoint has no on_tcp_connect: forwarding makes no connection'
    diagnostics.error('ERR_NGROK_2262', text, parsed.phases.on_tcp_connect[0]!.span)
  }
  const mustTerminate = definition.kind === 'cloud'
  const { scheme, host } = definition.url
  const secret = (vault: string, name: string): string | undefined => secrets.get(vault, name)
  return compilePolicy(parsed, {
    settings,
    diagnostics,
    identity: definition.name,
    scheme,
    host,
    mustTerminate,
    secret,
  })
}

/** What the requests of an endpoint are known by, where its targets are chosen by that. */
function hashKeyOf({ upstream }: EndpointDefinition, diagnostics: Diagnostics): Expression | undefined {
  const key = upstream?.traffic.balance.key
  return key && compileExpression(key, REQUEST_ENVIRONMENT, diagnostics)
}

function endpoint(
  definition: EndpointDefinition,
  needs: PolicyWithNeeds,
  upstream: EndpointUpstream | undefined,
): Endpoint {
  const { name, kind, binding, url } = definition
  return Object.freeze({
    name,
    kind,
    // run refuses kubernetes endpoints; no listener is theirs either
    binding: binding === 'public' ? 'public' : 'internal',
    view: { id: endpointId(definition), url: url.href, host: url.host, port: url.port, protocol: url.scheme },
    policy: needs.policy,
    appendsForwarded: definition.appendsForwarded,
    upstream,
  })
}

/** `endpoint.id` of policies and the admin API: the same as long as binding, url and name are. */
export function endpointId({ name, binding, url }: EndpointDefinition): string {
  return `ep_${createHash('sha256').update(`${binding} ${url.href} ${name}`).digest('hex').slice(0, 24)}`
}

/** The targets of an endpoint, in a worker and in the primary alike. */
export function targetGroup(
  endpointName: string,
  upstream: NonNullable<EndpointDefinition['upstream']>,
  states: TargetStates,
  addresses: KnownAddresses,
): TargetGroup {
  const { traffic, timers, tls } = upstream
  const { maxConnections, maxQueued, ejectAfter, ejectTimeMs, panicPercent, balance, retry } = traffic
  const targets = upstream.targets.map((address) => ({
    target: {
      name: address.name,
      // refuseUnserved let only http and https through
      protocol: address.protocol as 'http' | 'https',
      host: address.host,
      port: address.port,
      http2: upstream.protocol === 'http2',
      tls,
      timers,
      maxConnections,
      maxQueued,
    } satisfies UpstreamTarget,
    weight: address.weight,
  }))
  return new TargetGroup(targets, {
    endpoint: endpointName,
    states,
    addresses,
    method: balance.method,
    slowStartMs: balance.slowStartMs,
    ejectAfter,
    ejectMs: ejectTimeMs,
    panicPercent,
    retryPercent: retry.budgetPercent,
  })
}

function servingOf(
  { traffic, timers }: NonNullable<EndpointDefinition['upstream']>,
  hashKey: Expression | undefined,
): Omit<EndpointUpstream, 'group'> {
  const { retry, balance, upgrades } = traffic
  return {
    upgrades: new Set(upgrades.map((protocol) => protocol.toLowerCase())),
    retry: { ...retry, on: new Set(retry.on) },
    totalMs: timers.totalMs,
    hashKey,
    sticky: balance.sticky && new StickyCookie(balance.sticky),
  }
}

// ── the rule set, shared by configurations that have the same texts ──

interface BuiltRuleSet {
  readonly handle: RuleSetHandle
  readonly mimeTypes: readonly string[]
  release(): void
}

const built = new Map<string, { handle: RuleSetHandle; users: number }>()

/** A reload that changes no rule costs no compile. Undefined after errors. */
async function buildRuleSet(
  sources: RuleSetSources,
  diagnostics: Diagnostics,
  collections: CollectionsHandle = 0,
): Promise<BuiltRuleSet | undefined> {
  const key = createHash('sha256').update(JSON.stringify(sources)).digest('hex')
  let entry = built.get(key)
  if (entry === undefined) {
    try {
      entry = { handle: await loadRuleSet(sources, collections), users: 0 }
    } catch (error) {
      if (!(error instanceof RuleSetError)) throw error
      reportRuleErrors(error, sources, diagnostics)
      return undefined
    }
    built.set(key, entry)
  }
  const { handle } = entry
  entry.users += 1
  const summary = ruleSetSummary(handle)
  if (summary.leftOut.length > 0) {
    const list = summary.leftOut.map(({ id, construct }) => `${id} (${construct})`).join('; ')
    const text = `waf.leave_out_rules leaves out ${summary.leftOut.length} rules: ${list}`
    diagnostics.warning('WAF_RULES_LEFT_OUT', text)
  }
  return {
    handle,
    mimeTypes: summary.responseBodyMimeTypes,
    release: () => {
      const current = built.get(key)
      if (current === undefined) return
      current.users -= 1
      if (current.users > 0) return
      built.delete(key)
      releaseRuleSet(handle)
    },
  }
}

/** Each error at its place in the sources. */
export function reportRuleErrors(error: RuleSetError, sources: RuleSetSources, diagnostics: Diagnostics): void {
  const texts = new Map([...sources.files, ...sources.data].map(({ path, text }) => [path, text]))
  for (const { path, line, column, code, message } of error.diagnostics) {
    const source = new SourceFile(path, texts.get(path) ?? '')
    const start = source.offset(line, column)
    diagnostics.error(code, message, { source, start, end: start + 1 })
  }
}
