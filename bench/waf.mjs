/**
 * `npm run bench:waf`: what the rule set costs per request, beside nginx with libmodsecurity, on the same requests and
 * the same rules at paranoia level 1 with both directions' bodies.
 *
 * Cost is a difference: the gateway that answers by itself (`custom-response`) with the two WAF actions, minus without
 * them (which answers large bodies before they have come, and closes); nginx with ModSecurity on, minus off (a proxy to a third process in both, for ModSecurity does not look at what
 * nginx answers by itself). For `html512k` both sides are proxies to the same upstream with and without the rules. CPU
 * time is that of each side's own processes with all their threads, from /proc. The four modes alternate in rounds.
 * `-fresh` rows make new values for every request. `loop` and `memory` are no ratios: see waf-limits.mjs.
 *
 * `--engine uws|native` (uws), `--rounds N` (9), `--seconds N` per mode and round (2), `--connections N` (8), `--scenarios a,b`, `--rules DIR`,
 * `--json FILE`.
 */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort, stopAll, track } from '../demo/processes.mjs'
import { failUsage, readArguments } from '../scripts/arguments.mjs'
import { ensureRules } from '../scripts/ensure-rules.mjs'
import { ensureNginxModsecurity } from '../scripts/ensure-servers.mjs'
import { root, setUp } from '../scripts/set-up.mjs'
import { processTree, threadsCpuUs } from './cpu.mjs'
import { ISSUER, LIMIT_ROWS, measureLoop, measureMemory } from './waf-limits.mjs'
import { pages, ROWS } from './waf-requests.mjs'
import { loggedIds, startBackend, startPeer } from './waf-peer.mjs'

const USAGE = `usage: npm run bench:waf -- [OPTIONS]
  --scenarios A,B  which rows (all)
  --engine NAME    of our listeners: uws or native (uws)
  --rounds N       rounds over the modes (9)
  --seconds N      for each mode in a round (2)
  --connections N  connections at once (8)
  --rules DIR      rule set for both sides (the installed one)
  --json FILE      write the rows there
scenarios: ${[...Object.keys(ROWS), ...LIMIT_ROWS].join(', ')}`
const { values: options } = readArguments(USAGE, {
  engine: { type: 'string', default: 'uws' },
  rounds: { type: 'string', default: '9' },
  seconds: { type: 'string', default: '2' },
  connections: { type: 'string', default: '8' },
  scenarios: { type: 'string', default: [...Object.keys(ROWS), ...LIMIT_ROWS].join(',') },
  rules: { type: 'string' },
  json: { type: 'string' },
})
const ANSWER = JSON.stringify({ id: 123, name: 'Ada Example', roles: ['admin', 'editor'], active: true })
/** Rules that add up and decide; both engines have them, each reports them in its own way. */
const DECISIONS = /^(?:949|959|980)/

const asked = options.scenarios.split(',')
for (const name of asked) {
  if (ROWS[name] === undefined && !LIMIT_ROWS.includes(name)) failUsage(`unknown scenario ${name}`, USAGE)
}
const names = asked.filter((name) => ROWS[name] !== undefined)

if (!['uws', 'native'].includes(options.engine)) failUsage(`unknown engine ${options.engine}`, USAGE)

setUp()
const rules = findRules()
const hasPeer = ensureNginxModsecurity()
const folder = mkdtempSync(join(tmpdir(), 'sallyport-bench-'))
try {
  await main()
} finally {
  await stopAll()
  rmSync(folder, { recursive: true, force: true })
}

/** The distribution that both sides load: the one named, the one beside the checkout, or the installed one. */
function findRules() {
  const shared = join(root, '..', 'shared', 'crs', 'rules-v4.28.0')
  let place = options.rules ?? (existsSync(shared) ? shared : undefined)
  if (place === undefined && ensureRules()) place = join(root, '.state', 'crs', 'current')
  if (place === undefined) {
    process.stderr.write('no rule set: name a folder with --rules\n')
    process.exit(1)
  }
  const setup = [join(place, 'crs-setup.conf'), join(place, 'crs-setup.conf.example')].find((file) => existsSync(file))
  const files = readdirSync(join(place, 'rules'))
    .filter((name) => name.endsWith('.conf'))
    .sort()
    .map((name) => join(place, 'rules', name))
  return { folder: place, setup, files }
}

async function main() {
  for (const [name, text] of Object.entries(pages())) writeFileSync(join(folder, name), text)
  const backendPort = await freePort()
  // one nginx stands behind everything: ours needs it for html512k, theirs always
  if (hasPeer) await startBackend(folder, backendPort, ANSWER)
  else process.stdout.write('skipped: the peer and html512k: there is no nginx with ModSecurity here\n')

  const version = /setvar:tx\.crs_setup_version=(\d+)/.exec(readFileSync(rules.setup, 'utf8'))?.[1] ?? 'unknown'
  const load = readFileSync('/proc/loadavg', 'utf8').split(' ', 1)[0]
  const nginx = hasPeer
    ? `, ${spawnSync('nginx', ['-v'], { encoding: 'utf8' }).stderr.trim().split('/').slice(-2).join('/')}`
    : ''
  process.stdout.write(
    `${cpus().length} × ${cpus()[0].model.trim()}, load ${load}, Node ${process.version}${nginx}, set-up version ${version}\n`,
  )

  const rows = names.length === 0 ? [] : await measureRows(backendPort)
  const tools = {
    folder,
    drive,
    stop: stopAllOf,
    seconds: Number(options.seconds),
    startGateway: (name, isOn, more) => startGateway(name, isOn, backendPort, false, more),
  }
  if (asked.includes('loop')) rows.push(...(await measureLoop(tools)))
  if (asked.includes('memory')) rows.push(...(await measureMemory(tools)))
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(rows, null, 2)}\n`)
}

async function measureRows(backendPort) {
  await showDecisions(backendPort)
  const engine = await engineOnly()
  const sides = {
    ours_off: await startGateway('ours-off', false, backendPort, false),
    ours_on: await startGateway('ours-on', true, backendPort, false),
    ...(hasPeer && {
      theirs_off: await startNginx('theirs-off', false, backendPort, false),
      theirs_on: await startNginx('theirs-on', true, backendPort, false),
    }),
  }
  const rows = []
  for (const name of names) {
    if (ROWS[name].page === true && !hasPeer) continue
    rows.push(await measureRow(name, sides, engine))
  }
  await stopAllOf(Object.values(sides))
  return rows
}

// ── the two sides ──

async function startNginx(name, isOn, backendPort, logs) {
  const port = await freePort()
  const peer = await startPeer(name, folder, port, backendPort, { rules: isOn ? rules : undefined, logs })
  return { ...peer, pagePort: port }
}

/** Tokens of anybody whose key is in the key set at this url. */
function tokenCheck(keySet) {
  const header = '{ type: jwt, method: header, name: Authorization, prefix: "Bearer " }'
  const keys = `{ sources: { additional_jkus: ["${keySet}"] } }`
  return `{ type: jwt-validation, config: { issuer: { allow_list: [{ value: "${ISSUER}" }] }, http: { tokens: [${header}] }, jws: { allowed_algorithms: [ES384], keys: ${keys} } } }`
}

/** One gateway with two listeners: one answers by itself, the other is a proxy to the upstream. */
async function startGateway(name, isOn, backendPort, logs, { waf = '', keySet, environment, nodeOptions = [] } = {}) {
  const [port, pagePort, adminPort] = [await freePort(), await freePort(), await freePort()]
  const request = isOn ? '{ type: owasp-crs-request, config: { process_body: true } }' : undefined
  const response = isOn
    ? '      on_http_response: [{ actions: [{ type: owasp-crs-response, config: { process_body: true } }] }]\n'
    : ''
  const actions = (...list) => `      on_http_request: [{ actions: [${list.filter(Boolean).join(', ')}] }]\n`
  const accessLog = join(folder, `${name}-access.log`)
  const file = join(folder, `${name}.yaml`)
  const own = `{ type: custom-response, config: { body: '${ANSWER}', headers: { content-type: application/json } } }`
  const proxied = `${request === undefined ? '' : actions(request)}${response}`
  writeFileSync(
    file,
    `engine: ${options.engine}
listeners:
  - { address: "127.0.0.1:${port}", default_endpoint: own }
  - { address: "127.0.0.1:${pagePort}", default_endpoint: proxy }
workers: 1
state_dir: ${join(folder, name)}
access_log: { output: ${logs ? accessLog : 'off'} }
log_level: error
admin: { address: "127.0.0.1:${adminPort}" }
waf: { rules: ${rules.folder}, paranoia_level: 1, request_body: 1 MiB, response_body: 1 MiB${waf} }
endpoints:
  - name: own
    url: http://own.example:${port}
    traffic_policy:
${actions(request, own)}${response}  - name: proxy
    url: http://proxy.example:${pagePort}
    upstream: { url: http://127.0.0.1:${backendPort} }
${proxied === '' ? '' : `    traffic_policy:\n${proxied}`}${
      keySet === undefined
        ? ''
        : `  - name: tokens
    url: http://tokens.example:${port}
    traffic_policy:
${actions(tokenCheck(keySet), own)}`
    }`,
  )
  const words = [...nodeOptions, join(root, 'dist', 'main.js'), 'run', '-c', file]
  const child = track(spawn(process.execPath, words, { stdio: 'inherit', env: { ...process.env, ...environment } }))
  for (let attempt = 0; attempt < 600; attempt += 1) {
    const ready = await fetch(`http://127.0.0.1:${adminPort}/readyz`).then(
      (answer) => answer.status === 200,
      () => false,
    )
    if (ready) return { name, port, pagePort, pid: child.pid, log: accessLog }
    if (child.exitCode !== null) throw new Error(`the gateway ${name} ended`)
    await sleep(50)
  }
  throw new Error(`the gateway ${name} is not ready`)
}

// ── what each side does ──

/** Status and rules of every row and its twin on both sides; ends the run when a benign request is refused. */
async function showDecisions(backendPort) {
  const ours = await startGateway('ours-shown', true, backendPort, true)
  const theirs = hasPeer ? await startNginx('theirs-shown', true, backendPort, true) : undefined
  for (const name of names) {
    const row = ROWS[name]
    if (row.page === true && theirs === undefined) continue
    await showOne(name, row, row.requests(), row.status ?? 200, ours, theirs)
    if (row.twin === undefined) continue
    await showOne(
      `${name}, ${row.leak === true ? 'with a leak' : 'with an attack'}`,
      row,
      () => row.twin,
      403,
      ours,
      theirs,
    )
  }
  await stopAllOf([ours, theirs])
}

async function showOne(title, row, next, wanted, ours, theirs) {
  const our = await decision(ours, row, next, accessIds)
  const their = theirs === undefined ? undefined : await decision(theirs, row, next, loggedIds)
  const show = ({ status, ids }) => `${status} ${ids.length === 0 ? 'no rule' : ids.join(' ')}`
  const same = their === undefined || withoutDecisions(our.ids) === withoutDecisions(their.ids)
  process.stdout.write(
    `${title}: ours ${show(our)}${their === undefined ? '' : `; theirs ${show(their)}; ${same ? 'same rules' : 'DIFFERENT RULES'}`}\n`,
  )
  if (our.status !== wanted) throw new Error(`${title}: the gateway answers ${our.status}, not ${wanted}`)
  // nginx logs a leak and sends the page all the same: its head has left (peers.md §3)
  if (their !== undefined && row.leak !== true && their.status !== wanted) {
    throw new Error(`${title}: the peer answers ${their.status}, not ${wanted}`)
  }
}

function withoutDecisions(ids) {
  return ids.filter((id) => !DECISIONS.test(String(id))).join(' ')
}

async function decision(side, row, next, readIds) {
  const from = existsSync(side.log) ? statSync(side.log).size : 0
  const { status } = await drive(side, row, next, { count: 1, connections: 1 })
  await sleep(300)
  return { status, ids: readIds(side.log, from) }
}

function accessIds(file, from) {
  const line = readFileSync(file, 'utf8').slice(from).trim().split('\n').at(-1)
  return [...new Set(JSON.parse(line).waf_rules ?? [])].sort((a, b) => a - b)
}

async function stopAllOf(sides) {
  for (const side of sides) if (side !== undefined) process.kill(side.pid, 'SIGTERM')
  await sleep(500)
}

// ── load ──

/**
 * Sends what `next` gives on keep-alive connections, one at a time on each, until the time is over (and three
 * came back) or `count` are done. Answers how many, and the status of the last.
 */
function drive(side, row, next, { seconds = 0, count = Infinity, connections = 1 }) {
  const port = row.page === true ? side.pagePort : side.port
  const until = performance.now() + seconds * 1000
  let done = 0
  let status = 0
  const isOver = () => done >= count || (count === Infinity && done >= 3 && performance.now() >= until)
  const lane = () =>
    new Promise((resolve, reject) => {
      let socket
      let head = ''
      let left = -1
      let resets = 0
      let over = false
      const send = () => {
        socket.write(next())
      }
      const ended = () => {
        const closes = /\r\nconnection: *close\r\n/i.test(head)
        head = ''
        left = -1
        done += 1
        const isWrong = row.status === undefined ? status >= 400 && count === Infinity : status !== row.status
        over = isWrong || isOver()
        if (isWrong) reject(new Error(`${side.name} answers ${status}`))
        if (over || closes) socket.destroy()
        else send()
      }
      const take = (chunk) => {
        let body = chunk
        if (left === -1) {
          head += chunk.toString('latin1')
          const end = head.indexOf('\r\n\r\n')
          if (end === -1) return
          status = Number(head.slice(9, 12))
          const length = /\r\ncontent-length: *(\d+)/i.exec(head.slice(0, end + 2))
          if (length === null) {
            // in chunks: the last one ends the answer
            if (head.endsWith('0\r\n\r\n')) ended()
            return
          }
          left = Number(length[1])
          body = head.slice(end + 4)
        }
        left -= body.length
        if (left <= 0) ended()
      }
      const open = () => {
        socket = connect({ port, host: '127.0.0.1', noDelay: true })
        socket.on('connect', send)
        socket.on('data', take)
        socket.on('error', () => undefined)
        // who answers before it has read a body closes the connection behind the answer: what was sent then goes again
        socket.on('close', () => {
          resets += 1
          if (over) resolve()
          else if (head !== '' || left !== -1) reject(new Error(`${side.name} cut an answer`))
          else if (resets > done + 20) reject(new Error(`${side.name} closes its connections without an answer`))
          else open()
        })
      }
      open()
    })
  return Promise.all(Array.from({ length: connections }, lane)).then(() => ({ done, status }))
}

/** µs of CPU per request. */
async function cost(side, row, next) {
  const pids = processTree(side.pid)
  const before = threadsCpuUs(pids)
  const connections = row.heavy === true ? 1 : Number(options.connections)
  const { done } = await drive(side, row, next, { seconds: Number(options.seconds), connections })
  return threadsCpuUs(pids, before) / done
}

async function measureRow(name, sides, engine) {
  const row = ROWS[name]
  const next = row.requests()
  for (const side of Object.values(sides)) {
    await drive(side, statusOf(row, side), next, { seconds: row.heavy === true ? 0.5 : 1, connections: 2 })
  }
  const rounds = []
  for (let round = 0; round < Number(options.rounds); round += 1) {
    const result = {}
    // each round begins with another mode
    const order = Object.keys(sides)
    for (const key of [...order.slice(round % order.length), ...order.slice(0, round % order.length)]) {
      result[key] = await cost(sides[key], statusOf(row, sides[key]), next)
    }
    rounds.push(result)
  }
  const ours = rounds.map((round) => round.ours_on - round.ours_off)
  const line = `${name.padEnd(13)} ours ${show(ours)} µs (with ${median(rounds.map((it) => it.ours_on)).toFixed(1)}, without ${median(rounds.map((it) => it.ours_off)).toFixed(1)}), engine alone ${engine[name].toFixed(1)} µs`
  const result = {
    scenario: name,
    ours_us: median(ours),
    engine_us: engine[name],
    rounds: rounds.length,
    bar: row.bar,
    all_rounds: rounds,
  }
  if (!hasPeer) {
    process.stdout.write(`${line}\n`)
    return result
  }
  const theirs = rounds.map((round) => round.theirs_on - round.theirs_off)
  const ratios = rounds.map((_, place) => theirs[place] / ours[place])
  process.stdout.write(
    `${line}; theirs ${show(theirs)} µs; ratio ${show(ratios)}, bar ${row.bar}: ${median(ratios) >= row.bar ? 'met' : 'MISSED'}\n`,
  )
  return { ...result, peer: 'nginx + libmodsecurity', peer_us: median(theirs), ratio: median(ratios) }
}

/** Without rules an attack is answered like anything else. */
function statusOf(row, side) {
  return row.status === undefined || side.name.endsWith('-on') ? row : { ...row, status: 200 }
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]
}

/** `median (least to most)` */
function show(values) {
  const digits = Math.abs(median(values)) < 10 ? 2 : 1
  return `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)})`
}

// ── the engine alone ──

/** CPU µs per exchange of the calls that the gateway makes, without sockets, in a process of its own. */
async function engineOnly() {
  const child = spawn(process.execPath, [join(root, 'bench', 'waf-engine.mjs'), rules.folder, names.join(',')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk) => (text += chunk))
  const code = await new Promise((resolve) => {
    child.once('close', resolve)
  })
  if (code !== 0) throw new Error('the engine alone could not be measured')
  return JSON.parse(text)
}
