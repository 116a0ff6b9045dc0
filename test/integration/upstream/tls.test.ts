/**
 * https upstreams that the native pool leaves to the other one, and whom it trusts by itself.
 *
 * Engine: none, it is about the pool behind the other engine.
 */
import { execFile, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createServer as createTlsServer, rootCertificates, type TlsOptions, type TLSSocket } from 'node:tls'
import { afterEach, describe, expect, test } from 'vitest'
import type { UpstreamFailure, UpstreamTarget } from '../../../src/listener/front-end.ts'
import { UpstreamPools } from '../../../src/upstream/pools.ts'
import type { UpstreamHandler } from '../../../src/upstream/upstream-pool.ts'
import { makeCertificate, opensslSkipReason } from '../../support/certificates.ts'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

async function startServer(options: TlsOptions): Promise<{ port: number; sockets: TLSSocket[] }> {
  const sockets: TLSSocket[] = []
  const server = createTlsServer(options, (socket) => {
    sockets.push(socket)
    let text = ''
    socket
      .on('error', () => {})
      .on('data', (chunk) => {
        text += chunk.toString('latin1')
        if (text.startsWith('POST') ? !text.endsWith('0\r\n\r\n') : !text.endsWith('\r\n\r\n')) return
        const body = text.startsWith('POST') ? String(text.length) : 'ok'
        text = ''
        socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
      })
  })
  server.on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, sockets }
}

class Outcome implements UpstreamHandler {
  text = ''
  writable = 0
  onWritable: (() => void) | undefined
  failure: UpstreamFailure | undefined
  readonly over: Promise<void>
  #settle!: () => void

  constructor() {
    this.over = new Promise((resolve) => {
      this.#settle = resolve
    })
  }
  onUpstreamHead(status: number): void {
    this.text += `${status} `
  }
  onUpstreamData(chunk: Uint8Array): void {
    this.text += Buffer.from(chunk).toString('latin1')
  }
  onUpstreamEnd(): void {
    this.#settle()
  }
  onUpstreamFailure(failure: UpstreamFailure): void {
    this.failure = failure
    this.text += failure.reason
    this.#settle()
  }
  onUpstreamWritable(): void {
    this.writable++
    this.onWritable?.()
  }
}

const target = (port: number, tls: UpstreamTarget['tls']): UpstreamTarget => ({
  name: 'up',
  protocol: 'https',
  host: '127.0.0.1',
  port,
  tls,
  timers: { connectMs: 2_000, queueMs: 2_000, firstByteMs: 5_000, idleMs: 5_000, keepAliveMs: 60_000 },
  maxConnections: 8,
  maxQueued: 8,
})
const GET = { head: 'GET / HTTP/1.1\r\nhost: a\r\n', bodyLength: 0, body: undefined }

function startPools(): UpstreamPools {
  const pools = new UpstreamPools({ bufferBytes: 256 * 1024 })
  closers.push(() => pools.close())
  return pools
}

async function ask(pools: UpstreamPools, to: UpstreamTarget): Promise<string> {
  const outcome = new Outcome()
  pools.send(to, GET, outcome)
  await outcome.over
  return outcome.text
}

describe.skipIf(opensslSkipReason !== undefined)('TLS that is not for the native pool', () => {
  const rsa = ['rsa:2048']
  test.each([
    ['suites without AEAD', { ciphers: 'ECDHE-RSA-AES128-SHA256', maxVersion: 'TLSv1.2' } as TlsOptions, rsa],
    ['a key exchange by RSA', { ciphers: 'AES128-GCM-SHA256', maxVersion: 'TLSv1.2' } as TlsOptions, rsa],
    ['a key on P-521', {}, ['ec', '-pkeyopt', 'ec_paramgen_curve:P-521']],
  ])('%s: the other pool takes the request, and those after it', async (_what, options, newKey) => {
    const made = makeCertificate({ names: 'DNS:up.test', newKey })
    const { port, sockets } = await startServer({ ...options, key: made.key, cert: made.certificate })
    const pools = startPools()
    const to = target(port, { verify: true, ca: made.certificate, serverName: 'up.test' })
    expect(await ask(pools, to)).toBe('200 ok')
    await expect.poll(() => pools.connections.idle).toBe(1)
    expect(await ask(pools, to)).toBe('200 ok')
    expect(sockets).toHaveLength(1)
    // verified there as here
    expect(await ask(pools, target(port, { verify: true, ca: made.certificate, serverName: 'b.test' }))).toBe(
      'tls_failed',
    )
  })

  test('a certificate without alternative names is judged by its common name, as before', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-common-name-'))
    closers.push(() => rmSync(folder, { recursive: true }))
    const words = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=up.test'.split(' ')
    execFileSync('openssl', [...words, '-keyout', 'key', '-out', 'certificate'], { cwd: folder, stdio: 'ignore' })
    const [key, cert] = ['key', 'certificate'].map((name) =>
      execFileSync('cat', [join(folder, name)], { encoding: 'utf8' }),
    )
    const { port } = await startServer({ key, cert })
    expect(await ask(startPools(), target(port, { verify: true, ca: cert, serverName: 'up.test' }))).toBe('200 ok')
    expect(await ask(startPools(), target(port, { verify: true, ca: cert, serverName: 'b.test' }))).toBe('tls_failed')
  })

  test('a streamed body is asked for once, by the pool that sends it; pause, times and counts are its own', async () => {
    const made = makeCertificate({ names: 'DNS:up.test', newKey: rsa })
    const options = {
      ciphers: 'AES128-GCM-SHA256',
      maxVersion: 'TLSv1.2',
      key: made.key,
      cert: made.certificate,
    } as const
    const { port } = await startServer(options)
    const pools = startPools()
    const outcome = new Outcome()
    const leg = pools.send(
      target(port, { verify: true, ca: made.certificate, serverName: 'up.test' }),
      { head: 'POST / HTTP/1.1\r\nhost: a\r\n', bodyLength: -1, body: undefined },
      outcome,
    )
    await new Promise<void>((resolve) => {
      outcome.onWritable = resolve
    })
    expect(leg.connectedAtMs).toBeGreaterThan(0)
    expect(leg.connectionReused).toBe(false)
    expect(pools.connections).toEqual({ active: 1, idle: 0, pending: 0 })
    leg.pause()
    leg.write(Buffer.from('some'))
    leg.write(Buffer.from('thing'))
    leg.end()
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(outcome.text).not.toMatch(/\d{2}$/)
    leg.resume()
    await outcome.over
    expect(outcome.text).toMatch(/^200 \d+$/)
    expect(outcome.writable).toBe(1)
  })

  test('aborted while it is in the other pool: nothing more comes', async () => {
    let connections = 0
    const silent = createServer((socket) => {
      const isFirst = connections++ === 0
      // handshake_failure, once; then nothing
      socket.on('error', () => {}).once('data', () => isFirst && socket.write(Buffer.from('15030300020228', 'hex')))
    })
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    closers.push(() => silent.close())
    const pools = startPools()
    const outcome = new Outcome()
    const leg = pools.send(target((silent.address() as AddressInfo).port, { verify: false }), GET, outcome)
    await expect.poll(() => connections).toBe(2)
    leg.abort()
    await new Promise((resolve) => setTimeout(resolve, 200))
    expect(outcome.text).toBe('')
    await expect.poll(() => pools.connections).toEqual({ active: 0, idle: 0, pending: 0 })
  })
})

describe.skipIf(opensslSkipReason !== undefined)('authorities', () => {
  test('without any of its own a target is verified against what Node.js trusts, NODE_EXTRA_CA_CERTS included', async () => {
    const made = makeCertificate({ names: 'IP:127.0.0.1' })
    const { port } = await startServer({ key: made.key, cert: made.certificate })
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-authorities-'))
    closers.push(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'extra.pem')
    writeFileSync(path, made.certificate)
    const dist = new URL('../../../dist/upstream/', import.meta.url)
    const script = `
      const { defaultAuthorities } = await import('${dist}authorities.js')
      const { NativePool } = await import('${dist}native-pool.js')
      const pool = new NativePool({ bufferBytes: 65536 })
      const done = (text) => {
        console.log(JSON.stringify({ text, count: defaultAuthorities().split('BEGIN CERTIFICATE').length - 1 }))
        process.exit()
      }
      pool.send(${JSON.stringify(target(port, { verify: true }))}, ${JSON.stringify({ ...GET })}, {
        onUpstreamHead: (status) => done('' + status), onUpstreamData() {}, onUpstreamEnd() {}, onUpstreamWritable() {},
        onUpstreamFailure: (failure) => done(failure.reason),
      })`
    const run = (env: NodeJS.ProcessEnv): Promise<{ text: string; count: number }> =>
      new Promise((resolve, reject) => {
        execFile(process.execPath, ['--input-type=module', '-e', script], { env }, (error, stdout) =>
          error === null ? resolve(JSON.parse(stdout) as { text: string; count: number }) : reject(error),
        )
      })
    const { NODE_EXTRA_CA_CERTS: _, ...bare } = process.env
    const without = await run(bare)
    expect(without.text).toBe('tls_failed')
    expect(without.count).toBe(rootCertificates.length)
    expect(await run({ ...bare, NODE_EXTRA_CA_CERTS: path })).toEqual({ text: '200', count: without.count + 1 })
    expect((await run({ ...bare, NODE_EXTRA_CA_CERTS: '/nowhere.pem' })).text).toBe('tls_failed')
  })
})
