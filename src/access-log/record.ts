/**
 * One access record: what the log keeps of a request, and the line it becomes.
 *
 * Source: operations.md O-56 … O-62 (fields, reasons, masking, escaping); T-79 (no secret in any log).
 */
import { maskTarget, maskTokens } from './redact.ts'

/**
 * The facts of one request, flat, so that one object can be filled, written and used again. Durations are milliseconds
 * and -1 when the step never happened; texts are '' when unknown. `path` is the raw target: masking happens here.
 */
export interface AccessRecord {
  /** Wall clock when the request head was complete, milliseconds since the epoch. */
  timeMs: number
  requestId: string
  traceId: string
  method: string
  /** Value of the Host field. */
  host: string
  /** The request target as received, with its query. */
  path: string
  protocol: string
  userAgent: string
  /** Name of the endpoint whose policy decided; '' = none was found. */
  endpoint: string
  /** Which rule decided, such as `on_http_request[2]` or its name. */
  rule: string
  /** Which action decided. */
  action: string
  /** `host:port` of the upstream that was tried last. */
  target: string
  /** What was sent, or 499 when the client went away before the end (O-62). */
  status: number
  /** One of the closed list of O-59. */
  reason: string
  bytesIn: number
  bytesOut: number
  /** From the first byte of the connection's request to the complete head, where the front end knows it. */
  readMs: number
  policyMs: number
  queueMs: number
  connectMs: number
  firstByteMs: number
  totalMs: number
  /** Upstream attempts. */
  tries: number
  connectionReused: boolean
  tlsVersion: string
  /** After trusted proxies (O-71), and the other end of the socket. */
  clientAddress: string
  peerAddress: string
  wafRuleIds: readonly number[]
  /** Anomaly score; -1 when no scan ran. */
  wafScore: number
  /** What `log` actions asked for, each already JSON text (`JSON.stringify` of the masked map). */
  logs: readonly string[]
}

/** A record with every field at its "nothing happened" value. */
export function emptyAccessRecord(): AccessRecord {
  return {
    timeMs: 0,
    requestId: '',
    traceId: '',
    method: '',
    host: '',
    path: '',
    protocol: '',
    userAgent: '',
    endpoint: '',
    rule: '',
    action: '',
    target: '',
    status: 0,
    reason: 'ok',
    bytesIn: 0,
    bytesOut: 0,
    readMs: -1,
    policyMs: -1,
    queueMs: -1,
    connectMs: -1,
    firstByteMs: -1,
    totalMs: -1,
    tries: 0,
    connectionReused: false,
    tlsVersion: '',
    clientAddress: '',
    peerAddress: '',
    wafRuleIds: [],
    wafScore: -1,
    logs: [],
  }
}

/** Everything that is not printable ASCII, and what JSON escapes within it. */
const NEEDS_ESCAPE = /[^\x20-\x7e]|["\\]/

/**
 * A JSON string in pure ASCII: no value can forge a line or steer a terminal (O-61), and a character is a byte, which
 * spares the writer a pass.
 */
function quote(text: string): string {
  if (!NEEDS_ESCAPE.test(text)) return `"${text}"`
  // what JSON.stringify leaves as it is: DEL and everything above
  return asciiJson(JSON.stringify(text))
}

/**
 * Quoted forms of texts that come from the configuration (endpoints, rules, actions, targets): few, and on every line.
 * Bounded, because a reload may bring new ones.
 */
const quoted = new Map<string, string>()
const MAX_QUOTED = 4096

function quoteKnown(text: string): string {
  const known = quoted.get(text)
  if (known !== undefined) return known
  if (quoted.size >= MAX_QUOTED) quoted.clear()
  const fresh = quote(text)
  quoted.set(text, fresh)
  return fresh
}

/** `.001` … `.999` without trailing zeros; '' for 0. Number to text with decimals costs ten times this look-up. */
const DECIMALS: readonly string[] = Array.from({ length: 1000 }, (_, thousandths) =>
  thousandths === 0 ? '' : `.${String(thousandths).padStart(3, '0').replace(/0+$/, '')}`,
)

/** Milliseconds, not negative, with at most three decimals. */
function milliseconds(value: number): string {
  const thousandths = Math.round(value * 1000)
  const whole = Math.floor(thousandths / 1000)
  // the remainder is an integer of 0 … 999 for every finite value
  return whole + (DECIMALS[thousandths - whole * 1000] ?? '')
}

/** The second of the last line and its text: lines of one second share all but the milliseconds. */
let second = -1
let secondText = ''

function timestamp(timeMs: number): string {
  const whole = Math.floor(timeMs / 1000)
  if (whole !== second) {
    second = whole
    secondText = new Date(whole * 1000).toISOString().slice(0, 20)
  }
  const rest = Math.floor(timeMs) - whole * 1000
  return `${secondText}${rest < 10 ? '00' : rest < 100 ? '0' : ''}${rest}Z`
}

/** Longest target that is logged, in characters; more ends in `…`. */
const MAX_PATH = 2048
/** The same for other texts that a client chooses. */
const MAX_TEXT = 512
/** What `log` actions may add to one line, in characters. */
const MAX_LOGS = 8192

function bounded(text: string, max = MAX_TEXT): string {
  return text.length > max ? `${text.slice(0, max)}…` : text
}

/** For text that is known to need no escape. */
function quotePlain(text: string): string {
  return `"${text}"`
}

/** The entries of `log` actions as a JSON list in ASCII; those that do not fit are counted instead. */
function logList(logs: readonly string[]): string {
  let list = ''
  let left = 0
  for (const entry of logs) {
    if (list.length + entry.length > MAX_LOGS) left += 1
    else list += `${list === '' ? '' : ','}${asciiJson(entry)}`
  }
  return left === 0 ? `[${list}]` : `[${list}],"logs_left_out":${left}`
}

/** JSON text whose characters beyond ASCII (they stand in strings only) are escaped. */
function asciiJson(json: string): string {
  return json.replace(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
}

/**
 * The record as one JSON object and a line feed. Unknown fields (-1, '') are left out, except those that O-58 wants on
 * every line. `level`, `time` and `msg` are as pino writes them, so that both logs go through the same tools.
 */
export function accessLine(record: AccessRecord): string {
  const { requestId, traceId, clientAddress, peerAddress } = record
  const host = maskTokens(bounded(record.host))
  const path = maskTarget(bounded(record.path, MAX_PATH))
  const userAgent = maskTokens(bounded(record.userAgent))
  // one look at all of them together is half the price of one at each
  const isPlain = !NEEDS_ESCAPE.test(requestId + traceId + host + path + userAgent + clientAddress + peerAddress)
  const text = isPlain ? quotePlain : quote
  let line = `{"level":"info","time":"${timestamp(record.timeMs)}","msg":"request","request_id":${text(requestId)},"trace_id":${text(traceId)},"endpoint":${quoteKnown(record.endpoint)},"rule":${quoteKnown(record.rule)},"action":${quoteKnown(record.action)},"target":${quoteKnown(record.target)},"status":${record.status},"reason":${quoteKnown(record.reason)},"method":${quoteKnown(bounded(record.method))},"host":${text(host)},"path":${text(path)},"bytes_in":${record.bytesIn},"bytes_out":${record.bytesOut}`
  if (record.readMs >= 0) line += `,"t_read":${milliseconds(record.readMs)}`
  if (record.policyMs >= 0) line += `,"t_policy":${milliseconds(record.policyMs)}`
  if (record.queueMs >= 0) line += `,"t_queue":${milliseconds(record.queueMs)}`
  if (record.connectMs >= 0) line += `,"t_connect":${milliseconds(record.connectMs)}`
  if (record.firstByteMs >= 0) line += `,"t_first_byte":${milliseconds(record.firstByteMs)}`
  if (record.totalMs >= 0) line += `,"t_total":${milliseconds(record.totalMs)}`
  line += `,"tries":${record.tries},"conn_reused":${record.connectionReused},"client_ip":${text(clientAddress)},"peer_ip":${text(peerAddress)}`
  if (record.protocol !== '') line += `,"protocol":${quoteKnown(record.protocol)}`
  if (record.tlsVersion !== '') line += `,"tls_version":${quoteKnown(record.tlsVersion)}`
  if (record.userAgent !== '') line += `,"user_agent":${text(userAgent)}`
  if (record.wafScore >= 0) line += `,"waf_score":${record.wafScore}`
  if (record.wafRuleIds.length > 0) line += `,"waf_rules":[${record.wafRuleIds.join(',')}]`
  if (record.logs.length > 0) line += `,"logs":${logList(record.logs)}`
  return `${line}}\n`
}
