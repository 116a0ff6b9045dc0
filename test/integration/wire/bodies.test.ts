/** Bodies both ways: holding, collecting, streaming, back-pressure, aborts. */
import type { Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ExchangeHandle, RequestFacts, ResponseFacts } from '../../../src/listener/front-end.ts'
import { eventually, exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { type EchoUpstream, echoAnswer, startEchoUpstream } from '../../support/echo-upstream.ts'
import { testCapabilities } from '../../support/test-engine.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const HOST = 'Host: gw.test\r\n'

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Bytes in buffers that are still in use; client, gateway and upstream share this process. */
async function heldBytes(): Promise<number> {
  // Buffers are freed in the background, some turns after their owners.
  for (let round = 0; round < 3; round++) {
    collectGarbage()
    await pause(30)
  }
  return process.memoryUsage().arrayBuffers
}

/**
 * How much more is in use than before. What nobody uses is freed in the background, which a busy machine does late: so a look
 * that finds more than `mostBytes` is taken again, for some seconds. What is in use stays.
 */
async function grownBytes(beforeBytes: number, mostBytes: number): Promise<number> {
  let grown = Infinity
  for (let look = 0; look < 50 && grown >= mostBytes; look++) grown = (await heldBytes()) - beforeBytes
  return grown
}

/** Until a count has stood still for a second. */
async function settled(count: () => number): Promise<void> {
  let last = -1
  while (last !== count()) {
    last = count()
    await pause(1_000)
  }
}

/** A gateway whose decisions a test sets per request. */
class ScriptedEvents extends PlainEvents {
  request: ((handle: ExchangeHandle, head: string, facts: RequestFacts) => void) | undefined
  requestBody: ((handle: ExchangeHandle, body: Uint8Array, complete: boolean) => void) | undefined
  response: ((handle: ExchangeHandle, head: string, facts: ResponseFacts) => void) | undefined
  responseBody: ((handle: ExchangeHandle, body: Uint8Array, complete: boolean) => void) | undefined

  override onRequest(handle: ExchangeHandle, head: string, facts: RequestFacts): void {
    if (this.request === undefined) super.onRequest(handle, head, facts)
    else this.request(handle, head, facts)
  }
  override onRequestBody(handle: ExchangeHandle, body: Uint8Array, complete: boolean): void {
    this.requestBody?.(handle, body, complete)
  }
  override onResponse(handle: ExchangeHandle, head: string, facts: ResponseFacts): void {
    if (this.response === undefined) super.onResponse(handle, head, facts)
    else this.response(handle, head, facts)
  }
  override onResponseBody(handle: ExchangeHandle, body: Uint8Array, complete: boolean): void {
    this.responseBody?.(handle, body, complete)
  }
}

let upstream: EchoUpstream
let gateway: WireGateway<ScriptedEvents>
let events: ScriptedEvents

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startWireGateway(new ScriptedEvents(), target(upstream.port))
  events = gateway.events
})
afterAll(async () => {
  expect(gateway.errors.filter((error) => !String(error).includes('planted'))).toEqual([])
  expect(gateway.frontEnd.inFlight).toBe(0)
  await gateway.close()
  await upstream.close()
})
beforeEach(() => {
  upstream.reset()
  events.request = events.requestBody = events.response = events.responseBody = undefined
  events.done.length = 0
  events.failures.length = 0
})

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const OK = 'HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n'

describe('request bodies', () => {
  test('collected whole, then sent upstream with its length', async () => {
    const seen: [string, boolean][] = []
    events.request = (handle) => events.frontEnd.readRequestBody(handle, 1_000)
    events.requestBody = (handle, body, complete) => {
      seen.push([text(body), complete])
      events.frontEnd.forward(handle, events.target, `POST /p HTTP/1.1\r\nhost: gw.test\r\n`)
    }
    const { answers } = await exchangeRaw(gateway.port, `POST /p HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello`)
    expect(seen).toEqual([['hello', true]])
    expect(answers[0]!.body).toBe('POST /p\n5 bytes\nhello')
  })

  test('a body that came while the gateway was still deciding leaves the connection readable for the next request', async () => {
    events.request = (handle) => {
      setTimeout(() => events.frontEnd.forward(handle, events.target, `POST /p HTTP/1.1\r\nhost: gw.test\r\n`), 20)
    }
    const connection = await openRaw(gateway.port)
    for (let count = 1; count <= 3; count++) {
      connection.send(`POST /p HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello`)
      expect((await connection.answers(count))[count - 1]!.body).toBe('POST /p\n5 bytes\nhello')
    }
    connection.destroy()
  })

  test('collected in part: the rest streams behind it', async () => {
    const seen: [number, boolean][] = []
    events.request = (handle) => events.frontEnd.readRequestBody(handle, 10_000)
    events.requestBody = (handle, body, complete) => {
      seen.push([body.length, complete])
      setTimeout(() => events.frontEnd.forward(handle, events.target, `POST /p HTTP/1.1\r\nhost: gw.test\r\n`), 30)
    }
    const connection = await openRaw(gateway.port)
    const body = Array.from({ length: 60_000 }, (_, index) => String.fromCharCode(97 + (index % 26))).join('')
    connection.send(`POST /p HTTP/1.1\r\n${HOST}Content-Length: ${body.length}\r\n\r\n`)
    for (let index = 0; index < body.length; index += 6_000) {
      connection.send(body.slice(index, index + 6_000))
      await pause(5)
    }
    await connection.answers(1)
    connection.destroy()
    expect(seen).toEqual([[10_000, false]])
    expect(upstream.complete[0]!.body).toBe(body)
    expect(upstream.complete[0]!.field('content-length')).toBe('60000')
  })

  test('a chunked body collected whole gets a length upstream (H-27, H-28)', async () => {
    events.request = (handle) => events.frontEnd.readRequestBody(handle, 1_000)
    events.requestBody = (handle) =>
      events.frontEnd.forward(handle, events.target, `POST /p HTTP/1.1\r\nhost: gw.test\r\n`)
    await exchangeRaw(
      gateway.port,
      `POST /p HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
    )
    expect(upstream.complete[0]!.field('content-length')).toBe('5')
    expect(upstream.complete[0]!.field('transfer-encoding')).toBeUndefined()
  })

  test("forward with a body of the gateway's own replaces the client's", async () => {
    events.request = (handle) =>
      events.frontEnd.forward(handle, events.target, 'PUT /o HTTP/1.1\r\nhost: gw.test\r\n', Buffer.from('own'))
    const { answers } = await exchangeRaw(gateway.port, `POST /p HTTP/1.1\r\n${HOST}Content-Length: 5\r\n\r\nhello`)
    expect(answers[0]!.body).toBe('PUT /o\n3 bytes\nown')
  })

  test('a body nobody asks for is held back, not piled up (H-38)', async () => {
    let held: ExchangeHandle = 0
    events.request = (handle) => {
      held = handle
    }
    const connection = await openRaw(gateway.port)
    connection.send(`POST /p HTTP/1.1\r\n${HOST}Content-Length: 50000000\r\n\r\n`)
    const block = Buffer.alloc(1_000_000, 120)
    for (let index = 0; index < 50; index++) connection.send(block)
    await pause(300)
    expect(connection.socket.writableLength).toBeGreaterThan(30_000_000)
    events.frontEnd.forward(held, events.target, 'POST /p HTTP/1.1\r\nhost: gw.test\r\n')
    const [answer] = await connection.answers(1, 20_000)
    expect(answer!.body.startsWith('POST /p\n')).toBe(true)
    expect(events.done[0]!.record.requestBodyBytes).toBe(50_000_000)
    connection.destroy()
  })

  test('H-36 a chunked body over the limit: 413, the upstream request breaks off', async () => {
    gateway.frontEnd.setLimits({ ...gateway.frontEnd.limits, bodyBytes: 1_000 })
    const connection = await openRaw(gateway.port)
    connection.send(`POST /p HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`)
    for (let index = 0; index < 5; index++) {
      connection.send(`12c\r\n${'x'.repeat(300)}\r\n`)
      await pause(20)
    }
    const [answer] = await connection.answers(1)
    expect(answer!.status).toBe(413)
    expect(await connection.closed(4_000)).toBe(true)
    const { answers } = await exchangeRaw(gateway.port, `POST /p HTTP/1.1\r\n${HOST}Content-Length: 1001\r\n\r\n`)
    expect(answers[0]!.status).toBe(413)
    gateway.frontEnd.setLimits({ ...gateway.frontEnd.limits, bodyBytes: 0 })
    expect(upstream.complete).toEqual([])
    expect(events.done[0]!.record).toMatchObject({ status: 413, end: 'complete' })
  })
})

describe('early answers (H-37)', () => {
  test('a small rest is drained and the connection goes on', async () => {
    events.request = (handle, head) => {
      if (head.startsWith('POST')) events.frontEnd.respond(handle, 'HTTP/1.1 403 Forbidden\r\n', 'no')
      else events.frontEnd.respond(handle, OK, 'yes')
    }
    const connection = await openRaw(gateway.port)
    connection.send(`POST /p HTTP/1.1\r\n${HOST}Content-Length: 30000\r\n\r\n`)
    const [first] = await connection.answers(1)
    expect(first!.status).toBe(403)
    expect(first!.field('connection')).toBeUndefined()
    connection.send('x'.repeat(30_000))
    connection.send(`GET /g HTTP/1.1\r\n${HOST}\r\n`)
    expect((await connection.answers(2)).map((answer) => answer.body)).toEqual(['no', 'yes'])
    connection.destroy()
  })

  test('a large rest: the answer reaches a client that is still writing, then the connection closes', async () => {
    events.request = (handle) => events.frontEnd.respond(handle, 'HTTP/1.1 403 Forbidden\r\n', 'no')
    const connection = await openRaw(gateway.port)
    connection.send(`POST /p HTTP/1.1\r\n${HOST}Content-Length: 10000000\r\n\r\n`)
    let sent = 0
    while (!connection.isClosed && sent < 10_000_000) {
      connection.send('x'.repeat(20_000))
      sent += 20_000
      await pause(5)
      if (connection.received.length > 0 && sent > 200_000) break
    }
    const [answer] = await connection.answers(1)
    expect(answer).toMatchObject({ status: 403, body: 'no', isComplete: true })
    expect(answer!.field('connection')).toBe('close')
    expect(await connection.closed(4_000)).toBe(true)
  })

  test('T-08 a final answer before the body that 100-continue announced closes', async () => {
    events.request = (handle) =>
      setTimeout(() => events.frontEnd.respond(handle, 'HTTP/1.1 403 Forbidden\r\n', 'no'), 20)
    const connection = await openRaw(gateway.port)
    connection.send(`POST /p HTTP/1.1\r\n${HOST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n`)
    const [answer] = await connection.answers(1)
    expect(answer!.field('connection')).toBe('close')
    expect(await connection.closed(4_000)).toBe(true)
    // F-14: the library has asked for the body by itself, once.
    expect(connection.received.split('100 Continue')).toHaveLength(testCapabilities.strict ? 1 : 2)
  })

  test.skipIf(testCapabilities.strict)(
    'an answer at once to a chunked request, with a second request behind it',
    async () => {
      events.request = (handle) => events.frontEnd.respond(handle, 'HTTP/1.1 403 Forbidden\r\n', 'no')
      const connection = await openRaw(gateway.port)
      connection.send(
        `POST /p HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET /second HTTP/1.1\r\n${HOST}\r\n`,
      )
      expect(await connection.closed(4_000)).toBe(true)
      expect(events.done).toHaveLength(1)
    },
  )

  test('an upstream that answers before the body is read', async () => {
    upstream.onHead = (_request, socket) =>
      socket.end('HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\nconnection: close\r\n\r\nstop')
    upstream.answer = () => {}
    const connection = await openRaw(gateway.port)
    connection.send(`POST /p HTTP/1.1\r\n${HOST}Content-Length: 500000\r\n\r\n${'x'.repeat(100_000)}`)
    const [answer] = await connection.answers(1)
    expect(answer).toMatchObject({ status: 401, body: 'stop' })
    expect(await connection.closed(4_000)).toBe(true)
  })
})

describe('response bodies', () => {
  test('collected whole before anything goes out', async () => {
    const seen: [string, boolean][] = []
    upstream.answer = (_request, socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc')
      setTimeout(() => socket.write('def'), 40)
    }
    events.response = (handle) => events.frontEnd.readResponseBody(handle, 100)
    events.responseBody = (handle, body, complete) => {
      seen.push([text(body), complete])
      events.frontEnd.continueResponse(handle, OK)
    }
    const { answers } = await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}\r\n`)
    expect(seen).toEqual([['abcdef', true]])
    expect(answers[0]).toMatchObject({ body: 'abcdef' })
    expect(answers[0]!.field('content-length')).toBe('6')
  })

  test('collected in part, the rest streams; replaced; refused', async () => {
    upstream.answer = (_request, socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: 30000\r\n\r\n${'a'.repeat(20_000)}`)
      setTimeout(() => socket.write('b'.repeat(10_000)), 30)
    }
    const parts: [number, boolean][] = []
    events.response = (handle) => events.frontEnd.readResponseBody(handle, 5_000)
    events.responseBody = (handle, body, complete) => {
      parts.push([body.length, complete])
      mode(handle)
    }
    let mode = (handle: ExchangeHandle): void => events.frontEnd.continueResponse(handle, OK)
    const whole = await exchangeRaw(gateway.port, `GET /part HTTP/1.1\r\n${HOST}\r\n`)
    expect(whole.answers[0]!.body).toBe('a'.repeat(20_000) + 'b'.repeat(10_000))
    mode = (handle) => events.frontEnd.continueResponse(handle, OK, Buffer.from('replaced'))
    const replaced = await exchangeRaw(gateway.port, `GET /part HTTP/1.1\r\n${HOST}\r\n`)
    expect(replaced.answers[0]).toMatchObject({ body: 'replaced' })
    expect(replaced.answers[0]!.field('content-length')).toBe('8')
    mode = (handle) => events.frontEnd.respond(handle, 'HTTP/1.1 403 Forbidden\r\n', 'blocked')
    const blocked = await exchangeRaw(gateway.port, `GET /part HTTP/1.1\r\n${HOST}\r\n`)
    expect(blocked.answers[0]).toMatchObject({ status: 403, body: 'blocked' })
    expect(blocked.received).not.toContain('aaa')
    expect(parts).toEqual([
      [5_000, false],
      [5_000, false],
      [5_000, false],
    ])
    expect(events.done.map(({ record }) => [record.end, record.responseBodyBytes])).toEqual([
      ['complete', 30_000],
      ['complete', 8],
      ['complete', 7],
    ])
  })

  test('a chunked answer that comes in pieces goes out in chunks, one that is all there gets a length', async () => {
    upstream.answer = (request, socket) => {
      const start = 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n'
      if (request.target === '/now') {
        socket.write(`${start}0\r\n\r\n`)
        return
      }
      socket.write(start)
      setTimeout(() => socket.write('3\r\ndef\r\n0\r\n\r\n'), 30)
    }
    const now = await exchangeRaw(gateway.port, `GET /now HTTP/1.1\r\n${HOST}\r\n`)
    expect(now.answers[0]).toMatchObject({ body: 'abc', isChunked: false, isComplete: true })
    expect(now.answers[0]!.field('content-length')).toBe('3')
    const later = await exchangeRaw(gateway.port, `GET /later HTTP/1.1\r\n${HOST}\r\n`)
    expect(later.answers[0]).toMatchObject({ body: 'abcdef', isChunked: true, isComplete: true })
    expect(later.isClosed).toBe(false)
  })

  test('H-32 an answer that ends with the connection becomes chunked', async () => {
    upstream.answer = (_request, socket) => {
      socket.write('HTTP/1.0 200 OK\r\n\r\nabc')
      setTimeout(() => socket.end('def'), 30)
    }
    const { answers } = await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}\r\n`)
    expect(answers[0]).toMatchObject({ body: 'abcdef', isChunked: true, isComplete: true })
  })

  test.each([
    ['of known length', 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc'],
    ['in chunks', 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n'],
  ])('H-33 a truncated answer %s is visibly broken', async (_name, bytes) => {
    upstream.answer = (_request, socket) => {
      socket.write(bytes)
      setTimeout(() => socket.destroy(), 40)
    }
    const connection = await openRaw(gateway.port)
    connection.send(`GET / HTTP/1.1\r\n${HOST}\r\n`)
    expect(await connection.closed(2_000)).toBe(true)
    const [answer] = await connection.answers(1, 0)
    expect(answer).toMatchObject({ status: 200, body: 'abc', isComplete: false })
    expect(events.done[0]!.record).toMatchObject({ end: 'truncated', status: 200, responseBodyBytes: 3 })
    expect(events.done[0]!.record.failure!.reason).toBe('upstream_reset')
  })
})

describe('aborts', () => {
  test('a client that goes away aborts the upstream within 100 ms', async () => {
    upstream.answer = (_request, socket) =>
      socket.write(
        'HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n',
      )
    for (const way of ['fin', 'reset'] as const) {
      upstream.closes.length = 0
      const connection = await openRaw(gateway.port)
      connection.send(`GET / HTTP/1.1\r\n${HOST}\r\n`)
      await eventually(() => connection.received.includes('abc'))
      const leftAtMs = performance.now()
      if (way === 'fin') connection.socket.end()
      else connection.socket.resetAndDestroy()
      await eventually(() => upstream.closes.length > 0, 1_000)
      expect(upstream.closes[0]!.atMs - leftAtMs).toBeLessThan(100)
    }
    expect(events.done.map(({ record }) => record.end)).toEqual(['client_abort', 'client_abort'])
    expect(gateway.frontEnd.inFlight).toBe(0)
  })

  test('H-30 a client that leaves in the middle of its upload breaks the upstream request', async () => {
    const connection = await openRaw(gateway.port)
    connection.send(`POST /p HTTP/1.1\r\n${HOST}Content-Length: 1000\r\n\r\n${'x'.repeat(500)}`)
    await eventually(() => upstream.requests.length > 0)
    connection.destroy()
    await pause(100)
    expect(upstream.complete).toEqual([])
    expect(upstream.closes).toHaveLength(1)
    expect(events.done[0]!.record.end).toBe('client_abort')
  })

  test('T-25 late calls for an exchange that is over do nothing', async () => {
    let late: ExchangeHandle = 0
    events.request = (handle) => {
      late = handle
    }
    const connection = await openRaw(gateway.port)
    connection.send(`GET / HTTP/1.1\r\n${HOST}\r\n`)
    await eventually(() => late !== 0)
    connection.destroy()
    await eventually(() => events.done.length > 0)
    events.frontEnd.respond(late, OK, 'late')
    events.frontEnd.continueResponse(late, OK)
    events.frontEnd.forward(late, events.target, 'GET / HTTP/1.1\r\nhost: a\r\n')
    events.frontEnd.readRequestBody(late, 1)
    events.frontEnd.readResponseBody(late, 1)
    events.frontEnd.abort(late)
    expect(events.frontEnd.peer(late).address).toBe('')
    expect(events.done).toHaveLength(1)
    await pause(20)
    expect(upstream.requests).toEqual([])
  })

  test('abort closes without an answer; respond twice answers once', async () => {
    events.request = (handle, head) => {
      if (head.startsWith('GET /abort')) events.frontEnd.abort(handle)
      else {
        events.frontEnd.respond(handle, OK, 'one')
        events.frontEnd.respond(handle, OK, 'two')
      }
    }
    const aborted = await exchangeRaw(gateway.port, `GET /abort HTTP/1.1\r\n${HOST}\r\n`)
    expect(aborted).toMatchObject({ received: '', isClosed: true })
    const { answers } = await exchangeRaw(gateway.port, `GET /twice HTTP/1.1\r\n${HOST}\r\n`)
    expect(answers.map((answer) => answer.body)).toEqual(['one'])
    expect(events.done.map(({ record }) => record.end)).toEqual(['aborted', 'complete'])
  })

  test('T-26 an exception in any event ends that exchange with 500 and no other', async () => {
    const planted = (): never => {
      throw new Error('planted')
    }
    const steps: (() => void)[] = [
      () => (events.request = planted),
      () => {
        events.request = (handle) => events.frontEnd.readRequestBody(handle, 10)
        events.requestBody = planted
      },
      () => (events.response = planted),
      () => {
        events.response = (handle) => events.frontEnd.readResponseBody(handle, 10)
        events.responseBody = planted
      },
    ]
    for (const step of steps) {
      events.request = events.requestBody = events.response = events.responseBody = undefined
      step()
      const { answers } = await exchangeRaw(gateway.port, `POST / HTTP/1.1\r\n${HOST}Content-Length: 1\r\n\r\na`)
      expect(answers.map((answer) => answer.status)).toEqual([500])
      expect(answers[0]!.body).toBe('internal error\n')
    }
    expect(events.done.map(({ record }) => record.status)).toEqual([500, 500, 500, 500])
    expect(gateway.errors.filter((error) => String(error).includes('planted'))).toHaveLength(4)
  })

  test('heads that could be two for somebody are refused on their way out (H-123)', async () => {
    events.request = (handle) =>
      events.frontEnd.forward(handle, events.target, 'GET / HTTP/1.1\r\nhost: a\r\nx: planted\nevil: 1\r\n')
    const { answers } = await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}\r\n`)
    expect(answers[0]!.status).toBe(500)
    expect(upstream.requests).toEqual([])
    gateway.errors.length = 0
  })
})

describe('streams', () => {
  test('H-39 events 20 ms apart arrive one by one, and leave nothing behind', async () => {
    const sentAtMs: number[] = []
    upstream.answer = (_request, socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n')
      let count = 0
      const timer = setInterval(() => {
        sentAtMs.push(performance.now())
        socket.write('10\r\ndata: 012345678\n\r\n')
        if (++count < 150) return
        clearInterval(timer)
        socket.write('0\r\n\r\n')
      }, 20)
    }
    const connection = await openRaw(gateway.port)
    connection.send(`GET /events HTTP/1.1\r\n${HOST}\r\n`)
    const [answer] = await connection.answers(1, 10_000)
    expect(answer!.body.length).toBe(150 * 16)
    const arrivals = connection.arrivals.filter((arrival) => arrival.text.includes('data:'))
    // those that come together do so because the machine is busy: what holds them back would join most of them
    expect(arrivals.length).toBeGreaterThanOrEqual(100)
    let seen = 0
    const delays = arrivals
      // an arrival that holds several events speaks for its last one
      .map((arrival) => {
        seen += arrival.text.split('data:').length - 1
        return arrival.atMs - sentAtMs[seen - 1]!
      })
      .sort((a, b) => a - b)
    console.log(
      `SSE: added delay p50 ${delays[delays.length >> 1]!.toFixed(2)} ms, p99 ${delays.at(-2)!.toFixed(2)} ms`,
    )
    // half of them wait less than until the next; the bound at p99 is measured by `npm run bench -- --scenario sse`
    expect(delays[delays.length >> 1]!).toBeLessThan(20)
    connection.destroy()
  })

  test('H-38 64 MB to a client that reads nothing for a time: memory stays flat, then everything arrives', async () => {
    const total = 64 * 1024 * 1024
    const block = Buffer.alloc(64 * 1024, 121)
    let produced = 0
    upstream.answer = (_request, socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${total}\r\n\r\n`)
      const fill = (): void => {
        while (produced < total) {
          produced += block.length
          if (!socket.write(block)) {
            socket.once('drain', fill)
            return
          }
        }
      }
      fill()
    }
    const connection = await openRaw(gateway.port, { reads: false })
    const beforeBytes = await heldBytes()
    connection.send(`GET /large HTTP/1.1\r\n${HOST}\r\n`)
    await settled(() => produced)
    const grown = await grownBytes(beforeBytes, 1024 * 1024)
    // What sits in kernel buffers is nobody's memory here; the upstream must have been stopped.
    console.log(`64 MB down: upstream had sent ${(produced / 1e6).toFixed(1)} MB, ${(grown / 1e6).toFixed(2)} MB held`)
    expect(produced).toBeLessThan(24 * 1024 * 1024)
    expect(grown).toBeLessThan(1024 * 1024)
    let received = 0
    connection.socket.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
    await eventually(() => received > total, 20_000)
    expect(received).toBeGreaterThan(total)
    connection.destroy()
    await eventually(() => events.done.length > 0)
    expect(events.done[0]!.record).toMatchObject({ end: 'complete', responseBodyBytes: total })
  }, 40_000)

  test('H-38 the same in chunks, to a client that is slow and then goes away', async () => {
    const block = `10000\r\n${'z'.repeat(65_536)}\r\n`
    let produced = 0
    upstream.answer = (_request, socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n')
      const fill = (): void => {
        while (produced < 64 * 1024 * 1024 && !socket.destroyed) {
          produced += 65_536
          if (!socket.write(block)) {
            socket.once('drain', fill)
            return
          }
        }
      }
      fill()
    }
    const connection = await openRaw(gateway.port, { reads: false })
    connection.send(`GET /large HTTP/1.1\r\n${HOST}\r\n`)
    await settled(() => produced)
    expect(produced).toBeLessThan(24 * 1024 * 1024)
    connection.socket.resetAndDestroy()
    await pause(150)
    expect(upstream.closes).toHaveLength(1)
    expect(events.done[0]!.record.end).toBe('client_abort')
  })

  test('H-38 64 MB to an upstream that reads nothing for a time: the client is stopped', async () => {
    const total = 64 * 1024 * 1024
    const stalled: Socket[] = []
    upstream.onConnection = (socket) => {
      socket.pause()
      stalled.push(socket)
    }
    upstream.answer = echoAnswer
    // The connection must be a new one, so that the upstream stalls from its first byte.
    const fresh = await startWireGateway(new PlainEvents(), target(upstream.port))
    const connection = await openRaw(fresh.port)
    connection.send(`POST /up HTTP/1.1\r\n${HOST}Content-Length: ${total}\r\n\r\n`)
    const block = Buffer.alloc(1024 * 1024, 120)
    let given = 0
    const feed = (): void => {
      while (given < total) {
        given += block.length
        if (!connection.socket.write(block)) {
          connection.socket.once('drain', feed)
          return
        }
      }
    }
    feed()
    let grown = Infinity
    // a second without a byte may be a busy machine's; then it has not stood still yet
    for (let look = 0; look < 5 && grown >= 1024 * 1024; look++) {
      await settled(() => given)
      const beforeBytes = await heldBytes()
      await pause(1_000)
      grown = (await heldBytes()) - beforeBytes
    }
    console.log(`64 MB up: client had sent ${(given / 1e6).toFixed(1)} MB, ${(grown / 1e6).toFixed(2)} MB more held`)
    expect(given).toBeLessThan(32 * 1024 * 1024)
    expect(grown).toBeLessThan(1024 * 1024)
    for (const socket of stalled) socket.resume()
    const [answer] = await connection.answers(1, 20_000)
    expect(answer!.body.startsWith('POST /up\n')).toBe(true)
    connection.destroy()
    await fresh.close()
  }, 40_000)
})

/** Each has an upstream and a gateway of its own: they wait at the same time. */
describe.concurrent('streams that take their time', () => {
  async function sideBySide(
    options: Parameters<typeof startWireGateway>[2] = {},
  ): Promise<{ upstream: EchoUpstream; gateway: WireGateway<PlainEvents>; close: () => Promise<void> }> {
    const own = await startEchoUpstream()
    const wire = await startWireGateway(new PlainEvents(), target(own.port), options)
    const close = async (): Promise<void> => {
      expect(wire.errors).toEqual([])
      await wire.close()
      await own.close()
    }
    return { upstream: own, gateway: wire, close }
  }

  test('F-19 a first byte after 11 seconds and a pause of 11 seconds survive', async () => {
    const { upstream: own, gateway: slow, close } = await sideBySide()
    own.answer = (_request, socket) => {
      setTimeout(() => socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n'), 11_000)
      setTimeout(() => socket.write('3\r\ndef\r\n0\r\n\r\n'), 22_000)
    }
    const connection = await openRaw(slow.port)
    connection.send(`GET /slow HTTP/1.1\r\n${HOST}\r\n`)
    const [answer] = await connection.answers(1, 30_000)
    expect(answer).toMatchObject({ body: 'abcdef', isComplete: true })
    connection.destroy()
    await close()
  }, 40_000)

  test('F-10 uploads of 500 B/s live longer than the 10 seconds of the library, chunked ones too', async () => {
    const { gateway: slow, close } = await sideBySide()
    const uploads = ['Content-Length: 7000', 'Transfer-Encoding: chunked'].map(async (framing) => {
      const connection = await openRaw(slow.port)
      connection.send(`POST /slow HTTP/1.1\r\n${HOST}${framing}\r\n\r\n`)
      const isChunked = framing.startsWith('T')
      for (let sent = 0; sent < 7_000; sent += 50) {
        connection.send(isChunked ? `32\r\n${'x'.repeat(50)}\r\n` : 'x'.repeat(50))
        await pause(100)
      }
      if (isChunked) connection.send('0\r\n\r\n')
      const [answer] = await connection.answers(1)
      connection.destroy()
      return answer?.body.slice(0, 30)
    })
    expect(await Promise.all(uploads)).toEqual([
      `POST /slow\n7000 bytes\n${'x'.repeat(8)}`,
      `POST /slow\n7000 bytes\n${'x'.repeat(8)}`,
    ])
    await close()
  }, 40_000)

  test('H-83 an upload that is too slow gets 408, a client that reads nothing for too long is closed', async () => {
    const { upstream: own, gateway: strict, close } = await sideBySide({ progressWindowMs: 4_000 })
    const total = 30_000_000
    own.answer = (_request, socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${total}\r\n\r\n`)
      socket.write(Buffer.alloc(total, 97))
    }
    const upload = await openRaw(strict.port)
    upload.send(`POST /slow HTTP/1.1\r\n${HOST}Content-Length: 7000\r\n\r\n`)
    const timer = setInterval(() => upload.send('x'), 300)
    const download = await openRaw(strict.port, { reads: false })
    download.send(`GET / HTTP/1.1\r\n${HOST}\r\n`)
    const [answer] = await upload.answers(1, 14_000)
    clearInterval(timer)
    expect(answer!.status).toBe(408)
    expect(await upload.closed(3_000)).toBe(true)
    expect(await eventually(() => strict.events.done.length === 2, 14_000)).toBe(true)
    expect(strict.events.done.map(({ record }) => [record.status, record.end]).sort()).toEqual([
      [200, 'aborted'],
      [408, 'complete'],
    ])
    download.destroy()
    await close()
  }, 40_000)

  test('H-83 clients that read nothing for 13 seconds still get everything', async () => {
    const { upstream: own, gateway: slow, close } = await sideBySide()
    const total = 30_000_000
    own.answer = (request, socket) => {
      const isChunked = request.target === '/chunks'
      socket.write(
        `HTTP/1.1 200 OK\r\n${isChunked ? 'transfer-encoding: chunked' : `content-length: ${total}`}\r\n\r\n`,
      )
      if (isChunked) socket.write(`${total.toString(16)}\r\n`)
      socket.write(Buffer.alloc(total, 97))
      if (isChunked) socket.write('\r\n0\r\n\r\n')
    }
    const downloads = ['/length', '/chunks'].map(async (path) => {
      const connection = await openRaw(slow.port, { reads: false })
      connection.send(`GET ${path} HTTP/1.1\r\n${HOST}\r\n`)
      await pause(13_000)
      let received = 0
      connection.socket.on('data', (chunk: Buffer) => {
        received += chunk.length
      })
      const isWhole = await eventually(() => received > total, 10_000)
      connection.destroy()
      return isWhole
    })
    expect(await Promise.all(downloads)).toEqual([true, true])
    await close()
  }, 40_000)
})
