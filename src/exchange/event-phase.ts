/**
 * `on_event_stream_message`: rules about one event of an event stream, while it passes. Innermost endpoint first, as for
 * responses. Everything here is synchronous: an event never waits.
 *
 * Source: traffic-policy.md §1.1, §2.1, §2.2.
 */
import { matches } from '../phase/run-phase.ts'
import type { EventMessage } from '../body/event-stream.ts'
import type { CompiledRule } from '../policy/policy.ts'
import type { Exchange, ResponseState } from './exchange.ts'

export function isEventStream(state: ResponseState): boolean {
  const type = state.head.first('content-type')
  return type !== undefined && /^text\/event-stream(?:\s*;|$)/i.test(type.trim())
}

/** Some endpoint that the exchange went through has rules about events. */
export function hasEventRules(exchange: Exchange): boolean {
  return exchange.frames.some(({ endpoint }) => endpoint.policy.onEventStreamMessage.length > 0)
}

/** Runs every rule on one event. Throws what an action throws, and in strict mode EXPRESSION_FAILED. */
export function runEventPhase(exchange: Exchange, message: EventMessage): void {
  exchange.eventMessage = message
  for (let frameIndex = exchange.frames.length - 1; frameIndex >= 0; frameIndex--) {
    // the loop condition keeps the index inside the list
    const rules = exchange.frames[frameIndex]!.endpoint.policy.onEventStreamMessage
    if (rules.length === 0) continue
    exchange.beginResponsePhase(frameIndex)
    for (const rule of rules) if (matches(rule, exchange)) runActions(rule, exchange)
  }
}

function runActions(rule: CompiledRule, exchange: Exchange): void {
  for (const action of rule.actions) {
    exchange.running(rule, action)
    const outcome = action.run(exchange)
    if (outcome instanceof Promise) throw new Error(`${action.type} must not wait in on_event_stream_message`)
    exchange.ran(outcome)
  }
}
