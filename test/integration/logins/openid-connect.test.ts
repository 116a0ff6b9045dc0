/** `openid-connect` over real HTTP against a real OpenID provider (§5.13): logins, sessions, and what must not work. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CookieJar } from '../../support/cookie-jar.ts'
import { startEchoUpstream, type EchoUpstream } from '../../support/echo-upstream.ts'
import { pause, startGateway, freePorts, get, type RunningGateway } from '../../support/start-gateway.ts'
import { startOpenidProvider, type OpenidProvider } from '../../support/start-openid-provider.ts'

const KEYS = ['first-key-first-key-first-key-0001', 'second-key-second-key-second-0002']
const CALLBACK = '/ngrok/oauth2/callback'

let upstream: EchoUpstream
let provider: OpenidProvider
let gateway: RunningGateway

const policy = (issuer: string, secret: string, more = ''): string => `
on_http_request:
  - expressions: ["req.url.path.startsWith('/public') || !req.url.path.startsWith('/app')"]
    actions: [{ type: custom-response, config: { status_code: 200, body: public } }]
  - actions:
      - type: openid-connect
        config:
          issuer_url: ${issuer}
          client_id: gateway
          client_secret: ${secret}
          scopes: [openid, profile, email]
          ${more}
  - expressions: ["!actions.ngrok.oidc.identity.email.endsWith('@example.org')"]
    actions: [{ type: custom-response, config: { status_code: 403, body: "no access for \${actions.ngrok.oidc.identity.email}" } }]
  - actions:
      - type: add-headers
        config:
          headers:
            x-user: "\${actions.ngrok.oidc.identity.email}"
            x-name: "\${actions.ngrok.openid_connect.identity.name}"
            x-subject: "\${actions.ngrok.oidc.identity.provider_user_id}"
            x-session: "\${actions.ngrok.oidc.identity.current_session_id}"
            x-token: "\${actions.ngrok.oidc.identity_token}"
            x-access: "\${actions.ngrok.oidc.access_token}"
            x-expires: "\${actions.ngrok.oidc.expires_at}"
            x-refreshed: "\${actions.ngrok.oidc.user_info_refreshed}"
`

const settings = (port: number, keys: readonly string[]): string => `
login: { session_keys: ${JSON.stringify(keys)}, fetch_timeout: 2s, stale: 1h }
endpoints:
  - { name: app, url: "http://localhost:${port}", upstream: { url: "http://127.0.0.1:${upstream.port}" }, traffic_policy_file: policy.yaml }
`

beforeAll(async () => {
  upstream = await startEchoUpstream()
  const [port = 0] = await freePorts(1)
  gateway = await startGateway({
    config: ({ port: own }) => settings(own, KEYS.slice(0, 1)),
    files: { 'policy.yaml': policy(`http://127.0.0.1:${port}`, 'a-secret-of-the-gateway-only') },
  })
  provider = await startOpenidProvider({
    port,
    redirectUris: [`${gateway.url}${CALLBACK}`],
    accessTokenSeconds: 3600,
  })
})
afterAll(async () => {
  await gateway?.stop()
  await provider?.stop()
  await upstream?.close()
})
beforeEach(async () => {
  upstream.reset()
  await provider.change({ down: false, hang: false, nonce: '', claims: {} })
})

/** Logged in, with the cookies that brings. */
async function loggedIn(account = 'ada', path = '/app/page?x=1'): Promise<CookieJar> {
  const jar = new CookieJar()
  const first = await jar.ask(`${gateway.url}${path}`)
  expect(first.status).toBe(302)
  const back = await jar.logInAtProvider(String(first.headers['location']), account)
  const done = await jar.ask(back)
  expect([done.status, done.headers['location']]).toEqual([302, path])
  return jar
}

const lastRequest = () => upstream.requests.at(-1)!

describe('a login', () => {
  it('goes to the provider with state, nonce and PKCE, and comes back to where it began', async () => {
    const jar = new CookieJar()
    const first = await jar.ask(`${gateway.url}/app/page?x=1&y=%20`)
    expect(first.status).toBe(302)
    const to = new URL(String(first.headers['location']))
    expect(to.origin + to.pathname).toBe(`${provider.issuer}/auth`)
    expect(Object.fromEntries(to.searchParams)).toMatchObject({
      client_id: 'gateway',
      response_type: 'code',
      redirect_uri: `${gateway.url}${CALLBACK}`,
      scope: 'openid profile email',
      code_challenge_method: 'S256',
    })
    for (const name of ['state', 'nonce', 'code_challenge'])
      expect(to.searchParams.get(name)!.length).toBeGreaterThan(30)
    expect(first.headers['cache-control']).toBe('no-store')
    const done = await jar.ask(await jar.logInAtProvider(to.href, 'ada'))
    expect([done.status, done.headers['location']]).toEqual([302, '/app/page?x=1&y=%20'])
    expect([...jar.cookies().keys()]).toEqual(['session'])
    const page = await jar.ask(`${gateway.url}/app/page`)
    expect(page.status).toBe(200)
    const { field } = lastRequest()
    expect(field('x-user')).toBe('ada@example.org')
    expect(field('x-name')).toBe('User ada')
    expect(field('x-subject')).toBe('ada')
    expect(field('x-session')).toMatch(/^ses_[0-9a-f]{32}$/)
    expect(field('x-token')).toMatch(/^eyJ/)
    expect(field('x-access')).toMatch(/.{10}/)
    expect(Date.parse(field('x-expires')!)).toBeGreaterThan(Date.now())
    expect(field('x-refreshed')).toBe('false')
  })

  it('gives cookies that scripts and other sites do not get, and no upstream sees', async () => {
    const jar = await loggedIn()
    const session = jar.lines.find((line) => line.startsWith('session='))!
    expect(session).toMatch(/; HttpOnly/)
    expect(session).toMatch(/; SameSite=Lax/)
    expect(session).toMatch(/; Path=\//)
    expect(session).not.toMatch(/Domain/)
    expect(session).not.toContain('ada')
    jar.cookies().set('own', 'of-the-application')
    await jar.ask(`${gateway.url}/app/page`)
    expect(lastRequest().field('cookie')).toBe('own=of-the-application')
    // also where the action is not reached
    const passed = await jar.ask(`${gateway.url}/public`)
    expect(passed.body).toBe('public')
  })

  it('holds in every worker', async () => {
    const jar = await loggedIn()
    const answers = await Promise.all(Array.from({ length: 24 }, () => jar.ask(`${gateway.url}/app/page`)))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
  })

  it('is judged by the rules behind it', async () => {
    await provider.change({ claims: { eve: { email: 'eve@elsewhere.example' } } })
    const jar = await loggedIn('eve')
    const answer = await jar.ask(`${gateway.url}/app/page`)
    expect([answer.status, answer.body]).toEqual([403, 'no access for eve@elsewhere.example'])
  })

  it('an address that the provider calls unverified does not count', async () => {
    await provider.change({ claims: { mal: { email: 'mal@example.org', email_verified: false } } })
    const jar = await loggedIn('mal')
    expect((await jar.ask(`${gateway.url}/app/page`)).body).toBe('no access for ')
  })

  it('leaves no token, code or cookie in any log', async () => {
    const jar = await loggedIn()
    await jar.ask(`${gateway.url}/app/page`)
    const { field } = lastRequest()
    await gateway.waitForAccess(({ path }) => path.startsWith(CALLBACK))
    const logs = JSON.stringify([gateway.access(), gateway.log()]) + gateway.stderr()
    for (const secret of [field('x-token')!, field('x-access')!, jar.cookies().get('session')!]) {
      expect(logs).not.toContain(secret.slice(0, 40))
    }
    const callback = gateway.access().filter(({ path }) => path.startsWith(CALLBACK))
    for (const { path } of callback) expect(path).toContain('code=***')
  })
})

describe('what comes back and was not asked for', () => {
  const callback = (query: string): string => `${gateway.url}${CALLBACK}?${query}`

  it('has no state', async () => {
    const answer = await get(callback('code=abc'))
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([400, 'ERR_NGROK_5500'])
    expect(answer.headers['set-cookie']).toBeUndefined()
  })

  it('has a state of another browser: login CSRF', async () => {
    const attacker = new CookieJar()
    const first = await attacker.ask(`${gateway.url}/app`)
    const back = await attacker.logInAtProvider(String(first.headers['location']), 'mallory')
    const victim = new CookieJar()
    const answer = await victim.ask(back)
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([400, 'ERR_NGROK_5500'])
    expect(answer.body).toContain('href="/ngrok/login"')
    expect(victim.cookies().size).toBe(0)
  })

  it('has a state that was changed, or a cookie that was', async () => {
    const jar = new CookieJar()
    const first = await jar.ask(`${gateway.url}/app`)
    const back = new URL(await jar.logInAtProvider(String(first.headers['location']), 'ada'))
    const state = back.searchParams.get('state')!
    const changed = new URL(back)
    changed.searchParams.set('state', `${state.slice(0, -1)}${state.endsWith('A') ? 'B' : 'A'}`)
    expect((await jar.ask(changed.href)).headers['ngrok-error-code']).toBe('ERR_NGROK_5500')
    const [name, value] = [...jar.cookies()].find(([key]) => key.startsWith('nonce'))!
    jar.cookies().set(name, `${value.slice(0, 60)}${value[60] === 'A' ? 'B' : 'A'}${value.slice(61)}`)
    expect((await jar.ask(back.href)).headers['ngrok-error-code']).toBe('ERR_NGROK_5500')
    jar.cookies().set(name, value)
    expect((await jar.ask(back.href)).status).toBe(302)
  })

  it('has an ID token with the nonce of another login', async () => {
    await provider.change({ nonce: 'the-nonce-of-another-login-altogether' })
    const jar = new CookieJar()
    const first = await jar.ask(`${gateway.url}/app`)
    const answer = await jar.ask(await jar.logInAtProvider(String(first.headers['location']), 'ada'))
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([403, 'ERR_NGROK_5524'])
    expect(jar.cookies().has('session')).toBe(false)
  })

  it('has a code that was used before', async () => {
    const jar = new CookieJar()
    const first = await jar.ask(`${gateway.url}/app`)
    const back = await jar.logInAtProvider(String(first.headers['location']), 'ada')
    const flow = [...jar.cookies()]
    expect((await jar.ask(back)).status).toBe(302)
    const again = new CookieJar()
    for (const [name, value] of flow) again.cookies().set(name, value)
    expect((await again.ask(back)).headers['ngrok-error-code']).toBe('ERR_NGROK_5528')
  })

  it('is a denial', async () => {
    const jar = new CookieJar()
    const first = await jar.ask(`${gateway.url}/app/deep`)
    const state = new URL(String(first.headers['location'])).searchParams.get('state')!
    const query = new URLSearchParams({ error: 'access_denied', state, iss: provider.issuer })
    const answer = await jar.ask(callback(query.toString()))
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([403, 'ERR_NGROK_5517'])
    expect(answer.body).toContain('href="/ngrok/login?redirect_path=%2Fapp%2Fdeep"')
  })

  it('has the issuer of another provider (RFC 9207)', async () => {
    const jar = new CookieJar()
    const first = await jar.ask(`${gateway.url}/app`)
    const back = new URL(await jar.logInAtProvider(String(first.headers['location']), 'ada'))
    back.searchParams.set('iss', 'https://attacker.example')
    const answer = await jar.ask(back.href)
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([403, 'ERR_NGROK_5524'])
  })
})

describe('a session cookie', () => {
  const tampered: readonly (readonly [string, (value: string) => string])[] = [
    ['with one bit changed', (it) => `${it.slice(0, 90)}${it[90] === 'A' ? 'B' : 'A'}${it.slice(91)}`],
    ['cut short', (it) => it.slice(0, -8)],
    ['of another version', (it) => `1.${Buffer.from([9]).toString('base64url')}${it.slice(4)}`],
    ['that says it has more parts', (it) => `3${it.slice(1)}`],
    ['that is empty', () => ''],
    ['that is not base64', () => '1.????'],
  ]

  it.each(tampered)('%s is none', async (_, change) => {
    const jar = await loggedIn()
    jar.cookies().set('session', change(jar.cookies().get('session')!))
    expect((await jar.ask(`${gateway.url}/app/page`)).status).toBe(302)
    expect(upstream.requests.length).toBe(0)
  })

  it('cannot be the cookie of an open login', async () => {
    const jar = new CookieJar()
    await jar.ask(`${gateway.url}/app`)
    const [, flow] = [...jar.cookies()][0]!
    jar.cookies().set('session', `1.${flow}`)
    expect((await jar.ask(`${gateway.url}/app/page`)).status).toBe(302)
  })

  it('counts for the host that it was given to only', async () => {
    const jar = await loggedIn()
    const cookie = `session=${jar.cookies().get('session')!}`
    const other = await get(`${gateway.url}/app`, { headers: { cookie, host: 'other.example' } })
    expect(other.status).not.toBe(200)
  })
})

describe('paths of logins', () => {
  it('/ngrok/logout ends the session and says so, whatever the rules', async () => {
    const jar = await loggedIn()
    const answer = await jar.ask(`${gateway.url}/ngrok/logout`)
    // the first rule of the policy answers this path; the cookie is gone all the same
    expect(answer.body).toBe('public')
    expect(jar.cookies().has('session')).toBe(false)
    expect((await jar.ask(`${gateway.url}/app`)).status).toBe(302)
  })

  it('/ngrok/login asks for the password again and comes back to redirect_path', async () => {
    const jar = await loggedIn()
    const first = await jar.ask(`${gateway.url}/ngrok/login?redirect_path=/app/after%3Fx=1`)
    expect(new URL(String(first.headers['location'])).searchParams.get('prompt')).toBe('login')
    const done = await jar.ask(await jar.logInAtProvider(String(first.headers['location']), 'ada'))
    expect(done.headers['location']).toBe('/app/after?x=1')
    await jar.ask(`${gateway.url}/app`)
    expect(lastRequest().field('x-user')).toBe('ada@example.org')
  })

  const elsewhere = [
    'https://attacker.example/',
    '//attacker.example/',
    '/\\attacker.example/',
    '/%09/attacker.example/',
    '\\\\attacker.example',
    'javascript:alert(1)',
    '/a%0d%0aset-cookie:x=y',
  ]
  it.each(elsewhere)('redirect_path %s leads to /', async (path) => {
    const jar = new CookieJar()
    const first = await jar.ask(`${gateway.url}/ngrok/login?redirect_path=${path}`)
    const done = await jar.ask(await jar.logInAtProvider(String(first.headers['location']), 'ada'))
    expect([done.status, done.headers['location']]).toEqual([302, '/'])
  })

  it('four tabs may log in at the same time, and scripts without end', async () => {
    const jar = new CookieJar()
    const urls: string[] = []
    for (const path of ['/app/1', '/app/2', '/app/3', '/app/4']) {
      urls.push(String((await jar.ask(`${gateway.url}${path}`)).headers['location']))
    }
    for (let script = 0; script < 20; script++) {
      await jar.ask(`${gateway.url}/app/api`, { headers: { 'sec-fetch-mode': 'cors' } })
    }
    expect(jar.cookies().size).toBe(5)
    const ends: unknown[] = []
    for (const url of urls) ends.push((await jar.ask(await jar.logInAtProvider(url, 'ada'))).headers['location'])
    expect(ends).toEqual(['/app/1', '/app/2', '/app/3', '/app/4'])
    for (let tab = 0; tab < 12; tab++) await jar.ask(`${gateway.url}/ngrok/login`)
    expect([...jar.cookies().keys()].filter((name) => name.startsWith('nonce')).length).toBeLessThanOrEqual(5)
  })
})

describe('a key that is replaced', () => {
  it('still opens while it is listed, and no more when it is taken out', async () => {
    const jar = await loggedIn()
    gateway.write('gateway.yaml', settings(gateway.port, [KEYS[1]!, KEYS[0]!]))
    expect((await gateway.command('reload')).code).toBe(0)
    expect((await jar.ask(`${gateway.url}/app`)).status).toBe(200)
    const later = await loggedIn('bob')
    gateway.write('gateway.yaml', settings(gateway.port, [KEYS[1]!]))
    expect((await gateway.command('reload')).code).toBe(0)
    expect((await jar.ask(`${gateway.url}/app`)).status).toBe(302)
    expect((await later.ask(`${gateway.url}/app`)).status).toBe(200)
  })
})

describe('limits of a session', () => {
  const reload = async (more: string): Promise<void> => {
    gateway.write('policy.yaml', policy(provider.issuer, provider.clientSecret, more))
    expect((await gateway.command('reload')).code).toBe(0)
  }

  it('idle_session_timeout counts from the last request', async () => {
    await reload('idle_session_duration: 2s')
    const jar = await loggedIn()
    for (let step = 0; step < 4; step++) {
      await pause(800)
      expect((await jar.ask(`${gateway.url}/app`)).status).toBe(200)
    }
    await pause(2300)
    expect((await jar.ask(`${gateway.url}/app`)).status).toBe(302)
  })

  it('max_session_duration counts from the login', async () => {
    await reload('max_session_duration: 2s')
    const jar = await loggedIn()
    expect((await jar.ask(`${gateway.url}/app`)).status).toBe(200)
    await pause(2100)
    expect((await jar.ask(`${gateway.url}/app`)).status).toBe(302)
  })

  it('userinfo_refresh_interval asks the provider about the user again', async () => {
    await reload('userinfo_refresh_interval: 1s')
    const jar = await loggedIn('carol')
    await provider.change({ claims: { carol: { email: 'carol@left.example' } } })
    expect((await jar.ask(`${gateway.url}/app`)).status).toBe(200)
    await pause(1100)
    expect((await jar.ask(`${gateway.url}/app`)).body).toBe('no access for carol@left.example')
  })

  it('a provider that is down does not end sessions', async () => {
    await reload('userinfo_refresh_interval: 1s')
    const jar = await loggedIn('dan')
    await provider.change({ down: true })
    await pause(1100)
    expect((await jar.ask(`${gateway.url}/app`)).status).toBe(200)
    expect(lastRequest().field('x-user')).toBe('dan@example.org')
  })

  it('allow_cors_preflight lets OPTIONS pass, and nothing else', async () => {
    await reload('allow_cors_preflight: true')
    const headers = { origin: 'https://spa.example', 'access-control-request-method': 'PUT' }
    // the rules behind the action have no identity to judge by
    const answer = await get(`${gateway.url}/app`, { method: 'OPTIONS', headers })
    expect(answer.status).toBe(200)
    expect(lastRequest().method).toBe('OPTIONS')
    expect((await get(`${gateway.url}/app`, { method: 'PUT', headers })).status).toBe(302)
  })
})

describe('a provider that is not there', () => {
  const elsewhere = async (issuer: string): Promise<void> => {
    gateway.write('policy.yaml', policy(issuer, 'a-secret-of-the-gateway-only'))
    expect((await gateway.command('reload')).code).toBe(0)
  }

  it('is no obstacle to check or reload, only to logins: 503, and asked again after a pause', async () => {
    const [port = 0] = await freePorts(1)
    await elsewhere(`http://127.0.0.1:${port}`)
    const first = await get(`${gateway.url}/app`)
    expect([first.status, first.headers['ngrok-error-code']]).toEqual([503, 'ERR_NGROK_5534'])
    const late = await startOpenidProvider({ port, redirectUris: [`${gateway.url}${CALLBACK}`] })
    try {
      const deadline = Date.now() + 15_000
      let status = 0
      while (status !== 302 && Date.now() < deadline) {
        status = (await get(`${gateway.url}/app`)).status
        await pause(200)
      }
      expect(status).toBe(302)
    } finally {
      await late.stop()
    }
  })

  it('that never answers is given up: 504', async () => {
    const silent = await startOpenidProvider({ redirectUris: [`${gateway.url}${CALLBACK}`] })
    try {
      await silent.change({ hang: true })
      await elsewhere(silent.issuer)
      const answer = await get(`${gateway.url}/app`)
      expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([504, 'ERR_NGROK_5521'])
    } finally {
      await silent.stop()
    }
  })

  it('that is another than its metadata says is not used', async () => {
    await elsewhere(`http://localhost:${provider.port}`)
    const answer = await get(`${gateway.url}/app`)
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([503, 'ERR_NGROK_5534'])
  })
})
