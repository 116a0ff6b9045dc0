/**
 * T-60: several processes on one Redis, or on one table of shared memory, some of them killed with SIGKILL.
 *
 * Engine: none, no client connects to a listener.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MemoryStore } from '../../../src/rate-limit/memory-store.ts'
import { redisSkipReason, startRedis, type RunningRedis } from '../../support/start-redis.ts'

const TAKER = fileURLToPath(new URL('../../support/rate-limit-taker.mjs', import.meta.url))

interface Work {
  readonly redisUrl?: string
  readonly mode?: 'exact' | 'lease'
  readonly key: string
  readonly capacity: number
  readonly windowMs: number
  readonly concurrency: number
  readonly untilMs?: number
}

interface Taker {
  readonly child: ChildProcess
  readonly ready: Promise<void>
  readonly summary: Promise<{ admitted: number; refused: number; modes: Record<string, number> } | undefined>
  go(): void
}

let folder: string
let table: string
let memory: MemoryStore
let takers: Taker[] = []

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-takers-'))
  table = join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), `sallyport-test-${randomUUID()}`)
  memory = MemoryStore.create(table, 1024)
})

afterEach(async () => {
  for (const { child } of takers) child.kill('SIGKILL')
  takers = []
  await memory.close()
  rmSync(table)
  rmSync(folder, { recursive: true, force: true })
})

function startTaker(work: Work): Taker {
  const child = spawn(
    process.execPath,
    [TAKER, JSON.stringify({ ...work, tablePath: table, log: join(folder, randomUUID()) })],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  let last: string | undefined
  const ready = new Promise<void>((resolve, reject) => {
    lines.on('line', (line) => {
      if (line === 'ready') resolve()
      else last = line
    })
    child.once('exit', () => reject(new Error('the taker ended before it was ready (is dist/ built?)')))
  })
  const summary = new Promise<Awaited<Taker['summary']>>((resolve) => {
    child.once('close', () => resolve(last === undefined ? undefined : JSON.parse(last)))
  })
  ready.catch(() => undefined)
  const taker = { child, ready, summary, go: () => void child.stdin?.write('go\n') }
  takers.push(taker)
  return taker
}

/** Every admitted event of all processes: when it was sent and answered, milliseconds of the machine's clock. */
function admitted(): { sentMs: number; answeredMs: number }[] {
  return readdirSync(folder).flatMap((file) =>
    readFileSync(join(folder, file), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        const [sent, answered] = line.split(' ').map((text) => Number(BigInt(text)) / 1e6)
        return { sentMs: sent as number, answeredMs: answered as number }
      }),
  )
}

/** The most events that were surely admitted within some window of the length. */
function mostWithin(windowMs: number): number {
  const events = admitted().sort((a, b) => a.sentMs - b.sentMs)
  let most = 0
  for (const [index, { sentMs: fromMs }] of events.entries()) {
    let inside = 0
    for (let at = index; at < events.length; at += 1) {
      const event = events[at] as (typeof events)[number] // below length
      if (event.sentMs > fromMs + windowMs) break
      if (event.answeredMs <= fromMs + windowMs) inside += 1
    }
    most = Math.max(most, inside)
  }
  return most
}

async function runTogether(works: readonly Work[]): Promise<void> {
  const started = works.map(startTaker)
  await Promise.all(started.map((taker) => taker.ready))
  for (const taker of started) taker.go()
  for (const taker of started) expect(await taker.summary).toBeDefined()
}

describe.skipIf(redisSkipReason() !== undefined)('four gateway processes on one redis', () => {
  let redis: RunningRedis
  beforeEach(async () => {
    redis = await startRedis()
  })
  afterEach(() => redis.stop())

  describe.each(['exact', 'lease'] as const)('%s mode', (mode) => {
    it('1000 takes at once over four gateways, limit 100: exactly 100 pass', async () => {
      const work = { redisUrl: redis.url, mode, key: 'k', capacity: 100, windowMs: 60_000, concurrency: 250 }
      await runTogether([work, work, work, work])
      expect(admitted()).toHaveLength(100)
    })

    it('under load never more than the capacity in any window', async () => {
      const work = {
        redisUrl: redis.url,
        mode,
        key: 'k',
        capacity: 200,
        windowMs: 500,
        concurrency: 16,
        untilMs: 4000,
      }
      await runTogether([work, work, work, work])
      const total = admitted().length
      process.stdout.write(
        `four processes, ${mode}, 200 per 500 ms, 4 s: ${total} admitted, at most ${mostWithin(500)} in a window\n`,
      )
      expect(mostWithin(500)).toBeLessThanOrEqual(200)
      // Eight windows, each a sixtieth longer than asked for; nothing is wasted.
      expect(total).toBeGreaterThanOrEqual(200 * 7)
      expect(total).toBeLessThanOrEqual(200 * 9)
    })
  })
})

describe('four worker processes on one table', () => {
  it('admit exactly the capacity', async () => {
    const work = { key: 'k', capacity: 20_000, windowMs: 3_600_000, concurrency: 1 }
    await runTogether([work, work, work, work])
    expect(admitted()).toHaveLength(20_000)
  })

  it('never more than the capacity in any window', async () => {
    const work = { key: 'k', capacity: 300, windowMs: 400, concurrency: 4, untilMs: 3000 }
    await runTogether([work, work, work, work])
    const total = admitted().length
    process.stdout.write(
      `four workers, 300 per 400 ms, 3 s: ${total} admitted, at most ${mostWithin(400)} in a window\n`,
    )
    expect(mostWithin(400)).toBeLessThanOrEqual(300)
    expect(total).toBeGreaterThanOrEqual(300 * 6)
    expect(total).toBeLessThanOrEqual(300 * 9)
  })

  it('stay exact across the kill -9 of some', async () => {
    const capacity = 400_000
    const work = { key: 'k', capacity, windowMs: 3_600_000, concurrency: 1 }
    let running = [0, 1, 2, 3].map(() => startTaker(work))
    await Promise.all(running.map((taker) => taker.ready))
    for (const taker of running) taker.go()
    let kills = 0
    for (let round = 0; round < 4; round += 1) {
      await sleep(40)
      const victim = running[0] as Taker
      if (victim.child.exitCode === null) kills += 1
      victim.child.kill('SIGKILL')
      const next = startTaker(work)
      running = [...running.slice(1), next]
      await next.ready
      next.go()
    }
    for (const taker of running) await taker.summary
    const used = admitted().length
    process.stdout.write(`${kills} workers killed: ${used} of ${capacity} used\n`)
    expect(used).toBeLessThanOrEqual(capacity)
    // Each killed worker may have taken one event that it did not live to use.
    expect(used).toBeGreaterThanOrEqual(capacity - kills)
    expect(memory.take('k', capacity, 3_600_000, 'open')).toMatchObject({ admitted: false, mode: 'memory' })
  })
})
