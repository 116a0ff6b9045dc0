/**
 * TLS on listeners of the native front end: whom clients see, what is known of them, what is not TLS.
 *
 * Engine: native, and in every run.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import { Duplex } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { X509Certificate } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { tlsView } from '../../../src/exchange/tls-view.ts'
import type { ListenTls } from '../../../src/listener/front-end.ts'
import { NativeFrontEnd } from '../../../src/listener/native/native-front-end.ts'
import { AddressBook } from '../../../src/upstream/address-book.ts'
import { makeCertificate, opensslSkipReason, type MadeCertificate } from '../../support/certificates.ts'
import { answerText, type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { exchangeRaw } from '../../support/raw-client.ts'
import { ended, openTls } from '../../support/tls-client.ts'
import { PlainEvents, target, WIRE_LIMITS } from '../../support/wire-gateway.ts'

const GET = 'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n'

describe.skipIf(opensslSkipReason !== undefined)('TLS listeners of the native front end', () => {
  let upstream: EchoUpstream
  let frontEnd: NativeFrontEnd
  let a: MadeCertificate
  let b: MadeCertificate
  let wild: MadeCertificate
  let authority: MadeCertificate
  const events = new PlainEvents()
  const errors: unknown[] = []
  const shown = (made: MadeCertificate, ...names: string[]): ListenTls['certificates'][number] => ({
    chain: made.certificate,
    key: made.key,
    names,
  })
  const listen = async (id: number, tls: ListenTls): Promise<number> => {
    await frontEnd.listen({ id, host: '127.0.0.1', port: 0, proxyProtocol: false, tls })
    return frontEnd.portOf(id)
  }
  let port = 0
  let mutualPort = 0

  beforeAll(async () => {
    upstream = await startEchoUpstream()
    a = makeCertificate({ names: 'DNS:a.test' })
    b = makeCertificate({ names: 'DNS:b.test' })
    wild = makeCertificate({ names: 'DNS:*.wild.test', newKey: ['rsa:2048'] })
    authority = makeCertificate({ names: 'DNS:authority.test', isAuthority: true })
    frontEnd = new NativeFrontEnd({
      events,
      limits: WIRE_LIMITS,
      addressBook: new AddressBook(),
      report: (error) => errors.push(error),
    })
    events.frontEnd = frontEnd
    events.target = target(upstream.port)
    const certificates = [shown(a, 'a.test'), shown(b, 'b.test'), shown(wild, '*.wild.test')]
    port = await listen(1, { identity: '1', certificates, clientAuthorities: undefined })
    mutualPort = await listen(2, { identity: '2', certificates, clientAuthorities: authority.certificate })
  })
  afterAll(async () => {
    await frontEnd.close()
    await upstream.close()
    expect(errors).toEqual([])
  })
  beforeEach(() => {
    events.peers.length = 0
    events.refused.length = 0
    upstream.reset()
  })

  test.each([
    ['a.test', () => a],
    ['B.test', () => b],
    ['x.wild.test', () => wild],
    ['x.y.wild.test', () => a],
    ['nobody.test', () => a],
    ['', () => a],
  ])('%j sees its certificate', async (servername, made) => {
    const client = await openTls(port, { servername })
    expect(client.serial).toBe(made().serial)
    expect((await client.ask(GET))?.status).toBe(200)
    const isKnown = made() !== a || servername === 'a.test'
    expect(events.peers[0]!.tls).toMatchObject({ serverName: isKnown ? servername.toLowerCase() : '' })
    expect(events.peers[0]!.tls!.certificate.chain).toBe(made().certificate)
    client.destroy()
  })

  describe('T-23 clients that end their side', () => {
    /** `notify`: the session says its end, and the connection below stays open. */
    async function opened(way: 'fin' | 'notify'): Promise<TLSSocket> {
      if (way === 'fin') return (await openTls(port, { servername: 'a.test' })).socket
      const bare = connect({ port, host: '127.0.0.1' })
      const below = new Duplex({
        read() {},
        write: (chunk: Buffer, _, done) => void bare.write(chunk, () => done()),
        final: (done) => done(),
        destroy: (_, done) => {
          bare.destroy()
          done(null)
        },
      })
      bare.on('data', (chunk: Buffer) => below.push(chunk)).on('end', () => below.push(null))
      const socket = connectTls({ socket: below, servername: 'a.test', rejectUnauthorized: false })
      await once(socket, 'secureConnect')
      return socket.on('error', () => undefined).setEncoding('latin1')
    }

    test.each(['fin', 'notify'] as const)('with the request (%s): it is answered', async (way) => {
      upstream.answer = (_request, peer) => setTimeout(() => peer.write(answerText(200, 'late')), 1_300)
      const socket = await opened(way)
      let received = ''
      socket.on('data', (text: string) => (received += text))
      socket.end(GET)
      await expect.poll(() => received, { timeout: 5_000 }).toMatch(/\r\n\r\nlate$/)
      socket.destroy()
    })

    test.each(['fin', 'notify'] as const)('later (%s): the upstream is free at once', async (way) => {
      events.done.length = 0
      upstream.answer = () => undefined
      const socket = await opened(way)
      socket.resume().write(GET)
      await expect.poll(() => upstream.complete.length, { timeout: 5_000 }).toBe(1)
      await delay(1_300)
      expect(upstream.closes).toEqual([])
      socket.end()
      await expect.poll(() => upstream.closes.length, { timeout: 5_000 }).toBe(1)
      await expect.poll(() => events.done.map(({ record }) => record.end)).toEqual(['client_abort'])
      socket.destroy()
    })
  })

  test('versions 1.2 and 1.3, nothing older; what was agreed on is known (§6.4)', async () => {
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const client = await openTls(port, {
        servername: 'a.test',
        minVersion: version,
        maxVersion: version,
        ALPNProtocols: ['http/1.1'],
      })
      expect((await client.ask(GET))?.status).toBe(200)
      const view = tlsView(events.peers.at(-1)!.tls)!
      expect(view.get('version')).toBe(version.slice(4))
      expect(view.get('cipher_suite')).toBe(client.socket.getCipher().standardName)
      expect(view.get('sni')).toBe('a.test')
      expect(view.get('negotiated_alpn')).toBe('http/1.1')
      expect(view.get('ja4_fingerprint')).toMatch(/^t1[23]d\d{4}h1_[0-9a-f]{12}_[0-9a-f]{12}$/)
      client.destroy()
    }
    const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' } as const
    await expect(openTls(port, { servername: 'a.test', ...old })).rejects.toThrow(/version|alert|closed/)
    await expect(openTls(port, { servername: 'a.test', ALPNProtocols: ['h3'] })).rejects.toThrow()
  })

  test('a session is resumed', async () => {
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      const first = await openTls(port, { servername: 'a.test', maxVersion })
      const session = new Promise<Buffer>((resolve) => first.socket.once('session', resolve))
      await first.ask(GET)
      const ticket = maxVersion === 'TLSv1.2' ? first.socket.getSession()! : await session
      first.destroy()
      const second = await openTls(port, { servername: 'a.test', maxVersion, session: ticket })
      expect(second.socket.isSessionReused()).toBe(true)
      expect((await second.ask(GET))?.status).toBe(200)
      expect(events.peers.at(-1)!.tls!.session?.isResumed).toBe(true)
      second.destroy()
    }
  })

  test('bodies both ways, larger than every buffer, and requests one after the other', async () => {
    const client = await openTls(port, { servername: 'a.test' })
    const body = 'x'.repeat(3 * 2 ** 20)
    for (let round = 0; round < 2; round++) {
      const answer = await client.ask(
        `POST /big HTTP/1.1\r\nHost: a.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      )
      expect(answer?.status).toBe(200)
      expect(upstream.complete.at(-1)?.body.length).toBe(body.length)
    }
    upstream.answer = (_request, socket) =>
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
    const answer = await client.ask(GET)
    expect(answer?.body.length).toBe(body.length)
    client.destroy()
  })

  test('the end of a connection is meant: close_notify comes before it', async () => {
    const client = await openTls(port, { servername: 'a.test' })
    let hasEnded = false
    client.socket.once('end', () => (hasEnded = true))
    await client.ask('GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n')
    expect(await ended(client)).toBe(true)
    expect(hasEnded).toBe(true)
  })

  test('client certificates: verified, and told; a stranger and nobody end the handshake', async () => {
    const known = makeCertificate({ names: 'DNS:client.test', issuer: authority })
    const stranger = makeCertificate({ names: 'DNS:client.test' })
    const client = await openTls(mutualPort, { servername: 'a.test', cert: known.certificate, key: known.key })
    expect((await client.ask(GET))?.status).toBe(200)
    const { tls } = events.peers.at(-1)!
    expect(new X509Certificate(tls!.clientCertificate).serialNumber).toBe(known.serial)
    expect(tls!.clientAuthorities).toBe(authority.certificate)
    expect(tlsView(tls)!.get('client.subject.common_name')).toBe('client.test')
    client.destroy()
    for (const certificate of [{}, { cert: stranger.certificate, key: stranger.key }]) {
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        const before = upstream.requests.length
        const refused = await openTls(mutualPort, { servername: 'a.test', maxVersion, ...certificate }).catch(
          () => undefined,
        )
        // in TLS 1.3 a client learns of it after its side is done
        if (refused !== undefined) {
          expect(await refused.ask(GET)).toBeUndefined()
          refused.destroy()
        }
        expect(upstream.requests.length).toBe(before)
      }
    }
    // no ticket of a listener that asks for nothing opens one that does
    const elsewhere = await openTls(port, { servername: 'a.test' })
    const session = await new Promise<Buffer>((resolve) => {
      elsewhere.socket.once('session', resolve)
      void elsewhere.ask(GET)
    })
    elsewhere.destroy()
    const tried = await openTls(mutualPort, { servername: 'a.test', session }).catch(() => undefined)
    expect(await tried?.ask(GET)).toBeUndefined()
    tried?.destroy()
  })

  test('versions and strategies by name (§5.25)', async () => {
    const stranger = makeCertificate({ names: 'DNS:client.test' })
    const own = { cert: stranger.certificate, key: stranger.key }
    const rules = { minVersion: '1.2', maxVersion: '1.3', clients: undefined } as const
    const asking = (strategy: 'require-any' | 'request') => ({
      ...rules,
      clients: { strategy, authorities: undefined },
    })
    const id = 4
    const asked = await listen(id, {
      identity: '4',
      certificates: [
        shown(a, 'a.test'),
        { ...shown(a, 'new.test'), rules: { ...rules, minVersion: '1.3' } },
        { ...shown(a, 'old.test'), rules: { ...rules, maxVersion: '1.2' } },
        { ...shown(a, 'any.test'), rules: asking('require-any') },
        { ...shown(a, 'asks.test'), rules: asking('request') },
      ],
      clientAuthorities: undefined,
    })
    const status = async (options: Parameters<typeof openTls>[1]): Promise<string> => {
      const client = await openTls(asked, options).catch(() => undefined)
      const answer = await client?.ask(GET)
      const protocol = client?.socket.getProtocol()
      client?.destroy()
      return answer === undefined ? 'none' : `${answer.status} ${protocol}`
    }
    expect(await status({ servername: 'new.test' })).toBe('200 TLSv1.3')
    expect(await status({ servername: 'new.test', maxVersion: 'TLSv1.2' })).toBe('none')
    expect(await status({ servername: 'old.test' })).toBe('200 TLSv1.2')
    expect(await status({ servername: 'old.test', minVersion: 'TLSv1.3' })).toBe('none')
    expect(await status({ servername: 'any.test' })).toBe('none')
    expect(await status({ servername: 'any.test', ...own })).toBe('200 TLSv1.3')
    expect(new X509Certificate(events.peers.at(-1)!.tls!.clientCertificate).serialNumber).toBe(stranger.serial)
    // shown, not verified
    expect(events.peers.at(-1)!.tls!.clientAuthorities).toBe('')
    expect(await status({ servername: 'asks.test' })).toBe('200 TLSv1.3')
    expect(events.peers.at(-1)!.tls!.clientCertificate).toBe('')
    expect(await status({ servername: 'asks.test', ...own })).toBe('200 TLSv1.3')
    expect(events.peers.at(-1)!.tls!.clientCertificate).not.toBe('')
    frontEnd.closeListener(id)
  })

  test('new certificates: new connections see them, those that exist go on', async () => {
    const id = 3
    const before = { identity: 'before', certificates: [shown(a, 'a.test')], clientAuthorities: undefined }
    const own = await listen(id, before)
    const old = await openTls(own, { servername: 'a.test' })
    const renewed = makeCertificate({ names: 'DNS:a.test' })
    const prepared = frontEnd.prepareTls(id, { ...before, certificates: [shown(renewed, 'a.test')] })
    const between = await openTls(own, { servername: 'a.test' })
    expect(between.serial).toBe(a.serial)
    prepared.commit()
    const fresh = await openTls(own, { servername: 'a.test' })
    expect(fresh.serial).toBe(renewed.serial)
    for (const [client, made] of [
      [old, a],
      [between, a],
      [fresh, renewed],
    ] as const) {
      expect((await client.ask(GET))?.status).toBe(200)
      expect(events.peers.at(-1)!.tls!.certificate.chain).toBe(made.certificate)
      client.destroy()
    }
    frontEnd.prepareTls(id, before).abort()
    expect((await openTls(own, { servername: 'a.test' })).serial).toBe(renewed.serial)
    const wrong = { ...before, certificates: [{ ...shown(a, 'a.test'), key: b.key }] }
    expect(() => frontEnd.prepareTls(id, wrong)).toThrow('a.test: the key is not that of the certificate')
    frontEnd.closeListener(id)
  })

  test('H-80: a handshake that does not come, or stops, ends the connection', async () => {
    const { timers = { headMs: 10_000, idleMs: 75_000, progressMs: 60_000 }, ...rest } = WIRE_LIMITS
    frontEnd.setLimits({ ...rest, timers: { ...timers, headMs: 500 } })
    try {
      const before = frontEnd.connectionsOf(1)
      const begun = Buffer.from([0x16, 3, 1, 0x02, 0, 1, 0, 0x01, 0xfc, 3, 3])
      for (const bytes of [Buffer.alloc(0), begun]) {
        const socket = connect(port, '127.0.0.1')
        socket.on('error', () => undefined)
        socket.resume()
        socket.write(bytes)
        await once(socket, 'close')
      }
      expect(frontEnd.connectionsOf(1)).toBe(before)
      expect(events.refused).toEqual([])
    } finally {
      frontEnd.setLimits(WIRE_LIMITS)
    }
  })

  describe('behind a PROXY header', () => {
    let behind = 0
    beforeAll(async () => {
      const tls = { identity: 'p', certificates: [shown(a, 'a.test')], clientAuthorities: undefined }
      await frontEnd.listen({ id: 9, host: '127.0.0.1', port: 0, proxyProtocol: true, tls })
      behind = frontEnd.portOf(9)
    })

    const HEADER = 'PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n'

    test.each([
      ['of its own', 50],
      ['that comes with the greeting', 0],
    ])('%s the handshake begins, and both are known', async (_, pauseMs) => {
      const socket = connect(behind, '127.0.0.1')
      await once(socket, 'connect')
      socket.cork()
      socket.write(HEADER)
      if (pauseMs > 0) {
        socket.uncork()
        await new Promise((resolve) => setTimeout(resolve, pauseMs))
      } else process.nextTick(() => socket.uncork())
      const client = await openTls(behind, { socket, servername: 'a.test' })
      expect(client.serial).toBe(a.serial)
      expect((await client.ask(GET))?.status).toBe(200)
      expect((await client.ask(GET))?.status).toBe(200)
      expect(events.peers.at(-1)).toMatchObject({ proxiedAddress: '203.0.113.9', proxiedPort: 4711, localPort: 443 })
      expect(events.peers.at(-1)!.tls).toMatchObject({ serverName: 'a.test' })
      client.destroy()
    })

    test('a greeting without a header, and HTTP behind one, get no session', async () => {
      await expect(openTls(behind, { servername: 'a.test' })).rejects.toThrow()
      expect(events.refused).toMatchObject([{ status: 0, reason: 'bad_request:O-71' }])
      const plain = await exchangeRaw(behind, `${HEADER}${GET}`)
      expect(plain.answers[0]).toMatchObject({ status: 400, body: 'this port speaks https only\n' })
    })
  })

  test('HTTP without TLS is told so; what is neither is not answered', async () => {
    const { answers } = await exchangeRaw(port, GET)
    expect(answers[0]).toMatchObject({ status: 400, body: 'this port speaks https only\n' })
    expect(events.refused).toMatchObject([{ status: 400, requestLine: 'GET /' }])
    const silent = async (bytes: string): Promise<string> =>
      new Promise((resolve) => {
        let text = ''
        const socket = connect(port, '127.0.0.1', () => socket.write(bytes, 'latin1'))
        socket.on('data', (chunk) => (text += chunk.toString('latin1')))
        socket.on('error', () => {}).on('close', () => resolve(text))
      })
    expect(await silent('\0\0\0\0')).toBe('')
    // a record that is no greeting: an alert
    expect((await silent('\x16\x03\x01\x00\x05\x02\0\0\x01\0')).slice(0, 2)).toBe('\x15\x03')
    expect(upstream.requests).toEqual([])
    expect(frontEnd.inFlight).toBe(0)
  })
})
