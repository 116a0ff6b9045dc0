/**
 * Exchange → native scan → verdict. Heads cross as the flat bytes they are; bodies as they came, or not at all when the
 * front end holds them in native memory; details of a verdict are fetched only when a rule matched.
 *
 * Source: traffic-policy.md §5.14, §5.15; native-findings.md §1 (one call per scan, bytes and handles only).
 */
import type { Exchange, HeldBody, WafFindings } from '../exchange/exchange.ts'
import { MessageHead } from '../exchange/message-head.ts'
import {
  endTransaction as endNative,
  SCAN_BODY_ERROR,
  SCAN_INTERRUPTED,
  SCAN_MATCHED,
  scanFlags,
  scanRequest as scanRequestNative,
  scanResponse as scanResponseNative,
  scanTransaction,
  startResponseTransaction,
  transactionDetails,
  type TransactionDetails,
} from '../native/rule-set.ts'
import type { WafProfile } from './profiles.ts'

/** What an action asks of a scan. */
export interface ScanPlan {
  readonly profile: WafProfile
  /** Whether a rule that decides to block is obeyed; for the log. */
  readonly enforce: boolean
}

/** What a scan found. `details` is there when a rule matched or the body could not be read. */
export interface Verdict {
  readonly blocked: boolean
  readonly bodyError: boolean
  readonly details: TransactionDetails | undefined
}

const CLEAN: Verdict = Object.freeze({ blocked: false, bodyError: false, details: undefined })
const NO_FINDINGS: WafFindings = Object.freeze({ ruleIds: [], score: 0 })

/** Whom the last exchange was with: requests of one client follow each other, and on some listeners share all of it. */
let lastClient = { address: '', port: -1, localAddress: '', localPort: -1, text: '' }

/** `ip port serverIp serverPort` */
function clientText({ client, peer }: Exchange): string {
  const { address, port } = client
  const { localAddress, localPort } = peer
  const last = lastClient
  if (address === last.address && port === last.port && localPort === last.localPort) {
    if (localAddress === last.localAddress) return last.text
  }
  const text = `${address} ${port} ${localAddress} ${localPort}`
  lastClient = { address, port, localAddress, localPort, text }
  return text
}

/** A head without its `content-encoding`: the body given with it is decoded, and rules ask the field whether it is not. */
function decodedHead(text: string): string {
  const head = new MessageHead(text)
  head.remove('content-encoding')
  return head.text
}

/** Begins the connection lines when the head's request line is not the one that was sent (front-end.ts). */
const RECEIVED_LINE = '(request-line): '

/** The head as the client sent it: rules judge the framing and hop-by-hop lines as well, and the request line as it was. */
export function receivedHead(head: Pick<MessageHead, 'text' | 'lines'>, connectionLines: string): string {
  if (!connectionLines.startsWith(RECEIVED_LINE)) return head.text + connectionLines
  const end = connectionLines.indexOf('\r\n') + 2
  return connectionLines.slice(RECEIVED_LINE.length, end) + head.lines + connectionLines.slice(end)
}

/** A body as it can be scanned: bytes that are here, a text that leaves as UTF-8, or a body that lies in native memory. */
export type ScannedBody = Uint8Array | string | HeldBody

function isHeld(body: ScannedBody | null): body is HeldBody {
  return body !== null && typeof body !== 'string' && 'held' in body
}

/** A body that is held goes with its exchange: then there is nothing to judge, and nobody to tell. */
function isGone(exchange: Exchange, body: ScannedBody | null): boolean {
  return exchange.finished && isHeld(body)
}

/**
 * Phases 1 and 2. `body`: null when it is not to be looked at; `isDecoded`: its content coding was taken off. Large ones
 * are scanned in a thread.
 */
export function scanRequest(
  exchange: Exchange,
  plan: ScanPlan,
  body: ScannedBody | null,
  isDecoded = false,
): Verdict | Promise<Verdict> {
  if (isGone(exchange, body)) return CLEAN
  endTransaction(exchange)
  exchange.transactionProfile = plan.profile
  const text = receivedHead(exchange.head, exchange.facts.connectionLines)
  const head = isDecoded ? decodedHead(text) : text
  const client = clientText(exchange)
  const profile = plan.profile.handle
  const { requestId } = exchange
  // nothing will be asked of the transaction any more, unless it found something
  const isLast = plan.profile.response === undefined
  if (isHeld(body)) {
    const { threadThresholdBytes } = exchange.snapshot.settings.waf
    const scan = { profile, client, requestId, head, isLast, threadThresholdBytes }
    return answered(exchange, plan, body.held.scanRequest(exchange.handle, scan), 'request')
  }
  if (isLarge(exchange, body)) {
    const scan = exchange.services.threads.scan({ kind: 'request', profile, client, requestId, head, body, isLast })
    if (scan !== undefined) return inThread(exchange, plan, scan, 'request')
  }
  return verdictOf(exchange, plan, scanRequestNative(profile, client, requestId, head, body, isLast), 'request')
}

/** Phases 3 and 4, in the transaction of the request where it fits, else in one of its own. */
export function scanResponse(
  exchange: Exchange,
  plan: ScanPlan,
  body: ScannedBody | null,
  isDecoded = false,
): Verdict | Promise<Verdict> {
  if (isGone(exchange, body)) return CLEAN
  const { profile } = plan
  const state = exchange.responseState!
  if (exchange.transaction === 0 || exchange.transactionProfile?.response !== profile.response) {
    endTransaction(exchange)
    const head = receivedHead(exchange.head, exchange.facts.connectionLines)
    exchange.transaction = scanTransaction(
      startResponseTransaction(profile.handle, clientText(exchange), exchange.requestId, head),
    )
    exchange.transactionProfile = profile
  }
  const { transaction } = exchange
  const { status } = state
  const head = isDecoded ? decodedHead(state.head.text) : state.head.text
  if (isHeld(body)) {
    const { threadThresholdBytes } = exchange.snapshot.settings.waf
    const scan = { transaction, status, head, isLast: true, threadThresholdBytes }
    return answered(exchange, plan, body.held.scanResponse(exchange.handle, scan), 'response')
  }
  if (isLarge(exchange, body)) {
    const scan = exchange.services.threads.scan({ kind: 'response', transaction, status, head, body, isLast: true })
    if (scan !== undefined) return inThread(exchange, plan, scan, 'response')
  }
  return verdictOf(exchange, plan, scanResponseNative(transaction, status, head, body, true), 'response')
}

/** Texts are never large: see `Exchange.judgedResponseBody`. */
function isLarge(exchange: Exchange, body: Uint8Array | string | null): body is Uint8Array {
  if (body === null || typeof body === 'string') return false
  return body.length > exchange.snapshot.settings.waf.threadThresholdBytes
}

/** The front end has scanned a body that it holds, or a thread of its is at it. */
function answered(
  exchange: Exchange,
  plan: ScanPlan,
  answer: number | Promise<number>,
  message: Message,
): Verdict | Promise<Verdict> {
  if (typeof answer === 'number') return verdictOf(exchange, plan, answer, message)
  return inThread(exchange, plan, answer, message)
}

/** A thread has the transaction meanwhile: if the exchange ends first, the transaction is freed when it comes back. */
async function inThread(exchange: Exchange, plan: ScanPlan, scan: Promise<number>, message: Message): Promise<Verdict> {
  exchange.transactionInThread = true
  let answer: number
  try {
    answer = await scan
  } catch (error) {
    exchange.transactionInThread = false
    // the exchange ended while a thread had its transaction, and the thread is gone
    if (exchange.finished) endTransaction(exchange)
    throw error
  }
  exchange.transactionInThread = false
  try {
    return verdictOf(exchange, plan, answer, message)
  } finally {
    if (exchange.finished) endTransaction(exchange)
  }
}

type Message = 'request' | 'response'

/** What this scan found: a transaction tells everything since its beginning, the request's matches with the response. */
function verdictOf(exchange: Exchange, plan: ScanPlan, answer: number, message: Message): Verdict {
  exchange.transaction = scanTransaction(answer)
  const flags = scanFlags(answer)
  exchange.waf ??= NO_FINDINGS
  const found = (flags & (SCAN_MATCHED | SCAN_INTERRUPTED | SCAN_BODY_ERROR)) !== 0
  const verdict = found ? describe(exchange, plan, flags, message) : CLEAN
  // the response of a stopped transaction could not be judged by its own faults, if nothing was enforced (§5.14); where it
  // was, the exchange ends soon, and a trace may ask for the matches' texts meanwhile
  const isOver = verdict.blocked || verdict.bodyError ? !plan.enforce : plan.profile.response === undefined
  // an exchange may have ended while a policy waited for something else: nobody would end it any more
  if (exchange.finished || (message === 'request' && isOver)) endTransaction(exchange)
  return verdict
}

function describe(exchange: Exchange, plan: ScanPlan, flags: number, message: Message): Verdict {
  // where something goes on, an expression may ask for the texts at any time
  const withTexts =
    !plan.enforce || (flags & (SCAN_INTERRUPTED | SCAN_BODY_ERROR)) === 0 || exchange.services.matchLog.writes
  const details = transactionDetails(exchange.transaction, message === 'request' ? 1 : 3, withTexts)
  record(exchange, details, message === 'request' ? details.inbound.score : details.outbound.score, plan.enforce)
  return {
    blocked: (flags & SCAN_INTERRUPTED) !== 0,
    bodyError: (flags & SCAN_BODY_ERROR) !== 0,
    details,
  }
}

/** Keeps the findings for the access log, counts them, and writes one event per match. */
function record(exchange: Exchange, details: TransactionDetails, anomalyScore: number, enforced: boolean): void {
  const { metrics, matchLog } = exchange.services
  const ruleIds = new Set(exchange.waf?.ruleIds)
  for (const match of details.matched) {
    ruleIds.add(match.id)
    metrics.wafMatch(match.id, match.phase)
  }
  exchange.waf = { ruleIds: [...ruleIds], score: Math.max(exchange.waf?.score ?? 0, anomalyScore) }
  const subject = {
    requestId: exchange.requestId,
    endpoint: exchange.frame.endpoint.name,
    clientAddress: exchange.client.address,
    clientPort: exchange.client.port,
    host: exchange.publicHost,
    target: exchange.receivedTarget,
    enforced,
    anomalyScore,
  }
  matchLog.record(subject, details)
}

/**
 * Runs phase 5 and frees the native transaction. Called when the exchange ends; harmless without one. What rules of phase
 * 5 report goes into the logs like any other match.
 */
export function endTransaction(exchange: Exchange): void {
  if (exchange.transaction === 0 || exchange.transactionInThread) return
  const { transaction } = exchange
  exchange.transaction = 0
  let details: TransactionDetails | undefined
  try {
    details = endNative(transaction, exchange.services.matchLog.writes)
  } catch (error) {
    // it is freed all the same, and nothing else of the exchange depends on its last rules
    exchange.services.logger.error({ request_id: exchange.requestId, err: error }, 'waf reporting rules failed')
  }
  if (details !== undefined) record(exchange, details, Math.max(details.inbound.score, details.outbound.score), false)
}
