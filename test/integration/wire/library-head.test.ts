/** Heads that are read from the library's memory at once: nobody can tell them from those read field by field. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { readsLibraryMemory } from '../../../src/listener/library-head.ts'
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { exchangeRaw, openRaw } from '../../support/raw-client.ts'
import { PlainEvents, startWireGateway, target, type WireGateway } from '../../support/wire-gateway.ts'

const LIMITS = { uriBytes: 200, headBytes: 400, bodyBytes: 1000 }
const HOST = 'Host: gw.test\r\n'

let upstream: EchoUpstream
let atOnce: WireGateway<PlainEvents>
let byField: WireGateway<PlainEvents>

beforeAll(async () => {
  upstream = await startEchoUpstream()
  atOnce = await startWireGateway(new PlainEvents(), target(upstream.port), { limits: LIMITS, engine: 'uws' })
  byField = await startWireGateway(new PlainEvents(), target(upstream.port), {
    limits: LIMITS,
    engine: 'uws',
    readsMemory: false,
  })
  // the first heads of a process are read both ways
  expect(readsLibraryMemory()).toBe(false)
  for (let count = 0; count < 8; count++) await exchangeRaw(atOnce.port, `GET /a?b HTTP/1.1\r\n${HOST}X-A: b\r\n\r\n`)
  expect(readsLibraryMemory()).toBe(true)
})
afterAll(async () => {
  for (const gateway of [atOnce, byField]) {
    expect(gateway.errors).toEqual([])
    await gateway.close()
  }
  await upstream.close()
})

/** What became of a request, in words that both gateways share. */
async function outcome(gateway: WireGateway<PlainEvents>, request: string): Promise<unknown> {
  const { events } = gateway
  const [heads, facts, refused] = [events.heads.length, events.facts.length, events.refused.length]
  const connection = await openRaw(gateway.port)
  connection.send(request)
  const [answer] = await connection.answers(1, 5000, [request.split(' ', 1)[0]!])
  const isOpen = !(await connection.closed(answer?.field('connection') === 'close' ? 2000 : 20))
  connection.destroy()
  return {
    status: answer?.status,
    isOpen,
    head: events.heads.slice(heads),
    // field by field nobody looks whether a path is plain
    facts: events.facts.slice(facts).map((each) => ({ ...each, receivedAtMs: 0, hasPlainPath: undefined })),
    peer: events.peers.at(-1)?.address,
    refused: events.refused.slice(refused).map(({ status, reason, requestLine }) => [status, reason, requestLine]),
  }
}

const field = (line: string, method = 'GET'): string => `${method} / HTTP/1.1\r\n${HOST}${line}\r\n\r\n`

describe('a head is the same, read at once or field by field', () => {
  const cases: Record<string, string> = {
    'the least': `GET / HTTP/1.1\r\n${HOST}\r\n`,
    'H-07 fields in their order, repeated ones too': field('B: 1\r\nA: 2\r\nB: 3\r\nCookie: a=b\r\nCookie: c=d'),
    'H-10 a method of its own': `MERGE /x HTTP/1.1\r\n${HOST}\r\n`,
    'H-10 a method in lower case': `get /x HTTP/1.1\r\n${HOST}\r\n`,
    'H-10 CONNECT': `CONNECT /x HTTP/1.1\r\n${HOST}\r\n`,
    'H-10 TRACE': `TRACE /x HTTP/1.1\r\n${HOST}\r\n`,
    'H-31 HEAD': `HEAD /x HTTP/1.1\r\n${HOST}\r\n`,
    'H-12 a target of all sorts': `GET /a%20b;c=d/!$&'()*+,=:@?q="<>\\^\`{|}?/ HTTP/1.1\r\n${HOST}\r\n`,
    'H-55 an empty query': `GET /a? HTTP/1.1\r\n${HOST}\r\n`,
    'T-09 backslash': `GET /a\\b HTTP/1.1\r\n${HOST}\r\n`,
    'T-09 fragment behind a query': `GET /a?b#c HTTP/1.1\r\n${HOST}\r\n`,
    'T-12 UTF-8 in the query': `GET /?q=\xc3\xa4 HTTP/1.1\r\n${HOST}\r\n`,
    'T-12 other bytes in the query': `GET /?q=\xe4 HTTP/1.1\r\n${HOST}\r\n`,
    'T-12 UTF-8 in a value': field('X-A: \xc3\xa4'),
    'T-12 other bytes in a value': field('X-A: a\xe4b'),
    'H-03 DEL in a value': field('X-A: a\x7fb'),
    'H-03 HTAB in a value': field('X-A: a\tb'),
    'H-13 the longest target': `GET /${'a'.repeat(199)} HTTP/1.1\r\n${HOST}\r\n`,
    'H-13 a target too long': `GET /${'a'.repeat(200)} HTTP/1.1\r\n${HOST}\r\n`,
    'H-13 the question mark is not counted': `GET /${'a'.repeat(99)}?${'a'.repeat(100)} HTTP/1.1\r\n${HOST}\r\n`,
    'H-14 the largest section': field(`X-A: ${'a'.repeat(400 - 22)}`),
    'H-14 a section too large': field(`X-A: ${'a'.repeat(400 - 21)}`),
    'H-14 lines that stay here count': field(`X-A: ${'a'.repeat(400 - 44)}\r\nConnection: close`),
    'H-15 another host': `GET / HTTP/1.1\r\nHost: GW.test:8080\r\n\r\n`,
    'H-15 a port out of range': `GET / HTTP/1.1\r\nHost: gw.test:65536\r\n\r\n`,
    'H-15 user information in Host': `GET / HTTP/1.1\r\nHost: a@gw.test\r\n\r\n`,
    'H-16 IPv6': `GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n`,
    'H-18 an underscore': field('X_Odd: a'),
    'H-18 an underscore spelling of ours': field('X_Forwarded_For: a'),
    'O-69 fields of proxies': field('X-Forwarded-For: 192.0.2.1'),
    'H-57 Via': field('Via: 1.1 a'),
    'O-68 traceparent': field('Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'),
    'H-07 two Content-Type': field('Content-Type: a/b\r\nContent-Type: a/b'),
    'H-07 two Authorization': field('Authorization: a\r\nAuthorization: a'),
    'H-50 keep-alive': field('Connection: keep-alive'),
    'H-50 close': field('Connection: close'),
    'H-50 two Connection fields': field('Connection: keep-alive\r\nConnection: close'),
    'H-50 in capitals': field('Connection: Keep-Alive'),
    'H-50 named fields': field('Connection: x-a, close\r\nX-A: b'),
    'H-50 hop-by-hop fields': field('Keep-Alive: a\r\nTE: trailers\r\nProxy-Authorization: a\r\nProxy-Connection: a'),
    'H-52 a protected field': field('Connection: host'),
    'H-60 another upgrade': field('Connection: upgrade\r\nUpgrade: foo'),
    'H-61 another expectation': field('Expect: a'),
    'H-20 length and coding': field('Content-Length: 1\r\nTransfer-Encoding: chunked', 'POST') + '1\r\na\r\n0\r\n\r\n',
    'H-21 another coding': field('Transfer-Encoding: gzip', 'POST'),
    'H-23 a length': `${field('Content-Length: 3\r\nConnection: keep-alive', 'POST')}abc`,
    'H-23 a length behind Connection': `${field('Connection: close\r\nContent-Length: 3', 'POST')}abc`,
    'H-23 leading zeros': `${field('Content-Length: 003', 'POST')}abc`,
    'H-23 two lengths': `${field('Content-Length: 3\r\nContent-Length: 3', 'POST')}abc`,
    'H-28 a length of zero': field('Content-Length: 0', 'POST'),
    'H-36 a body too long': field('Content-Length: 1001', 'POST'),
    'H-24 chunks': `${field('Transfer-Encoding: chunked', 'POST')}3\r\nabc\r\n0\r\n\r\n`,
  }
  test.each(Object.entries(cases))('%s', async (_, request) => {
    expect(await outcome(atOnce, request)).toEqual(await outcome(byField, request))
  })

  test('whatever pieces it comes in (H-125)', async () => {
    const request = `GET /a?b=c HTTP/1.1\r\n${HOST}X-A: b\r\nCookie: a=b\r\n\r\n`
    const inPieces = async (gateway: WireGateway<PlainEvents>, at: number): Promise<unknown> => {
      const before = gateway.events.heads.length
      const connection = await openRaw(gateway.port)
      connection.send(request.slice(0, at))
      await new Promise((resolve) => setTimeout(resolve, 5))
      connection.send(request.slice(at))
      const [answer] = await connection.answers(1)
      connection.destroy()
      return [at, answer?.status, gateway.events.heads.slice(before)]
    }
    const seen = []
    for (let at = 1; at < request.length; at += 7) {
      seen.push(await inPieces(atOnce, at))
      expect(seen.at(-1)).toEqual(await inPieces(byField, at))
    }
  })
})

test('each connection keeps its own peer, and a new one never gets that of an old one', async () => {
  const addresses = ['127.0.0.2', '127.0.0.3', '127.0.0.4']
  for (let round = 0; round < 5; round++) {
    const connections = await Promise.all(addresses.map((from) => openRaw(atOnce.port, { from })))
    for (let count = 1; count < 3; count++) {
      for (const [index, connection] of connections.entries()) {
        connection.send(`GET / HTTP/1.1\r\n${HOST}\r\n`)
        await connection.answers(count)
        expect(atOnce.events.peers.at(-1)).toMatchObject({ address: addresses[index], localPort: atOnce.port })
      }
    }
    for (const connection of connections) connection.destroy()
    addresses.push(addresses.shift()!)
  }
})

test('F-17 a PROXY header is refused where none may come', async () => {
  const header = Buffer.from('0d0a0d0a000d0a515549540a2111000cc0000201c00002021f901f91', 'hex').toString('latin1')
  const request = `${header}GET / HTTP/1.1\r\n${HOST}\r\n`
  expect(await outcome(atOnce, request)).toMatchObject({ status: 400, refused: [[400, 'bad_request:F-17', 'GET /']] })
})

test('F-17 a PROXY header behind the first request names nobody', async () => {
  const header = Buffer.from('0d0a0d0a000d0a515549540a2111000cc0000201c00002021f901f91', 'hex').toString('latin1')
  const request = `GET / HTTP/1.1\r\n${HOST}\r\n`
  const connection = await openRaw(atOnce.port)
  connection.send(request)
  await connection.answers(1)
  const before = atOnce.events.peers.at(-1)
  connection.send(header + request)
  await connection.answers(2)
  connection.destroy()
  expect(atOnce.events.peers.at(-1)).toEqual(before)
  expect(before?.address).toMatch(/^127\./)
})

test('H-65 a path that is canonical as it stands is told from one that is not', async () => {
  const plain: Record<string, boolean> = {
    '/': true,
    '/a/b.c?d=%20//': true,
    '/a//b': false,
    '/a/../b': false,
    '/%61': false,
  }
  for (const [target, isPlain] of Object.entries(plain)) {
    await outcome(atOnce, `GET ${target} HTTP/1.1\r\n${HOST}\r\n`)
    expect(atOnce.events.facts.at(-1)?.hasPlainPath, target).toBe(isPlain)
  }
})
