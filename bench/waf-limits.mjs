/**
 * The rows of `bench:waf` that are no ratios: how late the event loop is while bodies of 1 MB arrive and are scanned
 * (`loop`), and what the rule set adds to the memory of a process (`memory`). Bars: issue 4, "Speed".
 */
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { processTree } from './cpu.mjs'
import { ROWS, millionBytes } from './waf-requests.mjs'

export const LIMIT_ROWS = ['loop', 'memory']
const LOOP_BAR_MS = 5
const MEMORY_BAR_MB = 60
/** More than any body: everything is scanned on the loop. */
const NO_THREADS = '1 GiB'

/**
 * `startGateway(name, isOn, settings)` and `drive` as waf.mjs has them. `settings`: lines of `waf`, variables of the
 * environment, options of Node.js.
 */
export async function measureLoop({ folder, startGateway, drive, stop, seconds }) {
  const rows = []
  for (const [mode, isOn, waf] of [
    ['without rules', false, ''],
    ['scanned in threads', true, ''],
    ['scanned on the loop', true, `, thread_threshold: ${NO_THREADS}`],
  ]) {
    const name = `loop-${rows.length}`
    const socket = join(folder, `${name}.sock`)
    const gateway = await startGateway(name, isOn, {
      waf,
      environment: { LOOP_DELAY_SOCKET: socket },
      nodeOptions: ['--import', new URL('loop-delay.mjs', import.meta.url).href],
    })
    const large = { requests: millionBytes }
    await drive(gateway, large, large.requests(), { seconds: 1, connections: 2 })
    await delays(socket)
    const [{ done }] = await Promise.all([
      drive(gateway, large, large.requests(), { seconds, connections: 2 }),
      drive(gateway, ROWS.get, ROWS.get.requests(), { seconds, connections: 1 }),
    ])
    const { p50, p99, most } = await delays(socket)
    await stop([gateway])
    rows.push({ scenario: 'loop', mode, per_second: done / seconds, p50_ms: p50, p99_ms: p99, most_ms: most })
    const verdict =
      mode === 'scanned in threads' ? `, bar ${LOOP_BAR_MS} ms: ${p99 < LOOP_BAR_MS ? 'met' : 'MISSED'}` : ''
    process.stdout.write(
      `loop          ${(done / seconds).toFixed(0)} bodies of 1 MB a second, ${mode}: the event loop is late by ${p50.toFixed(1)} ms (p50), ${p99.toFixed(1)} ms (p99), ${most.toFixed(1)} ms (most)${verdict}\n`,
    )
  }
  return rows
}

async function delays(path) {
  let text = ''
  for await (const chunk of connect(path)) text += chunk
  return JSON.parse(text)
}

/** A worker of each side answers the same requests, with a body of 100 kB for every thread and more. */
export async function measureMemory({ startGateway, drive, stop }) {
  const on = await startGateway('memory-on', true, {})
  const off = await startGateway('memory-off', false, {})
  const before = threadsOf(workerOf(on))
  for (const side of [on, off]) {
    await drive(side, ROWS.get, ROWS.get.requests(), { count: 50, connections: 4 })
    await drive(side, ROWS.json100k, ROWS.json100k.requests(), { count: 32, connections: 16 })
  }
  const threads = threadsOf(workerOf(on)) - before
  // what was only lent is given back
  await sleep(1000)
  const [withRules, without] = [on, off].map((side) => residentMb(workerOf(side)))
  await stop([on, off])
  const difference = withRules - without
  process.stdout.write(
    `memory        a worker with rules ${withRules.toFixed(1)} MB (${threads} threads started), without ${without.toFixed(1)} MB: ${difference.toFixed(1)} MB more, bar ${MEMORY_BAR_MB}: ${difference <= MEMORY_BAR_MB ? 'met' : 'MISSED'}\n`,
  )
  return [{ scenario: 'memory', with_mb: withRules, without_mb: without, difference_mb: difference, threads }]
}

/** The last process of the tree: there is one worker. */
function workerOf(side) {
  return processTree(side.pid).at(-1)
}

function threadsOf(pid) {
  return readdirSync(`/proc/${pid}/task`).length
}

function residentMb(pid) {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kilobytes) / 1024
}
