/**
 * Copies of what providers publish, fetched when first needed: one fetch at a time for each, a growing pause after
 * failures, the old copy while a new one cannot be had. Source: threats.md T-56.
 */
const FIRST_RETRY_MS = 1000
const MAX_RETRY_MS = 60_000

interface Entry<T> {
  copy: { readonly value: T; readonly fetchedAtMs: number } | undefined
  inFlight: Promise<T> | undefined
  failures: number
  notBeforeMs: number
  lastError: unknown
}

export class RemoteCopies<T> {
  readonly #maxEntries: number
  readonly #freshMs: number
  readonly #entries = new Map<string, Entry<T>>()

  /** A copy is used without question for `freshMs`. Beyond `maxEntries` the oldest is forgotten. */
  constructor(maxEntries: number, freshMs: number) {
    this.#maxEntries = maxEntries
    this.#freshMs = freshMs
  }

  /** `staleMs`: how much longer an old copy serves while no new one can be had. Rejects with what `fetch` rejects with. */
  async get(key: string, staleMs: number, fetch: () => Promise<T>): Promise<T> {
    const entry = this.#entry(key)
    const { copy } = entry
    const nowMs = performance.now()
    const ageMs = copy === undefined ? Infinity : nowMs - copy.fetchedAtMs
    if (copy !== undefined && ageMs < this.#freshMs) return copy.value
    const mayFetch = entry.inFlight !== undefined || nowMs >= entry.notBeforeMs
    const fetched = mayFetch ? (entry.inFlight ??= fetchInto(entry, fetch)) : undefined
    if (copy !== undefined && ageMs < this.#freshMs + staleMs) {
      // the old copy serves; whoever comes next finds the new one, or its failure noted
      fetched?.catch(() => undefined)
      return copy.value
    }
    if (fetched === undefined) throw entry.lastError
    return await fetched
  }

  #entry(key: string): Entry<T> {
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      entry = { copy: undefined, inFlight: undefined, failures: 0, notBeforeMs: -Infinity, lastError: undefined }
      this.#entries.set(key, entry)
      if (this.#entries.size > this.#maxEntries) this.#entries.delete(this.#entries.keys().next().value!) // not empty
    }
    return entry
  }
}

async function fetchInto<T>(entry: Entry<T>, fetch: () => Promise<T>): Promise<T> {
  try {
    const value = await fetch()
    entry.copy = { value, fetchedAtMs: performance.now() }
    entry.failures = 0
    return value
  } catch (error) {
    entry.lastError = error
    entry.notBeforeMs = performance.now() + Math.min(FIRST_RETRY_MS * 2 ** entry.failures, MAX_RETRY_MS)
    entry.failures += 1
    throw error
  } finally {
    entry.inFlight = undefined
  }
}
