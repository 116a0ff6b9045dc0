/** Real redis-servers for tests: on a free loopback port, in a folder of their own, without persistence. */
import { spawn, type ChildProcess } from 'node:child_process'
import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs'
import { createServer, connect } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

/** A value of RESP2. */
export type RespValue = null | number | string | Error | RespValue[]

/** A server that runs. */
export interface RunningRedis {
  readonly url: string
  readonly port: number
  /** Sends one command over a connection of its own; an error reply comes back as an Error. */
  command(...words: readonly (string | number)[]): Promise<RespValue>
  /** SIGSTOP: connections stay, nothing is answered. */
  pause(): void
  /** SIGCONT. */
  resume(): void
  /** SIGKILL, waits for the end. */
  kill(): Promise<void>
  /** After kill: the same port, empty. */
  restart(): Promise<void>
  /** Ends the server and removes its folder. */
  stop(): Promise<void>
}

/** What a test may ask for. */
export interface StartRedisOptions {
  /** More arguments of redis-server, such as `['--requirepass', 'x']`. */
  readonly arguments?: readonly string[]
  /** Default: a free one. */
  readonly port?: number
  /** Password for `command`. */
  readonly password?: string
  /** No plain port, only TLS: then `command` does not work and `url` begins with rediss. */
  readonly tlsArguments?: readonly string[]
}

/** Path of redis-server, or undefined: then tests say `skipped: …`. */
export function findRedisServer(): string | undefined {
  for (const folder of [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']) {
    const path = join(folder, 'redis-server')
    try {
      accessSync(path, constants.X_OK)
      return path
    } catch {
      // not in this folder
    }
  }
  return undefined
}

/** Why tests with a real server are skipped, or undefined. Prints the reason once per file. */
export function redisSkipReason(): string | undefined {
  if (findRedisServer() !== undefined) return undefined
  const reason = 'redis-server is not in PATH (npm test installs it where it may)'
  process.stdout.write(`skipped: ${reason}\n`)
  return reason
}

/** Starts a server and waits until it answers. */
export async function startRedis(options: StartRedisOptions = {}): Promise<RunningRedis> {
  const program = findRedisServer()
  if (program === undefined) throw new Error('redis-server is not in PATH')
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-redis-'))
  const port = options.port ?? (await freePort())
  let child: ChildProcess

  const begin = async (): Promise<void> => {
    const ports =
      options.tlsArguments === undefined
        ? ['--port', String(port)]
        : ['--port', '0', '--tls-port', String(port), ...options.tlsArguments]
    child = spawn(
      program,
      [
        ...ports,
        '--bind',
        '127.0.0.1',
        '--save',
        '',
        '--appendonly',
        'no',
        '--dir',
        folder,
        ...(options.arguments ?? []),
      ],
      { stdio: 'ignore' },
    )
    try {
      await waitUntilItListens(port, child)
    } catch (error) {
      child.kill('SIGKILL')
      throw error
    }
  }
  const end = async (signal: NodeJS.Signals): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const ended = new Promise((resolve) => child.once('exit', resolve))
    child.kill('SIGCONT')
    child.kill(signal)
    await ended
  }
  await begin()
  return {
    port,
    url: `${options.tlsArguments === undefined ? 'redis' : 'rediss'}://127.0.0.1:${port}`,
    command: (...words) => sendCommand(port, words, options.password),
    pause: () => void child.kill('SIGSTOP'),
    resume: () => void child.kill('SIGCONT'),
    kill: () => end('SIGKILL'),
    restart: begin,
    stop: async () => {
      await end('SIGKILL')
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** Starts a cluster of primaries that share the 16,384 slots evenly. */
export async function startRedisCluster(size: number): Promise<RunningRedis[]> {
  const nodes = await Promise.all(
    Array.from({ length: size }, async () => {
      // The bus takes the port 10,000 above, which may be beyond the last: it gets a free one.
      const bus = await freePort()
      return startRedis({ arguments: ['--cluster-enabled', 'yes', '--cluster-port', String(bus)] })
    }),
  )
  const per = Math.ceil(16_384 / size)
  for (const [index, node] of nodes.entries()) {
    await node.command('CLUSTER', 'ADDSLOTSRANGE', index * per, Math.min(16_383, (index + 1) * per - 1))
    await node.command('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)
  }
  const first = nodes[0] as RunningRedis
  const myBus = async (node: RunningRedis): Promise<string> => {
    // "<id> host:port@bus,… myself,master …"
    const line = String(await node.command('CLUSTER', 'NODES'))
    return /@(\d+)/.exec(line)?.[1] ?? ''
  }
  for (const node of nodes.slice(1)) {
    await first.command('CLUSTER', 'MEET', '127.0.0.1', node.port, await myBus(node))
  }
  for (const node of nodes) {
    await eventually(async () => {
      const information = String(await node.command('CLUSTER', 'INFO'))
      return information.includes('cluster_state:ok') && information.includes(`cluster_known_nodes:${size}`)
    }, 20_000)
  }
  return nodes
}

/** Asks again each 20 ms until the answer is true. Throws after `withinMs`. */
export async function eventually(isTrue: () => boolean | Promise<boolean>, withinMs: number): Promise<void> {
  const start = performance.now()
  for (;;) {
    if (await isTrue()) return
    if (performance.now() - start > withinMs) throw new Error(`did not come true within ${withinMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** A port of 127.0.0.1 that nobody listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number }
      server.close(() => resolve(port))
    })
  })
}

async function waitUntilItListens(port: number, child: ChildProcess): Promise<void> {
  await eventually(() => {
    if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode}`)
    return new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1')
      socket.once('connect', () => {
        socket.destroy()
        resolve(true)
      })
      socket.once('error', () => resolve(false))
    })
  }, 10_000)
}

function sendCommand(port: number, words: readonly (string | number)[], password?: string): Promise<RespValue> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1')
    let received = Buffer.alloc(0)
    const skip = password === undefined ? 0 : 1
    socket.setTimeout(5000, () => socket.destroy(new Error('redis-server did not answer within 5 s')))
    socket.once('error', reject)
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
      let at = 0
      for (let answer = 0; ; answer += 1) {
        const parsed = parseResp(received, at)
        if (parsed === undefined) return
        at = parsed.end
        if (answer < skip) continue
        socket.destroy()
        resolve(parsed.value)
        return
      }
    })
    if (password !== undefined) socket.write(encodeCommand(['AUTH', password]))
    socket.write(encodeCommand(words))
  })
}

/** A command as Redis reads it. */
export function encodeCommand(words: readonly (string | number)[]): Buffer {
  const parts = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`)
  return Buffer.from(`*${words.length}\r\n${parts.join('')}`)
}

/** Reads one RESP2 value at `at`; undefined when it is not whole yet. Also reads commands. */
export function parseResp(bytes: Buffer, at: number): { value: RespValue; end: number } | undefined {
  const lineEnd = bytes.indexOf('\r\n', at)
  if (lineEnd < 0) return undefined
  const line = bytes.toString('utf8', at + 1, lineEnd)
  const end = lineEnd + 2
  switch (String.fromCharCode(bytes[at] as number)) {
    case '+':
      return { value: line, end }
    case '-':
      return { value: new Error(line), end }
    case ':':
      return { value: Number(line), end }
    case '$': {
      const length = Number(line)
      if (length < 0) return { value: null, end }
      if (bytes.length < end + length + 2) return undefined
      return { value: bytes.toString('utf8', end, end + length), end: end + length + 2 }
    }
    case '*': {
      const values: RespValue[] = []
      let next = end
      for (let left = Number(line); left > 0; left -= 1) {
        const parsed = parseResp(bytes, next)
        if (parsed === undefined) return undefined
        values.push(parsed.value)
        next = parsed.end
      }
      return { value: values, end: next }
    }
    default:
      throw new Error(`no RESP2 value begins with byte ${bytes[at]}`)
  }
}
