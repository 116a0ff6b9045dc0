/** A client that writes bytes and reads bytes: nothing between the test and the wire. */
import { type Socket, connect } from 'node:net'

/** One answer as it stood on the wire. */
export interface RawAnswer {
  readonly status: number
  readonly reason: string
  /** Lines in order, names in lower case. */
  readonly fields: readonly (readonly [string, string])[]
  /** Decoded from chunks when it came in chunks; latin1. */
  readonly body: string
  readonly isChunked: boolean
  /** False when the connection ended before the body did. */
  readonly isComplete: boolean
  field(name: string): string | undefined
}

export interface RawConnection {
  readonly socket: Socket
  /** Everything received so far, latin1. */
  readonly received: string
  readonly isClosed: boolean
  /** `performance.now()` of each arrival. */
  readonly arrivals: readonly { readonly atMs: number; readonly text: string }[]
  send(text: string | Uint8Array): void
  /** Resolves when `count` answers are whole, or the connection is closed, or the time is over. */
  answers(count: number, timeoutMs?: number, methods?: readonly string[]): Promise<RawAnswer[]>
  closed(timeoutMs?: number): Promise<boolean>
  destroy(): void
}

/** Opens a connection; `reads: false` leaves everything unread in the socket. */
export async function openRaw(
  port: number,
  options: { readonly reads?: boolean; readonly host?: string; readonly from?: string } = {},
): Promise<RawConnection> {
  const { host = '127.0.0.1', from } = options
  const socket = connect({ port, host, ...(from !== undefined && { localAddress: from }) })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  socket.setNoDelay(true)
  let received = ''
  let isClosed = false
  const arrivals: { atMs: number; text: string }[] = []
  const listeners = new Set<() => void>()
  const wake = (): void => {
    listeners.forEach((listener) => listener())
  }
  if (options.reads !== false) {
    socket.on('data', (chunk: Buffer) => {
      const text = chunk.toString('latin1')
      received += text
      arrivals.push({ atMs: performance.now(), text })
      wake()
    })
  }
  socket.on('error', () => {
    isClosed = true
    wake()
  })
  socket.on('close', () => {
    isClosed = true
    wake()
  })
  const until = (met: () => boolean, timeoutMs: number): Promise<void> =>
    new Promise((resolve) => {
      if (met()) {
        resolve()
        return
      }
      const check = (): void => {
        if (!met()) return
        clearTimeout(timer)
        listeners.delete(check)
        resolve()
      }
      const timer = setTimeout(() => {
        listeners.delete(check)
        resolve()
      }, timeoutMs)
      listeners.add(check)
    })
  return {
    socket,
    arrivals,
    get received() {
      return received
    },
    get isClosed() {
      return isClosed
    },
    send(text) {
      if (!isClosed) socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text)
    },
    async answers(count, timeoutMs = 5_000, methods = []) {
      const whole = (): number => parseAnswers(received, isClosed, methods).filter((answer) => answer.isComplete).length
      await until(() => isClosed || whole() >= count, timeoutMs)
      return parseAnswers(received, isClosed, methods)
    },
    async closed(timeoutMs = 5_000) {
      await until(() => isClosed, timeoutMs)
      return isClosed
    },
    destroy() {
      socket.destroy()
    },
  }
}

/** Sends once, waits for one answer (or the close), closes. */
export async function exchangeRaw(
  port: number,
  text: string | Uint8Array,
  timeoutMs?: number,
): Promise<{ answers: RawAnswer[]; received: string; isClosed: boolean }> {
  const connection = await openRaw(port)
  connection.send(text)
  const method = typeof text === 'string' ? text.slice(0, text.indexOf(' ')) : ''
  const answers = await connection.answers(1, timeoutMs, [method])
  // A close that belongs to the answer comes at once or not at all.
  if (!connection.isClosed) await new Promise((resolve) => setTimeout(resolve, 20))
  const result = { answers, received: connection.received, isClosed: connection.isClosed }
  connection.destroy()
  return result
}

/** Reads answers out of bytes. `methods[i]` is the method of request i: HEAD has no body. Interim answers (1xx) are left out. */
export function parseAnswers(text: string, atEnd: boolean, methods: readonly string[] = []): RawAnswer[] {
  const answers: RawAnswer[] = []
  let position = 0
  while (position < text.length) {
    const headEnd = text.indexOf('\r\n\r\n', position)
    if (headEnd === -1) break
    const [startLine = '', ...lines] = text.slice(position, headEnd).split('\r\n')
    const status = Number(startLine.slice(9, 12))
    const fields = lines.map((line): readonly [string, string] => {
      const colon = line.indexOf(':')
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()]
    })
    position = headEnd + 4
    if (status >= 100 && status < 200) continue
    const field = (name: string): string | undefined => fields.find(([known]) => known === name)?.[1]
    let body = ''
    let isComplete = true
    const isChunked = field('transfer-encoding') === 'chunked'
    const length = field('content-length')
    if (methods[answers.length] === 'HEAD' || status === 204 || status === 304) {
      // no body whatever the fields say
    } else if (isChunked) {
      isComplete = false
      for (;;) {
        const lineEnd = text.indexOf('\r\n', position)
        if (lineEnd === -1) break
        const size = Number.parseInt(text.slice(position, lineEnd), 16)
        if (Number.isNaN(size)) break
        position = lineEnd + 2
        if (size === 0) {
          isComplete = text.slice(position, position + 2) === '\r\n'
          position += 2
          break
        }
        body += text.slice(position, position + size)
        if (text.length < position + size + 2) {
          position = text.length
          break
        }
        position += size + 2
      }
    } else if (length === undefined) {
      body = text.slice(position)
      position = text.length
      isComplete = atEnd
    } else {
      body = text.slice(position, position + Number(length))
      isComplete = body.length === Number(length)
      position += Number(length)
    }
    answers.push({ status, reason: startLine.slice(13), fields, body, isChunked, isComplete, field })
    if (!isComplete) break
  }
  return answers
}

/** Looks every few milliseconds until something holds; false when the time is over first. */
export async function eventually(holds: () => boolean, timeoutMs = 5_000): Promise<boolean> {
  const deadlineMs = performance.now() + timeoutMs
  while (!holds()) {
    if (performance.now() > deadlineMs) return false
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
  return true
}
