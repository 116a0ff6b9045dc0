/**
 * Addresses of upstream host names: looked up, kept for as long as their answer says, refreshed beside the traffic.
 *
 * Without servers of one's own the system decides which addresses a name has (hosts file, search list and all); it tells no
 * TTL, so the name servers are asked for that, and where they say nothing `refreshMs` holds. With servers only they are
 * asked. When a lookup fails, what is known stays in use (F-09). A name that nobody watches is looked up when it is asked
 * for; what is older than `STALE_MS` is then waited for.
 *
 * Source: operations.md O-26; threats.md F-09.
 */
import { lookup as systemLookup, type RecordWithTtl, Resolver } from 'node:dns'
import { isIP } from 'node:net'

const STALE_MS = 60_000
/** Names beyond it push the oldest out. */
const MAX_NAMES = 1_024
/** Addresses of one name that are used. */
const MAX_ADDRESSES = 64
/** How soon a lookup that failed is tried again. */
const FAILED_RETRY_MS = 1_000
/** How often watched names are looked at. */
const WATCH_MS = 250

export interface Answer {
  /** In the order to be tried. */
  readonly addresses: readonly string[]
  /** Undefined: nobody says how long it holds. */
  readonly ttlMs: number | undefined
}

/** Calls back once, with an answer or an error. */
export type Lookup = (name: string, done: (error: Error | null, answer: Answer | undefined) => void) => void

interface Entry {
  addresses: readonly string[]
  /** `nowMs` of the answer, and until when it holds. */
  answeredAtMs: number
  freshUntilMs: number
  /** The lookup under way. */
  asking: Promise<readonly string[]> | undefined
}

export interface DnsOptions {
  /** `ip` or `ip:port`; none: the system. */
  readonly servers?: readonly string[]
  /** How long an answer holds that names no TTL. */
  readonly refreshMs?: number
  /** Bounds of a TTL. */
  readonly minTtlMs?: number
  readonly maxTtlMs?: number
}

export interface AddressBookOptions extends DnsOptions {
  readonly lookup?: Lookup
  /** Monotonic milliseconds. */
  readonly nowMs?: () => number
  /** A watched name stands for other addresses. */
  readonly onChange?: (name: string, addresses: readonly string[]) => void
  /** A watched name cannot be looked up, told once per outage. */
  readonly onFailure?: (name: string, error: Error) => void
}

export class AddressBook {
  readonly #entries = new Map<string, Entry>()
  #options: Required<Omit<AddressBookOptions, 'servers'>>
  #servers = ''
  readonly #failing = new Set<string>()
  #watched: ReadonlySet<string> = new Set()
  #watcher: NodeJS.Timeout | undefined
  #version = 0

  constructor(options: AddressBookOptions = {}) {
    const { servers = [], ...others } = options
    this.#servers = servers.join()
    this.#options = {
      refreshMs: 10_000,
      minTtlMs: 1_000,
      maxTtlMs: 3_600_000,
      lookup: servers.length === 0 ? lookupBySystem : lookupAt(servers),
      nowMs: () => performance.now(),
      onChange: () => undefined,
      onFailure: () => undefined,
      ...others,
    }
  }

  /** Servers and times of another configuration; what is known stays. */
  configure({ servers, refreshMs, minTtlMs, maxTtlMs }: Required<DnsOptions>): void {
    const same = servers.join() === this.#servers
    this.#servers = servers.join()
    const lookup = same ? this.#options.lookup : servers.length === 0 ? lookupBySystem : lookupAt(servers)
    this.#options = { ...this.#options, lookup, refreshMs, minTtlMs, maxTtlMs }
  }

  /** Changes when a name stands for other addresses. */
  get version(): number {
    return this.#version
  }

  /** What is known of a name, however old. */
  known(name: string): readonly string[] | undefined {
    const addresses = this.#entries.get(name)?.addresses
    return addresses === undefined || addresses.length === 0 ? undefined : addresses
  }

  /** Keeps these names up to date from now on, and no others. Resolves when each was looked up once, or failed. */
  async watch(names: Iterable<string>): Promise<void> {
    this.#watched = new Set([...names].filter((name) => isIP(name) === 0))
    if (this.#watched.size === 0) this.close()
    else this.#watcher ??= setInterval(() => this.#refreshWatched(), WATCH_MS).unref()
    await Promise.allSettled([...this.#watched].map((name) => this.find(name)))
  }

  close(): void {
    clearInterval(this.#watcher)
    this.#watcher = undefined
  }

  /** Addresses of a host name at once when they are known, else a promise; it rejects when the name has none. */
  find(host: string): readonly string[] | Promise<readonly string[]> {
    if (isIP(host) !== 0) return [host]
    const entry = this.#entries.get(host)
    if (entry === undefined) {
      return this.#ask(host, { addresses: [], answeredAtMs: 0, freshUntilMs: 0, asking: undefined })
    }
    const nowMs = this.#options.nowMs()
    const isStale = nowMs - entry.answeredAtMs >= STALE_MS && nowMs >= entry.freshUntilMs && !this.#watched.has(host)
    if (entry.addresses.length === 0 || isStale) return entry.asking ?? this.#ask(host, entry)
    // the answer that is used now stays in use when this one fails
    if (nowMs >= entry.freshUntilMs && entry.asking === undefined) this.#ask(host, entry).catch(() => {})
    return entry.addresses
  }

  #refreshWatched(): void {
    const nowMs = this.#options.nowMs()
    for (const name of this.#watched) {
      const entry = this.#entries.get(name)
      if (entry === undefined) void Promise.resolve(this.find(name)).catch(() => {})
      else if (nowMs >= entry.freshUntilMs && entry.asking === undefined) this.#ask(name, entry).catch(() => {})
    }
  }

  #ask(host: string, entry: Entry): Promise<readonly string[]> {
    if (!this.#entries.has(host)) {
      for (const oldest of this.#entries.keys()) {
        if (this.#entries.size < MAX_NAMES) break
        this.#entries.delete(oldest)
      }
      this.#entries.set(host, entry)
    }
    const { lookup, refreshMs, minTtlMs, maxTtlMs, nowMs, onFailure } = this.#options
    entry.asking = new Promise((resolve, reject) => {
      lookup(host, (error, answer) => {
        entry.asking = undefined
        const now = nowMs()
        if (error === null && answer !== undefined && answer.addresses.length > 0) {
          this.#failing.delete(host)
          const ttlMs = answer.ttlMs ?? refreshMs
          entry.answeredAtMs = now
          entry.freshUntilMs = now + Math.max(minTtlMs, Math.min(maxTtlMs, ttlMs))
          this.#learn(host, entry, answer.addresses.slice(0, MAX_ADDRESSES))
          resolve(entry.addresses)
          return
        }
        const problem = error ?? new Error(`${host} has no address`)
        entry.freshUntilMs = now + FAILED_RETRY_MS
        if (this.#watched.has(host) && !this.#failing.has(host)) {
          this.#failing.add(host)
          onFailure(host, problem)
        }
        if (entry.addresses.length > 0) {
          resolve(entry.addresses)
          return
        }
        // a watched name keeps its entry, so that it is not asked for all the time
        if (this.#entries.get(host) === entry && !this.#watched.has(host)) this.#entries.delete(host)
        reject(problem)
      })
    })
    return entry.asking
  }

  /** Servers may turn their answers round: the same addresses in another order are no news. */
  #learn(host: string, entry: Entry, addresses: readonly string[]): void {
    const before = entry.addresses
    const isSame = before.length === addresses.length && addresses.every((address) => before.includes(address))
    if (isSame) return
    entry.addresses = addresses
    this.#version += 1
    if (this.#watched.has(host)) this.#options.onChange(host, addresses)
  }
}

/** The system's addresses; the name servers' TTL, when they have something to say in time. */
function lookupBySystem(name: string, done: (error: Error | null, answer: Answer | undefined) => void): void {
  systemLookup(name, { all: true }, (error, found) => {
    if (error !== null) {
      done(error, undefined)
      return
    }
    const addresses = found.map(({ address }) => address)
    // names without a dot come from the hosts file or a search list more often than not
    if (!name.includes('.')) {
      done(null, { addresses, ttlMs: undefined })
      return
    }
    askServers(new Resolver({ timeout: 1000, tries: 1 }), name, (failure, answer) => {
      const isTheirs = failure === null && answer!.addresses.some((address) => addresses.includes(address))
      done(null, { addresses, ttlMs: isTheirs ? answer!.ttlMs : undefined })
    })
  })
}

/** Asks these servers and nobody else. */
function lookupAt(servers: readonly string[]): Lookup {
  const resolver = new Resolver({ timeout: 1000, tries: 2 })
  resolver.setServers(servers)
  return (name, done) => askServers(resolver, name, done)
}

/** IPv4 and IPv6; the shortest TTL holds for all. An error only when neither has an answer. */
function askServers(
  resolver: Resolver,
  name: string,
  done: (error: Error | null, answer: Answer | undefined) => void,
): void {
  const records: RecordWithTtl[][] = [[], []]
  let open = 2
  let problem: Error | null = null
  const settle = (index: number) => (error: Error | null, found: RecordWithTtl[]) => {
    if (error === null) records[index] = found
    else problem ??= error
    open -= 1
    if (open > 0) return
    const all = records.flat()
    if (all.length === 0) {
      done(problem ?? new Error(`${name} has no address`), undefined)
      return
    }
    done(null, {
      addresses: all.map(({ address }) => address),
      ttlMs: Math.min(...all.map(({ ttl }) => ttl)) * 1000,
    })
  }
  resolver.resolve4(name, { ttl: true }, settle(0))
  resolver.resolve6(name, { ttl: true }, settle(1))
}
