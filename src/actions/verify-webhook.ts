/**
 * `verify-webhook`: lets a request pass whose body its provider signed; others get 403 (ERR_NGROK_3204). Answers the
 * requests by which twitter, worldline, xero and zoom try an endpoint. Publishes `verify_webhook.verified`, `.error`.
 *
 * The body is collected up to `limits.buffered_body` (413 beyond), unless the provider's scheme does not cover it.
 * Source: traffic-policy.md §5.27, appendix A.
 */
import type { TextSource } from '../config/node.ts'
import { described, INVALID, optional, policyKit, transform, withDefault } from '../config/schema-kit.ts'
import type { CollectedBody, Exchange } from '../exchange/exchange.ts'
import type { Template } from '../expression/template.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { ChallengeAnswer } from '../webhook/challenges.ts'
import { type Provider, PROVIDERS, PROVIDERS_NOT_PUBLIC } from '../webhook/providers.ts'
import { needsBody, refused, verifyBySchemes, type WebhookRequest, type WebhookVerdict } from '../webhook/scheme.ts'
import { SnsCertificates, verifySns } from '../webhook/sns.ts'
import type { Action } from './action.ts'

interface Config {
  readonly provider: string
  readonly secret: TextSource | undefined
  readonly enforce: boolean
}

interface Plan {
  /** Undefined: `sns`. */
  readonly provider: Provider | undefined
  /** Given for all but `sns`. */
  readonly secret: Template | undefined
  readonly needsBody: boolean
  readonly enforce: boolean
}

/** Shared by all policies of a worker: certificates are Amazon's, not ours. */
const certificates = new SnsCertificates()

const provider = transform(
  policyKit.enumeration([...PROVIDERS.keys(), 'sns', ...PROVIDERS_NOT_PUBLIC].toSorted()),
  (name, { diagnostics, node }) => {
    if (!PROVIDERS_NOT_PUBLIC.includes(name)) return name
    const text = `webhooks of ${name} cannot be verified: its scheme is not public`
    diagnostics.error('WEBHOOK_PROVIDER_NOT_SERVED', text, node.span)
    return INVALID
  },
)

export const verifyWebhook: Action<Config, Plan> = {
  type: 'verify-webhook',
  aliases: ['webhook-verification'],
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object({
    provider: described(provider, 'Who signs.'),
    secret: described(optional(policyKit.text()), "The provider's signing secret; may hold `${…}`."),
    enforce: described(
      withDefault(policyKit.boolean(), true),
      'false: only the result says whether the signature is good.',
    ),
  }),
  compile(config, context) {
    const { diagnostics } = context
    const { provider: name, secret: source, enforce } = config
    if (name === 'sns') {
      if (source !== undefined) {
        const hint = 'take it out: the certificate that a message names must be one of Amazon'
        diagnostics.warning('ERR_NGROK_1626', 'sns has no secret: this one is not looked at', source.span, hint)
      }
      return { provider: undefined, secret: undefined, needsBody: true, enforce }
    }
    if (source === undefined) {
      diagnostics.error('ERR_NGROK_2234', `webhooks of ${name} are verified with a secret`, context.span)
      return undefined
    }
    const secret = context.template(source)
    if (secret === undefined) return undefined
    if (secret.constant === '') {
      diagnostics.error('ERR_NGROK_2223', 'secret must not be empty', source.span)
      return undefined
    }
    const known = PROVIDERS.get(name)! // the schema let only known ones through
    const readsBody = known.challenge !== undefined || known.schemes.some((scheme) => needsBody(scheme))
    return { provider: known, secret, needsBody: readsBody, enforce }
  },
  run(plan, exchange) {
    if (!plan.needsBody || exchange.requestBodyLength === 0) return judge(plan, exchange, new Uint8Array(0))
    const limitBytes = exchange.snapshot.settings.limits.bufferedBodyBytes
    if (exchange.requestBodyLength > limitBytes) return tooLarge(plan, exchange)
    const withBody = ({ bytes, complete }: CollectedBody): Outcome | Promise<Outcome> =>
      complete ? judge(plan, exchange, bytes) : tooLarge(plan, exchange)
    const body = exchange.requestBody(limitBytes)
    return body instanceof Promise ? body.then(withBody) : withBody(body)
  },
}

function tooLarge(plan: Plan, exchange: Exchange): Outcome {
  if (plan.enforce) throw new GatewayError('BODY_TOO_LARGE')
  return decide(plan, exchange, refused('the body is too large'))
}

function judge(plan: Plan, exchange: Exchange, body: Uint8Array): Outcome | Promise<Outcome> {
  const request: WebhookRequest = {
    method: exchange.method,
    target: exchange.receivedTarget,
    urls: publicUrls(exchange),
    headers: exchange.head,
    body,
  }
  if (plan.provider === undefined) {
    const verdict = verifySns(request, certificates, Date.now())
    return verdict instanceof Promise
      ? verdict.then((settled) => decide(plan, exchange, settled))
      : decide(plan, exchange, verdict)
  }
  const secret = secretOf(plan, exchange)
  const verdict = verifyBySchemes(plan.provider.schemes, request, secret, Date.now())
  return decide(plan, exchange, verdict, plan.provider.challenge?.(request, secret, verdict.verified))
}

function decide(plan: Plan, exchange: Exchange, verdict: WebhookVerdict, answer?: ChallengeAnswer): Outcome {
  const error = verdict.verified ? undefined : { code: 'ERR_NGROK_3204', message: verdict.reason }
  exchange.setResult('verify_webhook', { verified: verdict.verified, ...(error && { error }) })
  if (answer !== undefined && (answer.status < 400 || plan.enforce)) {
    const type = answer.contentType === '' ? '' : `content-type: ${answer.contentType}\r\n`
    return {
      kind: 'respond',
      status: answer.status,
      lines: `${type}server: sallyport\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n`,
      body: answer.body,
      reason: answer.status < 400 ? 'ok' : 'auth:ERR_NGROK_3204',
      responsePhase: false,
    }
  }
  if (verdict.verified) return NEXT
  exchange.services.logger.debug(
    { request_id: exchange.requestId, error: verdict.reason },
    'verify-webhook refused the request',
  )
  if (!plan.enforce) return NEXT
  throw new GatewayError('WEBHOOK_REFUSED')
}

/** The secret decides who gets in: one that cannot be computed, or is empty, fails closed (§4). */
function secretOf(plan: Plan, exchange: Exchange): string {
  let secret: string
  try {
    secret = plan.secret!.render(exchange) // given for all that come here
  } catch (error) {
    throw new GatewayError('INTERPOLATION_FAILED', { cause: error })
  }
  if (secret === '') throw new GatewayError('INTERPOLATION_FAILED', { cause: 'secret: the value is empty' })
  return secret
}

/**
 * What the provider may have called this URL: who ends TLS or translates ports in front of us is not seen here. That
 * more than one is tried opens nothing: each would have to be signed with the secret.
 */
function publicUrls(exchange: Exchange): readonly string[] {
  const forwarded = exchange.client.peerTrusted ? exchange.head.first('x-forwarded-host') : undefined
  const hosts = forwarded === undefined ? [exchange.publicHost] : [forwarded, exchange.publicHost]
  const authorities = new Set(hosts.flatMap((host) => [host, host.replace(/:\d+$/, '')]))
  return [...authorities].flatMap((authority) =>
    ['https', 'http'].map((scheme) => `${scheme}://${authority}${exchange.receivedTarget}`),
  )
}
