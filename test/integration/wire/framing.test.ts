/** Requests that must be refused, and connections that must end: everything the library leaves to us. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { testCapabilities } from '../../support/test-engine.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

let upstream: EchoUpstream
let gateway: WireGateway<PlainEvents>

beforeAll(async () => {
  upstream = await startEchoUpstream()
  gateway = await startWireGateway(new PlainEvents(), target(upstream.port), {
    limits: { uriBytes: 8_000, headBytes: 16_000 },
  })
})
afterAll(async () => {
  expect(gateway.errors).toEqual([])
  expect(gateway.frontEnd.inFlight).toBe(0)
  await gateway.close()
  await upstream.close()
})
beforeEach(() => {
  upstream.reset()
  gateway.events.refused.length = 0
})

const HOST = 'Host: gw.test\r\n'

/** What the upstream saw first, without `connection: keep-alive`: a pool may say so or not. */
const passed = (): readonly (readonly [string, string])[] =>
  upstream.requests[0]!.fields.filter(([name]) => name !== 'connection')

describe('refusals: right status, closed, recorded, nothing upstream', () => {
  const cases: [name: string, request: string, status: number, reason: string][] = [
    ['H-07 two Content-Type', `GET / HTTP/1.1\r\n${HOST}Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n`, 400, 'H-07'],
    ['H-07 two Authorization', `GET / HTTP/1.1\r\n${HOST}Authorization: a\r\nAuthorization: b\r\n\r\n`, 400, 'H-07'],
    ['H-10 CONNECT', `CONNECT /x HTTP/1.1\r\n${HOST}\r\n`, 501, 'H-10'],
    ['H-10 TRACE', `TRACE /x HTTP/1.1\r\n${HOST}\r\n`, 405, 'H-10'],
    ['H-10 a method of 33 bytes', `${'M'.repeat(33)} /x HTTP/1.1\r\n${HOST}\r\n`, 501, 'H-10'],
    ['T-09 a byte above 0x7F in the path', `GET /\xe4 HTTP/1.1\r\n${HOST}\r\n`, 400, 'H-12'],
    ['T-12 a byte in the query that is not UTF-8', `GET /?q=\xe4 HTTP/1.1\r\n${HOST}\r\n`, 400, 'H-12'],
    ['T-09 fragment behind a query', `GET /a?b#c HTTP/1.1\r\n${HOST}\r\n`, 400, 'H-12'],
    ['T-09 backslash', `GET /a\\b HTTP/1.1\r\n${HOST}\r\n`, 400, 'H-12'],
    ['T-09 fragment', `GET /a#b HTTP/1.1\r\n${HOST}\r\n`, 400, 'H-12'],
    ['H-13 a long target', `GET /${'a'.repeat(8_000)} HTTP/1.1\r\n${HOST}\r\n`, 414, 'H-13'],
    ['H-14 a large header section', `GET / HTTP/1.1\r\n${HOST}X-A: ${'a'.repeat(16_000)}\r\n\r\n`, 431, 'H-14'],
    ['H-15 user information in Host', `GET / HTTP/1.1\r\nHost: a@gw.test\r\n\r\n`, 400, 'H-15'],
    ['H-15 a port out of range', `GET / HTTP/1.1\r\nHost: gw.test:65536\r\n\r\n`, 400, 'H-15'],
    ['H-15 a path in Host', `GET / HTTP/1.1\r\nHost: gw.test/a\r\n\r\n`, 400, 'H-15'],
    [
      'H-21 an unknown coding before chunked',
      `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`,
      501,
      'H-21',
    ],
    [
      'H-21 chunked twice',
      `POST / HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n`,
      400,
      'H-21',
    ],
    ['H-50 Connection that is no list', `GET / HTTP/1.1\r\n${HOST}Connection: a b\r\n\r\n`, 400, 'H-50'],
    [
      'H-52 Connection names Authorization',
      `GET / HTTP/1.1\r\n${HOST}Authorization: x\r\nConnection: close, authorization\r\n\r\n`,
      400,
      'H-52',
    ],
    [
      'H-52 Connection names X-Forwarded-For',
      `GET / HTTP/1.1\r\n${HOST}Connection: X-Forwarded-For\r\n\r\n`,
      400,
      'H-52',
    ],
    ['H-60 another upgrade', `GET / HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: x\r\n\r\n`, 501, 'H-60'],
    ['H-90 no version', `GET / HTTP/1.1\r\n${HOST}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n`, 426, 'H-90'],
    ['H-61 another expectation', `POST / HTTP/1.1\r\n${HOST}Expect: coffee\r\nContent-Length: 1\r\n\r\na`, 417, 'H-61'],
    ['T-12 bytes that are not UTF-8', `GET / HTTP/1.1\r\n${HOST}X-A: a\xe4b\r\n\r\n`, 400, 'H-03'],
    ['H-03 DEL in a value', `GET / HTTP/1.1\r\n${HOST}X-A: a\x7fb\r\n\r\n`, 400, 'H-03'],
  ]
  // what the library decodes and cannot give back is refused there
  const judged = cases.filter(([name]) => !testCapabilities.strict || !name.startsWith('T-12'))
  test.each(judged)('%s', async (_name, request, status, reason) => {
    const { answers, isClosed } = await exchangeRaw(gateway.port, request)
    expect(answers.map((answer) => answer.status)).toEqual([status])
    expect(answers[0]!.field('connection')).toMatch(/^close\b/)
    expect(answers[0]!.isComplete).toBe(true)
    expect(answers[0]!.field('cache-control')).toBe('no-store')
    expect(gateway.events.refused.map((refused) => [refused.status, refused.reason])).toEqual([
      [status, `bad_request:${reason}`],
    ])
    expect(gateway.events.refused[0]!.peerAddress).toBe('127.0.0.1')
    expect(upstream.raw.join('')).toBe('')
    // closes within the time it lingers
    expect(isClosed || (await closesSoon(request))).toBe(true)
  })

  async function closesSoon(request: string): Promise<boolean> {
    const connection = await openRaw(gateway.port)
    connection.send(request)
    return connection.closed(3_000)
  }

  // In these the library's own check comes after our handler (F-05): whichever answer arrives, it is a refusal.
  const framings: [name: string, fields: string][] = [
    ['T-01 Content-Length and Transfer-Encoding', 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n'],
    ['T-28 two Content-Length that differ', 'Content-Length: 5\r\nContent-Length: 6\r\n'],
    ['T-28 two equal Content-Length', 'Content-Length: 5\r\nContent-Length: 5\r\n'],
    ['T-01 a list of lengths', 'Content-Length: 5, 5\r\n'],
    ['T-01 a signed length', 'Content-Length: +5\r\n'],
    ['T-01 an empty length', 'Content-Length: \r\n'],
    ['T-01 a hexadecimal length', 'Content-Length: 0x5\r\n'],
    ['T-28 two Transfer-Encoding', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n'],
    ['T-01 an odd coding', 'Transfer-Encoding: xchunked\r\n'],
    ['T-01 a quoted coding', 'Transfer-Encoding: "chunked"\r\n'],
  ]
  test.each(framings)('%s, with a second request behind it', async (_name, fields) => {
    const connection = await openRaw(gateway.port)
    connection.send(`POST /first HTTP/1.1\r\n${HOST}${fields}\r\n0\r\n\r\nGET /second HTTP/1.1\r\n${HOST}\r\n`)
    expect(await connection.closed(4_000)).toBe(true)
    expect((await connection.answers(1, 0)).every((answer) => answer.status >= 400)).toBe(true)
    expect(upstream.raw.join('')).toBe('')
  })
})

describe('the library by itself (pinned: a new version must be looked at)', () => {
  const answers = async (...parts: string[]): Promise<string> => {
    const connection = await openRaw(gateway.port)
    for (const part of parts) {
      connection.send(part)
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    const [answer] = await connection.answers(1, 500)
    connection.destroy()
    return answer === undefined ? 'nothing' : String(answer.status)
  }

  test.skipIf(testCapabilities.strict)('F-06 HTTP/1.0, absolute-form, OPTIONS *, a bare LF: 505', async () => {
    expect(await answers('GET / HTTP/1.0\r\nHost: a\r\n\r\n')).toBe('505')
    expect(await answers('GET http://gw.test/ HTTP/1.1\r\nHost: gw.test\r\n\r\n')).toBe('505')
    expect(await answers('OPTIONS * HTTP/1.1\r\nHost: gw.test\r\n\r\n')).toBe('505')
    expect(await answers('GET / HTTP/1.1\nHost: gw.test\n\n')).toBe('505')
  })

  test.skipIf(testCapabilities.strict)('a segment that ends behind the method or inside the version: 505', async () => {
    expect(await answers('GET ', `/a HTTP/1.1\r\n${HOST}\r\n`)).toBe('505')
    expect(await answers('GET /a HTT', `P/1.1\r\n${HOST}\r\n`)).toBe('505')
    expect(await answers('GET /a', `bc HTTP/1.1\r\n${HOST}\r\n`)).toBe('200')
    expect(await answers('GET /abc HTTP/1.1\r\n', `${HOST}\r\n`)).toBe('200')
  })

  test.skipIf(testCapabilities.strict)('F-07 98 header fields pass, 99 are 431', async () => {
    const fields = (count: number): string => Array.from({ length: count }, (_, index) => `X-${index}: a\r\n`).join('')
    expect(await answers(`GET /a HTTP/1.1\r\n${HOST}${fields(97)}\r\n`)).toBe('200')
    expect(await answers(`GET /a HTTP/1.1\r\n${HOST}${fields(98)}\r\n`)).toBe('431')
  })

  test.skipIf(testCapabilities.strict)(
    'F-12 no Host, folding, white space before the colon: neither an answer nor a close for now',
    async () => {
      expect(await answers('GET / HTTP/1.1\r\n\r\n')).toBe('nothing')
      expect(await answers(`GET / HTTP/1.1\r\n${HOST}X-A: b\r\n c\r\n\r\n`)).toBe('nothing')
      expect(await answers(`GET / HTTP/1.1\r\n${HOST}X-A : b\r\n\r\n`)).toBe('nothing')
      expect(upstream.raw.join('')).toBe('')
    },
  )

  test.skipIf(testCapabilities.strict)(
    'a line with an empty name hides what is behind it, from everybody',
    async () => {
      expect(await answers(`GET /a HTTP/1.1\r\n${HOST}X-A: 1\r\n: 2\r\nX-B: 3\r\n\r\n`)).toBe('200')
      expect(passed().map(([name]) => name)).toEqual(['host', 'x-a'])
    },
  )
})

describe('what passes', () => {
  test('T-07 methods go through unchanged, unknown ones too', async () => {
    for (const method of ['get', 'GeT', 'PROPFIND', 'X!#$%&', 'M'.repeat(32)]) {
      await exchangeRaw(gateway.port, `${method} /m HTTP/1.1\r\n${HOST}\r\n`)
    }
    expect(upstream.complete.map((request) => request.method)).toEqual([
      'get',
      'GeT',
      'PROPFIND',
      'X!#$%&',
      'M'.repeat(32),
    ])
  })

  test('T-12 UTF-8 inside a value goes through byte for byte', async () => {
    await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}X-A: caf\xc3\xa9 \xf0\x9f\x98\x80x\r\n\r\n`)
    expect(upstream.requests[0]!.field('x-a')).toBe('caf\xc3\xa9 \xf0\x9f\x98\x80x')
    expect(gateway.events.heads.at(-1)).toContain('x-a: caf\xc3\xa9 \xf0\x9f\x98\x80x\r\n')
  })

  test.skipIf(testCapabilities.strict)(
    'T-12 bytes above 0x7F at the ends of a value are lost in the library, for everybody behind it alike',
    async () => {
      await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}X-A: \xc3\xa9x\xc3\xa9\r\n\r\n`)
      expect(gateway.events.heads.at(-1)).toContain('x-a: x\r\n')
      expect(upstream.requests[0]!.field('x-a')).toBe('x')
    },
  )

  test('H-55 the target goes through byte for byte', async () => {
    for (const path of ['/a%2Fb/../c;d=e', '/x?', '/x?a=%zz&b', '//double', '/"<>^`{|}']) {
      await exchangeRaw(gateway.port, `GET ${path} HTTP/1.1\r\n${HOST}\r\n`)
    }
    expect(upstream.complete.map((request) => request.target)).toEqual([
      '/a%2Fb/../c;d=e',
      '/x?',
      '/x?a=%zz&b',
      '//double',
      '/"<>^`{|}',
    ])
  })

  test('H-50 hop-by-hop fields stop here, those that Connection names too, and are told beside the head', async () => {
    await exchangeRaw(
      gateway.port,
      `GET / HTTP/1.1\r\n${HOST}Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\nProxy-Authorization: y\r\nTE: trailers\r\nTrailer: x\r\nUpgrade: h2c\r\nHTTP2-Settings: z\r\nX-End: 2\r\n\r\n`,
    )
    // TE is made anew where trailers can be delivered
    const own = testCapabilities.trailers ? ['te'] : []
    expect(passed().map(([name]) => name)).toEqual(['host', 'x-end', ...own])
    if (testCapabilities.trailers) expect(upstream.requests[0]!.all('connection')).toEqual(['te'])
    const { connectionLines } = gateway.events.facts.at(-1)!
    expect(connectionLines).toContain('connection: keep-alive, X-Hop\r\n')
    expect(connectionLines).toContain('x-hop: 1\r\n')
    expect(connectionLines).toContain('te: trailers\r\n')
  })

  test('H-18 underscore spellings of trusted names are dropped, others kept', async () => {
    await exchangeRaw(
      gateway.port,
      `GET / HTTP/1.1\r\n${HOST}X_Forwarded_For: 1.2.3.4\r\nX_Real_IP: 5\r\nmy_name: 6\r\n\r\n`,
    )
    expect(passed().map(([name]) => name)).toEqual(['host', 'my_name'])
  })

  test('H-07 repeated fields keep their order', async () => {
    await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}X-A: 1\r\nX-B: 2\r\nX-A: 3\r\n\r\n`)
    expect(passed().slice(1)).toEqual([
      ['x-a', '1'],
      ['x-b', '2'],
      ['x-a', '3'],
    ])
  })

  test('H-29 GET, DELETE and OPTIONS carry bodies', async () => {
    for (const method of ['GET', 'DELETE', 'OPTIONS']) {
      await exchangeRaw(gateway.port, `${method} /b HTTP/1.1\r\n${HOST}Content-Length: 3\r\n\r\nabc`)
    }
    expect(upstream.complete.map((request) => [request.method, request.body, request.field('content-length')])).toEqual(
      [
        ['GET', 'abc', '3'],
        ['DELETE', 'abc', '3'],
        ['OPTIONS', 'abc', '3'],
      ],
    )
  })
})

describe('chunked requests (T-03, T-04)', () => {
  test.skipIf(testCapabilities.strict)('the body arrives, and the connection closes after the answer', async () => {
    const connection = await openRaw(gateway.port)
    connection.send(`POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n`)
    await new Promise((resolve) => setTimeout(resolve, 50))
    connection.send('6\r\n world\r\n0\r\n\r\n')
    const [answer] = await connection.answers(1)
    expect(answer!.body).toBe('POST /c\n11 bytes\nhello world')
    expect(answer!.field('connection')).toBe('close')
    expect(await connection.closed(2_000)).toBe(true)
    expect(upstream.complete[0]!.field('content-length')).toBeUndefined()
  })

  test.skipIf(testCapabilities.strict)('a second request in the same segment is never served', async () => {
    const connection = await openRaw(gateway.port)
    connection.send(
      `POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n${HOST}\r\n`,
    )
    expect(await connection.closed(3_000)).toBe(true)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(upstream.requests.map((request) => request.target)).not.toContain('/smuggled')
    expect(connection.received).not.toContain('/smuggled')
  })

  test('what F-03 lets through as a second request is never served', async () => {
    const connection = await openRaw(gateway.port)
    connection.send(
      `POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\nXXGET /smuggled HTTP/1.1\r\n${HOST}\r\n`,
    )
    expect(await connection.closed(3_000)).toBe(true)
    expect(upstream.requests.map((request) => request.target)).not.toContain('/smuggled')
  })

  test.skipIf(testCapabilities.strict)(
    'a second request in a later segment, before the answer, is never served',
    async () => {
      upstream.answer = () => {}
      const connection = await openRaw(gateway.port)
      connection.send(`POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`)
      await new Promise((resolve) => setTimeout(resolve, 50))
      connection.send(`GET /smuggled HTTP/1.1\r\n${HOST}\r\n`)
      expect(await connection.closed(3_000)).toBe(true)
      expect(upstream.requests.map((request) => request.target)).toEqual(['/c'])
    },
  )

  test.skipIf(testCapabilities.strict)(
    'an answer of unknown length to a chunked request is whole and closes',
    async () => {
      upstream.answer = (_request, socket) => {
        socket.write('HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n')
        setTimeout(() => socket.write('3\r\ndef\r\n0\r\n\r\n'), 50)
      }
      const connection = await openRaw(gateway.port)
      connection.send(`POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n`)
      const [answer] = await connection.answers(1)
      expect(answer).toMatchObject({ status: 200, body: 'abcdef', isChunked: true, isComplete: true })
      expect(answer!.field('connection')).toBe('close')
      expect(await connection.closed(2_000)).toBe(true)
      expect(connection.received.endsWith('\r\n0;end=": "\r\n\r\n')).toBe(true)
    },
  )

  test.skipIf(testCapabilities.strict)(
    'an answer of known length to a chunked request, in pieces, is whole and closes',
    async () => {
      upstream.answer = (_request, socket) => {
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc')
        setTimeout(() => socket.write('def'), 50)
      }
      const connection = await openRaw(gateway.port)
      connection.send(`POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n`)
      const [answer] = await connection.answers(1)
      expect(answer).toMatchObject({ status: 200, body: 'abcdef', isComplete: true })
      expect(answer!.field('content-length')).toBe('6')
      expect(await connection.closed(2_000)).toBe(true)
      expect(connection.received.endsWith('abcdef')).toBe(true)
    },
  )

  test.skipIf(testCapabilities.strict).each([
    ['204', 'HTTP/1.1 204 No Content\r\n\r\n', 204, undefined],
    ['304 with a length', 'HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n', 304, '7'],
    ['200 without a body', 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n', 200, '0'],
  ])('%s to a chunked request closes', async (_name, bytes, status, length) => {
    upstream.answer = (_request, socket) => socket.write(bytes)
    const connection = await openRaw(gateway.port)
    connection.send(`POST /c HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n`)
    const [answer] = await connection.answers(1)
    expect(answer!.status).toBe(status)
    expect(answer!.field('content-length')).toBe(length)
    expect(answer!.fields.filter(([name]) => name === 'date')).toHaveLength(1)
    expect(await connection.closed(2_000)).toBe(true)
    expect(connection.received.split('\r\n\r\n')).toHaveLength(2)
  })
})

describe('connections', () => {
  test.each(['close', 'Close, X-A', 'keep-alive, close'])('Connection: %s is obeyed (F-08, H-53)', async (value) => {
    const connection = await openRaw(gateway.port)
    connection.send(`GET /a HTTP/1.1\r\n${HOST}Connection: ${value}\r\n\r\n`)
    const [answer] = await connection.answers(1)
    expect(answer!.status).toBe(200)
    expect(answer!.fields.filter(([name]) => name === 'connection')).toEqual([['connection', 'close']])
    expect(await connection.closed(2_000)).toBe(true)
  })

  test.skipIf(testCapabilities.strict)('a value of five letters makes the library close too (F-08)', async () => {
    const connection = await openRaw(gateway.port)
    connection.send(`GET /a HTTP/1.1\r\n${HOST}Connection: x-abc\r\n\r\n`)
    const [answer] = await connection.answers(1)
    expect(answer!.status).toBe(200)
    expect(await connection.closed(2_000)).toBe(true)
  })

  test.skipIf(testCapabilities.strict)(
    'T-27 a second request before the answer closes the connection and aborts the first (F-09)',
    async () => {
      upstream.answer = () => {}
      const connection = await openRaw(gateway.port)
      connection.send(`GET /first HTTP/1.1\r\n${HOST}\r\n`)
      await new Promise((resolve) => setTimeout(resolve, 50))
      connection.send(`GET /second HTTP/1.1\r\n${HOST}\r\n`)
      expect(await connection.closed(1_000)).toBe(true)
      await new Promise((resolve) => setTimeout(resolve, 100))
      expect(upstream.requests.map((request) => request.target)).toEqual(['/first'])
      expect(upstream.closes.length).toBe(1)
      expect(gateway.events.done.at(-1)!.record.end).toBe('client_abort')
      expect(gateway.frontEnd.inFlight).toBe(0)
    },
  )

  test('many requests on one connection, bodies of all sizes', async () => {
    const connection = await openRaw(gateway.port)
    for (let index = 0; index < 40; index++) {
      const body = 'x'.repeat(index * 997)
      connection.send(`POST /n${index} HTTP/1.1\r\n${HOST}Content-Length: ${body.length}\r\n\r\n${body}`)
      const answers = await connection.answers(index + 1)
      expect(answers).toHaveLength(index + 1)
      expect(answers[index]!.body.startsWith(`POST /n${index}\n${body.length} bytes\n`)).toBe(true)
    }
    connection.destroy()
  })

  test('H-31 HEAD keeps its length as metadata, has no body, and keeps the connection', async () => {
    const connection = await openRaw(gateway.port)
    connection.send(`HEAD /h HTTP/1.1\r\n${HOST}\r\n`)
    const [head] = await connection.answers(1, 2_000, ['HEAD'])
    expect(head!.field('content-length')).toBe('16')
    connection.send(`GET /g HTTP/1.1\r\n${HOST}\r\n`)
    const answers = await connection.answers(2, 2_000, ['HEAD', 'GET'])
    expect(answers[1]!.body).toBe('GET /g\n0 bytes\n')
    expect(new Set(upstream.requests.map((request) => request.connection)).size).toBe(1)
    connection.destroy()
  })

  test('H-31 a body behind 304 and 204 never reaches the client, and the upstream connection goes', async () => {
    upstream.answer = (request, socket) => {
      if (request.target === '/304') socket.write('HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\nevil')
      else socket.write('HTTP/1.1 204 No Content\r\ncontent-length: 4\r\n\r\nevil')
    }
    const connection = await openRaw(gateway.port)
    connection.send(`GET /304 HTTP/1.1\r\n${HOST}\r\n`)
    await connection.answers(1)
    connection.send(`GET /204 HTTP/1.1\r\n${HOST}\r\n`)
    const answers = await connection.answers(2)
    expect(answers.map((answer) => [answer.status, answer.field('content-length')])).toEqual([
      [304, '4'],
      [204, undefined],
    ])
    expect(connection.received).not.toContain('evil')
    expect(upstream.requests[0]!.connection).not.toBe(upstream.requests[1]!.connection)
    connection.destroy()
  })

  test('response heads: hop-by-hop out, Set-Cookie apart, one Date, bytes kept (H-50, H-07, F-11, T-12)', async () => {
    upstream.answer = (_request, socket) => {
      socket.write(
        Buffer.from(
          'HTTP/1.1 200 Gut\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nSet-Cookie: a=1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nSet-Cookie: b=2\r\nX-Raw: caf\xe9\r\nContent-Length: 2\r\n\r\nok',
          'latin1',
        ),
      )
    }
    const { answers } = await exchangeRaw(gateway.port, `GET / HTTP/1.1\r\n${HOST}\r\n`)
    const [answer] = answers
    expect(answer!.reason).toBe('Gut')
    expect(answer!.fields.map(([name]) => name).sort()).toEqual([
      'content-length',
      'date',
      'set-cookie',
      'set-cookie',
      'x-raw',
    ])
    expect(answer!.field('x-raw')).toBe('caf\xe9')
    // the library writes its own, whatever it is given (F-11)
    expect(answer!.field('date')!.includes('2024')).toBe(testCapabilities.strict)
  })
})
