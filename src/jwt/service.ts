/**
 * The gateway's judge of tokens: one per worker, shared by every jwt-validation action.
 * Source: traffic-policy.md §5.10, §8.2; RFC 8725; threats.md T-50 … T-57; bench/results/2026-11-22-jwt.md.
 *
 * Keys belong to the URLs of the requirements that name them; a verdict belongs to its requirements. Within one action
 * the policy language has no way to say which URL speaks for which issuer: every listed key set counts for every listed
 * issuer there.
 */
import { checkClaims } from './claims.ts'
import { Malformed, parseClaims, parseJws, type CompactJws } from './compact.ts'
import type { VerificationKey } from './jwk.ts'
import type { fetchKeySet, AllowHttp } from './key-set-fetch.ts'
import { KeySet, SYSTEM_CLOCK, type Clock, type JwtLogger } from './key-set.ts'
import { checkSignature, isSignatureAlgorithm, isSlow, type SignatureAlgorithm } from './signature.ts'
import type { JsonObject } from './strict-json.ts'
import { VerifiedTokens, type RequirementsCache } from './verified-tokens.ts'

/** What one jwt-validation action asks of a token. Reuse the object from request to request: it is the fast way in. */
export interface JwtRequirements {
  /** `iss` must be one of these, exactly. */
  readonly issuers: readonly string[]
  /** `aud` must hold one of these, exactly; undefined: not looked at. */
  readonly audiences: readonly string[] | undefined
  readonly algorithms: readonly string[]
  /** JWKS documents. The keys of all of them count. */
  readonly keySetUrls: readonly string[]
  /** Longest time since `iat`; undefined: any. */
  readonly maximumAgeMs?: number | undefined
}

export interface JwtAccepted {
  readonly kind: 'accepted'
  readonly header: JsonObject
  readonly payload: JsonObject
  /** Base64 with padding. */
  readonly signature: string
}

export interface JwtRefused {
  readonly kind: 'refused'
  /** 401: bad token. 403: good, but issuer or audience are not allowed. 503: no keys, or no thread, to judge by. */
  readonly status: 401 | 403 | 503
  /** For `ngrok-error-code` and the page: 3401, 3403, or 3422 with 503. */
  readonly code: 'ERR_NGROK_3401' | 'ERR_NGROK_3403' | 'ERR_NGROK_3422'
  /** For `jwt_validation.error.code`: as exact as §8.2 goes. */
  readonly detailCode: string
  /** For the log and never for the client: names the check that failed. Holds nothing of the token. */
  readonly reason: string
}

export type JwtVerdict = JwtAccepted | JwtRefused

/** Checks signatures in a thread. Undefined when its queue is full: then the token is refused with 503. */
export interface SignatureThreads {
  verifySignature(
    algorithm: SignatureAlgorithm,
    key: VerificationKey['object'],
    input: Uint8Array,
    signature: Uint8Array,
  ): Promise<boolean> | undefined
}

/** Defaults in brackets are those of the `jwt` section of gateway.yaml. */
export interface JwtServiceOptions {
  /** How far clocks may differ [60 s]. */
  readonly leewayMs?: number
  /** Between background fetches of a key set [15 min]. */
  readonly refreshMs?: number
  /** How long a last good key set is used while its service is down [24 h]. */
  readonly staleMs?: number
  /** Between fetches that unknown kids trigger [30 s]. */
  readonly unknownKidCooldownMs?: number
  readonly fetchTimeoutMs?: number
  /** Verified tokens that are remembered [10 000]; 0: none. */
  readonly cacheEntries?: number
  readonly allowHttp?: AllowHttp
  /** Last good key sets are kept in `<directory>/jwks`; undefined: nowhere. */
  readonly stateDirectory?: string
  readonly threads?: SignatureThreads
  readonly logger?: JwtLogger
  readonly clock?: Clock
  /** Where key sets come from; default: the network. */
  readonly fetch?: typeof fetchKeySet
}

/** For /metrics. All counts since the start. */
export interface JwtCounters {
  readonly accepted: number
  readonly refused: number
  /** Of the accepted ones, those answered from memory. */
  readonly remembered: number
  readonly rememberedTokens: number
  readonly keySets: readonly {
    readonly url: string
    readonly usable: boolean
    readonly fetches: number
    readonly failures: number
  }[]
}

/** Signature checks that one token may cost: a token without kid is tried against that many keys. */
const MAX_ATTEMPTS = 16
/** Sets of requirements that are remembered: actions, times what their interpolated fields become. */
const MAX_REQUIREMENTS = 256
/** Key sets that no policy names literally (interpolated URLs). */
const MAX_UNWATCHED_KEY_SETS = 64

interface RequirementsState {
  readonly requirements: JwtRequirements
  readonly cache: RequirementsCache<JwtAccepted>
  /** Pushed out by other requirements: its cache is not bounded any more and must not be used. */
  isForgotten: boolean
}

/** The key that signed, if any; or nobody could look. */
type Tried = VerificationKey | undefined | 'overloaded'

/** A token whose form is good and whose algorithm is allowed. */
interface Candidate {
  readonly text: string
  readonly jws: CompactJws
  readonly claims: JsonObject
  readonly algorithm: SignatureAlgorithm
}

export class JwtService {
  readonly #options: JwtServiceOptions
  readonly #clock: Clock
  readonly #leewayMs: number
  readonly #watched = new Map<string, KeySet>()
  readonly #unwatched = new Map<string, KeySet>()
  readonly #verified: VerifiedTokens<JwtAccepted>
  readonly #stateOf = new WeakMap<JwtRequirements, RequirementsState>()
  readonly #states = new Map<string, RequirementsState>()
  #accepted = 0
  #refused = 0
  #remembered = 0
  #closed = false

  constructor(options: JwtServiceOptions = {}) {
    this.#options = options
    this.#clock = options.clock ?? SYSTEM_CLOCK
    this.#leewayMs = options.leewayMs ?? 60_000
    this.#verified = new VerifiedTokens(options.cacheEntries ?? 10_000)
  }

  /**
   * Names the key sets that policies use: they are fetched now and refreshed in the background. A second call replaces
   * the list; sets in both lists go on as they are.
   */
  watch(urls: readonly string[]): void {
    const wanted = new Set(urls)
    for (const [url, keySet] of this.#watched) {
      if (wanted.has(url)) continue
      keySet.close()
      this.#watched.delete(url)
    }
    for (const url of wanted) {
      if (this.#watched.has(url)) continue
      const known = this.#unwatched.get(url)
      this.#unwatched.delete(url)
      this.#watched.set(url, known ?? this.#startKeySet(url))
    }
  }

  /** Resolves when every watched key set has been fetched once, or has failed once. For readiness; never rejects. */
  async whenReady(): Promise<void> {
    await Promise.all([...this.#watched.values()].map((keySet) => (keySet.isUsable ? undefined : keySet.whenLoaded())))
  }

  /**
   * Judges a token. Answers at once for tokens that are remembered and for keys at hand; a promise only when a key set
   * must be awaited or a thread checks the signature. Never throws or rejects.
   */
  verify(token: string, requirements: JwtRequirements): JwtVerdict | Promise<JwtVerdict> {
    let state = this.#stateOf.get(requirements)
    if (state === undefined || state.isForgotten) state = this.#intern(requirements)
    const known = state.cache.get(token)
    if (known !== undefined) {
      const now = this.#clock.wallMs()
      if (now < known.expiresAtMs && now >= known.notBeforeMs && this.#isKeyUsable(known.key, state)) {
        this.#accepted++
        this.#remembered++
        return known.verdict
      }
      state.cache.delete(token)
    }
    const candidate = readToken(token, requirements)
    if ('kind' in candidate) return this.#refuse(candidate)
    return this.#judge(candidate, state, true)
  }

  /** Ends every timer and fetch. Tokens are refused from now on. */
  async close(): Promise<void> {
    this.#closed = true
    for (const keySet of [...this.#watched.values(), ...this.#unwatched.values()]) keySet.close()
    this.#watched.clear()
    this.#unwatched.clear()
  }

  get counters(): JwtCounters {
    return {
      accepted: this.#accepted,
      refused: this.#refused,
      remembered: this.#remembered,
      rememberedTokens: this.#verified.size,
      keySets: [...this.#watched.values(), ...this.#unwatched.values()].map((keySet) => ({
        url: keySet.url,
        usable: keySet.isUsable,
        ...keySet.counters,
      })),
    }
  }

  /** `mayWait` is true the first time round: keys that are not at hand are awaited once, and then it is decided. */
  #judge(candidate: Candidate, state: RequirementsState, mayWait: boolean): JwtVerdict | Promise<JwtVerdict> {
    const keySets = state.requirements.keySetUrls
      .map((url) => this.#keySet(url))
      .filter((keySet) => keySet !== undefined)
    const keys: VerificationKey[] = []
    for (const keySet of keySets) {
      for (const key of keySet.candidates(candidate.jws.keyId)) {
        // T-50: the token's algorithm must be one that the key is for; the policy's list has been asked already.
        if (key.algorithms.has(candidate.algorithm) && keys.length < MAX_ATTEMPTS) keys.push(key)
      }
    }
    const tried = this.#tryKeys(candidate, keys, 0)
    if (tried instanceof Promise) {
      return tried.then((found) => this.#conclude(candidate, state, keySets, found, mayWait))
    }
    return this.#conclude(candidate, state, keySets, tried, mayWait)
  }

  /** The first key whose signature it is; a promise as soon as one check is slow enough for a thread. */
  #tryKeys(candidate: Candidate, keys: readonly VerificationKey[], from: number): Tried | Promise<Tried> {
    const { algorithm, jws } = candidate
    const { threads } = this.#options
    for (let at = from; at < keys.length; at++) {
      const key = keys[at]! // within bounds
      if (threads !== undefined && isSlow(algorithm, key.object)) {
        const check = threads.verifySignature(algorithm, key.object, jws.signingInput, jws.signature)
        // On the loop a flood of such tokens would stop every other request of the worker.
        if (check === undefined) return 'overloaded'
        return check
          .catch(() => checkSignature(algorithm, key.object, jws.signingInput, jws.signature)) // the thread died
          .then((good) => (good ? key : this.#tryKeys(candidate, keys, at + 1)))
      }
      if (checkSignature(algorithm, key.object, jws.signingInput, jws.signature)) return key
    }
    return undefined
  }

  #conclude(
    candidate: Candidate,
    state: RequirementsState,
    keySets: readonly KeySet[],
    tried: Tried,
    mayWait: boolean,
  ): JwtVerdict | Promise<JwtVerdict> {
    if (tried === 'overloaded') return this.#refuse(unavailable('too many signatures wait to be checked'))
    if (tried !== undefined) return this.#judgeClaims(candidate, state, tried)
    if (mayWait) {
      const waits = waitsFor(candidate.jws.keyId, keySets)
      if (waits.length > 0) return Promise.all(waits).then(() => this.#judge(candidate, state, false))
    }
    const { keyId } = candidate.jws
    if (keyId !== undefined && keySets.some((keySet) => keySet.isUsable && keySet.knows(keyId))) {
      return this.#refuse(unauthorized('signature or algorithm does not fit the key'))
    }
    const missing = keySets.find((keySet) => !keySet.isUsable)
    if (missing === undefined && keySets.length > 0) return this.#refuse(unauthorized('no key fits the token'))
    const error = missing?.lastError
    return this.#refuse(unavailable(error === undefined ? 'no usable key set' : `no usable key set: ${error}`))
  }

  #judgeClaims(candidate: Candidate, state: RequirementsState, key: VerificationKey): JwtVerdict {
    const { requirements, cache } = state
    const claims = checkClaims(
      candidate.claims,
      {
        issuers: requirements.issuers,
        audiences: requirements.audiences,
        leewayMs: this.#leewayMs,
        maximumAgeMs: requirements.maximumAgeMs,
      },
      this.#clock.wallMs(),
    )
    if (claims.kind === 'bad') {
      if (claims.status === 401) return this.#refuse(unauthorized(claims.reason))
      return this.#refuse({
        kind: 'refused',
        status: 403,
        code: 'ERR_NGROK_3403',
        detailCode: 'ERR_NGROK_3403',
        reason: claims.reason,
      })
    }
    const verdict: JwtAccepted = {
      kind: 'accepted',
      header: candidate.jws.header,
      payload: candidate.claims,
      signature: candidate.jws.signature.toString('base64'),
    }
    if (!this.#verified.isOff) {
      cache.set(candidate.text, { verdict, key, notBeforeMs: claims.notBeforeMs, expiresAtMs: claims.expiresAtMs })
    }
    this.#accepted++
    return verdict
  }

  #refuse(refused: JwtRefused): JwtRefused {
    this.#refused++
    return refused
  }

  /** Whether a key is still in one of the sets that count here, and that set is not too old. */
  #isKeyUsable(key: VerificationKey, state: RequirementsState): boolean {
    for (const url of state.requirements.keySetUrls) {
      const keySet = this.#watched.get(url) ?? this.#unwatched.get(url)
      if (keySet?.isUsable === true && keySet.holds(key)) return true
    }
    return false
  }

  #keySet(url: string): KeySet | undefined {
    const known = this.#watched.get(url) ?? this.#unwatched.get(url)
    if (known !== undefined || this.#closed) return known
    if (this.#unwatched.size >= MAX_UNWATCHED_KEY_SETS) {
      const [oldestUrl, oldest] = this.#unwatched.entries().next().value! // not empty
      oldest.close()
      this.#unwatched.delete(oldestUrl)
    }
    const keySet = this.#startKeySet(url)
    this.#unwatched.set(url, keySet)
    return keySet
  }

  #startKeySet(url: string): KeySet {
    const options = this.#options
    const keySet = new KeySet(url, {
      refreshMs: options.refreshMs ?? 900_000,
      staleMs: options.staleMs ?? 86_400_000,
      unknownKidCooldownMs: options.unknownKidCooldownMs ?? 30_000,
      fetchTimeoutMs: options.fetchTimeoutMs ?? 5000,
      allowHttp: options.allowHttp ?? 'loopback',
      stateDirectory: options.stateDirectory,
      clock: this.#clock,
      logger: options.logger,
      fetch: options.fetch,
    })
    keySet.start()
    return keySet
  }

  /** Equal requirements share their verdicts, also over a reload that builds new objects (O-26). */
  #intern(requirements: JwtRequirements): RequirementsState {
    const { issuers, audiences, algorithms, keySetUrls, maximumAgeMs } = requirements
    const identity = JSON.stringify([issuers, audiences ?? null, algorithms, keySetUrls, maximumAgeMs ?? null])
    let state = this.#states.get(identity)
    if (state === undefined) {
      if (this.#states.size >= MAX_REQUIREMENTS) {
        const [oldestIdentity, oldest] = this.#states.entries().next().value! // not empty
        this.#states.delete(oldestIdentity)
        this.#verified.forget(oldest.cache)
        oldest.isForgotten = true
      }
      state = { requirements, cache: this.#verified.forRequirements(), isForgotten: false }
      this.#states.set(identity, state)
    }
    this.#stateOf.set(requirements, state)
    return state
  }
}

/** Form and algorithm, before any key is looked for. */
function readToken(text: string, requirements: JwtRequirements): Candidate | JwtRefused {
  const jws = parseJws(text)
  if (jws instanceof Malformed) return unauthorized(jws.reason, 'ERR_NGROK_3416')
  const { algorithm } = jws
  if (!isSignatureAlgorithm(algorithm) || !requirements.algorithms.includes(algorithm)) {
    return unauthorized('the algorithm is not allowed')
  }
  const claims = parseClaims(jws.payload)
  if (claims instanceof Malformed) return unauthorized(claims.reason, 'ERR_NGROK_3416')
  return { text, jws, claims, algorithm }
}

/** What may still bring a key: first sets that are on their way, and newer sets for a token that names an unknown key. */
function waitsFor(keyId: string | undefined, keySets: readonly KeySet[]): Promise<void>[] {
  const isKnown = keyId !== undefined && keySets.some((keySet) => keySet.knows(keyId))
  const waits: Promise<void>[] = []
  for (const keySet of keySets) {
    const wait = !keySet.isUsable ? keySet.whenLoaded() : isKnown ? undefined : keySet.refreshForUnknownKey()
    if (wait !== undefined) waits.push(wait)
  }
  return waits
}

function unauthorized(reason: string, detailCode = 'ERR_NGROK_3401'): JwtRefused {
  return { kind: 'refused', status: 401, code: 'ERR_NGROK_3401', detailCode, reason }
}

function unavailable(reason: string): JwtRefused {
  return { kind: 'refused', status: 503, code: 'ERR_NGROK_3422', detailCode: 'ERR_NGROK_3422', reason }
}
