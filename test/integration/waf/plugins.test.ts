/**
 * Plugins of a rule set: rules under waf.include_before that name lists and further rules beside them (seclang.md §2, §15).
 * Workers are given the texts that were checked, whatever happens to the files meanwhile.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openRaw } from '../../support/raw-client.ts'
import { get, pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const FILES = {
  'crs/own.conf': 'SecRule TX:found "@eq 1" "id:900901,phase:2,deny,log"\n',
  'plugins/shop-before.conf': `
SecRule ARGS:word "@pmFromFile shop.data" "id:9500100,phase:1,pass,nolog,setvar:tx.found=1"
Include parts/*.conf
`,
  'plugins/shop.data': '# words\nforbidden word\n',
  'plugins/parts/nets.conf':
    'SecRule REQUEST_HEADERS:X-Address "@ipMatchFromFile ../nets" "id:9500110,phase:1,pass,nolog,setvar:tx.found=1"\n',
  'plugins/nets': '192.0.2.0/24\n2001:db8::/32\n',
}

let gateway: RunningGateway
beforeAll(async () => {
  gateway = await startGateway({
    files: FILES,
    config: ({ port }) => `
workers: 1
listeners: [{ address: 127.0.0.1:${port}, default_endpoint: web }]
waf: { rules: crs, include_before: [plugins/shop-before.conf] }
endpoints:
  - name: web
    url: http://web.test:${port}
    traffic_policy:
      on_http_request: [{ actions: [{ type: owasp-crs-request }, { type: custom-response, config: { body: fine } }] }]
`,
  })
})
afterAll(() => gateway?.stop())

async function workersOf(gateway: RunningGateway): Promise<number[]> {
  const { body } = await get(`${gateway.adminUrl}/api/status`)
  const { workers } = JSON.parse(body) as { workers: { pid?: number; state: string }[] }
  return workers.flatMap(({ pid, state }) => (pid === undefined || state !== 'live' ? [] : [pid]))
}

async function ask(word: string, address = '203.0.113.1'): Promise<number> {
  const connection = await openRaw(gateway.port)
  connection.send(`GET /?word=${word} HTTP/1.1\r\nHost: web.test\r\nX-Address: ${address}\r\n\r\n`)
  const [answer] = await connection.answers(1)
  connection.destroy()
  return answer?.status ?? 0
}

describe('plugins', () => {
  it('lists and rules beside an included file are read', async () => {
    expect(await ask('a+FORBIDDEN+word')).toBe(403)
    expect(await ask('allowed')).toBe(200)
    expect(await ask('allowed', '192.0.2.77')).toBe(403)
    expect(await ask('allowed', '2001:db8::1')).toBe(403)
  })

  it('a reload reads them anew; without one of them it is refused with its place, and the old ones go on', async () => {
    gateway.write('plugins/shop.data', 'another\n')
    expect((await gateway.command('reload')).code).toBe(0)
    expect(await ask('another')).toBe(403)
    expect(await ask('forbidden+word')).toBe(200)
    rmSync(join(gateway.folder, 'plugins/shop.data'))
    const { code, stderr } = await gateway.command('reload')
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/plugins\/shop-before\.conf:2:20\b/)
    expect(await ask('another')).toBe(403)
  })

  it('a worker that takes a dead one’s place has the texts that were read, not the files', async () => {
    const [first] = await workersOf(gateway)
    process.kill(first!, 'SIGKILL')
    // oxlint-disable-next-line no-await-in-loop -- until another one is live
    while ((await workersOf(gateway)).every((pid) => pid === first)) await pause(50)
    expect(await ask('another')).toBe(403)
  })
})
