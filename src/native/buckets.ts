/** Rate-limit buckets in shared memory: one table per gateway, exact over all its worker processes. */
import { addon } from './addon.ts'

/** An open table of buckets. */
export type BucketsHandle = number

/** Facts about a table of buckets. */
export interface BucketsSummary {
  /** Buckets the table can hold. */
  readonly entries: number
  readonly bytes: number
  /** Buckets ever thrown out although they still held counts of their window. */
  readonly evictions: number
  /** Times a process died inside a critical section and the next one repaired the shard. */
  readonly repairs: number
}

/**
 * Creates the table (the primary does, before it forks). The file gets mode 0600; a file already there is replaced.
 * `entries` is rounded up to whole shards; 288 bytes each. Throws when the file cannot be made.
 */
export function createBuckets(path: string, entries: number): BucketsHandle {
  return addon().createBuckets(path, entries)
}

/** Opens a table that createBuckets made (workers do). Throws when the file is missing or not such a table. */
export function openBuckets(path: string): BucketsHandle {
  return addon().openBuckets(path)
}

/** Unmaps the table in this process; the file stays. */
export function closeBuckets(buckets: BucketsHandle): void {
  addon().closeBuckets(buckets)
}

/** Size, evictions and repairs of a table. */
export function bucketsSummary(buckets: BucketsHandle): BucketsSummary {
  return JSON.parse(addon().bucketsSummary(buckets)) as BucketsSummary
}

/**
 * Takes one event from a bucket (sliding window of 60 + 1 slots, traffic-policy.md §5.16). About 0.3 µs.
 *
 * @param key any length; hashed inside
 * @param capacity events per window, integer
 * @param windowMs window length in milliseconds, above 0
 * @returns `>= 0`: admitted, so many remain; `< 0`: refused, its negative is the milliseconds until one may succeed
 */
export function takeBucket(buckets: BucketsHandle, key: string, capacity: number, windowMs: number): number {
  return addon().takeBucket(buckets, key, capacity, windowMs)
}
