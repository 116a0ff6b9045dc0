/**
 * What a rate limit asks of a store. Two stores answer it alike: memory-store.ts (one gateway, all its workers) and
 * redis-store.ts (all gateways of one Redis). Source: traffic-policy.md §5.16, O-76.
 */

/** The answer to one event. */
export interface TakeResult {
  readonly admitted: boolean
  /** Events that may still be admitted now; 0 when refused. */
  readonly remaining: number
  /** Milliseconds until an event may succeed; 0 when admitted. */
  readonly retryAfterMs: number
  /** Who decided: a store, or what O-76 puts in its place while Redis is out of reach (`local`, `open`, `closed`). */
  readonly mode: 'memory' | 'redis' | 'local' | 'open' | 'closed'
}

/** What a limit does while its store is out of reach (O-76). */
export type OnStoreError = 'local' | 'open' | 'closed'

/** A result that is there, or comes. */
export type Taken = TakeResult | Promise<TakeResult>

/** A place that counts events in buckets. */
export interface RateLimitStore {
  /**
   * Takes one event from the bucket, if the window allows it. Synchronous where the store needs no waiting.
   * `bucketKey` carries its scope and may have any length: it is hashed inside. `windowMs` > 0. Never throws or rejects for
   * trouble of the store: `onStoreError` decides, and `mode` says so.
   */
  take(bucketKey: string, capacity: number, windowMs: number, onStoreError: OnStoreError): Taken
  /** Lets go of connections, timers and memory. Takes after it are answered by `onStoreError`. */
  close(): Promise<void>
}
