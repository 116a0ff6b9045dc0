/**
 * H-100 … H-105 frame by frame over real sockets, in the manner of h2spec: what is refused, how, and that it never reaches
 * the upstream. http2-rules.md says where each rule is tested. Source: RFC 9113.
 *
 * Engine: native, and in every run.
 */
import { once } from 'node:events'
import { connect as connectHttp2, type IncomingHttpHeaders } from 'node:http2'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import {
  block,
  CODE,
  type Fields,
  FLAG,
  frame,
  FrameClient,
  GET,
  KIND,
  POST,
  PREFACE,
  setting,
  u32,
} from '../../support/http2-frames.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

let upstream: EchoUpstream
let gateway: WireGateway<PlainEvents>
const open: FrameClient[] = []

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startWireGateway(new PlainEvents(), target(upstream.port), { engine: 'native' })
})
afterAll(async () => {
  for (const client of open) client.destroy()
  expect(gateway.errors).toEqual([])
  await gateway.close()
  await upstream.close()
})
beforeEach(() => {
  upstream.reset()
  gateway.events.heads.length = gateway.events.refused.length = 0
})

async function connect(greets = true): Promise<FrameClient> {
  const client = await FrameClient.open(gateway.port, greets)
  open.push(client)
  return client
}

const without = (name: string): Fields => GET.filter(([one]) => one !== name)
const replaced = (name: string, value: string, fields = GET): Fields =>
  fields.map(([one, old]) => [one, one === name ? value : old])
const more = (...added: Fields): Fields => [...GET, ...added]

describe('H-100: malformed requests are reset, never forwarded, and the connection goes on (H-105)', () => {
  const malformed: [string, Fields][] = [
    ['an upper-case name', more(['X-Upper', '1'])],
    ['connection', more(['connection', 'close'])],
    ['keep-alive', more(['keep-alive', '5'])],
    ['proxy-connection', more(['proxy-connection', 'close'])],
    ['transfer-encoding', more(['transfer-encoding', 'chunked'])],
    ['upgrade', more(['upgrade', 'websocket'])],
    ['TE other than trailers', more(['te', 'gzip'])],
    ['no :method', without(':method')],
    ['no :scheme', without(':scheme')],
    ['no :path', without(':path')],
    ['an empty :path', replaced(':path', '')],
    [':method twice', more([':method', 'GET'])],
    [':path twice', more([':path', '/'])],
    [':authority twice', more([':authority', 'gw.test'])],
    ['a pseudo-field behind a regular one', [['a', '1'], ...GET]],
    ['a pseudo-field of answers', more([':status', '200'])],
    ['a pseudo-field that is none', more([':other', '1'])],
    ['CR in a value', more(['a', 'x\ry'])],
    ['LF in a value', more(['a', 'x\ny'])],
    ['NUL in a value', more(['a', 'x\0y'])],
    ['a blank before a value', more(['a', ' x'])],
    ['a blank behind a value', more(['a', 'x '])],
    ['a tab behind a value', more(['a', 'x\t'])],
    ['a colon in a name', more(['a:b', '1'])],
    ['a blank in a name', more(['a b', '1'])],
    ['an empty name', more(['', '1'])],
    ['a length of a body that does not come', more(['content-length', '5'])],
    ['two lengths', more(['content-length', '0'], ['content-length', '0'])],
    ['a length that is no number', more(['content-length', '+0'])],
    ['CONNECT with a path', replaced(':method', 'CONNECT')],
    [':protocol without CONNECT', more([':protocol', 'websocket'])],
  ]

  test.each(malformed)('%s', async (_, fields) => {
    const client = await connect()
    client.request(1, fields)
    expect(await client.outcome(1)).toBe(`reset ${CODE.protocol}`)
    client.request(3)
    expect(await client.outcome(3)).toBe('200')
    expect(upstream.complete).toHaveLength(1)
    expect(gateway.events.refused).toMatchObject([{ status: 400, reason: 'bad_request:H-100' }])
    client.destroy()
  })

  test.each([
    ['more than was announced', '2', 'abc'],
    ['less than was announced', '9', 'abc'],
  ])('DATA that is %s', async (_, length, data) => {
    const client = await connect()
    client.request(1, [...POST, ['content-length', length]], FLAG.endHeaders)
    client.send(frame(KIND.data, FLAG.end, 1, Buffer.from(data)))
    expect(await client.outcome(1)).toBe(`reset ${CODE.protocol}`)
    client.request(3)
    expect(await client.outcome(3)).toBe('200')
    expect(upstream.complete.map(({ method }) => method)).toEqual(['GET'])
    client.destroy()
  })

  test.each<[string, Fields, number]>([
    ['a pseudo-field', [[':path', '/']], FLAG.end | FLAG.endHeaders],
    ['an upper-case name', [['X-A', '1']], FLAG.end | FLAG.endHeaders],
    ['no end of the stream', [['x-a', '1']], FLAG.endHeaders],
  ])('trailers with %s', async (_, fields, flags) => {
    const client = await connect()
    client.request(1, POST, FLAG.endHeaders)
    client.send(frame(KIND.data, 0, 1, Buffer.from('abc')))
    client.request(1, fields, flags)
    expect(await client.outcome(1)).toBe(`reset ${CODE.protocol}`)
    client.request(3)
    expect(await client.outcome(3)).toBe('200')
    client.destroy()
  })
})

describe('H-101: what cannot be said in HTTP/1.1 is answered, not forwarded', () => {
  test.each<[string, Fields, string, string]>([
    ['a host that is not the authority', more(['host', 'other.test']), '400', 'H-101'],
    ['no authority and no host', without(':authority'), '400', 'H-15'],
    ['an authority with user information', replaced(':authority', 'a@gw.test'), '400', 'H-15'],
    ['a blank in the path', replaced(':path', '/a b'), '400', 'H-12'],
    ['a path without its slash', replaced(':path', 'a'), '400', 'H-11'],
    ['a fragment in the path', replaced(':path', '/a#b'), '400', 'H-12'],
    ['a blank in the method', replaced(':method', 'GE T'), '400', 'H-10'],
    ['a method that is too long', replaced(':method', 'M'.repeat(33)), '501', 'H-10'],
    [
      'CONNECT',
      [
        [':method', 'CONNECT'],
        [':authority', 'gw.test:443'],
      ],
      '501',
      'H-10',
    ],
    ['TRACE', replaced(':method', 'TRACE'), '405', 'H-10'],
    ['another scheme', replaced(':scheme', 'ftp'), '400', 'H-11'],
    ['a control byte in a value', more(['a', 'x\u0001y']), '400', 'H-03'],
    ['an expectation that nobody knows', more(['expect', 'tea']), '417', 'H-61'],
    ['a target beyond the limit', replaced(':path', `/${'x'.repeat(17_000)}`), '414', 'H-13'],
    ['a field beyond the limit', more(['a', 'x'.repeat(33_000)]), '431', 'H-14'],
    ['too many fields', more(...Array.from({ length: 201 }, (_, at) => [`x-${at}`, '1'] as const)), '431', 'H-14'],
  ])('%s', async (_, fields, status, rule) => {
    const client = await connect()
    const bytes = block(fields)
    client.send(
      frame(KIND.headers, FLAG.end | (bytes.length > 16_384 ? 0 : FLAG.endHeaders), 1, bytes.subarray(0, 16_384)),
    )
    for (let at = 16_384; at < bytes.length; at += 16_384) {
      client.send(
        frame(KIND.continuation, at + 16_384 < bytes.length ? 0 : FLAG.endHeaders, 1, bytes.subarray(at, at + 16_384)),
      )
    }
    expect(await client.outcome(1)).toBe(status)
    client.request(3)
    expect(await client.outcome(3)).toBe('200')
    expect(upstream.complete).toHaveLength(1)
    expect(gateway.events.refused).toMatchObject([{ status: Number(status), reason: `bad_request:${rule}` }])
    client.destroy()
  })

  test('a good one arrives as HTTP/1.1, its crumbs of cookies in one line', async () => {
    const client = await connect()
    client.request(1, more(['cookie', 'a=1'], ['x-one', 'b'], ['cookie', 'c=2'], ['host', 'GW.test']))
    expect(await client.outcome(1)).toBe('200')
    expect(upstream.complete[0]!.head).toMatch(/^GET \/ HTTP\/1\.1\r\nhost: gw\.test\r\n/)
    expect(upstream.complete[0]!.all('cookie')).toEqual(['a=1; c=2'])
    client.destroy()
  })
})

describe('H-102: answers of HTTP/1.1 become ones of HTTP/2', () => {
  interface Told {
    readonly heads: IncomingHttpHeaders[]
    readonly names: string[]
    body: string
  }

  async function ask(): Promise<Told> {
    const client = connectHttp2(`http://127.0.0.1:${gateway.port}`)
    client.on('error', () => undefined)
    const told: Told = { heads: [], names: [], body: '' }
    const stream = client.request({ te: 'trailers' })
    stream.on('headers', (head) => told.heads.push(head))
    stream.on('response', (head, _flags) => {
      told.heads.push(head)
      told.names.push(...Object.keys(head))
    })
    stream.on('trailers', (head) => told.heads.push(head))
    stream.on('data', (chunk: Buffer) => (told.body += chunk.toString()))
    await once(stream, 'close')
    client.close()
    return told
  }

  test('without fields of the connection and framing, names in lower case, the length as it is', async () => {
    upstream.answer = (_request, socket) =>
      socket.write(
        'HTTP/1.1 200 Fine\r\nX-Upper: A\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nhi',
      )
    const { names, body } = await ask()
    expect(names.toSorted()).toEqual([':status', 'content-length', 'date', 'x-upper'])
    expect(body).toBe('hi')
  })

  test('chunks become DATA, trailers HEADERS at the end; 1xx comes before the answer', async () => {
    upstream.answer = (_request, socket) =>
      socket.write(
        'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n',
      )
    const { heads, body } = await ask()
    expect(heads).toMatchObject([{ ':status': 103, link: '</a>' }, { ':status': 200 }, { 'x-sum': '1' }])
    expect(body).toBe('hi')
  })
})

describe('H-103: limits', () => {
  test('are announced: 128 streams, 64 KiB of head, windows that are bounded, no push', async () => {
    const client = await connect()
    const settings = (await client.next(({ kind, flags }) => kind === KIND.settings && flags === 0))!.payload
    const values = new Map<number, number>()
    for (let at = 0; at < settings.length; at += 6) values.set(settings.readUInt16BE(at), settings.readUInt32BE(at + 2))
    expect(values.get(3)).toBe(128)
    expect(values.get(4) ?? 65_535).toBeLessThanOrEqual(65_536)
    expect(values.get(6)).toBe(65_536)
    client.destroy()
  })

  test('the 129th stream is refused, and the others are served', async () => {
    const waiting: (() => void)[] = []
    upstream.answer = (_request, socket) =>
      waiting.push(() => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'))
    const client = await connect()
    for (let stream = 1; stream <= 257; stream += 2) client.request(stream)
    expect(await client.outcome(257)).toBe(`reset ${CODE.refused}`)
    await expect.poll(() => waiting.length).toBe(128)
    for (const answer of waiting) answer()
    expect(await client.outcome(1)).toBe('200')
    expect(await client.outcome(255)).toBe('200')
    client.destroy()
  })

  const floods: [string, (round: number) => Buffer][] = [
    [
      'rapid reset',
      (round) =>
        Buffer.concat([
          frame(KIND.headers, FLAG.end | FLAG.endHeaders, 2 * round + 1, block(GET)),
          frame(KIND.reset, 0, 2 * round + 1, u32(CODE.cancel)),
        ]),
    ],
    [
      'made-you-reset',
      (round) => frame(KIND.headers, FLAG.end | FLAG.endHeaders, 2 * round + 1, block(more(['X-Upper', '1']))),
    ],
    ['settings', () => frame(KIND.settings, 0, 0, setting(4, 65_535))],
    ['ping', () => frame(KIND.ping, 0, 0, Buffer.alloc(8))],
    ['window updates', () => frame(KIND.window, 0, 0, u32(1))],
    ['priority', (round) => frame(KIND.priority, 0, 2 * round + 1, Buffer.from([0, 0, 0, 0, 1]))],
    ['unknown frames', () => frame(200, 0, 0)],
    [
      'empty DATA',
      (round) =>
        round === 0 ? frame(KIND.headers, FLAG.endHeaders, 1, block(POST)) : frame(KIND.data, 0, 1, Buffer.alloc(0)),
    ],
    [
      'DATA of padding',
      (round) =>
        round === 0
          ? frame(KIND.headers, FLAG.endHeaders, 1, block(POST))
          : frame(KIND.data, FLAG.padded, 1, Buffer.from([3, 0, 0, 0])),
    ],
    [
      'CONTINUATION without bytes',
      (round) => (round === 0 ? frame(KIND.headers, 0, 1, block(GET)) : frame(KIND.continuation, 0, 1)),
    ],
    [
      'CONTINUATION with bytes',
      (round) =>
        round === 0
          ? frame(KIND.headers, 0, 1, block(GET))
          : frame(KIND.continuation, 0, 1, block([['x', 'x'.repeat(16_000)]])),
    ],
  ]

  test.each(floods)('a flood of %s ends the connection with ENHANCE_YOUR_CALM, and no other', async (_, make) => {
    const [attacker, good] = await Promise.all([connect(), connect()])
    for (let round = 0; round < 3_000 && !attacker.isClosed; round += 100) {
      attacker.send(...Array.from({ length: 100 }, (_one, at) => make(round + at)))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(await attacker.end()).toBe(CODE.calm)
    good.request(1)
    expect(await good.outcome(1)).toBe('200')
    await expect.poll(() => gateway.frontEnd.inFlight).toBe(0)
    good.destroy()
  })

  test('a window of nothing holds its own stream back only', async () => {
    const client = await connect(false)
    client.send(PREFACE, frame(KIND.settings, 0, 0, setting(4, 0)))
    client.request(1)
    expect(await client.outcome(1)).toBe('200')
    client.request(3, [[':method', 'HEAD'], ...GET.slice(1)])
    expect(await client.outcome(3)).toBe('200')
    expect(client.frames.some(({ kind }) => kind === KIND.data)).toBe(false)
    client.send(frame(KIND.window, 0, 1, u32(100)))
    expect(await client.next(({ kind, stream }) => kind === KIND.data && stream === 1)).toBeDefined()
    client.destroy()
  })
})

describe('H-104: GOAWAY', () => {
  test('comes twice in a drain: with no limit, then with the last stream, which is finished', async () => {
    const own = await startWireGateway(new PlainEvents(), target(upstream.port), { engine: 'native' })
    const client = await FrameClient.open(own.port)
    open.push(client)
    let answer: () => void = () => undefined
    upstream.answer = (_request, socket) => {
      answer = () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi')
    }
    client.request(1)
    await expect.poll(() => own.frontEnd.inFlight).toBe(1)
    own.frontEnd.drain()
    const goaways = (): number[] =>
      client.frames.filter(({ kind }) => kind === KIND.goaway).map(({ payload }) => payload.readUInt32BE(0))
    await expect.poll(goaways).toEqual([0x7fff_ffff])
    const ping = (await client.next(({ kind, flags }) => kind === KIND.ping && flags === 0))!
    client.send(frame(KIND.ping, FLAG.ack, 0, ping.payload))
    await expect.poll(goaways).toEqual([0x7fff_ffff, 1])
    answer()
    expect(await client.next(({ kind, flags }) => kind === KIND.data && (flags & FLAG.end) !== 0)).toBeDefined()
    expect(await client.end()).toBe(CODE.none)
    await own.close()
  })
})

describe('RFC 9113: what breaks the connection, and what does not', () => {
  const GREETING = [PREFACE, frame(KIND.settings, 0, 0)]
  test.each<[string, Buffer[], number]>([
    ['DATA on stream 0', [...GREETING, frame(KIND.data, 0, 0, Buffer.from('x'))], CODE.protocol],
    ['DATA on a stream that was never opened', [...GREETING, frame(KIND.data, 0, 1, Buffer.from('x'))], CODE.protocol],
    ['HEADERS on stream 0', [...GREETING, frame(KIND.headers, 5, 0, block(GET))], CODE.protocol],
    ['HEADERS on an even stream', [...GREETING, frame(KIND.headers, 5, 2, block(GET))], CODE.protocol],
    ['RST_STREAM on an idle stream', [...GREETING, frame(KIND.reset, 0, 1, u32(8))], CODE.protocol],
    [
      'RST_STREAM of another length',
      [...GREETING, frame(KIND.headers, 4, 1, block(POST)), frame(KIND.reset, 0, 1, Buffer.alloc(3))],
      CODE.frameSize,
    ],
    ['SETTINGS on a stream', [...GREETING, frame(KIND.settings, 0, 1)], CODE.protocol],
    ['SETTINGS of another length', [...GREETING, frame(KIND.settings, 0, 0, Buffer.alloc(5))], CODE.frameSize],
    [
      'an acknowledgement with settings',
      [...GREETING, frame(KIND.settings, FLAG.ack, 0, setting(1, 1))],
      CODE.frameSize,
    ],
    ['ENABLE_PUSH of 2', [...GREETING, frame(KIND.settings, 0, 0, setting(2, 2))], CODE.protocol],
    // FLOW_CONTROL_ERROR by §6.5.2; h2 says PROTOCOL_ERROR
    ['a window beyond 2^31 - 1', [...GREETING, frame(KIND.settings, 0, 0, setting(4, 2 ** 31))], CODE.protocol],
    ['a frame size below 2^14', [...GREETING, frame(KIND.settings, 0, 0, setting(5, 100))], CODE.protocol],
    ['PING on a stream', [...GREETING, frame(KIND.ping, 0, 1, Buffer.alloc(8))], CODE.protocol],
    ['PING of another length', [...GREETING, frame(KIND.ping, 0, 0, Buffer.alloc(7))], CODE.frameSize],
    ['WINDOW_UPDATE of another length', [...GREETING, frame(KIND.window, 0, 0, Buffer.alloc(3))], CODE.frameSize],
    ['WINDOW_UPDATE of 0 for the connection', [...GREETING, frame(KIND.window, 0, 0, u32(0))], CODE.protocol],
    [
      'a window of the connection that overflows',
      [...GREETING, frame(KIND.window, 0, 0, u32(0x7fff_ffff))],
      CODE.flowControl,
    ],
    ['PUSH_PROMISE', [...GREETING, frame(KIND.push, 4, 1, u32(2))], CODE.protocol],
    ['CONTINUATION out of place', [...GREETING, frame(KIND.continuation, 4, 1, block(GET))], CODE.protocol],
    [
      'a frame between those of a block',
      [...GREETING, frame(KIND.headers, 1, 1, block(GET)), frame(KIND.ping, 0, 0, Buffer.alloc(8))],
      CODE.protocol,
    ],
    [
      'CONTINUATION of another stream',
      [...GREETING, frame(KIND.headers, 1, 1, block(GET)), frame(KIND.continuation, 4, 3)],
      CODE.protocol,
    ],
    [
      'more padding than frame',
      [...GREETING, frame(KIND.headers, 13, 1, Buffer.concat([Buffer.from([255]), block(GET)]))],
      CODE.protocol,
    ],
    ['a frame beyond 2^14 bytes', [...GREETING, frame(KIND.data, 0, 1, Buffer.alloc(16_385))], CODE.frameSize],
    [
      'an index that no table has',
      [...GREETING, frame(KIND.headers, 5, 1, Buffer.from([0xff, 0xff, 0x7f]))],
      CODE.compression,
    ],
    [
      'a table larger than was allowed',
      [...GREETING, frame(KIND.headers, 5, 1, Buffer.from([0x3f, 0xff, 0xff, 0x7f]))],
      CODE.compression,
    ],
    [
      'Huffman code with padding of zeros',
      [...GREETING, frame(KIND.headers, 5, 1, Buffer.from([0, 0x81, 0x18, 0x01, 0x78]))],
      CODE.compression,
    ],
    ['something before SETTINGS', [PREFACE, frame(KIND.ping, 0, 0, Buffer.alloc(8))], CODE.protocol],
  ])('%s', async (_, bytes, code) => {
    const client = await connect(false)
    client.send(...bytes)
    expect(await client.end()).toBe(code)
    expect(upstream.complete).toEqual([])
  })

  test('a number of a stream that is lower than the last', async () => {
    const client = await connect()
    client.request(5)
    expect(await client.outcome(5)).toBe('200')
    client.request(3)
    expect([CODE.protocol, CODE.streamClosed]).toContain(await client.end())
    expect(upstream.complete).toHaveLength(1)
  })

  const BROKEN: [string, Buffer, number][] = [
    ['DATA behind the end of its request', frame(KIND.data, FLAG.end, 1, Buffer.from('x')), CODE.streamClosed],
    ['HEADERS behind the end of its request', frame(KIND.headers, 5, 1, block(GET)), CODE.streamClosed],
    ['a window that opens by nothing', frame(KIND.window, 0, 1, u32(0)), CODE.protocol],
    ['a window that overflows', frame(KIND.window, 0, 1, u32(0x7fff_ffff)), CODE.flowControl],
    ['PRIORITY of another length', frame(KIND.priority, 0, 1, Buffer.alloc(4)), CODE.frameSize],
  ]
  test.each(BROKEN)('H-105: %s is an error of its stream, and no other', async (_, bytes, code) => {
    const waiting: (() => void)[] = []
    upstream.answer = (_request, socket) =>
      waiting.push(() => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'))
    const client = await connect()
    client.request(1)
    client.request(3)
    await expect.poll(() => waiting.length).toBe(2)
    client.send(bytes)
    expect(await client.outcome(1)).toBe(`reset ${code}`)
    for (const answer of waiting) answer()
    expect(await client.outcome(3)).toBe('200')
    expect(client.isClosed).toBe(false)
    client.destroy()
  })

  test('H-105: with the stream of DATA that nobody takes the window of the connection is given back', async () => {
    upstream.answer = () => undefined
    const client = await connect()
    for (let stream = 1; stream < 21; stream += 2) {
      client.request(stream)
      client.send(frame(KIND.data, FLAG.end, stream, Buffer.alloc(16_384)))
      expect(await client.outcome(stream)).toBe(`reset ${CODE.streamClosed}`)
    }
    const given = client.frames.filter(({ kind, stream }) => kind === KIND.window && stream === 0)
    expect(given.reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0)).toBeGreaterThanOrEqual(10 * 16_384)
    client.destroy()
  })

  test('made-you-reset by such frames is counted (H-103, CVE-2025-8671)', async () => {
    upstream.answer = () => undefined
    for (const [, bytes] of BROKEN) {
      const client = await connect()
      for (let stream = 1; stream < 2_000 && !client.isClosed; stream += 2) {
        const broken = Buffer.from(bytes)
        broken.writeUInt32BE(stream, 5)
        client.send(frame(KIND.headers, FLAG.end | FLAG.endHeaders, stream, block(GET)), broken)
        if (stream % 50 === 1) await new Promise((resolve) => setImmediate(resolve))
      }
      expect(await client.end()).toBe(CODE.calm)
    }
    await expect.poll(() => gateway.frontEnd.inFlight).toBe(0)
  })

  test('frames, flags and settings that nobody knows are passed over; a ping comes back as it was', async () => {
    const client = await connect()
    client.send(
      frame(99, 255, 0, Buffer.from('what')),
      frame(KIND.settings, 0, 0, setting(0x99, 7)),
      frame(KIND.ping, 0x80, 0, Buffer.from('12345678')),
      frame(
        KIND.headers,
        FLAG.end | FLAG.endHeaders | FLAG.priority | 0x80,
        1,
        Buffer.concat([u32(0), Buffer.from([9]), block(GET)]),
      ),
    )
    expect(await client.outcome(1)).toBe('200')
    const pong = await client.next(({ kind, flags }) => kind === KIND.ping && flags === FLAG.ack)
    expect(pong!.payload.toString()).toBe('12345678')
    expect(client.frames.filter(({ kind, flags }) => kind === KIND.settings && flags === FLAG.ack)).toHaveLength(2)
    client.destroy()
  })

  test('H-125: a request in single bytes is the same request', async () => {
    const client = await connect(false)
    const bytes = Buffer.concat([
      PREFACE,
      frame(KIND.settings, 0, 0),
      frame(KIND.headers, FLAG.endHeaders, 1, block(POST)),
      frame(KIND.data, FLAG.end, 1, Buffer.from('abc')),
    ])
    for (const byte of bytes) {
      client.send(Buffer.from([byte]))
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(await client.outcome(1)).toBe('200')
    expect(upstream.complete[0]).toMatchObject({ method: 'POST', body: 'abc' })
    client.destroy()
  })
})
