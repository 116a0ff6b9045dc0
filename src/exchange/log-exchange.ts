/**
 * One access record and one set of counts for every exchange, refused ones included.
 *
 * Source: operations.md O-47, O-56 … O-62.
 */
import { type AccessRecord, emptyAccessRecord } from '../access-log/record.ts'
import type { ExchangeRecord, RefusedRequest } from '../listener/front-end.ts'
import type { GatewayServices } from '../process/services.ts'
import { maskedJson } from '../access-log/redact.ts'
import type { Exchange } from './exchange.ts'

/** O-62: in logs only. */
const CLIENT_ABORT_STATUS = 499

/** Filled, written and used again: the log turns it into a line before it returns. */
const record: AccessRecord = emptyAccessRecord()
const NOTHING = emptyAccessRecord()

export function logExchange(exchange: Exchange, end: ExchangeRecord): void {
  const { services, facts, head, frames } = exchange
  const abandoned = end.end === 'client_abort' && exchange.reason === 'ok'
  // a WebSocket that was open has its status, however it ended
  const status = abandoned && end.webSocket === undefined ? CLIENT_ABORT_STATUS : end.status
  const endpoint = frames[0]?.endpoint.name ?? ''
  const totalMs = end.endedAtMs - facts.receivedAtMs
  services.metrics.httpRequest(endpoint, exchange.method, status, totalMs, end.requestBodyBytes, end.responseBodyBytes)
  if (end.webSocket !== undefined) services.metrics.webSocketMessages(endpoint, end.webSocket)
  if (end.connectedAtMs !== 0 && !end.connectionReused) {
    // a leg was sent, so there is a frame; the innermost one has the upstream, as in upstream_requests_total
    services.metrics.upstreamConnected(frames.at(-1)!.endpoint.name, end.connectedAtMs - exchange.legStartedAtMs)
  }
  if (!services.accessLog.enabled) return
  record.timeMs = exchange.startedAtEpochMs
  record.requestId = exchange.requestId
  record.traceId = exchange.trace.traceId
  record.method = exchange.method
  record.host = head.first('host') ?? ''
  record.path = exchange.receivedTarget
  record.protocol = exchange.facts.version ?? 'HTTP/1.1'
  record.userAgent = head.first('user-agent') ?? ''
  record.endpoint = endpoint
  record.rule = exchange.decidingRule
  record.action = exchange.decidingAction
  record.target = exchange.target?.name ?? ''
  record.status = status
  record.reason = abandoned ? 'client_abort' : reasonOf(exchange, end)
  record.bytesIn = end.requestBodyBytes
  record.bytesOut = end.responseBodyBytes
  record.policyMs = (exchange.forwardedAtMs === 0 ? end.endedAtMs : exchange.forwardedAtMs) - facts.receivedAtMs
  record.connectMs =
    end.connectedAtMs === 0 || exchange.legStartedAtMs === 0 ? -1 : end.connectedAtMs - exchange.legStartedAtMs
  record.firstByteMs =
    end.firstByteAtMs === 0 || exchange.legStartedAtMs === 0 ? -1 : end.firstByteAtMs - exchange.legStartedAtMs
  record.totalMs = totalMs
  record.tries = exchange.tried.length
  record.connectionReused = end.connectionReused
  record.clientAddress = exchange.client.address
  record.peerAddress = exchange.peer.address
  record.wafRuleIds = exchange.waf?.ruleIds ?? []
  record.wafScore = exchange.waf?.score ?? -1
  record.logs = exchange.logs === undefined ? [] : exchange.logs.map((entry) => maskedJson(entry))
  services.accessLog.write(record)
}

function reasonOf(exchange: Exchange, end: ExchangeRecord): string {
  if (exchange.reason !== 'ok') return exchange.reason
  if (end.reason !== undefined) return end.reason
  return end.failure?.reason ?? (end.end === 'complete' ? 'ok' : 'upstream_reset')
}

/** A request that never became an exchange: malformed, or refused by the library's rules. */
export function logRefused(services: GatewayServices, refused: RefusedRequest): void {
  const [method = '', path = ''] = refused.requestLine.split(' ', 2)
  services.metrics.refusedRequest(method, refused.status)
  if (!services.accessLog.enabled) return
  Object.assign(record, NOTHING)
  record.timeMs = Date.now()
  record.method = method
  record.path = path
  record.status = refused.status
  record.reason = refused.reason
  record.peerAddress = refused.peerAddress
  record.clientAddress = refused.peerAddress
  services.accessLog.write(record)
}
