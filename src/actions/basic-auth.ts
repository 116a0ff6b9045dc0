/**
 * `basic-auth`: lets a request pass that carries one of the configured pairs of user and password. Ends the phase on
 * refusal: 401 with a challenge. Publishes `basic_auth.credentials.presented`, `.username`, `.authorized`.
 *
 * The header stays for the upstream; `remove-headers` takes it away.
 * Source: traffic-policy.md §5.2; RFC 7617.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { TextSource } from '../config/node.ts'
import { described, policyKit, withDefault } from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { splitTemplate, type Template } from '../expression/template.ts'
import { NEXT } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { Action, CompileContext } from './action.ts'

/** `user:password` as one text, or the two apart as some published policies write them. */
type CredentialConfig = TextSource | { readonly username: TextSource; readonly password: TextSource }

interface Config {
  readonly credentials: readonly CredentialConfig[]
  readonly realm: string
  readonly enforce: boolean
}

interface Credential {
  /** SHA-256 of `user:password`, when it is constant. */
  readonly digest: Buffer | undefined
  /** One template of the pair, or those of its halves. */
  readonly parts: readonly [Template] | readonly [Template, Template]
  /** The colon that separates is literal: no interpolation may bring another one. */
  readonly hasLiteralColon: boolean
}

interface Plan {
  readonly credentials: readonly Credential[]
  readonly challenge: string
  readonly enforce: boolean
}

const MIN_PASSWORD_LENGTH = 8
const MAX_PASSWORD_LENGTH = 128

export const basicAuth: Action<Config, Plan> = {
  type: 'basic-auth',
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object({
    credentials: described(
      policyKit.list(
        policyKit.byKind({
          scalar: policyKit.text(),
          map: policyKit.object({
            username: described(policyKit.text(), 'May hold `${…}`.'),
            password: described(policyKit.text(), 'May hold `${…}`.'),
          }),
        }),
        { min: 1, max: 10 },
      ),
      '`user:password` texts, or maps with `username` and `password`. At most 10.',
    ),
    realm: described(
      withDefault(
        policyKit.string({ maxLength: 128, pattern: /^[\x20-\x7e]*$/, must: 'must be printable ASCII' }),
        'ngrok',
      ),
      'Name shown to the user.',
    ),
    enforce: described(withDefault(policyKit.boolean(), true), 'false: only the result says what would have happened.'),
  }),
  compile(config, context) {
    const credentials = config.credentials.map((credential) => compileCredential(credential, context))
    const areDistinct = checkDuplicates(credentials, config.credentials, context)
    if (!areDistinct || credentials.includes(undefined)) return undefined
    const realm = config.realm.replace(/["\\]/g, '\\$&')
    return {
      credentials: credentials as Credential[],
      challenge: `www-authenticate: Basic realm="${realm}"\r\n`,
      enforce: config.enforce,
    }
  },
  run(plan, exchange) {
    const presented = presentedPair(exchange)
    const authorized = matchesAny(plan.credentials, presented ?? Buffer.alloc(0), exchange) && presented !== undefined
    exchange.setResult('basic_auth', {
      credentials: { presented: exchange.head.has('authorization'), username: userOf(presented), authorized },
    })
    if (authorized || !plan.enforce) return NEXT
    throw new GatewayError('BASIC_AUTH_REFUSED', { lines: plan.challenge })
  },
}

/** The decoded `user:password` of `Authorization: Basic …`; undefined when there is none, or more than one such field. */
function presentedPair(exchange: Exchange): Buffer | undefined {
  const values = exchange.head.all('authorization')
  const match = values.length === 1 ? /^basic +([A-Za-z0-9+/]+={0,2}) *$/i.exec(values[0]!) : null
  if (match === null) return undefined
  const pair = Buffer.from(match[1]!, 'base64') // the group takes part in every match
  return pair.includes(':') ? pair : undefined
}

function userOf(pair: Buffer | undefined): string {
  return pair === undefined ? '' : pair.toString('utf8', 0, pair.indexOf(':'))
}

/** Compares with every pair, in the same time whichever matches. A pair that cannot be computed fails closed (§4). */
function matchesAny(credentials: readonly Credential[], presented: Buffer, exchange: Exchange): boolean {
  const digest = sha256(presented)
  let matched = 0
  for (const credential of credentials) {
    const known = credential.digest ?? sha256(render(credential, exchange))
    matched |= timingSafeEqual(digest, known) ? 1 : 0
  }
  return matched === 1
}

function render(credential: Credential, exchange: Exchange): string {
  let halves: string[]
  try {
    halves = credential.parts.map((part) => part.render(exchange))
  } catch (error) {
    throw new GatewayError('INTERPOLATION_FAILED', { cause: error })
  }
  const pair = halves.join(':')
  const colon = pair.indexOf(':')
  // the texts themselves are secrets and stay out of the log
  const cause =
    credential.hasLiteralColon && pair.indexOf(':', colon + 1) !== -1 ? 'a second colon' : problemOf(pair)?.text
  if (cause !== undefined) throw new GatewayError('INTERPOLATION_FAILED', { cause: `credentials: ${cause}` })
  return pair
}

interface Problem {
  readonly code: string
  readonly text: string
}

/** What is wrong with `user:password` (RFC 7617 §2: no control characters), in words without the secret. */
function problemOf(pair: string): Problem | undefined {
  const colon = pair.indexOf(':')
  if (colon === -1) return { code: 'ERR_NGROK_2204', text: 'a credential must be user:password' }
  const password = pair.slice(colon + 1)
  if (hasControls(pair.slice(0, colon))) {
    return { code: 'ERR_NGROK_2257', text: 'a user name must not have control characters' }
  }
  if (hasControls(password)) return { code: 'ERR_NGROK_2258', text: 'a password must not have control characters' }
  const length = [...password].length
  if (length < MIN_PASSWORD_LENGTH) {
    return { code: 'ERR_NGROK_2237', text: `a password needs at least ${MIN_PASSWORD_LENGTH} characters` }
  }
  if (length > MAX_PASSWORD_LENGTH) {
    return { code: 'ERR_NGROK_2221', text: `a password has at most ${MAX_PASSWORD_LENGTH} characters` }
  }
  return undefined
}

function hasControls(text: string): boolean {
  // oxlint-disable-next-line no-control-regex -- the control characters are the point
  return /[\u0000-\u001f\u007f-\u009f]/.test(text)
}

function sha256(data: string | Uint8Array): Buffer {
  return createHash('sha256').update(data).digest()
}

// ── compiling ──

function compileCredential(config: CredentialConfig, context: CompileContext): Credential | undefined {
  const { diagnostics } = context
  if ('username' in config) {
    const { username, password } = config
    const [user, secret] = [context.template(username), context.template(password)]
    diagnostics.warning('CREDENTIAL_STYLE', 'a credential is one text', username.span, 'write "user:password"')
    if (user === undefined || secret === undefined) return undefined
    if (user.constant?.includes(':') === true) {
      diagnostics.error('ERR_NGROK_2257', 'a user name must not have a colon', username.span)
      return undefined
    }
    if (user.constant === undefined || secret.constant === undefined) {
      return { digest: undefined, parts: [user, secret], hasLiteralColon: true }
    }
    const problem = problemOf(`${user.constant}:${secret.constant}`)
    if (problem !== undefined) {
      diagnostics.error(problem.code, problem.text, problem.code === 'ERR_NGROK_2257' ? username.span : password.span)
      return undefined
    }
    return { digest: sha256(`${user.constant}:${secret.constant}`), parts: [user, secret], hasLiteralColon: true }
  }
  const template = context.template(config)
  if (template === undefined) return undefined
  const problem = template.constant === undefined ? structureProblem(config.text) : problemOf(template.constant)
  if (problem !== undefined) {
    diagnostics.error(problem.code, problem.text, config.span)
    return undefined
  }
  const hasLiteralColon = template.constant === undefined && colonsIn(config.text) > 0
  const digest = template.constant === undefined ? undefined : sha256(template.constant)
  return { digest, parts: [template], hasLiteralColon }
}

/** §5.2: the whole text is one interpolation, or exactly one literal colon is there. */
function structureProblem(text: string): Problem | undefined {
  const pieces = splitTemplate(text)
  const colons = colonsIn(text)
  if (colons === 1 || (colons === 0 && pieces.length === 1)) return undefined
  const words =
    colons === 0
      ? 'a credential with interpolations needs a literal colon between user and password'
      : 'a credential with interpolations must have one literal colon'
  return { code: 'ERR_NGROK_2204', text: words }
}

/** Colons outside of interpolations. */
function colonsIn(text: string): number {
  return splitTemplate(text).reduce(
    (sum, piece) => sum + (piece.kind === 'text' ? piece.text.split(':').length - 1 : 0),
    0,
  )
}

function checkDuplicates(
  credentials: readonly (Credential | undefined)[],
  configs: readonly CredentialConfig[],
  context: CompileContext,
): boolean {
  const seen = new Set<string>()
  let areDistinct = true
  for (const [index, credential] of credentials.entries()) {
    if (credential === undefined) continue
    const key = credential.parts.map((part) => part.source.text).join(':')
    if (seen.has(key)) {
      const config = configs[index]! // one for each credential
      const { span } = 'username' in config ? config.username : config
      context.diagnostics.error('ERR_NGROK_2231', 'a credential is listed twice', span)
      areDistinct = false
    }
    seen.add(key)
  }
  return areDistinct
}
