/**
 * What `oauth`, `openid-connect` and `saml` have in common: a session in a cookie or a way to get one, and the paths
 * that belong to logins whatever the rules say.
 *
 * A request with a valid session goes on; any other is sent to the provider, and comes back to the callback path with
 * what the provider said. `/ngrok/login` logs in again, `/ngrok/logout` drops the session. None of these paths ever
 * reaches an upstream, and neither do our cookies.
 * Source: traffic-policy.md §5.12, §5.13, §5.23.
 */
import type { Exchange } from '../exchange/exchange.ts'
import { splitAuthority } from '../exchange/request-url.ts'
import type { JsonValue } from '../expression/source.ts'
import {
  cookieIn,
  cookieName,
  type CookieScope,
  deleteCookie,
  deleteParts,
  readParts,
  type SameSite,
  setCookie,
  writeParts,
} from '../login/cookies.ts'
import { chooseSlot, type Flow, FLOW_MS, newFlow, openFlow, returnPath, sealFlow, slotOf } from '../login/flow.ts'
import { LoginError } from '../login/login-error.ts'
import type { LoginResult } from '../login/openid.ts'
import { type Renewed, Renewals, type RenewalWork } from '../login/renewals.ts'
import {
  ageOf,
  cookieSeconds,
  type Identity,
  type Lifetimes,
  needsTouch,
  newSession,
  type Session,
  type SessionBox,
} from '../login/session.ts'
import { NEXT, type Outcome, type Respond } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'

const LOGIN_PATH = '/ngrok/login'
const LOGOUT_PATH = '/ngrok/logout'

/** The public address of the endpoint, as the browser knows it. */
export interface Site {
  /** `https://shop.example.com`, with port where it has one. */
  readonly origin: string
  /** Without port. */
  readonly host: string
  readonly secure: boolean
}

/** What remains of a request until its answer, so that a login can be told in results. */
export interface SessionFlags {
  readonly timedOut: boolean
  readonly maxReached: boolean
  readonly renewed: boolean
}

const NO_FLAGS: SessionFlags = Object.freeze({ timedOut: false, maxReached: false, renewed: false })

/** How one kind of provider is spoken to. All throw LoginError. */
export interface LoginMethod {
  /** Names under `actions.ngrok`; the first is the one in logs. */
  readonly results: readonly string[]
  /** Of a session; pure, and remembered for each. */
  resultOf(session: Session, flags: SessionFlags): Record<string, JsonValue>
  /** The provider and our application there: sessions of one count for no other. */
  realm(exchange: Exchange): string
  /** Where its answers come in. */
  callbackPath(exchange: Exchange): string
  /** Other paths of it. */
  serve?(exchange: Exchange, site: Site): Outcome | Promise<Outcome> | undefined
  /** The `state` of an answer on the callback path; undefined when there is none. */
  stateOf(exchange: Exchange): string | undefined | Promise<string | undefined>
  /** How the cookie of an open login travels: SAML's answers are posted by another site. */
  flowSameSite(site: Site): SameSite
  begin(exchange: Exchange, site: Site, flow: Flow, force: boolean): Promise<string>
  /** `flow` undefined: nobody here asked for the answer. */
  finish(exchange: Exchange, site: Site, flow: Flow | undefined): Promise<LoginResult>
  /** Answers that nobody asked for may begin a session. */
  readonly allowsUnasked: boolean
  /** Since when the provider should have been asked again; undefined: not due. */
  dueAt?(session: Session, nowMs: number): number | undefined
  renew?(exchange: Exchange, session: Session, nowMs: number): Promise<Session>
}

export interface LoginPlan {
  readonly method: LoginMethod
  readonly authId: string
  readonly cookieDomain: string | undefined
  readonly lifetimes: Lifetimes
  readonly allowCorsPreflight: boolean
  /** Undefined: the identity may pass. */
  refuses(identity: Identity): LoginError | undefined
  readonly results: WeakMap<Session, Record<string, JsonValue>>
  readonly isOwnCookie: (name: string) => boolean
}

/** Shared by all policies of a worker: sessions have names of their own. */
const renewals = new Renewals()

/** What one request means for one login. */
class Visit {
  readonly site: Site
  readonly scope: CookieScope
  /** All Cookie fields as one. */
  readonly cookies: string
  readonly realm: string
  readonly box: SessionBox
  readonly name: string

  constructor(plan: LoginPlan, exchange: Exchange) {
    this.site = siteOf(exchange)
    this.scope = { secure: this.site.secure, domain: plan.cookieDomain, authId: plan.authId }
    this.cookies = cookiesOf(exchange)
    this.realm = `${plan.method.realm(exchange)}\n${plan.cookieDomain ?? this.site.host}\n${plan.authId}`
    this.box = exchange.snapshot.sessions! // built for every snapshot that has a login
    this.name = cookieName('session', this.scope)
  }

  session(): Session | undefined {
    const text = readParts(this.cookies, this.name)
    return text === undefined ? undefined : this.box.open(text, this.realm)
  }

  /** Lines that give the browser this session. */
  save(session: Session, lifetimes: Lifetimes, nowMs: number): string {
    const sealed = this.box.seal(session, this.realm)
    const maxAgeSeconds = cookieSeconds(session, lifetimes, nowMs)
    const lines = writeParts(sealed, this.name, this.scope, { maxAgeSeconds, field: this.cookies })
    if (lines === undefined) throw new LoginError('LOGIN_NOT_SEALED', `the session has ${sealed.length} characters`)
    return lines
  }

  drop(): string {
    return deleteParts(this.name, this.scope, this.cookies)
  }

  flowName(slot: number): string {
    return `${cookieName('nonce', this.scope)}.${slot}`
  }
}

function cookiesOf(exchange: Exchange): string {
  const fields = exchange.head.all('cookie')
  return fields.length === 1 ? fields[0]! : fields.join('; ')
}

function siteOf(exchange: Exchange): Site {
  // TLS may end in front of us, at something that is not one of trusted_proxies: then the endpoint's url tells
  const secure = exchange.url.scheme === 'https' || exchange.frames[0]!.endpoint.view.protocol === 'https'
  const { host } = splitAuthority(exchange.publicHost)
  return { origin: `${secure ? 'https' : 'http'}://${exchange.publicHost}`, host, secure }
}

// ── a request that the action sees ──

export function runLogin(plan: LoginPlan, exchange: Exchange): Outcome | Promise<Outcome> {
  if (exchange.url.path === LOGOUT_PATH) return LOGGED_OUT
  if (plan.allowCorsPreflight && exchange.method === 'OPTIONS') return NEXT
  const visit = visitFor(plan, exchange)
  const session = visit.session()
  const request = { returnTo: exchange.receivedTarget, force: false, flags: NO_FLAGS }
  if (session === undefined) return begin(plan, exchange, visit, request)
  return useSession(plan, exchange, visit, session, { flags: NO_FLAGS, isFresh: false })
}

interface Use {
  readonly flags: SessionFlags
  /** The browser does not have it yet. */
  readonly isFresh: boolean
}

function useSession(
  plan: LoginPlan,
  exchange: Exchange,
  visit: Visit,
  session: Session,
  use: Use,
): Outcome | Promise<Outcome> {
  const nowMs = Date.now()
  const age = ageOf(session, plan.lifetimes, nowMs)
  if (age !== 'valid') {
    const flags = { timedOut: age === 'timed out', maxReached: age === 'max duration reached', renewed: false }
    return begin(plan, exchange, visit, { returnTo: exchange.receivedTarget, force: false, flags })
  }
  const dueAtMs = plan.method.dueAt?.(session, nowMs)
  if (dueAtMs === undefined) return admit(plan, exchange, visit, session, use, nowMs)
  const renewed = renewals.renew(renewalOf(plan, exchange, session, dueAtMs, nowMs), nowMs)
  return renewed instanceof Promise
    ? renewed.then((settled) => useRenewed(plan, exchange, visit, settled))
    : useRenewed(plan, exchange, visit, renewed)
}

/** One worker asks at a time; the store that all of them share decides which. */
const ASK_EVERY_MS = 60_000

function renewalOf(plan: LoginPlan, exchange: Exchange, session: Session, dueAtMs: number, nowMs: number): RenewalWork {
  const { rateLimits } = exchange.services
  const bucket = `login-renewal\0${session.id}\0${session.askedAtMs}\0${session.tokens.expiresAtMs}`
  return {
    session,
    dueAtMs,
    staleMs: exchange.snapshot.settings.login.staleMs,
    mayAsk: () => {
      const taken = rateLimits.take(bucket, 1, ASK_EVERY_MS, 'open')
      return taken instanceof Promise ? taken.then(({ admitted }) => admitted) : taken.admitted
    },
    // `dueAt` was given, and both come together
    ask: () => plan.method.renew!(exchange, session, nowMs),
  }
}

function useRenewed(plan: LoginPlan, exchange: Exchange, visit: Visit, renewed: Renewed): Outcome | Promise<Outcome> {
  if (renewed.kind === 'unknown') throw loginFailed(plan, exchange, renewed.error)
  if (renewed.kind === 'ended') {
    note(exchange, renewed.error)
    // other workers may go on with it for a minute, so the browser must not have it any more
    exchange.answerLines += visit.drop()
    return begin(plan, exchange, visit, { returnTo: exchange.receivedTarget, force: false, flags: NO_FLAGS })
  }
  const { session, isFresh } = renewed
  if (!isFresh) return admit(plan, exchange, visit, session, { flags: NO_FLAGS, isFresh }, Date.now())
  return useSession(plan, exchange, visit, session, { flags: { ...NO_FLAGS, renewed: true }, isFresh })
}

function admit(
  plan: LoginPlan,
  exchange: Exchange,
  visit: Visit,
  session: Session,
  { flags, isFresh }: Use,
  nowMs: number,
): Outcome {
  const refusal = plan.refuses(session.identity)
  if (refusal !== undefined) throw loginFailed(plan, exchange, refusal, exchange.receivedTarget)
  if (isFresh || needsTouch(session, plan.lifetimes, nowMs)) {
    exchange.answerLines += saved(plan, exchange, visit, { ...session, activeAtMs: nowMs }, nowMs)
  }
  publish(plan, exchange, resultOf(plan, session, flags))
  return NEXT
}

function resultOf(plan: LoginPlan, session: Session, flags: SessionFlags): Record<string, JsonValue> {
  if (flags !== NO_FLAGS) return plan.method.resultOf(session, flags)
  let result = plan.results.get(session)
  if (result === undefined) {
    result = plan.method.resultOf(session, flags)
    plan.results.set(session, result)
  }
  return result
}

function publish(plan: LoginPlan, exchange: Exchange, result: Record<string, JsonValue>): void {
  for (const name of plan.method.results) exchange.setResult(name, result)
}

// ── to the provider ──

interface LoginWish {
  readonly returnTo: string
  readonly force: boolean
  readonly flags: SessionFlags
}

async function begin(plan: LoginPlan, exchange: Exchange, visit: Visit, wish: LoginWish): Promise<Outcome> {
  const { flags } = wish
  publish(plan, exchange, { session_timed_out: flags.timedOut, session_max_duration_reached: flags.maxReached })
  const slot = chooseSlot(isNavigation(exchange), (it) => cookieIn(visit.cookies, visit.flowName(it)) !== undefined)
  const flow = newFlow(slot, wish.returnTo, Date.now())
  let location: string
  try {
    location = await plan.method.begin(exchange, visit.site, flow, wish.force)
  } catch (error) {
    throw loginFailed(plan, exchange, error, flow.returnTo)
  }
  const sealed = sealFlow(flow, visit.box.keys, visit.realm)
  const sameSite = plan.method.flowSameSite(visit.site)
  const cookie = setCookie(visit.flowName(slot), sealed, visit.scope, FLOW_MS / 1000, sameSite)
  return redirect(location, cookie)
}

/** Browsers say what a request is for; what says nothing counts as a person's. */
function isNavigation(exchange: Exchange): boolean {
  return (exchange.head.first('sec-fetch-mode') ?? 'navigate') === 'navigate'
}

function redirect(location: string, lines: string, status: 302 | 303 = 302): Respond {
  return {
    kind: 'respond',
    status,
    lines: `location: ${location}\r\n${lines}${OWN_LINES}`,
    body: '',
    reason: 'ok',
    responsePhase: false,
  }
}

const OWN_LINES = 'cache-control: no-store\r\nreferrer-policy: no-referrer\r\nserver: sallyport\r\n'

// ── paths of logins ──

const LOGGED_OUT: Respond = Object.freeze({
  kind: 'respond',
  status: 200,
  lines: `content-type: text/html; charset=utf-8\r\n${OWN_LINES}`,
  body: '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>Signed out</title></head>\n<body><h1>Signed out</h1>\n<p>You have signed out here.</p></body></html>\n',
  reason: 'ok',
  responsePhase: false,
})

/** See Action.servePath. Also keeps our cookies from the upstream, for every request of the endpoint. */
export function serveLoginPath(
  plan: LoginPlan,
  exchange: Exchange,
  isLast: boolean,
): Outcome | Promise<Outcome> | undefined {
  exchange.ownCookies ??= []
  exchange.ownCookies.push(plan.isOwnCookie)
  const { path } = exchange.url
  const callbackPath = plan.method.callbackPath(exchange)
  if (path === callbackPath) return receive(plan, exchange, isLast)
  if (path === LOGOUT_PATH) {
    const wanted = parameter(exchange, 'auth_id')
    if (wanted === undefined || wanted === plan.authId) exchange.answerLines += visitFor(plan, exchange).drop()
    exchange.insteadOfUpstream = LOGGED_OUT
    return undefined
  }
  if (path === LOGIN_PATH) {
    const wanted = parameter(exchange, 'auth_id') ?? ''
    // without a name it is the one without a name, or the last there is
    if (wanted !== plan.authId && !(isLast && wanted === '')) {
      if (isLast) throw new GatewayError('LOGIN_STATE_INVALID', { retryPath: LOGIN_PATH })
      return undefined
    }
    const returnTo = parameter(exchange, 'redirect_path') ?? '/'
    return begin(plan, exchange, visitFor(plan, exchange), { returnTo, force: true, flags: NO_FLAGS })
  }
  return plan.method.serve?.(exchange, siteOf(exchange))
}

/** One parameter of the query, decoded; undefined when it is not there. */
function parameter(exchange: Exchange, name: string): string | undefined {
  return new URLSearchParams(exchange.url.query).get(name) ?? undefined
}

/** Whether a cookie is one of a login's, whatever its prefix and part. */
export function cookieTest(authId: string): (name: string) => boolean {
  const suffix = authId === '' ? '' : `_${authId}`
  return (name) => {
    const bare = name.startsWith('__Host-') ? name.slice(7) : name.startsWith('__Secure-') ? name.slice(9) : name
    const plain = bare.replace(/\.\d$/, '')
    return plain === `session${suffix}` || (plain === `nonce${suffix}` && plain !== bare)
  }
}

function visitFor(plan: LoginPlan, exchange: Exchange): Visit {
  try {
    return new Visit(plan, exchange)
  } catch (error) {
    throw loginFailed(plan, exchange, error)
  }
}

/** The provider has sent the browser back. Undefined: the login belongs to another action of the policy. */
function receive(plan: LoginPlan, exchange: Exchange, isLast: boolean): Outcome | Promise<Outcome> | undefined {
  const visit = visitFor(plan, exchange)
  const state = plan.method.stateOf(exchange)
  if (state instanceof Promise) {
    return state
      .then((settled) => finish(plan, exchange, visit, settled, findFlow(visit, settled)))
      .catch((error: unknown) => {
        throw loginFailed(plan, exchange, error)
      })
  }
  const flow = findFlow(visit, state)
  if (flow === undefined && !isLast) return undefined
  return finish(plan, exchange, visit, state, flow)
}

function findFlow(visit: Visit, state: string | undefined): Flow | undefined {
  const slot = state === undefined ? undefined : slotOf(state)
  const text = slot === undefined ? undefined : cookieIn(visit.cookies, visit.flowName(slot))
  return text === undefined ? undefined : openFlow(text, state!, visit.box.keys, visit.realm) // a slot needs a state
}

async function finish(
  plan: LoginPlan,
  exchange: Exchange,
  visit: Visit,
  state: string | undefined,
  flow: Flow | undefined,
): Promise<Outcome> {
  const { method } = plan
  const nowMs = Date.now()
  const returnTo = flow?.returnTo ?? (method.allowsUnasked ? returnPath(state ?? '/') : '/')
  const slot = flow === undefined ? undefined : slotOf(flow.state)
  const used =
    slot === undefined ? '' : deleteCookie(visit.flowName(slot), visit.scope, method.flowSameSite(visit.site))
  try {
    if (flow === undefined && !(method.allowsUnasked && (state === undefined || slotOf(state) === undefined))) {
      throw new LoginError('LOGIN_STATE_INVALID', 'no open login of this browser has the state that came back')
    }
    if (flow !== undefined && nowMs - flow.startedAtMs > FLOW_MS) {
      throw new LoginError('LOGIN_TOO_LATE', 'the login was begun too long ago')
    }
    const { identity, tokens, endsAtMs } = await method.finish(exchange, visit.site, flow)
    const refusal = plan.refuses(identity)
    if (refusal !== undefined) throw refusal
    const session = newSession(identity, tokens, Date.now(), endsAtMs)
    const lines = `${used}${visit.save(session, plan.lifetimes, session.createdAtMs)}`
    return redirect(returnTo, lines, exchange.method === 'POST' ? 303 : 302)
  } catch (error) {
    throw loginFailed(plan, exchange, error, returnTo, used)
  }
}

function saved(plan: LoginPlan, exchange: Exchange, visit: Visit, session: Session, nowMs: number): string {
  try {
    return visit.save(session, plan.lifetimes, nowMs)
  } catch (error) {
    throw loginFailed(plan, exchange, error)
  }
}

// ── failures ──

/** The page that describes the failure and offers another try (§5.12); anything but a LoginError passes through. */
function loginFailed(plan: LoginPlan, exchange: Exchange, error: unknown, returnTo?: string, lines = ''): unknown {
  if (!(error instanceof LoginError)) return error
  note(exchange, error)
  const query = new URLSearchParams()
  if (plan.authId !== '') query.set('auth_id', plan.authId)
  if (returnTo !== undefined && returnPath(returnTo) !== '/') query.set('redirect_path', returnPath(returnTo))
  const retryPath = query.size === 0 ? LOGIN_PATH : `${LOGIN_PATH}?${query.toString()}`
  const failure = new GatewayError(error.code, { retryPath, lines, cause: error.message })
  const ngrok = /ERR_NGROK_\d+/.exec(failure.reason)?.[0] ?? error.code
  publish(plan, exchange, { error: { code: ngrok, message: failure.message } })
  return failure
}

/** What the operator must know; the words hold no token. */
function note(exchange: Exchange, error: LoginError): void {
  const fields = { request_id: exchange.requestId, endpoint: exchange.frame.endpoint.name, error: error.message }
  if (error.isOutage || OPERATORS.has(error.code)) exchange.services.logger.warn(fields, 'login failed')
  else exchange.services.logger.debug(fields, 'login failed')
}

/** What only the operator can put right. */
const OPERATORS: ReadonlySet<string> = new Set([
  'LOGIN_BAD_SCOPE',
  'LOGIN_BAD_REDIRECT',
  'LOGIN_BAD_CLIENT',
  'LOGIN_NEEDS_CLIENT',
  'LOGIN_VALUE_FAILED',
  'LOGIN_NOT_SEALED',
])
