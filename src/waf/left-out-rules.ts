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
  { id: 910_100, construct: '@geoLookup and the variable GEO', versions: 'CRS 3.3' },
  { id: 910_140, construct: '@rbl', versions: 'CRS 3.3' },
  { id: 920_120, construct: 'look-behind in a regular expression', versions: 'CRS 3.3' },
  { id: 920_480, construct: 'a macro in a regular expression', versions: 'CRS 3.3' },
  { id: 920_600, construct: 'a possessive quantifier in a regular expression', versions: 'CRS 3.3' },
  { id: 942_130, construct: 'look-ahead in a regular expression', versions: 'CRS 3.3' },
  { id: 942_260, construct: 'a possessive quantifier in a regular expression', versions: 'CRS 3.3' },
  { id: 942_380, construct: 'a collating element in a regular expression', versions: 'CRS 3.3' },
  { id: 953_120, construct: 'look-ahead in a regular expression', versions: 'CRS 3.3' },
]
