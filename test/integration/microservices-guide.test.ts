/**
 * The microservices guide, its policy byte for byte: three AgentEndpoint manifests, a CloudEndpoint that carries the
 * policy, `$NAMES` filled in by `substitutions`, upstreams mapped by `upstream_hosts`. Skipped where the shared data is
 * not beside the checkout; the demo tells the same story with a policy of our own.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts'
import { installedRules } from '../support/rule-set.ts'
import { get, type RunningGateway, startGateway } from '../support/start-gateway.ts'
import { startTokenIssuer, type TokenIssuer } from '../support/token-issuer.ts'

const POLICY = fileURLToPath(
  new URL(
    '../../../shared/policies/add-headers-forward-internal-jwt-validation-etc--microservices-gateway--6-apply-traffic.yaml',
    import.meta.url,
  ),
)
const SERVICES = ['user', 'order', 'notification'] as const
const missing = !existsSync(POLICY)
  ? 'the shared policies are not beside the checkout'
  : installedRules() === undefined
    ? 'no Core Rule Set is installed'
    : ''
if (missing !== '') console.log(`skipped: the microservices guide: ${missing}`)

const manifests = SERVICES.map(
  (name) => `apiVersion: ngrok.k8s.ngrok.com/v1alpha1
kind: AgentEndpoint
metadata: { name: ${name}-service, namespace: default }
spec:
  url: https://${name}-service.internal
  upstream: { url: http://${name}-service.default.svc.cluster.local:8080 }
`,
).join('---\n')

describe.skipIf(missing !== '')('the microservices guide', () => {
  let gateway: RunningGateway
  let issuer: TokenIssuer
  const upstreams = new Map<string, EchoUpstream>()

  beforeAll(async () => {
    // the policy writes https://$JWT_ISSUER
    issuer = await startTokenIssuer({ issuer: 'https://id.example.org' })
    for (const name of SERVICES) upstreams.set(name, await startEchoUpstream())
    const policy = readFileSync(POLICY, 'utf8')
    gateway = await startGateway({
      config: ({ port }) => `
listeners: [{ address: 127.0.0.1:${port} }]
access_log: { output: stdout }
manifests: [manifests.yaml, cloud.yaml]
waf: { rules: ${installedRules()} }
upstream_hosts:
${SERVICES.map((name) => `  ${name}-service.default.svc.cluster.local:8080: 127.0.0.1:${upstreams.get(name)!.port}`).join('\n')}
substitutions:
  values: { JWT_ISSUER: id.example.org, JWT_AUDIENCE: api, JWT_PUBLIC_KEY_URL: "${issuer.jwksUrl}" }
`,
      files: {
        'manifests.yaml': manifests,
        'cloud.yaml': `apiVersion: ngrok.k8s.ngrok.com/v1alpha1
kind: CloudEndpoint
metadata: { name: api }
spec:
  url: http://localhost
  trafficPolicy:
    targetRef: { name: api }
---
apiVersion: ngrok.k8s.ngrok.com/v1alpha1
kind: NgrokTrafficPolicy
metadata: { name: api }
spec:
  policy:
${policy.replace(/^(?=.)/gm, '    ')}`,
      },
    })
  })

  afterAll(async () => {
    await gateway?.stop()
    await issuer?.stop()
    await Promise.all([...upstreams.values()].map((upstream) => upstream.close()))
  })

  const bearer = async (options: Parameters<TokenIssuer['mint']>[0] = {}): Promise<Record<string, string>> => ({
    authorization: `Bearer ${await issuer.mint({ sub: 'ann', aud: 'api', ...options })}`,
  })

  for (const name of SERVICES) {
    it(`routes /api/${name}s to its service and adds the tracing headers`, async () => {
      const answer = await get(`${gateway.url}/api/${name}s/1`, { headers: await bearer() })
      expect(answer.status, answer.body).toBe(200)
      expect(upstreams.get(name)!.requests.at(-1)?.target).toBe(`/api/${name}s/1`)
      expect(answer.headers['x-service-version']).toBe('v1.0')
      expect(answer.headers['x-processed-at']).toMatch(/^\d{4}-\d\d-\d\dT/)
      expect(answer.headers['x-client-ip']).toBe('127.0.0.1')
    })
  }

  it('no token: 401 with ERR_NGROK_3401', async () => {
    const answer = await get(`${gateway.url}/api/users/1`)
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([401, 'ERR_NGROK_3401'])
  })

  it('another issuer: 403', async () => {
    const headers = await bearer({ iss: 'https://elsewhere.example' })
    expect((await get(`${gateway.url}/api/users/1`, { headers })).status).toBe(403)
  })

  it('SQL injection in the query: 403 by the rule set, before the token is looked at', async () => {
    const answer = await get(`${gateway.url}/api/users/1?id=${encodeURIComponent("1' OR '1'='1' -- ")}`)
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([403, 'ERR_NGROK_3700'])
  })

  it('a tampered token: 401', async () => {
    const { authorization = '' } = await bearer()
    const at = authorization.lastIndexOf('.') + 20
    const tampered = authorization.slice(0, at) + (authorization[at] === 'A' ? 'B' : 'A') + authorization.slice(at + 1)
    const answer = await get(`${gateway.url}/api/users/1`, { headers: { authorization: tampered } })
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([401, 'ERR_NGROK_3401'])
  })

  it('a subject: exactly 1000 an hour over both workers, then 429; another one still passes', async () => {
    const headers = await bearer({ sub: 'bob' })
    const statuses: number[] = []
    let left = 1040
    const lane = async (): Promise<void> => {
      while (left > 0) {
        left -= 1
        const { status, headers: fields } = await get(`${gateway.url}/api/users/1`, { headers })
        statuses.push(status)
        if (status === 429) expect(Number(fields['retry-after'])).toBeGreaterThan(0)
      }
    }
    await Promise.all(Array.from({ length: 8 }, lane))
    expect(statuses.filter((status) => status === 200)).toHaveLength(1000)
    expect(statuses.filter((status) => status === 429)).toHaveLength(40)
    expect((await get(`${gateway.url}/api/users/1`, { headers: await bearer({ sub: 'carol' }) })).status).toBe(200)
  })

  it('a stopped upstream: 502 with a reason code, the others go on', async () => {
    await upstreams.get('order')!.close()
    const answer = await get(`${gateway.url}/api/orders/1`, { headers: await bearer() })
    expect(answer.status).toBe(502)
    expect(answer.headers['sallyport-error-code']).toMatch(/^ERR_GW_/)
    expect((await get(`${gateway.url}/api/users/1`, { headers: await bearer() })).status).toBe(200)
  })

  it('a path no rule ends: 404 with ERR_NGROK_6029', async () => {
    const answer = await get(`${gateway.url}/elsewhere`, { headers: await bearer() })
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([404, 'ERR_NGROK_6029'])
  })

  it('§1.3: check warns that every terminating rule is conditional', async () => {
    const { code, stderr } = await gateway.command('check')
    expect(code).toBe(0)
    expect(stderr).toContain('ERR_NGROK_2235')
  })
})
