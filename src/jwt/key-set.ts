/**
 * The keys of one URL over time: fetched in the background, refreshed, rotated, kept while the key service is down.
 * Source: threats.md T-56, T-57; operations.md O-29; jwt-attacks jwks-scenarios; traffic-policy.md §5.10.
 *
 * - One fetch in flight per URL. `Cache-Control` is not looked at: the refresh interval is the operator's.
 * - A `kid` that the set does not know triggers one fetch per cool-down. A bad signature under a known `kid` triggers
 *   none: a key that was replaced under its old `kid` counts from the next refresh on.
 * - After a failed fetch the last good set stays in use until it is `staleMs` old; then nothing is accepted.
 * - All waiting, cooling down and ageing is by the monotonic clock; only the copy on disk carries a date.
 */
import { performance } from 'node:perf_hooks'
import { fetchKeySet, KeySetFetchError, type AllowHttp } from './key-set-fetch.ts'
import { readKeySet, writeKeySet } from './key-set-file.ts'
import { KeyIndex } from './key-index.ts'
import { importKeySet, KeySetError, type ImportedKeySet, type VerificationKey } from './jwk.ts'
import { parseStrictJson } from './strict-json.ts'

/** Both clocks, so that tests can turn them. */
export interface Clock {
  /** Milliseconds since the epoch: what tokens are measured by. */
  wallMs(): number
  /** Milliseconds that never go back: what waiting is measured by. */
  monotonicMs(): number
}

export const SYSTEM_CLOCK: Clock = { wallMs: () => Date.now(), monotonicMs: () => performance.now() }

/** The part of a logger that is used here; pino's shape. */
export interface JwtLogger {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

export interface KeySetOptions {
  /** Between two background fetches. */
  readonly refreshMs: number
  /** How long the last good set is used while no fetch succeeds. */
  readonly staleMs: number
  /** Between two fetches that unknown keys trigger. */
  readonly unknownKidCooldownMs: number
  readonly fetchTimeoutMs: number
  readonly allowHttp: AllowHttp
  /** Where the last good set is kept; undefined: nowhere. */
  readonly stateDirectory?: string | undefined
  readonly clock: Clock
  readonly logger?: JwtLogger | undefined
  /** Default: the network. */
  readonly fetch?: typeof fetchKeySet | undefined
}

/** Fetches of one key set, for metrics. */
export interface KeySetCounters {
  fetches: number
  failures: number
}

/** First wait after a failed fetch; it doubles up to MAX_RETRY_MS, or to the refresh interval when that is shorter. */
const FIRST_RETRY_MS = 1000
const MAX_RETRY_MS = 60_000
/** How long a start waits for the network before the copy on disk is used. */
const DISK_PATIENCE_MS = 1000
/** Requests that may wait for the first set, and for the one fetch that an unknown key triggered. Others are told at once. */
const MAX_COLD_WAITERS = 1024
const MAX_UNKNOWN_KID_WAITERS = 16
const MAX_LOGGED_KEYS = 8
const MAX_LOGGED_KEY_ID_CHARS = 64
/** Some issuers have clocks of their own: a copy "from the future" by more than this is not believed. */
const MAX_DISK_FUTURE_MS = 300_000

export class KeySet {
  readonly url: string
  readonly counters: KeySetCounters = { fetches: 0, failures: 0 }
  readonly #options: KeySetOptions
  readonly #closing = new AbortController()
  #current: KeyIndex | undefined
  #etag: string | undefined
  /** Monotonic time until which #current may be used. */
  #usableUntilMs = 0
  #inFlight: Promise<void> | undefined
  #coldWaiters: (() => void)[] = []
  #unknownKidWaiters = 0
  #failuresInARow = 0
  /** Monotonic times before which no fetch, and no fetch for unknown keys, may start. */
  #notBeforeMs = -Infinity
  #unknownKidNotBeforeMs = -Infinity
  #timer: NodeJS.Timeout | undefined
  #diskTimer: NodeJS.Timeout | undefined
  #lastError: string | undefined
  #skippedNote = ''
  /** The URL as it is logged: a query may hold a secret. */
  readonly #name: string

  constructor(url: string, options: KeySetOptions) {
    this.url = url
    this.#name = url.replace(/[?#].*$/s, '')
    this.#options = options
  }

  /** Begins to fetch and to refresh. */
  start(): void {
    if (this.#options.stateDirectory !== undefined) {
      this.#diskTimer = setTimeout(() => void this.#loadFromDisk(), DISK_PATIENCE_MS).unref()
    }
    void this.#fetch()
  }

  /** Ends timers and a fetch in flight; keys at hand are void from now on. */
  close(): void {
    clearTimeout(this.#timer)
    clearTimeout(this.#diskTimer)
    this.#closing.abort()
    this.#replace(undefined)
  }

  /** Whether keys are at hand that may still be used. */
  get isUsable(): boolean {
    return this.#current !== undefined && this.#options.clock.monotonicMs() < this.#usableUntilMs
  }

  /** Why there are no keys, for the log. */
  get lastError(): string | undefined {
    return this.#lastError
  }

  /** KeyIndex.candidates of the keys at hand; empty when nothing is usable. */
  candidates(keyId: string | undefined): readonly VerificationKey[] {
    return this.#current !== undefined && this.isUsable ? this.#current.candidates(keyId) : []
  }

  /** Whether this very key object is one of the set's. */
  holds(key: VerificationKey): boolean {
    return this.#current?.holds(key) === true
  }

  knows(keyId: string): boolean {
    return this.#current?.knows(keyId) === true
  }

  /**
   * Resolves when a set is there, from the network or from disk, or when the fetch has failed. Undefined when waiting is pointless: too many wait already, or
   * the last fetch failed and the next one may not start yet.
   */
  whenLoaded(): Promise<void> | undefined {
    if (this.#coldWaiters.length >= MAX_COLD_WAITERS) return undefined
    if (this.#inFlight === undefined) {
      if (!this.#mayFetch()) return undefined
      void this.#fetch()
    }
    return new Promise((resolve) => this.#coldWaiters.push(resolve))
  }

  /**
   * Asks for a newer set because a token names a key that this one does not know. Resolves when the fetch has ended.
   * Undefined when none may start (cool-down, back-off) and when enough requests wait for the running one (F-30).
   */
  refreshForUnknownKey(): Promise<void> | undefined {
    if (this.#inFlight === undefined) {
      const now = this.#options.clock.monotonicMs()
      if (now < this.#unknownKidNotBeforeMs || !this.#mayFetch()) return undefined
      this.#unknownKidNotBeforeMs = now + this.#options.unknownKidCooldownMs
      void this.#fetch()
    }
    if (this.#unknownKidWaiters >= MAX_UNKNOWN_KID_WAITERS) return undefined
    this.#unknownKidWaiters++
    return this.#inFlight?.finally(() => {
      this.#unknownKidWaiters--
    })
  }

  #mayFetch(): boolean {
    return !this.#closing.signal.aborted && this.#options.clock.monotonicMs() >= this.#notBeforeMs
  }

  /** Never rejects. */
  #fetch(): Promise<void> {
    this.#inFlight ??= this.#fetchOnce().finally(() => {
      this.#inFlight = undefined
      this.#wake()
    })
    return this.#inFlight
  }

  #wake(): void {
    const waiters = this.#coldWaiters
    this.#coldWaiters = []
    for (const resolve of waiters) resolve()
  }

  async #fetchOnce(): Promise<void> {
    clearTimeout(this.#timer)
    this.counters.fetches++
    try {
      const { allowHttp, fetchTimeoutMs, fetch = fetchKeySet } = this.#options
      const fetched = await fetch(this.url, {
        allowHttp,
        timeoutMs: fetchTimeoutMs,
        etag: this.#current === undefined ? undefined : this.#etag,
        signal: this.#closing.signal,
      })
      if (fetched.kind === 'document') {
        const imported = await this.#import(fetched.text)
        if (this.#closing.signal.aborted) return
        this.#etag = fetched.etag
        this.#replace(imported)
        this.#noteSkipped(imported)
      }
      if (this.#closing.signal.aborted) return
      this.#succeeded()
    } catch (error) {
      if (this.#closing.signal.aborted) return
      await this.#failed(error)
    }
  }

  async #import(text: string): Promise<ImportedKeySet> {
    const parsed = parseStrictJson(text)
    if (!parsed.ok) throw new KeySetError(parsed.reason)
    return await importKeySet(parsed.value)
  }

  /** Once for each change, not for each refresh. */
  #noteSkipped(imported: ImportedKeySet): void {
    const skipped = imported.skipped
      .slice(0, MAX_LOGGED_KEYS)
      .map((key) => ({ ...key, keyId: key.keyId?.slice(0, MAX_LOGGED_KEY_ID_CHARS) }))
    const note = JSON.stringify(skipped)
    if (skipped.length > 0 && note !== this.#skippedNote) {
      const count = imported.skipped.length
      this.#options.logger?.warn({ url: this.#name, count, skipped }, 'some keys of a key set are not used')
    }
    this.#skippedNote = note
  }

  #succeeded(): void {
    clearTimeout(this.#diskTimer)
    const { clock, refreshMs, staleMs } = this.#options
    this.#failuresInARow = 0
    this.#lastError = undefined
    this.#notBeforeMs = -Infinity
    this.#usableUntilMs = clock.monotonicMs() + staleMs
    this.#schedule(refreshMs * (0.9 + Math.random() * 0.1)) // spread, so that many gateways do not ask in step
    void this.#store()
  }

  async #failed(error: unknown): Promise<void> {
    const { clock, refreshMs, logger } = this.#options
    this.counters.failures++
    this.#failuresInARow++
    this.#lastError = error instanceof Error ? error.message : String(error)
    const doubled = FIRST_RETRY_MS * 2 ** Math.min(this.#failuresInARow - 1, 16)
    const backOffMs = Math.min(doubled, MAX_RETRY_MS, refreshMs) * (0.5 + Math.random() * 0.5)
    const waitMs = Math.max(backOffMs, (error instanceof KeySetFetchError && error.retryAfterMs) || 0)
    this.#notBeforeMs = clock.monotonicMs() + waitMs
    this.#schedule(waitMs)
    logger?.warn(
      { url: this.#name, error: this.#lastError, retryMs: Math.round(waitMs), usable: this.isUsable },
      'a key set could not be fetched',
    )
    if (this.#current === undefined) await this.#loadFromDisk()
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer)
    if (this.#closing.signal.aborted) return
    this.#timer = setTimeout(() => void this.#fetch(), Math.ceil(delayMs)).unref()
  }

  /** Keys that stay keep their object, so that what they verified stays verified. */
  #replace(imported: ImportedKeySet | undefined): void {
    if (imported === undefined) {
      this.#current = undefined
      return
    }
    const before = new Map(this.#current?.keys.map((key) => [identityOf(key), key]))
    const keys = imported.keys.map((key) => before.get(identityOf(key)) ?? key)
    this.#current = new KeyIndex(keys)
  }

  async #store(): Promise<void> {
    const { stateDirectory, clock, logger } = this.#options
    if (stateDirectory === undefined || this.#current === undefined) return
    const keys = this.#current.keys.map((key) => key.jwk)
    try {
      await writeKeySet(stateDirectory, { url: this.url, fetchedAtMs: clock.wallMs(), keys })
    } catch (error) {
      logger?.warn({ url: this.#name, error: (error as Error).message }, 'the key set could not be kept on disk')
    }
  }

  async #loadFromDisk(): Promise<void> {
    const { stateDirectory, clock, staleMs, logger } = this.#options
    if (stateDirectory === undefined || this.#current !== undefined) return
    const stored = await readKeySet(stateDirectory, this.url)
    if (stored === undefined) return
    const ageMs = Math.max(0, clock.wallMs() - stored.fetchedAtMs)
    if (ageMs >= staleMs || stored.fetchedAtMs > clock.wallMs() + MAX_DISK_FUTURE_MS) return
    let imported: ImportedKeySet
    try {
      imported = await importKeySet({ keys: stored.keys })
    } catch {
      return // damaged: as if there were none
    }
    // The network may have been faster meanwhile.
    if (this.#current !== undefined || this.#closing.signal.aborted) return
    this.#replace(imported)
    this.#usableUntilMs = clock.monotonicMs() + staleMs - ageMs
    this.#wake()
    logger?.info({ url: this.#name, ageMs }, 'using the key set kept on disk')
  }
}

function identityOf(key: VerificationKey): string {
  return JSON.stringify([key.thumbprint, key.keyId ?? null, ...key.algorithms])
}
