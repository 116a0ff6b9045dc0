/** O-76: 5 failures in 1 s stop the calls. */
import { describe, expect, it } from 'vitest'
import { Breaker } from '../../../src/rate-limit/breaker.ts'

describe('Breaker', () => {
  it('opens at the fifth failure within a second, and says so once', () => {
    const breaker = new Breaker(false)
    expect([0, 250, 500, 750, 1000, 1000].map((nowMs) => breaker.fail(nowMs))).toEqual([
      false,
      false,
      false,
      false,
      true,
      false,
    ])
    expect(breaker.isOpen).toBe(true)
  })

  it('stays closed when five failures take longer', () => {
    const breaker = new Breaker(false)
    for (let nowMs = 0; nowMs < 100_000; nowMs += 251) expect(breaker.fail(nowMs)).toBe(false)
    expect(breaker.isOpen).toBe(false)
    // A burst at the end counts with the failures of the last second only.
    expect([0, 1, 2, 3, 4].map((afterMs) => breaker.fail(200_000 + afterMs))).toEqual([
      false,
      false,
      false,
      false,
      true,
    ])
  })

  it('closes once, and forgets what was', () => {
    const breaker = new Breaker(true)
    expect(breaker.isOpen).toBe(true)
    expect(breaker.close()).toBe(true)
    expect(breaker.close()).toBe(false)
    expect([0, 0, 0, 0].map((nowMs) => breaker.fail(nowMs))).toEqual([false, false, false, false])
    breaker.close()
    expect(breaker.fail(0)).toBe(false)
  })
})
