/** `ip` and `global` are the gateway's: one count over all workers, kept over reloads, gone when they expire (seclang.md §10.1). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openRaw } from '../../support/raw-client.ts'
import { get, pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

/** A limit such as the DoS plugin has: the fifth request is blocked; what /count counts expires after three seconds. */
const RULES = `
SecAction "id:900990,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},initcol:global=global"
SecRule REQUEST_FILENAME "@streq /count" "id:900991,phase:1,pass,nolog,setvar:ip.requests=+1,expirevar:ip.requests=3"
SecRule REQUEST_FILENAME "@streq /kept" "id:900995,phase:1,pass,nolog,setvar:ip.requests=+1"
SecRule REQUEST_FILENAME "@streq /all" "id:900992,phase:1,pass,nolog,setvar:global.requests=+1"
SecRule IP:requests "@ge 5" "id:900993,phase:2,deny,log,msg:'%{ip.requests} requests'"
SecRule GLOBAL:requests "@ge 1" "id:900994,phase:2,pass,log,msg:'%{global.requests} in all'"
`
const WORKERS = 2

const config = (port: number, more = ''): string => `
workers: ${WORKERS}
listeners: [{ address: 127.0.0.1:${port}, default_endpoint: web }]
trusted_proxies: [127.0.0.1]
waf: { rules: crs, collection_records: 64 }
${more}
endpoints:
  - name: web
    url: http://web.test:${port}
    traffic_policy:
      on_http_request: [{ actions: [{ type: owasp-crs-request }, { type: custom-response, config: { body: fine } }] }]
`

let gateway: RunningGateway
beforeAll(async () => {
  gateway = await startGateway({ config: ({ port }) => config(port), files: { 'crs/own.conf': RULES } })
})
afterAll(() => gateway?.stop())

/** Each on a connection of its own, so that the kernel spreads them over the workers. */
async function ask(path: string, address: string): Promise<number> {
  const connection = await openRaw(gateway.port)
  connection.send(`GET ${path} HTTP/1.1\r\nHost: web.test\r\nX-Forwarded-For: ${address}\r\n\r\n`)
  const [answer] = await connection.answers(1)
  connection.destroy()
  return answer?.status ?? 0
}

async function askMany(path: string, address: string, count: number): Promise<number[]> {
  const statuses: number[] = []
  // oxlint-disable-next-line no-await-in-loop -- in order
  while (statuses.length < count) statuses.push(await ask(path, address))
  return statuses
}

const workersOf = (path: string): Set<unknown> =>
  new Set(gateway.log().flatMap((line) => (line.msg === 'waf match' && line['path'] === path ? [line['worker']] : [])))

describe('collections', () => {
  it('ip counts over all workers and blocks at the limit, each address for itself', async () => {
    expect(await askMany('/count', '203.0.113.1', 6)).toEqual([200, 200, 200, 200, 403, 403])
    expect(await askMany('/count', '203.0.113.2', 1)).toEqual([200])
  })

  it('global counts the same in every worker', async () => {
    // until both have told their count
    let asked = 0
    for (; asked < 60 && workersOf('/all').size < WORKERS; asked++) {
      // oxlint-disable-next-line no-await-in-loop -- in order
      await ask('/all', '203.0.113.3')
      // oxlint-disable-next-line no-await-in-loop -- the log is written a little later
      await pause(30)
    }
    await pause(200)
    expect(workersOf('/all').size).toBe(WORKERS)
    const told = gateway.log().flatMap((line) => (line['path'] === '/all' ? [String(line['message'])] : []))
    expect(new Set(told)).toEqual(new Set(Array.from({ length: asked }, (_, at) => `${at + 1} in all`)))
  })

  it('what they hold outlives a reload that changes the rules', async () => {
    await askMany('/kept', '203.0.113.4', 3)
    gateway.write('crs/own.conf', `${RULES}# changed\n`)
    expect((await gateway.command('reload')).code).toBe(0)
    expect(await askMany('/kept', '203.0.113.4', 2)).toEqual([200, 403])
  })

  it('expirevar: the count is gone after its time', async () => {
    expect((await askMany('/count', '203.0.113.5', 5)).at(-1)).toBe(403)
    await pause(3200)
    expect(await ask('/count', '203.0.113.5')).toBe(200)
  })

  it('the table is bounded: more addresses than records push out the oldest, which is counted', async () => {
    await Promise.all(Array.from({ length: 200 }, (_, at) => ask('/count', `198.51.100.${at + 1}`)))
    const { body } = await get(`${gateway.adminUrl}/metrics`)
    expect(Number(/^sallyport_waf_collection_losses\{cause="evicted"\} (\d+)/m.exec(body)?.[1])).toBeGreaterThan(0)
  })
})
