/**
 * The connection to Redis: scripts over one guarded, pipelined connection (or one per node of a cluster). The sole import of
 * ioredis.
 *
 * - Nothing is queued while Redis is away: a call fails at once. Nothing is sent twice: a call whose connection broke may
 *   have counted, so it fails.
 * - Every answer passes RespGuard; a connection that talks nonsense is dropped with all its calls (T-62).
 * - Calls of one turn of the event loop go out in one write.
 * - A connection that owes an answer and is silent for a second is dropped; host names are resolved anew at each connect.
 * - Passwords are in no error and no log line.
 */
import { createConnection, type NetConnectOpts, type Socket } from 'node:net'
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls'
import { AbstractConnector, Cluster, Redis, type RedisOptions } from 'ioredis'
import { describeRedisAddress, parseRedisAddress, type RedisAddress } from './address.ts'
import { RespGuard } from './resp-guard.ts'
import type { RedisScript } from './script.ts'

const CONNECT_TIMEOUT_MS = 1000
/** Silence of a connection that owes an answer, after which it is dropped. */
const SILENCE_TIMEOUT_MS = 1000
/** Pause before a new connection: grows from the first to the second, plus up to half of it at random. */
const RECONNECT_MS = { first: 50, longest: 500 } as const
/** A cluster's table of slots is read again so often, besides after each MOVED. */
const SLOTS_REFRESH_MS = 2000

/** How the library says that there is no connection just now. */
const NOT_CONNECTED = "Stream isn't writeable"

/** What TLS needs beyond the URL; PEM texts. */
export interface RedisTlsOptions {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  /** Name that the certificate must carry; default: the host. */
  readonly serverName?: string
  /** false: any certificate is taken. */
  readonly verify?: boolean
}

/** How to reach Redis. `username` and `password` here win over those of the URL. */
export interface RedisClientOptions {
  readonly url: string
  readonly username?: string
  readonly password?: string
  readonly tls?: RedisTlsOptions
  /** Made known to every server at connect, so that no call finds them missing unless somebody flushed them. */
  readonly scripts?: readonly RedisScript[]
  /** A connection (of a cluster: the table of slots) is there. */
  readonly onReady?: () => void
  /** A connection was refused, lost or dropped; `reason` is one line without secrets. Called for each time. */
  readonly onTrouble?: (reason: string) => void
}

/** An answer as RESP has it. */
export type RedisAnswer = null | number | string | readonly RedisAnswer[]

/** A connection to one Redis or one Redis Cluster that comes back by itself. */
export class RedisClient {
  readonly #client: Redis | Cluster
  readonly #address: RedisAddress
  /** The last reason for trouble, for whoever asks why calls fail. */
  #trouble = 'not connected yet'

  /** Begins to connect. Throws RedisAddressError for an address that cannot be used; an unreachable Redis is no error. */
  constructor(options: RedisClientOptions) {
    const address = parseRedisAddress(options.url)
    this.#address = address
    const trouble = (error: Error): void => {
      this.#trouble = reasonOf(error)
      options.onTrouble?.(this.#trouble)
    }
    const shared = {
      ...connectionOptions(address, options, trouble),
      // After a failover the old primary refuses writes: connect anew, the name may lead elsewhere now.
      reconnectOnError: (error: Error): boolean => {
        if (!error.message.startsWith('READONLY')) return false
        this.#trouble = reasonOf(error)
        return true
      },
    }
    if (address.isCluster) {
      this.#client = new Cluster([...address.nodes], {
        redisOptions: shared,
        // A node is connected to when the first call for it comes; those that come meanwhile wait in its queue, each to
        // its caller's deadline, instead of being failures of a cluster that is well.
        enableOfflineQueue: true,
        // Nothing that may have counted is sent again; MOVED and ASK were refused before they counted.
        retryDelayOnFailover: 0,
        retryDelayOnClusterDown: 0,
        maxRedirections: 4,
        slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
        slotsRefreshInterval: SLOTS_REFRESH_MS,
        clusterRetryStrategy: reconnectAfterMs,
        // Names stay names, so that TLS checks them and each connect resolves them.
        dnsLookup: (host, callback) => {
          callback(null, host)
        },
      })
      this.#client.on('node error', trouble)
      this.#client.on('+node', (server: Redis) => {
        server.on('ready', () => loadScripts(server, options.scripts ?? []))
      })
    } else {
      const node = address.nodes[0] as RedisAddress['nodes'][number] // an address has at least one
      this.#client = new Redis({
        ...shared,
        host: node.host,
        port: node.port,
        db: address.database,
        enableOfflineQueue: false,
        retryStrategy: reconnectAfterMs,
      })
      const server = this.#client
      server.on('ready', () => loadScripts(server, options.scripts ?? []))
    }
    this.#client.on('error', trouble)
    this.#client.on('close', () => {
      options.onTrouble?.(this.#trouble)
    })
    this.#client.on('ready', () => {
      this.#trouble = 'the connection was closed'
      options.onReady?.()
    })
  }

  /** Whether a call would be sent now. */
  get isReady(): boolean {
    return this.#client.status === 'ready'
  }

  /** The last reason why there is no connection; one line. */
  get trouble(): string {
    return this.#trouble
  }

  /** The address without user and password. */
  get description(): string {
    return describeRedisAddress(this.#address)
  }

  /**
   * Runs a script of one key. One round trip; two when Redis does not know the script yet. Rejects when there is no
   * connection, when it breaks (the script may have run), and with Redis's own error reply.
   */
  runScript(script: RedisScript, key: string, ...args: readonly (string | number)[]): Promise<RedisAnswer> {
    const answer = this.#client.evalsha(script.sha, 1, key, ...args) as Promise<RedisAnswer>
    return answer.catch((error: Error) => {
      const { message } = error
      if (message.startsWith(NOT_CONNECTED)) throw new Error(this.#trouble, { cause: error })
      // NOSCRIPT: it did not run. EVAL runs it and makes it known.
      if (!message.startsWith('NOSCRIPT')) throw error
      return this.#client.eval(script.source, 1, key, ...args) as Promise<RedisAnswer>
    })
  }

  /** Calls that are made in here leave in one write, when it returns and not at the end of the next turn of the event loop. */
  together(calls: () => void): void {
    areTogether = true
    try {
      calls()
    } finally {
      areTogether = false
    }
  }

  /** Drops the connection and makes a new one: after an answer that cannot belong to its call. */
  reconnect(reason: string): void {
    this.#trouble = reason
    if (this.#client instanceof Redis) {
      this.#client.disconnect(true)
      return
    }
    // The nodes' own connections; the cluster makes new ones at the next call.
    for (const node of this.#client.nodes()) node.disconnect()
  }

  /** Closes without waiting for answers; calls still out are rejected. */
  close(): void {
    this.#client.disconnect()
  }
}

/** Sent before any call of this connection. A refusal shows at the first call, which then brings the source along. */
function loadScripts(server: Redis, scripts: readonly RedisScript[]): void {
  for (const script of scripts) server.script('LOAD', script.source).catch(() => undefined)
}

/** What a single Redis and the nodes of a cluster are connected with alike. */
type SharedOptions = Pick<
  RedisOptions,
  | 'Connector'
  | 'protocol'
  | 'connectTimeout'
  | 'socketTimeout'
  | 'connectionName'
  | 'disableClientInfo'
  | 'enableReadyCheck'
  | 'autoResendUnfulfilledCommands'
  | 'maxRetriesPerRequest'
  | 'username'
  | 'password'
  | 'tls'
>

function connectionOptions(
  address: RedisAddress,
  options: RedisClientOptions,
  trouble: (error: Error) => void,
): SharedOptions {
  const username = options.username ?? address.username
  const password = options.password ?? address.password
  return {
    Connector: connectorFor(trouble) as unknown as NonNullable<RedisOptions['Connector']>,
    protocol: 2, // what RespGuard and all servers since Redis 2 speak
    connectTimeout: CONNECT_TIMEOUT_MS,
    socketTimeout: SILENCE_TIMEOUT_MS,
    connectionName: 'sallyport',
    disableClientInfo: true,
    enableReadyCheck: false, // a server that loads answers -LOADING, which is a failed call like any other
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(address.isTls ? { tls: tlsOptions(options.tls) } : {}),
  }
}

function tlsOptions(tls: RedisTlsOptions | undefined): ConnectionOptions {
  return {
    minVersion: 'TLSv1.2',
    rejectUnauthorized: tls?.verify ?? true,
    ...(tls?.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls?.cert === undefined ? {} : { cert: tls.cert }),
    ...(tls?.key === undefined ? {} : { key: tls.key }),
    ...(tls?.serverName === undefined ? {} : { servername: tls.serverName }),
  }
}

function reconnectAfterMs(attempt: number): number {
  const pauseMs = Math.min(RECONNECT_MS.first * 2 ** Math.min(attempt - 1, 10), RECONNECT_MS.longest)
  return pauseMs + Math.floor((Math.random() * pauseMs) / 2)
}

/** The library's error texts carry no secret, its error objects do (the arguments of AUTH): only the text is taken. */
function reasonOf(error: Error): string {
  const code = (error as NodeJS.ErrnoException).code
  // What is refused on every address of a host comes as an AggregateError without a text.
  const text = error.message === '' ? (code ?? error.name) : error.message
  return text.split('\n', 1)[0]?.slice(0, 300) ?? error.name
}

/** The library asks this for its sockets; ours are guarded and write once per turn of the event loop. */
function connectorFor(trouble: (error: Error) => void): new (options: RedisOptions) => AbstractConnector {
  return class GuardedConnector extends AbstractConnector {
    readonly #options: RedisOptions

    constructor(options: RedisOptions) {
      super(0)
      this.#options = options
    }

    override connect(): Promise<Socket | TLSSocket> {
      this.connecting = true
      const { host, port, tls } = this.#options
      const to = { host: host ?? 'localhost', port: port ?? 6379 }
      const socket =
        tls === undefined
          ? createConnection(to as NetConnectOpts)
          : connectTls({ ...to, ...serverName(to.host), ...tls })
      guardAnswers(socket, trouble)
      writeOncePerTurn(socket)
      this.stream = socket
      socket.once('error', (error) => {
        this.firstError = error
      })
      return Promise.resolve(socket)
    }

    /** At once: what is still out is failed by the library, and a half-open peer would never say goodbye. */
    override disconnect(): void {
      this.connecting = false
      this.stream?.destroy()
    }
  }
}

/** SNI takes names only (RFC 6066 §3). */
function serverName(host: string): { servername?: string } {
  return /^[\d.]+$|:/.test(host) ? {} : { servername: host }
}

/** Lets no byte through that RespGuard refuses: the socket is destroyed instead. */
function guardAnswers(socket: Socket, trouble: (error: Error) => void): void {
  const guard = new RespGuard()
  const push = socket.push.bind(socket)
  // Node hands every chunk it read to `push` before any listener sees it.
  socket.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    if (chunk instanceof Uint8Array) {
      const wrong = guard.check(chunk)
      if (wrong !== undefined) {
        const error = new Error(`Redis sent what is no answer: ${wrong}`)
        trouble(error)
        socket.destroy(error)
        return false
      }
    }
    return push(chunk, encoding)
  }
}

/** Calls are being made that leave together. */
let areTogether = false

/** Holds writes back until the turn of the event loop ends: all calls of a turn become one system call. */
function writeOncePerTurn(socket: Socket): void {
  const write = socket.write.bind(socket) as (...args: unknown[]) => boolean
  let isHeld = false
  const release = (): void => {
    isHeld = false
    socket.uncork()
  }
  socket.write = ((...args: unknown[]): boolean => {
    if (!isHeld) {
      isHeld = true
      socket.cork()
      if (areTogether) process.nextTick(release)
      else setImmediate(release)
    }
    return write(...args)
  }) as Socket['write']
}
