/**
 * One suite over both stores, with windows short enough to wait for. Spec: T-60, T-63, traffic-policy.md §5.16.
 *
 * Engine: none, no client connects to a listener.
 */
import { randomUUID } from 'node:crypto'
import { existsSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { MemoryStore } from '../../../src/rate-limit/memory-store.ts'
import { RedisStore } from '../../../src/rate-limit/redis-store.ts'
import type { RateLimitStore, TakeResult } from '../../../src/rate-limit/store.ts'
import {
  eventually,
  redisSkipReason,
  startRedis,
  startRedisCluster,
  type RunningRedis,
} from '../../support/start-redis.ts'

/** A path for a table of buckets that nobody else uses. */
function tablePath(): string {
  return join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), `sallyport-test-${randomUUID()}`)
}

const skipReason = redisSkipReason()

interface Setup {
  readonly name: string
  readonly mode: TakeResult['mode']
  readonly isSkipped: boolean
  start(): Promise<{ store: RateLimitStore; end: () => Promise<void> }>
}

function memory(): { store: MemoryStore; end: () => Promise<void> } {
  const path = tablePath()
  const store = MemoryStore.create(path, 4096)
  return {
    store,
    end: async () => {
      await store.close()
      rmSync(path)
    },
  }
}

async function redisStore(
  url: string,
  servers: readonly RunningRedis[],
  mode: 'exact' | 'lease' = 'exact',
): Promise<{ store: RedisStore; end: () => Promise<void> }> {
  const local = memory()
  const store = new RedisStore({
    redis: { url },
    local: local.store,
    mode,
    logger: { info() {}, warn() {} },
    deadlineMs: 1000, // what is counted matters here, not how fast a busy machine is
  })
  await eventually(() => store.isAvailable, 10_000)
  return {
    store,
    end: async () => {
      await store.close()
      await local.end()
      for (const server of servers) await server.stop()
    },
  }
}

const setups: Setup[] = [
  { name: 'memory', mode: 'memory', isSkipped: false, start: () => Promise.resolve(memory()) },
  {
    name: 'redis',
    mode: 'redis',
    isSkipped: skipReason !== undefined,
    start: async () => {
      const server = await startRedis()
      return redisStore(server.url, [server])
    },
  },
  {
    name: 'redis, lease mode',
    mode: 'redis',
    isSkipped: skipReason !== undefined,
    start: async () => {
      const server = await startRedis()
      return redisStore(server.url, [server], 'lease')
    },
  },
  {
    name: 'redis cluster',
    mode: 'redis',
    isSkipped: skipReason !== undefined,
    start: async () => {
      const nodes = await startRedisCluster(3)
      return redisStore(`redis+cluster://${nodes.map((node) => `127.0.0.1:${node.port}`).join(',')}`, nodes)
    },
  },
]

for (const setup of setups) {
  describe.skipIf(setup.isSkipped)(`rate-limit store: ${setup.name}`, () => {
    let store: RateLimitStore
    let end: () => Promise<void>
    let number = 0
    const freshKey = (): string => `key ${(number += 1)} ${randomUUID()}`
    const take = async (key: string, capacity: number, windowMs: number): Promise<TakeResult> => {
      const taken = await store.take(key, capacity, windowMs, 'closed')
      expect(taken.mode).toBe(setup.mode)
      return taken
    }

    beforeAll(async () => {
      const started = await setup.start()
      store = started.store
      end = started.end
    })
    afterAll(() => end())

    it('admits the capacity, counts down, and refuses the next with a time to wait', async () => {
      const key = freshKey()
      for (let remaining = 4; remaining >= 0; remaining -= 1) {
        expect(await take(key, 5, 60_000)).toEqual({ admitted: true, remaining, retryAfterMs: 0, mode: setup.mode })
      }
      const refused = await take(key, 5, 60_000)
      expect(refused.admitted).toBe(false)
      expect(refused.remaining).toBe(0)
      // 61 slots of a second, of which the current one has begun.
      expect(refused.retryAfterMs).toBeGreaterThan(58_000)
      expect(refused.retryAfterMs).toBeLessThanOrEqual(61_000)
    })

    it('1000 takes at once admit exactly the capacity (T-60)', async () => {
      const key = freshKey()
      const taken = await Promise.all(Array.from({ length: 1000 }, () => take(key, 100, 60_000)))
      expect(taken.filter((result) => result.admitted)).toHaveLength(100)
      expect(new Set(taken.filter((result) => result.admitted).map((result) => result.remaining)).size).toBe(100)
    })

    it('keys do not touch each other, whatever they hold (T-63)', async () => {
      const odd = ['a', 'b', 'a ', '', 'a\r\nSET x y', '{a}', '{a}b', 'a\0b', 'é', '🦀', 'x'.repeat(65_536), '\ud800']
      const base = freshKey()
      for (const key of odd) expect((await take(base + key, 1, 60_000)).admitted, JSON.stringify(key)).toBe(true)
      for (const key of odd) expect((await take(base + key, 1, 60_000)).admitted, JSON.stringify(key)).toBe(false)
    })

    it('a client that waits as told is admitted, and one that comes earlier is not', async () => {
      const key = freshKey()
      const windowMs = 600
      for (let event = 0; event < 3; event += 1) expect((await take(key, 3, windowMs)).admitted).toBe(true)
      for (let round = 0; round < 3; round += 1) {
        const askedMs = performance.now()
        const refused = await take(key, 3, windowMs)
        expect(refused.admitted).toBe(false)
        expect(refused.retryAfterMs).toBeLessThanOrEqual(windowMs + windowMs / 60 + 1)
        await sleep(refused.retryAfterMs - 20)
        const early = await take(key, 3, windowMs)
        const freeMs = askedMs + refused.retryAfterMs - 1
        if (performance.now() < freeMs) expect(early.admitted).toBe(false)
        await sleep(Math.max(0, freeMs - performance.now() + 10))
        if (!early.admitted) expect((await take(key, 3, windowMs)).admitted).toBe(true)
        await sleep(windowMs + windowMs / 60 + 20)
        for (let event = 0; event < 3; event += 1) expect((await take(key, 3, windowMs)).admitted).toBe(true)
      }
    })

    it('no window ever holds more than the capacity, at any edge (T-60)', async () => {
      const key = freshKey()
      const windowMs = 300
      const capacity = 40
      const admitted: { sentMs: number; answeredMs: number }[] = []
      const start = performance.now()
      let refused = 0
      while (performance.now() - start < 1500) {
        const burst = await Promise.all(
          Array.from({ length: 10 }, async () => {
            const sentMs = performance.now()
            const taken = await take(key, capacity, windowMs)
            return { taken, sentMs, answeredMs: performance.now() }
          }),
        )
        for (const { taken, sentMs, answeredMs } of burst) {
          if (taken.admitted) admitted.push({ sentMs, answeredMs })
          else refused += 1
        }
        await sleep(3)
      }
      // An event was counted between sending and answer; those surely inside a window must not be too many.
      for (const { sentMs: fromMs } of admitted) {
        const inside = admitted.filter((event) => event.sentMs >= fromMs && event.answeredMs <= fromMs + windowMs)
        expect(inside.length).toBeLessThanOrEqual(capacity)
      }
      expect(refused).toBeGreaterThan(50)
      // 1500 ms hold four windows and a bit, each a sixtieth longer than asked for.
      expect(admitted.length).toBeGreaterThanOrEqual(capacity * 4)
      expect(admitted.length).toBeLessThanOrEqual(capacity * 6)
    })

    it('a bucket is empty when its window is over', async () => {
      const key = freshKey()
      expect((await take(key, 1, 240)).admitted).toBe(true)
      expect((await take(key, 1, 240)).admitted).toBe(false)
      await sleep(240 + 4 + 20)
      expect(await take(key, 1, 240)).toMatchObject({ admitted: true, remaining: 0 })
    })

    it('slots leave one by one: what was taken early comes back early', async () => {
      const key = freshKey()
      const windowMs = 900
      for (let event = 0; event < 2; event += 1) await take(key, 4, windowMs)
      await sleep(450)
      for (let event = 0; event < 2; event += 1) expect((await take(key, 4, windowMs)).admitted).toBe(true)
      expect((await take(key, 4, windowMs)).admitted).toBe(false)
      await sleep(490)
      expect((await take(key, 4, windowMs)).admitted).toBe(true)
      expect((await take(key, 4, windowMs)).admitted).toBe(true)
      expect((await take(key, 4, windowMs)).admitted).toBe(false)
    })

    it('a capacity of zero refuses all, one of two thousand million counts', async () => {
      const key = freshKey()
      const refused = await take(key, 0, 60_000)
      expect(refused.admitted).toBe(false)
      expect(refused.retryAfterMs).toBeGreaterThan(0)
      expect(await take(freshKey(), 2_000_000_000, 86_400_000)).toMatchObject({
        admitted: true,
        remaining: 1_999_999_999,
      })
    })

    it('a lower capacity counts what is there, a higher one too', async () => {
      const key = freshKey()
      for (let event = 0; event < 10; event += 1) await take(key, 10, 60_000)
      expect((await take(key, 5, 60_000)).admitted).toBe(false)
      expect(await take(key, 12, 60_000)).toMatchObject({ admitted: true, remaining: 1 })
    })

    it('another window is another bucket', async () => {
      const key = freshKey()
      expect((await take(key, 1, 60_000)).admitted).toBe(true)
      expect((await take(key, 1, 120_000)).admitted).toBe(true)
      expect((await take(key, 1, 60_000)).admitted).toBe(false)
    })
  })
}

describe.skipIf(skipReason !== undefined)('takes of one turn of the event loop', () => {
  let redis: RunningRedis
  let store: RedisStore
  let end: () => Promise<void>

  beforeAll(async () => {
    redis = await startRedis()
    const started = await redisStore(redis.url, [redis])
    store = started.store
    end = started.end
  })
  afterAll(() => end())

  const calls = async (): Promise<number> =>
    Number(/cmdstat_evalsha:calls=(\d+)/.exec(String(await redis.command('INFO', 'commandstats')))?.[1] ?? 0)

  it('T-60 of one bucket are one call, and each gets what it would have got alone', async () => {
    const before = await calls()
    const results = await Promise.all(Array.from({ length: 30 }, () => store.take('one', 20, 60_000, 'closed')))
    expect((await calls()) - before).toBeLessThanOrEqual(2) // a heartbeat may come between
    expect(results.map(({ admitted }) => admitted)).toEqual(Array.from({ length: 30 }, (_, at) => at < 20))
    expect(results.slice(0, 20).map(({ remaining }) => remaining)).toEqual(
      Array.from({ length: 20 }, (_, at) => 19 - at),
    )
    for (const { retryAfterMs } of results.slice(20)) expect(retryAfterMs).toBeGreaterThan(0)
    expect(await store.take('one', 20, 60_000, 'closed')).toMatchObject({ admitted: false })
  })

  it('of many buckets do not mix, nor do two limits of one key', async () => {
    const take = (key: string, capacity: number): Promise<TakeResult> | TakeResult =>
      store.take(key, capacity, 60_000, 'closed')
    const results = await Promise.all([
      take('a', 5),
      take('b', 5),
      take('a', 5),
      take('c', 9),
      take('c', 3),
      take('a', 5),
    ])
    expect(results.map(({ admitted, remaining }) => [admitted, remaining])).toEqual([
      [true, 4],
      [true, 4],
      [true, 3],
      // the one that found another size there went first
      [true, 7],
      [true, 2],
      [true, 2],
    ])
  })

  it('T-61 all of them are decided when Redis is gone', async () => {
    await redis.stop()
    const results = await Promise.all(Array.from({ length: 30 }, () => store.take('gone', 20, 60_000, 'closed')))
    expect(results.every(({ admitted, mode }) => !admitted && mode === 'closed')).toBe(true)
  })
})
