/**
 * The rules of a phase by what their expressions need of path, host and method, so that a request tries only rules that
 * may match. The order of the rules is kept, and what runs is what would have run without it.
 *
 * Each rule stands under the one of its needs that the fewest rules share; rules without any are always tried. A need counts
 * only as long as no earlier expression of its rule can fail, because a failure is logged, and strict mode answers it
 * (traffic-policy.md §2.2).
 */
import type { Need, NeedSubject } from '../expression/need.ts'
import type { VariableSource } from '../expression/source.ts'
import type { CompiledRule } from '../policy/policy.ts'

/** Below this trying every rule costs no more. */
const FEWEST_RULES = 8
const SUBJECTS: readonly NeedSubject[] = ['path', 'host', 'method']

/** Rule numbers in ascending order. */
type RuleNumbers = number[]

/** Where one request stands in an index: what it was looked up by, and the lists of rules that may match it. */
export interface RuleWalk {
  readonly index: RuleIndex
  readonly path: string
  readonly host: string
  readonly method: string
  readonly lists: readonly RuleNumbers[]
  /** For each list the place of the first number not passed yet. */
  readonly places: number[]
}

/** The rules of one phase, indexed. Immutable. */
export class RuleIndex {
  readonly #always: RuleNumbers = []
  readonly #tables: Readonly<Record<NeedSubject, Table>> = { path: new Table(), host: new Table(), method: new Table() }

  private constructor(rules: readonly CompiledRule[]) {
    const sharing = countNeeds(rules)
    for (const [number, rule] of rules.entries()) {
      const need = usableNeeds(rule).toSorted((a, b) => shared(a, sharing) - shared(b, sharing))[0]
      if (need === undefined) this.#always.push(number)
      else this.#tables[need.subject].add(need, number)
    }
  }

  /** Undefined where an index would save nothing. */
  static of(rules: readonly CompiledRule[]): RuleIndex | undefined {
    if (rules.length < FEWEST_RULES || !rules.some((rule) => usableNeeds(rule).length > 0)) return undefined
    return new RuleIndex(rules)
  }

  /** Begins to walk. Undefined without a request to look up by. */
  walk({ request }: VariableSource): RuleWalk | undefined {
    if (request === undefined) return undefined
    const { method, host } = request
    const { path } = request.url
    const lists = [this.#always]
    const values = { path, host, method }
    for (const subject of SUBJECTS) this.#tables[subject].collect(values[subject], lists)
    return { index: this, path, host, method, lists, places: lists.map(() => 0) }
  }
}

/** Whether what the walk was looked up by is still true: actions may change the URL and the Host field. */
export function isCurrent(walk: RuleWalk, { request }: VariableSource): boolean {
  return request?.url.path === walk.path && request.host === walk.host && request.method === walk.method
}

/** The first rule from `from` on that may match; Infinity when none is left. */
export function nextRule({ lists, places }: RuleWalk, from: number): number {
  let next = Infinity
  for (const [at, list] of lists.entries()) {
    let place = places[at]!
    while (place < list.length && list[place]! < from) place += 1
    places[at] = place
    if (place < list.length && list[place]! < next) next = list[place]!
  }
  return next
}

/** Rules by the values of one variable. */
class Table {
  readonly #equal = new Map<string, RuleNumbers>()
  readonly #byPrefix = new Map<string, RuleNumbers>()
  #prefixLengths: number[] = []

  add({ equals, prefixes }: Need, number: number): void {
    for (const text of new Set(equals)) addTo(this.#equal, text, number)
    for (const prefix of new Set(prefixes)) addTo(this.#byPrefix, prefix, number)
    this.#prefixLengths = [...new Set([...this.#prefixLengths, ...prefixes.map(({ length }) => length)])].toSorted(
      (a, b) => a - b,
    )
  }

  collect(value: string, lists: RuleNumbers[]): void {
    const equal = this.#equal.get(value)
    if (equal !== undefined) lists.push(equal)
    for (const length of this.#prefixLengths) {
      if (length > value.length) break
      const under = this.#byPrefix.get(value.slice(0, length))
      if (under !== undefined) lists.push(under)
    }
  }
}

function addTo(table: Map<string, RuleNumbers>, text: string, number: number): void {
  const numbers = table.get(text)
  if (numbers === undefined) table.set(text, [number])
  else numbers.push(number)
}

function usableNeeds(rule: CompiledRule): readonly Need[] {
  const needs: Need[] = []
  for (const { needs: own } of rule.expressions) {
    needs.push(...own.all)
    if (!own.cannotFail) break
  }
  return needs
}

const keysOf = ({ subject, equals, prefixes }: Need): string[] => [
  ...equals.map((text) => `${subject}=${text}`),
  ...prefixes.map((text) => `${subject}^${text}`),
]

/** How many rules share each value. */
function countNeeds(rules: readonly CompiledRule[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>()
  for (const rule of rules) {
    for (const key of new Set(usableNeeds(rule).flatMap(keysOf))) counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  return counts
}

function shared(need: Need, counts: ReadonlyMap<string, number>): number {
  return Math.max(0, ...keysOf(need).map((key) => counts.get(key) ?? 0))
}
