/** Metadata of identity providers, and answers that are refused before any signature is looked at. */
import { describe, expect, it } from 'vitest'
import { checkAnswer, parseXml, readIdpMetadata, SamlXmlError } from '../../../src/login/saml-metadata.ts'
import { makeCertificate, opensslSkipReason } from '../../support/certificates.ts'

const MD = 'xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
const REDIRECT = 'urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect'

const key = (use: string, der: string): string =>
  `<md:KeyDescriptor${use}><ds:KeyInfo><ds:X509Data><ds:X509Certificate>\n${der}\n</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>`
const entity = (inner: string, more = ''): string =>
  `<?xml version="1.0"?><!-- by hand --><md:EntityDescriptor ${MD} entityID="https://idp.example/"${more}><md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">${inner}</md:IDPSSODescriptor></md:EntityDescriptor>`
const sso = (binding = REDIRECT, url = 'https://idp.example/sso?tenant=1'): string =>
  `<md:SingleSignOnService Binding="${binding}" Location="${url}"/>`

describe.skipIf(opensslSkipReason !== undefined)('readIdpMetadata', () => {
  const der = (name: string): string =>
    makeCertificate({ names: `DNS:${name}` }).certificate.replace(/-----[A-Z ]+-----|\s/g, '')
  const [first, second] = opensslSkipReason === undefined ? [der('a.test'), der('b.test')] : ['', '']

  it('finds issuer, address and the certificates for signatures', () => {
    const keys = key(' use="signing"', first) + key('', second) + key(' use="encryption"', 'nothing')
    expect(readIdpMetadata(entity(keys + sso('urn:other') + sso()))).toEqual({
      entityId: 'https://idp.example/',
      loginUrl: 'https://idp.example/sso?tenant=1',
      certificates: [first, second],
      wantsSignedRequests: false,
    })
  })

  it('finds the provider in a federation, behind others', () => {
    const one = entity(key('', first) + sso()).replace(/^<\?xml.*?-->/, '')
    const other = `<md:EntityDescriptor ${MD} entityID="https://sp.example/"><md:SPSSODescriptor/></md:EntityDescriptor>`
    expect(readIdpMetadata(`<md:EntitiesDescriptor ${MD}>${other}${one}</md:EntitiesDescriptor>`).entityId).toBe(
      'https://idp.example/',
    )
  })

  it.each([
    ['no certificate', () => entity(sso())],
    ['cannot be read', () => entity(key('', 'AAAA') + sso())],
    ['HTTP-Redirect', () => entity(key('', first) + sso('urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST'))],
    ['HTTP-Redirect', () => entity(key('', first) + sso(REDIRECT, 'javascript:alert(1)'))],
    ['no entityID', () => entity(key('', first) + sso()).replace('entityID="https://idp.example/"', '')],
    ['no IDPSSODescriptor', () => `<a xmlns="urn:a"/>`],
    ['document type', () => `<!DOCTYPE a>${entity('')}`],
    ['not well-formed', () => '<a><b></a>'],
    ['the document is empty', () => 'hello'],
  ])('%s', (message, text) => {
    expect(() => readIdpMetadata(text())).toThrow(SamlXmlError)
    expect(() => readIdpMetadata(text())).toThrow(message)
  })
})

describe('parseXml', () => {
  it('refuses entities in any spelling, depth and size', () => {
    for (const text of ['<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', '<!doctype a><a/>', '<a><!ENTITY x "y"></a>']) {
      expect(() => parseXml(text)).toThrow(SamlXmlError)
    }
    expect(() => parseXml(`${'<a>'.repeat(100)}${'</a>'.repeat(100)}`)).toThrow('nested too deep')
    expect(() => parseXml(`<a>${'x'.repeat(600_000)}</a>`)).toThrow('too large')
    expect(() => parseXml('<a>&unknown;</a>')).toThrow(SamlXmlError)
  })
})

describe('checkAnswer', () => {
  const answer = (inner: string, more = ''): string =>
    `<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" ID="r" Destination="https://sp/acs" InResponseTo="_1"${more}><samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>${inner}</samlp:Response>`
  const assertion = '<saml:Assertion ID="a"/>'

  it('tells destination and request', () => {
    expect(checkAnswer(answer(assertion))).toEqual({ destination: 'https://sp/acs', inResponseTo: '_1' })
  })

  it.each([
    ['no assertion', answer('')],
    ['two', answer(assertion + assertion.replace('"a"', '"b"'))],
    ['one that is not its child', answer(`<samlp:Extensions>${assertion}</samlp:Extensions>`)],
    [
      'one inside another',
      answer('<saml:Assertion ID="a"><saml:Advice><saml:Assertion ID="b"/></saml:Advice></saml:Assertion>'),
    ],
    ['an encrypted one', answer('<saml:EncryptedAssertion/>')],
    ['an id twice', answer('<saml:Assertion ID="r"/>')],
    ['an id twice in other spellings', answer('<saml:Assertion ID="a"><x Id="a"/></saml:Assertion>')],
    ['a comment', answer(`${assertion}<!-- -->`)],
    ['a processing instruction', answer(`${assertion}<?php ?>`)],
    ['CDATA', answer(`${assertion}<![CDATA[x]]>`)],
    ['SHA-1', answer('<saml:Assertion ID="a"><x a="http://www.w3.org/2000/09/xmldsig#rsa-sha1"/></saml:Assertion>')],
    ['another root', answer(assertion).replaceAll('samlp:Response', 'samlp:LogoutResponse')],
    ['another status', answer(assertion).replace('Success', 'Requester')],
  ])('%s', (_, text) => expect(() => checkAnswer(text)).toThrow(SamlXmlError))
})
