/**
 * WebSockets over HTTP/2 (extended CONNECT) through the native front end, to upstreams that speak HTTP/1.1. H-38, H-60, H-80,
 * H-90, H-94. Source: RFC 8441.
 *
 * Engine: native, and in every run.
 */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type IncomingHttpHeaders } from 'node:http2'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { PlainEvents, startWireGateway, target, WIRE_LIMITS, type WireGateway } from '../../support/wire-gateway.ts'

interface Upstream {
  readonly port: number
  /** Heads that it received. */
  readonly heads: string[]
  readonly sockets: Socket[]
  /** What it received behind them. */
  heard(): Buffer
  close(): void
}

/** Speaks bytes: `answer` is what it says to a head with this key, undefined = 101; then everything comes back. */
async function startUpstream(answer?: (key: string) => string): Promise<Upstream> {
  const heads: string[] = []
  const sockets: Socket[] = []
  const heard: Buffer[] = []
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.push(socket)
    let head = ''
    let isOpen = false
    socket.on('error', () => undefined)
    socket.on('end', () => socket.end())
    socket.on('data', (chunk: Buffer) => {
      if (isOpen) {
        heard.push(chunk)
        if (!socket.write(chunk)) {
          socket.pause()
          socket.once('drain', () => socket.resume())
        }
        return
      }
      head += chunk.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      isOpen = true
      heads.push(head)
      const key = /^sec-websocket-key: (.*)\r$/m.exec(head)?.[1] ?? ''
      socket.write(answer === undefined ? switching(key) : answer(key))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    heads,
    sockets,
    heard: () => Buffer.concat(heard),
    close: () => {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}

function switching(key: string): string {
  const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
  return `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ${accept}\r\nsec-websocket-protocol: chat\r\n\r\nhello`
}

let gateway: WireGateway<PlainEvents>
let events: PlainEvents
let upstream: Upstream
const closers: (() => unknown)[] = []

async function start(webSocket: Partial<typeof WIRE_LIMITS.webSocket> = {}): Promise<void> {
  upstream = await startUpstream()
  gateway = await startWireGateway(new PlainEvents(), target(upstream.port), {
    engine: 'native',
    limits: { webSocket: { ...WIRE_LIMITS.webSocket, ...webSocket } },
  })
  events = gateway.events
}

async function stop(): Promise<void> {
  for (const close of closers.splice(0)) close()
  expect(gateway.errors).toEqual([])
  await gateway.close()
  upstream.close()
}

async function session(): Promise<ClientHttp2Session> {
  const client = connect(`http://127.0.0.1:${gateway.port}`)
  client.on('error', () => undefined)
  closers.push(() => client.destroy())
  await once(client, 'remoteSettings')
  return client
}

interface Tunnel {
  readonly stream: ClientHttp2Stream
  readonly head: IncomingHttpHeaders & { ':status'?: number }
  received(): Buffer
}

async function open(client: ClientHttp2Session, fields: Record<string, string> = {}): Promise<Tunnel> {
  const stream = client.request(
    { ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws?a=1', 'sec-websocket-version': '13', ...fields },
    { endStream: false },
  )
  stream.on('error', () => undefined)
  const received: Buffer[] = []
  stream.on('data', (chunk: Buffer) => received.push(chunk))
  const [head] = (await once(stream, 'response')) as [Tunnel['head']]
  return { stream, head, received: () => Buffer.concat(received) }
}

const closed = async ({ stream }: Tunnel): Promise<number> => {
  if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve))
  return stream.rstCode ?? 0
}

describe('H-94 extended CONNECT', () => {
  beforeAll(() => start())
  beforeEach(() => {
    events.done.length = events.heads.length = events.refused.length = upstream.heads.length = 0
    events.target = target(upstream.port)
  })
  afterAll(stop)

  test('is announced, becomes an upgrade upstream, and is answered 200', async () => {
    const client = await session()
    expect(client.remoteSettings.enableConnectProtocol).toBe(true)
    const tunnel = await open(client, {
      'sec-websocket-protocol': 'chat, other',
      'sec-websocket-key': 'x',
      cookie: 'a=1',
    })
    expect(tunnel.head[':status']).toBe(200)
    expect(tunnel.head['sec-websocket-protocol']).toBe('chat')
    for (const name of ['sec-websocket-accept', 'connection', 'upgrade']) expect(tunnel.head[name]).toBeUndefined()
    expect(tunnel.head.date).toBeDefined()
    // policies see what they see of any WebSocket
    expect(events.heads[0]).toMatch(/^GET \/ws\?a=1 HTTP\/1\.1\r\nhost: /)
    expect(events.heads[0]).toContain('\r\nconnection: upgrade\r\nupgrade: websocket\r\n')
    expect(events.facts[0]).toMatchObject({ bodyLength: 0, version: 'HTTP/2.0' })
    expect(events.responses[0]!.facts).toMatchObject({ status: 101, bodyLength: 0 })
    const [head] = upstream.heads
    expect(head).toMatch(/^GET \/ws\?a=1 HTTP\/1\.1\r\n/)
    for (const line of ['connection: upgrade', 'upgrade: websocket', 'sec-websocket-version: 13', 'cookie: a=1']) {
      expect(head!.split(`${line}\r\n`)).toHaveLength(2)
    }
    expect(head).toMatch(/\r\nsec-websocket-key: [\w+/]{22}==\r\n/)
    expect(head!.match(/sec-websocket-key/g)).toHaveLength(1)
    await expect.poll(() => tunnel.received().toString()).toBe('hello')
    expect(gateway.frontEnd.openOf(1)).toEqual({ http1: 0, http2: 1, webSockets: 1 })

    tunnel.stream.end('last words')
    await expect.poll(() => tunnel.received().toString()).toBe('hellolast words')
    expect(await closed(tunnel)).toBe(0)
    await expect.poll(() => events.done.length).toBe(1)
    expect(events.done[0]!.record).toMatchObject({
      status: 200,
      end: 'complete',
      requestBodyBytes: 10,
      responseBodyBytes: 15,
      webSocket: {},
    })
    expect(gateway.frontEnd.openOf(1)).toEqual({ http1: 0, http2: 1, webSockets: 0 })
  })

  test('many megabytes pass both ways within the windows, and other streams beside them (H-38, H-105)', async () => {
    const client = await session()
    const tunnel = await open(client)
    await expect.poll(() => tunnel.received().length).toBe(5)
    const bytes = Buffer.from(Array.from({ length: 3_000_000 }, (_, at) => (at * 7) % 251))
    tunnel.stream.pause()
    tunnel.stream.write(bytes)
    // the one that is not read stands still; the next one does not
    const other = await open(client)
    other.stream.write('beside')
    await expect.poll(() => other.received().toString()).toBe('hellobeside')
    tunnel.stream.resume()
    await expect.poll(() => tunnel.received().length, { timeout: 10_000 }).toBe(bytes.length + 5)
    expect(tunnel.received().subarray(5).equals(bytes)).toBe(true)
    tunnel.stream.close()
    other.stream.close()
  })

  test('messages of a library pass, masks and all', async () => {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
    await once(server, 'listening')
    closers.push(() => server.close())
    server.on('connection', (socket) => socket.on('message', (data) => socket.send(`got ${String(data)}`)))
    events.target = target((server.address() as AddressInfo).port)
    const tunnel = await open(await session())
    expect(tunnel.head[':status']).toBe(200)
    // a text of two bytes with a mask of nothing; then a close
    tunnel.stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]))
    await expect.poll(() => tunnel.received()).toEqual(Buffer.from('\x81\x06got hi', 'latin1'))
    tunnel.stream.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]))
    expect(await closed(tunnel)).toBe(0)
    expect(tunnel.received().subarray(8)).toEqual(Buffer.from([0x88, 2, 0x03, 0xe8]))
  })

  test('H-60: any other answer of the upstream is an ordinary one', async () => {
    const stern = await startUpstream(() => 'HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno')
    closers.push(stern.close)
    events.target = target(stern.port)
    const tunnel = await open(await session())
    expect(tunnel.head[':status']).toBe(403)
    tunnel.stream.write('what is no body goes nowhere')
    await closed(tunnel)
    expect(tunnel.received().toString()).toBe('no')
    expect(events.done[0]!.record).toMatchObject({ status: 403, end: 'complete' })
    expect(stern.heard().length).toBe(0)
  })

  test('a 101 that does not answer the key is a 502 (RFC 6455 §4.1)', async () => {
    const liar = await startUpstream(() => switching('another key'))
    closers.push(liar.close)
    events.target = target(liar.port)
    const tunnel = await open(await session())
    expect(tunnel.head[':status']).toBe(502)
    expect(events.failures.at(-1)).toMatchObject({ reason: 'upstream_bad_response' })
  })

  test('H-84, H-90: what is no WebSocket is answered, not forwarded', async () => {
    const client = await session()
    expect((await open(client, { ':protocol': 'connect-udp' })).head[':status']).toBe(501)
    const old = await open(client, { 'sec-websocket-version': '8' })
    expect(old.head).toMatchObject({ ':status': 426, 'sec-websocket-version': '13' })
    expect((await open(client, { 'content-length': '3' })).head[':status']).toBe(400)
    expect(events.heads).toEqual([])
    expect(events.refused.map(({ status, reason }) => `${status} ${reason}`)).toEqual([
      '501 bad_request:H-94',
      '426 bad_request:H-90',
      '400 bad_request:H-90',
    ])
  })

  test('H-93: a side that is gone takes the other with it, and the connection goes on', async () => {
    const client = await session()
    const first = await open(client)
    first.stream.close(8)
    await expect.poll(() => upstream.sockets.at(-1)!.destroyed || upstream.sockets.at(-1)!.readableEnded).toBe(true)
    await expect.poll(() => events.done.length).toBe(1)
    expect(events.done[0]!.record.end).toBe('client_abort')
    const second = await open(client)
    upstream.sockets.at(-1)!.resetAndDestroy()
    expect(await closed(second)).toBe(8) // CANCEL, RFC 8441 §5
    const third = await open(client)
    upstream.sockets.at(-1)!.end('bye')
    expect(await closed(third)).toBe(0)
    expect(third.received().toString()).toBe('hellobye')
  })
})

test('O-21: a drain tells the client of a stream to leave, too, between two messages', async () => {
  await start()
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  await once(server, 'listening')
  closers.push(() => server.close())
  const codes: number[] = []
  server.on('connection', (socket) => {
    socket.on('close', (code) => codes.push(code))
    socket.send('welcome')
  })
  events.target = target((server.address() as AddressInfo).port)
  const tunnel = await open(await session())
  await expect.poll(() => tunnel.received().toString('latin1')).toBe('\x81\x07welcome')
  gateway.frontEnd.drain()
  await expect.poll(() => tunnel.received().subarray(9)).toEqual(Buffer.from([0x88, 2, 0x03, 0xe9]))
  tunnel.stream.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]))
  expect(await closed(tunnel)).toBe(0)
  await expect.poll(() => codes).toEqual([1001])
  expect(tunnel.received().length).toBe(13)
  await stop()
})

describe('H-94 where WebSockets are limited', () => {
  test('none may be open: it is not announced, and a request is malformed', async () => {
    await start({ maxOpen: 0 })
    const client = await session()
    expect(client.remoteSettings.enableConnectProtocol).not.toBe(true)
    await stop()
  })

  test('one more than may be open is 503; H-80: one in which nothing moves ends', async () => {
    await start({ maxOpen: 1, idleMs: 1500 })
    const client = await session()
    const tunnel = await open(client)
    expect((await open(client)).head[':status']).toBe(503)
    expect(await closed(tunnel)).toBe(8)
    await expect.poll(() => events.done.length).toBe(2)
    expect(events.done[1]!.record).toMatchObject({ end: 'truncated', failure: { reason: 'idle_timeout' } })
    expect((await open(client)).head[':status']).toBe(200)
    await stop()
  })
})
