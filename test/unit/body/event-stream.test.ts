import { describe, expect, it } from 'vitest'
import { type EventMessage, EventStreamFilter } from '../../../src/body/event-stream.ts'

type Look = (message: EventMessage) => void

interface Run {
  /** What came out after each piece, and at the end. */
  readonly out: string[]
  readonly seen: (string | undefined)[]
  readonly broken: string | undefined
}

function run(chunks: readonly (string | Uint8Array)[], look: Look = () => {}, maxEventBytes = 1000): Run {
  const out: string[] = []
  const seen: (string | undefined)[] = []
  let current = ''
  let broken: string | undefined
  const filter = new EventStreamFilter({
    maxEventBytes,
    onMessage: (message) => {
      seen.push(message.get('data'))
      look(message)
    },
  })
  filter.attach({
    output: (chunk) => void (current += Buffer.from(chunk).toString('latin1')),
    ready: () => {},
    finished: () => {},
    broken: (detail) => void (broken = detail),
  })
  for (const chunk of chunks) {
    filter.write(Buffer.from(chunk))
    out.push(current)
    current = ''
  }
  filter.end()
  out.push(current)
  return { out, seen, broken }
}

const upper: Look = (message) => {
  const data = message.get('data')
  if (data !== undefined) message.set('data', data.toUpperCase())
}

describe('where events end (HTML §9.2.5)', () => {
  const stream = ': hello\n\nevent: a\nid: 1\ndata: one\ndata: two\n\ndata:three\nretry: 5\n\n\ndata\n\n'
  const seen = ['one\ntwo', 'three', '']

  it.each([
    ['LF', stream],
    ['CRLF', stream.replaceAll('\n', '\r\n')],
    ['CR', stream.replaceAll('\n', '\r')],
  ])('%s: the same events, whatever the pieces, and every byte passes', (_, text) => {
    for (let size = 1; size <= text.length; size++) {
      const chunks = text.match(new RegExp(`[^]{1,${size}}`, 'g'))!
      const result = run(chunks)
      expect(result.seen, `pieces of ${size}`).toEqual(seen)
      expect(result.out.join('')).toBe(text)
    }
  })

  it('an event leaves with its last byte, not with the next event', () => {
    expect(run(['data: a\n', '\n', 'data: b\r\n\r', '\n', 'data: c\r\r']).out).toEqual([
      '',
      'data: a\n\n',
      'data: b\r\n\r',
      '\n',
      'data: c\r\r',
      '',
    ])
  })

  it('the rest of a stream that ends in an event is looked at too', () => {
    const result = run(['data: a\n\ndata: secr', 'et'], upper)
    expect(result.seen).toEqual(['a', 'secret'])
    expect(result.out.join('')).toBe('data: A\n\ndata: SECRET\n')
  })

  it('a BOM belongs to no field, and only the first one is a BOM', () => {
    const result = run(['\ufeffdata: a\n\n', '\ufeffdata: b\n\n'], upper)
    expect(result.seen).toEqual(['a'])
    expect(Buffer.from(result.out.join(''), 'latin1').toString()).toBe('\ufeffdata: A\n\n\ufeffdata: b\n\n')
  })

  it('comments and events without data or retry are shown to nobody', () => {
    expect(run([': ping\n\nevent: x\nid: 7\n\n\n\n']).seen).toEqual([])
    expect(run(['retry: 10\n\n']).seen).toEqual([undefined])
    expect(run(['database: x\n\nData: y\n\n']).seen).toEqual([])
  })
})

describe('changed events', () => {
  const changed = (text: string, look: Look): string => run([text], look).out.join('')

  it('other lines stay where they are', () => {
    expect(changed('id: 1\ndata: a\n: note\ndata: b\nevent: e\n\n', upper)).toBe(
      'id: 1\ndata: A\ndata: B\n: note\nevent: e\n\n',
    )
  })

  it('line ends stay the ones of the event', () => {
    expect(changed('data: a\r\ndata: b\r\n\r\n', upper)).toBe('data: A\r\ndata: B\r\n\r\n')
  })

  it('T-16: a value with line ends makes lines of data, never another field or event', () => {
    const out = changed('data: a\n\n', (message) => message.set('data', 'x\nevent: evil\r\n\rid: 1'))
    expect(out).toBe('data: x\ndata: event: evil\ndata: \ndata: id: 1\n\n')
    expect(changed('retry: 1\n\n', (message) => message.set('retry', '5\ndata: evil\r\n\r\n'))).toBe(
      'retry: 5data: evil\n\n',
    )
  })

  it('an emptied value is still an event, and leading blanks stay', () => {
    expect(changed('data: a\n\n', (message) => message.set('data', ''))).toBe('data: \n\n')
    expect(changed('data:a\n\n', (message) => message.set('data', '  a'))).toBe('data:   a\n\n')
  })

  it('bytes that are no UTF-8 stay, and what is put in is UTF-8', () => {
    const filtered = run([Buffer.from('data: \xff x\n\n', 'latin1')], (message) => {
      message.set('data', message.get('data')!.replace('x', message.insertable('é')))
    })
    expect(filtered.out.join('')).toBe('data: \xff \xc3\xa9\n\n')
  })

  it('the last of several retry lines counts, one line remains', () => {
    const out = changed('retry: 1\nretry: 2\ndata: a\n\n', (message) => {
      expect(message.get('retry')).toBe('2')
      message.set('retry', '3')
    })
    expect(out).toBe('retry: 3\ndata: a\n\n')
  })
})

describe('bounds', () => {
  it('an event beyond the limit ends the stream, and nothing of it passes', () => {
    const result = run(['data: ok\n\ndata: ', 'x'.repeat(600), 'x'.repeat(600), '\n\ndata: later\n\n'])
    expect(result.broken).toMatch(/more than 1000 bytes/)
    expect(result.out.join('')).toBe('data: ok\n\n')
  })

  it('what a rule throws ends the stream, and nothing of the event passes', () => {
    const result = run(['data: a\n\ndata: b\n\n'], (message) => {
      if (message.get('data') === 'b') throw new Error('no value')
    })
    expect(result.broken).toBe('no value')
    expect(result.out.join('')).toBe('data: a\n\n')
  })

  it('a megabyte in single bytes takes linear time', () => {
    const text = `data: ${'x'.repeat(200_000)}\n\n`
    expect(run([...text], upper, 300_000).seen).toHaveLength(1)
  })
})
