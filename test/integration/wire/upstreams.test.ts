/** Upstreams that misbehave, connections that are shared, timers, TLS: the undici pool behind the front end. */
import { createServer as createTlsServer } from 'node:tls'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ExchangeHandle, UpstreamFailure, UpstreamTarget } from '../../../src/listener/front-end.ts'
import { eventually, exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'
import { testCapabilities } from '../../support/test-engine.ts'

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const HOST = 'Host: gw.test\r\n'

/** Repeats once when the failure says that nothing was processed. */
class RepeatingEvents extends PlainEvents {
  repeats = false
  readonly #heads = new Map<ExchangeHandle, string>()

  override onRequest(handle: ExchangeHandle, head: string, facts: Parameters<PlainEvents['onRequest']>[2]): void {
    this.#heads.set(handle, head)
    super.onRequest(handle, head, facts)
  }
  override onUpstreamError(handle: ExchangeHandle, failure: UpstreamFailure): void {
    const head = this.#heads.get(handle)
    this.#heads.delete(handle)
    if (this.repeats && head !== undefined && !failure.bodyConsumed) {
      this.failures.push(failure)
      this.frontEnd.forward(handle, this.target, head)
      return
    }
    super.onUpstreamError(handle, failure)
  }
}

let upstream: EchoUpstream
let gateway: WireGateway<RepeatingEvents>
let events: RepeatingEvents
const QUICK = { connectMs: 500, queueMs: 2_000, firstByteMs: 400, idleMs: 400, keepAliveMs: 60_000 }

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startWireGateway(new RepeatingEvents(), target(upstream.port))
  events = gateway.events
})
afterAll(async () => {
  expect(gateway.errors).toEqual([])
  expect(gateway.frontEnd.inFlight).toBe(0)
  await gateway.close()
  await upstream.close()
})
beforeEach(() => {
  upstream.reset()
  events.target = target(upstream.port)
  events.repeats = false
  events.failures.length = 0
  events.done.length = 0
})

const get = (path = '/'): Promise<{ answers: { status: number; body: string; isComplete: boolean }[] }> =>
  exchangeRaw(gateway.port, `GET ${path} HTTP/1.1\r\n${HOST}\r\n`, 8_000)

/** A port on which nobody listens. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as { port: number }
  await new Promise<void>((resolve) => {
    server.close(() => resolve())
  })
  return port
}

describe('connections', () => {
  test('one connection carries many requests, and the record tells so', async () => {
    await get('/1')
    await get('/2')
    await get('/3')
    const connections = upstream.requests.map((request) => request.connection)
    expect(connections[1]).toBe(connections[2])
    expect(events.done.map(({ record }) => record.connectionReused).slice(1)).toEqual([true, true])
    const { record } = events.done[2]!
    expect(record.connectedAtMs).toBeGreaterThan(0)
    expect(record.firstByteAtMs).toBeGreaterThanOrEqual(record.connectedAtMs)
    expect(record.endedAtMs).toBeGreaterThanOrEqual(record.firstByteAtMs)
  })

  test('requests beyond the connections wait, beyond the queue they fail (overflow)', async () => {
    events.target = target(upstream.port, {
      host: '127.0.0.1',
      maxConnections: 2,
      maxQueued: 2,
      tls: { verify: true, serverName: 'a' },
    })
    const waiting: Socket[] = []
    upstream.answer = (_request, socket) => waiting.push(socket)
    const requests = Array.from({ length: 5 }, (_, index) => get(`/${index}`))
    await pause(150)
    expect(upstream.requests).toHaveLength(2)
    expect(events.failures.map((failure) => [failure.reason, failure.notProcessed])).toEqual([['overflow', true]])
    upstream.answer = (_request, socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    for (const socket of waiting) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    const statuses = (await Promise.all(requests)).map(({ answers }) => answers[0]!.status)
    expect(statuses.sort()).toEqual([200, 200, 200, 200, 503])
  })

  test('a leg that is refused at once can be forwarded elsewhere from the event', async () => {
    const full = target(upstream.port, { maxConnections: 0, maxQueued: 0, tls: { verify: true, serverName: 'full' } })
    const alive = events.target
    events.target = full
    events.repeats = true
    const original = events.onUpstreamError.bind(events)
    events.onUpstreamError = (handle, failure) => {
      events.target = alive
      original(handle, failure)
    }
    const { answers } = await exchangeRaw(gateway.port, `POST /p HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello`)
    events.onUpstreamError = original
    expect(answers[0]!.body).toBe('POST /p\n5 bytes\nhello')
    expect(events.failures.map((failure) => failure.reason)).toEqual(['overflow'])
  })

  test('a client that leaves the queue frees its place', async () => {
    events.target = target(upstream.port, { maxConnections: 1, maxQueued: 1, tls: { verify: true, serverName: 'b' } })
    let first: Socket | undefined
    upstream.answer = (_request, socket) => {
      first = socket
    }
    const held = get('/held')
    await eventually(() => first !== undefined)
    const leaving = await openRaw(gateway.port)
    leaving.send(`GET /leaves HTTP/1.1\r\n${HOST}\r\n`)
    await pause(30)
    // one that may wait for its answer in spite of its end must go with a reset
    if (testCapabilities.halfClose) leaving.socket.resetAndDestroy()
    else leaving.destroy()
    await pause(30)
    const waiting = get('/waits')
    await pause(30)
    upstream.answer = (_request, socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    first!.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    expect((await waiting).answers[0]!.status).toBe(200)
    await held
    expect(upstream.requests.map((request) => request.target)).toEqual(['/held', '/waits'])
  })

  test('an idle connection that the upstream has closed is not used', async () => {
    await get('/1')
    upstream.requests[0]!.socket.end()
    await pause(50)
    expect((await get('/2')).answers[0]!.status).toBe(200)
    expect(events.failures).toEqual([])
  })

  test('a reused connection that closes while the request is being written: told as such, repeated by the gateway (H-70)', async () => {
    events.repeats = true
    await get('/warm')
    upstream.answer = (request, socket) => {
      // the close crosses the request: it was idle for us
      if (request.index > 0) socket.destroy()
      else socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    }
    const { answers } = await get('/next')
    expect(answers[0]).toMatchObject({ status: 200, body: 'ok' })
    expect(events.failures).toMatchObject([{ reason: 'upstream_reset', bodyConsumed: false, notProcessed: false }])
  })

  test('closes that cross requests by chance never reach a client', async () => {
    events.repeats = true
    for (let index = 0; index < 30; index++) {
      await get(`/warm${index}`)
      const { socket } = upstream.requests.at(-1)!
      setImmediate(() => socket.destroy())
      expect((await get(`/next${index}`)).answers[0]!.status).toBe(200)
    }
  })

  test('T-31 bytes on an idle connection kill it and answer nobody', async () => {
    await get('/1')
    const { socket, connection } = upstream.requests[0]!
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil')
    await pause(50)
    const { answers } = await get('/2')
    expect(answers[0]!.body).toBe('GET /2\n0 bytes\n')
    expect(upstream.requests[1]!.connection).not.toBe(connection)
  })

  test('H-34 a second answer behind the first kills the connection', async () => {
    upstream.answer = (_request, socket) =>
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil')
    const results = await Promise.all(Array.from({ length: 10 }, (_, index) => get(`/${index}`)))
    for (const { answers } of results) expect(answers[0]!.body).toBe('ok')
    const again = await get('/again')
    expect(again.answers[0]!.body).toBe('ok')
    expect(new Set(upstream.requests.map((request) => request.connection)).size).toBe(upstream.requests.length)
  })

  test('Host of the client reaches the upstream, and different hosts share connections (H-54)', async () => {
    for (const host of ['a.test', 'b.test', 'c.test'])
      await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
    expect(upstream.requests.map((request) => request.field('host'))).toEqual(['a.test', 'b.test', 'c.test'])
    expect(new Set(upstream.requests.map((request) => request.connection)).size).toBe(1)
  })
})

describe('failures and their reasons (H-84, T-34)', () => {
  test('nobody listens: connect_failed, nothing processed, body at hand', async () => {
    events.target = target(await freePort())
    const { answers } = await exchangeRaw(gateway.port, `POST / HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello`)
    expect(answers[0]!.status).toBe(502)
    expect(events.failures).toMatchObject([{ reason: 'connect_failed', notProcessed: true, bodyConsumed: false }])
  })

  test('a body that is still coming survives a failed connect and goes to the next target', async () => {
    const dead = target(await freePort())
    const alive = events.target
    events.target = dead
    events.repeats = true
    const connection = await openRaw(gateway.port)
    const original = events.onUpstreamError.bind(events)
    events.onUpstreamError = (handle, failure) => {
      events.target = alive
      original(handle, failure)
    }
    connection.send(`POST /p HTTP/1.1\r\n${HOST}Content-Length: 10\r\n\r\nhello`)
    await pause(50)
    connection.send('world')
    const [answer] = await connection.answers(1)
    connection.destroy()
    events.onUpstreamError = original
    expect(answer!.body).toBe('POST /p\n10 bytes\nhelloworld')
  })

  test('connect_timeout: a handshake that never comes', async () => {
    const silent = createServer()
    await new Promise<void>((resolve) => {
      silent.listen(0, '127.0.0.1', resolve)
    })
    events.target = target((silent.address() as { port: number }).port, {
      protocol: 'https',
      tls: { verify: true },
      timers: QUICK,
    })
    const startedMs = performance.now()
    const { answers } = await get()
    silent.close()
    expect(answers[0]!.status).toBe(504)
    expect(events.failures).toMatchObject([{ reason: 'connect_timeout', notProcessed: true }])
    expect(performance.now() - startedMs).toBeLessThan(3_000)
  })

  test('first_byte_timeout, and the upstream connection is given up (H-122)', async () => {
    events.target = target(upstream.port, { timers: QUICK })
    upstream.answer = () => {}
    const startedMs = performance.now()
    const { answers } = await get()
    const elapsedMs = performance.now() - startedMs
    expect(answers[0]!.status).toBe(504)
    expect(events.failures).toMatchObject([{ reason: 'first_byte_timeout', notProcessed: false }])
    expect(elapsedMs).toBeGreaterThan(390)
    expect(elapsedMs).toBeLessThan(2_000)
    await pause(50)
    expect(upstream.closes).toHaveLength(1)
  })

  test('half a head: first_byte_timeout', async () => {
    events.target = target(upstream.port, { timers: QUICK })
    upstream.answer = (_request, socket) => socket.write('HTTP/1.1 200 OK\r\nx-a: ')
    expect((await get()).answers[0]!.status).toBe(504)
  })

  test('idle_timeout inside a body: the client sees a broken transfer', async () => {
    events.target = target(upstream.port, { timers: QUICK })
    upstream.answer = (_request, socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc')
    const connection = await openRaw(gateway.port)
    connection.send(`GET / HTTP/1.1\r\n${HOST}\r\n`)
    expect(await connection.closed(2_000)).toBe(true)
    expect((await connection.answers(1, 0))[0]).toMatchObject({ body: 'abc', isComplete: false })
    expect(events.done[0]!.record).toMatchObject({ end: 'truncated', failure: { reason: 'idle_timeout' } })
  })

  test('idle time does not run while the client is the slow one', async () => {
    events.target = target(upstream.port, { timers: QUICK })
    const total = 30 * 1024 * 1024
    upstream.answer = (_request, socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${total}\r\n\r\n`)
      socket.write(Buffer.alloc(total, 97))
    }
    const connection = await openRaw(gateway.port, { reads: false })
    connection.send(`GET / HTTP/1.1\r\n${HOST}\r\n`)
    await pause(1_500)
    let received = 0
    connection.socket.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
    await eventually(() => received > total, 10_000)
    expect(received).toBeGreaterThan(total)
    connection.destroy()
  })

  test.each([
    ['reset before a head', (socket: Socket) => socket.resetAndDestroy(), 'upstream_reset'],
    ['closed before a head', (socket: Socket) => socket.end(), 'upstream_reset'],
    ['no HTTP', (socket: Socket) => socket.write('hello\r\n\r\n'), 'upstream_bad_response'],
    [
      'two lengths',
      (socket: Socket) => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok'),
      'upstream_bad_response',
    ],
    [
      'CL and TE',
      (socket: Socket) =>
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n'),
      'upstream_bad_response',
    ],
    [
      'a bare LF',
      (socket: Socket) => socket.write('HTTP/1.1 200 OK\r\nx: a\nset-cookie: b\r\ncontent-length: 2\r\n\r\nok'),
      'upstream_bad_response',
    ],
    [
      '101 unasked',
      (socket: Socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'),
      'upstream_bad_response',
    ],
    [
      'a huge head',
      (socket: Socket) => socket.write(`HTTP/1.1 200 OK\r\nx: ${'a'.repeat(200_000)}\r\ncontent-length: 0\r\n\r\n`),
      'upstream_bad_response',
    ],
    [
      'many interim answers',
      (socket: Socket) => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(40)),
      'upstream_bad_response',
    ],
  ] as const)('H-35 %s', async (_name, misbehave, reason) => {
    upstream.answer = (_request, socket) => misbehave(socket)
    const { answers } = await get()
    expect(answers[0]!.status).toBe(502)
    expect(events.failures).toMatchObject([{ reason, notProcessed: false }])
    upstream.reset()
    expect((await get('/next')).answers[0]!.body).toBe('GET /next\n0 bytes\n')
  })

  test('H-62 interim answers are dropped', async () => {
    upstream.answer = (_request, socket) =>
      socket.write(
        'HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 102 X\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok',
      )
    const { answers } = await get()
    expect(answers).toHaveLength(1)
    expect(answers[0]!.body).toBe('ok')
  })
})

describe('TLS (H-56)', () => {
  let folder = ''
  let port = 0
  let server: ReturnType<typeof createTlsServer> | undefined
  let ca = ''
  let names: unknown[] = []

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-tls-'))
    const key = join(folder, 'key.pem')
    const certificate = join(folder, 'cert.pem')
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
        '-days',
        '2',
        '-keyout',
        key,
        '-out',
        certificate,
        '-subj',
        '/CN=up.test',
        '-addext',
        'subjectAltName=DNS:up.test',
      ],
      { stdio: 'ignore' },
    )
    ca = readFileSync(certificate, 'utf8')
    server = createTlsServer({ key: readFileSync(key), cert: ca }, (socket) => {
      names.push(socket.servername)
      socket.on('error', () => {})
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntls'))
    })
    await new Promise<void>((resolve) => {
      server!.listen(0, '127.0.0.1', resolve)
    })
    port = (server.address() as { port: number }).port
  })
  afterAll(() => {
    server?.close()
    rmSync(folder, { recursive: true, force: true })
  })
  beforeEach(() => {
    names = []
  })

  const over = (tls: UpstreamTarget['tls']): UpstreamTarget => target(port, { protocol: 'https', tls })

  test('a certificate of an unknown authority: tls_failed', async () => {
    events.target = over({ verify: true, serverName: 'up.test' })
    expect((await get()).answers[0]!.status).toBe(502)
    expect(events.failures).toMatchObject([{ reason: 'tls_failed', notProcessed: true }])
  })

  test('the right authority, the wrong name: tls_failed', async () => {
    events.target = over({ verify: true, ca, serverName: 'other.test' })
    expect((await get()).answers[0]!.status).toBe(502)
    expect(events.failures).toMatchObject([{ reason: 'tls_failed' }])
  })

  test("authority and name right: SNI is the upstream's, whatever Host says (H-54)", async () => {
    events.target = over({ verify: true, ca, serverName: 'up.test' })
    expect((await get()).answers[0]!.body).toBe('tls')
    await exchangeRaw(gateway.port, 'GET / HTTP/1.1\r\nHost: public.test\r\n\r\n')
    expect(names).toEqual(['up.test'])
  })

  test('verification switched off', async () => {
    events.target = over({ verify: false })
    expect((await get()).answers[0]!.body).toBe('tls')
  })

  test('no TLS on the other side: tls_failed', async () => {
    const plain = createServer((socket) => socket.on('error', () => {}).end('plain'))
    await new Promise<void>((resolve) => {
      plain.listen(0, '127.0.0.1', resolve)
    })
    const { port: plainPort } = plain.address() as { port: number }
    events.target = target(plainPort, { protocol: 'https', tls: { verify: true } })
    expect((await get()).answers[0]!.status).toBe(502)
    expect(events.failures).toMatchObject([{ reason: 'tls_failed' }])
    plain.close()
  })
})
