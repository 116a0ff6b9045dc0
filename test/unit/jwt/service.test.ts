import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { JwtService, type JwtRequirements, type JwtServiceOptions, type JwtVerdict } from '../../../src/jwt/service.ts'
import { mintHmac, mintUnsigned, startTokenIssuer, TokenIssuer } from '../../support/token-issuer.ts'

const original = new TokenIssuer({ algorithms: ['RS256', 'ES256', 'ES384'] })
let issuer: TokenIssuer
let folder: string
const services: JwtService[] = []

beforeEach(async () => {
  issuer = await startTokenIssuer({ keysOf: original, algorithms: ['RS256', 'ES256', 'ES384'] })
  folder = mkdtempSync(join(tmpdir(), 'sallyport-jwt-'))
})

afterEach(async () => {
  for (const service of services.splice(0)) await service.close()
  await issuer.stop()
  rmSync(folder, { recursive: true, force: true })
})

function makeService(options: JwtServiceOptions = {}): JwtService {
  const service = new JwtService(options)
  services.push(service)
  return service
}

const requirements = (changes: Partial<JwtRequirements> = {}): JwtRequirements => ({
  issuers: [issuer.issuer],
  audiences: undefined,
  algorithms: ['RS256', 'ES256', 'ES384'],
  keySetUrls: [issuer.jwksUrl],
  ...changes,
})

async function readyService(options: JwtServiceOptions = {}): Promise<JwtService> {
  const service = makeService(options)
  service.watch([issuer.jwksUrl])
  await service.whenReady()
  return service
}

const summary = (verdict: JwtVerdict): string =>
  verdict.kind === 'accepted' ? 'accepted' : `${verdict.status} ${verdict.code} ${verdict.detailCode} ${verdict.reason}`

function atOnce(verdict: JwtVerdict | Promise<JwtVerdict>): string {
  return verdict instanceof Promise ? 'waits' : summary(verdict)
}

describe('a token', () => {
  it('is accepted at once when its key is at hand, with all that it says', async () => {
    const service = await readyService()
    const token = issuer.mint({ sub: 'user-1', scope: 'a b' })
    const verdict = service.verify(token, requirements())
    expect(verdict).toMatchObject({
      kind: 'accepted',
      header: { alg: 'RS256', kid: 'rs256-1' },
      payload: { sub: 'user-1', scope: 'a b' },
      signature: Buffer.from(token.split('.')[2]!, 'base64url').toString('base64'),
    })
  })

  it('waits for the first key set and for nothing after it', async () => {
    const service = makeService()
    const asked = requirements()
    const first = service.verify(issuer.mint(), asked)
    expect(first).toBeInstanceOf(Promise)
    expect(summary(await first)).toBe('accepted')
    expect(atOnce(service.verify(issuer.mint({ sub: 'b' }), asked))).toBe('accepted')
    expect(issuer.requests).toBe(1)
  })

  it('is refused for what it is', async () => {
    const service = await readyService()
    const asked = requirements({ audiences: ['api'] })
    const verdicts = (token: string): string => atOnce(service.verify(token, asked))
    expect(verdicts('garbage')).toBe('401 ERR_NGROK_3401 ERR_NGROK_3416 not three base64url parts')
    expect(verdicts(issuer.mint({ aud: 'api' }, { tampered: true }))).toMatch(/^401 .*signature/)
    expect(verdicts(issuer.mint({ aud: 'api' }, { foreignKey: true }))).toMatch(/^401 .*signature/)
    expect(verdicts(issuer.mint({ aud: 'api' }, { lifetimeSeconds: -120 }))).toMatch(/^401 .*expired/)
    expect(verdicts(issuer.mint({ aud: 'api', iss: 'https://evil.test/' }))).toBe(
      '403 ERR_NGROK_3403 ERR_NGROK_3403 the issuer is not allowed',
    )
    expect(verdicts(issuer.mint({ aud: 'other' }))).toMatch(/^403 ERR_NGROK_3403/)
    expect(verdicts(mintUnsigned({ alg: 'none', kid: 'rs256-1' }, { iss: issuer.issuer }))).toMatch(/algorithm is not/)
    expect(verdicts(issuer.mint({ aud: 'api' }))).toBe('accepted')
    expect(service.counters).toMatchObject({ accepted: 1, refused: 7, remembered: 0 })
  })

  it('never gets HMAC past a public key (T-50, CVE-2016-10555)', async () => {
    const service = await readyService()
    const claims = { iss: issuer.issuer, exp: 4_102_444_800 }
    const { n } = issuer.jwks.keys[0] as { n: string }
    const forged = mintHmac({ kid: 'rs256-1' }, claims, Buffer.from(n, 'base64url'))
    expect(atOnce(service.verify(forged, requirements()))).toMatch(/algorithm is not allowed/)
    const loose = requirements({ algorithms: ['RS256', 'HS256'] })
    expect(atOnce(service.verify(forged, loose))).toMatch(/^401 .*does not fit the key/)
  })

  it('of an algorithm that its key is not for is refused without a fetch', async () => {
    const service = await readyService()
    const token = issuer.mint({}, { algorithm: 'ES256', header: { kid: 'rs256-1' } })
    expect(atOnce(service.verify(token, requirements()))).toMatch(/^401/)
    expect(issuer.requests).toBe(1)
  })

  it('without kid is tried against every key', async () => {
    const service = await readyService()
    const token = issuer.mint({}, { algorithm: 'ES256', header: { kid: undefined } })
    expect(atOnce(service.verify(token, requirements()))).toBe('accepted')
  })

  it('finds its key in any of several sets, also while another is out of reach', async () => {
    const service = await readyService()
    const dead = 'http://127.0.0.1:1/jwks'
    const asked = requirements({ keySetUrls: [dead, issuer.jwksUrl] })
    expect(summary(await service.verify(issuer.mint(), asked))).toBe('accepted')
    const unknown = await service.verify(issuer.mint({}, { header: { kid: 'x' } }), asked)
    expect(summary(unknown)).toMatch(/^503 ERR_NGROK_3422 .*no usable key set/)
  })

  it('is refused with 503 while there are no keys at all, never let through', async () => {
    await issuer.stop()
    const service = makeService()
    service.watch([issuer.jwksUrl])
    await service.whenReady()
    expect(atOnce(service.verify(issuer.mint(), requirements()))).toMatch(/^503 ERR_NGROK_3422/) // no waiting in the back-off
    expect(summary(await service.verify(issuer.mint(), requirements({ keySetUrls: [] })))).toMatch(/^503/)
  })

  it('is not fetched for over plain http beyond loopback', async () => {
    const service = makeService()
    const verdict = await service.verify(issuer.mint(), requirements({ keySetUrls: ['http://id.example/jwks'] }))
    expect(summary(verdict)).toMatch(/^503 .*plain http/)
  })
})

describe('a remembered token', () => {
  it('is answered from memory, for equal requirements of another policy object, too', async () => {
    const service = await readyService()
    const token = issuer.mint()
    const first = service.verify(token, requirements())
    expect(service.verify(token, requirements())).toBe(first)
    expect(service.counters).toMatchObject({ accepted: 2, remembered: 1, rememberedTokens: 1 })
  })

  it('ends with its exp, and does not begin before its nbf', async () => {
    let wallMs = Date.now()
    const service = await readyService({
      leewayMs: 0,
      clock: { wallMs: () => wallMs, monotonicMs: () => performance.now() },
    })
    const asked = requirements()
    const token = issuer.mint({}, { lifetimeSeconds: 60 })
    expect(atOnce(service.verify(token, asked))).toBe('accepted')
    wallMs += 58_000
    expect(atOnce(service.verify(token, asked))).toBe('accepted')
    wallMs += 3000
    expect(atOnce(service.verify(token, asked))).toMatch(/expired/)
    expect(service.counters.rememberedTokens).toBe(0)
    wallMs -= 3_600_000
    expect(atOnce(service.verify(token, asked))).toMatch(/not valid yet/)
  })

  it('survives a refresh that brings the same keys, and ends when its key leaves the set', async () => {
    const service = await readyService({ refreshMs: 60 })
    const asked = requirements()
    const token = issuer.mint()
    void service.verify(token, asked)
    const { requests } = issuer
    while (issuer.requests < requests + 2) await new Promise((resolve) => setTimeout(resolve, 10))
    void service.verify(token, asked)
    expect(service.counters.remembered).toBe(1)
    issuer.rotate()
    const after = issuer.requests
    while (issuer.requests < after + 2) await new Promise((resolve) => setTimeout(resolve, 10))
    expect(summary(await service.verify(token, asked))).toMatch(/^401/)
  })

  it('is not remembered when the cache is off', async () => {
    const service = await readyService({ cacheEntries: 0 })
    const token = issuer.mint()
    void service.verify(token, requirements())
    expect(atOnce(service.verify(token, requirements()))).toBe('accepted')
    expect(service.counters).toMatchObject({ remembered: 0, rememberedTokens: 0 })
  })

  it('stays bounded over any number of requirements', async () => {
    const service = await readyService({ cacheEntries: 50 })
    const token = issuer.mint()
    const fixed = requirements()
    for (let index = 0; index < 600; index++) {
      const asked = requirements({ issuers: [issuer.issuer, `https://tenant-${index}.test/`] })
      expect(atOnce(service.verify(token, asked))).toBe('accepted')
      expect(atOnce(service.verify(token, fixed))).toBe('accepted')
    }
    expect(service.counters.rememberedTokens).toBeLessThanOrEqual(50)
    expect(service.counters.remembered).toBeGreaterThan(500) // the fixed one mostly
  })
})

describe('key sets over time', () => {
  it('are kept on disk and used after a restart while the key service is down (O-29)', async () => {
    const token = issuer.mint()
    const first = await readyService({ stateDirectory: folder })
    expect(atOnce(first.verify(token, requirements()))).toBe('accepted')
    while (!readdirSync(folder, { recursive: true }).some((name) => String(name).endsWith('.json'))) {
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    await first.close()
    await issuer.stop()

    const second = await readyService({ stateDirectory: folder })
    expect(atOnce(second.verify(token, requirements()))).toBe('accepted')
    expect(atOnce(second.verify(issuer.mint({}, { foreignKey: true }), requirements()))).toMatch(/^401/)
    const kept = readFileSync(join(folder, 'jwks', readdirSync(join(folder, 'jwks'))[0]!), 'utf8')
    expect(kept).not.toMatch(/"d"/)

    const tooOld = makeService({
      stateDirectory: folder,
      staleMs: 60_000,
      clock: { wallMs: () => Date.now() + 61_000, monotonicMs: () => performance.now() },
    })
    tooOld.watch([issuer.jwksUrl])
    await tooOld.whenReady()
    expect(atOnce(tooOld.verify(token, requirements()))).toMatch(/^503/)
  })

  it('come from disk after a second when the network only hangs', async () => {
    const first = await readyService({ stateDirectory: folder })
    await new Promise((resolve) => setTimeout(resolve, 100))
    await first.close()
    issuer.mode = { kind: 'slow', delayMs: 60_000 }
    const second = makeService({ stateDirectory: folder })
    // the network has not answered when the test's own time is over
    expect(summary(await second.verify(issuer.mint(), requirements()))).toBe('accepted')
  })

  it('have one fetch in flight, however many requests wait', async () => {
    issuer.mode = { kind: 'slow', delayMs: 100 }
    const service = makeService()
    const verdicts = await Promise.all(Array.from({ length: 200 }, () => service.verify(issuer.mint(), requirements())))
    expect(verdicts.every((verdict) => verdict.kind === 'accepted')).toBe(true)
    expect(issuer.requests).toBe(1)
  })

  it('are fetched once per cool-down for unknown keys (T-56)', async () => {
    let offsetMs = 0
    const clock = { wallMs: () => Date.now(), monotonicMs: () => performance.now() + offsetMs }
    const service = await readyService({ unknownKidCooldownMs: 30_000, clock })
    const asked = requirements()
    const unknown = (): string => issuer.mint({}, { header: { kid: `x-${Math.random()}` } })
    expect(summary(await service.verify(unknown(), asked))).toMatch(/^401 .*no key fits/)
    for (let index = 0; index < 20; index++) expect(atOnce(service.verify(unknown(), asked))).toMatch(/^401/)
    expect(issuer.requests).toBe(2)
    offsetMs += 30_001
    await service.verify(unknown(), asked)
    expect(issuer.requests).toBe(3)
  })

  it('of a new list begin and of an old one end, those in both go on', async () => {
    const service = await readyService()
    const other = await startTokenIssuer()
    service.watch([issuer.jwksUrl, other.jwksUrl])
    await service.whenReady()
    expect([issuer.requests, other.requests]).toEqual([1, 1])
    service.watch([other.jwksUrl])
    expect(service.counters.keySets.map((keySet) => keySet.url)).toEqual([other.jwksUrl])
    await other.stop()
  })

  it('that no policy names literally are bounded', async () => {
    const service = makeService({ fetchTimeoutMs: 200 })
    for (let index = 0; index < 100; index++) {
      void service.verify(issuer.mint(), requirements({ keySetUrls: [`${issuer.jwksUrl}?tenant=${index}`] }))
    }
    expect(service.counters.keySets.length).toBe(64)
  })

  it('leave no token, no key and no query in the log, and say once what they skip', async () => {
    const lines: string[] = []
    const log = (fields: object, message: string): void => void lines.push(JSON.stringify({ ...fields, message }))
    const odd = JSON.stringify({ keys: [...issuer.jwks.keys, { kty: 'AKP', kid: 'odd' }] })
    issuer.mode = { kind: 'garbage', body: odd }
    const url = `${issuer.jwksUrl}?key=secret-of-the-url`
    const service = makeService({ refreshMs: 40, logger: { info: log, warn: log } })
    service.watch([url])
    const asked = requirements({ keySetUrls: [url] })
    const token = issuer.mint({}, { tampered: true })
    while (issuer.requests < 4) {
      expect(summary(await service.verify(token, asked))).toMatch(/^401/)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    issuer.mode = { kind: 'status', status: 500 }
    while (lines.length < 2) await new Promise((resolve) => setTimeout(resolve, 10))
    expect(lines.filter((line) => line.includes('not used')).length).toBe(1)
    expect(lines[0]).toMatch(/"skipped":\[\{"index":3,"keyId":"odd","reason":"unknown key type or curve"\}\]/)
    expect(lines.join()).not.toMatch(/secret-of-the-url|eyJ/)
  })

  it('are void once the service is closed', async () => {
    const service = await readyService()
    const asked = requirements()
    const token = issuer.mint()
    expect(atOnce(service.verify(token, asked))).toBe('accepted')
    await service.close()
    expect(atOnce(service.verify(token, asked))).toMatch(/^503/)
  })
})

describe('slow signatures', () => {
  it('go to a thread, fast ones do not', async () => {
    const asked: string[] = []
    const service = await readyService({
      threads: {
        verifySignature(algorithm) {
          asked.push(algorithm)
          return Promise.resolve(true)
        },
      },
    })
    const waits = service.verify(issuer.mint({}, { algorithm: 'ES384' }), requirements())
    expect(waits).toBeInstanceOf(Promise)
    expect(summary(await waits)).toBe('accepted')
    expect(atOnce(service.verify(issuer.mint(), requirements()))).toBe('accepted')
    expect(asked).toEqual(['ES384'])
  })

  it('are refused with 503 when no thread takes them: the loop belongs to the others', async () => {
    const full = await readyService({ threads: { verifySignature: () => undefined } })
    const slow = issuer.mint({}, { algorithm: 'ES384' })
    expect(atOnce(full.verify(slow, requirements()))).toMatch(/^503 .*too many signatures wait/)
    expect(atOnce(full.verify(issuer.mint(), requirements()))).toBe('accepted')
  })

  it('are checked on the loop when the thread dies, or there are no threads', async () => {
    const dying = await readyService({ threads: { verifySignature: () => Promise.reject(new Error('gone')) } })
    expect(summary(await dying.verify(issuer.mint({}, { algorithm: 'ES384' }), requirements()))).toBe('accepted')
    const forged = issuer.mint({}, { algorithm: 'ES384', foreignKey: true })
    expect(summary(await dying.verify(forged, requirements()))).toMatch(/^401/)
    const alone = await readyService()
    expect(atOnce(alone.verify(issuer.mint({}, { algorithm: 'ES384' }), requirements()))).toBe('accepted')
  })

  it('that a thread finds bad are refused', async () => {
    const service = await readyService({ threads: { verifySignature: () => Promise.resolve(false) } })
    const verdict = await service.verify(issuer.mint({}, { algorithm: 'ES384' }), requirements())
    expect(summary(verdict)).toMatch(/^401/)
  })
})
