/**
 * Decisions that hold for every request of a host: an endpoint that does the same with all of them is decided once, and the
 * front end then sends its requests up by itself (`StandingRelays` in listener/front-end.ts). Here is all that such a decision
 * rests on, and what is counted for requests that nobody here has seen.
 *
 * Nothing that looks at a request may be in the way: no rule, no path of an action's own, no cookie that chooses a target, no
 * status that is repeated, no deadline over all legs, no access log. One target is left to choose from, until the board or a
 * name says otherwise. A new configuration withdraws all.
 *
 * Source: operations.md O-23, O-24 (reload), O-47 (counts), O-67 … O-69, H-55, H-57, H-72; T-37.
 */
import type { StandingEnd, StandingRelay, StandingRelays } from '../listener/front-end.ts'
import type { GatewayServices } from '../process/services.ts'
import type { Snapshot } from '../process/snapshot.ts'
import type { Endpoint, EndpointUpstream } from '../routing/endpoints.ts'
import type { LastingChoice, Member } from '../upstream/balancer.ts'
import type { Exchange } from './exchange.ts'
import { hopLines } from './forward-head.ts'
import { legAnswered, legFailed } from './leg-outcome.ts'

/** O-62: in counts only. */
const CLIENT_ABORT_STATUS = 499

/** At a time; the oldest goes. What a client may write as Host is without bounds where an endpoint answers for any host. */
const MOST_DECISIONS = 256

/** One decision, in the form in which the front end has it. */
export class Decision implements StandingRelay {
  readonly listenerId: number
  readonly listenerPlace: number
  readonly host: string
  readonly lines: string
  readonly restsOn: StandingRelay['restsOn']
  readonly snapshot: Snapshot
  readonly endpoint: Endpoint
  readonly upstream: EndpointUpstream
  readonly member: Member
  readonly owner: StandingRelays
  /** Requests that are over and not in the retry budget. */
  requests = 0
  /** Of one that was withdrawn: those that are under way. -1 = it holds. */
  left = -1

  /** `exchange`: one that was decided in the usual way. */
  constructor(
    exchange: Exchange,
    upstream: EndpointUpstream,
    owner: StandingRelays,
    { member, restsOn }: LastingChoice,
  ) {
    this.listenerId = exchange.facts.listenerId
    this.listenerPlace = exchange.listenerPlace
    this.host = exchange.publicHost
    this.lines = hopLines(exchange)
    this.snapshot = exchange.snapshot
    this.endpoint = exchange.frame.endpoint
    this.upstream = upstream
    this.owner = owner
    this.member = member
    this.restsOn = restsOn
  }

  get target(): StandingRelay['target'] {
    return this.member.target
  }
}

export class StandingDecisions {
  readonly #services: GatewayServices
  /** By listener and host; the oldest first. */
  readonly #held = new Map<string, Decision>()
  /** Withdrawn, with requests under way. */
  readonly #leaving = new Set<Decision>()
  readonly #suitable = new WeakMap<Endpoint, boolean>()
  /** Those with `requests`. */
  readonly #uncounted = new Set<Decision>()

  constructor(services: GatewayServices) {
    this.#services = services
    services.metrics.inFlightElsewhere = () => this.#inFlight()
  }

  /** A request has gone up as it came, decided against the present configuration: whether the next ones have to be. */
  consider(exchange: Exchange): void {
    const owner = exchange.frontEnd.standing
    const { leg, facts, peer, snapshot, publicHost } = exchange
    if (owner === undefined || leg === undefined || exchange.frames.length !== 1 || exchange.tried.length !== 1) return
    const { endpoint } = exchange.frame
    if (!this.#isSuitable(snapshot, endpoint)) return
    // the front end looks at these itself; a decision made from another kind of request would not be the usual one
    if (peer.tls !== undefined || peer.proxiedAddress !== undefined || publicHost === '') return
    if ((facts.version ?? 'HTTP/1.1') !== 'HTTP/1.1') return
    const choice = leg.upstream.group.lasting()
    if (choice === undefined || choice.member !== leg.member) return
    const key = `${facts.listenerId} ${publicHost}`
    const held = this.#held.get(key)
    if (held !== undefined) {
      if (held.restsOn.version === choice.restsOn.version) return
      this.#withdraw(key, held)
    }
    const [oldest] = this.#held
    if (oldest !== undefined && this.#held.size >= MOST_DECISIONS) this.#withdraw(...oldest)
    const decision = new Decision(exchange, leg.upstream, owner, choice)
    if (owner.stand(decision)) this.#held.set(key, decision)
  }

  /** Every request is asked about again. */
  withdrawAll(): void {
    for (const [key, decision] of this.#held) this.#withdraw(key, decision)
  }

  /** Decisions against a configuration by which requests are under way; none of them holds any more. */
  leavingOf(snapshot: Snapshot): readonly Decision[] {
    return [...this.#leaving].filter((decision) => decision.snapshot === snapshot)
  }

  /** Requests under way to a member that `Member.inFlight` does not count. */
  inFlightTo(member: Member): number {
    let sum = 0
    for (const decision of this.#held.values()) {
      if (decision.member.state === member.state) sum += decision.owner.inFlight(decision)
    }
    return sum
  }

  /** A request is over. */
  ended(decision: Decision, end: StandingEnd): void {
    const { metrics } = this.#services
    const { endpoint } = decision
    const { receivedAtMs, connectedAtMs, endedAtMs, failure } = end
    if (end.answeredStatus !== 0) this.answered(decision, end.answeredStatus, end.firstByteAtMs - receivedAtMs)
    if (failure !== undefined) {
      legFailed(this.#services, endpoint.name, decision, failure, performance.now() - receivedAtMs)
    }
    const status = end.end === 'client_abort' ? CLIENT_ABORT_STATUS : end.status
    const durationMs = endedAtMs - receivedAtMs
    metrics.requestElsewhere(endpoint.name, end.method, status, durationMs, end.requestBodyBytes, end.responseBodyBytes)
    if (connectedAtMs !== 0 && !end.connectionReused) {
      metrics.upstreamConnected(endpoint.name, connectedAtMs - receivedAtMs)
    }
    if (decision.requests++ === 0) this.#uncounted.add(decision)
    this.left(decision)
  }

  /** An answer has come whose request was sent so long ago. */
  answered(decision: Decision, status: number, elapsedMs: number): void {
    legAnswered(this.#services, decision.endpoint.name, decision, status, elapsedMs)
  }

  /** The ends of a turn have been told. */
  told(): void {
    for (const decision of this.#uncounted) {
      decision.upstream.group.budget.requested(decision.requests)
      decision.requests = 0
    }
    this.#uncounted.clear()
  }

  /** A request is no longer under way by it. */
  left(decision: Decision): void {
    if (decision.left <= 0) return
    decision.left--
    decision.upstream.group.ended(decision.member)
    if (decision.left === 0) this.#leaving.delete(decision)
  }

  #withdraw(key: string, decision: Decision): void {
    this.#held.delete(key)
    decision.left = decision.owner.withdraw(decision)
    // from now on they are in the member's own count
    for (let count = 0; count < decision.left; count++) decision.upstream.group.began(decision.member)
    if (decision.left > 0) this.#leaving.add(decision)
  }

  #inFlight(): number {
    let sum = 0
    for (const decision of this.#held.values()) sum += decision.owner.inFlight(decision)
    for (const { left } of this.#leaving) sum += left
    return sum
  }

  #isSuitable(snapshot: Snapshot, endpoint: Endpoint): boolean {
    let isSuitable = this.#suitable.get(endpoint)
    if (isSuitable === undefined) {
      isSuitable = isTheSameForAll(endpoint) && !snapshot.endpoints.isPooled(endpoint)
      this.#suitable.set(endpoint, isSuitable)
    }
    return isSuitable && !this.#services.accessLog.enabled
  }
}

/** Nothing of an endpoint looks at a request or its answer. */
function isTheSameForAll({ policy, upstream }: Endpoint): boolean {
  const { onTcpConnect, onHttpRequest, onHttpResponse, onEventStreamMessage, pathServers } = policy
  const rules = [onTcpConnect, onHttpRequest, onHttpResponse, onEventStreamMessage, pathServers]
  if (upstream === undefined || rules.some(({ length }) => length > 0)) return false
  const { sticky, retry, totalMs } = upstream
  return sticky === undefined && retry.on.size === 0 && totalMs === 0
}
