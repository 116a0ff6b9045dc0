/**
 * The rows of `bench:waf` that are no ratios: how late the event loop is while bodies of 1 MB arrive and are scanned
 * (`loop`), and what the rule set adds to the memory of a process (`memory`). Bars: issue 4, "Speed".
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { processTree } from './cpu.mjs'
import { ROWS, millionBytes } from './waf-requests.mjs'

export const LIMIT_ROWS = ['loop', 'memory']
const LOOP_BAR_MS = 5
const MEMORY_BAR_MB = 60
export const ISSUER = 'https://id.bench.example'
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

/** How often both sides are started anew: what a collector has left for later differs by megabytes from start to start. */
const MEMORY_STARTS = 5

/**
 * A worker of each side answers the same requests, with a body of 100 kB for every thread and more. Signatures of tokens
 * start the threads on both sides: without rules there is nothing else that does. Medians over several starts.
 */
export async function measureMemory({ startGateway, drive, stop }) {
  const keys = await serveKeySet()
  const starts = []
  for (let round = 0; round < MEMORY_STARTS; round += 1) {
    const order = round % 2 === 0 ? [true, false] : [false, true]
    const sides = new Map()
    for (const isOn of order) {
      const side = await startGateway(`memory-${round}-${isOn ? 'on' : 'off'}`, isOn, { keySet: keys.url })
      sides.set(isOn, side)
      side.threadsBefore = threadsOf(workerOf(side))
      await drive(side, { status: 401 }, keys.wrongToken, { count: 64, connections: 16 })
      await drive(side, ROWS.get, ROWS.get.requests(), { count: 50, connections: 4 })
      await drive(side, ROWS.json100k, ROWS.json100k.requests(), { count: 32, connections: 16 })
    }
    const [threads, threadsWithout] = [true, false].map(
      (isOn) => threadsOf(workerOf(sides.get(isOn))) - sides.get(isOn).threadsBefore,
    )
    // what was only lent is given back
    await sleep(1000)
    const [withRules, without] = [true, false].map((isOn) => residentMb(workerOf(sides.get(isOn))))
    await stop([...sides.values()])
    starts.push({ threads, threadsWithout, withRules, without, difference: withRules - without })
  }
  keys.close()
  const sorted = (name) => starts.map((start) => start[name]).sort((a, b) => a - b)
  const median = (name) => sorted(name)[starts.length >> 1]
  const [withRules, without, difference] = ['withRules', 'without', 'difference'].map(median)
  const [least, most] = [sorted('difference')[0], sorted('difference').at(-1)]
  process.stdout.write(
    `memory        a worker with rules ${withRules.toFixed(1)} MB (${median('threads')} threads started), without ${without.toFixed(1)} MB (${median('threadsWithout')} threads): ${difference.toFixed(1)} MB more (${least.toFixed(1)} to ${most.toFixed(1)} in ${starts.length} starts), bar ${MEMORY_BAR_MB}: ${difference <= MEMORY_BAR_MB ? 'met' : 'MISSED'}\n`,
  )
  return [
    {
      scenario: 'memory',
      with_mb: withRules,
      without_mb: without,
      difference_mb: difference,
      least_mb: least,
      most_mb: most,
      threads: median('threads'),
      threads_without: median('threadsWithout'),
    },
  ]
}

/** A key set on the loopback (ES384 is checked in threads), and requests with tokens that name its key and are not signed by it: no two alike. */
async function serveKeySet() {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' })
  const key = { ...publicKey.export({ format: 'jwk' }), kid: 'bench', alg: 'ES384', use: 'sig' }
  const server = createServer((_, response) => response.end(JSON.stringify({ keys: [key] })))
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const claims = { iss: ISSUER, sub: 'u-1', exp: Math.floor(Date.now() / 1000) + 3600 }
  const signed = `${part({ alg: 'ES384', kid: 'bench', typ: 'JWT' })}.${part(claims)}`
  return {
    url: `http://127.0.0.1:${server.address().port}/jwks.json`,
    wrongToken: () =>
      `GET / HTTP/1.1\r\nHost: tokens.example\r\nAuthorization: Bearer ${signed}.${randomBytes(96).toString('base64url')}\r\n\r\n`,
    close: () => server.close(),
  }
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
