/** The index of a phase's rules: it runs what the list alone would have run. Source: traffic-policy.md §2.1, §2.2. */
import { describe, expect, it } from 'vitest'
import type { Exchange } from '../../../src/exchange/exchange.ts'
import { NEXT, type Outcome } from '../../../src/phase/outcome.ts'
import { runPhase } from '../../../src/phase/run-phase.ts'
import { RuleIndex, nextRule } from '../../../src/phase/rule-index.ts'
import type { CompiledRule } from '../../../src/policy/policy.ts'
import { sourceOf, expressionOf } from '../expression/exchange-source.ts'

/** What runs, in order, and which expressions failed. */
function run(
  rules: readonly CompiledRule[],
  request: { method: string; host: string; path: string },
  index: RuleIndex | undefined,
): string[] {
  const told: string[] = []
  const source = sourceOf(request)
  const exchange = {
    ...source,
    snapshot: { settings: { policy: { strict: false } } },
    running: (rule: CompiledRule) => void told.push(rule.name),
    ran: () => undefined,
    expressionFailed: (rule: CompiledRule) => void told.push(`${rule.name} failed`),
    rewrite: (path: string) => Object.assign(exchange, sourceOf({ ...request, path })),
  }
  void runPhase(rules, exchange as unknown as Exchange, { rule: 0, action: 0 }, index)
  return told
}

function rule(
  name: string,
  expressions: readonly string[],
  act: (exchange: never) => Outcome = () => NEXT,
): CompiledRule {
  return {
    name,
    expressions: expressions.map((text) => expressionOf(text)),
    actions: [{ type: 'log', run: act as never }],
  }
}

/** A small generator of its own sequence: a failure can be played again. */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * below)
  }
}

const PATHS = ['/', '/a', '/a/b', '/a/b/c', '/b', '/ab', '/users/7', '/users', '']
const HOSTS = ['a.example', 'b.example', '']
const METHODS = ['GET', 'POST', 'get']
const FAILS = `req.headers['absent'][0] == 'x'`

function randomTest(next: (below: number) => number): string {
  const pick = (list: readonly string[]): string => `'${list[next(list.length)]!}'`
  switch (next(12)) {
    case 0:
      return `req.url.path == ${pick(PATHS)}`
    case 1:
      return `${pick(PATHS)} == req.url.path`
    case 2:
    case 3:
      return `req.url.path.startsWith(${pick(PATHS)})`
    case 4:
      return `req.url.path in [${pick(PATHS)}, ${pick(PATHS)}]`
    case 5:
      return `req.host == ${pick(HOSTS)}`
    case 6:
      return `req.method == ${pick(METHODS)}`
    case 7:
      return `req.method == ${pick(METHODS)} || req.method == ${pick(METHODS)}`
    case 8:
      return `req.url.path != ${pick(PATHS)}`
    case 9:
      return `!req.url.path.startsWith(${pick(PATHS)})`
    case 10:
      return `req.url.path.endsWith('b') || req.host == ${pick(HOSTS)}`
    default:
      return FAILS
  }
}

describe('the index of a phase', () => {
  it('runs what the list alone runs, in the same order, and reports the same failures', () => {
    const next = generator(20_261_122)
    let ran = 0
    for (let policy = 0; policy < 60; policy += 1) {
      const rules = Array.from({ length: 8 + next(30) }, (_, number) => {
        const expressions = Array.from({ length: next(3) }, () =>
          next(3) === 0 ? `${randomTest(next)} && ${randomTest(next)}` : randomTest(next),
        )
        return rule(`rule ${number}`, expressions)
      })
      const index = RuleIndex.of(rules)
      for (const path of PATHS) {
        for (const host of HOSTS) {
          for (const method of METHODS) {
            const plain = run(rules, { method, host, path }, undefined)
            expect(run(rules, { method, host, path }, index)).toEqual(plain)
            ran += plain.length
          }
        }
      }
    }
    expect(ran).toBeGreaterThan(10_000)
  })

  it('§5.26: follows a path that a rule rewrites', () => {
    const rules = [
      rule('rewrites', [`req.url.path == '/old'`], ((exchange: { rewrite(path: string): void }) => {
        exchange.rewrite('/new')
        return NEXT
      }) as never),
      rule('old', [`req.url.path == '/old'`]),
      rule('new', [`req.url.path == '/new'`]),
      ...Array.from({ length: 10 }, (_, number) => rule(`other ${number}`, [`req.url.path == '/other/${number}'`])),
    ]
    const index = RuleIndex.of(rules)
    expect(index).toBeDefined()
    expect(run(rules, { method: 'GET', host: 'h', path: '/old' }, index)).toEqual(['rewrites', 'new'])
  })

  it('tries a handful of a thousand rules', () => {
    const rules = Array.from({ length: 1000 }, (_, number) =>
      rule(`rule ${number}`, [`req.method == 'GET' && req.url.path.startsWith('/service-${number}/')`]),
    )
    const walk = RuleIndex.of(rules)?.walk(sourceOf({ method: 'GET', path: '/service-77/x' }))
    expect(walk && nextRule(walk, 0)).toBe(77)
    expect(walk && nextRule(walk, 78)).toBe(Infinity)
  })

  it('is not made for few rules, nor for rules that need nothing of path, host and method', () => {
    expect(RuleIndex.of([rule('one', [`req.url.path == '/'`])])).toBeUndefined()
    expect(RuleIndex.of(Array.from({ length: 50 }, () => rule('any', [`req.headers.size() > 3`])))).toBeUndefined()
  })
})
