/**
 * `oauth`: lets a request pass whose user has logged in at a provider by OAuth 2.0; others are sent there. Publishes
 * `oauth.identity.*`, `.access_token`, `.refresh_token`, `.expires_at`, `.session_timed_out`,
 * `.session_max_duration_reached`, `.userinfo_refreshed`, `.error`.
 *
 * ngrok's managed applications do not exist here: a config without `client_id` is right, but `run` refuses it.
 * Source: traffic-policy.md §5.12.
 */
import { described, optional, policyKit } from '../config/schema-kit.ts'
import { LoginError } from '../login/login-error.ts'
import { OAUTH_PROVIDER_NAMES, oauthProvider, type OauthProviderName } from '../login/oauth-providers.ts'
import type { Identity } from '../login/session.ts'
import type { Action } from './action.ts'
import { type LoginPlan, runLogin, serveLoginPath } from './login.ts'
import {
  compileClient,
  compileLogin,
  INVALID_PART,
  LOGIN_ALIASES,
  LOGIN_HINTS,
  loginFields,
  type LoginConfig,
} from './login-config.ts'

interface Config extends LoginConfig {
  readonly provider: OauthProviderName
  readonly email_addresses: readonly string[] | undefined
  readonly email_domains: readonly string[] | undefined
}

export const oauth: Action<Config, LoginPlan> = {
  type: 'oauth',
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object(
    {
      provider: described(policyKit.enumeration(OAUTH_PROVIDER_NAMES), 'Who logs people in.'),
      ...loginFields,
      email_addresses: described(
        optional(policyKit.list(policyKit.string({ minLength: 3 }), { max: 1000 })),
        'Older form of a rule about `identity.email`.',
      ),
      email_domains: described(
        optional(policyKit.list(policyKit.string({ minLength: 1 }), { max: 1000 })),
        'Older form of a rule about the domain of `identity.email`.',
      ),
    },
    {
      aliases: LOGIN_ALIASES,
      hints: { ...LOGIN_HINTS, issuer_url: 'this is a key of openid-connect' },
    },
  ),
  compile(config, context) {
    const { provider: name, scopes: configured } = config
    const { login } = context.settings
    const baseUrl = name === 'github' ? login.githubUrl : name === 'gitlab' ? login.gitlabUrl : undefined
    const provider = oauthProvider(name, baseUrl)
    const client = compileClient(config, context)
    if (client === INVALID_PART) return undefined
    if (client === undefined && !provider.isManaged) {
      const text = `${name} has no managed application: client_id and client_secret are required`
      context.diagnostics.error('ERR_NGROK_5535', text, context.span)
      return undefined
    }
    if (client === undefined) {
      context.diagnostics.notServed(
        'MANAGED_OAUTH_NOT_SERVED',
        `${name} without client_id means an application that ngrok manages, which only ngrok has`,
        context.span,
        `register an application at ${name} and give its client_id and client_secret`,
      )
    }
    const scopes = [...new Set([...configured, ...provider.scopes(configured)])]
    return compileLogin(
      config,
      {
        results: ['oauth'],
        provider: { kind: 'known', name, provider },
        providerName: baseUrl ?? name,
        scopes,
        resultOf: (session, identity) => ({
          identity: { ...identity, current_provider_session_id: session.id },
        }),
        refuses: restriction(config),
      },
      client,
      context,
    )
  },
  run: runLogin,
  servePath: serveLoginPath,
}

/** `email_addresses` and `email_domains` of mid-2025: being in either list is enough. */
function restriction({ email_addresses, email_domains }: Config): (identity: Identity) => LoginError | undefined {
  if (email_addresses === undefined && email_domains === undefined) return () => undefined
  const addresses = new Set((email_addresses ?? []).map((it) => it.toLowerCase()))
  const domains = new Set((email_domains ?? []).map((it) => it.toLowerCase().replace(/^@/, '')))
  return ({ email }) => {
    if (email === '') return new LoginError('LOGIN_NO_EMAIL', 'the provider gave no verified e-mail address')
    const address = email.toLowerCase()
    if (addresses.has(address) || domains.has(address.slice(address.lastIndexOf('@') + 1))) return undefined
    return new LoginError('LOGIN_NOT_AUTHORISED', 'the e-mail address is in neither list')
  }
}
