/**
 * A real OpenID provider (npm's oidc-provider) as a process of its own; started by start-openid-provider.ts. Its forms
 * for logging in and consenting are the package's development ones: any account name is a user.
 *
 * argv[2]: JSON of the clients, token lifetimes and the port. `/test/control` changes how it behaves.
 */
import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'

const options = JSON.parse(process.argv[2])
const issuer = `http://127.0.0.1:${options.port}`
const control = { down: false, status: 503, nonce: '', claims: {}, hang: false }
const requests = {}

const provider = new Provider(issuer, {
  clients: options.clients,
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  conformIdTokenClaims: true,
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      email: `${id}@example.org`,
      email_verified: true,
      name: `User ${id}`,
      ...control.claims[id],
    }),
  }),
  issueRefreshToken: async (_context, client) => client.grantTypeAllowed('refresh_token'),
  rotateRefreshToken: true,
  ttl: {
    AccessToken: options.accessTokenSeconds ?? 3600,
    IdToken: 3600,
    Grant: 86_400,
    Session: 86_400,
    Interaction: 3600,
    AuthorizationCode: 60,
    RefreshToken: 86_400,
  },
  cookies: { keys: ['test'] },
  features: { devInteractions: { enabled: true }, rpInitiatedLogout: { enabled: false } },
})
const callback = provider.callback()

createServer((request, response) => {
  const path = request.url.split('?', 1)[0]
  if (path === '/test/control') {
    let text = ''
    request.on('data', (chunk) => (text += chunk))
    request.on('end', () => {
      Object.assign(control, text === '' ? {} : JSON.parse(text))
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ requests }))
    })
    return
  }
  requests[path] = (requests[path] ?? 0) + 1
  if (control.hang) return
  if (control.down) {
    response.statusCode = control.status
    response.end()
    return
  }
  // as if another login's answer were played to this one
  if (path === '/auth' && control.nonce !== '') {
    request.url = request.url.replace(/([?&]nonce=)[^&]*/, `$1${control.nonce}`)
  }
  callback(request, response)
}).listen(options.port, '127.0.0.1', () => process.stdout.write('ready\n'))
