/**
 * Asking a provider again about a session that is due: once, however many requests come with it meanwhile.
 *
 * Within a worker they share the answer, also those that still come with the old cookie afterwards; between workers and
 * gateways a bucket of the rate-limit store lets one of them ask. A provider in trouble ends no session: it holds until
 * `staleMs` after it was due. A provider that knows the user no more ends it.
 */
import { LoginError } from './login-error.ts'
import type { Session } from './session.ts'

/** Sessions whose renewal is remembered, per worker. */
const MAX_ENTRIES = 4096
/** After a provider failed, and while another worker asks. */
const PAUSE_MS = 30_000
/** How long the others go on with what they have while one asks. */
export const GRACE_MS = 60_000

export type Renewed =
  /** `isFresh`: the browser must get this one. */
  | { readonly kind: 'session'; readonly session: Session; readonly isFresh: boolean }
  | { readonly kind: 'ended'; readonly error: LoginError }
  /** Overdue, and the provider cannot be reached. */
  | { readonly kind: 'unknown'; readonly error: LoginError }

interface Entry {
  running: Promise<Renewed> | undefined
  result: Renewed | undefined
  /** Wall clock; before it, a session that is not overdue is used as it is. */
  notBeforeMs: number
  failure: LoginError | undefined
}

export interface RenewalWork {
  readonly session: Session
  /** Since when it should have been renewed. */
  readonly dueAtMs: number
  readonly staleMs: number
  /** Whether no other worker asks at the moment. */
  mayAsk(): boolean | Promise<boolean>
  /** Throws LoginError. */
  ask(): Promise<Session>
}

export class Renewals {
  readonly #entries = new Map<string, Entry>()

  /** What to go on with; synchronous when the provider need not be asked now. */
  renew(work: RenewalWork, nowMs: number): Renewed | Promise<Renewed> {
    const { session } = work
    const key = `${session.id} ${session.askedAtMs} ${session.tokens.expiresAtMs}`
    let entry = this.#entries.get(key)
    if (entry === undefined) {
      entry = { running: undefined, result: undefined, notBeforeMs: 0, failure: undefined }
      this.#entries.set(key, entry)
      if (this.#entries.size > MAX_ENTRIES) this.#entries.delete(this.#entries.keys().next().value!) // not empty
    }
    if (entry.result !== undefined) return entry.result
    if (entry.running !== undefined) return entry.running
    const unchanged: Renewed = { kind: 'session', session, isFresh: false }
    if (nowMs < entry.notBeforeMs) return withoutAnswer(work, entry, unchanged, nowMs)
    entry.running = this.#run(work, entry, unchanged, nowMs)
    return entry.running
  }

  async #run(work: RenewalWork, entry: Entry, unchanged: Renewed, nowMs: number): Promise<Renewed> {
    try {
      const inGrace = nowMs - work.dueAtMs < GRACE_MS
      if (!(await work.mayAsk()) && inGrace) {
        entry.notBeforeMs = nowMs + PAUSE_MS / 10
        return unchanged
      }
      entry.result = { kind: 'session', session: await work.ask(), isFresh: true }
      return entry.result
    } catch (error) {
      if (!(error instanceof LoginError)) throw error
      if (!error.isOutage) {
        entry.result = { kind: 'ended', error }
        return entry.result
      }
      entry.failure = error
      entry.notBeforeMs = Date.now() + PAUSE_MS
      return withoutAnswer(work, entry, unchanged, Date.now())
    } finally {
      entry.running = undefined
    }
  }
}

function withoutAnswer(work: RenewalWork, entry: Entry, unchanged: Renewed, nowMs: number): Renewed {
  if (entry.failure !== undefined && nowMs - work.dueAtMs >= work.staleMs)
    return { kind: 'unknown', error: entry.failure }
  return unchanged
}
