import { expect } from 'vitest'
import { policyCases, type Step } from '../../support/policy-cases.ts'

const basic = (pair: string): Readonly<Record<string, string>> => ({
  authorization: `Basic ${Buffer.from(pair).toString('base64')}`,
})

policyCases('§5.2 basic-auth', [
  {
    name: 'basic',
    policy: `
on_http_request:
  - actions:
      - type: basic-auth
        config:
          realm: the "staff" room
          credentials: ["ops:correct horse", "rené:pässwörd", "\${req.headers['x-user'][0]}:\${req.headers['x-pass'][0]}", "a:b:c:d:e:f"]
      - type: add-headers
        config: { headers: { x-user-seen: "\${actions.ngrok.basic_auth.credentials.username}" } }
`,
    steps: [
      {
        title: 'a listed pair passes, the header stays, the result names the user',
        headers: { ...basic('ops:correct horse'), 'x-user': 'nobody', 'x-pass': 'nothing at all' },
        expect: {
          status: 200,
          upstream: (received) => {
            expect(received.field('authorization')).toBe(basic('ops:correct horse')['authorization'])
            expect(received.field('x-user-seen')).toBe('ops')
          },
        },
      },
      {
        title: 'RFC 7617 §2: the scheme has no case; UTF-8',
        headers: {
          authorization: basic('rené:pässwörd')['authorization']!.replace('Basic', 'bASIC'),
          'x-user': 'nobody',
          'x-pass': 'nothing at all',
        },
        expect: { status: 200 },
      },
      {
        title: 'an interpolated pair passes',
        headers: { ...basic('carol:secret-of-carol'), 'x-user': 'carol', 'x-pass': 'secret-of-carol' },
        expect: { status: 200 },
      },
      {
        title: 'only the first colon separates',
        headers: { ...basic('a:b:c:d:e:f'), 'x-user': 'nobody', 'x-pass': 'nothing at all' },
        expect: { status: 200, upstream: (received) => expect(received.field('x-user-seen')).toBe('a') },
      },
      ...(
        [
          ['no header', {}],
          ['a wrong password', basic('ops:correct horsf')],
          ['a wrong user', basic('opt:correct horse')],
          ['the user of one pair with the password of another', basic('ops:pässwörd')],
          ['no colon', basic('ops')],
          ['an empty pair', basic(':')],
          ['another scheme', { authorization: 'Bearer b3BzOmNvcnJlY3QgaG9yc2U=' }],
          ['no base64', { authorization: 'Basic ops:correct horse' }],
        ] as const
      ).map(([title, headers]): Step => ({
        title: `401 for ${title}`,
        headers: { ...headers, 'x-user': 'nobody', 'x-pass': 'nothing at all' },
        expect: {
          status: 401,
          headers: { 'www-authenticate': 'Basic realm="the \\"staff\\" room"', 'ngrok-error-code': undefined },
          upstream: false,
          reason: 'auth:basic-auth',
        },
      })),
      {
        title: '§4: a pair that cannot be computed fails closed, also for the pairs beside it',
        headers: basic('ops:correct horse'),
        expect: { status: 500, upstream: false },
      },
      {
        title: 'an interpolation may not bring a second colon',
        headers: { ...basic('mallory:x:password'), 'x-user': 'mallory:x', 'x-pass': 'password' },
        expect: { status: 500, upstream: false },
      },
      {
        title: 'nor a password that is too short',
        headers: { ...basic('carol:short'), 'x-user': 'carol', 'x-pass': 'short' },
        expect: { status: 500, upstream: false },
      },
    ],
  },
  {
    name: 'basic-noted',
    policy: `
on_http_request:
  - actions:
      - { type: basic-auth, config: { enforce: false, credentials: ["user:password1"] } }
  - expressions: ["actions.ngrok.basic_auth.credentials.authorized == true"]
    actions: [{ type: custom-response, config: { body: "welcome \${actions.ngrok.basic_auth.credentials.username}" } }]
  - expressions: ["actions.ngrok.basic_auth.credentials.presented"]
    actions: [{ type: custom-response, config: { status_code: 418, body: wrong } }]
`,
    steps: [
      {
        title: 'enforce: false notes a good pair',
        headers: basic('user:password1'),
        expect: { status: 200, body: 'welcome user' },
      },
      { title: 'and a bad one', headers: basic('user:password2'), expect: { status: 418 } },
      { title: 'and none', expect: { status: 200, body: /^GET/ } },
    ],
  },
  {
    name: 'basic-default',
    policy: `
on_http_request: [{ actions: [{ type: basic-auth, config: { credentials: ["user:password1"] } }] }]
on_http_response: [{ actions: [{ type: add-headers, config: { headers: { x-after: "yes" } } }] }]
`,
    steps: [
      {
        title: '§2.4: the default realm; no response rules on a refusal',
        expect: { status: 401, headers: { 'www-authenticate': 'Basic realm="ngrok"', 'x-after': undefined } },
      },
    ],
  },
])

const failing = { status: 500, body: 'broken' }
const step = (title: string, expected: number, more: Partial<Step> = {}): Step => ({
  title,
  ...more,
  expect: { status: expected, ...more.expect },
})
const refused: Step['expect'] = {
  status: 503,
  headers: { 'ngrok-error-code': 'ERR_NGROK_3202', 'sallyport-error-code': 'ERR_GW_1032' },
  upstream: false,
  reason: 'circuit_open',
}

policyCases(
  '§5.3 circuit-breaker',
  [
    {
      name: 'breaker',
      policy: `
on_http_request:
  - expressions: ["req.url.path == '/own'"]
    actions:
      - &breaker { type: circuit-breaker, config: { error_threshold: 0.5, volume_threshold: 4, window_duration: 2m, tripped_duration: 1s } }
      - { type: custom-response, config: { status_code: 500 } }
  - actions: [*breaker]
on_http_response:
  - expressions: ["res.status_code == 500"]
    actions: [{ type: custom-response, config: { status_code: 200, body: mended } }]
`,
      steps: [
        step('a good answer', 200),
        step('a failure counts even when a response rule mends it', 200, {
          answer: failing,
          expect: { status: 200, body: 'mended' },
        }),
        ...Array.from({ length: 5 }, () => step('an answer of our own is not the upstream’s', 200, { path: '/own' })),
        step('404 is no failure', 404, { answer: { status: 404, body: '' } }),
        step('503 is one, and the fourth request trips it', 503, {
          answer: { status: 503, body: 'upstream' },
          expect: { status: 503, headers: { 'ngrok-error-code': undefined }, body: 'upstream' },
        }),
        { title: 'open: refused without asking the upstream', expect: refused },
        step('the other rule’s circuit is another one', 200, { path: '/own' }),
        {
          title: 'after tripped_duration a trial; it fails',
          delayMs: 1050,
          answer: failing,
          expect: { status: 200, body: 'mended' },
        },
        { title: 'open again', expect: refused },
        { title: 'a trial that succeeds', delayMs: 1050, expect: { status: 200 } },
        { title: 'closes it', expect: { status: 200 } },
        step('and the counts began anew', 200, { answer: failing }),
        { title: 'one failure of two is not the volume', expect: { status: 200 } },
      ],
    },
    {
      name: 'breaker-zero',
      policy: `
on_http_request:
  - actions: [{ type: circuit-breaker, config: { error_threshold: 0, volume_threshold: 1, window_duration: 60s, tripped_duration: 2m } }]
`,
      steps: [
        step('the documented example: the first request passes', 200),
        { title: 'the second is refused', expect: refused },
      ],
    },
    {
      name: 'breaker-noted',
      policy: `
on_http_request:
  - actions: [{ type: circuit-breaker, config: { error_threshold: 0, volume_threshold: 1, enforce: false } }]
`,
      steps: [step('enforce: false never trips', 200), step('never', 200), step('not at all', 200)],
    },
    {
      name: 'breaker-dead',
      withoutUpstream: true,
      policy: `
on_http_request:
  - actions:
      - { type: circuit-breaker, config: { error_threshold: 1.0, volume_threshold: 2 } }
      - { type: forward-internal, config: { url: "https://dead.internal" } }
`,
      endpoints: '  - name: dead\n    url: https://dead.internal\n    upstream: { url: "http://127.0.0.1:1" }\n',
      steps: [
        step('an upstream that refuses connections is a failure', 502),
        step('and another', 502),
        { title: 'then nobody asks it', expect: refused },
      ],
    },
  ],
  'workers: 1',
)

policyCases('§5.4 close-connection', [
  {
    name: 'close',
    policy: `
on_http_request:
  - expressions: ["req.url.path == '/.env'"]
    actions: [{ type: close-connection }]
  - expressions: ["req.url.path == '/.git'"]
    actions: [{ type: close-connection, config: {} }]
`,
    steps: [
      { title: 'closes without an answer', path: '/.env', expect: { status: 0, upstream: false } },
      { title: 'also with an empty config', path: '/.git', expect: { status: 0, upstream: false } },
      {
        title: 'also with a body under way',
        method: 'POST',
        path: '/.env',
        body: 'x'.repeat(10_000),
        expect: { status: 0, upstream: false },
      },
      { title: 'others pass', path: '/env', expect: { status: 200 } },
    ],
  },
  {
    name: 'close-connect',
    policy: `
on_tcp_connect:
  - expressions: ["inCidrRange(conn.client_ip, '127.0.0.0/8')"]
    actions: [{ type: close-connection }]
`,
    steps: [{ title: 'in on_tcp_connect', expect: { status: 0, upstream: false } }],
  },
])
