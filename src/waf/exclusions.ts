/**
 * What to paste so that a match does not come again: for one target, for one target on one path, or for the whole rule.
 *
 * Source: seclang.md §3 (SecRuleUpdateTargetById), §8.2 (ctl:ruleRemoveTargetById); traffic-policy.md §5.14
 * (`exclude_rule_ids`).
 */
import type { RuleMatch } from '../native/rule-set.ts'

export interface Exclusion {
  /** What it takes away. */
  readonly scope: 'target' | 'target_on_path' | 'rule'
  /** Where it belongs. */
  readonly place: 'waf.include_after' | 'waf.include_before' | 'policy'
  readonly text: string
}

/** Ids that rule sets leave to whoever runs them begin at 1. */
const FIRST_OWN_ID = 10_001
/** What `exclude_rule_ids` takes. */
const POLICY_IDS = { first: 900_000, last: 999_999 }

/** CRS's own rules that sum up, decide and report: what they count is to be excluded, not they. */
export function isDecisionRule(id: number): boolean {
  const family = Math.floor(id / 1000)
  return family === 949 || family === 959 || family === 980
}

/**
 * The exclusions for matches of any rules, narrow ones first; those that take one target away are candidates: whether
 * they have effect depends on how the rule is written.
 *
 * @param path of the request, decoded as `REQUEST_FILENAME` is; undefined where it cannot be written into a rule
 */
export function exclusionsFor(
  match: Pick<RuleMatch, 'id' | 'variable'>,
  place: number,
  path: string | undefined,
): readonly Exclusion[] {
  const { id } = match
  if (isDecisionRule(id)) return []
  const target = targetOf(match.variable)
  const exclusions: Exclusion[] = []
  if (target !== undefined) {
    exclusions.push({
      scope: 'target',
      place: 'waf.include_after',
      text: `SecRuleUpdateTargetById ${id} "!${target}"`,
    })
    if (path !== undefined && isPlainPath(path)) {
      exclusions.push({
        scope: 'target_on_path',
        place: 'waf.include_before',
        text: `SecRule REQUEST_FILENAME "@streq ${path}" "id:${FIRST_OWN_ID + place},phase:1,pass,t:none,nolog,ctl:ruleRemoveTargetById=${id};${target}"`,
      })
    }
  }
  exclusions.push(
    id >= POLICY_IDS.first && id <= POLICY_IDS.last
      ? { scope: 'rule', place: 'policy', text: `exclude_rule_ids: [${id}]` }
      : { scope: 'rule', place: 'waf.include_after', text: `SecRuleRemoveById ${id}` },
  )
  return exclusions
}

const PLAIN_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.[\]$-]*$/

/** A variable as matches name it, as a target in SecLang: `ARGS:a b` is `ARGS:/^a\x20b$/`. Undefined for counts. */
function targetOf(variable: string): string | undefined {
  if (variable === '' || variable.startsWith('&')) return undefined
  const colon = variable.indexOf(':')
  if (colon === -1) return variable
  const collection = variable.slice(0, colon)
  const name = variable.slice(colon + 1)
  // captures and scores are nothing that a rule looks at from the start
  if (collection === 'TX' || name === '') return undefined
  if (collection === 'XML' || PLAIN_NAME.test(name)) return variable
  return `${collection}:/^${patternOf(name)}$/`
}

/** Matches escape what is not printable as `\xHH`, quotes and backslashes with a backslash; in a pattern all are `\xHH`. */
function patternOf(name: string): string {
  return name.replace(/\\x[0-9a-f]{2}|\\?([^\w-])/gi, (escaped, character: string | undefined) =>
    character === undefined ? escaped : `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`,
  )
}

/** Printable, without what ends an argument or begins a macro. */
function isPlainPath(path: string): boolean {
  return /^\/(?:[\x20-\x7e]*[\x21-\x7e])?$/.test(path) && !/["\\%]/.test(path)
}
