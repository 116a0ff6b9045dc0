/**
 * `npm run bench:proxy`: what a request costs, beside nginx, HAProxy and Envoy on the same upstream and the same request.
 *
 * All sides keep connections alive on both ends. What each side does with the request (status, field names, bytes, and
 * what the upstream was sent) is printed before it is timed. Rounds alternate over the sides; CPU is that of a side's own
 * processes with all their threads, from /proc; ratios are taken within a round and their median is printed with the
 * lowest and highest. Load generator, upstream and the measured side share the machine's cores, so requests per second
 * compare sides but say little about any other machine.
 *
 * `--rows a,b` (all), `--rounds N` (7), `--seconds N` per side and round (3), `--json FILE`. Rows: bench/proxy/rows.mjs.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, startNode, stop, stopAll, track } from '../demo/processes.mjs'
import { failUsage, readArguments } from '../scripts/arguments.mjs'
import { ensureRules } from '../scripts/ensure-rules.mjs'
import { ensureProgram, ensureRedis } from '../scripts/ensure-servers.mjs'
import { fail, root, setUp } from '../scripts/set-up.mjs'
import { processTree, threadsCpuUs } from './cpu.mjs'
import { startGateway } from './proxy/gateway.mjs'
import { ask, load } from './proxy/load.mjs'
import { PEERS, startBackend } from './proxy/peers.mjs'
import { ROWS } from './proxy/rows.mjs'

const ISSUER = 'https://id.bench.example'

const USAGE = `usage: npm run bench:proxy -- [OPTIONS]
  --rows A,B   which rows (all)
  --rounds N   rounds over the sides (7)
  --seconds N  for each side in a round (3)
  --json FILE  write the rows there
rows: ${Object.keys(ROWS).join(', ')}`
const { values: options } = readArguments(USAGE, {
  rows: { type: 'string', default: Object.keys(ROWS).join(',') },
  rounds: { type: 'string', default: '7' },
  seconds: { type: 'string', default: '3' },
  json: { type: 'string' },
})
const rounds = Number(options.rounds)
const seconds = Number(options.seconds)
const names = options.rows.split(',')
for (const name of names) {
  if (ROWS[name] === undefined) failUsage(`unknown row ${name}`, USAGE)
}

setUp()
if (!ensureProgram('wrk', 'wrk'))
  fail('wrk was not found: install it (Debian: apt-get install wrk) and run this again.')
if (!ensureProgram('nginx', 'nginx')) fail('nginx was not found: it is the upstream of every side; install it.')
if (names.some((name) => ROWS[name].streams) && !ensureProgram('h2load', 'nghttp2-client'))
  fail('h2load was not found: install it (Debian: apt-get install nghttp2-client) and run this again.')
ensureProgram('haproxy', 'haproxy')
const peers = Object.keys(PEERS).filter((name) => {
  const isThere = PEERS[name].has()
  if (!isThere) process.stdout.write(`skipped: ${name}: it is not here and cannot be had\n`)
  return isThere
})
const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-'))
const services = { issuer: ISSUER }
try {
  await main()
} finally {
  await stopAll()
  rmSync(folder, { recursive: true, force: true })
}

async function main() {
  services.backendPort = (await startBackend(folder)).port
  const load1 = readFileSync('/proc/loadavg', 'utf8').split(' ', 1)[0]
  const versions = peers.map((name) => `${name} ${PEERS[name].version()}`).join(', ')
  process.stdout.write(
    `${cpus().length} × ${cpus()[0].model.trim()}, load ${load1}, Node ${process.version}, ${versions}\n` +
      `wrk (one thread), upstream (nginx) and the measured side share these cores; ${rounds} rounds of ${seconds} s\n`,
  )
  if (names.some((name) => ROWS[name].policy !== 'none')) await startIssuer()
  if (names.some((name) => ROWS[name].buckets !== 'memory')) await startRedis()
  if (names.some((name) => ROWS[name].policy === 'full-crs')) ensureRules()
  if (names.some((name) => ROWS[name].tls)) services.certificate = makeCertificate()
  const results = []
  for (const name of names) {
    if (ROWS[name].buckets !== 'memory' && services.redisPort === undefined) continue
    results.push(...(await measure(name, ROWS[name])))
  }
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`)
}

// ── what the rows need ──

async function startIssuer() {
  const port = await freePort()
  await startNode(join(root, 'demo', 'issuer.mjs'), [port, ISSUER, 'bench'])
  services.keySet = `http://127.0.0.1:${port}/.well-known/jwks.json`
  services.token = await (await fetch(`http://127.0.0.1:${port}/token?sub=bench`)).text()
}

async function startRedis() {
  if (!ensureRedis()) return
  services.redisPort = await freePort()
  const args = ['--port', String(services.redisPort), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
  services.redis = track(spawn('redis-server', args, { cwd: folder, stdio: 'ignore' }))
  for (let attempt = 0; attempt < 100 && redisCalls() === undefined; attempt += 1) await sleep(50)
}

/** Script calls that Redis has answered so far (each limit decision is one); undefined while it does not answer. */
function redisCalls() {
  const args = ['-p', String(services.redisPort), 'info', 'commandstats']
  const { status, stdout } = spawnSync('redis-cli', args, { encoding: 'utf8' })
  if (status !== 0 || !stdout.includes('Commandstats')) return undefined
  return Number(/cmdstat_evalsha:calls=(\d+)/.exec(stdout)?.[1] ?? 0)
}

/** A certificate for localhost that nobody trusts: wrk does not ask. */
function makeCertificate() {
  const [key, certificate, both] = ['key.pem', 'certificate.pem', 'both.pem'].map((name) => join(folder, name))
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2']
  const made = spawnSync('openssl', [...args, '-subj', '/CN=localhost', '-keyout', key, '-out', certificate])
  if (made.status !== 0) fail('openssl could not make a certificate for the row tls-get.')
  writeFileSync(both, readFileSync(certificate, 'utf8') + readFileSync(key, 'utf8'))
  return { key, certificate, both }
}

// ── one row ──

/** The sides of a row: ours first, then those it stands beside. */
async function startSides(name, row) {
  const sides = [await startGateway(`${name}-ours`, folder, row, services)]
  sides[0].name = 'ours'
  for (const other of row.beside) {
    let side
    if (other === 'plain')
      side = await startGateway(`${name}-plain`, folder, { ...row, policy: 'none', buckets: 'memory' }, services)
    else if (other === 'memory')
      side = await startGateway(`${name}-memory`, folder, { ...row, buckets: 'memory' }, services)
    else if (other === 'one-worker') side = await startGateway(`${name}-one`, folder, { ...row, workers: 1 }, services)
    else if (peers.includes(other))
      side = await PEERS[other].start(folder, services.backendPort, row, services.certificate)
    else continue
    sides.push({ ...side, name: other })
  }
  return sides
}

async function measure(name, row) {
  process.stdout.write(
    `\n── ${name}: ${row.request.method} ${row.request.path}, ${row.connections} connections, ${row.workers} worker(s)\n`,
  )
  const headers = row.policy === 'none' ? {} : { authorization: `Bearer ${services.token}` }
  const sides = await startSides(name, row)
  try {
    for (const side of sides) await show(side, row, headers)
    for (const side of sides) await load(folder, side, row, 2, headers)
    for (const side of sides) side.pids = processTree(side.pid)
    const measured = []
    let operations = 0
    let requests = 0
    for (let round = 0; round < rounds; round += 1) {
      const results = new Map()
      for (const side of sides) {
        const asked = side.name === 'ours' && row.buckets !== 'memory' ? redisCalls() : undefined
        const before = threadsCpuUs(side.pids)
        const result = await load(folder, side, row, seconds, headers)
        const us = threadsCpuUs(side.pids, before) / result.count
        results.set(side.name, { ...result, us })
        if (asked === undefined) continue
        operations += redisCalls() - asked
        requests += result.count
      }
      measured.push(results)
    }
    if (requests > 0) process.stdout.write(`Redis script calls per request: ${(operations / requests).toFixed(3)}\n`)
    return report(name, row, sides, measured)
  } finally {
    for (const side of sides) await stop(side.child)
  }
}

/** What the side does with the request, before it is timed. */
async function show(side, row, headers) {
  const { status, fields, bytes } = await ask(side, row, undefined, headers)
  const path = row.policy === 'none' ? '/seen' : undefined
  const seen = path === undefined ? '' : `; upstream saw ${(await ask(side, row, path, headers)).text}`
  process.stdout.write(`${side.name}: ${status}, ${bytes} bytes, fields ${fields.join(' ')}${seen}\n`)
  if (status !== 200) throw new Error(`${side.name} does not answer as it should`)
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

function spread(values, digits) {
  return `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)})`
}

function report(name, row, sides, measured) {
  for (const side of sides) {
    const of = (key) => measured.map((results) => results.get(side.name)[key])
    process.stdout.write(
      `${side.name.padEnd(10)} ${median(of('perSecond')).toFixed(0).padStart(7)} requests/s   p50 ${median(of('p50Ms')).toFixed(2)} ms   p99 ${median(of('p99Ms')).toFixed(2)} ms   CPU ${spread(of('us'), 1)} µs/request\n`,
    )
  }
  const ours = measured.map((results) => results.get('ours'))
  return sides.slice(1).map((side) => {
    const theirs = measured.map((results) => results.get(side.name))
    const ratios = ours.map((one, round) => one.us / theirs[round].us)
    const added = ours.map((one, round) => one.us - theirs[round].us)
    const bar = row.bars[side.name]
    let verdict = ''
    if (bar?.ratio !== undefined) verdict = `; bar ${bar.ratio}: ${median(ratios) <= bar.ratio ? 'met' : 'MISSED'}`
    if (bar?.addedUs !== undefined)
      verdict = `; bar +${bar.addedUs} µs: ${median(added) <= bar.addedUs ? 'met' : 'MISSED'}`
    process.stdout.write(`ours / ${side.name}: CPU ${spread(ratios, 2)}, difference ${spread(added, 1)} µs${verdict}\n`)
    return {
      row: name,
      peer: side.name,
      ours_us: median(ours.map((one) => one.us)),
      peer_us: median(theirs.map((one) => one.us)),
      ratio: median(ratios),
      added_us: median(added),
      ours_per_second: median(ours.map((one) => one.perSecond)),
      peer_per_second: median(theirs.map((one) => one.perSecond)),
      ours_p50_ms: median(ours.map((one) => one.p50Ms)),
      ours_p99_ms: median(ours.map((one) => one.p99Ms)),
      peer_p50_ms: median(theirs.map((one) => one.p50Ms)),
      peer_p99_ms: median(theirs.map((one) => one.p99Ms)),
      rounds: measured.length,
    }
  })
}
