/**
 * The state of one request and its response, from the head's arrival to the log line. It is also what expressions
 * read (VariableSource) and what actions change (PolicyScope).
 */
import type {
  ConnectionView,
  EndpointView,
  JsonValue,
  RequestView,
  ResponseView,
  ResultView,
} from '../expression/source.ts'
import type { CelValue } from '../expression/value.ts'
import type {
  BegunRequest,
  ExchangeHandle,
  FrontEnd,
  HeldBodies,
  Peer,
  RequestFacts,
  UpstreamFailure,
  UpstreamTarget,
} from '../listener/front-end.ts'
import type { ForetoldAnswer } from '../phase/foretell.ts'
import type { Outcome, Respond } from '../phase/outcome.ts'
import type { PhaseCursor } from '../phase/run-phase.ts'
import type { CompiledAction, CompiledRule } from '../policy/policy.ts'
import type { PolicyScope } from '../policy/scope.ts'
import type { GatewayServices } from '../process/services.ts'
import type { Snapshot } from '../process/snapshot.ts'
import type { Reason } from '../response/reason.ts'
import type { Endpoint, EndpointUpstream } from '../routing/endpoints.ts'
import type { Member } from '../upstream/balancer.ts'
import type { WafProfile } from '../waf/profiles.ts'
import type { EventMessage } from '../body/event-stream.ts'
import type { ContentCoding } from '../body/content-coding.ts'
import { type ActionResult, ActionResults } from './action-results.ts'
import { type ClientAddress, clientAddress } from './client-address.ts'
import { MessageHead } from './message-head.ts'
import type { Subrequests } from './subrequest.ts'
import { isRequestId, newRequestId, NewTrace, newTrace, type TraceContext, traceContext } from './request-ids.ts'
import { RequestUrl, splitAuthority } from './request-url.ts'
import { wallMs } from './wall-clock.ts'
import { tlsView } from './tls-view.ts'

/** One endpoint whose policy the exchange runs through; forwarding pushes another one. */
export interface Frame {
  readonly endpoint: Endpoint
  readonly cursor: PhaseCursor
  /** How this endpoint was reached, for `forward-internal` with `on_error: continue`. */
  readonly onError: 'halt' | 'continue'
  /** `actions.ngrok.*` of this endpoint's policy; survives into its response phase (§2.5). Undefined while there are none. */
  results: ActionResults | undefined
  /** `vars.*` of the phase that runs (§5.24); undefined while there are none. */
  variables: Map<string, CelValue> | undefined
}

/** The response on its way to the client: the upstream's, or one that an action made. */
export interface ResponseState {
  readonly status: number
  readonly head: MessageHead
  /** -1 = unknown. */
  readonly bodyLength: number
  /** Set for responses we made; the upstream's body stays in the front end. */
  ownBody: Uint8Array | string | undefined
  /** The body is, or for HEAD would be, another than the one whose length was announced. */
  readonly bodyChanged?: boolean
  /** `compress-response` chose it: applied when the response leaves, behind everything that changes the body. */
  readonly compression?: ContentCoding | undefined
}

/** One request to a server that an action names. */
export interface Attempt {
  readonly target: UpstreamTarget
  readonly head: string
  readonly body: Uint8Array
}

/** Servers that an action tries in turn (`ai-gateway`). Told of each what came of it, before the next is asked for. */
export interface Attempts {
  /** Undefined: none is left. */
  next(): Attempt | undefined
  /** An answer began: whether the client gets it. */
  takes(status: number, head: MessageHead): boolean
  failed(failure: UpstreamFailure): void
  /** The answer was taken; response rules come next. */
  taken(): void
  /** None is left: `next` goes on with the policy. Throws the error that ends the request. */
  exhausted(): Outcome
}

/** What the rule matcher found, for the log. */
export interface WafFindings {
  readonly ruleIds: readonly number[]
  readonly score: number
}

/** Bytes collected for an action, and whether they are the whole body. */
export interface CollectedBody {
  readonly bytes: Uint8Array
  readonly complete: boolean
}

/** A body that was collected and stays in native memory. */
export interface HeldBody {
  readonly held: HeldBodies
  readonly length: number
  readonly complete: boolean
}

/** A body that we made of a text, as UTF-8. */
export interface TextBody {
  readonly text: string
  readonly length: number
  readonly complete: true
}

/** A body for the rule matcher. */
export type JudgedBody = CollectedBody | HeldBody

const NO_FRAMES: readonly Frame[] = Object.freeze([])
const NO_MEMBERS: readonly Member[] = Object.freeze([])
const EMPTY_BODY: CollectedBody = Object.freeze({ bytes: new Uint8Array(0), complete: true })
const NO_VARIABLES: ReadonlyMap<string, CelValue> = new Map()
const NO_RESULTS: ResultView = new Map<string, JsonValue>()

/**
 * By these a client could pose as another one, or name another host, to an upstream that believes its proxies. They are
 * gone before any rule reads the head, so that a policy may set them itself.
 */
const SPOOFABLE_FIELDS = ['x-real-ip', 'x-host', 'x-http-host-override'] as const

/** The scheme the client used: what a trusted proxy that ends TLS says last, else that of our listeners. */
function schemeOf(client: ClientAddress, head: MessageHead, peer: Peer): 'http' | 'https' {
  const own = peer.tls === undefined ? 'http' : 'https'
  if (!client.peerTrusted) return own
  const said = head.all('x-forwarded-proto').at(-1)?.split(',').at(-1)?.trim().toLowerCase()
  return said === 'https' || said === 'http' ? said : own
}

/** The usual methods, each the same string every time: what is counted by it is found without looking at its characters. */
const METHODS = ['GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'] as const

function methodOf(head: string, length: number): string {
  for (const method of METHODS) if (method.length === length && head.startsWith(method)) return method
  return head.slice(0, length)
}

export class Exchange implements PolicyScope {
  readonly handle: ExchangeHandle
  readonly facts: RequestFacts
  /** Where its listener stands in the settings; -1 = that listener is gone. */
  readonly listenerPlace: number
  readonly frontEnd: FrontEnd
  readonly snapshot: Snapshot
  readonly services: GatewayServices
  readonly head: MessageHead
  readonly method: string
  readonly url: RequestUrl
  readonly peer: Peer
  readonly client: ClientAddress
  readonly requestId: string
  /** Target and Host as they came, before any rewrite: for the log and X-Forwarded-Host. */
  readonly receivedTarget: string
  readonly publicHost: string
  readonly startedAtEpochMs: number

  /** Endpoints passed so far, outermost first. */
  frames: readonly Frame[] = NO_FRAMES
  /** Index of the frame whose policy runs. */
  frameIndex = -1
  responseState: ResponseState | undefined
  /** Set while, and since, an action's own servers are asked. */
  attempts: Attempts | undefined
  /** One of them answered well. */
  attemptTaken = false
  /** Makes requests of internal endpoints for actions; set by the spine. */
  subrequests: Subrequests | undefined
  /** How many exchanges made this one: 0 for a client's. */
  depth = 0
  /** Names that a single expression sees besides the variables (`attempts` of http-request). */
  locals: ReadonlyMap<string, CelValue> | undefined
  /** The event that `on_event_stream_message` looks at. */
  eventMessage: EventMessage | undefined
  /** The rule matcher's transaction; 0 = none. Ended when the exchange ends. */
  transaction = 0
  transactionProfile: WafProfile | undefined
  transactionInThread = false
  /** Lines that some action wants on whatever answer leaves us. */
  answerLines = ''
  /** Forwarding fields that `remove-headers` named: we then do not add ours (§5.18). */
  suppressed: Set<string> | undefined
  /** Forwarding fields that `add-headers` gave a value: it goes upstream instead of ours. */
  assigned: Set<string> | undefined

  /** Names of cookies that are ours, as tests of them: they do not go upstream. */
  ownCookies: ((name: string) => boolean)[] | undefined
  /** Instead of anything the upstream would say: a path that must not reach it. */
  insteadOfUpstream: Respond | undefined

  // ── for the log and for retries ──
  /** Where the present leg goes, or the last one went. */
  target: UpstreamTarget | undefined
  tried: readonly Member[] = NO_MEMBERS
  /** Whose load the present leg counts in; undefined between legs. */
  leg: { readonly upstream: EndpointUpstream; readonly member: Member } | undefined
  failure: UpstreamFailure | undefined
  decidingRule = ''
  decidingAction = ''
  reason: Reason = 'ok'
  waf: WafFindings | undefined
  logs: JsonValue[] | undefined
  /** The head of the upstream leg, kept for a repeat; or only what is put behind the client's. */
  upstreamHead: string | undefined
  upstreamHeadIsAdded = false
  /** What the response phase does to the answer, where the front end was told so ahead of it. */
  foretold: ForetoldAnswer | undefined
  /** `performance.now()`, where somebody has looked at it a moment ago; 0 = nobody has. */
  clockMs: number
  /** Likewise, of the first leg, and of the present or last one; 0 = none. */
  forwardedAtMs = 0
  legStartedAtMs = 0
  /** Likewise, of the phase that runs or ran last. */
  phaseStartedAtMs = 0
  /** H-80: from the first leg to the end of the response. */
  totalTimer: NodeJS.Timeout | undefined
  /** A repeat that waits for its time (H-73). */
  repeatTimer: NodeJS.Timeout | undefined
  finished = false

  #trace: TraceContext | undefined
  #runningRule = ''
  #runningAction = ''
  #requestBody: CollectedBody | undefined
  #newRequestBody: Uint8Array | undefined
  #requestBodyWaiter: ((body: CollectedBody) => void) | undefined
  #responseBody: CollectedBody | undefined
  #responseBodyIsLent = false
  #responseBodyWaiter: ((body: CollectedBody) => void) | undefined
  #heldRequest: HeldBody | undefined
  #heldResponse: HeldBody | undefined
  #heldWaiter: ((body: HeldBody) => void) | undefined
  #connectionView: ConnectionView | undefined
  #requestView: RequestView | undefined
  #responseView: ResponseView | undefined
  #bodyReceivedAtMs: number | undefined
  #upstreamWatchers: ((status: number | undefined) => void)[] | undefined

  /** `begun`: it went upstream already, under these names. */
  constructor(
    handle: ExchangeHandle,
    headText: string,
    facts: RequestFacts,
    listenerPlace: number,
    frontEnd: FrontEnd,
    snapshot: Snapshot,
    services: GatewayServices,
    begun?: BegunRequest,
  ) {
    this.handle = handle
    this.facts = facts
    this.listenerPlace = listenerPlace
    this.frontEnd = frontEnd
    this.snapshot = snapshot
    this.services = services
    this.startedAtEpochMs = wallMs(facts.receivedAtMs)
    this.clockMs = facts.isFresh === true ? facts.receivedAtMs : 0
    this.head = new MessageHead(headText)
    const methodEnd = headText.indexOf(' ')
    const target = headText.slice(methodEnd + 1, headText.indexOf(' ', methodEnd + 1))
    this.method = methodOf(headText, methodEnd)
    this.receivedTarget = target
    this.publicHost = splitAuthority(facts.host ?? this.head.first('host') ?? '').text
    this.peer = frontEnd.peer(handle)
    this.client = clientAddress(this.peer, this.head, snapshot.trustedProxies)
    this.url = new RequestUrl(
      schemeOf(this.client, this.head, this.peer),
      this.publicHost,
      target,
      facts.hasPlainPath === true,
    )
    let inboundId: string | undefined
    if (facts.proxyFields) {
      if (this.client.peerTrusted) inboundId = this.head.first('x-request-id')
      else for (const name of SPOOFABLE_FIELDS) this.head.remove(name)
      this.#trace = traceContext(this.head.all('traceparent'))
    }
    if (begun !== undefined) {
      inboundId = begun.requestId
      this.#trace = new NewTrace(`\r\ntraceparent: ${begun.traceparent}\r\n`)
    }
    this.requestId = inboundId !== undefined && isRequestId(inboundId) ? inboundId : newRequestId(this.startedAtEpochMs)
  }

  /** The trace that the client began, or a new one. */
  get trace(): TraceContext {
    return (this.#trace ??= newTrace())
  }

  /** The endpoint whose policy runs. Only asked after one was entered. */
  get frame(): Frame {
    return this.frames[this.frameIndex]!
  }

  enter(endpoint: Endpoint, onError: 'halt' | 'continue'): void {
    const cursor = { rule: 0, action: 0 }
    const frame = { endpoint, cursor, onError, results: undefined, variables: undefined }
    const { frames } = this
    // hardly ever more than two
    if (frames.length === 0) this.frames = [frame]
    else if (frames.length === 1) this.frames = [frames[0]!, frame]
    else this.frames = [...frames, frame]
    this.frameIndex = frames.length
  }

  /** Goes back to the endpoint that forwarded here, after the forward failed: its phase goes on, with its own variables. */
  leave(): void {
    this.frames = this.frames.slice(0, -1)
    this.frameIndex = this.frames.length - 1
  }

  /** Starts the response phase of a frame: new cursor, no variables (they are per phase, §5.24). */
  beginResponsePhase(frameIndex: number): void {
    this.frameIndex = frameIndex
    const { frame } = this
    frame.cursor.rule = 0
    frame.cursor.action = 0
    frame.variables = undefined
  }

  /** Content coding of the bytes that `responseBody` gives; a compression that is still to come is not in them. */
  get responseCoding(): string | undefined {
    const state = this.responseState
    return state?.compression === undefined ? state?.head.first('content-encoding') : undefined
  }

  setResponse(state: ResponseState): void {
    this.responseState = state
    this.#responseView = undefined
    this.#responseBody = undefined
    this.#heldResponse = undefined
  }

  /** An action begins. */
  running(rule: CompiledRule, action: CompiledAction): void {
    this.#runningRule = rule.name
    this.#runningAction = action.type
  }

  /** The running action ended; whoever ends a phase has decided the exchange. */
  ran(outcome: Outcome): void {
    this.services.metrics.action(this.frame.endpoint.name, this.#runningAction, outcome.kind)
    if (outcome.kind !== 'next') {
      this.decidingRule = this.#runningRule
      this.decidingAction = this.#runningAction
    }
    this.#runningAction = ''
  }

  /** The exchange failed: in the running action, if there is one. */
  failed(): void {
    if (this.#runningAction === '') return
    this.services.metrics.action(this.frame.endpoint.name, this.#runningAction, 'error')
    this.decidingRule = this.#runningRule
    this.decidingAction = this.#runningAction
  }

  expressionFailed(rule: CompiledRule, error: unknown): void {
    this.services.logger.debug(
      { request_id: this.requestId, rule: rule.name, error: String(error), code: 'ERR_NGROK_2254' },
      'expression failed',
    )
  }

  // ── what became of the upstream ──

  /**
   * The listener is told once, when it is known: the status that the upstream answered with, 0 when it was asked and every
   * leg failed, undefined when the exchange ended without an upstream's answer (nobody was asked, or the client left).
   */
  onUpstreamOutcome(listener: (status: number | undefined) => void): void {
    this.#upstreamWatchers ??= []
    this.#upstreamWatchers.push(listener)
  }

  /** Tells them; later calls do nothing. */
  upstreamSettled(status: number | undefined): void {
    const watchers = this.#upstreamWatchers
    if (watchers === undefined) return
    this.#upstreamWatchers = undefined
    for (const watcher of watchers) watcher(status)
  }

  // ── bodies, collected when an action asks ──

  /** Up to `limitBytes` of the request body; at once when there is none or it was collected before. */
  requestBody(limitBytes: number): CollectedBody | Promise<CollectedBody> {
    if (this.#newRequestBody !== undefined) return { bytes: this.#newRequestBody, complete: true }
    if (this.facts.bodyLength === 0) return EMPTY_BODY
    if (isEnough(this.#requestBody, limitBytes)) return this.#requestBody
    const held = this.#heldRequest
    if (isEnoughHeld(held, limitBytes)) {
      return (this.#requestBody = { bytes: held.held.requestBytes(this.handle), complete: held.complete })
    }
    return new Promise((resolve) => {
      this.#requestBodyWaiter = resolve
      this.frontEnd.readRequestBody(this.handle, limitBytes)
    })
  }

  /** As `requestBody`, for who only has it judged: it stays in native memory where the front end can, unless its bytes are here already. */
  judgedRequestBody(limitBytes: number): JudgedBody | Promise<JudgedBody> {
    const isHere = this.requestBodyLength === 0 || this.#newRequestBody !== undefined || this.#requestBody !== undefined
    const held = isHere ? undefined : this.frontEnd.heldBodies?.(this.handle)
    if (held === undefined) return this.requestBody(limitBytes)
    if (isEnoughHeld(this.#heldRequest, limitBytes)) return this.#heldRequest
    return new Promise((resolve) => {
      this.#heldWaiter = resolve
      held.holdRequestBody(this.handle, limitBytes)
    })
  }

  requestBodyHeld(length: number, complete: boolean): void {
    const held = this.frontEnd.heldBodies?.(this.handle)
    if (held === undefined) return
    this.#heldRequest = { held, length, complete }
    if (complete) this.#bodyReceivedAtMs = Date.now()
    this.#heldWaiter?.(this.#heldRequest)
    this.#heldWaiter = undefined
  }

  requestBodyArrived(bytes: Uint8Array, complete: boolean): void {
    this.#requestBody = { bytes, complete }
    if (complete) this.#bodyReceivedAtMs = Date.now()
    this.#requestBodyWaiter?.(this.#requestBody)
    this.#requestBodyWaiter = undefined
  }

  /** What goes upstream instead of the client's body, and what later actions see as the body; undefined: the client's. */
  get newRequestBody(): Uint8Array | undefined {
    return this.#newRequestBody
  }

  replaceRequestBody(bytes: Uint8Array): void {
    this.#newRequestBody = bytes
  }

  /** Length of the body as it goes upstream; -1 = unknown. */
  get requestBodyLength(): number {
    return this.#newRequestBody?.length ?? this.facts.bodyLength
  }

  /**
   * Up to `limitBytes` of the response body, before anything of the response goes out. `isLent`: whoever asks looks at the
   * bytes at once, and never again.
   */
  responseBody(limitBytes: number, isLent = false): CollectedBody | Promise<CollectedBody> {
    const state = this.responseState
    if (state === undefined || state.bodyLength === 0) return EMPTY_BODY
    if (state.ownBody !== undefined) {
      // it leaves as these bytes
      if (typeof state.ownBody === 'string') state.ownBody = Buffer.from(state.ownBody)
      return { bytes: state.ownBody, complete: true }
    }
    const collected = this.#responseBody
    if (isEnough(collected, limitBytes)) {
      if (isLent || !this.#responseBodyIsLent) return collected
      this.#responseBodyIsLent = false
      return (this.#responseBody = { bytes: new Uint8Array(collected.bytes), complete: collected.complete })
    }
    const held = this.#heldResponse
    if (isEnoughHeld(held, limitBytes)) {
      return (this.#responseBody = { bytes: held.held.responseBytes(this.handle), complete: held.complete })
    }
    this.#responseBodyIsLent = isLent
    this.#responseBody = undefined
    this.frontEnd.readResponseBody(this.handle, limitBytes, isLent)
    // most answers come in one piece: the front end has told of it already
    const arrived = this.#arrivedBody
    if (arrived !== undefined) return arrived
    return new Promise((resolve) => {
      this.#responseBodyWaiter = resolve
    })
  }

  get #arrivedBody(): CollectedBody | undefined {
    return this.#responseBody
  }

  /** As a `responseBody` that is lent; otherwise as `judgedRequestBody`. A text of ours stays one as long as no thread has to see it. */
  judgedResponseBody(limitBytes: number): JudgedBody | TextBody | Promise<JudgedBody> {
    const state = this.responseState
    if (typeof state?.ownBody === 'string' && isShort(state, this.snapshot)) {
      return { text: state.ownBody, length: state.bodyLength, complete: true }
    }
    const isHere = state === undefined || state.bodyLength === 0 || state.ownBody !== undefined
    const held = isHere || this.#responseBody !== undefined ? undefined : this.frontEnd.heldBodies?.(this.handle)
    if (held === undefined) return this.responseBody(limitBytes, true)
    if (isEnoughHeld(this.#heldResponse, limitBytes)) return this.#heldResponse
    return new Promise((resolve) => {
      this.#heldWaiter = resolve
      held.holdResponseBody(this.handle, limitBytes)
    })
  }

  responseBodyHeld(length: number, complete: boolean): void {
    const held = this.frontEnd.heldBodies?.(this.handle)
    if (held === undefined) return
    this.#heldResponse = { held, length, complete }
    this.#heldWaiter?.(this.#heldResponse)
    this.#heldWaiter = undefined
  }

  responseBodyArrived(bytes: Uint8Array, complete: boolean): void {
    this.#responseBody = { bytes, complete }
    this.#responseBodyWaiter?.(this.#responseBody)
    this.#responseBodyWaiter = undefined
  }

  /** A field that is ours to write gets the policy's value; what an untrusted client sent of it is discarded (O-69). */
  assign(name: string, value: string): void {
    this.assigned ??= new Set()
    if (!this.assigned.has(name) && !this.client.peerTrusted) this.head.remove(name)
    this.assigned.add(name)
    this.head.add(name, value)
  }

  // ── PolicyScope ──

  setVariable(name: string, value: CelValue): void {
    this.frame.variables ??= new Map()
    this.frame.variables.set(name, value)
  }

  setResult(action: string, value: ActionResult): void {
    const { frame } = this
    frame.results ??= new ActionResults()
    frame.results.set(action, value)
  }

  appendLog(metadata: JsonValue): void {
    this.logs ??= []
    this.logs.push({ metadata })
  }

  interpolationFailed(field: string, error: unknown): void {
    this.services.logger.warn(
      {
        request_id: this.requestId,
        rule: this.#runningRule,
        action: this.#runningAction,
        field,
        error: String(error),
        code: 'ERR_NGROK_2238',
      },
      'interpolation failed; the value is empty',
    )
  }

  // ── VariableSource ──

  get endpoint(): EndpointView {
    return this.frame.endpoint.view
  }

  get variables(): ReadonlyMap<string, CelValue> {
    return this.frame.variables ?? NO_VARIABLES
  }

  get results(): ResultView {
    return this.frame.results ?? NO_RESULTS
  }

  get connection(): ConnectionView {
    this.#connectionView ??= {
      clientAddress: this.client.address,
      clientPort: this.client.port,
      serverAddress: this.peer.localAddress,
      serverPort: this.peer.localPort,
      serverRegion: this.snapshot.settings.region,
      addressData: this.snapshot.addressData,
      startedAtMs: this.startedAtEpochMs,
      bytesIn: this.head.text.length,
      bytesOut: 0,
      tls: tlsView(this.peer.tls),
    }
    return this.#connectionView
  }

  get request(): RequestView {
    this.#requestView ??= new ExchangeRequestView(this)
    return this.#requestView
  }

  get response(): ResponseView | undefined {
    const state = this.responseState
    if (state === undefined) return undefined
    this.#responseView ??= {
      statusCode: state.status,
      headers: state.head,
      contentLength: state.bodyLength === -1 ? undefined : state.bodyLength,
    }
    return this.#responseView
  }

  get bodyReceivedAtMs(): number | undefined {
    return this.#bodyReceivedAtMs
  }
}

function isShort({ bodyLength }: ResponseState, { settings }: Snapshot): boolean {
  return bodyLength > 0 && bodyLength <= settings.waf.threadThresholdBytes
}

/** The whole body, or as much of it as is asked for. */
function isEnough(body: CollectedBody | undefined, limitBytes: number): body is CollectedBody {
  return body !== undefined && (body.complete || body.bytes.length >= limitBytes)
}

function isEnoughHeld(body: HeldBody | undefined, limitBytes: number): body is HeldBody {
  return body !== undefined && (body.complete || body.length >= limitBytes)
}

/** `req.*`: reads through to the exchange, so that header edits and rewrites show. */
class ExchangeRequestView implements RequestView {
  readonly #exchange: Exchange

  constructor(exchange: Exchange) {
    this.#exchange = exchange
  }

  get method(): string {
    return this.#exchange.method
  }
  get host(): string {
    return this.#exchange.head.first('host') ?? ''
  }
  get version(): string {
    return this.#exchange.facts.version ?? 'HTTP/1.1'
  }
  get headers(): MessageHead {
    return this.#exchange.head
  }
  get url(): RequestUrl {
    return this.#exchange.url
  }
  get contentLength(): number | undefined {
    const bodyLength = this.#exchange.requestBodyLength
    return bodyLength === -1 ? undefined : bodyLength
  }
  get headReceivedAtMs(): number {
    return this.#exchange.startedAtEpochMs
  }
  get bodyReceivedAtMs(): number | undefined {
    return this.#exchange.bodyReceivedAtMs
  }
}
