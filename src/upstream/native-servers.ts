/** The servers of a native pool: each is told of addresses, limits and timers when they are news, and taken back when nobody uses it. */
import type { UpstreamTarget } from '../listener/front-end.ts'
import type { UpstreamTargetHandle, UpstreamTargetSettings } from '../native/upstream-pool.ts'
import type { AddressBook } from './address-book.ts'
import { defaultAuthorities } from './authorities.ts'
import { targetKey } from './target-key.ts'

/** Where a pool's targets are kept: the upstream pool's own, or the front end's. */
export interface NativeTargetCalls {
  add(settings: UpstreamTargetSettings): UpstreamTargetHandle
  change(handle: UpstreamTargetHandle, settings: UpstreamTargetSettings): void
  retire(handle: UpstreamTargetHandle): void
  /** For a new one: TLS, as `secureUpstreamTarget` has it. */
  secure(handle: UpstreamTargetHandle, authorities: string | null, name: string, isHttp2: boolean): boolean
  /** For a new one. */
  speakHttp2(handle: UpstreamTargetHandle): void
}

/** Why a server that `isPossible` denies fails. */
export const NO_VERIFYING = 'no verifying by this name, or against these authorities'

export class NativeServers {
  readonly #calls: NativeTargetCalls
  readonly #addressBook: AddressBook
  readonly #servers = new Map<string, NativeServer>()
  readonly #serverOf = new WeakMap<UpstreamTarget, NativeServer>()

  constructor(calls: NativeTargetCalls, addressBook: AddressBook) {
    this.#calls = calls
    this.#addressBook = addressBook
  }

  /** The server that a target stands for; made when there is none. */
  of(target: UpstreamTarget): NativeServer {
    let server = this.#serverOf.get(target)
    if (server !== undefined && !server.isRetired) return server
    const key = targetKey(target)
    server = this.#servers.get(key)
    if (server === undefined) {
      server = new NativeServer(target)
      this.#servers.set(key, server)
    }
    this.#serverOf.set(target, server)
    return server
  }

  /** Where it is to be found: known, or looked up. */
  addresses(server: NativeServer, target: UpstreamTarget): readonly string[] | Promise<readonly string[]> {
    return server.isLiteral ? server.addresses : this.#addressBook.find(target.host)
  }

  /** Its handle, with everything told that is news. */
  settle(server: NativeServer, target: UpstreamTarget, addresses: readonly string[]): UpstreamTargetHandle {
    server.settle(this.#calls, target, addresses)
    return server.handle
  }

  /** Takes all but these back: no new requests go there. */
  retain(targets: readonly UpstreamTarget[]): void {
    const kept = new Set(targets.map(targetKey))
    for (const [key, server] of this.#servers) {
      if (kept.has(key)) continue
      this.#servers.delete(key)
      server.isRetired = true
      if (server.handle !== 0) this.#calls.retire(server.handle)
    }
  }

  clear(): void {
    this.#servers.clear()
  }
}

/** A server with its connections: what the native pool calls a target. */
export class NativeServer {
  readonly isLiteral: boolean
  addresses: readonly string[]
  handle: UpstreamTargetHandle = 0
  isRetired = false
  /** False: its TLS is not for the native pool. Known once it has a handle. */
  isPossible = true
  /** `performance.now()` until which its requests go to another pool. */
  leftUntilMs = 0
  #target: UpstreamTarget

  constructor(target: UpstreamTarget) {
    this.#target = target
    const found = LITERAL.test(target.host)
    this.isLiteral = found || target.addresses !== undefined
    this.addresses = target.addresses ?? (found ? [target.host] : [])
  }

  isLeft(): boolean {
    return this.leftUntilMs !== 0 && performance.now() < this.leftUntilMs
  }

  /** Tells the native pool of addresses, limits and timers where they are news. */
  settle(calls: NativeTargetCalls, target: UpstreamTarget, addresses: readonly string[]): void {
    if (this.handle !== 0 && target === this.#target && addresses === this.addresses) return
    this.#target = target
    this.addresses = addresses
    const { timers, port, maxConnections, maxQueued } = target
    const settings: UpstreamTargetSettings = {
      addresses: addresses
        .map((address) => (address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`))
        .join(),
      ...timers,
      maxConnections,
      maxQueued,
    }
    if (this.handle === 0) {
      this.handle = calls.add(settings)
      if (target.http2 === true) calls.speakHttp2(this.handle)
      if (target.protocol === 'https') this.isPossible = this.#secure(calls, target)
    } else {
      calls.change(this.handle, settings)
    }
  }

  /** What is asked of the server's certificate is part of the target's key: it does not change. */
  #secure(calls: NativeTargetCalls, { host, tls, http2 }: UpstreamTarget): boolean {
    const isVerified = tls?.verify ?? true
    const authorities = isVerified ? (tls?.ca ?? defaultAuthorities()) : null
    if (authorities === undefined) return false
    return calls.secure(this.handle, authorities, tls?.serverName ?? host, http2 === true)
  }
}

/** IPv4, or anything with a colon: no name has one. */
const LITERAL = /^(?:\d{1,3}(?:\.\d{1,3}){3}|.*:.*)$/
