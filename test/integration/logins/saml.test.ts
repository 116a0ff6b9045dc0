/** `saml` over real HTTP against an identity provider of our own making (§5.23): logins, and the known attacks. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { opensslSkipReason } from '../../support/certificates.ts'
import { CookieJar } from '../../support/cookie-jar.ts'
import { startEchoUpstream, type EchoUpstream } from '../../support/echo-upstream.ts'
import { startSamlProvider, type AnswerWish, type SamlProvider } from '../../support/saml-provider.ts'
import { get, startGateway, type Answer, type RunningGateway } from '../../support/start-gateway.ts'

const ACS = '/ngrok/saml/acs'

describe.skipIf(opensslSkipReason !== undefined)('saml', () => {
  let upstream: EchoUpstream
  let provider: SamlProvider
  let gateway: RunningGateway

  const policy = (more = ''): string => `
on_http_request:
  - actions:
      - type: saml
        config:
          idp_metadata: '${provider.metadata}'
          ${more}
  - actions:
      - type: add-headers
        config:
          headers:
            x-user: "\${actions.ngrok.saml.identity.email}"
            x-name: "\${actions.ngrok.saml.identity.name}"
            x-groups: "\${actions.ngrok.saml.groups}"
`
  const reload = async (more: string): Promise<void> => {
    gateway.write('policy.yaml', policy(more))
    expect((await gateway.command('reload')).code).toBe(0)
  }

  beforeAll(async () => {
    upstream = await startEchoUpstream()
    provider = await startSamlProvider()
    gateway = await startGateway({
      config: ({ port }) => `
endpoints:
  - { name: app, url: "http://localhost:${port}", upstream: { url: "http://127.0.0.1:${upstream.port}" }, traffic_policy_file: policy.yaml }
`,
      files: { 'policy.yaml': policy() },
    })
  })
  afterAll(async () => {
    await gateway?.stop()
    await provider?.stop()
    await upstream?.close()
  })
  beforeEach(() => upstream.reset())

  /** A login that has begun: what the provider is asked, and what an honest answer must say. */
  async function begun(path = '/app?x=1'): Promise<{
    readonly jar: CookieJar
    readonly wish: AnswerWish
    readonly relayState: string
  }> {
    const jar = new CookieJar()
    const first = await jar.ask(`${gateway.url}${path}`)
    expect(first.status).toBe(302)
    const asked = provider.read(String(first.headers['location']))
    return {
      jar,
      relayState: asked.relayState,
      wish: { inResponseTo: asked.id, acs: asked.acs, audience: asked.issuer },
    }
  }

  const post = (jar: CookieJar, xml: string, relayState: string): Promise<Answer> =>
    jar.ask(`${gateway.url}${ACS}`, {
      body: new URLSearchParams({
        SAMLResponse: Buffer.from(xml).toString('base64'),
        RelayState: relayState,
      }).toString(),
    })

  const refused = (answer: Answer): void => {
    expect([answer.status, answer.headers['sallyport-error-code']]).toEqual([403, 'ERR_GW_1127'])
    expect(String(answer.headers['set-cookie'] ?? '')).not.toContain('session=1')
  }

  it.each(['assertion', 'response'] as const)('logs in with a signed %s', async (sign) => {
    const { jar, wish, relayState } = await begun()
    expect(wish).toMatchObject({ acs: `${gateway.url}${ACS}`, audience: `${gateway.url}/ngrok/saml/metadata` })
    const done = await post(jar, provider.answer({ ...wish, sign, groups: ['staff', 'ops'] }), relayState)
    expect([done.status, done.headers['location']]).toEqual([303, '/app?x=1'])
    for (let request = 0; request < 8; request++) {
      expect((await jar.ask(`${gateway.url}/app`)).status).toBe(200)
    }
    const { field } = upstream.requests.at(-1)!
    expect([field('x-user'), field('x-name')]).toEqual(['ada@example.org', 'User ada'])
    expect(field('x-groups')!.split(/, ?/)).toEqual(['staff', 'ops'])
    expect(field('cookie')).toBeUndefined()
    await jar.ask(`${gateway.url}/ngrok/logout`)
    expect((await jar.ask(`${gateway.url}/app`)).status).toBe(302)
  })

  it('describes itself', async () => {
    const answer = await get(`${gateway.url}/ngrok/saml/metadata`)
    expect(answer.status).toBe(200)
    expect(answer.body).toContain(`entityID="${gateway.url}/ngrok/saml/metadata"`)
    expect(answer.body).toContain(`Location="${gateway.url}${ACS}"`)
  })

  describe('an answer is refused', () => {
    const plain: readonly (readonly [string, Partial<AnswerWish>])[] = [
      ['without a signature', { sign: 'none' }],
      ['signed with SHA-1', { algorithm: 'sha1' }],
      ['for another audience', { audience: 'https://other.example/metadata' }],
      ['for another recipient', { recipient: 'https://other.example/acs' }],
      ['for another destination', { destination: 'https://other.example/acs' }],
      ['of another issuer', { issuer: 'https://other.example/idp' }],
      ['that has expired', { notOnOrAfter: -120 }],
      ['that may be used for longer than a day', { notOnOrAfter: 90_000 }],
      ['that is not valid yet', { notBefore: 300 }],
      ['to another request', { inResponseTo: '_another-request' }],
      ['whose subject answers another request', { subjectInResponseTo: '_another-request' }],
      ['to no request', { inResponseTo: '' }],
      ['with a confirmation that is not bearer', { method: 'urn:oasis:names:tc:SAML:2.0:cm:sender-vouches' }],
      ['with a status that is not success', { status: 'Responder' }],
    ]
    it.each(plain)('%s', async (_, change) => {
      const { jar, wish, relayState } = await begun()
      refused(await post(jar, provider.answer({ ...wish, ...change }), relayState))
    })

    it('signed with a key that is not in the metadata', async () => {
      const { jar, wish, relayState } = await begun()
      refused(await post(jar, provider.answer({ ...wish, key: provider.otherKey }), relayState))
    })

    const changed: readonly (readonly [string, (xml: string) => string])[] = [
      ['with another user written into it', (xml) => xml.replace('ada@example.org', 'eve@example.org')],
      ['with a comment in the user name', (xml) => xml.replace('ada@', 'ada<!-- -->@')],
      ['with another attribute', (xml) => xml.replace('>staff<', '>admin<')],
      ['with its signature cut out', (xml) => xml.replace(/<Signature[\s\S]*<\/Signature>/, '')],
      [
        'with a document type',
        (xml) => `<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>${xml.replace('ada@', '&x;@')}`,
      ],
      ['with entities that grow', (xml) => `<!DOCTYPE a [<!ENTITY x "xxxxxxxx"><!ENTITY y "&x;&x;&x;">]>${xml}`],
      ['that is not XML', () => 'hello'],
      ['that is empty', () => ' '],
      [
        'wrapped: a forged assertion in front of the signed one (XSW)',
        (xml) => {
          const signed = /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(xml)![0]
          const forged = signed
            .replace(/<Signature[\s\S]*<\/Signature>/, '')
            .replace(/ID="[^"]+"/, 'ID="_forged"')
            .replace('ada@', 'eve@')
          return xml.replace(signed, `${forged}${signed}`)
        },
      ],
      [
        'wrapped: the signed assertion inside the forged one',
        (xml) => {
          const signed = /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(xml)![0]
          const forged = signed
            .replace(/<Signature[\s\S]*<\/Signature>/, '')
            .replace(/ID="[^"]+"/, 'ID="_forged"')
            .replace('ada@', 'eve@')
            .replace('</saml:Assertion>', `<saml:Advice>${signed}</saml:Advice></saml:Assertion>`)
          return xml.replace(signed, forged)
        },
      ],
      [
        'wrapped: the signed assertion inside an Object of its signature',
        (xml) => {
          const signed = /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(xml)![0]
          const signature = /<Signature[\s\S]*<\/Signature>/.exec(signed)![0]
          const bare = signed.replace(signature, '')
          const holding = signature.replace('</Signature>', `<Object>${bare}</Object></Signature>`)
          const forged = bare.replace('ada@', 'eve@').replace(/ID="[^"]+"/, 'ID="_forged"')
          return xml.replace(signed, forged.replace('<saml:Subject>', `${holding}<saml:Subject>`))
        },
      ],
      [
        'with the same id twice',
        (xml) => {
          const signed = /<saml:Assertion[\s\S]*<\/saml:Assertion>/.exec(xml)![0]
          const id = /ID="([^"]+)"/.exec(signed)![1]!
          return xml.replace('<samlp:Status>', `<samlp:Extensions><x ID="${id}"/></samlp:Extensions><samlp:Status>`)
        },
      ],
    ]
    it.each(changed)('%s', async (_, change) => {
      const { jar, wish, relayState } = await begun()
      refused(await post(jar, provider.answer({ ...wish, change }), relayState))
      expect((await jar.ask(`${gateway.url}/app`)).status).toBe(302)
    })

    it('that was used before, also in another browser that has the open login', async () => {
      const { jar, wish, relayState } = await begun()
      const cookies = [...jar.cookies()]
      const answer = provider.answer(wish)
      expect((await post(jar, answer, relayState)).status).toBe(303)
      for (let worker = 0; worker < 6; worker++) {
        const thief = new CookieJar()
        for (const [name, value] of cookies) thief.cookies().set(name, value)
        refused(await post(thief, answer, relayState))
      }
    })

    it('in a browser that has not begun it: 400', async () => {
      const { wish, relayState } = await begun()
      const answer = await post(new CookieJar(), provider.answer(wish), relayState)
      expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([400, 'ERR_NGROK_5500'])
    })

    it('that nobody asked for: 400', async () => {
      const { wish } = await begun()
      const unasked = provider.answer({ ...wish, inResponseTo: '' })
      const answer = await post(new CookieJar(), unasked, '/app')
      expect([answer.status, answer.headers['ngrok-error-code']]).toEqual([400, 'ERR_NGROK_5500'])
    })

    it.each([
      ['GET', {}],
      ['POST', { body: 'x=1' }],
    ])('by %s without SAMLResponse: 400', async (method, more) => {
      const answer = await get(`${gateway.url}${ACS}`, { method, ...more })
      expect(answer.status).toBe(400)
    })
  })

  it('allow_idp_initiated takes answers that nobody asked for, to a path on this host', async () => {
    await reload('allow_idp_initiated: true')
    const { wish } = await begun()
    for (const [relayState, location] of [
      ['/app/start', '/app/start'],
      ['https://attacker.example/', '/'],
      ['', '/'],
    ] as const) {
      const answer = await post(new CookieJar(), provider.answer({ ...wish, inResponseTo: '' }), relayState)
      expect([answer.status, answer.headers['location']]).toEqual([303, location])
    }
    // but not one that another browser asked for
    refused(await post(new CookieJar(), provider.answer(wish), ''))
  })

  it('authorized_groups lets one of them in', async () => {
    await reload('authorized_groups: [ops, admins]')
    const first = await begun()
    const no = await post(first.jar, provider.answer(first.wish), first.relayState)
    expect([no.status, no.headers['ngrok-error-code']]).toEqual([403, 'ERR_NGROK_5511'])
    const second = await begun()
    const yes = await post(second.jar, provider.answer({ ...second.wish, groups: ['x', 'ops'] }), second.relayState)
    expect(yes.status).toBe(303)
  })

  it('force_authn, entity_id and assertion_consumer_service_url', async () => {
    const acs = `${gateway.url}/saml/consume`
    await reload(
      `force_authn: true\n          entity_id: urn:our:app\n          assertion_consumer_service_url: ${acs}`,
    )
    const jar = new CookieJar()
    const asked = provider.read(String((await jar.ask(`${gateway.url}/app`)).headers['location']))
    expect([asked.issuer, asked.acs]).toEqual(['urn:our:app', acs])
    expect(asked.xml).toContain('ForceAuthn="true"')
    const xml = provider.answer({ inResponseTo: asked.id, acs: asked.acs, audience: asked.issuer })
    const body = new URLSearchParams({
      SAMLResponse: Buffer.from(xml).toString('base64'),
      RelayState: asked.relayState,
    })
    expect((await jar.ask(acs, { body: body.toString() })).status).toBe(303)
  })

  it('idp_metadata_url is fetched with the first login, and its failure is an error of the provider', async () => {
    gateway.write('policy.yaml', policy().replace(/idp_metadata: '.*'/, `idp_metadata_url: ${provider.url}/metadata`))
    provider.down = true
    expect((await gateway.command('reload')).code).toBe(0)
    const failed = await get(`${gateway.url}/app`)
    expect([failed.status, failed.headers['ngrok-error-code']]).toEqual([502, 'ERR_NGROK_5521'])
    provider.down = false
    const deadline = Date.now() + 15_000
    let status = 0
    while (status !== 302 && Date.now() < deadline) status = (await get(`${gateway.url}/app`)).status
    expect(status).toBe(302)
    expect(provider.metadataRequests).toBeLessThanOrEqual(2)
  })
})
