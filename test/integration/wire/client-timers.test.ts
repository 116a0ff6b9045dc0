/** How long clients may take before a request is there (H-80, H-81, T-18), as far as the front end decides it. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openRaw } from '../../support/raw-client.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

let gateway: WireGateway<PlainEvents>

beforeAll(async () => {
  // nothing of this gets as far as an upstream
  gateway = await startWireGateway(new PlainEvents(), target(9))
})
afterAll(() => gateway.close())

/** Seconds until the gateway closes the connection, and what it said. `piece` is sent every 2 s. */
async function life(first: string, piece = ''): Promise<{ readonly seconds: number; readonly received: string }> {
  const connection = await openRaw(gateway.port)
  const beganAtMs = performance.now()
  if (first !== '') connection.send(first)
  const timer = setInterval(() => piece !== '' && connection.send(piece), 2000)
  await connection.closed(25_000)
  clearInterval(timer)
  return { seconds: (performance.now() - beganAtMs) / 1000, received: connection.received }
}

test('H-81, T-18: a head must be whole 10 s after its first byte, however it comes; silence is no reason to stay', async () => {
  const { slowHeads } = gateway.frontEnd.capabilities
  const head = 'GET / HTTP/1.1\r\nHost: gw.test\r\n'
  const [byLine, byByte, unfinished] = await Promise.all([
    life(head, 'X-A: b\r\n'),
    life(`${head}X-A: `, 'b'),
    life(head),
  ])
  for (const { seconds, received } of [byLine, byByte, unfinished]) {
    expect(seconds).toBeGreaterThan(7)
    expect(seconds).toBeLessThan(20)
    expect(received.startsWith('HTTP/1.1 408 ')).toBe(slowHeads)
    if (!slowHeads) expect(received).toBe('')
  }
  expect(gateway.events.heads).toEqual([])
}, 40_000)

test('H-80: a connection without a request is closed without a byte', async (context) => {
  // 75 s is more than a test should wait
  context.skip(gateway.frontEnd.capabilities.slowHeads, 'this front end keeps idle connections for longer')
  const { seconds, received } = await life('')
  expect(seconds).toBeGreaterThan(7)
  expect(seconds).toBeLessThan(20)
  expect(received).toBe('')
}, 40_000)
