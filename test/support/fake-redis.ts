/** A server that answers scripts with whatever a test says, byte for byte; everything else as Redis would. */
import { createServer, type Socket } from 'node:net'
import { parseResp } from './start-redis.ts'

/** A fake that listens. */
export interface FakeRedis {
  readonly url: string
  /** Connections accepted so far, and open now. */
  readonly accepted: number
  readonly open: number
  /** Scripts asked for so far. */
  readonly asked: number
  close(): Promise<void>
}

/** Answers one EVALSHA or EVAL: bytes to send now, or undefined for none; it may also use the socket itself. */
export type ScriptAnswer = (words: readonly string[], socket: Socket) => string | Buffer | undefined

/** Starts a fake on a free loopback port. */
export async function startFakeRedis(answer: ScriptAnswer): Promise<FakeRedis> {
  const sockets = new Set<Socket>()
  let accepted = 0
  let asked = 0
  const server = createServer((socket) => {
    accepted += 1
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => undefined)
    let received = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      for (;;) {
        const parsed = parseResp(received, 0)
        if (parsed === undefined) return
        received = received.subarray(parsed.end)
        const words = (parsed.value as unknown[]).map(String)
        const name = words[0]?.toUpperCase()
        if (name === 'EVALSHA' || name === 'EVAL') {
          asked += 1
          const bytes = answer(words, socket)
          if (bytes !== undefined) socket.write(bytes)
        } else {
          socket.write(name === 'SCRIPT' ? `$40\r\n${'0'.repeat(40)}\r\n` : '+OK\r\n')
        }
      }
    })
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const { port } = server.address() as { port: number }
  return {
    url: `redis://127.0.0.1:${port}`,
    get accepted() {
      return accepted
    },
    get open() {
      return sockets.size
    },
    get asked() {
      return asked
    },
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      }),
  }
}
