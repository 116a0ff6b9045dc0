/**
 * Buckets of one gateway in shared memory, exact over all its workers; answers without waiting. Also what a gateway falls
 * back on while Redis is out of reach (`local`, O-76). The counting itself is native/buckets.
 */
import {
  bucketsSummary,
  closeBuckets,
  createBuckets,
  openBuckets,
  takeBucket,
  type BucketsHandle,
  type BucketsSummary,
} from '../native/buckets.ts'
import type { OnStoreError, RateLimitStore, TakeResult } from './store.ts'

/** Pause that a client is told when nobody can say when the store is back. */
export const STORE_DOWN_RETRY_MS = 1000

/** Buckets in a file that all workers of a gateway map. */
export class MemoryStore implements RateLimitStore {
  readonly #buckets: BucketsHandle
  #isClosed = false

  private constructor(buckets: BucketsHandle) {
    this.#buckets = buckets
  }

  /**
   * Makes the table: the primary does, once, before it forks. 288 bytes an entry are reserved (65,536 entries: 18 MiB). When
   * more keys are live than fit, the one used longest ago starts anew. Throws when the file cannot be made.
   */
  static create(path: string, entries: number): MemoryStore {
    return new MemoryStore(createBuckets(path, entries))
  }

  /** Opens the primary's table: workers do. Throws when it is not there. */
  static open(path: string): MemoryStore {
    return new MemoryStore(openBuckets(path))
  }

  /** Never waits. Only a worker that was stopped inside the native part can make it fail; then `onStoreError` decides. */
  take(bucketKey: string, capacity: number, windowMs: number, onStoreError: OnStoreError): TakeResult {
    if (this.#isClosed) return decideWithoutStore(capacity, onStoreError)
    let answer: number
    try {
      answer = takeBucket(this.#buckets, bucketKey, capacity, windowMs)
    } catch {
      // The shard stays locked. There is no second place to count in: `local` admits, as `open` does.
      return decideWithoutStore(capacity, onStoreError)
    }
    return answer >= 0
      ? { admitted: true, remaining: answer, retryAfterMs: 0, mode: 'memory' }
      : { admitted: false, remaining: 0, retryAfterMs: -answer, mode: 'memory' }
  }

  /** Size of the table, evictions, repairs after killed workers; for metrics. */
  summary(): BucketsSummary {
    return bucketsSummary(this.#buckets)
  }

  /** Unmaps the table; the file stays for the other workers. */
  close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true
      closeBuckets(this.#buckets)
    }
    return Promise.resolve()
  }
}

/** What `open` and `closed` answer (O-76); `local` where there is nothing local to count in admits. */
export function decideWithoutStore(capacity: number, onStoreError: OnStoreError): TakeResult {
  return onStoreError === 'closed'
    ? { admitted: false, remaining: 0, retryAfterMs: STORE_DOWN_RETRY_MS, mode: 'closed' }
    : { admitted: true, remaining: Math.max(0, capacity - 1), retryAfterMs: 0, mode: 'open' }
}
