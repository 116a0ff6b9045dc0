import { gunzipSync, gzipSync } from 'node:zlib'
import { expect } from 'vitest'
import { policyCases } from '../../support/policy-cases.ts'

const LEAK = `<html><body>You have an error in your SQL syntax; check the manual that corresponds to your MySQL server version for the right syntax to use near '' at line 1 SECRET-ROW</body></html>`
const HTML = 'content-type: text/html\r\n'
const FORM = { 'content-type': 'application/x-www-form-urlencoded' }

const both = (config: string): string => `
on_http_request:
  - actions: [{ type: owasp-crs-request, config: ${config} }]
on_http_response:
  - actions: [{ type: owasp-crs-response, config: ${config} }]
`

const large = (bytes: number): string => `a=${'lorem+ipsum+'.repeat(Math.ceil(bytes / 12)).slice(0, bytes - 2)}`

policyCases('§5.14 owasp-crs-request, §5.15 owasp-crs-response', [
  {
    name: 'head-only',
    needsRules: true,
    policy: both('{ on_error: halt }'),
    steps: [
      {
        title: 'a benign request passes',
        path: '/shop?q=red+shoes',
        expect: { status: 200, log: (line) => expect(line['waf_score']).toBe(0) },
      },
      {
        title: 'SQL injection in the query is blocked, the log names the rules',
        path: '/?id=1%27%20OR%20%271%27=%271%27%20--%20',
        expect: {
          status: 403,
          headers: { 'ngrok-error-code': 'ERR_NGROK_3700' },
          upstream: false,
          reason: 'waf:949110',
          log: (line) => {
            expect(line['waf_rules']).toContain(942100)
            expect(line['waf_score']).toBeGreaterThanOrEqual(5)
          },
        },
      },
      {
        title: 'an attack in a header is blocked',
        headers: { 'user-agent': '() { :; }; /bin/bash -c "cat /etc/passwd"' },
        expect: { status: 403, upstream: false },
      },
      { title: 'path traversal is blocked', path: '/?file=../../../../etc/passwd', expect: { status: 403 } },
      {
        title: 'process_body: false leaves bodies alone',
        method: 'POST',
        headers: FORM,
        body: 'c=%3Cscript%3Ealert(1)%3C/script%3E',
        expect: { status: 200, upstream: (received) => expect(received.body).toContain('script') },
      },
      {
        title: 'and the pages of the upstream',
        answer: { status: 200, fields: HTML, body: LEAK },
        expect: { status: 200, body: LEAK },
      },
    ],
  },
  {
    name: 'bodies',
    needsRules: true,
    policy: both('{ on_error: halt, process_body: true }'),
    steps: [
      {
        title: 'XSS in a form body is blocked before anything goes upstream',
        method: 'POST',
        headers: FORM,
        body: 'c=%3Cscript%3Ealert(document.cookie)%3C/script%3E',
        expect: {
          status: 403,
          headers: { 'ngrok-error-code': 'ERR_NGROK_3700' },
          upstream: false,
          log: (line) => expect(line['waf_rules']).toContain(941100),
        },
      },
      {
        title: 'an attack in JSON is found',
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"a":{"b":["1\' UNION SELECT password FROM users -- "]}}',
        expect: { status: 403, upstream: false },
      },
      {
        title: 'an honest body arrives whole',
        method: 'POST',
        headers: FORM,
        body: 'name=Ann&town=Ghent',
        expect: { status: 200, upstream: (received) => expect(received.body).toBe('name=Ann&town=Ghent') },
      },
      {
        title: 'a large honest body, scanned in a thread, arrives whole',
        method: 'POST',
        headers: FORM,
        body: large(100_000),
        expect: { status: 200, upstream: (received) => expect(received.body.length).toBe(100_000) },
      },
      {
        title: 'T-40: beyond waf.request_body 413',
        method: 'POST',
        headers: FORM,
        body: large(140_000),
        expect: { status: 413, upstream: false },
      },
      {
        title: 'T-39: a body that its type does not fit is refused',
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"a": [1,',
        expect: { status: 403, upstream: false },
      },
      ...[130, 8_000, 500_000].map((bytes) => ({
        title: `a page of ${bytes} bytes that leaks is blocked, no byte of it leaves`,
        answer: { status: 200, fields: `${HTML}x-internal: 1\r\n`, body: LEAK.padEnd(bytes, ' ') },
        expect: {
          status: 403,
          headers: { 'ngrok-error-code': 'ERR_NGROK_3702', 'x-internal': undefined },
          body: /^(?!.*SECRET-ROW)/s,
          reason: /^waf:959/,
        },
      })),
      {
        title: 'T-47: a compressed page that leaks is blocked as well',
        answer: { status: 200, fields: `${HTML}content-encoding: gzip\r\n`, body: gzipSync(LEAK) },
        expect: { status: 403, headers: { 'ngrok-error-code': 'ERR_NGROK_3702' } },
      },
      {
        title: 'T-47: a compressed honest page passes as it was sent',
        answer: { status: 200, fields: `${HTML}content-encoding: gzip\r\n`, body: gzipSync('<p>hello</p>') },
        expect: {
          status: 200,
          headers: { 'content-encoding': 'gzip' },
          body: gzipSync('<p>hello</p>').toString('latin1'),
        },
      },
      {
        title: 'T-43: an attack in a compressed request is found',
        method: 'POST',
        headers: { ...FORM, 'content-encoding': 'gzip' },
        body: gzipSync('c=%3Cscript%3Ealert(document.cookie)%3C/script%3E'),
        expect: { status: 403, upstream: false },
      },
      {
        title: 'T-43: an honest compressed request arrives as it was sent',
        method: 'POST',
        headers: { ...FORM, 'content-encoding': 'gzip' },
        body: gzipSync('name=Ann'),
        expect: {
          status: 200,
          upstream: (received) => expect(gunzipSync(Buffer.from(received.body, 'latin1')).toString()).toBe('name=Ann'),
        },
      },
      {
        title: 'T-43: a decompression bomb is refused',
        method: 'POST',
        headers: { ...FORM, 'content-encoding': 'gzip' },
        body: gzipSync('a'.repeat(10_000_000)),
        expect: { status: 413, upstream: false },
      },
      {
        title: 'T-43: a coding nobody can take off is refused',
        method: 'POST',
        headers: { ...FORM, 'content-encoding': 'zstd' },
        body: 'anything',
        expect: { status: 415, upstream: false },
      },
      {
        title: 'an honest page passes whole',
        answer: { status: 200, fields: HTML, body: '<p>hello</p>' },
        expect: { status: 200, body: '<p>hello</p>' },
      },
      {
        title: 'types that nobody inspects pass',
        answer: { status: 200, fields: 'content-type: image/png\r\n', body: LEAK },
        expect: { status: 200, body: LEAK },
      },
      { title: 'HEAD passes', method: 'HEAD', expect: { status: 200 } },
    ],
  },
  {
    name: 'test-mode',
    needsRules: true,
    policy: `
on_http_request:
  - actions:
      - { type: owasp-crs-request, config: { on_error: continue } }
      - type: add-headers
        config:
          headers:
            x-decision: "\${actions.ngrok.owasp_crs_request.decision}"
            x-score: "\${actions.ngrok.owasp_crs_request.anomaly_score}"
            x-threshold: "\${actions.ngrok.owasp_crs_request.anomaly_score_threshold}"
            x-rule: "\${actions.ngrok.owasp_crs_request.matched_rules[0].id}"
            x-severity: "\${actions.ngrok.owasp_crs_request.matched_rules[0].severity}"
`,
    steps: [
      {
        title: 'on_error: continue evaluates and lets pass; the results tell',
        path: '/?id=1%27%20OR%20%271%27=%271%27%20--%20',
        expect: {
          status: 200,
          upstream: (received) => {
            expect(received.field('x-decision')).toBe('deny')
            expect(Number(received.field('x-score'))).toBeGreaterThanOrEqual(5)
            expect(received.field('x-threshold')).toBe('5')
            expect(received.field('x-rule')).toBe('942100')
            expect(received.field('x-severity')).toBe('critical')
          },
        },
      },
      {
        title: 'a benign request scores 0',
        expect: { status: 200, upstream: (received) => expect(received.field('x-score')).toBe('0') },
      },
    ],
  },
  {
    name: 'excluded',
    needsRules: true,
    policy: both('{ exclude_rule_ids: [942100] }'),
    steps: [
      {
        title: 'an excluded rule does not count',
        path: '/?id=1%27%20OR%20%271%27=%271%27%20--%20',
        expect: { status: 200 },
      },
      { title: 'others do', path: '/?file=../../../../etc/passwd', expect: { status: 403 } },
    ],
  },
  {
    name: 'excluded-for-responses',
    needsRules: true,
    policy: `
on_http_request:
  - actions: [{ type: owasp-crs-request, config: { exclude_rule_ids: [951100, 951230] } }]
on_http_response:
  - actions: [{ type: owasp-crs-response, config: { process_body: true, exclude_rule_ids: [942100, 942190] } }]
`,
    steps: [
      {
        title: 'what the response action excludes counts for requests all the same',
        path: '/?id=1%27%20OR%20%271%27=%271%27%20--%20',
        expect: { status: 403, log: (line) => expect(line['waf_rules']).toContain(942100) },
      },
      {
        title: 'and what the request action excludes counts for responses',
        answer: { status: 200, fields: HTML, body: LEAK },
        expect: { status: 403, log: (line) => expect(line['waf_rules']).toContain(951230) },
      },
    ],
  },
  {
    name: 'request-under-test',
    needsRules: true,
    policy: `
on_http_request:
  - actions: [{ type: owasp-crs-request, config: { on_error: continue } }]
on_http_response:
  - actions:
      - { type: owasp-crs-response, config: { on_error: halt, process_body: true } }
      - type: add-headers
        config:
          headers:
            x-request: "\${actions.ngrok.owasp_crs_request.error.code}"
            x-response: "\${actions.ngrok.owasp_crs_response.decision} \${size(actions.ngrok.owasp_crs_response.matched_rules)}"
`,
    steps: [
      {
        title: 'a request that would be blocked does not get its response blocked instead',
        path: '/?id=1%27%20OR%20%271%27=%271%27%20--%20',
        expect: {
          status: 200,
          headers: { 'x-request': 'ERR_NGROK_3700', 'x-response': 'allow 0' },
          log: (line) => {
            const rules = line['waf_rules'] as number[]
            expect(rules).toContain(942100)
            expect(new Set(rules).size).toBe(rules.length)
          },
        },
      },
      {
        title: 'and a leak in its response is still found',
        path: '/?id=1%27%20OR%20%271%27=%271%27%20--%20',
        answer: { status: 200, fields: HTML, body: LEAK },
        expect: { status: 403, headers: { 'ngrok-error-code': 'ERR_NGROK_3702' }, body: /^(?!.*SECRET-ROW)/s },
      },
    ],
  },
  {
    name: 'small-findings',
    needsRules: true,
    policy: `
on_http_request:
  - actions: [{ type: owasp-crs-request }]
on_http_response:
  - actions:
      - { type: owasp-crs-response, config: { process_body: true } }
      - type: add-headers
        config:
          headers:
            x-request: "\${size(actions.ngrok.owasp_crs_request.matched_rules)}"
            x-response: "\${size(actions.ngrok.owasp_crs_response.matched_rules)}"
`,
    steps: [
      {
        title: 'what the request alone is guilty of is told once, and not of the response',
        headers: { 'user-agent': '' },
        expect: {
          status: 200,
          headers: { 'x-request': /^[1-9]/, 'x-response': '0' },
          log: (line) => {
            expect(line['waf_rules']).toEqual([920330, 980170])
          },
        },
      },
    ],
  },
])
