/**
 * Standing relays of the native front end: which requests go up without a question, with what, and what is told of them.
 * O-67, O-68, H-51, H-55, H-66 … H-68, T-23.
 *
 * Engine: native, and in every run.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type {
  BegunRequest,
  ExchangeHandle,
  RequestFacts,
  StandingEnd,
  StandingRelay,
  UpstreamFailure,
} from '../../../src/listener/front-end.ts'
import { answerText, type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { eventually, openRaw } from '../../support/raw-client.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

/** What is asked goes up as it came; what stands is written down. */
class StandingEvents extends PlainEvents {
  /** What was told of requests that stood, in order. */
  readonly told: string[] = []
  readonly ends: StandingEnd[] = []
  readonly failed: { head: string; begun: BegunRequest; failure: UpstreamFailure }[] = []
  onceMore = false

  onStandingEnded(_relay: StandingRelay, end: StandingEnd): void {
    this.ends.push({ ...end })
    this.told.push(`${end.method} ${end.status} ${end.end} of ${end.answeredStatus}`)
  }
  onStandingTold(): void {
    this.told.push('told')
  }
  onStandingAnswered(_relay: StandingRelay, status: number, elapsedMs: number): void {
    expect(elapsedMs).toBeGreaterThanOrEqual(0)
    this.told.push(`answered ${status}`)
  }
  onStandingFailed(
    _relay: StandingRelay,
    handle: ExchangeHandle,
    head: string,
    facts: RequestFacts,
    begun: BegunRequest,
    failure: UpstreamFailure,
  ): void {
    expect(facts).toMatchObject({ listenerId: 1, bodyLength: 0, proxyFields: false, connectionLines: '' })
    this.failed.push({ head, begun, failure })
    if (this.onceMore) this.frontEnd.forward(handle, this.target, head)
    else this.frontEnd.respond(handle, 'HTTP/1.1 502 Bad Gateway\r\n', failure.reason)
  }
}

const LINES = 'x-forwarded-proto: http\r\nvia: 1.1 test\r\n'
const GET = 'GET /a?b HTTP/1.1\r\nHost: gw.test\r\nAccept: */*\r\n\r\n'
const ID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
const TRACE = /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/

let upstream: EchoUpstream
let gateway: WireGateway<StandingEvents>
let events: StandingEvents
let word: Int32Array
let relay: StandingRelay

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startWireGateway(new StandingEvents(), target(upstream.port), { engine: 'native' })
  events = gateway.events
  word = new Int32Array(1)
})
afterAll(async () => {
  expect(gateway.errors).toEqual([])
  expect(gateway.frontEnd.inFlight).toBe(0)
  await gateway.close()
  await upstream.close()
})
beforeEach(() => {
  upstream.reset()
  for (const list of [events.told, events.ends, events.failed, events.heads, events.done]) list.length = 0
  events.onceMore = false
  relay = stand()
})

function stand(to = events.target): StandingRelay {
  const made = { listenerId: 1, host: 'gw.test', target: to, lines: LINES, restsOn: { word, version: word[0]! } }
  expect(gateway.frontEnd.standing!.stand(made)).toBe(true)
  return made
}

async function ask(text: string, count = 1, methods: string[] = []): Promise<Awaited<ReturnType<typeof send>>> {
  return await send(text, count, methods)
}
async function send(text: string, count: number, methods: string[]) {
  const connection = await openRaw(gateway.port)
  connection.send(text)
  const answers = await connection.answers(count, 5000, methods)
  connection.destroy()
  return answers
}

test('O-67 O-68: a request goes up as it came with our lines behind its own, and is told of when it is over', async () => {
  const [answer] = await ask(GET)
  const [request] = upstream.complete
  expect(request!.head).toMatch(
    /^GET \/a\?b HTTP\/1\.1\r\nhost: gw\.test\r\naccept: \*\/\*\r\nx-forwarded-for: 127\.0\.0\.1\r\n/,
  )
  expect(request!.fields.map(([name]) => name)).toEqual([
    'host',
    'accept',
    'x-forwarded-for',
    'x-forwarded-proto',
    'via',
    'x-request-id',
    'traceparent',
  ])
  expect(request!.field('x-request-id')).toMatch(ID)
  expect(request!.field('traceparent')).toMatch(TRACE)
  expect(answer!.status).toBe(200)
  expect(answer!.field('x-request-id')).toBe(request!.field('x-request-id'))
  await eventually(() => events.told.length === 2)
  expect(events.told).toEqual(['GET 200 complete of 200', 'told'])
  expect(events.heads).toEqual([])
  const [end] = events.ends
  expect(end).toMatchObject({ requestBodyBytes: 0, responseBodyBytes: answer!.body.length, failure: undefined })
  expect(end!.receivedAtMs).toBeGreaterThan(0)
  expect(end!.firstByteAtMs).toBeGreaterThanOrEqual(end!.receivedAtMs)
  expect(end!.endedAtMs).toBeGreaterThanOrEqual(end!.firstByteAtMs)
})

test('H-51: pipelined requests are answered in order, each with names of its own; HEAD too', async () => {
  const count = 40
  const paths = Array.from({ length: count }, (_, index) => `/${index}`)
  const methods = paths.map((_, index) => (index % 5 === 0 ? 'HEAD' : 'GET'))
  const text = paths.map((path, index) => `${methods[index]} ${path} HTTP/1.1\r\nHost: gw.test\r\n\r\n`).join('')
  const answers = await ask(text, count, methods)
  expect(upstream.complete.map((request) => request.target)).toEqual(paths)
  const ids = upstream.complete.map((request) => request.field('x-request-id'))
  expect(answers.map((answer) => answer.field('x-request-id'))).toEqual(ids)
  expect(new Set(ids).size).toBe(count)
  expect(new Set(upstream.complete.map((request) => request.field('traceparent'))).size).toBe(count)
  await eventually(() => events.ends.length === count)
  expect(events.ends.map(({ method }) => method)).toEqual(methods)
  expect(events.heads).toEqual([])
})

test.each([
  ['a field that proxies write', 'GET / HTTP/1.1\r\nHost: gw.test\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n'],
  ['a trace', `GET / HTTP/1.1\r\nHost: gw.test\r\ntraceparent: 00-${'1'.repeat(32)}-${'2'.repeat(16)}-01\r\n\r\n`],
  ['a body', 'POST / HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 2\r\n\r\nhi'],
  ['a body of GET', 'GET / HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 2\r\n\r\nhi'],
  ['a body in chunks', 'GET / HTTP/1.1\r\nHost: gw.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['another method', 'DELETE / HTTP/1.1\r\nHost: gw.test\r\n\r\n'],
  ['OPTIONS', 'OPTIONS / HTTP/1.1\r\nHost: gw.test\r\nMax-Forwards: 0\r\n\r\n'],
  ['another host', 'GET / HTTP/1.1\r\nHost: other.test\r\n\r\n'],
  ['the host in other letters', 'GET / HTTP/1.1\r\nHost: GW.test\r\n\r\n'],
  ['the host with a port', 'GET / HTTP/1.1\r\nHost: gw.test:80\r\n\r\n'],
  ['an absolute target', 'GET http://gw.test/ HTTP/1.1\r\nHost: gw.test\r\n\r\n'],
  ['HTTP/1.0', 'GET / HTTP/1.0\r\nHost: gw.test\r\n\r\n'],
  ['H-66: an encoded dot', 'GET /%2e%2e/a HTTP/1.1\r\nHost: gw.test\r\n\r\n'],
  ['H-67: a dot segment', 'GET /../a HTTP/1.1\r\nHost: gw.test\r\n\r\n'],
  ['H-68: a null byte', 'GET /%00 HTTP/1.1\r\nHost: gw.test\r\n\r\n'],
  ['two slashes', 'GET //a HTTP/1.1\r\nHost: gw.test\r\n\r\n'],
  [
    'an upgrade',
    'GET / HTTP/1.1\r\nHost: gw.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  ],
])('is asked about as ever: %s', async (_, text) => {
  await ask(text)
  await eventually(() => events.done.length === 1)
  expect(events.heads).toHaveLength(1)
  expect(events.told).toEqual([])
})

test('H-61: whoever expects 100 without a body gets its answer', async () => {
  const [answer] = await ask('GET / HTTP/1.1\r\nHost: gw.test\r\nExpect: 100-continue\r\n\r\n')
  expect(answer!.status).toBe(200)
  expect(upstream.complete[0]!.field('expect')).toBeUndefined()
})

describe('what it rests on', () => {
  test('another number, a withdrawal, another decision: from the next request of the same connection on', async () => {
    const connection = await openRaw(gateway.port)
    const stood = async (count: number): Promise<boolean> => {
      const before = events.heads.length
      connection.send(GET)
      expect(await connection.answers(count)).toHaveLength(count)
      return events.heads.length === before
    }
    expect(await stood(1)).toBe(true)
    word[0]! += 1
    expect(await stood(2)).toBe(false)
    word[0]! -= 1
    expect(await stood(3)).toBe(true)
    expect(gateway.frontEnd.standing!.withdraw(relay)).toBe(0)
    expect(await stood(4)).toBe(false)
    stand()
    expect(await stood(5)).toBe(true)
    connection.destroy()
  })

  test('one that is withdrawn has those that are under way, and tells of their ends', async () => {
    const answers: (() => void)[] = []
    upstream.answer = (_, socket) => answers.push(() => socket.write(answerText(200, 'late')))
    const connections = await Promise.all(Array.from({ length: 3 }, () => openRaw(gateway.port)))
    for (const connection of connections) connection.send(GET)
    await eventually(() => answers.length === 3)
    const standing = gateway.frontEnd.standing!
    expect([standing.inFlight(relay), gateway.frontEnd.inFlight]).toEqual([3, 3])
    expect(standing.withdraw(relay)).toBe(3)
    for (const answer of answers) answer()
    for (const connection of connections) expect((await connection.answers(1))[0]!.body).toBe('late')
    await eventually(() => events.ends.length === 3)
    expect([standing.inFlight(relay), gateway.frontEnd.inFlight]).toEqual([0, 0])
    for (const connection of connections) connection.destroy()
  })

  test('those that are under way are closed when that is asked for', async () => {
    upstream.answer = () => undefined
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await eventually(() => upstream.complete.length === 1)
    gateway.frontEnd.standing!.abort(relay)
    expect(await connection.closed()).toBe(true)
    await eventually(() => events.told.length === 2)
    expect(events.told).toEqual(['GET 0 aborted of 0', 'told'])
  })

  test('there are 256 at most, and what is no line is not sent', () => {
    const standing = gateway.frontEnd.standing!
    const more = Array.from({ length: 256 }, (_, index) => ({ ...relay, host: `${index}.test` }))
    expect(more.filter((one) => standing.stand(one))).toHaveLength(255)
    for (const one of more) standing.withdraw(one)
    expect(standing.stand({ ...relay, host: 'bad.test', lines: 'no line' })).toBe(false)
    expect(standing.stand({ ...relay, restsOn: { word: new Int32Array(1), version: 0 } })).toBe(false)
  })
})

describe('what goes wrong', () => {
  test('no connection: told with the names it went up with, and answered by whoever is told', async () => {
    const nobody = await startEchoUpstream()
    await nobody.close()
    stand(target(nobody.port))
    const [answer] = await ask(GET)
    expect(answer).toMatchObject({ status: 502, body: 'connect_failed' })
    expect(events.failed[0]).toMatchObject({
      head: 'GET /a?b HTTP/1.1\r\nhost: gw.test\r\naccept: */*\r\n',
      failure: { reason: 'connect_failed', notProcessed: true, bodyConsumed: false },
    })
    expect(events.failed[0]!.begun.requestId).toMatch(ID)
    expect(events.failed[0]!.begun.traceparent).toMatch(TRACE)
    await eventually(() => events.done.length === 1)
    expect(events.told).toEqual([])
  })

  test('a leg that fails before the answer goes up again, when that is said', async () => {
    events.onceMore = true
    upstream.answer = (request, socket) => {
      if (upstream.requests.length === 1) socket.destroy()
      else socket.write(answerText(200, request.field('x-request-id') ?? 'none'))
    }
    const [answer] = await ask(GET)
    // the second leg is the events' own: without our lines
    expect(answer).toMatchObject({ status: 200, body: 'none' })
    expect(events.failed[0]!.begun.requestId).toBe(upstream.requests[0]!.field('x-request-id'))
    expect(events.failed[0]!.begun.traceparent).toBe(upstream.requests[0]!.field('traceparent'))
    await eventually(() => events.done.length === 1)
    expect(events.done[0]!.record).toMatchObject({ status: 200, end: 'complete' })
  })

  test('H-33: an answer that breaks off is cut; it was told of when it began', async () => {
    let end: () => void = () => undefined
    upstream.answer = (_, socket) => {
      socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n')
      end = () => void socket.destroy()
    }
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await eventually(() => events.told.length === 1)
    end()
    await eventually(() => connection.isClosed && events.told.length === 3)
    expect(events.told).toEqual(['answered 200', 'GET 200 truncated of 0', 'told'])
    expect(events.ends[0]!.failure).toMatchObject({ reason: 'upstream_reset', target: events.target })
  })

  test('T-23: a client that leaves ends its request', async () => {
    upstream.answer = () => undefined
    const connection = await openRaw(gateway.port)
    connection.send(GET)
    await eventually(() => upstream.complete.length === 1)
    connection.socket.resetAndDestroy()
    await eventually(() => events.told.length === 2)
    expect(events.told).toEqual(['GET 0 client_abort of 0', 'told'])
    await eventually(() => upstream.closes.length === 1)
  })

  test('a switch of protocols that nobody asked for is no answer', async () => {
    upstream.answer = (_, socket) =>
      socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n')
    const [answer] = await ask(GET)
    expect(answer).toMatchObject({ status: 502, body: 'upstream_bad_response' })
  })

  test('a client that reads nothing holds its answer back, and gets all of it later', async () => {
    const bytes = 8 * 1024 * 1024
    upstream.answer = (_, socket) => socket.write(answerText(200, 'x'.repeat(bytes)))
    const connection = await openRaw(gateway.port, { reads: false })
    connection.send(GET)
    await eventually(() => events.told.length === 1)
    expect(events.told).toEqual(['answered 200'])
    let received = 0
    connection.socket.on('data', (chunk: Buffer) => (received += chunk.length))
    await eventually(() => received > bytes)
    await eventually(() => events.told.length === 3)
    expect(events.ends[0]).toMatchObject({ responseBodyBytes: bytes, answeredStatus: 0, end: 'complete' })
    connection.destroy()
  })
})

test('a front end that drains asks again, and closes', async () => {
  const draining = await startWireGateway(new StandingEvents(), target(upstream.port), { engine: 'native' })
  expect(draining.frontEnd.standing!.stand({ ...relay, target: draining.events.target })).toBe(true)
  const connection = await openRaw(draining.port)
  connection.send(GET)
  expect(await connection.answers(1)).toHaveLength(1)
  const late = await openRaw(draining.port)
  draining.frontEnd.drain()
  late.send(GET)
  expect((await late.answers(1))[0]!.status).toBe(200)
  expect(await late.closed()).toBe(true)
  expect(draining.events.heads).toHaveLength(1)
  expect(await connection.closed()).toBe(true)
  await draining.close()
})
