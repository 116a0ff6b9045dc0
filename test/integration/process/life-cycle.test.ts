/** Start, stop, signals and exit codes of the built gateway. */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs'
import { afterEach, describe, expect, test } from 'vitest'
import {
  freePorts,
  get,
  MAIN,
  pause,
  runCommand,
  startGateway,
  type RunningGateway,
  type StartOptions,
} from '../../support/start-gateway.ts'
import { startSlowUpstream } from '../../support/slow-upstream.ts'

const running: RunningGateway[] = []
const closers: (() => Promise<void> | void)[] = []

async function start(options: StartOptions): Promise<RunningGateway> {
  const gateway = await startGateway(options)
  running.push(gateway)
  return gateway
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((gateway) => gateway.stop()))
  for (const close of closers.splice(0)) await close()
})

/** A gateway that answers everything itself. */
const fixed =
  (body: string, more = '') =>
  (context: { port: number }) =>
    `
endpoints:
  - name: web
    url: http://localhost:${context.port}
    traffic_policy:
      on_http_request:
        - actions: [{type: custom-response, config: {status_code: 200, body: "${body}"}}]
${more}`

/** A gateway in front of one upstream. */
const proxy =
  (upstream: string, more = '') =>
  (context: { port: number }) =>
    `
endpoints:
  - name: web
    url: http://localhost:${context.port}
    upstream: { url: "${upstream}" }
${more}`

async function health(gateway: RunningGateway): Promise<number> {
  return (await get(`${gateway.adminUrl}/readyz`)).status
}

async function workerPids(gateway: RunningGateway): Promise<number[]> {
  const { body } = await get(`${gateway.adminUrl}/api/status`)
  const { workers } = JSON.parse(body) as { workers: { pid?: number; state: string }[] }
  return workers.flatMap(({ pid, state }) => (pid === undefined || state !== 'live' ? [] : [pid]))
}

async function until(condition: () => Promise<boolean> | boolean, timeoutMs: number): Promise<number> {
  const startMs = performance.now()
  while (!(await condition())) {
    if (performance.now() - startMs > timeoutMs) throw new Error(`did not happen within ${timeoutMs} ms`)
    await pause(10)
  }
  return performance.now() - startMs
}

/** How long `node -e 0` takes now. */
function startOfBareProcess(): Promise<number> {
  const startMs = performance.now()
  return new Promise((resolve) => {
    spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' }).once('exit', () => resolve(performance.now() - startMs))
  })
}

describe('starting', () => {
  test('serves, is ready, and ends with 0 on SIGTERM (O-20, T-72)', async () => {
    const gateway = await start({ config: fixed('hello') })
    expect((await get(gateway.url)).body).toBe('hello')
    expect(await health(gateway)).toBe(200)
    expect(await workerPids(gateway)).toHaveLength(2)
    expect(await gateway.stop()).toEqual({ code: 0, signal: null })
  })

  test.each(['SIGINT', 'SIGQUIT'] as const)('%s drains as well', async (signal) => {
    const gateway = await start({ config: fixed('hello') })
    gateway.process.kill(signal)
    expect(await gateway.exited).toEqual({ code: 0, signal: null })
  })

  test('a port in use is an error that names it, exit 1', async () => {
    const first = await start({ config: fixed('first') })
    const second = await start({
      unready: true,
      config: () => fixed('second')({ port: first.port }),
    })
    expect((await second.exited).code).toBe(1)
    expect(second.stderr()).toContain(`port ${first.port} is in use`)
    expect((await get(first.url)).body).toBe('first')
  })

  test('an admin port in use is an error that names it, exit 1', async () => {
    const first = await start({ config: fixed('first') })
    const second = await start({
      unready: true,
      config: (context) => `admin: { address: "127.0.0.1:${first.adminPort}" }\n${fixed('second')(context)}`,
    })
    expect((await second.exited).code).toBe(1)
    expect(second.stderr()).toContain(`port ${first.adminPort} is in use`)
  })

  test('a second run with the same state folder is refused and the first is not disturbed', async () => {
    const first = await start({ config: fixed('first') })
    const second = await start({
      unready: true,
      config: (context) => `state_dir: ${first.stateDir}\n${fixed('second')(context)}`,
    })
    expect((await second.exited).code).toBe(1)
    expect(second.stderr()).toContain('another sallyport runs with the state folder')
    expect((await first.command('status')).code).toBe(0)
  })

  test('the state folder of a killed gateway can be taken at once', async () => {
    const first = await start({ config: fixed('first') })
    first.process.kill('SIGKILL')
    await first.exited
    // its workers see that it is gone and end
    await until(
      () =>
        get(first.url).then(
          () => false,
          () => true,
        ),
      3000,
    )
    const second = await start({
      config: (context) => `state_dir: ${first.stateDir}\n${fixed('second')(context)}`,
    })
    expect((await get(second.url)).body).toBe('second')
  })

  test('a configuration with errors is printed with place and caret, exit 1', async () => {
    const gateway = await start({ unready: true, config: 'workers: 2\nendpoint: []\n' })
    expect((await gateway.exited).code).toBe(1)
    expect(gateway.stderr()).toMatch(/gateway\.yaml:2:1: error: .*endpoint.*\n {2}2 \| endpoint: \[\]\n {4}\| \^+/)
    expect(gateway.stderr()).toContain('did you mean endpoints?')
  })

  test('an admin address that others can reach needs a token', async () => {
    const [port = 0] = await freePorts(1)
    const config = (context: { port: number }): string =>
      `admin: { address: "0.0.0.0:${port}" }\n${fixed('x')(context)}`
    const refused = await start({ unready: true, config })
    expect((await refused.exited).code).toBe(1)
    expect(refused.stderr()).toContain('SALLYPORT_ADMIN_TOKEN')
    const gateway = await start({ unready: true, config, environment: { SALLYPORT_ADMIN_TOKEN: 'open sesame' } })
    await until(
      () =>
        get(`http://127.0.0.1:${port}/readyz`).then(
          ({ status }) => status === 200,
          () => false,
        ),
      20_000,
    )
    expect((await get(`http://127.0.0.1:${port}/metrics`)).status).toBe(401)
    expect(gateway.stderr()).not.toContain('open sesame')
  })
})

describe('state folder', () => {
  test('control.sock is for the owner alone', async () => {
    const gateway = await start({ config: fixed('x') })
    expect(statSync(`${gateway.stateDir}/control.sock`).mode & 0o777).toBe(0o600)
    expect(statSync(`${gateway.stateDir}/last-good.json`).mode & 0o777).toBe(0o600)
  })

  test('O-29: the last good configuration serves when the files are gone, not when they are wrong', async () => {
    const first = await start({ config: fixed('kept') })
    await first.command('stop')
    await first.exited
    renameSync(`${first.folder}/gateway.yaml`, `${first.folder}/away.yaml`)
    const again = (): ReturnType<typeof spawn> =>
      spawn(process.execPath, [MAIN, 'run', '-c', 'test-settings.yaml', '-c', 'gateway.yaml'], {
        cwd: first.folder,
        stdio: 'ignore',
      })
    const child = again()
    closers.push(() => void child.kill('SIGKILL'))
    await until(
      () =>
        get(first.url).then(
          ({ body }) => body === 'kept',
          () => false,
        ),
      20_000,
    )
    child.kill('SIGTERM')
    expect(await new Promise((resolve) => child.once('exit', resolve))).toBe(0)
    first.write('gateway.yaml', 'endpoints: 7\n')
    const refused = again()
    expect(await new Promise((resolve) => refused.once('exit', resolve))).toBe(1)
  })
})

describe('stopping', () => {
  test('O-21: readiness goes first, traffic is still taken for drain.delay, then the exit is 0', async () => {
    const gateway = await start({ config: fixed('x', 'drain: { delay: 800ms, timeout: 5s }\n') })
    gateway.process.kill('SIGTERM')
    await until(async () => (await health(gateway)) === 503, 500)
    expect((await get(gateway.url)).status).toBe(200)
    const { body } = await get(`${gateway.adminUrl}/readyz`)
    expect(JSON.parse(body)).toEqual({ status: 'not ready', reasons: ['draining'] })
    expect((await gateway.exited).code).toBe(0)
  })

  test('O-21: a request in flight is finished, and its answer closes the connection', async () => {
    const upstream = await startSlowUpstream(700)
    closers.push(upstream.close)
    const gateway = await start({ config: proxy(upstream.url) })
    const answer = get(gateway.url, { headers: { connection: 'keep-alive' } })
    await until(() => upstream.started() === 1, 2000)
    gateway.process.kill('SIGTERM')
    expect((await answer).status).toBe(200)
    expect((await answer).headers['connection']).toBe('close')
    expect((await gateway.exited).code).toBe(0)
  })

  test('O-10, O-21: at drain.timeout it ends with 4 and says that something was cut', async () => {
    const upstream = await startSlowUpstream(60_000)
    closers.push(upstream.close)
    const gateway = await start({ config: proxy(upstream.url, 'drain: { delay: 0s, timeout: 500ms }\n') })
    const answer = get(gateway.url).catch((error: Error) => error)
    await until(() => upstream.started() === 1, 2000)
    const startMs = performance.now()
    gateway.process.kill('SIGTERM')
    expect((await gateway.exited).code).toBe(4)
    expect(performance.now() - startMs).toBeLessThan(3000)
    expect(await answer).toBeInstanceOf(Error)
    await gateway.waitForAccess(() => true)
  })

  test.each([
    ['SIGTERM', 'SIGINT'],
    ['SIGINT', 'SIGINT'],
    ['SIGTERM', 'SIGTERM'],
  ] as const)('T-72: %s, then %s, stops at once', async (first, second) => {
    const upstream = await startSlowUpstream(60_000)
    closers.push(upstream.close)
    const gateway = await start({ config: proxy(upstream.url, 'drain: { delay: 30s, timeout: 30s }\n') })
    const answer = get(gateway.url).catch((error: Error) => error)
    await until(() => upstream.started() === 1, 2000)
    gateway.process.kill(first)
    await pause(200)
    const startMs = performance.now()
    gateway.process.kill(second)
    expect((await gateway.exited).code).toBe(4)
    expect(performance.now() - startMs).toBeLessThan(2500)
    await answer
  })

  test('sallyport stop waits for the end; --now cuts', async () => {
    const gateway = await start({ config: fixed('x') })
    expect(await gateway.command('stop')).toMatchObject({ code: 0, stdout: 'stopped\n' })
    expect((await gateway.exited).code).toBe(0)

    const upstream = await startSlowUpstream(60_000)
    closers.push(upstream.close)
    const busy = await start({ config: proxy(upstream.url, 'drain: { delay: 30s, timeout: 30s }\n') })
    const answer = get(busy.url).catch((error: Error) => error)
    await until(() => upstream.started() === 1, 2000)
    expect((await busy.command('stop', '--now')).code).toBe(4)
    expect((await busy.exited).code).toBe(4)
    await answer
  })

  test('O-20: a worker that gets the terminal’s signal itself ignores it', async () => {
    const gateway = await start({ config: fixed('x') })
    const before = await workerPids(gateway)
    for (const pid of before)
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'] as const) process.kill(pid, signal)
    await pause(300)
    expect(await workerPids(gateway)).toEqual(before)
    expect((await get(gateway.url)).status).toBe(200)
  })
})

describe('worker deaths (O-28, T-73)', () => {
  test('a killed worker is replaced within a second; the others answer all the while', async () => {
    const gateway = await start({ config: fixed('x') })
    const [victim = 0, other = 0] = await workerPids(gateway)
    process.kill(victim, 'SIGKILL')
    await until(async () => !(await workerPids(gateway)).includes(victim), 1000)
    const tookMs = await until(async () => (await workerPids(gateway)).length === 2, 5000)
    expect(await workerPids(gateway)).toContain(other)
    // a second on a machine that has time; where others compile, what a bare process takes to start says how slow it is
    const bareMs = await startOfBareProcess()
    expect(tookMs).toBeLessThan(Math.max(1000, 20 * bareMs))
    expect(await health(gateway)).toBe(200)
    const died = gateway.log().find(({ msg }) => msg.startsWith('worker died'))
    expect(died).toMatchObject({ signal: 'SIGKILL', pid: victim })
    const { body } = await get(`${gateway.adminUrl}/metrics`)
    expect(body).toContain('sallyport_worker_restarts_total{worker="1"} 1')
  })

  test('counters of a dead worker stay in the sum', async () => {
    const gateway = await start({ config: fixed('x') })
    for (let count = 0; count < 40; count++) await get(gateway.url)
    const total = async (): Promise<number> => {
      const { body } = await get(`${gateway.adminUrl}/metrics`)
      return Number(/^sallyport_http_requests_total\{endpoint="web",method="GET",code="200"\} (\d+)$/m.exec(body)?.[1])
    }
    expect(await total()).toBe(40)
    const before = await workerPids(gateway)
    for (const pid of before) process.kill(pid, 'SIGKILL')
    await until(async () => {
      const now = await workerPids(gateway)
      return now.length === 2 && !now.some((pid) => before.includes(pid))
    }, 10_000)
    expect(await total()).toBe(40)
    await get(gateway.url)
    expect(await total()).toBe(41)
  })

  test('five deaths within a minute: not ready, still trying', async () => {
    const gateway = await start({ config: fixed('x') })
    for (let deaths = 0; deaths < 5; deaths++) {
      const [pid] = await until(async () => (await workerPids(gateway)).length > 0, 15_000).then(() =>
        workerPids(gateway),
      )
      process.kill(pid!, 'SIGKILL') // there is one: that was the condition
      await until(async () => !(await workerPids(gateway)).includes(pid!), 1000)
    }
    const { status, body } = await get(`${gateway.adminUrl}/readyz`)
    expect(status).toBe(503)
    expect(body).toContain('workers died 5 times within a minute')
    await until(async () => (await workerPids(gateway)).length === 2, 15_000)
    expect((await get(gateway.url)).status).toBe(200)
    expect(gateway.log().some(({ level }) => level === 'crit')).toBe(true)
  })
})

describe('what it tells', () => {
  test('O-46: metrics are summed over the workers; the access log has one line per request (O-56)', async () => {
    const gateway = await start({ config: fixed('x') })
    const REQUESTS = 60
    await Promise.all(Array.from({ length: REQUESTS }, (_, number) => get(`${gateway.url}/${number}?token=sekret`)))
    const { body } = await get(`${gateway.adminUrl}/metrics`)
    expect(body).toContain(`sallyport_http_requests_total{endpoint="web",method="GET",code="200"} ${REQUESTS}\n`)
    expect(body).toContain('sallyport_policy_actions_total{endpoint="web",action="custom-response",outcome="respond"}')
    expect(body).toMatch(/sallyport_worker_up\{worker="2"\} 1\n/)
    expect(body).toMatch(/process_resident_memory_bytes\{process="worker-2"\} [1-9]/)
    // both have worked: the kernel spreads connections over the listeners
    const { workers } = JSON.parse((await get(`${gateway.adminUrl}/api/status`)).body) as { workers: unknown[] }
    expect(workers).toHaveLength(2)
    await gateway.stop()
    const lines = gateway.access()
    expect(lines).toHaveLength(REQUESTS)
    expect(new Set(lines.map(({ request_id: id }) => id)).size).toBe(REQUESTS)
    expect(JSON.stringify(lines)).not.toContain('sekret')
    expect(lines[0]).toMatchObject({ endpoint: 'web', action: 'custom-response', status: 200, reason: 'ok' })
  })

  test('O-20: SIGUSR1 opens the access log anew', async () => {
    const gateway = await start({
      config: (context) => `access_log: { output: "${context.folder}/access.log" }\n${fixed('x')(context)}`,
    })
    const path = `${gateway.folder}/access.log`
    await get(`${gateway.url}/before`)
    await until(() => readFileSync(path, 'utf8').includes('/before'), 2000)
    renameSync(path, `${path}.1`)
    gateway.process.kill('SIGUSR1')
    await until(() => existsSync(path), 2000)
    await pause(100)
    await get(`${gateway.url}/after`)
    await until(() => readFileSync(path, 'utf8').includes('/after'), 2000)
    expect(readFileSync(`${path}.1`, 'utf8')).not.toContain('/after')
    expect((await get(gateway.url)).status).toBe(200)
  })

  test('sallyport status and health', async () => {
    const gateway = await start({ config: fixed('x') })
    expect(await gateway.command('health')).toMatchObject({ code: 0, stdout: 'ready\n' })
    const text = await gateway.command('status')
    expect(text.stdout).toMatch(/^running, ready\n/)
    expect(text.stdout).toContain(`127.0.0.1:${gateway.port}`)
    const json = await gateway.command('status', '--json')
    expect(JSON.parse(json.stdout)).toMatchObject({ state: 'running', ready: true, generation: 1 })
  })

  test('what is kept outside the state folder goes with the process', async () => {
    const gateway = await start({ config: fixed('x') })
    const { createHash } = await import('node:crypto')
    const name = `sallyport-${createHash('sha256').update(gateway.stateDir).digest('hex').slice(0, 16)}.buckets`
    const made = existsSync(`/dev/shm/${name}`) || existsSync(`${gateway.stateDir}/${name}`)
    expect(made).toBe(true)
    await gateway.command('stop')
    await gateway.exited
    expect(existsSync(`/dev/shm/${name}`)).toBe(false)
    expect(existsSync(`${gateway.stateDir}/${name}`)).toBe(false)
    expect(existsSync(`${gateway.stateDir}/control.sock`)).toBe(false)
  })
})

describe('other ways to start', () => {
  test('sallyport http ADDR --url … --traffic-policy-file … (O-07)', async () => {
    const upstream = await startSlowUpstream(1)
    closers.push(upstream.close)
    const [port = 0] = await freePorts(1)
    const gateway = await start({
      config: '',
      files: {
        'policy.yml': 'on_http_request:\n  - expressions: ["req.url.path == \'/no\'"]\n    actions: [{type: deny}]\n',
      },
      verb: [
        'http',
        new URL(upstream.url).port,
        '--url',
        `http://localhost:${port}`,
        '--policy-file',
        'policy.yml',
        '--authtoken',
        'x',
      ],
    })
    expect((await get(`http://localhost:${port}/yes`)).body).toBe('slow /yes')
    expect((await get(`http://localhost:${port}/no`)).status).toBe(403)
    expect(gateway.stderr()).toContain('--authtoken has no meaning here')
    expect(gateway.stderr()).not.toContain('"x"')
  })

  test('sallyport start NAME --config FILE: endpoints of an agent configuration (O-07)', async () => {
    const upstream = await startSlowUpstream(1)
    closers.push(upstream.close)
    const [port = 0, other = 0] = await freePorts(2)
    const gateway = await start({
      config: '',
      files: {
        'agent.yml': `version: 3
agent: {authtoken: unused}
endpoints:
  - name: wiki
    url: http://localhost:${port}
    upstream: {url: ${new URL(upstream.url).port}}
    traffic_policy:
      on_http_request:
        - expressions: ["req.url.path == '/no'"]
          actions: [{type: deny}]
  - {name: other, url: "http://localhost:${other}", upstream: {url: 1}}
`,
      },
      verb: ['start', 'wiki', '--config', 'agent.yml'],
    })
    expect((await get(`http://localhost:${port}/yes`)).body).toBe('slow /yes')
    expect((await get(`http://localhost:${port}/no`)).status).toBe(403)
    await expect(get(`http://localhost:${other}/`)).rejects.toThrow()
    const { code, stderr } = await gateway.command('reload')
    expect(code, stderr).toBe(0)
    expect((await get(`http://localhost:${port}/yes`)).body).toBe('slow /yes')
  })

  test('O-09: -c - reads standard input, and a reload of it is refused', async () => {
    const [port = 0, adminPort = 0] = await freePorts(2)
    const stateDir = `/tmp/sallyport-stdin-${process.pid}`
    const text = `state_dir: ${stateDir}\nadmin: {address: "127.0.0.1:${adminPort}"}\ndrain: {delay: 0s}\n${fixed('from stdin')({ port })}`
    const child = spawn(process.execPath, [MAIN, 'run', '-c', '-'], { stdio: ['pipe', 'ignore', 'ignore'] })
    closers.push(() => void child.kill('SIGKILL'))
    child.stdin.end(text)
    await until(
      () =>
        get(`http://localhost:${port}`).then(
          ({ body }) => body === 'from stdin',
          () => false,
        ),
      20_000,
    )
    const { code, stderr } = await runCommand(['reload', '--state-dir', stateDir])
    expect(code).toBe(1)
    expect(stderr).toContain('standard input, which cannot be read again')
    expect((await get(`http://localhost:${port}`)).body).toBe('from stdin')
    expect((await runCommand(['stop', '--state-dir', stateDir])).code).toBe(0)
  })

  test('a relative state folder lies beside the configuration, and workers find the rule set in it', async () => {
    const gateway = await start({
      config: ({ port }) => `
state_dir: var
endpoints:
  - name: web
    url: http://localhost:${port}
    traffic_policy:
      on_http_request:
        - actions:
            - {type: owasp-crs-request}
            - {type: custom-response, config: {status_code: 200, body: "passed"}}
`,
      files: {
        'var/crs/current/rules/REQUEST-901-TEST.conf':
          'SecRule ARGS "@contains attack" "id:901001,phase:2,deny,status:403,log,msg:\'test\'"\n',
      },
    })
    expect((await get(`${gateway.url}/?q=good`)).body).toBe('passed')
    expect(existsSync(`${gateway.folder}/var/control.sock`)).toBe(true)
  })

  test('O-11: SALLYPORT_… sets what flags set', async () => {
    const gateway = await start({
      config: fixed('x'),
      environment: { SALLYPORT_LOG_LEVEL: 'error', SALLYPORT_WORKERS: '1' },
    })
    expect(await workerPids(gateway)).toHaveLength(1)
    expect(gateway.log().filter(({ level }) => level === 'info')).toEqual([])
  })
})

describe('asking a gateway that is not there', () => {
  test.each(['reload', 'stop', 'status', 'health'])('%s exits 3 with a sentence', async (verb) => {
    const { code, stderr } = await runCommand([verb, '--state-dir', '/tmp/sallyport-nobody-is-here'])
    expect(code).toBe(3)
    expect(stderr).toBe('sallyport: no sallyport runs with the state folder /tmp/sallyport-nobody-is-here\n')
  })
})
