/** `${NAME}` in our files (O-12, O-13) and `$NAMES` in policies: values change texts, never structure, and places stay. */
import { describe, expect, it } from 'vitest'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import type { ConfigNode, MapNode, ScalarNode } from '../../../src/config/node.ts'
import { SourceFile } from '../../../src/config/source.ts'
import { expandEnvironment, parseNameFile, substituteNames } from '../../../src/config/substitution.ts'
import { nodeOf, readerOf, rendered, type Files } from './memory-files.ts'

function value(node: ConfigNode, key = 'k'): ScalarNode {
  return (node as MapNode).entries.find((entry) => entry.key === key)!.value as ScalarNode
}

function expand(text: string, environment: Record<string, string> = {}, files: Files = {}) {
  const diagnostics = new Diagnostics()
  const node = expandEnvironment(nodeOf(text), readerOf(files, environment), diagnostics, () => false)
  return { node, diagnostics }
}

function substitute(text: string, names: Record<string, string> = {}) {
  const diagnostics = new Diagnostics()
  const node = substituteNames(nodeOf(text), new Map(Object.entries(names)), diagnostics)
  return { node, diagnostics }
}

describe('O-12: the environment in files we own', () => {
  it('expands names, defaults and several in one text', () => {
    const { node } = expand('k: ${A}-${B:-b}-${A:-x}', { A: 'a' })
    expect(value(node).text).toBe('a-b-a')
  })

  it('finds the type of plain values anew; quoted ones stay texts', () => {
    const { node } = expand('k: ${N}\nq: "${N}"', { N: '12' })
    expect([value(node).value, value(node, 'q').value]).toEqual([12, '12'])
  })

  it('a value cannot change the structure of the document', () => {
    const { node } = expand('k: ${A}', { A: 'x\nother: 1' })
    expect((node as MapNode).entries).toHaveLength(1)
    expect(value(node).text).toBe('x\nother: 1')
  })

  it('an empty variable takes the default, and is empty without one', () => {
    const { node, diagnostics } = expand('k: "${A:-d}"\nq: "${A}"', { A: '' })
    expect([value(node).text, value(node, 'q').text, diagnostics.all]).toEqual(['d', '', []])
  })

  it('a missing variable is an error at its place', () => {
    expect(rendered(expand('k: a ${NOPE} b'))).toBe(
      [
        'f.yaml:1:6: error: the environment variable NOPE is not set [MISSING_VARIABLE]',
        '  1 | k: a ${NOPE} b',
        '    |      ^^^^^^^',
        '  hint: set it, or write ${NOPE:-default}',
      ].join('\n'),
    )
  })

  it('what names no variable is an error', () => {
    expect(expand('k: ${a b}').diagnostics.all[0]).toMatchObject({ code: 'INVALID_EXPANSION' })
    expect(expand('k: ${A').diagnostics.all[0]).toMatchObject({ code: 'INVALID_EXPANSION', message: '} is missing' })
  })

  it('$${ stands for ${ itself', () => {
    expect(value(expand('k: $${conn.client_ip} $A').node).text).toBe('${conn.client_ip} $A')
  })

  it('O-13: NAME_FILE names a file with the value; both at once are an error', () => {
    const { node } = expand('k: ${PW}', { PW_FILE: '/s/pw' }, { '/s/pw': 'secret\n' })
    expect(value(node).text).toBe('secret')
    expect(expand('k: ${PW}', { PW: 'x', PW_FILE: '/s/pw' }).diagnostics.all[0]).toMatchObject({
      code: 'VARIABLE_GIVEN_TWICE',
    })
    expect(expand('k: ${PW}', { PW_FILE: '/s/nope' }).diagnostics.all[0]).toMatchObject({ code: 'FILE_NOT_FOUND' })
  })
})

describe('$NAMES in policies', () => {
  it('replaces the names given, everywhere in a text, and in keys', () => {
    const { node, diagnostics } = substitute('k: "https://$HOST/$HOST"\n$HOST: 1', { HOST: 'h' })
    expect(value(node).text).toBe('https://h/h')
    expect((node as MapNode).entries[1]!.key).toBe('h')
    expect(diagnostics.all).toEqual([])
  })

  it('leaves $1, $host, ${…}, $$NAME and parts of longer names alone', () => {
    const text = 'k: "$1 $host ${conn.client_ip} $$HOST $HOSTS $HOSTx"'
    const { node } = substitute(text, { HOST: 'h' })
    expect(value(node).text).toBe('$1 $host ${conn.client_ip} $$HOST $HOSTS $HOSTx')
  })

  it('warns about other upper-case names with their place, outside ${…} only', () => {
    const { diagnostics } = substitute(`k: "$NOPE \${f('}', '$INSIDE')} $JWT_ISUER"`, { JWT_ISSUER: 'x' })
    expect(rendered({ diagnostics })).toBe(
      [
        'f.yaml:1:5: warning: $NOPE is not replaced: no substitution has this name [UNKNOWN_NAME]',
        `  1 | k: "$NOPE \${f('}', '$INSIDE')} $JWT_ISUER"`,
        '    |     ^^^^^',
        '  hint: if it shall be replaced, name it under substitutions in gateway.yaml',
        'f.yaml:1:32: warning: $JWT_ISUER is not replaced: no substitution has this name [UNKNOWN_NAME]',
        `  1 | k: "$NOPE \${f('}', '$INSIDE')} $JWT_ISUER"`,
        '    |                                ^^^^^^^^^^',
        '  hint: did you mean $JWT_ISSUER?',
      ].join('\n'),
    )
  })

  it('comments are not read', () => {
    expect(substitute('# $NOPE\nk: 1').diagnostics.all).toEqual([])
  })

  it('finds the type of plain values anew', () => {
    const { node } = substitute('k: $N\nq: "$N"', { N: '1000' })
    expect([value(node).value, value(node, 'q').value]).toEqual([1000, '1000'])
  })

  it('nodes that do not change are the same objects, shared anchors stay shared', () => {
    const { node } = substitute('a: &x {v: $N}\nb: *x\nc: {d: 1}', { N: '1' })
    const [a, b] = (node as MapNode).entries
    expect(a!.value).toBe(b!.value)
    const before = nodeOf('c: {d: 1}')
    expect(substituteNames(before, new Map([['N', '1']]), new Diagnostics())).toBe(before)
  })

  it('places after a replacement point into the file as written', () => {
    const file = 'k: "ab $LONG cd $S ef"\n'
    const { node } = substitute(file, { LONG: 'x', S: 'yyyyyyyyyy' })
    const scalar = value(node)
    expect(scalar.text).toBe('ab x cd yyyyyyyyyy ef')
    const slice = (part: string, length = part.length): string => {
      const span = scalar.spanAt(scalar.text.indexOf(part), length)
      return file.slice(span.start, span.end)
    }
    expect(slice('ab')).toBe('ab')
    expect(slice('x', 1)).toBe('$LONG')
    expect(slice('cd')).toBe('cd')
    expect(slice('yyyy', 4)).toBe('$S')
    expect(slice('ef')).toBe('ef')
    expect(slice('cd yyyyyyyyyy ef')).toBe('cd $S ef')
    expect(slice('b x c')).toBe('b $LONG c')
    const end = scalar.spanAt(scalar.text.length, 0)
    expect(file.slice(end.start - 2, end.start)).toBe('ef')
  })
})

describe('files of names', () => {
  it('reads NAME=value with comments, export and quotes; the rest is an error with its line', () => {
    const names = new Map<string, string>()
    const diagnostics = new Diagnostics()
    const text = '# c\n\nA=1\nexport B="two words"\nC=\'x\'\r\nD=a=b\nlower=1\n'
    parseNameFile(new SourceFile('names.env', text), names, diagnostics)
    expect(Object.fromEntries(names)).toEqual({ A: '1', B: 'two words', C: 'x', D: 'a=b' })
    expect(rendered({ diagnostics })).toContain('names.env:7:1: error: a line must be NAME=value')
  })
})
