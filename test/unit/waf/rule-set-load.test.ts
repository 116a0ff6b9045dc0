/** A rule set compiles on threads of its own: the event loop turns all the while. */
import { expect, it } from 'vitest'
import { loadRuleSet, releaseRuleSet, ruleSetSummary } from '../../../src/native/rule-set.ts'

it('the event loop turns while rules compile', async () => {
  const RULES = 400
  const text = Array.from(
    { length: RULES },
    (_, at) =>
      `SecRule ARGS "@rx (?i)\\b(?:union${at}|select${at})\\b.{0,${20 + (at % 40)}}[a-z]{1,30}from" "id:${at + 1},phase:2,pass"`,
  ).join('\n')
  let turns = 0
  let loads = true
  const turn = (): void => {
    turns += 1
    if (loads) setImmediate(turn)
  }
  setImmediate(turn)
  const handle = await loadRuleSet({ files: [{ path: 'rules.conf', text }], data: [], leftOut: [] })
  loads = false
  expect(ruleSetSummary(handle).rules).toBe(RULES)
  // a compile on the loop would let it turn once before and once after
  expect(turns).toBeGreaterThan(50)
  releaseRuleSet(handle)
})
