/**
 * Fault drills under a constant load of tagged requests, at least 20 s each, all at a time: a worker killed, an upstream
 * killed, Redis killed, reloads, a drained target. Requests that fail are counted by cause; only those whose own connection
 * died may fail, and none for reloads, Redis and drained targets.
 *
 * Source: issue text "Fault drills as tests"; threats.md F-01, F-02, F-17; operations.md O-22, O-28.
 */
import { fork, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { freePorts, get, pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'
import { redisSkipReason, startRedis } from '../../support/start-redis.ts'
import { causesOf, startTaggedLoad, type TaggedFailure, type TaggedLoad } from '../../support/tagged-load.ts'

const DRILL_MS = 20_000
const UPSTREAM = fileURLToPath(new URL('../../support/tagged-upstream.mjs', import.meta.url))
const RESETS = new Set(['ECONNRESET', 'EPIPE', 'cut'])

const closers: (() => unknown)[] = []
afterAll(async () => {
  for (const close of closers.splice(0).toReversed()) await close()
})

interface Upstream {
  readonly port: number
  kill(): Promise<void>
  start(): Promise<void>
}

async function upstream(port: number): Promise<Upstream> {
  let child: ChildProcess | undefined
  const it: Upstream = {
    port,
    start: () =>
      new Promise((resolve) => {
        child = fork(UPSTREAM, [String(port)])
        child.once('message', () => resolve())
      }),
    kill: () =>
      new Promise((resolve) => {
        if (child === undefined || child.exitCode !== null || child.signalCode !== null) return resolve()
        child.once('exit', () => resolve())
        child.kill('SIGKILL')
      }),
  }
  await it.start()
  closers.push(() => it.kill())
  return it
}

interface Stage {
  readonly gateway: RunningGateway
  readonly upstreams: readonly Upstream[]
  readonly config: (comment: string) => string
}

async function stage(policy = '', settings = '', upstreamKeys = ''): Promise<Stage> {
  const upstreams = await Promise.all((await freePorts(3)).map((port) => upstream(port)))
  let port = 0
  const config = (comment: string): string => `
${settings}
endpoints:
  - name: shop
    url: http://localhost:${port}
    upstream:
      targets: [${upstreams.map((it) => `"http://127.0.0.1:${it.port}"`).join(', ')}]
      eject_after: 2
      eject_time: 2s
      ${upstreamKeys}
    traffic_policy:
      on_http_request:
        - name: ${comment}
          actions:
            - {type: add-headers, config: {headers: {x-drill: ${comment}}}}
${policy}
`
  const gateway = await startGateway({
    config: (context) => {
      port = context.port
      return config('first')
    },
    readyTimeoutMs: 60_000,
  })
  closers.push(() => gateway.stop())
  return { gateway, upstreams, config }
}

interface Loads {
  readonly kept: TaggedLoad
  readonly fresh: TaggedLoad
  readonly posts: TaggedLoad
}

const KEPT = 6
const FRESH = 3
const POSTS = 3

/** The load of every drill: kept connections, a connection per request, and requests that may not be repeated. */
function load({ url }: RunningGateway): Loads {
  return {
    kept: startTaggedLoad(url, { connections: KEPT, pauseMs: 10 }),
    fresh: startTaggedLoad(url, { connections: FRESH, pauseMs: 15, fresh: true }),
    posts: startTaggedLoad(url, { connections: POSTS, pauseMs: 15, method: 'POST' }),
  }
}

/** Runs the drill beside the load for its whole time; resolves with the load when that has ended. */
async function drill(name: string, gateway: RunningGateway, act: () => Promise<void>): Promise<Loads> {
  const loads = load(gateway)
  const startedAtMs = performance.now()
  await pause(2000)
  await act()
  await pause(Math.max(0, startedAtMs + DRILL_MS - performance.now()))
  await Promise.all(Object.values(loads).map((it: TaggedLoad) => it.stop()))
  const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1)
  const line = Object.entries(loads).map(
    ([kind, it]: [string, TaggedLoad]) => `${kind}: ${it.answered} answered, failed: ${causesOf(it.failures)}`,
  )
  console.log(`drill ${name}, ${seconds} s: ${line.join('; ')}`)
  for (const it of Object.values(loads) as TaggedLoad[]) expect(it.answered).toBeGreaterThan(30)
  return loads
}

/** `expect.poll` belongs to one test at a time; these run together. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  for (const untilMs = performance.now() + 20_000; !(await condition()); await pause(50)) {
    if (performance.now() > untilMs) throw new Error('it did not come about within 20 s')
  }
}

const allFailures = (loads: Loads): readonly TaggedFailure[] =>
  (Object.values(loads) as TaggedLoad[]).flatMap(({ failures }) => failures)

const skipRedis = redisSkipReason() !== undefined

describe.concurrent('drills', () => {
  test('O-28, F-17 kill -9 of a worker: only what was on its connections fails, nobody is refused, and it is replaced', async () => {
    const { gateway } = await stage()
    const workersOf = async (): Promise<{ id: number; pid: number; state: string }[]> =>
      (JSON.parse((await get(`${gateway.adminUrl}/api/status`)).body) as { workers: never[] }).workers
    const killedAtMs: number[] = []
    const loads = await drill('worker', gateway, async () => {
      for (let turn = 0; turn < 2; turn++) {
        const [worker] = (await workersOf()).toSorted((one, other) => one.id - other.id).slice(turn)
        killedAtMs.push(performance.now())
        process.kill(worker!.pid, 'SIGKILL')
        await pause(1000)
        await until(async () => (await workersOf()).every(({ state }) => state === 'live'))
      }
    })
    const failures = allFailures(loads)
    // a connection per client can die with a worker, and each at most once per kill
    expect(failures.length).toBeLessThanOrEqual((KEPT + FRESH + POSTS) * killedAtMs.length)
    expect(failures.filter(({ cause }) => !RESETS.has(cause))).toEqual([])
    const isOfAKill = ({ startedAtMs, failedAtMs }: TaggedFailure): boolean =>
      killedAtMs.some((atMs) => startedAtMs <= atMs + 250 && failedAtMs >= atMs)
    expect(failures.filter((failure) => !isOfAKill(failure))).toEqual([])
  })

  test('F-01, F-02 kill -9 of an upstream: repeatable requests go elsewhere, of the others only those on its connections fail', async () => {
    const { gateway, upstreams } = await stage('', '', 'retry_budget: 100')
    const [victim] = upstreams as [Upstream]
    const killedAtMs: number[] = []
    const loads = await drill('upstream', gateway, async () => {
      for (let turn = 0; turn < 2; turn++) {
        killedAtMs.push(performance.now())
        await victim.kill()
        await pause(4000)
        await victim.start()
        await pause(3000)
      }
    })
    const { kept, fresh, posts } = loads
    // an answer that had begun when its upstream died is cut for the client to see; nothing else fails
    const gets = [...kept.failures, ...fresh.failures]
    expect(gets.filter(({ cause }) => !RESETS.has(cause))).toEqual([])
    expect(gets.length).toBeLessThanOrEqual((KEPT + FRESH) * killedAtMs.length)
    // a POST that was sent to it is not sent again (H-70): 502, or cut
    expect(posts.failures.filter(({ cause }) => cause !== 'status 502' && !RESETS.has(cause))).toEqual([])
    expect(posts.failures.length).toBeLessThanOrEqual(POSTS * killedAtMs.length)
    for (const { startedAtMs } of allFailures(loads)) {
      expect(killedAtMs.some((atMs) => Math.abs(startedAtMs - atMs) < 1000)).toBe(true)
    }
    expect(kept.byUpstream.get(String(victim.port))).toBeGreaterThan(0)
  })

  test.skipIf(skipRedis)('F-27 kill -9 of Redis, and its return: no request fails', async () => {
    const redis = await startRedis()
    closers.push(() => redis.stop())
    const limit = `            - {type: rate-limit, config: {name: drill, algorithm: sliding_window, capacity: 2000000, rate: 60s, bucket_key: ["'all'"]}}`
    const { gateway } = await stage(limit, `redis: {url: "${redis.url}"}`)
    const loads = await drill('redis', gateway, async () => {
      for (let turn = 0; turn < 2; turn++) {
        await redis.kill()
        await pause(3000)
        await redis.restart()
        await pause(3000)
      }
    })
    expect(allFailures(loads)).toEqual([])
  })

  test('O-22, O-23 reloads: no request fails', async () => {
    const { gateway, config } = await stage()
    let reloads = 0
    const loads = await drill('reload', gateway, async () => {
      for (const untilMs = performance.now() + DRILL_MS - 4000; performance.now() < untilMs; reloads++) {
        gateway.write('gateway.yaml', config(`reload-${reloads}`))
        const { code, stderr } = await gateway.command('reload')
        expect([code, stderr]).toEqual([0, expect.not.stringContaining('refused')])
      }
    })
    expect(reloads).toBeGreaterThanOrEqual(2)
    expect(allFailures(loads)).toEqual([])
  })

  test('O-06 a drained target: no request fails, and it gets nothing until it is put back', async () => {
    const { gateway, upstreams } = await stage()
    const [first, second] = upstreams as [Upstream, Upstream]
    let loads: Loads | undefined
    const served = (it: Upstream): number =>
      (Object.values(loads!) as TaggedLoad[]).reduce(
        (sum, { byUpstream }) => sum + (byUpstream.get(String(it.port)) ?? 0),
        0,
      )
    const run = load(gateway)
    loads = run
    const startedAtMs = performance.now()
    await pause(1000)
    for (const it of [first, second]) {
      expect((await gateway.command('drain', `shop/127.0.0.1:${it.port}`)).code).toBe(0)
      // what was in flight finishes, and then it may even go away
      await pause(1000)
      const before = served(it)
      await it.kill()
      await pause(3000)
      expect(served(it)).toBe(before)
      await it.start()
      expect((await gateway.command('undrain', `shop/127.0.0.1:${it.port}`)).code).toBe(0)
      await until(() => served(it) > before)
    }
    await pause(Math.max(0, startedAtMs + DRILL_MS - performance.now()))
    await Promise.all((Object.values(run) as TaggedLoad[]).map((it) => it.stop()))
    console.log(
      `drill drained target: ${allFailures(run).length} failed, ${run.kept.answered} answered on kept connections`,
    )
    expect(allFailures(run)).toEqual([])
  })

  test('O-22 SIGTERM under a connection per request: nobody is reset, not even in the accept queue', async () => {
    for (let turn = 0; turn < 3; turn++) {
      const { gateway } = await stage()
      const fresh = startTaggedLoad(gateway.url, { connections: 24, pauseMs: 0, fresh: true })
      await pause(1500)
      gateway.process.kill('SIGTERM')
      expect((await gateway.exited).code).toBe(0)
      await fresh.stop()
      expect(fresh.answered).toBeGreaterThan(50)
      // refused is what a listener that is gone does; reset would be a request that had been taken
      expect(fresh.failures.filter(({ cause }) => cause !== 'ECONNREFUSED')).toEqual([])
    }
  })
}, 180_000)
