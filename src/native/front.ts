/** The native front end: one per worker, on the thread that made it; src/listener/native gives it its form. */
import { type FrontEventListener, addon } from './addon.ts'
import type { ProfileHandle, TransactionHandle } from './rule-set.ts'
import type { UpstreamTargetHandle, UpstreamTargetSettings } from './upstream-pool.ts'

/** An open front end. */
export type FrontHandle = number

/** Kinds of events. */
export const FRONT_CONNECTED = 1
export const FRONT_REQUEST = 2
export const FRONT_REQUEST_BODY = 3
export const FRONT_RESPONSE = 4
export const FRONT_RESPONSE_BODY = 5
export const FRONT_FILTER_DATA = 6
export const FRONT_FILTER_END = 7
export const FRONT_FILTER_WRITABLE = 8
export const FRONT_UPSTREAM_FAILED = 9
export const FRONT_DONE = 10
export const FRONT_REFUSED = 11
export const FRONT_REQUEST_HELD = 12
export const FRONT_RESPONSE_HELD = 13
export const FRONT_SCANNED = 14
export const FRONT_PASSED = 15
export const FRONT_ENDED = 16
export const FRONT_REJECTED = 17
export const FRONT_STANDING_PASSED = 18
export const FRONT_STANDING_FAILED = 19

/** What `continueFront`, `respondFront` and `abortFront` return. */
export const FRONT_IS_DONE = 1
export const FRONT_IS_FILTERED = 2
export const FRONT_BAD_HEAD = -1

/** Places of the numbers of a record. */
export const FRONT_RECORD = {
  status: 0,
  requestBodyBytes: 1,
  responseBodyBytes: 2,
  end: 3,
  /** Index of UPSTREAM_REASONS, -1 = none. */
  failureReason: 4,
  notProcessed: 5,
  connectedAtMs: 6,
  firstByteAtMs: 7,
  endedAtMs: 8,
  connectionReused: 9,
  tunnel: 10,
  /** The upstream's status where PASSED has not told it, else 0. */
  passedStatus: 11,
  exchange: 12,
  /** The standing relay by which it went up, where nobody was told of its beginning; else 0, and so are the next two. */
  standing: 13,
  receivedAtMs: 14,
  /** 1 = HEAD, 0 = GET. */
  isHead: 15,
} as const
export const FRONT_RECORD_NUMBERS: number = 16
/** Records that fit into the shared numbers: those of ENDED first, behind them the one that is told alone. */
export const FRONT_RECORDS: number = 65
/** Requests that are told in one call, at most. */
export const FRONT_MOST_TOLD: number = 16
/** Places of the numbers that REQUEST is told with: of the first; those of the others follow, FRONT_REQUEST_LENGTH each. */
export const FRONT_REQUEST_NUMBERS = {
  exchange: 1040,
  /** The listener × 32, the version × 2, and the bits below. */
  facts: 1041,
  bodyLength: 1042,
  connection: 1043,
  receivedAtMs: 1044,
  /** Where the value of Host begins in the head, and its length. */
  hostAt: 1045,
  hostLength: 1046,
} as const
export const FRONT_REQUEST_LENGTH: number = 7
/** Some field is one that proxies write. */
export const FRONT_PROXY_FIELDS = 1
/** Host is that of the request that was told of before. */
export const FRONT_SAME_HOST = 8
/** The path is canonical as it stands. */
export const FRONT_PLAIN_PATH = 16
/**
 * Places for what goes with the text of a relayed request: its own lines, those of the answer, names left out there. Those of
 * the first request that was told; then those of the others, and of one that `relayFront` relays, FRONT_RELAY_LENGTH each.
 */
export const FRONT_RELAY_NUMBERS = {
  /** -1 = it is not relayed. */
  target: 1152,
  /** Where the text ends, of those of one call together; each begins where the one before it ends. */
  end: 1153,
  /** Where the answer's lines begin; -1 = the answer is asked for, and nothing else follows. */
  answer: 1154,
  /** Where the names begin. */
  removed: 1155,
  /** How many places of the answer's lines are for the time, and, from `clocks` on, where in them; four at most. */
  clockCount: 1156,
  clocks: 1157,
} as const
export const FRONT_RELAY_LENGTH: number = 9
/** All shared numbers. */
export const FRONT_NUMBERS: number = 1305

/** Bytes and milliseconds, 0 = off; see the crate `front`. */
export interface FrontLimits {
  readonly headBytes: number
  readonly uriBytes: number
  readonly fields: number
  readonly bodyBytes: number
  readonly streamBufferBytes: number
  readonly headMs: number
  readonly idleMs: number
  readonly progressMs: number
  readonly lingerMs: number
  readonly tunnelIdleMs: number
  readonly maxTunnels: number
  readonly otherUpgrades: boolean
}

const limitNumbers = (limits: FrontLimits): number[] => [
  limits.headBytes,
  limits.uriBytes,
  limits.fields,
  limits.bodyBytes,
  limits.streamBufferBytes,
  limits.headMs,
  limits.idleMs,
  limits.progressMs,
  limits.lingerMs,
  limits.tunnelIdleMs,
  limits.maxTunnels,
  Number(limits.otherUpgrades),
]

/** A front end on this thread's event loop. `numbers`: FRONT_NUMBERS places, the records first. Throws without descriptors. */
export function createFront(limits: FrontLimits, numbers: Float64Array, onEvent: FrontEventListener): FrontHandle {
  return addon().createFront(limitNumbers(limits), performance.now(), numbers, onEvent)
}

/** Closes everything at once; the ends of open exchanges are told before it returns. */
export function closeFront(front: FrontHandle): void {
  addon().closeFront(front)
}

/** For what begins from now on. */
export function setFrontLimits(front: FrontHandle, limits: FrontLimits): void {
  addon().frontLimits(front, limitNumbers(limits))
}

/** Whether connections are announced before their first byte. */
export function askFrontConnect(front: FrontHandle, asks: boolean): void {
  addon().frontAskConnect(front, asks)
}

/** `address`: `ip:port` or `[ip]:port`. Returns the port; throws an `Error` that names address and cause. */
export function listenFront(front: FrontHandle, id: number, address: string, proxyProtocol: boolean): number {
  return addon().frontListen(front, id, address, proxyProtocol)
}

/** What a TLS listener shows its clients, and asks of them. */
export interface TlsRules {
  /** In the order preferred. */
  readonly alpn: readonly string[]
  /** The first serves clients that ask for no name, or for nobody's. */
  readonly hosts: readonly TlsHost[]
}

export interface TlsHost {
  /** Lower case; `*.example.org` stands for one label. */
  readonly names: readonly string[]
  /** PEM. */
  readonly chain: string
  readonly key: string
  readonly minVersion: '1.2' | '1.3'
  readonly maxVersion: '1.2' | '1.3'
  /** IANA's names; none = all that there are. */
  readonly ciphers: readonly string[]
  /** Null: they are not asked for certificates. */
  readonly clients: {
    readonly strategy: 'require-and-verify' | 'require-any' | 'request'
    /** PEM; null = none to verify against. */
    readonly authorities: string | null
  } | null
}

/** What is known of a client's TLS. */
export interface TlsFacts {
  /** What `prepareTls` returned, and which of its hosts it is. */
  readonly context: number
  readonly host: number
  /** '' = none, or one that no host has. */
  readonly serverName: string
  readonly version: '1.2' | '1.3'
  readonly cipherSuite: string
  /** '' = nothing was agreed on. */
  readonly alpn: string
  /** The client's JA4 fingerprint. */
  readonly ja4: string
  readonly isResumed: boolean
  /** DER in hexadecimal digits; '' = none was shown. */
  readonly clientCertificate: string
}

/**
 * The secret behind the tickets of this process's native TLS listeners as it is now, for another process of the same gateway;
 * made when there is none.
 */
export function ticketSecret(): Uint8Array {
  return Uint8Array.from(addon().ticketSecret())
}

/** Takes over what another process has; only the first call counts, and only before `prepareTls`. */
export function useTicketSecret(secret: Uint8Array): void {
  addon().useTicketSecret(secret)
}

/** A number for useFrontTls or dropTls. Throws with one sentence when something cannot be used. */
export function prepareTls(rules: TlsRules): number {
  return addon().prepareTls(JSON.stringify(rules))
}

export function dropTls(prepared: number): void {
  addon().dropTls(prepared)
}

/** For connections that come to a listener from now on; those that exist go on as they are. */
export function useFrontTls(front: FrontHandle, listener: number, prepared: number): void {
  addon().frontUseTls(front, listener, prepared)
}

/** Undefined on plain connections, and before the first request. */
export function frontTls(front: FrontHandle, connection: number): TlsFacts | undefined {
  const text = addon().frontTls(front, connection)
  return text === '' ? undefined : (JSON.parse(text) as TlsFacts)
}

/** Accepts nothing more there. */
export function closeFrontListener(front: FrontHandle, id: number): void {
  addon().frontCloseListener(front, id)
}

/** Every answer closes its connection from now on; connections between requests close now. */
export function drainFront(front: FrontHandle): void {
  addon().frontDrain(front)
}

/** `[exchanges, upstream connections, of these idle, requests that wait for one]` */
export function frontCounts(front: FrontHandle): readonly [number, number, number, number] {
  return addon().frontCounts(front)
}

/** `[connections, of these with HTTP/2, tunnels, of these streams of HTTP/2]` of a listener. */
export function frontConnections(front: FrontHandle, listener: number): readonly [number, number, number, number] {
  return addon().frontConnections(front, listener)
}

/** `address port localAddress localPort`, then `proxiedAddress proxiedPort` where a PROXY header named them; '' = gone. */
export function frontPeer(front: FrontHandle, connection: number): string {
  return addon().frontPeer(front, connection)
}

/** Turns a connection away that was announced. */
export function refuseFront(front: FrontHandle, connection: number): void {
  addon().frontRefuse(front, connection)
}

/** Throws on an address that is none. */
export function addFrontTarget(front: FrontHandle, settings: UpstreamTargetSettings): UpstreamTargetHandle {
  const { addresses, connectMs, queueMs, firstByteMs, idleMs, keepAliveMs, maxConnections, maxQueued } = settings
  return addon().addFrontTarget(
    front,
    addresses,
    connectMs,
    queueMs,
    firstByteMs,
    idleMs,
    keepAliveMs,
    maxConnections,
    maxQueued,
  )
}

/** For what begins from now on. */
export function changeFrontTarget(
  front: FrontHandle,
  target: UpstreamTargetHandle,
  settings: UpstreamTargetSettings,
): void {
  const { addresses, connectMs, queueMs, firstByteMs, idleMs, keepAliveMs, maxConnections, maxQueued } = settings
  addon().changeFrontTarget(
    front,
    target,
    addresses,
    connectMs,
    queueMs,
    firstByteMs,
    idleMs,
    keepAliveMs,
    maxConnections,
    maxQueued,
  )
}

/** See secureUpstreamTarget. */
export function secureFrontTarget(
  front: FrontHandle,
  target: UpstreamTargetHandle,
  authorities: string | null,
  name: string,
  isHttp2: boolean,
): boolean {
  return addon().secureFrontTarget(front, target, authorities, name, isHttp2)
}

/** See upstreamSpeaksHttp2. */
export function frontSpeaksHttp2(front: FrontHandle, target: UpstreamTargetHandle): void {
  addon().frontSpeaksHttp2(front, target)
}

/** Takes no new requests. */
export function retireFrontTarget(front: FrontHandle, target: UpstreamTargetHandle): void {
  addon().retireFrontTarget(front, target)
}

/** See FrontEnd.readRequestBody. */
export function readFrontRequestBody(front: FrontHandle, exchange: number, limitBytes: number): void {
  addon().frontReadRequestBody(front, exchange, limitBytes)
}

/** As readFrontRequestBody; the bytes stay where they are, and REQUEST_HELD says how many. */
export function holdFrontRequestBody(front: FrontHandle, exchange: number, limitBytes: number): void {
  addon().frontHoldRequestBody(front, exchange, limitBytes)
}

/** As readFrontResponseBody; the bytes stay where they are, and RESPONSE_HELD says how many. */
export function holdFrontResponseBody(front: FrontHandle, exchange: number, limitBytes: number): void {
  addon().frontHoldResponseBody(front, exchange, limitBytes)
}

/** A copy of a body that is held. */
export function frontHeldBody(front: FrontHandle, exchange: number, message: 'request' | 'response'): Uint8Array {
  return addon().frontHeldBody(front, exchange, message === 'response')
}

/** What a scan of a held body returns when a thread has it: the answer comes with SCANNED. */
export const SCAN_IN_THREAD = -1
/** What SCANNED says when the scan came to nothing. */
export const SCAN_FAILED = -2

/** How many native threads scan held bodies, and how many scans may wait for one; beyond that they are made at once. */
export function allowScanThreads(mostThreads: number, mostWaiting: number): void {
  addon().allowScanThreads(mostThreads, mostWaiting)
}

/**
 * scanRequest over the request body that is held. SCAN_IN_THREAD when it is larger than `threadThresholdBytes`: SCANNED then
 * brings the answer with `ticket`.
 */
export function scanHeldRequest(
  front: FrontHandle,
  exchange: number,
  threadThresholdBytes: number,
  ticket: number,
  profile: ProfileHandle,
  client: string,
  requestId: string,
  head: string,
  isLast: boolean,
): number {
  return addon().scanHeldRequest(
    front,
    exchange,
    threadThresholdBytes,
    ticket,
    profile,
    client,
    requestId,
    head,
    isLast,
  )
}

/** scanResponse over the response body that is held; otherwise as scanHeldRequest. */
export function scanHeldResponse(
  front: FrontHandle,
  exchange: number,
  threadThresholdBytes: number,
  ticket: number,
  transaction: TransactionHandle,
  status: number,
  head: string,
  isLast: boolean,
): number {
  return addon().scanHeldResponse(front, exchange, threadThresholdBytes, ticket, transaction, status, head, isLast)
}

/** See FrontEnd.forward. FRONT_BAD_HEAD or 0. */
export function forwardFront(
  front: FrontHandle,
  exchange: number,
  target: UpstreamTargetHandle,
  head: string,
  body: Uint8Array | null,
): number {
  return addon().frontForward(front, exchange, target, head, body)
}

/** See FrontEnd.relay; the FRONT_RELAY_NUMBERS say what is in `text`. FRONT_BAD_HEAD or 0. */
export function relayFront(front: FrontHandle, exchange: number, text: string): number {
  return addon().frontRelay(front, exchange, text)
}

/** A standing relay of a front end; 0 is none. */
export type StandingHandle = number

/** Standing relays hold as long as `version[0]` is what it was for `standFront`. The array is kept for good. */
export function restFrontOn(front: FrontHandle, version: Int32Array): void {
  addon().frontRestOn(front, version)
}

/** See StandingRelays.stand in src/listener/front-end.ts; 0 = not possible. */
export function standFront(
  front: FrontHandle,
  listener: number,
  target: UpstreamTargetHandle,
  host: string,
  lines: string,
  version: number,
): StandingHandle {
  return addon().frontStand(front, listener, target, host + lines, host.length, version)
}

/** Returns how many requests are under way by it whose end is still to be told. */
export function withdrawFront(front: FrontHandle, relay: StandingHandle): number {
  return addon().frontWithdraw(front, relay)
}

/** How many requests are under way by it, or by all (0). */
export function frontStanding(front: FrontHandle, relay: StandingHandle): number {
  return addon().frontStanding(front, relay)
}

/** Closes the connections of those. */
export function abortFrontStanding(front: FrontHandle, relay: StandingHandle): void {
  addon().frontAbortStanding(front, relay)
}

/** See FrontEnd.canRepeat. */
export function frontCanRepeat(front: FrontHandle, exchange: number): boolean {
  return addon().frontCanRepeat(front, exchange)
}

/** See FrontEnd.readResponseBody. */
export function readFrontResponseBody(front: FrontHandle, exchange: number, limitBytes: number): void {
  addon().frontReadResponseBody(front, exchange, limitBytes)
}

/** See FrontEnd.continueResponse. FRONT_IS_DONE, FRONT_IS_FILTERED, FRONT_BAD_HEAD or 0. */
export function continueFront(
  front: FrontHandle,
  exchange: number,
  head: string,
  body: Uint8Array | null,
  isFiltered: boolean,
): number {
  return addon().frontContinue(front, exchange, head, body, isFiltered)
}

/** See FrontEnd.respond. FRONT_IS_DONE, FRONT_BAD_HEAD or 0. */
export function respondFront(front: FrontHandle, exchange: number, head: string, body: Uint8Array): number {
  return addon().frontRespond(front, exchange, head, body)
}

/** See FrontEnd.abort. FRONT_IS_DONE or 0. */
export function abortFront(front: FrontHandle, exchange: number): number {
  return addon().frontAbort(front, exchange)
}

/** A piece of what a filter made; false = wait for FILTER_WRITABLE. */
export function writeFront(front: FrontHandle, exchange: number, bytes: Uint8Array): boolean {
  return addon().frontWrite(front, exchange, bytes)
}

/** A filter has made everything. */
export function endFront(front: FrontHandle, exchange: number): void {
  addon().frontEnd(front, exchange)
}

/** A filter wants no more for now, or wants more again. */
export function holdFront(front: FrontHandle, exchange: number, isHeld: boolean): void {
  addon().frontHold(front, exchange, isHeld)
}

/** The upstream's body is not what a filter can change. */
export function breakFront(front: FrontHandle, exchange: number, detail: string): void {
  addon().frontBreak(front, exchange, detail)
}
