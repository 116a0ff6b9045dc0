/**
 * OpenID Connect and OAuth 2.0 with a provider: where to send the browser, what its code is worth, whether a login still
 * holds. The only importer of openid-client, which is loaded with the first login.
 *
 * Metadata is fetched when a login first needs it, never at load: kept an hour, then renewed beside the logins that use
 * the old copy; a provider that is down is asked again after a growing pause, and the old copy serves for `login.stale`.
 * ID tokens are verified by signature, issuer, audience, nonce and times; every login has PKCE.
 * Source: OpenID Connect Core §3.1, Discovery §4; RFC 6749 §4.1, §6; RFC 7636; RFC 9207; RFC 9700.
 */
import { createHash } from 'node:crypto'
import type * as OpenidClient from 'openid-client'
import type { LoginSettings } from '../config/settings.ts'
import { ask, askJson } from './egress.ts'
import type { Flow } from './flow.ts'
import { codeOfProviderError, LoginError, shownText } from './login-error.ts'
import { fromClaims, type OauthProvider } from './oauth-providers.ts'
import { RemoteCopies } from './remote-copy.ts'
import type { Identity, Session, Tokens } from './session.ts'

/** The application at the provider. */
export interface Client {
  readonly id: string
  readonly secret: string
}

/** Either an OpenID issuer, whose metadata is discovered, or one of the known providers. */
export type Provider =
  | { readonly kind: 'issuer'; readonly issuerUrl: string }
  | { readonly kind: 'known'; readonly name: string; readonly provider: OauthProvider }

export interface LoginRequest {
  readonly redirectUri: string
  readonly scopes: readonly string[]
  readonly parameters: ReadonlyMap<string, string>
  readonly flow: Flow
  /** Ask for the password again. */
  readonly force: boolean
}

export interface LoginResult {
  readonly identity: Identity
  readonly tokens: Tokens
  /** The provider's own end of the session (SAML). */
  readonly endsAtMs?: number | undefined
}

const METADATA_FRESH_MS = 3_600_000
/** Applications at providers whose metadata is kept, per worker. */
const MAX_CONFIGURATIONS = 256
/** A token is renewed so long before it ends, so that requests that wait for nothing still have a good one. */
export const RENEW_AHEAD_MS = 60_000

export class OpenidClients {
  readonly #discovered = new RemoteCopies<OpenidClient.Configuration>(MAX_CONFIGURATIONS, METADATA_FRESH_MS)

  /** Where the browser goes to log in. Throws LoginError. */
  async begin(provider: Provider, client: Client, request: LoginRequest, settings: LoginSettings): Promise<string> {
    const library = await load()
    const configuration = await this.#configuration(provider, client, settings)
    const { flow } = request
    const usesPkce = provider.kind === 'issuer' || provider.provider.pkce
    const forced = provider.kind === 'issuer' ? { prompt: 'login' } : provider.provider.force
    const url = library.buildAuthorizationUrl(configuration, {
      ...Object.fromEntries(request.parameters),
      ...(request.force && forced),
      redirect_uri: request.redirectUri,
      scope: request.scopes.join(' '),
      state: flow.state,
      ...(provider.kind === 'issuer' && { nonce: flow.nonce }),
      ...(usesPkce && {
        code_challenge: await library.calculatePKCECodeChallenge(flow.verifier),
        code_challenge_method: 'S256',
      }),
    })
    return url.href
  }

  /** `query`: of the callback, as it came. Throws LoginError. */
  async finish(
    provider: Provider,
    client: Client,
    request: Pick<LoginRequest, 'redirectUri' | 'flow' | 'scopes'>,
    query: string,
    settings: LoginSettings,
  ): Promise<LoginResult> {
    const library = await load()
    const configuration = await this.#configuration(provider, client, settings)
    const callback = new URL(request.redirectUri)
    callback.search = query
    const { flow } = request
    const pkceCodeVerifier = flow.verifier
    if (provider.kind === 'known') {
      // these providers have no metadata that would say who `iss` must be
      callback.searchParams.delete('iss')
      const answer = await asLogin(
        library.authorizationCodeGrant(configuration, callback, {
          expectedState: flow.state,
          ...(provider.provider.pkce && { pkceCodeVerifier }),
        }),
      )
      checkGranted(provider, answer.scope)
      const tokens = tokensOf(answer)
      return { identity: await profile(provider, client, request.scopes, tokens.accessToken, settings), tokens }
    }
    const answer = await asLogin(
      library.authorizationCodeGrant(configuration, callback, {
        expectedState: flow.state,
        expectedNonce: flow.nonce,
        idTokenExpected: true,
        pkceCodeVerifier,
      }),
    )
    const claims = answer.claims()! // the library has made sure of the token
    const tokens = tokensOf(answer)
    const complete = claims['email'] !== undefined && claims['name'] !== undefined
    const more = complete ? undefined : await this.#userinfo(library, configuration, tokens.accessToken, claims.sub)
    return { identity: fromClaims({ ...claims, ...more }), tokens }
  }

  /**
   * Asks the provider again: fresh tokens when these end soon, and the user's data when `withIdentity`. Throws LoginError;
   * `isOutage` tells a provider in trouble from one that knows the user no more.
   */
  async renew(
    provider: Provider,
    client: Client,
    scopes: readonly string[],
    session: Session,
    withIdentity: boolean,
    settings: LoginSettings,
  ): Promise<LoginResult> {
    const library = await load()
    const configuration = await this.#configuration(provider, client, settings)
    let { tokens, identity } = session
    if (endsSoon(tokens, Date.now())) {
      if (tokens.refreshToken === '') throw new LoginError('LOGIN_REVOKED', 'the access token has ended')
      const answer = await asRenewal(library.refreshTokenGrant(configuration, tokens.refreshToken))
      const fresh = tokensOf(answer)
      tokens = {
        ...fresh,
        refreshToken: fresh.refreshToken === '' ? tokens.refreshToken : fresh.refreshToken,
        identityToken: fresh.identityToken === '' ? tokens.identityToken : fresh.identityToken,
      }
      const subject = provider.kind === 'issuer' ? answer.claims()?.sub : undefined
      if (subject !== undefined && subject !== identity.subject) {
        throw new LoginError('LOGIN_REVOKED', 'the renewed token is of another user')
      }
    }
    if (withIdentity && provider.kind === 'known') {
      const now = await profile(provider, client, scopes, tokens.accessToken, settings)
      if (now.subject !== identity.subject) throw new LoginError('LOGIN_REVOKED', 'the token is of another user now')
      identity = now
    } else if (withIdentity) {
      const claims = await this.#userinfo(library, configuration, tokens.accessToken, identity.subject)
      const now = claims === undefined ? identity : fromClaims(claims)
      // what only the ID token said stays
      identity = {
        ...now,
        email: claims?.['email'] === undefined ? identity.email : now.email,
        name: now.name === '' ? identity.name : now.name,
      }
    }
    return { identity, tokens }
  }

  /** Undefined when the provider has no such endpoint. */
  async #userinfo(
    library: typeof OpenidClient,
    configuration: OpenidClient.Configuration,
    accessToken: string,
    subject: string,
  ): Promise<Readonly<Record<string, unknown>> | undefined> {
    if (configuration.serverMetadata().userinfo_endpoint === undefined) return undefined
    return await asRenewal(library.fetchUserInfo(configuration, accessToken, subject))
  }

  async #configuration(
    provider: Provider,
    client: Client,
    settings: LoginSettings,
  ): Promise<OpenidClient.Configuration> {
    const secretHash = createHash('sha256').update(client.secret).digest('base64url')
    const place = provider.kind === 'issuer' ? provider.issuerUrl : provider.provider.tokenUrl
    const key = JSON.stringify([
      provider.kind,
      place,
      client.id,
      secretHash,
      settings.allowHttp,
      settings.fetchTimeoutMs,
    ])
    return await this.#discovered.get(key, settings.staleMs, () => makeConfiguration(provider, client, settings))
  }
}

async function makeConfiguration(
  provider: Provider,
  client: Client,
  settings: LoginSettings,
): Promise<OpenidClient.Configuration> {
  const library = await load()
  const timeout = Math.ceil(settings.fetchTimeoutMs / 1000) + 1
  const execute = settings.allowHttp === false ? [] : [library.allowInsecureRequests]
  if (provider.kind === 'known') {
    const { authorizationUrl, tokenUrl } = provider.provider
    const metadata = {
      issuer: new URL(tokenUrl).origin,
      authorization_endpoint: authorizationUrl,
      token_endpoint: tokenUrl,
    }
    const authentication = library.ClientSecretPost(client.secret)
    const configuration = new library.Configuration(metadata, client.id, client.secret, authentication)
    configuration[library.customFetch] = (url, options) => libraryFetch(url, options, settings, plainOauth)
    configuration.timeout = timeout
    for (const extension of execute) extension(configuration)
    return configuration
  }
  const [post, basic] = [library.ClientSecretPost(client.secret), library.ClientSecretBasic(client.secret)]
  // RFC 8414 §2: without a list it is client_secret_basic
  const authenticate: OpenidClient.ClientAuth = (server, ...rest) => {
    const takesPost = server.token_endpoint_auth_methods_supported?.includes('client_secret_post') === true
    return (takesPost ? post : basic)(server, ...rest)
  }
  try {
    return await library.discovery(new URL(provider.issuerUrl), client.id, client.secret, authenticate, {
      [library.customFetch]: (url, options) => libraryFetch(url, options, settings),
      timeout,
      execute: [...execute, library.enableNonRepudiationChecks],
    })
  } catch (error) {
    const reason = translate(error, 'login')
    if (reason.code === 'LOGIN_PROVIDER_TIMEOUT') throw reason
    throw new LoginError('LOGIN_NO_METADATA', `no metadata of ${provider.issuerUrl}: ${reason.message}`)
  }
}

/** fetch as the library calls it, under our rules. */
async function libraryFetch(
  url: string,
  options: OpenidClient.CustomFetchOptions,
  settings: LoginSettings,
  change: (json: Record<string, unknown>) => Record<string, unknown> = (json) => json,
): Promise<Response> {
  const { status, headers, body } = await ask(
    url,
    {
      method: options.method,
      headers: options.headers,
      body: (options.body as URLSearchParams | null) ?? undefined,
      signal: options.signal,
    },
    settings,
  )
  const type = headers.get('content-type') ?? ''
  let shown: Uint8Array | string = body
  let shownStatus = status
  if (change === plainOauth && type.includes('json')) {
    try {
      const json = change(JSON.parse(Buffer.from(body).toString('utf8')) as Record<string, unknown>)
      shown = JSON.stringify(json)
      // GitHub's errors have status 200
      if (status === 200 && typeof json['error'] === 'string') shownStatus = 400
    } catch {
      // the library says what is wrong with it
      shown = body
    }
  }
  const isEmpty = shownStatus === 204 || shownStatus === 304 || (shownStatus >= 300 && shownStatus < 400)
  return new Response(isEmpty ? null : (shown as string), {
    status: shownStatus,
    headers: { 'content-type': type, ...authenticateField(headers) },
  })
}

function authenticateField(headers: Headers): Record<string, string> {
  const value = headers.get('www-authenticate')
  return value === null ? {} : { 'www-authenticate': value }
}

/**
 * Token answers of providers that speak OAuth 2.0 in their own way: Twitch lists scopes, LinkedIn leaves out the token's
 * type. ID tokens are dropped: who the user is comes from the provider's API.
 */
function plainOauth(json: Record<string, unknown>): Record<string, unknown> {
  const { id_token: _idToken, ...rest } = json
  const scope = Array.isArray(rest['scope']) ? rest['scope'].join(' ') : rest['scope']
  return {
    ...rest,
    ...(rest['access_token'] !== undefined && { token_type: rest['token_type'] ?? 'bearer' }),
    ...(scope === undefined ? {} : { scope }),
  }
}

async function profile(
  known: Extract<Provider, { kind: 'known' }>,
  client: Client,
  scopes: readonly string[],
  accessToken: string,
  settings: LoginSettings,
): Promise<Identity> {
  return await known.provider.profile(
    (url, headers) => askJson(url, { authorization: `Bearer ${accessToken}`, ...headers }, settings),
    { id: client.id, scopes },
  )
}

/** Google lets its users take single scopes out. Other providers write granted scopes in ways of their own. */
function checkGranted(known: Extract<Provider, { kind: 'known' }>, granted: string | undefined): void {
  if (known.name !== 'google' || granted === undefined) return
  const given = new Set(granted.split(/[ ,]+/))
  const missing = known.provider.scopes([]).filter((scope) => !given.has(scope))
  if (missing.length > 0) throw new LoginError('LOGIN_SCOPES_NOT_GRANTED', `not granted: ${missing.join(', ')}`)
}

function tokensOf(answer: OpenidClient.TokenEndpointResponse): Tokens {
  return {
    identityToken: answer.id_token ?? '',
    accessToken: answer.access_token,
    refreshToken: answer.refresh_token ?? '',
    expiresAtMs: answer.expires_in === undefined ? 0 : Date.now() + answer.expires_in * 1000,
  }
}

/** Whether the access token ends so soon that it is worth a renewal. */
export function endsSoon(tokens: Tokens, nowMs: number): boolean {
  return tokens.expiresAtMs !== 0 && tokens.expiresAtMs - nowMs < RENEW_AHEAD_MS
}

async function asLogin<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    throw translate(error, 'login')
  }
}

async function asRenewal<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer
  } catch (error) {
    throw translate(error, 'renewal')
  }
}

/** Whatever the library throws, as a LoginError. Its own messages hold no tokens; bodies and causes are left out. */
function translate(error: unknown, step: 'login' | 'renewal'): LoginError {
  for (let at: unknown = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth += 1) {
    if (at instanceof LoginError) return at
  }
  const facts = error as {
    readonly error?: unknown
    readonly error_description?: unknown
    readonly status?: unknown
    readonly code?: unknown
  }
  if (typeof facts.error === 'string') {
    const said = [shownText(facts.error), shownText(facts.error_description)].filter((it) => it !== '').join(': ')
    return new LoginError(codeOfProviderError(facts.error, step), `the provider said ${said}`)
  }
  if (facts.status === 401 || facts.status === 403) {
    return new LoginError(
      step === 'login' ? 'LOGIN_BAD_CLIENT' : 'LOGIN_REVOKED',
      `the provider answered ${facts.status}`,
    )
  }
  if (facts.code === 'OAUTH_TIMEOUT')
    return new LoginError('LOGIN_PROVIDER_TIMEOUT', 'the provider did not answer in time')
  const message = error instanceof Error ? shownText(error.message) : 'unknown'
  const code = typeof facts.code === 'string' ? ` (${facts.code})` : ''
  return new LoginError(step === 'login' ? 'LOGIN_REJECTED' : 'LOGIN_PROVIDER_UNREADABLE', `${message}${code}`)
}

let loaded: Promise<typeof OpenidClient> | undefined

/** Gateways without logins need not spend the time that loading it takes. */
function load(): Promise<typeof OpenidClient> {
  loaded ??= import('openid-client')
  return loaded
}
