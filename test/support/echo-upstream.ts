/** An upstream over bare sockets: records every request byte for byte and answers as the test says. */
import { createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'

/** One request as it arrived. */
export interface RecordedRequest {
  readonly method: string
  readonly target: string
  readonly head: string
  readonly fields: readonly (readonly [string, string])[]
  /** Decoded when it came in chunks; latin1. */
  body: string
  /** Lines behind the last chunk. */
  trailers: string
  isComplete: boolean
  /** Position of the request on its connection, from 0. */
  readonly index: number
  readonly connection: number
  readonly socket: Socket
  field(name: string): string | undefined
  all(name: string): string[]
}

export interface EchoUpstream {
  readonly port: number
  readonly requests: RecordedRequest[]
  /** Bytes per connection, latin1. */
  readonly raw: string[]
  /** Connections that the gateway closed, with the time. */
  readonly closes: { readonly connection: number; readonly atMs: number }[]
  /** Answers a complete request; default: 200 with the request as text. */
  answer: (request: RecordedRequest, socket: Socket) => void
  /** Called when a head has arrived, before the body. */
  onHead: ((request: RecordedRequest, socket: Socket) => void) | undefined
  /** Called on each new connection. */
  onConnection: ((socket: Socket, connection: number) => void) | undefined
  readonly complete: RecordedRequest[]
  reset(): void
  close(): Promise<void>
}

export function answerText(status: number, body: string, fields = ''): string {
  return `HTTP/1.1 ${status} X\r\n${fields}content-length: ${Buffer.byteLength(body, 'latin1')}\r\n\r\n${body}`
}

/** The default answer: a line per fact, so that a test can look at what arrived. */
export function echoAnswer(request: RecordedRequest, socket: Socket): void {
  const body = `${request.method} ${request.target}\n${request.body.length} bytes\n${request.body.slice(0, 65_536)}`
  const text = `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-echo: yes\r\ncontent-length: ${body.length}\r\n\r\n${request.method === 'HEAD' ? '' : body}`
  socket.write(Buffer.from(text, 'latin1'))
}

/** Set: upstreams that are started from then on speak TLS. */
export const echoTls: { material: { readonly key: string; readonly certificate: string } | undefined } = {
  material: undefined,
}

export async function startEchoUpstream(port = 0): Promise<EchoUpstream> {
  const requests: RecordedRequest[] = []
  const raw: string[] = []
  const closes: { connection: number; atMs: number }[] = []
  const sockets = new Set<Socket>()
  const upstream = {
    port: 0,
    requests,
    raw,
    closes,
    answer: echoAnswer,
    onHead: undefined,
    onConnection: undefined,
    get complete() {
      return requests.filter((request) => request.isComplete)
    },
    reset() {
      requests.length = 0
      raw.length = 0
      closes.length = 0
      upstream.answer = echoAnswer
      upstream.onHead = undefined
      upstream.onConnection = undefined
    },
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
      })
    },
  } as EchoUpstream & { port: number }
  const serve = (socket: Socket): void => {
    sockets.add(socket)
    const connection = raw.push('') - 1
    socket.setNoDelay(true)
    socket.on('error', () => {})
    socket.on('close', () => {
      sockets.delete(socket)
      closes.push({ connection, atMs: performance.now() })
    })
    upstream.onConnection?.(socket, connection)
    let pending = ''
    let current: (RecordedRequest & { isChunked: boolean; left: number }) | undefined
    let index = 0
    const finish = (): void => {
      const done = current!
      current = undefined
      done.isComplete = true
      upstream.answer(done, socket)
    }
    socket.on('data', (chunk: Buffer) => {
      const text = chunk.toString('latin1')
      if ((raw[connection]?.length ?? 0) < 1_000_000) raw[connection] += text
      pending += text
      for (;;) {
        if (current === undefined) {
          const end = pending.indexOf('\r\n\r\n')
          if (end === -1) return
          const [line = '', ...rest] = pending.slice(0, end).split('\r\n')
          const fields = rest.map((field): readonly [string, string] => {
            const colon = field.indexOf(':')
            return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()]
          })
          const field = (name: string): string | undefined => fields.find(([known]) => known === name)?.[1]
          const [method = '', target = ''] = line.split(' ')
          current = {
            method,
            target,
            head: pending.slice(0, end + 4),
            fields,
            body: '',
            trailers: '',
            isComplete: false,
            index: index++,
            connection,
            socket,
            field,
            all: (name) => fields.filter(([known]) => known === name).map(([, value]) => value),
            isChunked: field('transfer-encoding') !== undefined,
            left: Number(field('content-length') ?? 0),
          }
          requests.push(current)
          pending = pending.slice(end + 4)
          upstream.onHead?.(current, socket)
        }
        if (current.isChunked) {
          const lineEnd = pending.indexOf('\r\n')
          if (lineEnd === -1) return
          const size = Number.parseInt(pending.slice(0, lineEnd), 16)
          if (size === 0) {
            const end = pending.indexOf('\r\n\r\n', lineEnd)
            if (end === -1) return
            current.trailers = pending.slice(lineEnd + 2, end + 2)
            pending = pending.slice(end + 4)
            finish()
            continue
          }
          if (pending.length < lineEnd + 2 + size + 2) return
          current.body += pending.slice(lineEnd + 2, lineEnd + 2 + size)
          pending = pending.slice(lineEnd + 2 + size + 2)
        } else {
          const part = pending.slice(0, current.left)
          // Large uploads are counted, not kept.
          current.body = current.body.length < 4_000_000 ? current.body + part : current.body
          current.left -= part.length
          pending = pending.slice(part.length)
          if (current.left > 0) return
          finish()
        }
      }
    })
  }
  const { material } = echoTls
  const server: Server =
    material === undefined
      ? createServer(serve)
      : createTlsServer({ key: material.key, cert: material.certificate }, (socket) => {
          // what lies under TLS can be reset, a TLS socket cannot
          const bare = bareSockets.get(socket.remotePort!)
          socket.resetAndDestroy = () => {
            bare?.resetAndDestroy()
            return socket
          }
          serve(socket)
        })
  const bareSockets = new Map<number, Socket>()
  if (material !== undefined) server.on('connection', (socket) => bareSockets.set(socket.remotePort!, socket))
  await new Promise<void>((resolve) => {
    server.listen(port, '127.0.0.1', resolve)
  })
  const address = server.address()
  upstream.port = typeof address === 'object' && address !== null ? address.port : 0
  return upstream
}
