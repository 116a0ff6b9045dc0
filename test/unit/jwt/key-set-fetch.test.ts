import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { fetchKeySet, keySetUrlProblem, KeySetFetchError, MAX_KEY_SET_BYTES } from '../../../src/jwt/key-set-fetch.ts'

let server: Server | undefined

async function serve(listener: RequestListener): Promise<string> {
  server = createServer(listener)
  await new Promise<void>((resolve) => {
    server!.listen(0, '127.0.0.1', resolve)
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

afterEach(() => {
  server?.close()
  server?.closeAllConnections()
  server = undefined
})

const OPTIONS = { allowHttp: 'loopback', timeoutMs: 1000 } as const

async function failureOf(promise: Promise<unknown>): Promise<KeySetFetchError> {
  const error = await promise.then(
    () => new Error('it went well'),
    (reason: unknown) => reason,
  )
  if (!(error instanceof KeySetFetchError)) throw error
  return error
}

describe('the URL of a key set (T-56)', () => {
  it.each([
    ['https://id.example/jwks', 'loopback'],
    ['https://id.example/jwks', false],
    ['http://127.0.0.1:8080/jwks', 'loopback'],
    ['http://127.9.9.9/jwks', 'loopback'],
    ['http://[::1]/jwks', 'loopback'],
    ['http://localhost/jwks', 'loopback'],
    ['http://id.example/jwks', true],
  ] as const)('%s may be fetched with allow_http %s', (url, allowHttp) => {
    expect(keySetUrlProblem(url, allowHttp)).toBeUndefined()
  })

  it.each([
    ['http://id.example/jwks', 'loopback', /loopback addresses only/],
    ['http://127.0.0.1.evil.test/jwks', 'loopback', /loopback addresses only/],
    ['http://localhost.evil.test/jwks', 'loopback', /loopback addresses only/],
    ['http://10.0.0.1/jwks', 'loopback', /loopback addresses only/],
    ['http://127.0.0.1/jwks', false, /not allowed/],
    ['file:///etc/passwd', true, /scheme file/],
    ['ftp://id.example/jwks', true, /scheme ftp/],
    ['data:application/json,{}', true, /scheme data/],
    ['https://user:secret@id.example/jwks', true, /user name/],
    ['//id.example/jwks', true, /not a URL/],
    ['$JWT_PUBLIC_KEY_URL', true, /not a URL/],
  ] as const)('%s may not with allow_http %s', async (url, allowHttp, problem) => {
    expect(keySetUrlProblem(url, allowHttp)).toMatch(problem)
    expect((await failureOf(fetchKeySet(url, { ...OPTIONS, allowHttp }))).message).toMatch(problem)
  })
})

describe('the download of a key set (T-56)', () => {
  it('brings the text and its tag', async () => {
    const url = await serve((_request, response) => response.setHeader('etag', '"1"').end('{"keys":[]}'))
    expect(await fetchKeySet(url, OPTIONS)).toEqual({ kind: 'document', text: '{"keys":[]}', etag: '"1"' })
  })

  it('follows redirects within the origin', async () => {
    const url = await serve((request, response) => {
      const hop = Number(request.url?.slice(1))
      if (hop >= 3) response.end('there')
      else response.writeHead([301, 302, 307][hop]!, { location: `/${hop + 1}` }).end()
    })
    expect(await fetchKeySet(`${url}/0`, OPTIONS)).toMatchObject({ text: 'there' })
  })

  it.each([
    'http://127.0.0.1:1/jwks',
    'http://localhost/jwks',
    'https://127.0.0.1/jwks',
    '//evil.test/jwks',
    'http://[',
  ])('does not follow a redirect to %s', async (location) => {
    const url = await serve((_request, response) => response.writeHead(302, { location }).end())
    expect((await failureOf(fetchKeySet(url, OPTIONS))).message).toMatch(/another origin/)
  })

  it('ends at its deadline, also in the middle of the body', async () => {
    const url = await serve((_request, response) => response.write('{"keys":'))
    // the body never ends: without the deadline this would wait for ever
    const error = await failureOf(fetchKeySet(url, { ...OPTIONS, timeoutMs: 150 }))
    expect(error.message).toBe('no complete answer within 150 ms')
  })

  it('counts bytes after decompression', async () => {
    const packed = gzipSync(Buffer.alloc(20 * MAX_KEY_SET_BYTES, 0x20))
    const url = await serve((_request, response) => response.setHeader('content-encoding', 'gzip').end(packed))
    expect((await failureOf(fetchKeySet(url, OPTIONS))).message).toMatch(/larger than/)
  })

  it('tells when the server wants to be left alone', async () => {
    const url = await serve((_request, response) => response.writeHead(429, { 'retry-after': '30' }).end())
    expect(await failureOf(fetchKeySet(url, OPTIONS))).toMatchObject({ message: 'answered 429', retryAfterMs: 30_000 })
  })

  it('reads Retry-After as a date, too, and not beyond an hour', async () => {
    const date = new Date(Date.now() + 86_400_000).toUTCString()
    const url = await serve((_request, response) => response.writeHead(503, { 'retry-after': date }).end())
    expect(await failureOf(fetchKeySet(url, OPTIONS))).toMatchObject({ retryAfterMs: 3_600_000 })
  })

  it('takes 304 for an answer only when it asked for a change', async () => {
    const url = await serve((request, response) => {
      response.writeHead(request.headers['if-none-match'] === '"1"' || request.url === '/odd' ? 304 : 200).end()
    })
    expect(await fetchKeySet(url, { ...OPTIONS, etag: '"1"' })).toEqual({ kind: 'unchanged' })
    expect((await failureOf(fetchKeySet(`${url}/odd`, OPTIONS))).message).toMatch(/304/)
  })

  it('names what went wrong with the connection', async () => {
    const url = await serve((_request, response) => response.destroy())
    expect((await failureOf(fetchKeySet(url, OPTIONS))).message).toMatch(/^not reachable/)
    expect((await failureOf(fetchKeySet('http://127.0.0.1:1/', OPTIONS))).message).toMatch(/ECONNREFUSED|bad port/)
  })

  it('ends when it is told to', async () => {
    const url = await serve(() => {})
    const ending = new AbortController()
    setTimeout(() => ending.abort(), 50)
    expect((await failureOf(fetchKeySet(url, { ...OPTIONS, signal: ending.signal }))).message).toMatch(/not reachable/)
  })
})
