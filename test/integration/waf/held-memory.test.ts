/**
 * H-38: an upload of which a part is judged, on the engine that holds it natively; the rest goes from socket to socket.
 *
 * Engine: native, and in every run.
 */
import '../../support/native-engine.ts'
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { OWN_RULES } from '../../support/own-rules.ts'
import { openRaw } from '../../support/raw-client.ts'
import { type RawUpstream, startRawUpstream } from '../../support/raw-upstream.ts'
import { get, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const TOTAL = 2 ** 28
const BLOCK = Buffer.alloc(4 * 1024 * 1024, 'x')

let gateway: RunningGateway
let server: RawUpstream

beforeAll(async () => {
  server = await startRawUpstream((socket) => {
    let left = TOTAL
    socket.on('data', (data) => {
      left -= data.length
      // its head counts, too
      if (left <= 0) socket.end('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok')
    })
  })
  gateway = await startGateway({
    config: ({ port }) => `
workers: 1
listeners: [{ address: 127.0.0.1:${port}, default_endpoint: sink }]
waf: { rules: ${OWN_RULES}, thread_threshold: 16KiB, request_body: 128KiB, request_body_limit_action: process_partial }
endpoints:
  - name: sink
    url: http://sink.test:${port}
    upstream: { url: "${server.url}" }
    traffic_policy:
      on_http_request: [{ actions: [{ type: owasp-crs-request, config: { process_body: true } }] }]
`,
  })
})

afterAll(async () => {
  await gateway?.stop()
  server?.close()
})

/** Resident bytes of the worker. */
async function residentBytes(): Promise<number> {
  const { workers } = JSON.parse((await get(`${gateway.adminUrl}/api/status`)).body) as { workers: { pid: number }[] }
  const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${workers[0]!.pid}/status`, 'utf8'))?.[1]
  return Number(kib) * 1024
}

it('256 MiB of which 128 kB are judged: memory stays flat, and all of it arrives', async () => {
  const connection = await openRaw(gateway.port)
  connection.send(
    `POST /big HTTP/1.1\r\nHost: sink.test\r\nUser-Agent: t\r\nContent-Type: text/plain\r\nContent-Length: ${TOTAL}\r\n\r\n`,
  )
  const before = await residentBytes()
  let most = 0
  for (let sent = 0; sent < TOTAL; sent += BLOCK.length) {
    if (!connection.socket.write(BLOCK)) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await new Promise((resolve) => connection.socket.once('drain', resolve))
    }
    // oxlint-disable-next-line no-await-in-loop -- while it goes on
    if (sent % (8 * BLOCK.length) === 0) most = Math.max(most, await residentBytes())
  }
  const [answer] = await connection.answers(1, 20_000)
  expect(answer?.status).toBe(200)
  expect(most - before).toBeLessThan(24 * 1024 * 1024)
  connection.destroy()
}, 60_000)
