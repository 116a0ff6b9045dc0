/**
 * The Core Rule Set 3.3.4 of Debian's package `modsecurity-crs` loads with the rules that docs/waf.md names left out, and
 * blocks; without that setting exactly those rules are refused. scripts/ensure-servers.mjs installs the package.
 */
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEchoUpstream } from '../../support/echo-upstream.ts'
import { get, runCommand, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const RULES = '/usr/share/modsecurity-crs/rules'
const SETUP = '/etc/modsecurity/crs/crs-setup.conf'
const LEFT_OUT = [910_100, 910_140, 942_130]

const isThere = existsSync(RULES) && existsSync(SETUP)
if (!isThere) process.stdout.write('skipped: CRS 3.3.4: no Debian package modsecurity-crs here\n')

describe.skipIf(!isThere)('CRS 3.3.4', () => {
  let folder = ''
  let gateway: RunningGateway | undefined
  let upstream: Awaited<ReturnType<typeof startEchoUpstream>> | undefined

  const config = (port: number, leftOut: readonly number[], upstreamPort = 1): string => `
listeners: [{ address: "127.0.0.1:${port}", default_endpoint: a }]
waf: { rules: ${folder}, leave_out_rules: [${leftOut.join(', ')}] }
endpoints:
  - name: a
    url: http://localhost:${port}
    upstream: { url: http://127.0.0.1:${upstreamPort} }
    traffic_policy:
      on_http_request: [{ actions: [{ type: owasp-crs-request, config: { process_body: true } }] }]
`

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-crs3-'))
    cpSync(RULES, join(folder, 'rules'), { recursive: true, dereference: true })
    cpSync(SETUP, join(folder, 'crs-setup.conf'))
    upstream = await startEchoUpstream()
    const upstreamPort = upstream.port
    gateway = await startGateway({ config: ({ port }) => config(port, LEFT_OUT, upstreamPort) })
  })

  afterAll(async () => {
    await gateway?.stop()
    await upstream?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  it('loads, and says which rules it leaves out', () => {
    const said = gateway!.stderr()
    expect(said).toContain('waf.leave_out_rules leaves out 3 rules')
    for (const id of LEFT_OUT) expect(said).toContain(String(id))
  })

  it('lets a harmless request pass and blocks an attack', async () => {
    expect((await get(`${gateway!.url}/shop?q=red+shoes`)).status).toBe(200)
    expect((await get(`${gateway!.url}/?id=1%27%20OR%20%271%27=%271%27%20--%20`)).status).toBe(403)
    expect((await get(`${gateway!.url}/?file=../../../../etc/passwd`)).status).toBe(403)
  })

  it('without the setting it is refused for these rules alone', async () => {
    writeFileSync(join(folder, 'gateway.yaml'), config(18_080, []))
    const result = await runCommand(['check', '-c', 'gateway.yaml'], { folder })
    expect(result.code).not.toBe(0)
    expect(result.stderr).toMatch(/@geoLookup/)
    expect(result.stderr).toMatch(/@rbl/)
    expect(result.stderr).toMatch(/look-ahead|back-reference/)
    expect(result.stderr).not.toMatch(/look-behind|possessive|collating|macro in a pattern/)
  })
})
