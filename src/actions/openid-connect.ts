/**
 * `openid-connect`: lets a request pass whose user has logged in at an OpenID provider; others are sent there. Publishes
 * `oidc.identity.*`, `.identity_token`, `.access_token`, `.refresh_token`, `.expires_at`, `.session_timed_out`,
 * `.session_max_duration_reached`, `.user_info_refreshed`, `.error`; the same under `openid_connect`.
 *
 * The provider's metadata is fetched when the first login needs it, never at load.
 * Source: traffic-policy.md §5.13; OpenID Connect Core §3.1, §5.1.
 */
import { described, located, type Located, policyKit } from '../config/schema-kit.ts'
import { egressProblem } from '../login/egress.ts'
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
  readonly issuer_url: Located<string>
}

const WELL_KNOWN = '/.well-known/openid-configuration'

export const openidConnect: Action<Config, LoginPlan> = {
  type: 'openid-connect',
  aliases: ['oidc'],
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object(
    {
      issuer_url: described(
        located(policyKit.string({ minLength: 1, maxLength: 2048 })),
        'The provider; its discovery document lies below it.',
      ),
      ...loginFields,
    },
    {
      aliases: LOGIN_ALIASES,
      hints: { ...LOGIN_HINTS, provider: 'this is a key of oauth', issuer: 'write issuer_url' },
    },
  ),
  compile(config, context) {
    const { diagnostics, settings } = context
    // people also write where the metadata is
    const issuerUrl = config.issuer_url.value.endsWith(WELL_KNOWN)
      ? config.issuer_url.value.slice(0, -WELL_KNOWN.length)
      : config.issuer_url.value
    const problem = /[?]/.test(issuerUrl) ? 'a URL with a query' : egressProblem(issuerUrl, settings.login.allowHttp)
    if (problem !== undefined) {
      const hint = 'write the issuer as the provider documents it: https://id.example.com'
      diagnostics.error('ERR_NGROK_2226', `issuer_url cannot be used: ${problem}`, config.issuer_url.span, hint)
      return undefined
    }
    const client = compileClient(config, context)
    if (client === INVALID_PART) return undefined
    if (client === undefined) {
      const text = 'client_id and client_secret of an application registered at the provider are required'
      diagnostics.error('ERR_NGROK_2234', text, context.span)
      return undefined
    }
    return compileLogin(
      config,
      {
        results: ['oidc', 'openid_connect'],
        provider: { kind: 'issuer', issuerUrl },
        providerName: issuerUrl,
        scopes: [...new Set(['openid', ...config.scopes])],
        resultOf: (session, identity, flags) => ({
          identity: { ...identity, current_session_id: session.id },
          identity_token: session.tokens.identityToken,
          // the documentation and the price list spell it differently
          user_info_refreshed: flags.renewed,
        }),
      },
      client,
      context,
    )
  },
  run: runLogin,
  servePath: serveLoginPath,
}
