/**
 * Upgrades to other protocols than WebSocket, where an endpoint allows them.
 *
 * Source: H-60, H-91; RFC 9110 §7.8.
 *
 * Engine: native, and in every run.
 */
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type RawUpstream, startRawUpstream } from '../../support/raw-upstream.ts'
import { freePorts, get, pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const SWITCHING = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream: v4\r\n\r\n'

let upstream: RawUpstream
let gateway: RunningGateway
let heads: string[] = []
/** What the upstream says to a head; then it sends back what comes, in capitals. */
let answer = SWITCHING

beforeAll(async () => {
  upstream = await startRawUpstream((socket) => {
    let head = ''
    const onHead = (chunk: Buffer): void => {
      head += chunk.toString('latin1')
      const end = head.indexOf('\r\n\r\n')
      if (end === -1) return
      heads.push(head.slice(0, end + 4))
      socket.off('data', onHead)
      socket.write(answer)
      const echo = (data: string): boolean => data === '' || socket.write(data.toUpperCase(), 'latin1')
      echo(head.slice(end + 4))
      socket.on('data', (data) => echo(data.toString('latin1')))
      socket.on('end', () => socket.end())
    }
    socket.on('data', onHead)
  })
  const [other = 0] = await freePorts(1)
  gateway = await startGateway({
    config: ({ port }) => `
engine: native
workers: 1
websocket: {max_open: 1}
listeners:
  - {address: "127.0.0.1:${port}"}
  - {address: "127.0.0.1:${other}"}
endpoints:
  - {name: pods, url: "http://pods.test:${port}", upstream: {url: "${upstream.url}", upgrades: [spdy/3.1, tcp]}}
  - {name: plain, url: "http://localhost:${port}", upstream: {url: "${upstream.url}"}}
`,
  })
})
afterAll(async () => {
  await gateway.stop()
  upstream.close()
})
beforeEach(() => {
  heads = []
  answer = SWITCHING
})

class Client {
  readonly socket: Socket
  text = ''
  isClosed = false

  constructor(host: string, protocol: string, behind = '') {
    this.socket = connect({ port: gateway.port, host: '127.0.0.1', allowHalfOpen: true })
    this.socket.on('error', () => undefined)
    this.socket.on('data', (data) => (this.text += data.toString('latin1')))
    this.socket.on('close', () => (this.isClosed = true))
    this.socket.on('end', () => this.socket.end())
    this.socket.write(
      `GET /exec?a=b HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\nX-Stream: v4\r\n\r\n${behind}`,
    )
  }

  async until(text: string): Promise<void> {
    await expect.poll(() => this.text).toContain(text)
  }
}

describe('H-60: upgrades that an endpoint allows', () => {
  test('bytes pass both ways as they are; one more than may be open is 503', async () => {
    const client = new Client('pods.test', 'SPDY/3.1', 'at once ')
    await client.until('\r\n\r\n')
    expect(client.text).toMatch(/^HTTP\/1\.1 101 .*\r\n/)
    expect(client.text.toLowerCase()).toContain('\r\nconnection: upgrade\r\nupgrade: spdy/3.1\r\n')
    expect(client.text).toContain('x-stream: v4\r\n')
    expect(heads[0]).toMatch(/^GET \/exec\?a=b HTTP\/1\.1\r\nhost: pods\.test\r\n/)
    expect(heads[0]).toContain('\r\nconnection: upgrade\r\nupgrade: SPDY/3.1\r\n')
    await client.until('AT ONCE ')
    client.socket.write('\x81\x05hello', 'latin1')
    await client.until('\x81\x05HELLO')
    const second = new Client('pods.test', 'tcp')
    await second.until('503 ')
    client.socket.end('bye')
    await client.until('BYE')
    await expect.poll(() => client.isClosed).toBe(true)
    const line = await gateway.waitForAccess((it) => it.endpoint === 'pods' && it.status === 101)
    expect(line).toMatchObject({ reason: 'ok', bytes_in: 18, bytes_out: 18 })
    // nothing of it returns to a pool
    expect((await get(`${gateway.url}/`).catch(() => ({ status: 0 }))).status).not.toBe(200)
  })

  test.each([
    ['pods.test', 'irc/6.9'],
    ['pods.test', 'SPDY/3.1, tcp'],
    ['localhost', 'SPDY/3.1'],
  ])('%s, %s: 501, and nothing of it goes upstream', async (host, protocol) => {
    const client = new Client(host, protocol)
    await client.until('HTTP/1.1 501 ')
    await expect.poll(() => client.isClosed).toBe(true)
    expect(heads).toEqual([])
    await gateway.waitForAccess((line) => line.status === 501 && line.reason === 'bad_request:H-60')
  })

  test.each(['websocket', 'tcp', 'SPDY/3.1, tcp', ''])(
    'a 101 to "%s" that was not asked for is a 502',
    async (told) => {
      answer = SWITCHING.replace('Upgrade: SPDY/3.1', told === '' ? 'X-None: 1' : `Upgrade: ${told}`)
      const client = new Client('pods.test', 'SPDY/3.1')
      await client.until('HTTP/1.1 502 ')
    },
  )

  test('any other answer is an ordinary one, and what follows the request is no tunnel', async () => {
    answer = 'HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno'
    const client = new Client('pods.test', 'SPDY/3.1', 'GET /more HTTP/1.1\r\nHost: pods.test\r\n\r\n')
    await client.until('\r\n\r\nno')
    await expect.poll(() => client.isClosed).toBe(true)
    expect(client.text).toMatch(/^HTTP\/1\.1 403 /)
    expect(heads).toHaveLength(1)
  })

  test('O-21: a drain leaves it alone, for it may not speak in frames', async () => {
    answer = SWITCHING.replace('SPDY/3.1', 'tcp')
    const client = new Client('pods.test', 'TCP')
    await client.until('\r\n\r\n')
    const stopped = gateway.stop()
    await pause(500)
    expect(client.text).toMatch(/\r\n\r\n$/)
    client.socket.write('still')
    await client.until('STILL')
    client.socket.end()
    expect((await stopped).code).toBe(0)
  })
})
