/**
 * A process that takes from rate-limit buckets, for tests with several. From the built files, as workers run.
 * Arguments: JSON { redisUrl? | tablePath, mode?, log, key, capacity, windowMs, concurrency, untilMs? }. Writes one line per admitted
 * event to `log` (`sent answered`, nanoseconds of the machine's monotonic clock) before it takes the next, and ends when a take
 * was refused, or when `untilMs` have passed. Prints a JSON summary.
 */
import { openSync, writeSync } from 'node:fs'
import { MemoryStore } from '../../dist/rate-limit/memory-store.js'
import { RedisStore } from '../../dist/rate-limit/redis-store.js'

const work = JSON.parse(process.argv[2])
const log = openSync(work.log, 'a')
const silent = { info() {}, warn() {} }
const memory = MemoryStore.open(work.tablePath)
const store =
  work.redisUrl === undefined
    ? memory
    : new RedisStore({
        redis: { url: work.redisUrl },
        mode: work.mode,
        local: memory,
        logger: silent,
        deadlineMs: 2000,
      })

for (;;) {
  if (!(store instanceof RedisStore) || store.isAvailable) break
  await new Promise((resolve) => setTimeout(resolve, 5))
}
process.stdout.write('ready\n')
await new Promise((resolve) => process.stdin.once('data', resolve))

const start = performance.now()
const counts = { admitted: 0, refused: 0, modes: {} }
let isOver = false
async function takeOn() {
  while (!isOver) {
    const sent = process.hrtime.bigint()
    const taken = await store.take(work.key, work.capacity, work.windowMs, 'closed')
    counts.modes[taken.mode] = (counts.modes[taken.mode] ?? 0) + 1
    if (taken.admitted) {
      writeSync(log, `${sent} ${process.hrtime.bigint()}\n`)
      counts.admitted += 1
    } else {
      counts.refused += 1
      if (work.untilMs === undefined) isOver = true
      else await new Promise((resolve) => setTimeout(resolve, 1))
    }
    if (work.untilMs !== undefined && performance.now() - start > work.untilMs) isOver = true
  }
}
await Promise.all(Array.from({ length: work.concurrency }, takeOn))
process.stdout.write(`${JSON.stringify(counts)}\n`)
await store.close()
process.exit(0)
