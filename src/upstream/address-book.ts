/**
 * Addresses of upstream host names: looked up by the system, kept for a while, refreshed beside the traffic.
 *
 * The system's lookup tells no TTL. For `FRESH_MS` an answer is used as it is; for `STALE_MS` it is used once more while
 * a new one is fetched; after that a request waits for the lookup. When a lookup fails, what is known stays in use.
 */
import { lookup as systemLookup } from 'node:dns'
import { isIP } from 'node:net'

const FRESH_MS = 10_000
const STALE_MS = 60_000
/** Names beyond it push the oldest out. */
const MAX_NAMES = 1_024

/** Calls back with addresses in the order to be tried, or an error. */
export type Lookup = (name: string, done: (error: Error | null, addresses: readonly string[]) => void) => void

interface Entry {
  addresses: readonly string[]
  /** `nowMs` of the answer. */
  answeredAtMs: number
  /** The lookup under way. */
  asking: Promise<readonly string[]> | undefined
}

export interface AddressBookOptions {
  readonly lookup?: Lookup
  /** Monotonic milliseconds. */
  readonly nowMs?: () => number
}

export class AddressBook {
  readonly #entries = new Map<string, Entry>()
  readonly #lookup: Lookup
  readonly #nowMs: () => number

  constructor(options: AddressBookOptions = {}) {
    this.#lookup = options.lookup ?? lookupAll
    this.#nowMs = options.nowMs ?? (() => performance.now())
  }

  /** Addresses of a host name at once when they are known, else a promise; it rejects when the name has none. */
  find(host: string): readonly string[] | Promise<readonly string[]> {
    if (isIP(host) !== 0) return [host]
    const entry = this.#entries.get(host)
    if (entry === undefined) return this.#ask(host, { addresses: [], answeredAtMs: 0, asking: undefined })
    const ageMs = this.#nowMs() - entry.answeredAtMs
    if (entry.addresses.length === 0 || ageMs >= STALE_MS) return entry.asking ?? this.#ask(host, entry)
    // the answer that is used now stays in use when this one fails
    if (ageMs >= FRESH_MS && entry.asking === undefined) this.#ask(host, entry).catch(() => {})
    return entry.addresses
  }

  #ask(host: string, entry: Entry): Promise<readonly string[]> {
    if (!this.#entries.has(host)) {
      for (const oldest of this.#entries.keys()) {
        if (this.#entries.size < MAX_NAMES) break
        this.#entries.delete(oldest)
      }
      this.#entries.set(host, entry)
    }
    entry.asking = new Promise((resolve, reject) => {
      this.#lookup(host, (error, addresses) => {
        entry.asking = undefined
        if (error === null && addresses.length > 0) {
          entry.addresses = addresses
          entry.answeredAtMs = this.#nowMs()
        }
        if (entry.addresses.length > 0) {
          resolve(entry.addresses)
          return
        }
        if (this.#entries.get(host) === entry) this.#entries.delete(host)
        reject(error ?? new Error(`${host} has no address`))
      })
    })
    return entry.asking
  }
}

function lookupAll(name: string, done: (error: Error | null, addresses: readonly string[]) => void): void {
  systemLookup(name, { all: true }, (error, addresses) => {
    done(error, error === null ? addresses.map(({ address }) => address) : [])
  })
}
