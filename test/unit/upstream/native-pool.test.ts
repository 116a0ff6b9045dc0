/** The native pool over real sockets, where the wire suites do not look: names, memory, idle loops, threads. */
import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, test } from 'vitest'
import type { UpstreamFailure, UpstreamTarget } from '../../../src/listener/front-end.ts'
import { NATIVE_ADDON_PATH } from '../../../src/native/addon.ts'
import { AddressBook, type Lookup } from '../../../src/upstream/address-book.ts'
import { NativePool } from '../../../src/upstream/native-pool.ts'
import type { UpstreamHandler, UpstreamLeg } from '../../../src/upstream/upstream-pool.ts'

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

async function startServer(onConnection: (socket: Socket) => void): Promise<Server & { port: number }> {
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    onConnection(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  closers.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return Object.assign(server, { port: (server.address() as AddressInfo).port })
}

function startPool(addressBook?: AddressBook): NativePool {
  const pool = new NativePool({ bufferBytes: 256 * 1024, ...(addressBook === undefined ? {} : { addressBook }) })
  closers.push(() => pool.close())
  return pool
}

const target = (port: number, more: Partial<UpstreamTarget> = {}): UpstreamTarget => ({
  name: 'up',
  protocol: 'http',
  host: '127.0.0.1',
  port,
  timers: { connectMs: 1_000, queueMs: 2_000, firstByteMs: 5_000, idleMs: 5_000, keepAliveMs: 60_000 },
  maxConnections: 8,
  maxQueued: 8,
  ...more,
})

/** Writes down what comes, in order. */
class Recorder implements UpstreamHandler {
  readonly events: string[] = []
  bytes = 0
  text = ''
  whole = 0
  failure: UpstreamFailure | undefined
  onHead: (() => void) | undefined
  writable = 0
  readonly over: Promise<void>
  #settle!: () => void

  constructor() {
    this.over = new Promise((resolve) => {
      this.#settle = resolve
    })
  }
  onUpstreamHead(status: number): void {
    this.events.push(`head ${status}`)
    this.onHead?.()
  }
  onUpstreamData(chunk: Uint8Array): void {
    this.bytes += chunk.length
    this.text += Buffer.from(chunk).toString('latin1')
    if (this.events.at(-1) !== 'data') this.events.push('data')
  }
  onUpstreamEnd(): void {
    this.events.push('end')
    this.#settle()
  }
  onUpstreamAnswer(status: number, _head: string, _length: number, _contentLength: number, body?: Uint8Array): void {
    this.whole++
    this.onUpstreamHead(status)
    if (body !== undefined) this.onUpstreamData(body)
    this.onUpstreamEnd()
  }
  onUpstreamFailure(failure: UpstreamFailure): void {
    this.failure = failure
    this.events.push(failure.reason)
    this.#settle()
  }
  onUpstreamWritable(): void {
    this.writable++
  }
}

const GET = { head: 'GET / HTTP/1.1\r\nhost: a\r\n', bodyLength: 0, body: undefined }
const answerAll = (socket: Socket): void => {
  socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'))
}
const answerInTwo = (socket: Socket): void => {
  socket.on('data', () => {
    socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nAB')
    setTimeout(() => socket.write('CD'), 20)
  })
}

describe('events', () => {
  test('an answer in one piece is told as a whole', async () => {
    const { port } = await startServer(answerAll)
    const recorder = new Recorder()
    startPool().send(target(port), GET, recorder)
    await recorder.over
    expect(recorder).toMatchObject({ whole: 1, text: 'ok', events: ['head 200', 'data', 'end'] })
  })

  test('an answer in one piece waits while its receiver pauses', async () => {
    const { port } = await startServer(answerAll)
    const recorder = new Recorder()
    const leg = startPool().send(target(port), GET, recorder)
    leg.pause()
    await pause(100)
    expect(recorder.events).toEqual([])
    leg.resume()
    await recorder.over
    expect(recorder.events).toEqual(['head 200', 'data', 'end'])
  })

  test('what came with the head waits while its receiver pauses, untouched by other answers', async () => {
    const { port } = await startServer(answerInTwo)
    const other = await startServer(answerAll)
    const pool = startPool()
    const recorder = new Recorder()
    const leg: UpstreamLeg = pool.send(target(port), GET, recorder)
    recorder.onHead = () => leg.pause()
    await pause(100)
    expect(recorder.events).toEqual(['head 200'])
    const second = new Recorder()
    pool.send(target(other.port), GET, second)
    await second.over
    expect(second.text).toBe('ok')
    leg.resume()
    expect(recorder.events).toEqual(['head 200', 'data'])
    await recorder.over
    expect(recorder).toMatchObject({ whole: 0, text: 'ABCD', events: ['head 200', 'data', 'end'] })
  })

  test.each([
    'GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\n',
    'GET / HTTP/1.1\r\nhost: a\nx: y\r\n',
    'GET / HTTP/1.1\r\nHost: a\r\n',
    'GET /\r\n',
    '',
  ])('a head that is not one request is refused by send, and nothing goes out (H-123): %j', async (head) => {
    let bytes = 0
    const { port } = await startServer((socket) => void socket.on('data', (chunk) => (bytes += chunk.length)))
    const pool = startPool()
    expect(() => pool.send(target(port), { ...GET, head }, new Recorder())).toThrow('not a valid request head')
    await pause(50)
    expect(bytes).toBe(0)
  })

  test('a head longer than any before arrives whole', async () => {
    const { port } = await startServer((socket) => {
      let text = ''
      socket.on('data', (chunk) => {
        text += chunk.toString('latin1')
        if (!text.endsWith('\r\n\r\n')) return
        const { length } = text
        text = ''
        socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${String(length).length}\r\n\r\n${length}`)
      })
    })
    const pool = startPool()
    for (const size of [10, 16_300, 16_383, 16_384, 60_000, 10]) {
      const head = `${GET.head}x-long: ${'é'.repeat(size)}\r\n`
      const recorder = new Recorder()
      pool.send(target(port), { ...GET, head }, recorder)
      await recorder.over
      expect(recorder.text).toBe(String(head.length + 2))
    }
  })

  test('aborted inside an event: nothing more comes', async () => {
    const { port } = await startServer(answerInTwo)
    const pool = startPool()
    const recorder = new Recorder()
    const leg = pool.send(target(port), GET, recorder)
    const told = new Promise<void>((resolve) => {
      recorder.onHead = () => {
        leg.abort()
        resolve()
      }
    })
    await told
    await pause(100)
    expect(recorder.events).toEqual(['head 200'])
  })

  test('a closed pool fails what is sent later, and not before send has returned', async () => {
    const pool = startPool()
    await pool.close()
    const recorder = new Recorder()
    pool.send(target(1), GET, recorder)
    expect(recorder.events).toEqual([])
    await recorder.over
    expect(recorder.failure).toMatchObject({ reason: 'connect_failed', notProcessed: true })
    expect(pool.connections).toEqual({ active: 0, idle: 0, pending: 0 })
  })
})

describe('names', () => {
  test('a name is looked up once for many requests, and its addresses are tried in turn', async () => {
    const { port } = await startServer(answerAll)
    let lookups = 0
    const lookup: Lookup = (_name, done) => {
      lookups++
      // nobody listens on the first
      setImmediate(done, null, { addresses: ['127.0.0.2', '127.0.0.1'], ttlMs: undefined })
    }
    const pool = startPool(new AddressBook({ lookup }))
    const recorders = [new Recorder(), new Recorder(), new Recorder()]
    for (const recorder of recorders) pool.send(target(port, { host: 'up.test' }), GET, recorder)
    await Promise.all(recorders.map(({ over }) => over))
    expect(recorders.map(({ events }) => events.join(' '))).toEqual(Array(3).fill('head 200 data end'))
    expect(lookups).toBe(1)
  })

  test('a name without address: connect_failed; a lookup that hangs: connect_timeout', async () => {
    const failing = startPool(new AddressBook({ lookup: (_name, done) => done(new Error('ENOTFOUND'), undefined) }))
    const hanging = startPool(new AddressBook({ lookup: () => {} }))
    const [first, second] = [new Recorder(), new Recorder()]
    failing.send(target(1, { host: 'none.test' }), GET, first)
    const timers = { connectMs: 100, queueMs: 2_000, firstByteMs: 100, idleMs: 100, keepAliveMs: 100 }
    hanging.send(target(1, { host: 'none.test', timers }), GET, second)
    await Promise.all([first.over, second.over])
    expect(first.failure).toMatchObject({ reason: 'connect_failed', notProcessed: true, bodyConsumed: false })
    expect(second.failure).toMatchObject({ reason: 'connect_timeout', notProcessed: true })
  })

  test('fresh, stale, old: what is used while a lookup runs or fails', async () => {
    let nowMs = 0
    const asked: Parameters<Lookup>[1][] = []
    const book = new AddressBook({ nowMs: () => nowMs, lookup: (_name, done) => asked.push(done) })
    const first = book.find('a.test')
    asked.shift()!(null, { addresses: ['192.0.2.1'], ttlMs: undefined })
    expect(await first).toEqual(['192.0.2.1'])
    nowMs = 9_999
    expect(book.find('a.test')).toEqual(['192.0.2.1'])
    expect(asked).toHaveLength(0)
    nowMs = 10_000
    expect(book.find('a.test')).toEqual(['192.0.2.1'])
    expect(book.find('a.test')).toEqual(['192.0.2.1'])
    expect(asked).toHaveLength(1)
    asked.shift()!(null, { addresses: ['192.0.2.2'], ttlMs: undefined })
    expect(book.find('a.test')).toEqual(['192.0.2.2'])
    nowMs = 80_000
    const old = book.find('a.test')
    expect(old).toBeInstanceOf(Promise)
    asked.shift()!(new Error('SERVFAIL'), undefined)
    expect(await old).toEqual(['192.0.2.2'])
    expect(book.find('192.0.2.9')).toEqual(['192.0.2.9'])
  })
})

describe('what must cost nothing', () => {
  test('an end of file that nobody reads: no read, no turn, no CPU', async () => {
    const { port } = await startServer((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc')
        setTimeout(() => socket.end('defg'), 30)
      })
    })
    const pool = startPool()
    const recorder = new Recorder()
    const leg = pool.send(target(port), GET, recorder)
    recorder.onHead = () => leg.pause()
    await pause(200)
    const { reads } = pool
    const before = process.cpuUsage()
    await pause(500)
    const used = process.cpuUsage(before)
    expect(pool.reads).toBe(reads)
    // a busy loop takes all of the 500 ms
    expect(used.user + used.system).toBeLessThan(250_000)
    leg.resume()
    await recorder.over
    expect(recorder.bytes).toBe(7)
    expect(recorder.failure?.reason).toBe('upstream_reset')
  })

  test('H-38 64 MB to an upstream that does not read, 64 MB from one while we do not: resident memory stays flat', async () => {
    const total = 64 * 1024 * 1024
    const { port } = await startServer((socket) => socket.pause())
    const pool = startPool()
    const up = new Recorder()
    const head = 'PUT / HTTP/1.1\r\nhost: a\r\n'
    const leg = pool.send(target(port), { head, bodyLength: total, body: undefined }, up)
    while (up.writable === 0) await pause(5)
    const before = process.memoryUsage().rss
    const piece = new Uint8Array(64 * 1024)
    let written = 0
    while (leg.write(piece) && written < total) written += piece.length
    await pause(100)
    expect(written).toBeLessThan(total / 4)
    expect(process.memoryUsage().rss - before).toBeLessThan(12 * 1024 * 1024)
    leg.abort()

    const child = new Worker(
      `const { createServer } = require('node:net'); const { parentPort } = require('node:worker_threads')
       const server = createServer((socket) => { socket.on('error', () => {}); socket.once('data', () => {
         socket.write('HTTP/1.1 200 OK\\r\\ncontent-length: ${total}\\r\\n\\r\\n')
         const piece = Buffer.alloc(65536); let left = ${total}
         const more = () => { while (left > 0) { left -= piece.length; if (!socket.write(piece)) { socket.once('drain', more); return } } }
         more() }) })
       server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port))`,
      { eval: true },
    )
    closers.push(() => child.terminate())
    const [downPort] = (await once(child, 'message')) as [number]
    const down = new Recorder()
    const paused = process.memoryUsage().rss
    const reading = pool.send(target(downPort), GET, down)
    down.onHead = () => reading.pause()
    await pause(500)
    expect(down.bytes).toBe(0)
    expect(process.memoryUsage().rss - paused).toBeLessThan(12 * 1024 * 1024)
    reading.resume()
    await down.over
    expect(down.bytes).toBe(total)
  })

  test('a thread that ends with an open pool takes it along', async () => {
    const { port } = await startServer(() => {})
    const worker = new Worker(
      `const addon = require(${JSON.stringify(NATIVE_ADDON_PATH)})
       const { parentPort } = require('node:worker_threads')
       const pool = addon.createUpstreamPool(65536, Buffer.allocUnsafeSlow(65536), () => {})
       const up = addon.addUpstreamTarget(pool, '127.0.0.1:${port}', 1000, 1000, 1000, 1000, 1000, 8, 8)
       addon.upstreamSend(pool, up, 'GET / HTTP/1.1\\r\\n', 0, null)
       parentPort.on('message', () => {})
       setTimeout(() => parentPort.postMessage(addon.upstreamConnections(pool)), 50)`,
      { eval: true },
    )
    expect((await once(worker, 'message'))[0]).toEqual([1, 0, 0])
    expect(await worker.terminate()).toBe(1)
  })
})
