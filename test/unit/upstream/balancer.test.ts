/** Which target a request gets, and which ones are left out; over a clock of the tests' own. */
import { describe, expect, test } from 'vitest'
import type { UpstreamFailureReason, UpstreamTarget } from '../../../src/listener/front-end.ts'
import { SharedBoard } from '../../../src/shared-state/board.ts'
import { type GroupOptions, type Member, TargetGroup } from '../../../src/upstream/balancer.ts'
import { TargetStates } from '../../../src/upstream/target-state.ts'

const target = (name: string, host = `10.0.0.${name.charCodeAt(0)}`): UpstreamTarget => ({
  name,
  protocol: 'http',
  host,
  port: 80,
  timers: { connectMs: 1, queueMs: 1, firstByteMs: 1, idleMs: 1, keepAliveMs: 1 },
  maxConnections: 1,
  maxQueued: 1,
})

interface Stage {
  readonly group: TargetGroup
  readonly states: TargetStates
  readonly advance: (ms: number) => void
  /** The names of so many picks. */
  readonly names: (count: number, key?: string) => string
  readonly member: (name: string) => Member
  readonly fail: (name: string, times: number, reason?: UpstreamFailureReason) => boolean
}

/** Targets written `abc`, or `a3b1` with weights. */
function stage(targets = 'abc', options: Partial<GroupOptions> = {}): Stage {
  let nowMs = 1_000_000
  const states = options.states ?? new TargetStates(SharedBoard.local({ nowMs: () => nowMs }))
  const configured = [...targets.matchAll(/([a-z])([0-9]*)/g)].map(([, name = '', weight]) => ({
    target: target(name),
    weight: weight === '' ? 1 : Number(weight),
  }))
  const group = new TargetGroup(configured, { endpoint: 'shop', ejectAfter: 2, ejectMs: 10_000, ...options, states })
  const member = (name: string): Member => group.members.find((it) => it.target.name === name)!
  return {
    group,
    states,
    advance: (ms) => {
      nowMs += ms
    },
    names: (count, key) => Array.from({ length: count }, () => group.pick([], key)?.target.name ?? '-').join(''),
    member,
    fail: (name, times, reason = 'connect_failed') => {
      let isOut = false
      for (let index = 0; index < times; index++) isOut = group.failed(member(name), reason, 1)
      return isOut
    },
  }
}

const counts = (names: string): Record<string, number> => {
  const found: Record<string, number> = {}
  for (const name of names) found[name] = (found[name] ?? 0) + 1
  return found
}

describe('round robin', () => {
  test('targets take turns', () => {
    expect('abcabcabc').toContain(stage().names(7))
  })

  test('weights: everybody gets its share, spread out and not in a row', () => {
    const names = stage('a3b1c1').names(500)
    expect(counts(names)).toEqual({ a: 300, b: 100, c: 100 })
    expect(names).not.toContain('aaa')
  })

  test('one that was tried is not picked while there is another (H-71)', () => {
    const { group, member } = stage()
    const [a, b, c] = ['a', 'b', 'c'].map(member) as [Member, Member, Member]
    for (let index = 0; index < 6; index++) expect(group.pick([a])).not.toBe(a)
    expect(group.pick([a, b])).toBe(c)
    expect(group.pick([a, b, c])).toBeDefined()
    const alone = stage('a')
    expect(alone.group.pick([alone.member('a')])).toBe(alone.member('a'))
  })
})

describe('least-request', () => {
  test('the less busy of two; the busiest of all gets nothing', () => {
    const { names, member, group } = stage('abc', { method: 'least-request' })
    for (let index = 0; index < 10; index++) group.began(member('b'))
    expect(counts(names(200))['b']).toBeUndefined()
    for (let index = 0; index < 10; index++) group.ended(member('b'))
    const found = counts(names(300))
    for (const name of 'abc') expect(found[name]).toBeGreaterThan(40)
  })

  test('weights count as so many places', () => {
    const { group, member } = stage('a3b1', { method: 'least-request' })
    for (let index = 0; index < 400; index++) group.began(group.pick()!)
    expect(member('a').inFlight / member('b').inFlight).toBeCloseTo(3, 0)
  })
})

describe('ewma', () => {
  test('the quicker of two, but a failing one is never the quickest', () => {
    const { group, member, names } = stage('abc', { method: 'ewma', ejectAfter: 0 })
    group.answered(member('a'), 100)
    group.answered(member('b'), 5)
    group.answered(member('c'), 5)
    expect(counts(names(200))['a']).toBeUndefined()
    group.failed(member('b'), 'connect_failed', 1)
    expect(counts(names(200))['b']).toBeUndefined()
  })
})

describe('hash', () => {
  const keys = Array.from({ length: 3000 }, (_, index) => `client-${index}`)
  const places = ({ group }: Stage): Map<string, string> =>
    new Map(keys.map((key) => [key, group.pick([], key)?.target.name ?? '-']))

  test('the same key, the same target, about evenly; in every process', () => {
    const first = places(stage('abcde', { method: 'hash' }))
    expect(places(stage('abcde', { method: 'hash' }))).toEqual(first)
    const found = counts([...first.values()].join(''))
    for (const name of 'abcde') expect(Math.abs((found[name] ?? 0) - 600)).toBeLessThan(120)
  })

  test('weights are shares of the keys', () => {
    const found = counts([...places(stage('a3b1', { method: 'hash' })).values()].join(''))
    expect((found['a'] ?? 0) / keys.length).toBeCloseTo(0.75, 1)
  })

  test('when a target goes only its own keys move, and they come back with it', () => {
    const it = stage('abcde', { method: 'hash' })
    const before = places(it)
    it.fail('c', 2)
    const without = places(it)
    for (const [key, name] of before) {
      if (name === 'c') expect(without.get(key)).not.toBe('c')
      else expect(without.get(key)).toBe(name)
    }
    it.group.answered(it.member('c'), 1)
    expect(places(it)).toEqual(before)
  })

  test('a request without the key goes to whoever is next', () => {
    expect(Object.keys(counts(stage('abc', { method: 'hash' }).names(30, ''))).toSorted()).toEqual(['a', 'b', 'c'])
  })
})

describe('passive ejection', () => {
  test('after so many failures in a row, for so long; it is told once', () => {
    const { group, advance, names, fail, member } = stage()
    expect(fail('b', 1)).toBe(false)
    expect(names(3).split('').toSorted().join('')).toBe('abc')
    expect(fail('b', 1)).toBe(true)
    expect(fail('b', 3)).toBe(false)
    expect(group.ejected).toEqual([member('b')])
    expect('acacac').toContain(names(4))
    advance(9_900)
    expect(names(4)).not.toContain('b')
    advance(100)
    expect(group.ejected).toEqual([])
    expect(names(3)).toContain('b')
  })

  test('a success between failures starts the row anew', () => {
    const { group, fail, member } = stage()
    fail('b', 1)
    expect(group.answered(member('b'), 1)).toBe(false)
    fail('b', 1)
    expect(group.ejected).toEqual([])
  })

  test('one that comes back and fails again goes at once; one that answers is whole again', () => {
    const { group, advance, fail, member } = stage()
    fail('b', 2)
    advance(10_000)
    fail('b', 1)
    expect(group.ejected).toEqual([member('b')])
    advance(10_000)
    expect(group.answered(member('b'), 1)).toBe(true)
    fail('b', 1)
    expect(group.ejected).toEqual([])
  })

  test.each(['upstream_bad_response', 'overflow'] as const)('%s says nothing about health', (reason) => {
    const { group, fail } = stage()
    fail('b', 10, reason)
    expect(group.ejected).toEqual([])
  })

  test.each([
    'connect_failed',
    'connect_timeout',
    'tls_failed',
    'upstream_reset',
    'first_byte_timeout',
    'idle_timeout',
  ] as const)('%s counts', (reason) => {
    const { group, fail, member } = stage()
    fail('b', 2, reason)
    expect(group.ejected).toEqual([member('b')])
  })

  test('T-37 when all are ejected all are used', () => {
    const { names, fail, group, member } = stage()
    for (const name of 'abc') fail(name, 2)
    expect(group.isPanicking).toBe(true)
    expect(counts(names(6))).toEqual({ a: 2, b: 2, c: 2 })
    expect(group.pick([member('a'), member('b')])).toBe(member('c'))
  })

  test('T-37 below the threshold all are used, above it they are not', () => {
    const { names, fail, group } = stage('abcd', { panicPercent: 50 })
    fail('a', 2)
    fail('b', 2)
    expect([group.isPanicking, names(8)]).toEqual([false, expect.not.stringMatching(/[ab]/)])
    fail('c', 2)
    expect(group.isPanicking).toBe(true)
    expect(counts(names(8))).toEqual({ a: 2, b: 2, c: 2, d: 2 })
  })

  test('a retry prefers an ejected target to the one that just failed', () => {
    const { group, fail, member } = stage('ab')
    fail('b', 2)
    expect(group.pick([member('a')])).toBe(member('b'))
  })

  test('0 switches it off', () => {
    const { group, fail } = stage('ab', { ejectAfter: 0 })
    fail('a', 100)
    expect(group.ejected).toEqual([])
  })

  test('what one process learns all know: the rows are shared', () => {
    const states = new TargetStates(SharedBoard.local())
    const one = stage('abc', { states })
    const other = stage('abc', { states })
    one.fail('b', 1)
    other.fail('b', 1)
    expect(one.names(9) + other.names(9)).not.toContain('b')
  })
})

describe('slow start', () => {
  test('a target that comes back gets a tenth first, then more and more', () => {
    const { states, advance, names, member } = stage('ab', { slowStartMs: 10_000 })
    advance(60_000)
    expect(counts(names(100))).toEqual({ a: 50, b: 50 })
    member('b').state.checked('failing', 'refused')
    expect(names(20)).toBe('a'.repeat(20))
    member('b').state.checked('passing', 200)
    const shares = [0, 5_000, 5_000].map((ms) => {
      advance(ms)
      return counts(names(1000))['b'] ?? 0
    })
    expect(shares[0]).toBeGreaterThan(60)
    expect(shares[0]).toBeLessThan(120)
    expect(shares[1]).toBeGreaterThan(280)
    expect(shares[1]).toBeLessThan(400)
    expect(shares[2]).toBe(500)
    expect(states).toBeDefined()
  })
})

describe('health checks', () => {
  test('a failing target is left out until it passes', () => {
    const { names, member } = stage()
    expect(member('b').state.checked('failing', 503)).toBe(true)
    expect(names(6)).not.toContain('b')
    expect(member('b').state.checked('failing', 'timeout')).toBe(false)
    expect(member('b').state.view(false)).toMatchObject({ state: 'failing', checkResult: 'timeout' })
    member('b').state.checked('passing', 200)
    expect(names(3)).toContain('b')
  })
})

describe('drain', () => {
  test('a drained target gets nothing new, not even when all others fail', () => {
    const { names, member, fail } = stage()
    expect(member('b').state.setDrained(true)).toBe(true)
    fail('a', 2)
    fail('c', 2)
    expect(names(6)).not.toContain('b')
    member('a').state.setDrained(true)
    member('c').state.setDrained(true)
    expect(names(1)).toBe('-')
    member('b').state.setDrained(false)
    expect(names(2)).toBe('bb')
  })

  test('the only target', () => {
    const { names, member } = stage('a')
    member('a').state.setDrained(true)
    expect(names(1)).toBe('-')
  })
})

describe('names with several addresses', () => {
  const named = (
    known: () => readonly string[] | undefined,
    version: () => number,
  ): { group: TargetGroup; states: TargetStates } => {
    const states = new TargetStates(SharedBoard.local())
    const addresses = {
      known,
      get version() {
        return version()
      },
    }
    const configured = [{ target: target('shop:80', 'shop.example'), weight: 1 }]
    return {
      states,
      group: new TargetGroup(configured, { endpoint: 'shop', ejectAfter: 1, ejectMs: 1000, states, addresses }),
    }
  }

  test('F-09 each address is a target; when they change the old ones are not chosen any more', () => {
    let version = 0
    let known: readonly string[] | undefined
    const { group } = named(
      () => known,
      () => version,
    )
    expect(group.pick()?.target.addresses).toBeUndefined()
    known = ['10.1.0.1', '10.1.0.2']
    version++
    const picked = [group.pick(), group.pick(), group.pick()].map((member) => member?.target.addresses?.[0])
    expect(new Set(picked)).toEqual(new Set(known))
    const stays = group.members.find(({ address }) => address === '10.1.0.2')
    known = ['10.1.0.2', '10.1.0.3']
    version++
    expect(group.members.map(({ address }) => address)).toEqual(known)
    expect(group.members[0]).toBe(stays)
    group.failed(group.members[0]!, 'connect_failed', 1)
    expect([group.pick()?.address, group.pick()?.address]).toEqual(['10.1.0.3', '10.1.0.3'])
  })

  test('a machine with an IPv6 and an IPv4 address is one target, tried over both', () => {
    const { group } = named(
      () => ['::1', '127.0.0.1'],
      () => 1,
    )
    expect(group.members.map(({ target: { addresses } }) => addresses)).toEqual([['::1', '127.0.0.1']])
  })

  test('a drained name drains all its addresses', () => {
    const { group, states } = named(
      () => ['10.1.0.1', '10.1.0.2'],
      () => 1,
    )
    states.obtain('shop', 'shop:80').setDrained(true)
    expect(group.pick()).toBeUndefined()
  })
})

describe('the retry budget (H-72)', () => {
  test('a fifth of the requests, at least three a second, over all processes', () => {
    let nowMs = 1_000_000
    const states = new TargetStates(SharedBoard.local({ nowMs: () => nowMs }))
    const { group } = stage('ab', { states })
    const { group: elsewhere } = stage('ab', { states })
    const taken = (): number => {
      let count = 0
      while (count < 1000 && (count % 2 === 0 ? group : elsewhere).budget.take()) count++
      return count
    }
    expect(taken()).toBe(3)
    nowMs += 1000
    for (let index = 0; index < 100; index++) (index % 2 === 0 ? group : elsewhere).budget.requested()
    expect(taken()).toBe(20)
    nowMs += 1000
    expect(taken(), 'a new second counts the requests of the one before').toBe(20)
    nowMs += 5000
    expect(taken()).toBe(3)
  })
})

describe('a choice that lasts', () => {
  test('is the only target, until the board says otherwise', () => {
    const { group, states, member } = stage('ab')
    expect(group.lasting()).toBeUndefined()
    member('a').state.setDrained(true)
    const choice = group.lasting()!
    expect(choice.member.target.name).toBe('b')
    expect(choice.restsOn.word[0]).toBe(choice.restsOn.version)
    member('a').state.setDrained(false)
    expect(choice.restsOn.word[0]).not.toBe(choice.restsOn.version)
    expect(states.board.version).toBe(choice.restsOn.word[0])
    expect(group.lasting()).toBeUndefined()
  })

  test('is none while a target is left out for a time, starts slowly, or is drained', () => {
    const { group, fail, advance, member } = stage('ab', { slowStartMs: 0 })
    fail('a', 2)
    expect(group.lasting()).toBeUndefined()
    advance(20_000)
    member('b').state.setDrained(true)
    expect(group.lasting()?.member.target.name).toBe('a')
    member('a').state.setDrained(true)
    expect(group.lasting()).toBeUndefined()
    const slow = stage('a', { slowStartMs: 5_000 })
    expect(slow.group.lasting()).toBeUndefined()
    slow.advance(6_000)
    expect(slow.group.lasting()?.member.target.name).toBe('a')
  })

  test('F-09: of a name, once its address is known and as long as it is the only one', () => {
    const known = new Map<string, string[]>()
    const addresses = { version: 0, known: (name: string) => known.get(name) }
    const states = new TargetStates(SharedBoard.local())
    const configured = [{ target: target('n', 'shop.test'), weight: 1 }]
    const group = new TargetGroup(configured, { endpoint: 'shop', ejectAfter: 2, ejectMs: 1, states, addresses })
    const learn = (...found: string[]): string | undefined => {
      known.set('shop.test', found)
      addresses.version++
      return group.lasting()?.member.address
    }
    expect(group.lasting()).toBeUndefined()
    expect(learn('10.0.0.1')).toBe('10.0.0.1')
    expect(learn('10.0.0.2')).toBe('10.0.0.2')
    expect(learn('10.0.0.1', '10.0.0.2')).toBeUndefined()
  })
})
