/**
 * The folder that belongs to one running gateway: its lock, its control socket, and what must survive a restart.
 *
 * Source: spec README "state"; operations.md O-29.
 */
import { accessSync, chmodSync, constants, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { homedir } from 'node:os'
import { connect, createServer, type Server } from 'node:net'
import { dirname, join, resolve } from 'node:path'

const SYSTEM_STATE_DIR = '/var/lib/sallyport'

/** `/var/lib/sallyport` when it can be written (or made), else the XDG state folder. */
export function defaultStateDir(environment: NodeJS.ProcessEnv = process.env): string {
  if (isWritable(SYSTEM_STATE_DIR)) return SYSTEM_STATE_DIR
  const base = environment['XDG_STATE_HOME'] ?? join(environment['HOME'] ?? homedir(), '.local', 'state')
  return join(base, 'sallyport')
}

function isWritable(folder: string): boolean {
  for (const candidate of [folder, dirname(folder)]) {
    try {
      accessSync(candidate, constants.W_OK | constants.X_OK)
      return true
    } catch (error) {
      // it does not exist yet: then its parent decides; anything else is a no
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return false
    }
  }
  return false
}

export function controlSocketPath(stateDir: string): string {
  return join(stateDir, 'control.sock')
}

/** Longest path of a unix socket, without the closing zero (unix(7)). */
const MAX_SOCKET_PATH_BYTES = 107

/** The state folder cannot be used; `message` is one sentence. */
export class StateDirError extends Error {
  override readonly name = 'StateDirError'
}

/** A state folder that is ours until `release`, or until the process ends in any way. */
export interface StateDirLock {
  readonly stateDir: string
  release(): void
}

/**
 * Makes the folder (mode 0700) when it is missing and takes it. Rejects with StateDirError when another instance has it.
 *
 * The lock is a name in Linux's abstract socket namespace: the kernel frees it with the process, so nothing stale can
 * stay. Where that namespace is another one (a container that shares the folder), the control socket still answers.
 */
export async function lockStateDir(folder: string): Promise<StateDirLock> {
  const stateDir = resolve(folder)
  try {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 })
    accessSync(stateDir, constants.R_OK | constants.W_OK | constants.X_OK)
  } catch (error) {
    throw new StateDirError(`the state folder ${stateDir} cannot be used: ${(error as Error).message}`, {
      cause: error,
    })
  }
  const socket = controlSocketPath(stateDir)
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH_BYTES) {
    throw new StateDirError(
      `the state folder's path is too long for a socket in it (${MAX_SOCKET_PATH_BYTES} bytes): ${socket}`,
    )
  }
  const lock = await takeName(stateDir)
  if (await answers(socket)) {
    lock?.close()
    throw alreadyRunning(stateDir)
  }
  // nobody listens there any more
  rmSync(socket, { force: true })
  return { stateDir, release: () => lock?.close() }
}

function alreadyRunning(stateDir: string): StateDirError {
  return new StateDirError(
    `another sallyport runs with the state folder ${stateDir}; give this one its own with --state-dir, or use \`sallyport reload\``,
  )
}

function takeName(stateDir: string): Promise<Server | undefined> {
  if (process.platform !== 'linux') return Promise.resolve(undefined)
  const name = `\0sallyport/${createHash('sha256').update(stateDir).digest('hex').slice(0, 32)}`
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') reject(alreadyRunning(stateDir))
      // no abstract names here: the control socket alone decides
      else resolve(undefined)
    })
    server.listen(name, () => {
      server.unref()
      resolve(server)
    })
  })
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath)
    const finish = (answer: boolean): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.setTimeout(2000, () => finish(true))
    socket.once('connect', () => finish(true))
    socket.once('error', () => finish(false))
  })
}

/** What `run` served last: enough to serve it again without the files it came from. */
export interface LastGoodConfiguration {
  readonly savedAt: string
  readonly version: string
  /** How the configuration was asked for; another one is not answered by this. */
  readonly input: string
  readonly bundle: unknown
}

function lastGoodPath(stateDir: string): string {
  return join(stateDir, 'last-good.json')
}

/** Writes the file by renaming, so that a reader never sees half of it. Mode 0600: it may hold secrets. Throws on I/O errors. */
export function saveLastGood(stateDir: string, configuration: LastGoodConfiguration): void {
  const path = lastGoodPath(stateDir)
  const fresh = `${path}.${process.pid}`
  writeFileSync(fresh, JSON.stringify(configuration), { mode: 0o600 })
  chmodSync(fresh, 0o600)
  renameSync(fresh, path)
}

/** Undefined when there is none, or when what is there is not readable as one. */
export function loadLastGood(stateDir: string): LastGoodConfiguration | undefined {
  try {
    const value = JSON.parse(readFileSync(lastGoodPath(stateDir), 'utf8')) as Partial<LastGoodConfiguration> | null
    const { savedAt, version, input, bundle } = value ?? {}
    if (typeof savedAt !== 'string' || typeof version !== 'string' || typeof input !== 'string') return undefined
    return bundle === undefined ? undefined : { savedAt, version, input, bundle }
  } catch {
    // missing or damaged: then there is no last good configuration
    return undefined
  }
}
