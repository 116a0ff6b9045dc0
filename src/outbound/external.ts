/**
 * Requests to hosts outside the gateway's own endpoints. The name is looked up once, every address is judged, and the
 * connection goes to an address that was judged: a name that answers otherwise the second time gains nothing. TLS is
 * always verified, by the name. Nothing is followed and nothing is repeated here.
 */
import { isIP } from 'node:net'
import type { UpstreamTarget } from '../listener/front-end.ts'
import { AddressBook, type Lookup } from '../upstream/address-book.ts'
import { UpstreamPools } from '../upstream/pools.ts'
import { targetKey } from '../upstream/target-key.ts'
import type { UpstreamHandler, UpstreamLeg, UpstreamPool } from '../upstream/upstream-pool.ts'
import { AnswerCollector, type OutboundAnswer, OutboundError } from './answer.ts'
import { isPublicAddress } from './public-address.ts'

export interface ExternalRequest {
  /** Absolute, http or https. */
  readonly url: URL
  /** Request line and lines as they shall arrive. */
  readonly head: string
  readonly body: Uint8Array
  readonly maxAnswerBytes: number
  /** Private and loopback addresses may be asked too. */
  readonly allowPrivate: boolean
}

/** Servers whose connections are kept; the least recently asked goes first. */
const MAX_SERVERS = 128
const BUFFER_BYTES = 256 * 1024
const TIMERS = { connectMs: 10_000, queueMs: 5_000, firstByteMs: 0, idleMs: 0, keepAliveMs: 15_000 }

/** Rejects when the signal comes: a resolver may take longer than anybody waits. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const give = (): void => reject(new OutboundError('timeout', 'no answer in time'))
    if (signal.aborted) give()
    else signal.addEventListener('abort', give, { once: true })
  })
}

export class ExternalRequests {
  readonly #addressBook: AddressBook
  readonly #servers = new Map<string, UpstreamTarget>()
  #pool: UpstreamPool | undefined

  /** `pool` and `lookup`: others than the network's. */
  constructor(options: { readonly pool?: UpstreamPool; readonly lookup?: Lookup } = {}) {
    const { pool, lookup } = options
    this.#pool = pool
    this.#addressBook = new AddressBook(lookup === undefined ? {} : { lookup })
  }

  /** Rejects with OutboundError; `signal` ends it with `timeout`. */
  async ask(request: ExternalRequest, signal: AbortSignal): Promise<OutboundAnswer> {
    const target = await Promise.race([this.resolve(request.url, request.allowPrivate, TIMERS), aborted(signal)])
    const collector = new AnswerCollector(request.maxAnswerBytes, target.host)
    const abort = (): void => collector.abort(new OutboundError('timeout', 'no answer in time'))
    signal.addEventListener('abort', abort, { once: true })
    try {
      collector.leg = this.send(target, request.head, request.body, collector)
      return await collector.answer
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  /** The server behind a url, at an address that may be asked. Rejects with OutboundError. */
  async resolve(url: URL, allowPrivate: boolean, timers: UpstreamTarget['timers']): Promise<UpstreamTarget> {
    const name = url.hostname.replace(/^\[|\]$/g, '')
    let addresses: readonly string[]
    try {
      addresses = await this.#addressBook.find(name)
    } catch {
      throw new OutboundError('failed', `${name} has no address`)
    }
    const address = addresses.find((it) => allowPrivate || isPublicAddress(it))
    if (address === undefined) {
      throw new OutboundError('refused', `${name} is in a private network, which is not asked`)
    }
    const protocol = url.protocol === 'https:' ? 'https' : 'http'
    const port = url.port === '' ? (protocol === 'https' ? 443 : 80) : Number(url.port)
    return this.#known({
      name: `${name}:${port}`,
      protocol,
      host: address,
      port,
      tls: protocol === 'https' ? { verify: true, ...(isIP(name) === 0 ? { serverName: name } : {}) } : undefined,
      timers,
      maxConnections: 64,
      maxQueued: 256,
    })
  }

  send(target: UpstreamTarget, head: string, body: Uint8Array, handler: UpstreamHandler): UpstreamLeg {
    this.#pool ??= new UpstreamPools({ bufferBytes: BUFFER_BYTES })
    return this.#pool.send(target, { head, bodyLength: body.length, body }, handler)
  }

  async close(): Promise<void> {
    await this.#pool?.close()
  }

  /** The same object for the same server; those not asked for long are let go. */
  #known(target: UpstreamTarget): UpstreamTarget {
    const key = `${targetKey(target)} ${JSON.stringify(target.timers)}`
    const known = this.#servers.get(key) ?? target
    this.#servers.delete(key)
    this.#servers.set(key, known)
    if (this.#servers.size > MAX_SERVERS) {
      const [oldest] = this.#servers.keys()
      this.#servers.delete(oldest!) // the map is not empty
      this.#pool?.retain([...this.#servers.values()])
    }
    return known
  }
}
