/**
 * Whether a failed or refused upstream leg is tried once more.
 *
 * Source: operations.md H-70 (safe to repeat), H-71 (how often, and only with the body at hand), H-72 (budget), H-73 (on
 * status).
 */
import type { UpstreamFailure } from '../listener/front-end.ts'
import type { EndpointUpstream } from '../routing/endpoints.ts'
import type { Exchange } from './exchange.ts'
import type { MessageHead } from './message-head.ts'

/** RFC 9110 §9.2.2. */
const IDEMPOTENT_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])

/** H-73: longest `Retry-After` that is waited for. */
const LONGEST_PAUSE_MS = 1000

/** Whether a leg that failed is repeated; takes the repeat out of the budget. */
export function mayRepeat(exchange: Exchange, upstream: EndpointUpstream, failure: UpstreamFailure): boolean {
  if (failure.bodyConsumed || exchange.tried.length > upstream.retry.max) return false
  return isSafeAfter(exchange, upstream, failure) && isWithinBudget(exchange, upstream)
}

function isSafeAfter(exchange: Exchange, upstream: EndpointUpstream, failure: UpstreamFailure): boolean {
  switch (failure.reason) {
    case 'connect_failed':
    case 'connect_timeout':
    case 'tls_failed':
      return true
    case 'upstream_reset':
      return failure.notProcessed || isSafe(exchange, upstream)
    // an invalid answer is not asked for again (H-35); a slow upstream is not given the same work twice; a full queue stays full
    case 'upstream_bad_response':
    case 'first_byte_timeout':
    case 'idle_timeout':
    case 'overflow':
      return false
  }
}

function isSafe(exchange: Exchange, upstream: EndpointUpstream): boolean {
  return upstream.retry.unsafe || IDEMPOTENT_METHODS.has(exchange.method) || exchange.head.has('idempotency-key')
}

/** H-72: over budget the original failure stands, and is counted. */
function isWithinBudget(exchange: Exchange, upstream: EndpointUpstream): boolean {
  if (upstream.group.budget.take()) return true
  exchange.services.metrics.upstreamRetry('budget')
  return false
}

/**
 * H-73. After how many milliseconds an answer of that status is asked for once more; undefined: it is passed on.
 *
 * @param head of the answer, for its `Retry-After`
 */
export function repeatAfterStatus(
  exchange: Exchange,
  upstream: EndpointUpstream,
  status: number,
  head: MessageHead,
): number | undefined {
  const { retry } = upstream
  if (!retry.on.has(status) || exchange.tried.length > retry.max || !isSafe(exchange, upstream)) return undefined
  const retryAfter = head.first('retry-after')
  // a date is further away than a second, or is now; neither is worth waiting for
  const pauseMs = retryAfter === undefined ? 0 : /^[0-9]{1,6}$/.test(retryAfter) ? Number(retryAfter) * 1000 : Infinity
  if (pauseMs > LONGEST_PAUSE_MS || !exchange.frontEnd.canRepeat(exchange.handle)) return undefined
  return isWithinBudget(exchange, upstream) ? pauseMs : undefined
}
