import { describe, expect, it } from 'vitest'
import { isJsonObject, MAX_JSON_DEPTH, parseStrictJson } from '../../../src/jwt/strict-json.ts'

const nested = (levels: number): string => `${'['.repeat(levels)}${']'.repeat(levels)}`

describe('strict JSON (T-53)', () => {
  it.each([
    ['{}', {}],
    ['{"a":{"b":[1,{"c":null}]},"d":"x:y"}', { a: { b: [1, { c: null }] }, d: 'x:y' }],
    ['{"a:b":"\\"{[:","c":"\\\\"}', { 'a:b': '"{[:', c: '\\' }],
    [' [ 1 , 2 ] ', [1, 2]],
    ['"text"', 'text'],
    ['1e400', Infinity],
  ])('reads %s', (text, value) => {
    expect(parseStrictJson(text)).toEqual({ ok: true, value })
  })

  it.each([
    ['{"a":1,"a":1}', 'a member occurs twice'],
    ['{"a":1,"\\u0061":2}', 'a member occurs twice'],
    ['{"a":{"b":1,"b":2}}', 'a member occurs twice'],
    ['[{"x":1},{"y":1,"y":[]}]', 'a member occurs twice'],
    ['{"__proto__":1,"__proto__":2}', 'a member occurs twice'],
    [nested(MAX_JSON_DEPTH + 1), 'the JSON is nested too deep'],
    [nested(100_000), 'the JSON is nested too deep'],
    ['{"a":1}x', 'not JSON'],
    ['{"a":1', 'not JSON'],
    ["{'a':1}", 'not JSON'],
    ['\ufeff{}', 'not JSON'],
    ['', 'not JSON'],
    ['NaN', 'not JSON'],
  ])('refuses %.40s', (text, reason) => {
    expect(parseStrictJson(text)).toEqual({ ok: false, reason })
  })

  it('reads as deep as it says', () => {
    expect(parseStrictJson(nested(MAX_JSON_DEPTH)).ok).toBe(true)
    expect(parseStrictJson(nested(3), 2).ok).toBe(false)
  })

  it('makes no object inherit from a member', () => {
    const parsed = parseStrictJson('{"__proto__":{"admin":true}}')
    expect(parsed.ok && (parsed.value as { admin?: boolean }).admin).toBeUndefined()
  })

  it('tells objects from what looks like them', () => {
    expect([{}, { a: 1 }].every((value) => isJsonObject(value))).toBe(true)
    expect([null, [], 'x', 1, true, undefined].some((value) => isJsonObject(value))).toBe(false)
  })
})
