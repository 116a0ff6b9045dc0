/** YAML and JSON as trees with places: every scalar style leads back to the characters it was written with. */
import { describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import { parseDocuments, readDocuments } from '../../../src/config/document.ts'
import type { ConfigNode, ScalarNode } from '../../../src/config/node.ts'
import { scalarPlaces, type ScalarStyle } from '../../../src/config/scalar-places.ts'
import { SourceFile } from '../../../src/config/source.ts'
import { nodeOf, rendered } from './memory-files.ts'

function plain(node: ConfigNode): unknown {
  if (node.kind === 'scalar') return node.value
  if (node.kind === 'list') return node.items.map(plain)
  return Object.fromEntries(node.entries.map(({ key, value }) => [key, plain(value)]))
}

function errorsOf(text: string, code?: string): string[] {
  const diagnostics = new Diagnostics()
  const nodes = readDocuments(new SourceFile('f.yaml', text), diagnostics, code === undefined ? {} : { code })
  expect(nodes).toBeUndefined()
  return diagnostics.all.map(({ code, message, span }) => {
    const place = span!.source.position(span!.start)
    return `${place.line}:${place.column} ${code} ${message}`
  })
}

function scalarAt(text: string, key: string): ScalarNode {
  const node = nodeOf(text)
  const value = node.kind === 'map' ? node.entries.find((entry) => entry.key === key)?.value : undefined
  if (value?.kind !== 'scalar') throw new Error(`no scalar ${key}`)
  return value
}

describe('values', () => {
  it('are typed by the YAML 1.2 core schema', () => {
    const text =
      'a: 1\nb: 0x1f\nc: 1.5\nd: true\ne: yes\nf: ~\ng: null\nh: "1"\ni: 2026-01-01\nj: .inf\nk: 0o17\nl: on\nm: +3\nn: 1e3'
    expect(plain(nodeOf(text))).toEqual({
      a: 1,
      b: 31,
      c: 1.5,
      d: true,
      e: 'yes',
      f: null,
      g: null,
      h: '1',
      i: '2026-01-01',
      j: Infinity,
      k: 15,
      l: 'on',
      m: 3,
      n: 1000,
    })
  })

  it('keep integers beyond 2^53 exact, and the text as written', () => {
    const node = scalarAt('a: 9007199254740993', 'a')
    expect([node.value, node.text]).toEqual([9007199254740993n, '9007199254740993'])
    expect(scalarAt('a: 1.30', 'a').text).toBe('1.30')
  })

  it('take explicit tags of the core schema, and refuse others', () => {
    expect(plain(nodeOf('a: !!str 12\nb: !!int "12"'))).toEqual({ a: '12', b: 12 })
    expect(errorsOf('a: !secret x')[0]).toMatch(/^1:4 YAML_TAG /)
  })

  it('read JSON', () => {
    expect(plain(nodeOf('{\n\t"a": [1, "x", null, true],\n\t"b": {"c": "\\u00e9"}\n}'))).toEqual({
      a: [1, 'x', null, true],
      b: { c: 'é' },
    })
  })

  it('leave out empty documents', () => {
    const diagnostics = new Diagnostics()
    const nodes = parseDocuments(new SourceFile('f', '---\n# nothing\n---\na: 1\n---\n'), diagnostics)
    expect(nodes.map(plain)).toEqual([{ a: 1 }])
    expect(readDocuments(new SourceFile('f', ''), diagnostics)).toEqual([])
    expect(diagnostics.all).toEqual([])
  })

  it('keys are texts', () => {
    expect(plain(nodeOf('200: a\ntrue: b\n"x y": c'))).toEqual({ 200: 'a', true: 'b', 'x y': 'c' })
    expect(errorsOf('? [a]\n: b')).toEqual(['1:3 YAML_KEY a key must be a text'])
  })
})

describe('anchors, aliases and merge keys', () => {
  it('are resolved; own keys win over merged ones', () => {
    const text = 'base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\nlist: [*b]\nboth:\n  <<: [{x: 9}, *b]'
    expect(plain(nodeOf(text))).toEqual({
      base: { x: 1, y: 2 },
      use: { x: 1, y: 3 },
      list: [{ x: 1, y: 2 }],
      both: { x: 9, y: 2 },
    })
  })

  it('an alias without anchor, or inside itself, is an error', () => {
    expect(errorsOf('a: *nope')[0]).toMatch(/^1:4 YAML_/)
    expect(errorsOf('a: &x [*x]')).toEqual(['1:8 YAML_ALIAS *x contains itself'])
    expect(errorsOf('a:\n  <<: text')).toEqual(['2:3 YAML_MERGE << takes a mapping or a list of mappings'])
  })

  it('a bomb of aliases is refused before anyone walks it', () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
    for (let level = 1; level < 12; level++) {
      lines.push(`a${level}: &a${level} [${Array.from({ length: 10 }, () => `*a${level - 1}`).join(', ')}]`)
    }
    expect(errorsOf(lines.join('\n'))).toEqual(['1:1 YAML_TOO_LARGE the document has more than 500000 values'])
  })

  it('nesting without end is refused, not a crash', () => {
    expect(errorsOf('['.repeat(200_000))[0]).toMatch(/YAML_TOO_DEEP|YAML_SYNTAX/)
  })
})

describe('errors', () => {
  it('a key given twice names both places (§1.4)', () => {
    const diagnostics = new Diagnostics()
    readDocuments(new SourceFile('p.yaml', 'a: 1\nb: 2\na: 3\n'), diagnostics)
    expect(rendered({ diagnostics })).toBe(
      [
        'p.yaml:3:1: error: a is given twice [DUPLICATE_KEY]',
        '  3 | a: 3',
        '    | ^',
        'p.yaml:1:1: note: first given here',
        '  1 | a: 1',
        '    | ^',
      ].join('\n'),
    )
  })

  it('the first unexpected token is told, not what follows from it', () => {
    expect(errorsOf('a: {x: ${A}}\nb: 1\nc: 2')).toEqual([
      expect.stringMatching(/^1:9 YAML_SYNTAX not valid YAML: Unexpected flow-map-start/) as string,
    ])
  })

  it('independent errors are all told', () => {
    expect(errorsOf('a: @x\nb: `y\n').map((error) => error.split(' ')[0])).toEqual(['1:4', '2:4'])
  })

  it('carry the code that is asked for', () => {
    expect(errorsOf('a: [', 'ERR_NGROK_2236')[0]).toContain('ERR_NGROK_2236')
    expect(errorsOf('a: 1\na: 2', 'ERR_NGROK_2236')[0]).toContain('2:1 ERR_NGROK_2236')
  })
})

/** For each part of the decoded text: the part of the file it must lead to. */
const PLACES: readonly [style: string, file: string, decoded: string, part: string, written: string][] = [
  ['plain', 'k: req.url == 1 # c\n', 'req.url == 1', 'url', 'url'],
  ['plain over lines', 'k: one\n  two\n\n  three\n', 'one two\nthree', 'three', 'three'],
  ['single quoted', "k: 'it''s x'\n", "it's x", "'s", "''s"],
  ['single quoted over lines', "k: 'one\n  two'\n", 'one two', 'two', 'two'],
  ['double quoted', 'k: "a\\tb\\u00e9c"\n', 'a\tbéc', 'é', '\\u00e9'],
  ['double quoted, astral', 'k: "\\U0001F600!"\n', '😀!', '!', '!'],
  ['double quoted over lines', 'k: "one \\\n  two\n  three"\n', 'one two three', 'three', 'three'],
  ['literal', 'k: |\n  one\n    two\n  three\n', 'one\n  two\nthree\n', 'three', 'three'],
  ['literal with indicator', 'k: |2-\n    one\n  two\n', '  one\ntwo', 'two', 'two'],
  ['literal with comment and CRLF', 'k: |- # c\r\n  one\r\n  two\r\n', 'one\ntwo', 'two', 'two'],
  ['folded', 'k: >-\n  one\n  two\n\n  three\n', 'one two\nthree', 'three', 'three'],
  [
    'folded with indented lines',
    'k: >\n  one\n    two\n    x\n  three\n',
    'one\n  two\n  x\nthree\n',
    'three',
    'three',
  ],
  ['folded, kept', 'k: >+\n  one\n  two\n\n', 'one two\n\n', 'two', 'two'],
  ['in JSON', '{"k": "a\\/b"}', 'a/b', 'b', 'b'],
]

describe('spanAt', () => {
  it.each(PLACES)('%s', (_, file, decoded, part, written) => {
    const node = scalarAt(file, 'k')
    expect(node.text).toBe(decoded)
    const span = node.spanAt(decoded.indexOf(part), part.length)
    expect(file.slice(span.start, span.end)).toBe(written)
  })

  it('the place behind the last character is the end of the text', () => {
    const node = scalarAt('k: "abc" # x', 'k')
    expect(node.spanAt(3, 0)).toMatchObject({ start: 7, end: 7 })
  })

  it('an empty text has a place', () => {
    expect(scalarAt('k: ""', 'k').spanAt(0, 0)).toMatchObject({ start: 3 })
  })

  it('holds after a byte order mark and in CRLF files', () => {
    const node = scalarAt('a: 1\r\nk: xyz\r\n', 'k')
    const { source, start } = node.spanAt(1, 1)
    expect(source.position(start)).toEqual({ line: 2, column: 5 })
  })
})

describe('scalarPlaces', () => {
  const STYLES = [
    ['plain', 'PLAIN'],
    ['single', 'QUOTE_SINGLE'],
    ['double', 'QUOTE_DOUBLE'],
    ['literal', 'BLOCK_LITERAL'],
    ['folded', 'BLOCK_FOLDED'],
  ] as const
  const ALPHABET = ['a', 'b', 'word ', ' ', '\n', '\n\n', ': ', '#', "'", '"', '\\', 'é', '😀', '\t', '${x}', '-']

  /** A generator with a fixed start, so that a failure comes again. */
  function* texts(count: number): Generator<string> {
    let state = 12_345
    const next = (below: number): number => {
      state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
      return Math.floor((state / 2_147_483_648) * below)
    }
    for (let index = 0; index < count; index++) {
      yield Array.from({ length: 1 + next(40) }, () => ALPHABET[next(ALPHABET.length)]).join('')
    }
  }

  it.each(STYLES)('retraces every text that can be written in style %s', (style, type) => {
    let traced = 0
    const wrong: string[] = []
    for (const wanted of texts(1000)) {
      // what the writer makes of odd white space is its own business: the reader's text counts
      const file = stringify({ k: wanted }, { defaultStringType: type, lineWidth: 30 })
      const { span, text } = scalarAt(file, 'k')
      const raw = file.slice(span.start, span.end)
      const written = ({ '"': 'double', "'": 'single', '|': 'literal', '>': 'folded' } as Record<string, ScalarStyle>)[
        raw[0] ?? ''
      ]
      if ((written ?? 'plain') !== style) continue // this text cannot be written so
      traced++
      const places = scalarPlaces(style, raw, text)
      for (let unit = 0; unit < text.length; unit++) {
        const from = places?.starts[unit] ?? -1
        const to = places?.ends[unit] ?? -1
        const inside = from >= 0 && from <= to && to <= raw.length + 1
        // a letter leads to itself
        const exact = !/[a-z]/.test(text[unit]!) || raw.slice(from, to) === text[unit]
        if (!inside || !exact) wrong.push(JSON.stringify([text, file, unit]))
      }
    }
    expect(wrong).toEqual([])
    expect(traced).toBeGreaterThan(style === 'plain' ? 50 : 100)
  })
})
