/** How each provider speaks of a user, by answers in the form that its public documentation shows. */
import { describe, expect, it } from 'vitest'
import { LoginError } from '../../../src/login/login-error.ts'
import { fromClaims, OAUTH_PROVIDER_NAMES, oauthProvider, type AskApi } from '../../../src/login/oauth-providers.ts'

const answers =
  (by: Readonly<Record<string, unknown>>): AskApi =>
  (url) => {
    const answer = by[url]
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer)
  }

const client = { id: 'client', scopes: [] }

describe('§5.12 providers', () => {
  it.each([
    [
      'amazon',
      { 'https://api.amazon.com/user/profile': { user_id: 'amzn1.account.K', email: 'a@b.example', name: 'A' } },
      'amzn1.account.K',
    ],
    [
      'facebook',
      { 'https://graph.facebook.com/me?fields=id,name,email': { id: '9', email: 'a@b.example', name: 'A' } },
      '9',
    ],
    ['github', { 'https://api.github.com/user': { id: 42, login: 'a', email: 'a@b.example', name: 'A' } }, '42'],
    ['gitlab', { 'https://gitlab.com/oauth/userinfo': { sub: '7', email: 'a@b.example', name: 'A' } }, '7'],
    [
      'google',
      { 'https://openidconnect.googleapis.com/v1/userinfo': { sub: '1', email: 'a@b.example', name: 'A' } },
      '1',
    ],
    [
      'linkedin',
      {
        'https://api.linkedin.com/v2/me': { id: 'L', localizedFirstName: 'A' },
        'https://api.linkedin.com/v2/emailAddress?q=members&projection=(elements*(handle~))': {
          elements: [{ 'handle~': { emailAddress: 'a@b.example' } }],
        },
      },
      'L',
    ],
    [
      'microsoft',
      {
        'https://graph.microsoft.com/v1.0/me': {
          id: 'M',
          mail: null,
          userPrincipalName: 'a@b.example',
          displayName: 'A',
        },
      },
      'M',
    ],
    [
      'twitch',
      { 'https://api.twitch.tv/helix/users': { data: [{ id: 'T', display_name: 'A', email: 'a@b.example' }] } },
      'T',
    ],
  ] as const)('%s', async (name, by, subject) => {
    const found = await oauthProvider(name).profile(answers(by), client)
    expect(found).toEqual({ subject, email: 'a@b.example', name: 'A' })
  })

  it.each(OAUTH_PROVIDER_NAMES)('%s: all addresses are https', (name) => {
    const provider = oauthProvider(name)
    for (const url of [provider.authorizationUrl, provider.tokenUrl]) expect(new URL(url).protocol).toBe('https:')
    expect(provider.scopes([]).length).toBeGreaterThan(0)
  })

  it('github: an address that is kept private is asked for, and may stay unknown', async () => {
    const user = { 'https://api.github.com/user': { id: 1, login: 'a', email: null } }
    const emails = 'https://api.github.com/user/emails'
    const seen = [
      { email: 'x@b.example', primary: false, verified: true },
      { email: 'a@b.example', primary: true, verified: true },
    ]
    const profile = (more: unknown) => oauthProvider('github').profile(answers({ ...user, [emails]: more }), client)
    expect((await profile(seen)).email).toBe('a@b.example')
    expect((await profile([{ email: 'a@b.example', primary: true, verified: false }])).email).toBe('')
    expect((await profile(new LoginError('LOGIN_REVOKED', '403'))).email).toBe('')
    await expect(profile(new LoginError('LOGIN_PROVIDER_FAILED', '502'))).rejects.toThrow('502')
  })

  it('linkedin: applications with openid are asked by OpenID', async () => {
    const provider = oauthProvider('linkedin')
    expect(provider.scopes(['openid'])).toEqual(['profile', 'email'])
    const found = await provider.profile(
      answers({ 'https://api.linkedin.com/v2/userinfo': { sub: 'S', email: 'a@b.example', name: 'A' } }),
      { id: 'client', scopes: ['openid'] },
    )
    expect(found.subject).toBe('S')
  })

  it('github and gitlab may be servers of your own', () => {
    expect(oauthProvider('github', 'https://git.corp.example').tokenUrl).toBe(
      'https://git.corp.example/login/oauth/access_token',
    )
    expect(oauthProvider('gitlab', 'https://git.corp.example').tokenUrl).toBe('https://git.corp.example/oauth/token')
  })

  it('a user without an id is refused; an unverified address does not count', () => {
    expect(() => fromClaims({ email: 'a@b.example' })).toThrow(LoginError)
    expect(() => fromClaims({ sub: '' })).toThrow('no user id')
    expect(fromClaims({ sub: '1', email: 'a@b.example', email_verified: false }).email).toBe('')
    expect(fromClaims({ sub: '1', email: 'a@b.example' }).email).toBe('a@b.example')
  })
})
