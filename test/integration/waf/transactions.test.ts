/** Native scans are freed when their exchange ends, however it ends; counted by `sallyport_waf_transactions`. */
import { createServer, type Server, type ServerResponse } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OWN_RULES } from '../../support/own-rules.ts'
import { openRaw } from '../../support/raw-client.ts'
import { get, pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

let gateway: RunningGateway
let server: Server
/** Requests that the upstream has not answered. */
const waiting: ServerResponse[] = []

const config = (port: number, upstreamPort: number, more = ''): string => `
workers: 2
listeners: [{ address: 127.0.0.1:${port}, default_endpoint: web }]
upstream: { retries: 0 }
waf: { rules: ${OWN_RULES}, thread_threshold: 4KiB${more} }
endpoints:
  - name: web
    url: http://web.test:${port}
    upstream: { url: "http://127.0.0.1:${upstreamPort}" }
    traffic_policy: &both
      on_http_request: [{ actions: [{ type: owasp-crs-request, config: { process_body: true } }] }]
      on_http_response: [{ actions: [{ type: owasp-crs-response, config: { process_body: true } }] }]
  - name: impatient
    url: http://impatient.test:${port}
    upstream: { url: "http://127.0.0.1:${upstreamPort}" }
    timers: { first_byte_timeout: 1s }
    traffic_policy: *both
`
let upstreamPort = 0

beforeAll(async () => {
  server = createServer((request, response) => {
    request.resume()
    waiting.push(response)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  // it listens on a port
  upstreamPort = (server.address() as { port: number }).port
  gateway = await startGateway({ config: ({ port }) => config(port, upstreamPort) })
})

afterAll(async () => {
  await gateway?.stop()
  server?.closeAllConnections()
  server?.close()
})

async function open(): Promise<number> {
  const { body } = await get(`${gateway.adminUrl}/metrics`)
  return Number(/^sallyport_waf_transactions (\d+)/m.exec(body)?.[1])
}

async function becomes(count: number): Promise<void> {
  let last = -1
  for (const until = performance.now() + 5000; performance.now() < until; await pause(30)) {
    last = await open()
    if (last === count) return
  }
  expect(last).toBe(count)
}

async function arrived(count: number): Promise<void> {
  for (const until = performance.now() + 5000; performance.now() < until && waiting.length < count;) await pause(10)
  expect(waiting.length).toBe(count)
}

/** Sends a request and waits until the upstream has it. */
async function begin(body = '', host = 'web.test'): ReturnType<typeof openRaw> {
  waiting.length = 0
  const connection = await openRaw(gateway.port)
  const length = body === '' ? '' : `Content-Type: text/plain\r\nContent-Length: ${body.length}\r\n`
  connection.send(
    `${body === '' ? 'GET' : 'POST'} / HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: t\r\n${length}\r\n${body}`,
  )
  await arrived(1)
  return connection
}

function answer(): void {
  const response = waiting.pop()!
  response.setHeader('content-type', 'text/html')
  response.end('<p>fine</p>')
}

describe('native scans end with their exchange', () => {
  it('answered', async () => {
    await becomes(0)
    const connection = await begin()
    await becomes(1)
    answer()
    expect((await connection.answers(1))[0]?.status).toBe(200)
    await becomes(0)
    connection.destroy()
  })

  it('the client leaves while the upstream thinks', async () => {
    const connection = await begin()
    await becomes(1)
    // not only its side of the connection: such a client may wait for its answer (T-23)
    connection.socket.resetAndDestroy()
    await becomes(0)
  })

  it('the client leaves in the middle of its body', async () => {
    const connection = await openRaw(gateway.port)
    connection.send('POST / HTTP/1.1\r\nHost: web.test\r\nContent-Type: text/plain\r\nContent-Length: 9000\r\n\r\nabc')
    await pause(100)
    connection.destroy()
    await becomes(0)
  })

  it('the client leaves while a thread has the scan', async () => {
    const body = 'x'.repeat(100_000)
    const connections = await Promise.all(Array.from({ length: 20 }, () => openRaw(gateway.port)))
    for (const connection of connections) {
      connection.send(
        `POST / HTTP/1.1\r\nHost: web.test\r\nContent-Type: text/plain\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      )
    }
    await pause(20)
    for (const connection of connections) connection.socket.resetAndDestroy()
    await becomes(0)
  })

  it('a large body, scanned in a thread, answered', async () => {
    const connection = await begin('x'.repeat(50_000))
    await becomes(1)
    answer()
    expect((await connection.answers(1))[0]?.status).toBe(200)
    await becomes(0)
    connection.destroy()
  })

  it('the upstream takes too long', async () => {
    const connection = await begin('', 'impatient.test')
    await becomes(1)
    expect((await connection.answers(1))[0]?.status).toBe(504)
    await becomes(0)
    connection.destroy()
  })

  it('a reload with other rules: those that run go on and are freed', async () => {
    gateway.write('more.conf', 'SecRule ARGS:never "@streq x" "id:1,phase:2,pass,nolog"\n')
    const connection = await begin()
    await becomes(1)
    gateway.write('gateway.yaml', config(gateway.port, upstreamPort, ', include_after: [more.conf]'))
    expect((await gateway.command('reload')).code).toBe(0)
    await becomes(1)
    answer()
    expect((await connection.answers(1))[0]?.status).toBe(200)
    await becomes(0)
    connection.destroy()
  })

  it('a drain: the exchange ends as any other, its last rules included', async () => {
    waiting.length = 0
    const connection = await openRaw(gateway.port)
    // without a User-Agent it has a score, which a rule of phase 5 reports when the exchange ends
    connection.send('GET /?drain HTTP/1.1\r\nHost: web.test\r\n\r\n')
    await arrived(1)
    gateway.process.kill('SIGTERM')
    await pause(200)
    const reported = (): number[] =>
      gateway
        .log()
        .flatMap((line) => (line.msg === 'waf match' && line['path'] === '/?drain' ? [Number(line['rule_id'])] : []))
    expect(reported()).toEqual([920001])
    answer()
    expect((await connection.answers(1))[0]?.status).toBe(200)
    expect((await gateway.exited).code).toBe(0)
    expect(reported()).toEqual([920001, 980170])
  })
})
