import { describe, expect, test } from 'vitest'
import { accessLine, emptyAccessRecord, type AccessRecord } from '../../../src/access-log/record.ts'
import {
  isSecretName,
  isSecretVariable,
  maskedJson,
  maskMatched,
  maskTarget,
  maskText,
  maskTokens,
  maskUrl,
} from '../../../src/access-log/redact.ts'
import { expectLinear } from '../../support/linear-work.ts'

const TOKEN = `eyJhbGciOiJSUzI1NiJ9.${'a'.repeat(60)}.${'b'.repeat(40)}`

function line(fields: Partial<AccessRecord>): Record<string, unknown> {
  const text = accessLine({ ...emptyAccessRecord(), timeMs: 1_700_000_000_123, ...fields })
  expect(text.endsWith('}\n')).toBe(true)
  expect(text.slice(0, -1)).toMatch(/^[\x20-\x7e]*$/)
  return JSON.parse(text) as Record<string, unknown>
}

describe('accessLine', () => {
  test('O-58: every field under its name; times in milliseconds', () => {
    expect(
      line({
        requestId: 'r1',
        traceId: 't1',
        method: 'POST',
        host: 'api.example.com',
        path: '/a?b=1',
        protocol: 'HTTP/1.1',
        userAgent: 'curl/8',
        endpoint: 'users',
        rule: 'on_http_request[2]',
        action: 'forward-internal',
        target: '127.0.0.1:9001',
        status: 502,
        reason: 'connect_failed',
        bytesIn: 3,
        bytesOut: 44,
        readMs: 0.1,
        policyMs: 0.12345,
        queueMs: 0,
        connectMs: 1,
        firstByteMs: 12.5,
        totalMs: 1234.5678,
        tries: 2,
        connectionReused: true,
        tlsVersion: 'TLSv1.3',
        clientAddress: '203.0.113.9',
        peerAddress: '10.0.0.1',
        wafRuleIds: [942100, 949110],
        wafScore: 5,
        logs: ['{"metadata":{"a":"ü"}}'],
      }),
    ).toEqual({
      level: 'info',
      time: '2023-11-14T22:13:20.123Z',
      msg: 'request',
      request_id: 'r1',
      trace_id: 't1',
      endpoint: 'users',
      rule: 'on_http_request[2]',
      action: 'forward-internal',
      target: '127.0.0.1:9001',
      status: 502,
      reason: 'connect_failed',
      method: 'POST',
      host: 'api.example.com',
      path: '/a?b=1',
      bytes_in: 3,
      bytes_out: 44,
      t_read: 0.1,
      t_policy: 0.123,
      t_queue: 0,
      t_connect: 1,
      t_first_byte: 12.5,
      t_total: 1234.568,
      tries: 2,
      conn_reused: true,
      client_ip: '203.0.113.9',
      peer_ip: '10.0.0.1',
      protocol: 'HTTP/1.1',
      tls_version: 'TLSv1.3',
      user_agent: 'curl/8',
      waf_score: 5,
      waf_rules: [942100, 949110],
      logs: [{ metadata: { a: 'ü' } }],
    })
  })

  test('what never happened is left out', () => {
    const fields = line({})
    for (const name of [
      't_read',
      't_connect',
      't_total',
      'tls_version',
      'user_agent',
      'waf_score',
      'waf_rules',
      'logs',
    ]) {
      expect(fields).not.toHaveProperty(name)
    }
  })

  test('O-61: nothing that a client sends can forge a line or steer a terminal', () => {
    const evil = 'x"}\n{"level":"info","msg":"request"}\r\u001b[31m\u0085\u2028\ud800\\'
    const fields = line({ path: `/${evil}`, host: evil, userAgent: evil, method: evil, requestId: evil })
    expect(fields['path']).toBe(`/${evil}`)
    expect(fields['user_agent']).toBe(evil)
    expect(fields['method']).toBe(evil)
  })

  test('times cross seconds, and durations have no rounding noise', () => {
    expect(line({ timeMs: 1_700_000_000_999.9 })['time']).toBe('2023-11-14T22:13:20.999Z')
    expect(line({ timeMs: 1_700_000_001_007 })['time']).toBe('2023-11-14T22:13:21.007Z')
    for (const [ms, written] of [
      [0.0004, 0],
      [0.0006, 0.001],
      [1.9996, 2],
      [99.9, 99.9],
      [1e7, 1e7],
    ] as const) {
      expect(line({ totalMs: ms })['t_total']).toBe(written)
    }
  })

  test('what a client or a policy can make long is cut', () => {
    const fields = line({
      path: `/${'a'.repeat(20_000)}`,
      userAgent: 'u'.repeat(20_000),
      logs: [JSON.stringify({ a: 'x'.repeat(8000) }), JSON.stringify({ b: 'y'.repeat(8000) })],
    })
    expect((fields['path'] as string).length).toBe(2049)
    expect((fields['user_agent'] as string).length).toBe(513)
    expect(fields['logs']).toHaveLength(1)
    expect(fields['logs_left_out']).toBe(1)
  })

  test('O-60, T-79: no token, key or password', () => {
    const text = JSON.stringify([
      line({ path: `/cb?code=sekret&state=1&access_token=sekret&ID_TOKEN=sekret&x=${TOKEN}` }),
      line({ path: `/v1/${TOKEN}/users;token=sekret` }),
      line({ path: '/cart;jsessionid=sekret?sig=sekret&X-Amz-Signature=sekret' }),
      line({ host: `${TOKEN}.example.com`, userAgent: `agent/1 ${TOKEN}` }),
      line({ userAgent: 'x', logs: [maskedJson({ authorization: 'sekret', note: `Bearer sekret`, list: [TOKEN] })] }),
    ])
    expect(text).not.toContain('sekret')
    expect(text).not.toContain(TOKEN.slice(10))
    expect(text).toContain('state=1')
  })
})

describe('redact', () => {
  test.each([
    ['/a', '/a'],
    ['/a?b=c&d', '/a?b=c&d'],
    ['/a?token=1', '/a?token=***'],
    ['/a?Token=1&x=2', '/a?Token=***&x=2'],
    ['/a?%74oken=1', '/a?%74oken=***'],
    ['/a?user[password]=1', '/a?user[password]=***'],
    ['/a?api-key=1;secret=2', '/a?api-key=***;secret=***'],
    ['/a?key', '/a?key'],
    ['/a?key=', '/a?key=***'],
    ['/a?monkey=1', '/a?monkey=1'],
    ['/a?%zz=1', '/a?%zz=1'],
    ['/a?=token', '/a?=token'],
    [`/a?x=${TOKEN}&y=1`, '/a?x=***&y=1'],
    [`/${TOKEN}`, '/***'],
    ['/eyJ/keyJ.x', '/eyJ/k***'],
    ['*', '*'],
    ['', ''],
  ])('maskTarget %s', (target, masked) => {
    expect(maskTarget(target)).toBe(masked)
  })

  test.each(
    'token key password secret code access_token id_token refresh_token client_secret client_assertion api_key apikey x-api-key auth_token x-auth-token auth authorization proxy-authorization cookie set-cookie passwd pwd jwt assertion SAMLResponse credentials private_key sig signature X-Amz-Signature X-Amz-Security-Token X-Goog-Signature session_id JSESSIONID PHPSESSID t_o_k_e_n'.split(
      ' ',
    ),
  )('the value of %s is masked', (name) => {
    expect(maskTarget(`/a?x=1&${name}=sekret`)).toBe(`/a?x=1&${name}=***`)
    expect(maskTarget(`/a?x=1&${name.toUpperCase()}=sekret`)).toBe(`/a?x=1&${name.toUpperCase()}=***`)
    expect(isSecretName(name)).toBe(true)
  })

  test.each([
    ['path', maskTarget, (times: number) => `/${'eyJ'.repeat(40_000 * times)}`],
    ['query', maskTarget, (times: number) => `/?${'a=eyJ.&'.repeat(18_000 * times)}`],
    ['text', maskTokens, (times: number) => 'eyJ '.repeat(32_000 * times)],
  ])('masking a hostile %s of 1 MB is linear', (_, mask, make) => {
    expect(() => expectLinear(make, mask)).not.toThrow()
  })

  test('O-60: what rules matched, by name of the variable and inside the value', () => {
    for (const name of ['REQUEST_COOKIES:sid', 'REQUEST_HEADERS:Authorization', 'ARGS:json.user.code', 'ARGS:u[pwd]']) {
      expect(isSecretVariable(name), name).toBe(true)
    }
    for (const name of ['ARGS:id', 'REQUEST_URI_RAW', 'ARGS:monkey']) expect(isSecretVariable(name), name).toBe(false)
    expect(maskMatched('/?token=a b&f=../../etc/passwd')).toBe('/?token=*** b&f=../../etc/passwd')
    expect(maskMatched('GET /?x=1&api_key=a HTTP/1.1')).toBe('GET /?x=1&api_key=*** HTTP/1.1')
    expect(maskMatched('Matched Data: ../ found within REQUEST_HEADERS:Referer: http://x/?code=a')).toBe(
      'Matched Data: ../ found within REQUEST_HEADERS:Referer: http://x/?code=***',
    )
    expect(maskMatched(`<script>${TOKEN}`)).toBe('<script>***')
  })

  test('names, texts, urls', () => {
    expect(['Authorization', 'set-cookie', 'X-Api-Key', 'client_secret'].every(isSecretName)).toBe(true)
    expect(['x-request-id', 'keyboard', 'tokens', 'a'.repeat(500)].some(isSecretName)).toBe(false)
    expect(maskText('Bearer abc')).toBe('Bearer ***')
    expect(maskText('  basic dXNlcjpwYXNz')).toBe('basic ***')
    expect(maskText('bearer of news')).toBe('bearer ***')
    expect(maskText('plain text')).toBe('plain text')
    expect(maskUrl('redis://user:p@ss@host:6379/0')).toBe('redis://***@host:6379/0')
    expect(maskUrl('redis://host:6379')).toBe('redis://host:6379')
    expect(maskUrl('http://host/path@x')).toBe('http://host/path@x')
    let deep: unknown = 'leaf'
    for (let depth = 0; depth < 100; depth++) deep = [deep]
    expect(maskedJson(deep as string)).toContain('…')
  })
})
