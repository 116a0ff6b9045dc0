/** WebSockets through the front end: the handshake, messages both ways, limits, ends. */
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import type { WebSocketLimits } from '../../../src/listener/front-end.ts'
import { eventually, openRaw } from '../../support/raw-client.ts'
import { testCapabilities } from '../../support/test-engine.ts'
import { PlainEvents, startWireGateway, target, WIRE_LIMITS, type WireGateway } from '../../support/wire-gateway.ts'

const KEY = 'dGhlIHNhbXBsZSBub25jZQ=='
const HANDSHAKE = `Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n`
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

let http: Server
let server: WebSocketServer
let upgrades: IncomingMessage[] = []
let accepted: WebSocket[] = []
const gateways: WireGateway<PlainEvents>[] = []
const clients: WebSocket[] = []

async function start(
  limits: Partial<WebSocketLimits> = {},
  streamBufferBytes = 256 * 1024,
): Promise<WireGateway<PlainEvents>> {
  const { port } = http.address() as AddressInfo
  const gateway = await startWireGateway(new PlainEvents(), target(port), {
    limits: { streamBufferBytes, webSocket: { ...WIRE_LIMITS.webSocket, ...limits } },
  })
  gateways.push(gateway)
  return gateway
}

async function serve(options: ConstructorParameters<typeof WebSocketServer>[0] = {}): Promise<void> {
  server = new WebSocketServer({ noServer: true, ...options })
  server.on('connection', (socket) => {
    accepted.push(socket)
    socket.on('error', () => undefined)
  })
  http = createServer((_request, response) => response.end('plain'))
  http.on('upgrade', (request: IncomingMessage, socket: Socket, head) => {
    upgrades.push(request)
    if (request.url?.startsWith('/refused') === true) {
      socket.end('HTTP/1.1 403 Forbidden\r\nx-why: no\r\nContent-Length: 9\r\n\r\nnot today')
      return
    }
    server.handleUpgrade(request, socket, head, (webSocket) => server.emit('connection', webSocket, request))
  })
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
}

async function open(port: number, path = '/', protocols: string[] = [], options: object = {}): Promise<WebSocket> {
  const client = new WebSocket(`ws://127.0.0.1:${port}${path}`, protocols, options)
  clients.push(client)
  client.on('error', () => undefined)
  await new Promise<void>((resolve, reject) => {
    client.once('open', resolve)
    client.once('close', (code) => reject(new Error(`closed with ${code}`)))
  })
  return client
}

const closeOf = (socket: WebSocket): Promise<{ code: number; reason: string }> =>
  new Promise((resolve) => socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() })))

/** A client's frame (RFC 6455 §5.2), masked with zeros. */
function frame(firstByte: number, payload: Buffer | string): Buffer {
  const bytes = Buffer.from(payload)
  const length = bytes.length < 126 ? [0x80 | bytes.length] : [0x80 | 126, bytes.length >> 8, bytes.length & 255]
  return Buffer.concat([Buffer.from([firstByte, ...length, 0, 0, 0, 0]), bytes])
}

beforeEach(async () => {
  upgrades = []
  accepted = []
  await serve()
})

afterEach(async () => {
  for (const client of clients.splice(0)) client.terminate()
  for (const socket of accepted) socket.terminate()
  for (const gateway of gateways.splice(0)) {
    await gateway.close()
    expect(gateway.errors).toEqual([])
  }
  http.closeAllConnections()
  await new Promise((resolve) => http.close(resolve))
})

describe.skipIf(!testCapabilities.webSockets)('the handshake', () => {
  test('H-60, H-90: the upstream gets a handshake of our own, with the rest of the request as it came', async () => {
    const { port, events } = await start()
    await open(port, '/chat/%7e?a=%20b', ['one', 'two'], { headers: { Cookie: 'a=b', 'X-Twice': ['1', '2'] } })
    const [request] = upgrades
    expect(request!.url).toBe('/chat/%7e?a=%20b')
    expect(request!.headers).toMatchObject({
      connection: 'Upgrade',
      upgrade: 'websocket',
      host: `127.0.0.1:${port}`,
      cookie: 'a=b',
      'sec-websocket-version': '13',
      'sec-websocket-protocol': 'one, two',
    })
    expect(request!.rawHeaders.filter((name) => name.toLowerCase() === 'x-twice')).toHaveLength(2)
    expect(request!.rawHeaders.filter((name) => name.toLowerCase() === 'host')).toHaveLength(1)
    expect(request!.headers['sec-websocket-key']).not.toBe(/sec-websocket-key: (.*)\r/.exec(events.heads[0]!)?.[1])
    expect(request!.headers['sec-websocket-extensions']).toBeUndefined()
  })

  test('the client gets the subprotocol that the upstream chose, and the fields of its answer', async () => {
    server.options.handleProtocols = (offered) => [...offered][1] ?? false
    server.on('headers', (lines) => lines.push('X-From: upstream', 'Set-Cookie: a=1', 'Set-Cookie: b=2'))
    const { port } = await start()
    const connection = await openRaw(port)
    connection.send(`GET / HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}Sec-WebSocket-Protocol: one, two\r\n\r\n`)
    await eventually(() => connection.received.includes('\r\n\r\n'))
    const head = connection.received.toLowerCase()
    expect(head).toMatch(/^http\/1\.1 101 switching protocols\r\n/)
    // RFC 6455 §1.3 gives the answer to this key
    expect(connection.received).toContain('Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=')
    for (const [field, count] of [
      ['sec-websocket-accept', 1],
      ['sec-websocket-protocol: two', 1],
      ['x-from: upstream', 1],
      ['set-cookie', 2],
      ['upgrade: websocket', 1],
      ['connection: upgrade', 1],
      ['date', 1],
      ['content-length', 0],
      ['sec-websocket-extensions', 0],
    ] as const) {
      expect(head.split(`\r\n${field}`).length - 1, field).toBe(count)
    }
    connection.destroy()
  })

  test('H-60: any other answer of the upstream is an ordinary one, and closes', async () => {
    const { port, events } = await start()
    const connection = await openRaw(port)
    connection.send(`GET /refused HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}\r\n`)
    const [answer] = await connection.answers(1)
    expect(answer).toMatchObject({ status: 403, body: 'not today' })
    expect(answer!.field('x-why')).toBe('no')
    expect(answer!.field('sec-websocket-accept')).toBeUndefined()
    // bytes that were meant for a WebSocket are not requests
    connection.send('GET /smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n')
    expect(await connection.closed()).toBe(true)
    expect(events.heads).toHaveLength(1)
    expect(events.done[0]!.record).toMatchObject({ status: 403, end: 'complete', responseBodyBytes: 9 })
  })

  test('frames sent before the answer are never a request, and nothing of them arrives', async () => {
    const { port, events } = await start()
    const connection = await openRaw(port)
    const early = frame(0x81, 'GET /smuggled HTTP/1.1\r\nHost: gw.test\r\n\r\n')
    connection.send(Buffer.concat([Buffer.from(`GET / HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}\r\n`), early]))
    expect(await connection.closed()).toBe(true)
    expect(events.heads).toHaveLength(1)
    connection.destroy()
  })

  test('a request that does not ask stays one, whatever key it has', async () => {
    const { port } = await start()
    for (const fields of [
      `Sec-WebSocket-Key: ${KEY}\r\nSec-WebSocket-Version: 13\r\n`,
      `Upgrade: websocket\r\nSec-WebSocket-Key: ${KEY}\r\nSec-WebSocket-Version: 13\r\n`,
      `Connection: upgrade\r\nSec-WebSocket-Key: ${KEY}\r\nSec-WebSocket-Version: 13\r\n`,
    ]) {
      const connection = await openRaw(port)
      connection.send(`GET / HTTP/1.1\r\nHost: gw.test\r\n${fields}\r\n`)
      const [answer] = await connection.answers(1)
      expect(answer).toMatchObject({ status: 200, body: 'plain' })
      connection.destroy()
    }
    expect(upgrades).toHaveLength(0)
  })

  test('H-60: a 101 that was not asked for, or does not fit, is a 502', async () => {
    const raw = connectableServer(
      'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n',
    )
    const port = await raw.port
    const gateway = await startWireGateway(new PlainEvents(), target(port))
    gateways.push(gateway)
    const connection = await openRaw(gateway.port)
    connection.send(`GET / HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}\r\n`)
    expect((await connection.answers(1))[0]?.status).toBe(502)
    expect(gateway.events.failures[0]).toMatchObject({ reason: 'upstream_bad_response' })
    connection.destroy()
    raw.close()
  })

  test('an upstream that is not there, and one that closes without an answer', async () => {
    const nowhere = await startWireGateway(new PlainEvents(), target(1))
    const raw = connectableServer('')
    const silent = await startWireGateway(new PlainEvents(), target(await raw.port))
    gateways.push(nowhere, silent)
    for (const [gateway, reason] of [
      [nowhere, 'connect_failed'],
      [silent, 'upstream_reset'],
    ] as const) {
      const connection = await openRaw(gateway.port)
      connection.send(`GET / HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}\r\n`)
      expect((await connection.answers(1))[0]?.status).toBe(502)
      expect(gateway.events.failures[0]).toMatchObject({ reason, notProcessed: reason === 'connect_failed' })
      connection.destroy()
    }
    raw.close()
  })

  test('more than max_open at a time are answered 503', async () => {
    const { port } = await start({ maxOpen: 1 })
    const first = await open(port)
    const connection = await openRaw(port)
    connection.send(`GET / HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}\r\n`)
    expect((await connection.answers(1))[0]?.status).toBe(503)
    connection.destroy()
    first.close()
    await closeOf(first)
    expect(await eventually(() => gateways[0]!.frontEnd.openOf(1).webSockets === 0)).toBe(true)
    await open(port)
  })
})

describe.skipIf(!testCapabilities.webSockets)('messages', () => {
  test('texts and bytes pass both ways as they are, empty and large ones too; the record counts them', async () => {
    const { port, events } = await start()
    const client = await open(port)
    accepted[0]!.on('message', (data, isBinary) => accepted[0]!.send(data, { binary: isBinary }))
    const received: { data: Buffer; isBinary: boolean }[] = []
    client.on('message', (data: Buffer, isBinary) => received.push({ data, isBinary }))
    const sent: (string | Buffer)[] = [
      'hello',
      '',
      'ä€𝄞',
      Buffer.from([0, 255, 128]),
      Buffer.alloc(300_000, 7),
      'x'.repeat(70_000),
    ]
    for (const message of sent) client.send(message)
    expect(await eventually(() => received.length === sent.length)).toBe(true)
    for (const [index, message] of sent.entries()) {
      expect(received[index]!.isBinary).toBe(typeof message !== 'string')
      expect(received[index]!.data.equals(Buffer.from(message as string))).toBe(true)
    }
    client.close(1000)
    await closeOf(client)
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    const bytes = sent.reduce((sum, message) => sum + Buffer.byteLength(message), 0)
    expect(events.done[0]!.record).toMatchObject({
      status: 101,
      end: 'complete',
      requestBodyBytes: bytes,
      responseBodyBytes: bytes,
      webSocket: { messagesIn: sent.length, messagesOut: sent.length },
    })
  })

  test('H-92: fragments are put together, control frames between them answered', async () => {
    const { port } = await start()
    const connection = await openRaw(port)
    connection.send(`GET / HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}\r\n`)
    expect(await eventually(() => connection.received.includes('\r\n\r\n') && accepted.length === 1)).toBe(true)
    const messages: string[] = []
    accepted[0]!.on('message', (data) => messages.push(data.toString()))
    const afterHead = connection.received.length
    for (const bytes of [frame(0x01, 'one '), frame(0x89, 'ping'), frame(0x00, 'two '), frame(0x80, 'three')]) {
      for (const byte of bytes) connection.send(Buffer.from([byte]))
    }
    expect(await eventually(() => messages.length === 1)).toBe(true)
    expect(messages).toEqual(['one two three'])
    expect(connection.received.slice(afterHead)).toBe('\x8a\x04ping')
    connection.destroy()
  })

  test.each([
    ['a text that is not UTF-8', frame(0x81, Buffer.from([0xff])), 1007],
    ['a reserved bit', frame(0xc1, 'x'), 1002],
    ['a control frame of 126 bytes', frame(0x89, 'x'.repeat(126)), 1002],
    ['a control frame in fragments', frame(0x09, 'x'), 1002],
    ['an unknown opcode', frame(0x83, 'x'), 1002],
    // the library takes no code between 1012 and 3999 from a client, and hides which one it was
    ['a close code that may not be sent', frame(0x88, Buffer.from([0x03, 0xed])), 1005],
    ['a close code that the library does not know', frame(0x88, Buffer.from([0x0b, 0xb8])), 1005],
  ])('H-92 %s ends both sides; the upstream is told why', async (_name, bytes, code) => {
    const { port } = await start()
    const connection = await openRaw(port)
    connection.send(`GET / HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}\r\n`)
    expect(await eventually(() => connection.received.includes('\r\n\r\n') && accepted.length === 1)).toBe(true)
    const closed = closeOf(accepted[0]!)
    connection.send(bytes)
    expect(await connection.closed()).toBe(true)
    expect((await closed).code).toBe(code)
  })

  test('H-92: a message over the limit closes both sides with 1009, from either side', async () => {
    const { port } = await start({ maxMessageBytes: 10_000 })
    const client = await open(port)
    let ends = [closeOf(client), closeOf(accepted[0]!)]
    client.send('x'.repeat(10_000))
    client.send('x'.repeat(10_001))
    expect((await Promise.all(ends)).map(({ code }) => code)).toEqual([1009, 1009])

    const other = await open(port)
    ends = [closeOf(other), closeOf(accepted[1]!)]
    accepted[1]!.send('x'.repeat(10_001))
    expect((await Promise.all(ends)).map(({ code }) => code)).toEqual([1009, 1009])

    // twice the limit: the library cuts the client off, the upstream learns why
    const third = await open(port)
    ends = [closeOf(third), closeOf(accepted[2]!)]
    third.send('x'.repeat(20_001))
    expect((await Promise.all(ends)).map(({ code }) => code)).toEqual([1006, 1009])
  })

  test('compression only when it is on, and both want it (H-91)', async () => {
    const plain = await start()
    const offered = await open(plain.port, '/', [], { perMessageDeflate: true })
    expect(offered.extensions).toBe('')
    for (const socket of accepted) socket.terminate()
    http.closeAllConnections()
    await new Promise((resolve) => http.close(resolve))
    accepted = []
    await serve({ perMessageDeflate: true })
    const { port } = await start({ compress: true })
    const client = await open(port, '/', [], { perMessageDeflate: true })
    expect(client.extensions).toContain('permessage-deflate')
    expect(accepted[0]!.extensions).toContain('permessage-deflate')
    accepted[0]!.on('message', (data) => accepted[0]!.send(data.toString().toUpperCase()))
    const answer = new Promise<string>((resolve) => client.once('message', (data) => resolve(data.toString())))
    client.send('abc'.repeat(20_000))
    expect(await answer).toBe('ABC'.repeat(20_000))
    // a bomb: little on the wire, more than the limit when unpacked
    const ends = [closeOf(client), closeOf(accepted[0]!)]
    client.send(Buffer.alloc(8 * 2 ** 20))
    expect((await Promise.all(ends))[1]!.code).toBe(1009)
    const without = await open(port, '/', [], { perMessageDeflate: false })
    expect(without.extensions).toBe('')
  })

  test('H-38: a client that does not read stops the upstream; everything arrives when it does', async () => {
    const { port } = await start({}, 64 * 1024)
    const client = await open(port)
    client.pause()
    const total = 64
    const block = Buffer.alloc(512 * 1024, 1)
    for (let index = 0; index < total; index++) accepted[0]!.send(block)
    await pause(800)
    const before = accepted[0]!.bufferedAmount
    expect(before).toBeGreaterThan(8 * 2 ** 20)
    let received = 0
    client.on('message', (data: Buffer) => (received += data.length))
    client.resume()
    expect(await eventually(() => received === total * block.length, 15_000)).toBe(true)
  })

  test('an upstream that does not read: what waits is bounded, then both sides are closed with 1013', async () => {
    const { port } = await start({ maxMessageBytes: 1024 * 1024 })
    const client = await open(port)
    accepted[0]!.pause()
    const closed = closeOf(client)
    const block = Buffer.alloc(512 * 1024)
    // 40 MB: more than both sockets and our bound hold
    for (let index = 0; index < 80; index++) client.send(block, () => undefined)
    expect((await closed).code).toBe(1013)
  })
})

describe.skipIf(!testCapabilities.webSockets)('ends', () => {
  test('H-93: codes and reasons pass both ways, and their absence', async () => {
    const { port } = await start()
    const cases = [
      [4001, 'bye'],
      [1000, ''],
      [undefined, undefined],
      [4999, 'ü'.repeat(61)],
    ] as const
    for (const side of ['client', 'upstream'] as const) {
      for (const [code, reason] of cases) {
        const client = await open(port)
        const upstream = accepted.at(-1)!
        const [closer, other] = side === 'client' ? [client, upstream] : [upstream, client]
        const seen = closeOf(other)
        const own = closeOf(closer)
        closer.close(code, reason)
        expect(await seen, `${side} ${code}`).toEqual({ code: code ?? 1005, reason: reason ?? '' })
        expect((await own).code).toBe(code ?? 1005)
      }
    }
  })

  test('H-93: a client that is gone is 1001 for the upstream, an upstream that is gone 1011 for the client', async () => {
    const { port, events } = await start()
    const first = await open(port)
    const seen = closeOf(accepted[0]!)
    first.terminate()
    expect((await seen).code).toBe(1001)
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    expect(events.done[0]!.record).toMatchObject({ status: 101, end: 'client_abort' })

    const second = await open(port)
    const closed = closeOf(second)
    accepted[1]!.terminate()
    expect((await closed).code).toBe(1011)
    expect(await eventually(() => events.done.length === 2)).toBe(true)
    expect(events.done[1]!.record).toMatchObject({ end: 'truncated', failure: { reason: 'upstream_reset' } })
  })

  test('what was sent right before a close arrives before it', async () => {
    const { port } = await start()
    const client = await open(port)
    const seen: string[] = []
    accepted[0]!.on('message', (data) => seen.push(data.toString()))
    const closed = closeOf(accepted[0]!)
    for (let index = 0; index < 50; index++) client.send(String(index))
    client.close(1000)
    await closed
    expect(seen).toHaveLength(50)
    const other = await open(port)
    let count = 0
    other.on('message', () => count++)
    const otherClosed = closeOf(other)
    for (let index = 0; index < 50; index++) accepted[1]!.send(String(index))
    accepted[1]!.close(1000)
    await otherClosed
    expect(count).toBe(50)
  })

  test('H-93: silent peers are pinged, and given up when they do not answer; those that answer live on', async () => {
    const { port } = await start({ pingMs: 200, idleMs: 0 })
    let pings = 0
    const lively = await open(port)
    lively.on('ping', () => pings++)
    const dead = connect(port, '127.0.0.1')
    dead.on('error', () => undefined)
    dead.write(`GET / HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}\r\n`)
    dead.resume()
    expect(await eventually(() => accepted.length === 2)).toBe(true)
    const closed = closeOf(accepted[1]!)
    // longer than the library's own idle timer of ten seconds
    expect((await closed).code).toBe(1001)
    expect(pings).toBeGreaterThan(2)
    expect(lively.readyState).toBe(WebSocket.OPEN)
    dead.destroy()
  }, 25_000)

  test('H-80: nothing from either side for idle_timeout closes both with 1001', async () => {
    const { port, events } = await start({ pingMs: 0, idleMs: 2_500 })
    const client = await open(port)
    const ends = [closeOf(client), closeOf(accepted[0]!)]
    for (let round = 0; round < 20; round++) {
      await pause(200)
      client.ping()
    }
    expect(client.readyState).toBe(WebSocket.OPEN)
    expect((await Promise.all(ends)).map(({ code }) => code)).toEqual([1001, 1001])
    expect(events.done[0]!.record.failure).toMatchObject({ reason: 'idle_timeout' })
  })

  test('O-21: a drain closes both sides with 1001', async () => {
    const { port, frontEnd } = await start()
    const client = await open(port)
    const ends = [closeOf(client), closeOf(accepted[0]!)]
    frontEnd.drain()
    expect((await Promise.all(ends)).map(({ code }) => code)).toEqual([1001, 1001])
    expect(await eventually(() => frontEnd.inFlight === 0)).toBe(true)
  })

  test('T-25: a client that leaves while the upstream thinks about it', async () => {
    const raw = connectableServer(undefined)
    const gateway = await startWireGateway(new PlainEvents(), target(await raw.port))
    gateways.push(gateway)
    const connection = await openRaw(gateway.port)
    connection.send(`GET / HTTP/1.1\r\nHost: gw.test\r\n${HANDSHAKE}\r\n`)
    expect(await eventually(() => raw.sockets.length === 1)).toBe(true)
    connection.destroy()
    expect(await eventually(() => gateway.events.done.length === 1)).toBe(true)
    expect(gateway.events.done[0]!.record).toMatchObject({ end: 'client_abort', status: 0 })
    expect(await eventually(() => raw.sockets[0]!.destroyed)).toBe(true)
    raw.close()
  })
})

/** Answers every connection's first bytes with a text and closes when it is empty; `undefined`: says nothing. */
function connectableServer(text: string | undefined): { port: Promise<number>; sockets: Socket[]; close(): void } {
  const sockets: Socket[] = []
  const plain = createServer()
  plain.on('connection', (socket: Socket) => {
    sockets.push(socket)
    socket.removeAllListeners('data')
    socket.on('error', () => undefined)
    socket.once('data', () => {
      if (text === '') socket.destroy()
      else if (text !== undefined) socket.write(text)
    })
    socket.on('end', () => socket.destroy())
  })
  const port = new Promise<number>((resolve) => {
    plain.listen(0, '127.0.0.1', () => resolve((plain.address() as AddressInfo).port))
  })
  return {
    port,
    sockets,
    close: () => {
      for (const socket of sockets) socket.destroy()
      plain.close()
    },
  }
}
