/** Every combinator of the schema kit: what it accepts, what it refuses and with which words, and its JSON Schema. */
import { describe, expect, it } from 'vitest'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import * as kit from '../../../src/config/schema-kit.ts'
import { check, nodeOf } from './memory-files.ts'

const { INVALID, policyKit } = kit

describe('object', () => {
  const schema = kit.object({
    name: kit.string(),
    count: kit.withDefault(kit.integer({ min: 1 }), 3),
    note: kit.optional(kit.string()),
  })

  it('fills defaults and leaves optional keys undefined', () => {
    expect(check(schema, 'name: a')).toEqual({ value: { name: 'a', count: 3, note: undefined }, errors: [] })
  })

  it('takes an empty value as not given', () => {
    expect(check(schema, 'name: a\ncount:\nnote: ~').value).toEqual({ name: 'a', count: 3, note: undefined })
  })

  it('reports every error, not the first', () => {
    const { value, errors } = check(schema, 'count: 0\nnote: [1]\nnmae: x')
    expect(value).toBe(INVALID)
    expect(errors).toEqual([
      '3:1 UNKNOWN_KEY unknown key nmae in it (did you mean name?)',
      '1:1 MISSING_KEY missing key name in it',
      '1:8 OUT_OF_RANGE count must be at least 1, not 0',
      '2:7 WRONG_TYPE note must be a text, not a list',
    ])
  })

  it('O-03: suggests keys within a distance of 2, and spellings in another case', () => {
    const settings = kit.object({ status_code: kit.optional(kit.integer()), body: kit.optional(kit.string()) })
    expect(check(settings, 'statusCode: 1').errors).toEqual([
      '1:1 UNKNOWN_KEY unknown key statusCode in it (did you mean status_code?)',
    ])
    expect(check(settings, 'bdoy: 1').errors[0]).toContain('did you mean body?')
    expect(check(settings, 'colour: 1').errors[0]).toContain('known keys are status_code, body')
  })

  it('says what to do about keys that belong elsewhere', () => {
    const hinted = kit.object({ url: kit.optional(kit.string()) }, { hints: { addr: 'this is url now' } })
    expect(check(hinted, 'addr: x').errors).toEqual(['1:1 UNKNOWN_KEY unknown key addr in it (this is url now)'])
  })

  it('accepts aliases, but not both spellings at once', () => {
    const aliased = kit.object({ body: kit.string() }, { aliases: { content: 'body' }, twiceCode: 'TWICE' })
    expect(check(aliased, 'content: x').value).toEqual({ body: 'x' })
    expect(check(aliased, 'content: x\nbody: y').errors).toEqual([
      '2:1 TWICE content and body mean the same; give one of them',
    ])
  })

  it('allowNull makes an empty value an empty mapping; otherwise it is refused', () => {
    const nullable = kit.object({ a: kit.withDefault(kit.boolean(), true) }, { allowNull: true })
    expect(check(kit.object({ it: nullable }), 'it:').value).toEqual({ it: { a: true } })
    expect(check(kit.object({ it: kit.object({}) }), 'it:').errors).toEqual(['1:1 MISSING_KEY it has no value'])
  })

  it('open passes over keys of others', () => {
    expect(check(kit.object({ a: kit.integer() }, { open: true }), 'a: 1\nb: 2').value).toEqual({ a: 1 })
  })

  it('uses the code it is given for unknown keys and other types', () => {
    const coded = policyKit.object({ a: policyKit.integer() }, { code: 'ERR_NGROK_2203' })
    expect(check(coded, '[1]').errors).toEqual(['1:1 ERR_NGROK_2203 it must be a mapping, not a list'])
    expect(check(coded, 'a: 1\nzebra: 2').errors[0]).toContain('2:1 ERR_NGROK_2203 unknown key zebra')
  })

  it('never takes a key from the prototype', () => {
    expect(check(schema, 'name: a\nconstructor: 1').errors[0]).toContain('unknown key constructor')
    expect(check(schema, 'name: a\n__proto__: {x: 1}').errors[0]).toContain('unknown key __proto__')
  })

  it('parseParts keeps what is right beside what is wrong', () => {
    const diagnostics = new Diagnostics()
    const parts = schema.parseParts(nodeOf('name: [1]\ncount: 9\nnote: n'), diagnostics)
    expect(parts).toEqual({ value: { name: undefined, count: 9, note: 'n' }, valid: false })
    expect(diagnostics.all).toHaveLength(1)
  })

  it('writes a JSON Schema with required keys, defaults, meanings and aliases', () => {
    const documented = kit.object(
      {
        rate: kit.described(kit.withDefault(kit.durationMs(), 90_000), 'How long.'),
        size: kit.withDefault(kit.byteSize(), 65_536),
        body: kit.string(),
        kind: kit.enumeration(['a', 'b']),
      },
      { aliases: { content: 'body' } },
    )
    expect(documented.jsonSchema()).toMatchObject({
      type: 'object',
      required: ['kind'],
      additionalProperties: false,
      properties: {
        rate: { type: 'string', default: '90s', description: 'How long.' },
        size: { default: '64KiB' },
        content: { deprecated: true },
        kind: { enum: ['a', 'b'] },
      },
    })
  })
})

describe('presence', () => {
  it('section gives every default of a missing mapping', () => {
    const inner = kit.object({ a: kit.withDefault(kit.integer(), 1), b: kit.optional(kit.string()) })
    expect(check(kit.object({ s: kit.section(inner) }), '{}').value).toEqual({ s: { a: 1, b: undefined } })
  })

  it('section refuses, while programming, a mapping that needs keys', () => {
    const schema = kit.object({ s: kit.section(kit.object({ a: kit.integer() })) })
    expect(() => check(schema, '{}')).toThrow(/must be valid.*missing key a/)
  })

  it('required names a missing key; a bare schema means the same', () => {
    expect(check(kit.object({ a: kit.required(kit.integer()) }), '{}').errors).toEqual(
      check(kit.object({ a: kit.integer() }), '{}').errors,
    )
  })

  it('located keeps the place, locatedDefault has one for missing keys', () => {
    const schema = kit.object({ a: kit.locatedDefault(kit.integer(), 7) })
    const given = check(schema, 'a: 5').value as { a: kit.Located<number> }
    expect([given.a.value, given.a.span.start]).toEqual([5, 3])
    expect(check(schema, '{}').value).toMatchObject({ a: { value: 7 } })
    expect(schema.jsonSchema()).toMatchObject({ properties: { a: { default: 7 } } })
  })

  it('transform changes a value or refuses it', () => {
    const even = kit.transform(kit.integer(), (value, { node, diagnostics, label }) => {
      if (value % 2 === 0) return value / 2
      diagnostics.error('ODD', `${label} is odd`, node.span)
      return INVALID
    })
    expect(check(even, '8').value).toBe(4)
    expect(check(even, '7')).toEqual({ value: INVALID, errors: ['1:1 ODD it is odd'] })
    expect(even.jsonSchema()).toEqual({ type: 'integer' })
  })

  it('deferred keeps the node and the schema of what it stands for', () => {
    const schema = kit.deferred(kit.object({ a: kit.integer() }))
    expect(check(schema, 'nonsense: 1').value).toMatchObject({ kind: 'map' })
    expect(schema.jsonSchema()).toMatchObject({ properties: { a: { type: 'integer' } } })
  })
})

describe('string', () => {
  it('traffic-policy.md §1.4: takes other scalars as written', () => {
    for (const [text, value] of [
      ['true', 'true'],
      ['1.30', '1.30'],
      ['0x1F', '0x1F'],
      ['"q"', 'q'],
    ]) {
      expect(check(kit.string(), text!).value).toBe(value)
    }
  })

  it('refuses null, lists and mappings', () => {
    expect(check(kit.object({ s: kit.string() }), 's: {a: 1}').errors).toEqual([
      '1:4 WRONG_TYPE s must be a text, not a mapping',
    ])
    expect(check(kit.list(kit.string()), '[~]').errors).toEqual(['1:2 WRONG_TYPE it[0] must be a text, not empty'])
  })

  it('checks length and pattern', () => {
    const schema = kit.string({ minLength: 2, maxLength: 4, pattern: /^[a-z]+$/ })
    expect(check(schema, 'abc').errors).toEqual([])
    expect(check(schema, 'a').errors).toEqual(['1:1 TOO_SHORT it must have at least 2 characters'])
    expect(check(schema, 'abcde').errors).toEqual(['1:1 TOO_LONG it must have at most 4 characters, not 5'])
    expect(check(schema, '"A1"').errors).toEqual(['1:1 INVALID_VALUE it must match ^[a-z]+$, not "A1"'])
    expect(check(kit.string({ minLength: 1 }), '""').errors).toEqual(['1:1 EMPTY it must not be empty'])
  })

  it('a global pattern does not remember where it stopped', () => {
    const schema = kit.string({ pattern: /a/g })
    expect([check(schema, 'a').errors, check(schema, 'a').errors]).toEqual([[], []])
  })

  it('shortens long texts in messages', () => {
    const error = check(kit.string({ pattern: /^$/, must: 'must be short' }), 'x'.repeat(500)).errors[0]
    expect(error).toMatch(/^1:1 INVALID_VALUE it must be short, not "x{57}\.\.\."$/)
  })
})

describe('integer and number', () => {
  it('accepts whole numbers in every notation', () => {
    expect(['12', '+12', '0xc', '0o14'].map((text) => check(kit.integer(), text).value)).toEqual([12, 12, 12, 12])
  })

  it.each([
    ['"12"', 'WRONG_TYPE it must be a whole number, not "12" (write the number without quotes)'],
    ['1.5', 'WRONG_TYPE it must be a whole number, not 1.5'],
    ['many', 'WRONG_TYPE it must be a whole number, not "many"'],
    ['99999999999999999999', 'WRONG_TYPE it must be a whole number, not 99999999999999999999'],
    ['.inf', 'WRONG_TYPE it must be a whole number, not .inf'],
  ])('refuses %s', (text, error) => {
    expect(check(kit.integer(), text).errors).toEqual([`1:1 ${error}`])
  })

  it('names the range it wants', () => {
    expect(check(kit.integer({ min: 1, max: 4 }), '9').errors).toEqual(['1:1 OUT_OF_RANGE it must be 1 to 4, not 9'])
    expect(check(kit.integer({ max: 4 }), '9').errors).toEqual(['1:1 OUT_OF_RANGE it must be at most 4, not 9'])
    expect(check(kit.number({ min: 0, max: 1 }), '1.5').errors).toEqual(['1:1 OUT_OF_RANGE it must be 0 to 1, not 1.5'])
    expect(check(kit.number(), '0.25').value).toBe(0.25)
    expect(check(kit.number(), '.nan').errors).toHaveLength(1)
  })
})

describe('boolean and enumeration', () => {
  it('boolean: YAML 1.2 has only true and false, and the hint says which', () => {
    expect(check(kit.boolean(), 'true').value).toBe(true)
    expect(check(kit.boolean(), 'yes').errors).toEqual([
      '1:1 WRONG_TYPE it must be true or false, not "yes" (write true, in lower case and without quotes)',
    ])
    expect(check(kit.boolean(), '"false"').errors[0]).toContain('(write false')
    expect(check(kit.boolean(), '1').errors).toEqual(['1:1 WRONG_TYPE it must be true or false, not 1'])
  })

  it('enumeration of words suggests the nearest', () => {
    const schema = kit.enumeration(['local', 'open', 'closed'])
    expect(check(schema, 'open').value).toBe('open')
    expect(check(schema, 'lokal').errors).toEqual([
      '1:1 NOT_ONE_OF it must be one of local, open, closed, not "lokal" (did you mean local?)',
    ])
    expect(check(policyKit.enumeration(['a']), 'zzz').errors).toEqual([
      '1:1 ERR_NGROK_2222 it must be one of a, not "zzz"',
    ])
  })

  it('enumeration of numbers compares numbers', () => {
    const schema = kit.enumeration([301, 302])
    expect(check(schema, '302').value).toBe(302)
    expect(check(schema, '303').errors).toHaveLength(1)
  })

  it('an unquoted 1.3 is the word 1.3', () => {
    expect(check(kit.enumeration(['1.2', '1.3']), '1.3').value).toBe('1.3')
  })
})

describe('durationMs and byteSize', () => {
  it('durationMs: Go durations within a range', () => {
    const schema = policyKit.durationMs({ minMs: 60_000, maxMs: 86_400_000, multipleOfMs: 10_000 })
    expect(check(schema, '1h30m').value).toBe(5_400_000)
    expect(check(schema, '30s').errors).toEqual(['1:1 ERR_NGROK_2215 it must be 1m to 24h, not 30s'])
    expect(check(schema, '25h').errors).toEqual(['1:1 ERR_NGROK_2225 it must be 1m to 24h, not 25h'])
    expect(check(schema, '65s').errors).toEqual(['1:1 ERR_NGROK_2204 it must be a multiple of 10s, not 65s'])
    expect(check(policyKit.durationMs({ maxMs: 1, code: 'RATE' }), '65s').errors[0]).toContain(' RATE ')
  })

  it('durationMs: a number without unit and other nonsense get a hint', () => {
    expect(check(kit.durationMs(), '30').errors).toEqual([
      '1:1 INVALID_DURATION it must be a duration, not 30 (write a unit: 30s, or 30ms)',
    ])
    expect(check(kit.durationMs(), '1 day').errors[0]).toContain('units are h, m, s')
    expect(check(kit.durationMs(), '-5s').errors).toEqual(['1:1 OUT_OF_RANGE it must be at least 0s, not -5s'])
  })

  it('byteSize: binary units and plain numbers', () => {
    expect(check(kit.byteSize(), '64KiB').value).toBe(65_536)
    expect(check(kit.byteSize(), '512').value).toBe(512)
    expect(check(kit.byteSize(), '10MB').errors[0]).toContain('INVALID_VALUE it must be a size, not "10MB"')
    expect(check(kit.byteSize({ max: 1024 }), '1MiB').errors).toEqual([
      '1:1 OUT_OF_RANGE it must be at most 1KiB, not 1MiB',
    ])
  })
})

describe('list and mapOf', () => {
  it('list reports each wrong entry with its place', () => {
    expect(check(kit.list(kit.integer()), '[1, a, 2, b]').errors).toEqual([
      '1:5 WRONG_TYPE it[1] must be a whole number, not "a"',
      '1:11 WRONG_TYPE it[3] must be a whole number, not "b"',
    ])
  })

  it('list checks its length', () => {
    expect(check(policyKit.list(policyKit.string(), { min: 1 }), '[]').errors).toEqual([
      '1:1 ERR_NGROK_2223 it must not be empty',
    ])
    expect(check(policyKit.list(policyKit.string(), { max: 1 }), '[a, b]').errors).toEqual([
      '1:1 ERR_NGROK_2218 it has 2 entries, at most 1 are allowed',
    ])
    expect(check(kit.list(kit.string(), { min: 2 }), '[a]').errors).toEqual([
      '1:1 OUT_OF_RANGE it needs at least 2 entries',
    ])
  })

  it('list finds doubles among texts and values', () => {
    expect(check(policyKit.list(policyKit.text(), { unique: true }), '[a, b, a]').errors).toEqual([
      '1:8 ERR_NGROK_2231 it names a twice',
    ])
    expect(check(kit.list(kit.integer(), { unique: true }), '[1, 2]').value).toEqual([1, 2])
  })

  it('list shows how a single value is written', () => {
    expect(check(kit.list(kit.string()), 'a').errors).toEqual(['1:1 WRONG_TYPE it must be a list, not "a" (write [a])'])
  })

  it('mapOf keeps the order of the file and checks keys', () => {
    const schema = kit.mapOf(kit.text(), { keyPattern: /^[a-z-]+$/, max: 2 })
    const { value } = check(schema, 'z: 1\na: 2') as { value: ReadonlyMap<string, { text: string }> }
    expect([...value].map(([key, { text }]) => [key, text])).toEqual([
      ['z', '1'],
      ['a', '2'],
    ])
    expect(check(schema, 'a b: 1').errors).toEqual([
      '1:1 INVALID_VALUE it has the key "a b"; keys must match ^[a-z-]+$',
    ])
    expect(check(schema, '{a: 1, b: 2, c: 3}').errors).toEqual(['1:1 TOO_MANY it has 3 entries, at most 2 are allowed'])
    expect(check(schema, '[a]').errors).toEqual(['1:1 WRONG_TYPE it must be a mapping, not a list'])
  })

  it('write their JSON Schemas', () => {
    expect(kit.list(kit.string({ pattern: /^a$/ }), { min: 1, max: 3, unique: true }).jsonSchema()).toEqual({
      type: 'array',
      items: { type: ['string', 'number', 'boolean'], pattern: '^a$' },
      minItems: 1,
      maxItems: 3,
      uniqueItems: true,
    })
    expect(kit.mapOf(kit.integer(), { keyPattern: /^a$/, max: 3 }).jsonSchema()).toEqual({
      type: 'object',
      additionalProperties: { type: 'integer' },
      propertyNames: { pattern: '^a$' },
      maxProperties: 3,
    })
  })
})

describe('text, expressionText, anyNode, byKind', () => {
  it('text and expressionText keep the way back to the file', () => {
    const { value } = check(kit.text(), '"a \\"b\\""') as { value: { text: string; spanAt: Function } }
    expect(value.text).toBe('a "b"')
    expect(value.spanAt(2, 3)).toMatchObject({ start: 3, end: 8 })
    expect(check(kit.expressionText(), 'true').value).toMatchObject({ text: 'true' })
    expect(check(kit.expressionText(), '[x]').errors).toEqual(['1:1 WRONG_TYPE it must be an expression, not a list'])
  })

  it('anyNode takes everything, null included', () => {
    expect(check(kit.object({ a: kit.optional(kit.anyNode()) }), 'a:').value).toMatchObject({ a: { value: null } })
    expect(check(kit.anyNode(), '[1, {a: b}]').value).toMatchObject({ kind: 'list' })
  })

  it('byKind chooses by kind', () => {
    const schema = kit.byKind({ scalar: kit.string(), list: kit.list(kit.string()) })
    expect([check(schema, 'a').value, check(schema, '[a, b]').value]).toEqual(['a', ['a', 'b']])
    expect(check(schema, '{a: b}').errors).toEqual(['1:1 WRONG_TYPE it must be a text or a list, not a mapping'])
    expect(schema.jsonSchema()).toMatchObject({ anyOf: [{}, { type: 'array' }] })
  })
})
