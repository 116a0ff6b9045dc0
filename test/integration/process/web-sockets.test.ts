/** WebSockets through a whole gateway: policies first, forwarding to internal endpoints, logs, metrics, reload, drain. */
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { connect, type IncomingHttpHeaders } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { openRaw } from '../../support/raw-client.ts'
import { get, pause, startGateway, type RunningGateway } from '../../support/start-gateway.ts'
import { testCapabilities } from '../../support/test-engine.ts'

/** Sends each message back as it came. */
function echo(socket: WebSocket): void {
  socket.on('error', () => undefined)
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
}

describe('WebSockets and policies', () => {
  const http = createServer()
  const server = new WebSocketServer({ server: http })
  const requests: IncomingMessage[] = []
  let gateway: RunningGateway

  beforeAll(async () => {
    server.on('connection', (socket, request) => {
      requests.push(request)
      echo(socket)
    })
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve))
    gateway = await startGateway({
      config: ({ port }) => `
workers: 2
drain: { delay: 500ms, timeout: 5s }
endpoints:
  - name: front
    url: http://localhost:${port}
    traffic_policy:
      on_http_request:
        - expressions: ["req.url.path == '/closed' && 'websocket' in req.headers['upgrade']"]
          actions: [{ type: deny, config: { status_code: 403 } }]
        - actions:
            - type: add-headers
              config: { headers: { x-seen: 'by \${req.host}' } }
            - type: forward-internal
              config: { url: http://chat.internal }
      on_http_response:
        - expressions: ["res.status_code == 101"]
          actions:
            - type: add-headers
              config: { headers: { x-upgraded: 'yes' } }
  - name: chat
    url: http://chat.internal
    upstream: { url: http://127.0.0.1:${(http.address() as AddressInfo).port} }
`,
    })
  })

  afterAll(async () => {
    await gateway?.stop()
    http.closeAllConnections()
    http.close()
  })

  const open = (path: string): Promise<{ socket: WebSocket; answer: IncomingMessage }> =>
    new Promise((resolve, reject) => {
      const socket = new WebSocket(`ws://localhost:${gateway.port}${path}`)
      let answer: IncomingMessage
      socket.on('upgrade', (response) => (answer = response))
      socket.once('open', () => resolve({ socket, answer }))
      socket.once('unexpected-response', (_request, response) => reject(new Error(`answered ${response.statusCode}`)))
      socket.on('error', reject)
    })
  const closeCode = (socket: WebSocket): Promise<number> => new Promise((resolve) => socket.once('close', resolve))

  test('a policy may deny the upgrade', async () => {
    await expect(open('/closed')).rejects.toThrow('answered 403')
    expect(await gateway.waitForAccess(({ path }) => path === '/closed')).toMatchObject({
      status: 403,
      reason: 'denied:deny',
    })
  })

  test.skipIf(!testCapabilities.webSockets)(
    'an accepted one carries messages; the record comes at its end, with bytes',
    async () => {
      const { socket, answer } = await open('/room?a=1')
      expect(answer.headers['x-upgraded']).toBe('yes')
      expect(answer.headers['x-request-id']).toMatch(/^[0-9a-f-]{36}$/)
      const request = requests.at(-1)!
      expect(request.url).toBe('/room?a=1')
      expect(request.headers).toMatchObject({
        'x-seen': `by localhost:${gateway.port}`,
        'x-forwarded-proto': 'http',
        host: `localhost:${gateway.port}`,
      })
      expect(request.headers['x-forwarded-for']).toMatch(/^(127\.0\.0\.1|::1)$/)
      const echoed = new Promise<string>((resolve) => socket.once('message', (data) => resolve(data.toString())))
      socket.send('hello there')
      expect(await echoed).toBe('hello there')
      const { body } = await get(`${gateway.adminUrl}/metrics`)
      expect(body).toMatch(/^sallyport_connections\{listener=".*",protocol="websocket",state="open"\} 1$/m)
      expect(gateway.access().some(({ path }) => path === '/room?a=1')).toBe(false)
      await pause(300)
      const code = closeCode(socket)
      socket.close(4000)
      expect(await code).toBe(4000)
      const line = await gateway.waitForAccess(({ path }) => path === '/room?a=1')
      expect(line).toMatchObject({ status: 101, reason: 'ok', bytes_in: 11, bytes_out: 11, endpoint: 'front' })
      expect(line['t_total']).toBeGreaterThan(300)
      const after = await get(`${gateway.adminUrl}/metrics`)
      expect(after.body).toMatch(/^sallyport_websocket_messages_total\{endpoint="front",direction="in"\} 1$/m)
    },
  )

  test.skipIf(!testCapabilities.tunnel)(
    'H-91: a tunnel carries frames as they are; the record comes at its end, with the bytes of both ways',
    async () => {
      const { socket, answer } = await open('/tunnel?a=1')
      expect(answer.headers['x-upgraded']).toBe('yes')
      expect(requests.at(-1)!.headers).toMatchObject({
        'x-seen': `by localhost:${gateway.port}`,
        'x-forwarded-proto': 'http',
      })
      const echoed = new Promise<string>((resolve) => socket.once('message', (data) => resolve(data.toString())))
      socket.send('hello there')
      expect(await echoed).toBe('hello there')
      const { body } = await get(`${gateway.adminUrl}/metrics`)
      expect(body).toMatch(/^sallyport_connections\{listener=".*",protocol="websocket",state="open"\} 1$/m)
      expect(gateway.access().some(({ path }) => path === '/tunnel?a=1')).toBe(false)
      await pause(300)
      const code = closeCode(socket)
      socket.close(4000)
      expect(await code).toBe(4000)
      const line = await gateway.waitForAccess(({ path }) => path === '/tunnel?a=1')
      // RFC 6455 §5.2: two bytes in front of each payload, four more of a mask on the way up; a close frame has two bytes
      expect(line).toMatchObject({
        status: 101,
        reason: 'ok',
        bytes_in: 6 + 11 + 6 + 2,
        bytes_out: 2 + 11 + 2 + 2,
        endpoint: 'front',
      })
      expect(line['t_total']).toBeGreaterThan(300)
      await expect
        .poll(async () => (await get(`${gateway.adminUrl}/metrics`)).body)
        .toMatch(/^sallyport_connections\{listener=".*",protocol="websocket",state="open"\} 0$/m)
    },
  )

  test.skipIf(!testCapabilities.tunnel)('H-93: an upstream that vanishes ends the tunnel', async () => {
    const { socket } = await open('/vanishing')
    const code = closeCode(socket)
    for (const client of server.clients) client.terminate()
    expect(await code).toBe(1006)
    expect(await gateway.waitForAccess(({ path }) => path === '/vanishing')).toMatchObject({ status: 101 })
  })

  test('O-24: a reload does not close it; O-21: a drain closes it with 1001 and the exit is 0', async () => {
    const { socket } = await open('/kept')
    gateway.write('gateway.yaml', (await gatewayText()).replace("'yes'", "'again'"))
    expect(await gateway.command('reload')).toMatchObject({ code: 0 })
    expect((await open('/new')).answer.headers['x-upgraded']).toBe('again')
    const echoed = new Promise<string>((resolve) => socket.once('message', (data) => resolve(data.toString())))
    socket.send('still here')
    expect(await echoed).toBe('still here')
    const code = closeCode(socket)
    const ended = gateway.stop()
    expect(await code).toBe(1001)
    expect(await ended).toMatchObject({ code: 0 })
  })

  async function gatewayText(): Promise<string> {
    const { readFileSync } = await import('node:fs')
    return readFileSync(`${gateway.folder}/gateway.yaml`, 'utf8')
  }
})

describe.skipIf(!testCapabilities.tunnel)('tunnels and time', () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  let gateway: RunningGateway

  beforeAll(async () => {
    server.on('connection', echo)
    gateway = await startGateway({
      config: ({ port }) => `
workers: 1
drain: { delay: 0s, timeout: 1s }
websocket: { idle_timeout: 2s, max_open: 2 }
endpoints:
  - name: front
    url: http://localhost:${port}
    upstream: { url: http://127.0.0.1:${(server.address() as AddressInfo).port} }
`,
    })
  })

  afterAll(async () => {
    await gateway?.stop()
    server.close()
  })

  async function open(path: string): Promise<{ socket: WebSocket; code: Promise<number> }> {
    const socket = new WebSocket(`ws://localhost:${gateway.port}${path}`)
    socket.on('error', () => undefined)
    const code = new Promise<number>((resolve) => socket.once('close', resolve))
    await once(socket, 'open')
    return { socket, code }
  }

  test('H-80: what says nothing for the idle time is cut, what says something is not; no more than may be open', async () => {
    const silent = await open('/silent')
    const lively = await open('/lively')
    const third = new WebSocket(`ws://localhost:${gateway.port}/third`)
    const [, { statusCode }] = (await once(third, 'unexpected-response')) as [unknown, IncomingMessage]
    expect(statusCode).toBe(503)
    third.on('error', () => undefined).terminate()
    const timer = setInterval(() => lively.socket.send('x'), 200)
    expect(await silent.code).toBe(1006)
    expect(await gateway.waitForAccess(({ path }) => path === '/silent')).toMatchObject({
      status: 101,
      reason: 'idle_timeout',
    })
    await pause(1_000)
    clearInterval(timer)
    expect(lively.socket.readyState).toBe(WebSocket.OPEN)
    lively.socket.close()
    expect(await lively.code).toBe(1005)
  })

  test('O-21: what does not answer is cut at the drain deadline, and the exit is 4', async () => {
    const connection = await openRaw(gateway.port)
    connection.send(
      `GET /stays HTTP/1.1\r\nHost: localhost:${gateway.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`,
    )
    await expect.poll(() => connection.received).toMatch(/^HTTP\/1\.1 101 [^]*\r\n\r\n$/)
    const ended = gateway.stop()
    await expect.poll(() => connection.received.endsWith('\x88\x02\x03\xe9')).toBe(true)
    expect(connection.isClosed).toBe(false)
    expect(await ended).toMatchObject({ code: 4 })
    expect(await connection.closed()).toBe(true)
  })
})

describe('H-94: WebSockets over HTTP/2 and policies', () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' })
  let gateway: RunningGateway

  beforeAll(async () => {
    server.on('connection', echo)
    gateway = await startGateway({
      config: ({ port }) => `
workers: 1
drain: { delay: 0s, timeout: 2s }
listeners:
  - address: 127.0.0.1:${port}
    engine: native
endpoints:
  - name: front
    url: http://localhost:${port}
    traffic_policy:
      on_http_request:
        - expressions: ["req.url.path == '/closed' && 'websocket' in req.headers['upgrade']"]
          actions: [{ type: deny, config: { status_code: 403 } }]
      on_http_response:
        - expressions: ["res.status_code == 101"]
          actions: [{ type: add-headers, config: { headers: { x-upgraded: 'yes' } } }]
    upstream: { url: http://127.0.0.1:${(server.address() as AddressInfo).port} }
`,
    })
  })

  afterAll(async () => {
    await gateway?.stop()
    server.close()
  })

  test('they run as for any WebSocket; metrics and the log tell of it', async () => {
    const client = connect(`http://localhost:${gateway.port}`)
    client.on('error', () => undefined)
    await once(client, 'remoteSettings')
    const ask = async (path: string): Promise<[ReturnType<typeof client.request>, IncomingHttpHeaders]> => {
      const stream = client.request(
        { ':method': 'CONNECT', ':protocol': 'websocket', ':path': path, 'sec-websocket-version': '13' },
        { endStream: false },
      )
      stream.on('error', () => undefined)
      const [head] = (await once(stream, 'response')) as [IncomingHttpHeaders]
      return [stream, head]
    }
    const [denied, refusal] = await ask('/closed')
    expect(refusal[':status' as never]).toBe(403)
    denied.destroy()
    const [stream, head] = await ask('/room')
    expect(head).toMatchObject({ ':status': 200, 'x-upgraded': 'yes' })
    // a text of two bytes with a mask of nothing
    stream.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]))
    expect(await once(stream, 'data')).toEqual([Buffer.from([0x81, 2, 0x68, 0x69])])
    const { body } = await get(`${gateway.adminUrl}/metrics`)
    for (const [protocol, count] of Object.entries({ 'http/1.1': 0, 'http/2': 1, websocket: 1 })) {
      expect(body).toMatch(
        new RegExp(`^sallyport_connections\\{listener=".*",protocol="${protocol}",state="open"\\} ${count}$`, 'm'),
      )
    }
    stream.end()
    const line = await gateway.waitForAccess(({ path }) => path === '/room')
    expect(line).toMatchObject({ status: 200, reason: 'ok', endpoint: 'front' })
    client.close()
  })
})
