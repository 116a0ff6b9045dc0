/** §5.9 http-request: services that record what they are asked, and a policy that tells the client what they said. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { freePorts, get, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

interface Asked {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

let service: Server
let gateway: RunningGateway
let outside: RunningGateway
const asked: Asked[] = []
let answer: (response: ServerResponse, request: Asked) => void

const REPORT = `
  - actions:
      - type: custom-response
        config:
          headers: { content-type: application/json }
          body: "\${actions.ngrok.http_request}"
`

/** Policies by endpoint name: each asks and reports. */
const POLICIES: Record<string, string> = {
  plain: `
on_http_request:
  - actions:
      - type: http-request
        config:
          url: "https://svc.internal/check?a=1"
          method: POST
          query_params:
            - { key: user, value: "\${req.headers['x-user'][0]}" }
            - { key: "k&", value: "a b" }
          headers: { content-type: application/json, X-Token: "t-\${req.method}" }
          body: '{"path":"\${req.url.path}"}'
          timeout: 2s
${REPORT}`,
  retry: `
on_http_request:
  - actions:
      - type: http-request
        config:
          url: https://svc.internal/retry
          retry_condition: "attempts < 3 && (last_attempt.res.status_code >= 500 || last_attempt.res.statusCode == 429) && last_attempt.req.url.endsWith('/retry')"
${REPORT}`,
  always: `
on_http_request:
  - actions: [{ type: http-request, config: { url: https://svc.internal/always, retry_condition: "true" } }]
${REPORT}`,
  once: `
on_http_request:
  - actions: [{ type: http-request, config: { url: https://svc.internal/once } }]
${REPORT}`,
  follow: `
on_http_request:
  - actions:
      - type: http-request
        config:
          { url: https://svc.internal/start, method: POST, body: x, max_redirects: 2, headers: { authorization: secret, content-type: text/plain } }
${REPORT}`,
  halt: `
on_http_request:
  - actions: [{ type: http-request, config: { url: "https://\${req.headers['x-where'][0]}/", on_error: halt, timeout: 1s } }]
${REPORT}`,
  nowhere: `
on_http_request:
  - actions: [{ type: http-request, config: { url: "\${req.headers['x-url'][0]}" } }]
${REPORT}`,
  after: `
on_http_response:
  - actions:
      - { type: http-request, config: { url: https://svc.internal/after, method: PUT, body: "\${res.status_code}" } }
      - { type: add-headers, config: { headers: { x-said: "\${actions.ngrok.http_request.res.body}" } } }
`,
  judged: `
on_http_request:
  - actions: [{ type: http-request, config: { url: https://guarded.internal/ } }]
${REPORT}`,
  loop: `
on_http_request:
  - actions: [{ type: http-request, config: { url: https://loop.internal/ } }]
${REPORT}`,
}

const JSON_TYPE = { 'content-type': 'application/json' }

beforeAll(async () => {
  service = createServer((incoming, response) => {
    let body = ''
    incoming.setEncoding('latin1').on('data', (text: string) => (body += text))
    incoming.on('end', () => {
      const request = { method: incoming.method ?? '', url: incoming.url ?? '', headers: incoming.headers, body }
      asked.push(request)
      answer(response, request)
    })
  })
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve))
  const { port: servicePort } = service.address() as AddressInfo
  const [refusing] = await freePorts(1)
  const upstream = `http://127.0.0.1:${servicePort}`
  const endpoints = (port: number): string[] => [
    'endpoints:',
    ...Object.keys(POLICIES).map(
      (name) =>
        `  - { name: ${name}, url: "http://${name}.case.test:${port}", upstream: { url: "${upstream}" }, traffic_policy_file: ${name}.yaml }`,
    ),
    `  - { name: svc, url: "https://svc.internal", upstream: { url: "${upstream}" } }`,
    `  - { name: down, url: "https://down.internal", upstream: { url: "http://127.0.0.1:${refusing}" } }`,
    `  - name: guarded
    url: https://guarded.internal
    upstream: { url: "${upstream}" }
    traffic_policy:
      on_http_request: [{ actions: [{ type: add-headers, config: { headers: { x-added: "\${conn.client_ip}" } } }] }]
      on_http_response: [{ actions: [{ type: compress-response }, { type: add-headers, config: { headers: { x-passed: "yes" } } }] }]`,
    `  - name: inner-loop
    url: https://loop.internal
    upstream: { url: "${upstream}" }
    traffic_policy:
      on_http_request:
        - actions: [{ type: http-request, config: { url: https://loop.internal/ } }]
${REPORT.replace(/^/gm, '      ')}`,
  ]
  const files = Object.fromEntries(Object.entries(POLICIES).map(([name, policy]) => [`${name}.yaml`, policy]))
  const config =
    (more: string) =>
    ({ port }: { port: number }): string =>
      [`listeners: [{ address: 127.0.0.1:${port} }]`, more, ...endpoints(port)].join('\n')
  ;[gateway, outside] = await Promise.all([
    startGateway({ config: config(''), files }),
    startGateway({ config: config('http_request: { external: true, user_agent: "probe/1" }'), files }),
  ])
})

afterAll(async () => {
  await Promise.all([gateway?.stop(), outside?.stop()])
  service?.closeAllConnections()
  service?.close()
})

beforeEach(() => {
  asked.length = 0
  answer = (response) => response.writeHead(200, JSON_TYPE).end('{"ok":true}')
})

interface Report {
  readonly attempts: readonly {
    readonly resolved_ip: string
    readonly response_status_code: number
    readonly response_time_ms: string
    readonly response_header: Record<string, string[]>
  }[]
  readonly req: { readonly method: string; readonly url: string; readonly body: string; readonly header: object }
  readonly res?: {
    readonly status_code: number
    readonly body: string
    readonly header: Record<string, string[]>
    readonly time_ms: string
    readonly resolved_ip: string
  }
  readonly error?: { readonly code: string; readonly message: string }
}

async function call(
  name: string,
  headers: Record<string, string> = {},
  to: RunningGateway = gateway,
): Promise<{ status: number; headers: Record<string, unknown>; report: Report; body: string }> {
  const reply = await get(`http://127.0.0.1:${to.port}/some/path`, {
    headers: { host: `${name}.case.test:${to.port}`, cookie: 'client=secret', authorization: 'client', ...headers },
  })
  let report = {} as Report
  try {
    report = JSON.parse(reply.body) as Report
  } catch {
    // an error page
  }
  return { status: reply.status, headers: reply.headers, report, body: reply.body }
}

describe('what is asked, and what is told of it', () => {
  it('method, url, parameters, headers and body are the policy’s; nothing of the client goes along', async () => {
    const { report, status } = await call('plain', { 'x-user': 'ann & bob' })
    expect(status).toBe(200)
    expect(asked).toHaveLength(1)
    const [request] = asked
    expect(request).toMatchObject({ method: 'POST', body: '{"path":"/some/path"}' })
    const url = new URL(request!.url, 'http://x')
    expect([...url.searchParams]).toEqual([
      ['a', '1'],
      ['user', 'ann & bob'],
      ['k&', 'a b'],
    ])
    expect(request!.headers).toMatchObject({
      host: 'svc.internal',
      'content-type': 'application/json',
      'x-token': 't-GET',
      'user-agent': 'sallyport',
      'x-forwarded-for': expect.stringMatching(/^127\.0\.0\.1/) as string,
      'ngrok-req-id': expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
      'content-length': '21',
    })
    expect(request!.headers['cookie']).toBeUndefined()
    expect(request!.headers['authorization']).toBeUndefined()
    expect(report.res).toMatchObject({
      status_code: 200,
      body: '{"ok":true}',
      resolved_ip: '127.0.0.1',
      header: { 'content-type': ['application/json'] },
    })
    expect(report.res!.time_ms).toMatch(/^\d+$/)
    expect(report.attempts).toHaveLength(1)
    expect(report.attempts[0]).toMatchObject({ response_status_code: 200, resolved_ip: '127.0.0.1' })
    expect(report.req).toMatchObject({ method: 'POST', body: '{"path":"/some/path"}' })
    expect(report.error).toBeUndefined()
  })

  it('an error status is an answer', async () => {
    answer = (response) => response.writeHead(404).end('no')
    const { report } = await call('once')
    expect(report.res).toMatchObject({ status_code: 404, body: 'no' })
    expect(report.error).toBeUndefined()
  })

  it('the policy of the internal endpoint runs, and an encoded answer is decoded', async () => {
    answer = (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('packed'))
    const { report } = await call('judged')
    expect(asked[0]!.headers['x-added']).toBe('127.0.0.1')
    expect(report.res).toMatchObject({ body: 'packed', header: { 'x-passed': ['yes'] } })
    const line = await gateway.waitForAccess(({ endpoint }) => endpoint === 'guarded')
    expect(line.status).toBe(200)
  })

  it('works in the response phase', async () => {
    answer = (response, { url }) =>
      response.writeHead(url === '/after' ? 200 : 203).end(url === '/after' ? 'noted' : 'page')
    const { body, headers, status } = await call('after')
    expect([status, body, headers['x-said']]).toEqual([203, 'page', 'noted'])
    expect(asked.map(({ method, url, body: sent }) => [method, url, sent])).toEqual([
      ['GET', '/some/path', ''],
      ['PUT', '/after', '203'],
    ])
  })
})

describe('retries and redirects', () => {
  it('retry_condition sees attempts and the last attempt', async () => {
    answer = (response) => response.writeHead(asked.length === 1 ? 500 : 429).end()
    const { report } = await call('retry')
    expect(report.attempts.map((it) => it.response_status_code)).toEqual([500, 429, 429])
    expect(report.res!.status_code).toBe(429)
  })

  it('is not asked after a success, and never allows more than 3 retries', async () => {
    expect((await call('always')).report.attempts).toHaveLength(1)
    answer = (response) => response.writeHead(503).end()
    asked.length = 0
    expect((await call('always')).report.attempts).toHaveLength(4)
    expect(asked).toHaveLength(4)
  })

  it('without it nothing is repeated, and a redirect is an answer', async () => {
    answer = (response) => response.writeHead(302, { location: '/elsewhere' }).end()
    const { report } = await call('once')
    expect(asked).toHaveLength(1)
    expect(report.res).toMatchObject({ status_code: 302, header: { location: ['/elsewhere'] } })
  })

  it('max_redirects follows so many; POST becomes GET; credentials stay with their origin', async () => {
    const seen: unknown[] = []
    answer = (response, { url, method, headers, body }) => {
      seen.push([url, method, body, headers['authorization'], headers['host'], headers['content-type']])
      if (url === '/start') response.writeHead(302, { location: '/next' }).end()
      else if (url === '/next') response.writeHead(307, { location: 'https://guarded.internal/last' }).end()
      else response.writeHead(200).end('there')
    }
    const { report } = await call('follow')
    expect(seen).toEqual([
      ['/start', 'POST', 'x', 'secret', 'svc.internal', 'text/plain'],
      ['/next', 'GET', '', 'secret', 'svc.internal', undefined],
      ['/last', 'GET', '', undefined, 'guarded.internal', undefined],
    ])
    expect(report.res!.body).toBe('there')
    expect(report.req.url).toBe('https://guarded.internal/last')
  })

  it('3214: more than max_redirects', async () => {
    answer = (response) => response.writeHead(302, { location: `/${asked.length}` }).end()
    const { report } = await call('follow')
    expect(asked).toHaveLength(3)
    expect(report.error!.code).toBe('ERR_NGROK_3214')
  })
})

describe('bounds', () => {
  it('3601: an answer beyond 256 KiB, also one that only grows to it', async () => {
    answer = (response) => response.writeHead(200).end('x'.repeat(300_000))
    expect((await call('once')).report.error!.code).toBe('ERR_NGROK_3601')
    answer = (response) => response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('x'.repeat(300_000)))
    expect((await call('once')).report.error!.code).toBe('ERR_NGROK_3601')
    answer = (response) => response.writeHead(200).end('x'.repeat(256 * 1024))
    expect((await call('once')).report.res!.body).toHaveLength(256 * 1024)
  })

  it('3602: no answer in time; halt answers 504', async () => {
    answer = () => {}
    const { status, headers } = await call('halt', { 'x-where': 'svc.internal' })
    expect(status).toBe(504)
    expect(headers['ngrok-error-code']).toBe('ERR_NGROK_3602')
  })

  it('3603: requests that lead to requests', async () => {
    const { report } = await call('loop')
    // each level tells the next one's report
    const codes: string[] = []
    for (let level: Report | undefined = report; level !== undefined;) {
      if (level.error !== undefined) codes.push(level.error.code)
      level = level.res === undefined ? undefined : (JSON.parse(level.res.body) as Report)
    }
    expect(codes).toEqual(['ERR_NGROK_3603'])
    expect(asked).toHaveLength(0)
  })

  it('an internal endpoint that is offline, and one whose upstream is', async () => {
    expect((await call('nowhere', { 'x-url': 'https://nobody.internal/' })).report.error!.code).toBe('ERR_NGROK_3200')
    const down = await call('nowhere', { 'x-url': 'https://down.internal/' })
    expect(down.report.res).toMatchObject({ status_code: 502 })
  })

  it('a url that is none fails closed', async () => {
    const { status, headers } = await call('nowhere', { 'x-url': 'gopher://x' })
    expect([status, headers['ngrok-error-code']]).toEqual([500, 'ERR_NGROK_2253'])
  })
})

describe('hosts outside', () => {
  it('are not asked unless the settings allow it', async () => {
    const { port } = service.address() as AddressInfo
    const { report } = await call('nowhere', { 'x-url': `http://127.0.0.1:${port}/` })
    expect(report.error!.code).toBe('ERR_GW_1085')
    expect(asked).toHaveLength(0)
  })

  it.each([
    '127.0.0.1',
    'localhost',
    '[::1]',
    '169.254.169.254',
    '10.0.0.1',
    '[::ffff:127.0.0.1]',
    '0x7f.1',
    '2130706433',
  ])('F-38: %s is in a private network and never asked', async (host) => {
    const { port } = service.address() as AddressInfo
    const { report } = await call('nowhere', { 'x-url': `http://${host}:${port}/` }, outside)
    expect(report.error!.code).toBe('ERR_GW_1085')
    expect(asked).toHaveLength(0)
  })

  it('private networks are asked where the settings allow that, too', async () => {
    const { port } = service.address() as AddressInfo
    const local = await startGateway({
      config: ({ port: own }) =>
        [
          `listeners: [{ address: 127.0.0.1:${own} }]`,
          'http_request: { external: true, private_networks: true, user_agent: probe/1 }',
          'endpoints:',
          `  - { name: nowhere, url: "http://nowhere.case.test:${own}", traffic_policy_file: p.yaml }`,
        ].join('\n'),
      files: { 'p.yaml': POLICIES['nowhere']! },
    })
    try {
      const { report } = await call('nowhere', { 'x-url': `http://localhost:${port}/x` }, local)
      expect(report.res).toMatchObject({ status_code: 200, body: '{"ok":true}' })
      expect(asked[0]!.headers).toMatchObject({ 'user-agent': 'probe/1', host: `localhost:${port}` })
      expect(asked[0]!.headers['via']).toMatch(/sallyport/)
      answer = (response) => response.writeHead(302, { location: 'https://svc.internal/' }).end()
      expect((await call('nowhere', { 'x-url': `http://localhost:${port}/x` }, local)).report.res!.status_code).toBe(
        302,
      )
    } finally {
      await local.stop()
    }
  })
})
