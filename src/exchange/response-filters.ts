/**
 * What a response body goes through on its way out: a content coding taken off where events are read, the events' rules,
 * a content coding put on. Nothing, for almost every response.
 */
import { compressor, decompressor } from '../body/content-coding.ts'
import { isPlain } from '../body/decoded-body.ts'
import { EventStreamFilter } from '../body/event-stream.ts'
import { chainFilters } from '../body/filter-chain.ts'
import type { BodyFilter } from '../listener/front-end.ts'
import { GatewayError } from '../response/gateway-error.ts'
import { isBodiless } from '../response/status-line.ts'
import { hasEventRules, isEventStream, runEventPhase } from './event-phase.ts'
import type { Exchange, ResponseState } from './exchange.ts'

/**
 * Makes the filters when a body follows; undefined when the body stays as it is. Changes the head to what the body will
 * be. Throws RESPONSE_UNREADABLE for event streams in a coding that cannot be taken off.
 */
export function responseFilters(exchange: Exchange, state: ResponseState): (() => BodyFilter) | undefined {
  const { compression } = state
  const hasRules = hasEventRules(exchange)
  // the usual case looks at nothing
  if (!hasRules && compression === undefined && state.bodyChanged !== true) return undefined
  const makers: (() => BodyFilter)[] = []
  const isStream = isEventStream(state)
  if (isStream && hasRules && exchange.method !== 'HEAD' && !isBodiless(state.status)) {
    const coding = exchange.responseCoding
    if (coding !== undefined && !isPlain(coding)) {
      const decode = decompressor(coding)
      if (decode === undefined) throw new GatewayError('RESPONSE_UNREADABLE')
      makers.push(decode)
      state.head.remove('content-encoding')
    }
    makers.push(() => eventFilter(exchange))
  }
  if (compression !== undefined) {
    const flushes = isStream || state.bodyLength === -1
    makers.push(() => compressor(compression, flushes))
  }
  // the length of a body that HEAD does not show is not known either
  if (makers.length === 0 && state.bodyChanged !== true) return undefined
  return () => chainFilters(makers.map((make) => make()))
}

function eventFilter(exchange: Exchange): BodyFilter {
  return new EventStreamFilter({
    maxEventBytes: exchange.snapshot.settings.limits.bufferedBodyBytes,
    onMessage: (message) => {
      try {
        runEventPhase(exchange, message)
      } catch (error) {
        exchange.failed()
        exchange.services.logger.error(
          { request_id: exchange.requestId, rule: exchange.decidingRule, err: error },
          'an event could not be changed; the stream ends',
        )
        throw error
      }
    },
  })
}
