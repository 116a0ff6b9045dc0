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
 * Memory in Redis: a key of 35 characters and a value of 20 to 380 bytes a bucket, gone when its window is over. Measured: 181
 * bytes in all for a client that came once (a million: 173 MiB), below 600 for one that fills every slot.
 */
import { hash, randomUUID } from 'node:crypto'
import { RedisClient, type RedisClientOptions } from '../redis/client.ts'
import { loadRedisScript } from '../redis/script.ts'
import { Breaker } from './breaker.ts'
import { Deadlines, type Waiting } from './deadlines.ts'
import { decideWithoutStore } from './memory-store.ts'
import type { OnStoreError, RateLimitStore, TakeResult } from './store.ts'

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
/** Hashed part of a key, base64url: 132 bits. */
const HASH_LENGTH = 22

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

  take(
    bucketKey: string,
    capacity: number,
    windowMs: number,
    onStoreError: OnStoreError,
  ): TakeResult | Promise<TakeResult> {
    if (this.#breaker.isOpen || this.#isClosed) return this.#without(bucketKey, capacity, windowMs, onStoreError)
    if (!this.#client.isReady || this.#callsOut >= MOST_CALLS) {
      this.#failed(this.#client.isReady ? `${MOST_CALLS} calls are unanswered` : this.#client.trouble)
      return this.#without(bucketKey, capacity, windowMs, onStoreError)
    }
    return new Promise((resolve) => {
      const giveUp = (reason: string): void => {
        this.#failed(reason)
        resolve(this.#without(bucketKey, capacity, windowMs, onStoreError))
      }
      const waiting: Waiting = {
        dueMs: 0,
        isDone: false,
        expire: () => giveUp(`no answer within ${this.#deadlineMs} ms`),
      }
      this.#callsOut += 1
      this.#deadlines.add(waiting)
      this.#client.runScript(TAKE, this.#bucket(bucketKey, windowMs), capacity, windowMs).then(
        (answer) => {
          this.#callsOut -= 1
          if (waiting.isDone) return // too late: thrown away
          waiting.isDone = true
          if (!isAnswer(answer, capacity, windowMs)) {
            // It cannot be the answer to this call: who knows to whom the next ones belong.
            this.#client.reconnect('an answer that does not fit its call')
            giveUp('an answer that does not fit its call')
          } else if (answer >= 0) {
            resolve({ admitted: true, remaining: answer, retryAfterMs: 0, mode: 'redis' })
          } else {
            resolve({ admitted: false, remaining: 0, retryAfterMs: -answer, mode: 'redis' })
          }
        },
        (error: Error) => {
          this.#callsOut -= 1
          if (waiting.isDone) return
          waiting.isDone = true
          giveUp(error.message)
        },
      )
    })
  }

  /** Closes the connection; calls still out are decided by their `onStoreError`. */
  close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#client.close()
    return Promise.resolve()
  }

  /** Key of a bucket. Hashed: of one length, and nothing a client sends can choose a slot of a cluster or break a line. */
  #bucket(bucketKey: string, windowMs: number): string {
    return `${this.#keyPrefix}rl:${hash('sha256', `${windowMs}\n${bucketKey}`, 'base64url').slice(0, HASH_LENGTH)}`
  }

  #without(
    bucketKey: string,
    capacity: number,
    windowMs: number,
    onStoreError: OnStoreError,
  ): TakeResult | Promise<TakeResult> {
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
            this.#client.reconnect('an answer that does not fit its call')
            resolve('an answer that does not fit its call')
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

/** The script's answer lies between a refusal of a window and a little, and the capacity less the event taken. */
function isAnswer(answer: unknown, capacity: number, windowMs: number): answer is number {
  return (
    typeof answer === 'number' &&
    Number.isInteger(answer) &&
    answer < Math.max(1, capacity) &&
    answer >= -(windowMs * 1.02 + 100)
  )
}
