/**
 * Other people's cases for tokens and keys: jwt-attacks (tokens, key sets), Wycheproof, the RFCs.
 * The scenarios of the key set service are in scenarios.test.ts.
 */
import { createSecretKey } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Malformed, parseJws } from '../../../src/jwt/compact.ts'
import { tokenFromHeader } from '../../../src/jwt/extract.ts'
import { importKey, importKeySet, thumbprint } from '../../../src/jwt/jwk.ts'
import { KeyIndex } from '../../../src/jwt/key-index.ts'
import { JwtService, type JwtRequirements } from '../../../src/jwt/service.ts'
import { checkSignature, isSignatureAlgorithm } from '../../../src/jwt/signature.ts'
import { isSharedPresent, readCorpus, Tally } from './corpora.ts'

type Json = Record<string, unknown>

interface TokenConfig {
  readonly issuer: string
  readonly audience: readonly string[]
  readonly algorithms: readonly string[]
  readonly leeway_s: number
  readonly clock: number
  readonly max_age_s?: number
}

interface TokenCase {
  readonly id: string
  readonly group: string
  readonly token?: string
  readonly headers?: readonly (readonly [string, string])[]
  readonly expect: 'accept' | 'reject' | 'either'
  readonly status?: readonly number[]
  readonly noFetch?: boolean
  readonly config?: Partial<TokenConfig>
}

interface KeySetCase {
  readonly id: string
  readonly jwks: unknown
  readonly expect: 'skip' | 'either' | 'reject-all' | 'accept-rsa1'
  readonly tokens: Record<string, string>
}

interface JwsCase {
  readonly id: string
  readonly jwk?: Json
  readonly jwks?: Json
  readonly jws: unknown
  readonly expect: string
  readonly alg?: string | readonly string[]
}

interface PrimitiveCase {
  readonly id: string
  readonly alg: string
  readonly key?: string
  readonly jwk?: Json
  readonly msg: string
  readonly sig: string
  readonly expect: 'valid' | 'invalid' | 'acceptable'
}

const tokens = readCorpus<{ config: TokenConfig; jwks: unknown; cases: TokenCase[] }>('jwt-attacks', 'tokens.json')
const keySets = readCorpus<{ config: TokenConfig; cases: KeySetCase[] }>('jwt-attacks', 'keysets.json')
const wycheproofJws = readCorpus<{ cases: JwsCase[] }>('jwt-wycheproof', 'jws.json')
const primitives = readCorpus<{ keys: Record<string, Json>; cases: PrimitiveCase[] }>(
  'jwt-wycheproof',
  'primitives.json',
)
const rfcJws = readCorpus<{ cases: JwsCase[] }>('jwt-rfc', 'jws.json')
const rfcJwk = readCorpus<{ cases: { id: string; group: string; jwk: Json; expect: string }[] }>('jwt-rfc', 'jwk.json')

const tally = new Tally()

/** Serves one document as the key set of the issuer; every request of the process is written down. */
let served: unknown
const asked: string[] = []
const server = createServer((request, response) => {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(served))
  asked.push(request.url ?? '')
})
let url = ''

beforeAll(async () => {
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`
})

afterAll(() => {
  server.close()
  server.closeAllConnections()
  for (const failure of tally.failures) console.log(`FAILED ${failure}`)
  console.log(`${tally.passed} passed, ${tally.failures.length} failed, ${tally.skipped} skipped`)
})

function suite(name: string, corpus: unknown, floor: number, run: () => Promise<number>): void {
  describe(name, () => {
    if (corpus === undefined) {
      it(`is skipped: the corpus is not beside the checkout`, (context) => {
        console.log(`skipped: ${name}: the corpus is not beside the checkout`)
        if (process.env['CI'] === 'true' && isSharedPresent) expect.fail(`${name} must be present`)
        context.skip()
      })
      return
    }
    it(`meets every case, at least ${floor}`, async () => {
      const before = tally.failures.length
      const cases = await run()
      expect(tally.failures.slice(before)).toEqual([])
      expect(cases).toBeGreaterThanOrEqual(floor)
    })
  })
}

/** Every case runs at the clock of the corpus: what was not valid yet when it was made would be by now. */
function serviceFor(config: TokenConfig): { service: JwtService; requirements: JwtRequirements } {
  const service = new JwtService({
    leewayMs: config.leeway_s * 1000,
    clock: { wallMs: () => config.clock * 1000, monotonicMs: () => performance.now() },
  })
  const requirements: JwtRequirements = {
    issuers: [config.issuer],
    audiences: config.audience,
    algorithms: config.algorithms,
    keySetUrls: [url],
    ...(config.max_age_s !== undefined && { maximumAgeMs: config.max_age_s * 1000 }),
  }
  service.watch([url])
  return { service, requirements }
}

suite('jwt-attacks tokens', tokens, 241, async () => {
  const { config, jwks, cases } = tokens!
  served = jwks
  const outside: string[] = []
  const realFetch = globalThis.fetch
  globalThis.fetch = (input, init) => {
    if (input !== url) outside.push(String(input))
    return realFetch(input, init)
  }
  try {
    for (const test of cases) {
      const name = `jwt-attacks/${test.id}`
      const { service, requirements } = serviceFor({ ...config, ...test.config })
      await service.whenReady()
      const fetchesBefore = asked.length
      const status = await statusOf(test, service, requirements)
      const problem =
        test.noFetch === true && (outside.length > 0 || asked.length > fetchesBefore)
          ? `made a request to ${outside.join(', ') || url}`
          : test.expect === 'accept' && status !== 200
            ? `is refused with ${status}`
            : test.expect === 'reject' && !(test.status ?? [401]).includes(status)
              ? `is answered ${status}`
              : undefined
      tally.record(name, problem, `status ${status}`)
      await service.close()
    }
    expect(({} as Json)['admin']).toBeUndefined() // payload/proto
  } finally {
    globalThis.fetch = realFetch
  }
  expect(tally.stale('jwt-attacks/').filter((name) => !name.startsWith('jwt-attacks/jwk'))).toEqual([])
  return cases.length
})

/** The status that a jwt-validation action with `Authorization` and `Bearer ` answers. */
async function statusOf(test: TokenCase, service: JwtService, requirements: JwtRequirements): Promise<number> {
  const headers = test.headers ?? [['authorization', `Bearer ${test.token}`]]
  const lookup = {
    // as the front end hands them on: optional white space at the ends is not part of a value
    all: (wanted: string) =>
      headers
        .filter(([name]) => name.toLowerCase() === wanted)
        .map(([, value]) => value.replace(/^[ \t]+|[ \t]+$/g, '')),
  }
  const extracted = tokenFromHeader(lookup, 'Authorization', 'Bearer ')
  if (extracted.kind === 'absent') return 401
  const first = await service.verify(extracted.token, requirements)
  const second = await service.verify(extracted.token, requirements) // from memory, if at all
  expect(second.kind, test.id).toBe(first.kind)
  return first.kind === 'accepted' ? 200 : first.status
}

suite('jwt-attacks key sets', keySets, 37, async () => {
  const { config, cases } = keySets!
  for (const test of cases) {
    served = test.jwks
    const { service, requirements } = serviceFor(config)
    await service.whenReady()
    const statuses: Record<string, number> = {}
    for (const [key, token] of Object.entries(test.tokens)) {
      const verdict = await service.verify(token, requirements)
      statuses[key] = verdict.kind === 'accepted' ? 200 : verdict.status
    }
    await service.close()
    const { rsa1, ec1 } = statuses
    const problem =
      ec1 !== undefined && ec1 !== 200
        ? `the good key was dropped (${ec1})`
        : test.expect === 'skip' && rsa1 !== 401
          ? `the odd key: ${rsa1}`
          : test.expect === 'reject-all' && rsa1 !== 401 && rsa1 !== 503
            ? `answered ${rsa1}`
            : test.expect === 'accept-rsa1' && rsa1 !== 200
              ? `refused with ${rsa1}`
              : undefined
    tally.record(`jwt-attacks/${test.id}`, problem, `status ${rsa1}`)
  }
  return cases.length
})

/** What the signature layer says: the key decides, the token only chooses among keys. */
async function acceptsSignature(keys: unknown, jws: unknown): Promise<boolean> {
  if (typeof jws !== 'string') return false // JSON serialisation cannot stand in an Authorization field
  const imported = await importKeySet({ keys }, 'accept').catch(() => undefined)
  const parsed = parseJws(jws)
  if (imported === undefined || parsed instanceof Malformed || !isSignatureAlgorithm(parsed.algorithm)) return false
  const { algorithm } = parsed
  return new KeyIndex(imported.keys)
    .candidates(parsed.keyId)
    .some(
      (key) =>
        key.algorithms.has(algorithm) && checkSignature(algorithm, key.object, parsed.signingInput, parsed.signature),
    )
}

suite('jwt-wycheproof jws', wycheproofJws, 284, async () => {
  for (const test of wycheproofJws!.cases) {
    const keys = test.jwks === undefined ? [test.jwk] : test.jwks['keys']
    const accepted = await acceptsSignature(keys, test.jws)
    const problem = accepted === (test.expect === 'valid') ? undefined : accepted ? 'is accepted' : 'is refused'
    tally.record(`jwt-wycheproof/${test.id}`, problem)
  }
  return wycheproofJws!.cases.length
})

suite('jwt-wycheproof primitives', primitives, 1535, async () => {
  for (const test of primitives!.cases) {
    const jwk = test.jwk ?? primitives!.keys[test.key!]!
    const { alg } = test
    // The suite tests HMAC with keys shorter than RFC 7518 §3.2 allows; the check itself must be right for them too.
    const secret = jwk['kty'] === 'oct' ? createSecretKey(Buffer.from(String(jwk['k']), 'base64url')) : undefined
    const key = secret === undefined ? await importKey({ ...jwk, alg }) : { object: secret }
    const message = Buffer.from(test.msg, 'hex')
    const signature = Buffer.from(test.sig, 'hex')
    const good =
      typeof key !== 'string' && isSignatureAlgorithm(alg) && checkSignature(alg, key.object, message, signature)
    const problem =
      test.expect === 'acceptable' || good === (test.expect === 'valid')
        ? undefined
        : `${good ? 'is accepted' : 'is refused'}${typeof key === 'string' ? ` (${key})` : ''}`
    tally.record(`jwt-wycheproof/${test.id}`, problem)
  }
  return primitives!.cases.length
})

suite('jwt-rfc jws', rfcJws, 24, async () => {
  for (const test of rfcJws!.cases) {
    const accepted = await acceptsSignature([test.jwk], test.jws)
    const problem = accepted === (test.expect === 'valid') ? undefined : accepted ? 'is accepted' : 'is refused'
    tally.record(`jwt-rfc/${test.id}`, problem)
  }
  return rfcJws!.cases.length
})

suite('jwt-rfc jwk', rfcJwk, 5, async () => {
  for (const test of rfcJwk!.cases) {
    const name = `jwt-rfc/${test.id}`
    if (test.group === 'thumbprint') {
      const expected = /thumbprint \(SHA-256\) (\S+)/.exec(test.expect)?.[1]
      const actual = await thumbprint(test.jwk as never)
      tally.record(name, actual === expected ? undefined : `thumbprint ${actual}`)
      continue
    }
    // "a private or symmetric key must not be taken from a remote key set"
    const fromRemote = await importKey(test.jwk)
    tally.record(name, typeof fromRemote === 'string' ? undefined : 'is taken from a key set')
  }
  return rfcJwk!.cases.length
})
