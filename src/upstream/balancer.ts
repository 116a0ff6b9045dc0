/**
 * Chooses one of an endpoint's targets: round robin over those that answer, with passive ejection.
 *
 * A target is ejected for a while after so many failures in a row that speak of the target itself: connect, TLS,
 * reset, timeouts. Answers never eject, 5xx included (they may be the request's fault), and neither does our own full
 * queue. When everything is ejected everything is used again: a bad minute must not become an outage (T-37).
 *
 * Source: issue text "round robin, passive ejection"; T-37.
 */
import type { UpstreamFailureReason, UpstreamTarget } from '../listener/front-end.ts'

export interface BalancerOptions {
  /** Failures in a row after which a target is left out; 0 = never. */
  readonly ejectAfter: number
  /** For how long. */
  readonly ejectMs: number
  /** Monotonic milliseconds; tests bring their own. */
  readonly nowMs?: () => number
}

interface TargetState {
  readonly target: UpstreamTarget
  failuresInRow: number
  /** 0 = in use; otherwise when it comes back. */
  ejectedUntilMs: number
}

/** How many failures in a row count, and for which reasons. */
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

/** The targets of one endpoint. Shared by all exchanges of a worker; each worker learns by itself. */
export class TargetGroup {
  readonly #states: TargetState[]
  readonly #options: Required<BalancerOptions>
  #next = 0

  /** `targets` must not be empty. */
  constructor(targets: readonly UpstreamTarget[], options: BalancerOptions) {
    this.#states = targets.map((target) => ({ target, failuresInRow: 0, ejectedUntilMs: 0 }))
    this.#options = { nowMs: () => performance.now(), ...options }
  }

  get targets(): readonly UpstreamTarget[] {
    return this.#states.map((state) => state.target)
  }

  /** Targets that are left out at present, for metrics and `status`. */
  get ejected(): readonly UpstreamTarget[] {
    const nowMs = this.#options.nowMs()
    return this.#states.filter((state) => state.ejectedUntilMs > nowMs).map((state) => state.target)
  }

  /**
   * The next target. Those in `exclude` (tried before, H-71) come last: they are chosen only when there is no other.
   * Undefined only when the group is empty.
   */
  pick(exclude: readonly UpstreamTarget[] = []): UpstreamTarget | undefined {
    const states = this.#states
    if (states.length === 1) return states[0]!.target
    const nowMs = this.#options.nowMs()
    return (
      this.#turn((state) => state.ejectedUntilMs <= nowMs && !exclude.includes(state.target)) ??
      // panic: all others are ejected
      this.#turn((state) => !exclude.includes(state.target)) ??
      this.#turn(() => true)
    )
  }

  /** How a leg to a target ended: `undefined` when it answered. True when the target is left out from now on. */
  report(target: UpstreamTarget, failure: UpstreamFailureReason | undefined): boolean {
    const state = this.#states.find((candidate) => candidate.target === target)
    if (state === undefined) return false
    if (failure === undefined) {
      state.failuresInRow = 0
      state.ejectedUntilMs = 0
      return false
    }
    if (!COUNTS[failure]) return false
    state.failuresInRow++
    const { ejectAfter, ejectMs, nowMs } = this.#options
    // A target that comes back and fails again goes at once: its row of failures was never broken.
    if (ejectAfter === 0 || state.failuresInRow < ejectAfter) return false
    const now = nowMs()
    const isNew = state.ejectedUntilMs <= now
    state.ejectedUntilMs = now + ejectMs
    return isNew
  }

  /** The next one in turn that qualifies. */
  #turn(qualifies: (state: TargetState) => boolean): UpstreamTarget | undefined {
    const states = this.#states
    for (let step = 0; step < states.length; step++) {
      const state = states[(this.#next + step) % states.length]!
      if (!qualifies(state)) continue
      this.#next = (this.#next + step + 1) % states.length
      return state.target
    }
    return undefined
  }
}
