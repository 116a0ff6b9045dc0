/** An upstream on plain sockets: what it says is what a test writes. */
import { createServer, type Socket } from 'node:net'

export interface RawUpstream {
  readonly url: string
  /** Takes no more connections; those that are open end with their clients. */
  close(): void
}

/** `accept` gets each connection; failures of its socket concern nobody. */
export async function startRawUpstream(accept: (socket: Socket) => void): Promise<RawUpstream> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    accept(socket)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  // it listens on a port
  const { port } = server.address() as { port: number }
  return { url: `http://127.0.0.1:${port}`, close: () => server.close() }
}
