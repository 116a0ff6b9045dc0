/**
 * Verdicts on tokens that were verified, kept until they expire. Bounded in entries and in characters. Only accepted
 * tokens get in, so a flood of bad ones can push nothing out.
 * Source: threats.md T-53 (one spelling of a token), jwt-attacks jwks-scenarios, group isolation.
 */
import type { VerificationKey } from './jwk.ts'

export interface VerifiedToken<Verdict> {
  readonly verdict: Verdict
  readonly key: VerificationKey
  /** Milliseconds since the epoch; leeway included. */
  readonly notBeforeMs: number
  readonly expiresAtMs: number
}

/** Characters of all tokens together, for a cache of the default 10 000 entries: 1 KiB each on average. */
const CHARS_PER_ENTRY = 1024
const MAX_CACHED_TOKEN_CHARS = 8192
/**
 * The end of the signature leads to the entry, and the whole token is then compared: hashing 43 characters instead of 500
 * took a hit from 3.3 to 1.1 µs (bench/results/2026-11-22-jwt.md). Only the issuer can make two good tokens that end alike;
 * the later one then takes the place of the earlier.
 */
const TAIL_CHARS = 43

const NEAR = 64

/** The last characters but one: of the last one some bits are padding. */
function nearPlace(token: string): number {
  const { length } = token
  return (token.charCodeAt(length - 2) + 3 * token.charCodeAt(length - 3)) & (NEAR - 1)
}

interface Remembered<Verdict> {
  readonly token: string
  readonly entry: VerifiedToken<Verdict>
}

/** The tokens verified under one set of requirements. Made by VerifiedTokens.forRequirements. */
export class RequirementsCache<Verdict> {
  #young = new Map<string, Remembered<Verdict>>()
  #old = new Map<string, Remembered<Verdict>>()
  /** Some of the younger ones, by two of their characters: those that come again and again are found without a hash. */
  readonly #near: (Remembered<Verdict> | undefined)[] = Array.from({ length: NEAR }, () => undefined)
  readonly #owner: VerifiedTokens<Verdict>

  constructor(owner: VerifiedTokens<Verdict>) {
    this.#owner = owner
  }

  get size(): number {
    return this.#young.size + this.#old.size
  }

  /** Found only by the whole token: two tokens that differ in any character never meet. */
  get(token: string): VerifiedToken<Verdict> | undefined {
    const place = nearPlace(token)
    const near = this.#near[place]
    if (near !== undefined && near.token === token) return near.entry
    const tail = token.slice(-TAIL_CHARS)
    const young = this.#young.get(tail)
    if (young !== undefined && young.token === token) {
      this.#near[place] = young
      return young.entry
    }
    const old = this.#old.get(tail)
    if (old === undefined || old.token !== token) return undefined
    // What is used stays: the next turn-over throws away only what was not asked for since the last one.
    this.#old.delete(tail)
    this.#owner.makeRoom(token.length)
    this.#young.set(tail, old)
    return old.entry
  }

  set(token: string, entry: VerifiedToken<Verdict>): void {
    if (token.length > MAX_CACHED_TOKEN_CHARS) return
    this.#owner.makeRoom(token.length)
    // Copies: the caller's string may be a slice that keeps a whole request head alive.
    const own = Buffer.from(token, 'latin1').toString('latin1')
    const tail = Buffer.from(token.slice(-TAIL_CHARS), 'latin1').toString('latin1')
    this.#young.set(tail, { token: own, entry })
    this.#near[nearPlace(token)] = undefined
  }

  delete(token: string): void {
    this.#near[nearPlace(token)] = undefined
    const tail = token.slice(-TAIL_CHARS)
    if (this.#young.get(tail)?.token === token) this.#young.delete(tail)
    if (this.#old.get(tail)?.token === token) this.#old.delete(tail)
  }

  /** Called by the owner only. */
  turnOver(): void {
    this.#near.fill(undefined)
    this.#old = this.#young
    this.#young = new Map()
  }
}

/** All caches together share one bound: two generations of half the entries each. */
export class VerifiedTokens<Verdict> {
  readonly #caches = new Set<RequirementsCache<Verdict>>()
  readonly #generationEntries: number
  readonly #generationChars: number
  #entries = 0
  #chars = 0

  /** `entries` 0 switches the cache off. */
  constructor(entries: number) {
    this.#generationEntries = Math.floor(entries / 2)
    this.#generationChars = this.#generationEntries * CHARS_PER_ENTRY
  }

  forRequirements(): RequirementsCache<Verdict> {
    const cache = new RequirementsCache<Verdict>(this)
    this.#caches.add(cache)
    return cache
  }

  forget(cache: RequirementsCache<Verdict>): void {
    this.#caches.delete(cache)
  }

  get isOff(): boolean {
    return this.#generationEntries === 0
  }

  get size(): number {
    let size = 0
    for (const cache of this.#caches) size += cache.size
    return size
  }

  /** Counts one more token of so many characters; throws the older generation away when this one is full. */
  makeRoom(chars: number): void {
    if (this.#entries >= this.#generationEntries || this.#chars + chars > this.#generationChars) {
      for (const cache of this.#caches) cache.turnOver()
      this.#entries = 0
      this.#chars = 0
    }
    this.#entries++
    this.#chars += chars
  }
}
