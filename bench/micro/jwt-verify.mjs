/**
 * Where a signature is best checked, and what a token costs: node:crypto on the loop, WebCrypto through jose, a piscina
 * thread. Run `npm run build` first, then `node bench/micro/jwt-verify.mjs [--json FILE]`.
 *
 * Two numbers each: microseconds from call to answer, one after the other; and microseconds that the event loop was busy
 * per check, with 16 in flight (what a busy gateway pays).
 */
import { constants, createSecretKey, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { createHmac } from 'node:crypto'
import { createServer } from 'node:http'
import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { compactVerify, importJWK } from 'jose'
import { JwtService } from '../../dist/jwt/service.js'
import { checkSignature } from '../../dist/jwt/signature.js'
import { ThreadPool } from '../../dist/threads/pool.js'

const IN_FLIGHT = 16
const KINDS = [
  ['RS256', 'rsa', { modulusLength: 2048 }],
  ['RS256', 'rsa', { modulusLength: 3072 }],
  ['RS256', 'rsa', { modulusLength: 4096 }],
  ['RS256', 'rsa', { modulusLength: 8192 }],
  ['PS256', 'rsa', { modulusLength: 2048 }],
  ['ES256', 'ec', { namedCurve: 'P-256' }],
  ['ES384', 'ec', { namedCurve: 'P-384' }],
  ['ES512', 'ec', { namedCurve: 'P-521' }],
  ['EdDSA', 'ed25519', {}],
  ['HS256', 'secret', {}],
]

/** Median of five rounds of about 120 ms each, after a warm-up. */
async function measure(run, inFlight) {
  await round(run, inFlight, 50)
  const rounds = []
  for (let index = 0; index < 5; index++) rounds.push(await round(run, inFlight, 120))
  const median = (pick) => rounds.map(pick).sort((a, b) => a - b)[2]
  return { wallUs: median((it) => it.wallUs), loopUs: median((it) => it.loopUs) }
}

async function round(run, inFlight, durationMs) {
  let done = 0
  const before = performance.eventLoopUtilization()
  const startedAt = performance.now()
  const lane = async () => {
    // a macrotask now and then, so that the loop's own accounting sees idle time
    while (performance.now() - startedAt < durationMs) {
      await run()
      done++
    }
  }
  await Promise.all(Array.from({ length: inFlight }, lane))
  const elapsedMs = performance.now() - startedAt
  const { active } = performance.eventLoopUtilization(before)
  return { wallUs: (elapsedMs * 1000) / done, loopUs: (Math.min(active, elapsedMs) * 1000) / done }
}

/** Synchronous work needs no lanes: it is loop time. CPU time, so that a busy machine does not count. */
function measureSync(run) {
  const warmedAt = performance.now() + 100
  while (performance.now() < warmedAt) run()
  const rounds = []
  for (let index = 0; index < 5; index++) {
    let done = 0
    const before = process.cpuUsage()
    const startedAt = performance.now()
    while (performance.now() - startedAt < 120) {
      for (let repeat = 0; repeat < 20; repeat++) run()
      done += 20
    }
    const { user, system } = process.cpuUsage(before)
    rounds.push((user + system) / done)
  }
  return rounds.sort((a, b) => a - b)[2]
}

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
const rows = []
const threads = new ThreadPool({ maxThreads: 1 })

for (const [algorithm, type, options] of KINDS) {
  const pair = type === 'secret' ? undefined : generateKeyPairSync(type, options)
  const key = pair?.publicKey ?? createSecretKey(randomBytes(32))
  const name = options.modulusLength === undefined ? algorithm : `${algorithm} ${options.modulusLength}`
  const input = Buffer.from(`${encode({ alg: algorithm, kid: 'k' })}.${encode({ sub: 'x'.repeat(260) })}`)
  const hash = algorithm === 'EdDSA' ? null : `sha${algorithm.slice(2)}`
  const signature =
    pair === undefined
      ? createHmac('sha256', key).update(input).digest()
      : sign(hash, input, {
          key: pair.privateKey,
          ...(algorithm === 'PS256' && { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }),
          ...(type === 'ec' && { dsaEncoding: 'ieee-p1363' }),
        })
  const token = `${input}.${signature.toString('base64url')}`
  const imported = await importJWK({ ...key.export({ format: 'jwk' }), alg: algorithm }, algorithm)
  const sync = measureSync(() => {
    if (!checkSignature(algorithm, key, input, signature)) throw new Error(name)
  })
  const jose = await measure(() => compactVerify(token, imported), 1)
  const joseBusy = await measure(() => compactVerify(token, imported), IN_FLIGHT)
  const thread = await measure(() => threads.verifySignature(algorithm, key, input, signature), 1)
  const threadBusy = await measure(() => threads.verifySignature(algorithm, key, input, signature), IN_FLIGHT)
  rows.push({
    name,
    syncUs: sync,
    joseUs: jose.wallUs,
    joseLoopUs: joseBusy.loopUs,
    threadUs: thread.wallUs,
    threadLoopUs: threadBusy.loopUs,
  })
  const numbers = [sync, jose.wallUs, joseBusy.loopUs, thread.wallUs, threadBusy.loopUs]
  console.log(name.padEnd(12), numbers.map((it) => it.toFixed(1).padStart(9)).join(''))
}
await threads.close()

// A whole token through the service: seen for the first time, and remembered.
const pair = generateKeyPairSync('rsa', { modulusLength: 2048 })
const jwks = JSON.stringify({ keys: [{ ...pair.publicKey.export({ format: 'jwk' }), kid: 'k', alg: 'RS256' }] })
const server = createServer((_request, response) => response.end(jwks))
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
const url = `http://127.0.0.1:${server.address().port}/jwks`
const requirements = { issuers: ['https://issuer.test/'], audiences: ['api'], algorithms: ['RS256'], keySetUrls: [url] }
const claims = { iss: 'https://issuer.test/', aud: 'api', scope: 'read write', exp: 4102444800, iat: 1767225540 }
// a thousand callers, each with a string of its own for each request, as a head brings it: its hash is not known yet
const lines = Array.from({ length: 1000 }, (_, index) => {
  const head = `${encode({ alg: 'RS256', kid: 'k', typ: 'JWT' })}.${encode({ ...claims, sub: `user-${index}` })}`
  const signature = sign('sha256', Buffer.from(head), pair.privateKey).toString('base64url')
  return Buffer.from(`authorization: Bearer ${head}.${signature}\r\n`)
})
let next = 0
for (const [name, cacheEntries] of [
  ['token, first time', 0],
  ['token, remembered', 10_000],
]) {
  const service = new JwtService({ cacheEntries })
  service.watch([url])
  await service.whenReady()
  const us = measureSync(() => {
    const text = lines[next++ % lines.length].latin1Slice()
    if (service.verify(text.slice(22, -2), requirements).kind !== 'accepted') throw new Error(name)
  })
  rows.push({ name, syncUs: us })
  console.log(name.padEnd(12), us.toFixed(2))
  await service.close()
}
server.close()
server.closeAllConnections()
console.log(`node ${process.version}, ${cpus().length} x ${cpus()[0]?.model}`)
const at = process.argv.indexOf('--json')
if (at !== -1) writeFileSync(process.argv[at + 1], `${JSON.stringify(rows, null, 2)}\n`)
