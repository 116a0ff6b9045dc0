/**
 * The demo: three services, a token issuer and the gateway as real processes, and a story told against them.
 *
 * `--once`: end after the story, with 0 or 1. `--port N`: where the gateway listens (8080). `--without waf|jwt|limit`:
 * takes that action out of the policy, which the story must notice.
 */
import { spawn, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parse, stringify } from 'yaml'
import { ensureRules } from '../scripts/ensure-rules.mjs'
import { ACTIONS, readOptions } from './options.mjs'
import { freePort, startNode, stop, stopAll, track } from './processes.mjs'
import { tell } from './story.mjs'

const here = dirname(fileURLToPath(import.meta.url))
const root = dirname(here)
const sallyport = join(root, 'dist', 'main.js')
/** Rule sets are kept from one run to the next. */
const cache = join(root, '.state')

const ISSUER = 'id.demo.example'
const AUDIENCE = 'demo-api'
const SERVICES = { users: 'user-service', orders: 'order-service', notifications: 'notification-service' }

const options = readOptions()
const port = Number(options.port)

const say = (line) => process.stdout.write(`${line}\n`)
let folder
let adminPort

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    say('\nstopping')
    void finish(0)
  })
}

try {
  await play()
} catch (error) {
  process.stderr.write(`${error.message}\n`)
  await finish(1)
}

async function play() {
  await portIsFree()
  installRules()
  folder = mkdtempSync(join(tmpdir(), 'sallyport-demo-'))
  const issuerPort = await freePort()
  await startNode(join(here, 'issuer.mjs'), [issuerPort, `https://${ISSUER}`, AUDIENCE])
  const ports = {}
  const services = {}
  for (const name of Object.keys(SERVICES)) {
    ports[name] = await freePort()
    services[name] = await startNode(join(here, 'service.mjs'), [name, ports[name]])
  }
  writeConfiguration(ports, issuerPort)
  say(
    `services: ${Object.entries(ports)
      .map(([name, at]) => `${name} :${at}`)
      .join(', ')}; issuer :${issuerPort}`,
  )
  await startGateway()
  say(`gateway: http://localhost:${port} (two workers, memory buckets), admin http://127.0.0.1:${adminPort}`)

  const token = async ({ sub, alg = 'RS256', iss }) => {
    const query = new URLSearchParams({ sub, alg, ...(iss === undefined ? {} : { iss }) })
    return (await fetch(`http://127.0.0.1:${issuerPort}/token?${query}`)).text()
  }
  const failures = await tell(
    {
      port,
      logFile: join(folder, 'access.log'),
      token,
      stopService: (name) => stop(services[name]),
      startService: async (name) => {
        services[name] = await startNode(join(here, 'service.mjs'), [name, ports[name]])
      },
      inspectBodies: () => {
        writePolicy({ processBody: true })
        command(['reload'])
      },
    },
    say,
  )
  say(failures === 0 ? '\nThe story went as told.' : `\n${failures} lines went otherwise.`)
  if (options.once) {
    await finish(failures === 0 ? 0 : 1)
    return
  }
  const carol = await token({ sub: 'carol' })
  say('\nTry it (Ctrl-C ends the demo):\n')
  say(`TOKEN=${carol}\n`)
  for (const path of ['users/1', 'orders/7', 'notifications']) {
    say(`curl -i -H "Authorization: Bearer $TOKEN" http://localhost:${port}/api/${path}`)
  }
  say(`curl -i -H "Authorization: Bearer $TOKEN" "http://localhost:${port}/api/users/1?id=1'%20OR%20'1'='1'%20--%20"`)
  say(`curl -i http://localhost:${port}/api/users/1`)
}

/** A rule set from wherever one can be had, kept for the next run. */
function installRules() {
  if (!ensureRules()) throw new Error('The demo needs a rule set, and none could be had.')
}

function writeConfiguration(ports, issuerPort) {
  const manifest = readFileSync(join(here, 'endpoints.yaml'), 'utf8')
  writeFileSync(
    join(folder, 'endpoints.yaml'),
    manifest.replaceAll('http://localhost:8080', `http://localhost:${port}`),
  )
  writePolicy({ processBody: false })
  const hosts = Object.entries(SERVICES).map(([name, service]) => [
    `${service}.default.svc.cluster.local:8080`,
    `127.0.0.1:${ports[name]}`,
  ])
  const settings = {
    listeners: [{ address: `127.0.0.1:${port}` }],
    workers: 2,
    state_dir: join(folder, 'state'),
    manifests: ['endpoints.yaml', 'policy.yaml'],
    upstream_hosts: Object.fromEntries(hosts),
    substitutions: {
      values: {
        JWT_ISSUER: ISSUER,
        JWT_AUDIENCE: AUDIENCE,
        JWT_PUBLIC_KEY_URL: `http://127.0.0.1:${issuerPort}/.well-known/jwks.json`,
      },
    },
    waf: { rules: join(cache, 'crs', 'current') },
    access_log: { output: join(folder, 'access.log') },
    log_level: 'warn',
    admin: { address: `127.0.0.1:${adminPort}` },
    drain: { delay: '0s', timeout: '5s' },
  }
  writeFileSync(join(folder, 'gateway.yaml'), stringify(settings))
}

/** The example's policy, as the endpoints name it; with bodies inspected, or with an action taken out. */
function writePolicy({ processBody }) {
  const policy = parse(readFileSync(join(here, 'policy.yaml'), 'utf8'))
  for (const phase of Object.keys(policy)) {
    policy[phase] = policy[phase].filter(
      (rule) => !rule.actions.some((action) => action.type === ACTIONS[options.without]),
    )
    for (const { actions } of policy[phase]) {
      for (const action of actions) {
        if (processBody && action.type.startsWith('owasp-crs-')) action.config.process_body = true
      }
    }
  }
  const object = {
    apiVersion: 'ngrok.k8s.ngrok.com/v1alpha1',
    kind: 'NgrokTrafficPolicy',
    metadata: { name: 'api-gateway' },
    spec: { policy },
  }
  writeFileSync(join(folder, 'policy.yaml'), stringify(object))
}

async function startGateway() {
  const gateway = spawn(process.execPath, [sallyport, 'run', '-c', join(folder, 'gateway.yaml')], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  track(gateway)
  const deadline = Date.now() + 30_000
  while (Date.now() < deadline) {
    if (gateway.exitCode !== null) throw new Error(`the gateway ended with ${gateway.exitCode}`)
    if (await isReady()) return
    await sleep(50)
  }
  throw new Error('the gateway was not ready in 30 s')
}

async function isReady() {
  try {
    return (await fetch(`http://127.0.0.1:${adminPort}/readyz`)).status === 200
  } catch {
    // not listening yet
    return false
  }
}

/** A command of the running gateway; the demo ends when it fails. */
function command(args) {
  const result = spawnSync(process.execPath, [sallyport, ...args, '-c', join(folder, 'gateway.yaml')], {
    encoding: 'utf8',
  })
  if (result.status !== 0) throw new Error(`sallyport ${args.join(' ')} ended with ${result.status}: ${result.stderr}`)
}

async function portIsFree() {
  adminPort = await freePort()
  const server = createServer()
  await new Promise((resolve, reject) => {
    server.once('error', () =>
      reject(new Error(`Port ${port} is in use: end what listens there, or give another one with --port.`)),
    )
    server.listen(port, '127.0.0.1', resolve)
  })
  await new Promise((resolve) => server.close(resolve))
}

async function finish(code) {
  await stopAll()
  if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  process.exit(code)
}
