/**
 * XML of SAML as far as we look into it ourselves: what an identity provider's metadata says, and facts about an answer
 * that must hold beside its signature. The only importer of @xmldom/xmldom. Document types and entities are refused
 * before anything is parsed, in answers also comments and processing instructions: no honest provider sends them, and
 * each has been an attack. Source: SAML 2.0 Metadata §2.4, Core §3.2.2; threats.md; OWASP SAML security (XXE, signature wrapping).
 */
import { X509Certificate } from 'node:crypto'
import { createRequire } from 'node:module'

export interface IdentityProvider {
  readonly entityId: string
  /** HTTP-Redirect. */
  readonly loginUrl: string
  /** Base64 of DER; at least one. */
  readonly certificates: readonly string[]
  readonly wantsSignedRequests: boolean
}

/** XML that cannot be used; `message` is one sentence. */
export class SamlXmlError extends Error {
  override readonly name = 'SamlXmlError'
}

/** The part of DOM that is used here. The package's own types would bring a browser's into the whole program. */
export interface XmlElement {
  readonly localName: string
  readonly namespaceURI: string | null
  readonly textContent: string | null
  readonly childNodes: ArrayLike<XmlElement>
  readonly attributes: ArrayLike<{ readonly name: string; readonly localName: string; readonly value: string }>
  getAttribute(name: string): string | null
  getElementsByTagNameNS(namespace: string, name: string): ArrayLike<XmlElement>
}

interface XmlLibrary {
  readonly DOMParser: new (options: object) => {
    parseFromString(text: string, type: string): { readonly documentElement: XmlElement | null } | undefined
  }
}

const { DOMParser } = createRequire(import.meta.url)('@xmldom/xmldom') as XmlLibrary

const METADATA = 'urn:oasis:names:tc:SAML:2.0:metadata'
const ASSERTION = 'urn:oasis:names:tc:SAML:2.0:assertion'
const PROTOCOL = 'urn:oasis:names:tc:SAML:2.0:protocol'
const SIGNATURE = 'http://www.w3.org/2000/09/xmldsig#'
const REDIRECT = 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect'
const SUCCESS = 'urn:oasis:names:tc:SAML:2.0:status:Success'

/** What honest documents never reach. */
export const MAX_XML_CHARS = 512 * 1024
const MAX_DEPTH = 64

/** The root element. Throws SamlXmlError. */
export function parseXml(text: string): XmlElement {
  if (text.length > MAX_XML_CHARS) throw new SamlXmlError('the document is too large')
  if (/<!(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST|NOTATION)/i.test(text)) {
    throw new SamlXmlError('the document has a document type or entities')
  }
  return parseChecked(text)
}

function parseChecked(text: string): XmlElement {
  // the parser wraps what is thrown inside it, so the first problem is kept beside it
  let problem: SamlXmlError | undefined
  const refuse = (message: unknown): never => {
    const text = String(message).replace(/^\[xmldom \w+\]\s*/, '')
    problem ??= new SamlXmlError(`not well-formed: ${text.split('\n', 1)[0]!.slice(0, 120)}`)
    throw problem
  }
  let root: XmlElement | null | undefined
  try {
    const parser = new DOMParser({ errorHandler: { warning: refuse, error: refuse, fatalError: refuse } })
    root = parser.parseFromString(text, 'text/xml')?.documentElement
  } catch {
    throw problem ?? new SamlXmlError('not well-formed')
  }
  if (root === null || root === undefined) throw new SamlXmlError('the document is empty')
  checkDepth(root, 0)
  return root
}

function checkDepth(element: XmlElement, depth: number): void {
  if (depth > MAX_DEPTH) throw new SamlXmlError('the document is nested too deep')
  for (const child of Array.from(element.childNodes ?? [])) checkDepth(child, depth + 1)
}

/** The first identity provider of a metadata document. Throws SamlXmlError. */
export function readIdpMetadata(text: string): IdentityProvider {
  const root = parseXml(text.trim())
  const entities =
    root.localName === 'EntityDescriptor' && root.namespaceURI === METADATA
      ? [root]
      : all(root, METADATA, 'EntityDescriptor')
  for (const entity of entities) {
    const [descriptor] = all(entity, METADATA, 'IDPSSODescriptor')
    if (descriptor !== undefined) return identityProvider(entity, descriptor)
  }
  throw new SamlXmlError('there is no IDPSSODescriptor in it')
}

function identityProvider(entity: XmlElement, descriptor: XmlElement): IdentityProvider {
  const entityId = entity.getAttribute('entityID') ?? ''
  if (entityId === '') throw new SamlXmlError('its EntityDescriptor has no entityID')
  const services = all(descriptor, METADATA, 'SingleSignOnService')
  const loginUrl = services.find((it) => it.getAttribute('Binding') === REDIRECT)?.getAttribute('Location') ?? ''
  if (!/^https?:\/\//.test(loginUrl) || !URL.canParse(loginUrl)) {
    throw new SamlXmlError('there is no SingleSignOnService with HTTP-Redirect and a url')
  }
  const certificates = all(descriptor, METADATA, 'KeyDescriptor')
    .filter((it) => it.getAttribute('use') !== 'encryption')
    .flatMap((it) => all(it, SIGNATURE, 'X509Certificate'))
    .map((it) => (it.textContent ?? '').replace(/\s+/g, ''))
  if (certificates.length === 0) throw new SamlXmlError('there is no certificate for signatures in it')
  if (!certificates.every(isCertificate)) throw new SamlXmlError('a certificate in it cannot be read')
  const wantsSignedRequests = /^(?:true|1)$/.test(descriptor.getAttribute('WantAuthnRequestsSigned') ?? '')
  return { entityId, loginUrl, certificates: [...new Set(certificates)], wantsSignedRequests }
}

function isCertificate(base64: string): boolean {
  try {
    return new X509Certificate(Buffer.from(base64, 'base64')).raw.length > 0
  } catch {
    return false
  }
}

/** Facts about an answer as it came, signed or not: each can only make it be refused. */
export interface AnswerFacts {
  /** Empty when absent. */
  readonly destination: string
  readonly inResponseTo: string
}

/**
 * Refuses every form of answer that an honest provider does not send: more than one assertion anywhere, ids that occur
 * twice, weak digests, comments, encrypted assertions, a status other than success. Throws SamlXmlError.
 */
export function checkAnswer(text: string): AnswerFacts {
  if (text.includes('<!--') || /<\?(?!xml )/.test(text) || text.includes('<![CDATA[')) {
    throw new SamlXmlError('the answer has comments, processing instructions or CDATA')
  }
  if (/xmldsig#(?:rsa-|dsa-|hmac-)?sha1|xmldsig-more#(?:rsa-|hmac-)?(?:md5|ripemd160)/i.test(text)) {
    throw new SamlXmlError('the answer is signed with SHA-1')
  }
  const root = parseXml(text)
  if (root.localName !== 'Response' || root.namespaceURI !== PROTOCOL) throw new SamlXmlError('this is no Response')
  if (all(root, ASSERTION, 'EncryptedAssertion').length > 0) {
    throw new SamlXmlError('the assertion is encrypted, which is not supported')
  }
  const status = all(root, PROTOCOL, 'StatusCode')[0]?.getAttribute('Value') ?? ''
  if (status !== SUCCESS)
    throw new SamlXmlError(`the provider answered ${status.replace(/[^\w:.-]/g, '?').slice(0, 100)}`)
  const assertions = all(root, ASSERTION, 'Assertion')
  const isChild = Array.from(root.childNodes).includes(assertions[0]!)
  if (assertions.length !== 1 || !isChild) throw new SamlXmlError('the answer must have exactly one assertion')
  checkIds(root, new Set())
  return { destination: root.getAttribute('Destination') ?? '', inResponseTo: root.getAttribute('InResponseTo') ?? '' }
}

function checkIds(element: XmlElement, seen: Set<string>): void {
  for (const { localName, name, value } of Array.from(element.attributes ?? [])) {
    if (!/^id$/i.test(localName ?? name)) continue
    if (seen.has(value)) throw new SamlXmlError('an id occurs twice in the answer')
    seen.add(value)
  }
  for (const child of Array.from(element.childNodes ?? [])) checkIds(child, seen)
}

function all(element: XmlElement, namespace: string, name: string): XmlElement[] {
  return Array.from(element.getElementsByTagNameNS(namespace, name))
}
