/** F-21, O-78: a worker at its limit of file descriptors lives on, serves whom it has, and takes new clients when some are free. */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { expect, test } from 'vitest'
import { startEchoUpstream } from '../../support/echo-upstream.ts'
import { get, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const LIMIT = 200

async function workerPid(gateway: RunningGateway): Promise<number> {
  const status = JSON.parse((await get(`${gateway.adminUrl}/api/status`)).body) as { workers: { pid: number }[] }
  return status.workers[0]!.pid
}

function ask(gateway: RunningGateway, agent: Agent): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request(`${gateway.url}/`, { agent }, (answer) => {
      answer.resume()
      answer.once('end', () => resolve(answer.statusCode ?? 0))
    })
    asked.once('error', reject)
    asked.end()
  })
}

test('F-21 a worker at its limit of descriptors lives on, and recovers', async () => {
  const upstream = await startEchoUpstream()
  const config = ({ port }: { readonly port: number }): string => `
workers: 1
endpoints:
  - {name: shop, url: "http://localhost:${port}", upstream: {url: "http://127.0.0.1:${upstream.port}"}}
`
  const gateway = await startGateway({ config })
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  const other = new Agent({ keepAlive: true, maxSockets: 1 })
  const idle: Socket[] = []
  try {
    const pid = await workerPid(gateway)
    const limited = spawnSync('prlimit', ['--pid', String(pid), `--nofile=${LIMIT}:${LIMIT}`])
    expect(limited.status).toBe(0)
    // what the settings allow is more
    gateway.write('gateway.yaml', `${config(gateway)}limits: {connections: 5000}\n`)
    expect(await gateway.command('reload')).toMatchObject({ code: 0 })
    await expect
      .poll(() => gateway.log().find(({ needed }) => needed !== undefined))
      .toMatchObject({ limit: LIMIT, needed: 5385 })
    expect(await ask(gateway, agent)).toBe(200)
    expect(await ask(gateway, other)).toBe(200)
    for (let count = 0; count < LIMIT + 50; count++) {
      const socket = connect(gateway.port, '127.0.0.1')
      socket.on('error', () => undefined)
      idle.push(socket)
    }
    await expect.poll(() => readdirSync(`/proc/${pid}/fd`).length).toBeGreaterThanOrEqual(LIMIT)
    // who has a connection is served, over the upstream connection that is there; the worker still tells what it counts
    expect(await ask(gateway, agent)).toBe(200)
    const metrics = await get(`${gateway.adminUrl}/metrics`)
    expect(metrics.body).toMatch(/^process_resident_memory_bytes\{process="worker-1"\} [1-9]/m)
    // two at a time need a second connection, which cannot be made: that is no fault of the target's
    const short: number[] = []
    await expect
      .poll(
        async () => {
          const both = await Promise.all([ask(gateway, agent), ask(gateway, other)])
          short.push(...both.filter((status) => status !== 200))
          return short.length
        },
        { timeout: 10_000 },
      )
      .toBeGreaterThanOrEqual(8)
    expect(new Set(short)).toEqual(new Set([503]))
    expect((await get(`${gateway.adminUrl}/metrics`)).body).not.toMatch(/^sallyport_upstream_ejections_total.* [1-9]/m)
    expect(await ask(gateway, agent)).toBe(200)
    for (const socket of idle) socket.destroy()
    await expect.poll(() => readdirSync(`/proc/${pid}/fd`).length).toBeLessThan(LIMIT / 2)
    expect((await get(`${gateway.url}/`)).status).toBe(200)
    expect(await workerPid(gateway)).toBe(pid)
  } finally {
    for (const socket of idle) socket.destroy()
    agent.destroy()
    other.destroy()
    await gateway.stop()
    await upstream.close()
  }
})
