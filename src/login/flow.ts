/**
 * A login that has begun: its secrets in a cookie of the browser that began it, and the `state` that comes back.
 *
 * No server keeps anything. Each login has a cookie of its own, so that tabs do not disturb each other; there are
 * FLOW_SLOTS at most, and one more for requests that no person made (scripts, images), however many of them come.
 * Source: RFC 6749 §10.12, RFC 7636, RFC 9700 §2.1, §4.2, §4.7; traffic-policy.md §5.12.
 */
import { randomBytes, timingSafeEqual } from 'node:crypto'
import type { SealingKeys } from '../sealing/sealing-keys.ts'

/** Logins that may be open in one browser at the same time. */
export const FLOW_SLOTS = 4
/** The slot of requests that are not navigations. */
const BACKGROUND_SLOT = FLOW_SLOTS
/** From the redirect to the provider until the callback. */
export const FLOW_MS = 900_000
/** A longer one comes back to `/`. */
const MAX_RETURN_CHARS = 2000

export interface Flow {
  readonly state: string
  /** OpenID's nonce; in SAML the id of the request. */
  readonly nonce: string
  /** PKCE. */
  readonly verifier: string
  /** Path and query on this host. */
  readonly returnTo: string
  readonly startedAtMs: number
}

export function newFlow(slot: number, returnTo: string, nowMs: number): Flow {
  const random = (): string => randomBytes(32).toString('base64url')
  return {
    state: `${slot}.${randomBytes(24).toString('base64url')}`,
    nonce: random(),
    verifier: random(),
    returnTo: returnPath(returnTo),
    startedAtMs: nowMs,
  }
}

/** A slot that no open login of this browser has, else any. `taken`: whether the browser sent that slot's cookie. */
export function chooseSlot(isNavigation: boolean, taken: (slot: number) => boolean): number {
  if (!isNavigation) return BACKGROUND_SLOT
  const all = Array.from({ length: FLOW_SLOTS }, (_, slot) => slot)
  const free = all.filter((slot) => !taken(slot))
  const from = free.length === 0 ? all : free
  // by chance, so that tabs that begin at once seldom meet
  return from[randomBytes(1)[0]! % from.length]!
}

/** The slot that a `state` names; undefined when it cannot be one of ours. */
export function slotOf(state: string): number | undefined {
  const match = /^([0-9])\.[A-Za-z0-9_-]{32}$/.exec(state)
  const slot = match === null ? -1 : Number(match[1])
  return slot >= 0 && slot <= BACKGROUND_SLOT ? slot : undefined
}

export function sealFlow(flow: Flow, keys: SealingKeys, realm: string): string {
  return keys.seal(Buffer.from(JSON.stringify(flow), 'utf8'), `flow\0${realm}`)
}

/** The flow in a cookie, if it is of this realm and has this very `state`. Its age is the caller's to judge. */
export function openFlow(text: string, state: string, keys: SealingKeys, realm: string): Flow | undefined {
  const bytes = keys.open(text, `flow\0${realm}`)
  if (bytes === undefined) return undefined
  const flow = JSON.parse(bytes.toString('utf8')) as Flow // sealed by us
  const [given, wanted] = [Buffer.from(state, 'utf8'), Buffer.from(flow.state, 'utf8')]
  return given.length === wanted.length && timingSafeEqual(given, wanted) ? flow : undefined
}

/**
 * A path with query on this host, as it may stand in a Location field; everything else becomes `/`. What a browser could
 * read as another host (`//host`, `/\host`, controls that it drops) is not let through.
 */
export function returnPath(text: string): string {
  return text.length <= MAX_RETURN_CHARS && /^\/(?!\/)[\x21-\x5b\x5d-\x7e]*$/.test(text) ? text : '/'
}
