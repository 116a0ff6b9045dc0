/** Variables of traffic-policy.md §6: values, hybrids, absent values, phases, old spellings. */
import { describe, expect, test } from 'vitest'
import { environment, expressionOf, problemsOf, sourceOf } from './exchange-source.ts'
import { outcome } from './shown.ts'

const source = sourceOf({
  method: 'POST',
  path: '/api/users/7',
  query: 'env=canary&Env=x&env=b',
  contentLength: 12,
  status: 503,
  headers: [
    ['host', 'shop.example.com'],
    ['authorization', 'Bearer x'],
    ['x-api-version', '2'],
    ['x-api-version', '3'],
    ['content-type', 'Application/JSON; charset="utf-8"; v=1'],
    ['content-encoding', 'gzip, br'],
    ['user-agent', 'curl/8'],
    ['cookie', 'a=1; b=2; a=3'],
    ['location', '/index.html'],
  ],
  responseHeaders: [['content-type', 'text/html']],
  vars: { n: 7n, list: ['a', 'b'], map: null },
  results: {
    jwt_validation: { tokens: [{ payload: { sub: 'user-1', exp: 1_700_000_000, ratio: 0.5 } }] },
    oauth: { identity: null, groups: ['a', 'b'] },
  },
})

type Row = readonly [expression: string, expected: string]

function check(rows: readonly Row[], own = source): void {
  for (const [expression, expected] of rows) {
    test(`${expression} → ${expected}`, () => {
      expect(outcome(expressionOf(expression), own)).toBe(expected)
    })
  }
}

describe('§6.2 conn, §6.6 endpoint', () => {
  check([
    [`conn.client_ip`, `'203.0.113.9'`],
    [`conn.client_ip in ['203.0.113.9']`, `true`],
    [`conn.client_ip in ['203.0.113.0/24']`, `false`],
    [`conn.client_port`, `50123`],
    [`conn.server_ip`, `'198.51.100.1'`],
    [`conn.server_port == 443`, `true`],
    [`conn.server_region`, `'eu'`],
    [`conn.ts.start`, `timestamp(2026-11-22T07:59:59Z)`],
    [`conn.bytes_in + conn.bytes_out`, `160`],
    [`endpoint.addr`, `'shop.example.com:443'`],
    [
      `endpoint.id + endpoint.url + endpoint.host + endpoint.protocol`,
      `'ep_1https://shop.example.comshop.example.comhttps'`,
    ],
    [`endpoint.port`, `443`],
    [`conn['client_ip'].isPrivateIp()`, `false`],
    [`[conn['client_ip']][0].categories`, `[]`],
  ])
})

describe('§6.1, §6.3 absent values', () => {
  check([
    [`conn.client_ip.geo.location.country_code`, `''`],
    [`conn.geo.country_code == 'US'`, `false`],
    [`conn.client_ip.as.number`, `error: conn.client_ip.as.number is not set`],
    [`has(conn.client_ip.as.number)`, `false`],
    [`has(conn.client_ip.as.organization)`, `true`],
    [`conn.client_ip.categories`, `[]`],
    [`'proxy.anonymous' in conn.client_ip.categories`, `false`],
    [`conn.client_ip.is_tor_node || conn.client_ip.is_on_blocklist`, `false`],
    [`conn.k8s.pod.metadata.error_code == ""`, `true`],
    [
      `conn.k8s.pod.metadata.annotations['k8s.ngrok.com/environment']`,
      `error: no such key: 'k8s.ngrok.com/environment'`,
    ],
    [`req.url.port`, `error: req.url.port is not set`],
    [`has(req.ts.body_received)`, `false`],
    [`has(res.content_length)`, `false`],
  ])
})

describe('§6.4 conn.tls', () => {
  check([
    [`conn.tls.version < '1.3'`, `error: conn.tls.version is not set`],
    [`has(conn.tls)`, `false`],
    [`conn.tls.client.extensions[0].critical`, `error: conn.tls.client.extensions is not set`],
  ])
  check(
    [
      [`conn.tls.version < '1.3'`, `true`],
      [`has(conn.tls) && conn.tls.sni == 'a.example'`, `true`],
      [`conn.tls.negotiated_alpn`, `''`],
      [`conn.tls.client.subject.common_name`, `'client'`],
      [`conn.tls.client.subject`, `'CN=client'`],
      [`conn.tls.client.issuer.country == ['US']`, `false`],
      [`size(conn.tls.client.extensions) > 0`, `false`],
      [`conn.tls.session_resumed == false`, `true`],
    ],
    sourceOf({
      tls: { version: '1.2', sni: 'a.example', 'client.subject': 'CN=client', 'client.subject.common_name': 'client' },
    }),
  )
})

describe('§6.7 req', () => {
  check([
    [`req.method == 'POST' && req.version == 'HTTP/1.1'`, `true`],
    [`req.url`, `'https://shop.example.com/api/users/7?env=canary&Env=x&env=b'`],
    [`req.url.contains('/api/users')`, `true`],
    [`req.url == 'https://shop.example.com/'`, `false`],
    [`size(req.url) > 10`, `true`],
    [`req.url.scheme + req.url.host + req.url.path`, `'httpsshop.example.com/api/users/7'`],
    [`req.url.uri`, `'/api/users/7?env=canary&Env=x&env=b'`],
    [`req.url.authority`, `'shop.example.com'`],
    [`req.url.user_password`, `''`],
    [`req.url.query.contains('DROP') || req.url.query.contains('env')`, `true`],
    [`'env' in req.url.query_params && req.url.query_params['env'][0] == 'canary'`, `true`],
    [`req.url.query_params`, `{'env': ['canary', 'b'], 'Env': ['x']}`],
    [`req.url.raw_path.startsWith('/api')`, `true`],
    [`req.headers['Authorization']`, `['Bearer x']`],
    [`req.headers['AUTHORIZATION'][0].startsWith('Bearer ')`, `true`],
    [`'Authorization' in req.headers && !('Tier' in req.headers)`, `true`],
    [`'2' in req.headers['X-Api-Version']`, `true`],
    [`req.headers.authorization[0]`, `'Bearer x'`],
    [`has(req.headers['X-API-Version']) && !has(req.headers['nope'])`, `true`],
    [`has(req.headers.authorization)`, `true`],
    [`req.headers['nope'][0] == 'a'`, `error: no such key: 'nope'`],
    [`req.headers['host']`, `['shop.example.com']`],
    [`req.headers.exists(name, name == 'x-api-version')`, `true`],
    [`req.headers[req.method == 'POST' ? 'X-Api-Version' : 'host'][1]`, `'3'`],
    [`size(req.headers)`, `8`],
    [`'x' in req.trailers`, `false`],
    [`req.cookies['a'].map(c, c.value)`, `['1', '3']`],
    [`size(req.cookies)`, `2`],
    [`req.content_type == 'application/json'`, `true`],
    [`req.content_type.raw`, `'Application/JSON; charset="utf-8"; v=1'`],
    [`req.content_type.parameters`, `{'charset': 'utf-8', 'v': '1'}`],
    [`req.content_length >= 10`, `true`],
    [`req.content_encoding`, `['gzip', 'br']`],
    [`req.location`, `'/index.html'`],
    [`req.user_agent.contains('curl')`, `true`],
    [`req.ts.header_received > conn.ts.start`, `true`],
  ])
})

describe('§6.8 res, §6.9 vars and actions', () => {
  check([
    [`res.status_code >= 500`, `true`],
    [`res.headers['content-type'].contains('html')`, `true`],
    [`res.content_type == 'text/html'`, `true`],
    [`vars.n + 1`, `8`],
    [`vars.none`, `error: vars.none is not set`],
    [`has(vars.n) && !has(vars.none)`, `true`],
    [`'n' in vars`, `true`],
    [`vars['list'][1]`, `'b'`],
    [`vars.map == null`, `true`],
    [`actions.ngrok.jwt_validation.tokens[0].payload.sub`, `'user-1'`],
    [`actions.ngrok.jwt_validation.tokens[0].payload.exp == 1700000000`, `true`],
    [`type(actions.ngrok.jwt_validation.tokens[0].payload.exp) == int`, `true`],
    [`type(actions.ngrok.jwt_validation.tokens[0].payload.ratio) == double`, `true`],
    [`actions.ngrok.jwt_validation.tokens[1].payload.sub`, `error: no such key: 'sub'`],
    [`actions.ngrok.jwt_validation.tokens.size()`, `1`],
    [`actions.ngrok['jwt_validation']['tokens'][0]['payload']['sub']`, `'user-1'`],
    [`actions.ngrok.oauth.groups.exists(g, g == 'b')`, `true`],
  ])
})

describe('§2.5 results of actions that have not run', () => {
  check([
    [`actions.ngrok.oidc.identity.email`, `error: no such key: 'email'`],
    [`actions.ngrok.oidc`, `{}`],
    [`has(actions.ngrok.oidc.identity)`, `false`],
    [`has(actions.ngrok.oidc)`, `false`],
    [`has(actions.ngrok.oauth)`, `true`],
    [`actions.ngrok.oidc.identity != null`, `false`],
    [`null == actions.ngrok.oidc.identity`, `true`],
    [`actions.ngrok.oauth.identity == null`, `true`],
    [`actions.ngrok.jwt_validation.tokens != null`, `true`],
  ])
})

describe('T-67: nothing of JavaScript is reachable', () => {
  check([
    [`actions.ngrok.oauth.constructor`, `error: no such key: 'constructor'`],
    [`actions.ngrok.oauth.__proto__`, `error: no such key: '__proto__'`],
    [`vars.__proto__`, `error: vars.__proto__ is not set`],
    [`req.headers['__proto__']`, `error: no such key: '__proto__'`],
    [`{'a': 1}['toString']`, `error: no such key: 'toString'`],
    [`req.url.query_params['constructor']`, `error: no such key: 'constructor'`],
  ])
  for (const text of ['req.__proto__', 'constructor', 'req.constructor', 'conn.hasOwnProperty', `''.constructor`]) {
    test(`${text} does not compile`, () => expect(problemsOf(text)).toContain('error: '))
  }
})

describe('phases (§2.6)', () => {
  const connect = { ...environment, phase: 'on_tcp_connect' as const }
  test('req, res and byte counts do not exist in on_tcp_connect', () => {
    expect(problemsOf('req.method', connect)).toContain('req is not known in on_tcp_connect')
    expect(problemsOf('res.status_code', connect)).toContain('res is not known in on_tcp_connect')
    expect(problemsOf('conn.bytes_in', connect)).toContain('no bytes are counted yet')
    expect(problemsOf('conn.client_ip', connect)).toBe('')
  })
  test('res does not exist in on_http_request', () => {
    const request = { ...environment, phase: 'on_http_request' as const }
    expect(problemsOf('res.status_code >= 500', request)).toContain('res is not known in on_http_request')
    expect(problemsOf('req.method', request)).toBe('')
  })
})

describe('§6.10 spellings of the old format', () => {
  const legacy = { ...environment, legacy: true }
  const rows: readonly Row[] = [
    [`req.Method`, `'POST'`],
    [`req.Headers['Host'][0]`, `'shop.example.com'`],
    [`req.Path`, `'/api/users/7'`],
    [`req.Params['env'][0]`, `'canary'`],
    [`req.URL.path`, `'/api/users/7'`],
    [`req.ContentLength`, `12`],
    [`conn.ClientIP`, `'203.0.113.9'`],
    [`conn.Geo.CountryCode`, `''`],
    [`res.StatusCode`, `503`],
    [`.ngrok.geo.country_code`, `''`],
    [`conn.TLS.Version`, `error: conn.tls.version is not set`],
    [`req.URL.Path`, `'/api/users/7'`],
  ]
  for (const [text, expected] of rows) {
    test(`${text} → ${expected}`, () => {
      expect(problemsOf(text, legacy)).toBe('')
      expect(outcome(expressionOf(text, legacy), source)).toBe(expected)
    })
  }
  test('in today’s format they are accepted with a warning', () => {
    expect(problemsOf('req.Method')).toContain(
      'warning: req.Method is the spelling of the old format: write req.method',
    )
    expect(outcome(expressionOf('req.Method'), source)).toBe(`'POST'`)
  })
})
