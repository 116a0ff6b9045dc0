/**
 * Keys that `oauth` and `openid-connect` share, and their login by the authorisation code flow.
 * Source: traffic-policy.md §5.12, §5.13, §8.3 (2219, 2226, 2240 … 2246); RFC 6749 §3.3 (scope tokens).
 */
import { createHash } from 'node:crypto'
import { domainToASCII } from 'node:url'
import type { TextSource } from '../config/node.ts'
import { described, located, type Located, optional, policyKit, withDefault } from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { JsonValue } from '../expression/source.ts'
import type { Template } from '../expression/template.ts'
import { LoginError } from '../login/login-error.ts'
import { type Client, endsSoon, type Provider, RENEW_AHEAD_MS } from '../login/openid.ts'
import { identityId, type Identity, type Session } from '../login/session.ts'
import type { CompileContext } from './action.ts'
import { cookieTest, type LoginMethod, type LoginPlan, type SessionFlags } from './login.ts'

/** What the authorisation request is made of: not for policies to change. */
const RESERVED_PARAMETERS: ReadonlySet<string> = new Set([
  'client_id',
  'client_secret',
  'code_challenge',
  'code_challenge_method',
  'nonce',
  'redirect_uri',
  'request',
  'request_uri',
  'response_mode',
  'response_type',
  'scope',
  'state',
])

const MAX_PARAMETERS = 32
const MAX_PARAMETER_NAME_CHARS = 128
const MAX_PARAMETER_VALUE_CHARS = 8192

const scope = policyKit.string({ pattern: /^[\x21\x23-\x5b\x5d-\x7e]+$/, must: 'must be a scope: no spaces or quotes' })

/** As written in either action; durations in milliseconds. */
export const loginFields = {
  auth_id: described(
    withDefault(
      policyKit.string({ pattern: /^[A-Za-z0-9_-]{0,64}$/, must: 'must have at most 64 letters, digits, - and _' }),
      '',
    ),
    'Name of the session, for several logins on one host.',
  ),
  client_id: described(optional(policyKit.text()), 'Id of the application at the provider.'),
  client_secret: described(optional(policyKit.text()), 'Its secret.'),
  scopes: described(
    withDefault(policyKit.list(scope, { max: 64, unique: true }), []),
    'Scopes asked for beside those that are always needed.',
  ),
  authz_url_params: described(
    optional(located(policyKit.mapOf(located(policyKit.string())))),
    'More parameters of the authorization request.',
  ),
  max_session_duration: described(
    withDefault(policyKit.durationMs(), 0),
    'How long a session lives at most; 0: no limit.',
  ),
  idle_session_timeout: described(
    withDefault(policyKit.durationMs(), 0),
    'How long a session lives without requests; 0: no limit.',
  ),
  userinfo_refresh_interval: described(
    withDefault(policyKit.durationMs(), 0),
    'How often what the provider says of the user is asked for anew; 0: never.',
  ),
  allow_cors_preflight: described(withDefault(policyKit.boolean(), false), 'CORS preflights pass without a session.'),
  auth_cookie_domain: described(
    optional(located(policyKit.string({ maxLength: 253 }))),
    'Domain of the session cookie: a parent domain shares the login.',
  ),
} as const

/** Other spellings in old documents, and what each action calls the other's keys. */
export const LOGIN_ALIASES = { scope: 'scopes', idle_session_duration: 'idle_session_timeout' } as const

export const LOGIN_HINTS = {
  inject_headers: 'write an add-headers action behind it',
  redirect_url: 'the path is set with login.callback_path in gateway.yaml',
} as const

export interface LoginConfig {
  readonly auth_id: string
  readonly client_id: TextSource | undefined
  readonly client_secret: TextSource | undefined
  readonly scopes: readonly string[]
  readonly authz_url_params: Located<ReadonlyMap<string, Located<string>>> | undefined
  readonly max_session_duration: number
  readonly idle_session_timeout: number
  readonly userinfo_refresh_interval: number
  readonly allow_cors_preflight: boolean
  readonly auth_cookie_domain: Located<string> | undefined
}

/** What the two actions do not have in common. */
export interface LoginKind {
  /** Names under `actions.ngrok`. */
  readonly results: readonly string[]
  readonly provider: Provider
  /** Of identities and realms: the provider's name or issuer. */
  readonly providerName: string
  readonly scopes: readonly string[]
  resultOf(session: Session, identity: Record<string, JsonValue>, flags: SessionFlags): Record<string, JsonValue>
  refuses?(identity: Identity): LoginError | undefined
}

interface ClientTemplates {
  readonly id: Template
  readonly secret: Template
}

/** Undefined after errors. */
export function compileLogin(
  config: LoginConfig,
  kind: LoginKind,
  client: ClientTemplates | undefined,
  context: CompileContext,
): LoginPlan | undefined {
  const parameters = compileParameters(config.authz_url_params, context)
  const cookieDomain = compileCookieDomain(config.auth_cookie_domain, context)
  if (parameters === INVALID_PART || cookieDomain === INVALID_PART) return undefined
  const method = new CodeLogin(kind, client, parameters, config.userinfo_refresh_interval)
  return {
    method,
    authId: config.auth_id,
    cookieDomain,
    lifetimes: {
      idleMs: config.idle_session_timeout === 0 ? undefined : config.idle_session_timeout,
      maxMs: config.max_session_duration === 0 ? undefined : config.max_session_duration,
    },
    allowCorsPreflight: config.allow_cors_preflight,
    refuses: (identity) => kind.refuses?.(identity),
    results: new WeakMap(),
    isOwnCookie: cookieTest(config.auth_id),
  }
}

/** Both, or neither: then undefined (2240). INVALID_PART after errors. */
export function compileClient(config: LoginConfig, context: CompileContext): ClientTemplates | undefined | InvalidPart {
  const { client_id: idSource, client_secret: secretSource } = config
  const id = idSource && context.template(idSource)
  const secret = secretSource && context.template(secretSource)
  if ((idSource && id === undefined) || (secretSource && secret === undefined)) return INVALID_PART
  const hasId = id !== undefined && id.constant !== ''
  const hasSecret = secret !== undefined && secret.constant !== ''
  if (hasId && hasSecret) return { id, secret }
  if (!hasId && !hasSecret) return undefined
  const [given, missing] = hasId ? ['client_id', 'client_secret'] : ['client_secret', 'client_id']
  const place = (hasId ? idSource : secretSource)?.span
  context.diagnostics.error('ERR_NGROK_2240', `${missing} is required when ${given} is given`, place)
  return INVALID_PART
}

export const INVALID_PART: unique symbol = Symbol('invalid part')
export type InvalidPart = typeof INVALID_PART

function compileParameters(
  written: LoginConfig['authz_url_params'],
  { diagnostics }: CompileContext,
): ReadonlyMap<string, string> | InvalidPart {
  if (written === undefined) return new Map()
  let isValid = true
  const refuse = (code: string, text: string, place: Located<unknown>): void => {
    isValid = false
    diagnostics.error(code, text, place.span)
  }
  if (written.value.size > MAX_PARAMETERS) {
    const text = `authz_url_params has ${written.value.size} entries, at most ${MAX_PARAMETERS} are allowed`
    refuse('ERR_NGROK_2244', text, written)
  }
  for (const [name, value] of written.value) {
    if (RESERVED_PARAMETERS.has(name.toLowerCase())) {
      refuse('ERR_NGROK_2219', `the parameter ${name} is the gateway's own`, value)
    }
    if (name.length > MAX_PARAMETER_NAME_CHARS) {
      refuse('ERR_NGROK_2245', `a name in authz_url_params has more than ${MAX_PARAMETER_NAME_CHARS} characters`, value)
    }
    if (value.value.length > MAX_PARAMETER_VALUE_CHARS) {
      const text = `a value in authz_url_params has more than ${MAX_PARAMETER_VALUE_CHARS} characters`
      refuse('ERR_NGROK_2246', text, value)
    }
  }
  return isValid ? new Map([...written.value].map(([name, value]) => [name, value.value])) : INVALID_PART
}

/** The endpoint's host or a domain above it; browsers would drop any other (RFC 6265 §5.3). */
function compileCookieDomain(
  written: Located<string> | undefined,
  { diagnostics, host }: CompileContext,
): string | undefined | InvalidPart {
  if (written === undefined || written.value === '') return undefined
  const text = written.value.replace(/^\./, '').toLowerCase()
  const ascii = domainToASCII(text)
  if (ascii === '') {
    const isPunycode = text.split('.').some((label) => label.startsWith('xn--'))
    const code = isPunycode ? 'ERR_NGROK_2242' : 'ERR_NGROK_2243'
    diagnostics.error(code, `auth_cookie_domain is not a domain: ${JSON.stringify(written.value)}`, written.span)
    return INVALID_PART
  }
  if (!/^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)+[a-z](?:[a-z0-9-]*[a-z0-9])?$/.test(ascii)) {
    const problem = `auth_cookie_domain must be a domain such as example.com, not ${JSON.stringify(written.value)}`
    diagnostics.error('ERR_NGROK_2243', problem, written.span)
    return INVALID_PART
  }
  const base = host?.replace(/^\*\./, '')
  if (base !== undefined && !base.endsWith('.internal') && base !== ascii && !base.endsWith(`.${ascii}`)) {
    const hint = 'write the host of the endpoint or a domain above it'
    const problem = `auth_cookie_domain ${ascii} is no domain of the endpoint ${base}`
    diagnostics.error('ERR_NGROK_2241', problem, written.span, hint)
    return INVALID_PART
  }
  return ascii
}

/** Between two renewals of tokens that hardly live longer. */
const MIN_RENEWAL_PAUSE_MS = 5000

class CodeLogin implements LoginMethod {
  readonly results: readonly string[]
  readonly allowsUnasked = false
  readonly #kind: LoginKind
  readonly #client: ClientTemplates | undefined
  readonly #parameters: ReadonlyMap<string, string>
  readonly #refreshMs: number
  /** By client id; there is one, unless it is computed. */
  readonly #realms = new Map<string, string>()

  constructor(
    kind: LoginKind,
    client: ClientTemplates | undefined,
    parameters: ReadonlyMap<string, string>,
    refreshMs: number,
  ) {
    this.results = kind.results
    this.#kind = kind
    this.#client = client
    this.#parameters = parameters
    this.#refreshMs = refreshMs
  }

  /** Other scopes or parameters mean another login: what was agreed to before does not count for them. */
  realm(exchange: Exchange): string {
    const clientId = this.#clientId(exchange)
    let realm = this.#realms.get(clientId)
    if (realm === undefined) {
      const { results, providerName, scopes } = this.#kind
      const facts = JSON.stringify([results[0], providerName, clientId, scopes, [...this.#parameters]])
      realm = createHash('sha256').update(facts).digest('base64url')
      if (this.#realms.size >= 64) this.#realms.clear()
      this.#realms.set(clientId, realm)
    }
    return realm
  }

  callbackPath(exchange: Exchange): string {
    return exchange.snapshot.settings.login.callbackPath
  }

  stateOf(exchange: Exchange): string | undefined {
    return new URLSearchParams(exchange.url.query).get('state') ?? undefined
  }

  flowSameSite(): 'Lax' {
    return 'Lax'
  }

  begin: LoginMethod['begin'] = async (exchange, site, flow, force) => {
    const { provider, scopes } = this.#kind
    const redirectUri = `${site.origin}${this.callbackPath(exchange)}`
    const request = { redirectUri, scopes, parameters: this.#parameters, flow, force }
    const { services, snapshot } = exchange
    return await services.openid.begin(provider, this.#clientOf(exchange), request, snapshot.settings.login)
  }

  finish: LoginMethod['finish'] = async (exchange, site, flow) => {
    const { provider, scopes } = this.#kind
    const redirectUri = `${site.origin}${this.callbackPath(exchange)}`
    const { services, snapshot } = exchange
    return await services.openid.finish(
      provider,
      this.#clientOf(exchange),
      { redirectUri, scopes, flow: flow! }, // without `allowsUnasked` there is one
      exchange.url.query,
      snapshot.settings.login,
    )
  }

  dueAt(session: Session, nowMs: number): number | undefined {
    const byInterval = this.#refreshMs === 0 ? Infinity : session.askedAtMs + this.#refreshMs
    const { tokens } = session
    const byTokens =
      tokens.refreshToken === '' || !endsSoon(tokens, nowMs)
        ? Infinity
        : Math.max(tokens.expiresAtMs - RENEW_AHEAD_MS, session.askedAtMs + MIN_RENEWAL_PAUSE_MS)
    const dueAtMs = Math.min(byInterval, byTokens)
    return nowMs >= dueAtMs ? dueAtMs : undefined
  }

  renew: NonNullable<LoginMethod['renew']> = async (exchange, session, nowMs) => {
    const { provider, scopes } = this.#kind
    const { services, snapshot } = exchange
    const withIdentity = this.#refreshMs !== 0
    const client = this.#clientOf(exchange)
    const { login } = snapshot.settings
    const { identity, tokens } = await services.openid.renew(provider, client, scopes, session, withIdentity, login)
    return { ...session, identity, tokens, askedAtMs: nowMs }
  }

  resultOf(session: Session, flags: SessionFlags): Record<string, JsonValue> {
    const { identity, tokens } = session
    return {
      ...this.#kind.resultOf(
        session,
        {
          id: identityId(this.#kind.providerName, identity.subject),
          email: identity.email,
          name: identity.name,
          provider_user_id: identity.subject,
        },
        flags,
      ),
      access_token: tokens.accessToken,
      refresh_token: tokens.refreshToken,
      expires_at: tokens.expiresAtMs === 0 ? '' : new Date(tokens.expiresAtMs).toISOString(),
      session_timed_out: flags.timedOut,
      session_max_duration_reached: flags.maxReached,
      userinfo_refreshed: flags.renewed,
    }
  }

  #clientId(exchange: Exchange): string {
    return this.#client === undefined ? '' : render(this.#client.id, exchange, 'client_id')
  }

  #clientOf(exchange: Exchange): Client {
    if (this.#client === undefined) throw new LoginError('LOGIN_NEEDS_CLIENT', 'the action has no client_id')
    const id = this.#clientId(exchange)
    const secret = render(this.#client.secret, exchange, 'client_secret')
    return { id, secret }
  }
}

/** Who gets in depends on it: a value that cannot be computed, or is empty, fails closed (§4). */
function render(template: Template, exchange: Exchange, field: string): string {
  if (template.constant !== undefined) return template.constant
  let text: string
  try {
    text = template.render(exchange)
  } catch {
    throw new LoginError('LOGIN_VALUE_FAILED', `${field} cannot be computed`)
  }
  if (text === '') throw new LoginError('LOGIN_VALUE_FAILED', `${field} is empty`)
  return text
}
