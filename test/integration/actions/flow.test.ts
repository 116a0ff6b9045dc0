import { expect } from 'vitest'
import { policyCases } from '../../support/policy-cases.ts'

const internal = (name: string, policy = '', upstream = 'UPSTREAM'): string =>
  `  - name: ${name}\n    url: https://${name}.internal\n    upstream: { url: "${upstream}" }\n${policy === '' ? '' : `    traffic_policy: ${policy}\n`}`

const CLOSED = 'http://127.0.0.1:1'

policyCases('§5.8 forward-internal, §5.22 restrict-ips, §5.24 set-vars, §5.11 log', [
  {
    name: 'forward',
    withoutUpstream: true,
    policy: `
on_http_request:
  - expressions: ["req.url.path.startsWith('/a')"]
    actions: [{ type: forward-internal, config: { url: "https://svc-a.internal" } }]
  - expressions: ["req.url.path.startsWith('/missing')"]
    actions: [{ type: forward-internal, config: { url: "https://nobody.internal" } }]
  - expressions: ["req.url.path.startsWith('/chain')"]
    actions:
      - { type: forward-internal, config: { url: "https://nobody.internal", on_error: continue } }
      - { type: forward-internal, config: { url: "https://svc-down.internal", on_error: continue } }
      - { type: add-headers, config: { headers: { x-failed: "\${actions.ngrok.forward_internal.error.code}" } } }
      - { type: forward-internal, config: { url: "https://svc-a.internal:443" } }
  - expressions: ["req.url.path.startsWith('/loop')"]
    actions: [{ type: forward-internal, config: { url: "https://svc-loop.internal" } }]
  - expressions: ["req.url.path.startsWith('/down')"]
    actions: [{ type: forward-internal, config: { url: "https://svc-down.internal" } }]
  - expressions: ["req.url.path.startsWith('/cell')"]
    actions: [{ type: forward-internal, config: { url: "https://\${getReqHeader('x-cell')[0]}.cell.internal" } }]
on_http_response:
  - actions: [{ type: add-headers, config: { headers: { x-outer: "\${res.headers['x-inner'][0]}" } } }]
`,
    endpoints:
      internal(
        'svc-a',
        '{ on_http_request: [{ actions: [{ type: add-headers, config: { headers: { x-from: "${endpoint.url}" } } }] }], on_http_response: [{ actions: [{ type: add-headers, config: { headers: { x-inner: "1" } } }] }] }',
      ) +
      internal('svc-down', '', CLOSED) +
      internal(
        'svc-loop',
        '{ on_http_request: [{ actions: [{ type: forward-internal, config: { url: "https://svc-loop.internal" } }] }] }',
      ) +
      '  - name: cells\n    url: https://*.cell.internal\n    upstream: { url: "UPSTREAM" }\n',
    steps: [
      {
        title: 'the internal policy runs, both response phases run inside out, the Host stays the public one',
        path: '/a?x=1',
        expect: {
          status: 200,
          headers: { 'x-inner': '1', 'x-outer': '1' },
          upstream: (received) => {
            expect(received.target).toBe('/a?x=1')
            expect(received.field('host')).toMatch(/^forward\.case\.test/)
            expect(received.field('x-from')).toMatch(/^https:\/\/svc-a\.internal/)
          },
        },
      },
      {
        title: 'an offline endpoint is 404 with 3200',
        path: '/missing',
        expect: { status: 404, headers: { 'ngrok-error-code': 'ERR_NGROK_3200' }, upstream: false },
      },
      {
        title: 'on_error: continue goes on after a missing and after an unreachable endpoint',
        path: '/chain',
        expect: { status: 200, upstream: (received) => expect(received.field('x-failed')).toBe('ERR_NGROK_3006') },
      },
      {
        title: 'a loop ends with 508 and 3501',
        path: '/loop',
        expect: { status: 508, headers: { 'ngrok-error-code': 'ERR_NGROK_3501' } },
      },
      {
        title: 'an upstream that refuses is 502 with 3006',
        path: '/down',
        expect: { status: 502, headers: { 'ngrok-error-code': 'ERR_NGROK_3006' }, reason: 'connect_failed' },
      },
      {
        title: 'a wildcard endpoint answers an interpolated URL',
        path: '/cell',
        headers: { 'x-cell': 'north' },
        expect: { status: 200 },
      },
      { title: 'an interpolation that fails, fails closed', path: '/cell', expect: { status: 500, upstream: false } },
    ],
  },
  {
    name: 'restrict',
    policy: `
on_http_request:
  - expressions: ["req.url.path == '/denied'"]
    actions: [{ type: restrict-ips, config: { enforce: true, allow: [0.0.0.0/0], deny: [127.0.0.0/8] } }]
  - expressions: ["req.url.path == '/allowed'"]
    actions: [{ type: restrict-ips, config: { enforce: true, allow: [127.0.0.1, "2001:db8::/32"] } }]
  - expressions: ["req.url.path == '/nobody'"]
    actions: [{ type: restrict-ips, config: { enforce: true, allow: [198.51.100.0/24] } }]
  - expressions: ["req.url.path == '/only-noted'"]
    actions:
      - { type: restrict-ips, config: { enforce: false, allow: [198.51.100.0/24] } }
      - { type: add-headers, config: { headers: { x-result: "\${actions.ngrok.restrict_ips.action}" } } }
`,
    steps: [
      {
        title: 'a deny range wins',
        path: '/denied',
        expect: {
          status: 403,
          headers: { 'ngrok-error-code': 'ERR_NGROK_3203' },
          upstream: false,
          reason: 'denied:restrict-ips',
        },
      },
      { title: 'an allow range lets in', path: '/allowed', expect: { status: 200 } },
      { title: 'outside every allow range', path: '/nobody', expect: { status: 403, upstream: false } },
      {
        title: 'X-Forwarded-For of an untrusted peer counts for nothing',
        path: '/nobody',
        headers: { 'x-forwarded-for': '198.51.100.7' },
        expect: { status: 403 },
      },
      {
        title: 'enforce: false only notes',
        path: '/only-noted',
        expect: { status: 200, upstream: (received) => expect(received.field('x-result')).toBe('deny') },
      },
    ],
  },
  {
    name: 'connect',
    policy: `
on_tcp_connect:
  - expressions: ["inCidrRange(conn.client_ip, '127.0.0.0/8')"]
    actions: [{ type: restrict-ips, config: { enforce: true, allow: [198.51.100.0/24] } }]
`,
    steps: [
      { title: 'on_tcp_connect closes the connection without an answer', expect: { status: 0, upstream: false } },
    ],
  },
  {
    name: 'vars',
    policy: `
on_http_request:
  - actions:
      - type: set-vars
        config:
          vars:
            - pool: [red, green, "\${req.method}"]
            - size: "\${size(vars.pool)}"
            - last: "\${vars.pool[vars.size - 1]}"
            - text: "n=\${vars.size}"
            - nested: { a: { b: ["\${vars.last}"] } }
            - broken: "\${vars.nothing.there}"
            - size: "\${vars.size + 1}"
  - expressions: ["vars.size == 4", "vars.last == 'GET'", "vars.text == 'n=3'", "vars.broken == null"]
    actions: [{ type: add-headers, config: { headers: { x-vars: "\${vars.nested.a.b[0]} \${vars.size}" } } }]
on_http_response:
  - expressions: ["!has(vars.size)"]
    actions: [{ type: add-headers, config: { headers: { x-fresh: "yes" } } }]
`,
    steps: [
      {
        title: 'types stay, later entries see earlier ones, each phase begins anew',
        expect: {
          status: 200,
          headers: { 'x-fresh': 'yes' },
          upstream: (received) => expect(received.field('x-vars')).toBe('GET 4'),
        },
      },
      {
        title: 'a rule whose expression is false is passed over',
        method: 'POST',
        body: 'x',
        expect: { status: 200, upstream: (received) => expect(received.field('x-vars')).toBeUndefined() },
      },
    ],
  },
  {
    name: 'logged',
    policy: `
on_http_request:
  - actions:
      - type: log
        config:
          metadata: { edition: 2, who: "\${conn.client_ip}", deep: { list: ["\${req.method}"] }, token: "abc" }
  - actions: [{ type: add-headers, config: { headers: { x-logged: "\${actions.ngrok.log.metadata.edition}" } } }]
on_http_response:
  - actions: [{ type: log, config: { metadata: { status: "\${res.status_code}" } } }]
`,
    steps: [
      {
        title: 'metadata stands in the event, in order, secrets masked',
        expect: {
          status: 200,
          log: (line) =>
            expect(line['logs']).toEqual([
              { metadata: { edition: 2, who: '127.0.0.1', deep: { list: ['GET'] }, token: '***' } },
              { metadata: { status: '200' } },
            ]),
        },
      },
      {
        title: 'the result is there for later rules',
        expect: { status: 200, upstream: (received) => expect(received.field('x-logged')).toBe('2') },
      },
    ],
  },
])
