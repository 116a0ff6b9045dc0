/**
 * A small SAML identity provider of the tests' own: reads requests, writes and signs answers, honest ones and others.
 * Signatures are made with node-saml's own tools, which sit on xml-crypto.
 */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createRequire } from 'node:module'
import { inflateRawSync } from 'node:zlib'
import { makeCertificate } from './certificates.ts'

interface Signer {
  signXml(
    xml: string,
    xpath: string,
    location: { readonly reference: string; readonly action: string },
    options: Readonly<Record<string, string>>,
  ): string
}

const { signXml } = createRequire(import.meta.url)('@node-saml/node-saml/lib/xml.js') as Signer

export interface AnswerWish {
  readonly account?: string
  /** Id of the request; empty: nobody asked. */
  readonly inResponseTo: string
  readonly subjectInResponseTo?: string
  readonly acs: string
  readonly audience: string
  readonly recipient?: string
  readonly destination?: string
  readonly issuer?: string
  /** Seconds from now. */
  readonly notOnOrAfter?: number
  readonly notBefore?: number
  readonly sign?: 'assertion' | 'response' | 'none'
  readonly algorithm?: 'sha1' | 'sha256' | 'sha512'
  readonly key?: string
  readonly status?: string
  readonly method?: string
  readonly groups?: readonly string[]
  readonly id?: string
  /** Changes the text after it was signed. */
  readonly change?: (xml: string) => string
}

export interface SamlProvider {
  readonly url: string
  readonly entityId: string
  readonly metadata: string
  /** A key that is not in the metadata. */
  readonly otherKey: string
  /** What a redirect to us asks for. */
  read(url: string): {
    readonly id: string
    readonly acs: string
    readonly issuer: string
    readonly relayState: string
    readonly xml: string
  }
  /** XML of an answer. */
  answer(wish: AnswerWish): string
  /** How often the metadata was fetched. */
  metadataRequests: number
  /** Answers 500 to everything. */
  down: boolean
  stop(): Promise<void>
}

export async function startSamlProvider(): Promise<SamlProvider> {
  const made = makeCertificate({ names: 'DNS:idp.test', newKey: ['rsa:2048'] })
  const other = makeCertificate({ names: 'DNS:other.test', newKey: ['rsa:2048'] })
  const server = createServer((request, response) => {
    if (provider.down) {
      response.statusCode = 500
      response.end()
      return
    }
    if (request.url === '/metadata') {
      provider.metadataRequests += 1
      response.end(provider.metadata)
      return
    }
    if (request.url?.startsWith('/sso?') !== true) {
      response.statusCode = 404
      response.end()
      return
    }
    // a browser comes to log in: everybody is ada, and is sent on as a person would click
    const asked = provider.read(`${provider.url}${request.url}`)
    const xml = provider.answer({ inResponseTo: asked.id, acs: asked.acs, audience: asked.issuer })
    const field = (name: string, value: string): string => `<input type="hidden" name="${name}" value="${value}">`
    response.setHeader('content-type', 'text/html')
    response.end(
      `<form method="post" action="${asked.acs}">${field('SAMLResponse', Buffer.from(xml).toString('base64'))}` +
        `${field('RelayState', asked.relayState)}<button>Sign in</button></form>`,
    )
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const entityId = `${url}/metadata`
  const der = made.certificate.replace(/-----[A-Z ]+-----|\s/g, '')
  const provider: SamlProvider = {
    url,
    entityId,
    otherKey: other.key,
    metadataRequests: 0,
    down: false,
    metadata: `<?xml version="1.0"?><md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="${entityId}"><md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>${der}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="${url}/sso"/></md:IDPSSODescriptor></md:EntityDescriptor>`,
    read(to) {
      const { searchParams } = new URL(to)
      const xml = inflateRawSync(Buffer.from(searchParams.get('SAMLRequest') ?? '', 'base64')).toString('utf8')
      return {
        xml,
        id: /\bID="([^"]+)"/.exec(xml)?.[1] ?? '',
        acs: /AssertionConsumerServiceURL="([^"]+)"/.exec(xml)?.[1] ?? '',
        issuer: /<saml:Issuer[^>]*>([^<]+)</.exec(xml)?.[1] ?? '',
        relayState: searchParams.get('RelayState') ?? '',
      }
    },
    answer(wish) {
      const at = (seconds: number): string => new Date(Date.now() + seconds * 1000).toISOString()
      const id = wish.id ?? `_${randomBytes(16).toString('hex')}`
      const account = wish.account ?? 'ada'
      const asked = (name: string, value: string): string => (value === '' ? '' : ` ${name}="${value}"`)
      const until = at(wish.notOnOrAfter ?? 300)
      const groups = (wish.groups ?? ['staff']).map((it) => `<saml:AttributeValue>${it}</saml:AttributeValue>`).join('')
      const assertion =
        `<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="${id}" Version="2.0" IssueInstant="${at(0)}">` +
        `<saml:Issuer>${wish.issuer ?? entityId}</saml:Issuer>` +
        `<saml:Subject><saml:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress">${account}@example.org</saml:NameID>` +
        `<saml:SubjectConfirmation Method="${wish.method ?? 'urn:oasis:names:tc:SAML:2.0:cm:bearer'}"><saml:SubjectConfirmationData` +
        `${asked('InResponseTo', wish.subjectInResponseTo ?? wish.inResponseTo)} Recipient="${wish.recipient ?? wish.acs}" NotOnOrAfter="${until}"/></saml:SubjectConfirmation></saml:Subject>` +
        `<saml:Conditions NotBefore="${at(wish.notBefore ?? -60)}" NotOnOrAfter="${until}"><saml:AudienceRestriction><saml:Audience>${wish.audience}</saml:Audience></saml:AudienceRestriction></saml:Conditions>` +
        `<saml:AuthnStatement AuthnInstant="${at(0)}" SessionIndex="s1"><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>` +
        `<saml:AttributeStatement><saml:Attribute Name="displayName"><saml:AttributeValue>User ${account}</saml:AttributeValue></saml:Attribute><saml:Attribute Name="groups">${groups}</saml:Attribute></saml:AttributeStatement>` +
        `</saml:Assertion>`
      const response =
        `<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_${randomBytes(16).toString('hex')}" Version="2.0" IssueInstant="${at(0)}" Destination="${wish.destination ?? wish.acs}"${asked('InResponseTo', wish.inResponseTo)}>` +
        `<saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">${wish.issuer ?? entityId}</saml:Issuer>` +
        `<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:${wish.status ?? 'Success'}"/></samlp:Status>${assertion}</samlp:Response>`
      const sign = wish.sign ?? 'assertion'
      const name = sign === 'assertion' ? 'Assertion' : 'Response'
      const options = {
        privateKey: wish.key ?? made.key,
        signatureAlgorithm: wish.algorithm ?? 'sha256',
        digestAlgorithm: wish.algorithm ?? 'sha256',
      }
      const path = `//*[local-name(.)='${name}']`
      const place = { reference: `${path}/*[local-name(.)='Issuer']`, action: 'after' }
      const signed = sign === 'none' ? response : signXml(response, path, place, options)
      return wish.change?.(signed) ?? signed
    },
    stop: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
  return provider
}
