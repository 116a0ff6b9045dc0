/** O-71, over real sockets: who the client is, by X-Forwarded-For and by the PROXY protocol, and what is said upstream. */
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts'
import { freePorts, get, type RunningGateway, startGateway } from '../support/start-gateway.ts'

/** PROXY protocol version 2, command PROXY, TCP over IPv4. */
function proxyHeader(source: string, port: number): Buffer {
  const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')
  const addresses = Buffer.alloc(12)
  for (const [index, part] of source.split('.').entries()) addresses[index] = Number(part)
  addresses.set([127, 0, 0, 1], 4)
  addresses.writeUInt16BE(port, 8)
  addresses.writeUInt16BE(80, 10)
  return Buffer.concat([signature, Buffer.from([0x21, 0x11, 0, addresses.length]), addresses])
}

/** Sends the bytes on a connection of their own and reads until it closes. */
function exchange(port: number, bytes: Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes))
    socket.setTimeout(12_000, () => socket.destroy(new Error('no end within 12 s')))
    socket.setEncoding('latin1').on('data', (chunk: string) => (text += chunk))
    socket.once('error', reject)
    socket.once('close', () => resolve(text))
  })
}

const POLICY = `
on_http_response:
  - actions: [{ type: add-headers, config: { headers: { x-client: "\${conn.client_ip}" } } }]
`

describe('O-71: the client behind proxies', () => {
  let gateway: RunningGateway
  let upstream: EchoUpstream
  let proxyPort: number

  beforeAll(async () => {
    upstream = await startEchoUpstream()
    ;[proxyPort = 0] = await freePorts(1)
    gateway = await startGateway({
      config: ({ port }) => `
listeners:
  - { address: 127.0.0.1:${port}, default_endpoint: web }
  - { address: 127.0.0.1:${proxyPort}, default_endpoint: web, proxy_protocol: true }
trusted_proxies: [127.0.0.1]
access_log: { output: stdout }
endpoints:
  - { name: web, url: http://localhost, upstream: { url: "http://127.0.0.1:${upstream.port}" }, traffic_policy_file: policy.yaml }
`,
      files: { 'policy.yaml': POLICY },
    })
  })

  afterAll(async () => {
    await gateway?.stop()
    await upstream?.close()
  })

  it('a trusted peer is believed: X-Forwarded-For names the client, the list is continued', async () => {
    const headers = {
      'x-forwarded-for': '198.51.100.7',
      'x-request-id': 'from-the-proxy',
      'x-forwarded-proto': 'https',
    }
    const answer = await get(gateway.url, { headers })
    expect(answer.headers['x-client']).toBe('198.51.100.7')
    expect(answer.headers['x-request-id']).toBe('from-the-proxy')
    const received = upstream.complete.at(-1)!
    expect(received.field('x-forwarded-for')).toBe('198.51.100.7, 127.0.0.1')
    expect(received.field('x-forwarded-proto')).toBe('https')
    const line = await gateway.waitForAccess(({ request_id }) => request_id === 'from-the-proxy')
    expect([line['client_ip'], line['peer_ip']]).toEqual(['198.51.100.7', '127.0.0.1'])
  })

  it('a PROXY header of a trusted peer names the client', async () => {
    const request = `GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`
    const answer = await exchange(proxyPort, Buffer.concat([proxyHeader('203.0.113.5', 4711), Buffer.from(request)]))
    expect(answer).toMatch(/^HTTP\/1\.1 200/)
    expect(answer).toContain('x-client: 203.0.113.5\r\n')
    expect(upstream.complete.at(-1)!.field('x-forwarded-for')).toBe('203.0.113.5')
  })

  it('a PROXY header on a listener that does not take it is refused (F-17)', async () => {
    const request = `GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`
    const answer = await exchange(gateway.port, Buffer.concat([proxyHeader('203.0.113.5', 4711), Buffer.from(request)]))
    expect(answer).toMatch(/^HTTP\/1\.1 400/)
  })
})

describe('O-69: what clients say of the way they came', () => {
  let gateway: RunningGateway
  let upstream: EchoUpstream

  beforeAll(async () => {
    upstream = await startEchoUpstream()
    const target = `upstream: { url: "http://127.0.0.1:${upstream.port}" }`
    gateway = await startGateway({
      config: ({ port }) => `
workers: 1
endpoints:
  - { name: strict, url: "http://localhost:${port}", ${target}, traffic_policy_file: policy.yaml }
  - { name: ngrok, url: "http://ngrok.test:${port}", ${target}, traffic_policy_file: policy.yaml, forwarded_for: append }
`,
      files: { 'policy.yaml': POLICY },
    })
  })

  afterAll(async () => {
    await gateway?.stop()
    await upstream?.close()
  })

  it('is discarded, or appended to where an endpoint wants it as ngrok does; who the client is stays the same', async () => {
    const said = {
      'x-forwarded-for': '198.51.100.7',
      'x-forwarded-host': 'said.test',
      'x-forwarded-proto': 'https',
      'x-forwarded-port': '1',
    }
    const ask = async (host: string): Promise<(string | undefined)[]> => {
      const answer = await get(`${gateway.url}/`, { headers: { host, ...said } })
      expect(answer.headers['x-client']).toMatch(/^(127\.0\.0\.1|::1)$/)
      const seen = upstream.complete.at(-1)!
      return Object.keys(said).map((name) => seen.all(name).join(' and '))
    }
    const host = `localhost:${gateway.port}`
    expect(await ask(host)).toEqual([expect.stringMatching(/^[\d.:]+$/), host, 'http', String(gateway.port)])
    expect(await ask('ngrok.test')).toEqual([
      expect.stringMatching(/^198\.51\.100\.7, [\d.:]+$/),
      'said.test',
      'http',
      String(gateway.port),
    ])
  })
})
