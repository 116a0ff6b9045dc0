/**
 * How the command line talks to the running gateway: one line of JSON each way over `control.sock` (0600, so only the
 * same user). The primary serves it; it never crosses the network.
 *
 * Source: operations.md O-05, O-06; spec README "state".
 */
import { chmodSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { controlSocketPath } from './state-dir.ts'

export type ControlRequest =
  | { readonly verb: 'reload' }
  | { readonly verb: 'stop'; readonly now: boolean }
  | { readonly verb: 'status' }
  | { readonly verb: 'health' }
  | { readonly verb: 'reopen-logs' }
  | { readonly verb: 'drain' | 'undrain'; readonly name: string }

/** `ok` false comes with `message`. Everything else depends on the verb. */
export interface ControlAnswer {
  readonly ok: boolean
  readonly message?: string
  readonly [key: string]: unknown
}

const MAX_LINE_BYTES = 64 * 1024
const MAX_CONNECTIONS = 32
const REQUEST_TIMEOUT_MS = 5000
const CLOSE_TIMEOUT_MS = 1000

export interface ControlServer {
  /** Takes no more requests; resolves when the answers under way are out, or after a second. */
  close(): Promise<void>
}

/** Listens on the control socket. `answer` may take its time; what it throws becomes `ok: false`. */
export async function startControlServer(
  stateDir: string,
  answer: (request: ControlRequest) => Promise<ControlAnswer>,
): Promise<ControlServer> {
  const path = controlSocketPath(stateDir)
  const server = createServer((socket) => serve(socket, answer))
  server.maxConnections = MAX_CONNECTIONS
  // the file must not exist for others even between bind and chmod
  const mask = process.umask(0o177)
  try {
    await listen(server, path)
  } finally {
    process.umask(mask)
  }
  chmodSync(path, 0o600)
  server.unref()
  return {
    close: () =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, CLOSE_TIMEOUT_MS)
        server.close(() => {
          clearTimeout(timer)
          resolve()
        })
        rmSync(path, { force: true })
      }),
  }
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.removeListener('error', reject)
      // an error of accept() must not end the gateway
      server.on('error', () => undefined)
      resolve()
    })
  })
}

function serve(socket: Socket, answer: (request: ControlRequest) => Promise<ControlAnswer>): void {
  let received = ''
  socket.setEncoding('utf8')
  socket.on('error', () => socket.destroy())
  socket.setTimeout(REQUEST_TIMEOUT_MS, () => socket.destroy())
  socket.on('data', (text: string) => {
    received += text
    const end = received.indexOf('\n')
    if (end === -1) {
      if (received.length > MAX_LINE_BYTES) socket.destroy()
      return
    }
    // one request per connection; a reload takes as long as it takes
    socket.removeAllListeners('data')
    socket.setTimeout(0)
    void reply(socket, received.slice(0, end), answer)
  })
}

async function reply(
  socket: Socket,
  line: string,
  answer: (request: ControlRequest) => Promise<ControlAnswer>,
): Promise<void> {
  let result: ControlAnswer
  try {
    const request = parseRequest(line)
    result = request === undefined ? { ok: false, message: 'this is no request that I know' } : await answer(request)
  } catch (error) {
    result = { ok: false, message: error instanceof Error ? error.message : String(error) }
  }
  socket.end(`${JSON.stringify(result)}\n`)
}

function parseRequest(line: string): ControlRequest | undefined {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    // answered as an unknown request
    return undefined
  }
  if (typeof value !== 'object' || value === null || !('verb' in value)) return undefined
  switch (value.verb) {
    case 'stop':
      return { verb: 'stop', now: 'now' in value && value.now === true }
    case 'drain':
    case 'undrain':
      return 'name' in value && typeof value.name === 'string' ? { verb: value.verb, name: value.name } : undefined
    case 'reload':
    case 'status':
    case 'health':
    case 'reopen-logs':
      return { verb: value.verb }
    default:
      return undefined
  }
}

/** Nobody answers on the control socket. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError'
}

/**
 * Asks the instance that owns `stateDir`. Rejects with UnreachableError when there is none, or when it takes longer
 * than `timeoutMs`, or goes away before it answered.
 */
export function askInstance(stateDir: string, request: ControlRequest, timeoutMs: number): Promise<ControlAnswer> {
  const path = controlSocketPath(stateDir)
  return new Promise((resolve, reject) => {
    const socket = connect(path)
    let received = ''
    const fail = (message: string, cause?: unknown): void => {
      socket.destroy()
      reject(new UnreachableError(message, { cause }))
    }
    socket.setEncoding('utf8')
    socket.setTimeout(timeoutMs, () => fail(`the instance at ${path} did not answer within ${timeoutMs / 1000} s`))
    socket.once('error', (error: NodeJS.ErrnoException) => {
      const nobody = error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
      fail(nobody ? `no sallyport runs with the state folder ${stateDir}` : `${path}: ${error.message}`, error)
    })
    socket.once('connect', () => socket.write(`${JSON.stringify(request)}\n`))
    socket.on('data', (text: string) => {
      received += text
    })
    socket.once('end', () => {
      try {
        resolve(JSON.parse(received) as ControlAnswer)
      } catch (error) {
        fail(`the instance at ${path} went away before it answered`, error)
      }
    })
  })
}
