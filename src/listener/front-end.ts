/**
 * What the gateway asks of a front end, and what a front end tells the gateway. uWebSockets.js implements it in
 * `uws.ts`; a native front end can stand beside it without the rest of the gateway noticing.
 *
 * Heads are one flat latin1 string each way (one character per byte): start line, then `name: value\r\n` lines with
 * lower-case names, in the order received, every line (the last one too) ended by CRLF, no empty line at the end.
 * Framing and hop-by-hop fields (H-50) never appear in a head that crosses this interface: framing facts are numbers
 * beside it, and the front end frames what it sends.
 *
 * Rules that hold for every implementation: an exchange handle is a number (slot and generation; calls with a stale
 * one do nothing); the gateway may answer inside an event or at any later time; after `onDone` no event carries the
 * handle again; `onDone` comes exactly once for every handle that `onRequest` announced.
 */

/** Slot in the low 20 bits, generation above them. 0 is never a handle. Odd ones are the native front end's. */
export type ExchangeHandle = number

/** What a listener runs on. */
export type Engine = 'uws' | 'native'

export const HANDLE_SLOT_MASK = 0xf_ffff

/** What a front end can do beside plain HTTP/1.1; tests and `check` ask here, never for a name. */
export interface FrontEndCapabilities {
  readonly name: Engine
  readonly http10: boolean
  readonly http2: boolean
  readonly trailers: boolean
  readonly tunnel: boolean
  /** Versions of TLS that listeners speak, none = no TLS; the range cannot be narrowed when it is fixed. */
  readonly tls: { readonly versions: readonly ('1.2' | '1.3')[]; readonly isFixed: boolean }
  /** WebSockets are taken apart into messages, and put together again (H-92). */
  readonly webSockets: boolean
  /** PROXY protocol version 2 is understood. */
  readonly proxyProtocol: boolean
  /**
   * Every malformed request is answered and recorded at once, chunks are judged byte for byte, pipelined requests are answered
   * in order (H-01 … H-39, H-51); else a library decides much of that.
   */
  readonly strict: boolean
  /** 413, 414 and 431 are sent by the limits of the configuration, not by the library's own. */
  readonly headLimits: boolean
  /** A head that is not whole in time is answered 408, and an idle connection may stay as long as is configured (H-81). */
  readonly slowHeads: boolean
  /** Interim answers of the upstream, 103 in particular, reach the client (H-62). */
  readonly interimAnswers: boolean
  /** A client that ends its side after its request gets its answer all the same (T-23). */
  readonly halfClose: boolean
}

/** What a front end can do that has no sockets: it plays one request after the other, as the default one would see it. */
export const NO_SOCKETS: FrontEndCapabilities = Object.freeze({
  name: 'uws',
  http10: false,
  http2: false,
  trailers: false,
  tunnel: false,
  webSockets: false,
  tls: Object.freeze({ versions: ['1.2', '1.3'], isFixed: true } as const),
  proxyProtocol: false,
  strict: false,
  headLimits: true,
  slowHeads: false,
  interimAnswers: false,
  halfClose: false,
})

export interface ListenOptions {
  readonly id: number
  /** For whoever has several; absent: the only one, or the default one. */
  readonly engine?: Engine | undefined
  /** An IP address or host name of this machine, and a port. */
  readonly host: string
  readonly port: number
  /** Take the client's address from a PROXY v2 header (only from peers that `trusts`). */
  readonly proxyProtocol: boolean
  /** Undefined: plain HTTP. */
  readonly tls?: ListenTls | undefined
}

/** What a listener shows its clients, and asks of them. */
export interface ListenTls {
  /** Equal when nothing changed. */
  readonly identity: string
  /** At least one; the first serves clients that name no host, or one that no certificate is for. */
  readonly certificates: readonly ListenCertificate[]
  /** PEM. Clients are asked for a certificate, and one that these authorities have not signed ends the handshake. */
  readonly clientAuthorities: string | undefined
}

export interface ListenCertificate {
  /** PEM, the certificate itself first. */
  readonly chain: string
  /** PEM, not encrypted. */
  readonly key: string
  /** Lower case; `*.example.org` stands for one label. */
  readonly names: readonly string[]
  /** For clients that ask for these names; absent: both versions, and certificates as the listener asks for them. Only where the front end's TLS is not fixed. */
  readonly rules?: TlsRules | undefined
}

/** How TLS is spoken with some clients of a listener. */
export interface TlsRules {
  readonly minVersion: '1.2' | '1.3'
  readonly maxVersion: '1.2' | '1.3'
  /** Undefined: they are not asked for certificates. */
  readonly clients:
    | { readonly strategy: TlsClientStrategy; /** PEM. */ readonly authorities: string | undefined }
    | undefined
}

/** Traffic-policy.md §5.25: needed and verified, needed whatever it is, welcome whatever it is. */
export type TlsClientStrategy = 'require-and-verify' | 'require-any' | 'request'

/** New certificates of a listener, ready to be used. */
export interface PreparedTls {
  /** New connections see them from now on; those that exist go on as they are. */
  commit(): void
  abort(): void
}

/** What is known of a TLS connection. */
export interface PeerTls {
  /** The name that the client asked for; '' = none, or one that no certificate is for. */
  readonly serverName: string
  /** What the client was shown. */
  readonly certificate: ListenCertificate
  /** PEM of the client's certificate; '' = it showed none. */
  readonly clientCertificate: string
  /** What it was verified against, as in `ListenTls`; '' = clients are not asked, or nothing is verified. */
  readonly clientAuthorities: string
  /** The rest of what was agreed on, where the front end knows it. */
  readonly session?: TlsSession | undefined
}

/** What was agreed on in a TLS handshake. */
export interface TlsSession {
  readonly version: '1.2' | '1.3'
  /** IANA's name. */
  readonly cipherSuite: string
  /** By ALPN; '' = nothing. */
  readonly alpn: string
  /** The client's JA4 fingerprint. */
  readonly ja4: string
  readonly isResumed: boolean
}

/** Limits and timers that the front end enforces; bytes and milliseconds. Swapped as a whole on reload. */
export interface FrontEndLimits {
  /** H-14: whole header section; beyond it 431. */
  readonly headBytes: number
  /** H-13: request target; beyond it 414. */
  readonly uriBytes: number
  /** H-36: streamed request bodies; 0 = unlimited. Beyond it 413. */
  readonly bodyBytes: number
  /** H-38: what may wait in memory per direction and exchange. */
  readonly streamBufferBytes: number
  readonly webSocket: WebSocketLimits
  /** Absent: the defaults of H-80 and H-83. The library of the engine `uws` has timers of its own for heads and idle connections. */
  readonly timers?: ClientTimers | undefined
  /**
   * Requests to upgrade to other protocols than WebSocket arrive, and are tunnels when they are forwarded (H-60); else they are
   * refused. Only where `tunnel` is true.
   */
  readonly otherUpgrades?: boolean | undefined
}

/** Milliseconds, 0 = off. */
export interface ClientTimers {
  /** H-80: a request head, from its first byte; beyond it 408. */
  readonly headMs: number
  /** H-80: a connection without a request. */
  readonly idleMs: number
  /** H-83: the window on whose average a client must send or take 240 B/s. */
  readonly progressMs: number
}

/** Milliseconds, 0 = off. */
export interface WebSocketLimits {
  /** H-92: a whole message; beyond it the connection closes (1009). */
  readonly maxMessageBytes: number
  /** H-80: nothing came from either side, pings and pongs included. */
  readonly idleMs: number
  /** H-93: a side that was silent for so long is pinged, and is gone when it does not answer. */
  readonly pingMs: number
  /** Open at a time; beyond it 503. */
  readonly maxOpen: number
  /** Compress where client and upstream both want to (permessage-deflate). */
  readonly compress: boolean
}

/** Where a connection comes from. Addresses are canonical text: IPv4 dotted, IPv6 compressed lower-case; no brackets. */
export interface Peer {
  readonly address: string
  readonly port: number
  readonly localAddress: string
  readonly localPort: number
  /** The source that a PROXY v2 header named, when the listener accepts one and the peer sent it. */
  readonly proxiedAddress?: string
  readonly proxiedPort?: number
  /** Absent on plain connections, and before the first request. */
  readonly tls?: PeerTls
}

/** Facts of a request beside its head. */
export interface RequestFacts {
  readonly listenerId: number
  /** Announced body length; 0 = no body, -1 = chunked (length unknown). */
  readonly bodyLength: number
  /** `performance.now()` when the head was complete. */
  readonly receivedAtMs: number
  /** That was a moment ago, and nothing else was done meanwhile: nobody has to look at the clock again yet. */
  readonly isFresh?: boolean | undefined
  /**
   * The framing and hop-by-hop lines (H-50) that are missing in the head, in the form of its lines and as they were
   * received: the rule matcher judges them too. Where the head's request line is not the one that was sent (its target had
   * an authority, or its version was 1.0), that one is the first, as `(request-line): GET http://host/ HTTP/1.0`.
   */
  readonly connectionLines: string
  /** False: no field of the head is one that proxies write (`x-…`, `forwarded`, `via`, `traceparent`, `tracestate`). */
  readonly proxyFields: boolean
  /** What the client speaks; absent: HTTP/1.1. */
  readonly version?: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2.0' | undefined
  /** The Host field, where the front end has it at hand. */
  readonly host?: string | undefined
  /** The path is known to be canonical as it stands (H-65). */
  readonly hasPlainPath?: boolean | undefined
}

/** Facts of an upstream response beside its head. */
export interface ResponseFacts {
  readonly status: number
  /** -1 = unknown until the end; 0 = no body follows. */
  readonly bodyLength: number
}

/** One server of an endpoint's upstream, as a pool knows it. */
export interface UpstreamTarget {
  /** `host:port` as configured: the label in logs and metrics. */
  readonly name: string
  readonly protocol: 'http' | 'https'
  readonly host: string
  readonly port: number
  /** Requests are sent in HTTP/2: by prior knowledge, or by ALPN where `protocol` is https. */
  readonly http2?: boolean | undefined
  /** Where `host` is to be found, in the order to be tried; absent: whoever connects looks it up. */
  readonly addresses?: readonly string[] | undefined
  readonly tls?: UpstreamTls | undefined
  readonly timers: UpstreamTimers
  readonly maxConnections: number
  /** Requests that may wait for a connection; beyond it `overflow`. */
  readonly maxQueued: number
}

export interface UpstreamTls {
  /** H-56: verification is on unless switched off explicitly. */
  readonly verify: boolean
  /** PEM text of extra authorities; absent = the system's. */
  readonly ca?: string | undefined
  /** Overrides the host name for SNI and verification. */
  readonly serverName?: string | undefined
}

/** H-80; milliseconds, 0 = off. */
export interface UpstreamTimers {
  readonly connectMs: number
  /** Longest wait for a connection that is free. */
  readonly queueMs: number
  readonly firstByteMs: number
  /** Longest pause inside a response body. */
  readonly idleMs: number
  /** How long an unused connection is kept. */
  readonly keepAliveMs: number
}

/** Why an upstream leg failed; the closed list behind O-59's reasons. */
export type UpstreamFailureReason =
  | 'connect_failed'
  | 'connect_timeout'
  | 'tls_failed'
  | 'upstream_reset'
  | 'upstream_bad_response'
  | 'first_byte_timeout'
  | 'idle_timeout'
  | 'overflow'

export interface UpstreamFailure {
  readonly target: UpstreamTarget
  readonly reason: UpstreamFailureReason
  /** For logs only; never sent to a client. */
  readonly detail: string
  /** H-70: the upstream cannot have begun to process the request. */
  readonly notProcessed: boolean
  /** The request body, or a part of it, is gone and cannot be sent a second time. */
  readonly bodyConsumed: boolean
}

/** What an exchange came to, told once. Times are `performance.now()` values, 0 = never happened. */
export interface ExchangeRecord {
  /** Status sent downstream; 0 when nothing was sent. */
  readonly status: number
  readonly requestBodyBytes: number
  readonly responseBodyBytes: number
  readonly end: 'complete' | 'client_abort' | 'truncated' | 'aborted'
  /** The front end answered by itself inside the exchange, and why (O-59): a body that is too large, wrongly framed, or too slow. */
  readonly reason?: string | undefined
  /** Set when an upstream failure ended the transfer after the head was out. */
  readonly failure?: UpstreamFailure | undefined
  readonly connectedAtMs: number
  readonly firstByteAtMs: number
  readonly endedAtMs: number
  readonly connectionReused: boolean
  /** Set for a WebSocket that was open; body bytes are then those of its messages. */
  readonly webSocket?: { readonly messagesIn: number; readonly messagesOut: number } | undefined
}

/** What is open on a listener. */
export interface OpenConnections {
  readonly http1: number
  readonly http2: number
  /** One over HTTP/2 is a stream of a connection that counts as well. */
  readonly webSockets: number
}

export const NOTHING_OPEN: OpenConnections = Object.freeze({ http1: 0, http2: 0, webSockets: 0 })

/** A request the front end answered or dropped by itself, before any policy (O-56). */
export interface RefusedRequest {
  readonly listenerId: number
  readonly peerAddress: string
  readonly status: number
  /** `bad_request:H-20` and the like (O-59). */
  readonly reason: string
  /** Method and target as far as they were readable; already bounded, not yet escaped. */
  readonly requestLine: string
}

/**
 * Changes a response body on its way to the client, piece by piece: what takes a content coding off, rewrites events, or
 * compresses. It holds a bounded part of the body.
 */
export interface BodyFilter {
  /** Comes first, once. The sink must not be called before this has returned. */
  attach(sink: FilterSink): void
  /** The bytes are the filter's to keep. False: it has enough, until `sink.ready`. */
  write(chunk: Uint8Array): boolean
  /** The body is complete; the filter gives the rest and then calls `sink.finished`. */
  end(): void
  /** The sink wants no more output for now. */
  pause(): void
  resume(): void
  /** Nothing more is wanted: the sink is not called any more, and memory is given back. */
  close(): void
}

export interface FilterSink {
  output(chunk: Uint8Array): void
  /** `write` said false before and may be called again. */
  ready(): void
  finished(): void
  /** The body cannot be changed as asked; nothing follows. */
  broken(detail: string): void
}

/**
 * Bodies that are collected like others but stay where they lie, in native memory: the rule matcher reads them there, and they
 * go on from there. None of it throws for a stale handle; scans throw what src/native/rule-set.ts says.
 */
export interface HeldBodies {
  /** As `readRequestBody`; answered by `onRequestHeld`. */
  holdRequestBody(handle: ExchangeHandle, limitBytes: number): void
  /** As `readResponseBody`; answered by `onResponseHeld`. */
  holdResponseBody(handle: ExchangeHandle, limitBytes: number): void
  /** A copy, for who needs the bytes after all. */
  requestBytes(handle: ExchangeHandle): Uint8Array
  responseBytes(handle: ExchangeHandle): Uint8Array
  /**
   * src/native/rule-set.ts `scanRequest` over what is held of the request's body; in a native thread when that is larger than
   * `threadThresholdBytes`. The promise is settled also when the exchange is over; it
   * rejects when the scan comes to nothing, or the front end closes.
   */
  scanRequest(handle: ExchangeHandle, scan: HeldRequestScan): number | Promise<number>
  /** src/native/rule-set.ts `scanResponse`, likewise. */
  scanResponse(handle: ExchangeHandle, scan: HeldResponseScan): number | Promise<number>
}

/** As src/native/rule-set.ts `scanRequest` takes it. */
export interface HeldRequestScan {
  readonly profile: number
  readonly client: string
  readonly requestId: string
  readonly head: string
  readonly isLast: boolean
  readonly threadThresholdBytes: number
}

/** As src/native/rule-set.ts `scanResponse` takes it. */
export interface HeldResponseScan {
  readonly transaction: number
  readonly status: number
  readonly head: string
  readonly isLast: boolean
  readonly threadThresholdBytes: number
}

/** What is done to the head of an answer that leaves without a question. */
export interface AnswerEdits {
  /** Names of fields that are left out, each with a line feed. */
  readonly removed: string
  /** Lines that are put behind it. */
  readonly lines: string
  /** Where in `lines` the time at which the head came is to stand, as 24 characters of ISO 8601 (`CLOCK_PLACE`); four at most. */
  readonly clocks: readonly number[]
}

/** A decision that holds for every request of a host: see StandingRelays. */
export interface StandingRelay {
  readonly listenerId: number
  /** The Host field as clients send it, byte for byte. */
  readonly host: string
  /** It can be sent to at once. */
  readonly target: UpstreamTarget
  /** Lines behind `x-forwarded-for`, which is the connection's, and before `x-request-id` and `traceparent`, which are new. */
  readonly lines: string
  /** It holds as long as `word[0]` is `version`; memory of all processes. One word per front end. */
  readonly restsOn: { readonly word: Int32Array; readonly version: number }
}

/**
 * Only where a front end can. Requests that leave nothing to decide go up without `onRequest`, by what was decided once for all of
 * their listener and host: those of HTTP/1.1 on a plain connection without a PROXY header, GET or HEAD without a body, no
 * field that proxies write, no path that could be read in two ways, no upgrade. Their answers leave as `relay` has it, with
 * `x-request-id`. All others, and all while the gateway drains, are told as ever. Events: `onStanding…`.
 */
export interface StandingRelays {
  /** From now on. False: not possible, or too many. */
  stand(relay: StandingRelay): boolean
  /** No request goes up by it any more. How many are under way whose end is still to be told. */
  withdraw(relay: StandingRelay): number
  /** How many are under way. */
  inFlight(relay: StandingRelay): number
  /** Closes their connections. */
  abort(relay: StandingRelay): void
}

/** The end of a request that went up by a standing relay; only good until the event's end. */
export interface StandingEnd extends ExchangeRecord {
  readonly method: 'GET' | 'HEAD'
  /** When its head was complete; then it was sent, too. */
  readonly receivedAtMs: number
  /** The upstream's status, where `onStandingAnswered` has not told it; else 0. */
  readonly answeredStatus: number
}

/** What a request went up with whose leg failed. */
export interface BegunRequest {
  readonly requestId: string
  readonly traceparent: string
}

/** Calls into the front end. None of them throws for a stale handle. */
export interface FrontEnd {
  readonly capabilities: FrontEndCapabilities
  /** Binds; rejects with an `Error` that names address and cause. */
  listen(options: ListenOptions): Promise<void>
  /** Builds new certificates for a TLS listener. Throws an `Error` with one sentence when they cannot be used. */
  prepareTls(listenerId: number, tls: ListenTls): PreparedTls
  /** Stops accepting on a listener; connections that exist go on. */
  closeListener(id: number): void
  setLimits(limits: FrontEndLimits): void
  /** From now on every answer closes its connection, and idle connections close (O-21 step 3 and 4). */
  drain(): void
  /** See there. */
  readonly standing?: StandingRelays | undefined
  /** Exchanges between `onRequest` and `onDone`, and those of standing relays. */
  readonly inFlight: number
  /** Client connections that are open on a listener, WebSockets among them; 0 when there is none of that id. */
  connectionsOf(listenerId: number): number
  /** The same by what is spoken on them. */
  openOf(listenerId: number): OpenConnections
  /** The connection's addresses; read lazily, may be asked again until `onDone`. */
  peer(handle: ExchangeHandle): Peer

  /** Collects the request body up to `limitBytes`; answered once by `onRequestBody`. Ignored unless more is asked for than before. */
  readRequestBody(handle: ExchangeHandle, limitBytes: number): void
  /** Where the bodies of an exchange may be held; absent, or undefined: they come to JavaScript. */
  heldBodies?(handle: ExchangeHandle): HeldBodies | undefined
  /**
   * For a request to become a WebSocket: asks the upstream to; a 101 comes as `onResponse` with status 101 and no body,
   * and `continueResponse` opens it. `onDone` comes when it has ended. Any other answer is an ordinary one.
   *
   * Sends the request upstream (to another server, when an answer has begun of which nothing went out): `head` as it shall arrive there (request line and lines; the front end adds framing
   * and `connection`), then the body: bytes collected before, then whatever still comes. `body` replaces the client's.
   * After a failure, or after `onResponse` when `canRepeat` says so, it sends it once more; an answer is then thrown away.
   */
  forward(handle: ExchangeHandle, target: UpstreamTarget, head: string, body?: Uint8Array): void
  /**
   * Only where a front end can. Like `forward`, for a request that goes up as it came, with `lines` behind its own. With
   * `answer` the answer may leave without `onResponse`: as it comes, without fields that only we may send (O-73) and with
   * these edits; `onAnswered` tells of it. One that cannot leave so comes as `onResponse`.
   */
  relay?(handle: ExchangeHandle, target: UpstreamTarget, lines: string, answer: AnswerEdits | undefined): void
  /** Nothing of an answer has left us, and the request's body could be sent again from the beginning (H-71). */
  canRepeat(handle: ExchangeHandle): boolean
  /**
   * Collects the response body up to `limitBytes` before anything is sent downstream; answered by `onResponseBody`. Again
   * only for more. `isLent`: nobody looks at the bytes when the exchange is over, or keeps them.
   */
  readResponseBody(handle: ExchangeHandle, limitBytes: number, isLent?: boolean): void
  /**
   * Sends the upstream's answer on: `head` as it shall leave us (status line and lines), then bytes collected before, then
   * the rest. With `filter` the body goes through what it makes, and its length is no longer that of the upstream's body;
   * it is called only where a body follows.
   */
  continueResponse(handle: ExchangeHandle, head: string, body?: Uint8Array, filter?: () => BodyFilter): void
  /**
   * Answers by ourselves: status line and lines, then the body. Ends the upstream leg if there is one and drains or
   * ends the request (H-37). After bytes of another answer went out: closes the connection instead.
   */
  respond(handle: ExchangeHandle, head: string, body: Uint8Array | string): void
  /** Closes the client's connection without an answer. */
  abort(handle: ExchangeHandle): void
  /** Closes everything at once; open exchanges end as `aborted`. */
  close(): Promise<void>
}

/** What a front end tells the gateway. Implemented by `exchange/handle.ts`. Exceptions end one exchange, never the process (T-26). */
export interface FrontEndEvents {
  /** A new connection, before any byte; only called when some policy has `on_tcp_connect`. `false` closes it. */
  onConnect?(listenerId: number, peer: Peer): boolean
  onRequest(handle: ExchangeHandle, head: string, facts: RequestFacts): void
  /** Answer to `readRequestBody`: the bytes so far (ours to keep), and whether they are the whole body. */
  onRequestBody(handle: ExchangeHandle, body: Uint8Array, complete: boolean): void
  /** The upstream's final response head; nothing is sent downstream until `continueResponse` or `respond`. */
  onResponse(handle: ExchangeHandle, head: string, facts: ResponseFacts): void
  onResponseBody(handle: ExchangeHandle, body: Uint8Array, complete: boolean): void
  /** Answers to `holdRequestBody` and `holdResponseBody`: how many bytes are held, and whether they are the whole body. */
  onRequestHeld?(handle: ExchangeHandle, bytes: number, complete: boolean): void
  onResponseHeld?(handle: ExchangeHandle, bytes: number, complete: boolean): void
  /** An answer has left without `onResponse`, as `relay` allowed; `atMs`: when its head came, as `performance.now()` has it. */
  onAnswered?(handle: ExchangeHandle, status: number, atMs: number): void
  /** The upstream leg failed and nothing was sent downstream: forward again or answer. */
  onUpstreamError(handle: ExchangeHandle, failure: UpstreamFailure): void
  onDone(handle: ExchangeHandle, record: ExchangeRecord): void
  onRefused(refused: RefusedRequest): void
  /** A request that went up by a standing relay is over. */
  onStandingEnded?(relay: StandingRelay, end: StandingEnd): void
  /** Some of them are over, and all that was told: `onStandingEnded` for each. */
  onStandingTold?(): void
  /** The answer of one has left, and its body has not. */
  onStandingAnswered?(relay: StandingRelay, status: number, elapsedMs: number): void
  /** Its leg failed, and nothing was sent downstream: it is an exchange like others from now on; forward again or answer. */
  onStandingFailed?(
    relay: StandingRelay,
    handle: ExchangeHandle,
    head: string,
    facts: RequestFacts,
    begun: BegunRequest,
    failure: UpstreamFailure,
  ): void
}
