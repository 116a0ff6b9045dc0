/**
 * The LLM guide: one command puts a JWT-checking gateway in front of a server that streams tokens as Server-Sent Events.
 * H-39: streams are flushed at once; F-19: long silences survive.
 */
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { installedRules } from '../support/rule-set.ts'
import { freePorts, get, type RunningGateway, startGateway } from '../support/start-gateway.ts'
import { startTokenIssuer, type TokenIssuer } from '../support/token-issuer.ts'

const TOKENS = 100
const GAP_MS = 20
const AUDIENCE = 'llm-api'

/** An OpenAI-compatible chat completion, one token each 20 ms, every event stamped when it was written. */
function startModel(): Promise<{ server: Server; port: number; aborted: number[] }> {
  const aborted: number[] = []
  const server = createServer((incoming, outgoing) => {
    incoming.resume()
    outgoing.once('close', () => {
      if (!outgoing.writableFinished) aborted.push(performance.now())
    })
    void stream(incoming, outgoing).catch(() => outgoing.destroy())
  })
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ server, port: (server.address() as AddressInfo).port, aborted }))
  })
}

async function stream(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const event = (index: number): string =>
    `data: ${JSON.stringify({ object: 'chat.completion.chunk', at: performance.timeOrigin + performance.now(), choices: [{ delta: { content: `t${index} ` } }] })}\n\n`
  if (incoming.url === '/v1/slow') await sleep(30_000)
  outgoing.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  if (incoming.url === '/v1/pauses') {
    outgoing.write(event(0))
    await sleep(25_000)
    outgoing.end(`${event(1)}data: [DONE]\n\n`)
    return
  }
  for (let index = 0; index < TOKENS && !outgoing.destroyed; index += 1) {
    outgoing.write(event(index))
    await sleep(GAP_MS)
  }
  outgoing.end('data: [DONE]\n\n')
}

interface Streamed {
  readonly status: number
  /** When each event was written and when it arrived, milliseconds since the epoch. */
  readonly events: readonly { readonly writtenAt: number; readonly arrivedAt: number }[]
  readonly text: string
}

function read(url: string, token: string | undefined, options: { abortAfterEvents?: number } = {}): Promise<Streamed> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      url,
      {
        agent: false,
        headers: { connection: 'close', ...(token === undefined ? {} : { authorization: `Bearer ${token}` }) },
      },
      (incoming) => {
        let text = ''
        const events: { writtenAt: number; arrivedAt: number }[] = []
        const done = (): void => resolve({ status: incoming.statusCode ?? 0, events, text })
        incoming.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk
          for (const match of chunk.matchAll(/"at":([\d.]+)/g)) {
            events.push({ writtenAt: Number(match[1]), arrivedAt: performance.timeOrigin + performance.now() })
          }
          if (events.length === options.abortAfterEvents) {
            outgoing.destroy()
            done()
          }
        })
        incoming.once('end', done)
        incoming.once('error', reject)
      },
    )
    outgoing.once('error', reject)
    outgoing.end()
  })
}

const policy = (issuer: TokenIssuer): string => `
      - type: jwt-validation
        config:
          issuer: { allow_list: [{ value: "${issuer.issuer}" }] }
          audience: { allow_list: [{ value: "${AUDIENCE}" }] }
          http: { tokens: [{ type: jwt, method: header, name: Authorization, prefix: "Bearer " }] }
          jws:
            allowed_algorithms: [RS256]
            keys: { sources: { additional_jkus: ["${issuer.jwksUrl}"] } }
`

describe('the LLM guide', () => {
  let model: Awaited<ReturnType<typeof startModel>>
  let issuer: TokenIssuer
  const gateways: RunningGateway[] = []
  let token: string
  let silences: Promise<[Streamed, Streamed]>

  async function start(policyText: string, settings = ''): Promise<RunningGateway> {
    const [port = 0] = await freePorts(1)
    const gateway = await startGateway({
      verb: [
        'http',
        `http://127.0.0.1:${model.port}`,
        '--url',
        `http://localhost:${port}`,
        '--traffic-policy-file',
        'policy.yml',
      ],
      config: `access_log: { output: stdout }\n${settings}`,
      files: { 'policy.yml': policyText },
    })
    gateways.push(gateway)
    return { ...gateway, url: `http://localhost:${port}` }
  }

  beforeAll(async () => {
    model = await startModel()
    issuer = await startTokenIssuer()
    token = await issuer.mint({ sub: 'ann', aud: AUDIENCE })
    // looked at by the last test: the others run meanwhile
    const gateway = await start(`on_http_request:\n  - actions:${policy(issuer)}`)
    const { url } = gateway
    silences = Promise.all([read(`${url}/v1/slow`, token), read(`${url}/v1/pauses`, token)])
    silences.catch(() => {})
  })

  afterAll(async () => {
    await Promise.all(gateways.map((gateway) => gateway.stop()))
    await issuer.stop()
    model.server.close()
    model.server.closeAllConnections()
  })

  it('lets nobody through without a valid token', async () => {
    const gateway = await start(`on_http_request:\n  - actions:${policy(issuer)}`)
    const refused = await get(`${gateway.url}/v1/chat/completions`)
    expect(refused.status).toBe(401)
    expect(refused.headers['ngrok-error-code']).toBe('ERR_NGROK_3401')
    expect(refused.headers['www-authenticate']).toMatch(/^Bearer/)
    const other = await issuer.mint({ sub: 'ann', aud: 'another' })
    const forbidden = await get(`${gateway.url}/v1/x`, { headers: { authorization: `Bearer ${other}` } })
    expect(forbidden.status).toBe(403)
  })

  it('understands the inbound/outbound format of 2024', async () => {
    const gateway = await start(`inbound:\n  - name: only with a token\n    actions:${policy(issuer)}outbound: []\n`)
    expect((await get(`${gateway.url}/v1/x`)).status).toBe(401)
    const answer = await read(`${gateway.url}/v1/chat/completions`, token)
    expect(answer.status).toBe(200)
    expect(answer.events).toHaveLength(TOKENS)
  })

  it.skipIf(installedRules() === undefined)('streams token by token, also with owasp-crs-response', async () => {
    const both = `on_http_request:\n  - actions:${policy(issuer)}on_http_response:\n  - actions: [{ type: owasp-crs-response, config: { process_body: true } }]\n`
    const gateway = await start(both, `waf: { rules: "${installedRules()}" }\n`)
    const { events, text } = await read(`${gateway.url}/v1/chat/completions`, token)
    expect(events).toHaveLength(TOKENS)
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
    // each token is here before the next one is written; how much the gaps grow is measured by `npm run bench -- --scenario sse`
    const early = events.filter((event, index) => event.arrivedAt < (events[index + 1]?.writtenAt ?? Infinity))
    expect(early.length).toBeGreaterThanOrEqual(TOKENS * 0.9)
  })

  it('a client that goes away aborts the upstream request within 100 ms', async () => {
    const gateway = await start(`on_http_request:\n  - actions:${policy(issuer)}`)
    model.aborted.length = 0
    await read(`${gateway.url}/v1/chat/completions`, token, { abortAfterEvents: 5 })
    const goneAt = performance.now()
    while (model.aborted.length === 0 && performance.now() - goneAt < 2_000) await sleep(5)
    expect(model.aborted).toHaveLength(1)
    expect(model.aborted[0]! - goneAt).toBeLessThan(100)
  })

  it('F-19: a first byte after 30 s and a pause of 25 s survive', { timeout: 60_000 }, async () => {
    const [slow, paused] = await silences
    expect(slow.status).toBe(200)
    expect(slow.events).toHaveLength(TOKENS)
    expect(paused.events).toHaveLength(2)
    expect(paused.text.endsWith('data: [DONE]\n\n')).toBe(true)
  })
})
