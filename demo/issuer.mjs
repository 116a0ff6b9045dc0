/**
 * A token issuer for the demo: keys made at start, their public halves at /.well-known/jwks.json, tokens at /token.
 * Never use it for anything else: it gives a token to whoever asks.
 *
 * GET /token?sub=ann&alg=RS256|ES256&iss=…&aud=… → the token as text.
 */
import { createServer } from 'node:http'
import { exportJWK, generateKeyPair, SignJWT } from 'jose'

const [port, issuer, audience] = process.argv.slice(2)

const keys = new Map()
for (const alg of ['RS256', 'ES256']) {
  const { publicKey, privateKey } = await generateKeyPair(alg)
  const kid = `demo-${alg.toLowerCase()}`
  keys.set(alg, { kid, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' } })
}

const server = createServer((request, response) => {
  answer(new URL(request.url, 'http://issuer')).then(
    ({ type, body }) => response.writeHead(200, { 'content-type': type }).end(body),
    (error) => response.writeHead(400, { 'content-type': 'text/plain' }).end(`${error.message}\n`),
  )
})

async function answer(url) {
  if (url.pathname === '/.well-known/jwks.json') {
    return { type: 'application/json', body: JSON.stringify({ keys: [...keys.values()].map(({ jwk }) => jwk) }) }
  }
  if (url.pathname !== '/token') throw new Error('there is /.well-known/jwks.json and /token')
  const alg = url.searchParams.get('alg') ?? 'RS256'
  const key = keys.get(alg)
  if (key === undefined) throw new Error(`no key for ${alg}`)
  const token = await new SignJWT({ scope: 'demo' })
    .setProtectedHeader({ alg, kid: key.kid, typ: 'JWT' })
    .setIssuer(url.searchParams.get('iss') ?? issuer)
    .setAudience(url.searchParams.get('aud') ?? audience)
    .setSubject(url.searchParams.get('sub') ?? 'ann')
    .setIssuedAt()
    .setExpirationTime('8h')
    .sign(key.privateKey)
  return { type: 'text/plain', body: token }
}

server.listen(Number(port), '127.0.0.1', () => process.stdout.write('ready\n'))
