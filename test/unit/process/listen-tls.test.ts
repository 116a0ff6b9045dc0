/** What listeners show and ask, on a front end whose TLS is fixed and on one whose is not. */
import { describe, expect, test } from 'vitest'
import type { TlsTermination } from '../../../src/actions/terminate-tls.ts'
import type { ServerCertificate } from '../../../src/config/certificate.ts'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import type { ListenerSettings } from '../../../src/config/settings.ts'
import { resolveTls, type TlsEndpoint } from '../../../src/process/listen-tls.ts'

const span = { source: { path: '' }, start: 0, end: 0 } as never
const certificate = (...names: string[]): ServerCertificate => ({
  chain: `chain of ${names[0]}`,
  key: 'key',
  names,
  notBeforeMs: 0,
  notAfterMs: 0,
  span,
  fingerprint: names.join(),
})
const listener = {
  address: '127.0.0.1:8443',
  port: 8443,
  tls: { certificates: [certificate('a.test', '*.b.test')], versions: ['1.2', '1.3'], span },
} as unknown as ListenerSettings

const endpoint = (
  host: string,
  keys: Partial<Record<'minVersion' | 'maxVersion' | 'strategy', string>>,
): TlsEndpoint => {
  const texts = Object.fromEntries(Object.entries(keys).map(([key, text]) => [key, { text, span }]))
  return {
    definition: { name: host, binding: 'public', url: { scheme: 'https', host, port: 8443 }, span },
    terminations: [{ span, isConditional: false, authorities: [], ...texts } as unknown as TlsTermination],
  } as unknown as TlsEndpoint
}

function resolve(isFixed: boolean, ...endpoints: TlsEndpoint[]): { codes: string[]; shown: unknown } {
  const diagnostics = new Diagnostics()
  const [tls] = resolveTls([listener], endpoints, diagnostics, () => isFixed)
  return {
    codes: diagnostics.all.map(({ code }) => code),
    shown: tls?.certificates.map(({ names, chain, rules }) => [names, chain, rules]),
  }
}

describe('ranges of versions and strategies (§5.25)', () => {
  test('a front end whose TLS is fixed refuses what it cannot do', () => {
    const refused = [{ minVersion: '1.3' }, { maxVersion: '1.2' }, { strategy: 'request' }]
    expect(refused.map((keys) => resolve(true, endpoint('a.test', keys)).codes[0])).toEqual([
      'TLS_RANGE',
      'TLS_RANGE',
      'TLS_STRATEGY',
    ])
    expect(resolve(true, endpoint('a.test', { minVersion: '1.2', maxVersion: '1.3' })).codes).toEqual([])
  })

  test('another one gets them for the host of the endpoint, and only for that', () => {
    const { codes, shown } = resolve(
      false,
      endpoint('x.b.test', { minVersion: '1.3', strategy: 'require-any' }),
      endpoint('a.test', {}),
    )
    expect(codes).toEqual([])
    const clients = { strategy: 'require-any', authorities: undefined }
    expect(shown).toEqual([
      [['a.test', '*.b.test'], 'chain of a.test', { minVersion: '1.2', maxVersion: '1.3', clients: undefined }],
      [['x.b.test'], 'chain of a.test', { minVersion: '1.3', maxVersion: '1.3', clients }],
    ])
  })

  test('what a policy leaves out is as its listener has it', () => {
    const strict = { ...listener, tls: { ...listener.tls!, versions: ['1.3', '1.3'] as const } }
    const diagnostics = new Diagnostics()
    const [tls] = resolveTls([strict], [endpoint('x.b.test', { strategy: 'request' })], diagnostics, () => false)
    expect(diagnostics.all).toEqual([])
    expect(tls?.certificates.map(({ rules }) => [rules?.minVersion, rules?.maxVersion])).toEqual([
      ['1.3', '1.3'],
      ['1.3', '1.3'],
    ])
    const wider = endpoint('x.b.test', { maxVersion: '1.2' })
    resolveTls([strict], [wider], diagnostics, () => false)
    expect(diagnostics.all.map(({ code }) => code)).toEqual(['TLS_RANGE'])
  })

  test('what nobody speaks any more, and a range without a version in it', () => {
    for (const keys of [{ minVersion: '1.0' }, { maxVersion: '1.1' }, { minVersion: '1.3', maxVersion: '1.2' }]) {
      expect(resolve(false, endpoint('a.test', keys)).codes).toEqual(['TLS_RANGE'])
    }
    expect(resolve(false, endpoint('a.test', { strategy: 'require-and-verify' })).codes).toEqual(['ERR_NGROK_2234'])
  })
})
