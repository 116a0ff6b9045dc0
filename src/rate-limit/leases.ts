/**
 * Permits that a worker holds of hot buckets, so that most takes need no round trip (`rate_limit.mode: lease`).
 *
 * A bucket that this worker takes from often gives it a batch of permits in one call. They count in the shared window from
 * that moment and are used within the same slot of the window, or come back: no window ever holds more than the
 * capacity. What a killed worker held counts as used. A refused bucket is remembered until an event may succeed again.
 * A cold bucket is none of this file's business: each of its takes asks the store.
 */
import type { OnStoreError, Taken, TakeResult } from './store.ts'

/** Takes within this span that make a bucket hot. */
const HOT_SPAN_MS = 100
const HOT_TAKES = 4
/** Unused permits come back after this time, or when the slot ends if that is sooner. */
const LEASE_MS = 250
const SWEEP_MS = 50
/** Permits of one call: doubled while they are used up in less than half a lease, halved when some are left over. */
const FIRST_BATCH = 8
const LARGEST_BATCH = 1024
/** With less than this part of a batch left the next one is asked for, so that nobody waits for it. */
const AHEAD = 4
/** Buckets remembered: two generations of so many. The older one is dropped when the newer is full. */
const GENERATION_ENTRIES = 2048
/** Takes that may wait for one bucket's permits. */
const MOST_WAITING = 4096

/** What the store said to a call for permits. Times in milliseconds of performance.now(), durations in milliseconds. */
export interface Grant {
  readonly permits: number
  /** Left in the bucket for everybody, without those given. */
  readonly remaining: number
  /** Number of the slot that they count in. */
  readonly slot: number
  /** From when the call was sent; permits are good until then. */
  readonly slotEndsMs: number
  /** 0 when the need was met. */
  readonly retryAfterMs: number
}

/** What becomes of a call for permits. */
export interface PermitCallbacks {
  grant(grant: Grant): void
  trouble(): void
  late(grant: Grant): void
}

/** The calls that leases need of a store. */
export interface PermitSource {
  /**
   * Asks for `need` permits at once and `want` in all. Exactly one of the two callbacks is called, once; `late` instead of
   * them when `trouble` was called and the answer came all the same.
   */
  ask(bucket: BucketName, need: number, want: number, on: PermitCallbacks): void
  /** Gives permits back. What is lost on the way counts as used. */
  giveBack(bucket: BucketName, slot: number, permits: number): void
  /** What a take gets that the store cannot decide. */
  without(bucket: BucketName, onStoreError: OnStoreError): Taken
}

/** A bucket as the store's callers name it. */
export interface BucketName {
  readonly key: string
  readonly capacity: number
  readonly windowMs: number
}

/** Most buckets never have anybody waiting: they share this empty list. */
const NOBODY: Waiter[] = []

/** What this worker knows of one bucket. Times are those of performance.now(). */
class Lease implements BucketName {
  readonly key: string
  readonly capacity: number
  readonly windowMs: number
  /** Takes since `spanStartMs`. */
  takes = 0
  spanStartMs: number
  permits = 0
  remaining = 0
  slot = 0
  grantedMs = 0
  endsMs = 0
  batch = FIRST_BATCH
  refusedUntilMs = 0
  isAsking = false
  /** The last grant gave something: the next one may, too. */
  mayAskAhead = false
  waiting: Waiter[] = NOBODY

  constructor({ key, capacity, windowMs }: BucketName, nowMs: number) {
    this.key = key
    this.capacity = capacity
    this.windowMs = windowMs
    this.spanStartMs = nowMs
  }
}

interface Waiter {
  readonly onStoreError: OnStoreError
  resolve(result: Taken): void
}

/** One worker's leases. */
export class Leases {
  readonly #source: PermitSource
  #newer = new Map<string, Lease>()
  #older = new Map<string, Lease>()
  /** Those that hold permits. */
  readonly #holding = new Set<Lease>()
  readonly #sweeper: NodeJS.Timeout

  constructor(source: PermitSource) {
    this.#source = source
    this.#sweeper = setInterval(() => this.#sweep(performance.now()), SWEEP_MS)
    this.#sweeper.unref()
  }

  /** Permits held at present, of all buckets. */
  get held(): number {
    let held = 0
    for (const lease of this.#holding) held += lease.permits
    return held
  }

  /** Decides a take, or undefined: the bucket is cold and the store has to be asked about this one event. */
  take(name: BucketName, onStoreError: OnStoreError): Taken | undefined {
    const nowMs = performance.now()
    const lease = this.#find(name, nowMs)
    if (lease === undefined) return undefined
    lease.takes += 1
    if (lease.permits > 0 && nowMs < lease.endsMs) {
      if (lease.permits <= lease.batch / AHEAD && lease.mayAskAhead && !lease.isAsking) this.#askAhead(lease, nowMs)
      return this.#spend(lease)
    }
    if (nowMs < lease.refusedUntilMs) return refused(lease.refusedUntilMs - nowMs)
    if (nowMs - lease.spanStartMs > HOT_SPAN_MS) {
      lease.takes = 1
      lease.spanStartMs = nowMs
    }
    if (lease.takes < HOT_TAKES || lease.waiting.length >= MOST_WAITING) return undefined
    return new Promise<TakeResult>((resolve) => {
      if (lease.waiting === NOBODY) lease.waiting = []
      lease.waiting.push({ onStoreError, resolve })
      if (!lease.isAsking) this.#ask(lease, nowMs)
    })
  }

  /** Notes what the store said to a single take that this file left to it. */
  learn(name: BucketName, result: TakeResult): void {
    if (result.admitted || result.mode !== 'redis') return
    const nowMs = performance.now()
    const lease = this.#find(name, nowMs)
    if (lease !== undefined) lease.refusedUntilMs = nowMs + result.retryAfterMs
  }

  /** Gives everything back. Takes after it find only cold buckets. */
  close(): void {
    clearInterval(this.#sweeper)
    for (const lease of this.#holding) this.#giveBack(lease)
    this.#newer.clear()
    this.#older.clear()
  }

  /** Two limits of one key with different sizes are none: the later one is always asked for. */
  #find(name: BucketName, nowMs: number): Lease | undefined {
    let lease = this.#newer.get(name.key)
    if (lease === undefined) {
      lease = this.#older.get(name.key) ?? new Lease(name, nowMs)
      if (this.#newer.size >= GENERATION_ENTRIES) {
        for (const dropped of this.#older.values()) {
          if (!this.#newer.has(dropped.key)) this.#giveBack(dropped)
        }
        this.#older = this.#newer
        this.#newer = new Map()
      }
      this.#newer.set(name.key, lease)
    }
    return lease.capacity === name.capacity && lease.windowMs === name.windowMs ? lease : undefined
  }

  #spend(lease: Lease): TakeResult {
    lease.permits -= 1
    if (lease.permits === 0) this.#holding.delete(lease)
    return { admitted: true, remaining: lease.remaining + lease.permits, retryAfterMs: 0, mode: 'redis' }
  }

  #ask(lease: Lease, nowMs: number): void {
    this.#giveBack(lease)
    this.#call(lease, nowMs, lease.waiting.length)
  }

  /** The permits that are left are used meanwhile; whoever comes after the last of them waits for these. */
  #askAhead(lease: Lease, nowMs: number): void {
    lease.mayAskAhead = false
    this.#call(lease, nowMs, 0)
  }

  #call(lease: Lease, nowMs: number, need: number): void {
    if (lease.grantedMs > 0 && nowMs - lease.grantedMs < LEASE_MS / 2) {
      lease.batch = Math.min(LARGEST_BATCH, lease.batch * 2)
    }
    lease.isAsking = true
    this.#source.ask(lease, need, need + lease.batch, {
      grant: (grant) => {
        lease.isAsking = false
        this.#granted(lease, grant, need)
      },
      trouble: () => {
        lease.isAsking = false
        for (const waiter of lease.waiting.splice(0)) waiter.resolve(this.#source.without(lease, waiter.onStoreError))
      },
      // Those who waited for it were decided without: all of it is there for the next ones.
      late: (grant) => this.#hold(lease, grant),
    })
  }

  #granted(lease: Lease, grant: Grant, need: number): void {
    this.#hold(lease, grant)
    // The store admitted these when it answered, as it would have one by one; later ones only while the slot lasts.
    for (let served = 0; served < need && lease.permits > 0; served += 1) {
      lease.waiting.shift()?.resolve(this.#spend(lease))
    }
    const nowMs = performance.now()
    while (lease.waiting.length > 0 && lease.permits > 0 && nowMs < lease.endsMs) {
      lease.waiting.shift()?.resolve(this.#spend(lease))
    }
    if (grant.retryAfterMs > 0) {
      lease.refusedUntilMs = nowMs + grant.retryAfterMs
      for (const waiter of lease.waiting.splice(0)) waiter.resolve(refused(grant.retryAfterMs))
    }
    if (lease.waiting.length > 0) this.#ask(lease, nowMs)
  }

  #hold(lease: Lease, grant: Grant): void {
    const nowMs = performance.now()
    // what is left of the same slot is as good as what comes
    if (lease.slot !== grant.slot || nowMs >= lease.endsMs) this.#giveBack(lease)
    lease.mayAskAhead = grant.permits > 0
    lease.permits += grant.permits
    lease.remaining = grant.remaining
    lease.slot = grant.slot
    lease.grantedMs = nowMs
    lease.endsMs = Math.min(grant.slotEndsMs, nowMs + LEASE_MS)
    if (lease.permits > 0) this.#holding.add(lease)
  }

  #giveBack(lease: Lease): void {
    if (lease.permits === 0) return
    this.#holding.delete(lease)
    const { permits } = lease
    lease.permits = 0
    lease.batch = Math.max(FIRST_BATCH, Math.floor(lease.batch / 2))
    this.#source.giveBack(lease, lease.slot, permits)
  }

  #sweep(nowMs: number): void {
    for (const lease of this.#holding) {
      if (nowMs >= lease.endsMs) this.#giveBack(lease)
    }
  }
}

function refused(retryAfterMs: number): TakeResult {
  return { admitted: false, remaining: 0, retryAfterMs: Math.max(1, Math.ceil(retryAfterMs)), mode: 'redis' }
}
