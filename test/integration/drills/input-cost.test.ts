/**
 * T-21: no input costs the gateway 100 times what it costs its sender, in CPU time or in memory, nor holds a worker's event loop
 * for 50 ms. Measured in CPU time of both sides' processes, so that a busy machine makes no difference.
 */
import { spawn } from 'node:child_process'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
// oxlint-disable-next-line typescript/ban-ts-comment
// @ts-ignore -- plain JavaScript, which the bench scripts share
import { processTree, threadsCpuUs } from '../../../bench/cpu.mjs'
import { openRaw, type RawConnection } from '../../support/raw-client.ts'
import { type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const SENDER = fileURLToPath(new URL('../../support/costly-input.mjs', import.meta.url))
const RUNS = 40
const MOST_TIMES = 100
const MOST_HELD_US = 50_000

const treeOf = processTree as (root: number) => number[]
const cpuOf = threadsCpuUs as {
  (pids: readonly number[]): Map<string, number>
  (pids: readonly number[], before: Map<string, number>): number
}
const { INPUTS } = (await import(SENDER)) as { INPUTS: Record<string, () => string[]> }

let upstream: Server
let gateway: RunningGateway
let pids: number[]

beforeAll(async () => {
  upstream = createServer((request, response) => {
    request.resume()
    request.once('end', () => response.end('ok'))
  })
  await new Promise<void>((resolve) => void upstream.listen(0, '127.0.0.1', resolve))
  const { port: upstreamPort } = upstream.address() as AddressInfo
  gateway = await startGateway({
    // a policy that looks at everything of a head
    config: ({ port }) => `
listeners: [{ address: 127.0.0.1:${port} }]
workers: 1
trusted_proxies: [127.0.0.1]
endpoints:
  - name: all
    url: http://localhost:${port}
    upstream: { url: http://127.0.0.1:${upstreamPort} }
    traffic_policy:
      on_http_request:
        - expressions:
            - "req.url.path.contains('//never') || 'never' in req.url.query_params || 'never' in req.cookies || 'never' in req.headers || conn.client_ip == '192.0.2.9'"
          actions: [{ type: deny }]
`,
  })
  pids = treeOf(gateway.pid)
})
afterAll(async () => {
  await gateway.stop()
  upstream.closeAllConnections()
  await new Promise((resolve) => upstream.close(resolve))
})

/** What an input costs both sides, per run, in microseconds of CPU time. */
async function costs(name: string): Promise<{ gatewayUs: number; senderUs: number; bytes: number }> {
  const child = spawn(process.execPath, [SENDER, String(gateway.port), String(RUNS), name], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  await lines.next()
  const before = cpuOf(pids)
  child.stdin.write('\n')
  const { us, bytes } = JSON.parse(String((await lines.next()).value)) as { us: number; bytes: number }
  const gatewayUs = cpuOf(pids, before)
  return { gatewayUs: gatewayUs / RUNS, senderUs: us / RUNS, bytes: bytes / RUNS }
}

describe('T-21: CPU time', () => {
  test.each(Object.keys(INPUTS))('%s', async (name) => {
    const { gatewayUs, senderUs, bytes } = await costs(name)
    console.log(
      `${name} (${Math.round(bytes)} bytes): ${Math.round(gatewayUs)} µs here, ${Math.round(senderUs)} µs there, ${(gatewayUs / senderUs).toFixed(1)} times`,
    )
    expect(gatewayUs / senderUs).toBeLessThan(MOST_TIMES)
    expect(gatewayUs).toBeLessThan(MOST_HELD_US)
  })
})

test('T-21: memory that unfinished requests hold', async () => {
  const residentOf = async (): Promise<number> => {
    const metrics = await (await fetch(`${gateway.adminUrl}/metrics`)).text()
    const worker = /^process_resident_memory_bytes\{process="worker-1"\} (\S+)$/m.exec(metrics)?.[1]
    return Number(worker)
  }
  const head = `GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ${'a'.repeat(15_000)}`
  const body = `POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20000\r\n\r\n${'b'.repeat(15_000)}`
  const before = await residentOf()
  expect(before).toBeGreaterThan(0)
  const open: RawConnection[] = []
  let sent = 0
  for (let count = 0; count < 200; count++) {
    const connection = await openRaw(gateway.port)
    const bytes = count % 2 === 0 ? head : body
    connection.send(bytes)
    sent += bytes.length
    open.push(connection)
  }
  await new Promise((resolve) => setTimeout(resolve, 500))
  const grown = (await residentOf()) - before
  for (const connection of open) connection.destroy()
  console.log(
    `${sent} bytes of unfinished requests: ${Math.round(grown)} bytes more, ${(grown / sent).toFixed(1)} times`,
  )
  expect(grown / sent).toBeLessThan(MOST_TIMES)
})
