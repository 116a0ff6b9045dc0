/**
 * Buckets in Redis: exact over all gateways that use it. One script, one round trip, Redis's clock.
 *
 * While Redis is out of reach each limit's `onStoreError` decides (O-76): `local` counts in this gateway's own shared memory,
 * to the capacity divided by the last known number of gateways; `open` admits; `closed` refuses. No take waits longer than
 * 20 ms. After 5 failures within a second Redis is left alone but for a probe each 500 ms; both changes are logged
 * once.
 *
 * An answer that comes too late is thrown away: the event it counted was decided without it, so such a bucket holds
 * at most as many events too many as were on their way. When an outage begins or ends, counts do not move between
 * Redis and the gateways: within one window around that moment up to twice the capacity may pass.
 *
 * Takes of one bucket in one turn of the event loop are one call (takes-of-a-turn.ts). In `lease` mode hot buckets are taken from in batches (leases.ts): still never more than the capacity in any window.
 *
 * Memory in Redis: a key of 35 characters and a value of 20 to 380 bytes a bucket, gone when its window is over. Measured: 181
 * bytes in all for a client that came once (a million: 173 MiB), below 600 for one that fills every slot.
 */
import { hash, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { RedisClient, type RedisAnswer, type RedisClientOptions } from '../redis/client.ts'
import { loadRedisScript } from '../redis/script.ts'
import { Breaker } from './breaker.ts'
import { Deadlines, type Waiting } from './deadlines.ts'
import { decideWithoutStore } from './memory-store.ts'
import { Leases, type BucketName, type Grant, type PermitCallbacks } from './leases.ts'
import type { OnStoreError, RateLimitStore, Taken, TakeResult } from './store.ts'
import { TakesOfATurn } from './takes-of-a-turn.ts'

/** Longest wait for Redis (O-76). */
const DEFAULT_DEADLINE_MS = 20
const PROBE_MS = 500
const HEARTBEAT_MS = 5000
/** An outage is logged so much later than the last one at the earliest: part of a cluster may be away and come back often. */
const LOG_PAUSE_MS = 10_000
/** A gateway that was silent for so long is not counted any more. */
const GATEWAY_LIFE_MS = 15_000
/** Calls on their way; beyond, Redis counts as failing. */
const MOST_CALLS = 8192
const NO_FIT = 'an answer that does not fit its call'
/** Hashed part of a key, base64url: 132 bits. */
const HASH_LENGTH = 22
/** Hashed keys that are remembered, and the longest name of a bucket that is: below 3 MB in all. */
const MOST_REMEMBERED = 4096
const LONGEST_REMEMBERED = 512

const TAKE = loadRedisScript('./take-sliding-window-1.lua', import.meta.url)
const COUNT_GATEWAYS = loadRedisScript('./count-gateways-1.lua', import.meta.url)

/** Where state changes are logged. */
export interface StoreLogger {
  info(fields: Record<string, unknown>, message: string): void
  warn(fields: Record<string, unknown>, message: string): void
}

/** What a Redis store needs. */
export interface RedisStoreOptions {
  readonly redis: Omit<RedisClientOptions, 'scripts' | 'onReady' | 'onTrouble'>
  /** Counts for `local`: the gateway's shared buckets. Not closed by this store. */
  readonly local: RateLimitStore
  readonly logger: StoreLogger
  /** The same in all workers of a gateway; default: one of its own. */
  readonly gatewayId?: string
  /** Before every key; default `sallyport:`. Gateways that share limits share it. */
  readonly keyPrefix?: string
  /** Longest wait for Redis, milliseconds; default 20, which O-76 asks for. */
  readonly deadlineMs?: number
  /** `lease`: hot buckets are taken from in batches (leases.ts). Default `exact`: every take asks Redis. */
  readonly mode?: 'exact' | 'lease'
  /** Called when Redis is given up (false) or is asked again (true). */
  readonly onAvailable?: (isAvailable: boolean) => void
}

/** Buckets in Redis. */
export class RedisStore implements RateLimitStore {
  readonly #client: RedisClient
  readonly #options: RedisStoreOptions
  readonly #keyPrefix: string
  readonly #gatewayId: string
  /** Open until the first probe succeeded: before that nobody knows whether Redis is there. */
  readonly #breaker = new Breaker(true)
  readonly #deadlineMs: number
  readonly #deadlines: Deadlines
  readonly #leases: Leases | undefined
  readonly #takes: TakesOfATurn
  /** Keys in Redis of buckets that were asked for lately. */
  readonly #keys = new Map<string, string>()
  #callsOut = 0
  #gateways = 1
  #isProbing = false
  #isClosed = false
  #downSinceMs = performance.now()
  /** Whether the outage that is on was logged, and when the last one was. */
  #isLoggedDown = false
  #loggedDownMs = -Infinity
  #wasEverUp = false
  #timer: NodeJS.Timeout | undefined

  /** Begins to connect; throws RedisAddressError for an address that cannot be used. */
  constructor(options: RedisStoreOptions) {
    this.#options = options
    this.#keyPrefix = options.keyPrefix ?? 'sallyport:'
    this.#gatewayId = options.gatewayId ?? randomUUID()
    this.#deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS
    this.#deadlines = new Deadlines(this.#deadlineMs)
    this.#takes = new TakesOfATurn({
      one: ({ key, capacity, windowMs }, onStoreError) => this.#takeOne(key, capacity, windowMs, onStoreError),
      ask: (bucket, need, want, on) => this.#lease(bucket, need, want, on),
      without: ({ key, capacity, windowMs }, onStoreError) => this.#without(key, capacity, windowMs, onStoreError),
      together: (calls) => this.#client.together(calls),
    })
    this.#leases =
      options.mode === 'lease'
        ? new Leases({
            ask: (bucket, need, want, on) => this.#lease(bucket, need, want, on),
            giveBack: (bucket, slot, permits) => this.#giveBack(bucket, slot, permits),
            without: ({ key, capacity, windowMs }, onStoreError) =>
              this.#without(key, capacity, windowMs, onStoreError),
          })
        : undefined
    this.#client = new RedisClient({
      ...options.redis,
      scripts: [TAKE, COUNT_GATEWAYS],
      onReady: () => {
        if (this.#breaker.isOpen) void this.#probe()
      },
    })
    this.#schedule(PROBE_MS)
  }

  /** Whether Redis is asked at present. */
  get isAvailable(): boolean {
    return !this.#breaker.isOpen && !this.#isClosed
  }

  /** The last known number of gateways that share this Redis. */
  get gateways(): number {
    return this.#gateways
  }

  take(bucketKey: string, capacity: number, windowMs: number, onStoreError: OnStoreError): Taken {
    const leases = this.#leases
    const name = { key: bucketKey, capacity, windowMs }
    const held = leases?.take(name, onStoreError)
    if (held !== undefined) return held
    if (!this.isAvailable) return this.#without(bucketKey, capacity, windowMs, onStoreError)
    const taken = this.#takes.take(name, onStoreError)
    if (leases === undefined) return taken
    if (taken instanceof Promise) void taken.then((result) => leases.learn(name, result))
    return taken
  }

  #takeOne(bucketKey: string, capacity: number, windowMs: number, onStoreError: OnStoreError): Taken {
    if (!this.isAvailable) return this.#without(bucketKey, capacity, windowMs, onStoreError)
    return new Promise((resolve) => {
      this.#call([this.#bucket(bucketKey, windowMs), capacity, windowMs], {
        fits: (answer) => isAnswer(answer, capacity, windowMs),
        answered: (answer) => {
          const remaining = answer as number // isAnswer said so
          resolve(
            remaining >= 0
              ? { admitted: true, remaining, retryAfterMs: 0, mode: 'redis' }
              : { admitted: false, remaining: 0, retryAfterMs: -remaining, mode: 'redis' },
          )
        },
        trouble: () => resolve(this.#without(bucketKey, capacity, windowMs, onStoreError)),
      })
    })
  }

  /** Asks Redis for permits; `need` of them are waited for. */
  #lease({ key, capacity, windowMs }: BucketName, need: number, want: number, on: PermitCallbacks): void {
    if (!this.isAvailable) {
      on.trouble()
      return
    }
    const sentMs = performance.now()
    const grant = (answer: RedisAnswer): Grant => {
      const [permits, remaining, slot, slotLeftMicros, retryAfterMs] = answer as GrantAnswer // isGrant said so
      return { permits, remaining, slot, slotEndsMs: sentMs + slotLeftMicros / 1000, retryAfterMs }
    }
    this.#call([this.#bucket(key, windowMs), capacity, windowMs, need, want, 0, 0], {
      fits: (answer) => isGrant(answer, capacity, windowMs, want),
      answered: (answer) => on.grant(grant(answer)),
      trouble: on.trouble,
      late: (answer) => on.late(grant(answer)),
    })
  }

  #giveBack({ key, capacity, windowMs }: BucketName, slot: number, permits: number): void {
    if (!this.isAvailable) return
    this.#call([this.#bucket(key, windowMs), capacity, windowMs, 0, 0, slot, permits], {
      fits: (answer) => isGrant(answer, capacity, windowMs, 0),
      answered: () => undefined,
      trouble: () => undefined,
    })
  }

  /** One call of the script. `answered` or `trouble` is called once, `late` after `trouble` when an answer came all the same. */
  #call(
    [key, ...args]: [key: string, ...args: number[]],
    on: {
      fits(answer: RedisAnswer): boolean
      answered(answer: RedisAnswer): void
      trouble(): void
      late?(answer: RedisAnswer): void
    },
  ): void {
    const giveUp = (reason: string): void => {
      this.#failed(reason)
      on.trouble()
    }
    if (!this.#client.isReady || this.#callsOut >= MOST_CALLS) {
      giveUp(this.#client.isReady ? `${MOST_CALLS} calls are unanswered` : this.#client.trouble)
      return
    }
    const waiting: Waiting = {
      dueMs: 0,
      isDone: false,
      expire: () => giveUp(`no answer within ${this.#deadlineMs} ms`),
    }
    this.#callsOut += 1
    this.#deadlines.add(waiting)
    this.#client.runScript(TAKE, key, ...args).then(
      (answer) => {
        this.#callsOut -= 1
        const isLate = waiting.isDone
        waiting.isDone = true
        if (on.fits(answer)) {
          if (isLate) on.late?.(answer)
          else on.answered(answer)
          return
        }
        // It cannot be the answer to this call: who knows to whom the next ones belong.
        this.#client.reconnect(NO_FIT)
        if (!isLate) giveUp(NO_FIT)
      },
      (error: Error) => {
        this.#callsOut -= 1
        if (waiting.isDone) return
        waiting.isDone = true
        giveUp(error.message)
      },
    )
  }

  /** Gives permits back and closes the connection; calls still out are decided by their `onStoreError`. */
  async close(): Promise<void> {
    const hasPermits = this.isAvailable && (this.#leases?.held ?? 0) > 0
    this.#leases?.close()
    this.#isClosed = true
    clearTimeout(this.#timer)
    // what comes back is sent when this turn of the event loop ends, and no call waits longer
    if (hasPermits) await sleep(DEFAULT_DEADLINE_MS)
    this.#client.close()
  }

  /** Key of a bucket. Hashed: of one length, and nothing a client sends can choose a slot of a cluster or break a line. */
  #bucket(bucketKey: string, windowMs: number): string {
    const named = `${windowMs}\n${bucketKey}`
    let key = this.#keys.get(named)
    if (key !== undefined) return key
    key = `${this.#keyPrefix}rl:${hash('sha256', named, 'base64url').slice(0, HASH_LENGTH)}`
    if (named.length > LONGEST_REMEMBERED) return key
    if (this.#keys.size >= MOST_REMEMBERED) this.#keys.clear()
    this.#keys.set(named, key)
    return key
  }

  #without(bucketKey: string, capacity: number, windowMs: number, onStoreError: OnStoreError): Taken {
    if (onStoreError !== 'local') return decideWithoutStore(capacity, onStoreError)
    const share = capacity < 1 ? 0 : Math.max(1, Math.floor(capacity / this.#gateways))
    const taken = this.#options.local.take(bucketKey, share, windowMs, 'open')
    return taken instanceof Promise ? taken.then(asLocal) : asLocal(taken)
  }

  #failed(reason: string): void {
    // Calls cut off by our own close are no trouble of the store.
    if (this.#isClosed || !this.#breaker.fail(performance.now())) return
    this.#downSinceMs = performance.now()
    this.#options.onAvailable?.(false)
    this.#logDown(reason)
    this.#schedule(PROBE_MS)
  }

  #logDown(reason: string): void {
    const nowMs = performance.now()
    if (this.#isLoggedDown || nowMs - this.#loggedDownMs < LOG_PAUSE_MS) return
    this.#isLoggedDown = true
    this.#loggedDownMs = nowMs
    this.#options.logger.warn(
      { redis: this.#client.description, reason },
      'the rate-limit store cannot be used: on_store_error decides',
    )
  }

  #logUp(): void {
    this.#options.logger.info(
      {
        redis: this.#client.description,
        gateways: this.#gateways,
        down_ms: Math.round(performance.now() - this.#downSinceMs),
      },
      'the rate-limit store is in use',
    )
  }

  /** Heartbeat while Redis is asked, probe while it is not: the same script, and the next one by the outcome. */
  async #probe(): Promise<void> {
    if (this.#isProbing || this.#isClosed) return
    this.#isProbing = true
    clearTimeout(this.#timer)
    const reason = await this.#callInTime()
    this.#isProbing = false
    if (this.#isClosed) return
    if (reason === undefined) {
      if (this.#breaker.close()) {
        this.#options.onAvailable?.(true)
        if (this.#isLoggedDown || !this.#wasEverUp) this.#logUp()
        this.#wasEverUp = true
      }
      this.#isLoggedDown = false
    } else if (this.#breaker.isOpen) {
      this.#logDown(reason)
    } else {
      this.#failed(reason)
    }
    this.#schedule(this.#breaker.isOpen || reason !== undefined ? PROBE_MS : HEARTBEAT_MS)
  }

  /** Returns why Redis cannot be used, or undefined when it answered in time. */
  #callInTime(): Promise<string | undefined> {
    if (!this.#client.isReady) return Promise.resolve(this.#client.trouble)
    return new Promise((resolve) => {
      const waiting: Waiting = {
        dueMs: 0,
        isDone: false,
        expire: () => resolve(`no answer within ${this.#deadlineMs} ms`),
      }
      this.#deadlines.add(waiting)
      this.#client.runScript(COUNT_GATEWAYS, `${this.#keyPrefix}gateways`, this.#gatewayId, GATEWAY_LIFE_MS).then(
        (answer) => {
          if (waiting.isDone) return // too late: Redis is still slow
          waiting.isDone = true
          if (typeof answer === 'number' && Number.isSafeInteger(answer) && answer >= 1) {
            this.#gateways = answer
            resolve(undefined)
          } else {
            this.#client.reconnect(NO_FIT)
            resolve(NO_FIT)
          }
        },
        (error: Error) => {
          if (waiting.isDone) return
          waiting.isDone = true
          resolve(error.message)
        },
      )
    })
  }

  #schedule(delayMs: number): void {
    if (this.#isClosed) return
    clearTimeout(this.#timer)
    // Up to a tenth later: the workers of many gateways shall not probe in step.
    this.#timer = setTimeout(() => void this.#probe(), delayMs * (1 + Math.random() / 10))
    this.#timer.unref()
  }
}

function asLocal(taken: TakeResult): TakeResult {
  return taken.mode === 'memory' ? { ...taken, mode: 'local' } : taken
}

/** Permits, remaining, slot, microseconds until the slot ends, milliseconds until one more may succeed. */
type GrantAnswer = readonly [number, number, number, number, number]

function isGrant(answer: RedisAnswer, capacity: number, windowMs: number, want: number): answer is GrantAnswer {
  if (!Array.isArray(answer) || answer.length !== 5 || !answer.every(Number.isSafeInteger)) return false
  const [permits, remaining, , slotLeftMicros, retryAfterMs] = answer as unknown as GrantAnswer
  return (
    permits >= 0 &&
    permits <= want &&
    permits + remaining <= capacity &&
    slotLeftMicros >= 0 &&
    slotLeftMicros <= windowMs * 20 + 1 &&
    retryAfterMs >= 0 &&
    retryAfterMs <= windowMs * 1.02 + 100
  )
}

/** The script's answer lies between a refusal of a window and a little, and the capacity less the event taken. */
function isAnswer(answer: unknown, capacity: number, windowMs: number): answer is number {
  return (
    typeof answer === 'number' &&
    Number.isInteger(answer) &&
    answer < Math.max(1, capacity) &&
    answer >= -(windowMs * 1.02 + 100)
  )
}
