/** `sallyport explain`, `test` and `diff` over whole configurations. Source: operations.md O-06, O-60. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runCommandLine } from '../../../src/cli/command-line.ts'

const POLICY = `
on_http_request:
  - name: admins only
    expressions: ["req.url.path.startsWith('/admin')", "conn.client_ip != '10.0.0.1'"]
    actions: [{type: deny, config: {status_code: 404}}]
  - name: cannot be told
    expressions: ["req.headers['x-none'][0] == 'a'"]
    actions: [{type: deny}]
  - name: callers
    expressions: ["req.url.path.startsWith('/api')"]
    actions:
      - type: jwt-validation
        config:
          issuer: {allow_list: [{value: https://issuer.example}]}
          http: {tokens: [{type: jwt, method: header, name: Authorization, prefix: "Bearer "}]}
          jws: {allowed_algorithms: [RS256], keys: {sources: {additional_jkus: ["https://issuer.example/jwks"]}}}
      - type: rate-limit
        config: {name: calls, algorithm: sliding_window, capacity: 2, rate: 60s, bucket_key: ["conn.client_ip"]}
on_http_response:
  - name: mark
    actions: [{type: add-headers, config: {headers: {x-done: "\${req.url.path}"}}}]
`

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-offline-'))
  write('policy.yaml', POLICY)
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

function write(name: string, text: string): string {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}

async function command(words: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  let out = ''
  let err = ''
  const code = await runCommandLine(words, {
    environment: {},
    out: (text) => (out += text),
    err: (text) => (err += text),
    isTerminal: false,
  })
  return { code, out, err }
}

/** A gateway.yaml in front of the policy. */
function configuration(name: string, policy: string, more = ''): string {
  write(`${name}.policy.yaml`, policy)
  return write(
    name,
    `state_dir: ${folder}\nendpoints:\n  - name: shop\n    url: http://shop.example:80\n    upstream: {url: http://127.0.0.1:9}\n    traffic_policy_file: ${name}.policy.yaml\n${more}`,
  )
}

describe('sallyport explain', () => {
  it('names every rule it came to, the value of each expression, actions with their outcome, and the answer', async () => {
    const { code, out } = await command([
      'explain',
      'http://any.example/admin/x?token=geheim',
      '--traffic-policy-file',
      join(folder, 'policy.yaml'),
    ])
    expect(code).toBe(0)
    expect(out.replace(/x-request-id: .*/, 'x-request-id: ID')).toMatchInlineSnapshot(`
      "GET /admin/x?token=*** from 203.0.113.9

      policy, on_http_request
        + admins only
            req.url.path.startsWith('/admin')  →  true
            conn.client_ip != '10.0.0.1'  →  true
            deny answers 404

      answered HTTP/1.1 404 Not Found
        server: sallyport
        cache-control: no-store
        x-request-id: ID
        (0 bytes of body)
      reason: denied:deny, decided by rule admins only, action deny
      "
    `)
  })

  it('says why a rule did not match, and what went upstream', async () => {
    const { out } = await command([
      'explain',
      'any.example/x',
      '-H',
      'X-One: 1',
      '-d',
      'a=b',
      '--response',
      write('response.http', 'HTTP/1.1 503 Away\nX-From: upstream\n\nno'),
      '--policy-file',
      join(folder, 'policy.yaml'),
      '--client-ip',
      '10.0.0.1',
    ])
    expect(out).toContain(`- cannot be told: did not match\n      req.headers['x-none'][0] == 'a'  →  error: `)
    expect(out).toContain('sent upstream to 127.0.0.1:9\n  POST /x HTTP/1.1\n')
    expect(out).toContain('  x-one: 1\n')
    expect(out).toContain('  (3 bytes of body)')
    expect(out).toContain('+ mark\n      add-headers goes on')
    expect(out).toContain('answered HTTP/1.1 503')
    expect(out).toContain('x-from: upstream')
    expect(out).toContain('x-done: /x')
  })

  it('O-60: shows no credentials', async () => {
    const request = write(
      'r.http',
      'GET /api HTTP/1.1\nHost: h\nAuthorization: Bearer abc.def.ghi\nCookie: s=geheim\n\n',
    )
    for (const more of [[], ['--json']]) {
      const { code, out } = await command([
        'explain',
        '--request',
        request,
        '--traffic-policy-file',
        join(folder, 'policy.yaml'),
        ...more,
      ])
      expect(code).toBe(0)
      expect(out).toContain('jwt-validation')
      expect(out).toContain('ERR_NGROK_3401')
      expect(out).not.toContain('abc.def')
      expect(out).not.toContain('geheim')
    }
  })

  it('shows events of a stream as the rules about them left them', async () => {
    const policy = write(
      'events.yaml',
      `on_event_stream_message: [{name: tidy, actions: [{type: sse-find-replace, config: {replacements: [{field: data, from: bad, to: good}]}}]}]`,
    )
    const response = write(
      'events.http',
      'HTTP/1.1 200 OK\nContent-Type: text/event-stream\n\ndata: bad\n\ndata: x\n\n',
    )
    const { out, err } = await command(['explain', 'h/', '--response', response, '--traffic-policy-file', policy])
    expect(err).toBe('')
    expect(out.match(/\+ tidy\n {6}sse-find-replace goes on/g)).toHaveLength(2)
  })

  it('says when the front end refuses a request before any policy', async () => {
    const request = write('r.http', 'GET / HTTP/1.1\nHost: a b\n\n')
    const { out } = await command([
      'explain',
      '--request',
      request,
      '--traffic-policy-file',
      join(folder, 'policy.yaml'),
    ])
    expect(out).toContain('refused before any policy: 400 bad_request:H-15')
  })

  it('refuses what it cannot read with the place of the error', async () => {
    const policy = write('bad.yaml', 'on_http_request: [{expressions: ["req.metod == 1"], actions: [{type: deny}]}]')
    const refused = await command(['explain', 'h', '--traffic-policy-file', policy])
    expect(refused.code).toBe(1)
    expect(refused.err).toContain('bad.yaml:1:')
    const request = write('r.http', 'GET / HTTP/1.1\nHost h\n\n')
    const wrong = await command(['explain', '--request', request, '--traffic-policy-file', policy])
    expect(wrong.code).toBe(1)
    expect(wrong.err).toContain('r.http:2:1: error:')
    expect((await command(['explain'])).code).toBe(2)
    expect((await command(['explain', 'h', '--client-ip', 'nobody'])).err).toContain('not an IP address')
  })
})

describe('sallyport test', () => {
  it('plays requests and compares what comes with what is expected', async () => {
    write(
      'good.test.yaml',
      `policy: policy.yaml
upstream: {status: 201, headers: {x-from: [a, b]}, body: made}
tests:
  - name: hidden
    request: {url: /admin/x}
    expect: {status: 404, rule: admins only, action: deny, upstream: none, matched: [admins only]}
  - name: seen from inside
    request: {method: PUT, url: http://any.example/admin/x, client_ip: 10.0.0.1, headers: {X-A: b}, json: {a: 1}}
    expect:
      status: 201
      endpoint: policy
      headers: {x-done: /admin/x, x-from: b, location: null}
      body: /^ma/
      upstream: {target: '127.0.0.1:9', method: PUT, path: /admin/x, headers: {x-a: b, content-type: application/json}, body: '{"a":1}'}
  - name: no token
    request: {url: /api}
    expect: {status: 401, error_code: ERR_NGROK_3401, upstream: none}
  - name: a token of ours
    request: {url: /api, claims: {iss: https://issuer.example, sub: ada}}
    expect: {status: 201, matched: [callers, mark]}
  - name: a token of others
    request: {url: /api, claims: {iss: https://other.example}}
    expect: {status: 403}
  - name: the third call is one too many
    request: {url: /api, claims: {iss: https://issuer.example}}
    repeat: 3
    expect: {status: 429, reason: rate_limited:calls, headers: {retry-after: /^\\d+$/}}
  - name: limits of other tests do not count
    request: {url: /api, claims: {iss: https://issuer.example}}
    repeat: 2
    expect: {status: 201}
  - name: the upstream is away
    request: {url: /}
    upstream: {fails: connect_failed}
    expect: {status: 502, reason: /connect/}
`,
    )
    const { code, out, err } = await command(['test', folder, '-v'])
    expect(err).toBe('')
    expect(out).toContain('8 passed, 0 failed')
    expect(out).toContain('good.test.yaml: a token of ours')
    expect(code).toBe(0)
  })

  it('plays the example of its page', async () => {
    const page = readFileSync(new URL('../../../docs/testing.md', import.meta.url), 'utf8')
    const example = /```yaml\n(policy: [^]*?)```/.exec(page)?.[1]
    write('policy.yaml', POLICY.replace("startsWith('/api')", "startsWith('/orders')"))
    const { code, out } = await command(['test', write('page.test.yaml', example ?? '')])
    expect(out).toBe('3 passed, 0 failed\n')
    expect(code).toBe(0)
  })

  it('says for each difference what was expected and what came', async () => {
    const path = write(
      'bad.test.yaml',
      `policy: policy.yaml
tests:
  - name: all wrong
    request: {url: /x}
    expect: {status: 500, headers: {x-done: null, x-none: a}, body: /a+/, rule: r, upstream: none, matched: [r]}
  - name: also wrong
    request: {url: /admin}
    expect: {upstream: {path: /admin}}
`,
    )
    const { code, out } = await command(['test', path])
    expect(code).toBe(1)
    expect(out).toBe(`FAILED ${path}: all wrong
  status: expected 500, was 200
  header x-done: expected absent, was "/x"
  header x-none: expected "a", was absent
  body: expected "/a+/", was ""
  rule: expected "r", was ""
  matched: expected "r", was "mark"
  upstream: expected "none", was "127.0.0.1:9: GET /x HTTP/1.1"
FAILED ${path}: also wrong
  upstream: expected a request, was none
0 passed, 2 failed
`)
  })

  it('reports errors of a test file with their place, and runs nothing of it', async () => {
    const path = write(
      'wrong.test.yaml',
      'policy: policy.yaml\ntests:\n  - nme: x\n    request: {url: /}\n    expect: {}\n',
    )
    const { code, err } = await command(['test', path])
    expect(code).toBe(1)
    expect(err).toContain('wrong.test.yaml:3:5: error:')
    const both = write('both.test.yaml', 'tests: [{name: x, request: {url: /}, expect: {}}]\n')
    expect((await command(['test', both])).err).toContain('names either config')
    expect((await command(['test', join(folder, 'nowhere')])).code).toBe(2)
  })
})

describe('sallyport diff', () => {
  it('lists what two configurations do differently with the same requests', async () => {
    const old = configuration('old.yaml', POLICY)
    const now = configuration(
      'new.yaml',
      POLICY.replace('status_code: 404', 'status_code: 410').replace('x-done', 'x-marked'),
    )
    const requests = write(
      'requests.yaml',
      'requests: [{url: "http://shop.example/admin"}, {url: "http://shop.example/x"}, {url: "http://nobody.example/"}]',
    )
    const { code, out, err } = await command(['diff', old, now, '--requests', requests])
    expect(err).toBe('')
    expect(code).toBe(1)
    expect(out).toContain('GET http://shop.example/admin\n  status: 404 → 410\n')
    expect(out).toContain('GET http://shop.example/x\n  header x-done: /x → absent\n  header x-marked: absent → /x\n')
    expect(out).toContain('2 of 3 requests are treated differently')
    const same = await command(['diff', old, old, '--requests', requests])
    expect(same).toMatchObject({ code: 0, out: '0 of 3 requests are treated differently\n' })
  })

  it('takes the requests of a file of tests', async () => {
    const old = configuration('old.yaml', POLICY)
    const tests = write(
      'some.test.yaml',
      'config: old.yaml\ntests: [{name: one, request: {url: "http://shop.example/"}, expect: {status: 200}}]',
    )
    expect((await command(['diff', old, old, '--requests', tests])).out).toContain('0 of 1')
    expect((await command(['diff', old, old])).code).toBe(2)
  })
})
