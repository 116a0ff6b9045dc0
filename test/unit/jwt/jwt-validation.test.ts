/** The jwt-validation action: what its config may say, what it answers, what it publishes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { register, type CompileContext } from '../../../src/actions/action.ts'
import { jwtValidation } from '../../../src/actions/jwt-validation.ts'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import { parseDocuments } from '../../../src/config/document.ts'
import { SourceFile } from '../../../src/config/source.ts'
import type { Exchange } from '../../../src/exchange/exchange.ts'
import { MessageHead } from '../../../src/exchange/message-head.ts'
import type { JsonValue } from '../../../src/expression/source.ts'
import { compileTemplate } from '../../../src/expression/template.ts'
import { JwtService } from '../../../src/jwt/service.ts'
import type { CompiledAction } from '../../../src/policy/policy.ts'
import { GatewayError } from '../../../src/response/gateway-error.ts'
import { startTokenIssuer, type TokenIssuer } from '../../support/token-issuer.ts'

let issuer: TokenIssuer
let service: JwtService

beforeAll(async () => {
  issuer = await startTokenIssuer()
  service = new JwtService()
  service.watch([issuer.jwksUrl])
  await service.whenReady()
})
afterAll(async () => {
  await service.close()
  await issuer.stop()
})

interface Changes {
  readonly issuer?: string
  readonly audience?: string
  readonly tokens?: string
  readonly algorithms?: string
  readonly keys?: string
  readonly more?: string
}

/** The config of the guide in flow style, with parts replaced. */
function yaml(changes: Changes = {}): string {
  return [
    `issuer: {allow_list: [{value: ${changes.issuer ?? JSON.stringify(issuer.issuer)}}]}`,
    `audience: {allow_list: [{value: ${changes.audience ?? 'orders-api'}}]}`,
    `http: {tokens: ${changes.tokens ?? '[{type: jwt, method: header, name: Authorization, prefix: "Bearer "}]'}}`,
    `jws: {allowed_algorithms: ${changes.algorithms ?? '[RS256]'}, keys: ${changes.keys ?? `{sources: {additional_jkus: ["${issuer.jwksUrl}"]}}`}}`,
    changes.more ?? '',
  ].join('\n')
}

interface Prepared {
  readonly action: CompiledAction | undefined
  readonly messages: readonly string[]
  readonly keySetUrls: ReadonlySet<string>
}

function prepare(text: string): Prepared {
  const diagnostics = new Diagnostics()
  const [node] = parseDocuments(new SourceFile('policy.yaml', text), diagnostics)
  const environment = { phase: 'on_http_request', overrides: true, now: () => new Date() } as const
  const keySetUrls = new Set<string>()
  // what this action asks of the context, and no more
  const context = {
    diagnostics,
    settings: { jwt: { allowHttp: 'loopback' } },
    keySetUrls,
    template: (source: Parameters<typeof compileTemplate>[0]) => compileTemplate(source, environment, diagnostics),
  } as unknown as CompileContext
  const prepared = register(jwtValidation).prepare(node!, context)
  const messages = diagnostics.all.map((it) => `${it.severity} ${it.code} ${it.message}`)
  return { action: prepared?.compiled, messages, keySetUrls }
}

interface Request {
  readonly lines?: readonly string[]
  readonly method?: string
  readonly body?: string | Promise<string>
}

interface Answer {
  readonly outcome: string
  readonly result: Record<string, JsonValue>
  readonly lines: string
}

/** Runs the action on a request; a refusal comes back as `CODE reason`. */
async function run(action: CompiledAction | undefined, request: Request = {}): Promise<Answer> {
  if (action === undefined) throw new Error('the config does not compile')
  const results = new Map<string, JsonValue>()
  const collect = (text: string): { bytes: Uint8Array; complete: boolean } => ({
    bytes: Buffer.from(text),
    complete: true,
  })
  const body = request.body ?? ''
  const head = new MessageHead(['POST / HTTP/1.1', ...(request.lines ?? []), ''].join('\r\n'))
  // what this action touches of an exchange, and no more
  const exchange = {
    requestId: 'request-1',
    method: request.method ?? 'POST',
    head,
    endpoint: { host: 'orders.example' },
    request: { headers: head },
    services: { jwt: service, logger: { debug: () => {} } },
    snapshot: { settings: { limits: { bufferedBodyBytes: 65_536 } } },
    requestBody: () => (body instanceof Promise ? body.then(collect) : collect(body)),
    setResult: (name: string, value: JsonValue) => results.set(name, value),
  } as unknown as Exchange
  const result = (): Record<string, JsonValue> => results.get('jwt_validation') as Record<string, JsonValue>
  try {
    const outcome = await action.run(exchange)
    return { outcome: outcome.kind, result: result(), lines: '' }
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error
    return { outcome: `${error.code} ${error.reason}`, result: result(), lines: error.lines }
  }
}

const bearer = (token: string): Request => ({ lines: [`authorization: Bearer ${token}`] })
const good = (claims: Record<string, unknown> = {}): string =>
  issuer.mint({ sub: 'user-1', aud: 'orders-api', ...claims })

describe('jwt-validation lets pass', () => {
  it('a good token, and publishes what it says (§5.10)', async () => {
    const { outcome, result } = await run(prepare(yaml()).action, bearer(good({ scope: 'orders:read' })))
    expect(outcome).toBe('next')
    expect(result).toEqual({
      tokens: [
        {
          header: { alg: 'RS256', kid: 'rs256-1', typ: 'JWT' },
          location: 'header',
          location_property: 'Authorization',
          payload: expect.objectContaining({ sub: 'user-1', scope: 'orders:read' }) as unknown,
          signature: expect.stringMatching(/^[A-Za-z0-9+/]+=*$/) as unknown,
          verified: true,
        },
      ],
    })
  })

  it('without a promise when the key is at hand', () => {
    const { action } = prepare(yaml())
    const exchange = {
      head: new MessageHead(`GET / HTTP/1.1\r\nauthorization: Bearer ${good()}\r\n`),
      services: { jwt: service },
      setResult: () => {},
    } as unknown as Exchange
    expect(action!.run(exchange)).toEqual({ kind: 'next' })
  })

  it('a token in a JSON body that arrives later, or in a form', async () => {
    const { action } = prepare(yaml({ tokens: '[{type: access_token, method: body, name: Access_Token}]' }))
    const json = { lines: ['content-type: application/json'], body: Promise.resolve(`{"access_token":"${good()}"}`) }
    expect((await run(action, json)).outcome).toBe('next')
    const form = { lines: ['content-type: application/x-www-form-urlencoded'], body: `access_token=${good()}` }
    const { outcome, result } = await run(action, form)
    expect(outcome).toBe('next')
    expect(result['tokens']).toMatchObject([{ location: 'body', location_property: 'Access_Token' }])
  })

  it('all of several tokens, in the order of the config', async () => {
    const tokens =
      '[{type: id_token, method: header, name: X-Id}, {type: jwt, method: header, name: Authorization, prefix: "Bearer "}]'
    const { action } = prepare(yaml({ tokens }))
    const lines = [`authorization: Bearer ${good({ sub: 'second' })}`, `x-id: ${good({ sub: 'first' })}`]
    const { outcome, result } = await run(action, { lines })
    expect(outcome).toBe('next')
    expect(result['tokens']).toMatchObject([{ payload: { sub: 'first' } }, { payload: { sub: 'second' } }])
    expect((await run(action, { lines: lines.slice(0, 1) })).outcome).toBe('JWT_MISSING auth:ERR_NGROK_3408')
  })

  it('tokens by interpolated issuers and key sets', async () => {
    const tenant = '"${req.headers[\'x-issuer\'][0]}"'
    const { action, messages } = prepare(yaml({ issuer: tenant }))
    expect(messages).toEqual([])
    const from = (name: string): Request => ({ lines: [`authorization: Bearer ${good()}`, `x-issuer: ${name}`] })
    expect((await run(action, from(issuer.issuer))).outcome).toBe('next')
    expect((await run(action, from('https://other.test/'))).outcome).toBe('JWT_FORBIDDEN auth:ERR_NGROK_3403')
    // a value that cannot be computed fails closed (§4)
    expect((await run(action, bearer(good()))).outcome).toMatch(/^INTERPOLATION_FAILED|^JWT_FORBIDDEN/)
  })
})

describe('jwt-validation refuses', () => {
  it.each([
    ['no header', (): Request => ({}), 'JWT_MISSING auth:ERR_NGROK_3408', false],
    ['no prefix', (): Request => ({ lines: [`authorization: ${good()}`] }), 'JWT_MISSING auth:ERR_NGROK_3413', true],
    ['garbage', (): Request => bearer('x.y.z'), 'JWT_MISSING auth:ERR_NGROK_3416', true],
    ['an expired token', (): Request => bearer(good({ exp: 1000 })), 'JWT_MISSING auth:ERR_NGROK_3401', true],
    [
      'a tampered token',
      (): Request => bearer(issuer.mint({ aud: 'orders-api' }, { tampered: true })),
      'JWT_MISSING auth:ERR_NGROK_3401',
      true,
    ],
    [
      'two Authorization fields (T-55)',
      (): Request => ({ lines: [`authorization: Bearer ${good()}`, `authorization: Bearer ${good()}`] }),
      'JWT_MISSING auth:ERR_NGROK_3416',
      true,
    ],
  ])('%s with 401 and a challenge (RFC 6750 §3.1)', async (_name, request, outcome, presented) => {
    const answer = await run(prepare(yaml()).action, request())
    expect(answer.outcome).toBe(outcome)
    const error = presented ? ', error="invalid_token"' : ''
    expect(answer.lines).toBe(`www-authenticate: Bearer realm="orders.example"${error}\r\n`)
    expect(answer.result['error']).toEqual({ code: outcome.split('auth:')[1], message: expect.any(String) as unknown })
  })

  it.each([{ iss: 'https://evil.test/' }, { aud: 'other-api' }])('%j with 403 (§5.10)', async (claims) => {
    const answer = await run(prepare(yaml()).action, bearer(good(claims)))
    expect(answer).toMatchObject({ outcome: 'JWT_FORBIDDEN auth:ERR_NGROK_3403', lines: '' })
    expect(answer.result['error']).toMatchObject({ code: 'ERR_NGROK_3403' })
  })

  it('everything with 503 while no key set can be had', async () => {
    const { action } = prepare(yaml({ keys: '{sources: {additional_jkus: ["http://127.0.0.1:1/jwks"]}}' }))
    expect((await run(action, bearer(good()))).outcome).toBe('JWT_KEYS_MISSING auth:ERR_NGROK_3422')
  })

  it.each([
    ['GET', 'application/json', '{}', 'ERR_NGROK_3415'],
    ['POST', 'text/plain', '{}', 'ERR_NGROK_3414'],
    ['POST', 'application/json', '{"token"', 'ERR_NGROK_3411'],
    ['POST', 'application/json', '{}', 'ERR_NGROK_3406'],
    ['POST', 'application/x-www-form-urlencoded', 'token=%zz', 'ERR_NGROK_3412'],
  ])('a %s body of %s %s', async (method, type, body, code) => {
    const { action } = prepare(yaml({ tokens: '[{type: jwt, method: body, name: token}]' }))
    const answer = await run(action, { method, lines: [`content-type: ${type}`], body })
    expect(answer.outcome).toBe(`JWT_MISSING auth:${code}`)
  })
})

describe('the config of jwt-validation', () => {
  it.each([
    ['objects', (url: string) => `{identification: {token_claims: [kid]}, sources: {additional_jkus: ["${url}"]}}`],
    ['lists', (url: string) => `[{identification: [{token_claims: [kid]}], sources: [{additional_jkus: ["${url}"]}]}]`],
    ['both', (url: string) => `{sources: [{additional_jkus: ["${url}"]}, {additional_jkus: ["${url}?b"]}]}`],
  ])('takes %s at the three levels of jws.keys', (_name, keys) => {
    const { action, messages, keySetUrls } = prepare(yaml({ keys: keys(issuer.jwksUrl) }))
    expect(messages).toEqual([])
    expect(action).toBeDefined()
    expect(keySetUrls.has(issuer.jwksUrl)).toBe(true)
  })

  it.each([
    [{ issuer: 'nobody' }, 'error ERR_NGROK_7173 the issuer "nobody" is not a URL'],
    [{ algorithms: '[none]' }, 'error ERR_NGROK_2222 "none" is no signature algorithm that is served'],
    [{ algorithms: '[RS256, rs256]' }, 'error ERR_NGROK_2222 "rs256" is no signature algorithm that is served'],
    [{ algorithms: '[]' }, /^error .*allowed_algorithms/],
    [{ keys: '{sources: {additional_jkus: ["ftp://id.test/jwks"]}}' }, /^error ERR_NGROK_2226 .*scheme ftp/],
    [{ keys: '{sources: {additional_jkus: ["http://id.test/jwks"]}}' }, /^error ERR_NGROK_2226 .*plain http/],
    [{ keys: '{sources: {additional_jkus: []}}' }, /^error .*additional_jkus/],
    [{ keys: '{}' }, /^error ERR_NGROK_2234 .*sources/],
    [{ tokens: '[]' }, /^error .*tokens/],
    [{ tokens: '[{type: jwt, method: query, name: t}]' }, /^error ERR_NGROK_2222 .*method/],
    [{ tokens: '[{type: jwt, method: header, name: ""}]' }, /^error ERR_NGROK_2223/],
    [{ more: 'enforce: false' }, /^error ERR_NGROK_2203 unknown key enforce/],
    [{ keys: '{sources: {additional_jkus: ["${nonsense("]}}' }, /^error ERR_NGROK_2224/],
  ] as const)('is refused with %j', (changes, message) => {
    const { action, messages } = prepare(yaml(changes))
    expect(action).toBeUndefined()
    expect(messages[0]).toMatch(message)
  })

  it('names an issuer once', () => {
    const twice = yaml().replace('}]}', `}, {value: ${JSON.stringify(issuer.issuer)}}]}`)
    expect(prepare(twice).messages[0]).toMatch(/^error ERR_NGROK_2231/)
  })

  it('may hold placeholders and HMAC names, and says that nothing will pass', () => {
    const keys = '{sources: {additional_jkus: ["https://<TENANT>/jwks", "$JWT_PUBLIC_KEY_URL"]}}'
    const { action, messages } = prepare(yaml({ keys, algorithms: '[HS256]' }))
    expect(action).toBeDefined()
    expect(messages.map((message) => message.split(' ', 2).join(' '))).toEqual([
      'warning JWT_SECRET_KEYS',
      'warning PLACEHOLDER',
      'warning PLACEHOLDER',
    ])
  })
})
