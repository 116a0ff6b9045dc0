/**
 * Whether a failed upstream leg may be tried once more.
 *
 * Source: operations.md H-70 (safe to repeat), H-71 (how often, and only with the body at hand).
 */
import type { UpstreamFailure } from '../listener/front-end.ts'
import type { Exchange } from './exchange.ts'

/** RFC 9110 §9.2.2. */
const IDEMPOTENT_METHODS = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])

export function mayRepeat(exchange: Exchange, failure: UpstreamFailure): boolean {
  if (failure.bodyConsumed || exchange.tried.length > exchange.snapshot.settings.upstream.retries) return false
  switch (failure.reason) {
    case 'connect_failed':
    case 'connect_timeout':
    case 'tls_failed':
      return true
    case 'upstream_reset':
      return failure.notProcessed || IDEMPOTENT_METHODS.has(exchange.method) || exchange.head.has('idempotency-key')
    // an invalid answer is not asked for again (H-35); a slow upstream is not given the same work twice; a full queue stays full
    case 'upstream_bad_response':
    case 'first_byte_timeout':
    case 'idle_timeout':
    case 'overflow':
      return false
  }
}
