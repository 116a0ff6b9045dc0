/**
 * What only the native front end does: HTTP/1.0, pipelining in order, interim answers, tunnels, its own timers and refusals.
 *
 * Engine: native, and in every run.
 */
import { createServer, type Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eventually, exchangeRaw, openRaw, type RawConnection } from '../../support/raw-client.ts'
import { answerText, type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { PlainEvents, startWireGateway, target, WIRE_LIMITS, type WireGateway } from '../../support/wire-gateway.ts'

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const HOST = 'Host: gw.test\r\n'
const GET = `GET / HTTP/1.1\r\n${HOST}\r\n`

let upstream: EchoUpstream
let gateway: WireGateway<PlainEvents>
let events: PlainEvents

beforeAll(async () => {
  upstream = await startEchoUpstream()
})
afterAll(() => upstream.close())
beforeEach(() => upstream.reset())

async function start(options: Omit<NonNullable<Parameters<typeof startWireGateway>[2]>, 'engine'> = {}): Promise<void> {
  gateway = await startWireGateway(new PlainEvents(), target(upstream.port), { ...options, engine: 'native' })
  events = gateway.events
}

async function stop(): Promise<void> {
  expect(gateway.errors).toEqual([])
  await gateway.close()
}

describe('requests', () => {
  beforeAll(() => start())
  afterAll(stop)

  test('H-51 pipelined requests are answered in order, however late the first', async () => {
    upstream.answer = (request, socket) => {
      const answer = (): boolean => socket.write(answerText(200, request.target))
      if (request.target === '/1') setTimeout(answer, 100)
      else answer()
    }
    const connection = await openRaw(gateway.port)
    connection.send(
      `GET /1 HTTP/1.1\r\n${HOST}\r\nPOST /2 HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx-t: 1\r\n\r\nGET /3 HTTP/1.1\r\n${HOST}\r\n`,
    )
    const answers = await connection.answers(3)
    expect(answers.map((answer) => answer.body)).toEqual(['/1', '/2', '/3'])
    expect(upstream.complete.map((request) => [request.target, request.body])).toEqual([
      ['/1', ''],
      ['/2', 'abc'],
      ['/3', ''],
    ])
    expect(connection.isClosed).toBe(false)
    connection.destroy()
  })

  test('H-51, H-53 of pipelined requests the one that asks to close is the last', async () => {
    const connection = await openRaw(gateway.port)
    const close = GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n')
    connection.send(`${GET}${close}${GET.replace('/ ', '/third ')}`)
    const answers = await connection.answers(3)
    expect(answers.map((answer) => [answer.status, answer.field('connection')])).toEqual([
      [200, undefined],
      [200, 'close'],
    ])
    expect(await connection.closed()).toBe(true)
    expect(upstream.complete.map(({ target: path }) => path)).toEqual(['/', '/'])
  })

  test('H-08, H-53 HTTP/1.0 is answered and closed, or kept when asked for and the length is known', async () => {
    const once = await exchangeRaw(gateway.port, 'GET /old HTTP/1.0\r\n\r\n')
    expect(once.answers[0]).toMatchObject({ status: 200, isChunked: false })
    expect(once.isClosed).toBe(true)
    const connection = await openRaw(gateway.port)
    connection.send(`GET /a HTTP/1.0\r\n${HOST}Connection: keep-alive\r\n\r\n`)
    const [first] = await connection.answers(1)
    expect(first!.field('connection')).toBe('keep-alive')
    upstream.answer = (_request, socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n')
      setTimeout(() => socket.write('3\r\ndef\r\n0\r\n\r\n'), 30)
    }
    connection.send(`GET /b HTTP/1.0\r\n${HOST}Connection: keep-alive\r\n\r\n`)
    expect(await connection.closed()).toBe(true)
    // H-32: its end is the connection's
    const [, second] = await connection.answers(2)
    expect(second).toMatchObject({ status: 200, body: 'abcdef', isChunked: false })
    expect(second!.field('connection')).toBe('close')
  })

  test('H-33 an answer to HTTP/1.0 that breaks off looks like it', async () => {
    upstream.answer = (_request, socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n')
      setTimeout(() => socket.destroy(), 30)
    }
    const connection = await openRaw(gateway.port)
    let isReset = false
    connection.socket.on('error', (error: NodeJS.ErrnoException) => {
      isReset = error.code === 'ECONNRESET'
    })
    connection.send(`GET /b HTTP/1.0\r\n${HOST}\r\n`)
    expect(await connection.closed()).toBe(true)
    expect(isReset).toBe(true)
  })

  test('H-11 an absolute target gives the host', async () => {
    const { answers } = await exchangeRaw(gateway.port, `GET http://other.test/x?y HTTP/1.1\r\n${HOST}\r\n`)
    expect(answers[0]!.status).toBe(200)
    expect(upstream.complete[0]).toMatchObject({ target: '/x?y' })
    expect(upstream.complete[0]!.all('host')).toEqual(['other.test'])
  })

  test('H-02, H-24, H-25 malformed heads and chunks are 400 at once, and recorded', async () => {
    events.refused.length = 0
    const bad = await exchangeRaw(gateway.port, 'GET / HTTP/1.1\nHost: gw.test\r\n\r\n')
    expect(bad.answers.map((answer) => answer.status)).toEqual([400])
    expect(bad.isClosed).toBe(true)
    expect(events.refused).toMatchObject([{ status: 400, reason: 'bad_request:H-02', peerAddress: '127.0.0.1' }])
    const chunk = await exchangeRaw(
      gateway.port,
      `POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n`,
    )
    expect(chunk.answers.map((answer) => answer.status)).toEqual([400])
    expect(chunk.isClosed).toBe(true)
    expect(events.refused[1]).toMatchObject({ status: 400, reason: 'bad_request:H-25', requestLine: 'POST /c' })
    events.done.length = 0
    const late = await openRaw(gateway.port)
    late.send(`POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n3\r\n`)
    expect(await eventually(() => upstream.requests.length === 1)).toBe(true)
    late.send('abcX')
    expect(await late.closed()).toBe(true)
    expect((await late.answers(1))[0]!.status).toBe(400)
    expect(events.done[0]!.record).toMatchObject({ status: 400, reason: 'bad_request:H-25' })
    expect(upstream.complete).toEqual([])
  })

  test('H-61 100 Continue is sent when the body is wanted, and not before a refusal', async () => {
    const connection = await openRaw(gateway.port)
    connection.send(`POST /e HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n`)
    expect(await eventually(() => connection.received === 'HTTP/1.1 100 Continue\r\n\r\n')).toBe(true)
    connection.send('hello')
    const [answer] = await connection.answers(1)
    expect(answer!.body).toBe('POST /e\n5 bytes\nhello')
    connection.destroy()
    const original = events.onRequest
    events.onRequest = (handle) => events.frontEnd.respond(handle, 'HTTP/1.1 403 Forbidden\r\n', 'no')
    const refused = await openRaw(gateway.port)
    refused.send(`POST /e HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n`)
    expect(await refused.closed()).toBe(true)
    expect(refused.received.startsWith('HTTP/1.1 403 ')).toBe(true)
    expect(refused.received).not.toContain('100 Continue')
    events.onRequest = original
  })

  test('H-62 103 comes before the answer, for clients of 1.1 only', async () => {
    upstream.answer = (_request, socket) => {
      socket.write('HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-a\r\nx-a: 1\r\n\r\n')
      setTimeout(() => socket.write(answerText(200, 'ok')), 30)
    }
    const modern = await exchangeRaw(gateway.port, GET)
    expect(modern.received).toMatch(
      /^HTTP\/1\.1 103 Early Hints\r\nlink: <\/a\.css>; rel=preload\r\n\r\nHTTP\/1\.1 200 /,
    )
    const old = await exchangeRaw(gateway.port, `GET / HTTP/1.0\r\n${HOST}\r\n`)
    expect(old.received.startsWith('HTTP/1.1 200 ')).toBe(true)
  })

  test('H-58 the upstream’s Date is kept, else there is ours', async () => {
    upstream.answer = (_request, socket) =>
      socket.write(answerText(200, 'a', 'date: Thu, 01 Jan 1970 00:00:00 GMT\r\n'))
    const kept = await exchangeRaw(gateway.port, GET)
    expect(kept.answers[0]!.fields.filter(([name]) => name === 'date')).toEqual([
      ['date', 'Thu, 01 Jan 1970 00:00:00 GMT'],
    ])
    upstream.reset()
    const own = await exchangeRaw(gateway.port, GET)
    const dates = own.answers[0]!.fields.filter(([name]) => name === 'date')
    expect(dates).toHaveLength(1)
    expect(Math.abs(Date.parse(dates[0]![1]) - Date.now())).toBeLessThan(5_000)
  })

  test('H-14 200 fields pass, 201 are 431', async () => {
    const fields = (count: number): string =>
      Array.from({ length: count - 1 }, (_, index) => `x-${index}: 1\r\n`).join('')
    const most = await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}${fields(200)}\r\n`)
    const more = await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}${fields(201)}\r\n`)
    expect([most.answers[0]!.status, more.answers[0]!.status]).toEqual([200, 431])
  })

  test('H-125 a request, byte by byte, is the same request', async () => {
    const connection = await openRaw(gateway.port)
    for (const byte of `POST /b HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`) {
      connection.send(byte)
      await new Promise((resolve) => setImmediate(resolve))
    }
    const [answer] = await connection.answers(1)
    expect(answer!.body).toBe('POST /b\n5 bytes\nhello')
    connection.destroy()
  })

  test('whole addresses of both ends', async () => {
    events.peers.length = 0
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await connection.answers(1)
    expect(events.peers[0]).toEqual({
      address: '127.0.0.1',
      port: connection.socket.localPort,
      localAddress: '127.0.0.1',
      localPort: gateway.port,
    })
    connection.destroy()
  })
})

describe('T-23 clients that end their side', () => {
  beforeAll(() => start())
  afterAll(stop)
  beforeEach(() => (events.done.length = 0))

  const late = (ms: number): void => {
    upstream.answer = (_request, socket) => setTimeout(() => socket.write(answerText(200, 'late')), ms)
  }

  test.each([0, 60])('an answer reaches them, when the end comes %i ms after the request', async (afterMs) => {
    late(200)
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await pause(afterMs)
    connection.socket.end()
    const [answer] = await connection.answers(1)
    expect(answer).toMatchObject({ status: 200, body: 'late', isComplete: true })
    expect(await connection.closed()).toBe(true)
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    expect(events.done[0]!.record).toMatchObject({ status: 200, end: 'complete' })
    expect(gateway.frontEnd.connectionsOf(1)).toBe(0)
  })

  test('so do all answers to what was pipelined before it', async () => {
    late(50)
    const connection = await openRaw(gateway.port)
    connection.send(GET.repeat(3))
    connection.socket.end()
    expect((await connection.answers(3)).map(({ status }) => status)).toEqual([200, 200, 200])
    expect(await connection.closed()).toBe(true)
    expect(await eventually(() => events.done.length === 3)).toBe(true)
  })

  test('a large answer goes on when the end comes in the middle of it', async () => {
    const body = 'x'.repeat(8 << 20)
    upstream.answer = (_request, socket) => socket.write(answerText(200, body))
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await eventually(() => connection.received.length > 0)
    connection.socket.end()
    const [answer] = await connection.answers(1, 20_000)
    expect(answer!.body.length).toBe(body.length)
    expect(await connection.closed()).toBe(true)
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    expect(events.done[0]!.record).toMatchObject({ end: 'complete', responseBodyBytes: body.length })
  })

  test('O-62: one that is gone did not wait, whatever was written to it', async () => {
    late(100)
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await eventually(() => gateway.frontEnd.inFlight === 1)
    connection.destroy()
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    expect(events.done[0]!.record).toMatchObject({ end: 'client_abort' })
    expect(gateway.frontEnd.connectionsOf(1)).toBe(0)
  })

  test('O-62: one that goes inside a stream of events is noticed at the next', async () => {
    upstream.answer = (_request, socket) => {
      socket.on('error', () => undefined)
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n')
      const timer = setInterval(() => socket.write('9\r\ndata: 1\n\n\r\n'), 50)
      socket.on('close', () => clearInterval(timer))
    }
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await eventually(() => connection.received.includes('data: 1'))
    connection.destroy()
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    expect(events.done[0]!.record.end).toBe('client_abort')
  })

  /** Says when the gateway has closed its connection; answers nothing. */
  const upstreamThinks = (head = ''): void => {
    upstream.answer = (_request, socket) => {
      socket.on('error', () => undefined)
      if (head !== '') socket.write(head)
    }
  }
  const NDJSON =
    'HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n'

  test.each([
    ['before the first byte of its answer', ''],
    ['inside its answer', NDJSON],
  ])('an end that comes late and %s is a client that gave up: the upstream is free at once', async (_, head) => {
    upstreamThinks(head)
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await eventually(() => upstream.complete.length === 1 && connection.received.includes(head.slice(-8)))
    await pause(1_300)
    expect(upstream.closes).toEqual([])
    connection.socket.end()
    expect(await eventually(() => upstream.closes.length === 1)).toBe(true)
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    expect(events.done[0]!.record).toMatchObject({ end: 'client_abort', status: head === '' ? 0 : 200 })
    expect(gateway.frontEnd.connectionsOf(1)).toBe(0)
  })

  test('an answer later than that still reaches one that ended its side with the request', async () => {
    late(1_600)
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    connection.socket.end()
    expect((await connection.answers(1))[0]).toMatchObject({ status: 200, body: 'late', isComplete: true })
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    expect(events.done[0]!.record.end).toBe('complete')
  })

  test('the end that comes with a later request is that request’s', async () => {
    upstream.answer = (request, socket) =>
      setTimeout(() => socket.write(answerText(200, request.target)), request.target === '/' ? 1_600 : 0)
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await pause(1_300)
    connection.socket.end(GET.replace('/ ', '/second '))
    expect((await connection.answers(2)).map(({ body }) => body)).toEqual(['/', '/second'])
    expect(await connection.closed()).toBe(true)
  })

  test('one that goes while nothing moves is given up after the window of progress', async () => {
    await stop()
    await start({ progressWindowMs: 500 })
    upstream.answer = (_request, socket) => {
      socket.on('error', () => undefined)
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n')
    }
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await eventually(() => connection.received.includes('x'))
    connection.destroy()
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    expect(events.done[0]!.record.end).toBe('client_abort')
  })
})

describe('H-26 trailers', () => {
  beforeAll(() => start())
  afterAll(stop)

  const trailing = (length = ''): void => {
    upstream.answer = (_request, socket) =>
      socket.write(
        `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n${length}\r\n2\r\nhi\r\n0\r\nX-Sum: abc\r\nSet-Cookie: a=1\r\n\r\n`,
      )
  }

  test('of an answer reach a client that said TE: trailers, and the upstream hears of it (H-50)', async () => {
    trailing()
    const connection = await openRaw(gateway.port)
    connection.send(`GET / HTTP/1.1\r\n${HOST}TE: gzip, trailers\r\nConnection: TE\r\n\r\n`)
    expect(await eventually(() => connection.received.includes('\r\n0\r\n'))).toBe(true)
    expect(connection.received).toMatch(/\r\n\r\n2\r\nhi\r\n0\r\nx-sum: abc\r\n\r\n$/)
    expect(connection.received).toContain('\r\ntransfer-encoding: chunked\r\n')
    expect(upstream.complete.at(-1)!.head).toContain('\r\nte: trailers\r\nconnection: te\r\n')
    // the connection goes on
    connection.send(GET)
    expect(await connection.answers(1)).toHaveLength(1)
    connection.destroy()
  })

  test.each([
    ['did not say so', `GET / HTTP/1.1\r\n${HOST}\r\n`],
    ['speaks HTTP/1.0', `GET / HTTP/1.0\r\n${HOST}TE: trailers\r\n\r\n`],
    ['asks for a head only', `HEAD / HTTP/1.1\r\n${HOST}TE: trailers\r\n\r\n`],
  ])('not one that %s', async (_, request) => {
    trailing()
    const { received } = await exchangeRaw(gateway.port, request)
    expect(received).toMatch(/^HTTP\/1\.1 200 /)
    expect(received).not.toMatch(/x-sum|set-cookie/)
    if (!request.includes('TE: ')) expect(upstream.complete.at(-1)!.head).not.toMatch(/\nte: /)
  })

  const SENT = `3\r\nabc\r\n0\r\nX-Sum: 7\r\nX-Hop: 1\r\nCookie: a=1\r\nContent-Length: 9\r\nX_Sum: 8\r\n\r\n`

  test('of a request reach an upstream of HTTP/1.1, announced, but for those that stop here', async () => {
    const connection = await openRaw(gateway.port)
    connection.send(
      `POST /t HTTP/1.1\r\n${HOST}Trailer: X-Sum, Cookie\r\nTrailer: x-hop\r\nConnection: X-Hop\r\nTransfer-Encoding: chunked\r\n\r\n${SENT}`,
    )
    expect((await connection.answers(1))[0]!.status).toBe(200)
    const [heard] = upstream.complete
    expect(heard).toMatchObject({ body: 'abc', trailers: 'x-sum: 7\r\n' })
    expect(heard!.all('trailer')).toEqual(['x-sum'])
    expect(heard!.head).not.toMatch(/\n(?:te|x-hop): /)
    // the connections of both sides go on
    connection.send(GET)
    expect(await connection.answers(2)).toHaveLength(2)
    expect(upstream.raw).toHaveLength(1)
    connection.destroy()
  })

  test('of a request that waited for its policy, or goes to a second server', async () => {
    const original = events.onRequest
    events.onRequest = (handle, head) => {
      events.frontEnd.readRequestBody(handle, 1)
      events.onRequestBody = () => setTimeout(() => events.frontEnd.forward(handle, events.target, head), 50)
    }
    const connection = await openRaw(gateway.port)
    connection.send(`POST /t HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n${SENT}`)
    expect((await connection.answers(1))[0]!.status).toBe(200)
    expect(upstream.complete[0]).toMatchObject({ body: 'abc', trailers: 'x-sum: 7\r\nx-hop: 1\r\n' })
    expect(upstream.complete[0]!.all('trailer')).toEqual([])
    events.onRequest = original
    delete (events as { onRequestBody?: unknown }).onRequestBody
    connection.destroy()
  })

  test('an answer of our own has none of the upstream’s', async () => {
    trailing()
    events.onResponse = (handle) =>
      setTimeout(() => gateway.frontEnd.respond(handle, 'HTTP/1.1 403 Forbidden\r\n', 'no'), 50)
    const { received } = await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}TE: trailers\r\n\r\n`)
    expect(received).toMatch(/^HTTP\/1\.1 403 /)
    expect(received).not.toContain('x-sum')
    delete (events as { onResponse?: unknown }).onResponse
  })
})

describe('timers and drain', () => {
  const timers = { headMs: 600, idleMs: 600, progressMs: 60_000 }

  test('H-81 half a head: 408 and a record; an idle or silent connection just closes', async () => {
    await start({ limits: { timers } })
    const [half, idle, silent] = [await openRaw(gateway.port), await openRaw(gateway.port), await openRaw(gateway.port)]
    half.send('GET /slow HTTP/1.1\r\nHos')
    idle.send(GET)
    await idle.answers(1)
    const length = idle.received.length
    expect(await half.closed()).toBe(true)
    expect(half.received).toMatch(/^HTTP\/1\.1 408 Request Timeout\r\n[^]*connection: close\r\n/)
    expect(events.refused).toMatchObject([{ status: 408, reason: 'bad_request:H-81', requestLine: 'GET /slow' }])
    expect(await idle.closed()).toBe(true)
    expect(idle.received.length).toBe(length)
    expect(await silent.closed()).toBe(true)
    expect(silent.received).toBe('')
    await stop()
  })

  test('O-21 drain closes connections between requests at once', async () => {
    await start()
    const idle = await openRaw(gateway.port)
    idle.send(GET)
    await idle.answers(1)
    upstream.answer = (_request, socket) => setTimeout(() => socket.write(answerText(200, 'late')), 100)
    const busy = await openRaw(gateway.port)
    busy.send(GET)
    await eventually(() => gateway.frontEnd.inFlight === 1)
    gateway.frontEnd.drain()
    expect(await idle.closed(1_000)).toBe(true)
    const [answer] = await busy.answers(1)
    expect(answer).toMatchObject({ status: 200, body: 'late' })
    expect(answer!.field('connection')).toBe('close')
    expect(await busy.closed()).toBe(true)
    expect(await eventually(() => gateway.frontEnd.connectionsOf(1) === 0)).toBe(true)
    await stop()
  })
})

describe('PROXY protocol', () => {
  beforeAll(() => start({ proxyProtocol: true }))
  afterAll(stop)

  test('version 1, and version 2, name both ends', async () => {
    const { answers } = await exchangeRaw(gateway.port, `PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n${GET}`)
    expect(answers[0]!.status).toBe(200)
    expect(events.peers.at(-1)).toMatchObject({
      address: '127.0.0.1',
      proxiedAddress: '203.0.113.9',
      proxiedPort: 4711,
      localAddress: '198.51.100.1',
      localPort: 443,
    })
    const header = Buffer.concat([
      Buffer.from('\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c', 'latin1'),
      Buffer.from([203, 0, 113, 8, 10, 0, 0, 1, 0x12, 0x67, 0, 80]),
    ])
    await exchangeRaw(gateway.port, Buffer.concat([header, Buffer.from(GET)]))
    expect(events.peers.at(-1)).toMatchObject({ proxiedAddress: '203.0.113.8', proxiedPort: 4711, localPort: 80 })
  })

  test('no header: closed without an answer, recorded', async () => {
    events.refused.length = 0
    const { received, isClosed } = await exchangeRaw(gateway.port, GET)
    expect([received, isClosed]).toEqual(['', true])
    expect(events.refused).toMatchObject([{ status: 0, reason: 'bad_request:O-71' }])
  })
})

describe('tunnels (H-60, H-91)', () => {
  const UPGRADE = `GET /ws HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n`
  beforeAll(() => start({ limits: { webSocket: { ...WIRE_LIMITS.webSocket, maxOpen: 1 } } }))
  afterAll(stop)

  /** Says 101 and then what it hears, twice over. */
  async function tunnelUpstream(): Promise<{ port: number; heard: () => string; close: () => Promise<void> }> {
    let heard = ''
    const server = createServer((socket) => {
      let isOpen = false
      socket.on('error', () => {})
      socket.on('data', (chunk: Buffer) => {
        heard += chunk.toString('latin1')
        if (isOpen) socket.write(Buffer.concat([chunk, chunk]))
        if (isOpen || !heard.includes('\r\n\r\n')) return
        isOpen = true
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: chat\r\n\r\nhello',
        )
      })
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    const close = (): Promise<void> => new Promise((resolve) => server.close(() => resolve()))
    return { port: (server.address() as { port: number }).port, heard: () => heard, close }
  }

  test('bytes pass both ways as they are; one more than may be open is 503; the end passes, too', async () => {
    const far = await tunnelUpstream()
    events.target = target(far.port)
    events.done.length = 0
    const connection = await openRaw(gateway.port)
    connection.send(`${UPGRADE}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\nearly`)
    expect(await eventually(() => connection.received.includes('helloearlyearly'))).toBe(true)
    expect(connection.received).toMatch(/^HTTP\/1\.1 101 /)
    expect(connection.received).toContain('\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n')
    expect(connection.received).toContain('\r\nconnection: upgrade\r\nupgrade: websocket\r\n')
    expect(far.heard()).toContain('sec-websocket-extensions: permessage-deflate\r\n')
    const bytes = Buffer.from(Array.from({ length: 200_000 }, (_, index) => index % 256))
    const before = connection.received.length
    connection.send(bytes)
    expect(await eventually(() => connection.received.length === before + 400_000)).toBe(true)
    expect(gateway.frontEnd.openOf(1).webSockets).toBe(1)
    const second = await exchangeRaw(gateway.port, `${UPGRADE}\r\n`)
    expect(second.answers[0]!.status).toBe(503)
    connection.socket.end()
    expect(await connection.closed()).toBe(true)
    expect(await eventually(() => events.done.length === 2)).toBe(true)
    expect(events.done[1]!.record).toMatchObject({ status: 101, end: 'complete', requestBodyBytes: 200_005 })
    expect(gateway.frontEnd.openOf(1).webSockets).toBe(0)
    await far.close()
  })

  test('any other answer is an ordinary one, and what follows the request is no tunnel', async () => {
    events.target = target(upstream.port)
    const connection = await openRaw(gateway.port)
    connection.send(`${UPGRADE}\r\nGET /smuggled HTTP/1.1\r\n${HOST}\r\n`)
    const [answer] = await connection.answers(1)
    expect(answer).toMatchObject({ status: 200 })
    expect(answer!.field('connection')).toBe('close')
    expect(await connection.closed()).toBe(true)
    expect(upstream.complete.map((request) => request.target)).toEqual(['/ws'])
  })

  test('H-90 another version is 426', async () => {
    const { answers, isClosed } = await exchangeRaw(gateway.port, `${UPGRADE.replace('13', '12')}\r\n`)
    expect(answers[0]!.status).toBe(426)
    expect(answers[0]!.field('sec-websocket-version')).toBe('13')
    expect(isClosed).toBe(true)
  })
})

describe('O-21 tunnels and a drain', () => {
  const UPGRADE = `GET /ws HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`
  const GOING_AWAY = '\x88\x02\x03\xe9'
  let far: Socket | undefined
  let heard = ''
  const say = (text: string): boolean => far!.write(Buffer.from(text, 'latin1'))
  beforeEach(async () => {
    await start()
    heard = ''
    upstream.answer = (_request, socket) => {
      far = socket.on('data', (chunk: Buffer) => (heard += chunk.toString('latin1')))
      say(
        'HTTP/1.1 101 S\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n',
      )
    }
  })
  afterEach(stop)

  async function open(): Promise<{ connection: RawConnection; told: () => string }> {
    const connection = await openRaw(gateway.port)
    connection.send(UPGRADE)
    expect(await eventually(() => connection.received.endsWith('\r\n\r\n'))).toBe(true)
    const length = connection.received.length
    return { connection, told: () => connection.received.slice(length) }
  }

  test('the client hears 1001 at once, its answer and its end go up', async () => {
    const { connection, told } = await open()
    say('\x81\x02hi')
    expect(await eventually(() => told() === '\x81\x02hi')).toBe(true)
    gateway.frontEnd.drain()
    expect(await eventually(() => told() === `\x81\x02hi${GOING_AWAY}`)).toBe(true)
    connection.send('\x88\x82\0\0\0\0\x03\xe9')
    expect(await eventually(() => heard.endsWith('\x88\x82\0\0\0\0\x03\xe9'))).toBe(true)
    say('\x88\x02\x03\xe9')
    far!.end()
    expect(await connection.closed()).toBe(true)
    expect(told()).toBe(`\x81\x02hi${GOING_AWAY}`)
    expect(await eventually(() => events.done.length === 1)).toBe(true)
    expect(events.done[0]!.record).toMatchObject({ status: 101, end: 'complete', responseBodyBytes: 8 })
  })

  test('not inside a frame of the upstream, and nothing of it comes behind', async () => {
    const { connection, told } = await open()
    say('\x82\x7e\x01')
    expect(await eventually(() => told() === '\x82\x7e\x01')).toBe(true)
    gateway.frontEnd.drain()
    await pause(100)
    expect(told()).toBe('\x82\x7e\x01')
    say(`\x00${'x'.repeat(256)}\x81\x02hi`)
    expect(await eventually(() => told().length >= 264)).toBe(true)
    say('\x81\x02ho')
    await pause(50)
    expect(told()).toBe(`\x82\x7e\x01\x00${'x'.repeat(256)}${GOING_AWAY}`)
    connection.destroy()
  })

  test.each([
    ['are no frames', 'hello'],
    ['have said their last', '\x88\x00'],
  ])('bytes that %s get none between them', async (_, text) => {
    const { connection, told } = await open()
    say(text)
    expect(await eventually(() => told() === text)).toBe(true)
    gateway.frontEnd.drain()
    say('more')
    expect(await eventually(() => told() === `${text}more`)).toBe(true)
    connection.destroy()
  })
})

test('H-38 many megabytes each way against a side that does not move leave nothing in memory', async () => {
  await start()
  // The upstream reads nothing: the client is stopped.
  const silent = createServer((socket) => {
    socket.pause()
    socket.on('error', () => {})
  })
  await new Promise<void>((resolve) => {
    silent.listen(0, '127.0.0.1', resolve)
  })
  events.target = target((silent.address() as { port: number }).port)
  const connection = await openRaw(gateway.port)
  connection.send(`POST /up HTTP/1.1\r\n${HOST}Content-Length: 100000000\r\n\r\n`)
  const block = Buffer.alloc(1 << 20)
  let taken = 0
  let isStopped = false
  while (!isStopped && taken < 100) {
    taken++
    if (!connection.socket.write(block)) {
      const drained = new Promise<boolean>((resolve) => connection.socket.once('drain', () => resolve(true)))
      isStopped = !(await Promise.race([drained, pause(500).then(() => false)]))
    }
  }
  // what sockets hold on loopback, and no more
  expect(isStopped).toBe(true)
  expect(taken).toBeLessThan(40)
  connection.destroy()
  silent.close()
  await stop()
})
