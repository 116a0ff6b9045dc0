/**
 * O-76, T-61: what limits do while Redis is away, slow, full, read-only or refuses; with a real redis-server.
 *
 * Engine: none, no client connects to a listener.
 */
import { existsSync, rmSync } from 'node:fs'
import { randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { MemoryStore } from '../../../src/rate-limit/memory-store.ts'
import { RedisStore, type RedisStoreOptions } from '../../../src/rate-limit/redis-store.ts'
import type { OnStoreError, RateLimitStore, TakeResult } from '../../../src/rate-limit/store.ts'
import {
  eventually,
  freePort,
  redisSkipReason,
  startRedis,
  startRedisCluster,
  type RunningRedis,
} from '../../support/start-redis.ts'
import { inTime } from '../../support/in-time.ts'

interface LogLine {
  readonly level: 'info' | 'warn'
  readonly fields: Record<string, unknown>
  readonly message: string
}

const ends: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end()
})

async function redis(options?: Parameters<typeof startRedis>[0]): Promise<RunningRedis> {
  const server = await startRedis(options)
  ends.push(() => server.stop())
  return server
}

/** A gateway: a Redis store with shared buckets of its own behind it. */
function gateway(url: string, more: Partial<RedisStoreOptions> = {}): { store: RedisStore; log: LogLine[] } {
  const path = join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), `sallyport-test-${randomUUID()}`)
  const local = MemoryStore.create(path, 1024)
  const log: LogLine[] = []
  const logger = {
    info: (fields: Record<string, unknown>, message: string) => void log.push({ level: 'info', fields, message }),
    warn: (fields: Record<string, unknown>, message: string) => void log.push({ level: 'warn', fields, message }),
  }
  const store = new RedisStore({ redis: { url }, local, logger, ...more })
  ends.push(async () => {
    await store.close()
    await local.close()
    rmSync(path)
  })
  return { store, log }
}

/** Five times the deadline of a take. */
const IN_TIME_MS = 100

async function takeWithin(
  ms: number,
  store: RateLimitStore,
  key: string,
  capacity: number,
  mode: OnStoreError,
): Promise<{ taken: TakeResult; isInTime: boolean }> {
  const { value, isInTime } = await inTime(ms, Promise.resolve(store.take(key, capacity, 60_000, mode)))
  return { taken: value, isInTime }
}

const modesOf = async (store: RateLimitStore, key: string): Promise<string[]> =>
  Promise.all(
    (['local', 'open', 'closed'] as const).map(async (mode) => {
      const taken = await store.take(`${key} ${mode}`, 10, 60_000, mode)
      return `${taken.mode} ${taken.admitted}`
    }),
  )

const DOWN = ['local true', 'open true', 'closed false']
const UP = ['redis true', 'redis true', 'redis true']

describe.skipIf(redisSkipReason() !== undefined)('redis out of reach', () => {
  it('down at start: limits answer by their mode at once, and use Redis as soon as it is there', async () => {
    const port = await freePort()
    const { store, log } = gateway(`redis://127.0.0.1:${port}`)
    expect(await modesOf(store, 'a')).toEqual(DOWN)
    expect((await takeWithin(IN_TIME_MS, store, 'a', 10, 'closed')).isInTime).toBe(true)
    await eventually(() => log.length === 1, 3000)
    expect(log[0]).toMatchObject({ level: 'warn', fields: { reason: expect.stringContaining('ECONNREFUSED') } })
    const server = await redis({ port })
    await eventually(() => store.isAvailable, 5000)
    expect(await modesOf(store, 'a')).toEqual(UP)
    expect(log.map((line) => line.level)).toEqual(['warn', 'info'])
    await server.kill()
  })

  it('killed under load: no take waits, each change is one line, and an empty script cache is no trouble', async () => {
    const server = await redis()
    const { store, log } = gateway(server.url)
    await eventually(() => store.isAvailable, 5000)
    expect(log.map((line) => line.level)).toEqual(['info'])
    const seen = new Map<string, number>()
    let late = 0
    const untilMs = { value: Infinity }
    const load = (async () => {
      while (performance.now() < untilMs.value) {
        const takes = await Promise.all(
          Array.from({ length: 10 }, (_, call) => takeWithin(IN_TIME_MS, store, `load ${call}`, 1_000_000, 'local')),
        )
        for (const { taken, isInTime } of takes) {
          expect(taken.admitted).toBe(true)
          seen.set(taken.mode, (seen.get(taken.mode) ?? 0) + 1)
          if (!isInTime) late += 1
        }
        await sleep(2)
      }
    })()
    await sleep(200)
    await server.kill()
    await eventually(() => !store.isAvailable, 3000)
    expect(await modesOf(store, 'b')).toEqual(DOWN)
    await sleep(700)
    await server.restart()
    await eventually(() => store.isAvailable, 5000)
    await sleep(100)
    untilMs.value = 0
    await load
    expect(await modesOf(store, 'c')).toEqual(UP)
    expect(log.map((line) => line.level)).toEqual(['info', 'warn', 'info'])
    expect(seen.get('redis')).toBeGreaterThan(100)
    expect(seen.get('local')).toBeGreaterThan(100)
    expect([...seen.keys()].sort()).toEqual(['local', 'redis'])
    expect(late).toBe(0)
  })

  it('paused (the connection stays up): 20 ms at most, bounded calls, and no answer for the wrong take afterwards', async () => {
    const server = await redis()
    const { store, log } = gateway(server.url)
    await eventually(() => store.isAvailable, 5000)
    for (let warm = 0; warm < 20; warm += 1) await store.take('warm', 1000, 60_000, 'closed')
    server.pause()
    const start = performance.now()
    const takes = await Promise.all(
      Array.from({ length: 50 }, (_, call) => takeWithin(IN_TIME_MS, store, `p ${call}`, 10, 'closed')),
    )
    expect(performance.now() - start).toBeGreaterThan(15)
    for (const { taken, isInTime } of takes) {
      expect(taken).toMatchObject({ mode: 'closed', admitted: false, retryAfterMs: 1000 })
      expect(isInTime).toBe(true)
    }
    expect(store.isAvailable).toBe(false)
    // Now nobody waits at all.
    expect((await takeWithin(0, store, 'p', 10, 'closed')).isInTime).toBe(true)
    await sleep(2500)
    expect(store.isAvailable).toBe(false)
    server.resume()
    await eventually(() => store.isAvailable, 5000)
    // Each capacity is its own: an answer that belongs to another take would show.
    const after = await Promise.all(
      Array.from({ length: 200 }, async (_, call) => ({
        call,
        taken: await store.take(`after ${call}`, 1000 + call, 60_000, 'closed'),
      })),
    )
    for (const { call, taken } of after) if (taken.mode === 'redis') expect(taken.remaining).toBe(999 + call)
    expect(after.filter(({ taken }) => taken.mode === 'redis').length).toBeGreaterThan(150)
    expect(log.map((line) => line.level)).toEqual(['info', 'warn', 'info'])
    // Its clients of before are gone: no connection was left behind.
    await eventually(async () => {
      const clients = String(await server.command('CLIENT', 'LIST'))
      return clients.split('\n').filter((line) => line.includes('name=sallyport')).length === 1
    }, 5000)
  })

  it('SCRIPT FLUSH while it runs: the next take brings the script along', async () => {
    const server = await redis()
    const { store } = gateway(server.url, { deadlineMs: 1000 })
    await eventually(() => store.isAvailable, 5000)
    expect(await store.take('k', 10, 60_000, 'closed')).toMatchObject({ mode: 'redis', remaining: 9 })
    await server.command('SCRIPT', 'FLUSH')
    const taken = await Promise.all(Array.from({ length: 5 }, () => store.take('k', 10, 60_000, 'closed')))
    expect(taken.map((result) => result.mode)).toEqual(Array(5).fill('redis'))
    expect(taken.map((result) => result.remaining).sort()).toEqual([4, 5, 6, 7, 8])
  })

  it('local: each gateway enforces its share, at least 1, in one set of buckets', async () => {
    const server = await redis()
    const gateways = [0, 1, 2].map(() => gateway(server.url))
    for (const { store } of gateways) await eventually(() => store.isAvailable, 5000)
    // The last to come knows of all; the others learn it at their next heartbeat, here at a probe after the outage.
    await server.kill()
    for (const { store } of gateways) {
      while (store.isAvailable) await store.take('x', 1, 60_000, 'open')
    }
    await server.restart()
    for (const { store } of gateways) await eventually(() => store.isAvailable, 5000)
    await server.kill()
    for (const { store } of gateways) {
      while (store.isAvailable) await store.take('x', 1, 60_000, 'open')
    }
    const known = gateways.map(({ store }) => store.gateways)
    expect(Math.max(...known)).toBe(3)
    for (const { store } of gateways) {
      let admitted = 0
      for (let event = 0; event < 20; event += 1) {
        const taken = await store.take('shared', 10, 60_000, 'local')
        expect(taken.mode).toBe('local')
        if (taken.admitted) admitted += 1
        else expect(taken.retryAfterMs).toBeGreaterThan(0)
      }
      expect(admitted).toBe(Math.floor(10 / store.gateways))
      expect((await store.take('small', 1, 60_000, 'local')).admitted).toBe(true)
      expect((await store.take('small', 1, 60_000, 'local')).admitted).toBe(false)
    }
  })

  it('closing decides what is still out by its mode and is no outage', async () => {
    const server = await redis()
    const { store, log } = gateway(server.url, { deadlineMs: 2000 })
    await eventually(() => store.isAvailable, 5000)
    server.pause()
    const takes = Array.from({ length: 20 }, (_, call) => takeWithin(1000, store, `k ${call}`, 10, 'closed'))
    await sleep(50)
    await store.close()
    for (const { taken, isInTime } of await Promise.all(takes)) {
      expect(taken).toMatchObject({ admitted: false, mode: 'closed' })
      expect(isInTime).toBe(true)
    }
    expect(await store.take('k', 10, 60_000, 'local')).toMatchObject({ admitted: true, mode: 'local' })
    expect(log.map((line) => line.level)).toEqual(['info'])
  })

  it('workers of one gateway count as one', async () => {
    const server = await redis()
    const workers = [0, 1].map(() => gateway(server.url, { gatewayId: 'one' }))
    for (const { store } of workers) await eventually(() => store.isAvailable, 5000)
    expect(workers.map(({ store }) => store.gateways)).toEqual([1, 1])
  })

  it.each([
    ['read-only (a replica after a failover)', ['REPLICAOF', '127.0.0.1', '1'], ['REPLICAOF', 'NO', 'ONE'], 'READONLY'],
    ['full', ['CONFIG', 'SET', 'maxmemory', '1'], ['CONFIG', 'SET', 'maxmemory', '0'], 'OOM'],
    [
      'without the rights',
      ['ACL', 'SETUSER', 'default', '-eval', '-evalsha'],
      ['ACL', 'SETUSER', 'default', '+@all'],
      'NOPERM',
    ],
  ])('%s: the mode decides, the reason is logged once, and it comes back', async (_name, breakIt, mendIt, reason) => {
    const server = await redis()
    const { store, log } = gateway(server.url, { deadlineMs: 500 })
    await eventually(() => store.isAvailable, 5000)
    await server.command(...breakIt)
    for (let round = 0; round < 10; round += 1) expect(await modesOf(store, `r${round}`)).toEqual(DOWN)
    expect(store.isAvailable).toBe(false)
    await sleep(1200)
    expect(store.isAvailable).toBe(false)
    expect(log.map((line) => line.level)).toEqual(['info', 'warn'])
    expect(log[1]?.fields['reason']).toContain(reason)
    await server.command(...mendIt)
    await eventually(() => store.isAvailable, 5000)
    expect(await modesOf(store, 'back')).toEqual(UP)
  })

  it('a wrong password: one clear line at start, and the password is in no line', async () => {
    const password = 'correct-horse-battery'
    const server = await redis({ arguments: ['--requirepass', password], password })
    const wrong = gateway(`redis://:wrong-horse@127.0.0.1:${server.port}`)
    await eventually(() => wrong.log.length > 0, 3000)
    expect(wrong.log[0]?.fields['reason']).toMatch(/WRONGPASS|NOAUTH/)
    await sleep(800)
    expect(wrong.log).toHaveLength(1)
    expect(JSON.stringify(wrong.log)).not.toContain('horse')
    const right = gateway(`redis://:${password}@127.0.0.1:${server.port}/3`)
    await eventually(() => right.store.isAvailable, 5000)
    expect(JSON.stringify(right.log)).not.toContain('horse')
    expect(JSON.stringify(right.log)).toContain(`redis://127.0.0.1:${server.port}/3`)
    const option = gateway(server.url, { redis: { url: server.url, username: 'default', password } })
    await eventually(() => option.store.isAvailable, 5000)
  })
})

describe.skipIf(redisSkipReason() !== undefined)('what lies in redis', () => {
  it('every key lives no longer than its window, is short, and holds at most 61 counts (T-63)', async () => {
    const server = await redis()
    const { store } = gateway(server.url, { deadlineMs: 2000 })
    await eventually(() => store.isAvailable, 5000)
    const windows = [100, 60_000, 3_600_000, 86_400_000]
    for (let client = 0; client < 50; client += 1) {
      const key = client % 2 === 0 ? `client ${client}` : 'x'.repeat(10_000) + client
      await store.take(key, 5, windows[client % 4] as number, 'closed')
    }
    for (let event = 0; event < 300; event += 1) {
      await store.take('busy', 1_000_000, 600, 'closed')
      await sleep(3)
    }
    const keys = (await server.command('KEYS', '*')) as string[]
    // Thirteen windows of 100 ms are over by now. The busy bucket and the set of gateways are there.
    expect(keys).toHaveLength(50 - 13 + 2)
    for (const key of keys) {
      expect(key.length).toBeLessThan(40)
      const ttl = Number(await server.command('PTTL', key))
      expect(ttl).toBeGreaterThan(0)
      expect(ttl).toBeLessThanOrEqual((86_400_000 * 61) / 60 + 2)
      if (key.includes(':rl:')) expect(Number(await server.command('STRLEN', key))).toBeLessThanOrEqual(380)
      expect(Number(await server.command('MEMORY', 'USAGE', key))).toBeLessThan(600)
    }
  })

  it("another program's value under a key is replaced, whatever its type", async () => {
    const server = await redis()
    const { store } = gateway(server.url, { deadlineMs: 1000 })
    await eventually(() => store.isAvailable, 5000)
    await store.take('k', 10, 60_000, 'closed')
    const [key] = (await server.command('KEYS', '*:rl:*')) as [string]
    for (const foreign of [
      ['SET', key, 'hello'],
      ['SET', key, 'x'.repeat(30)],
      ['SET', key, `s1${'x'.repeat(1000)}`],
      ['RPUSH', key, 'a'],
    ]) {
      await server.command('DEL', key)
      await server.command(...foreign)
      expect(await store.take('k', 10, 60_000, 'closed')).toMatchObject({ mode: 'redis', remaining: 9 })
      expect(Number(await server.command('PTTL', key))).toBeGreaterThan(0)
    }
  })

  it("Redis's clock set back an hour: the bucket counts on, and nobody waits longer than a window (T-76)", async () => {
    const server = await redis()
    const { store } = gateway(server.url, { deadlineMs: 1000 })
    await eventually(() => store.isAvailable, 5000)
    const windowMs = 600
    for (let event = 0; event < 5; event += 1) await store.take('k', 5, windowMs, 'closed')
    const [key] = (await server.command('KEYS', '*:rl:*')) as [string]
    // The same as if the clock had been an hour ahead when the bucket was written.
    await server.command(
      'EVAL',
      `local state, ahead = redis.call('GET', KEYS[1]), 3600 * 100
       local newest, taken = struct.unpack('<dI4', state, 3)
       local ahead_state = 's1' .. struct.pack('<dI4', newest + ahead, taken)
       for at = 15, #state, 6 do
         local number, count = struct.unpack('<I2I4', state, at)
         ahead_state = ahead_state .. struct.pack('<I2I4', (number + ahead) % 65536, count)
       end
       return redis.call('SET', KEYS[1], ahead_state, 'PX', 3600000)`,
      1,
      key,
    )
    const refused = await store.take('k', 5, windowMs, 'closed')
    expect(refused.admitted).toBe(false)
    expect(refused.retryAfterMs).toBeLessThanOrEqual(611)
    expect(Number(await server.command('PTTL', key))).toBeLessThanOrEqual(611)
    await sleep(refused.retryAfterMs + 5)
    expect((await store.take('k', 5, windowMs, 'closed')).admitted).toBe(true)
  })

  it('one take is one round trip and three commands of Redis', async () => {
    const server = await redis()
    const { store } = gateway(server.url, { deadlineMs: 1000 })
    await eventually(() => store.isAvailable, 5000)
    await store.take('k', 1000, 60_000, 'closed')
    await server.command('CONFIG', 'RESETSTAT')
    for (let event = 0; event < 100; event += 1) await store.take('k', 1000, 60_000, 'closed')
    const stats = String(await server.command('INFO', 'commandstats'))
    const calls = Object.fromEntries(
      [...stats.matchAll(/cmdstat_([^:|]+):calls=(\d+)/g)].map((match) => [match[1], Number(match[2])]),
    )
    expect(calls).toMatchObject({ evalsha: 100, time: 100, get: 100, set: 100 })
    expect(calls['eval']).toBeUndefined()
  })
})

describe.skipIf(redisSkipReason() !== undefined)('part of a cluster out of reach', () => {
  it('its buckets are decided by their mode, the others are counted again between probes, and the log stays quiet', async () => {
    const nodes = await startRedisCluster(3)
    for (const node of nodes) ends.push(() => node.stop())
    // Serve what is there: otherwise the whole cluster refuses after its node timeout.
    for (const node of nodes) await node.command('CONFIG', 'SET', 'cluster-require-full-coverage', 'no')
    const url = `redis+cluster://${nodes.map((node) => `127.0.0.1:${node.port}`).join(',')}`
    const { store, log } = gateway(url)
    await eventually(() => store.isAvailable, 10_000)
    const slot = Number(await (nodes[0] as RunningRedis).command('CLUSTER', 'KEYSLOT', 'sallyport:gateways'))
    const holder = Math.min(2, Math.floor(slot / Math.ceil(16_384 / 3)))
    await (nodes[(holder + 1) % 3] as RunningRedis).kill()
    const seen: Record<string, number> = {}
    const start = performance.now()
    let late = 0
    for (let round = 0; performance.now() - start < 4000; round += 1) {
      const takes = await Promise.all(
        Array.from({ length: 9 }, (_, call) => takeWithin(IN_TIME_MS, store, `${round} ${call}`, 10, 'local')),
      )
      for (const { taken, isInTime } of takes) {
        expect(taken.admitted).toBe(true)
        seen[taken.mode] = (seen[taken.mode] ?? 0) + 1
        if (!isInTime) late += 1
      }
      await sleep(20)
    }
    expect(Object.keys(seen).sort()).toEqual(['local', 'redis'])
    expect(seen['redis']).toBeGreaterThan(20)
    expect(late).toBe(0)
    expect(log.length).toBeLessThanOrEqual(4)
  })
})
