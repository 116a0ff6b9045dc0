/** Several gateways on one Redis share a limit (issue text, T-60); without it each goes on by itself (O-76). */
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RunningGateway, startGateway } from '../../support/start-gateway.ts'
import { redisSkipReason, type RunningRedis, startRedis } from '../../support/start-redis.ts'

const GATEWAYS = 4
const CAPACITY = 400
const REQUESTS = 1600

const skipReason = redisSkipReason()
if (skipReason !== undefined) console.log(`skipped: several gateways on one Redis: ${skipReason}`)

const POLICY = `
on_http_request:
  - actions:
      - { type: rate-limit, config: { name: shared, capacity: ${CAPACITY}, rate: 60s, bucket_key: ["getReqHeader('x-key')"] } }
      - { type: custom-response, config: { body: ok } }
`

/** `closed`: what cannot be counted in Redis in time is refused, so that a busy machine never makes the count inexact. */
const settings = (port: number, redisUrl: string, onStoreError: 'closed' | 'local'): string => `
listeners: [{ address: 127.0.0.1:${port} }]
workers: 1
redis: { url: "${redisUrl}" }
rate_limit: { on_store_error: ${onStoreError} }
endpoints: [{ name: web, url: http://localhost, traffic_policy_file: policy.yaml }]
`

describe.skipIf(skipReason !== undefined)('several gateways on one Redis', () => {
  let redis: RunningRedis
  const gateways: RunningGateway[] = []
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })

  beforeAll(async () => {
    redis = await startRedis()
    for (let index = 0; index < GATEWAYS; index += 1) {
      const gateway = await startGateway({
        config: ({ port }) => settings(port, redis.url, 'closed'),
        files: { 'policy.yaml': POLICY },
      })
      gateways.push(gateway)
    }
  }, 120_000)

  afterAll(async () => {
    agent.destroy()
    await Promise.all(gateways.map((gateway) => gateway.stop()))
    await redis?.stop()
  })

  function ask(gateway: RunningGateway, key: string): Promise<number> {
    return new Promise((resolve, reject) => {
      request(
        { agent, host: '127.0.0.1', port: gateway.port, headers: { host: 'localhost', 'x-key': key } },
        (incoming) => {
          incoming.resume()
          incoming.once('end', () => resolve(incoming.statusCode ?? 0))
        },
      )
        .once('error', reject)
        .end()
    })
  }

  async function flood(key: string): Promise<Map<number, number>> {
    const counts = new Map<number, number>()
    let left = REQUESTS
    const lane = async (gateway: RunningGateway): Promise<void> => {
      while (left > 0) {
        left -= 1
        const status = await ask(gateway, key)
        counts.set(status, (counts.get(status) ?? 0) + 1)
      }
    }
    await Promise.all(gateways.flatMap((gateway) => [lane(gateway), lane(gateway), lane(gateway)]))
    return counts
  }

  it('T-60: admit the capacity together and not one more', async () => {
    const counts = await flood('together')
    const unanswered = counts.get(503) ?? 0
    expect([...counts.keys()].filter((status) => ![200, 429, 503].includes(status))).toEqual([])
    expect(counts.get(200)).toBeLessThanOrEqual(CAPACITY)
    // an answer of Redis that came too late counts as used
    expect(counts.get(200)).toBeGreaterThanOrEqual(CAPACITY - unanswered)
    // O-47: how long the shared store took
    await expect
      .poll(async () => (await fetch(`${gateways[0]!.adminUrl}/metrics`)).text(), { timeout: 5000, interval: 250 })
      .toMatch(/^sallyport_rate_limit_store_seconds_count [1-9]\d*$/m)
  })

  it('O-76: go on with their share when Redis is gone, and nothing fails', async () => {
    for (const gateway of gateways) {
      gateway.write('gateway.yaml', settings(gateway.port, redis.url, 'local'))
      expect((await gateway.command('reload')).code).toBe(0)
    }
    // longer than a heartbeat, so that every gateway has counted all of them
    await sleep(6_000)
    await redis.kill()
    const counts = await flood('alone')
    expect([...counts.keys()].filter((status) => status !== 200 && status !== 429)).toEqual([])
    expect(counts.get(200)).toBeGreaterThan(0)
    // each gateway enforces its share of the capacity: together at most the whole
    expect(counts.get(200)).toBeLessThanOrEqual(CAPACITY)
  })
})
