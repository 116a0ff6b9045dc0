/**
 * The targets of one endpoint: which of them may be used now, and which one a request gets.
 *
 * A target is ejected for a while after so many failures in a row that speak of the target itself: connect, TLS, reset,
 * timeouts. Answers never eject, 5xx included (they may be the request's fault), and neither does our own full queue.
 * When too few are left, all are used again: a bad minute must not become an outage (T-37). A drained target gets nothing
 * new, whatever else holds.
 *
 * A name that stands for several addresses counts as so many targets; when it stands for others, the old ones are not
 * chosen any more.
 *
 * Source: issue text "Balancing …"; T-37; F-09.
 */
import { createHash } from 'node:crypto'
import { isIP } from 'node:net'
import type { UpstreamFailureReason, UpstreamTarget } from '../listener/front-end.ts'
import { TICK_MS } from '../shared-state/board.ts'
import { type BalanceMethod, byKey, type Choosable, fastest, hashText, leastRequest, Turn } from './choice.ts'
import { connectOrders } from './connect-order.ts'
import { RetryBudget } from './retry-budget.ts'
import type { TargetState, TargetStates } from './target-state.ts'

/** Whether a failure of that reason counts against the target. */
const COUNTS: Record<UpstreamFailureReason, boolean> = {
  connect_failed: true,
  connect_timeout: true,
  tls_failed: true,
  upstream_reset: true,
  first_byte_timeout: true,
  idle_timeout: true,
  // its bytes were wrong, not its health; and our own queue says nothing about a single target
  upstream_bad_response: false,
  overflow: false,
}

/** Word of an endpoint's row: the endpoint as a whole is drained. */
export const GROUP_DRAINED = 0
/** Where the retry budget of an endpoint's row begins. */
const GROUP_BUDGET = 8

/** The addresses that names stand for now. */
export interface KnownAddresses {
  /** Changes when some name stands for other addresses. */
  readonly version: number
  /** Undefined while nothing is known of the name. */
  known(name: string): readonly string[] | undefined
}

const NO_ADDRESSES: KnownAddresses = { version: 0, known: () => undefined }

/** One server of an endpoint as configured. */
export interface GroupTarget {
  readonly target: UpstreamTarget
  readonly weight: number
}

export interface GroupOptions {
  /** Its name. */
  readonly endpoint: string
  readonly states: TargetStates
  readonly addresses?: KnownAddresses
  readonly method?: BalanceMethod
  /** Failures in a row after which a target is left out; 0 = never. */
  readonly ejectAfter: number
  /** For how long. */
  readonly ejectMs: number
  /** Share of the targets in percent that must be usable; with fewer all are used. With none all are, in any case. */
  readonly panicPercent?: number
  /** How long a target that comes into use is spared; 0 = off. */
  readonly slowStartMs?: number
  /** Share of requests that may be repeated, in percent. */
  readonly retryPercent?: number
}

/** One server, or one address of one. */
export interface Member extends Choosable {
  readonly target: UpstreamTarget
  /** '' when the target is no name, or its addresses are not known. */
  readonly address: string
  readonly state: TargetState
  /** Of the name as a whole; `state` itself when there are no addresses. */
  readonly whole: TargetState
  /** Names it in cookies; says nothing about its address. */
  readonly stickyValue: string
}

/** See TargetGroup.lasting. */
export interface LastingChoice {
  readonly member: Member
  /** It lasts while `word[0]` is `version`. */
  readonly restsOn: { readonly word: Int32Array; readonly version: number }
}

class GroupMember implements Member {
  readonly target: UpstreamTarget
  readonly address: string
  readonly weight: number
  readonly seed: number
  readonly state: TargetState
  readonly whole: TargetState
  readonly stickyValue: string
  share: number
  credit = 0

  constructor(target: UpstreamTarget, address: string, weight: number, state: TargetState, whole: TargetState) {
    this.target = target
    this.address = address
    this.weight = weight
    this.share = weight
    this.state = state
    this.whole = whole
    const identity = `${target.name}\0${address}`
    this.seed = hashText(identity)
    this.stickyValue = createHash('sha256').update(state.name).digest('hex').slice(0, 16)
  }

  get inFlight(): number {
    return this.state.inFlight
  }

  averageMs(nowMs: number): number {
    return this.state.averageMs(nowMs)
  }

  get isDrained(): boolean {
    return this.whole.isDrained || (this.state !== this.whole && this.state.isDrained)
  }
}

/** Shared by all exchanges of a worker. */
export class TargetGroup {
  readonly #options: Required<GroupOptions>
  readonly #configured: readonly GroupTarget[]
  readonly #row: Int32Array
  readonly #turn = new Turn()
  readonly #hasNames: boolean
  readonly budget: RetryBudget
  /** By name and address, so that an address that stays is the same member. */
  #known = new Map<string, GroupMember>()
  #members: readonly GroupMember[] = []
  // what holds until something changes
  #usable: GroupMember[] = []
  #isEven = true
  #isPanicking = false
  #version = -1
  #addressVersion = -1
  /** Tick from which it is to be looked at again. */
  #lookAgainAt = 0

  /** `targets` must not be empty. */
  constructor(targets: readonly GroupTarget[], options: GroupOptions) {
    this.#configured = targets
    this.#options = {
      addresses: NO_ADDRESSES,
      method: 'round-robin',
      panicPercent: 0,
      slowStartMs: 0,
      retryPercent: 20,
      ...options,
    }
    const { states, endpoint, retryPercent } = this.#options
    const { words } = states.group(endpoint)
    this.#row = words
    this.budget = new RetryBudget(words.subarray(GROUP_BUDGET), states.board, retryPercent)
    this.#hasNames = targets.some(({ target }) => isIP(target.host) === 0)
    this.#learnMembers()
  }

  /** Names to be looked up. */
  get names(): readonly string[] {
    return this.#configured.map(({ target }) => target.host).filter((host) => isIP(host) === 0)
  }

  /** Everything that requests may be under way to now: the configured targets, and the addresses of names. */
  get targets(): readonly UpstreamTarget[] {
    this.#look()
    return [...new Set([...this.#configured, ...this.#members].map(({ target }) => target))]
  }

  get members(): readonly Member[] {
    this.#look()
    return this.#members
  }

  /** Rows that this group needs. */
  get stateNames(): readonly string[] {
    return this.#members.flatMap(({ state, whole }) => [state.name, whole.name])
  }

  /** Members that are left out at present for their failures. */
  get ejected(): readonly Member[] {
    const tick = this.#options.states.board.tick()
    return this.#members.filter(({ state }) => state.ejectedUntil(tick) !== 0)
  }

  /** Too few are well, so all are used. */
  get isPanicking(): boolean {
    this.#look()
    return this.#isPanicking
  }

  get isDrained(): boolean {
    return this.#row[GROUP_DRAINED] !== 0
  }

  /**
   * A target for a request; undefined only when all are drained. Those in `exclude` (tried before, H-71) come last: they
   * are chosen only when there is no other. `key`: what the request is known by, for `hash`.
   */
  pick(exclude: readonly Member[] = [], key?: string): Member | undefined {
    if (this.isDrained) return undefined
    if (!this.#hasNames && this.#members.length === 1) {
      const only = this.#members[0]! // the length says so
      return only.isDrained ? undefined : only
    }
    this.#look()
    if (this.#usable.length === 0) return undefined
    if (exclude.length === 0) return this.#choose(this.#usable, key)
    for (const candidates of [this.#usable, this.#members.filter((member) => !member.isDrained)]) {
      const others = candidates.filter((member) => !exclude.includes(member))
      if (others.length > 0) return this.#choose(others, key)
    }
    return this.#choose(this.#usable, key)
  }

  /**
   * The member that every request gets, whatever it is, until what `restsOn` names changes, or a name stands for other addresses;
   * undefined: it depends.
   */
  lasting(): LastingChoice | undefined {
    const { board } = this.#options.states
    // read before what it stands for
    const { version } = board
    if (this.isDrained) return undefined
    this.#look()
    const [only, another] = this.#usable
    if (only === undefined || another !== undefined || this.#lookAgainAt !== Infinity) return undefined
    if (this.#hasNames && only.address === '') return undefined
    return { member: only, restsOn: { word: board.versionWord, version } }
  }

  /** The member that a cookie names, when it may be used. */
  pinned(stickyValue: string): Member | undefined {
    if (this.isDrained) return undefined
    this.#look()
    return this.#usable.find((member) => member.stickyValue === stickyValue)
  }

  #choose(candidates: readonly GroupMember[], key: string | undefined): GroupMember {
    if (candidates.length === 1) return candidates[0]! // the length says so
    switch (this.#options.method) {
      case 'round-robin':
        return this.#turn.next(candidates, this.#isEven)
      case 'least-request':
        return leastRequest(candidates, this.#isEven)
      case 'ewma':
        return fastest(candidates, this.#isEven, performance.now())
      case 'hash':
        // a request without the key may go anywhere
        return key === undefined || key === ''
          ? this.#turn.next(candidates, this.#isEven)
          : byKey(candidates, hashText(key))
    }
  }

  /** A leg is on its way to a member; `ended` follows once. */
  began(member: Member): void {
    member.state.inFlight += 1
  }

  ended(member: Member): void {
    member.state.inFlight -= 1
  }

  /** A member answered after so long. True when it had been left out and is in use again. */
  answered(member: Member, elapsedMs: number): boolean {
    if (this.#options.method === 'ewma') member.state.observe(elapsedMs, performance.now(), false)
    return member.state.answered()
  }

  /** A leg failed after so long. True when the member is left out from now on. */
  failed(member: Member, reason: UpstreamFailureReason, elapsedMs: number): boolean {
    if (!COUNTS[reason]) return false
    const { method, ejectAfter, ejectMs } = this.#options
    if (method === 'ewma') member.state.observe(elapsedMs, performance.now(), true)
    return member.state.failed(ejectAfter, ejectMs)
  }

  /** Makes sure that what is derived from states and addresses is not out of date. */
  #look(): void {
    const { states, addresses, slowStartMs, panicPercent } = this.#options
    const { board } = states
    const tick = board.tick()
    const { version } = board
    if (this.#hasNames && addresses.version !== this.#addressVersion) this.#learnMembers()
    else if (version === this.#version && tick < this.#lookAgainAt) return
    this.#version = version
    const alive = this.#members.filter((member) => !member.isDrained)
    const healthy = alive.filter(({ state }) => state.isHealthy(tick))
    this.#isPanicking = healthy.length < alive.length && healthy.length * 100 < alive.length * panicPercent
    if (healthy.length === 0 && alive.length > 0) this.#isPanicking = true
    this.#usable = this.#isPanicking ? alive : healthy
    let lookAgainAt = Infinity
    for (const { state } of alive) {
      const until = state.ejectedUntil(tick)
      if (until !== 0) lookAgainAt = Math.min(lookAgainAt, until)
    }
    for (const member of this.#usable) {
      const ageMs = (tick - member.state.since) * TICK_MS
      const isSpared = slowStartMs > 0 && ageMs < slowStartMs
      member.share = isSpared ? member.weight * Math.max(0.1, ageMs / slowStartMs) : member.weight
      if (isSpared) lookAgainAt = Math.min(lookAgainAt, tick + 1)
    }
    this.#isEven = this.#usable.every(({ share }) => share === this.#usable[0]!.share)
    this.#lookAgainAt = lookAgainAt
  }

  #learnMembers(): void {
    const { addresses } = this.#options
    this.#addressVersion = addresses.version
    const known = new Map<string, GroupMember>()
    for (const { target, weight } of this.#configured) {
      const orders = isIP(target.host) === 0 ? connectOrders(addresses.known(target.host) ?? []) : []
      // a name of which nothing is known is looked up by whoever connects
      for (const order of orders.length === 0 ? [undefined] : orders) {
        const key = `${target.name}\0${order?.join() ?? ''}`
        known.set(key, this.#known.get(key) ?? this.#member(target, weight, order))
      }
    }
    this.#known = known
    this.#members = [...known.values()]
    this.#lookAgainAt = 0
  }

  #member(target: UpstreamTarget, weight: number, order: readonly string[] | undefined): GroupMember {
    const { states, endpoint } = this.#options
    const whole = states.obtain(endpoint, target.name)
    const address = order?.[0]
    if (address === undefined) return new GroupMember(target, '', weight, whole, whole)
    const state = states.obtain(endpoint, target.name, address)
    return new GroupMember({ ...target, addresses: order }, address, weight, state, whole)
  }
}
