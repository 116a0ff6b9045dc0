/**
 * THE SPINE: the life of one request. Start reading here.
 *
 * head → endpoint by host → on_http_request → (internal endpoints) → upstream → on_http_response, inside out → body
 * through on_event_stream_message and compression, where there is any → client → log. Every step stays in the tick it began in unless an action waits. Failures leave by `fail` only.
 *
 * Source: operations.md §3.10 (order of work), traffic-policy.md §2.
 */
import { performance } from 'node:perf_hooks'
import { throughFilter } from '../body/filter-chain.ts'
import {
  type AnswerEdits,
  type BegunRequest,
  type ExchangeHandle,
  type ExchangeRecord,
  type FrontEnd,
  type FrontEndEvents,
  HANDLE_SLOT_MASK,
  type Peer,
  type RefusedRequest,
  type RequestFacts,
  type ResponseFacts,
  type StandingEnd,
  type StandingRelay,
  type UpstreamFailure,
} from '../listener/front-end.ts'
import { celToText } from '../expression/convert.ts'
import type { Expression } from '../expression/expression.ts'
import { NEXT, type Outcome, type Respond } from '../phase/outcome.ts'
import { foretell, foretoldCame } from '../phase/foretell.ts'
import { runPhase } from '../phase/run-phase.ts'
import type { GatewayServices } from '../process/services.ts'
import type { OutboundAnswer } from '../outbound/answer.ts'
import type { Snapshot } from '../process/snapshot.ts'
import { GatewayError, UPSTREAM_ERRORS } from '../response/gateway-error.ts'
import { errorAnswer, toGatewayError } from '../response/problem.ts'
import { statusLine } from '../response/status-line.ts'
import type { Endpoint, EndpointUpstream } from '../routing/endpoints.ts'
import type { Member } from '../upstream/balancer.ts'
import { connectionAllowed, exchangeConnectionAllowed } from './connect-phase.ts'
import { isTrusted } from './client-address.ts'
import { ConnectionLimit } from './connection-limit.ts'
import { Exchange, type Frame } from './exchange.ts'
import { addedLines, forwardHead } from './forward-head.ts'
import { type Leg, legAnswered, legFailed } from './leg-outcome.ts'
import { logExchange, logRefused } from './log-exchange.ts'
import { answerOfLastHop } from './max-forwards.ts'
import { mapLocations } from './location-fields.ts'
import { MessageHead } from './message-head.ts'
import { responseFilters } from './response-filters.ts'
import { Decision, StandingDecisions } from './standing-relays.ts'
import { SubrequestFrontEnd, type SubrequestOptions, type Subrequests } from './subrequest.ts'
import { mayRepeat, repeatAfterStatus } from './retry.ts'
import { splitAuthority } from './request-url.ts'
import { endTransaction } from '../waf/scan.ts'

export class ExchangeHandler implements FrontEndEvents, Subrequests {
  readonly #services: GatewayServices
  readonly #frontEnd: (handle?: ExchangeHandle) => FrontEnd
  /** Those of a front end, by slot of their handles. */
  readonly #exchanges: (Exchange | undefined)[] = []
  /** Those that policies asked for: their handles are negative. */
  readonly #subrequests = new Map<ExchangeHandle, Exchange>()
  #snapshot: Snapshot
  #lastSubrequest = 0
  /** Listener id of the front end → its place in the settings; ids outlive settings. */
  #listenerPlaces: ReadonlyMap<number, number> = new Map()
  /** Exchanges that run against a configuration other than the current one. */
  readonly #retired = new Map<Snapshot, number>()
  readonly #connectionLimit: ConnectionLimit
  readonly #standing: StandingDecisions

  /** `frontEnd` is asked for late, because front end and handler refer to each other; with a handle: the one it belongs to. */
  constructor(snapshot: Snapshot, services: GatewayServices, frontEnd: (handle?: ExchangeHandle) => FrontEnd) {
    this.#snapshot = snapshot
    this.#services = services
    this.#frontEnd = frontEnd
    this.#standing = new StandingDecisions(services)
    this.#connectionLimit = new ConnectionLimit((facts, text) => services.logger.warn(facts, text))
  }

  get snapshot(): Snapshot {
    return this.#snapshot
  }

  /**
   * Swaps the configuration by one assignment (O-23). Exchanges keep the one they began with; it is released when the
   * last of them ends. `listenerPlaces`: listener id → place in `settings.listeners`.
   */
  activate(next: Snapshot, listenerPlaces: ReadonlyMap<number, number>): void {
    const previous = this.#snapshot
    this.#listenerPlaces = listenerPlaces
    if (previous === next) return
    this.#snapshot = next
    this.#standing.withdrawAll()
    const left = [...this.#exchanges, ...this.#subrequests.values()].filter((one) => one?.snapshot === previous)
    const standing = this.#standing.leavingOf(previous)
    const count = standing.reduce((sum, decision) => sum + decision.left, left.length)
    if (count === 0) previous.release()
    else this.#retired.set(previous, count)
    this.#endOrphansLater(left, standing, next)
  }

  /** O-24: what has lost its endpoint by a reload may go on for a while. Negative handles end with the request they serve. */
  #endOrphansLater(left: readonly (Exchange | undefined)[], standing: readonly Decision[], next: Snapshot): void {
    const { orphanTimeoutMs } = next.settings.reload
    const names = new Set(next.endpoints.all.map(({ name }) => name))
    const orphans = left.filter((one) => {
      const endpoint = one?.frames[0]?.endpoint
      return endpoint !== undefined && one!.handle > 0 && !names.has(endpoint.name)
    })
    const relays = standing.filter(({ endpoint }) => !names.has(endpoint.name))
    if (orphanTimeoutMs === 0 || orphans.length + relays.length === 0) return
    setTimeout(() => {
      for (const relay of relays) relay.owner.abort(relay)
      for (const orphan of orphans) {
        if (orphan === undefined || orphan.finished) continue
        orphan.reason = 'draining'
        this.#frontEnd().abort(orphan.handle)
      }
    }, orphanTimeoutMs).unref()
  }

  /** An exchange that is under way. */
  exchange(handle: ExchangeHandle): Exchange | undefined {
    return this.#find(handle)
  }

  onConnect(listenerId: number, peer: Peer): boolean {
    const { settings, trustedProxies } = this.#snapshot
    const { limits } = settings
    if (limits.connections > 0 || limits.connectionsPerAddress > 0) {
      const isProxy = isTrusted(peer.address, trustedProxies)
      if (!this.#connectionLimit.allows(peer.address, isProxy, this.#openConnections(), this.#ports(), limits))
        return false
    }
    return connectionAllowed(this.#snapshot, this.#services, this.#listenerPlaces.get(listenerId) ?? -1, peer)
  }

  onRequest(handle: ExchangeHandle, head: string, facts: RequestFacts): void {
    this.#services.metrics.requestStarted()
    const place = this.#listenerPlaces.get(facts.listenerId) ?? -1
    const exchange = new Exchange(handle, head, facts, place, this.#frontEnd(handle), this.#snapshot, this.#services)
    exchange.subrequests = this
    this.#exchanges[handle & HANDLE_SLOT_MASK] = exchange
    // written out, here and in onResponse: what every request comes through makes no function of its own
    try {
      route(exchange)
    } catch (error) {
      fail(exchange, error)
    }
    if (exchange.upstreamHeadIsAdded && exchange.frontEnd.standing !== undefined) this.#standing.consider(exchange)
  }

  /** What was decided once is to be decided again: a name stands for other addresses. */
  decideAgain(): void {
    this.#standing.withdrawAll()
  }

  /** Requests under way to a member beside those that it counts itself. */
  standingTo(member: Member): number {
    return this.#standing.inFlightTo(member)
  }

  /** An exchange that nobody on a wire asked for: it begins at an internal endpoint (subrequest.ts). */
  subrequest(parent: Exchange, options: SubrequestOptions): Promise<OutboundAnswer> {
    const { endpoint, head, body } = options
    const { metrics, upstreams } = this.#services
    // a front end's handles are positive
    const handle = --this.#lastSubrequest
    const frontEnd = new SubrequestFrontEnd(this, handle, parent.peer, upstreams, options)
    metrics.requestStarted()
    const { listenerId } = parent.facts
    const receivedAtMs = performance.now()
    const facts = { listenerId, bodyLength: body.length, receivedAtMs, connectionLines: '', proxyFields: true }
    const { listenerPlace, snapshot } = parent
    const exchange = new Exchange(handle, head, facts, listenerPlace, frontEnd, snapshot, this.#services)
    exchange.depth = parent.depth + 1
    exchange.subrequests = this
    this.#subrequests.set(handle, exchange)
    attempt(exchange, () => {
      enterEndpoint(exchange, endpoint, 'halt')
      beginRequestPhase(exchange)
    })
    return frontEnd.answer
  }

  onRequestBody(handle: ExchangeHandle, body: Uint8Array, complete: boolean): void {
    this.#find(handle)?.requestBodyArrived(body, complete)
  }

  onResponse(handle: ExchangeHandle, head: string, facts: ResponseFacts): void {
    const exchange = this.#find(handle)
    if (exchange === undefined) return
    try {
      receiveResponse(exchange, head, facts)
    } catch (error) {
      fail(exchange, error)
    }
  }

  onAnswered(handle: ExchangeHandle, status: number, atMs: number): void {
    const exchange = this.#find(handle)
    if (exchange === undefined) return
    if (exchange.leg !== undefined) targetAnswered(exchange, exchange.leg, status, atMs)
    exchange.upstreamSettled(status)
    if (exchange.foretold !== undefined) foretoldCame(exchange, exchange.foretold)
  }

  onResponseBody(handle: ExchangeHandle, body: Uint8Array, complete: boolean): void {
    this.#find(handle)?.responseBodyArrived(body, complete)
  }

  onRequestHeld(handle: ExchangeHandle, bytes: number, complete: boolean): void {
    this.#find(handle)?.requestBodyHeld(bytes, complete)
  }

  onResponseHeld(handle: ExchangeHandle, bytes: number, complete: boolean): void {
    this.#find(handle)?.responseBodyHeld(bytes, complete)
  }

  onUpstreamError(handle: ExchangeHandle, failure: UpstreamFailure): void {
    const exchange = this.#find(handle)
    if (exchange !== undefined) attempt(exchange, () => recover(exchange, failure))
  }

  onDone(handle: ExchangeHandle, record: ExchangeRecord): void {
    const exchange = this.#find(handle)
    if (exchange === undefined) return
    if (handle > 0) this.#exchanges[handle & HANDLE_SLOT_MASK] = undefined
    else this.#subrequests.delete(handle)
    exchange.finished = true
    if (exchange.totalTimer !== undefined) clearTimeout(exchange.totalTimer)
    if (exchange.repeatTimer !== undefined) clearTimeout(exchange.repeatTimer)
    if (record.failure !== undefined) targetFailed(exchange, record.failure)
    endLeg(exchange)
    exchange.upstreamSettled(exchange.failure === undefined ? undefined : 0)
    endTransaction(exchange)
    logExchange(exchange, record)
    if (exchange.snapshot !== this.#snapshot) this.#leave(exchange.snapshot)
  }

  /** Of clients, on the listeners that this configuration knows. */
  #openConnections(): number {
    let open = 0
    for (const id of this.#listenerPlaces.keys()) open += this.#frontEnd().connectionsOf(id)
    return open
  }

  #ports(): ReadonlySet<number> {
    return new Set(this.#snapshot.settings.listeners.map(({ port }) => port))
  }

  #find(handle: ExchangeHandle): Exchange | undefined {
    const exchange = handle > 0 ? this.#exchanges[handle & HANDLE_SLOT_MASK] : this.#subrequests.get(handle)
    return exchange !== undefined && exchange.handle === handle ? exchange : undefined
  }

  #leave(snapshot: Snapshot): void {
    const users = (this.#retired.get(snapshot) ?? 1) - 1
    if (users > 0) this.#retired.set(snapshot, users)
    else if (this.#retired.delete(snapshot)) snapshot.release()
  }

  onStandingEnded(relay: StandingRelay, end: StandingEnd): void {
    if (!(relay instanceof Decision)) return
    this.#standing.ended(relay, end)
    if (relay.snapshot !== this.#snapshot) this.#leave(relay.snapshot)
  }

  onStandingTold(): void {
    this.#standing.told()
  }

  onStandingAnswered(relay: StandingRelay, status: number, elapsedMs: number): void {
    if (relay instanceof Decision) this.#standing.answered(relay, status, elapsedMs)
  }

  /** It becomes an exchange whose first leg has failed; its place among those of a configuration that was replaced stays its own. */
  onStandingFailed(
    relay: StandingRelay,
    handle: ExchangeHandle,
    head: string,
    facts: RequestFacts,
    begun: BegunRequest,
    failure: UpstreamFailure,
  ): void {
    if (!(relay instanceof Decision)) return
    const { listenerPlace, snapshot } = relay
    this.#services.metrics.requestStarted()
    const frontEnd = this.#frontEnd(handle)
    const exchange = new Exchange(handle, head, facts, listenerPlace, frontEnd, snapshot, this.#services, begun)
    exchange.subrequests = this
    this.#exchanges[handle & HANDLE_SLOT_MASK] = exchange
    this.#standing.left(relay)
    attempt(exchange, () => {
      takeOver(exchange, relay)
      recover(exchange, failure)
    })
  }

  onRefused(refused: RefusedRequest): void {
    logRefused(this.#services, refused)
  }
}

// ── request ──

/** Finds the endpoint that the Host names and lets its policy have the request. */
function route(exchange: Exchange): void {
  const { snapshot, url, peer } = exchange
  const { host, port } = splitAuthority(exchange.publicHost)
  const redirectPort = snapshot.settings.listeners[exchange.listenerPlace]?.redirectPort
  if (redirectPort !== undefined) {
    // HTTP/1.0 without Host: nobody knows where to
    if (host === '') throw new GatewayError('UNKNOWN_HOST')
    answer(exchange, httpsRedirect(host, redirectPort, url.target))
    return
  }
  const endpoint =
    snapshot.endpoints.findPublic(host, port ?? peer.localPort) ?? snapshot.defaultEndpoint(exchange.listenerPlace)
  // a connection made for one name serves no other endpoint (H-17)
  const asked = peer.tls?.serverName ?? ''
  if (asked !== '' && asked !== host && endpoint !== undefined) {
    const meant =
      snapshot.endpoints.findPublic(asked, peer.localPort) ?? snapshot.defaultEndpoint(exchange.listenerPlace)
    // members of a pool share their url
    if (meant?.view.url !== endpoint.view.url) throw new GatewayError('MISDIRECTED')
  }
  if (endpoint === undefined) throw new GatewayError('UNKNOWN_HOST')
  // refused whatever the policy says; other readings of a path only where a rule looks at it (H-66, in enterEndpoint)
  if (url.aboveRoot) throw new GatewayError('AMBIGUOUS_PATH', { reason: 'bad_request:H-67' })
  if (url.ambiguity === 'null byte') throw new GatewayError('AMBIGUOUS_PATH', { reason: 'bad_request:H-68' })
  enterEndpoint(exchange, endpoint, 'halt')
  if (!exchangeConnectionAllowed(exchange)) exchange.frontEnd.abort(exchange.handle)
  else beginRequestPhase(exchange)
}

/** 308 keeps method and body, as a redirect of the same resource must (RFC 9110 §15.4.9). */
function httpsRedirect(host: string, port: number, target: string): Respond {
  const url = `https://${host}${port === 443 ? '' : `:${port}`}${target}`
  return { kind: 'respond', status: 308, lines: `location: ${url}\r\n`, body: '', reason: 'ok', responsePhase: false }
}

function enterEndpoint(exchange: Exchange, endpoint: Endpoint, onError: 'halt' | 'continue'): void {
  // the first frame is the public endpoint: `limits.hops` counts internal ones
  if (exchange.frames.length > exchange.snapshot.settings.limits.hops) throw new GatewayError('TOO_MANY_ENDPOINTS')
  if (endpoint.policy.dependsOnPath && exchange.url.ambiguity !== undefined) throw new GatewayError('AMBIGUOUS_PATH')
  exchange.enter(endpoint, onError)
}

/** Paths that actions of the policy keep for themselves come before its rules. */
function beginRequestPhase(exchange: Exchange): void {
  const { pathServers } = exchange.frame.endpoint.policy
  for (let index = 0; index < pathServers.length; index++) {
    const action = pathServers[index]! // within bounds
    const outcome = action.servePath!(exchange, index === pathServers.length - 1) // what makes it one of them
    if (outcome === undefined) continue
    exchange.decidingAction = action.type
    exchange.clockMs = 0
    follow(exchange, outcome, followRequestOutcome)
    return
  }
  runRequestPhase(exchange)
}

/** Runs `on_http_request` of the current endpoint from where its cursor stands. */
function runRequestPhase(exchange: Exchange): void {
  const { endpoint, cursor } = exchange.frame
  if (endpoint.policy.onHttpRequest.length === 0) {
    followRequestOutcome(exchange, NEXT)
    return
  }
  exchange.phaseStartedAtMs = clockOf(exchange)
  const { onHttpRequest, requestIndex } = endpoint.policy
  follow(exchange, runPhase(onHttpRequest, exchange, cursor, requestIndex), requestPhaseEnded)
}

function requestPhaseEnded(exchange: Exchange, outcome: Outcome): void {
  const { services, phaseStartedAtMs } = exchange
  const nowMs = performance.now()
  services.metrics.policyDuration('on_http_request', nowMs - phaseStartedAtMs)
  exchange.clockMs = nowMs
  followRequestOutcome(exchange, outcome)
}

function followRequestOutcome(exchange: Exchange, outcome: Outcome): void {
  switch (outcome.kind) {
    case 'next':
      // falling off the end sends upstream; a cloud endpoint has none (§1.3)
      if (exchange.insteadOfUpstream !== undefined) {
        answer(exchange, exchange.insteadOfUpstream)
        return
      }
      if (exchange.method === 'OPTIONS') {
        const own = answerOfLastHop(exchange)
        if (own !== undefined) {
          answer(exchange, own)
          return
        }
      }
      if (exchange.frame.endpoint.upstream === undefined) throw new GatewayError('POLICY_DID_NOT_END')
      sendUpstream(exchange)
      return
    case 'forward':
      enterEndpoint(exchange, outcome.endpoint, outcome.onError)
      beginRequestPhase(exchange)
      return
    case 'respond':
      answer(exchange, outcome)
      return
    case 'send':
      exchange.attempts = outcome.attempts
      sendAttempt(exchange)
      return
    case 'error':
      fail(exchange, outcome.error)
      return
    case 'close':
      exchange.reason = outcome.reason
      exchange.frontEnd.abort(exchange.handle)
  }
}

// ── upstream ──

/** The clock, for one step: what somebody has just read is good enough once. */
function clockOf(exchange: Exchange): number {
  const { clockMs } = exchange
  if (clockMs === 0) return performance.now()
  exchange.clockMs = 0
  return clockMs
}

function sendUpstream(exchange: Exchange): void {
  const { upstream } = exchange.frame.endpoint
  if (upstream === undefined) throw new GatewayError('NO_HEALTHY_TARGET')
  if (exchange.snapshot.allowsUpgrades) checkUpgrade(exchange, upstream.upgrades)
  const { group, retry, totalMs } = upstream
  const member = chooseTarget(exchange, upstream)
  if (member === undefined) throw new GatewayError('TARGETS_DRAINED')
  const { target } = member
  exchange.tried = exchange.tried.length === 0 ? [member] : [...exchange.tried, member]
  const attempt = exchange.tried.length
  exchange.target = target
  exchange.upstreamHead ??= headForUpstream(exchange)
  const nowMs = clockOf(exchange)
  exchange.legStartedAtMs = nowMs
  if (exchange.forwardedAtMs === 0) {
    exchange.forwardedAtMs = nowMs
    if (totalMs > 0) exchange.totalTimer = setTimeout(tookTooLong, totalMs, exchange)
  }
  if (attempt === 1) group.budget.requested(1, nowMs)
  group.began(member)
  exchange.leg = { upstream, member }
  const head =
    attempt > 1 && retry.attemptHeader
      ? `${exchange.upstreamHead}x-retry-attempt: ${attempt - 1}\r\n`
      : exchange.upstreamHead
  if (exchange.upstreamHeadIsAdded)
    exchange.frontEnd.relay!(exchange.handle, target, head, answerToPass(exchange, upstream))
  else exchange.frontEnd.forward(exchange.handle, target, head, exchange.newRequestBody)
}

/** A leg that was begun by a standing relay. */
function takeOver(exchange: Exchange, { endpoint, upstream, member }: Decision): void {
  exchange.enter(endpoint, 'halt')
  exchange.tried = [member]
  exchange.target = member.target
  exchange.upstreamHead = headForUpstream(exchange)
  exchange.legStartedAtMs = exchange.forwardedAtMs = exchange.facts.receivedAtMs
  upstream.group.budget.requested()
  upstream.group.began(member)
  exchange.leg = { upstream, member }
}

const NO_UPGRADES: ReadonlySet<string> = new Set()

/** H-60: a protocol beside WebSocket goes to endpoints that allow it. */
function checkUpgrade({ head }: Exchange, allowed: ReadonlySet<string>): void {
  const protocol = head.first('upgrade')?.toLowerCase()
  if (protocol === undefined || protocol === 'websocket' || allowed.has(protocol)) return
  throw new GatewayError('UPGRADE_REFUSED')
}

/** The whole head; or, where the front end can do so, only what is put behind the one that came. */
function headForUpstream(exchange: Exchange): string {
  const canRelay = exchange.frontEnd.relay !== undefined && exchange.newRequestBody === undefined
  const added = canRelay ? addedLines(exchange) : undefined
  exchange.upstreamHeadIsAdded = added !== undefined
  return added ?? forwardHead(exchange)
}

/** What an answer leaves with that nobody here wants to look at; undefined: somebody does. */
function answerToPass(exchange: Exchange, { sticky, retry }: EndpointUpstream): AnswerEdits | undefined {
  exchange.foretold = undefined
  if (sticky !== undefined || retry.on.size > 0 || exchange.frames.some(looksAtAnswers)) return undefined
  const lines = `x-request-id: ${exchange.requestId}\r\n${exchange.answerLines}`
  if (!exchange.frames.some(hasResponseRules)) return { lines, removed: '', clocks: NO_CLOCKS }
  const answer = foretell(exchange)
  if (answer === undefined) return undefined
  exchange.foretold = answer
  answer.lines += lines
  return answer
}

const NO_CLOCKS: readonly number[] = Object.freeze([])

function looksAtAnswers({ endpoint }: Frame): boolean {
  const { answersAreForetold, onEventStreamMessage } = endpoint.policy
  return !answersAreForetold || onEventStreamMessage.length > 0
}

function hasResponseRules({ endpoint }: Frame): boolean {
  return endpoint.policy.onHttpResponse.length > 0
}

/** The target that the client's cookie names, else the one whose turn it is. */
function chooseTarget(exchange: Exchange, { group, hashKey, sticky }: EndpointUpstream): Member | undefined {
  if (sticky !== undefined && exchange.tried.length === 0) {
    const named = sticky.read(exchange.head.all('cookie'))
    const pinned = named === undefined ? undefined : group.pinned(named)
    if (pinned !== undefined) return pinned
  }
  return group.pick(exchange.tried, hashKey && hashKeyOf(exchange, hashKey))
}

/** What the request is known by; nothing when it has none of that. */
function hashKeyOf(exchange: Exchange, hashKey: Expression): string {
  try {
    return celToText(hashKey.evaluate(exchange))
  } catch {
    // a missing header, say: the request may go anywhere
    return ''
  }
}

/** The present leg is over, one way or another. Later calls do nothing. */
function endLeg(exchange: Exchange): void {
  const { leg } = exchange
  if (leg === undefined) return
  exchange.leg = undefined
  leg.upstream.group.ended(leg.member)
}

/** H-80: the deadline of the whole exchange with the upstream has passed, repeats included. */
function tookTooLong(exchange: Exchange): void {
  fail(exchange, new GatewayError('TOTAL_TIMEOUT'))
}

/** The next of the servers that an action names; when none is left, its policy goes on or the request ends. */
function sendAttempt(exchange: Exchange): void {
  const next = exchange.attempts!.next() // set by who comes here
  if (next === undefined) {
    const outcome = exchange.attempts!.exhausted()
    exchange.attempts = undefined
    exchange.target = undefined
    if (outcome.kind === 'next') runRequestPhase(exchange)
    else followRequestOutcome(exchange, outcome)
    return
  }
  if (exchange.snapshot.allowsUpgrades) checkUpgrade(exchange, NO_UPGRADES)
  exchange.target = next.target
  exchange.forwardedAtMs = exchange.legStartedAtMs = performance.now()
  exchange.frontEnd.forward(exchange.handle, next.target, next.head, next.body)
}

/** An upstream leg failed before anything reached the client: another target, the next `forward-internal`, or an error. */
function recover(exchange: Exchange, failure: UpstreamFailure): void {
  const { endpoint } = exchange.frame
  exchange.failure = failure
  targetFailed(exchange, failure)
  exchange.services.metrics.upstreamRequest(endpoint.name, failure.target.name, failure.reason, -1)
  if (exchange.attempts !== undefined) {
    if (exchange.attemptTaken) throw new GatewayError(UPSTREAM_ERRORS[failure.reason], { cause: failure.detail })
    exchange.attempts.failed(failure)
    sendAttempt(exchange)
    return
  }
  if (endpoint.upstream !== undefined && mayRepeat(exchange, endpoint.upstream, failure)) {
    exchange.services.metrics.upstreamRetry(failure.reason)
    sendUpstream(exchange)
    return
  }
  const error = new GatewayError(UPSTREAM_ERRORS[failure.reason], { cause: failure.detail })
  if (!forwardFailed(exchange, failure, error)) throw error
}

/** Counts a failure against the target of the present leg, which is over. */
function targetFailed(exchange: Exchange, failure: UpstreamFailure): void {
  const { leg, services } = exchange
  if (leg === undefined) return
  endLeg(exchange)
  legFailed(services, exchange.frame.endpoint.name, leg, failure, performance.now() - exchange.legStartedAtMs)
}

/** `on_error: continue`: the endpoint that forwarded here goes on with its next action (§5.8). */
function forwardFailed(exchange: Exchange, failure: UpstreamFailure, error: GatewayError): boolean {
  const unreachable =
    failure.reason === 'connect_failed' || failure.reason === 'connect_timeout' || failure.reason === 'tls_failed'
  if (!unreachable || failure.bodyConsumed || exchange.frame.onError !== 'continue' || exchange.frames.length < 2)
    return false
  const { view } = exchange.frame.endpoint
  exchange.leave()
  endLeg(exchange)
  exchange.tried = []
  exchange.upstreamHead = undefined
  exchange.setResult('forward_internal', {
    url: view.url,
    error: { code: failure.reason === 'connect_timeout' ? 'ERR_NGROK_3005' : 'ERR_NGROK_3006', message: error.message },
  })
  runRequestPhase(exchange)
  return true
}

// ── response ──

/** Fields that only we may send: their presence proves where an error comes from (O-73). */
const OWN_FIELDS = ['ngrok-error-code', 'sallyport-error-code'] as const

function receiveResponse(exchange: Exchange, headText: string, facts: ResponseFacts): void {
  const head = new MessageHead(headText)
  if (headText.includes('-error-code: ')) for (const name of OWN_FIELDS) head.remove(name)
  if (!exchange.head.isAsReceived) mapLocations(exchange, head)
  const { leg } = exchange
  if (leg !== undefined) {
    targetAnswered(exchange, leg, facts.status, performance.now())
    const pauseMs = repeatAfterStatus(exchange, leg.upstream, facts.status, head)
    if (pauseMs !== undefined) {
      endLeg(exchange)
      exchange.services.metrics.upstreamRetry(`status_${facts.status}`)
      if (pauseMs === 0) sendUpstream(exchange)
      else exchange.repeatTimer = setTimeout(() => attempt(exchange, () => sendUpstream(exchange)), pauseMs)
      return
    }
    keepClient(exchange, leg)
  } else if (exchange.target !== undefined) {
    // a target that is no endpoint's: a model provider
    const elapsedMs = performance.now() - exchange.legStartedAtMs
    const { name } = exchange.frame.endpoint
    exchange.services.metrics.upstreamRequest(name, exchange.target.name, facts.status, elapsedMs)
  }
  if (exchange.attempts !== undefined) {
    if (!exchange.attempts.takes(facts.status, head)) {
      sendAttempt(exchange)
      return
    }
    exchange.attemptTaken = true
    exchange.attempts.taken()
  }
  exchange.upstreamSettled(facts.status)
  exchange.setResponse({ status: facts.status, head, bodyLength: facts.bodyLength, ownBody: undefined })
  runResponsePhases(exchange, exchange.frames.length - 1)
}

function targetAnswered(exchange: Exchange, leg: Leg, status: number, atMs: number): void {
  legAnswered(exchange.services, exchange.frame.endpoint.name, leg, status, atMs - exchange.legStartedAtMs)
}

/** Sets the cookie that leads back to this target, unless the client has it. */
function keepClient(exchange: Exchange, { member, upstream }: Leg): void {
  const { sticky } = upstream
  if (sticky === undefined || sticky.read(exchange.head.all('cookie')) === member.stickyValue) return
  exchange.answerLines += sticky.line(member.stickyValue, exchange.url.scheme === 'https')
}

/** `on_http_response` of the innermost endpoint first, then of those that forwarded to it (§2.4). */
function runResponsePhases(exchange: Exchange, frameIndex: number): void {
  if (frameIndex < 0) {
    deliver(exchange)
    return
  }
  const { onHttpResponse, responseIndex } = exchange.frames[frameIndex]!.endpoint.policy
  if (onHttpResponse.length === 0) {
    runResponsePhases(exchange, frameIndex - 1)
    return
  }
  exchange.beginResponsePhase(frameIndex)
  exchange.phaseStartedAtMs = performance.now()
  follow(exchange, runPhase(onHttpResponse, exchange, exchange.frame.cursor, responseIndex), responsePhaseEnded)
}

function responsePhaseEnded(exchange: Exchange, outcome: Outcome): void {
  const { services, phaseStartedAtMs } = exchange
  services.metrics.policyDuration('on_http_response', performance.now() - phaseStartedAtMs)
  if (outcome.kind === 'respond') {
    replaceResponse(exchange, outcome)
    if (!outcome.responsePhase) {
      deliver(exchange)
      return
    }
  }
  if (outcome.kind === 'error') {
    fail(exchange, outcome.error)
    return
  }
  // `forward` and `close` do not exist in this phase: no action of it returns them
  runResponsePhases(exchange, exchange.frameIndex - 1)
}

/** An answer made by an action of the request phase. */
function answer(exchange: Exchange, outcome: Respond): void {
  replaceResponse(exchange, outcome)
  if (outcome.responsePhase) runResponsePhases(exchange, exchange.frames.length - 1)
  else deliver(exchange)
}

function replaceResponse(exchange: Exchange, outcome: Respond): void {
  exchange.reason = outcome.reason
  exchange.setResponse({
    status: outcome.status,
    head: new MessageHead(statusLine(outcome.status) + outcome.lines),
    bodyLength: Buffer.byteLength(outcome.body),
    ownBody: outcome.body,
  })
}

/** The response leaves: the upstream's body streams on behind it, or ours goes with it. */
function deliver(exchange: Exchange): void {
  const state = exchange.responseState!
  const { ownBody } = state
  const filter = responseFilters(exchange, state)
  state.head.remove('x-request-id')
  const head = `${state.head.text}x-request-id: ${exchange.requestId}\r\n${exchange.answerLines}`
  if (ownBody === undefined) exchange.frontEnd.continueResponse(exchange.handle, head, undefined, filter)
  else if (filter === undefined) exchange.frontEnd.respond(exchange.handle, head, ownBody)
  else if (exchange.method === 'HEAD') exchange.frontEnd.respond(exchange.handle, head, '')
  else {
    throughFilter(filter(), Buffer.from(ownBody))
      .then((bytes) => exchange.finished || exchange.frontEnd.respond(exchange.handle, head, bytes))
      .catch((error: unknown) => fail(exchange, error))
  }
}

// ── failure ──

/** The only door from an error to HTTP. Response rules do not run for it (§2.4). */
function fail(exchange: Exchange, thrown: unknown): void {
  if (exchange.finished) return
  clearTimeout(exchange.repeatTimer)
  const error = toGatewayError(thrown)
  exchange.reason = error.reason
  exchange.failed()
  if (error.code === 'INTERNAL') {
    exchange.services.logger.error(
      {
        request_id: exchange.requestId,
        rule: exchange.decidingRule,
        action: exchange.decidingAction,
        error: stackOf(error.cause),
      },
      'request failed',
    )
  }
  const { status, lines, body } = errorAnswer(error, exchange.head.first('accept') ?? '', exchange.requestId)
  const head = `${statusLine(status)}${lines}x-request-id: ${exchange.requestId}\r\n${exchange.answerLines}`
  exchange.frontEnd.respond(exchange.handle, head, body)
}

function stackOf(cause: unknown): string {
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)
}

/** Runs one step; whatever it throws ends this exchange and nothing else (T-26). */
function attempt(exchange: Exchange, step: () => void): void {
  try {
    step()
  } catch (error) {
    fail(exchange, error)
  }
}

/** Goes on with an outcome now, or when it comes, unless the client has gone meanwhile. */
function follow(
  exchange: Exchange,
  outcome: Outcome | Promise<Outcome>,
  next: (exchange: Exchange, outcome: Outcome) => void,
): void {
  if (!(outcome instanceof Promise)) {
    next(exchange, outcome)
    return
  }
  outcome
    .then((settled) => {
      if (!exchange.finished) next(exchange, settled)
    })
    .catch((error: unknown) => fail(exchange, error))
}
