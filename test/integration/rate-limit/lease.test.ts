/**
 * `rate_limit.mode: lease`: permits in batches. Spec: T-60, O-76, traffic-policy.md §5.16.
 *
 * Engine: none, no client connects to a listener.
 */
import { randomUUID } from 'node:crypto'
import { existsSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { MemoryStore } from '../../../src/rate-limit/memory-store.ts'
import { RedisStore } from '../../../src/rate-limit/redis-store.ts'
import type { TakeResult } from '../../../src/rate-limit/store.ts'
import { eventually, redisSkipReason, startRedis, type RunningRedis } from '../../support/start-redis.ts'

const WINDOW_MS = 60_000

describe.skipIf(redisSkipReason() !== undefined)('lease mode', () => {
  let server: RunningRedis
  let memory: MemoryStore
  let store: RedisStore
  const path = join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), `sallyport-test-${randomUUID()}`)

  const open = async (mode: 'exact' | 'lease' = 'lease'): Promise<RedisStore> => {
    const opened = new RedisStore({
      redis: { url: server.url },
      local: memory,
      mode,
      logger: { info() {}, warn() {} },
      deadlineMs: 1000, // what is counted matters here, not how fast a busy machine is
    })
    await eventually(() => opened.isAvailable, 10_000)
    return opened
  }
  const take = async (key: string, capacity: number, from: RedisStore = store): Promise<TakeResult> => {
    const taken = await from.take(key, capacity, WINDOW_MS, 'closed')
    expect(taken.mode).toBe('redis')
    return taken
  }
  /** Calls of the script that Redis ran so far. */
  const calls = async (): Promise<number> => {
    const info = String(await server.command('INFO', 'commandstats'))
    return Number(/cmdstat_evalsha:calls=(\d+)/.exec(info)?.[1] ?? 0)
  }

  beforeAll(async () => {
    server = await startRedis()
    memory = MemoryStore.create(path, 1024)
  })
  afterAll(async () => {
    await server.stop()
    await memory.close()
    rmSync(path)
  })
  beforeEach(async () => {
    store = await open()
  })
  afterEach(() => store.close())

  it('takes from a hot bucket with few calls', async () => {
    const before = await calls()
    for (let event = 0; event < 5000; event += 1) expect((await take('hot', 1_000_000)).admitted).toBe(true)
    const asked = (await calls()) - before
    process.stdout.write(`5000 takes from one bucket: ${asked} calls of Redis\n`)
    expect(asked).toBeLessThan(500)
  })

  it('asks for every take of a cold bucket', async () => {
    const before = await calls()
    for (let event = 0; event < 20; event += 1) {
      for (let key = 0; key < 2; key += 1) await take(`cold ${key}`, 1000)
      await sleep(70)
    }
    expect((await calls()) - before).toBeGreaterThanOrEqual(40)
  })

  it('admits the whole capacity and not one more, over two stores', async () => {
    const other = await open()
    let admitted = 0
    const worker = async (from: RedisStore): Promise<void> => {
      for (let event = 0; event < 900; event += 1) if ((await take('shared', 1000, from)).admitted) admitted += 1
    }
    await Promise.all([worker(store), worker(other), worker(store), worker(other)])
    // what either still held unused came back
    await eventually(async () => {
      for (const from of [store, other]) if ((await take('shared', 1001, from)).admitted) admitted += 1
      return admitted >= 1001
    }, 5000)
    expect(admitted).toBe(1001)
    await other.close()
  })

  it('gives back what it does not use, when the lease is over and when it closes', async () => {
    const exact = await open('exact')
    for (let event = 0; event < 100; event += 1) await take('returned', 10_000)
    await eventually(async () => {
      const { remaining } = await take('returned', 10_000, exact)
      const looked = 10_000 - 100 - remaining
      return looked > 0 && looked < 60 // only the takes of this loop
    }, 5000)
    for (let event = 0; event < 100; event += 1) await take('closed', 10_000)
    await store.close()
    expect((await take('closed', 10_000, exact)).remaining).toBe(10_000 - 101)
    await exact.close()
  })

  it('what a killed worker held counts as used', async () => {
    const killed = await open()
    for (let event = 0; event < 10; event += 1) await take('killed', 10_000, killed)
    // The end of a process, as Redis sees it: the connection is gone and nothing comes back.
    await server.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    const exact = await open('exact')
    const { remaining } = await take('killed', 10_000, exact)
    expect(remaining).toBeLessThan(10_000 - 11)
    await exact.close()
    await killed.close()
  })

  it('remembers a refusal until an event may succeed', async () => {
    for (let event = 0; event < 10; event += 1) await take('refused', 10)
    const first = await take('refused', 10)
    expect(first.admitted).toBe(false)
    const before = await calls()
    for (let event = 0; event < 1000; event += 1) {
      const { admitted, retryAfterMs } = await take('refused', 10)
      expect(admitted).toBe(false)
      expect(retryAfterMs).toBeLessThanOrEqual(first.retryAfterMs)
      expect(retryAfterMs).toBeGreaterThan(first.retryAfterMs - 30_000)
    }
    // a heartbeat may fall in between
    expect((await calls()) - before).toBeLessThanOrEqual(2)
  })

  it('O-76: when Redis is gone, what is held is used and then on_store_error decides', async () => {
    for (let event = 0; event < 20; event += 1) await take('outage', 1_000_000)
    await server.stop()
    const modes = new Set<string>()
    for (let event = 0; event < 2000; event += 1) {
      modes.add((await store.take('outage', 1_000_000, WINDOW_MS, 'closed')).mode)
    }
    expect([...modes].at(-1)).toBe('closed')
    server = await startRedis()
  })
})
