/**
 * The script against a list of every admitted event, at times of the test's choosing. Spec: T-60, T-76.
 *
 * Engine: none, no client connects to a listener.
 */
import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { RedisClient } from '../../../src/redis/client.ts'
import { loadRedisScript, type RedisScript } from '../../../src/redis/script.ts'
import { eventually, redisSkipReason, startRedis, type RunningRedis } from '../../support/start-redis.ts'

const real = loadRedisScript('./take-sliding-window-1.lua', new URL('../../../src/rate-limit/', import.meta.url).href)
const source = real.source
  .replace("redis.call('TIME')", '{ ARGV[7], ARGV[8] }')
  // the test's clock stands still while a busy machine's goes on
  .replace("'PX', lifeMs", "'PX', 600000")
const script: RedisScript = { ...real, source, sha: createHash('sha1').update(source).digest('hex') }

const WINDOW_MS = 600
const SLOT_MICROS = 10_000
/** Beginning of a slot. */
const START = 1_800_000_000_000_000

describe.skipIf(redisSkipReason() !== undefined)('take-sliding-window-1.lua', () => {
  let server: RunningRedis
  let client: RedisClient
  beforeAll(async () => {
    server = await startRedis()
    client = new RedisClient({ url: server.url })
    await eventually(() => client.isReady, 5000)
  })
  afterAll(async () => {
    client.close()
    await server.stop()
  })

  const take = async (key: string, capacity: number, nowMicros: number, windowMs = WINDOW_MS): Promise<number> => {
    const seconds = Math.floor(nowMicros / 1_000_000)
    return Number(
      await client.runScript(script, key, capacity, windowMs, '', '', '', '', seconds, nowMicros % 1_000_000),
    )
  }

  it('takes the time where the test says', () => {
    expect(source).not.toBe(real.source)
  })

  it.each([1, 7, 50, 400])('agrees with a log of every event, capacity %i', async (capacity) => {
    const key = `log ${capacity}`
    let log: number[] = []
    let now = START
    let random = 0x2545f491 ^ capacity
    const next = (below: number): number => {
      random ^= random << 13
      random ^= random >>> 17
      random ^= random << 5
      return (random >>> 0) % below
    }
    let refused = 0
    for (let step = 0; step < 4000; step += 1) {
      const kind = next(10_000)
      now += kind < 2 ? 5_000_000 : kind < 15 ? next(400_000) : next(Math.ceil(600_000 / capacity))
      const slot = Math.floor(now / SLOT_MICROS)
      log = log.filter((event) => slot - Math.floor(event / SLOT_MICROS) <= 60)
      const answer = await take(key, capacity, now)
      if (log.length < capacity) {
        log.push(now)
        expect(answer).toBe(capacity - log.length)
        expect(log.filter((event) => now - event < WINDOW_MS * 1000).length).toBeLessThanOrEqual(capacity)
      } else {
        const freeMicros = (Math.floor((log[0] as number) / SLOT_MICROS) + 61) * SLOT_MICROS - now
        expect(answer).toBe(-Math.max(1, Math.ceil(freeMicros / 1000)))
        refused += 1
      }
    }
    expect(refused).toBeGreaterThan(200)
    expect(refused).toBeLessThan(3900)
  })

  it('every slot may hold counts, and each leaves in its time', async () => {
    for (let slot = 0; slot <= 60; slot += 1) {
      for (let event = 0; event <= slot; event += 1) await take('full', 1_000_000, START + slot * SLOT_MICROS)
    }
    expect(Number(await server.command('STRLEN', 'full'))).toBe(380)
    let sum = (61 * 62) / 2
    for (let slot = 61; slot <= 121; slot += 1) {
      sum -= slot - 60
      expect(await take('full', sum, START + slot * SLOT_MICROS)).toBeLessThan(0)
    }
    expect(sum).toBe(0)
    expect(await take('full', 1, START + 122 * SLOT_MICROS)).toBe(0)
  })

  it('a clock that goes back: nothing is lost, and nothing waits longer than a window', async () => {
    for (const backMicros of [1, SLOT_MICROS, 300_000, 3_600_000_000, 86_400_000_000]) {
      const key = `back ${backMicros}`
      for (let event = 0; event < 5; event += 1) await take(key, 5, START + event * 20_000)
      let now = START + 80_000 - backMicros
      let answer = await take(key, 5, now)
      expect(answer).toBeLessThan(0)
      expect(answer).toBeGreaterThanOrEqual(-610)
      // Asking again and again does not put it off.
      let waitedMs = 0
      while (answer < 0) {
        now += 10_000
        waitedMs += 10
        answer = await take(key, 5, now)
      }
      expect(waitedMs).toBeLessThanOrEqual(620)
      expect(waitedMs).toBeGreaterThanOrEqual(520)
    }
  })

  it('long windows and slots whose numbers pass 65,536', async () => {
    const day = 86_400_000
    const slotMicros = (day * 1000) / 60
    for (let slot = 65_500; slot < 65_600; slot += 1) {
      // Two per slot fit a capacity of 122 for ever.
      expect(await take('wrap', 122, slot * slotMicros, day)).toBeGreaterThanOrEqual(0)
      expect(await take('wrap', 122, slot * slotMicros + 1, day)).toBeGreaterThanOrEqual(0)
    }
    expect(await take('wrap', 122, 65_599 * slotMicros + 2, day)).toBeLessThan(0)
    const tiny = await take('tiny', 2, START, 0.01)
    expect(tiny).toBe(1)
  })
})
