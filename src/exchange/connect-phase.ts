/**
 * `on_tcp_connect`: rules about the connection, before any byte of HTTP counts.
 *
 * A plain listener with one endpoint behind it decides when the connection is accepted. With several, the endpoint is
 * known only from the first Host, and of a TLS connection nothing is known before its first request: the rules run then,
 * before `on_http_request`, and close the connection likewise.
 *
 * Source: traffic-policy.md §2.1, §2.6.
 */
import type { ConnectionView, EndpointView, JsonValue } from '../expression/source.ts'
import type { CelValue } from '../expression/value.ts'
import type { Peer } from '../listener/front-end.ts'
import type { CompiledRule } from '../policy/policy.ts'
import type { PolicyScope } from '../policy/scope.ts'
import type { GatewayServices } from '../process/services.ts'
import type { Snapshot } from '../process/snapshot.ts'
import type { Endpoint } from '../routing/endpoints.ts'
import { isTrusted } from './client-address.ts'
import type { Exchange } from './exchange.ts'

/** At accept. True when no single endpoint is known yet. */
export function connectionAllowed(
  snapshot: Snapshot,
  services: GatewayServices,
  listenerPlace: number,
  peer: Peer,
): boolean {
  const endpoint = snapshot.connectEndpoint(listenerPlace)
  if (endpoint === undefined) return true
  const believed = isTrusted(peer.address, snapshot.trustedProxies)
  const address = (believed ? peer.proxiedAddress : undefined) ?? peer.address
  const scope = new ConnectionScope(endpoint, services, connectionView(snapshot, peer, address, peer.port))
  return runConnectRules(endpoint.policy.onTcpConnect, scope, snapshot.settings.policy.strict)
}

/** At the first rule of an exchange whose endpoint was not known at accept. */
export function exchangeConnectionAllowed(exchange: Exchange): boolean {
  const { endpoint } = exchange.frame
  const rules = endpoint.policy.onTcpConnect
  if (rules.length === 0 || exchange.snapshot.connectEndpoint(exchange.listenerPlace) === endpoint) return true
  const scope = new ConnectionScope(endpoint, exchange.services, exchange.connection)
  const allowed = runConnectRules(rules, scope, exchange.snapshot.settings.policy.strict)
  for (const entry of scope.logs) exchange.appendLog(entry)
  for (const [action, value] of scope.results) exchange.setResult(action, value)
  if (!allowed) exchange.reason = 'denied:on_tcp_connect'
  return allowed
}

/** `strict`: an expression that fails closes the connection, where a request would be answered 500 (§2.2). */
function runConnectRules(rules: readonly CompiledRule[], scope: ConnectionScope, strict: boolean): boolean {
  for (const rule of rules) {
    const verdict = matches(rule, scope)
    if (verdict === 'failed' && strict) return false
    if (verdict !== true) continue
    for (const action of rule.actions) {
      // the policy compiler let only actions with runOnConnect into this phase
      if (action.runOnConnect!(scope).kind === 'close') return false
    }
  }
  return true
}

/** A run-time error counts as false and leaves a trace (§2.2). */
function matches(rule: CompiledRule, scope: ConnectionScope): boolean | 'failed' {
  try {
    return rule.expressions.every((expression) => expression.test(scope))
  } catch (error) {
    scope.expressionFailed(rule, error)
    return 'failed'
  }
}

function connectionView(snapshot: Snapshot, peer: Peer, address: string, port: number): ConnectionView {
  return {
    clientAddress: address,
    clientPort: port,
    serverAddress: peer.localAddress,
    serverPort: peer.localPort,
    serverRegion: snapshot.settings.region,
    addressData: snapshot.addressData,
    startedAtMs: Date.now(),
    bytesIn: 0,
    bytesOut: 0,
    tls: undefined,
  }
}

class ConnectionScope implements PolicyScope {
  readonly connection: ConnectionView
  readonly endpoint: EndpointView
  readonly request = undefined
  readonly response = undefined
  readonly variables = new Map<string, CelValue>()
  readonly results = new Map<string, JsonValue>()
  readonly logs: JsonValue[] = []
  readonly #services: GatewayServices

  constructor(endpoint: Endpoint, services: GatewayServices, connection: ConnectionView) {
    this.endpoint = endpoint.view
    this.connection = connection
    this.#services = services
  }

  setVariable(name: string, value: CelValue): void {
    this.variables.set(name, value)
  }

  setResult(action: string, value: JsonValue): void {
    this.results.set(action, value)
  }

  appendLog(metadata: JsonValue): void {
    this.logs.push(metadata)
    this.#services.logger.info({ client_ip: this.connection.clientAddress, metadata }, 'tcp connection')
  }

  expressionFailed(rule: CompiledRule, error: unknown): void {
    this.#services.logger.debug(
      { rule: rule.name, error: String(error), code: 'ERR_NGROK_2254' },
      'expression failed; the rule counts as not matched',
    )
  }

  interpolationFailed(field: string, error: unknown): void {
    this.#services.logger.warn(
      { field, error: String(error), code: 'ERR_NGROK_2238' },
      'interpolation failed; the value is empty',
    )
  }
}
