import { describe, expect, test } from 'vitest'
import type { UpstreamFailureReason, UpstreamTarget } from '../../../src/listener/front-end.ts'
import { TargetGroup } from '../../../src/upstream/balancer.ts'

const target = (name: string): UpstreamTarget => ({
  name,
  protocol: 'http',
  host: name,
  port: 80,
  timers: { connectMs: 1, firstByteMs: 1, idleMs: 1, keepAliveMs: 1 },
  maxConnections: 1,
  maxQueued: 1,
})
const [a, b, c] = ['a', 'b', 'c'].map(target) as [UpstreamTarget, UpstreamTarget, UpstreamTarget]

function group(
  targets = [a, b, c],
  ejectAfter = 2,
): { group: TargetGroup; advance: (ms: number) => void; names: (count: number) => string } {
  let nowMs = 1_000
  const balancer = new TargetGroup(targets, { ejectAfter, ejectMs: 10_000, nowMs: () => nowMs })
  return {
    group: balancer,
    advance: (ms) => {
      nowMs += ms
    },
    names: (count) => Array.from({ length: count }, () => balancer.pick()?.name).join(''),
  }
}

const fail = (
  balancer: TargetGroup,
  which: UpstreamTarget,
  times: number,
  reason: UpstreamFailureReason = 'connect_failed',
): void => {
  for (let index = 0; index < times; index++) balancer.report(which, reason)
}

test('targets take turns', () => {
  expect(group().names(7)).toBe('abcabca')
})

test('one that was tried is not picked while there is another (H-71)', () => {
  const { group: balancer } = group()
  for (let index = 0; index < 6; index++) expect(balancer.pick([a])).not.toBe(a)
  expect(balancer.pick([a, b])).toBe(c)
  expect(balancer.pick([a, b, c])).toBeDefined()
  expect(new TargetGroup([a], { ejectAfter: 1, ejectMs: 1 }).pick([a])).toBe(a)
})

describe('passive ejection', () => {
  test('after so many failures in a row, for so long', () => {
    const { group: balancer, advance, names } = group()
    fail(balancer, b, 1)
    expect(names(3)).toBe('abc')
    fail(balancer, b, 1)
    expect(balancer.ejected).toEqual([b])
    expect(names(4)).toBe('acac')
    advance(9_999)
    expect(names(2)).toBe('ac')
    advance(1)
    expect(balancer.ejected).toEqual([])
    expect(names(3)).toContain('b')
  })

  test('a success between failures starts the row anew', () => {
    const { group: balancer } = group()
    fail(balancer, b, 1)
    balancer.report(b, undefined)
    fail(balancer, b, 1)
    expect(balancer.ejected).toEqual([])
  })

  test('one that comes back and fails again goes at once; one that answers is whole again', () => {
    const { group: balancer, advance } = group()
    fail(balancer, b, 2)
    advance(10_000)
    fail(balancer, b, 1)
    expect(balancer.ejected).toEqual([b])
    advance(10_000)
    balancer.report(b, undefined)
    fail(balancer, b, 1)
    expect(balancer.ejected).toEqual([])
  })

  test.each(['upstream_bad_response', 'overflow'] as const)('%s says nothing about health', (reason) => {
    const { group: balancer } = group()
    fail(balancer, b, 10, reason)
    expect(balancer.ejected).toEqual([])
  })

  test.each([
    'connect_failed',
    'connect_timeout',
    'tls_failed',
    'upstream_reset',
    'first_byte_timeout',
    'idle_timeout',
  ] as const)('%s counts', (reason) => {
    const { group: balancer } = group()
    fail(balancer, b, 2, reason)
    expect(balancer.ejected).toEqual([b])
  })

  test('T-37 when all are ejected all are used', () => {
    const { group: balancer, names } = group()
    for (const each of [a, b, c]) fail(balancer, each, 2)
    expect(names(6).split('').sort().join('')).toBe('aabbcc')
    expect(balancer.pick([a, b])).toBe(c)
  })

  test('a retry prefers an ejected target to the one that just failed', () => {
    const { group: balancer } = group([a, b])
    fail(balancer, b, 2)
    expect(balancer.pick([a])).toBe(b)
  })

  test('0 switches it off; unknown targets are ignored; an empty group has nobody', () => {
    const { group: balancer } = group([a, b], 0)
    fail(balancer, a, 100)
    balancer.report(c, 'connect_failed')
    expect(balancer.ejected).toEqual([])
    expect(new TargetGroup([], { ejectAfter: 1, ejectMs: 1 }).pick()).toBeUndefined()
  })
})
