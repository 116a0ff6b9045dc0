/**
 * The upstream that the suite expects: answers `POST /reflect` with the response that its body describes, all else with
 * an empty 200. Takes any method and any byte, so that nothing but the gateway judges a request.
 *
 * Source: coreruleset/albedo v0.3 (crs/README.md §3); net/http.DetectContentType for a missing media type.
 */
import { createServer, type Socket } from 'node:net'

export interface Reflector {
  readonly port: number
  close(): Promise<void>
}

interface Reflection {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
  readonly encodedBody?: string
}

export async function startReflector(): Promise<Reflector> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    serve(socket)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    // it listens on a port
    port: (server.address() as { port: number }).port,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy()
        server.close(() => resolve())
      }),
  }
}

/** One request after the other, as they come over one connection. */
function serve(socket: Socket): void {
  let received = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    received = Buffer.concat([received, chunk])
    for (;;) {
      const headEnd = received.indexOf('\r\n\r\n')
      if (headEnd === -1) return
      const head = received.toString('latin1', 0, headEnd + 2)
      const body = readBody(head, received, headEnd + 4)
      if (body === undefined) return
      received = received.subarray(body.end)
      const [method = '', target = ''] = head.split(' ', 2)
      const isReflect = method === 'POST' && /^\/reflect\/?$/.test(target.split('?', 1)[0] ?? '')
      const { status, lines, bytes } = isReflect ? reflect(body.bytes) : { status: 200, lines: '', bytes: NOTHING }
      socket.write(`HTTP/1.1 ${status} Reflected\r\n${lines}content-length: ${bytes.length}\r\n\r\n`, 'latin1')
      if (method !== 'HEAD') socket.write(bytes)
    }
  })
}

const NOTHING = Buffer.alloc(0)

/** The body behind a head and where it ends; undefined while it is not all there. */
function readBody(head: string, received: Buffer, start: number): { bytes: Buffer; end: number } | undefined {
  if (!/\r\ntransfer-encoding: *chunked/i.test(head)) {
    const end = start + Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0)
    return received.length < end ? undefined : { bytes: received.subarray(start, end), end }
  }
  const pieces: Buffer[] = []
  let at = start
  for (;;) {
    const lineEnd = received.indexOf('\r\n', at)
    if (lineEnd === -1) return undefined
    const size = Number.parseInt(received.toString('latin1', at, lineEnd), 16)
    const next = lineEnd + 2 + size + 2
    if (received.length < next) return undefined
    if (size === 0) return { bytes: Buffer.concat(pieces), end: next }
    pieces.push(received.subarray(lineEnd + 2, lineEnd + 2 + size))
    at = next
  }
}

function reflect(body: Buffer): { status: number; lines: string; bytes: Buffer } {
  let wanted: Reflection
  try {
    wanted = JSON.parse(body.toString('utf8')) as Reflection
  } catch {
    return { status: 400, lines: '', bytes: Buffer.from('Invalid JSON in request body') }
  }
  const status = wanted.status ?? 200
  if (!Number.isInteger(status) || status < 100 || status > 599) return { status: 400, lines: '', bytes: NOTHING }
  const bytes =
    wanted.body !== undefined && wanted.body !== ''
      ? Buffer.from(wanted.body, 'utf8')
      : Buffer.from(wanted.encodedBody ?? '', 'base64')
  const headers = Object.entries(wanted.headers ?? {})
  let lines = headers.map(([name, value]) => `${name}: ${Buffer.from(value).toString('latin1')}\r\n`).join('')
  const isTyped = headers.some(([name]) => name.toLowerCase() === 'content-type')
  if (!isTyped && bytes.length > 0) lines += `content-type: ${detectContentType(bytes)}\r\n`
  return { status, lines, bytes }
}

const HTML_TAGS =
  /^[\t\n\f\r ]*<(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[ >]/i

/** What Go's server writes when a handler names no type, for the kinds that a reflected text can be. */
function detectContentType(bytes: Buffer): string {
  const start = bytes.toString('latin1', 0, 512)
  if (HTML_TAGS.test(start) || /^[\t\n\f\r ]*<!--/.test(start)) return 'text/html; charset=utf-8'
  if (/^[\t\n\f\r ]*<\?xml/.test(start)) return 'text/xml; charset=utf-8'
  if (start.startsWith('%PDF-')) return 'application/pdf'
  if (start.startsWith('%!PS-Adobe-')) return 'application/postscript'
  if (start.startsWith('PK\u0003\u0004')) return 'application/zip'
  if (start.startsWith('\u001f\u008b\u0008')) return 'application/x-gzip'
  if (start.startsWith('\u0089PNG\r\n\u001a\n')) return 'image/png'
  if (/^GIF8[79]a/.test(start)) return 'image/gif'
  if (start.startsWith('\u00ff\u00d8\u00ff')) return 'image/jpeg'
  // eslint-disable-next-line no-control-regex -- control characters tell binary data from text
  if (/[\u0000-\u0008\u000b\u000e-\u001a\u001c-\u001f]/.test(start)) return 'application/octet-stream'
  return 'text/plain; charset=utf-8'
}
