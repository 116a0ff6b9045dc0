/**
 * `saml`: lets a request pass whose user has logged in at a SAML 2.0 identity provider; others are sent there. Publishes
 * `saml.identity.*`, `.attributes`, `.groups`, `.session_timed_out`, `.session_max_duration_reached`, `.error`.
 *
 * ngrok has announced the action and not documented it: the paths under `/ngrok/saml`, the results and the form of
 * generated names are ours. Answers are posted to `/ngrok/saml/acs`; `/ngrok/saml/metadata` describes us.
 * Source: traffic-policy.md §5.23.
 */
import { createHash } from 'node:crypto'
import {
  described,
  INVALID,
  located,
  type Located,
  optional,
  policyKit,
  transform,
  withDefault,
} from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { JsonValue } from '../expression/source.ts'
import { egressProblem } from '../login/egress.ts'
import type { Flow } from '../login/flow.ts'
import { LoginError } from '../login/login-error.ts'
import {
  groupsOf,
  identityProviderAt,
  loginUrl,
  readAnswer,
  serviceMetadata,
  type ServiceProvider,
} from '../login/saml.ts'
import { type IdentityProvider, readIdpMetadata, SamlXmlError } from '../login/saml-metadata.ts'
import { identityId, type Session } from '../login/session.ts'
import type { Outcome } from '../phase/outcome.ts'
import type { Action, CompileContext } from './action.ts'
import {
  cookieTest,
  type LoginMethod,
  type LoginPlan,
  runLogin,
  serveLoginPath,
  type SessionFlags,
  type Site,
} from './login.ts'

interface Config {
  readonly idp_metadata: Located<string> | undefined
  readonly idp_metadata_url: Located<string> | undefined
  readonly force_authn: boolean
  readonly allow_idp_initiated: boolean
  readonly authorized_groups: readonly string[] | undefined
  readonly entity_id: string | undefined
  readonly assertion_consumer_service_url: URL | undefined
}

const ANSWER_PATH = '/ngrok/saml/acs'
const METADATA_PATH = '/ngrok/saml/metadata'
/** An answer with a few hundred groups has some 50 KB. */
const MAX_ANSWER_BYTES = 512 * 1024

const urlSchema = transform(policyKit.string({ maxLength: 2048 }), (text, { node, diagnostics, label }) => {
  const url = URL.canParse(text) ? new URL(text) : undefined
  const isUsable = url !== undefined && /^https?:$/.test(url.protocol) && url.hash === '' && url.search === ''
  if (isUsable && url.username === '' && url.password === '') return url
  diagnostics.error('ERR_NGROK_2226', `${label} must be a url such as https://app.example.com/saml/acs`, node.span)
  return INVALID
})

export const saml: Action<Config, LoginPlan> = {
  type: 'saml',
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object({
    idp_metadata: described(
      optional(located(policyKit.string({ minLength: 1 }))),
      'Metadata of the identity provider, as XML.',
    ),
    idp_metadata_url: described(
      optional(located(policyKit.string({ minLength: 1, maxLength: 2048 }))),
      'Where that metadata is; fetched when it is first needed.',
    ),
    force_authn: described(withDefault(policyKit.boolean(), false), 'The provider asks for the password again.'),
    allow_idp_initiated: described(
      withDefault(policyKit.boolean(), false),
      'Logins that begin at the provider are taken.',
    ),
    authorized_groups: described(
      optional(policyKit.list(policyKit.string({ minLength: 1, maxLength: 1024 }), { max: 1000 })),
      'Only users of one of these groups pass.',
    ),
    entity_id: described(
      optional(policyKit.string({ minLength: 1, maxLength: 1024 })),
      'Our name at the provider; default: the URL of our metadata.',
    ),
    assertion_consumer_service_url: described(
      optional(urlSchema),
      'Where answers are posted; default: /ngrok/saml/acs of the endpoint.',
    ),
  }),
  compile(config, context) {
    const source = compileSource(config, context)
    if (source === undefined || !isOurs(config.assertion_consumer_service_url, context)) return undefined
    const groups = config.authorized_groups && new Set(config.authorized_groups)
    return {
      method: new SamlLogin(config, source),
      authId: '',
      cookieDomain: undefined,
      lifetimes: { idleMs: undefined, maxMs: undefined },
      allowCorsPreflight: false,
      refuses: (identity) =>
        groups === undefined || groupsOf(identity).some((group) => groups.has(group))
          ? undefined
          : new LoginError('LOGIN_NOT_AUTHORISED', 'the user is in none of the authorized groups'),
      results: new WeakMap(),
      isOwnCookie: cookieTest(''),
    }
  },
  run: runLogin,
  servePath: serveLoginPath,
}

/** Where the provider's metadata comes from. */
interface MetadataSource {
  /** For realms. */
  readonly identity: string
  /** Throws LoginError. */
  get(exchange: Exchange): IdentityProvider | Promise<IdentityProvider>
}

function compileSource(config: Config, context: CompileContext): MetadataSource | undefined {
  const { diagnostics, settings } = context
  const { idp_metadata: text, idp_metadata_url: url } = config
  if (text !== undefined && url !== undefined) {
    diagnostics.error('ERR_NGROK_2204', 'give either idp_metadata or idp_metadata_url', url.span)
    return undefined
  }
  if (url !== undefined) {
    const problem = egressProblem(url.value, settings.login.allowHttp)
    if (problem === undefined) {
      return { identity: url.value, get: (exchange) => identityProviderAt(url.value, exchange.snapshot.settings.login) }
    }
    diagnostics.error('ERR_NGROK_2226', `idp_metadata_url cannot be used: ${problem}`, url.span)
    return undefined
  }
  if (text === undefined) {
    diagnostics.error('ERR_NGROK_2234', 'idp_metadata or idp_metadata_url is required', context.span)
    return undefined
  }
  if (/^(?:[A-Z][A-Z0-9_]*|<[A-Za-z][A-Za-z0-9_ -]*>|\{[^{}]*\}|\$[A-Z][A-Z0-9_]*)$/.test(text.value.trim())) {
    const hint = 'put the metadata XML of the identity provider there; until then every login fails'
    diagnostics.warning('PLACEHOLDER', 'idp_metadata is a placeholder that is not filled in', text.span, hint)
    const missing = (): never => {
      throw new LoginError('LOGIN_NO_METADATA', 'idp_metadata is a placeholder')
    }
    return { identity: text.value, get: missing }
  }
  try {
    const provider = readIdpMetadata(text.value)
    if (provider.wantsSignedRequests) {
      const hint = 'turn off WantAuthnRequestsSigned at the identity provider'
      diagnostics.warning(
        'SAML_REQUESTS_NOT_SIGNED',
        'the provider wants signed requests, and ours are not',
        text.span,
        hint,
      )
    }
    return { identity: createHash('sha256').update(text.value).digest('base64url'), get: () => provider }
  } catch (error) {
    if (!(error instanceof SamlXmlError)) throw error
    const hint = 'download the metadata of the identity provider and put all of it there'
    diagnostics.error('ERR_NGROK_2204', `idp_metadata cannot be used: ${error.message}`, text.span, hint)
    return undefined
  }
}

/** Answers that are posted to another host never arrive here. */
function isOurs(url: URL | undefined, { diagnostics, host, span }: CompileContext): boolean {
  if (url === undefined || host === undefined || host.endsWith('.internal')) return true
  const name = url.hostname.toLowerCase()
  if (name === host || (host.startsWith('*.') && name.endsWith(host.slice(1)))) return true
  const text = `assertion_consumer_service_url must be at the endpoint's host ${host}, not ${name}`
  diagnostics.error('ERR_NGROK_2204', text, span)
  return false
}

class SamlLogin implements LoginMethod {
  readonly results = ['saml'] as const
  readonly allowsUnasked: boolean
  readonly #config: Config
  readonly #source: MetadataSource
  readonly #realm: string

  constructor(config: Config, source: MetadataSource) {
    this.#config = config
    this.#source = source
    this.allowsUnasked = config.allow_idp_initiated
    const facts = ['saml', source.identity, config.entity_id ?? '', config.assertion_consumer_service_url?.href ?? '']
    this.#realm = createHash('sha256').update(JSON.stringify(facts)).digest('base64url')
  }

  realm(): string {
    return this.#realm
  }

  callbackPath(): string {
    return this.#config.assertion_consumer_service_url?.pathname ?? ANSWER_PATH
  }

  serve(exchange: Exchange, site: Site): Promise<Outcome> | undefined {
    if (exchange.url.path !== METADATA_PATH) return undefined
    return serviceMetadata(this.#serviceProvider(site)).then((body) => ({
      kind: 'respond',
      status: 200,
      lines: 'content-type: application/samlmetadata+xml\r\ncache-control: no-store\r\nserver: sallyport\r\n',
      body,
      reason: 'ok',
      responsePhase: false,
    }))
  }

  stateOf(exchange: Exchange): Promise<string | undefined> {
    return formOf(exchange).then((form) => form?.get('RelayState') ?? undefined)
  }

  /** The answer is posted by the provider's page: no other cookie travels with it. Browsers take `None` over TLS only. */
  flowSameSite(site: Site): 'None' | '' {
    return site.secure ? 'None' : ''
  }

  begin: LoginMethod['begin'] = async (exchange, site, flow, force) => {
    const idp = await this.#source.get(exchange)
    const request = { requestId: requestIdOf(flow), state: flow.state, force: force || this.#config.force_authn }
    return await loginUrl(idp, this.#serviceProvider(site), request)
  }

  finish: LoginMethod['finish'] = async (exchange, site, flow) => {
    const answer = (await formOf(exchange))?.get('SAMLResponse')
    if (answer === null || answer === undefined) {
      throw new LoginError('LOGIN_STATE_INVALID', 'there is no SAMLResponse in what was posted')
    }
    const idp = await this.#source.get(exchange)
    const requestId = flow === undefined ? undefined : requestIdOf(flow)
    const nowMs = Date.now()
    const result = await readAnswer(idp, this.#serviceProvider(site), answer, requestId, nowMs)
    await useOnce(exchange, `${idp.entityId}\0${result.assertionId}`, result.usableUntilMs - nowMs)
    return result
  }

  resultOf(session: Session, flags: SessionFlags): Record<string, JsonValue> {
    const { identity } = session
    return {
      identity: {
        id: identityId(this.#source.identity, identity.subject),
        email: identity.email,
        name: identity.name,
        provider_user_id: identity.subject,
        current_session_id: session.id,
      },
      attributes: Object.fromEntries(
        Object.entries(identity.attributes ?? {}).map(([name, values]) => [name, [...values]]),
      ),
      groups: [...groupsOf(identity)],
      session_timed_out: flags.timedOut,
      session_max_duration_reached: flags.maxReached,
    }
  }

  #serviceProvider(site: Site): ServiceProvider {
    return {
      entityId: this.#config.entity_id ?? `${site.origin}${METADATA_PATH}`,
      answerUrl: this.#config.assertion_consumer_service_url?.href ?? `${site.origin}${ANSWER_PATH}`,
    }
  }
}

/** An XML name: a letter or `_` first. */
function requestIdOf(flow: Flow): string {
  return `_${flow.nonce}`
}

async function formOf(exchange: Exchange): Promise<URLSearchParams | undefined> {
  const type = exchange.head.first('content-type') ?? ''
  if (exchange.method !== 'POST' || !/^application\/x-www-form-urlencoded\s*(?:;|$)/i.test(type)) return undefined
  if (exchange.facts.bodyLength > MAX_ANSWER_BYTES) return undefined
  const { bytes, complete } = await exchange.requestBody(MAX_ANSWER_BYTES)
  return complete ? new URLSearchParams(Buffer.from(bytes).toString('latin1')) : undefined
}

/** How long it is remembered that an assertion was used. The same for all: another window is another bucket. */
const REMEMBERED_MS = 86_400_000

/** An assertion counts once, in all workers and gateways that share a store of rate limits. */
async function useOnce(exchange: Exchange, assertion: string, usableMs: number): Promise<void> {
  if (usableMs > REMEMBERED_MS) {
    throw new LoginError('LOGIN_ASSERTION_REFUSED', 'the assertion may be used for longer than a day')
  }
  const windowMs = REMEMBERED_MS
  const { admitted } = await exchange.services.rateLimits.take(`saml-assertion\0${assertion}`, 1, windowMs, 'closed')
  if (!admitted) throw new LoginError('LOGIN_ASSERTION_REFUSED', 'the assertion was used before')
}
