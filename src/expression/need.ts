/**
 * What an expression needs of a request before it can be true: tests of path, host and method with constants, read off its
 * tree. They let a phase with many rules look up those that may match instead of trying each (phase/rule-index.ts).
 *
 * A need is necessary, never sufficient: the expression is evaluated all the same. Source: CEL's `&&` and `||`, for which
 * one false operand of a conjunction decides even where another fails.
 */
import { pathOf } from './check.ts'
import type { ExpressionNode } from './syntax.ts'

/** Variables that needs are about. */
export type NeedSubject = 'path' | 'host' | 'method'

/** One of these must hold. */
export interface Need {
  readonly subject: NeedSubject
  readonly equals: readonly string[]
  readonly prefixes: readonly string[]
}

/** The needs of an expression, and whether it is made of nothing else and so cannot fail. */
export interface Needs {
  readonly all: readonly Need[]
  readonly cannotFail: boolean
}

const SUBJECTS: ReadonlyMap<string, NeedSubject> = new Map([
  ['req.url.path', 'path'],
  ['req.host', 'host'],
  ['req.method', 'method'],
])
const NOTHING: Needs = { all: [], cannotFail: false }

/** Reads needs off the tree of an expression whose operators are CEL's own. */
export function needsOf(node: ExpressionNode): Needs {
  if (node.kind === 'logic' && node.operator === '&&') {
    const parts = node.operands.map(needsOf)
    return { all: parts.flatMap(({ all }) => all), cannotFail: parts.every(({ cannotFail }) => cannotFail) }
  }
  const need = node.kind === 'logic' ? either(node.operands.map(needsOf)) : test(node)
  return need === undefined ? NOTHING : { all: [need], cannotFail: true }
}

/** `a || b`: one need, where both are single tests of the same variable. */
function either(parts: readonly Needs[]): Need | undefined {
  const needs = parts.map(({ all, cannotFail }) => (cannotFail && all.length === 1 ? all[0] : undefined))
  const [first] = needs
  if (first === undefined || !needs.every((need) => need?.subject === first.subject)) return undefined
  return {
    subject: first.subject,
    equals: needs.flatMap((need) => need?.equals ?? []),
    prefixes: needs.flatMap((need) => need?.prefixes ?? []),
  }
}

function test(node: ExpressionNode): Need | undefined {
  if (node.kind !== 'call') return undefined
  const { name, target, args } = node
  if (name === '_==_') {
    const [left, right] = args
    return equality(left, right) ?? equality(right, left)
  }
  if (name === '_in_') {
    const [value, list] = args
    if (list?.kind !== 'list' || list.items.some(({ optional }) => optional)) return undefined
    const texts = list.items.map((item) => constant(item.value))
    const subject = subjectOf(value)
    if (subject === undefined || !texts.every((text) => text !== undefined)) return undefined
    return { subject, equals: texts, prefixes: [] }
  }
  if (name === 'startsWith' && target !== undefined && args.length === 1) {
    const subject = subjectOf(target)
    const prefix = constant(args[0])
    if (subject === undefined || prefix === undefined) return undefined
    return { subject, equals: [], prefixes: [prefix] }
  }
  return undefined
}

function equality(variable: ExpressionNode | undefined, value: ExpressionNode | undefined): Need | undefined {
  const subject = subjectOf(variable)
  const text = constant(value)
  return subject === undefined || text === undefined ? undefined : { subject, equals: [text], prefixes: [] }
}

function subjectOf(node: ExpressionNode | undefined): NeedSubject | undefined {
  const path = node === undefined ? undefined : pathOf(node)
  return path === undefined ? undefined : SUBJECTS.get(path.path.join('.'))
}

function constant(node: ExpressionNode | undefined): string | undefined {
  return node?.kind === 'literal' && typeof node.value === 'string' ? node.value : undefined
}
