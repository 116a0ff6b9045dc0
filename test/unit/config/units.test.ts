/** Durations, sizes and the nearest word. */
import { describe, expect, it } from 'vitest'
import { editDistance, nearest } from '../../../src/config/spelling.ts'
import {
  BYTE_SIZE_PATTERN,
  DURATION_PATTERN,
  formatByteSize,
  formatDurationMs,
  parseByteSize,
  parseDurationMs,
} from '../../../src/config/units.ts'

describe('durations (the full Go grammar)', () => {
  it.each([
    ['0', 0],
    ['10s', 10_000],
    ['1h30m', 5_400_000],
    ['1.5s', 1500],
    ['.5s', 500],
    ['5.s', 5000],
    ['500us', 0.5],
    ['500µs', 0.5],
    ['1h1m1s1ms', 3_661_001],
    ['-3s', -3000],
    ['+3s', 3000],
    ['2562047h', 9_223_369_200_000],
  ])('%s is %d ms', (text, ms) => {
    expect(parseDurationMs(text)).toBeCloseTo(ms, 6)
    expect(text).toMatch(new RegExp(DURATION_PATTERN))
  })

  it.each(['', '10', '1d', '1w', 's', '.s', '1 s', '1s ', '1S', '--1s', '1,5s', '9999999999h'])(
    '%j is none',
    (text) => {
      expect(parseDurationMs(text)).toBeUndefined()
    },
  )

  it('writes the largest unit that divides', () => {
    expect([0, 90_000, 3_600_000, 1500, 0.5].map(formatDurationMs)).toEqual(['0s', '90s', '1h', '1500ms', '500us'])
  })
})

describe('sizes', () => {
  it.each([
    ['0', 0],
    ['512', 512],
    ['512B', 512],
    ['64KiB', 65_536],
    ['10 MiB', 10_485_760],
    ['2GiB', 2_147_483_648],
  ])('%s is %d bytes', (text, bytes) => {
    expect(parseByteSize(text)).toBe(bytes)
    expect(text).toMatch(new RegExp(BYTE_SIZE_PATTERN))
  })

  it.each(['', '1K', '1KB', '1kib', '-1', '1.5MiB', '9999999999GiB'])('%j is none', (text) => {
    expect(parseByteSize(text)).toBeUndefined()
  })

  it('writes them back', () => {
    expect([0, 100, 65_536, 10_485_760].map(formatByteSize)).toEqual(['0', '100B', '64KiB', '10MiB'])
  })
})

describe('spelling', () => {
  it('counts a swap of neighbours as one', () => {
    expect(editDistance('workres', 'workers')).toBe(1)
    expect(editDistance('kitten', 'sitting')).toBe(3)
    expect(editDistance('', 'abc')).toBe(3)
    expect(editDistance('a'.repeat(65), 'a')).toBe(Infinity)
  })

  it('finds the nearest within 2, whatever the case', () => {
    expect(nearest('Workers', ['workers'])).toBe('workers')
    expect(nearest('wokers', ['workers', 'woke'])).toBe('workers')
    expect(nearest('poolingEnabled', ['pooling_enabled'])).toBe('pooling_enabled')
    expect(nearest('banana', ['workers'])).toBeUndefined()
    expect(nearest('ab', ['cd'])).toBeUndefined()
  })
})
