/**
 * The front end on the native one: sockets, parsing, timers and bodies are native (native/front); here are the names'
 * addresses, the gateway's events, and the filters that want a body in JavaScript.
 *
 * One call from native for the requests of a turn, one per answer that is not relayed, and one for all ends of a turn; what is known
 * of a connection is read once per connection. Handles of exchanges are odd.
 *
 * Source: native-front-end.md §7; operations.md H-01 … H-93.
 */
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import * as native from '../../native/front.ts'
import { UPSTREAM_REASONS, type UpstreamTargetHandle } from '../../native/upstream-pool.ts'
import type { AddressBook } from '../../upstream/address-book.ts'
import { NativeServers, NO_VERIFYING } from '../../upstream/native-servers.ts'
import { InvalidHeadError } from '../../upstream/request-head.ts'
import type { ConnectionCounts } from '../../upstream/upstream-pool.ts'
import {
  type AnswerEdits,
  type BodyFilter,
  type ExchangeHandle,
  type ExchangeRecord,
  type FrontEnd,
  type FrontEndCapabilities,
  type FrontEndEvents,
  type FrontEndLimits,
  HANDLE_SLOT_MASK,
  type HeldBodies,
  type ListenCertificate,
  type ListenOptions,
  type ListenTls,
  NOTHING_OPEN,
  type OpenConnections,
  type Peer,
  type PeerTls,
  type PreparedTls,
  type RequestFacts,
  type TlsRules,
  type UpstreamFailure,
  type UpstreamFailureReason,
  type UpstreamTarget,
} from '../front-end.ts'
import { NativeFilter } from './native-filter.ts'
import { NativeHeldBodies } from './native-held-bodies.ts'
import { NativeStandingRelays } from './native-standing-relays.ts'

export interface NativeFrontEndOptions {
  readonly events: FrontEndEvents
  readonly limits: FrontEndLimits
  readonly addressBook: AddressBook
  /** Exceptions out of events; for the log. */
  readonly report: (error: unknown) => void
  /** H-83: an upload below 240 B/s on the average of such a window ends; a client that reads nothing for one, too. */
  readonly progressWindowMs?: number
  /** Native threads that scan large bodies, for all front ends of a process; default 2. */
  readonly maxScanThreads?: number
}

export const NATIVE_CAPABILITIES: FrontEndCapabilities = Object.freeze({
  name: 'native',
  http10: true,
  http2: true,
  trailers: true,
  tunnel: true,
  webSockets: false,
  tls: Object.freeze({ versions: ['1.2', '1.3'], isFixed: false } as const),
  proxyProtocol: true,
  strict: true,
  headLimits: true,
  slowHeads: true,
  interimAnswers: true,
  halfClose: true,
})

/** H-14 */
const MAX_FIELDS = 200
/** H-80, H-81 */
const HEAD_MS = 10_000
const IDLE_MS = 75_000
/** H-83 */
const PROGRESS_WINDOW_MS = 60_000
/** H-37 */
const LINGER_MS = 2_000

/** As many as wait for threads of JavaScript. */
const MOST_WAITING_SCANS = 256

/** Sets of certificates, of all listeners and of configurations that were replaced. */
const MOST_TLS = 256

const NOBODY: Peer = Object.freeze({ address: '', port: 0, localAddress: '', localPort: 0 })
const ENDS: readonly ExchangeRecord['end'][] = ['complete', 'client_abort', 'truncated', 'aborted']
const VERSIONS: readonly RequestFacts['version'][] = ['HTTP/1.1', 'HTTP/1.0', 'HTTP/2.0']
const EMPTY = new Uint8Array(0)
/** Where the record begins that is told alone. */
const ALONE = (native.FRONT_RECORDS - 1) * native.FRONT_RECORD_NUMBERS
/** Where the numbers begin of a request that is relayed by a call. */
const RELAYED_ALONE = native.FRONT_MOST_TOLD * native.FRONT_RELAY_LENGTH
const BROKEN_HEAD =
  'HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n'

/** What is kept of an exchange on this side. */
interface Slot {
  handle: ExchangeHandle
  connection: number
  target: UpstreamTarget | undefined
  filter: NativeFilter | undefined
  /** Counts up with every `forward`: an address that comes late is not used. */
  attempt: number
}

/** Authorities that a client's certificate was verified against. */
function verifiedBy({ clientAuthorities }: ListenTls, { rules }: ListenCertificate): string {
  if (rules === undefined) return clientAuthorities ?? ''
  return rules.clients?.strategy === 'require-and-verify' ? (rules.clients.authorities ?? '') : ''
}

export class NativeFrontEnd implements FrontEnd {
  readonly capabilities = NATIVE_CAPABILITIES
  limits: FrontEndLimits
  readonly #events: FrontEndEvents
  readonly #report: (error: unknown) => void
  readonly #front: native.FrontHandle
  readonly #numbers = new Float64Array(native.FRONT_NUMBERS)
  readonly #servers: NativeServers
  readonly #progressWindowMs: number | undefined
  readonly #held: NativeHeldBodies
  readonly standing: NativeStandingRelays
  /** By slot of the exchange. */
  readonly #slots: (Slot | undefined)[] = []
  /** By slot of the connection: what it was when it was last asked for. */
  readonly #peers: ({ readonly connection: number; readonly peer: Peer } | undefined)[] = []
  readonly #ports = new Map<number, number>()
  /** Listeners on which more becomes known of a connection after it was announced. */
  readonly #proxied = new Set<number>()
  /** What listeners showed, by the number it was prepared under; connections may be older than a reload. */
  readonly #tls = new Map<number, ListenTls>()
  #inFlight = 0
  /** The Host of the request that was told of last: requests of one host share the string. */
  #toldHost = ''
  /** The exchange whose request is being told; 0 = none. */
  #announced: ExchangeHandle = 0
  /** The text that it is relayed with, and where its numbers are. */
  #announcedRelay: string | undefined
  #relayAt = 0
  /** Those of requests that are told together: they are returned, which spares a call for each. */
  #relayed = ''
  #hasRelayed = false
  /** Some end that was told was a standing relay's. */
  #hasStanding = false
  #isClosed = false

  /** Throws when the system has no descriptors left, and NativeAddonError when the native part is missing. */
  constructor(options: NativeFrontEndOptions) {
    this.#events = options.events
    this.#report = options.report
    this.limits = options.limits
    this.#progressWindowMs = options.progressWindowMs
    const front = native.createFront(
      this.#limits(options.limits),
      this.#numbers,
      (kind, handle, text, a, b, c, _, extra, ...others) => {
        if (kind === native.FRONT_REQUEST) return this.#requests(a, text!, extra as string | undefined, others)
        this.#event(kind, handle, text, a, b, c, extra)
        return undefined
      },
    )
    this.#front = front
    this.#servers = new NativeServers(
      {
        add: (settings) => native.addFrontTarget(front, settings),
        change: (target, settings) => native.changeFrontTarget(front, target, settings),
        retire: (target) => native.retireFrontTarget(front, target),
        secure: (target, authorities, name, isHttp2) =>
          native.secureFrontTarget(front, target, authorities, name, isHttp2),
        speakHttp2: (target) => native.frontSpeaksHttp2(front, target),
      },
      options.addressBook,
    )
    this.#held = new NativeHeldBodies(front)
    this.standing = new NativeStandingRelays(front, this.#numbers, ENDS, (target) => this.#at(target))
    native.allowScanThreads(options.maxScanThreads ?? 2, MOST_WAITING_SCANS)
    // whether the gateway has something to say may change at any time
    native.askFrontConnect(front, true)
  }

  #limits({
    headBytes,
    uriBytes,
    bodyBytes,
    streamBufferBytes,
    webSocket,
    timers,
    otherUpgrades,
  }: FrontEndLimits): native.FrontLimits {
    return {
      headBytes,
      uriBytes,
      bodyBytes,
      streamBufferBytes,
      fields: MAX_FIELDS,
      headMs: timers?.headMs ?? HEAD_MS,
      idleMs: timers?.idleMs ?? IDLE_MS,
      progressMs: this.#progressWindowMs ?? timers?.progressMs ?? PROGRESS_WINDOW_MS,
      lingerMs: LINGER_MS,
      tunnelIdleMs: webSocket.idleMs,
      maxTunnels: webSocket.maxOpen,
      otherUpgrades: otherUpgrades === true,
    }
  }

  get inFlight(): number {
    return this.#inFlight + this.standing.count
  }

  /** Of the front end's own legs to upstreams. */
  get connections(): ConnectionCounts {
    if (this.#isClosed) return { active: 0, idle: 0, pending: 0 }
    const [, open, idle, pending] = native.frontCounts(this.#front)
    return { active: open - idle, idle, pending }
  }

  /** No new requests go to other targets than these. */
  retain(targets: readonly UpstreamTarget[]): void {
    if (!this.#isClosed) this.#servers.retain(targets)
  }

  // ── listeners ──

  async listen(options: ListenOptions): Promise<void> {
    const { id, host, port } = options
    if (this.#ports.has(id)) throw new Error(`listener ${id} exists already`)
    const prepared = options.tls && this.#prepare(options.tls)
    this.#ports.set(id, 0)
    if (options.proxyProtocol) this.#proxied.add(id)
    try {
      const address = isIP(host) === 0 ? (await lookup(host)).address : host
      const text = address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
      this.#ports.set(id, native.listenFront(this.#front, id, text, options.proxyProtocol))
      if (prepared !== undefined) this.#use(id, prepared, options.tls!)
    } catch (error) {
      this.#ports.delete(id)
      if (prepared !== undefined) native.dropTls(prepared)
      const cause = error instanceof Error ? error.message : String(error)
      throw new Error(cause.startsWith('cannot listen') ? cause : `cannot listen on ${host}:${port}: ${cause}`, {
        cause: error,
      })
    }
  }

  /** The port that a listener got; differs from the one asked for only when that was 0. */
  portOf(id: number): number {
    return this.#ports.get(id) ?? 0
  }

  prepareTls(listenerId: number, tls: ListenTls): PreparedTls {
    if (!this.#ports.has(listenerId)) throw new Error(`there is no listener ${listenerId}`)
    const prepared = this.#prepare(tls)
    return {
      commit: () => this.#use(listenerId, prepared, tls),
      abort: () => native.dropTls(prepared),
    }
  }

  /** Throws with one sentence. */
  #prepare({ certificates, clientAuthorities }: ListenTls): number {
    const asked: TlsRules['clients'] =
      clientAuthorities === undefined ? undefined : { strategy: 'require-and-verify', authorities: clientAuthorities }
    return native.prepareTls({
      alpn: ['h2', 'http/1.1'],
      hosts: certificates.map(({ names, chain, key, rules }) => {
        const clients = rules === undefined ? asked : rules.clients
        return {
          names,
          chain,
          key,
          minVersion: rules?.minVersion ?? '1.2',
          maxVersion: rules?.maxVersion ?? '1.3',
          ciphers: [],
          clients: clients === undefined ? null : { ...clients, authorities: clients.authorities ?? null },
        }
      }),
    })
  }

  #use(listenerId: number, prepared: number, tls: ListenTls): void {
    native.useFrontTls(this.#front, listenerId, prepared)
    this.#tls.set(prepared, tls)
    // connections of a configuration that was replaced so often are as good as gone
    if (this.#tls.size > MOST_TLS) this.#tls.delete(this.#tls.keys().next().value!)
  }

  closeListener(id: number): void {
    if (!this.#isClosed) native.closeFrontListener(this.#front, id)
  }

  connectionsOf(listenerId: number): number {
    return this.#isClosed ? 0 : native.frontConnections(this.#front, listenerId)[0]
  }

  openOf(listenerId: number): OpenConnections {
    if (this.#isClosed) return NOTHING_OPEN
    const [connections, http2, webSockets, streams] = native.frontConnections(this.#front, listenerId)
    return { http1: connections - http2 - (webSockets - streams), http2, webSockets }
  }

  setLimits(limits: FrontEndLimits): void {
    this.limits = limits
    native.setFrontLimits(this.#front, this.#limits(limits))
  }

  drain(): void {
    native.drainFront(this.#front)
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    native.closeFront(this.#front)
    this.#held.close()
    this.standing.close()
    this.#servers.clear()
  }

  // ── what native calls ──

  #event(
    kind: number,
    handle: number,
    text: string | undefined,
    a: number,
    b: number,
    c: number,
    extra: string | Uint8Array | undefined,
  ): void {
    switch (kind) {
      case native.FRONT_RESPONSE:
        this.#tell(handle, () => this.#events.onResponse(handle, text!, { status: a, bodyLength: b }))
        return
      case native.FRONT_ENDED:
        this.#hasStanding = false
        for (let place = 0; place < a; place++) this.#done(place * native.FRONT_RECORD_NUMBERS, undefined, undefined)
        this.#toldStanding()
        return
      case native.FRONT_DONE:
        this.#hasStanding = false
        this.#done(ALONE, text, extra as string | undefined)
        this.#toldStanding()
        return
      case native.FRONT_STANDING_PASSED:
        this.#standingPassed(a, b, c)
        return
      case native.FRONT_STANDING_FAILED:
        this.#standingFailed(handle, text!, a, b, c === 1, extra as string)
        return
      case native.FRONT_REJECTED:
        this.#failed(handle, new InvalidHeadError())
        return
      case native.FRONT_PASSED:
        this.#tell(handle, () => this.#events.onAnswered?.(handle, a, b))
        return
      case native.FRONT_REQUEST_BODY:
        this.#tell(handle, () => this.#events.onRequestBody(handle, extra as Uint8Array, a === 1))
        return
      case native.FRONT_RESPONSE_BODY:
        this.#tell(handle, () => this.#events.onResponseBody(handle, extra as Uint8Array, a === 1))
        return
      case native.FRONT_REQUEST_HELD:
        this.#tell(handle, () => this.#events.onRequestHeld?.(handle, b, a === 1))
        return
      case native.FRONT_RESPONSE_HELD:
        this.#tell(handle, () => this.#events.onResponseHeld?.(handle, b, a === 1))
        return
      case native.FRONT_SCANNED:
        this.#held.scanned(a, b)
        return
      case native.FRONT_UPSTREAM_FAILED: {
        const slot = this.#find(handle)
        if (slot === undefined) return
        slot.filter?.close()
        slot.filter = undefined
        const failure = this.#failure(slot, a, text ?? '', b === 1, c === 1)
        this.#tell(handle, () => this.#events.onUpstreamError(handle, failure))
        return
      }
      case native.FRONT_FILTER_DATA:
        this.#tell(handle, () => this.#find(handle)?.filter?.data(extra as Uint8Array))
        return
      case native.FRONT_FILTER_END:
        this.#tell(handle, () => this.#find(handle)?.filter?.end())
        return
      case native.FRONT_FILTER_WRITABLE:
        this.#tell(handle, () => this.#find(handle)?.filter?.writable())
        return
      case native.FRONT_CONNECTED:
        this.#connected(a, b)
        return
      case native.FRONT_REFUSED:
        this.#refused(text ?? '', a, b, extra as string)
    }
  }

  /**
   * Requests that came in one turn; of those behind the first, head and connection lines are in `others`. Returns the lines that
   * they are relayed with, of all that the gateway has relayed meanwhile.
   */
  #requests(
    count: number,
    head: string,
    connectionLines: string | undefined,
    others: readonly (string | undefined)[],
  ): string | undefined {
    this.#relayed = ''
    this.#hasRelayed = false
    this.#request(0, head, connectionLines)
    for (let place = 1; place < count; place++) {
      // the front end may have been closed: its exchanges are over, and that was told
      if (this.#isClosed) break
      this.#request(place, others[2 * place - 2]!, others[2 * place - 1])
    }
    return this.#hasRelayed ? this.#relayed : undefined
  }

  #request(place: number, head: string, connectionLines: string | undefined): void {
    const numbers = this.#numbers
    const handle = numbers[place * native.FRONT_REQUEST_LENGTH + native.FRONT_REQUEST_NUMBERS.exchange]!
    const facts = this.#take(place, handle, head, connectionLines)
    this.#announced = handle
    this.#relayAt = place * native.FRONT_RELAY_LENGTH
    this.#announcedRelay = undefined
    numbers[this.#relayAt + native.FRONT_RELAY_NUMBERS.target] = -1
    try {
      this.#events.onRequest(handle, head, facts)
    } catch (error) {
      this.#failed(handle, error)
    }
    this.#announced = 0
    if (this.#announcedRelay === undefined) return
    this.#relayed += this.#announcedRelay
    this.#hasRelayed = true
    numbers[this.#relayAt + native.FRONT_RELAY_NUMBERS.end] = this.#relayed.length
  }

  /** An exchange begins whose numbers are in place. */
  #take(place: number, handle: ExchangeHandle, head: string, connectionLines: string | undefined): RequestFacts {
    const numbers = this.#numbers
    const at = native.FRONT_REQUEST_NUMBERS
    const start = place * native.FRONT_REQUEST_LENGTH
    const facts = numbers[start + at.facts]!
    this.#slots[(handle & HANDLE_SLOT_MASK) >>> 1] = {
      handle,
      connection: numbers[start + at.connection]!,
      target: undefined,
      filter: undefined,
      attempt: 0,
    }
    this.#inFlight++
    if ((facts & native.FRONT_SAME_HOST) === 0) {
      const hostAt = numbers[start + at.hostAt]!
      this.#toldHost = head.slice(hostAt, hostAt + numbers[start + at.hostLength]!)
    }
    return {
      listenerId: facts >>> 5,
      bodyLength: numbers[start + at.bodyLength]!,
      receivedAtMs: numbers[start + at.receivedAtMs]!,
      connectionLines: connectionLines ?? '',
      proxyFields: (facts & native.FRONT_PROXY_FIELDS) !== 0,
      version: VERSIONS[(facts >>> 1) & 3],
      host: this.#toldHost,
      hasPlainPath: (facts & native.FRONT_PLAIN_PATH) !== 0,
    }
  }

  // ── of standing relays ──

  #endedStanding(start: number, relay: native.StandingHandle, detail: string | undefined): void {
    this.#hasStanding = true
    try {
      this.standing.ended(start, relay, detail, this.#events)
    } catch (error) {
      this.#report(error)
    }
  }

  #toldStanding(): void {
    if (!this.#hasStanding) return
    try {
      this.#events.onStandingTold?.()
    } catch (error) {
      this.#report(error)
    }
  }

  #standingPassed(standing: native.StandingHandle, status: number, elapsedMs: number): void {
    const relay = this.standing.relayOf(standing)
    if (relay === undefined) return
    try {
      this.#events.onStandingAnswered?.(relay, status, elapsedMs)
    } catch (error) {
      this.#report(error)
    }
  }

  /** `extra`: request id, traceparent, and how it failed. */
  #standingFailed(
    handle: ExchangeHandle,
    head: string,
    standing: native.StandingHandle,
    reason: number,
    notProcessed: boolean,
    extra: string,
  ): void {
    const relay = this.standing.relayOf(standing)
    this.standing.left(standing)
    const [requestId = '', traceparent = '', ...detail] = extra.split(' ')
    const facts = this.#take(0, handle, head, undefined)
    this.#tell(handle, () => {
      if (relay === undefined || this.#events.onStandingFailed === undefined) throw new Error('a relay of nobody')
      const slot = this.#find(handle)
      if (slot !== undefined) slot.target = relay.target
      const failure = this.standing.failure(relay, reason, notProcessed, detail.join(' '), false)
      this.#events.onStandingFailed(relay, handle, head, facts, { requestId, traceparent }, failure)
    })
  }

  /** Calls into the gateway; what it throws ends this exchange only (T-26). */
  #tell(handle: ExchangeHandle, call: () => void): void {
    try {
      call()
    } catch (error) {
      this.#failed(handle, error)
    }
  }

  /** 500 if nothing is out yet, else the connection closes. */
  #failed(handle: ExchangeHandle, error: unknown): void {
    this.#report(error)
    if (this.#find(handle) === undefined) return
    if (native.respondFront(this.#front, handle, BROKEN_HEAD, Buffer.from('internal error\n')) === native.FRONT_IS_DONE)
      this.#done(ALONE, undefined, undefined)
  }

  #connected(listenerId: number, connection: number): void {
    if (this.#events.onConnect === undefined) return
    let isAccepted = false
    try {
      isAccepted = this.#events.onConnect(listenerId, this.#peerOf(connection))
      if (this.#proxied.has(listenerId) || this.#tls.size > 0) this.#peers[connection & HANDLE_SLOT_MASK] = undefined
    } catch (error) {
      this.#report(error)
    }
    if (!isAccepted) native.refuseFront(this.#front, connection)
  }

  #refused(requestLine: string, listenerId: number, status: number, extra: string): void {
    const blank = extra.indexOf(' ')
    const rule = extra.slice(0, blank)
    const reason = /^[HO]-/.test(rule) ? `bad_request:${rule}` : rule
    try {
      this.#events.onRefused({ listenerId, peerAddress: extra.slice(blank + 1), status, reason, requestLine })
    } catch (error) {
      this.#report(error)
    }
  }

  /** The numbers of the record that begins at `start` are in place. */
  #done(start: number, detail: string | undefined, rule: string | undefined): void {
    const numbers = this.#numbers
    const { FRONT_RECORD: at } = native
    const standing = numbers[start + at.standing]!
    if (standing !== 0) {
      this.#endedStanding(start, standing, detail)
      return
    }
    const handle = numbers[start + at.exchange]!
    const slot = this.#find(handle)
    if (slot === undefined) return
    this.#slots[(handle & HANDLE_SLOT_MASK) >>> 1] = undefined
    this.#inFlight--
    slot.filter?.close()
    const reason = numbers[start + at.failureReason]!
    const isNotProcessed = numbers[start + at.notProcessed] === 1
    const passedStatus = numbers[start + at.passedStatus]!
    const firstByteAtMs = numbers[start + at.firstByteAtMs]!
    const record: ExchangeRecord = {
      status: numbers[start + at.status]!,
      requestBodyBytes: numbers[start + at.requestBodyBytes]!,
      responseBodyBytes: numbers[start + at.responseBodyBytes]!,
      end: ENDS[numbers[start + at.end]!]!,
      failure: reason < 0 ? undefined : this.#failure(slot, reason, detail ?? '', isNotProcessed, true),
      connectedAtMs: numbers[start + at.connectedAtMs]!,
      firstByteAtMs,
      endedAtMs: numbers[start + at.endedAtMs]!,
      connectionReused: numbers[start + at.connectionReused] === 1,
      reason: rule === undefined ? undefined : `bad_request:${rule}`,
      webSocket: numbers[start + at.tunnel] === 1 ? { messagesIn: 0, messagesOut: 0 } : undefined,
    }
    try {
      if (passedStatus !== 0) this.#events.onAnswered?.(handle, passedStatus, firstByteAtMs)
      this.#events.onDone(handle, record)
    } catch (error) {
      this.#report(error)
    }
  }

  #failure(slot: Slot, reason: number, detail: string, notProcessed: boolean, bodyConsumed: boolean): UpstreamFailure {
    return {
      target: slot.target!, // a leg can only fail when there is one
      reason: UPSTREAM_REASONS[reason] ?? 'upstream_reset',
      detail,
      notProcessed,
      bodyConsumed,
    }
  }

  #find(handle: ExchangeHandle): Slot | undefined {
    const slot = this.#slots[(handle & HANDLE_SLOT_MASK) >>> 1]
    return slot !== undefined && slot.handle === handle ? slot : undefined
  }

  // ── what the gateway calls ──

  peer(handle: ExchangeHandle): Peer {
    const slot = this.#find(handle)
    return slot === undefined ? NOBODY : this.#peerOf(slot.connection)
  }

  /** What a connection's ends are does not change, so it is asked for once. */
  #peerOf(connection: number): Peer {
    const known = this.#peers[connection & HANDLE_SLOT_MASK]
    if (known !== undefined && known.connection === connection) return known.peer
    const text = this.#isClosed ? '' : native.frontPeer(this.#front, connection)
    if (text === '') return NOBODY
    const [address = '', port, localAddress = '', localPort, proxiedAddress, proxiedPort] = text.split(' ')
    const peer: Peer = {
      address,
      port: Number(port),
      localAddress,
      localPort: Number(localPort),
      ...(proxiedAddress === undefined ? {} : { proxiedAddress, proxiedPort: Number(proxiedPort) }),
      ...(this.#tls.size === 0 ? {} : this.#tlsOf(connection)),
    }
    this.#peers[connection & HANDLE_SLOT_MASK] = { connection, peer }
    return peer
  }

  #tlsOf(connection: number): { readonly tls?: PeerTls } {
    const facts = native.frontTls(this.#front, connection)
    const listen = facts === undefined ? undefined : this.#tls.get(facts.context)
    const certificate = listen?.certificates[facts?.host ?? 0]
    if (facts === undefined || listen === undefined || certificate === undefined) return {}
    const { serverName, clientCertificate, version, cipherSuite, alpn, ja4, isResumed } = facts
    const pem = Buffer.from(clientCertificate, 'hex').toString('base64').replaceAll(/.{64}/g, '$&\n').trimEnd()
    return {
      tls: {
        serverName,
        certificate,
        clientCertificate: pem === '' ? '' : `-----BEGIN CERTIFICATE-----\n${pem}\n-----END CERTIFICATE-----\n`,
        clientAuthorities: verifiedBy(listen, certificate),
        session: { version, cipherSuite, alpn, ja4, isResumed },
      },
    }
  }

  readRequestBody(handle: ExchangeHandle, limitBytes: number): void {
    if (!this.#isClosed) native.readFrontRequestBody(this.#front, handle, limitBytes)
  }

  heldBodies(handle: ExchangeHandle): HeldBodies | undefined {
    return this.#isClosed || this.#find(handle) === undefined ? undefined : this.#held
  }

  forward(handle: ExchangeHandle, target: UpstreamTarget, head: string, body?: Uint8Array): void {
    const slot = this.#begin(handle, target)
    if (slot === undefined) return
    const at = this.#at(target)
    if (at !== undefined) this.#send(handle, at, head, body)
    else this.#sendLater(slot, target, (found) => this.#send(handle, found, head, body))
  }

  relay(handle: ExchangeHandle, target: UpstreamTarget, lines: string, answer: AnswerEdits | undefined): void {
    const slot = this.#begin(handle, target)
    if (slot === undefined) return
    const at = this.#at(target)
    if (at !== undefined && handle === this.#announced)
      this.#announcedRelay = this.#relayText(this.#relayAt, at, lines, answer)
    else if (at !== undefined) this.#relay(handle, at, lines, answer)
    else this.#sendLater(slot, target, (found) => this.#relay(handle, found, lines, answer))
  }

  /** What native wants for it: one text, and numbers that say where its parts begin. */
  #relayText(start: number, target: UpstreamTargetHandle, lines: string, answer: AnswerEdits | undefined): string {
    const numbers = this.#numbers
    const at = native.FRONT_RELAY_NUMBERS
    numbers[start + at.target] = target
    if (answer === undefined) {
      numbers[start + at.answer] = -1
      return lines
    }
    const { clocks } = answer
    numbers[start + at.answer] = lines.length
    numbers[start + at.clockCount] = clocks.length
    for (let place = 0; place < clocks.length; place++) numbers[start + at.clocks + place] = clocks[place]!
    const text = lines + answer.lines
    numbers[start + at.removed] = text.length
    return answer.removed === '' ? text : text + answer.removed
  }

  /** The request that is being told is not relayed after all. */
  #withdraw(): void {
    this.#announcedRelay = undefined
    this.#numbers[this.#relayAt + native.FRONT_RELAY_NUMBERS.target] = -1
  }

  /** A leg begins; what was to be sent before is not sent any more. */
  #begin(handle: ExchangeHandle, target: UpstreamTarget): Slot | undefined {
    const slot = this.#find(handle)
    if (slot === undefined || this.#isClosed) return undefined
    slot.target = target
    slot.attempt++
    if (handle === this.#announced) this.#withdraw()
    return slot
  }

  #send(handle: ExchangeHandle, target: UpstreamTargetHandle, head: string, body: Uint8Array | undefined): void {
    const sent = native.forwardFront(this.#front, handle, target, head, body ?? null)
    if (sent === native.FRONT_BAD_HEAD) throw new InvalidHeadError()
  }

  #relay(handle: ExchangeHandle, target: UpstreamTargetHandle, lines: string, answer: AnswerEdits | undefined): void {
    const text = this.#relayText(RELAYED_ALONE, target, lines, answer)
    const sent = native.relayFront(this.#front, handle, text)
    if (sent === native.FRONT_BAD_HEAD) throw new InvalidHeadError()
  }

  /** A target that can be sent to at once; undefined: its addresses are still to be found, or its TLS is not possible here. */
  #at(target: UpstreamTarget): UpstreamTargetHandle | undefined {
    const server = this.#servers.of(target)
    const addresses = this.#servers.addresses(server, target)
    if (addresses instanceof Promise) return undefined
    const at = this.#servers.settle(server, target, addresses)
    return server.isPossible ? at : undefined
  }

  #sendLater(slot: Slot, target: UpstreamTarget, send: (target: UpstreamTargetHandle) => void): void {
    const { handle, attempt } = slot
    const isWanted = (): boolean => !this.#isClosed && this.#find(handle) === slot && slot.attempt === attempt
    const fail = (reason: UpstreamFailureReason, detail: string): void => {
      if (!isWanted()) return
      slot.attempt++
      const failure: UpstreamFailure = { target, reason, detail, notProcessed: true, bodyConsumed: false }
      this.#tell(handle, () => this.#events.onUpstreamError(handle, failure))
    }
    const { connectMs } = target.timers
    const timer =
      connectMs > 0
        ? setTimeout(() => fail('connect_timeout', `no address within ${connectMs} ms`), connectMs)
        : undefined
    const server = this.#servers.of(target)
    // also for addresses that are known: what fails is not told inside the call
    Promise.resolve(this.#servers.addresses(server, target)).then(
      (addresses) => {
        clearTimeout(timer)
        if (!isWanted()) return
        const at = this.#servers.settle(this.#servers.of(target), target, addresses)
        if (server.isPossible) this.#tell(handle, () => send(at))
        else fail('tls_failed', NO_VERIFYING)
      },
      (error: unknown) => {
        clearTimeout(timer)
        fail('connect_failed', error instanceof Error ? error.message : String(error))
      },
    )
  }

  canRepeat(handle: ExchangeHandle): boolean {
    return !this.#isClosed && native.frontCanRepeat(this.#front, handle)
  }

  readResponseBody(handle: ExchangeHandle, limitBytes: number): void {
    if (!this.#isClosed) native.readFrontResponseBody(this.#front, handle, limitBytes)
  }

  continueResponse(handle: ExchangeHandle, head: string, body?: Uint8Array, filter?: () => BodyFilter): void {
    const slot = this.#find(handle)
    if (slot === undefined || this.#isClosed) return
    const outcome = native.continueFront(this.#front, handle, head, body ?? null, filter !== undefined)
    if (outcome === native.FRONT_IS_FILTERED) {
      slot.filter = new NativeFilter(this.#front, handle, filter!(), (error) => this.#failed(handle, error))
    } else this.#settle(outcome)
  }

  respond(handle: ExchangeHandle, head: string, body: Uint8Array | string): void {
    const slot = this.#find(handle)
    if (slot === undefined || this.#isClosed) return
    slot.attempt++
    if (handle === this.#announced) this.#withdraw()
    slot.filter?.close()
    slot.filter = undefined
    const bytes = typeof body !== 'string' ? body : body === '' ? EMPTY : Buffer.from(body, 'utf8')
    this.#settle(native.respondFront(this.#front, handle, head, bytes))
  }

  abort(handle: ExchangeHandle): void {
    if (this.#isClosed || this.#find(handle) === undefined) return
    if (handle === this.#announced) this.#withdraw()
    this.#settle(native.abortFront(this.#front, handle))
  }

  #settle(outcome: number): void {
    if (outcome === native.FRONT_IS_DONE) this.#done(ALONE, undefined, undefined)
    else if (outcome === native.FRONT_BAD_HEAD) throw new Error('not a valid response head')
  }
}
