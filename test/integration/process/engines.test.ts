/**
 * Listeners on both engines in a whole gateway: a reload that changes the engine, and TLS sessions over all workers.
 *
 * Engine: native, and in every run.
 */
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { makeCertificate, opensslSkipReason } from '../../support/certificates.ts'
import { exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { freePorts, type RunningGateway, startGateway } from '../../support/start-gateway.ts'
import { openTls } from '../../support/tls-client.ts'

const upstream = createServer((_, response) => response.end('here'))
let upstreamUrl = ''

beforeAll(async () => {
  upstream.listen(0, '127.0.0.1')
  await once(upstream, 'listening')
  upstreamUrl = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`
})
afterAll(() => {
  upstream.closeAllConnections()
  upstream.close()
})

describe('a reload that changes the engine of a listener', () => {
  let gateway: RunningGateway
  const config = (port: number, engine: string): string => `
listeners: [{ address: '127.0.0.1:${port}', engine: ${engine} }]
endpoints: [{ name: shop, url: 'http://localhost:${port}', upstream: { url: '${upstreamUrl}' } }]
`
  beforeAll(async () => {
    gateway = await startGateway({ config: ({ port }) => config(port, 'uws') })
  })
  afterAll(async () => {
    await gateway?.stop()
  })

  const get = (version: string): string => `GET / HTTP/${version}\r\nHost: localhost\r\n\r\n`

  test('O-24, O-25: takes effect for new connections; those that exist go on', async () => {
    const { port } = gateway
    // only one of the two speaks HTTP/1.0
    const speaksHttp10 = async (): Promise<boolean[]> => {
      const statuses = await Promise.all(
        Array.from({ length: 8 }, async () => (await exchangeRaw(port, get('1.0'))).answers[0]?.status),
      )
      return [...new Set(statuses.map((status) => status === 200))]
    }
    expect(await speaksHttp10()).toEqual([false])
    for (const engine of ['native', 'uws', 'native']) {
      const open = await openRaw(port)
      open.send(get('1.1'))
      expect((await open.answers(1))[0]).toMatchObject({ status: 200, body: 'here' })
      gateway.write('gateway.yaml', config(port, engine))
      expect(await gateway.command('reload')).toMatchObject({ code: 0 })
      // the old listener takes what it has in its queue, then closes
      await expect.poll(speaksHttp10, { timeout: 5000 }).toEqual([engine === 'native'])
      open.send(get('1.1'))
      expect(await open.answers(2)).toHaveLength(2)
      open.destroy()
    }
  })
})

describe.skipIf(opensslSkipReason !== undefined)('TLS with engine: native', () => {
  let gateway: RunningGateway
  let plainPort = 0
  const config = (port: number, tail = ''): string => `
workers: 2
listeners:
  - address: 127.0.0.1:${port}
    engine: native
    tls: { certificates: [{ certificate: shop.pem, key: shop.key }] }
  - { address: '127.0.0.1:${plainPort}', engine: native }
endpoints:
  - name: shop
    url: https://shop.test:${port}
    upstream: { url: '${upstreamUrl}' }
${tail}`

  beforeAll(async () => {
    ;[plainPort = 0] = await freePorts(1)
    const { certificate, key } = makeCertificate({ names: 'DNS:shop.test' })
    gateway = await startGateway({
      config: ({ port }) => config(port),
      files: { 'shop.pem': certificate, 'shop.key': key },
    })
  })
  afterAll(async () => {
    await gateway?.stop()
  })

  const GET = (): string => `GET / HTTP/1.1\r\nHost: shop.test:${gateway.port}\r\n\r\n`

  /** A ticket for later, and how many of so many connections it opens. */
  async function ticket(): Promise<Buffer> {
    const client = await openTls(gateway.port, { servername: 'shop.test' })
    const session = new Promise<Buffer>((resolve) => client.socket.once('session', resolve))
    expect((await client.ask(GET()))?.status).toBe(200)
    const result = await session
    client.destroy()
    return result
  }
  async function resumed(session: Buffer, count: number): Promise<number> {
    const clients = await Promise.all(
      Array.from({ length: count }, () => openTls(gateway.port, { servername: 'shop.test', session })),
    )
    const reused = clients.filter(({ socket }) => socket.isSessionReused()).length
    for (const client of clients) client.destroy()
    return reused
  }

  test('a session is resumed at any worker, also at one that came later, and after a reload', async () => {
    const session = await ticket()
    // the kernel spreads connections over both workers
    expect(await resumed(session, 24)).toBe(24)
    gateway.write('gateway.yaml', config(gateway.port, 'log_level: debug\n'))
    expect(await gateway.command('reload')).toMatchObject({ code: 0 })
    expect(await resumed(session, 12)).toBe(12)
    const [worker] = await children(gateway.pid)
    process.kill(worker!, 'SIGKILL')
    await expect.poll(async () => (await children(gateway.pid)).includes(worker!), { timeout: 5000 }).toBe(false)
    await expect.poll(async () => (await children(gateway.pid)).length, { timeout: 10_000 }).toBe(2)
    await expect.poll(async () => resumed(session, 24).catch(() => 0), { timeout: 10_000, interval: 250 }).toBe(24)
  })
})

/** Processes that a process has started. */
async function children(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return text.split(' ').map(Number).filter(Boolean)
}
