/** `oauth` over real HTTP (§5.12), against a server that speaks as GitHub Enterprise Server does; several logins in one policy. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CookieJar } from '../../support/cookie-jar.ts'
import { startEchoUpstream, type EchoUpstream } from '../../support/echo-upstream.ts'
import { freePorts, get, pause, startGateway, type RunningGateway } from '../../support/start-gateway.ts'
import { startOpenidProvider, type OpenidProvider } from '../../support/start-openid-provider.ts'

const CALLBACK = '/ngrok/oauth2/callback'

interface Github {
  readonly url: string
  readonly server: Server
  user: Record<string, unknown>
  status: number
  /** Form of the last token request. */
  asked: URLSearchParams
}

async function startGithub(): Promise<Github> {
  const codes = new Set<string>()
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://github.test')
    const json = (value: unknown, status = 200): void => {
      response.writeHead(status, { 'content-type': 'application/json; charset=utf-8' })
      response.end(JSON.stringify(value))
    }
    if (url.pathname === '/login/oauth/authorize') {
      const code = `code-${codes.size}-0123456789`
      codes.add(code)
      const back = new URL(url.searchParams.get('redirect_uri')!)
      back.searchParams.set('code', code)
      back.searchParams.set('state', url.searchParams.get('state')!)
      response.writeHead(302, { location: back.href })
      response.end()
    } else if (url.pathname === '/login/oauth/access_token') {
      let text = ''
      request.on('data', (chunk) => (text += chunk))
      request.on('end', () => {
        github.asked = new URLSearchParams(text)
        // its errors have status 200
        if (github.asked.get('client_secret') !== 'right') json({ error: 'incorrect_client_credentials' })
        else if (!codes.delete(github.asked.get('code') ?? '')) json({ error: 'bad_verification_code' })
        else json({ access_token: 'gho_the-token', scope: 'read:org,read:user', token_type: 'bearer' })
      })
    } else if (url.pathname === '/api/v3/user') {
      const isKnown = request.headers.authorization === 'Bearer gho_the-token'
      json(github.user, isKnown ? github.status : 401)
    } else if (url.pathname === '/api/v3/user/emails') {
      json([{ email: 'ada@corp.example', primary: true, verified: true }])
    } else json({}, 404)
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  const github: Github = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    server,
    user: {},
    status: 200,
    asked: new URLSearchParams(),
  }
  return github
}

let upstream: EchoUpstream
let github: Github
let provider: OpenidProvider
let gateway: RunningGateway

const policy = (secret = 'right', more = ''): string => `
on_http_request:
  - expressions: ["req.url.path.startsWith('/staff')"]
    actions:
      - type: oauth
        config: { provider: github, auth_id: staff, client_id: app, client_secret: ${secret}, ${more} }
      - type: add-headers
        config:
          headers:
            x-user: "\${actions.ngrok.oauth.identity.email}"
            x-name: "\${actions.ngrok.oauth.identity.name}"
            x-subject: "\${actions.ngrok.oauth.identity.provider_user_id}"
            x-session: "\${actions.ngrok.oauth.identity.current_provider_session_id}"
            x-access: "\${actions.ngrok.oauth.access_token}"
            x-expires: "[\${actions.ngrok.oauth.expires_at}]"
  - expressions: ["!req.url.path.startsWith('/staff')"]
    actions:
      - type: openid-connect
        config: { issuer_url: "${provider.issuer}", client_id: gateway, client_secret: ${provider.clientSecret}, scopes: [email] }
      - type: add-headers
        config: { headers: { x-user: "\${actions.ngrok.oidc.identity.email}", x-access: "\${actions.ngrok.oidc.access_token}" } }
`
const KEY = 'a-key-that-two-gateways-share-0123456789'
const settings = (port: number): string => `
login: { session_keys: [${KEY}], github_url: "${github.url}/" }
endpoints:
  - { name: app, url: "http://localhost:${port}", upstream: { url: "http://127.0.0.1:${upstream.port}" }, traffic_policy_file: policy.yaml }
`

beforeAll(async () => {
  upstream = await startEchoUpstream()
  github = await startGithub()
  const [port = 0] = await freePorts(1)
  provider = await startOpenidProvider({
    redirectUris: [`http://localhost:${port}${CALLBACK}`],
    accessTokenSeconds: 63,
  })
  gateway = await startGateway({
    config: () => `listeners: [{ address: "127.0.0.1:${port}" }]\n${settings(port)}`,
    files: { 'policy.yaml': policy() },
  })
  Object.assign(gateway, { url: `http://localhost:${port}` })
})
afterAll(async () => {
  await gateway?.stop()
  await provider?.stop()
  await upstream?.close()
  github?.server.closeAllConnections()
  github?.server.close()
})
beforeEach(() => {
  upstream.reset()
  github.user = { id: 42, login: 'ada', name: 'Ada', email: 'ada@corp.example' }
  github.status = 200
})

const reload = async (text: string): Promise<void> => {
  gateway.write('policy.yaml', text)
  expect((await gateway.command('reload')).code).toBe(0)
}

async function staffLogin(jar = new CookieJar()): Promise<CookieJar> {
  const done = await jar.follow(`${gateway.url}/staff/a?b=c`)
  expect([done.status, done.url]).toEqual([200, `${gateway.url}/staff/a?b=c`])
  return jar
}

describe('oauth', () => {
  it('logs in, and tells who it is', async () => {
    const jar = await staffLogin()
    const { field } = upstream.requests.at(-1)!
    expect(['x-user', 'x-name', 'x-subject', 'x-access', 'x-expires'].map((name) => field(name))).toEqual([
      'ada@corp.example',
      'Ada',
      '42',
      'gho_the-token',
      '[]',
    ])
    expect(field('x-session')).toMatch(/^ses_/)
    expect([...jar.cookies().keys()]).toEqual(['session_staff'])
    expect(github.asked.get('code_verifier')).toMatch(/^[A-Za-z0-9_-]{43,}$/)
    expect(github.asked.get('redirect_uri')).toBe(`${gateway.url}${CALLBACK}`)
  })

  it('asks for what the policy wants, and the least that the provider must be asked for', async () => {
    await reload(policy('right', 'scopes: [repo], authz_url_params: { allow_signup: "false" }'))
    const to = new URL(String((await get(`${gateway.url}/staff`)).headers['location']))
    expect(to.href.startsWith(`${github.url}/login/oauth/authorize?`)).toBe(true)
    expect(to.searchParams.get('scope')).toBe('repo read:org read:user')
    expect(to.searchParams.get('allow_signup')).toBe('false')
  })

  it('finds an address that is kept private', async () => {
    github.user['email'] = null
    await staffLogin()
    expect(upstream.requests.at(-1)!.field('x-user')).toBe('ada@corp.example')
  })

  it('email_domains and email_addresses let one of them in', async () => {
    await reload(policy('right', 'email_domains: [other.example]'))
    const refused = await new CookieJar().follow(`${gateway.url}/staff`)
    expect([refused.status, refused.headers['ngrok-error-code']]).toEqual([403, 'ERR_NGROK_5511'])
    expect(refused.body).toContain('/ngrok/login?auth_id=staff')
    await reload(policy('right', 'email_domains: [other.example], email_addresses: [Ada@Corp.Example]'))
    await staffLogin()
  })

  it('what only the operator can put right is an error of the gateway', async () => {
    await reload(policy('wrong'))
    const answer = await new CookieJar().follow(`${gateway.url}/staff`)
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([500, 'ERR_NGROK_5527'])
    await reload(policy())
  })

  it('a code that was used before', async () => {
    const jar = new CookieJar()
    const back = await jar.follow(`${gateway.url}/staff`, (url) => url.includes(CALLBACK))
    const flow = [...jar.cookies()]
    expect((await jar.ask(back.url)).status).toBe(302)
    for (const [name, value] of flow) jar.cookies().set(name, value)
    const again = await jar.ask(back.url)
    expect([again.status, again.headers['ngrok-error-code']]).toEqual([400, 'ERR_NGROK_5528'])
  })

  it('an account that the provider does not know any more has to log in again', async () => {
    await reload(policy('right', 'userinfo_refresh_interval: 1s'))
    const jar = await staffLogin()
    github.status = 401
    await pause(1100)
    expect((await jar.ask(`${gateway.url}/staff`)).status).toBe(302)
    github.status = 502
    expect((await jar.ask(`${gateway.url}/staff`)).status).toBe(302)
  })

  it('a user without an id is none', async () => {
    github.user = { login: 'nobody' }
    const answer = await new CookieJar().follow(`${gateway.url}/staff`)
    expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([403, 'ERR_NGROK_5536'])
  })
})

describe('auth_id', () => {
  it('keeps two logins of one policy apart', async () => {
    const jar = await staffLogin()
    const first = await jar.ask(`${gateway.url}/shop`)
    expect(String(first.headers['location']).startsWith(provider.issuer)).toBe(true)
    const done = await jar.ask(await jar.logInAtProvider(String(first.headers['location']), 'carol'))
    expect(done.headers['location']).toBe('/shop')
    await jar.ask(`${gateway.url}/shop`)
    expect(upstream.requests.at(-1)!.field('x-user')).toBe('carol@example.org')
    await jar.ask(`${gateway.url}/staff`)
    expect(upstream.requests.at(-1)!.field('x-user')).toBe('ada@corp.example')
    // one session cannot stand for the other
    const [shop, staff] = ['session', 'session_staff'].map((name) => jar.cookies().get(name)!)
    jar.cookies().set('session', staff!)
    jar.cookies().set('session_staff', shop!)
    expect((await jar.ask(`${gateway.url}/shop`)).status).toBe(302)
    expect((await jar.ask(`${gateway.url}/staff`)).status).toBe(302)
  })

  it('chooses on /ngrok/login and /ngrok/logout', async () => {
    const to = async (query: string): Promise<string> =>
      String((await get(`${gateway.url}/ngrok/login${query}`)).headers['location'])
    expect(await to('?auth_id=staff')).toContain(github.url)
    expect(await to('')).toContain(provider.issuer)
    expect((await get(`${gateway.url}/ngrok/login?auth_id=nobody`)).status).toBe(400)
    const jar = await staffLogin()
    const out = await jar.ask(`${gateway.url}/ngrok/logout?auth_id=staff`)
    expect([out.status, jar.cookies().has('session_staff')]).toEqual([200, false])
    expect(upstream.requests.every(({ target }) => !target.startsWith('/ngrok'))).toBe(true)
  })
})

describe('tokens', () => {
  it('are renewed before they end, once for all workers, and the browser gets the new ones', async () => {
    const jar = new CookieJar()
    const first = await jar.ask(`${gateway.url}/shop`)
    await jar.ask(await jar.logInAtProvider(String(first.headers['location']), 'dora'))
    await jar.ask(`${gateway.url}/shop`)
    const before = upstream.requests.at(-1)!.field('x-access')
    const asked = (await provider.requests())['/token']!
    await pause(5300)
    const answers = await Promise.all(Array.from({ length: 16 }, () => jar.ask(`${gateway.url}/shop`)))
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    expect((await provider.requests())['/token']).toBe(asked + 1)
    await jar.ask(`${gateway.url}/shop`)
    expect(upstream.requests.at(-1)!.field('x-access')).not.toBe(before)
  })
})

describe('nodes', () => {
  it('with the same key open the same session', async () => {
    const jar = await staffLogin()
    const other = await startGateway({ config: ({ port }) => settings(port), files: { 'policy.yaml': policy() } })
    try {
      expect((await jar.ask(`${other.url}/staff`)).status).toBe(200)
    } finally {
      await other.stop()
    }
  })

  it('without a configured key each keeps one of its own, over a restart', async () => {
    const config = (port: number): string => settings(port).replace(/session_keys: \[.*?\], /, '')
    const own = await startGateway({ config: ({ port }) => config(port), files: { 'policy.yaml': policy() } })
    try {
      const jar = await staffLogin()
      expect((await jar.ask(`${own.url}/staff`)).status).toBe(302)
    } finally {
      await own.stop()
    }
  })
})

describe("ngrok's managed applications (§5.12)", () => {
  it('check takes them with a warning, run refuses them with one sentence', async () => {
    const files = { 'policy.yaml': 'on_http_request: [{ actions: [{ type: oauth, config: { provider: google } }] }]' }
    const managed = await startGateway({ config: ({ port }) => settings(port), files, unready: true })
    try {
      const { code } = await managed.exited
      expect(code).toBe(1)
      expect(managed.stderr()).toMatch(/error: google without client_id .* \[MANAGED_OAUTH_NOT_SERVED\]/)
      const checked = await managed.command('check')
      expect(checked.code).toBe(0)
      expect(checked.stderr).toMatch(/warning: google without client_id .* \[MANAGED_OAUTH_NOT_SERVED\]/)
    } finally {
      await managed.stop()
    }
  })
})
