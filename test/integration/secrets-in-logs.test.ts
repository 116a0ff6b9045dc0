/** T-79, O-60: no token, cookie or password of a client is in any log, whatever part of a request it came in. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts'
import { installedRules } from '../support/rule-set.ts'
import { get, type RunningGateway, startGateway } from '../support/start-gateway.ts'
import { mintUnsigned } from '../support/token-issuer.ts'

const CANARY = 'k4n4ry'
const TOKEN = mintUnsigned({ alg: 'RS256', kid: CANARY }, { sub: CANARY })
/** What the rules find, so that the log of matches quotes its surroundings. */
const ATTACK = '../../../../etc/passwd'
const REQUESTS: readonly {
  readonly title: string
  readonly path?: string
  readonly headers?: Record<string, string>
}[] = [
  { title: 'Authorization', headers: { authorization: `Bearer ${TOKEN}` } },
  { title: 'Authorization with an attack', headers: { authorization: `Basic ${CANARY}${ATTACK}` } },
  { title: 'a cookie', headers: { cookie: `sid=${CANARY}` } },
  { title: 'a cookie with an attack', headers: { cookie: `sid=${CANARY}${ATTACK}` } },
  { title: 'parameters', path: `/?access_token=${CANARY}&code=${CANARY}&X-Amz-Signature=${CANARY}&x=${TOKEN}` },
  { title: 'a parameter that is an attack', path: `/?token=${CANARY}${ATTACK}` },
  { title: 'a parameter beside an attack', path: `/?key=${CANARY}&file=${ATTACK}` },
  { title: 'a path', path: `/reset/${TOKEN};jsessionid=${CANARY}` },
  { title: 'a referer beside an attack', headers: { referer: `http://x/?code=${CANARY}&file=${ATTACK}` } },
  { title: 'a user agent', headers: { 'user-agent': `agent/1 ${TOKEN}` } },
  { title: 'a host', headers: { host: `${TOKEN}.example.com` } },
  { title: 'ids of a trusted peer', headers: { 'x-request-id': TOKEN, traceparent: TOKEN } },
]

const rules = installedRules()
if (rules === undefined) console.log('skipped: secrets in matches of the rule set: no Core Rule Set is installed')

describe('T-79, O-60: logs hold no secret of a client', () => {
  let gateway: RunningGateway
  let upstream: EchoUpstream

  beforeAll(async () => {
    upstream = await startEchoUpstream()
    const inspect = rules === undefined ? '' : '      - { type: owasp-crs-request, config: { on_error: continue } }\n'
    gateway = await startGateway({
      config: ({ port }) => `
listeners: [{ address: 127.0.0.1:${port}, default_endpoint: web }]
trusted_proxies: [127.0.0.1]
access_log: { output: stdout }
log_level: debug
${rules === undefined ? '' : `waf: { rules: "${rules}" }`}
endpoints:
  - { name: web, url: http://localhost, upstream: { url: "http://127.0.0.1:${upstream.port}" }, traffic_policy_file: policy.yaml }
`,
      files: {
        'policy.yaml': `
on_http_request:
  - actions:
${inspect}      - type: log
        config: { metadata: { credentials: "\${req.headers['authorization']}", cookie: "\${req.headers['cookie']}" } }
`,
      },
    })
  })

  afterAll(async () => {
    await gateway?.stop()
    await upstream?.close()
  })

  it.each(REQUESTS)('$title', async ({ path = '/', headers = {} }) => {
    const before = gateway.access().length
    await get(`${gateway.url}${path}`, { headers })
    const deadlineMs = performance.now() + 3000
    while (gateway.access().length === before && performance.now() < deadlineMs) {
      // oxlint-disable-next-line no-await-in-loop -- polling
      await new Promise((resolve) => {
        setTimeout(resolve, 20)
      })
    }
    expect(gateway.access()).toHaveLength(before + 1)
    const text = JSON.stringify(gateway.access()) + gateway.stderr()
    expect(text.split('\n').filter((line) => line.includes(CANARY))).toEqual([])
    expect(text).not.toContain(TOKEN.slice(8))
  })

  it.skipIf(rules === undefined)('and matches were among them', () => {
    const matches = gateway.log().filter((line) => line.msg === 'waf match')
    expect(matches.length).toBeGreaterThan(5)
    expect(matches.some((line) => String(line['value']).includes('etc/passwd'))).toBe(true)
  })
})
