/** T-22: how many connections clients may open, in all and from one address. */
import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { startGateway, type RunningGateway } from '../../support/start-gateway.ts'

const running: RunningGateway[] = []
const sockets: Socket[] = []

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy()
  await Promise.all(running.splice(0).map((gateway) => gateway.stop()))
})

async function start(limits: string, more = ''): Promise<RunningGateway> {
  const gateway = await startGateway({
    config: ({ port }) => `
limits: ${limits}
${more}
listeners: [{address: "127.0.0.1:${port}"}]
endpoints:
  - name: web
    url: http://localhost:${port}
    traffic_policy:
      on_http_request:
        - actions: [{type: custom-response, config: {status_code: 200, body: "ok"}}]
`,
  })
  running.push(gateway)
  return gateway
}

/** A connection from a loopback address; whether it is answered. */
class Client {
  readonly socket: Socket
  received = ''
  isClosed = false

  constructor(port: number, localAddress: string) {
    this.socket = connect({ port, host: '127.0.0.1', localAddress })
    sockets.push(this.socket)
    this.socket.on('data', (data: Buffer) => (this.received += data.toString('latin1')))
    this.socket.on('error', () => undefined)
    this.socket.on('close', () => (this.isClosed = true))
  }

  /** True: answered 200. False: closed without a byte. */
  async ask(port: number): Promise<boolean> {
    this.received = ''
    this.socket.write(`GET / HTTP/1.1\r\nHost: localhost:${port}\r\n\r\n`)
    await expect.poll(() => this.isClosed || this.received.includes('ok'), { timeout: 5000 }).toBe(true)
    return this.received.startsWith('HTTP/1.1 200 ')
  }
}

describe('T-22', () => {
  test('connections of one address beyond the limit are closed as they come, over all workers; old ones and others work', async () => {
    const gateway = await start('{connections_per_address: 6}')
    const { port } = gateway
    const first: Client[] = []
    for (let index = 0; index < 6; index++) {
      const client = new Client(port, '127.0.0.2')
      first.push(client)
      expect(await client.ask(port)).toBe(true)
    }
    // a worker may know of what others took half a second late, or later where the kernel's table is long
    const isRefused = async (): Promise<boolean> => {
      const client = new Client(port, '127.0.0.2')
      const isServed = await client.ask(port)
      client.socket.destroy()
      return !isServed
    }
    let refusedInRow = 0
    await expect
      .poll(async () => (refusedInRow = (await isRefused()) ? refusedInRow + 1 : 0), { timeout: 15_000, interval: 100 })
      .toBeGreaterThan(7)
    expect(await Promise.all(first.map((client) => client.ask(port)))).toEqual(Array.from({ length: 6 }, () => true))
    expect(await new Client(port, '127.0.0.3').ask(port)).toBe(true)
    await expect.poll(() => gateway.log().map(({ msg }) => msg)).toContain('connections are refused')
    const entry = gateway.log().find(({ msg }) => msg === 'connections are refused')
    expect(entry).toMatchObject({ client_ip: '127.0.0.2', limit: 'limits.connections_per_address' })
    // room again
    for (const client of first) client.socket.destroy()
    await expect.poll(() => new Client(port, '127.0.0.2').ask(port), { timeout: 15_000, interval: 300 }).toBe(true)
  })

  test('a trusted proxy may open as many as it likes', async () => {
    const gateway = await start('{connections_per_address: 2}', 'trusted_proxies: [127.0.0.4]')
    for (let index = 0; index < 8; index++) {
      expect(await new Client(gateway.port, '127.0.0.4').ask(gateway.port)).toBe(true)
    }
  })

  test('limits.connections holds in each worker', async () => {
    const gateway = await start('{connections: 3}', 'workers: 1')
    const { port } = gateway
    const clients = Array.from({ length: 3 }, () => new Client(port, '127.0.0.2'))
    for (const client of clients) expect(await client.ask(port)).toBe(true)
    expect(await new Client(port, '127.0.0.5').ask(port)).toBe(false)
    expect(await clients[0]!.ask(port)).toBe(true)
    clients[1]!.socket.destroy()
    await expect.poll(() => new Client(port, '127.0.0.5').ask(port), { timeout: 5000 }).toBe(true)
  })

  test('limits.connections counts WebSockets, and only while they are open', async () => {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
    server.on('connection', (socket) => socket.on('message', (data) => socket.send(data)).on('error', () => undefined))
    await once(server, 'listening')
    const gateway = await startGateway({
      config: ({ port }) => `
workers: 1
limits: {connections: 2}
listeners: [{address: "127.0.0.1:${port}"}]
endpoints:
  - name: web
    url: http://localhost:${port}
    traffic_policy:
      on_http_request:
        - expressions: ["!('upgrade' in req.headers)"]
          actions: [{type: custom-response, config: {status_code: 200, body: "ok"}}]
    upstream: {url: "http://127.0.0.1:${(server.address() as AddressInfo).port}"}
`,
    })
    running.push(gateway)
    const { port } = gateway
    const open = async (): Promise<WebSocket> => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/`, { headers: { host: `localhost:${port}` } })
      socket.on('error', () => undefined)
      await new Promise<unknown>((resolve) => socket.once('open', resolve).once('close', resolve))
      return socket
    }
    const tunnels = [await open(), await open()]
    expect(tunnels.map(({ readyState }) => readyState)).toEqual([WebSocket.OPEN, WebSocket.OPEN])
    expect((await open()).readyState).not.toBe(WebSocket.OPEN)
    expect(await new Client(port, '127.0.0.5').ask(port)).toBe(false)
    tunnels[0]!.send('still here')
    expect(String((await once(tunnels[0]!, 'message'))[0])).toBe('still here')
    tunnels[1]!.close()
    await expect.poll(() => new Client(port, '127.0.0.5').ask(port), { timeout: 5000 }).toBe(true)
    tunnels[0]!.terminate()
    server.close()
  })
})
