/**
 * A login that has succeeded: what of it lies in the cookie, how long it counts, and what policies see of it.
 *
 * Opening a cookie is synchronous; sessions that were opened are remembered, so that a request with a known cookie costs
 * a look-up. Source: traffic-policy.md §5.12, §5.13 (results, lifetimes).
 */
import { createHash, randomBytes } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { SealingKeys } from '../sealing/sealing-keys.ts'

/** What the provider said about the user. */
export interface Identity {
  /** The provider's name for the user: `sub`, an account number, a NameID. Never empty. */
  readonly subject: string
  /** Empty when the provider gave none, or says itself that it is not verified. */
  readonly email: string
  readonly name: string
  /** SAML only. */
  readonly attributes?: Readonly<Record<string, readonly string[]>>
}

/** Empty texts: the provider gave none. */
export interface Tokens {
  readonly identityToken: string
  readonly accessToken: string
  readonly refreshToken: string
  /** Epoch; 0 = unknown. */
  readonly expiresAtMs: number
}

export const NO_TOKENS: Tokens = Object.freeze({ identityToken: '', accessToken: '', refreshToken: '', expiresAtMs: 0 })

/** Immutable; a change is another one. All times are of the wall clock, which all nodes share. */
export interface Session {
  readonly id: string
  readonly identity: Identity
  readonly tokens: Tokens
  readonly createdAtMs: number
  /** The last request that counted; kept up to date to a twentieth of the idle timeout. */
  readonly activeAtMs: number
  /** When the provider was last asked about the user. */
  readonly askedAtMs: number
  /** When it ends whatever the policy allows; undefined: the provider did not say. */
  readonly endsAtMs?: number | undefined
}

export function newSession(identity: Identity, tokens: Tokens, nowMs: number, endsAtMs?: number): Session {
  const id = `ses_${randomBytes(16).toString('hex')}`
  const begun = { id, identity, tokens, createdAtMs: nowMs, activeAtMs: nowMs, askedAtMs: nowMs }
  return endsAtMs === undefined ? begun : { ...begun, endsAtMs }
}

/** Limits of one action; undefined = none. */
export interface Lifetimes {
  readonly idleMs: number | undefined
  readonly maxMs: number | undefined
}

export type SessionAge = 'valid' | 'timed out' | 'max duration reached'

export function ageOf(session: Session, { idleMs, maxMs }: Lifetimes, nowMs: number): SessionAge {
  if (session.endsAtMs !== undefined && nowMs >= session.endsAtMs) return 'max duration reached'
  if (maxMs !== undefined && nowMs - session.createdAtMs >= maxMs) return 'max duration reached'
  if (idleMs !== undefined && nowMs - session.activeAtMs >= idleMs) return 'timed out'
  return 'valid'
}

const TOUCH_FRACTION = 20
const LONGEST_TOUCH_MS = 30_000

/** Whether the cookie must be written anew so that the idle timeout counts from this request. */
export function needsTouch(session: Session, { idleMs }: Lifetimes, nowMs: number): boolean {
  return idleMs !== undefined && nowMs - session.activeAtMs >= Math.min(idleMs / TOUCH_FRACTION, LONGEST_TOUCH_MS)
}

/** How long a browser should keep the cookie; undefined: until it closes. */
export function cookieSeconds(session: Session, { idleMs, maxMs }: Lifetimes, nowMs: number): number | undefined {
  const left = Math.min(
    idleMs ?? Infinity,
    maxMs === undefined ? Infinity : session.createdAtMs + maxMs - nowMs,
    session.endsAtMs === undefined ? Infinity : session.endsAtMs - nowMs,
  )
  return left === Infinity ? undefined : Math.max(1, Math.ceil(left / 1000))
}

// ── in the cookie ──

/** Short names: every byte travels with every request. */
interface Packed {
  readonly i: string
  readonly s: string
  readonly e: string
  readonly n: string
  readonly x?: Readonly<Record<string, readonly string[]>>
  readonly t?: readonly [string, string, string, number]
  readonly c: number
  readonly a: number
  readonly u: number
  readonly z?: number
}

/** Tokens compress by about a quarter; small sessions gain nothing. */
const COMPRESS_FROM_BYTES = 1024
const MAX_UNPACKED_BYTES = 256 * 1024
const PLAIN = 0
const DEFLATED = 1

function pack(session: Session): Buffer {
  const { identity, tokens } = session
  const packed: Packed = {
    i: session.id,
    s: identity.subject,
    e: identity.email,
    n: identity.name,
    ...(identity.attributes && { x: identity.attributes }),
    ...(tokens !== NO_TOKENS && {
      t: [tokens.identityToken, tokens.accessToken, tokens.refreshToken, tokens.expiresAtMs] as const,
    }),
    c: session.createdAtMs,
    a: session.activeAtMs,
    u: session.askedAtMs,
    ...(session.endsAtMs !== undefined && { z: session.endsAtMs }),
  }
  const json = Buffer.from(JSON.stringify(packed), 'utf8')
  return json.length < COMPRESS_FROM_BYTES
    ? Buffer.concat([Buffer.of(PLAIN), json])
    : Buffer.concat([Buffer.of(DEFLATED), deflateRawSync(json)])
}

/** Only ever called on bytes that we sealed ourselves. */
function unpack(bytes: Buffer): Session {
  const body = bytes.subarray(1)
  const json = bytes[0] === DEFLATED ? inflateRawSync(body, { maxOutputLength: MAX_UNPACKED_BYTES }) : body
  const packed = JSON.parse(json.toString('utf8')) as Packed
  const [identityToken, accessToken, refreshToken, expiresAtMs] = packed.t ?? ['', '', '', 0]
  return {
    id: packed.i,
    identity: { subject: packed.s, email: packed.e, name: packed.n, ...(packed.x && { attributes: packed.x }) },
    tokens: packed.t === undefined ? NO_TOKENS : { identityToken, accessToken, refreshToken, expiresAtMs },
    createdAtMs: packed.c,
    activeAtMs: packed.a,
    askedAtMs: packed.u,
    ...(packed.z !== undefined && { endsAtMs: packed.z }),
  }
}

/** Bytes of cookies and sessions that are remembered, per configuration and worker. */
const MAX_REMEMBERED_CHARS = 32 * 1024 * 1024

/** Seals and opens sessions, and remembers those that were opened. One for each configuration of a worker. */
export class SessionBox {
  readonly #keys: SealingKeys
  readonly #maxEntries: number
  readonly #opened = new Map<string, Session>()
  #openedChars = 0

  constructor(keys: SealingKeys, maxEntries: number) {
    this.#keys = keys
    this.#maxEntries = maxEntries
  }

  /** For cookies that are not sessions: the state of a login that has begun. */
  get keys(): SealingKeys {
    return this.#keys
  }

  seal(session: Session, realm: string): string {
    return this.#keys.seal(pack(session), `session\0${realm}`)
  }

  /** The session in a cookie's text; undefined when it is not one of this realm. The same object for the same text. */
  open(text: string, realm: string): Session | undefined {
    const key = `${realm}\0${text}`
    const known = this.#opened.get(key)
    if (known !== undefined) return known
    const bytes = this.#keys.open(text, `session\0${realm}`)
    if (bytes === undefined) return undefined
    const session = unpack(bytes)
    this.#remember(key, session)
    return session
  }

  /** Oldest first out; what is still in use comes back with its next request. */
  #remember(key: string, session: Session): void {
    if (this.#maxEntries === 0) return
    this.#opened.set(key, session)
    this.#openedChars += key.length
    for (const oldest of this.#opened.keys()) {
      if (this.#opened.size <= this.#maxEntries && this.#openedChars <= MAX_REMEMBERED_CHARS) return
      this.#opened.delete(oldest)
      this.#openedChars -= oldest.length
    }
  }
}

/** `identity.id`: stable for a user of a provider, and tells neither. */
export function identityId(provider: string, subject: string): string {
  return `idt_${createHash('sha256').update(`${provider}\0${subject}`).digest('hex').slice(0, 26)}`
}
