/**
 * SAML 2.0 logins: where to send the browser, and what the answer that it brings back is worth. The only importer of
 * @node-saml/node-saml, which verifies signatures and is loaded with the first login.
 *
 * An answer counts when answer or assertion is signed by a certificate of the metadata, and the signed assertion is of
 * the expected issuer, for our audience, for our address, within its time, for the very request of this browser, and
 * has not been used before. Nothing outside the signature is read for more than refusing.
 * Source: SAML 2.0 Core §2.4, §2.5, §3.4; Profiles §4.1.4; Bindings §3.4, §3.5.
 */
import type * as NodeSaml from '@node-saml/node-saml'
import type { LoginSettings } from '../config/settings.ts'
import { ask, originOf } from './egress.ts'
import { FLOW_MS } from './flow.ts'
import { LoginError, shownText } from './login-error.ts'
import type { LoginResult } from './openid.ts'
import { RemoteCopies } from './remote-copy.ts'
import { checkAnswer, type IdentityProvider, readIdpMetadata, SamlXmlError } from './saml-metadata.ts'
import { type Identity, NO_TOKENS } from './session.ts'

/** Ourselves, as the identity provider knows us. */
export interface ServiceProvider {
  readonly entityId: string
  /** Where answers are posted. */
  readonly answerUrl: string
}

/** Allowed difference of clocks. */
const SKEW_MS = 60_000
const METADATA_FRESH_MS = 3_600_000
const MAX_PROVIDERS = 256

const BEARER = 'urn:oasis:names:tc:SAML:2.0:cm:bearer'
const EMAIL_FORMAT = 'urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress'

const published = new RemoteCopies<IdentityProvider>(MAX_PROVIDERS, METADATA_FRESH_MS)

/** The provider at `idp_metadata_url`; as with OpenID, fetched when a login needs it. Throws LoginError. */
export async function identityProviderAt(url: string, settings: LoginSettings): Promise<IdentityProvider> {
  return await published.get(`${url} ${settings.fetchTimeoutMs}`, settings.staleMs, async () => {
    const headers = { accept: 'application/samlmetadata+xml, application/xml, text/xml' }
    const { status, body } = await ask(url, { headers }, settings)
    const place = originOf(url)
    if (status !== 200) throw new LoginError('LOGIN_NO_METADATA', `no metadata of ${place}: it answered ${status}`)
    try {
      return readIdpMetadata(Buffer.from(body).toString('utf8'))
    } catch (error) {
      if (!(error instanceof SamlXmlError)) throw error
      throw new LoginError('LOGIN_NO_METADATA', `no metadata of ${place}: ${error.message}`)
    }
  })
}

/** Where the browser goes. `requestId`: an XML name. Throws LoginError. */
export async function loginUrl(
  idp: IdentityProvider,
  sp: ServiceProvider,
  request: { readonly requestId: string; readonly state: string; readonly force: boolean },
): Promise<string> {
  const saml = await service(idp, sp, request.requestId, request.force)
  return await saml.getAuthorizeUrlAsync(request.state, undefined, {})
}

/** Ourselves in XML, for the identity provider's administrator. */
export async function serviceMetadata(sp: ServiceProvider): Promise<string> {
  const { generateServiceProviderMetadata } = await load()
  return generateServiceProviderMetadata({
    issuer: sp.entityId,
    callbackUrl: sp.answerUrl,
    identifierFormat: null,
    wantAssertionsSigned: true,
  })
}

/** What an answer says about a user. */
export interface SamlResult extends LoginResult {
  readonly assertionId: string
  /** After it the assertion counts for nobody. */
  readonly usableUntilMs: number
}

/** `requestId` undefined: an answer that nobody asked for, which must not claim otherwise. Throws LoginError. */
export async function readAnswer(
  idp: IdentityProvider,
  sp: ServiceProvider,
  answer: string,
  requestId: string | undefined,
  nowMs: number,
): Promise<SamlResult> {
  const refuse = (reason: string): never => {
    throw new LoginError('LOGIN_ASSERTION_REFUSED', `the answer is refused: ${reason}`)
  }
  if (!/^[A-Za-z0-9+/=\s]+$/.test(answer)) refuse('it is not base64')
  const text = Buffer.from(answer, 'base64').toString('utf8')
  let profile: NodeSaml.Profile | null
  try {
    const { destination, inResponseTo } = checkAnswer(text)
    if (destination !== '' && destination !== sp.answerUrl) refuse('it was meant for another address (Destination)')
    if (inResponseTo !== (requestId ?? '')) refuse('it answers another request (InResponseTo)')
    const saml = await service(idp, sp, requestId, false)
    profile = (await saml.validatePostResponseAsync({ SAMLResponse: answer })).profile
  } catch (error) {
    if (error instanceof LoginError) throw error
    const message = error instanceof Error ? shownText(error.message) : 'unknown'
    return refuse(message)
  }
  const assertion = child(profile?.getAssertion?.(), 'Assertion')
  if (profile === null || assertion === undefined) return refuse('there is no assertion in it')
  if (profile.issuer !== idp.entityId) refuse('it is of another issuer')
  const usableUntilMs = confirmedUntil(assertion, sp, requestId, nowMs) ?? refuse('no bearer confirmation holds for us')
  const conditions = child(assertion, 'Conditions')
  if (conditions === undefined) refuse('it has no conditions')
  const assertionId = attribute(assertion, 'ID')
  if (assertionId === '') refuse('it has no id')
  const endsAt = Date.parse(attribute(child(assertion, 'AuthnStatement'), 'SessionNotOnOrAfter'))
  return {
    identity: identityOf(profile),
    tokens: NO_TOKENS,
    endsAtMs: Number.isNaN(endsAt) ? undefined : endsAt,
    assertionId,
    usableUntilMs,
  }
}

/** Profiles §4.1.4.2: some bearer confirmation must name our address and the request, and must not have ended. */
function confirmedUntil(
  assertion: XmlObject,
  sp: ServiceProvider,
  requestId: string | undefined,
  nowMs: number,
): number | undefined {
  for (const confirmation of children(child(assertion, 'Subject'), 'SubjectConfirmation')) {
    if (attribute(confirmation, 'Method') !== BEARER) continue
    const data = child(confirmation, 'SubjectConfirmationData')
    const until = Date.parse(attribute(data, 'NotOnOrAfter'))
    if (attribute(data, 'Recipient') !== sp.answerUrl) continue
    if (attribute(data, 'InResponseTo') !== (requestId ?? '')) continue
    if (Number.isNaN(until) || nowMs - SKEW_MS >= until) continue
    return until + SKEW_MS
  }
  return undefined
}

// ── who it is ──

const EMAIL_NAMES = [
  'email',
  'mail',
  'emailaddress',
  'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress',
  'urn:oid:0.9.2342.19200300.100.1.3',
]
const FULL_NAMES = [
  'displayname',
  'name',
  'http://schemas.microsoft.com/identity/claims/displayname',
  'http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name',
  'cn',
  'urn:oid:2.16.840.1.113730.3.1.241',
  'urn:oid:2.5.4.3',
]
const GROUP_NAMES = [
  'groups',
  'group',
  'memberof',
  'http://schemas.microsoft.com/ws/2008/06/identity/claims/groups',
  'http://schemas.xmlsoap.org/claims/group',
  'urn:oid:1.3.6.1.4.1.5923.1.5.1.1',
]

const MAX_ATTRIBUTES = 64
const MAX_VALUES = 256
const MAX_VALUE_CHARS = 1024

function identityOf(profile: NodeSaml.Profile): Identity {
  if (typeof profile.nameID !== 'string' || profile.nameID === '') {
    throw new LoginError('LOGIN_NO_USER_ID', 'the assertion has no NameID')
  }
  const attributes: Record<string, readonly string[]> = {}
  const given = (profile['attributes'] ?? {}) as Readonly<Record<string, unknown>>
  for (const [name, value] of Object.entries(given).slice(0, MAX_ATTRIBUTES)) {
    const values = [value].flat().filter((it): it is string => typeof it === 'string')
    attributes[name] = values.slice(0, MAX_VALUES).map((it) => it.slice(0, MAX_VALUE_CHARS))
  }
  const identity: Identity = { subject: profile.nameID.slice(0, MAX_VALUE_CHARS), email: '', name: '', attributes }
  const email = named(identity, EMAIL_NAMES)[0] ?? (profile.nameIDFormat === EMAIL_FORMAT ? identity.subject : '')
  return { ...identity, email, name: named(identity, FULL_NAMES)[0] ?? '' }
}

/** The groups that an assertion named, under any of their usual names. */
export function groupsOf(identity: Identity): readonly string[] {
  return named(identity, GROUP_NAMES)
}

function named(identity: Identity, names: readonly string[]): readonly string[] {
  const all = Object.entries(identity.attributes ?? {})
  return names.flatMap((name) => all.filter(([key]) => key.toLowerCase() === name).flatMap(([, values]) => values))
}

// ── the library's parsed XML ──

interface XmlObject {
  readonly [name: string]: unknown
}

function children(of: XmlObject | undefined, name: string): readonly XmlObject[] {
  const value = of?.[name]
  return (Array.isArray(value) ? value : value === undefined ? [] : [value]) as readonly XmlObject[]
}

function child(of: XmlObject | undefined, name: string): XmlObject | undefined {
  return children(of, name)[0]
}

function attribute(of: XmlObject | undefined, name: string): string {
  const value = (of?.['$'] as XmlObject | undefined)?.[name]
  return typeof value === 'string' ? value : ''
}

/** One for each step: what it remembers of requests is what the browser's cookie says. */
async function service(
  idp: IdentityProvider,
  sp: ServiceProvider,
  requestId: string | undefined,
  forceAuthn: boolean,
): Promise<NodeSaml.SAML> {
  const { SAML, ValidateInResponseTo } = await load()
  const since = new Date().toISOString()
  return new SAML({
    entryPoint: idp.loginUrl,
    idpCert: [...idp.certificates],
    idpIssuer: idp.entityId,
    issuer: sp.entityId,
    audience: sp.entityId,
    callbackUrl: sp.answerUrl,
    forceAuthn,
    // the answer or the assertion must be signed, whichever the provider signs
    wantAssertionsSigned: false,
    wantAuthnResponseSigned: false,
    acceptedClockSkewMs: SKEW_MS,
    identifierFormat: null,
    disableRequestedAuthnContext: true,
    validateInResponseTo: requestId === undefined ? ValidateInResponseTo.never : ValidateInResponseTo.always,
    requestIdExpirationPeriodMs: FLOW_MS,
    ...(requestId !== undefined && { generateUniqueId: () => requestId }),
    cacheProvider: {
      saveAsync: (key, value) => Promise.resolve({ value: key, createdAt: Date.parse(value) }),
      getAsync: (key) => Promise.resolve(key === requestId ? since : null),
      removeAsync: (key) => Promise.resolve(key),
    },
  })
}

let loaded: Promise<typeof NodeSaml> | undefined

function load(): Promise<typeof NodeSaml> {
  loaded ??= import('@node-saml/node-saml')
  return loaded
}
