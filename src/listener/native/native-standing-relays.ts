/** Standing relays of the native front end: the gateway's decisions, and what native calls them. */
import * as native from '../../native/front.ts'
import { UPSTREAM_REASONS, type UpstreamTargetHandle } from '../../native/upstream-pool.ts'
import type {
  ExchangeRecord,
  FrontEndEvents,
  StandingEnd,
  StandingRelay,
  StandingRelays,
  UpstreamFailure,
  UpstreamTarget,
} from '../front-end.ts'

/** Not withdrawn. */
const HOLDS = -1

/** Of one relay. */
interface Standing {
  readonly handle: native.StandingHandle
  readonly relay: StandingRelay
  /** Ends that are still to be told of one that was withdrawn; HOLDS otherwise. */
  left: number
}

/** Filled, told and used again. */
type Writable<T> = { -readonly [K in keyof T]: T[K] }

export class NativeStandingRelays implements StandingRelays {
  readonly #front: native.FrontHandle
  readonly #numbers: Float64Array
  readonly #ends: readonly ExchangeRecord['end'][]
  readonly #at: (target: UpstreamTarget) => UpstreamTargetHandle | undefined
  readonly #byHandle = new Map<native.StandingHandle, Standing>()
  readonly #handles = new Map<StandingRelay, Standing>()
  #word: Int32Array | undefined
  #last: Standing | undefined
  #isClosed = false
  readonly #end: Writable<StandingEnd>

  /** `at`: the handle of a target that can be sent to at once. `ends`: what the numbers of a record call them. */
  constructor(
    front: native.FrontHandle,
    numbers: Float64Array,
    ends: readonly ExchangeRecord['end'][],
    at: (target: UpstreamTarget) => UpstreamTargetHandle | undefined,
  ) {
    this.#front = front
    this.#numbers = numbers
    this.#ends = ends
    this.#at = at
    this.#end = {
      method: 'GET',
      status: 0,
      answeredStatus: 0,
      requestBodyBytes: 0,
      responseBodyBytes: 0,
      end: 'complete',
      failure: undefined,
      receivedAtMs: 0,
      connectedAtMs: 0,
      firstByteAtMs: 0,
      endedAtMs: 0,
      connectionReused: false,
    }
  }

  stand(relay: StandingRelay): boolean {
    const { listenerId, host, target, lines, restsOn } = relay
    const at = this.#isClosed ? undefined : this.#at(target)
    if (at === undefined) return false
    if (this.#word !== restsOn.word) {
      // one memory for one gateway: what is known by another word would go by this one
      if (this.#word !== undefined) return false
      this.#word = restsOn.word
      native.restFrontOn(this.#front, restsOn.word)
    }
    const handle = native.standFront(this.#front, listenerId, at, host, lines, restsOn.version)
    if (handle === 0) return false
    const standing = { handle, relay, left: HOLDS }
    this.#byHandle.set(handle, standing)
    this.#handles.set(relay, standing)
    return true
  }

  withdraw(relay: StandingRelay): number {
    const standing = this.#handles.get(relay)
    if (standing === undefined || this.#isClosed) return 0
    standing.left = native.withdrawFront(this.#front, standing.handle)
    if (standing.left === 0) this.#forget(standing)
    return standing.left
  }

  inFlight(relay: StandingRelay): number {
    const standing = this.#handles.get(relay)
    return standing === undefined || this.#isClosed ? 0 : native.frontStanding(this.#front, standing.handle)
  }

  abort(relay: StandingRelay): void {
    const standing = this.#handles.get(relay)
    if (standing !== undefined && !this.#isClosed) native.abortFrontStanding(this.#front, standing.handle)
  }

  /** Requests under way by any. */
  get count(): number {
    return this.#isClosed || this.#byHandle.size === 0 ? 0 : native.frontStanding(this.#front, 0)
  }

  /** What has that number, unless it is gone. */
  relayOf(handle: native.StandingHandle): StandingRelay | undefined {
    return this.#find(handle)?.relay
  }

  /** Tells the end whose numbers begin at `start`. */
  ended(start: number, handle: native.StandingHandle, detail: string | undefined, events: FrontEndEvents): void {
    const standing = this.#find(handle)
    if (standing === undefined) return
    const numbers = this.#numbers
    const { FRONT_RECORD: at } = native
    const end = this.#end
    end.method = numbers[start + at.isHead] === 1 ? 'HEAD' : 'GET'
    end.status = numbers[start + at.status]!
    end.answeredStatus = numbers[start + at.passedStatus]!
    end.requestBodyBytes = numbers[start + at.requestBodyBytes]!
    end.responseBodyBytes = numbers[start + at.responseBodyBytes]!
    end.end = this.#ends[numbers[start + at.end]!]!
    end.receivedAtMs = numbers[start + at.receivedAtMs]!
    end.connectedAtMs = numbers[start + at.connectedAtMs]!
    end.firstByteAtMs = numbers[start + at.firstByteAtMs]!
    end.endedAtMs = numbers[start + at.endedAtMs]!
    end.connectionReused = numbers[start + at.connectionReused] === 1
    const reason = numbers[start + at.failureReason]!
    end.failure =
      reason < 0
        ? undefined
        : this.failure(standing.relay, reason, numbers[start + at.notProcessed] === 1, detail ?? '', true)
    this.left(handle)
    events.onStandingEnded?.(standing.relay, end)
  }

  failure(
    { target }: StandingRelay,
    reason: number,
    notProcessed: boolean,
    detail: string,
    bodyConsumed: boolean,
  ): UpstreamFailure {
    return { target, reason: UPSTREAM_REASONS[reason] ?? 'upstream_reset', detail, notProcessed, bodyConsumed }
  }

  /** A request is no longer under way by it. */
  left(handle: native.StandingHandle): void {
    const standing = this.#find(handle)
    if (standing === undefined || standing.left === HOLDS) return
    standing.left--
    if (standing.left <= 0) this.#forget(standing)
  }

  close(): void {
    this.#isClosed = true
    this.#byHandle.clear()
    this.#handles.clear()
    this.#last = undefined
  }

  #find(handle: native.StandingHandle): Standing | undefined {
    if (this.#last?.handle === handle) return this.#last
    const found = this.#byHandle.get(handle)
    if (found !== undefined) this.#last = found
    return found
  }

  #forget(standing: Standing): void {
    this.#byHandle.delete(standing.handle)
    this.#handles.delete(standing.relay)
    if (this.#last === standing) this.#last = undefined
  }
}
