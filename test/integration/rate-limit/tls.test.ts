/**
 * `rediss://`: the certificate is checked, and a client certificate is sent when Redis asks for one.
 *
 * Engine: none, no client connects to a listener.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RedisTlsOptions } from '../../../src/redis/client.ts'
import { RedisStore } from '../../../src/rate-limit/redis-store.ts'
import type { TakeResult } from '../../../src/rate-limit/store.ts'
import { eventually, redisSkipReason, startRedis, type RunningRedis } from '../../support/start-redis.ts'

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
if (!hasOpenssl) process.stdout.write('skipped: openssl is not in PATH: no certificates for TLS tests\n')

const local = {
  take: (): TakeResult => ({ admitted: true, remaining: 1, retryAfterMs: 0, mode: 'memory' }),
  close: () => Promise.resolve(),
}

describe.skipIf(redisSkipReason() !== undefined || !hasOpenssl)('redis over TLS', () => {
  let folder: string
  let server: RunningRedis
  let tls: { ca: string; cert: string; key: string }
  const reasons: unknown[] = []

  const openssl = (...words: string[]): void => void execFileSync('openssl', words, { cwd: folder, stdio: 'pipe' })

  const connect = (options: RedisTlsOptions, host = '127.0.0.1'): RedisStore =>
    new RedisStore({
      redis: { url: `rediss://${host}:${server.port}`, tls: options },
      local,
      logger: { info() {}, warn: (fields) => void reasons.push(fields['reason']) },
      deadlineMs: 1000,
    })

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'sallyport-tls-'))
    openssl(
      ...'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ca.key -out ca.pem -subj /CN=test'.split(
        ' ',
      ),
    )
    for (const name of ['server', 'client']) {
      openssl(
        ...`req -x509 -CA ca.pem -CAkey ca.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout ${name}.key -out ${name}.pem`.split(
          ' ',
        ),
        '-subj',
        `/CN=${name}`,
        '-addext',
        'subjectAltName=IP:127.0.0.1',
        '-addext',
        'basicConstraints=critical,CA:FALSE',
      )
    }
    server = await startRedis({
      tlsArguments: [
        '--tls-cert-file',
        join(folder, 'server.pem'),
        '--tls-key-file',
        join(folder, 'server.key'),
        '--tls-ca-cert-file',
        join(folder, 'ca.pem'),
        '--tls-auth-clients',
        'yes',
      ],
    })
    const read = (file: string): string => readFileSync(join(folder, file), 'utf8')
    tls = { ca: read('ca.pem'), cert: read('client.pem'), key: read('client.key') }
  })
  afterAll(async () => {
    await server.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  it('counts over TLS with certificates of both sides', async () => {
    const store = connect(tls)
    await eventually(() => store.isAvailable, 5000)
    const taken = await Promise.all(Array.from({ length: 50 }, () => store.take('k', 20, 60_000, 'closed')))
    expect(taken.filter((result) => result.admitted)).toHaveLength(20)
    expect(new Set(taken.map((result) => result.mode))).toEqual(new Set(['redis']))
    await store.close()
  })

  it.each([
    [
      'a certificate of an unknown authority',
      () => ({ cert: tls.cert, key: tls.key }),
      '127.0.0.1',
      /self.signed|unable to/,
    ],
    ['a certificate for another name', () => tls, 'localhost', /altnames|does not match/],
    ['no certificate of ours', () => ({ ca: tls.ca }), '127.0.0.1', /certificate|closed|ECONNRESET|alert/i],
  ])('%s: the store stays away and says why', async (_name, options, host, reason) => {
    reasons.length = 0
    const store = connect(options(), host)
    await eventually(() => reasons.length > 0, 5000)
    expect(String(reasons[0])).toMatch(reason)
    expect(store.isAvailable).toBe(false)
    expect(await store.take('k', 20, 60_000, 'closed')).toMatchObject({ admitted: false, mode: 'closed' })
    await store.close()
  })

  it('verify: false takes any certificate', async () => {
    const store = connect({ cert: tls.cert, key: tls.key, verify: false }, 'localhost')
    await eventually(() => store.isAvailable, 5000)
    await store.close()
  })
})
