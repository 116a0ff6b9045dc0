/** A rule set that changes while requests come: compiled beside the event loop, swapped in one step, no request lost. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startLoad } from '../../support/load.ts'
import { installedRules } from '../../support/rule-set.ts'
import { get, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const RELOADS = 2
const rules = installedRules()
if (rules === undefined) process.stdout.write('skipped: reloads of the rule set: no Core Rule Set installed\n')

const probeRule = (number: number): string =>
  `SecRule ARGS:probe "@streq ${number}" "id:${9_000_000 + number},phase:2,deny,log"\n`

let gateway: RunningGateway
beforeAll(async () => {
  if (rules === undefined) return
  gateway = await startGateway({
    files: { 'own.conf': probeRule(0) },
    config: ({ port }) => `
workers: 2
waf: { rules: ${rules}, include_after: [own.conf] }
endpoints:
  - name: web
    url: http://localhost:${port}
    traffic_policy:
      on_http_request: [{ actions: [{ type: owasp-crs-request }, { type: custom-response, config: { body: fine } }] }]
`,
  })
})
afterAll(() => gateway?.stop())

describe.skipIf(rules === undefined)('a rule set that changes under load', () => {
  it('is in use in every worker when reload returns; no request fails meanwhile', async () => {
    const load = startLoad(`${gateway.url}/?probe=none`, {
      connections: 8,
      check: (_connection, status, body) => (status === 200 && body === 'fine' ? undefined : `${status} ${body}`),
    })
    const probe = async (number: number): Promise<Set<number>> => {
      // new connections: with 12 of them both workers are among them
      const answers = await Promise.all(
        Array.from({ length: 12 }, () => get(`${gateway.url}/?probe=${number}`, { headers: { 'user-agent': 'test' } })),
      )
      return new Set(answers.map(({ status }) => status))
    }
    expect(await probe(0)).toEqual(new Set([403]))
    const answered: number[] = []
    for (let number = 1; number <= RELOADS; number++) {
      gateway.write('own.conf', probeRule(number))
      const before = load.answered
      const { code, stderr } = await gateway.command('reload')
      answered.push(load.answered - before)
      expect(code, stderr).toBe(0)
      expect(await probe(number)).toEqual(new Set([403]))
      expect(await probe(number - 1)).toEqual(new Set([200]))
    }
    // one that does not compile changes nothing
    gateway.write('own.conf', 'SecRule ARGS:probe "@rx (" "id:9000099,deny"\n')
    const refused = await gateway.command('reload')
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(/own\.conf:1:21/)
    expect(await probe(RELOADS)).toEqual(new Set([403]))
    await load.stop()
    console.log(`${RELOADS} rule sets compiled while ${answered.join(', ')} requests were answered`)
    expect(load.failures).toEqual([])
    for (const count of answered) expect(count).toBeGreaterThan(0)
  }, 240_000)
})
