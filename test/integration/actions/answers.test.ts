import { expect } from 'vitest'
import { policyCases } from '../../support/policy-cases.ts'

policyCases('§5.6 custom-response, §5.7 deny', [
  {
    name: 'custom',
    policy: `
on_http_request:
  - expressions: ["req.url.path == '/json'"]
    actions: [{ type: custom-response, config: { body: '{"a":1}' } }]
  - expressions: ["req.url.path == '/html'"]
    actions: [{ type: custom-response, config: { content: '<!DOCTYPE html><p>hello' } }]
  - expressions: ["req.url.path == '/text'"]
    actions: [{ type: custom-response, config: { status_code: 418, body: "short and stout \${req.method}", headers: { X-Pot: tea } } }]
  - expressions: ["req.url.path == '/moved'"]
    actions: [{ type: custom-response, config: { status_code: 302, headers: { location: /elsewhere } } }]
  - expressions: ["req.url.path == '/empty'"]
    actions: [{ type: custom-response, config: { status_code: 204 } }]
on_http_response:
  - expressions: ["res.status_code == 418"]
    actions: [{ type: add-headers, config: { headers: { x-after: "yes" } } }]
`,
    steps: [
      {
        title: 'JSON is recognised',
        path: '/json',
        expect: {
          status: 200,
          headers: { 'content-type': 'application/json' },
          body: '{"a":1}',
          upstream: false,
          reason: 'ok',
        },
      },
      {
        title: 'HTML is recognised, `content` means `body`',
        path: '/html',
        expect: { status: 200, headers: { 'content-type': 'text/html; charset=utf-8' } },
      },
      {
        title: 'status, header, interpolation; response rules run on it (§2.4)',
        path: '/text',
        expect: {
          status: 418,
          headers: { 'x-pot': 'tea', 'x-after': 'yes', 'content-type': 'text/plain; charset=utf-8' },
          body: 'short and stout GET',
          log: (line) => expect(line.action).toBe('custom-response'),
        },
      },
      {
        title: 'HEAD gets the head only',
        method: 'HEAD',
        path: '/json',
        expect: { status: 200, body: '', headers: { 'content-type': 'application/json' } },
      },
      { title: 'a location may be set', path: '/moved', expect: { status: 302, headers: { location: '/elsewhere' } } },
      {
        title: 'no body, no content type',
        path: '/empty',
        expect: { status: 204, headers: { 'content-type': undefined } },
      },
      { title: 'what no rule ends goes upstream', path: '/other', expect: { status: 200, body: /^GET \/other/ } },
      {
        title: 'an answer before the body was read leaves nothing behind',
        method: 'POST',
        path: '/json',
        body: 'x'.repeat(10_000),
        expect: { status: 200, upstream: false },
      },
    ],
  },
  {
    name: 'custom-in-response',
    policy: `
on_http_response:
  - expressions: ["res.status_code >= 500"]
    actions:
      - { type: custom-response, config: { status_code: 503, body: "back soon", headers: { retry-after: "7" } } }
  - actions: [{ type: add-headers, config: { headers: { x-late: "1" } } }]
`,
    steps: [
      {
        title: 'replaces status, headers and body, and ends the phase',
        answer: { status: 500, fields: 'content-type: text/html\r\nx-leak: 1\r\n', body: '<b>stack trace</b>' },
        expect: {
          status: 503,
          body: 'back soon',
          headers: { 'x-leak': undefined, 'retry-after': '7', 'x-late': undefined },
        },
      },
      { title: 'other answers pass', expect: { status: 200, headers: { 'x-late': '1', 'x-echo': 'yes' } } },
    ],
  },
  {
    name: 'deny',
    policy: `
on_http_request:
  - expressions: ["req.method == 'TRACE' || req.url.path.startsWith('/admin')"]
    actions: [{ type: deny, config: { status_code: 404 } }]
  - expressions: ["req.url.path == '/plain'"]
    actions: [{ type: deny }]
on_http_response:
  - actions: [{ type: add-headers, config: { headers: { x-after: "yes" } } }]
`,
    steps: [
      {
        title: 'ends with the status, no body, no response rules',
        path: '/admin/x',
        expect: { status: 404, body: '', headers: { 'x-after': undefined }, upstream: false, reason: 'denied:deny' },
      },
      { title: 'default 403', path: '/plain', expect: { status: 403, body: '', upstream: false } },
      { title: 'others pass', path: '/', expect: { status: 200, headers: { 'x-after': 'yes' } } },
      {
        title: 'H-66: an encoded dot segment cannot walk round a path rule',
        path: '/x/%2e%2e/admin',
        expect: { status: 400, upstream: false, reason: 'bad_request:H-66' },
      },
      {
        title: 'H-67: nor can a climb above the root',
        path: '/../admin',
        expect: { status: 400, upstream: false, reason: 'bad_request:H-67' },
      },
      {
        title: 'H-65: the rule sees the canonical path',
        path: '/x/../admin',
        expect: { status: 404, upstream: false },
      },
      { title: 'H-65: and merged slashes', path: '//admin', expect: { status: 404, upstream: false } },
    ],
  },
  {
    name: 'nobody-ends',
    withoutUpstream: true,
    policy: `
on_http_request:
  - expressions: ["req.url.path == '/known'"]
    actions: [{ type: custom-response, config: { body: known } }]
`,
    steps: [
      { title: 'a known path', path: '/known', expect: { status: 200, body: 'known' } },
      {
        title: '§1.3: a path no rule ends is 404 with 6029',
        path: '/unknown',
        headers: { accept: 'application/json' },
        expect: {
          status: 404,
          headers: { 'ngrok-error-code': 'ERR_NGROK_6029', 'content-type': 'application/problem+json' },
          reason: 'no_route',
        },
      },
    ],
  },
])

policyCases('§5.17 redirect, §5.26 url-rewrite', [
  {
    name: 'redirect',
    policy: `
on_http_request:
  - actions:
      - type: redirect
        config: { from: "^(https?://[^/]+)/old/(.*)$", to: "$1/new/$2", status_code: 308, headers: { x-why: moved } }
  - expressions: ["req.url.path == '/relative'"]
    actions: [{ type: redirect, config: { to: /a } }]
  - expressions: ["req.url.path == '/same'"]
    actions: [{ type: redirect, config: { from: "/same", to: "/same" } }]
  - expressions: ["req.url.path == '/named'"]
    actions: [{ type: redirect, config: { from: "^(?P<scheme>https?)://(?P<rest>[^/]+)/named", to: "$scheme://$rest/found me" } }]
`,
    steps: [
      {
        title: 'groups are replaced, query included',
        path: '/old/shop?x=1',
        expect: {
          status: 308,
          headers: { location: /^http:\/\/redirect\.case\.test:\d+\/new\/shop\?x=1$/, 'x-why': 'moved' },
          upstream: false,
        },
      },
      {
        title: 'a relative target becomes absolute, default 302',
        path: '/relative',
        expect: { status: 302, headers: { location: /^http:\/\/redirect\.case\.test:\d+\/a$/ } },
      },
      { title: 'an unchanged URL is no redirect', path: '/same', expect: { status: 200, body: /^GET \/same/ } },
      { title: 'no match, no redirect', path: '/other', expect: { status: 200 } },
      {
        title: 'named groups; a blank is encoded',
        path: '/named',
        expect: { status: 302, headers: { location: /\/found%20me$/ } },
      },
    ],
  },
  {
    name: 'rewrite',
    policy: `
on_http_request:
  - actions:
      - type: url-rewrite
        config: { from: "/v1/users\\\\?id=([0-9]+)", to: "/api/users/$1/" }
  - expressions: ["req.url.path == '/api/users/7/'"]
    actions: [{ type: add-headers, config: { headers: { x-seen: "\${req.url.path}", x-raw: "\${req.url.raw_path}" } } }]
  - expressions: ["req.url.path == '/swallow/123'"]
    actions: [{ type: url-rewrite, config: { from: "\${req.url.authority}/swallow/?([.*0-9]+)?", to: "/products.php?query=$1" } }]
`,
    steps: [
      {
        title: 'the upstream gets the new URL, later rules see it, the log the old one',
        path: '/v1/users?id=7',
        expect: {
          status: 200,
          upstream: (received) => {
            expect(received.target).toBe('/api/users/7/')
            expect(received.field('x-seen')).toBe('/api/users/7/')
            expect(received.field('x-raw')).toBe('/v1/users')
          },
          log: (line) => expect(line.path).toBe('/v1/users?id=7'),
        },
      },
      {
        title: 'no match leaves it alone, byte for byte',
        path: '/%76x//y?',
        expect: { status: 200, upstream: (received) => expect(received.target).toBe('/%76x//y?') },
      },
      {
        title: '§5.26: a swallowed host keeps the present one',
        path: '/swallow/123',
        expect: { status: 200, upstream: (received) => expect(received.target).toBe('/products.php?query=123') },
      },
    ],
  },
])
