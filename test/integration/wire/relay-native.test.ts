/**
 * `relay`: requests that go up as they came, and answers that leave without a question. O-67, O-73, H-33, H-123.
 *
 * Engine: native, and in every run.
 */
import { connect } from 'node:http2'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { ExchangeHandle } from '../../../src/listener/front-end.ts'
import { answerText, type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { eventually, exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { OURS, RelayingEvents } from '../../support/relaying-events.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

/** Relays at once, or in a later turn. */
class TimedEvents extends RelayingEvents {
  isLate = false

  protected override decide(relay: () => void): void {
    if (this.isLate) setTimeout(relay, 5)
    else relay()
  }
}

/** Does with each request what its path says. */
class MixedEvents extends PlainEvents {
  override onRequest(handle: ExchangeHandle, head: string): void {
    const [, name = '', what] = /^GET \/((\w+)-\d+) /.exec(head)!
    const lines = `x-added: ${name}\r\n`
    const answer = { lines: `x-answer: ${name}\r\n`, removed: '', clocks: [] }
    const { frontEnd, target: to } = this
    if (what === 'relay') frontEnd.relay!(handle, to, lines, answer)
    else if (what === 'late') setTimeout(() => frontEnd.relay!(handle, to, lines, answer), 1)
    else if (what === 'asked') frontEnd.relay!(handle, to, lines, undefined)
    else if (what === 'bad') frontEnd.relay!(handle, to, 'no line', answer)
    else frontEnd.respond(handle, 'HTTP/1.1 202 Accepted\r\n', name)
  }
}

const GET = 'GET /a?b HTTP/1.1\r\nHost: gw.test\r\nX-Own: 1\r\nConnection: x-own\r\nAccept: */*\r\n\r\n'

let upstream: EchoUpstream
let gateway: WireGateway<TimedEvents>
let events: TimedEvents

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startWireGateway(new TimedEvents(), target(upstream.port), { engine: 'native' })
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
  events.told.length = 0
  events.isLate = false
  events.lines = 'x-added: yes\r\n'
  events.answer = OURS
})

test.each([false, true])('a request goes up as it came, with our lines behind its own (later: %s)', async (isLate) => {
  events.isLate = isLate
  upstream.answer = (_, socket) =>
    socket.write(answerText(200, 'hello', 'x-request-id: theirs\r\nngrok-error-code: x\r\nx-other: kept\r\n'))
  const { answers } = await exchangeRaw(gateway.port, GET)
  expect(upstream.complete[0]!.head).toBe('GET /a?b HTTP/1.1\r\nhost: gw.test\r\naccept: */*\r\nx-added: yes\r\n\r\n')
  expect(answers[0]).toMatchObject({ status: 200, body: 'hello' })
  const fields = answers[0]!.fields.filter(([name]) => name !== 'date')
  expect(fields).toEqual([
    ['x-other', 'kept'],
    ['x-request-id', 'ours'],
    ['content-length', '5'],
  ])
  await eventually(() => events.told.length === 2)
  expect(events.told).toEqual(['answered 200', 'done 200 complete'])
})

test('an answer leaves without the fields that are named, and with the time at which it came', async () => {
  const lines = 'x-at: <0000-00-00T00:00:00.000Z>\r\nserver: ours\r\n'
  events.answer = { lines, removed: 'server\ndate\n', clocks: [7] }
  let answeredAtMs = 0
  upstream.answer = (_, socket) =>
    setTimeout(() => {
      answeredAtMs = Date.now()
      socket.write(answerText(200, 'hello', 'server: theirs\r\nserver-timing: kept\r\ndate: theirs\r\n'))
    }, 20)
  const [answer] = (await exchangeRaw(gateway.port, GET)).answers
  const fields = new Map(answer!.fields)
  expect(answer!.fields.map(([name]) => name)).toEqual(['server-timing', 'x-at', 'server', 'date', 'content-length'])
  expect(fields.get('server')).toBe('ours')
  expect(fields.get('date')).not.toBe('theirs')
  const [, at] = /^<(.{24})>$/.exec(fields.get('x-at')!)!
  expect(new Date(at!).toISOString()).toBe(at)
  expect(Date.parse(at!)).toBeGreaterThanOrEqual(answeredAtMs)
})

test('without lines for the answer it is asked for', async () => {
  events.answer = undefined
  upstream.answer = (_, socket) => socket.write(answerText(404, 'no'))
  expect((await exchangeRaw(gateway.port, GET)).answers[0]).toMatchObject({ status: 404, body: 'no' })
  await eventually(() => events.told.length === 2)
  expect(events.told).toEqual(['response', 'done 404 complete'])
})

test('an answer whose body takes its time is told of when it begins; H-33 one that breaks off is cut', async () => {
  let end: () => void = () => undefined
  upstream.answer = (_, socket) => {
    socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n')
    end = () => void socket.destroy()
  }
  const connection = await openRaw(gateway.port)
  connection.send(GET)
  await eventually(() => events.told.length === 1)
  expect(events.told).toEqual(['answered 200'])
  end()
  await eventually(() => connection.isClosed && events.told.length === 2)
  expect(events.told).toEqual(['answered 200', 'done 200 truncated'])
})

test('H-123 lines that are none send nothing', async () => {
  events.lines = 'x-added: yes\r\n\r\nGET / HTTP/1.1\r\n'
  expect((await exchangeRaw(gateway.port, GET)).answers[0]).toMatchObject({ status: 500 })
  events.lines = ''
  events.answer = { ...OURS, lines: 'x: a\rb\r\n' }
  expect((await exchangeRaw(gateway.port, GET)).answers[0]).toMatchObject({ status: 500 })
  // a place for the time that has not its form
  events.answer = { ...OURS, clocks: [3] }
  expect((await exchangeRaw(gateway.port, GET)).answers[0]).toMatchObject({ status: 500 })
  expect(upstream.complete).toEqual([])
  expect(gateway.errors.splice(0).map(String)).toEqual(Array(3).fill('Error: forward: not a valid request head'))
})

test('requests that come together are told together, and each goes its own way', async () => {
  const own = await startWireGateway(new MixedEvents(), target(upstream.port), { engine: 'native' })
  upstream.answer = ({ head }, socket) => socket.write(answerText(200, /^x-added: (.*)\r$/m.exec(head)![1]!))
  const names = Array.from(
    { length: 50 },
    (_, place) => `${['relay', 'late', 'respond', 'asked', 'bad'][place % 5]}-${place}`,
  )
  const connections = await Promise.all(names.map(() => openRaw(own.port)))
  for (const [place, connection] of connections.entries())
    connection.send(`GET /${names[place]} HTTP/1.1\r\nHost: gw.test\r\nConnection: close\r\n\r\n`)
  await eventually(() => connections.every((connection) => connection.isClosed))
  for (const [place, name] of names.entries()) {
    const [answer] = await connections[place]!.answers(1)
    const fields = new Map(answer!.fields)
    if (name.startsWith('bad')) expect(answer).toMatchObject({ status: 500 })
    else expect(answer).toMatchObject({ status: name.startsWith('respond') ? 202 : 200, body: name })
    expect(fields.get('x-answer')).toBe(/^(?:relay|late)/.test(name) ? name : undefined)
  }
  expect(own.errors.splice(0)).toHaveLength(10)
  expect(own.frontEnd.inFlight).toBe(0)
  await own.close()
})

test('a front end that is closed while requests are told tells no more of them', async () => {
  const closing = new (class extends PlainEvents {
    override onRequest(_: ExchangeHandle, head: string): void {
      this.heads.push(head)
      void this.frontEnd.close()
    }
  })()
  const own = await startWireGateway(closing, target(upstream.port), { engine: 'native' })
  const connections = await Promise.all(Array.from({ length: 8 }, () => openRaw(own.port)))
  for (const connection of connections) connection.send(GET)
  await eventually(() => connections.every((connection) => connection.isClosed))
  expect(closing.heads).toHaveLength(1)
  expect(own.errors).toEqual([])
  expect(own.frontEnd.inFlight).toBe(0)
})

test('more ends of one turn than fit into one event are all told', async () => {
  upstream.answer = (_, socket) => socket.write(answerText(200, 'x'))
  const session = connect(`http://localhost:${gateway.port}`)
  const count = 300
  await Promise.all(
    Array.from({ length: count }, async () => {
      const stream = session.request({ ':path': '/' })
      stream.resume()
      await new Promise((resolve, reject) => stream.once('end', resolve).once('error', reject))
    }),
  )
  session.destroy()
  const told = (what: string): number => events.told.filter((one) => one === what).length
  await eventually(() => told('done 200 complete') === count)
  expect(told('done 200 complete')).toBe(count)
  expect(told('answered 200')).toBe(count)
})
