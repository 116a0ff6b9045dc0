/** Reload and drain of the built gateway under load. */
import { createServer, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { startLoad } from '../../support/load.ts'
import {
  freePorts,
  get,
  pause,
  startGateway,
  type RunningGateway,
  type StartOptions,
} from '../../support/start-gateway.ts'
import { startSlowUpstream } from '../../support/slow-upstream.ts'

const running: RunningGateway[] = []
const closers: (() => Promise<void> | void)[] = []

async function start(options: StartOptions): Promise<RunningGateway> {
  const gateway = await startGateway(options)
  running.push(gateway)
  return gateway
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((gateway) => gateway.stop()))
  for (const close of closers.splice(0)) await close()
})

function config(port: number, body: string, more = ''): string {
  return `
endpoints:
  - name: web
    url: http://localhost:${port}
    traffic_policy:
      on_http_request:
        - actions: [{type: custom-response, config: {status_code: 200, body: "${body}"}}]
${more}`
}

interface Status {
  readonly generation: number
  readonly lastReload?: { readonly ok: boolean; readonly message: string }
  readonly workers: readonly { readonly generation: number; readonly pid: number }[]
}

async function status(gateway: RunningGateway): Promise<Status> {
  return JSON.parse((await get(`${gateway.adminUrl}/api/status`)).body) as Status
}

async function metric(gateway: RunningGateway, series: string): Promise<number> {
  const { body } = await get(`${gateway.adminUrl}/metrics`)
  return Number(
    body
      .split('\n')
      .find((line) => line.startsWith(`${series} `))
      ?.split(' ')
      .at(-1) ?? Number.NaN,
  )
}

describe('reload', () => {
  test('O-22, O-23: 24 reloads under load, each live in every worker when reload returns, no request fails', async () => {
    const gateway = await start({ config: ({ port }) => config(port, 'answer 0') })
    const pidsBefore = (await status(gateway)).workers.map(({ pid }) => pid)
    // a connection belongs to one worker: what it has seen new is never old again
    const newest = new Map<number, number>()
    const load = startLoad(gateway.url, {
      connections: 16,
      check: (connection, _status, body) => {
        const number = Number(body.replace('answer ', ''))
        const before = newest.get(connection) ?? 0
        newest.set(connection, number)
        return number >= before ? undefined : `answer ${number} after ${before}`
      },
    })
    const RELOADS = 24
    for (let number = 1; number <= RELOADS; number++) {
      gateway.write('gateway.yaml', config(gateway.port, `answer ${number}`))
      const { code, stderr } = await gateway.command('reload')
      expect(code, stderr).toBe(0)
      // new connections: with 12 of them the chance that one worker is not among them is 1 in 2000, and 24 times over
      // every worker also says so itself
      const answers = await Promise.all(Array.from({ length: 12 }, () => get(gateway.url)))
      expect(new Set(answers.map(({ body }) => body))).toEqual(new Set([`answer ${number}`]))
      const { generation, workers } = await status(gateway)
      expect(workers.map((worker) => worker.generation)).toEqual([generation, generation])
    }
    await load.stop()
    expect(load.failures).toEqual([])
    expect(load.answered).toBeGreaterThan(2000)
    expect(load.bodies.size).toBe(RELOADS + 1)
    expect((await status(gateway)).workers.map(({ pid }) => pid)).toEqual(pidsBefore)
    expect(await metric(gateway, 'sallyport_config_reloads_total{result="accepted"}')).toBe(RELOADS)
    console.log(`${RELOADS} reloads, ${load.answered} requests, ${load.failures.length} failed`)
  }, 180_000)

  test('SIGHUP reloads as well; connections stay open', async () => {
    const gateway = await start({ config: ({ port }) => config(port, 'one') })
    const load = startLoad(gateway.url, { connections: 2, pauseMs: 10 })
    gateway.write('gateway.yaml', config(gateway.port, 'two'))
    gateway.process.kill('SIGHUP')
    for (const until = performance.now() + 5000; !load.bodies.has('two') && performance.now() < until;) await pause(20)
    await load.stop()
    expect(load.bodies.has('two')).toBe(true)
    expect(load.failures).toEqual([])
  })

  test('T-70: a refused reload keeps the old one, says why to the caller, in the log, in status and metrics', async () => {
    const gateway = await start({ config: ({ port }) => config(port, 'old') })
    gateway.write('gateway.yaml', `${config(gateway.port, 'new')}\nworkrs: 3\n`)
    const refused = await gateway.command('reload')
    expect(refused.code).toBe(1)
    expect(refused.stderr).toMatch(/gateway\.yaml:\d+:1: error: .*workrs/)
    expect(refused.stderr).toContain('did you mean workers?')
    expect(refused.stderr).toContain('the old one keeps serving')
    expect((await get(gateway.url)).body).toBe('old')
    expect((await status(gateway)).lastReload).toMatchObject({ ok: false })
    expect(await metric(gateway, 'sallyport_config_last_reload_success')).toBe(0)
    // the log is written beside the answer, so it may come a moment later
    await expect.poll(() => JSON.stringify(gateway.log()), { timeout: 5000 }).toContain('workrs')
    expect((await get(`${gateway.adminUrl}/readyz`)).status).toBe(200)
    gateway.write('gateway.yaml', config(gateway.port, 'new'))
    expect((await gateway.command('reload')).code).toBe(0)
    expect((await get(gateway.url)).body).toBe('new')
    expect(await metric(gateway, 'sallyport_config_last_reload_success')).toBe(1)
  })

  test('O-25: a reload that changes nothing says so; listeners are added and removed, others stay open', async () => {
    const [second = 0] = await freePorts(1)
    const gateway = await start({ config: ({ port }) => config(port, 'one') })
    expect((await gateway.command('reload')).stdout).toContain('nothing changed')
    const load = startLoad(gateway.url, { connections: 4, pauseMs: 5 })
    const both = `${config(gateway.port, 'one')}
  - name: other
    url: http://localhost:${second}
    traffic_policy:
      on_http_request:
        - actions: [{type: custom-response, config: {status_code: 200, body: "other"}}]
`
    gateway.write('gateway.yaml', both)
    expect((await gateway.command('reload')).code).toBe(0)
    expect((await get(`http://localhost:${second}`)).body).toBe('other')
    gateway.write('gateway.yaml', config(gateway.port, 'one again'))
    expect((await gateway.command('reload')).code).toBe(0)
    await expect(get(`http://localhost:${second}`)).rejects.toThrow('ECONNREFUSED')
    await load.stop()
    expect(load.failures).toEqual([])
  })

  test('a new listener whose port is in use refuses the reload', async () => {
    const other = await start({ config: ({ port }) => config(port, 'other') })
    const gateway = await start({ config: ({ port }) => config(port, 'one') })
    gateway.write(
      'gateway.yaml',
      `${config(gateway.port, 'two')}
  - name: other
    url: http://localhost:${other.port}
    traffic_policy: {on_http_request: [{actions: [{type: deny}]}]}
`,
    )
    const refused = await gateway.command('reload')
    expect(refused.code).toBe(1)
    expect(refused.stderr).toContain(`port ${other.port} is in use`)
    expect((await get(gateway.url)).body).toBe('one')
  })

  test('O-24: a stream whose endpoint a reload takes away goes on for reload.orphan_timeout; others are left alone', async () => {
    const streams = new Set<ServerResponse>()
    const server = createServer((_request, response) => {
      streams.add(response)
      response.once('close', () => streams.delete(response))
      response.writeHead(200, { 'content-type': 'text/event-stream' }).write('data: 0\n\n')
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    closers.push(() => {
      server.closeAllConnections()
      server.close()
    })
    const { port: upstreamPort } = server.address() as AddressInfo
    const endpoint = (name: string, host: string, port: number): string =>
      `  - {name: ${name}, url: "http://${host}:${port}", upstream: {url: "http://127.0.0.1:${upstreamPort}"}}\n`
    const settings = 'reload: {orphan_timeout: 700ms}\nendpoints:\n'
    const gateway = await start({
      config: ({ port }) =>
        `${settings}${endpoint('kept', 'kept.test', port)}${endpoint('gone', 'gone.test', port)}`.replace(
          'endpoints:',
          `listeners: [{address: 127.0.0.1:${port}}]\nendpoints:`,
        ),
    })
    const open = (host: string): Promise<{ closedAfterMs: () => number | undefined; end: () => void }> =>
      new Promise((resolve, reject) => {
        let closedAtMs: number | undefined
        const asked = request({ port: gateway.port, host: '127.0.0.1', headers: { host } }, (response) => {
          response.once('data', () => {
            resolve({ closedAfterMs: () => closedAtMs, end: () => asked.destroy() })
          })
          response.once('error', () => undefined)
          response.once('close', () => (closedAtMs = performance.now()))
        })
        asked.once('error', reject)
        asked.end()
      })
    const [kept, gone] = [await open(`kept.test:${gateway.port}`), await open(`gone.test:${gateway.port}`)]
    gateway.write(
      'gateway.yaml',
      `listeners: [{address: 127.0.0.1:${gateway.port}}]\n${settings}${endpoint('kept', 'kept.test', gateway.port)}`,
    )
    const reloadedAtMs = performance.now()
    expect((await gateway.command('reload')).code).toBe(0)
    expect(streams.size).toBe(2)
    await expect.poll(() => gone.closedAfterMs(), { timeout: 10_000 }).toBeDefined()
    expect(gone.closedAfterMs()! - reloadedAtMs).toBeGreaterThan(650)
    await expect.poll(() => streams.size).toBe(1)
    await expect.poll(() => gateway.access().map(({ reason }) => reason)).toEqual(['draining'])
    expect(kept.closedAfterMs()).toBeUndefined()
    kept.end()
  })

  test('settings that are read at the start are named as a warning', async () => {
    const gateway = await start({ config: ({ port }) => config(port, 'one') })
    gateway.write('gateway.yaml', config(gateway.port, 'two', 'workers: 3\n'))
    const { code, stderr } = await gateway.command('reload')
    expect(code).toBe(0)
    expect(stderr).toContain('workers changes with the next restart')
  })

  test('POST /api/reload answers like the command', async () => {
    const gateway = await start({ config: ({ port }) => config(port, 'one') })
    gateway.write('gateway.yaml', config(gateway.port, 'two'))
    const accepted = await get(`${gateway.adminUrl}/api/reload`, { method: 'POST' })
    expect([accepted.status, JSON.parse(accepted.body)]).toMatchObject([200, { ok: true, changed: true }])
    gateway.write('gateway.yaml', 'endpoints: 3\n')
    const refused = await get(`${gateway.adminUrl}/api/reload`, { method: 'POST' })
    expect([refused.status, JSON.parse(refused.body)]).toMatchObject([409, { ok: false }])
  })

  test('a worker that dies during the load does not fail the reload that follows', async () => {
    const gateway = await start({ config: ({ port }) => config(port, 'one') })
    const [victim] = (await status(gateway)).workers
    process.kill(victim!.pid, 'SIGKILL')
    gateway.write('gateway.yaml', config(gateway.port, 'two'))
    const { code, stderr } = await gateway.command('reload')
    // the death may be noticed before or during the reload: then it is refused everywhere, never half done
    if (code === 0) expect((await get(gateway.url)).body).toBe('two')
    else expect(stderr).toContain('the old one keeps serving')
    await pause(1500)
    expect((await gateway.command('reload')).code).toBe(0)
    const answers = await Promise.all(Array.from({ length: 10 }, () => get(gateway.url)))
    expect(new Set(answers.map(({ body }) => body))).toEqual(new Set(['two']))
  })
})

describe('drain under load', () => {
  test('O-22: no request that began before the listeners closed fails', async () => {
    const upstream = await startSlowUpstream(15)
    closers.push(upstream.close)
    const DELAY_MS = 500
    const gateway = await start({
      config: ({ port }) => `
drain: { delay: ${DELAY_MS}ms, timeout: 10s }
endpoints:
  - name: web
    url: http://localhost:${port}
    upstream: { url: "${upstream.url}" }
`,
    })
    const load = startLoad(gateway.url, { connections: 24 })
    await pause(700)
    const signalledAtMs = performance.now()
    gateway.process.kill('SIGTERM')
    expect((await gateway.exited).code).toBe(0)
    await load.stop()
    const early = load.failures.filter(({ startedAtMs }) => startedAtMs < signalledAtMs + DELAY_MS)
    expect(early).toEqual([])
    // whoever came later was refused a connection
    expect(load.failures.filter(({ reason }) => reason !== 'ECONNREFUSED')).toEqual([])
    expect(load.answered).toBeGreaterThan(100)
    expect(upstream.answered()).toBe(load.answered)
    expect(gateway.access()).toHaveLength(load.answered)
    console.log(`${load.answered} answered, ${load.failures.length} refused after the listeners closed`)
  })
})
