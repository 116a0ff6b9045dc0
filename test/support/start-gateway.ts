/** The built gateway as a real process: files in a folder of its own, free ports, its logs as data. */
import { spawn, type ChildProcess } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { testEngine } from './test-engine.ts'

/** The built program. */
export const MAIN: string = fileURLToPath(new URL('../../dist/main.js', import.meta.url))

/** A line of the access log, as parsed. */
export interface AccessLine {
  readonly msg: 'request'
  readonly request_id: string
  readonly endpoint: string
  readonly rule: string
  readonly action: string
  readonly target: string
  readonly status: number
  readonly reason: string
  readonly method: string
  readonly path: string
  readonly [field: string]: unknown
}

export interface LogLine {
  readonly level: string
  readonly msg: string
  readonly [field: string]: unknown
}

export interface CommandResult {
  readonly code: number | null
  readonly signal: string | null
  readonly stdout: string
  readonly stderr: string
}

export interface StartOptions {
  /** Text of gateway.yaml. What it does not set: two workers, state folder, admin port, `drain: {delay: 0s, timeout: 5s}`. */
  readonly config: string | ((context: StartContext) => string)
  /** More files beside gateway.yaml: name → text. */
  readonly files?: Readonly<Record<string, string>>
  /** Instead of `run`, with `-c` and the test's own settings added. */
  readonly verb?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  /** Another entry script (a fake gateway). */
  readonly script?: string
  /** Do not wait until it is ready. */
  readonly unready?: boolean
  readonly readyTimeoutMs?: number
}

export interface StartContext {
  /** Free when it was asked for; `url` has it. */
  readonly port: number
  readonly adminPort: number
  readonly folder: string
}

export interface RunningGateway extends StartContext {
  /** `http://localhost:<port>` */
  readonly url: string
  readonly adminUrl: string
  readonly pid: number
  readonly process: ChildProcess
  readonly stateDir: string
  /** Every access line so far. */
  access(): readonly AccessLine[]
  /** Waits for an access line; throws after the timeout with what there was. */
  waitForAccess(matches: (line: AccessLine) => boolean, timeoutMs?: number): Promise<AccessLine>
  /** The operational log so far. */
  log(): readonly LogLine[]
  /** All of stderr, diagnostics included. */
  stderr(): string
  /** All of stdout: the access log, and whatever does not belong there. */
  stdout(): string
  /** Writes a file of the folder, `gateway.yaml` for one. */
  write(name: string, text: string): void
  /** Runs `sallyport <words>` against this instance. */
  command(...words: readonly string[]): Promise<CommandResult>
  /** How the process ended. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: string | null }>
  /** Drains it, or kills it after 15 s; removes the folder. Safe to call twice. */
  stop(): Promise<{ readonly code: number | null; readonly signal: string | null }>
}

/** Ports that nobody uses now, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      await new Promise<void>((resolve) => {
        server.listen(0, '127.0.0.1', resolve)
      })
      return server
    }),
  )
  return await Promise.all(
    servers.map(async (server) => {
      const address = server.address()
      await new Promise((resolve) => {
        server.close(resolve)
      })
      // it listened on a port
      return (address as { port: number }).port
    }),
  )
}

/** Starts the gateway and waits until it is ready. Rejects with its stderr when it ends first. */
export async function startGateway(options: StartOptions): Promise<RunningGateway> {
  const script = options.script ?? MAIN
  if (!existsSync(script)) throw new Error(`${script} is missing: run \`npm run build\` first`)
  const [port = 0, adminPort = 0] = await freePorts(2)
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-test-'))
  const stateDir = join(folder, 'state')
  const context: StartContext = { port, adminPort, folder }
  const write = (name: string, text: string): void => {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  const settings = [
    'workers: 2',
    `state_dir: ${stateDir}`,
    `admin: { address: 127.0.0.1:${adminPort} }`,
    'drain: { delay: 0s, timeout: 5s }',
    `engine: ${testEngine}`,
  ]
  write('test-settings.yaml', `${settings.join('\n')}\n`)
  write('gateway.yaml', typeof options.config === 'function' ? options.config(context) : options.config)
  for (const [name, text] of Object.entries(options.files ?? {})) write(name, text)
  const environment = { ...process.env, ...options.environment }
  const configured = ['-c', 'test-settings.yaml', '-c', 'gateway.yaml']
  const verb = options.verb ?? ['run']
  // to start, -c is the agent's file
  const given = verb[0] === 'start' ? configured.map((word) => (word === '-c' ? '--settings' : word)) : configured
  const child = spawn(process.execPath, [script, ...verb, ...given], {
    cwd: folder,
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const exited = new Promise<{ code: number | null; signal: string | null }>((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal }))
  })
  let stopping: Promise<{ code: number | null; signal: string | null }> | undefined

  const gateway: RunningGateway = {
    ...context,
    url: `http://localhost:${port}`,
    adminUrl: `http://127.0.0.1:${adminPort}`,
    // spawn succeeded: node itself runs this test
    pid: child.pid!,
    process: child,
    stateDir,
    exited,
    access: () => jsonLines<AccessLine>(stdout).filter(({ msg }) => msg === 'request'),
    log: () => jsonLines<LogLine>(stderr),
    stderr: () => stderr,
    stdout: () => stdout,
    write,
    waitForAccess: async (matches, timeoutMs = 5000) => {
      for (const until = performance.now() + timeoutMs; performance.now() < until; await pause(10)) {
        const line = gateway.access().find((candidate) => matches(candidate))
        if (line !== undefined) return line
      }
      throw new Error(`no such access line within ${timeoutMs} ms; there were:\n${stdout.slice(-4000)}`)
    },
    command: (...words) => runCommand([...words, ...configured], { folder, environment, script }),
    stop: () => {
      stopping ??= (async () => {
        if (child.exitCode === null && child.signalCode === null) child.kill('SIGTERM')
        const timer = setTimeout(() => child.kill('SIGKILL'), 15_000)
        const how = await exited
        clearTimeout(timer)
        rmSync(folder, { recursive: true, force: true })
        return how
      })()
      return stopping
    },
  }
  if (options.unready === true) return gateway
  const timeoutMs = options.readyTimeoutMs ?? 30_000
  for (const until = performance.now() + timeoutMs; performance.now() < until; await pause(20)) {
    if (child.exitCode !== null || child.signalCode !== null) {
      await exited
      rmSync(folder, { recursive: true, force: true })
      throw new Error(`the gateway ended with ${child.exitCode ?? child.signalCode}:\n${stderr}`)
    }
    const answer = await get(`${gateway.adminUrl}/readyz`).catch(() => undefined)
    if (answer?.status === 200) return gateway
  }
  await gateway.stop()
  throw new Error(`the gateway was not ready within ${timeoutMs} ms:\n${stderr}`)
}

/** Runs the program once and waits for its end (60 s at most). */
export function runCommand(
  words: readonly string[],
  options: {
    readonly folder?: string
    readonly environment?: Readonly<Record<string, string | undefined>>
    readonly script?: string
    readonly input?: string
  } = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [options.script ?? MAIN, ...words], {
      cwd: options.folder,
      env: { ...process.env, ...options.environment },
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    child.stdin?.end(options.input)
    const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
    child.once('error', reject)
    child.once('close', (code, signal) => {
      clearTimeout(timer)
      resolve({ code, signal, stdout, stderr })
    })
  })
}

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

/** One request on a connection of its own: which worker answers is the kernel's choice each time. */
export function get(
  url: string,
  options: {
    readonly method?: string
    readonly headers?: Readonly<Record<string, string>>
    readonly body?: string
  } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        method: options.method ?? 'GET',
        headers: { connection: 'close', ...options.headers },
        agent: false,
        timeout: 10_000,
      },
      (incoming) => {
        let body = ''
        incoming.setEncoding('utf8').on('data', (text: string) => (body += text))
        incoming.once('error', reject)
        incoming.once('end', () => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body }))
      },
    )
    outgoing.once('timeout', () => outgoing.destroy(new Error(`${url} did not answer within 10 s`)))
    outgoing.once('error', reject)
    outgoing.end(options.body)
  })
}

/** The lines that are JSON objects. */
function jsonLines<T>(text: string): T[] {
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .flatMap((line) => {
      if (!line.startsWith('{')) return []
      try {
        return [JSON.parse(line) as T]
      } catch {
        // a diagnostic's excerpt may begin with a brace
        return []
      }
    })
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms)
  })
}

/** Reads a file of the project, for tests that compare. */
export function projectFile(path: string): string {
  return readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8')
}
