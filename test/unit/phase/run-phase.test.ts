/** The phase runner: order, synchronous until an action waits, where it goes on, what a failing expression does. */
import { describe, expect, it } from 'vitest'
import type { Exchange } from '../../../src/exchange/exchange.ts'
import { EvaluationError } from '../../../src/expression/evaluation-error.ts'
import type { Expression } from '../../../src/expression/expression.ts'
import { NEXT, type Outcome } from '../../../src/phase/outcome.ts'
import { type PhaseCursor, runPhase } from '../../../src/phase/run-phase.ts'
import type { CompiledRule } from '../../../src/policy/policy.ts'
import { GatewayError } from '../../../src/response/gateway-error.ts'
import { errorAnswer } from '../../../src/response/problem.ts'

const CLOSE: Outcome = { kind: 'close', reason: 'denied:deny' }

/** What the runner tells the exchange, in order. */
function exchange(strict = false): { it: Exchange; told: string[] } {
  const told: string[] = []
  const it = {
    snapshot: { settings: { policy: { strict } } },
    running: (rule: CompiledRule, action: { type: string }) => void told.push(`${rule.name}/${action.type}`),
    ran: (outcome: Outcome) => void told.push(outcome.kind),
    expressionFailed: (rule: CompiledRule) => void told.push(`${rule.name} failed`),
  }
  return { it: it as unknown as Exchange, told }
}

function expression(result: boolean | (() => boolean)): Expression {
  return { test: () => (typeof result === 'boolean' ? result : result()) } as unknown as Expression
}

function rule(
  name: string,
  outcomes: readonly (Outcome | Promise<Outcome>)[],
  ...expressions: Expression[]
): CompiledRule {
  return { name, expressions, actions: outcomes.map((outcome, index) => ({ type: `a${index}`, run: () => outcome })) }
}

const start = (): PhaseCursor => ({ rule: 0, action: 0 })

describe('a phase in which nothing waits', () => {
  it('costs no promise, and ends with next when no rule ends it', () => {
    const { it, told } = exchange()
    const outcome = runPhase([rule('one', [NEXT, NEXT]), rule('two', [NEXT])], it, start())
    expect(outcome).not.toBeInstanceOf(Promise)
    expect(outcome).toBe(NEXT)
    expect(told).toEqual(['one/a0', 'next', 'one/a1', 'next', 'two/a0', 'next'])
  })

  it('§2.3: the rest of the rule and all later rules are skipped once it ends', () => {
    const { it, told } = exchange()
    expect(runPhase([rule('one', [NEXT, CLOSE, NEXT]), rule('two', [NEXT])], it, start())).toBe(CLOSE)
    expect(told).toEqual(['one/a0', 'next', 'one/a1', 'close'])
  })

  it('§2.2: all expressions of a rule must hold, the first that does not ends their evaluation', () => {
    const { it, told } = exchange()
    let asked = 0
    const counted = expression(() => {
      asked += 1
      return true
    })
    const rules = [
      rule('both', [NEXT], counted, counted),
      rule('neither', [CLOSE], counted, expression(false), counted),
      rule('none', [NEXT]),
    ]
    expect(runPhase(rules, it, start())).toBe(NEXT)
    expect(told).toEqual(['both/a0', 'next', 'none/a0', 'next'])
    expect(asked).toBe(3)
  })

  it('§2.1: expressions are evaluated when their rule is reached', () => {
    const { it } = exchange()
    let set = false
    const setting: CompiledRule = {
      name: 'sets',
      expressions: [],
      actions: [
        {
          type: 'set',
          run: () => {
            set = true
            return NEXT
          },
        },
      ],
    }
    expect(
      runPhase(
        [
          setting,
          rule(
            'reads',
            [CLOSE],
            expression(() => set),
          ),
        ],
        it,
        start(),
      ),
    ).toBe(CLOSE)
  })
})

describe('an action that waits', () => {
  it('gives a promise, and the phase goes on behind it where it stood', async () => {
    const { it, told } = exchange()
    const rules = [rule('one', [NEXT, Promise.resolve(NEXT), NEXT]), rule('two', [CLOSE])]
    const outcome = runPhase(rules, it, start())
    expect(outcome).toBeInstanceOf(Promise)
    expect(told).toEqual(['one/a0', 'next', 'one/a1'])
    expect(await outcome).toBe(CLOSE)
    expect(told).toEqual(['one/a0', 'next', 'one/a1', 'next', 'one/a2', 'next', 'two/a0', 'close'])
  })

  it('may end the phase, or fail it', async () => {
    const { it } = exchange()
    expect(await runPhase([rule('one', [Promise.resolve(CLOSE), NEXT])], it, start())).toBe(CLOSE)
    const failing = runPhase([rule('one', [Promise.reject(new GatewayError('WAF_FAILED'))])], it, start())
    await expect(failing).rejects.toThrow(GatewayError)
  })
})

describe('the cursor', () => {
  it('goes on with the next action of a rule without asking its expressions again', () => {
    const { it, told } = exchange()
    let asked = 0
    const once = expression(() => {
      asked += 1
      return asked === 1
    })
    const cursor = start()
    const rules = [rule('chain', [CLOSE, NEXT], once), rule('last', [NEXT])]
    expect(runPhase(rules, it, cursor)).toBe(CLOSE)
    expect(runPhase(rules, it, cursor)).toBe(NEXT)
    expect(told).toEqual(['chain/a0', 'close', 'chain/a1', 'next', 'last/a0', 'next'])
    expect(asked).toBe(1)
  })

  it('goes on with the next rule after the last action of one', () => {
    const { it, told } = exchange()
    const cursor = start()
    const rules = [rule('chain', [CLOSE]), rule('guarded', [NEXT], expression(false)), rule('last', [NEXT])]
    void runPhase(rules, it, cursor)
    expect(runPhase(rules, it, cursor)).toBe(NEXT)
    expect(told).toEqual(['chain/a0', 'close', 'last/a0', 'next'])
  })
})

describe('an expression that fails at run time (§2.2)', () => {
  const failing = expression(() => {
    throw new EvaluationError('no such key')
  })

  it('counts as false and leaves a trace', () => {
    const { it, told } = exchange()
    expect(runPhase([rule('one', [CLOSE], failing), rule('two', [NEXT])], it, start())).toBe(NEXT)
    expect(told).toEqual(['one failed', 'two/a0', 'next'])
  })

  it('ends the request with 500 in strict mode', () => {
    const { it, told } = exchange(true)
    expect(() => runPhase([rule('one', [CLOSE], failing)], it, start())).toThrow(
      expect.objectContaining({ code: 'EXPRESSION_FAILED' }),
    )
    expect(errorAnswer(new GatewayError('EXPRESSION_FAILED'), '', 'id').status).toBe(500)
    expect(told).toEqual(['one failed'])
  })
})
