/** `terminate-tls` and `conn.tls`: certificates that policies bring, clients that must show one, what expressions see. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkFromDisk } from '../../../src/process/configuration.ts'
import { makeCertificate, opensslSkipReason, type MadeCertificate } from '../../support/certificates.ts'
import { freePorts, get, startGateway, type RunningGateway } from '../../support/start-gateway.ts'
import { openTls, type TlsClient } from '../../support/tls-client.ts'
import { testCapabilities } from '../../support/test-engine.ts'

const indented = (pem: string, width: number): string => pem.trim().replaceAll('\n', `\n${' '.repeat(width)}`)

const hasTls = opensslSkipReason === undefined && testCapabilities.tls.versions.length > 0

describe.skipIf(!hasTls)('terminate-tls', () => {
  let gateway: RunningGateway
  let authority: MadeCertificate
  let otherAuthority: MadeCertificate
  let client: MadeCertificate
  let server: MadeCertificate
  let policyCertificate: MadeCertificate
  let sealedCertificate: MadeCertificate
  let plainPort = 0
  let publicPort = 0

  const answer = (names: readonly string[]): string =>
    `[{ actions: [{ type: custom-response, config: { body: "${names.map((name) => `${name}=\${${name}}`).join('|')}" } }] }]`

  beforeAll(async () => {
    ;[plainPort = 0, publicPort = 0] = await freePorts(2)
    authority = makeCertificate({ names: 'DNS:authority.test', isAuthority: true })
    otherAuthority = makeCertificate({ names: 'DNS:other-authority.test', isAuthority: true })
    client = makeCertificate({
      names: 'DNS:device-7.test,email:ops@device.test,IP:192.0.2.7,URI:urn:device:7',
      subject: '/C=DE/O=Shop/O=Second/OU=Devices/CN=device 7',
      issuer: authority,
    })
    server = makeCertificate({ names: 'DNS:public.test,DNS:*.wild.test' })
    policyCertificate = makeCertificate({ names: 'DNS:brought.test' })
    sealedCertificate = makeCertificate({ names: 'DNS:sealed.test' })
    gateway = await startGateway({
      config: ({ port }) => `
workers: 1
vaults: { directory: secrets }
listeners:
  - address: 127.0.0.1:${port}
    tls:
      certificates: [{ certificate: tls/public.pem, key: tls/public.key, names: [devices.test] }]
  - address: 127.0.0.1:${publicPort}
    tls:
      certificates: [{ certificate: tls/public.pem, key: tls/public.key }]
  - address: 127.0.0.1:${plainPort}
endpoints:
  - name: devices
    url: https://devices.test:${port}
    traffic_policy:
      on_tcp_connect:
        - actions:
            - type: terminate-tls
              config:
                mutual_tls_certificate_authorities: |
                  ${indented(authority.certificate, 18)}
                mutual_tls_verification_strategy: require-and-verify
      on_http_request: ${answer([
        'conn.tls.client.subject',
        'conn.tls.client.subject.common_name',
        'conn.tls.client.subject.organization[0]',
        'conn.tls.client.issuer.common_name',
        'conn.tls.client.san.dns_names[0]',
        'conn.tls.client.san.email_addresses[0]',
        'conn.tls.client.san.ip_addresses[0]',
        'conn.tls.client.san.uris[0]',
        'conn.tls.client.serial_number',
        'conn.tls.client.signature_algorithm',
        'conn.tls.client.validity.not_after',
        'conn.tls.client.extensions[0].id',
        'actions.ngrok.terminate_tls.sni',
      ])}
  - name: brought
    url: https://brought.test:${publicPort}
    traffic_policy:
      on_tcp_connect:
        - actions:
            - type: terminate-tls
              config:
                server_certificate: |
                  ${indented(policyCertificate.certificate, 18)}
                server_private_key: |
                  ${indented(policyCertificate.key, 18)}
      on_http_request: ${answer(['conn.tls.sni', 'conn.tls.server.subject.common_name', 'conn.tls.version', 'conn.tls.cipher_suite', 'conn.tls.session_resumed', 'conn.tls.client.pem', 'req.url.scheme'])}
  - name: sealed
    url: https://sealed.test:${publicPort}
    traffic_policy:
      on_tcp_connect:
        - actions:
            - type: terminate-tls
              config:
                server_certificate: \${secrets.get('tls', 'certificate')}
                server_private_key: \${secrets.get('tls', 'key')}
      on_http_request: ${answer(['conn.tls.server.san'])}
  - name: public
    url: https://public.test:${publicPort}
    traffic_policy:
      on_tcp_connect:
        - actions: [{ type: terminate-tls }]
        - expressions: ["conn.tls.sni == 'closed.wild.test'"]
          actions: [{ type: deny }]
      on_http_request: ${answer(['conn.tls.sni'])}
  - name: wild
    url: "https://*.wild.test:${publicPort}"
    traffic_policy:
      on_tcp_connect:
        - expressions: ["conn.tls.sni == 'closed.wild.test'"]
          actions: [{ type: deny }]
      on_http_request: ${answer(['conn.tls.sni', 'conn.tls.server.san'])}
  - name: plain
    url: http://plain.test:${plainPort}
    traffic_policy:
      on_http_request: [{ actions: [{ type: custom-response, config: { body: "has tls: \${string(has(conn.tls))}" } }] }]
`,
      files: {
        'tls/public.pem': server.certificate,
        'tls/public.key': server.key,
        'secrets/tls/certificate': sealedCertificate.certificate,
        // as a command line leaves it
        'secrets/tls/key': sealedCertificate.key.trim().replaceAll('\n', '\\n'),
      },
    })
  })

  afterAll(async () => {
    await gateway?.stop()
  })

  const request = (host: string): string => `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`
  async function ask(port: number, servername: string, options: object = {}): Promise<string | undefined> {
    const connection: TlsClient = await openTls(port, { servername, ...options })
    try {
      return (await connection.ask(request(servername)))?.body
    } finally {
      connection.destroy()
    }
  }

  it('a client with a certificate of the authority passes, and policies see what is in it', async () => {
    const body = await ask(gateway.port, 'devices.test', { cert: client.certificate, key: client.key })
    const seen = Object.fromEntries((body ?? '').split('|').map((part) => part.split(/=(.*)/s, 2)))
    const ends = new Date(Date.now() + 90 * 86_400_000).toISOString().slice(0, 10)
    expect(seen['conn.tls.client.validity.not_after']?.slice(0, 10)).toBe(ends)
    expect(seen).toMatchObject({
      'conn.tls.client.subject': 'CN=device 7,OU=Devices,O=Second,O=Shop,C=DE',
      'conn.tls.client.subject.common_name': 'device 7',
      'conn.tls.client.subject.organization[0]': 'Shop',
      'conn.tls.client.issuer.common_name': 'authority.test',
      'conn.tls.client.san.dns_names[0]': 'device-7.test',
      'conn.tls.client.san.email_addresses[0]': 'ops@device.test',
      'conn.tls.client.san.ip_addresses[0]': '192.0.2.7',
      'conn.tls.client.san.uris[0]': 'urn:device:7',
      'conn.tls.client.serial_number': client.serial.toLowerCase(),
      'conn.tls.client.signature_algorithm': 'ECDSA-SHA256',
      'conn.tls.client.extensions[0].id': '2.5.29.17',
      'actions.ngrok.terminate_tls.sni': 'devices.test',
    })
  })

  it('without one, or with one of another authority, nobody gets an answer', async () => {
    expect(await ask(gateway.port, 'devices.test')).toBeUndefined()
    const line = await gateway.waitForAccess(({ endpoint }) => endpoint === 'devices' && true)
    expect(line).toBeDefined()
    const stranger = makeCertificate({ names: 'DNS:device-7.test', issuer: otherAuthority })
    const refused = ask(gateway.port, 'devices.test', { cert: stranger.certificate, key: stranger.key })
    // TLS 1.3 tells the client behind its own end of the handshake
    expect(await refused.catch(() => undefined)).toBeUndefined()
  })

  it('no other listener is a way around it', async () => {
    const connection = await openTls(publicPort, { servername: '', cert: client.certificate, key: client.key })
    expect(await connection.ask(request('devices.test'))).toBeUndefined()
    connection.destroy()
    await expect(get(`http://127.0.0.1:${plainPort}/`, { headers: { host: 'devices.test' } })).rejects.toThrow()
  })

  it('a policy brings the certificate of its endpoint; what is not known is empty (§6.1)', async () => {
    const connection = await openTls(publicPort, { servername: 'brought.test' })
    expect(connection.serial).toBe(policyCertificate.serial)
    connection.destroy()
    // the library tells neither (F-17)
    const known = testCapabilities.strict
      ? 'conn.tls.version=1.3|conn.tls.cipher_suite=TLS_AES_256_GCM_SHA384'
      : 'conn.tls.version=|conn.tls.cipher_suite='
    expect(await ask(publicPort, 'brought.test')).toBe(
      `conn.tls.sni=brought.test|conn.tls.server.subject.common_name=brought.test|${known}|conn.tls.session_resumed=false|conn.tls.client.pem=|req.url.scheme=https`,
    )
  })

  it('certificate and key may be secrets, read with the configuration', async () => {
    const connection = await openTls(publicPort, { servername: 'sealed.test' })
    expect(connection.serial).toBe(sealedCertificate.serial)
    connection.destroy()
    expect(await ask(publicPort, 'sealed.test')).toBe('conn.tls.server.san=DNS:sealed.test')
  })

  it('on_tcp_connect may decide by the name that was asked for', async () => {
    expect(await ask(publicPort, 'public.test')).toBe('conn.tls.sni=public.test')
    expect(await ask(publicPort, 'open.wild.test')).toBe(
      'conn.tls.sni=open.wild.test|conn.tls.server.san=DNS:public.test, DNS:*.wild.test',
    )
    expect(await ask(publicPort, 'closed.wild.test')).toBeUndefined()
  })

  it('conn.tls is absent on plain connections', async () => {
    const { body } = await get(`http://127.0.0.1:${plainPort}/`, { headers: { host: 'plain.test' } })
    expect(body).toBe('has tls: false')
  })

  describe('what the front end cannot do is an error of check that names it', () => {
    const check = async (
      terminate: string,
      options: { url?: string; tls?: string; rule?: string; more?: string } = {},
    ): Promise<string> => {
      const {
        url = 'https://a.test:9443',
        tls = 'tls: { certificates: [{ certificate: tls/public.pem, key: tls/public.key, names: [a.test] }] }',
      } = options
      gateway.write(
        'wrong.yaml',
        `listeners:\n  - address: 127.0.0.1:9443\n    ${tls}\nendpoints:\n  - name: a\n    url: ${url}\n    upstream: { url: http://127.0.0.1:9 }\n    traffic_policy:\n      on_tcp_connect:\n        - actions:\n            - type: terminate-tls\n              config:\n                ${indented(terminate, 16)}\n          ${options.rule ?? ''}\n${options.more ?? ''}`,
      )
      const { settings, reports } = await checkFromDisk({ files: [`${gateway.folder}/wrong.yaml`] }, 'check')
      return settings === undefined ? reports.map(({ rendered }) => rendered).join('\n') : 'accepted'
    }
    const pem = (text: string): string => `|\n  ${indented(text, 2)}`
    const UWS = 'the front end uws \\(uWebSockets\\.js\\)'

    it.each([
      ["min_version: '1.3'", `wrong\\.yaml:13:30: error: ${UWS} speaks TLS 1\\.2 and 1\\.3.*\\[TLS_RANGE\\]`],
      ["max_version: '1.2'", `wrong\\.yaml:13:30: error: ${UWS} speaks TLS 1\\.2 and 1\\.3.*\\[TLS_RANGE\\]`],
      ["min_version: '1.4'", 'wrong\\.yaml:13:30: error: "1\\.4" is none of'],
      ["min_version: '1.2'\nmax_version: '1.3'", '^accepted$'],
      ['mutual_tls_verification_strategy: require-any', `${UWS} verifies every certificate .*\\[TLS_STRATEGY\\]`],
      ['mutual_tls_verification_strategy: request', `${UWS} verifies every certificate .*\\[TLS_STRATEGY\\]`],
      ['mutual_tls_verification_strategy: require-and-verify', 'needs mutual_tls_certificate_authorities'],
      ['mutual_tls_certificate_authorities: [ca_123]', 'wrong\\.yaml:13:54: error: .* given as PEM, not by id'],
      ['mutual_tls_certificate_authorities: [nonsense]', 'wrong\\.yaml:13:54: error: this is not a PEM certificate'],
      ['server_certificate: x', 'belong together'],
      ['server_certificate: x\nserver_private_key: y', 'wrong\\.yaml:13:37: error: the certificate cannot be read'],
      [
        'server_certificate: ${conn.client_ip}\nserver_private_key: y',
        `${UWS} reads certificates before .*\\[TLS_INTERPOLATION\\]`,
      ],
      // the secret may still come: `run` refuses it
      ["server_certificate: ${secrets.get('tls', 'none')}\nserver_private_key: y", '^accepted$'],
      ['unknown_key: 1', 'unknown_key'],
    ])('%s', async (terminate, said) => {
      expect(await check(terminate)).toMatch(new RegExp(said, 'm'))
    })

    it('a key that does not fit, a condition, a listener without tls, clients that differ', async () => {
      const mismatch = `server_certificate: ${pem(server.certificate)}\nserver_private_key: ${pem(client.key)}`
      expect(await check(mismatch)).toContain('the key does not belong to the certificate')
      const asks = `mutual_tls_certificate_authorities: ${pem(authority.certificate)}`
      expect(await check(asks)).toBe('accepted')
      const conditional = await check(asks, { rule: 'expressions: ["conn.tls.sni == \'a.test\'"]' })
      expect(conditional).toMatch(/uWebSockets\.js.* before a rule can be asked.*\[TLS_CONDITIONAL\]/)
      expect(await check(asks, { tls: 'proxy_protocol: false' })).toContain('no listener with tls has its port 9443')
      const more = '  - name: b\n    url: https://b.test:9443\n    upstream: { url: http://127.0.0.1:9 }\n'
      expect(await check(asks, { more })).toMatch(
        /uWebSockets\.js.* a and b, both behind 127\.0\.0\.1:9443, differ \[TLS_CLIENTS_DIFFER\]/,
      )
    })
  })
})
