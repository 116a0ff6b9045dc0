/**
 * The gateway's upstream connections: the native pool for plain HTTP, undici's for what it does not do (TLS).
 * Behind the same interface, so that nobody else asks which one runs.
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
  readonly #plain: NativePool
  readonly #secure: UndiciPool

  /** Throws as NativePool does. */
  constructor(options: UpstreamPoolsOptions) {
    this.#plain = new NativePool(options)
    this.#secure = new UndiciPool(options)
  }

  get connections(): ConnectionCounts {
    const [plain, secure] = [this.#plain.connections, this.#secure.connections]
    return {
      active: plain.active + secure.active,
      idle: plain.idle + secure.idle,
      pending: plain.pending + secure.pending,
    }
  }

  send(target: UpstreamTarget, request: UpstreamRequest, handler: UpstreamHandler): UpstreamLeg {
    const pool = target.protocol === 'https' ? this.#secure : this.#plain
    return pool.send(target, request, handler)
  }

  retain(targets: readonly UpstreamTarget[]): void {
    this.#plain.retain(targets)
    this.#secure.retain(targets)
  }

  async close(): Promise<void> {
    await Promise.all([this.#plain.close(), this.#secure.close()])
  }
}
