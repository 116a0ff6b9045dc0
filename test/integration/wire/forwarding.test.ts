/** Plain forwarding over real sockets: heads, framing, keep-alive. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

let upstream: EchoUpstream
let gateway: WireGateway<PlainEvents>

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startWireGateway(new PlainEvents(), target(upstream.port))
})
afterAll(async () => {
  await gateway.close()
  await upstream.close()
})
beforeEach(() => upstream.reset())

test('a GET passes through with its head in order and one Date (F-11)', async () => {
  const { answers } = await exchangeRaw(
    gateway.port,
    'GET /a?b=c HTTP/1.1\r\nHost: gw.test\r\nX-B: 2\r\nX-A: 1\r\n\r\n',
  )
  expect(answers).toHaveLength(1)
  expect(answers[0]!.status).toBe(200)
  expect(answers[0]!.body).toBe('GET /a?b=c\n0 bytes\n')
  expect(answers[0]!.fields.filter(([name]) => name === 'date')).toHaveLength(1)
  // persistence is HTTP/1.1's default: a pool may say so or not
  expect(upstream.requests[0]!.head.replace('connection: keep-alive\r\n', '')).toBe(
    'GET /a?b=c HTTP/1.1\r\nhost: gw.test\r\nx-b: 2\r\nx-a: 1\r\n\r\n',
  )
})

test('a POST body passes through and the connection is kept (H-28)', async () => {
  const connection = await openRaw(gateway.port)
  connection.send('POST /p HTTP/1.1\r\nHost: gw.test\r\nContent-Length: 5\r\n\r\nhello')
  expect((await connection.answers(1))[0]!.body).toBe('POST /p\n5 bytes\nhello')
  connection.send('GET /q HTTP/1.1\r\nHost: gw.test\r\n\r\n')
  const answers = await connection.answers(2)
  expect(answers[1]!.body).toBe('GET /q\n0 bytes\n')
  expect(gateway.frontEnd.inFlight).toBe(0)
  connection.destroy()
})
