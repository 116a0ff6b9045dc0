/** URLs of endpoints and upstreams (kubernetes-objects.md §2), addresses of listeners. */
import { describe, expect, it } from 'vitest'
import {
  bindingProblem,
  isLoopbackHost,
  parseEndpointUrl,
  parseHostPort,
  parseUpstreamUrl,
  type UrlScheme,
} from '../../../src/config/address.ts'

function endpoint(text: string, kind: 'agent' | 'cloud' = 'agent'): string {
  const parsed = parseEndpointUrl(text, kind)
  return 'value' in parsed ? `${parsed.value.href} ${parsed.value.host} ${parsed.value.port}` : parsed.problem.code
}

function upstream(text: string, endpointScheme: UrlScheme = 'https'): string {
  const parsed = parseUpstreamUrl(text, { endpointScheme })
  if ('problem' in parsed) return parsed.problem.code
  const { protocol, host, port } = parsed.value
  return `${protocol} ${host} ${port}`
}

describe('§2.1 endpoint urls', () => {
  it.each([
    ['shop.example.org', 'https://shop.example.org shop.example.org 443'],
    ['https://A.Example.org:443', 'https://a.example.org a.example.org 443'],
    ['http://a.example.org.', 'http://a.example.org a.example.org 80'],
    ['http://localhost:8080', 'http://localhost:8080 localhost 8080'],
    ['svc.team.internal', 'https://svc.team.internal svc.team.internal 443'],
    ['https://svc.internal:8443', 'https://svc.internal:8443 svc.internal 8443'],
    ['https://*.example.org', 'https://*.example.org *.example.org 443'],
    ['tcp://1.tcp.example:12345', 'tcp://1.tcp.example:12345 1.tcp.example 12345'],
    ['tls://b.example.org', 'tls://b.example.org b.example.org 443'],
    ['http://127.0.0.1:80', 'http://127.0.0.1 127.0.0.1 80'],
    ['http://[0:0::1]:8080', 'http://[::1]:8080 [::1] 8080'],
    ['http://bücher.example', 'http://xn--bcher-kva.example xn--bcher-kva.example 80'],
    ['http://user_service.internal', 'http://user_service.internal user_service.internal 80'],
  ])('%s', (text, expected) => {
    expect(endpoint(text)).toBe(expected)
  })

  it.each([
    ['', 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
    ['https://', 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
    ['ftp://a.example', 'ERR_NGROK_9036', 'ERR_NGROK_18022'],
    ['http://a.example/', 'ERR_NGROK_9038', 'ERR_NGROK_18001'],
    ['http://a.example/x', 'ERR_NGROK_9037', 'ERR_NGROK_18001'],
    ['http://a.example?x', 'ERR_NGROK_9037', 'ERR_NGROK_18001'],
    ['http://a.example#x', 'ERR_NGROK_9037', 'ERR_NGROK_18001'],
    ['http://u@a.example', 'ERR_NGROK_9037', 'ERR_NGROK_18001'],
    ['http://a.example:x', 'ERR_NGROK_9033', 'ERR_NGROK_18001'],
    ['http://a.example:', 'ERR_NGROK_9033', 'ERR_NGROK_18001'],
    ['http://a.example:0', 'ERR_NGROK_9030', 'ERR_NGROK_18023'],
    ['http://a.example:65536', 'ERR_NGROK_9030', 'ERR_NGROK_18023'],
    ['tcp://a.example', 'ERR_NGROK_9030', 'ERR_NGROK_18003'],
    ['http://a b', 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
    ['http://a*.example', 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
    ['http://*', 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
    ['http://999.1.1.1', 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
    ['http://0x7f.1', 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
    ['http://[::1', 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
    [`http://${'a'.repeat(64)}.example`, 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
    ['http://-a.example', 'ERR_NGROK_9034', 'ERR_NGROK_18001'],
  ])('%j is refused', (text, agentCode, cloudCode) => {
    expect([endpoint(text), endpoint(text, 'cloud')]).toEqual([agentCode, cloudCode])
  })

  it('a trailing slash comes with the url to write', () => {
    expect(parseEndpointUrl('http://a.example/', 'agent')).toMatchObject({
      problem: { hint: 'write http://a.example' },
    })
  })

  it('§2.2: host and binding agree', () => {
    const problem = (text: string, binding: 'public' | 'internal') => {
      const parsed = parseEndpointUrl(text, 'agent')
      if ('problem' in parsed) throw new Error(text)
      return bindingProblem(parsed.value, binding)?.code
    }
    expect(problem('a.example', 'internal')).toBe('ERR_NGROK_9029')
    expect(problem('a.internal', 'public')).toBe('ERR_NGROK_9029')
    expect(problem('a.internal', 'internal')).toBeUndefined()
    expect(problem('a.b.c.d.e.internal', 'internal')).toBeUndefined()
    expect(problem('a.b.c.d.e.f.internal', 'internal')).toBe('ERR_NGROK_9031')
  })

  it('knows names of this machine', () => {
    expect(['localhost', '127.8.0.1', '[::1]'].every(isLoopbackHost)).toBe(true)
    expect(['localhost.example', '128.0.0.1', '127.example'].some(isLoopbackHost)).toBe(false)
  })
})

describe('§2.4 upstream urls', () => {
  it.each([
    ['https://example.org', 'https example.org 443'],
    ['http://svc.ns:8080', 'http svc.ns 8080'],
    ['http://svc.ns:8080/', 'http svc.ns 8080'],
    ['example.org', 'http example.org 80'],
    ['host:9000', 'http host 9000'],
    ['[::1]:80', 'http ::1 80'],
    ['https://', 'https localhost 443'],
    ['http://', 'http localhost 80'],
    ['8080', 'http localhost 8080'],
    ['443', 'https localhost 443'],
    ['localhost:443', 'https localhost 443'],
  ])('%s', (text, expected) => {
    expect(upstream(text)).toBe(expected)
  })

  it('tcp and tls endpoints need a port, which may stand alone', () => {
    expect(upstream('22', 'tcp')).toBe('tcp localhost 22')
    expect(upstream('tcp://127.0.0.1:22', 'tcp')).toBe('tcp 127.0.0.1 22')
    expect(upstream('tls://h', 'tls')).toBe('tls h 443')
    expect(upstream('h', 'tcp')).toBe('INVALID_UPSTREAM_URL')
    expect(upstream('http://h:80', 'tcp')).toBe('INVALID_UPSTREAM_URL')
    expect(upstream('tcp://h:80', 'http')).toBe('INVALID_UPSTREAM_URL')
  })

  it.each([
    '',
    '0',
    '70000',
    'file:///srv',
    'ftp://h',
    'http://h/path',
    'http://h?q',
    'http://u:p@h',
    'http://a b',
    'http://h:x',
    '*.h',
  ])('%j is refused', (text) => {
    expect(upstream(text)).toBe('INVALID_UPSTREAM_URL')
  })
})

describe('addresses', () => {
  it.each([
    ['127.0.0.1:80', { host: '127.0.0.1', port: 80 }],
    ['[::]:8080', { host: '::', port: 8080 }],
    ['Name.Example:1', { host: 'name.example', port: 1 }],
    [':80', undefined],
    ['name', undefined],
    ['name:', undefined],
    ['name:0', undefined],
    ['::1:80', undefined],
  ])('%s', (text, expected) => {
    expect(parseHostPort(text)).toEqual(expected)
  })

  it(':80 means every address of a listener', () => {
    expect(parseHostPort(':80', true)).toEqual({ host: '0.0.0.0', port: 80 })
  })
})
