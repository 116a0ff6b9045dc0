/**
 * The front end on uWebSockets.js: listeners, the table of exchanges, housekeeping.
 *
 * What this front end cannot do, and whoever needs it must know (operations.md §2): HTTP/1.0 and absolute-form targets
 * are answered 505 by the library, some malformed heads not at all for 10 seconds, more than 98 header fields with
 * 431; a second request that comes before the answer closes the connection; trailers are lost; the head of an answer
 * of unknown length goes out together with its first body bytes; idle connections cannot be closed one by one, so
 * that `drain` leaves them to the library's idle timer of 10 seconds; of a peer only the address is known.
 *
 * Source: native-front-end.md §7; operations.md F-01 … F-20.
 */
import { performance } from 'node:perf_hooks'
import { isIP } from 'node:net'
import type { RelayedHead, UpstreamHandler, UpstreamPool } from '../upstream/upstream-pool.ts'
import { ExchangeSlot, type SlotOwner } from './exchange-slot.ts'
import type {
  AnswerEdits,
  BodyFilter,
  ExchangeHandle,
  FrontEnd,
  FrontEndCapabilities,
  FrontEndEvents,
  FrontEndLimits,
  ListenOptions,
  ListenTls,
  OpenConnections,
  Peer,
  PeerTls,
  PreparedTls,
  UpstreamTarget,
} from './front-end.ts'
import { libraryAllows } from './head-limit.ts'
import { lastConnection, lastHead, readsLibraryMemory, readUsualHead } from './library-head.ts'
import {
  App,
  closeListenSocket,
  type HttpRequest,
  type HttpResponse,
  type ListenSocket,
  portOf,
  SHARED_COMPRESSION,
  type TemplatedApp,
  type UpgradeContext,
} from './library.ts'
import { libraryConnection } from '../native/library-heads.ts'
import { addressText } from './peer-address.ts'
import { describeRequestLine, type HeadRefusal, readHead } from './read-head.ts'
import { SlotTable } from './slots.ts'
import { type ServerNameFacts, TlsApps } from './tls-apps.ts'
import type { WebSocketRelay } from './web-socket-relay.ts'

/** `headLimits` holds where the process was started with the library's limit raised. */
export const UWS_CAPABILITIES: FrontEndCapabilities = Object.freeze({
  name: 'uws',
  http10: false,
  http2: false,
  trailers: false,
  tunnel: false,
  webSockets: true,
  tls: Object.freeze({ versions: ['1.2', '1.3'], isFixed: true } as const),
  proxyProtocol: true,
  strict: false,
  headLimits: true,
  slowHeads: false,
  interimAnswers: false,
  halfClose: false,
})

export interface UwsFrontEndOptions {
  readonly events: FrontEndEvents
  readonly pool: UpstreamPool
  readonly limits: FrontEndLimits
  /** Exceptions out of events and out of the library; for the log. */
  readonly report: (error: unknown) => void
  /** The most exchanges at a time; beyond it 503. */
  readonly maxExchanges?: number
  /** False: heads are read field by field, see library-head.ts. */
  readonly readsMemory?: boolean
  /** H-83: an upload below 240 B/s on the average of such a window ends; a client that reads nothing for one, too. */
  readonly progressWindowMs?: number
}

/** Housekeeping: closes lingering connections; every 16th time (4 s, F-10) keeps uploads alive. */
const TICK_MS = 250
const REFRESH_TICKS = 16
/** H-83 */
const DEFAULT_PROGRESS_WINDOW_MS = 60_000
const PROGRESS_BYTES_PER_SECOND = 240

const PLAIN = 'content-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n'
const STATUS_TEXT: Record<HeadRefusal['status'], string> = {
  400: 'Bad Request',
  405: 'Method Not Allowed',
  413: 'Content Too Large',
  414: 'URI Too Long',
  417: 'Expectation Failed',
  426: 'Upgrade Required',
  431: 'Request Header Fields Too Large',
  501: 'Not Implemented',
}

const EXTRA_LINES: Partial<Record<HeadRefusal['status'], string>> = {
  405: 'allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n',
  // H-84; `upgrade` itself belongs to the connection, which closes
  426: 'sec-websocket-version: 13\r\nupgrade: websocket\r\n',
}

/** How often WebSockets are looked after. */
const RELAY_TICK_MS = 1000
/** What the library can count. */
const MAX_LIBRARY_PAYLOAD_BYTES = 2 ** 31 - 1

/** What the library keeps of an upgrade: it copies the fields onto the object that it hands out. */
interface RelayHolder {
  readonly relay: WebSocketRelay
}

const relayOf = (client: unknown): WebSocketRelay => (client as RelayHolder).relay

/** Whoever is asked for after the end. */
const NOBODY: Peer = Object.freeze({ address: '', port: 0, localAddress: '', localPort: 0 })

const PROXY_HEADER_REFUSED: HeadRefusal = {
  status: 400,
  reason: 'bad_request:F-17',
  text: 'this listener takes no PROXY protocol header',
}

interface Listener {
  readonly options: ListenOptions
  /** What listens; with TLS it only hands on. */
  readonly app: TemplatedApp
  readonly tls: TlsApps | undefined
  readonly localAddress: string
  /** By IPv4 address; of plain connections. */
  readonly peers: Map<number, Peer>
  /** By connection, as the library's memory tells them apart; of plain connections. */
  readonly peersByConnection: Map<number, Peer>
  socket: ListenSocket | null
  port: number
  connections: number
  webSockets: number
}

export class UwsFrontEnd implements FrontEnd, SlotOwner {
  readonly events: FrontEndEvents
  readonly report: (error: unknown) => void
  limits: FrontEndLimits
  draining = false

  readonly #pool: UpstreamPool
  readonly #progressWindowMs: number | undefined
  readonly #readsMemory: boolean
  readonly #slots: SlotTable<ExchangeSlot>
  readonly #listeners = new Map<number, Listener>()
  /** Exchanges whose request body is still coming, or whose client does not read. */
  readonly #watched = new Set<ExchangeSlot>()
  readonly #lingering = new Set<ExchangeSlot>()
  readonly #relays = new Set<WebSocketRelay>()
  #relayTicker: NodeJS.Timeout | undefined
  /** Whose request bodies are waited for until the end of this turn. */
  #later: ExchangeSlot[] = []
  readonly #runLater = (): void => {
    const slots = this.#later
    this.#later = []
    for (const slot of slots) slot.bodyDue()
  }
  #open = 0
  #ticker: NodeJS.Timeout | undefined
  #ticks = 0
  readonly #send = (
    target: UpstreamTarget,
    head: string,
    bodyLength: number,
    body: Uint8Array | undefined,
    handler: UpstreamHandler,
    relayed?: RelayedHead,
  ) => this.#pool.send(target, { head, bodyLength, body, relayed }, handler)

  constructor(options: UwsFrontEndOptions) {
    this.events = options.events
    this.report = options.report
    this.limits = options.limits
    this.#pool = options.pool
    this.#progressWindowMs = options.progressWindowMs
    this.#readsMemory = options.readsMemory ?? true
    this.#slots = new SlotTable((slot) => new ExchangeSlot(slot, this), options.maxExchanges)
  }

  get capabilities(): FrontEndCapabilities {
    return { ...UWS_CAPABILITIES, headLimits: libraryAllows(this.limits) }
  }

  get inFlight(): number {
    return this.#open
  }

  // ── listeners ──

  /** Client connections that are open on a listener; 0 when there is none of that id. */
  connectionsOf(id: number): number {
    return this.#listeners.get(id)?.connections ?? 0
  }

  openOf(id: number): OpenConnections {
    const { connections, webSockets } = this.#listeners.get(id) ?? { connections: 0, webSockets: 0 }
    return { http1: connections - webSockets, http2: 0, webSockets }
  }

  /** The port that a listener got; differs from the one asked for only when that was 0. */
  portOf(id: number): number {
    return this.#listeners.get(id)?.port ?? 0
  }

  listen(options: ListenOptions): Promise<void> {
    const { id, host, port } = options
    if (this.#listeners.has(id)) return Promise.reject(new Error(`listener ${id} exists already`))
    let listener: Listener
    try {
      listener = this.#listener(options)
    } catch (error) {
      return Promise.reject(error as Error)
    }
    const { app } = listener
    return new Promise((resolve, reject) => {
      app.listen(host, port, (socket) => {
        if (socket === false) {
          closeApps(listener)
          reject(new Error(`cannot listen on ${host}:${port}`))
          return
        }
        listener.socket = socket
        listener.port = portOf(socket)
        this.#listeners.set(id, listener)
        resolve()
      })
    })
  }

  /** Its apps, with their routes; nothing listens yet. Throws when a certificate cannot be used. */
  #listener(options: ListenOptions): Listener {
    const { host, port } = options
    const filter = (app: TemplatedApp): void => {
      app.filter((res, count) => this.#connection(listener, res as HttpResponse, count))
    }
    // the routes refer to it, and it to the apps they are registered with
    const listener = {
      options,
      localAddress: isIP(host) === 0 ? '' : host,
      peers: new Map(),
      peersByConnection: new Map(),
      socket: null,
      port,
      connections: 0,
      webSockets: 0,
      tls: undefined,
    } as Omit<Listener, 'app' | 'tls'> as { -readonly [K in keyof Listener]: Listener[K] }
    if (options.tls === undefined) {
      listener.app = App()
      this.#attach(listener, listener.app, null, undefined)
      filter(listener.app)
    } else {
      listener.tls = new TlsApps(options.tls, (app, facts, left) => this.#attach(listener, app, facts, left), filter)
      listener.app = listener.tls.acceptor
    }
    return listener
  }

  #attach(listener: Listener, app: TemplatedApp, name: ServerNameFacts | null, left: (() => void) | undefined): void {
    app.any('/*', (res, req) => this.#request(listener, name, res as HttpResponse, req, null))
    app.ws<RelayHolder>('/*', {
      // between our limit and this one the client is told why it is closed (1009)
      maxPayloadLength: Math.min(2 * this.limits.webSocket.maxMessageBytes, MAX_LIBRARY_PAYLOAD_BYTES),
      compression: SHARED_COMPRESSION,
      // the relay looks after silent peers and slow readers itself
      idleTimeout: 0,
      sendPingsAutomatically: false,
      maxBackpressure: 0,
      // the library comes here with every GET that has a key of the right length
      upgrade: (res, req, context) => this.#request(listener, name, res as HttpResponse, req, context),
      open: (client) => this.#guard(() => relayOf(client).opened(client)),
      message: (client, data, isBinary) => this.#guard(() => relayOf(client).received(data, isBinary)),
      drain: (client) => this.#guard(() => relayOf(client).drained()),
      ping: (client) => relayOf(client).heard(),
      pong: (client) => relayOf(client).heard(),
      close: (client, code, reason) => {
        this.#guard(() => relayOf(client).closed(code, Buffer.from(reason).toString('utf8')))
        // filters are told of its beginning, and not of this
        listener.connections--
        left?.()
      },
    })
  }

  #guard(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.report(error)
    }
  }

  prepareTls(listenerId: number, tls: ListenTls): PreparedTls {
    const apps = this.#listeners.get(listenerId)?.tls
    if (apps === undefined) throw new Error(`listener ${listenerId} speaks no TLS`)
    return apps.prepare(tls)
  }

  closeListener(id: number): void {
    const listener = this.#listeners.get(id)
    if (listener === undefined || listener.socket === null) return
    const { socket } = listener
    listener.socket = null
    closeListenSocket(socket)
  }

  setLimits(limits: FrontEndLimits): void {
    this.limits = limits
  }

  drain(): void {
    this.draining = true
    for (const relay of this.#relays) relay.goAway()
  }

  async close(): Promise<void> {
    this.draining = true
    for (const id of this.#listeners.keys()) this.closeListener(id)
    for (const slot of this.#slots.live()) slot.close()
    for (const listener of this.#listeners.values()) closeApps(listener)
    this.#listeners.clear()
    clearInterval(this.#ticker)
    clearInterval(this.#relayTicker)
    this.#ticker = this.#relayTicker = undefined
    await this.#pool.close()
  }

  // ── what the library calls ──

  #connection(listener: Listener, res: HttpResponse, count: number): void {
    listener.connections += count < 0 ? -1 : 1
    if (listener.tls === undefined && this.#readsMemory && readsLibraryMemory()) {
      listener.peersByConnection.delete(libraryConnection(res))
    }
    if (count < 0) return
    const { onConnect } = this.events
    if (onConnect === undefined) return
    let accepted = false
    try {
      const peer = peerOf(listener, res.getRemoteAddress(), undefined, undefined)
      accepted = this.events.onConnect!(listener.options.id, peer)
    } catch (error) {
      this.report(error)
    }
    if (!accepted) res.close()
  }

  #request(
    listener: Listener,
    name: ServerNameFacts | null,
    res: HttpResponse,
    req: HttpRequest,
    context: UpgradeContext | null,
  ): void {
    const receivedAtMs = performance.now()
    const slot = this.#slots.acquire()
    try {
      const usual = this.#readsMemory ? readUsualHead(req, res, this.limits) : undefined
      let head = usual ?? readHead(req, this.limits)
      const known = usual === undefined || name !== null ? undefined : listener.peersByConnection.get(lastConnection())
      // The library understands the header on every listener; only some may take it (F-17). It stands before the first request of a
      // connection: what comes behind that names nobody.
      const proxied = known === undefined ? res.getProxiedRemoteAddress() : undefined
      const isProxied = proxied !== undefined && proxied.byteLength > 0
      if (isProxied && !listener.options.proxyProtocol) head = PROXY_HEADER_REFUSED
      if (slot === undefined) {
        this.#overloaded(listener, res, req)
        return
      }
      if ('status' in head) {
        this.#refuse(listener, slot, res, req, head)
        return
      }
      slot.begin(res, listener.options.id, head.isHead, head.bodyLength)
      slot.expectsContinue = head.expectsContinue
      slot.received = head.head
      slot.kept = usual === undefined ? 0 : lastHead()
      slot.clientCloses = head.close
      slot.libraryCloses = head.libraryCloses
      const tls = name === null ? undefined : peerTls(name, res)
      slot.peer = known ?? peerOf(listener, res.getRemoteAddress(), proxied, tls)
      // of a plain connection what is known does not change
      if (known === undefined && usual !== undefined && name === null && !isProxied)
        listener.peersByConnection.set(lastConnection(), slot.peer)
      // a valid key has the length that makes the library hand the context over
      if (head.webSocket !== undefined && context !== null) slot.webSocket = { request: head.webSocket, context }
      slot.announce()
      this.#open++
      const { handle } = slot
      try {
        this.events.onRequest(handle, head.head, {
          listenerId: listener.options.id,
          bodyLength: head.bodyLength,
          receivedAtMs,
          isFresh: true,
          connectionLines: head.connectionLines,
          proxyFields: head.proxyFields,
          host: head.host,
          hasPlainPath: head.hasPlainPath,
        })
      } catch (error) {
        if (slot.handle === handle) slot.failed(error)
        else this.report(error)
      }
    } catch (error) {
      // Only the library itself can end up here; the connection is of no use any more.
      this.report(error)
      if (slot !== undefined && slot.handle !== 0) slot.close()
    }
  }

  #refuse(listener: Listener, slot: ExchangeSlot, res: HttpResponse, req: HttpRequest, refusal: HeadRefusal): void {
    const { status, reason, text } = refusal
    const requestLine = describeRequestLine(req)
    const peerAddress = addressText(new Uint8Array(res.getRemoteAddress()))
    slot.begin(res, listener.options.id, req.getCaseSensitiveMethod() === 'HEAD', 0)
    slot.clientCloses = true
    slot.refused = true
    const allow = EXTRA_LINES[status] ?? ''
    slot.respond(`HTTP/1.1 ${status} ${STATUS_TEXT[status]}\r\n${PLAIN}${allow}`, `${text}\n`)
    this.#tellRefused(listener, peerAddress, status, reason, requestLine)
  }

  /** The table of exchanges is full. */
  #overloaded(listener: Listener, res: HttpResponse, req: HttpRequest): void {
    const requestLine = describeRequestLine(req)
    const peerAddress = addressText(new Uint8Array(res.getRemoteAddress()))
    res.close()
    this.#tellRefused(listener, peerAddress, 0, 'overflow', requestLine)
  }

  #tellRefused(listener: Listener, peerAddress: string, status: number, reason: string, requestLine: string): void {
    try {
      this.events.onRefused({ listenerId: listener.options.id, peerAddress, status, reason, requestLine })
    } catch (error) {
      this.report(error)
    }
  }

  // ── what the gateway calls ──

  peer(handle: ExchangeHandle): Peer {
    return this.#slots.find(handle)?.peer ?? NOBODY
  }

  readRequestBody(handle: ExchangeHandle, limitBytes: number): void {
    this.#find(handle)?.readBody(limitBytes)
  }

  forward(handle: ExchangeHandle, target: UpstreamTarget, head: string, body?: Uint8Array): void {
    const slot = this.#find(handle)
    if (slot === undefined) return
    slot.forward(target, head, body, this.#send)
  }

  relay(handle: ExchangeHandle, target: UpstreamTarget, lines: string, answer: AnswerEdits | undefined): void {
    this.#find(handle)?.relay(target, lines, answer, this.#send)
  }

  canRepeat(handle: ExchangeHandle): boolean {
    return this.#find(handle)?.canRepeat ?? false
  }

  readResponseBody(handle: ExchangeHandle, limitBytes: number, isLent = false): void {
    this.#find(handle)?.readResponse(limitBytes, isLent)
  }

  continueResponse(handle: ExchangeHandle, head: string, body?: Uint8Array, filter?: () => BodyFilter): void {
    const slot = this.#find(handle)
    if (slot === undefined) return
    slot.continueResponse(head, body, filter)
  }

  respond(handle: ExchangeHandle, head: string, body: Uint8Array | string): void {
    const slot = this.#find(handle)
    if (slot === undefined) return
    slot.respond(head, body)
  }

  abort(handle: ExchangeHandle): void {
    this.#find(handle)?.abort()
  }

  #find(handle: ExchangeHandle): ExchangeSlot | undefined {
    const slot = this.#slots.find(handle)
    return slot !== undefined && slot.isOpen ? slot : undefined
  }

  // ── SlotOwner ──

  ended(): void {
    this.#open--
  }

  get hasRoomForRelay(): boolean {
    return this.#relays.size < this.limits.webSocket.maxOpen
  }

  relayOpens(relay: WebSocketRelay, slot: ExchangeSlot): void {
    this.#relays.add(relay)
    // it was agreed on while the drain began
    if (this.draining) setImmediate(() => this.#guard(() => relay.goAway()))
    const listener = this.#listeners.get(slot.listenerId)
    if (listener !== undefined) listener.webSockets++
    this.#relayTicker ??= setInterval(() => {
      const nowMs = performance.now()
      for (const each of this.#relays) this.#guard(() => each.tick(nowMs))
    }, RELAY_TICK_MS).unref()
  }

  relayCloses(relay: WebSocketRelay, slot: ExchangeSlot): void {
    if (!this.#relays.delete(relay)) return
    const listener = this.#listeners.get(slot.listenerId)
    if (listener !== undefined) listener.webSockets--
    if (this.#relays.size > 0) return
    clearInterval(this.#relayTicker)
    this.#relayTicker = undefined
  }

  later(slot: ExchangeSlot): void {
    if (this.#later.push(slot) === 1) setImmediate(this.#runLater)
  }

  watch(slot: ExchangeSlot): void {
    this.#watched.add(slot)
    this.#ticker ??= setInterval(() => this.#tick(), TICK_MS).unref()
  }

  linger(slot: ExchangeSlot): void {
    this.#lingering.add(slot)
    this.#ticker ??= setInterval(() => this.#tick(), TICK_MS).unref()
  }

  release(slot: ExchangeSlot): void {
    if (this.#watched.size > 0) this.#watched.delete(slot)
    if (this.#lingering.size > 0) this.#lingering.delete(slot)
    slot.peer = null
    slot.received = ''
    this.#slots.release(slot)
  }

  #tick(): void {
    if (this.#watched.size === 0 && this.#lingering.size === 0) {
      clearInterval(this.#ticker)
      this.#ticker = undefined
      return
    }
    const nowMs = performance.now()
    for (const slot of this.#lingering) if (nowMs >= slot.closeAtMs) slot.close()
    const windowMs = this.#progressWindowMs ?? this.limits.timers?.progressMs ?? DEFAULT_PROGRESS_WINDOW_MS
    this.#ticks++
    if (this.#ticks % REFRESH_TICKS !== 0) return
    for (const slot of this.#watched) {
      if (slot.isStalled) keepDownload(slot, nowMs, windowMs)
      else if (!slot.isReceiving) this.#watched.delete(slot)
      else if (!slot.body.isPaused) keepUpload(slot, nowMs, windowMs)
    }
  }
}

/** Slow but honest uploads live; those below the rate of H-83 end. */
function keepUpload(slot: ExchangeSlot, nowMs: number, windowMs: number): void {
  const { body } = slot
  if (body.windowStartMs === 0) {
    body.windowStartMs = nowMs
    body.windowBytes = 0
  } else if (windowMs > 0 && nowMs - body.windowStartMs >= windowMs) {
    const needed = (PROGRESS_BYTES_PER_SECOND * (nowMs - body.windowStartMs)) / 1000
    if (body.windowBytes < needed) {
      slot.tooSlow()
      return
    }
    body.windowStartMs = nowMs
    body.windowBytes = 0
  }
  slot.refreshTimer()
}

/** A client may rest between reads as long as an upload may (H-83). */
function keepDownload(slot: ExchangeSlot, nowMs: number, windowMs: number): void {
  if (windowMs > 0 && nowMs - slot.stalledSinceMs >= windowMs) slot.close()
  else slot.refreshTimer()
}

function closeApps(listener: Listener): void {
  if (listener.tls === undefined) listener.app.close()
  else listener.tls.close()
}

function peerTls(name: ServerNameFacts, res: HttpResponse): PeerTls {
  const { serverName, certificate, clientAuthorities } = name
  const clientCertificate = clientAuthorities === '' ? '' : res.getX509Certificate()
  return { serverName, certificate, clientCertificate, clientAuthorities }
}

/** Addresses whose peers are remembered, for each listener. */
const MAX_REMEMBERED_PEERS = 4096

function peerOf(
  listener: Listener,
  address: ArrayBuffer,
  proxied: ArrayBuffer | undefined,
  tls: PeerTls | undefined,
): Peer {
  const bytes = new Uint8Array(address)
  if (bytes.length !== 4 || tls !== undefined || (proxied !== undefined && proxied.byteLength > 0)) {
    return peerAt(listener, addressText(bytes), proxied, tls)
  }
  // a client comes with many requests, and nothing but its address is known of it
  const key = (bytes[0]! << 24) | (bytes[1]! << 16) | (bytes[2]! << 8) | bytes[3]! // it has four
  const { peers } = listener
  let peer = peers.get(key)
  if (peer === undefined) {
    if (peers.size >= MAX_REMEMBERED_PEERS) peers.clear()
    peers.set(key, (peer = peerAt(listener, addressText(bytes), undefined, undefined)))
  }
  return peer
}

function peerAt(listener: Listener, address: string, proxied: ArrayBuffer | undefined, tls: PeerTls | undefined): Peer {
  const { localAddress, port: localPort } = listener
  // The library tells addresses only (F-17).
  const peer: Peer = { address, port: 0, localAddress, localPort, ...(tls && { tls }) }
  const proxiedAddress = proxied === undefined ? '' : addressText(new Uint8Array(proxied))
  return proxiedAddress === '' ? peer : { ...peer, proxiedAddress, proxiedPort: 0 }
}
