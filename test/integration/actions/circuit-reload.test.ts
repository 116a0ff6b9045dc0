/** O-26: what a circuit breaker knows outlives a reload that leaves it as it is (§5.3). */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { get, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

let upstream: EchoUpstream
let gateway: RunningGateway

const config = (port: number, tripped: string, comment: string): string => `
workers: 1
endpoints:
  - name: web
    url: http://localhost:${port}
    upstream: { url: "http://127.0.0.1:${upstream.port}" }
    traffic_policy:
      on_http_request:
        - actions: [{ type: circuit-breaker, config: { error_threshold: 0, volume_threshold: 1, tripped_duration: ${tripped} } }]
      on_http_response:
        - actions: [{ type: add-headers, config: { headers: { x-generation: ${comment} } } }]
`

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startGateway({ config: ({ port }) => config(port, '2m', 'first') })
})
afterAll(async () => {
  await gateway?.stop()
  await upstream?.close()
})

const ask = async (): Promise<number> => (await get(gateway.url)).status
const openCircuits = async (): Promise<string | undefined> =>
  (await get(`${gateway.adminUrl}/metrics`)).body
    .split('\n')
    .find((line) => line.startsWith('sallyport_circuit_state{endpoint="web"}'))
    ?.split(' ')
    .at(-1)

async function reload(tripped: string, comment: string): Promise<void> {
  gateway.write('gateway.yaml', config(gateway.port, tripped, comment))
  expect((await gateway.command('reload')).code).toBe(0)
}

it('stays open over a reload that changes something else, and is told as open', async () => {
  expect(await ask()).toBe(200)
  expect(await ask()).toBe(503)
  await expect.poll(openCircuits).toBe('1')
  await reload('2m', 'second')
  expect(await ask()).toBe(503)
})

it('begins anew when its settings change', async () => {
  await reload('1m', 'third')
  const answer = await get(gateway.url)
  expect([answer.status, answer.headers['x-generation']]).toEqual([200, 'third'])
  expect(await ask()).toBe(503)
})
