/**
 * Runs the rules of one phase in order until an outcome ends it. Stays synchronous until an action truly waits.
 *
 * Source: traffic-policy.md §2.1, §2.2.
 */
import type { Exchange } from '../exchange/exchange.ts'
import type { CompiledRule } from '../policy/policy.ts'
import { GatewayError } from '../response/gateway-error.ts'
import { NEXT, type Outcome } from './outcome.ts'
import { isCurrent, nextRule, type RuleIndex, type RuleWalk } from './rule-index.ts'

/** Where a phase stands, so that it can go on after an action that waited or a forward that failed. */
export interface PhaseCursor {
  rule: number
  action: number
  /** How far the phase's index was walked, where it has one. */
  walk?: RuleWalk | undefined
}

/** Runs from the cursor on. `next` means: the phase came to its end and no rule ended it. */
export function runPhase(
  rules: readonly CompiledRule[],
  exchange: Exchange,
  cursor: PhaseCursor,
  index?: RuleIndex,
): Outcome | Promise<Outcome> {
  for (; cursor.rule < rules.length; cursor.rule += 1, cursor.action = 0) {
    if (index !== undefined && cursor.action === 0) {
      cursor.rule = skipAhead(index, exchange, cursor)
      if (cursor.rule >= rules.length) break
    }
    // the loop condition keeps the index inside the list
    const rule = rules[cursor.rule]!
    if (cursor.action === 0 && !matches(rule, exchange)) continue
    while (cursor.action < rule.actions.length) {
      const action = rule.actions[cursor.action]!
      cursor.action += 1
      exchange.running(rule, action)
      const outcome = action.run(exchange)
      if (outcome instanceof Promise) return outcome.then((settled) => goOn(settled, rules, exchange, cursor, index))
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
  index: RuleIndex | undefined,
): Outcome | Promise<Outcome> {
  exchange.ran(outcome)
  return outcome.kind === 'next' ? runPhase(rules, exchange, cursor, index) : outcome
}

/** The next rule that may match; looked up anew when an action changed what the index goes by. */
function skipAhead(index: RuleIndex, exchange: Exchange, cursor: PhaseCursor): number {
  if (cursor.walk?.index !== index || !isCurrent(cursor.walk, exchange)) cursor.walk = index.walk(exchange)
  return cursor.walk === undefined ? cursor.rule : nextRule(cursor.walk, cursor.rule)
}

/** All expressions true. One that fails at run time counts as false (§2.2), or ends the request in strict mode. */
export function matches(rule: CompiledRule, exchange: Exchange): boolean {
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
