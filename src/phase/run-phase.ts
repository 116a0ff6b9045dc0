/**
 * Runs the rules of one phase in order until an outcome ends it. Stays synchronous until an action truly waits.
 *
 * Source: traffic-policy.md §2.1, §2.2.
 */
import type { Exchange } from '../exchange/exchange.ts'
import type { CompiledRule } from '../policy/policy.ts'
import { GatewayError } from '../response/gateway-error.ts'
import { NEXT, type Outcome } from './outcome.ts'

/** Where a phase stands, so that it can go on after an action that waited or a forward that failed. */
export interface PhaseCursor {
  rule: number
  action: number
}

/** Runs from the cursor on. `next` means: the phase came to its end and no rule ended it. */
export function runPhase(
  rules: readonly CompiledRule[],
  exchange: Exchange,
  cursor: PhaseCursor,
): Outcome | Promise<Outcome> {
  for (; cursor.rule < rules.length; cursor.rule += 1, cursor.action = 0) {
    // the loop condition keeps the index inside the list
    const rule = rules[cursor.rule]!
    if (cursor.action === 0 && !matches(rule, exchange)) continue
    while (cursor.action < rule.actions.length) {
      const action = rule.actions[cursor.action]!
      cursor.action += 1
      exchange.running(rule, action)
      const outcome = action.run(exchange)
      if (outcome instanceof Promise) return outcome.then((settled) => goOn(settled, rules, exchange, cursor))
      exchange.ran(outcome)
      if (outcome.kind !== 'next') return outcome
    }
  }
  return NEXT
}

function goOn(
  outcome: Outcome,
  rules: readonly CompiledRule[],
  exchange: Exchange,
  cursor: PhaseCursor,
): Outcome | Promise<Outcome> {
  exchange.ran(outcome)
  return outcome.kind === 'next' ? runPhase(rules, exchange, cursor) : outcome
}

/** All expressions true. One that fails at run time counts as false (§2.2), or ends the request in strict mode. */
function matches(rule: CompiledRule, exchange: Exchange): boolean {
  for (const expression of rule.expressions) {
    try {
      if (!expression.test(exchange)) return false
    } catch (error) {
      exchange.expressionFailed(rule, error)
      if (exchange.snapshot.settings.policy.strict) throw new GatewayError('EXPRESSION_FAILED', { cause: error })
      return false
    }
  }
  return true
}
