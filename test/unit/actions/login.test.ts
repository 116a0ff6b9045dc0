/** Logins in the spine: a request with a session waits for nothing, and paths of logins come before the rules. */
import { describe, expect, it } from 'vitest'
import { openidConnect } from '../../../src/actions/openid-connect.ts'
import type { OpenidClients } from '../../../src/login/openid.ts'
import { NO_TOKENS, newSession } from '../../../src/login/session.ts'
import { gatewayWith, type MemoryGateway } from '../exchange/memory-gateway.ts'

const KEY = 'a-key-of-more-than-32-characters-abcd'
const POLICY = `
on_http_request:
  - expressions: ["req.url.path.startsWith('/open')"]
    actions: [{ type: custom-response, config: { body: open } }]
  - actions:
      - { type: openid-connect, config: { issuer_url: https://id.example, client_id: a, client_secret: b, max_session_duration: 1h } }
      - { type: add-headers, config: { headers: { x-user: "\${actions.ngrok.oidc.identity.email}" } } }
`
const start = (policy = POLICY): Promise<MemoryGateway> =>
  gatewayWith(policy, { settings: `login: { session_keys: [${KEY}] }` })

/** A provider that remembers what it was asked. */
function withProvider(gateway: MemoryGateway): { readonly states: string[] } {
  const states: string[] = []
  const openid: Pick<OpenidClients, 'begin'> = {
    begin: (_provider, _client, { flow }) => {
      states.push(flow.state)
      return Promise.resolve(`https://id.example/auth?state=${flow.state}`)
    },
  }
  Object.assign(gateway.services, { openid })
  return { states }
}

const settled = (): Promise<void> =>
  new Promise((resolve) => {
    setImmediate(resolve)
  })

describe('a request with a session', () => {
  it('is forwarded in the tick in which it came, with its cookie once and a hundred times', async () => {
    const gateway = await start()
    const realms: string[] = []
    const box = gateway.snapshot.sessions!
    const open = box.open.bind(box)
    box.open = (text, realm) => {
      realms.push(realm)
      return open(text, realm)
    }
    gateway.request({ fields: 'cookie: session=1.AAAA\r\n' })
    const session = newSession({ subject: '1', email: 'ada@example.org', name: 'Ada' }, NO_TOKENS, Date.now())
    const sealed = box.seal(session, realms[0]!)
    for (let request = 0; request < 100; request++) {
      const exchange = gateway.request({ fields: `cookie: own=1; session=1.${sealed}; other=2\r\n` })
      // no await: what the gateway did, it has done by now
      const { head } = exchange.last('forward')
      expect(head).toContain('\r\nx-user: ada@example.org\r\n')
      expect(head).toContain('\r\ncookie: own=1; other=2\r\n')
      expect(head).not.toContain(sealed)
      exchange.done()
    }
    expect(open(sealed, realms[0]!)).toBe(open(sealed, realms[0]!))
  })
})

describe('without one', () => {
  it('rules that do not need the login stay as they are, and hide our cookies', async () => {
    const gateway = await start()
    expect(gateway.request({ path: '/open' }).last('respond').body).toBe('open')
  })

  it('the paths of logins come before every rule', async () => {
    const gateway = await start(POLICY.replace("startsWith('/open')", "startsWith('/')"))
    const { states } = withProvider(gateway)
    const login = gateway.request({ path: '/ngrok/login' })
    await settled()
    expect(login.status).toBe(302)
    expect(states).toHaveLength(1)
    const callback = gateway.request({ path: '/ngrok/oauth2/callback?state=x' })
    await settled()
    expect(callback.status).toBe(400)
    // logging out drops the session whatever answers
    const logout = gateway.request({ path: '/ngrok/logout' })
    expect(logout.last('respond').body).toBe('open')
    expect(logout.last('respond').head).toMatch(/set-cookie: session=; Path=\/; Max-Age=0/)
  })

  it('/ngrok/logout never reaches an upstream', async () => {
    const gateway = await start(POLICY.replace('  - actions:', '  - expressions: ["false"]\n    actions:'))
    const logout = gateway.request({ path: '/ngrok/logout' })
    expect(logout.last('respond').body).toContain('Signed out')
  })
})

it('openid-connect goes by its old name too', () => {
  expect(openidConnect.aliases).toEqual(['oidc'])
})
