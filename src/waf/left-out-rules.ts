/**
 * Rules that may be left out of a rule set because a construct they use is not implemented: each with the construct.
 * Any other rule with such a construct is a load error. The loader prints how many were left out; `check --strict`
 * refuses them.
 */
export interface LeftOutRule {
  readonly id: number
  /** What the rule needs and the matcher does not have. */
  readonly construct: string
  /** The rule sets that have the rule in this form. */
  readonly versions: string
}

/** CRS 4 has none: its patterns keep to regular languages by policy. */
export const LEFT_OUT_RULES: readonly LeftOutRule[] = [
  { id: 920_120, construct: 'look-ahead in a regular expression', versions: 'CRS 3.3' },
  { id: 942_130, construct: 'look-ahead and back-reference in a regular expression', versions: 'CRS 3.3' },
  { id: 953_120, construct: 'look-ahead in a regular expression', versions: 'CRS 3.3' },
]
