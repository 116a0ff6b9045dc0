/**
 * What TLS listeners show their clients, and ask of them: the certificates of their settings, and what policies with
 * `terminate-tls` say. What the front end cannot do is an error here, with its name.
 *
 * Source: traffic-policy.md §5.25; RFC 6066 §3; operations.md F-17.
 */
import { createHash } from 'node:crypto'
import { authoritiesText, type TlsTermination } from '../actions/terminate-tls.ts'
import { nameCovers, serverCertificate, type ServerCertificate } from '../config/certificate.ts'
import type { Diagnostics } from '../config/diagnostic.ts'
import type { EndpointDefinition } from '../config/load.ts'
import type { ListenerSettings } from '../config/settings.ts'
import { BOTH_VERSIONS, tlsRange } from '../config/tls-range.ts'
import type { ListenTls, TlsClientStrategy, TlsRules } from '../listener/front-end.ts'

/** An endpoint, and what its policy asks of the listener before it. */
export interface TlsEndpoint {
  readonly definition: EndpointDefinition
  readonly terminations: readonly TlsTermination[]
}

/** A certificate, and how TLS is spoken with clients that ask for its names. */
export interface ShownCertificate extends ServerCertificate {
  readonly rules?: TlsRules | undefined
}

/** A listener's part of the front end, and the certificates behind it. */
export interface ResolvedTls extends ListenTls {
  readonly certificates: readonly ShownCertificate[]
}

const FRONT_END = 'the front end uws (uWebSockets.js)'

/**
 * By the listeners' places; undefined = plain. Errors and warnings land in `diagnostics`. `isFixed`: all clients of a listener
 * get the same versions and the same questions, as the default front end has it.
 */
export function resolveTls(
  listeners: readonly ListenerSettings[],
  endpoints: readonly TlsEndpoint[],
  diagnostics: Diagnostics,
  isFixed: (listener: ListenerSettings) => boolean = () => true,
): readonly (ResolvedTls | undefined)[] {
  const reachable = endpoints.filter(({ definition }) => definition.binding === 'public')
  const wishes = new Map(reachable.map((endpoint) => [endpoint, wishOf(endpoint, listeners, diagnostics, isFixed)]))
  return listeners.map((listener) => {
    if (listener.tls === undefined) return undefined
    const behind = reachable.filter(({ definition }) => definition.url.port === listener.port)
    return listenerTls(
      listener,
      listener.tls.certificates,
      behind.map((endpoint) => ({ ...wishes.get(endpoint)!, definition: endpoint.definition })),
      isFixed(listener),
      diagnostics,
    )
  })
}

interface Wish {
  readonly certificate: ServerCertificate | undefined
  /** '' = none are asked for. */
  readonly authorities: string
  readonly termination: TlsTermination | undefined
  /** As front ends take it whose TLS is not fixed. */
  readonly rules: TlsRules | undefined
}

const NO_WISH: Wish = { certificate: undefined, authorities: '', termination: undefined, rules: undefined }

/** What one endpoint's policy wants; an empty `terminate-tls` changes nothing (§5.25). */
function wishOf(
  { definition, terminations }: TlsEndpoint,
  listeners: readonly ListenerSettings[],
  diagnostics: Diagnostics,
  isFixed: (listener: ListenerSettings) => boolean,
): Wish {
  const wanting = terminations.filter(
    ({ minVersion, maxVersion, certificate, authorities, strategy }) =>
      [minVersion, maxVersion, certificate, strategy].some((key) => key !== undefined) || authorities.length > 0,
  )
  const [termination, second] = wanting
  if (termination === undefined) return NO_WISH
  const { span } = termination
  if (second !== undefined) {
    const related = { message: 'the other one', span }
    diagnostics.error('TLS_TERMINATED_TWICE', 'one endpoint has one terminate-tls', second.span, undefined, related)
  }
  const before = listeners.filter(({ tls, port }) => tls !== undefined && port === definition.url.port)
  const isOneFixed = before.length === 0 || before.some(isFixed)
  if (before.length === 0) {
    const text = `${definition.name} terminates TLS, but no listener with tls has its port ${definition.url.port}`
    const hint = 'give a listener of that port tls, or take the keys out of terminate-tls'
    diagnostics.error('TLS_NOT_TERMINATED', text, span, hint)
  }
  if (termination.isConditional) {
    const text = `${isOneFixed ? FRONT_END : 'the native front end'} decides how it speaks TLS before a rule can be asked: this one must have no expressions`
    diagnostics.error('TLS_CONDITIONAL', text, span, 'take the expressions away')
  }
  const versions = [termination.minVersion, termination.maxVersion] as const
  const otherwise = before[0]?.tls?.versions ?? BOTH_VERSIONS
  const [minVersion, maxVersion] = tlsRange(versions, isOneFixed, otherwise, diagnostics)
  const strategy = (termination.strategy?.text ?? 'require-and-verify') as TlsClientStrategy
  const authorities = authoritiesOf(termination, isOneFixed, diagnostics)
  const clients =
    termination.strategy === undefined && authorities === ''
      ? undefined
      : { strategy, authorities: authorities === '' ? undefined : authorities }
  return {
    certificate: certificateOf(definition, termination, diagnostics),
    authorities,
    termination,
    rules: { minVersion, maxVersion, clients },
  }
}

function certificateOf(
  { url }: EndpointDefinition,
  { certificate, key }: TlsTermination,
  diagnostics: Diagnostics,
): ServerCertificate | undefined {
  if (certificate === undefined || key === undefined) return undefined
  const source = {
    certificate: certificate.text,
    certificateSpan: certificate.span,
    key: key.text,
    keySpan: key.span,
    names: [{ value: url.host, span: certificate.span }],
  }
  return serverCertificate(source, diagnostics)
}

function authoritiesOf(
  { authorities, strategy, span }: TlsTermination,
  isFixed: boolean,
  diagnostics: Diagnostics,
): string {
  if (isFixed && strategy !== undefined && strategy.text !== 'require-and-verify') {
    const text = `${FRONT_END} verifies every certificate that a client shows: the strategy ${strategy.text} is not possible`
    diagnostics.error('TLS_STRATEGY', text, strategy.span, 'write require-and-verify')
  }
  if (authorities.length === 0) {
    if (strategy === undefined || strategy.text !== 'require-and-verify') return ''
    const text = 'mutual_tls_verification_strategy needs mutual_tls_certificate_authorities to verify against'
    diagnostics.error('ERR_NGROK_2234', text, span)
    return ''
  }
  const text = authoritiesText(authorities)
  if (text !== undefined) return text
  for (const authority of authorities) {
    if (authoritiesText([authority]) !== undefined) continue
    const isObject = authority.text.startsWith('ca_')
    const problem = isObject ? 'certificate authorities are given as PEM, not by id' : 'this is not a PEM certificate'
    const hint = 'it begins with -----BEGIN CERTIFICATE-----; several may follow one another'
    diagnostics.error('INVALID_CERTIFICATE', problem, authority.span, hint)
  }
  return ''
}

function listenerTls(
  { address, tls }: ListenerSettings,
  own: readonly ServerCertificate[],
  behind: readonly (Wish & { readonly definition: EndpointDefinition })[],
  isFixed: boolean,
  diagnostics: Diagnostics,
): ResolvedTls | undefined {
  const clientAuthorities = isFixed ? clientAuthoritiesOf(address, behind, diagnostics) : ''
  const brought = behind.flatMap((wish): readonly ShownCertificate[] => {
    if (!isFixed) return ownRules(wish, own)
    return wish.certificate === undefined ? [] : [wish.certificate]
  })
  // what an endpoint brings for its host counts more than what the listener has for it
  const taken = new Set(brought.flatMap(({ names }) => names))
  const [minVersion, maxVersion] = tls!.versions
  const rules: TlsRules | undefined = isFixed ? undefined : { minVersion, maxVersion, clients: undefined }
  const certificates: readonly ShownCertificate[] = [
    ...own.map((certificate) => ({
      ...certificate,
      names: certificate.names.filter((name) => !taken.has(name)),
      rules,
    })),
    ...brought,
  ]
  if (certificates.length === 0) {
    const hint = 'give it tls.certificates'
    diagnostics.error('NO_CERTIFICATE', `the listener ${address} has no certificate to show`, tls!.span, hint)
    return undefined
  }
  const names = certificates.flatMap((certificate) => certificate.names)
  for (const { definition } of behind) {
    const { url, name, span } = definition
    const isCovered = names.some((covering) => covering === url.host || nameCovers(covering, url.host))
    if (url.scheme !== 'https' || isCovered) continue
    const text = `no certificate of the listener ${address} is for ${url.host}, the host of ${name}: clients will refuse it`
    diagnostics.warning('CERTIFICATE_MISSING', text, span)
  }
  const identity = createHash('sha256')
    .update(JSON.stringify([certificates.map((it) => [it.fingerprint, it.names, it.rules]), clientAuthorities]))
    .digest('hex')
  return { identity, certificates, clientAuthorities: clientAuthorities === '' ? undefined : clientAuthorities }
}

/** What clients get who ask for an endpoint's host, if its policy says anything about that. */
function ownRules(
  { certificate, rules, definition }: Wish & { readonly definition: EndpointDefinition },
  own: readonly ServerCertificate[],
): readonly ShownCertificate[] {
  const { host } = definition.url
  const covers = ({ names }: ServerCertificate): boolean =>
    names.some((name) => name === host || nameCovers(name, host))
  // without one for the host clients are shown what those get who name no host
  const shown = certificate ?? own.find(covers) ?? own[0]
  return rules === undefined || shown === undefined ? [] : [{ ...shown, names: [host], rules }]
}

/** The library asks every client of a listener, or none, and verifies all against the same authorities. */
function clientAuthoritiesOf(
  address: string,
  behind: readonly (Wish & { readonly definition: EndpointDefinition })[],
  diagnostics: Diagnostics,
): string {
  const asking = behind.find(({ authorities }) => authorities !== '')
  if (asking === undefined) return ''
  for (const other of behind) {
    if (other.authorities === asking.authorities) continue
    const text = `${FRONT_END} asks all clients of a listener for the same certificates: ${asking.definition.name} and ${other.definition.name}, both behind ${address}, differ`
    const hint = 'give the endpoint with client certificates a listener, and a port, of its own'
    diagnostics.error('TLS_CLIENTS_DIFFER', text, asking.termination!.span, hint)
    break
  }
  return asking.authorities
}
