/**
 * Bodies that only the rule matcher wants (issue 6, "Bodies without JavaScript"): on the native engine they are judged where
 * they lie, on the default one they come to JavaScript; what clients and upstreams see is the same on both.
 */
import { type ClientHttp2Session, connect } from 'node:http2'
import type { Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { OWN_RULES } from '../../support/own-rules.ts'
import { openRaw, type RawConnection } from '../../support/raw-client.ts'
import { type RawUpstream, startRawUpstream } from '../../support/raw-upstream.ts'
import { get, pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'
import { testCapabilities } from '../../support/test-engine.ts'

const LIMIT_BYTES = 128 * 1024
const FORM = 'Content-Type: application/x-www-form-urlencoded\r\n'

let gateway: RunningGateway
let upstream: EchoUpstream
/** An upstream that says what a test tells it to. */
let server: RawUpstream
let serve: (socket: Socket) => void = () => undefined

beforeAll(async () => {
  upstream = await startEchoUpstream()
  server = await startRawUpstream((socket) => {
    socket.once('data', () => serve(socket))
  })
  gateway = await startGateway({
    config: ({ port }) => `
workers: 1
listeners: [{ address: 127.0.0.1:${port}, default_endpoint: strict }]
upstream: { retries: 0 }
waf: { rules: ${OWN_RULES}, thread_threshold: 16KiB, request_body: ${LIMIT_BYTES}, response_body: ${LIMIT_BYTES}, request_body_limit_action: process_partial }
endpoints:
  - name: strict
    url: http://strict.test:${port}
    upstream: { url: "http://127.0.0.1:${upstream.port}" }
    traffic_policy:
      on_http_request: [{ actions: [{ type: owasp-crs-request, config: { process_body: true } }] }]
  - name: changed
    url: http://changed.test:${port}
    upstream: { url: "http://127.0.0.1:${upstream.port}" }
    traffic_policy:
      on_http_request:
        - actions:
          - { type: owasp-crs-request, config: { process_body: true } }
          - { type: request-body-find-replace, config: { replacements: [{ from: 'honest', to: 'changed' }] } }
      on_http_response:
        - actions:
          - { type: owasp-crs-response, config: { process_body: true } }
          - { type: response-body-find-replace, config: { replacements: [{ from: 'page', to: 'sheet' }] } }
  - name: pages
    url: http://pages.test:${port}
    upstream: { url: "${server.url}" }
    traffic_policy:
      on_http_response: [{ actions: [{ type: owasp-crs-response, config: { process_body: true } }] }]
  - name: packed
    url: http://packed.test:${port}
    upstream: { url: "${server.url}" }
    traffic_policy:
      on_http_response:
        - actions: [{ type: owasp-crs-response, config: { process_body: true } }, { type: compress-response, config: { algorithms: [gzip] } }]
`,
  })
})

afterAll(async () => {
  await gateway?.stop()
  await upstream?.close()
  server?.close()
})

beforeEach(() => {
  upstream.reset()
})

function post(host: string, body: string, isChunked = false): string {
  const framing = isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`
  const half = body.length >> 1
  const whole = isChunked
    ? `${half.toString(16)}\r\n${body.slice(0, half)}\r\n${(body.length - half).toString(16)}\r\n${body.slice(half)}\r\n0\r\n\r\n`
    : body
  return `POST /form HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: t\r\n${FORM}${framing}\r\n\r\n${whole}`
}

const form = (bytes: number, end: string): string => `a=${'x'.repeat(bytes - 2 - end.length)}${end}`

/** How many scans are open in all workers. */
async function openScans(): Promise<number> {
  const { body } = await get(`${gateway.adminUrl}/metrics`)
  return Number(/^sallyport_waf_transactions (\d+)/m.exec(body)?.[1])
}

async function noScanIsOpen(): Promise<void> {
  let last = -1
  for (const until = performance.now() + 5000; performance.now() < until && last !== 0; await pause(30)) {
    // oxlint-disable-next-line no-await-in-loop -- polling
    last = await openScans()
  }
  expect(last).toBe(0)
}

async function ask(request: string): Promise<RawConnection> {
  const connection = await openRaw(gateway.port)
  connection.send(request)
  return connection
}

describe('request bodies', () => {
  for (const bytes of [100, 15 * 1024, 17 * 1024, LIMIT_BYTES]) {
    for (const isChunked of [false, true]) {
      const framing = isChunked ? 'in chunks' : 'with a length'
      it(`${bytes} bytes ${framing}: an honest one goes upstream as it is`, async () => {
        const body = form(bytes, 'end')
        const connection = await ask(post('strict.test', body, isChunked))
        const [answer] = await connection.answers(1)
        expect(answer?.status).toBe(200)
        expect(upstream.complete[0]?.body).toBe(body)
        connection.destroy()
      })

      it(`${bytes} bytes ${framing}: an attack at its end is blocked, and nothing goes upstream`, async () => {
        const connection = await ask(post('strict.test', form(bytes, '+attack'), isChunked))
        const [answer] = await connection.answers(1)
        expect([answer?.status, answer?.field('ngrok-error-code')]).toEqual([403, 'ERR_NGROK_3700'])
        expect(upstream.requests).toEqual([])
        connection.destroy()
      })
    }
  }

  it('the connection serves on after a block', async () => {
    const connection = await ask(post('strict.test', form(20_000, 'attack')))
    await connection.answers(1)
    connection.send(post('strict.test', form(20_000, 'fine')))
    await connection.answers(2)
    connection.send(post('strict.test', form(200, 'attack')))
    const answers = await connection.answers(3)
    expect(answers.map(({ status }) => status)).toEqual([403, 200, 403])
    connection.destroy()
  })

  it('what a rule matched on is told in the log', async () => {
    const connection = await ask(post('strict.test', form(30_000, 'attack')).replace('/form', '/told'))
    await connection.answers(1)
    connection.destroy()
    const told = () => gateway.log().filter((line) => line.msg === 'waf match' && line['path'] === '/told')
    // oxlint-disable-next-line no-await-in-loop -- polling
    for (const until = performance.now() + 5000; performance.now() < until && told().length < 3;) await pause(20)
    const matches = told()
    expect(matches.map((line) => line['rule_id'])).toEqual([942001, 949110, 980170])
    expect(String(matches[0]?.['variable'])).toBe('ARGS:a')
  })

  it('beyond the limit it passes unseen, whole and in order', async () => {
    const body = form(3 * LIMIT_BYTES, 'attack')
    const connection = await ask(post('strict.test', body))
    const [answer] = await connection.answers(1)
    expect(answer?.status).toBe(200)
    expect(upstream.complete[0]?.body === body).toBe(true)
    connection.destroy()
  })

  it('an attack before the limit is blocked also when the body goes on behind it', async () => {
    const connection = await ask(post('strict.test', `a=attack&b=${'x'.repeat(2 * LIMIT_BYTES)}`))
    expect((await connection.answers(1))[0]?.status).toBe(403)
    expect(upstream.requests).toEqual([])
    connection.destroy()
  })

  it('another action gets the bytes of a body that was judged', async () => {
    const connection = await ask(post('changed.test', form(20_000, '+honest')))
    const [answer] = await connection.answers(1)
    expect(answer?.status).toBe(200)
    expect(upstream.complete[0]?.body).toBe(form(20_000, '+honest').replace('honest', 'changed'))
    connection.destroy()
  })

  it('clients that leave while their bodies are judged: nothing stays', async () => {
    const connections = await Promise.all(Array.from({ length: 20 }, () => openRaw(gateway.port)))
    for (const connection of connections) connection.send(post('strict.test', form(LIMIT_BYTES, 'fine')))
    await pause(10)
    for (const connection of connections) connection.destroy()
    await noScanIsOpen()
  })
})

describe('response bodies', () => {
  const GET = (host: string, more = ''): string => `GET /page HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: t\r\n${more}\r\n`
  const page = (bytes: number, end: string): string => `the page ${'.'.repeat(bytes - 9 - end.length)}${end}`
  const answerWith = (body: string, announced = body.length): void => {
    serve = (socket) => {
      socket.end(
        `HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: ${announced}\r\nconnection: close\r\n\r\n${body}`,
      )
    }
  }

  it('blocked, and the connection serves on', async () => {
    const connection = await openRaw(gateway.port)
    for (const [place, bytes] of [200, 20_000, LIMIT_BYTES].entries()) {
      answerWith(page(bytes, 'a leak'))
      connection.send(GET('pages.test'))
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      expect((await connection.answers(2 * place + 1)).at(-1)?.status).toBe(403)
      answerWith(page(bytes, 'fine'))
      connection.send(GET('pages.test'))
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const answers = await connection.answers(2 * place + 2)
      expect(answers.at(-1)).toMatchObject({ status: 200, body: page(bytes, 'fine') })
    }
    expect(connection.received).not.toContain('a leak')
    connection.destroy()
  })

  for (const bytes of [2000, 100_000]) {
    it(`cut off after ${bytes} bytes: an error, and no byte of it`, async () => {
      answerWith(page(bytes, ''), bytes + 1000)
      const connection = await ask(GET('pages.test'))
      const [answer] = await connection.answers(1)
      expect(answer?.status).toBe(502)
      expect(connection.received).not.toContain('the page')
      connection.destroy()
      await noScanIsOpen()
    })
  }

  it('beyond the limit it passes unseen, whole and in order', async () => {
    const body = page(5 * LIMIT_BYTES, 'a leak')
    answerWith(body)
    const connection = await ask(GET('pages.test'))
    const [answer] = await connection.answers(1)
    expect([answer?.status, answer?.body === body]).toEqual([200, true])
    connection.destroy()
  })

  it('a leak before the limit is blocked also when the body goes on behind it', async () => {
    answerWith(`a leak ${'.'.repeat(3 * LIMIT_BYTES)}`)
    const connection = await ask(GET('pages.test'))
    expect((await connection.answers(1))[0]?.status).toBe(403)
    expect(connection.received).not.toContain('a leak')
    connection.destroy()
  })

  it('another action gets the bytes of a body that was judged', async () => {
    upstream.answer = (_, socket) => {
      const body = page(20_000, 'fine')
      socket.write(`HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
    }
    const connection = await ask(GET('changed.test'))
    const [answer] = await connection.answers(1)
    expect(answer?.body).toBe(page(20_000, 'fine').replace('page', 'sheet'))
    connection.destroy()
  })

  it('judged, then compressed', async () => {
    answerWith(page(50_000, 'fine'))
    const connection = await ask(GET('packed.test', 'Accept-Encoding: gzip\r\n'))
    const [answer] = await connection.answers(1)
    expect([answer?.status, answer?.field('content-encoding')]).toEqual([200, 'gzip'])
    expect(answer!.body.length).toBeLessThan(10_000)
    answerWith(page(50_000, 'a leak'))
    connection.send(GET('packed.test', 'Accept-Encoding: gzip\r\n'))
    expect((await connection.answers(2)).at(-1)?.status).toBe(403)
    connection.destroy()
  })

  it('clients that leave while their answers are judged: nothing stays', async () => {
    answerWith(page(LIMIT_BYTES, 'fine'))
    const connections = await Promise.all(Array.from({ length: 20 }, async () => await ask(GET('pages.test'))))
    await pause(10)
    for (const connection of connections) connection.destroy()
    await noScanIsOpen()
  })
})

describe.skipIf(!testCapabilities.http2)('over HTTP/2', () => {
  /** Status and body of the answer to a form. */
  async function postForm(session: ClientHttp2Session, body: string): Promise<readonly [number, string]> {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/form',
      ':authority': 'strict.test',
      'user-agent': 't',
      'content-type': 'application/x-www-form-urlencoded',
    })
    stream.end(body)
    const status = new Promise<number>((resolve) => {
      stream.once('response', (fields) => resolve(fields[':status'] ?? 0))
    })
    let text = ''
    for await (const chunk of stream.setEncoding('latin1')) text += String(chunk)
    return [await status, text]
  }

  it('bodies of several streams are judged side by side, and go upstream as they are', async () => {
    const session = connect(`http://127.0.0.1:${gateway.port}`)
    const bodies = [100, 20_000, LIMIT_BYTES].flatMap((bytes) => [form(bytes, '+fine'), form(bytes, '+attack')])
    const answers = await Promise.all(bodies.map(async (body) => await postForm(session, body)))
    expect(answers.map(([status]) => status)).toEqual([200, 403, 200, 403, 200, 403])
    const arrived = upstream.complete.map(({ body }) => body).toSorted((a, b) => a.length - b.length)
    expect(arrived).toEqual(bodies.filter((body) => body.endsWith('fine')))
    session.close()
  })

  it('a client that resets its streams while they are judged: nothing stays', async () => {
    const session = connect(`http://127.0.0.1:${gateway.port}`)
    session.on('error', () => undefined)
    const streams = Array.from({ length: 20 }, () =>
      session.request({ ':method': 'POST', ':path': '/', ':authority': 'strict.test', 'content-type': 'text/plain' }),
    )
    for (const stream of streams) stream.on('error', () => undefined).end('x'.repeat(60_000))
    await pause(20)
    for (const stream of streams) stream.close(8)
    await noScanIsOpen()
    session.destroy()
  })
})
