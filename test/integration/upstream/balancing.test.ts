/** Several servers behind an endpoint: who gets how much, who is left out, who comes back; real upstreams, two workers. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { freePorts, get, pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'
import { startLoad } from '../../support/load.ts'

const closers: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})
afterAll(async () => {
  await Promise.all(closers.map((close) => close()))
})

interface Backend {
  readonly port: number
  readonly name: string
  /** Requests other than health checks. */
  served: number
  checks: number
  status: number
  delayMs: number
  fields: Record<string, string>
  attempts: (string | undefined)[]
  stop(): Promise<void>
  start(): Promise<void>
}

/** Answers with its name. Health checks (/healthz) see `status` as well. */
async function backend(name: string, port = 0, host = '127.0.0.1'): Promise<Backend> {
  let server: Server | undefined
  const sockets = new Set<Socket>()
  const it: Backend & { port: number } = {
    port,
    name,
    served: 0,
    checks: 0,
    status: 200,
    delayMs: 0,
    fields: {},
    attempts: [],
    start: async () => {
      server = createServer((request, response) => {
        if (request.url === '/healthz') it.checks++
        else {
          it.served++
          it.attempts.push(request.headers['x-retry-attempt'] as string | undefined)
        }
        request.resume()
        const answer = (): void => {
          response.writeHead(it.status, it.fields)
          response.end(name)
        }
        request.on('end', () => {
          if (it.delayMs > 0) setTimeout(answer, it.delayMs)
          else answer()
        })
      })
      server.on('connection', (socket) => {
        sockets.add(socket)
        socket.on('close', () => sockets.delete(socket))
      })
      await new Promise<void>((resolve) => {
        server!.listen(it.port, host, resolve)
      })
      it.port = (server.address() as AddressInfo).port
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => {
        if (server === undefined) resolve(undefined)
        else server.close(resolve)
      })
      server = undefined
    },
  }
  await it.start()
  closers.push(() => it.stop())
  return it
}

const backends = (names: string): Promise<Backend[]> => Promise.all([...names].map((name) => backend(name)))

async function serve(upstream: string, settings = ''): Promise<RunningGateway> {
  const gateway = await startGateway({
    config: ({ port }) => `
${settings}
endpoints:
  - name: shop
    url: http://localhost:${port}
    upstream:
${upstream.replace(/^/gm, '      ')}
`,
  })
  closers.push(() => gateway.stop())
  return gateway
}

const targets = (all: readonly Backend[], weights: readonly number[] = []): string =>
  `targets:\n${all.map(({ port }, index) => `  - {url: "http://127.0.0.1:${port}", weight: ${weights[index] ?? 1}}`).join('\n')}`

async function ask(gateway: RunningGateway, count: number, headers: Record<string, string> = {}): Promise<string[]> {
  const bodies: string[] = []
  for (let index = 0; index < count; index++) {
    const answer = await get(gateway.url, { headers })
    bodies.push(answer.status === 200 ? answer.body : String(answer.status))
  }
  return bodies
}

const share = (bodies: readonly string[], body: string): number =>
  bodies.filter((it) => it === body).length / bodies.length

interface Target {
  readonly target: string
  readonly state: string
  readonly inFlight: number
  readonly ejections: number
  readonly checkResult: unknown
}
const targetsOf = async (gateway: RunningGateway): Promise<Target[]> =>
  JSON.parse((await get(`${gateway.adminUrl}/api/endpoints/shop/targets`)).body) as Target[]
const stateOf = async (gateway: RunningGateway, { port }: Backend): Promise<string | undefined> =>
  (await targetsOf(gateway)).find(({ target }) => target === `127.0.0.1:${port}`)?.state
const metric = async (gateway: RunningGateway, line: string): Promise<number> =>
  Number(
    (await get(`${gateway.adminUrl}/metrics`)).body
      .split('\n')
      .find((it) => it.startsWith(line))
      ?.split(' ')
      .at(-1) ?? 0,
  )

describe('who gets how much', () => {
  test('round robin: even, and by weight', async () => {
    const all = await backends('abc')
    const even = await ask(await serve(targets(all)), 60)
    // each worker takes turns for itself
    for (const { name } of all) expect(Math.abs(share(even, name) - 1 / 3)).toBeLessThan(0.05)
    const weighted = await ask(await serve(targets(all, [4, 1, 1])), 60)
    expect(Math.abs(share(weighted, 'a') - 2 / 3)).toBeLessThan(0.07)
  })

  test('least-request and ewma: a slow target gets little', async () => {
    const all = await backends('abc')
    all[0]!.delayMs = 150
    for (const method of ['least-request', 'ewma']) {
      const gateway = await serve(`${targets(all)}\nbalance: {method: ${method}}`)
      for (const it of all) it.served = 0
      const load = startLoad(gateway.url, { connections: 12 })
      await pause(1200)
      await load.stop()
      const total = all.reduce((sum, { served }) => sum + served, 0)
      expect(load.failures).toEqual([])
      expect(all[0]!.served / total, method).toBeLessThan(0.15)
    }
  })

  test('hash: the same key, the same target, in every worker; without a target only its keys move', async () => {
    const all = await backends('abc')
    const gateway = await serve(`${targets(all)}
balance: {method: hash, key: "req.headers['x-user'][0]"}
eject_after: 1
eject_time: 60s`)
    const users = Array.from({ length: 24 }, (_, index) => `user-${index}`)
    const placesOf = async (): Promise<string[]> =>
      (await Promise.all(users.map((user) => ask(gateway, 3, { 'x-user': user })))).map((places) => {
        expect(new Set(places).size).toBe(1)
        return places[0]!
      })
    const before = await placesOf()
    expect(new Set(before).size).toBe(3)
    await all[1]!.stop()
    await ask(gateway, 12)
    const after = await placesOf()
    for (const [index, place] of before.entries()) {
      if (place === 'b') expect(after[index]).not.toBe('b')
      else expect(after[index]).toBe(place)
    }
  })

  test('sticky: the cookie leads back to its target until that is drained', async () => {
    const all = await backends('abc')
    const gateway = await serve(`${targets(all)}
balance: {sticky: {cookie: srv, max_age: 1h, same_site: strict}}`)
    const first = await get(gateway.url)
    const [line] = first.headers['set-cookie'] as unknown as string[]
    expect(line).toMatch(/^srv=[0-9a-f]{16}; Path=\/; Max-Age=3600; HttpOnly; SameSite=Strict$/)
    const cookie = line!.split(';')[0]!
    expect(new Set(await ask(gateway, 12, { cookie: `other=1; ${cookie}` }))).toEqual(new Set([first.body]))
    expect((await get(gateway.url, { headers: { cookie } })).headers['set-cookie']).toBeUndefined()
    expect(
      (await get(gateway.url, { headers: { cookie: 'srv=0123456789abcdef' } })).headers['set-cookie'],
    ).toBeDefined()
    const target = all.find(({ name }) => name === first.body)!
    expect((await gateway.command('drain', `shop/127.0.0.1:${target.port}`)).code).toBe(0)
    const moved = await get(gateway.url, { headers: { cookie } })
    expect(moved.body).not.toBe(first.body)
    expect(moved.headers['set-cookie']).toBeDefined()
  })
})

describe('who is left out', () => {
  test('F-01: of three targets one refuses connections under load: no request fails, all workers leave it out, it comes back', async () => {
    const all = await backends('abc')
    const gateway = await serve(`${targets(all)}\neject_after: 3\neject_time: 1s\nretry_budget: 50`)
    const load = startLoad(gateway.url, { connections: 8, pauseMs: 5 })
    await pause(300)
    await all[1]!.stop()
    await expect.poll(() => stateOf(gateway, all[1]!)).toBe('ejected')
    expect(await metric(gateway, `sallyport_upstream_healthy{target="127.0.0.1:${all[1]!.port}"}`)).toBe(0)
    await pause(500)
    await all[1]!.start()
    all[1]!.served = 0
    await expect.poll(() => stateOf(gateway, all[1]!), { timeout: 5000 }).toBe('up')
    await expect.poll(() => all[1]!.served, { timeout: 5000 }).toBeGreaterThan(5)
    await load.stop()
    expect(load.failures).toEqual([])
    const out = gateway.log().filter(({ msg }) => msg === 'target is left out after failures in a row')
    expect(out[0]).toMatchObject({ endpoint: 'shop', target: `127.0.0.1:${all[1]!.port}` })
    await expect.poll(() => gateway.log().some(({ msg }) => msg === 'target answers again')).toBe(true)
    expect(await metric(gateway, `sallyport_upstream_ejections_total{target="127.0.0.1:${all[1]!.port}"}`)).toBe(
      out.length,
    )
  })

  test('health checks: once for all workers; failing and passing are told; F-06 all failing: all are used', async () => {
    const all = await backends('ab')
    const gateway = await serve(`${targets(all)}
health_check: {path: /healthz, interval: 100ms, timeout: 1s, unhealthy_after: 2, healthy_after: 2}`)
    await expect.poll(async () => (await targetsOf(gateway)).map(({ checkResult }) => checkResult)).toEqual([200, 200])
    all[0]!.status = 503
    await expect.poll(() => stateOf(gateway, all[0]!)).toBe('failing')
    expect(new Set(await ask(gateway, 12))).toEqual(new Set(['b']))
    expect((await targetsOf(gateway))[0]).toMatchObject({ checkResult: 503 })
    await all[1]!.stop()
    await expect.poll(() => stateOf(gateway, all[1]!)).toBe('failing')
    // the panic rule: better a target that fails its check than none
    expect(new Set(await ask(gateway, 6))).toEqual(new Set(['503']))
    all[0]!.status = 200
    await expect.poll(() => stateOf(gateway, all[0]!)).toBe('up')
    expect(new Set(await ask(gateway, 6))).toEqual(new Set(['a']))
    const told = (text: string): number => gateway.log().filter(({ msg }) => msg === text).length
    await expect.poll(() => told('target passes its health check again')).toBe(1)
    expect(told('target fails its health check')).toBe(2)
    const before = all[0]!.checks
    await pause(1000)
    // two workers would make it twice as many
    expect(all[0]!.checks - before).toBeLessThanOrEqual(13)
    expect(
      await metric(
        gateway,
        `sallyport_upstream_health_checks_total{target="127.0.0.1:${all[0]!.port}",result="failed"}`,
      ),
    ).toBeGreaterThan(1)
  })

  test('a TCP check, of a target that was never there', async () => {
    const [a] = await backends('a')
    const [nobody = 0] = await freePorts(1)
    const gateway = await serve(`targets: ["http://127.0.0.1:${a!.port}", "http://127.0.0.1:${nobody}"]
retries: 0
health_check: {interval: 100ms}`)
    await expect.poll(async () => (await targetsOf(gateway)).map(({ state }) => state)).toEqual(['up', 'failing'])
    expect(new Set(await ask(gateway, 10))).toEqual(new Set(['a']))
  })
})

describe('drain', () => {
  test('O-06: nothing new in any worker, what is in flight finishes, across reloads, until undrain', async () => {
    const all = await backends('ab')
    const gateway = await serve(targets(all))
    const [a, b] = all as [Backend, Backend]
    a.delayMs = 4000
    b.delayMs = 0
    const slow = Promise.all(Array.from({ length: 8 }, () => get(gateway.url)))
    await pause(200)
    const drained = await gateway.command('drain', `shop/127.0.0.1:${a.port}`)
    expect([drained.code, drained.stdout]).toEqual([0, `127.0.0.1:${a.port} of shop is drained\n`])
    const status = await gateway.command('status')
    expect(status.stdout).toMatch(new RegExp(`drained +shop/127.0.0.1:${a.port}, in flight [1-9]`))
    const before = a.served
    expect(new Set(await ask(gateway, 12))).toEqual(new Set(['b']))
    expect((await slow).map(({ status: code }) => code)).toEqual(Array(8).fill(200))
    expect(a.served).toBe(before)
    expect(await stateOf(gateway, a)).toBe('drained')
    gateway.write('gateway.yaml', `${await readConfig(gateway)}\nlog_level: debug\n`)
    expect((await gateway.command('reload')).code).toBe(0)
    expect(new Set(await ask(gateway, 12))).toEqual(new Set(['b']))
    a.delayMs = 0
    expect((await gateway.command('undrain', `shop/127.0.0.1:${a.port}`)).stdout).toContain('in use')
    expect(new Set(await ask(gateway, 12))).toEqual(new Set(['a', 'b']))
  })

  test('a whole endpoint: 503 with its reason; unknown names are refused with what there is', async () => {
    const [a] = await backends('a')
    const gateway = await serve(targets([a!]))
    const answered = await fetch(`${gateway.adminUrl}/api/endpoints/shop/drain`, { method: 'POST' })
    expect([answered.status, await answered.json()]).toEqual([
      200,
      { ok: true, message: 'the endpoint shop is drained' },
    ])
    const answer = await get(gateway.url)
    expect([answer.status, answer.headers['sallyport-error-code']]).toEqual([503, 'ERR_GW_1069'])
    expect((await gateway.waitForAccess(({ status }) => status === 503)).reason).toBe('draining')
    expect((await gateway.command('undrain', 'shop')).code).toBe(0)
    expect((await get(gateway.url)).status).toBe(200)
    const unknown = await gateway.command('drain', 'shop/10.9.9.9:1')
    expect([unknown.code, unknown.stderr]).toEqual([
      1,
      `sallyport: shop has no target 10.9.9.9:1; it has 127.0.0.1:${a!.port}\n`,
    ])
    expect((await gateway.command('drain', 'nothing')).stderr).toContain('there are shop')
    expect((await gateway.command('drain')).code).toBe(2)
  })
})

describe('limits, deadlines, repeats', () => {
  test('max_connections with queue_timeout: who waits too long gets 503 overflow', async () => {
    const [a] = await backends('a')
    a!.delayMs = 1500
    const gateway = await serve(`${targets([a!])}\nmax_connections: 1`, 'workers: 1\nupstream: {queue_timeout: 300ms}')
    const [first, second] = await Promise.all([get(gateway.url), pause(100).then(() => get(gateway.url))])
    expect([first.status, second?.status]).toEqual([200, 503])
    expect(second?.headers['sallyport-error-code']).toBe('ERR_GW_1066')
    expect((await gateway.waitForAccess(({ status }) => status === 503)).reason).toBe('overflow')
  })

  test('H-80 total_timeout: 504 with its reason, repeats included', async () => {
    const [a] = await backends('a')
    a!.delayMs = 5000
    const gateway = await serve(targets([a!]), 'upstream: {total_timeout: 300ms}')
    const answer = await get(gateway.url)
    expect([answer.status, answer.headers['sallyport-error-code']]).toEqual([504, 'ERR_GW_1067'])
    expect((await gateway.waitForAccess(({ status }) => status === 504)).reason).toBe('total_timeout')
  })

  test('H-73, H-74: a listed status is tried elsewhere, a long Retry-After and unsafe methods are not', async () => {
    const all = await backends('ab')
    const [a, b] = all as [Backend, Backend]
    a.status = 503
    const gateway = await serve(
      `${targets(all)}\nretry_on: [503]\nretry_budget: 100`,
      'upstream: {retry_attempt_header: true}',
    )
    expect(new Set(await ask(gateway, 8))).toEqual(new Set(['b']))
    expect(b.attempts).toContain('1')
    expect(a.attempts).not.toContain('1')
    await expect.poll(() => metric(gateway, 'sallyport_upstream_retries_total{reason="status_503"}')).toBeGreaterThan(0)
    const posts = await Promise.all(Array.from({ length: 8 }, () => get(gateway.url, { method: 'POST', body: 'x' })))
    expect(new Set(posts.map(({ status }) => status))).toEqual(new Set([200, 503]))
    a.fields = { 'retry-after': '5' }
    const passed = await Promise.all(Array.from({ length: 8 }, () => get(gateway.url)))
    expect(passed.some(({ status, headers }) => status === 503 && headers['retry-after'] === '5')).toBe(true)
    a.fields = { 'retry-after': '1' }
    const startedAtMs = performance.now()
    // each worker goes round by itself: of six requests some come to the other one first
    expect(new Set(await ask(gateway, 6))).toEqual(new Set(['b']))
    expect(performance.now() - startedAtMs).toBeGreaterThan(900)
  })

  test('H-72: a target that always fails costs no more repeats than the budget has', async () => {
    const [nobody = 0, other = 0] = await freePorts(2)
    const gateway = await serve(`targets: ["http://127.0.0.1:${nobody}", "http://127.0.0.1:${other}"]\neject_after: 0`)
    await Promise.all(Array.from({ length: 60 }, () => get(gateway.url)))
    const retries = await metric(gateway, 'sallyport_upstream_retries_total{reason="connect_failed"}')
    expect(retries).toBeGreaterThanOrEqual(3)
    expect(retries).toBeLessThanOrEqual(30)
    expect(await metric(gateway, 'sallyport_upstream_retries_total{reason="budget"}')).toBe(60 - retries)
  })

  test('H-71: a body of up to 64 KiB that went to a dead connection goes out again; t_connect is that of the last leg', async () => {
    const all = await backends('ab')
    const gateway = await serve(`${targets(all)}\nretry_unsafe: true\neject_after: 0\nretry_budget: 100`)
    // a takes the request and dies of it
    const [a] = all as [Backend, Backend]
    await a.stop()
    const killer = createServer((request) => {
      request.once('data', () => setTimeout(() => request.socket.destroy(), 100))
    })
    await new Promise<void>((resolve) => {
      killer.listen(a.port, '127.0.0.1', resolve)
    })
    closers.push(() => new Promise((resolve) => killer.close(resolve)))
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => get(gateway.url, { method: 'POST', body: 'x'.repeat(60_000) })),
    )
    expect(answers.map(({ status }) => status)).toEqual(Array(6).fill(200))
    const repeated = await gateway.waitForAccess((line) => line['tries'] === 2)
    expect(Number(repeated['t_total'])).toBeGreaterThan(90)
    expect(Number(repeated['t_first_byte'])).toBeLessThan(90)
  })
})

async function readConfig(gateway: RunningGateway): Promise<string> {
  const { readFile } = await import('node:fs/promises')
  return await readFile(`${gateway.folder}/gateway.yaml`, 'utf8')
}
