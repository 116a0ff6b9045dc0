/**
 * HTTP/2 through the native front end, on real sockets: by prior knowledge from Node's client, to upstreams that speak
 * HTTP/1.1 and HTTP/2. H-26, H-33, H-38, H-61, H-94, H-100 … H-105; O-21.
 *
 * Engine: native, and in every run.
 */
import { once } from 'node:events'
import { createServer as createHttp1 } from 'node:http'
import {
  type ClientHttp2Session,
  connect,
  createSecureServer,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
} from 'node:http2'
import { type AddressInfo, connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import type { UpstreamTarget } from '../../../src/listener/front-end.ts'
import { NativeFrontEnd } from '../../../src/listener/native/native-front-end.ts'
import { AddressBook } from '../../../src/upstream/address-book.ts'
import { UpstreamPools } from '../../../src/upstream/pools.ts'
import { makeCertificate, opensslSkipReason } from '../../support/certificates.ts'
import { PlainEvents, WIRE_LIMITS } from '../../support/wire-gateway.ts'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

const target = (port: number, http2: boolean): UpstreamTarget => ({
  name: `127.0.0.1:${port}`,
  protocol: 'http',
  host: '127.0.0.1',
  port,
  http2,
  timers: { connectMs: 3000, queueMs: 3000, firstByteMs: 5000, idleMs: 5000, keepAliveMs: 60_000 },
  maxConnections: 4,
  maxQueued: 100,
})

/** A service in the manner of gRPC: messages back as they come, a status in the trailers. */
async function startRpc(): Promise<{ port: number; server: Http2Server; sessions: () => number }> {
  const server = createServer()
  const sessions = new Set<object>()
  server.on('session', (session) => {
    sessions.add(session)
    session.on('close', () => sessions.delete(session))
    session.on('error', () => undefined)
  })
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined)
    if (headers[':path'] === '/refused') {
      stream.close(7)
      return
    }
    if (headers[':path'] === '/trailers-only') {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '12' }, { endStream: true })
      return
    }
    if (headers[':path'] === '/break') {
      stream.respond({ ':status': 200 })
      stream.write('half')
      setTimeout(() => stream.destroy(new Error('broken')), 50)
      return
    }
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'x-te': headers.te ?? '', 'x-host': headers[':authority'] },
      { waitForTrailers: true },
    )
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': 'fine' }))
    stream.pipe(stream)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => server.close())
  return { port: (server.address() as AddressInfo).port, server, sessions: () => sessions.size }
}

async function startFront(
  upstream: UpstreamTarget,
  limits = {},
): Promise<{ port: number; events: PlainEvents; front: NativeFrontEnd }> {
  const events = new PlainEvents()
  const front = new NativeFrontEnd({
    events,
    limits: { ...WIRE_LIMITS, ...limits },
    addressBook: new AddressBook(),
    report: (error) => {
      throw error
    },
  })
  events.frontEnd = front
  events.target = upstream
  await front.listen({ id: 1, host: '127.0.0.1', port: 0, proxyProtocol: false })
  closers.push(() => front.close())
  return { port: front.portOf(1), events, front }
}

async function open(port: number): Promise<ClientHttp2Session> {
  const client = connect(`http://127.0.0.1:${port}`)
  client.on('error', () => undefined)
  closers.push(() => client.destroy())
  await once(client, 'connect')
  return client
}

interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: string
  trailers: IncomingHttpHeaders
  code: number
}

async function ask(
  client: ClientHttp2Session,
  headers: Record<string, string>,
  body?: string | Buffer,
): Promise<Answer> {
  const stream = client.request(headers, { endStream: body === undefined })
  const answer: Answer = { status: 0, headers: {}, body: '', trailers: {}, code: 0 }
  stream.on('response', (head) => {
    answer.status = head[':status'] ?? 0
    answer.headers = head
  })
  stream.on('trailers', (trailers) => (answer.trailers = trailers))
  stream.on('data', (chunk: Buffer) => (answer.body += chunk.toString('latin1')))
  stream.on('error', () => undefined)
  if (body !== undefined) stream.end(body)
  await new Promise((resolve) => stream.on('close', resolve))
  answer.code = stream.rstCode ?? 0
  return answer
}

async function startHttp1(): Promise<number> {
  const server = createHttp1((request, response) => {
    if (request.url === '/events') {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('data: 1\n\n')
      setTimeout(() => response.end('data: 2\n\n'), 50)
      return
    }
    if (request.url === '/large') {
      response.end(Buffer.alloc(3_000_000, 'x'))
      return
    }
    const pieces: Buffer[] = []
    request.on('data', (piece: Buffer) => pieces.push(piece))
    request.on('end', () => {
      const body = Buffer.concat(pieces).toString('latin1')
      response.end(`${request.method} ${request.url} ${JSON.stringify(request.headers)} ${body.length}`)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

describe('HTTP/2 clients before an HTTP/1.1 upstream', () => {
  it('H-101: requests arrive as HTTP/1.1, many at a time on one connection', async () => {
    const { port, events, front } = await startFront(target(await startHttp1(), false))
    const client = await open(port)
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, at) => ask(client, { ':path': `/a?n=${at}`, cookie: 'a=1', 'x-n': `${at}` })),
    )
    answers.forEach((answer, at) => {
      expect(answer.status).toBe(200)
      expect(answer.body).toContain(`GET /a?n=${at} `)
      expect(answer.body).toContain(`"host":"127.0.0.1:${port}"`)
      expect(answer.headers.date).toBeDefined()
    })
    expect(front.connectionsOf(1)).toBe(1)
    expect(events.facts.every((facts) => facts.version === 'HTTP/2.0')).toBe(true)
    const post = await ask(client, { ':method': 'POST', ':path': '/b' }, Buffer.alloc(500_000, 'y'))
    expect(post.body).toMatch(/^POST \/b .*"transfer-encoding":"chunked".* 500000$/)
    expect(events.done).toHaveLength(41)
    expect(events.done.every(({ record }) => record.end === 'complete')).toBe(true)
    expect(front.inFlight).toBe(0)
  })

  it('H-38, H-39: large answers keep to the windows, events leave at once', async () => {
    const { port } = await startFront(target(await startHttp1(), false))
    const client = await open(port)
    const [large, events] = await Promise.all([ask(client, { ':path': '/large' }), ask(client, { ':path': '/events' })])
    expect(large.body).toHaveLength(3_000_000)
    expect(large.headers['content-length']).toBe('3000000')
    expect(events.body).toBe('data: 1\n\ndata: 2\n\n')
  })

  it('H-36, H-84: bodies beyond the limit are 413, heads beyond it 431, bad targets 400; all are told', async () => {
    const { port, events } = await startFront(target(await startHttp1(), false), { bodyBytes: 1000 })
    const client = await open(port)
    expect(
      (await ask(client, { ':method': 'POST', ':path': '/', 'content-length': '2000' }, Buffer.alloc(2000))).status,
    ).toBe(413)
    expect((await ask(client, { ':method': 'POST', ':path': '/' }, Buffer.alloc(2000))).status).toBe(413)
    expect((await ask(client, { ':path': '/', 'x-large': 'x'.repeat(33_000) })).status).toBe(431)
    expect((await ask(client, { ':path': '/a\\b' })).status).toBe(400)
    expect(events.refused.map(({ status, reason }) => `${status} ${reason}`)).toEqual([
      '413 bad_request:H-36',
      '431 bad_request:H-14',
      '400 bad_request:H-12',
    ])
    expect((await ask(client, { ':path': '/still' })).status).toBe(200)
  })
})

describe('gRPC from end to end', () => {
  it('H-26: messages and trailers pass in both directions, over one upstream connection', async () => {
    const rpc = await startRpc()
    const { port } = await startFront(target(rpc.port, true))
    const client = await open(port)
    const calls = await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        ask(
          client,
          { ':method': 'POST', ':path': '/echo', te: 'trailers', 'content-type': 'application/grpc' },
          `message ${at}`,
        ),
      ),
    )
    calls.forEach((call, at) => {
      expect(call.body).toBe(`message ${at}`)
      expect(call.headers['x-te']).toBe('trailers')
      expect(call.headers['x-host']).toBe(`127.0.0.1:${port}`)
      expect(call.trailers).toMatchObject({ 'grpc-status': '0', 'grpc-message': 'fine' })
    })
    expect(rpc.sessions()).toBe(1)
    const none = await ask(client, { ':method': 'POST', ':path': '/trailers-only', te: 'trailers' }, 'x')
    expect(none.headers['grpc-status']).toBe('12')
  })

  it('H-26: those of a request reach an upstream of HTTP/1.1, but where a length is announced', async () => {
    const heard: unknown[] = []
    const upstream = createHttp1((request, response) => {
      request.resume().on('end', () => {
        heard.push([request.headers['transfer-encoding'], request.headers.trailer, request.rawTrailers])
        response.end('ok')
      })
    }).listen(0, '127.0.0.1')
    await once(upstream, 'listening')
    closers.push(() => upstream.close())
    const { port } = await startFront(target((upstream.address() as AddressInfo).port, false))
    const client = await open(port)
    for (const length of [{}, { 'content-length': '3' }]) {
      const call = client.request({ ':method': 'POST', ':path': '/', trailer: 'x-sum', ...length }, {
        waitForTrailers: true,
        endStream: false,
      } as object)
      call.on('wantTrailers', () => call.sendTrailers({ 'x-sum': '7', cookie: 'a=1' }))
      call.end('abc')
      const [head] = (await once(call, 'response')) as [IncomingHttpHeaders]
      expect(head[':status']).toBe(200)
      call.resume()
      await once(call, 'close')
    }
    expect(heard).toEqual([
      ['chunked', 'x-sum', ['x-sum', '7']],
      [undefined, undefined, []],
    ])
  })

  it('T-23: a connection that its client ends cancels what it asked for', async () => {
    const { port: far, server } = await startRpc()
    let isCancelled = false
    server.removeAllListeners('stream').on('stream', (stream) => {
      stream.on('error', () => undefined).on('close', () => (isCancelled = stream.rstCode === 8))
    })
    const { port, events } = await startFront(target(far, true))
    const socket = connectTcp({ port, host: '127.0.0.1' })
    const client = connect('http://a.test', { createConnection: () => socket })
    client.on('error', () => undefined)
    client.request({ ':path': '/' }).on('error', () => undefined)
    await expect.poll(() => events.heads.length).toBe(1)
    await delay(50)
    socket.end()
    await expect.poll(() => isCancelled).toBe(true)
    await expect.poll(() => events.done.map(({ record }) => record.end)).toEqual(['client_abort'])
    client.destroy()
  })

  it('H-26, H-102: clients of HTTP/1.1 get its trailers in chunks when they take them, and send theirs', async () => {
    const server = createServer()
    let sent: IncomingHttpHeaders = {}
    server.on('stream', (stream) => {
      stream.on('error', () => undefined)
      stream.on('trailers', (trailers) => (sent = trailers))
      stream.respond({ ':status': 200 }, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': 'abc', 'set-cookie': 'a=1' }))
      stream.pipe(stream)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    closers.push(() => server.close())
    const { port } = await startFront(target((server.address() as AddressInfo).port, true))
    const send = async (lines: string): Promise<string> => {
      const socket = connectTcp(port, '127.0.0.1')
      closers.push(() => socket.destroy())
      const received = collect(socket)
      socket.write(
        `POST / HTTP/1.1\r\nhost: a\r\n${lines}connection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Up: 1\r\nCookie: a=1\r\n\r\n`,
      )
      await once(socket, 'close')
      return Buffer.concat(received).toString('latin1')
    }
    expect(await send('te: trailers\r\n')).toMatch(/\r\n0\r\nx-sum: abc\r\n\r\n$/)
    expect(sent).toMatchObject({ 'x-up': '1' })
    expect(sent.cookie).toBeUndefined()
    expect(await send('')).toMatch(/\r\n\r\n(?:hi|2\r\nhi\r\n0\r\n\r\n)$/)
  })

  it('a stream both ways: each message comes before the next is sent', async () => {
    const rpc = await startRpc()
    const { port } = await startFront(target(rpc.port, true))
    const client = await open(port)
    const call = client.request({ ':method': 'POST', ':path': '/echo', te: 'trailers' })
    for (const message of ['one', 'two', 'three']) {
      call.write(message)
      const [data] = (await once(call, 'data')) as [Buffer]
      expect(data.toString()).toBe(message)
    }
    call.end()
    const [trailers] = (await once(call, 'trailers')) as [IncomingHttpHeaders]
    expect(trailers['grpc-status']).toBe('0')
  })

  it('H-33, H-70, H-105: failures of a stream stay with it, and say whether it was processed', async () => {
    const rpc = await startRpc()
    const { port, events } = await startFront(target(rpc.port, true))
    const client = await open(port)
    const broken = await ask(client, { ':path': '/break' })
    expect(broken).toMatchObject({ status: 200, body: 'half', code: 2 })
    const refused = await ask(client, { ':path': '/refused' })
    expect(refused.status).toBe(502)
    expect(events.failures[0]).toMatchObject({ reason: 'upstream_reset', notProcessed: true })
    const fine = await ask(client, { ':path': '/echo', te: 'trailers' })
    expect(fine.trailers['grpc-status']).toBe('0')
    expect(rpc.sessions()).toBe(1)
  })
})

describe('an upstream that speaks HTTP/2 behind the other engine', () => {
  it('takes requests over the pool of its own', async () => {
    const rpc = await startRpc()
    const pool = new UpstreamPools({ bufferBytes: 65_536 })
    closers.push(() => pool.close())
    const upstream = target(rpc.port, true)
    const bodies = await Promise.all(
      Array.from({ length: 10 }, async (_, at) => {
        let text = ''
        await new Promise<void>((resolve, reject) => {
          const request = {
            head: 'POST /echo HTTP/1.1\r\nhost: a.test\r\n',
            bodyLength: 6,
            body: Buffer.from(`body ${at}`),
          }
          pool.send(upstream, request, {
            onUpstreamHead: (status) => (text += status),
            onUpstreamData: (chunk) => (text += Buffer.from(chunk).toString()),
            onUpstreamEnd: resolve,
            onUpstreamFailure: ({ reason, detail }) => reject(new Error(`${reason}: ${detail}`)),
            onUpstreamWritable: () => undefined,
          })
        })
        return text
      }),
    )
    expect(bodies).toEqual(Array.from({ length: 10 }, (_, at) => `200body ${at}`))
    expect(rpc.sessions()).toBe(1)
  })
})

describe.skipIf(opensslSkipReason !== undefined)('HTTP/2 over TLS', () => {
  it('clients and upstreams agree to it by ALPN', async () => {
    const made = makeCertificate({ names: 'DNS:localhost' })
    const server = createSecureServer({ cert: made.certificate, key: made.key })
    server.on('stream', (stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true })
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
      stream.end(stream.session?.alpnProtocol ?? '')
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    closers.push(() => server.close())
    const { port, events, front } = await startFront({
      ...target((server.address() as AddressInfo).port, true),
      protocol: 'https',
      tls: { verify: true, ca: made.certificate, serverName: 'localhost' },
    })
    const certificates = [{ chain: made.certificate, key: made.key, names: ['localhost'] }]
    await front.listen({
      id: 2,
      host: '127.0.0.1',
      port: 0,
      proxyProtocol: false,
      tls: { identity: '1', certificates, clientAuthorities: undefined },
    })
    const client = connect(`https://localhost:${front.portOf(2)}`, {
      ca: made.certificate,
      createConnection: () =>
        connectTls({
          host: '127.0.0.1',
          port: front.portOf(2),
          servername: 'localhost',
          ca: made.certificate,
          ALPNProtocols: ['h2'],
        }),
    })
    closers.push(() => client.destroy())
    const answers = await Promise.all(Array.from({ length: 5 }, () => ask(client, { ':path': '/', te: 'trailers' })))
    expect(client.alpnProtocol).toBe('h2')
    for (const answer of answers) expect(answer).toMatchObject({ body: 'h2', trailers: { 'grpc-status': '0' } })
    expect(events.facts[0]!.version).toBe('HTTP/2.0')
    expect((await ask(await open(port), { ':path': '/', te: 'trailers' })).body).toBe('h2')
  })
})

describe('connections', () => {
  it('H-104, O-21: a drain finishes what is under way, tells the client, and closes', async () => {
    const rpc = await startRpc()
    const { port, front } = await startFront(target(rpc.port, true))
    const client = await open(port)
    const call = client.request({ ':method': 'POST', ':path': '/echo', te: 'trailers' })
    call.setEncoding('utf8')
    call.write('before')
    await once(call, 'data')
    const goaway = once(client, 'goaway')
    front.drain()
    await goaway
    call.end('after')
    const [data] = (await once(call, 'data')) as [string]
    expect(data).toBe('after')
    if (!client.closed) await once(client, 'close')
    await expect.poll(() => front.connectionsOf(1)).toBe(0)
  })

  it('H-103: a rapid reset ends the connection with ENHANCE_YOUR_CALM', async () => {
    const { port, front } = await startFront(target(await startHttp1(), false))
    const socket = connectTcp(port, '127.0.0.1')
    closers.push(() => socket.destroy())
    await once(socket, 'connect')
    socket.on('error', () => undefined)
    const received = collect(socket)
    const frame = (kind: number, flags: number, stream: number, payload: Buffer): Buffer => {
      const head = Buffer.alloc(9)
      head.writeUIntBE(payload.length, 0, 3)
      head[3] = kind
      head[4] = flags
      head.writeUInt32BE(stream, 5)
      return Buffer.concat([head, payload])
    }
    const get = Buffer.from([0x82, 0x86, 0x84, 0x01, 0x01, 0x61])
    const frames = [Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(4, 0, 0, Buffer.alloc(0))]
    for (let stream = 1; stream < 1000; stream += 2) {
      frames.push(frame(1, 5, stream, get), frame(3, 0, stream, Buffer.from([0, 0, 0, 8])))
    }
    socket.write(Buffer.concat(frames))
    await once(socket, 'close')
    const bytes = Buffer.concat(received)
    expect(bytes.includes(Buffer.from([0x07, 0, 0, 0, 0, 0]))).toBe(true)
    expect(bytes.subarray(-4)).toEqual(Buffer.from([0, 0, 0, 11]))
    await expect.poll(() => front.inFlight).toBe(0)
  })

  it('HTTP/1.1 goes on beside it, and a preface that comes in pieces is one', async () => {
    const { port } = await startFront(target(await startHttp1(), false))
    const one = connectTcp(port, '127.0.0.1')
    closers.push(() => one.destroy())
    const first = collect(one)
    one.write('PR')
    await delay(20)
    one.write('OPFIND / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')
    await once(one, 'close')
    expect(Buffer.concat(first).toString()).toMatch(/^HTTP\/1\.1 200/)
    const two = connectTcp(port, '127.0.0.1')
    closers.push(() => two.destroy())
    const second = collect(two)
    two.write('PRI * HTTP/2.0\r\n')
    await delay(20)
    two.write(Buffer.concat([Buffer.from('\r\nSM\r\n\r\n'), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]))
    await expect.poll(() => Buffer.concat(second).length).toBeGreaterThan(9)
    expect(Buffer.concat(second)[3]).toBe(4)
  })

  it('clients that go away end their requests', async () => {
    const rpc = await startRpc()
    const { port, events, front } = await startFront(target(rpc.port, true))
    const client = await open(port)
    const call = client.request({ ':method': 'POST', ':path': '/echo' })
    call.on('error', () => undefined)
    call.write('x')
    await once(call, 'data')
    call.close(8)
    await expect.poll(() => events.done.length).toBe(1)
    expect(events.done[0]!.record.end).toBe('client_abort')
    const other = client.request({ ':method': 'POST', ':path': '/echo' })
    other.on('error', () => undefined)
    other.write('x')
    await once(other, 'data')
    client.destroy()
    await expect.poll(() => events.done.length).toBe(2)
    expect(front.inFlight).toBe(0)
  })
})

function collect(socket: Socket): Buffer[] {
  const pieces: Buffer[] = []
  socket.on('data', (piece: Buffer) => pieces.push(piece))
  return pieces
}

describe('H-80, H-83: patience with clients of HTTP/2', () => {
  const timers = { headMs: 10_000, idleMs: 0, progressMs: 0 }

  it('a connection without streams ends with GOAWAY, and not one that has some', async () => {
    const rpc = await startRpc()
    const { port, front } = await startFront(target(rpc.port, true), { timers: { ...timers, idleMs: 500 } })
    const [idle, busy] = [await open(port), await open(port)]
    const call = busy.request({ ':method': 'POST', ':path': '/echo' })
    const [code] = (await once(idle, 'goaway')) as [number]
    expect(code).toBe(0)
    if (!idle.closed) await once(idle, 'close')
    call.end('still here')
    const [data] = (await once(call, 'data')) as [Buffer]
    expect(data.toString()).toBe('still here')
    await once(busy, 'goaway')
    await expect.poll(() => front.connectionsOf(1)).toBe(0)
  })

  it('an upload that stands still is 408 and told so; others of the connection go on', async () => {
    const { port, events } = await startFront(target(await startHttp1(), false), {
      timers: { ...timers, progressMs: 1000 },
    })
    const client = await open(port)
    const slow = client.request({ ':method': 'POST', ':path': '/slow' })
    slow.on('error', () => undefined)
    slow.write('a few bytes')
    const [head] = (await once(slow, 'response')) as [IncomingHttpHeaders & { ':status': number }]
    expect(head[':status']).toBe(408)
    expect((await ask(client, { ':path': '/' })).status).toBe(200)
    await expect.poll(() => events.done.map(({ record }) => record.reason)).toContain('bad_request:H-83')
  })

  it('an upload that is slow but moves goes through', async () => {
    const { port } = await startFront(target(await startHttp1(), false), { timers: { ...timers, progressMs: 1000 } })
    const client = await open(port)
    const slow = client.request({ ':method': 'POST', ':path': '/steady' })
    slow.setEncoding('latin1')
    let body = ''
    slow.on('data', (text: string) => (body += text))
    for (let piece = 0; piece < 15; piece++) {
      slow.write(Buffer.alloc(200))
      await delay(200)
    }
    slow.end()
    await once(slow, 'close')
    expect(body).toMatch(/^POST \/steady .* 3000$/)
  })

  it('a reader that takes next to nothing is cut off; one that takes enough is not', async () => {
    const { port, events } = await startFront(target(await startHttp1(), false), {
      timers: { ...timers, progressMs: 1000 },
    })
    const client = connect(`http://127.0.0.1:${port}`, { settings: { initialWindowSize: 1000 } })
    client.on('error', () => undefined)
    closers.push(() => client.destroy())
    const stalled = client.request({ ':path': '/large' })
    stalled.on('error', () => undefined)
    stalled.pause()
    const closed = new Promise((resolve) => stalled.once('close', resolve))
    expect((await ask(client, { ':path': '/large' })).body).toHaveLength(3_000_000)
    await closed
    expect(stalled.rstCode).toBe(8)
    await expect.poll(() => events.done.map(({ record }) => record.end)).toContain('client_abort')
  })
})
