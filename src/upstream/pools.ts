/**
 * The gateway's upstream connections: the native pool, and undici's for the servers whose TLS is not for it. Behind the
 * same interface, so that nobody else asks which one runs.
 */
import type { UpstreamTarget } from '../listener/front-end.ts'
import type { AddressBook } from './address-book.ts'
import { NativePool } from './native-pool.ts'
import { UndiciPool } from './pool.ts'
import type { ConnectionCounts, UpstreamHandler, UpstreamLeg, UpstreamPool, UpstreamRequest } from './upstream-pool.ts'

export interface UpstreamPoolsOptions {
  /** Request body bytes that may wait in memory per request (H-38). */
  readonly bufferBytes: number
  /** Where the addresses of names are kept. */
  readonly addressBook?: AddressBook
}

export class UpstreamPools implements UpstreamPool {
  readonly #native: NativePool
  readonly #undici: UndiciPool

  /** Throws as NativePool does. */
  constructor(options: UpstreamPoolsOptions) {
    this.#undici = new UndiciPool(options)
    this.#native = new NativePool({ ...options, other: this.#undici })
  }

  get connections(): ConnectionCounts {
    const [first, second] = [this.#native.connections, this.#undici.connections]
    return {
      active: first.active + second.active,
      idle: first.idle + second.idle,
      pending: first.pending + second.pending,
    }
  }

  send(target: UpstreamTarget, request: UpstreamRequest, handler: UpstreamHandler): UpstreamLeg {
    return this.#native.send(target, request, handler)
  }

  retain(targets: readonly UpstreamTarget[]): void {
    this.#native.retain(targets)
    this.#undici.retain(targets)
  }

  async close(): Promise<void> {
    await Promise.all([this.#native.close(), this.#undici.close()])
  }
}
