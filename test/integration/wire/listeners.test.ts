/** Listeners and peers: addresses, PROXY protocol, on_tcp_connect, drain, close. */
import { afterEach, expect, test } from 'vitest'
import type { Peer } from '../../../src/listener/front-end.ts'
import { exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { testCapabilities } from '../../support/test-engine.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

const GET = 'GET /x HTTP/1.1\r\nHost: gw.test\r\n\r\n'
let upstream: EchoUpstream
let gateway: WireGateway<PlainEvents>

async function start(options: Parameters<typeof startWireGateway>[2] = {}): Promise<PlainEvents> {
  upstream = await startEchoUpstream()
  gateway = await startWireGateway(new PlainEvents(), target(upstream.port), options)
  return gateway.events
}

afterEach(async () => {
  expect(gateway.errors).toEqual([])
  await gateway.close()
  await upstream.close()
})

test('the peer is canonical text, IPv4 and IPv6 (F-17)', async () => {
  const events = await start()
  await exchangeRaw(gateway.port, GET)
  expect(events.peers[0]).toMatchObject({ address: '127.0.0.1', localAddress: '127.0.0.1', localPort: gateway.port })
  await gateway.frontEnd.listen({ id: 2, host: '::1', port: 0, proxyProtocol: false })
  const connection = await openRaw(gateway.frontEnd.portOf(2), { host: '::1' })
  connection.send(GET)
  expect((await connection.answers(1))[0]!.status).toBe(200)
  connection.destroy()
  expect(events.peers[1]).toMatchObject({ address: '::1', localAddress: '::1' })
  expect(events.facts[1]!.listenerId).toBe(2)
})

/** PROXY protocol version 2 header for one TCP connection over IPv4. */
function proxyHeader(source: [number, number, number, number], port: number): Buffer {
  const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')
  const body = Buffer.from([...source, 10, 0, 0, 1, port >> 8, port & 0xff, 0, 80])
  return Buffer.concat([signature, Buffer.from([0x21, 0x11, 0, body.length]), body])
}

test('a PROXY v2 header names the source on a listener that takes it', async () => {
  const events = await start({ proxyProtocol: true })
  const { answers } = await exchangeRaw(
    gateway.port,
    Buffer.concat([proxyHeader([203, 0, 113, 9], 4711), Buffer.from(GET)]),
  )
  expect(answers[0]!.status).toBe(200)
  expect(events.peers[0]).toMatchObject({ address: '127.0.0.1', proxiedAddress: '203.0.113.9' })
  // a strict listener that takes the header takes nothing else before it
  const without = await exchangeRaw(gateway.port, GET)
  if (testCapabilities.strict) expect(without.received).toBe('')
  else expect(events.peers[1]!.proxiedAddress).toBeUndefined()
})

test('a PROXY v2 header on any other listener is refused', async () => {
  const events = await start()
  const { answers } = await exchangeRaw(
    gateway.port,
    Buffer.concat([proxyHeader([203, 0, 113, 9], 4711), Buffer.from(GET)]),
  )
  expect(answers.map((answer) => answer.status)).toEqual([400])
  expect(events.refused).toHaveLength(1)
  expect(upstream.requests).toEqual([])
})

test('F-15 a connection that on_tcp_connect refuses is closed before any byte', async () => {
  const events = await start()
  const asked: [number, Peer][] = []
  let accepts = false
  events.onConnect = (listenerId, peer) => {
    asked.push([listenerId, peer])
    return accepts
  }
  const refused = await openRaw(gateway.port)
  refused.send(GET)
  expect(await refused.closed(1_000)).toBe(true)
  expect(refused.received).toBe('')
  accepts = true
  expect((await exchangeRaw(gateway.port, GET)).answers[0]!.status).toBe(200)
  expect(asked.map(([listenerId, peer]) => [listenerId, peer.address])).toEqual([
    [1, '127.0.0.1'],
    [1, '127.0.0.1'],
  ])
  expect(upstream.requests).toHaveLength(1)
})

test('drain: the answer under way is whole and closes its connection; a closed listener accepts nobody', async () => {
  await start()
  upstream.answer = (_request, socket) => {
    setTimeout(() => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'), 150)
  }
  const connection = await openRaw(gateway.port)
  connection.send(GET)
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(gateway.frontEnd.inFlight).toBe(1)
  gateway.frontEnd.closeListener(1)
  gateway.frontEnd.drain()
  await expect(openRaw(gateway.port)).rejects.toThrow('ECONNREFUSED')
  const [answer] = await connection.answers(1)
  expect(answer).toMatchObject({ status: 200, body: 'ok' })
  expect(answer!.field('connection')).toBe('close')
  expect(await connection.closed(1_000)).toBe(true)
  expect(gateway.frontEnd.inFlight).toBe(0)
})

test('drain: a stream that began before is finished', async () => {
  await start()
  upstream.answer = (_request, socket) => {
    socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n')
    setTimeout(() => socket.write('0\r\n\r\n'), 150)
  }
  const connection = await openRaw(gateway.port)
  connection.send(GET)
  await new Promise((resolve) => setTimeout(resolve, 50))
  gateway.frontEnd.drain()
  const [answer] = await connection.answers(1)
  expect(answer).toMatchObject({ body: 'abc', isComplete: true })
  connection.destroy()
})

test('close ends open exchanges as aborted and their upstream requests', async () => {
  const events = await start()
  upstream.answer = () => {}
  const connection = await openRaw(gateway.port)
  connection.send(GET)
  await new Promise((resolve) => setTimeout(resolve, 50))
  await gateway.close()
  expect(await connection.closed(1_000)).toBe(true)
  expect(events.done.map(({ record }) => record.end)).toEqual(['aborted'])
  expect(gateway.frontEnd.inFlight).toBe(0)
  await new Promise((resolve) => setTimeout(resolve, 50))
  expect(upstream.closes).toHaveLength(1)
})

test('an address that cannot be bound is named', async () => {
  await start()
  await expect(gateway.frontEnd.listen({ id: 9, host: '203.0.113.1', port: 1, proxyProtocol: false })).rejects.toThrow(
    '203.0.113.1:1',
  )
})

test('capabilities say what this front end cannot do', async () => {
  await start()
  expect(gateway.frontEnd.capabilities).toEqual(testCapabilities)
})

test('500 clients that abort at random points leave nothing behind (T-25)', async () => {
  const events = await start()
  upstream.answer = (request, socket) => {
    setTimeout(
      () => socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n'),
      request.index % 5,
    )
    setTimeout(() => socket.write('0\r\n\r\n'), 10)
  }
  const text = `POST /x HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 20\r\n\r\n${'x'.repeat(20)}`
  for (let round = 0; round < 10; round++) {
    await Promise.all(
      Array.from({ length: 50 }, async (_, index) => {
        const connection = await openRaw(gateway.port)
        connection.send(text.slice(0, 22 + ((index * 7 + round) % (text.length - 21))))
        await new Promise((resolve) => setTimeout(resolve, (index * 3) % 17))
        if (index % 2 === 0) connection.socket.resetAndDestroy()
        else connection.destroy()
      }),
    )
  }
  await new Promise((resolve) => setTimeout(resolve, 300))
  expect(gateway.frontEnd.inFlight).toBe(0)
  expect(events.done).toHaveLength(events.heads.length)
  expect(new Set(events.done.map(({ handle }) => handle)).size).toBe(events.done.length)
  expect((await exchangeRaw(gateway.port, 'GET /x HTTP/1.1\r\nHost: gw.test\r\n\r\n')).answers[0]!.status).toBe(200)
}, 30_000)
