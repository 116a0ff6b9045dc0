import { describe, expect, it } from 'vitest'
import { isFieldValue, MessageHead, toFieldText } from '../../../src/exchange/message-head.ts'

const TEXT = 'GET /a HTTP/1.1\r\nhost: h\r\nx-a: 1\r\nx-ab: other\r\nx-a: 2\r\nempty: \r\n'

describe('MessageHead', () => {
  it('finds the first value of a name and never that of a longer one', () => {
    const head = new MessageHead(TEXT)
    expect(head.first('x-a')).toBe('1')
    expect(head.first('x-ab')).toBe('other')
    expect(head.first('x')).toBeUndefined()
  })

  it('finds every value in order, an empty one included', () => {
    const head = new MessageHead(TEXT)
    expect(head.all('x-a')).toEqual(['1', '2'])
    expect(head.all('empty')).toEqual([''])
    expect(head.all('none')).toEqual([])
  })

  it('does not take the start line for a field', () => {
    const head = new MessageHead('GET /?host: evil HTTP/1.1\r\nhost: h\r\n')
    expect(head.all('host')).toEqual(['h'])
    expect(head.names()).toEqual(['host'])
  })

  it('removes every line of a name and says whether there was one', () => {
    const head = new MessageHead(TEXT)
    expect(head.remove('x-a')).toBe(true)
    expect(head.remove('x-a')).toBe(false)
    expect(head.text).toBe('GET /a HTTP/1.1\r\nhost: h\r\nx-ab: other\r\nempty: \r\n')
  })

  it('removes neighbouring lines of the same name', () => {
    const head = new MessageHead('GET / HTTP/1.1\r\nx: 1\r\nx: 2\r\nx: 3\r\n')
    head.remove('x')
    expect(head.text).toBe('GET / HTTP/1.1\r\n')
  })

  it('adds behind what is there and replaces by set', () => {
    const head = new MessageHead(TEXT)
    head.add('x-a', '3')
    expect(head.all('x-a')).toEqual(['1', '2', '3'])
    head.set('x-a', '4')
    expect(head.all('x-a')).toEqual(['4'])
  })

  it('changes the start line only', () => {
    const head = new MessageHead(TEXT)
    head.setStartLine('GET /b HTTP/1.1')
    expect(head.startLine).toBe('GET /b HTTP/1.1')
    expect(head.lines.startsWith('host: h\r\n')).toBe(true)
  })

  it('lists distinct names in order of first appearance', () => {
    expect(new MessageHead(TEXT).names()).toEqual(['host', 'x-a', 'x-ab', 'empty'])
  })
})

describe('H-123: values we build', () => {
  for (const [value, fits] of [
    ['plain', true],
    ['tab\tinside', true],
    ['caf\u00e9', true],
    ['', true],
    ['a\r\nb: c', false],
    ['a\nb', false],
    ['nul\0', false],
    ['del\u007f', false],
    [' outer', false],
  ] as const) {
    it(`${JSON.stringify(value)} is ${fits ? 'taken' : 'refused'}`, () => expect(isFieldValue(value)).toBe(fits))
  }

  it('keeps bytes as bytes and writes wider characters as UTF-8', () => {
    expect(toFieldText('caf\u00e9')).toBe('caf\u00e9')
    expect(Buffer.from(toFieldText('\u20ac'), 'latin1').toString('utf8')).toBe('\u20ac')
  })
})
