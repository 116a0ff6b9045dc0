/**
 * The providers of the `oauth` action: where they are, what they must be asked for, how they speak of a user.
 *
 * Source: traffic-policy.md §5.12 (names, minimum scopes); the providers' public documentation of their OAuth 2.0
 * endpoints.
 */
import { LoginError } from './login-error.ts'
import type { Identity } from './session.ts'

/** Asks the provider's API with the user's access token; JSON as it came. Throws LoginError. */
export type AskApi = (url: string, headers?: Readonly<Record<string, string>>) => Promise<unknown>

export interface OauthProvider {
  readonly authorizationUrl: string
  readonly tokenUrl: string
  /** ngrok has an application of its own there; we have none. */
  readonly isManaged: boolean
  /** Always asked for, beside those of the policy. */
  scopes(configured: readonly string[]): readonly string[]
  /** What makes it ask for the password, or at least for the account, again. */
  readonly force: Readonly<Record<string, string>>
  readonly pkce: boolean
  profile(ask: AskApi, client: { readonly id: string; readonly scopes: readonly string[] }): Promise<Identity>
}

export const OAUTH_PROVIDER_NAMES = [
  'amazon',
  'facebook',
  'github',
  'gitlab',
  'google',
  'linkedin',
  'microsoft',
  'twitch',
] as const

export type OauthProviderName = (typeof OAUTH_PROVIDER_NAMES)[number]

type Json = Readonly<Record<string, unknown>>

const always =
  (...scopes: readonly string[]) =>
  (): readonly string[] =>
    scopes

const PUBLIC: Readonly<Record<Exclude<OauthProviderName, 'github' | 'gitlab'>, OauthProvider>> = {
  amazon: {
    authorizationUrl: 'https://www.amazon.com/ap/oa',
    tokenUrl: 'https://api.amazon.com/auth/o2/token',
    isManaged: false,
    scopes: always('profile'),
    force: {},
    pkce: true,
    profile: async (ask) => {
      const user = object(await ask('https://api.amazon.com/user/profile'))
      return identity(user['user_id'], user['email'], user['name'])
    },
  },
  facebook: {
    authorizationUrl: 'https://www.facebook.com/dialog/oauth',
    tokenUrl: 'https://graph.facebook.com/oauth/access_token',
    isManaged: false,
    scopes: always('email'),
    force: { auth_type: 'reauthenticate' },
    pkce: true,
    profile: async (ask) => {
      const user = object(await ask('https://graph.facebook.com/me?fields=id,name,email'))
      return identity(user['id'], user['email'], user['name'])
    },
  },
  google: {
    authorizationUrl: 'https://accounts.google.com/o/oauth2/v2/auth',
    tokenUrl: 'https://oauth2.googleapis.com/token',
    isManaged: true,
    scopes: always(
      'https://www.googleapis.com/auth/userinfo.email',
      'https://www.googleapis.com/auth/userinfo.profile',
    ),
    force: { prompt: 'select_account' },
    pkce: true,
    profile: async (ask) => fromClaims(object(await ask('https://openidconnect.googleapis.com/v1/userinfo'))),
  },
  linkedin: {
    authorizationUrl: 'https://www.linkedin.com/oauth/v2/authorization',
    tokenUrl: 'https://www.linkedin.com/oauth/v2/accessToken',
    isManaged: true,
    // applications made since 2023 are only given the scopes of OpenID
    scopes: (configured) =>
      configured.includes('openid') ? ['profile', 'email'] : ['r_emailaddress', 'r_liteprofile'],
    force: {},
    // its PKCE is another flow, for native applications
    pkce: false,
    profile: async (ask, { scopes }) => {
      if (scopes.includes('openid')) return fromClaims(object(await ask('https://api.linkedin.com/v2/userinfo')))
      const user = object(await ask('https://api.linkedin.com/v2/me'))
      const emails = object(
        await ask('https://api.linkedin.com/v2/emailAddress?q=members&projection=(elements*(handle~))'),
      )
      const [first] = list(emails['elements'])
      const name = [user['localizedFirstName'], user['localizedLastName']].filter((it) => typeof it === 'string')
      return identity(user['id'], object(object(first)['handle~'])['emailAddress'], name.join(' '))
    },
  },
  microsoft: {
    authorizationUrl: 'https://login.microsoftonline.com/common/oauth2/v2.0/authorize',
    tokenUrl: 'https://login.microsoftonline.com/common/oauth2/v2.0/token',
    isManaged: true,
    scopes: always('User.Read'),
    force: { prompt: 'login' },
    pkce: true,
    profile: async (ask) => {
      const user = object(await ask('https://graph.microsoft.com/v1.0/me'))
      // accounts without a mailbox have their sign-in name only
      return identity(user['id'], user['mail'] ?? user['userPrincipalName'], user['displayName'])
    },
  },
  twitch: {
    authorizationUrl: 'https://id.twitch.tv/oauth2/authorize',
    tokenUrl: 'https://id.twitch.tv/oauth2/token',
    isManaged: true,
    scopes: always('user:read:email'),
    force: { force_verify: 'true' },
    pkce: true,
    profile: async (ask, { id }) => {
      const [first] = list(object(await ask('https://api.twitch.tv/helix/users', { 'client-id': id }))['data'])
      const user = object(first)
      return identity(user['id'], user['email'], user['display_name'] ?? user['login'])
    },
  },
}

/** `baseUrl`: a GitHub Enterprise Server or self-managed GitLab instead of the public one, without a slash at its end. */
export function oauthProvider(name: OauthProviderName, baseUrl?: string): OauthProvider {
  if (name === 'github') return github(baseUrl)
  if (name === 'gitlab') return gitlab(baseUrl ?? 'https://gitlab.com')
  return PUBLIC[name]
}

function github(baseUrl: string | undefined): OauthProvider {
  const web = baseUrl ?? 'https://github.com'
  const api = baseUrl === undefined ? 'https://api.github.com' : `${baseUrl}/api/v3`
  const headers = { accept: 'application/vnd.github+json', 'user-agent': 'sallyport' }
  return {
    authorizationUrl: `${web}/login/oauth/authorize`,
    tokenUrl: `${web}/login/oauth/access_token`,
    isManaged: true,
    scopes: always('read:org', 'read:user'),
    force: { prompt: 'select_account' },
    pkce: true,
    profile: async (ask) => {
      const user = object(await ask(`${api}/user`, headers))
      const email = user['email'] ?? (await primaryEmail(ask, `${api}/user/emails`, headers))
      return identity(user['id'], email, user['name'] ?? user['login'])
    },
  }
}

/** Those who keep their address private show it under the scope `user:email` only. */
async function primaryEmail(ask: AskApi, url: string, headers: Readonly<Record<string, string>>): Promise<unknown> {
  try {
    const emails = list(await ask(url, headers)).map((it) => object(it))
    return emails.find((it) => it['primary'] === true && it['verified'] === true)?.['email']
  } catch (error) {
    if (error instanceof LoginError && !error.isOutage) return undefined
    throw error
  }
}

function gitlab(baseUrl: string): OauthProvider {
  return {
    authorizationUrl: `${baseUrl}/oauth/authorize`,
    tokenUrl: `${baseUrl}/oauth/token`,
    isManaged: true,
    scopes: always('email', 'openid', 'profile'),
    force: {},
    pkce: true,
    profile: async (ask) => fromClaims(object(await ask(`${baseUrl}/oauth/userinfo`))),
  }
}

/** OpenID's standard claims. An address that the provider calls unverified could be anybody's, so it does not count. */
export function fromClaims(claims: Json): Identity {
  const name = claims['name'] ?? claims['preferred_username'] ?? claims['nickname']
  return identity(claims['sub'], claims['email_verified'] === false ? undefined : claims['email'], name)
}

function identity(subject: unknown, email: unknown, name: unknown): Identity {
  const id = typeof subject === 'number' && Number.isSafeInteger(subject) ? String(subject) : text(subject)
  if (id === '') throw new LoginError('LOGIN_NO_USER_ID', 'the provider gave no user id')
  return { subject: id, email: text(email), name: text(name) }
}

function text(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 1024) : ''
}

function object(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {}
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}
