/** TLS listeners of the whole gateway: which certificate is shown, renewal without closing a connection, redirects. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeCertificate, opensslSkipReason, type MadeCertificate } from '../../support/certificates.ts'
import { startEchoUpstream, type EchoUpstream } from '../../support/echo-upstream.ts'
import { freePorts, get, runCommand, startGateway, type RunningGateway } from '../../support/start-gateway.ts'
import { openTls, type TlsClient } from '../../support/tls-client.ts'
import { testCapabilities } from '../../support/test-engine.ts'

const hasTls = opensslSkipReason === undefined && testCapabilities.tls.versions.length > 0

describe.skipIf(!hasTls)('TLS listeners', () => {
  let upstream: EchoUpstream
  let gateway: RunningGateway
  let plainPort = 0
  let a: MadeCertificate
  let b: MadeCertificate
  let wild: MadeCertificate
  const config = (port: number): string => `
workers: 2
listeners:
  - address: 127.0.0.1:${port}
    tls:
      certificates:
        - { certificate: tls/a.pem, key: tls/a.key }
        - { certificate: tls/b.pem, key: tls/b.key, names: [b.test] }
        - { certificate: tls/wild.pem, key: tls/wild.key }
  - address: 127.0.0.1:${plainPort}
    redirect_to_https: ${port}
endpoints:
${['a.test', 'b.test', '*.wild.test']
  .map(
    (host, index) => `  - name: endpoint-${index}
    url: https://${host.startsWith('*') ? `"${host}"` : host}:${port}
    upstream: { url: http://127.0.0.1:${upstream.port} }
`,
  )
  .join('')
  .replaceAll(/https:\/\/"(.*?)"(:\d+)/g, '"https://$1$2"')}`

  beforeAll(async () => {
    upstream = await startEchoUpstream()
    ;[plainPort = 0] = await freePorts(1)
    a = makeCertificate({ names: 'DNS:a.test' })
    b = makeCertificate({ names: 'DNS:b.test,DNS:unused.test' })
    wild = makeCertificate({ names: 'DNS:*.wild.test', newKey: ['rsa:2048'] })
    gateway = await startGateway({
      config: ({ port }) => config(port),
      files: {
        'tls/a.pem': a.certificate,
        'tls/a.key': a.key,
        'tls/b.pem': b.certificate,
        'tls/b.key': b.key,
        'tls/wild.pem': wild.certificate,
        'tls/wild.key': wild.key,
      },
    })
  })

  afterAll(async () => {
    await gateway?.stop()
    await upstream?.close()
  })

  const request = (host: string, path = '/'): string => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`

  it('shows the certificate of the name that the client asks for, in every worker', async () => {
    const expected = {
      'a.test': a.serial,
      'b.test': b.serial,
      'B.TEST': b.serial,
      'x.wild.test': wild.serial,
      'y.wild.test': wild.serial,
      'x.y.wild.test': a.serial,
      'unused.test': a.serial,
      'nobody.test': a.serial,
      '': a.serial,
    }
    for (const [servername, serial] of Object.entries(expected)) {
      // several connections: the kernel spreads them over the workers
      for (let round = 0; round < 4; round++) {
        const client = await openTls(gateway.port, { servername })
        expect(client.serial, servername).toBe(serial)
        client.destroy()
      }
    }
  })

  it('serves requests, and the upstream learns that they came over https (O-69)', async () => {
    const client = await openTls(gateway.port, { servername: 'x.wild.test' })
    const answer = await client.ask(request('x.wild.test', '/deep?x=1'))
    expect(answer?.status).toBe(200)
    const seen = upstream.requests.at(-1)!
    expect(seen.target).toBe('/deep?x=1')
    expect(seen.field('x-forwarded-proto')).toBe('https')
    expect(seen.field('x-forwarded-port')).toBe(String(gateway.port))
    const line = await gateway.waitForAccess(({ path }) => path === '/deep?x=1')
    expect(line).toMatchObject({ status: 200, endpoint: 'endpoint-2', peer_ip: '127.0.0.1' })
    client.destroy()
  })

  it('streams bodies both ways over TLS, larger than every buffer', async () => {
    const client = await openTls(gateway.port, { servername: 'a.test' })
    const body = 'x'.repeat(3 * 2 ** 20)
    const answer = await client.ask(
      `POST /big HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    expect(answer?.status).toBe(200)
    expect(upstream.complete.at(-1)?.body.length).toBe(body.length)
    client.destroy()
  })

  it('H-17: a connection that was made for one name serves no other endpoint', async () => {
    const client = await openTls(gateway.port, { servername: 'a.test' })
    const before = upstream.requests.length
    expect((await client.ask(request('b.test')))?.status).toBe(421)
    expect(upstream.requests.length).toBe(before)
    client.destroy()
    // the same endpoint under another of its names, and a client that named none
    const sibling = await openTls(gateway.port, { servername: 'x.wild.test' })
    expect((await sibling.ask(request('y.wild.test')))?.status).toBe(200)
    sibling.destroy()
    const nameless = await openTls(gateway.port, { servername: '' })
    expect((await nameless.ask(request('b.test')))?.status).toBe(200)
    nameless.destroy()
  })

  it('speaks TLS 1.2 and 1.3, nothing older', async () => {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const client = await openTls(gateway.port, { servername: 'a.test', minVersion: version, maxVersion: version })
      expect(client.socket.getProtocol()).toBe(version)
      client.destroy()
    }
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' } as const
    await expect(openTls(gateway.port, { servername: 'a.test', ...old })).rejects.toThrow()
  })

  it('redirects plain requests to https, keeping method, path and query', async () => {
    const plain = `http://127.0.0.1:${plainPort}`
    const answer = await get(`${plain}/a/b?c=d`, { headers: { host: 'a.test:8080' }, method: 'POST', body: 'x' })
    expect(answer.status).toBe(308)
    expect(answer.headers['location']).toBe(`https://a.test:${gateway.port}/a/b?c=d`)
  })

  it('writes nothing but access lines to standard output', async () => {
    // the library prints a line for each name it learns
    const stray = gateway
      .stdout()
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('{'))
    expect(stray).toEqual([])
    await get(`http://127.0.0.1:${plainPort}/printed`, { headers: { host: 'a.test' } })
    await gateway.waitForAccess(({ path }) => path === '/printed')
  })

  it('tells when certificates end', async () => {
    const { body } = await get(`${gateway.adminUrl}/metrics`)
    const value = Number(/^sallyport_tls_certificate_not_after_seconds\{name="\*\.wild\.test"\} (.*)$/m.exec(body)?.[1])
    const days = (value - Date.now() / 1000) / 86_400
    expect(days).toBeGreaterThan(89)
    expect(days).toBeLessThan(91)
  })

  it('reloads renewed files: new handshakes show the new serial, connections that exist go on', async () => {
    const old: TlsClient[] = []
    for (let index = 0; index < 8; index++) old.push(await openTls(gateway.port, { servername: 'a.test' }))
    for (const client of old) expect((await client.ask(request('a.test')))?.status).toBe(200)

    const renewed = makeCertificate({ names: 'DNS:a.test' })
    gateway.write('tls/a.pem', renewed.certificate)
    gateway.write('tls/a.key', renewed.key)
    expect(await gateway.command('reload')).toMatchObject({ code: 0 })

    for (let index = 0; index < 8; index++) {
      const fresh = await openTls(gateway.port, { servername: 'a.test' })
      expect(fresh.serial).toBe(renewed.serial)
      expect((await fresh.ask(request('a.test')))?.status).toBe(200)
      fresh.destroy()
    }
    expect((await openTls(gateway.port, { servername: 'b.test' })).serial).toBe(b.serial)
    // longer than the old certificates are kept without a connection
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    for (const client of old) {
      expect(client.isClosed).toBe(false)
      expect(client.serial).toBe(a.serial)
      expect((await client.ask(request('a.test')))?.status).toBe(200)
      client.destroy()
    }
    a = renewed
  })

  it('a failed reload names the place and keeps what was shown', async () => {
    gateway.write('tls/a.key', b.key)
    const reload = await gateway.command('reload')
    expect(reload.code).toBe(1)
    expect(reload.stderr + reload.stdout).toMatch(
      /gateway\.yaml:\d+:\d+: error: the key does not belong to the certificate \[CERTIFICATE_KEY_MISMATCH\]/,
    )
    const client = await openTls(gateway.port, { servername: 'a.test' })
    expect(client.serial).toBe(a.serial)
    expect((await client.ask(request('a.test')))?.status).toBe(200)
    client.destroy()
    gateway.write('tls/a.key', a.key)
    expect((await gateway.command('reload')).code).toBe(0)
  })

  it('certificates may be added and taken away by a reload', async () => {
    const text = config(gateway.port)
    gateway.write('gateway.yaml', text.replace(/.*tls\/b\.pem.*\n/, ''))
    expect(await gateway.command('reload')).toMatchObject({ code: 0 })
    const client = await openTls(gateway.port, { servername: 'b.test' })
    expect(client.serial).toBe(a.serial)
    client.destroy()
    const { body } = await get(`${gateway.adminUrl}/metrics`)
    expect(body).toMatch(/^sallyport_tls_certificate_not_after_seconds\{name="b\.test"\} 0$/m)
  })

  it('starts nowhere with a certificate that has ended', async () => {
    const ended = makeCertificate({ names: 'DNS:a.test', days: -1 })
    gateway.write('tls/ended.pem', ended.certificate)
    gateway.write('tls/ended.key', ended.key)
    gateway.write(
      'ended.yaml',
      `listeners:\n  - address: 127.0.0.1:1\n    tls:\n      certificates:\n        - certificate: tls/ended.pem\n          key: tls/ended.key\nendpoints:\n  - name: a\n    url: https://a.test:1\n    upstream: { url: http://127.0.0.1:9 }\n`,
    )
    const check = await runCommand(['check', '-c', 'ended.yaml'], { folder: gateway.folder })
    expect(check.code).toBe(1)
    expect(check.stderr).toMatch(/ended\.yaml:5:24: error: the certificate ended on .* UTC \[CERTIFICATE_EXPIRED\]/)
  })
})
