/**
 * Large bodies of answers that are judged at the same time, in threads and on the loop: each client gets the bytes that are
 * its own, also while others leave in the middle, and what actions behind the rules see is the same (issue 4, "Speed").
 */
import { createServer, type Server } from 'node:http'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OWN_RULES } from '../../support/own-rules.ts'
import { type RunningGateway, startGateway } from '../../support/start-gateway.ts'

let gateway: RunningGateway
let server: Server

/** Another page for every number: length, framing and text depend on it. */
function page(number: number): string {
  return `<p>page ${number} </p>`.repeat(Math.ceil(((number % 7) * 70_000 + 100) / 12))
}

beforeAll(async () => {
  server = createServer((request, response) => {
    const number = Number(request.url?.slice(request.url.lastIndexOf('/') + 1))
    const text = page(number)
    response.setHeader('content-type', 'text/html')
    if (number % 3 > 0) response.setHeader('content-length', text.length)
    // in pieces, so that exchanges overlap
    for (let at = 0; at < text.length; at += 50_000) response.write(text.slice(at, at + 50_000))
    response.end()
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  // it listens on a port
  const { port: upstreamPort } = server.address() as { port: number }
  const owasp = '{ type: owasp-crs-response, config: { process_body: true } }'
  const replace =
    '{ type: response-body-find-replace, config: { replacements: [{ from: "page ([0-9]+)", to: "leaf $1" }] } }'
  gateway = await startGateway({
    config: ({ port }) => `
workers: 1
listeners: [{ address: 127.0.0.1:${port}, default_endpoint: web }]
waf: { rules: ${OWN_RULES}, response_body: 1 MiB }
endpoints:
  - name: web
    url: http://web.test:${port}
    upstream: { url: "http://127.0.0.1:${upstreamPort}" }
    traffic_policy:
      on_http_response:
        - actions: [${owasp}]
        - expressions: ["req.url.path.startsWith('/replaced/')"]
          actions: [${replace}]
        - expressions: ["req.url.path.startsWith('/compressed/')"]
          actions: [{ type: compress-response }]
`,
  })
})

afterAll(async () => {
  await gateway?.stop()
  server?.close()
  server?.closeAllConnections()
})

async function get(path: string): Promise<{ status: number; text: string }> {
  const answer = await fetch(`http://127.0.0.1:${gateway.port}${path}`, { headers: { 'user-agent': 't' } })
  return { status: answer.status, text: await answer.text() }
}

/** Asks and leaves before the answer can be complete. */
function leave(path: string): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(gateway.port, '127.0.0.1', () => {
      socket.write(`GET ${path} HTTP/1.1\r\nHost: web.test\r\nUser-Agent: t\r\n\r\n`)
      setTimeout(() => socket.destroy(), Math.random() * 20)
    })
    socket.on('error', () => undefined)
    socket.on('close', () => resolve())
  })
}

describe('large answers at the same time', () => {
  it('each is the one that was asked for', async () => {
    const kinds = ['plain', 'replaced', 'compressed', 'plain']
    const rounds = Array.from({ length: 8 }, (_, lane) => lane)
    await Promise.all(
      rounds.map(async (lane) => {
        for (let step = 0; step < 12; step += 1) {
          const number = lane * 100 + step
          const kind = kinds[(lane + step) % kinds.length]!
          const left = step % 4 === 0 ? leave(`/${kind}/${number + 50}`) : undefined
          const { status, text } = await get(`/${kind}/${number}`)
          const wanted = kind === 'replaced' ? page(number).replaceAll('page', 'leaf') : page(number)
          expect(status).toBe(200)
          // a difference of half a megabyte is no message
          expect(text === wanted, `${kind} ${number} came as it is`).toBe(true)
          await left
        }
      }),
    )
  })
})
