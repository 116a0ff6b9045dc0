/**
 * `relay` on uWebSockets.js: requests that go up out of native memory as they came, and answers that leave without a question.
 * O-67, O-73, H-28, H-31, H-33, H-123; F-11.
 *
 * Engine: uws, and in every run.
 */
import '../../support/wire-native.ts'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { readsLibraryMemory } from '../../../src/listener/library-head.ts'
import { answerText, type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { eventually, exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { OURS, RelayingEvents } from '../../support/relaying-events.ts'
import { startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

/** Relays at once, but what a test keeps for later. */
class KeptEvents extends RelayingEvents {
  /** Requests whose target is in here are relayed when it is called. */
  readonly late = new Map<string, () => void>()

  protected override decide(relay: () => void, head: string): void {
    const path = head.split(' ')[1]!
    if (this.late.has(path)) this.late.set(path, relay)
    else relay()
  }
}

const get = (path: string, lines = '', method = 'GET'): string =>
  `${method} ${path} HTTP/1.1\r\nHost: gw.test\r\nAccept: */*\r\n${lines}\r\n`

let upstream: EchoUpstream
let gateway: WireGateway<KeptEvents>
let events: KeptEvents

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startWireGateway(new KeptEvents(), target(upstream.port), { engine: 'uws' })
  events = gateway.events
  // the first heads of a process are read both ways
  for (let count = 0; count < 8; count++) await exchangeRaw(gateway.port, get('/'))
  expect(readsLibraryMemory()).toBe(true)
})
afterAll(async () => {
  expect(gateway.errors).toEqual([])
  expect(gateway.frontEnd.inFlight).toBe(0)
  await gateway.close()
  await upstream.close()
})
beforeEach(() => {
  upstream.reset()
  events.told.length = 0
  events.late.clear()
  events.lines = 'x-added: yes\r\n'
  events.answer = OURS
})

test('O-73 a request goes up as it came with our lines behind; its answer leaves with ours', async () => {
  upstream.answer = (_, socket) =>
    socket.write(
      answerText(
        200,
        'hello',
        'x-request-id: theirs\r\nngrok-error-code: x\r\nDate: long ago\r\nsallyport-error-code: y\r\nx-other: kept\r\n',
      ),
    )
  const { answers } = await exchangeRaw(gateway.port, get('/a?b', 'Connection: keep-alive\r\nCookie: a=b\r\n'))
  expect(upstream.complete[0]!.head).toBe(
    'GET /a?b HTTP/1.1\r\nhost: gw.test\r\naccept: */*\r\ncookie: a=b\r\nx-added: yes\r\n\r\n',
  )
  expect(answers[0]).toMatchObject({ status: 200, body: 'hello' })
  const dates = answers[0]!.fields.filter(([name]) => name === 'date')
  expect(dates.map(([, value]) => value)).not.toContain('long ago')
  expect(answers[0]!.fields.filter(([name]) => ['x-other', 'x-request-id', 'content-length'].includes(name))).toEqual([
    ['x-other', 'kept'],
    ['x-request-id', 'ours'],
    ['content-length', '5'],
  ])
  expect(answers[0]!.fields.some(([name]) => name.endsWith('-error-code'))).toBe(false)
  await eventually(() => events.told.length === 2)
  expect(events.told).toEqual(['answered 200', 'done 200 complete'])
})

test('H-123 a request that is relayed when others have been read keeps its own head', async () => {
  events.late.set('/slow', () => undefined)
  upstream.answer = (_, socket) => socket.write(answerText(200, 'x'))
  const slow = await openRaw(gateway.port)
  slow.send(get('/slow', 'X-Mine: slow\r\n'))
  await eventually(() => events.heads.at(-1)?.startsWith('GET /slow') === true)
  // one in the same form, and one that is not usual and leaves nothing whole behind
  await exchangeRaw(gateway.port, get('/fast', 'X-Mine: fast\r\n'))
  await exchangeRaw(gateway.port, get('/odd', 'X_Odd: 1\r\nTE: trailers\r\n'))
  events.late.get('/slow')!()
  expect((await slow.answers(1))[0]).toMatchObject({ status: 200, body: 'x' })
  slow.destroy()
  const heads = upstream.complete.map(({ head }) => head)
  expect(heads[0]).toBe('GET /fast HTTP/1.1\r\nhost: gw.test\r\naccept: */*\r\nx-mine: fast\r\nx-added: yes\r\n\r\n')
  expect(heads[1]).toMatch(/^GET \/odd HTTP\/1\.1\r\n/)
  expect(heads[2]).toBe('GET /slow HTTP/1.1\r\nhost: gw.test\r\naccept: */*\r\nx-mine: slow\r\nx-added: yes\r\n\r\n')
})

test('H-28 a request with a body goes up with it', async () => {
  upstream.answer = (_, socket) => socket.write(answerText(200, 'x'))
  const request = 'POST /b HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 5\r\n\r\nhello'
  expect((await exchangeRaw(gateway.port, request)).answers[0]).toMatchObject({ status: 200 })
  expect(upstream.complete[0]).toMatchObject({
    head: 'POST /b HTTP/1.1\r\nhost: gw.test\r\nx-added: yes\r\ncontent-length: 5\r\n\r\n',
    body: 'hello',
  })
})

test('without lines for the answer it is asked for, as is one that does not come as a whole', async () => {
  events.answer = undefined
  upstream.answer = (_, socket) => socket.write(answerText(404, 'no'))
  expect((await exchangeRaw(gateway.port, get('/'))).answers[0]).toMatchObject({ status: 404, body: 'no' })
  await eventually(() => events.told.length === 2)
  expect(events.told.splice(0)).toEqual(['response', 'done 404 complete'])

  events.answer = OURS
  upstream.answer = (_, socket) => {
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nab')
    setTimeout(() => socket.write('cd'), 20)
  }
  expect((await exchangeRaw(gateway.port, get('/'))).answers[0]).toMatchObject({ status: 200, body: 'abcd' })
  await eventually(() => events.told.length === 2)
  expect(events.told).toEqual(['response', 'done 200 complete'])
})

test('what takes a decision is asked for: bytes beyond ASCII, lines of ours that the library writes', async () => {
  upstream.answer = (_, socket) => socket.write(answerText(200, 'x', 'x-a: \xe9\r\n'), 'latin1')
  expect((await exchangeRaw(gateway.port, get('/'))).answers[0]!.field('x-a')).toBe('\xe9')
  events.answer = { ...OURS, lines: 'date: ours\r\n' }
  upstream.answer = (_, socket) => socket.write(answerText(200, 'x'))
  const { answers } = await exchangeRaw(gateway.port, get('/'))
  expect(answers[0]!.fields.map(([, value]) => value)).not.toContain('ours')
  await eventually(() => events.told.length === 4)
  expect(events.told).toEqual(['response', 'done 200 complete', 'response', 'done 200 complete'])
})

test.each([
  ['HEAD', 'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n', '7'],
  ['GET', 'HTTP/1.1 204 No Content\r\n\r\n', undefined],
  ['GET', 'HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n', '7'],
  ['GET', 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n', '0'],
])('H-31 the framing of an answer that leaves: %s, %j', async (method, text, length) => {
  upstream.answer = (_, socket) => socket.write(text)
  const connection = await openRaw(gateway.port)
  for (const extra of ['', 'Connection: close\r\n']) {
    connection.send(get('/', extra, method))
    const answer = (await connection.answers(1, 5000, [method]))[0]!
    expect(answer).toMatchObject({ status: Number(text.slice(9, 12)), body: '' })
    expect(answer.field('content-length')).toBe(length)
  }
  expect(await connection.closed(3000)).toBe(true)
  await eventually(() => events.told.length === 4)
  expect(events.told.filter((one) => one.startsWith('answered'))).toHaveLength(2)
})

test('H-33 an answer that breaks off in its head is an error', async () => {
  upstream.answer = (_, socket) => {
    socket.end('HTTP/1.1 200 OK\r\ncontent-le')
  }
  expect((await exchangeRaw(gateway.port, get('/'))).answers[0]).toMatchObject({ status: 502 })
})

test('H-123 lines that are none send nothing', async () => {
  events.lines = 'x-added: yes\r\n\r\nGET / HTTP/1.1\r\n'
  expect((await exchangeRaw(gateway.port, get('/'))).answers[0]).toMatchObject({ status: 500 })
  events.lines = ''
  events.answer = { ...OURS, lines: 'x: a\rb\r\n' }
  expect((await exchangeRaw(gateway.port, get('/'))).answers[0]).toMatchObject({ status: 500 })
  expect(upstream.complete).toEqual([])
  expect(gateway.errors.splice(0)).toHaveLength(2)
})
