/**
 * WebSockets to upstreams with `protocol: http2` through the native front end: extended CONNECT where the server takes it, a
 * connection of HTTP/1.1 beside the others where it does not. H-38, H-60, H-84, H-94. Source: RFC 8441.
 *
 * Engine: native, and in every run.
 */
import { once } from 'node:events'
import { createServer as createHttp1, type Server as Http1Server } from 'node:http'
import {
  connect,
  createSecureServer,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
} from 'node:http2'
import { type AddressInfo, connect as connectTcp, createServer as createTcp, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { afterEach, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import type { UpstreamTarget } from '../../../src/listener/front-end.ts'
import { makeCertificate, opensslSkipReason } from '../../support/certificates.ts'
import { exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { PlainEvents, startWireGateway, target, WIRE_LIMITS, type WireGateway } from '../../support/wire-gateway.ts'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
const UPGRADE = `GET /ws?a=1 HTTP/1.1\r\nHost: gw.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\nSec-WebSocket-Protocol: chat\r\n`

async function portOf(server: Server | Http1Server | Http2Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => server.close())
  return (server.address() as AddressInfo).port
}

interface Heard {
  readonly heads: IncomingHttpHeaders[]
  readonly streams: ServerHttp2Stream[]
  sessions: number
}

/** Every stream of a server: tunnels say hello and then what they hear, requests are answered. */
function serve(server: Http2Server): Heard {
  const heard: Heard = { heads: [], streams: [], sessions: 0 }
  server.on('session', (session) => {
    heard.sessions++
    session.on('error', () => undefined)
    closers.push(() => session.destroy())
  })
  server.on('stream', (stream, head) => {
    heard.heads.push(head)
    heard.streams.push(stream)
    stream.on('error', () => undefined)
    if (head[':method'] !== 'CONNECT') {
      stream.respond({ ':status': 200 })
      stream.end('plain')
    } else if (head['x-refuse'] !== undefined) {
      stream.respond({ ':status': 403 })
      stream.end('no')
    } else {
      stream.respond({ ':status': 200, 'sec-websocket-protocol': 'chat' })
      stream.write('hello')
      stream.pipe(stream)
    }
  })
  return heard
}

async function start(port: number, options: Partial<UpstreamTarget> = {}): Promise<WireGateway<PlainEvents>> {
  const gateway = await startWireGateway(new PlainEvents(), target(port, { http2: true, ...options }), {
    engine: 'native',
    limits: { webSocket: { ...WIRE_LIMITS.webSocket, maxOpen: 10 } },
  })
  closers.push(async () => {
    await gateway.close()
    expect(gateway.errors).toEqual([])
  })
  return gateway
}

describe('H-94 a server that takes extended CONNECT', () => {
  const settings = { enableConnectProtocol: true }

  test('gets the tunnel as a stream beside its requests, and HTTP/1.1 is told 101', async () => {
    const server = createServer({ settings })
    const heard = serve(server)
    const gateway = await start(await portOf(server))
    const connection = await openRaw(gateway.port)
    connection.send(`${UPGRADE}Cookie: a=1\r\n\r\nearly`)
    await expect.poll(() => connection.received).toMatch(/helloearly$/)
    expect(connection.received).toMatch(/^HTTP\/1\.1 101 /)
    for (const line of [
      'sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=',
      'sec-websocket-protocol: chat',
      'connection: upgrade\r\nupgrade: websocket',
    ])
      expect(connection.received.split(`\r\n${line}\r\n`)).toHaveLength(2)
    expect({ ...heard.heads[0] }).toMatchObject({
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':scheme': 'http',
      ':path': '/ws?a=1',
      ':authority': 'gw.test',
      'sec-websocket-version': '13',
      'sec-websocket-protocol': 'chat',
      cookie: 'a=1',
    })
    for (const name of ['sec-websocket-key', 'connection', 'upgrade', 'content-length'])
      expect(heard.heads[0]![name]).toBeUndefined()
    expect(gateway.frontEnd.openOf(1).webSockets).toBe(1)
    expect((await exchangeRaw(gateway.port, 'GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n')).answers[0]!.body).toBe('plain')
    expect(heard.sessions).toBe(1)
    // the client's end is the stream's
    connection.socket.end()
    expect(await connection.closed()).toBe(true)
    await expect.poll(() => heard.streams[0]!.closed).toBe(true)
    await expect.poll(() => gateway.events.done.length).toBe(2)
    expect(gateway.events.done.find(({ record }) => record.status === 101)!.record).toMatchObject({
      end: 'complete',
      requestBodyBytes: 5,
      responseBodyBytes: 10,
    })
  })

  test('many megabytes pass both ways, and a side that does not read stops the other (H-38)', async () => {
    const server = createServer({ settings })
    const heard = serve(server)
    const gateway = await start(await portOf(server))
    const connection = await openRaw(gateway.port)
    connection.send(`${UPGRADE}\r\n`)
    await expect.poll(() => connection.received).toMatch(/hello$/)
    const before = connection.received.length
    const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, at) => (at * 7) % 251))
    connection.socket.pause()
    connection.send(bytes)
    const second = await openRaw(gateway.port)
    second.send(`${UPGRADE}\r\nbeside`)
    await expect.poll(() => second.received).toMatch(/hellobeside$/)
    connection.socket.resume()
    await expect.poll(() => connection.received.length - before, { timeout: 10_000 }).toBe(bytes.length)
    expect(connection.received.slice(before)).toBe(bytes.toString('latin1'))
    // a client that is gone takes its stream with it, and no other
    connection.socket.resetAndDestroy()
    await expect.poll(() => heard.streams[0]!.closed).toBe(true)
    heard.streams[1]!.end('bye')
    expect(await second.closed()).toBe(true)
    expect(second.received).toMatch(/bye$/)
  })

  test('a library finds its key answered; streams of HTTP/2 are tunnels on both sides; refusals are answers', async () => {
    const server = createServer({ settings })
    serve(server)
    const gateway = await start(await portOf(server))
    const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/`, 'chat', { headers: { host: 'gw.test' } })
    socket.on('error', () => undefined)
    // the greeting is no frame, but it comes after the handshake was found right
    await once(socket, 'open')
    socket.terminate()
    const client = connect(`http://127.0.0.1:${gateway.port}`)
    closers.push(() => client.destroy())
    await once(client, 'remoteSettings')
    const ask = async (fields: Record<string, string>): Promise<[number | undefined, string]> => {
      const stream = client.request(
        { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/', 'sec-websocket-version': '13', ...fields },
        { endStream: false },
      )
      let text = ''
      stream.on('data', (chunk: Buffer) => (text += chunk.toString()))
      const [head] = (await once(stream, 'response')) as [IncomingHttpHeaders & { ':status'?: number }]
      stream.end(head[':status'] === 200 ? 'words' : undefined)
      await once(stream, 'close')
      return [head[':status'], text]
    }
    expect(await ask({})).toEqual([200, 'hellowords'])
    expect(await ask({ 'x-refuse': '1' })).toEqual([403, 'no'])
    const refused = await exchangeRaw(gateway.port, `${UPGRADE}X-Refuse: 1\r\n\r\n`)
    expect(refused.answers[0]).toMatchObject({ status: 403, body: 'no' })
  })
})

describe('H-94 a server that does not', () => {
  /** Says what a `ws` server says over HTTP/1.1. */
  function webSockets(server: Http1Server | Http2Server): void {
    const sockets = new WebSocketServer({ noServer: true })
    ;(server as Http1Server).on('upgrade', (request, socket: Duplex, head: Buffer) => {
      sockets.handleUpgrade(request, socket as Socket, head, (open) => {
        open.send('from HTTP/1.1')
        closers.push(() => open.terminate())
      })
    })
  }

  /** The first message of a WebSocket through the gateway. */
  async function greeted(gateway: WireGateway<PlainEvents>): Promise<string> {
    const socket = new WebSocket(`ws://127.0.0.1:${gateway.port}/`, { headers: { host: 'gw.test' } })
    closers.push(() => socket.terminate())
    const [data] = (await once(socket, 'message')) as [Buffer]
    return data.toString()
  }

  test.skipIf(opensslSkipReason !== undefined)('gets it over HTTP/1.1 by ALPN, and requests over HTTP/2', async () => {
    const made = makeCertificate({ names: 'DNS:a.test' })
    const server = createSecureServer({ key: made.key, cert: made.certificate, allowHTTP1: true })
    const heard = serve(server)
    webSockets(server)
    const gateway = await start(await portOf(server), {
      protocol: 'https',
      tls: { verify: true, ca: made.certificate, serverName: 'a.test' },
      maxConnections: 1,
    })
    for (let round = 0; round < 3; round++) expect(await greeted(gateway)).toBe('from HTTP/1.1')
    expect((await exchangeRaw(gateway.port, 'GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n')).answers[0]!.body).toBe('plain')
    // the first one asked; none of the others did
    expect(heard.sessions).toBe(1)
    expect(heard.heads.map((head) => head[':method'])).toEqual(['GET'])
  })

  test('gets it over HTTP/1.1 on the same port, where it speaks that there', async () => {
    const [modern, old] = [createServer(), createHttp1()]
    serve(modern)
    webSockets(old)
    const ports = [await portOf(modern), await portOf(old)]
    const both = createTcp((socket) => {
      socket
        .on('error', () => undefined)
        .once('data', (chunk: Buffer) => {
          const port = chunk.toString('latin1').startsWith('PRI ') ? ports[0]! : ports[1]!
          const behind = connectTcp({ port, host: '127.0.0.1' })
          behind.on('error', () => socket.destroy()).write(chunk)
          socket.pipe(behind).pipe(socket)
        })
    })
    const gateway = await start(await portOf(both))
    expect(await greeted(gateway)).toBe('from HTTP/1.1')
    expect((await exchangeRaw(gateway.port, 'GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n')).answers[0]!.body).toBe('plain')
    expect(await greeted(gateway)).toBe('from HTTP/1.1')
  })

  test('H-84 and speaks nothing else: 502, and why', async () => {
    const server = createServer()
    serve(server)
    const gateway = await start(await portOf(server))
    for (let round = 0; round < 2; round++) {
      const { answers } = await exchangeRaw(gateway.port, `${UPGRADE}\r\n`)
      expect(answers[0]!.status).toBe(502)
      expect(gateway.events.failures[round]!.detail).toMatch(/^no WebSockets over HTTP\/2 there, and over HTTP\/1\.1: /)
    }
    expect((await exchangeRaw(gateway.port, 'GET / HTTP/1.1\r\nHost: gw.test\r\n\r\n')).answers[0]!.body).toBe('plain')
  })

  test('nor says anything: the time for a first byte is its bound', async () => {
    const silent = createTcp((socket) => socket.on('error', () => undefined).resume())
    const gateway = await start(await portOf(silent), {
      timers: { connectMs: 3_000, queueMs: 2_000, firstByteMs: 400, idleMs: 5_000, keepAliveMs: 60_000 },
    })
    expect((await exchangeRaw(gateway.port, `${UPGRADE}\r\n`)).answers[0]!.status).toBe(504)
    expect(gateway.events.failures).toMatchObject([{ reason: 'first_byte_timeout', notProcessed: true }])
  })
})
