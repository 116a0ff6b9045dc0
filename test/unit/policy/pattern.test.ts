/** Regular expressions of policies: RE2 readings, Go replacement syntax, a bounded cache (traffic-policy.md §5.17). */
import { describe, expect, it } from 'vitest'
import { dynamicPattern, literalPattern, PatternError, replaceAll } from '../../../src/policy/pattern.ts'
import { expectLinear } from '../../support/linear-work.ts'

describe('replaceAll', () => {
  it.each([
    ['a+', 'baab', '-', 'b-b', ['aa']],
    ['(b)(c)?', 'abab', '[$1$2]', 'a[b]a[b]', ['b', 'b']],
    ['(?P<x>a)', 'aa', '$x!', '!!'.replaceAll('!', 'a!'), ['a', 'a']],
    ['(a)', 'a', '$1x', '', ['a']],
    ['(a)', 'a', '$$1', '$1', ['a']],
    ['(?i)SHOP', 'Shop', 'x', 'x', ['Shop']],
    ['é', 'café', 'e', 'cafe', ['é']],
  ])('%s in %j by %j gives %j', (pattern, text, replacement, result, matches) => {
    expect(replaceAll(literalPattern(pattern), text, replacement)).toEqual({ text: result, matches })
  })

  it('null when nothing matches, and no more than 32 matches are listed', () => {
    expect(replaceAll(literalPattern('x'), 'abc', 'y')).toBeNull()
    const replaced = replaceAll(literalPattern('a'), 'a'.repeat(100), 'b')
    expect(replaced?.text).toBe('b'.repeat(100))
    expect(replaced?.matches).toHaveLength(32)
  })

  it('takes linear time where back-tracking would not', () => {
    const pattern = literalPattern('^(a+)+$')
    expectLinear(
      (times) => `${'a'.repeat(10_000 * times)}b`,
      (text) => expect(replaceAll(pattern, text, 'x')).toBeNull(),
    )
  })
})

describe('patterns known at run time only', () => {
  it('are kept compiled, also beyond the bound of the cache', () => {
    expect(dynamicPattern('kept')).toBe(dynamicPattern('kept'))
    for (let index = 0; index < 300; index++) dynamicPattern(`p${index}`)
    expect(replaceAll(dynamicPattern('kept'), 'kept', 'x')?.text).toBe('x')
    expect(replaceAll(dynamicPattern('p7'), 'p7', 'x')?.text).toBe('x')
  })

  it.each(['(', 'a(?=b)', '(a)\\1', '[z-a]', 'a{1001}'])('%s is refused with the reason', (pattern) => {
    expect(() => dynamicPattern(pattern)).toThrow(PatternError)
    expect(() => literalPattern(pattern)).toThrow(/.{5}/)
  })
})
