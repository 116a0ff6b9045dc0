/**
 * Requests that a worker's native front end sends up by itself, through whole gateways: nothing about them is different, and
 * whatever is decided anew holds for the very next one. O-23, O-24, O-47, O-67 … O-69, H-71, T-37.
 *
 * Engine: native, and in every run.
 */
import { afterEach, describe, expect, test } from 'vitest'
import { answerText, type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { type RawConnection, openRaw } from '../../support/raw-client.ts'
import { get, pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

async function upstreamOf(): Promise<EchoUpstream> {
  const upstream = await startEchoUpstream()
  closers.push(() => upstream.close())
  return upstream
}

/** `endpoint`: more of it, indented by four; `tail`: more of the file. */
function config(port: number, upstream: string, endpoint = '', tail = 'access_log: { output: off }'): string {
  return `
listeners: [{ address: 127.0.0.1:${port}, engine: native }]
workers: 1
endpoints:
  - name: shop
    url: http://shop.test:${port}
    upstream: ${upstream}
${endpoint}
${tail}
`
}

async function serve(upstream: string, endpoint?: string, tail?: string): Promise<RunningGateway> {
  const gateway = await startGateway({ config: ({ port }) => config(port, upstream, endpoint, tail) })
  closers.push(() => gateway.stop())
  return gateway
}

/** One request after the other on one connection. */
class Client {
  readonly connection: RawConnection
  readonly #methods: string[] = []

  constructor(connection: RawConnection) {
    this.connection = connection
  }

  async ask(
    line = 'GET /',
    fields = '',
    body = '',
    host = 'shop.test',
  ): Promise<{ status: number; id: string; text: string }> {
    this.#methods.push(line.slice(0, line.indexOf(' ')))
    this.connection.send(`${line} HTTP/1.1\r\nHost: ${host}\r\n${fields}\r\n${body}`)
    const answers = await this.connection.answers(this.#methods.length, 5000, this.#methods)
    const answer = answers[this.#methods.length - 1]
    if (answer === undefined) throw new Error(`no answer to ${line}`)
    const text = [answer.status, ...answer.fields.map((field) => field.join(': ')), answer.body].join('\n')
    return { status: answer.status, id: answer.field('x-request-id') ?? '', text }
  }
}

async function clientOf({ port }: RunningGateway): Promise<Client> {
  const connection = await openRaw(port)
  closers.push(async () => connection.destroy())
  return new Client(connection)
}

/** Ids of one source share all digits but those of the time and the last two, for 256 of them. */
const sourceOf = (id: string): string => id.slice(15, 34)

/** Asks until a request has gone up by itself: its id has another source than that of a request that never does. */
async function untilStanding(client: Client): Promise<void> {
  const asked = sourceOf((await client.ask('GET /%2e')).id)
  for (let count = 0; count < 3; count++) if (sourceOf((await client.ask()).id) !== asked) return
  throw new Error('no request has stood')
}

const metrics = async (gateway: RunningGateway, pattern: RegExp): Promise<string[]> =>
  (await get(`${gateway.adminUrl}/metrics`)).body.split('\n').filter((line) => pattern.test(line))

describe('nothing is different', () => {
  test('O-67 O-69: heads that arrive upstream, answers, and O-47: what is counted', async () => {
    const requests: [string, string?, string?][] = [
      ['GET /a?b=%20c', 'accept: */*\r\ncookie: a=b\r\n'],
      ['HEAD /a'],
      ['GET /%2e'],
      ['GET /a//b'],
      ['GET /../x'],
      ['GET /a', 'x-forwarded-for: 10.1.1.1\r\nx-real-ip: 10.1.1.1\r\n'],
      ['GET /a', `traceparent: 00-${'1'.repeat(32)}-${'2'.repeat(16)}-01\r\n`],
      ['POST /a', 'content-length: 2\r\n', 'hi'],
      ['GET /a', 'content-length: 0\r\n'],
      ['GET /a', 'te: trailers\r\n'],
      ['GET /a', 'expect: 100-continue\r\n'],
      ['OPTIONS /a', 'max-forwards: 0\r\n'],
      ['GET /missing'],
      ['GET /a'],
    ]
    const play = async (
      log: string,
    ): Promise<{ heads: string[]; answers: string[]; counts: string[]; sources: Set<string> }> => {
      const upstream = await upstreamOf()
      upstream.answer = (request, socket) => {
        const status = request.target === '/missing' ? 404 : 200
        const text = answerText(status, 'hello', 'x-request-id: theirs\r\nserver: up\r\ndate: now\r\n')
        socket.write(request.method === 'HEAD' ? text.replace('hello', '') : text)
      }
      const gateway = await serve(`{ url: 'http://127.0.0.1:${upstream.port}' }`, '', `access_log: { output: ${log} }`)
      const client = await clientOf(gateway)
      const sources = new Set<string>()
      const answers: string[] = []
      for (const [line, fields, body] of [...requests, ...requests]) {
        const answer = await client.ask(line, fields, body)
        sources.add(sourceOf(answer.id))
        answers.push(answer.text.replaceAll(/[0-9a-f]{8}-[0-9a-f-]{27}/g, 'ID').replace(/^date: .*GMT$/m, 'date: NOW'))
      }
      const own = new RegExp(`${gateway.port}|sallyport \\([^)]*\\)`, 'g')
      const heads = upstream.complete.map(({ head }) =>
        head
          .replaceAll(own, '*')
          .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, 'ID')
          .replace(/00-(?!1{32})[0-9a-f]{32}-/, '00-TRACE-')
          .replace(/-[0-9a-f]{16}-0/, '-SPAN-0'),
      )
      const pattern =
        /^sallyport_(http_requests_total|http_requests_in_flight|http_re\w+_bytes|upstream_requests|upstream_retries|http_request_duration_seconds_count|upstream_\w+_count)/
      const counts = (await metrics(gateway, pattern)).map((line) => line.replace(/127\.0\.0\.1:\d+/, 'TARGET'))
      return { heads, answers, counts, sources }
    }
    const standing = await play('off')
    const asked = await play('access.log')
    expect(standing.heads).toEqual(asked.heads)
    expect(standing.answers).toEqual(asked.answers)
    expect(standing.counts).toEqual(asked.counts)
    expect(standing.counts.length).toBeGreaterThan(8)
    expect([standing.sources.size, asked.sources.size]).toEqual([2, 1])
  })

  test('an endpoint with a rule, a deadline over all legs, statuses to repeat, or another one in its place is asked every time', async () => {
    const upstream = await upstreamOf()
    const url = `url: 'http://127.0.0.1:${upstream.port}'`
    const rule = `traffic_policy: { on_http_response: [{ actions: [{ type: add-headers, config: { headers: { x-a: b } } }] }] }`
    const others = [
      ['rule', url, rule],
      ['total', url, 'timers: { total_timeout: 30s }'],
      ['status', `${url}, retry_on: [503]`, ''],
      ['pooled', url, 'pooling_enabled: true'],
      ['pooled', url, 'pooling_enabled: true'],
    ].map(
      ([host, options, more], place) =>
        `  - name: e${place}\n    url: http://${host}.test\n    upstream: { ${options} }\n    ${more}`,
    )
    const client = await clientOf(await serve(`{ ${url} }`, others.join('\n')))
    await untilStanding(client)
    const asked = sourceOf((await client.ask('GET /%2e')).id)
    for (const host of ['rule', 'total', 'status', 'pooled']) {
      for (let count = 0; count < 4; count++) {
        expect(sourceOf((await client.ask('GET /', '', '', `${host}.test`)).id), host).toBe(asked)
      }
    }
  })

  test('H-57: a request of HTTP/1.0 decides nothing for those of HTTP/1.1', async () => {
    const upstream = await upstreamOf()
    const gateway = await serve(`{ url: 'http://127.0.0.1:${upstream.port}' }`)
    const old = await openRaw(gateway.port)
    old.send('GET /old HTTP/1.0\r\nHost: shop.test\r\n\r\n')
    expect((await old.answers(1))[0]!.status).toBe(200)
    old.destroy()
    await untilStanding(await clientOf(gateway))
    const versions = upstream.complete.map((request) => [request.target, request.field('via')!.slice(0, 3)])
    expect(versions[0]).toEqual(['/old', '1.0'])
    expect(new Set(versions.slice(1).map(([, version]) => version))).toEqual(new Set(['1.1']))
  })

  test('H-71: a leg that fails is repeated under the same names', async () => {
    const upstream = await upstreamOf()
    const client = await clientOf(await serve(`{ url: 'http://127.0.0.1:${upstream.port}' }`))
    await untilStanding(client)
    upstream.reset()
    upstream.answer = (_, socket) => {
      if (upstream.requests.length === 1) socket.destroy()
      else socket.write(answerText(200, 'again'))
    }
    const { status, id } = await client.ask()
    expect(status).toBe(200)
    const [first, second] = upstream.complete
    expect(second!.head).toBe(first!.head)
    expect(first!.field('x-request-id')).toBe(id)
  })
})

describe('what is decided anew holds for the next request', () => {
  test('O-23: a reload', async () => {
    const upstream = await upstreamOf()
    const url = `{ url: 'http://127.0.0.1:${upstream.port}' }`
    const gateway = await serve(url)
    const client = await clientOf(gateway)
    await untilStanding(client)
    const deny =
      '    traffic_policy: { on_http_request: [{ actions: [{ type: deny, config: { status_code: 451 } }] }] }'
    gateway.write('gateway.yaml', config(gateway.port, url, deny))
    expect(await gateway.command('reload')).toMatchObject({ code: 0 })
    expect((await client.ask()).status).toBe(451)
    gateway.write('gateway.yaml', config(gateway.port, url))
    expect(await gateway.command('reload')).toMatchObject({ code: 0 })
    await untilStanding(client)
  })

  test('O-24: what is under way when its endpoint goes ends, in its time or by orphan_timeout', async () => {
    const upstream = await upstreamOf()
    const url = `{ url: 'http://127.0.0.1:${upstream.port}' }`
    const tail = 'access_log: { output: off }\nreload: { orphan_timeout: 500ms }'
    const gateway = await serve(url, '', tail)
    await untilStanding(await clientOf(gateway))
    upstream.reset()
    const late: (() => void)[] = []
    upstream.answer = (_, socket) => late.push(() => socket.write(answerText(200, 'late')))
    const [answered, kept] = [await openRaw(gateway.port), await openRaw(gateway.port)]
    for (const connection of [answered, kept]) connection.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n')
    await expect.poll(() => late.length).toBe(2)
    gateway.write('gateway.yaml', config(gateway.port, url, '', tail).replaceAll('shop', 'other'))
    expect(await gateway.command('reload')).toMatchObject({ code: 0 })
    const [first] = upstream.complete
    late[0]!()
    await expect.poll(() => [answered, kept].filter(({ received }) => received.endsWith('late')).length).toBe(1)
    expect(first!.target).toBe('/')
    await expect.poll(() => [answered, kept].filter(({ isClosed }) => isClosed).length, { timeout: 5000 }).toBe(1)
    await expect
      .poll(() => metrics(gateway, /^sallyport_http_requests_in_flight/))
      .toEqual(['sallyport_http_requests_in_flight 0'])
    for (const connection of [answered, kept]) connection.destroy()
  })

  test('O-06: a target and an endpoint are drained and used again; status knows what is under way', async () => {
    const upstream = await upstreamOf()
    const name = `shop/127.0.0.1:${upstream.port}`
    const gateway = await serve(`{ url: 'http://127.0.0.1:${upstream.port}' }`)
    const client = await clientOf(gateway)
    for (const what of [name, 'shop']) {
      await untilStanding(client)
      upstream.reset()
      const answers: (() => void)[] = []
      upstream.answer = (_, socket) => answers.push(() => socket.write(answerText(200, 'late')))
      const slow = await openRaw(gateway.port)
      slow.send('GET / HTTP/1.1\r\nHost: shop.test\r\n\r\n')
      await expect.poll(() => answers.length).toBe(1)
      expect(await metrics(gateway, /^sallyport_http_requests_in_flight/)).toEqual([
        'sallyport_http_requests_in_flight 1',
      ])
      expect((await gateway.command('drain', what)).code).toBe(0)
      if (what === name) {
        const { stdout } = await gateway.command('status')
        expect(stdout).toMatch(new RegExp(`drained +${name}, in flight 1`))
      }
      expect((await client.ask()).status).toBe(503)
      answers[0]!()
      expect((await slow.answers(1))[0]!.body).toBe('late')
      slow.destroy()
      expect((await gateway.command('undrain', what)).code).toBe(0)
      upstream.reset()
    }
    await untilStanding(client)
  })

  test('T-37: a target that goes is 502 and left out, and stands again when it is back', async () => {
    const upstream = await startEchoUpstream()
    const gateway = await serve(
      `{ url: 'http://127.0.0.1:${upstream.port}', retries: 0, eject_after: 2, eject_time: 1s }`,
    )
    const client = await clientOf(gateway)
    await untilStanding(client)
    await upstream.close()
    const statuses: number[] = []
    for (let count = 0; count < 4; count++) statuses.push((await client.ask()).status)
    expect(statuses).toEqual([502, 502, 502, 502])
    const target = `target="127.0.0.1:${upstream.port}"`
    const counted = await metrics(gateway, /^sallyport_upstream_(ejections|requests)_total/)
    expect(counted).toContain(`sallyport_upstream_ejections_total{${target}} 1`)
    expect(counted.filter((line) => line.includes('connect_failed') || line.includes('upstream_reset'))).not.toEqual([])
    const again = await startEchoUpstream(upstream.port)
    closers.push(() => again.close())
    await pause(1100)
    await untilStanding(client)
    await expect.poll(() => gateway.log().some(({ msg }) => msg === 'target answers again')).toBe(true)
  })

  test('the one that a check leaves is the one that all get', async () => {
    const [a, b] = [await upstreamOf(), await upstreamOf()]
    const targets = `["http://127.0.0.1:${a.port}", "http://127.0.0.1:${b.port}"]`
    const gateway = await serve(`{ targets: ${targets} }`)
    const client = await clientOf(gateway)
    const ask = async (count: number): Promise<[number, number]> => {
      a.reset()
      b.reset()
      for (let at = 0; at < count; at++) await client.ask()
      return [a.requests.length, b.requests.length]
    }
    expect(await ask(6)).toEqual([3, 3])
    expect((await gateway.command('drain', `shop/127.0.0.1:${a.port}`)).code).toBe(0)
    expect(await ask(6)).toEqual([0, 6])
    await untilStanding(client)
    expect((await gateway.command('undrain', `shop/127.0.0.1:${a.port}`)).code).toBe(0)
    expect(await ask(6)).toEqual([3, 3])
  })
})

test('O-21: a gateway that stops waits for what is under way', async () => {
  const upstream = await upstreamOf()
  const gateway = await serve(`{ url: 'http://127.0.0.1:${upstream.port}' }`)
  const client = await clientOf(gateway)
  await untilStanding(client)
  upstream.reset()
  let answer: (() => void) | undefined
  upstream.answer = (_, socket) => {
    answer = () => socket.write(answerText(200, 'late'))
  }
  const asked = client.ask()
  await expect.poll(() => answer).toBeDefined()
  gateway.process.kill('SIGTERM')
  await pause(700)
  answer!()
  const { status, text } = await asked
  expect([status, text.includes('connection: close')]).toEqual([200, true])
  expect(await gateway.exited).toMatchObject({ code: 0 })
})
