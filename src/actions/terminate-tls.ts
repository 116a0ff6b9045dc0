/**
 * `terminate-tls`: how the listener before the endpoint speaks TLS: its certificate, and which client certificates it
 * asks for. The listener does the work; this action says what it must do, and lets nobody pass who got around it.
 * Publishes `terminate_tls.*`. Source: traffic-policy.md §5.25.
 */
import { certificatesIn } from '../config/certificate.ts'
import type { TextSource } from '../config/node.ts'
import { described, optional, policyKit, transform } from '../config/schema-kit.ts'
import type { Span } from '../config/source.ts'
import type { JsonValue, TlsView } from '../expression/source.ts'
import { NEXT, type Close, type Next } from '../phase/outcome.ts'
import type { PolicyScope } from '../policy/scope.ts'
import type { Action, CompileContext } from './action.ts'

interface Config {
  readonly min_version: TextSource | undefined
  readonly max_version: TextSource | undefined
  readonly server_private_key: TextSource | undefined
  readonly server_certificate: TextSource | undefined
  readonly mutual_tls_certificate_authorities: readonly TextSource[] | undefined
  readonly mutual_tls_verification_strategy: TextSource | undefined
}

/** What the action asks of the listener. Texts are PEM, not looked at yet. */
export interface TlsTermination {
  readonly span: Span
  /** The rule has expressions. */
  readonly isConditional: boolean
  readonly minVersion: TextSource | undefined
  readonly maxVersion: TextSource | undefined
  readonly certificate: TextSource | undefined
  readonly key: TextSource | undefined
  readonly authorities: readonly TextSource[]
  readonly strategy: TextSource | undefined
}

interface Plan {
  /** As `authoritiesText`; '' = certificates are not verified. */
  readonly authorities: string
  /** A certificate is needed, whatever it is. */
  readonly needsAny: boolean
}

const VERSIONS = ['1.0', '1.1', '1.2', '1.3']
const STRATEGIES = ['require-and-verify', 'require-any', 'request']
const WITHOUT_CERTIFICATE: Close = Object.freeze({ kind: 'close', reason: 'denied:terminate-tls' })

const oneOrMany = policyKit.byKind({
  scalar: transform(policyKit.text(), (text): readonly TextSource[] => [text]),
  list: policyKit.list(policyKit.text()),
})

export const terminateTls: Action<Config, Plan> = {
  type: 'terminate-tls',
  phases: ['on_tcp_connect'],
  configRequired: false,
  schema: policyKit.object(
    {
      min_version: described(
        optional(policyKit.text()),
        '`1.2` or `1.3`; on a listener with `engine: uws` only `1.2`.',
      ),
      max_version: described(
        optional(policyKit.text()),
        '`1.2` or `1.3`; on a listener with `engine: uws` only `1.3`.',
      ),
      server_private_key: described(optional(policyKit.text()), 'PEM; with `server_certificate`.'),
      server_certificate: described(
        optional(policyKit.text()),
        'PEM, intermediates behind it: shown for the host of the endpoint instead of the certificate of the listener.',
      ),
      mutual_tls_certificate_authorities: described(
        optional(oneOrMany),
        'PEM: clients must show a certificate that one of these has signed. Several in one text, or a list.',
      ),
      mutual_tls_verification_strategy: described(
        optional(policyKit.text()),
        '`require-and-verify`, `require-any` or `request`; on a listener with `engine: uws` only the first.',
      ),
    },
    { allowNull: true },
  ),
  compile(config, context) {
    const { diagnostics, span, isConditional } = context
    const { server_private_key: key, server_certificate: certificate } = config
    const authorities = config.mutual_tls_certificate_authorities ?? []
    const strategy = config.mutual_tls_verification_strategy
    const { min_version: minVersion, max_version: maxVersion } = config
    if (minVersion !== undefined) requireOneOf(minVersion, VERSIONS, context)
    if (maxVersion !== undefined) requireOneOf(maxVersion, VERSIONS, context)
    if (strategy !== undefined) requireOneOf(strategy, STRATEGIES, context)
    if ((key === undefined) !== (certificate === undefined)) {
      const text = 'server_private_key and server_certificate belong together'
      diagnostics.error('ERR_NGROK_2234', text, (key ?? certificate)!.span)
      return undefined
    }
    const all = [key, certificate, ...authorities].map((source) => source && atLoad(source, context))
    if (all.includes(LATE)) return undefined
    const [ownKey, ownCertificate, ...ownAuthorities] = all as (TextSource | undefined)[]
    context.terminations.push({
      span,
      isConditional,
      minVersion,
      maxVersion,
      certificate: ownCertificate,
      key: ownKey,
      authorities: ownAuthorities as TextSource[],
      strategy,
    })
    const isVerified = strategy === undefined || strategy.text === 'require-and-verify'
    return {
      needsAny: strategy?.text === 'require-any',
      authorities:
        authorities.length === 0 || !isVerified
          ? ''
          : (authoritiesText(ownAuthorities as TextSource[]) ?? 'unreadable'),
    }
  },
  // the phase has no requests
  run: () => NEXT,
  runOnConnect(plan, scope) {
    const { tls } = scope.connection
    return finish(plan, tls, scope)
  },
}

function finish(plan: Plan, tls: TlsView | undefined, scope: PolicyScope): Next | Close {
  // another way to the endpoint than the listener that verifies its clients
  const hasShown = tls !== undefined && tls.get('client.pem') !== ''
  const isVerified = hasShown && tls.clientAuthorities === plan.authorities
  if ((plan.authorities !== '' && !isVerified) || (plan.needsAny && !hasShown)) return WITHOUT_CERTIFICATE
  const side = (name: 'client' | 'server'): JsonValue => {
    const text = (path: string): JsonValue => (tls?.get(`${name}.${path}`) ?? '') as string
    return {
      subject: text('subject'),
      issuer: text('issuer'),
      san: text('san'),
      serial_number: text('serial_number'),
      signature_algorithm: text('signature_algorithm'),
    }
  }
  scope.setResult('terminate_tls', {
    cipher_suite: (tls?.get('cipher_suite') ?? '') as string,
    version: (tls?.get('version') ?? '') as string,
    sni: (tls?.get('sni') ?? '') as string,
    warnings: [],
    client: side('client'),
    server: side('server'),
  })
  return NEXT
}

/** The authorities of one or several PEM texts in one form, each once; undefined when one cannot be read. */
export function authoritiesText(sources: readonly TextSource[]): string | undefined {
  const texts = new Set<string>()
  for (const { text } of sources) {
    const certificates = certificatesIn(text)
    if (certificates === undefined) return undefined
    for (const certificate of certificates) texts.add(certificate.toString())
  }
  return [...texts].toSorted().join('')
}

function requireOneOf(source: TextSource, words: readonly string[], { diagnostics }: CompileContext): void {
  if (words.includes(source.text)) return
  diagnostics.error('ERR_NGROK_2222', `${JSON.stringify(source.text)} is none of ${words.join(', ')}`, source.span)
}

/** Nothing can be made of it before there is a connection. */
const LATE = Symbol('late')

/** A text that is one secret and nothing else. */
const ONE_SECRET = /^\$\{\s*secrets\.get\(\s*(['"])([^'"]+)\1\s*,\s*(['"])([^'"]+)\3\s*\)\s*\}$/

/**
 * The front end reads certificates when it begins to listen: a text may be constant, or one secret, which is read with the
 * configuration; nothing can be computed for one connection.
 */
function atLoad(source: TextSource, context: CompileContext): TextSource | typeof LATE {
  const template = context.template(source)
  if (template === undefined) return LATE
  if (template.constant !== undefined) return source
  const secret = ONE_SECRET.exec(source.text.trim())
  if (secret === null) {
    const text =
      'the front end uws (uWebSockets.js) reads certificates before there is a connection: ${…} may be one secret only'
    context.diagnostics.error(
      'TLS_INTERPOLATION',
      text,
      source.span,
      "write the PEM text, or ${secrets.get('vault', 'name')}",
    )
    return LATE
  }
  // the groups of an expression that matched
  const [, , vault, , name] = secret as unknown as [string, string, string, string, string]
  const value = context.secret(vault, name)
  if (value === undefined) {
    const text = `there is no secret ${name} in a vault ${vault}, and nothing to show clients without it`
    context.diagnostics.notServed('TLS_SECRET', text, source.span)
    return LATE
  }
  // secrets made on a command line hold \n as two characters (kubernetes-objects.md §9)
  return { text: value.replaceAll('\\n', '\n'), span: source.span, spanAt: () => source.span }
}
