/**
 * Takes of one bucket that come within one turn of the event loop, asked for by one call: each gets what it would have got by
 * itself, in its order.
 *
 * Source: traffic-policy.md §5.16 (the limit stays exact); T-60.
 */
import type { BucketName, Grant, PermitCallbacks } from './leases.ts'
import type { OnStoreError, Taken, TakeResult } from './store.ts'

/** What such takes need of a store; see PermitSource. */
export interface TurnSource {
  /** One event. */
  one(bucket: BucketName, onStoreError: OnStoreError): Taken
  ask(bucket: BucketName, need: number, want: number, on: PermitCallbacks): void
  without(bucket: BucketName, onStoreError: OnStoreError): Taken
  /** Runs what makes the calls of a turn; they leave together. */
  together(calls: () => void): void
}

interface Take {
  readonly onStoreError: OnStoreError
  readonly resolve: (result: Taken) => void
}

interface Bucket {
  readonly name: BucketName
  readonly takes: Take[]
}

export class TakesOfATurn {
  readonly #source: TurnSource
  #buckets = new Map<string, Bucket>()
  readonly #run = (): void => {
    const buckets = this.#buckets
    this.#buckets = new Map()
    this.#source.together(() => {
      for (const bucket of buckets.values()) this.#ask(bucket)
    })
  }

  constructor(source: TurnSource) {
    this.#source = source
  }

  take(name: BucketName, onStoreError: OnStoreError): Taken {
    const bucket = this.#buckets.get(name.key)
    // two limits of one key with different sizes do not belong together
    if (bucket !== undefined && (bucket.name.capacity !== name.capacity || bucket.name.windowMs !== name.windowMs)) {
      return this.#source.one(name, onStoreError)
    }
    return new Promise<TakeResult>((resolve) => {
      const take = { onStoreError, resolve }
      if (bucket !== undefined) {
        bucket.takes.push(take)
        return
      }
      if (this.#buckets.size === 0) setImmediate(this.#run)
      this.#buckets.set(name.key, { name, takes: [take] })
    })
  }

  #ask({ name, takes }: Bucket): void {
    const [first] = takes
    if (takes.length === 1 && first !== undefined) {
      first.resolve(this.#source.one(name, first.onStoreError))
      return
    }
    this.#source.ask(name, takes.length, takes.length, {
      grant: (grant) => share(takes, grant),
      trouble: () => {
        for (const { onStoreError, resolve } of takes) resolve(this.#source.without(name, onStoreError))
      },
      // they were decided without it, and count
      late: () => undefined,
    })
  }
}

/** The first ones are admitted, as many as there are permits. */
function share(takes: readonly Take[], { permits, remaining, retryAfterMs }: Grant): void {
  for (const [index, { resolve }] of takes.entries()) {
    resolve(
      index < permits
        ? { admitted: true, remaining: remaining + permits - 1 - index, retryAfterMs: 0, mode: 'redis' }
        : { admitted: false, remaining: 0, retryAfterMs: Math.max(1, retryAfterMs), mode: 'redis' },
    )
  }
}
