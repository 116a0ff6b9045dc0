/** What gateway.yaml adds to the WAF actions, over real HTTP: modes, levels, limit actions, ModSecurity's lines. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../../support/echo-upstream.ts'
import { OWN_RULES } from '../../support/own-rules.ts'
import { openRaw } from '../../support/raw-client.ts'
import { pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

let upstream: EchoUpstream
const gateways: RunningGateway[] = []

beforeAll(async () => {
  upstream = await startEchoUpstream()
})
afterAll(async () => {
  await Promise.all(gateways.map((gateway) => gateway.stop()))
  await upstream?.close()
})

const RESULTS = `
                x-request: "\${actions.ngrok.owasp_crs_request.decision} \${actions.ngrok.owasp_crs_request.anomaly_score} \${actions.ngrok.owasp_crs_request.anomaly_score_threshold}"
`

async function start(waf: string, config = '{ process_body: true }'): Promise<RunningGateway> {
  const gateway = await startGateway({
    config: ({ port }) => `
workers: 1
listeners: [{ address: 127.0.0.1:${port}, default_endpoint: web }]
waf: { ${waf} }
endpoints:
  - name: web
    url: http://web.test:${port}
    upstream: { url: "http://127.0.0.1:${upstream.port}" }
    traffic_policy:
      on_http_request: [{ actions: [{ type: owasp-crs-request, config: ${config} }] }]
      on_http_response:
        - actions: [{ type: owasp-crs-response, config: ${config} }]
        - actions:
          - type: add-headers
            config:
              headers:${RESULTS}`,
  })
  gateways.push(gateway)
  return gateway
}

async function send(gateway: RunningGateway, path: string, body = ''): ReturnType<typeof answerOf> {
  const type = 'Content-Type: application/x-www-form-urlencoded\r\n'
  const fields = body === '' ? '' : `${type}Content-Length: ${body.length}\r\n`
  return await answerOf(
    gateway,
    `${body === '' ? 'GET' : 'POST'} ${path} HTTP/1.1\r\nHost: web.test\r\nUser-Agent: t\r\n${fields}\r\n${body}`,
  )
}

async function answerOf(gateway: RunningGateway, request: string) {
  const connection = await openRaw(gateway.port)
  connection.send(request)
  const [answer] = await connection.answers(1)
  connection.destroy()
  return { status: answer?.status, result: answer?.field('x-request'), code: answer?.field('ngrok-error-code') }
}

/** Answers with a page of so many bytes that ends in a leak. */
function leak(bytes: number): void {
  upstream.answer = (_, socket) => {
    const body = 'a leak'.padStart(bytes, '.')
    socket.write(`HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: ${bytes}\r\n\r\n${body}`)
  }
}

describe('waf settings', () => {
  it('mode: on blocks; results tell decision, score and threshold', async () => {
    const gateway = await start(`rules: ${OWN_RULES}, inbound_threshold: 6, modsecurity_log: modsec.log`)
    upstream.reset()
    expect(await send(gateway, '/?a=fine')).toMatchObject({ status: 200, result: 'allow 0 6' })
    expect(await send(gateway, '/?a=attack')).toMatchObject({ status: 200, result: 'allow 5 6' })
    expect(await send(gateway, '/?a=attack&b=attack')).toMatchObject({ status: 403, code: 'ERR_NGROK_3700' })
    // ModSecurity's lines, beside the events of the log
    let lines = ''
    for (const until = performance.now() + 3000; performance.now() < until && !lines.includes('949110');) {
      // oxlint-disable-next-line no-await-in-loop -- the log is written a little later
      await pause(50)
      lines = readFileSync(join(gateway.folder, 'modsec.log'), 'utf8')
    }
    expect(lines).toMatch(
      /ModSecurity: Warning\. Match at ARGS:a\. .*\[id "942001"\].*\[hostname "web\.test"\] \[uri "\/"\]/,
    )
    expect(lines).toMatch(/ModSecurity: Access denied with code 403 \(phase 2\)\. .*\[id "949110"\]/)
    expect(lines).toMatch(/\[id "980170"\] \[msg "Scores: 10"\]/)
    const events = gateway.log().filter(({ msg }) => msg === 'waf match')
    expect(events.find((event) => event['rule_id'] === 942001)).toMatchObject({
      endpoint: 'web',
      variable: 'ARGS:a',
      value: 'attack',
      score: 5,
      anomaly_score: 5,
      phase: 2,
      tags: ['attack-own'],
    })
    expect(events.find((event) => event['rule_id'] === 949110)).toMatchObject({ blocked: true })
  })

  it('mode: detection_only logs and blocks nothing', async () => {
    const gateway = await start(`rules: ${OWN_RULES}, mode: detection_only`)
    upstream.reset()
    expect(await send(gateway, '/?a=attack')).toMatchObject({ status: 200, result: 'allow 5 5' })
    leak(100)
    expect(await send(gateway, '/leak')).toMatchObject({ status: 200 })
    const line = await gateway.waitForAccess(({ path }) => path === '/leak')
    expect(line['waf_rules']).toEqual(expect.arrayContaining([953001]))
  })

  it('mode: off needs no rule set and lets everything pass', async () => {
    const gateway = await start('rules: nowhere, mode: off')
    upstream.reset()
    expect(await send(gateway, '/?a=attack')).toMatchObject({ status: 200, result: 'allow 0 5' })
    const line = await gateway.waitForAccess(({ path }) => path === '/?a=attack')
    expect(line).not.toHaveProperty('waf_score')
  })

  it('limit actions: a request is inspected in part, a response is refused', async () => {
    const gateway = await start(
      `rules: ${OWN_RULES}, request_body: 1KiB, request_body_limit_action: process_partial, response_body: 1KiB, response_body_limit_action: reject`,
    )
    const filler = 'x'.repeat(3000)
    upstream.reset()
    // what fits is judged, what does not arrives all the same, whole
    expect(await send(gateway, '/first', `a=attack&b=${filler}`)).toMatchObject({ status: 403 })
    upstream.answer = (_, socket) => void socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')
    expect(await send(gateway, '/last', `b=${filler}&a=attack`)).toMatchObject({ status: 200 })
    expect(upstream.complete.at(-1)?.body).toBe(`b=${filler}&a=attack`)
    // the log may come a moment after the answer
    await expect
      .poll(() => gateway.log().some(({ msg }) => msg === 'a request body is not inspected as a whole'))
      .toBe(true)
    leak(1025)
    expect(await send(gateway, '/large')).toMatchObject({ status: 500, code: 'ERR_NGROK_3701' })
    expect((await gateway.waitForAccess(({ path }) => path === '/large')).reason).toBe('waf:response_too_large')
    leak(1024)
    expect(await send(gateway, '/fits')).toMatchObject({ status: 403, code: 'ERR_NGROK_3702' })
  })

  it('by default a large request is refused, and a large page inspected in part', async () => {
    const gateway = await start(`rules: ${OWN_RULES}, request_body: 1KiB, response_body: 1KiB`)
    upstream.reset()
    expect(await send(gateway, '/', 'x'.repeat(1025))).toMatchObject({ status: 413 })
    leak(1025)
    expect(await send(gateway, '/')).toMatchObject({ status: 200 })
  })

  it('on_error: continue refuses no body: what would have been refused is told', async () => {
    const gateway = await start(`rules: ${OWN_RULES}, request_body: 1KiB`, '{ process_body: true, on_error: continue }')
    upstream.reset()
    const answer = await send(gateway, '/', 'x'.repeat(1025))
    expect(answer.status).toBe(200)
    expect(answer.result).toMatch(/^deny /)
  })
})
