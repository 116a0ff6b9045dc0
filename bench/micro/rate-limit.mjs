/**
 * What a rate limit costs: nanoseconds per take from shared memory; microseconds, round trips and Redis commands per take from
 * Redis. Run `npm run build`, then `node bench/micro/rate-limit.mjs`. Needs a redis-server in PATH for the second half.
 */
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MemoryStore } from '../../dist/rate-limit/memory-store.js'
import { RedisStore } from '../../dist/rate-limit/redis-store.js'

const WINDOW_MS = 60_000
const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'sallyport-bench-'))
const memory = MemoryStore.create(join(folder, 'buckets'), 65_536)
process.stdout.write(`node ${process.version}\n`)

const keysOf = (count) =>
  Array.from({ length: count }, (_, client) => `api/0/1/per client/198.51.${client >> 8}.${client & 255}`)

/** Best of five rounds: the machine is shared. */
function best(rounds, run) {
  return Math.min(...Array.from({ length: rounds }, run))
}

for (const [name, keys, capacity] of [
  ['memory, one key', keysOf(1), 2e9],
  ['memory, 10,000 keys', keysOf(10_000), 2e9],
  ['memory, refused', keysOf(1).map((key) => `${key} refused`), 1],
]) {
  const takes = 300_000
  const nanos = best(5, () => {
    // CPU time: on a shared machine the clock on the wall measures the others.
    const cpu = process.cpuUsage()
    for (let event = 0; event < takes; event += 1) memory.take(keys[event % keys.length], capacity, WINDOW_MS, 'local')
    const { user, system } = process.cpuUsage(cpu)
    return ((user + system) * 1000) / takes
  })
  process.stdout.write(`${name}: ${nanos.toFixed(0)} ns CPU per take\n`)
}
const { entries, bytes } = memory.summary()
process.stdout.write(
  `memory: ${entries} entries in ${(bytes / 2 ** 20).toFixed(1)} MiB, ${(bytes / entries).toFixed(0)} bytes each\n`,
)

const port = await new Promise((resolve) => {
  const probe = createServer().listen(0, '127.0.0.1', () => {
    const free = probe.address().port
    probe.close(() => resolve(free))
  })
})
const server = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', folder], {
  stdio: 'ignore',
})
const isMissing = await Promise.race([
  new Promise((resolve) => server.once('error', () => resolve(true))),
  sleep(300).then(() => false),
])
if (isMissing) {
  process.stdout.write('skipped: no redis-server in PATH\n')
} else {
  try {
    await measureRedis()
  } finally {
    server.kill('SIGKILL')
  }
}
await memory.close()
rmSync(folder, { recursive: true })

async function measureRedis() {
  for (const [name, mode, keys, atOnce, takes] of [
    ['redis, one at a time', 'exact', keysOf(1000), 1, 5000],
    ['redis, 32 at once', 'exact', keysOf(1000), 32, 40_000],
    ['redis, 256 at once', 'exact', keysOf(1000), 256, 60_000],
    ['redis, 10,000 keys, 32 at once', 'exact', keysOf(10_000), 32, 40_000],
    ['redis lease, one key, 32 at once', 'lease', keysOf(1), 32, 200_000],
    ['redis lease, 100 keys, 32 at once', 'lease', keysOf(100), 32, 200_000],
    ['redis lease, 10,000 cold keys, 32 at once', 'lease', keysOf(10_000), 32, 40_000],
  ]) {
    const store = new RedisStore({
      redis: { url: `redis://127.0.0.1:${port}` },
      local: memory,
      mode,
      logger: { info() {}, warn() {} },
      deadlineMs: 2000,
    })
    while (!store.isAvailable) await sleep(10)
    const round = async () => {
      let sent = 0
      const cpu = process.cpuUsage()
      const start = performance.now()
      const turn = async () => {
        while (sent < takes) {
          sent += 1
          let taken = store.take(keys[sent % keys.length], 2e9, WINDOW_MS, 'local')
          if (taken instanceof Promise) taken = await taken
          if (taken.mode !== 'redis') throw new Error(`decided by ${taken.mode}`)
        }
      }
      await Promise.all(Array.from({ length: atOnce }, turn))
      const { user, system } = process.cpuUsage(cpu)
      return { micros: ((performance.now() - start) * 1000) / takes, cpuMicros: (user + system) / takes }
    }
    await round()
    const before = await statistics()
    const measured = [await round(), await round(), await round()].sort((a, b) => a.micros - b.micros)[0]
    const after = await statistics()
    const per = (figure) => ((after[figure] - before[figure]) / (3 * takes)).toFixed(3)
    process.stdout.write(
      `${name}: ${measured.micros.toFixed(2)} µs per take, ${measured.cpuMicros.toFixed(2)} µs of it CPU here; ` +
        `${per('evalsha')} calls, ${per('commands')} commands inside, ` +
        `${per('scriptMicros')} µs in the script, ${per('reads')} reads of the socket by Redis\n`,
    )
    await store.close()
  }
}

/** Figures of INFO that say what Redis did. */
async function statistics() {
  const text = await new Promise((resolve, reject) => {
    let received = ''
    const socket = connect(port, '127.0.0.1', () => socket.write('INFO commandstats\r\nINFO stats\r\nQUIT\r\n'))
    socket.on('data', (chunk) => (received += chunk))
    socket.on('close', () => resolve(received))
    socket.on('error', reject)
  })
  const calls = (name) => Number(new RegExp(`cmdstat_${name}:calls=(\\d+)`).exec(text)?.[1] ?? 0)
  return {
    evalsha: calls('evalsha') + calls('eval'),
    commands: calls('time') + calls('get') + calls('set'),
    scriptMicros: Number(/cmdstat_evalsha:calls=\d+,usec=(\d+)/.exec(text)?.[1] ?? 0),
    reads: Number(/total_reads_processed:(\d+)/.exec(text)?.[1] ?? 0),
  }
}
