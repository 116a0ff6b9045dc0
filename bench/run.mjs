/**
 * `npm run bench -- --scenario NAME`: autocannon against the gateway, one scenario beside the bare proxy in the same
 * run. Rounds alternate, ratios are taken within a round, medians are printed with their spread. What each side does
 * (status, deciding rule ids) is printed before it is timed.
 *
 * Scenarios: bare, jwt, rate-limit, waf, full, sse. `--rounds N` (5), `--seconds N` (4), `--connections N` (32),
 * `--workers N` (1), `--json FILE`.
 */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { cpus, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePort, startNode, stopAll, track } from '../demo/processes.mjs'
import { failUsage, readArguments } from '../scripts/arguments.mjs'
import { ensureRules } from '../scripts/ensure-rules.mjs'
import { root, setUp } from '../scripts/set-up.mjs'
import { cpuUs, processTree } from './cpu.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const ISSUER = 'https://id.bench.example'

const USAGE = `usage: npm run bench -- [OPTIONS]
  --scenario NAME  bare, jwt, rate-limit, waf, full or sse (full)
  --rounds N       rounds over the two sides (5)
  --seconds N      for each side in a round (4)
  --connections N  connections at once (32)
  --workers N      of the gateway (1)
  --json FILE      write the rows there`
const { values: options } = readArguments(USAGE, {
  scenario: { type: 'string', default: 'full' },
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '4' },
  connections: { type: 'string', default: '32' },
  workers: { type: 'string', default: '1' },
  json: { type: 'string' },
})

const waf = '{ type: owasp-crs-request, config: { on_error: halt } }'
const wafResponse = '{ type: owasp-crs-response, config: { on_error: halt } }'
const limit = (key) =>
  `{ type: rate-limit, config: { name: bench, algorithm: sliding_window, capacity: 2000000000, rate: 1h, bucket_key: ["${key}"] } }`
const jwt = (keySet) =>
  `{ type: jwt-validation, config: { issuer: { allow_list: [{ value: "${ISSUER}" }] }, http: { tokens: [{ type: jwt, method: header, name: Authorization, prefix: "Bearer " }] }, jws: { allowed_algorithms: [RS256], keys: { sources: { additional_jkus: ["${keySet}"] } } } } }`

/** The policy of each scenario: request actions, response actions. */
const SCENARIOS = {
  bare: () => [[], []],
  jwt: (keySet) => [[jwt(keySet)], []],
  'rate-limit': () => [[limit('conn.client_ip')], []],
  waf: () => [[waf], [wafResponse]],
  full: (keySet) => [
    [waf, jwt(keySet), limit('actions.ngrok.jwt_validation.tokens[0].payload.sub')],
    [
      wafResponse,
      '{ type: add-headers, config: { headers: { x-processed-at: "${time.now}", x-client-ip: "${conn.client_ip}" } } }',
    ],
  ],
  sse: () => [[], [wafResponse]],
}

if (SCENARIOS[options.scenario] === undefined) failUsage(`unknown scenario ${options.scenario}`, USAGE)

setUp()
// not before: a new clone has no packages yet
const { default: autocannon } = await import('autocannon')
ensureRules()
const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-'))
try {
  await main()
} finally {
  await stopAll()
  rmSync(folder, { recursive: true, force: true })
}

async function main() {
  const upstreamPort = await freePort()
  await startNode(join(here, 'upstream.mjs'), [upstreamPort])
  const issuerPort = await freePort()
  await startNode(join(root, 'demo', 'issuer.mjs'), [issuerPort, ISSUER, 'bench'])
  const keySet = `http://127.0.0.1:${issuerPort}/.well-known/jwks.json`
  const token = await (await fetch(`http://127.0.0.1:${issuerPort}/token?sub=bench`)).text()
  const names = options.scenario === 'bare' ? ['bare'] : ['bare', options.scenario]
  const sides = []
  for (const name of names) sides.push(await startSide(name, upstreamPort, keySet, token))
  process.stdout.write(
    `${cpus().length} × ${cpus()[0].model.trim()}, Node ${process.version}, ${options.workers} worker(s), ${options.connections} connections\n`,
  )
  for (const side of sides) await showSide(side)
  if (options.scenario === 'sse') {
    await streams(sides.at(-1), upstreamPort)
    return
  }
  for (const side of sides) await load(side, 2)
  const rounds = []
  for (let round = 0; round < Number(options.rounds); round += 1) {
    const results = []
    for (const side of sides) results.push(await load(side, Number(options.seconds)))
    rounds.push(results)
  }
  report(sides, rounds)
}

async function startSide(name, upstreamPort, keySet, token) {
  const port = await freePort()
  const adminPort = await freePort()
  const [request, response] = SCENARIOS[name](keySet)
  const phase = (actions) => actions.map((action) => `        - actions: [${action}]`).join('\n')
  const file = join(folder, `${name}.yaml`)
  writeFileSync(
    file,
    `listeners: [{ address: 127.0.0.1:${port} }]
workers: ${options.workers}
state_dir: ${join(folder, name)}
access_log: { output: off }
log_level: error
admin: { address: 127.0.0.1:${adminPort} }
waf: { rules: ${join(root, '.state', 'crs', 'current')} }
endpoints:
  - name: bench
    url: http://localhost:${port}
    upstream: { url: http://127.0.0.1:${upstreamPort} }
    traffic_policy:
${request.length === 0 ? '' : `      on_http_request:\n${phase(request)}\n`}${response.length === 0 ? '' : `      on_http_response:\n${phase(response)}\n`}`,
  )
  const gateway = track(
    spawn(process.execPath, [join(root, 'dist', 'main.js'), 'run', '-c', file], { stdio: 'inherit' }),
  )
  for (let attempt = 0; attempt < 600; attempt += 1) {
    const ready = await fetch(`http://127.0.0.1:${adminPort}/readyz`).then(
      (answer) => answer.status === 200,
      () => false,
    )
    if (ready) break
    if (gateway.exitCode !== null) throw new Error(`the gateway of ${name} ended`)
    await sleep(50)
  }
  const headers = {
    accept: 'application/json',
    'accept-language': 'en',
    'user-agent': 'bench/1.0',
    cookie: 'session=abcdef0123456789; theme=dark',
    authorization: `Bearer ${token}`,
  }
  return {
    name,
    port,
    pids: processTree(gateway.pid),
    headers,
    url: `http://localhost:${port}/api/items/7?page=2&sort=name`,
  }
}

/** What the side does, before it is timed: a benign request, and an attack where a rule set stands in the way. */
async function showSide(side) {
  const benign = await fetch(side.url, { headers: side.headers })
  const attack = await fetch(`${side.url}&q=${encodeURIComponent("1' OR '1'='1' -- ")}`, { headers: side.headers })
  const code = attack.headers.get('ngrok-error-code') ?? '-'
  process.stdout.write(`${side.name}: benign ${benign.status}, SQL injection ${attack.status} ${code}\n`)
  if (benign.status !== 200) throw new Error(`${side.name} does not answer as it should`)
}

async function load(side, seconds) {
  const before = cpuUs(side.pids)
  const result = await autocannon({
    url: side.url,
    headers: side.headers,
    connections: Number(options.connections),
    duration: seconds,
  })
  const requests = result.requests.total
  if (result.non2xx > 0 || result.errors > 0)
    throw new Error(`${side.name}: ${result.non2xx} non-2xx, ${result.errors} errors`)
  return {
    us: (cpuUs(side.pids) - before) / requests,
    rps: requests / result.duration,
    p50: result.latency.p50,
    p99: result.latency.p99,
  }
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]
}

function report(sides, rounds) {
  for (const [index, side] of sides.entries()) {
    const of = (key) => rounds.map((round) => round[index][key])
    const spread = of('us').toSorted((a, b) => a - b)
    process.stdout.write(
      `${side.name.padEnd(10)} ${median(of('rps')).toFixed(0).padStart(7)} requests/s   p50 ${median(of('p50'))} ms   p99 ${median(of('p99'))} ms   CPU ${median(of('us')).toFixed(1)} µs/request (${spread[0].toFixed(1)} to ${spread.at(-1).toFixed(1)})\n`,
    )
  }
  if (sides.length === 1) return
  const ratios = rounds.map(([base, ours]) => base.us / ours.us)
  const added = rounds.map(([base, ours]) => ours.us - base.us)
  process.stdout.write(
    `${sides[1].name} over bare: +${median(added).toFixed(1)} µs CPU per request, ratio ${(1 / median(ratios)).toFixed(2)}\n`,
  )
  if (options.json === undefined) return
  const rows = [
    {
      scenario: sides[1].name,
      peer: 'bare',
      ours_us: median(rounds.map((round) => round[1].us)),
      peer_us: median(rounds.map((round) => round[0].us)),
      ratio: median(ratios),
      rounds: rounds.length,
    },
  ]
  writeFileSync(options.json, `${JSON.stringify(rows, null, 2)}\n`)
}

/** How much the gaps between events grow on the way through: straight from the upstream, and through the gateway. */
async function streams(side, upstreamPort) {
  const through = []
  const straight = []
  for (let round = 0; round < Number(options.rounds); round += 1) {
    straight.push(p99(await gapGrowth(`http://127.0.0.1:${upstreamPort}/stream`, side.headers)))
    through.push(
      p99(await gapGrowth(`http://127.0.0.1:${side.port}/stream`, { ...side.headers, host: `localhost:${side.port}` })),
    )
  }
  const show = (values) =>
    `median ${median(values).toFixed(2)} ms (${values.map((value) => value.toFixed(2)).join(', ')})`
  process.stdout.write(`gap growth at p99, straight:        ${show(straight)}\n`)
  process.stdout.write(`gap growth at p99, through gateway: ${show(through)}\n`)
}

function p99(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.99)]
}

function gapGrowth(url, headers) {
  return new Promise((resolve, reject) => {
    get(url, { headers, agent: false }, (incoming) => {
      const growth = []
      let last
      incoming.setEncoding('utf8').on('data', (chunk) => {
        const arrived = performance.timeOrigin + performance.now()
        for (const match of chunk.matchAll(/"at":([\d.]+)/g)) {
          const written = Number(match[1])
          if (last !== undefined) growth.push(arrived - last.arrived - (written - last.written))
          last = { arrived, written }
        }
      })
      incoming.on('end', () => resolve(growth))
      incoming.on('error', reject)
    }).on('error', reject)
  })
}
