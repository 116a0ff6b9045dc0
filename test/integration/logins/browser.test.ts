/** Logins as people see them: a real browser, TLS, a real OpenID provider (§5.12, §5.13, §5.23). */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { browserSkipReason, startBrowser } from '../../support/browser.ts'
import { makeCertificate, opensslSkipReason } from '../../support/certificates.ts'
import { startEchoUpstream, type EchoUpstream } from '../../support/echo-upstream.ts'
import { startSamlProvider, type SamlProvider } from '../../support/saml-provider.ts'
import { freePorts, startGateway, type RunningGateway } from '../../support/start-gateway.ts'
import { startOpenidProvider, type OpenidProvider } from '../../support/start-openid-provider.ts'

describe.skipIf(browserSkipReason !== undefined || opensslSkipReason !== undefined)('in a browser', () => {
  let upstream: EchoUpstream
  let provider: OpenidProvider
  let saml: SamlProvider
  let gateway: RunningGateway
  let browser: Browser
  let person: BrowserContext
  let app = ''
  let samlApp = ''

  beforeAll(async () => {
    upstream = await startEchoUpstream()
    saml = await startSamlProvider()
    const { certificate, key } = makeCertificate({ names: 'DNS:app.localhost,DNS:saml.localhost' })
    const [providerPort = 0] = await freePorts(1)
    gateway = await startGateway({
      config: ({ port }) => `
listeners:
  - address: 127.0.0.1:${port}
    tls: { certificates: [{ certificate: tls.pem, key: tls.key }] }
endpoints:
  - { name: app, url: "https://app.localhost:${port}", upstream: { url: "http://127.0.0.1:${upstream.port}" }, traffic_policy_file: openid.yaml }
  - { name: saml, url: "https://saml.localhost:${port}", upstream: { url: "http://127.0.0.1:${upstream.port}" }, traffic_policy_file: saml.yaml }
`,
      files: {
        'tls.pem': certificate,
        'tls.key': key,
        'openid.yaml': `
on_http_request:
  - actions:
      - type: openid-connect
        config: { issuer_url: "http://127.0.0.1:${providerPort}", client_id: gateway, client_secret: a-secret-of-the-gateway-only, scopes: [openid, email, profile] }
  - actions:
      - type: custom-response
        config: { body: "hello \${actions.ngrok.oidc.identity.name} at \${req.url.uri}" }
`,
        'saml.yaml': `
on_http_request:
  - actions: [{ type: saml, config: { idp_metadata: '${saml.metadata}' } }]
  - actions: [{ type: custom-response, config: { body: "hello \${actions.ngrok.saml.identity.email} at \${req.url.uri}" } }]
`,
      },
    })
    app = `https://app.localhost:${gateway.port}`
    samlApp = `https://saml.localhost:${gateway.port}`
    provider = await startOpenidProvider({ port: providerPort, redirectUris: [`${app}/ngrok/oauth2/callback`] })
    browser = await startBrowser()
  })
  afterAll(async () => {
    await browser?.close()
    await gateway?.stop()
    await provider?.stop()
    await saml?.stop()
    await upstream?.close()
  })
  beforeEach(async () => {
    // the tests make their own certificates
    person = await browser.newContext({ ignoreHTTPSErrors: true })
    person.setDefaultTimeout(20_000)
  })
  afterEach(async () => {
    await person.close()
  })

  async function logIn(page: Page, account: string): Promise<void> {
    await page.fill('input[name=login]', account)
    await page.fill('input[name=password]', 'any')
    await page.click('button[type=submit]')
  }

  async function consent(page: Page): Promise<void> {
    await page.waitForSelector('input[name=prompt][value=consent]', { state: 'attached' })
    await page.click('button[type=submit]')
  }

  const text = (page: Page): Promise<string> => page.innerText('body')

  it('logs in, keeps the session in a cookie that no script sees, and logs out', async () => {
    const page = await person.newPage()
    await page.goto(`${app}/shop?item=1`)
    await logIn(page, 'ada')
    await consent(page)
    await page.waitForURL(`${app}/shop?item=1`)
    expect(await text(page)).toBe('hello User ada at /shop?item=1')
    const cookies = await person.cookies(app)
    expect(
      cookies.map(({ name, httpOnly, secure, sameSite, path }) => ({ name, httpOnly, secure, sameSite, path })),
    ).toEqual([{ name: '__Host-session', httpOnly: true, secure: true, sameSite: 'Lax', path: '/' }])
    expect(await page.evaluate('document.cookie')).toBe('')
    // the workers share it
    for (let visit = 0; visit < 10; visit++) {
      await page.goto(`${app}/shop/${visit}`)
      expect(await text(page)).toBe(`hello User ada at /shop/${visit}`)
    }
    await page.goto(`${app}/ngrok/logout`)
    expect(await text(page)).toContain('Signed out')
    const left = await person.cookies(app)
    expect(left.filter(({ name }) => name.includes('session'))).toEqual([])
    // the provider still knows the browser, and has agreed before
    await page.goto(`${app}/again`)
    await page.waitForURL(`${app}/again`)
    expect(await text(page)).toBe('hello User ada at /again')
  })

  it('a cookie that was changed leads to the login', async () => {
    const page = await person.newPage()
    await page.goto(`${app}/a`)
    await logIn(page, 'bob')
    await consent(page)
    await page.waitForURL(`${app}/a`)
    const [session] = await person.cookies(app)
    const value = `${session!.value.slice(0, -10)}AAAAAAAAAA`
    await person.addCookies([{ ...session!, value }])
    const [answer] = await Promise.all([
      page.waitForResponse((response) => response.url() === `${app}/b`),
      page.goto(`${app}/b`),
    ])
    expect(answer.status()).toBe(302)
    await page.waitForURL(`${app}/b`)
  })

  it('two tabs log in at the same time', async () => {
    const [first, second] = [await person.newPage(), await person.newPage()]
    await first.goto(`${app}/first`)
    await second.goto(`${app}/second`)
    await logIn(first, 'carol')
    await consent(first)
    await first.waitForURL(`${app}/first`)
    await second.reload()
    await second.goto(`${app}/second`)
    expect(await text(second)).toBe('hello User carol at /second')
    expect(await text(first)).toBe('hello User carol at /first')
  })

  it('who says no at the provider is told so, and may try again', async () => {
    const page = await person.newPage()
    await page.goto(`${app}/wanted`)
    await logIn(page, 'dan')
    await page.waitForSelector('input[name=prompt][value=consent]', { state: 'attached' })
    await page.click('a[href$="/abort"]')
    await page.waitForURL(/\/ngrok\/oauth2\/callback/)
    expect(await text(page)).toContain('The login was denied at the provider. (ERR_NGROK_5517)')
    await page.click('text=Try again')
    await logIn(page, 'dan')
    await consent(page)
    await page.waitForURL(`${app}/wanted`)
    expect(await text(page)).toBe('hello User dan at /wanted')
  })

  it('an answer that is loaded again is no login, and says what to do', async () => {
    const page = await person.newPage()
    let callback = ''
    page.on('request', (request) => {
      if (request.url().includes('/ngrok/oauth2/callback')) callback = request.url()
    })
    await page.goto(`${app}/x`)
    await logIn(page, 'eve')
    await consent(page)
    await page.waitForURL(`${app}/x`)
    await page.goto(callback)
    expect(await text(page)).toContain('ERR_NGROK_5500')
    await page.goto(`${app}/y`)
    expect(await text(page)).toBe('hello User eve at /y')
  })

  it('saml: the answer is posted by another site, and finds the login all the same', async () => {
    const page = await person.newPage()
    await page.goto(`${samlApp}/report?year=2026`)
    await page.click('text=Sign in')
    await page.waitForURL(`${samlApp}/report?year=2026`)
    expect(await text(page)).toBe('hello ada@example.org at /report?year=2026')
    const cookies = await person.cookies(samlApp)
    expect(cookies.map(({ name, sameSite }) => [name, sameSite])).toEqual([['__Host-session', 'Lax']])
  })
})
