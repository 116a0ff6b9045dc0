/**
 * Ranges of versions and strategies that only `engine: native` can honour, each for the host it is asked for (§5.25).
 *
 * Engine: native, and in every run.
 */
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeCertificate, opensslSkipReason, type MadeCertificate } from '../../support/certificates.ts'
import { startGateway, type RunningGateway } from '../../support/start-gateway.ts'

const HOSTS = ['modern.test', 'older.test', 'listener.test', 'any.test', 'request.test']

interface Asked {
  readonly minVersion?: 'TLSv1.2' | 'TLSv1.3'
  readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3'
  readonly certificate?: MadeCertificate
}

describe.skipIf(opensslSkipReason !== undefined)('terminate-tls on a native listener', () => {
  let gateway: RunningGateway
  let stranger: MadeCertificate

  beforeAll(async () => {
    stranger = makeCertificate({ names: 'DNS:stranger.test' })
    const server = makeCertificate({ names: HOSTS.map((host) => `DNS:${host}`).join() })
    const endpoint = (host: string, keys: string): string => `
  - name: ${host}
    url: https://${host}:PORT
    traffic_policy:
      on_tcp_connect: [{ actions: [{ type: terminate-tls, config: ${keys} }] }]
      on_http_request:
        - actions:
            - type: custom-response
              config:
                body: "\${conn.tls.version}|\${conn.tls.client.subject.common_name}|\${actions.ngrok.terminate_tls.version}"`
    gateway = await startGateway({
      config: ({ port }) =>
        `
workers: 1
listeners:
  - address: 127.0.0.1:${port}
    engine: native
    tls:
      min_version: '1.3'
      certificates: [{ certificate: tls/server.pem, key: tls/server.key }]
endpoints:${[
          endpoint('modern.test', "{ min_version: '1.3' }"),
          endpoint('older.test', "{ min_version: '1.2', max_version: '1.2' }"),
          endpoint('listener.test', '{}'),
          endpoint('any.test', '{ mutual_tls_verification_strategy: require-any }'),
          endpoint('request.test', '{ mutual_tls_verification_strategy: request }'),
        ].join('')}
`.replaceAll('PORT', String(port)),
      files: { 'tls/server.pem': server.certificate, 'tls/server.key': server.key },
    })
  })
  afterAll(() => gateway?.stop())

  /** The body of the answer, or what ended the connection. */
  const ask = (host: string, { minVersion, maxVersion, certificate }: Asked = {}): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect({
        host: '127.0.0.1',
        port: gateway.port,
        servername: host,
        rejectUnauthorized: false,
        ...(minVersion && { minVersion }),
        ...(maxVersion && { maxVersion }),
        ...(certificate && { cert: certificate.certificate, key: certificate.key }),
      })
      let received = ''
      socket.on('secureConnect', () =>
        socket.write(`GET / HTTP/1.1\r\nhost: ${host}:${gateway.port}\r\nconnection: close\r\n\r\n`),
      )
      socket.on('data', (data) => (received += data.toString('latin1')))
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(`refused: ${error.code ?? error.message}`))
      socket.on('close', () => resolve(received === '' ? 'closed' : (received.split('\r\n\r\n')[1] ?? '')))
    })

  it('a range is kept, each host its own; what a policy leaves out is as the listener has it', async () => {
    expect(await ask('modern.test')).toMatch(/1\.3\|\|/)
    expect(await ask('modern.test', { maxVersion: 'TLSv1.2' })).toMatch(/^refused: .*PROTOCOL_VERSION/)
    expect(await ask('older.test')).toMatch(/1\.2\|/)
    expect(await ask('older.test', { minVersion: 'TLSv1.3' })).toMatch(/^refused: .*PROTOCOL_VERSION/)
    expect(await ask('listener.test', { maxVersion: 'TLSv1.2' })).toMatch(/^refused: .*PROTOCOL_VERSION/)
    expect(await ask('listener.test')).toMatch(/1\.3\|/)
  })

  it('require-any takes a certificate of anybody, and needs one; request takes both', async () => {
    expect(await ask('any.test', { certificate: stranger })).toMatch(/1\.3\|stranger\.test\|/)
    expect(await ask('any.test')).toMatch(/^(?:refused|closed)/)
    expect(await ask('request.test', { certificate: stranger })).toMatch(/1\.3\|stranger\.test\|/)
    expect(await ask('request.test')).toMatch(/1\.3\|\|/)
  })
})
