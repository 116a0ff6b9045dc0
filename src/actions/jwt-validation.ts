/**
 * `jwt-validation`: lets a request pass when every configured token is there, signed by a key of the named key sets, and
 * made by an allowed issuer for an allowed audience. Ends the phase on refusal: 401 ERR_NGROK_3401 (missing or bad
 * token), 403 ERR_NGROK_3403 (good token, wrong issuer or audience), 503 ERR_NGROK_3422 (no keys to judge by).
 *
 * Publishes `jwt_validation.tokens[]` and `.error`. `type` of a token is a hint for readers and decides nothing.
 * Source: traffic-policy.md §5.10, §8.2; RFC 6750 §3; T-50 … T-59.
 */
import type { TextSource } from '../config/node.ts'
import { described, INVALID, optional, policyKit, type Schema, withDefault } from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { JsonValue } from '../expression/source.ts'
import type { Template } from '../expression/template.ts'
import { bodyForm, tokenFromBody, tokenFromHeader, type AbsentToken, type ExtractedToken } from '../jwt/extract.ts'
import { keySetUrlProblem } from '../jwt/key-set-fetch.ts'
import type { JwtRequirements, JwtVerdict } from '../jwt/service.ts'
import { ALGORITHMS } from '../jwt/signature.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { Action, CompileContext } from './action.ts'

interface TokenConfig {
  readonly type: string
  readonly method: 'header' | 'body'
  readonly name: TextSource
  readonly prefix: TextSource | undefined
}

interface KeySources {
  readonly additional_jkus: readonly TextSource[]
}

interface Keys {
  readonly sources: readonly KeySources[]
}

interface Config {
  readonly issuer: { readonly allow_list: readonly { readonly value: TextSource }[] }
  readonly audience: { readonly allow_list: readonly { readonly value: string }[] } | undefined
  readonly http: { readonly tokens: readonly TokenConfig[] }
  readonly jws: { readonly allowed_algorithms: readonly TextSource[]; readonly keys: readonly Keys[] }
}

interface TokenPlan {
  readonly method: 'header' | 'body'
  readonly name: Template
  /** Undefined: the whole value is the token. */
  readonly prefix: Template | undefined
}

interface Plan {
  readonly issuers: readonly Template[]
  readonly audiences: readonly string[] | undefined
  readonly algorithms: readonly string[]
  readonly keySetUrls: readonly Template[]
  /** Made once when nothing of them is interpolated: the service finds its way by this object. */
  readonly constant: JwtRequirements | undefined
  readonly tokens: readonly TokenPlan[]
}

/** The published examples write an object where the field table says list of objects: both are taken (§5.10). */
function oneOrMany<T>(schema: Schema<T>): Schema<readonly T[]> {
  const single: Schema<readonly T[]> = {
    parse: (node, diagnostics, label) => {
      const value = schema.parse(node, diagnostics, label)
      return value === INVALID ? INVALID : [value]
    },
    jsonSchema: () => schema.jsonSchema(),
  }
  return policyKit.byKind({ map: single, list: policyKit.list(schema, { min: 1 }) })
}

const values = <T>(value: Schema<T>): Schema<readonly { readonly value: T }[]> =>
  policyKit.list(policyKit.object({ value: described(value, 'Compared exactly.') }), { min: 1 })

export const jwtValidation: Action<Config, Plan> = {
  type: 'jwt-validation',
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object(
    {
      issuer: described(
        policyKit.object({ allow_list: described(values(policyKit.text()), 'The `iss` of the token is one of them.') }),
        'Who may have made the token.',
      ),
      audience: described(
        optional(
          policyKit.object({
            allow_list: described(
              values(policyKit.string({ minLength: 1 })),
              'The `aud` of the token holds one of them.',
            ),
          }),
        ),
        'Whom it may be for; without it nobody looks.',
      ),
      http: described(
        policyKit.object({
          tokens: described(
            policyKit.list(
              policyKit.object({
                type: described(
                  policyKit.enumeration(['id_token', 'access_token', 'at+jwt', 'it+jwt', 'plain', 'jwt'] as const),
                  'A hint for readers; decides nothing.',
                ),
                method: described(policyKit.enumeration(['header', 'body'] as const), 'Where it is.'),
                name: described(policyKit.text(), 'Name of the header, or path of the body field.'),
                prefix: described(optional(policyKit.text()), 'What stands before the token, such as `Bearer `.'),
              }),
              { min: 1 },
            ),
            'Every one of these must be there and be good.',
          ),
        }),
        'Where tokens are.',
      ),
      jws: described(
        policyKit.object({
          allowed_algorithms: described(
            policyKit.list(policyKit.text(), { min: 1 }),
            'Signature algorithms, such as `RS256`.',
          ),
          keys: described(
            oneOrMany(
              policyKit.object({
                identification: described(
                  withDefault(
                    oneOrMany(
                      policyKit.object({
                        token_claims: described(
                          withDefault(policyKit.list(policyKit.enumeration(['kid'] as const)), []),
                          'Only `kid` exists.',
                        ),
                      }),
                    ),
                    [],
                  ),
                  'How the key is found.',
                ),
                sources: described(
                  oneOrMany(
                    policyKit.object({
                      additional_jkus: described(
                        policyKit.list(policyKit.text(), { min: 1, max: 100 }),
                        'URLs of key sets (JWKS).',
                      ),
                    }),
                  ),
                  'Where keys come from.',
                ),
              }),
            ),
            'Keys to check with.',
          ),
        }),
        'How it is signed.',
      ),
    },
    {
      hints: { enforce: 'jwt-validation always ends the phase on refusal; it has no enforce' },
    },
  ),
  compile(config, context) {
    const issuers = compileIssuers(config, context)
    const algorithms = compileAlgorithms(config.jws.allowed_algorithms, context)
    const keySetUrls = compileKeySetUrls(config.jws.keys, context)
    const tokens = config.http.tokens.map((token) => compileToken(token, context))
    if (issuers === undefined || algorithms === undefined || keySetUrls === undefined || !isWhole(tokens)) {
      return undefined
    }
    const audiences = config.audience?.allow_list.map((entry) => entry.value)
    const plan = { issuers, audiences, algorithms, keySetUrls, tokens }
    return { ...plan, constant: isConstant(issuers) && isConstant(keySetUrls) ? requirementsOf(plan) : undefined }
  },
  run(plan, exchange) {
    const requirements = plan.constant ?? requirementsOf(plan, exchange)
    return checkTokens(plan, requirements, exchange, 0, [])
  },
}

/** Tokens from `from` on; `passed` holds the results of those before. A promise as soon as one has to wait. */
function checkTokens(
  plan: Plan,
  requirements: JwtRequirements,
  exchange: Exchange,
  from: number,
  passed: JsonValue[],
): Outcome | Promise<Outcome> {
  for (let at = from; at < plan.tokens.length; at++) {
    const location = plan.tokens[at]! // within bounds
    const verdict = judgeToken(location, requirements, exchange)
    if (verdict instanceof Promise) {
      return verdict.then((known) => {
        passed.push(resultOf(location, known, exchange, passed))
        return checkTokens(plan, requirements, exchange, at + 1, passed)
      })
    }
    passed.push(resultOf(location, verdict, exchange, passed))
  }
  exchange.setResult('jwt_validation', { tokens: passed })
  return NEXT
}

function judgeToken(location: TokenPlan, requirements: JwtRequirements, exchange: Exchange): Judged | Promise<Judged> {
  const name = render(location.name, exchange)
  const prefix = location.prefix === undefined ? '' : render(location.prefix, exchange)
  if (location.method === 'header') {
    return judge(tokenFromHeader(exchange.head, name, prefix), requirements, exchange, name)
  }
  const form = bodyForm(exchange.method, exchange.head.first('content-type'))
  if (typeof form === 'object') return { name, verdict: form }
  const limitBytes = exchange.snapshot.settings.limits.bufferedBodyBytes
  const body = exchange.requestBody(limitBytes)
  const withBody = (collected: { bytes: Uint8Array; complete: boolean }): Judged | Promise<Judged> => {
    if (!collected.complete) throw new GatewayError('BODY_TOO_LARGE')
    return judge(tokenFromBody(form, collected.bytes, name, prefix), requirements, exchange, name)
  }
  return body instanceof Promise ? body.then(withBody) : withBody(body)
}

/** What became of one token, and the field it was looked for in. */
interface Judged {
  readonly name: string
  readonly verdict: JwtVerdict | AbsentToken
}

function judge(
  extracted: ExtractedToken,
  requirements: JwtRequirements,
  exchange: Exchange,
  name: string,
): Judged | Promise<Judged> {
  if (extracted.kind === 'absent') return { name, verdict: extracted }
  const verdict = exchange.services.jwt.verify(extracted.token, requirements)
  return verdict instanceof Promise ? verdict.then((known) => ({ name, verdict: known })) : { name, verdict }
}

/** The entry of `jwt_validation.tokens`, or the error that ends the exchange. */
function resultOf(location: TokenPlan, judged: Judged, exchange: Exchange, passed: readonly JsonValue[]): JsonValue {
  const { verdict, name } = judged
  if (verdict.kind === 'accepted') {
    const { header, payload, signature } = verdict
    return { header, location: location.method, location_property: name, payload, signature, verified: true }
  }
  const code = verdict.kind === 'absent' ? verdict.code : verdict.detailCode
  exchange.setResult('jwt_validation', { tokens: passed, error: { code, message: verdict.reason } })
  exchange.services.logger.debug(
    { request_id: exchange.requestId, code, error: verdict.reason },
    'jwt-validation refused the request',
  )
  const reason = `auth:${code}` as const
  const status = verdict.kind === 'absent' ? 401 : verdict.status
  if (status === 503) throw new GatewayError('JWT_KEYS_MISSING', { reason })
  if (status === 403) throw new GatewayError('JWT_FORBIDDEN', { reason })
  // RFC 6750 §3.1: no error code when the request carried no credentials.
  const presented = verdict.kind === 'refused' || verdict.presented
  const challenge = `Bearer realm="${exchange.endpoint.host}"${presented ? ', error="invalid_token"' : ''}`
  throw new GatewayError('JWT_MISSING', { reason, lines: `www-authenticate: ${challenge}\r\n` })
}

// ── requirements ──

function requirementsOf(plan: Omit<Plan, 'constant' | 'tokens'>, exchange?: Exchange): JwtRequirements {
  const text = (template: Template): string =>
    exchange === undefined ? template.constant! : render(template, exchange)
  return {
    issuers: plan.issuers.map(text),
    audiences: plan.audiences,
    algorithms: plan.algorithms,
    keySetUrls: plan.keySetUrls.map(text),
  }
}

/** Everything that is interpolated here decides who gets in: a value that cannot be computed fails closed (§4). */
function render(template: Template, exchange: Exchange): string {
  if (template.constant !== undefined) return template.constant
  try {
    return template.render(exchange)
  } catch (error) {
    throw new GatewayError('INTERPOLATION_FAILED', { cause: error })
  }
}

function isConstant(templates: readonly Template[]): boolean {
  return templates.every((template) => template.constant !== undefined)
}

// ── compiling ──

function compileIssuers(config: Config, context: CompileContext): Template[] | undefined {
  const sources = config.issuer.allow_list.map((entry) => entry.value)
  const templates = sources.map((source) => context.template(source))
  const seen = new Set<string>()
  let valid = true
  for (const [index, template] of templates.entries()) {
    const text = template?.constant
    if (text === undefined) continue
    const source = sources[index]! // one template for each source
    if (!/^[a-z][a-z0-9+.-]*:\/\/\S+$/i.test(text) && !isPlaceholder(text, source, context)) {
      context.diagnostics.error('ERR_NGROK_7173', `the issuer ${JSON.stringify(text)} is not a URL`, source.span)
      valid = false
    }
    if (seen.has(text)) {
      context.diagnostics.error('ERR_NGROK_2231', `the issuer ${JSON.stringify(text)} is listed twice`, source.span)
      valid = false
    }
    seen.add(text)
  }
  return valid && isWhole(templates) ? templates : undefined
}

function compileAlgorithms(sources: readonly TextSource[], context: CompileContext): string[] | undefined {
  const { diagnostics } = context
  let valid = true
  for (const { text, span } of sources) {
    const rule = ALGORITHMS.get(text)
    if (rule === undefined) {
      const hint = `known are ${[...ALGORITHMS.keys()].join(', ')}`
      diagnostics.error(
        'ERR_NGROK_2222',
        `${JSON.stringify(text)} is no signature algorithm that is served`,
        span,
        hint,
      )
      valid = false
    } else if (rule.keyType === 'oct') {
      const hint = 'name the algorithm of the public keys that the issuer publishes'
      diagnostics.warning(
        'JWT_SECRET_KEYS',
        `no token will pass under ${text}: its secret key cannot come from a key set`,
        span,
        hint,
      )
    }
  }
  return valid ? sources.map((source) => source.text) : undefined
}

function compileKeySetUrls(keys: readonly Keys[], context: CompileContext): Template[] | undefined {
  const sources = keys.flatMap((entry) => entry.sources.flatMap((source) => source.additional_jkus))
  const templates = sources.map((source) => context.template(source))
  let valid = true
  for (const [index, template] of templates.entries()) {
    const url = template?.constant
    if (url === undefined) continue
    const source = sources[index]! // one template for each source
    const problem = keySetUrlProblem(url, context.settings.jwt.allowHttp)
    if (problem === undefined) context.keySetUrls.add(url)
    else if (!isPlaceholder(url, source, context)) {
      context.diagnostics.error(
        'ERR_NGROK_2226',
        `the key set ${JSON.stringify(url)} cannot be fetched: ${problem}`,
        source.span,
      )
      valid = false
    }
  }
  return valid && isWhole(templates) ? templates : undefined
}

/** `$NAME` and `<NAME>` of published examples: a warning, for the document is right as far as it goes. */
function isPlaceholder(text: string, source: TextSource, context: CompileContext): boolean {
  if (!/\$[A-Z_]|<[^>]*>/.test(text)) return false
  const hint = 'until then every token is refused'
  context.diagnostics.warning(
    'PLACEHOLDER',
    `${JSON.stringify(text)} is a placeholder that is not filled in`,
    source.span,
    hint,
  )
  return true
}

function compileToken(config: TokenConfig, context: CompileContext): TokenPlan | undefined {
  const name = context.template(config.name)
  const prefix = config.prefix === undefined ? undefined : context.template(config.prefix)
  if (name === undefined || (config.prefix !== undefined && prefix === undefined)) return undefined
  if (name.constant === '') {
    context.diagnostics.error('ERR_NGROK_2223', 'the name of a token must not be empty', config.name.span)
    return undefined
  }
  return { method: config.method, name, prefix }
}

function isWhole<T>(list: readonly (T | undefined)[]): list is T[] {
  return !list.includes(undefined)
}
