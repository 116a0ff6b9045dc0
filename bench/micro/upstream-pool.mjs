/**
 * CPU per request of the two upstream pools, in alternating rounds: node bench/micro/upstream-pool.mjs [rounds] [requests] [--tls]
 *
 * One small GET after the other on 32 lanes against a server in another process; no front end, so the figures are the
 * pool's own share. CPU is this process's user and system time. Prints each round, the medians, and the ratio within
 * a round. With --tls both speak TLS with the server, on connections that are kept. `npm run build` first.
 */
import { execFileSync, fork } from 'node:child_process'
import { createServer } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { fileURLToPath } from 'node:url'

const LANES = 32
const HEAD =
  'GET /search?q=gateway&page=2 HTTP/1.1\r\nhost: bench.test\r\nuser-agent: bench/1\r\naccept: */*\r\n' +
  'accept-encoding: gzip\r\nx-forwarded-for: 192.0.2.1\r\nx-request-id: 0123456789abcdef\r\nvia: 1.1 sallyport\r\n'
const BODY = 'x'.repeat(200)

const isSecure = process.argv.includes('--tls')

/** Key and certificate in one PEM text. */
function makePem() {
  const words =
    'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=up -addext subjectAltName=IP:127.0.0.1'
  return execFileSync('openssl', [...words.split(' '), '-keyout', '-', '-out', '-'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
}

if (process.argv[2] === 'serve') {
  const answer = (_request, response) => {
    response.setHeader('content-type', 'text/plain')
    response.end(BODY)
  }
  const { PEM } = process.env
  const server =
    PEM === undefined
      ? createServer({ keepAliveTimeout: 60_000 }, answer)
      : createTlsServer({ keepAliveTimeout: 60_000, key: PEM, cert: PEM }, answer)
  server.listen(0, '127.0.0.1', () => process.send(server.address().port))
  process.on('disconnect', () => process.exit(0))
} else {
  const [rounds = 6, requests = 20_000] = process.argv
    .slice(2)
    .filter((word) => !word.startsWith('-'))
    .map(Number)
  const pem = isSecure ? makePem().toString() : undefined
  const { NativePool } = await import('../../dist/upstream/native-pool.js')
  const { UndiciPool } = await import('../../dist/upstream/pool.js')
  const env = pem === undefined ? process.env : { ...process.env, PEM: pem }
  const backend = fork(fileURLToPath(import.meta.url), ['serve'], { env })
  const port = await new Promise((resolve) => {
    backend.once('message', resolve)
  })
  const target = {
    name: `127.0.0.1:${port}`,
    protocol: isSecure ? 'https' : 'http',
    tls: isSecure ? { verify: true, ca: pem.slice(pem.indexOf('-----BEGIN CERTIFICATE')) } : undefined,
    host: '127.0.0.1',
    port,
    timers: { connectMs: 3_000, queueMs: 2_000, firstByteMs: 60_000, idleMs: 60_000, keepAliveMs: 60_000 },
    maxConnections: 64,
    maxQueued: 64,
  }
  const pools = {
    native: new NativePool({ bufferBytes: 262_144 }),
    undici: new UndiciPool({ bufferBytes: 262_144 }),
  }
  const request = { head: HEAD, bodyLength: 0, body: undefined }
  /** Microseconds of CPU per request. */
  const measure = (pool) =>
    new Promise((resolve, reject) => {
      let begun = 0
      let done = 0
      const before = process.cpuUsage()
      const next = () => {
        if (begun++ >= requests) return
        let bytes = 0
        pool.send(target, request, {
          onUpstreamHead: () => {},
          onUpstreamData: (chunk) => {
            bytes += chunk.length
          },
          onUpstreamAnswer(_status, _head, _bodyLength, _contentLength, body) {
            bytes = body.length
            this.onUpstreamEnd()
          },
          onUpstreamEnd: () => {
            if (bytes !== BODY.length) reject(new Error(`${bytes} bytes of body`))
            if (++done === requests) {
              const used = process.cpuUsage(before)
              resolve((used.user + used.system) / requests)
            } else next()
          },
          onUpstreamFailure: (failure) => reject(new Error(`${failure.reason}: ${failure.detail}`)),
          onUpstreamWritable: () => {},
        })
      }
      for (let lane = 0; lane < LANES; lane++) next()
    })
  const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]
  const results = { native: [], undici: [] }
  for (const pool of Object.values(pools)) await measure(pool)
  for (let round = 0; round < rounds; round++) {
    const names = round % 2 === 0 ? ['native', 'undici'] : ['undici', 'native']
    for (const name of names) results[name].push(await measure(pools[name]))
    const [native, undici] = [results.native.at(-1), results.undici.at(-1)]
    console.log(
      `round ${round + 1}: native ${native.toFixed(1)}, undici ${undici.toFixed(1)} µs of CPU a request, ratio ${(native / undici).toFixed(2)}`,
    )
  }
  const ratios = results.native.map((native, index) => native / results.undici[index])
  console.log(
    `median: native ${median(results.native).toFixed(1)}, undici ${median(results.undici).toFixed(1)} µs, ratio ${median(ratios).toFixed(2)} (${rounds} rounds of ${requests} requests, ${LANES} lanes)`,
  )
  await Promise.all(Object.values(pools).map((pool) => pool.close()))
  backend.disconnect()
}
