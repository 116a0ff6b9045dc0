/** The circuit breaker's state machine over a clock of the test's own (§5.3). */
import { describe, expect, it } from 'vitest'
import { ROW_LONG_WORDS, SharedBoard } from '../../../src/shared-state/board.ts'
import { Circuit, type CircuitDecision, Circuits, type CircuitSettings } from '../../../src/circuit/circuit.ts'

const SETTINGS: CircuitSettings = { errorThreshold: 0.5, volumeThreshold: 4, windowMs: 10_000, trippedMs: 3000 }

class Bench {
  nowMs = 1_000_000
  readonly circuit: Circuit

  constructor(changes: Partial<CircuitSettings> = {}) {
    this.circuit = new Circuit({ ...SETTINGS, ...changes }, () => this.nowMs)
  }

  /** One request for each letter: o = good answer, x = failure, - = never asked the upstream. */
  run(letters: string): CircuitDecision[] {
    return [...letters].map((letter) => {
      const decision = this.circuit.ask()
      if (decision !== 'block') this.circuit.settle(decision, letter === '-' ? undefined : letter === 'x')
      return decision
    })
  }
}

describe('a circuit', () => {
  it.each([
    ['stays closed below the volume', 'xxx', 'allow'],
    ['opens when volume and share are reached', 'oxox', 'block'],
    ['stays closed below the share', 'ooxox', 'allow'],
    ['counts what never asked the upstream as nothing', 'xxx-----', 'allow'],
  ])('%s', (_, letters, next) => {
    const bench = new Bench()
    expect(new Set(bench.run(letters))).toEqual(new Set(['allow']))
    expect(bench.circuit.ask()).toBe(next)
  })

  it('with threshold 0 and volume 1 refuses the second request, whatever came of the first', () => {
    expect(new Bench({ errorThreshold: 0, volumeThreshold: 1 }).run('oo')).toEqual(['allow', 'block'])
  })

  it('forgets what has left the window, bucket by bucket', () => {
    const bench = new Bench()
    bench.run('xxx')
    bench.nowMs += 9000
    bench.run('o')
    // three failures of four are in the window: it opened with the fourth
    expect(bench.circuit.ask()).toBe('block')

    const later = new Bench()
    later.run('xxx')
    later.nowMs += 10_000
    expect(later.run('o')).toEqual(['allow'])
    expect(later.circuit.ask()).toBe('allow')
  })

  it('opens when successes leave the window and the rest is too bad', () => {
    const bench = new Bench({ volumeThreshold: 2 })
    bench.run('oooo')
    bench.nowMs += 5000
    bench.run('xxx')
    expect(bench.circuit.isOpen).toBe(false)
    bench.nowMs += 5000
    expect(bench.circuit.ask()).toBe('block')
  })

  it('lets one trial through after the pause; success closes and forgets', () => {
    const bench = new Bench()
    bench.run('xxxx')
    bench.nowMs += 2999
    expect(bench.circuit.ask()).toBe('block')
    expect(bench.circuit.isRefusing).toBe(true)
    bench.nowMs += 1
    expect([bench.circuit.isOpen, bench.circuit.isRefusing]).toEqual([true, false])
    expect(bench.circuit.ask()).toBe('allow_while_open')
    expect(bench.circuit.isRefusing).toBe(true)
    expect(bench.circuit.ask()).toBe('block')
    bench.circuit.settle('allow_while_open', false)
    expect(bench.run('xxx')).toEqual(['allow', 'allow', 'allow'])
    expect(bench.circuit.isOpen).toBe(false)
  })

  it('a failed trial opens it for another pause', () => {
    const bench = new Bench()
    bench.run('xxxx')
    bench.nowMs += 3000
    expect(bench.run('x')).toEqual(['allow_while_open'])
    bench.nowMs += 2999
    expect(bench.circuit.ask()).toBe('block')
    bench.nowMs += 1
    expect(bench.circuit.ask()).toBe('allow_while_open')
  })

  it('a trial that never reached the upstream makes the next request the trial', () => {
    const bench = new Bench()
    bench.run('xxxx')
    bench.nowMs += 3000
    expect(bench.run('-o')).toEqual(['allow_while_open', 'allow_while_open'])
    expect(bench.circuit.isOpen).toBe(false)
  })

  it('answers that were under way when it opened change nothing', () => {
    const bench = new Bench()
    const early = bench.circuit.ask()
    bench.run('xxxx')
    if (early !== 'block') bench.circuit.settle(early, false)
    expect(bench.circuit.isOpen).toBe(true)
  })
})

describe('one circuit in several processes (a row that they share)', () => {
  const shared = (
    changes: Partial<CircuitSettings> = {},
  ): { one: Circuit; other: Circuit; pass: (ms: number) => void } => {
    let nowMs = 1_000_000
    const row = { longs: new BigInt64Array(ROW_LONG_WORDS) }
    const [one, other] = [1, 2].map(() => new Circuit({ ...SETTINGS, ...changes }, () => nowMs, row)) as [
      Circuit,
      Circuit,
    ]
    return {
      one,
      other,
      pass: (ms) => {
        nowMs += ms
      },
    }
  }

  it('§5.3 counts together: neither alone has the volume', () => {
    const { one, other } = shared()
    for (const circuit of [one, other, one, other]) {
      expect(circuit.ask()).toBe('allow')
      circuit.settle('allow', true)
    }
    expect([one.ask(), other.ask()]).toEqual(['block', 'block'])
    expect([one.isMine, other.isMine]).toEqual([false, true])
  })

  it('makes one trial, whoever asks first', () => {
    const { one, other, pass } = shared({ volumeThreshold: 1 })
    one.settle('allow', true)
    pass(3000)
    expect([other.ask(), one.ask()]).toEqual(['allow_while_open', 'block'])
    other.settle('allow_while_open', false)
    expect([one.ask(), other.ask()]).toEqual(['allow', 'allow'])
  })

  it('O-28 a trial whose process died is made again after another pause', () => {
    const { one, other, pass } = shared({ volumeThreshold: 1 })
    one.settle('allow', true)
    pass(3000)
    expect(one.ask()).toBe('allow_while_open')
    pass(2999)
    expect(other.ask()).toBe('block')
    pass(1)
    expect(other.ask()).toBe('allow_while_open')
  })
})

describe('circuits', () => {
  it('O-26: one for each name and settings, the same again after a reload', () => {
    const circuits = new Circuits()
    const first = circuits.obtain('a', SETTINGS)
    expect(circuits.obtain('a', { ...SETTINGS })).toBe(first)
    expect(circuits.obtain('b', SETTINGS)).not.toBe(first)
    expect(circuits.obtain('a', { ...SETTINGS, trippedMs: 4000 })).not.toBe(first)
  })

  it('are bounded: the one asked for longest ago goes', () => {
    const circuits = new Circuits(2, () => SharedBoard.local())
    const [a, b] = [circuits.obtain('a', SETTINGS), circuits.obtain('b', SETTINGS)]
    circuits.obtain('a', SETTINGS)
    circuits.obtain('c', SETTINGS)
    expect(circuits.size).toBe(2)
    expect(circuits.obtain('a', SETTINGS)).toBe(a)
    expect(circuits.obtain('b', SETTINGS)).not.toBe(b)
  })
})
