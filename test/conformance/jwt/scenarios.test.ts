/**
 * jwt-attacks/jwks-scenarios.json: the key set service over time, against a real HTTP issuer. Clocks that the scenario
 * needs to turn are turned; waiting that a timer does is real, with short intervals.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import type { Clock, JwtLogger } from '../../../src/jwt/key-set.ts'
import { JwtService, type JwtRequirements, type JwtServiceOptions } from '../../../src/jwt/service.ts'
import { mintUnsigned, startTokenIssuer, type IssuerMode, type TokenIssuer } from '../../support/token-issuer.ts'
import { isSharedPresent, readCorpus, Tally } from './corpora.ts'

const corpus = readCorpus<{ cases: { id: string; expect: string }[] }>('jwt-attacks', 'jwks-scenarios.json')
const tally = new Tally()

/** Both clocks as the scenario wants them. */
class TurnableClock implements Clock {
  #wallOffsetMs = 0
  #monotonicOffsetMs = 0
  wallMs(): number {
    return Date.now() + this.#wallOffsetMs
  }
  monotonicMs(): number {
    return performance.now() + this.#monotonicOffsetMs
  }
  /** Time passes, for both. */
  pass(ms: number): void {
    this.#wallOffsetMs += ms
    this.#monotonicOffsetMs += ms
  }
  /** Somebody sets the system's clock. */
  setWall(ms: number): void {
    this.#wallOffsetMs += ms
  }
}

class Log implements JwtLogger {
  readonly warnings: string[] = []
  info(): void {}
  warn(fields: object, message: string): void {
    this.warnings.push(`${message}: ${(fields as { error?: string }).error ?? ''}`)
  }
}

interface Stage {
  readonly issuer: TokenIssuer
  readonly service: JwtService
  readonly requirements: JwtRequirements
  readonly clock: TurnableClock
  readonly log: Log
  /** 200, or the status of the refusal. */
  status(token: string, requirements?: JwtRequirements): Promise<number>
  /** The same, but the answer must not wait for anything. */
  statusAtOnce(token: string): number
}

/** An issuer that served its set once, and a service that has read it. */
async function onStage(
  options: JwtServiceOptions,
  play: (stage: Stage) => Promise<void>,
  mode?: IssuerMode,
): Promise<void> {
  const issuer = await startTokenIssuer()
  if (mode !== undefined) issuer.mode = mode
  const clock = new TurnableClock()
  const log = new Log()
  const service = new JwtService({ clock, logger: log, refreshMs: 3_600_000, ...options })
  const requirements: JwtRequirements = {
    issuers: [issuer.issuer],
    audiences: undefined,
    algorithms: ['RS256', 'ES256'],
    keySetUrls: [issuer.jwksUrl],
  }
  service.watch([issuer.jwksUrl])
  await service.whenReady()
  try {
    await play({
      issuer,
      service,
      requirements,
      clock,
      log,
      status: async (token, asked = requirements) => {
        const verdict = await service.verify(token, asked)
        return verdict.kind === 'accepted' ? 200 : verdict.status
      },
      statusAtOnce: (token) => {
        const verdict = service.verify(token, requirements)
        if (verdict instanceof Promise) throw new Error('the answer waits')
        return verdict.kind === 'accepted' ? 200 : verdict.status
      },
    })
  } finally {
    await service.close()
    await issuer.stop()
  }
}

const sleep = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms)
  })

/** A fresh token each time, so that nothing is answered from memory. */
let serial = 0
const good = (issuer: TokenIssuer): string => issuer.mint({ sub: 'user', jti: String(serial++) })

/** Fetches fail in this way for a while; good tokens must not notice. */
async function survives(mode: IssuerMode | 'stopped', warning: RegExp, options: JwtServiceOptions = {}): Promise<void> {
  await onStage({ refreshMs: 60, ...options }, async ({ issuer, statusAtOnce, log, service }) => {
    if (mode === 'stopped') await issuer.stop()
    else issuer.mode = mode
    const until = Date.now() + 1500
    while (service.counters.keySets[0]!.failures < 3 && Date.now() < until) {
      expect(statusAtOnce(good(issuer))).toBe(200)
      await sleep(10)
    }
    const { failures } = service.counters.keySets[0]!
    expect(failures).toBeGreaterThanOrEqual(3)
    expect(log.warnings.length).toBe(failures) // once per fetch
    for (const line of log.warnings) expect(line).toMatch(warning)
    expect(statusAtOnce(good(issuer))).toBe(200)
  })
}

const SCENARIOS: Record<string, () => Promise<void>> = {
  'jwks/down-after-good': () => survives('stopped', /not reachable/),

  'jwks/down-too-long': () =>
    onStage({ staleMs: 60_000 }, async ({ issuer, status, clock, log }) => {
      const remembered = good(issuer)
      expect(await status(remembered)).toBe(200)
      await issuer.stop()
      clock.pass(59_000)
      expect(await status(good(issuer))).toBe(200)
      clock.pass(2000)
      expect(await status(good(issuer))).toBe(503)
      expect(await status(remembered)).toBe(503) // not from memory either
      expect(log.warnings[0]).toMatch(/not reachable/)
    }),

  'jwks/500': () => survives({ kind: 'status', status: 500 }, /answered 500/),

  'jwks/429-retry-after': () =>
    onStage({ refreshMs: 50, unknownKidCooldownMs: 0 }, async ({ issuer, statusAtOnce, clock, status }) => {
      issuer.mode = { kind: 'status', status: 429, headers: { 'retry-after': '30' } }
      const before = issuer.requests
      while (issuer.requests === before) await sleep(10)
      await sleep(30)
      const throttled = issuer.requests
      for (let index = 0; index < 50; index++) {
        expect(statusAtOnce(good(issuer))).toBe(200)
        expect(statusAtOnce(issuer.mint({}, { header: { kid: `unknown-${index}` } }))).toBe(401)
      }
      await sleep(200)
      expect(issuer.requests).toBe(throttled)
      clock.pass(31_000)
      issuer.mode = { kind: 'good' }
      expect(await status(issuer.mint({}, { header: { kid: 'unknown' } }))).toBe(401)
      expect(issuer.requests).toBe(throttled + 1)
    }),

  'jwks/404': () => survives({ kind: 'status', status: 404, body: '{"keys":[]}' }, /answered 404/),

  'jwks/reset-mid-body': () => survives({ kind: 'reset' }, /not reachable/),

  'jwks/tls-bad-cert': async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-tls-'))
    const key = join(folder, 'key.pem')
    const cert = join(folder, 'cert.pem')
    const subject = ['-subj', '/CN=somebody.else', '-days', '2']
    execFileSync(
      'openssl',
      ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', key, '-out', cert, ...subject],
      {
        stdio: 'ignore',
      },
    )
    let requests = 0
    const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_request, response) => {
      requests++
      response.end('{"keys":[]}')
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`
    await onStage({}, async ({ issuer, service, requirements, log, status }) => {
      expect(await status(good(issuer), { ...requirements, keySetUrls: [url] })).toBe(503)
      expect(service.counters.keySets.find((keySet) => keySet.url === url)).toMatchObject({
        usable: false,
        failures: 1,
      })
      expect(log.warnings.join()).toMatch(/SELF_SIGNED|CERT/)
    })
    expect(requests).toBe(0)
    server.close()
    server.closeAllConnections()
    rmSync(folder, { recursive: true })
  },

  'jwks/flapping': () =>
    onStage({ refreshMs: 40 }, async ({ issuer, statusAtOnce, service }) => {
      const until = Date.now() + 3000
      for (let turn = 0; Date.now() < until; turn++) {
        issuer.mode = turn % 2 === 0 ? { kind: 'status', status: 500 } : { kind: 'good' }
        for (let index = 0; index < 10; index++) {
          expect(statusAtOnce(good(issuer))).toBe(200)
          await sleep(5)
        }
      }
      const { fetches, failures } = service.counters.keySets[0]!
      expect(failures).toBeGreaterThan(2)
      expect(fetches - failures).toBeGreaterThan(2)
    }),

  'jwks/not-json': () =>
    survives({ kind: 'garbage', body: '<html>log in</html>', headers: { 'content-type': 'text/html' } }, /not JSON/),

  'jwks/html-with-json-type': () => survives({ kind: 'garbage', body: '<html>log in</html>' }, /not JSON/),

  'jwks/bom': () =>
    onStage({}, async ({ issuer, requirements, service }) => {
      issuer.mode = { kind: 'garbage', body: `\ufeff${JSON.stringify(issuer.jwks)}` }
      const fresh = new JwtService()
      const verdict = await fresh.verify(good(issuer), requirements)
      expect(verdict.kind).toBe('accepted') // the mark is taken off
      await fresh.close()
      expect(service.counters.keySets[0]!.usable).toBe(true)
    }),

  'jwks/wrong-type': () =>
    onStage({}, async ({ issuer, requirements }) => {
      const body = JSON.stringify(issuer.jwks)
      issuer.mode = { kind: 'garbage', body, headers: { 'content-type': 'text/plain' } }
      const fresh = new JwtService()
      expect((await fresh.verify(good(issuer), requirements)).kind).toBe('accepted')
      await fresh.close()
    }),

  'jwks/huge': async () => {
    const before = process.memoryUsage().rss
    await survives({ kind: 'garbage', body: Buffer.alloc(50_000_000, 0x20) }, /larger than 262144 bytes/)
    expect(process.memoryUsage().rss - before).toBeLessThan(300_000_000) // the issuer of the test lives here, too
  },

  'jwks/deep-json': () =>
    survives({ kind: 'garbage', body: `{"keys":${'['.repeat(100_000)}${']'.repeat(100_000)}}` }, /nested too deep/),

  'jwks/proto': () =>
    onStage({}, async ({ issuer, requirements }) => {
      const keys = JSON.stringify(issuer.jwks.keys.map((key) => ({ ...key, constructor: { prototype: { admin: 1 } } })))
      issuer.mode = { kind: 'garbage', body: `{"__proto__":{"admin":true},"keys":${keys}}` }
      const fresh = new JwtService()
      expect((await fresh.verify(good(issuer), requirements)).kind).toBe('accepted')
      expect(({} as { admin?: unknown }).admin).toBeUndefined()
      await fresh.close()
    }),

  // Written down in key-set-fetch.ts: up to three redirects, within the same origin.
  'jwks/redirect-same-host': () =>
    onStage({}, async ({ issuer, requirements, status }) => {
      issuer.mode = { kind: 'redirect', location: '/moved/keys' }
      const moved = { ...requirements, keySetUrls: [`${issuer.jwksUrl}?redirected`] }
      expect(await status(good(issuer), moved)).toBe(503) // /moved/keys answers 404
      issuer.mode = { kind: 'redirect', location: issuer.jwksUrl }
      const before = issuer.requests
      expect(await status(good(issuer), { ...requirements, keySetUrls: [`${issuer.jwksUrl}?loop`] })).toBe(503)
      expect(issuer.requests - before).toBe(4)
    }),

  'jwks/redirect-internal': () =>
    onStage({}, async ({ issuer, requirements, status, log }) => {
      const other = await startTokenIssuer({ issuer: issuer.issuer })
      for (const location of ['http://169.254.169.254/latest/meta-data/', 'http://127.0.0.1:6379/', other.jwksUrl]) {
        issuer.mode = { kind: 'redirect', location }
        const urls = { ...requirements, keySetUrls: [`${issuer.jwksUrl}?${encodeURIComponent(location)}`] }
        expect(await status(other.mint(), urls)).toBe(503)
        expect(log.warnings.at(-1)).toMatch(/another origin/)
      }
      expect(other.requests).toBe(0)
      await other.stop()
    }),

  'jwks/rotate-add': () =>
    onStage({}, async ({ issuer, status, statusAtOnce }) => {
      const old = good(issuer)
      issuer.rotate({ keep: true })
      expect(issuer.requests).toBe(1)
      const [first, second, third] = await Promise.all([status(good(issuer)), status(good(issuer)), status(old)])
      expect([first, second, third]).toEqual([200, 200, 200])
      expect(issuer.requests).toBe(2)
      expect(statusAtOnce(good(issuer))).toBe(200)
    }),

  'jwks/rotate-replace': () =>
    onStage({}, async ({ issuer, status, statusAtOnce }) => {
      const old = good(issuer)
      expect(statusAtOnce(old)).toBe(200) // remembered from here on
      const unseenOld = good(issuer)
      issuer.rotate()
      expect(await status(good(issuer))).toBe(200)
      expect(issuer.requests).toBe(2)
      expect(statusAtOnce(old)).toBe(401) // its key has left the set
      expect(statusAtOnce(unseenOld)).toBe(401)
    }),

  // Written down in key-set.ts: refused until the next refresh.
  'jwks/rotate-same-kid': () =>
    onStage({ refreshMs: 300 }, async ({ issuer, status, statusAtOnce }) => {
      const old = good(issuer)
      expect(statusAtOnce(old)).toBe(200)
      issuer.rotate({ sameKeyIds: true })
      const fresh = good(issuer)
      expect(statusAtOnce(fresh)).toBe(401)
      expect(issuer.requests).toBe(1)
      await sleep(450)
      expect(await status(fresh)).toBe(200)
      expect(await status(old)).toBe(401)
    }),

  'jwks/kid-flood': () =>
    onStage({}, async ({ issuer, service, status, statusAtOnce, clock }) => {
      const header = { alg: 'RS256', typ: 'JWT' }
      const claims = { iss: issuer.issuer, exp: 4_102_444_800 }
      global.gc?.()
      const before = process.memoryUsage().heapUsed
      for (let minute = 0; minute < 2; minute++) {
        for (let index = 0; index < 30_000; index++) {
          const verdict = service.verify(mintUnsigned({ ...header, kid: `k${minute}-${index}` }, claims, 256), {
            issuers: [issuer.issuer],
            audiences: undefined,
            algorithms: ['RS256'],
            keySetUrls: [issuer.jwksUrl],
          })
          if (verdict instanceof Promise) void verdict
          else expect(verdict.kind).toBe('refused')
          if (index % 1000 === 0) expect(statusAtOnce(good(issuer))).toBe(200)
          if (index % 5000 === 0) await sleep(5)
        }
        expect(issuer.requests).toBe(2 + minute) // the first set, and one for each cool-down
        clock.pass(30_001)
      }
      expect(await status(good(issuer))).toBe(200)
      expect(process.memoryUsage().heapUsed - before).toBeLessThan(64_000_000)
    }),

  'jwks/kid-flood-slow-issuer': () =>
    onStage({ fetchTimeoutMs: 10_000 }, async ({ issuer, service, requirements, statusAtOnce }) => {
      issuer.mode = { kind: 'slow', delayMs: 800 }
      let waiting = 0
      for (let index = 0; index < 1000; index++) {
        const verdict = service.verify(issuer.mint({}, { header: { kid: `k-${index}` } }), requirements)
        if (verdict instanceof Promise) waiting++
        else expect(verdict).toMatchObject({ kind: 'refused', status: 401 })
        if (index % 50 === 0) expect(statusAtOnce(good(issuer))).toBe(200)
      }
      expect(waiting).toBeGreaterThan(0) // after a rotation these are the honest ones
      expect(waiting).toBeLessThanOrEqual(16)
      expect(service.counters.keySets[0]!.fetches).toBe(2)
    }),

  'jwks/cache-max-age-0': () =>
    onStage({}, async ({ issuer, statusAtOnce }) => {
      issuer.extraHeaders = { 'cache-control': 'no-store, max-age=0' }
      issuer.rotate({ keep: true })
      for (let index = 0; index < 200; index++)
        statusAtOnce(issuer.mint({ jti: index }, { header: { kid: 'rs256-1' } }))
      expect(issuer.requests).toBe(1)
    }),

  'jwks/cache-huge': () =>
    onStage({ refreshMs: 200 }, async ({ issuer, status }) => {
      issuer.extraHeaders = { 'cache-control': 'max-age=99999999999' }
      await sleep(300)
      const before = issuer.requests
      const old = good(issuer)
      issuer.rotate()
      await sleep(400)
      expect(issuer.requests).toBeGreaterThan(before)
      expect(await status(old)).toBe(401)
    }),

  'jwks/etag': () =>
    onStage({ refreshMs: 50 }, async ({ issuer, statusAtOnce, requirements, status, log }) => {
      issuer.etag = '"one"'
      while (issuer.requests < 5) await sleep(10)
      await sleep(20)
      expect(statusAtOnce(good(issuer))).toBe(200)
      expect(log.warnings).toEqual([])
      issuer.mode = { kind: 'status', status: 304 }
      const fresh = { ...requirements, keySetUrls: [`${issuer.jwksUrl}?fresh`] }
      expect(await status(good(issuer), fresh)).toBe(503)
      expect(log.warnings.at(-1)).toMatch(/304/)
    }),

  'jwks/clock-back': () =>
    onStage({ staleMs: 60_000 }, async ({ issuer, status, clock }) => {
      const old = issuer.mint({ iat: undefined })
      clock.setWall(-3_600_000)
      expect(await status(old)).toBe(200)
      const before = issuer.requests
      expect(await status(issuer.mint({ iat: undefined }, { header: { kid: 'unknown' } }))).toBe(401)
      expect(await status(issuer.mint({ iat: undefined }, { header: { kid: 'unknown' } }))).toBe(401)
      expect(issuer.requests).toBe(before + 1) // the cool-down still counts
      await issuer.stop()
      clock.pass(61_000)
      expect(await status(old)).toBe(503) // and so does the age
    }),

  'jwks/two-issuers-same-kid': () =>
    onStage({}, async ({ issuer, requirements, status, statusAtOnce }) => {
      const other = await startTokenIssuer()
      const ofOther = { ...requirements, issuers: [other.issuer], keySetUrls: [other.jwksUrl] }
      expect(await status(other.mint(), ofOther)).toBe(200)
      expect(statusAtOnce(other.mint({ iss: issuer.issuer }))).toBe(401) // both sets have a key of that kid
      await other.stop()
    }),

  'jwks/two-routes-two-audiences': () =>
    onStage({}, async ({ issuer, requirements, status }) => {
      const token = issuer.mint({ aud: 'a' })
      expect(await status(token, { ...requirements, audiences: ['a'] })).toBe(200)
      expect(await status(token, { ...requirements, audiences: ['b'] })).toBe(403)
      expect(await status(token, { ...requirements, audiences: ['a'] })).toBe(200)
    }),

  'jwks/verdict-cache-collision': () =>
    onStage({}, async ({ issuer, statusAtOnce }) => {
      const token = good(issuer)
      expect(statusAtOnce(token)).toBe(200)
      const [header, payload, signature] = token.split('.') as [string, string, string]
      const other = good(issuer).split('.') as [string, string, string]
      expect(statusAtOnce(`${header}.${payload}.${other[2]}`)).toBe(401)
      expect(statusAtOnce(`${header}.${other[1]}.${signature}`)).toBe(401)
      const flipped = signature.startsWith('A') ? `B${signature.slice(1)}` : `A${signature.slice(1)}`
      expect(statusAtOnce(`${header}.${payload}.${flipped}`)).toBe(401)
      expect(statusAtOnce(token)).toBe(200)
    }),

  'jwks/verdict-cache-flood': () =>
    onStage({ cacheEntries: 100 }, async ({ issuer, service, requirements, statusAtOnce }) => {
      const token = good(issuer)
      expect(statusAtOnce(token)).toBe(200)
      const head = issuer.mint().split('.').slice(0, 2).join('.')
      global.gc?.()
      const before = process.memoryUsage().heapUsed
      for (let index = 0; index < 1_000_000; index++) {
        const tail = Buffer.from(`${index}`.padStart(9, '0')).toString('base64url')
        const verdict = service.verify(`${head}.${tail}`, requirements)
        if ('kind' in verdict && verdict.kind === 'accepted') expect.fail('a bad token passes')
      }
      expect(process.memoryUsage().heapUsed - before).toBeLessThan(64_000_000)
      const { remembered } = service.counters
      expect(statusAtOnce(token)).toBe(200)
      expect(service.counters.remembered).toBe(remembered + 1) // still remembered
    }),
}

describe('jwt-attacks scenarios of the key set service', () => {
  if (corpus === undefined) {
    it('is skipped: the corpus is not beside the checkout', (context) => {
      console.log('skipped: jwt-attacks scenarios: the corpus is not beside the checkout')
      if (process.env['CI'] === 'true' && isSharedPresent) expect.fail('the scenarios must be present')
      context.skip()
    })
    return
  }
  for (const { id, expect: wanted } of corpus.cases) {
    const play = SCENARIOS[id]
    if (play === undefined) {
      tally.skip(`jwt-attacks/${id}`)
      continue
    }
    it(`${id}: ${wanted}`, async () => {
      try {
        await play()
      } catch (error) {
        tally.record(`jwt-attacks/${id}`, (error as Error).message)
        throw error
      }
      tally.record(`jwt-attacks/${id}`, undefined)
    })
  }

  it('runs at least 30 of the scenarios, and every one that is left out has its reason', () => {
    expect(Object.keys(SCENARIOS).length).toBeGreaterThanOrEqual(30)
    expect(tally.failures).toEqual([])
  })

  afterAll(() => {
    console.log(`${tally.passed} passed, ${tally.failures.length} failed, ${tally.skipped} skipped`)
  })
})
