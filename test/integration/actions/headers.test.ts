import { expect } from 'vitest'
import { policyCases } from '../../support/policy-cases.ts'

const ACTION = (type: string, config: string): string => `[{ type: ${type}, config: ${config} }]`

policyCases('§5.1 add-headers, §5.18 remove-headers', [
  {
    name: 'add-request',
    policy: `
on_http_request:
  - actions:
      - type: add-headers
        config:
          headers:
            X-Added: "one \${conn.client_ip}"
            x-list: "\${req.headers['x-several']}"
            x-missing: "\${req.headers['x-not-there'][0]}"
            x-bool: true
  - expressions: ["'x-added' in req.headers"]
    actions: ${ACTION('add-headers', '{ headers: { x-saw: "${actions.ngrok.add_headers.headers_added[\'x-added\']}" } }')}
`,
    steps: [
      {
        title: 'values arrive upstream, names in lower case',
        headers: { 'x-several': 'a' },
        expect: {
          status: 200,
          upstream: (received) => {
            expect(received.field('x-added')).toBe('one 127.0.0.1')
            expect(received.field('x-list')).toBe('a')
            expect(received.field('x-bool')).toBe('true')
          },
        },
      },
      {
        title: 'later rules see the header and the result',
        expect: { status: 200, upstream: (received) => expect(received.field('x-saw')).toBe('one 127.0.0.1') },
      },
      {
        title: 'a value that fails at run time is empty, the request goes on (§4)',
        expect: { status: 200, upstream: (received) => expect(received.field('x-missing')).toBe('') },
      },
      {
        title: 'an existing header keeps its value and gets a second one',
        headers: { 'x-added': 'mine' },
        expect: {
          status: 200,
          upstream: (received) => expect(received.all('x-added')).toEqual(['mine', 'one 127.0.0.1']),
        },
      },
    ],
  },
  {
    name: 'add-host',
    policy: `
on_http_request:
  - actions: ${ACTION('add-headers', '{ headers: { host: "internal.example" } }')}
`,
    steps: [
      {
        title: 'host replaces the Host that the upstream sees, X-Forwarded-Host keeps the public one',
        expect: {
          status: 200,
          upstream: (received) => {
            expect(received.all('host')).toEqual(['internal.example'])
            expect(received.field('x-forwarded-host')).toMatch(/^add-host\.case\.test:\d+$/)
          },
        },
      },
    ],
  },
  {
    name: 'add-hostile',
    policy: `
on_http_request:
  - actions: ${ACTION('add-headers', '{ headers: { x-copy: "${url.unescape(getQueryParam(\'v\')[0])}" } }')}
`,
    steps: [
      {
        title: 'H-123: a value with line breaks is not sent',
        path: '/?v=a%250d%250aevil:%201',
        expect: {
          status: 200,
          upstream: (received) => {
            expect(received.field('x-copy')).toBeUndefined()
            expect(received.field('evil')).toBeUndefined()
          },
        },
      },
      {
        title: 'a harmless value is',
        path: '/?v=plain',
        expect: { status: 200, upstream: (received) => expect(received.field('x-copy')).toBe('plain') },
      },
    ],
  },
  {
    name: 'add-response',
    policy: `
on_http_response:
  - actions: ${ACTION('add-headers', '{ headers: { x-status: "${res.status_code}", x-when: "${time.now}" } }')}
`,
    steps: [
      {
        title: 'the client sees the header',
        expect: { status: 200, headers: { 'x-status': '200', 'x-when': /^\d{4}-\d\d-\d\dT/, 'x-echo': 'yes' } },
      },
      {
        title: 'on an error of the upstream as well',
        answer: { status: 500, body: 'broken' },
        expect: { status: 500, headers: { 'x-status': '500' }, body: 'broken' },
      },
    ],
  },
  {
    name: 'remove-both',
    policy: `
on_http_request:
  - actions: ${ACTION('remove-headers', '{ headers: [X-Secret, x-forwarded-for] }')}
on_http_response:
  - actions: ${ACTION('remove-headers', '{ headers: [server, x-echo] }')}
`,
    steps: [
      {
        title: 'every value is gone, and our own X-Forwarded-For with it',
        headers: { 'X-Secret': 'v' },
        expect: {
          status: 200,
          headers: { 'x-echo': undefined, server: undefined },
          upstream: (received) => {
            expect(received.field('x-secret')).toBeUndefined()
            expect(received.field('x-forwarded-for')).toBeUndefined()
            expect(received.field('x-forwarded-proto')).toBe('http')
          },
        },
      },
      {
        title: 'others stay',
        headers: { 'x-public': 'v' },
        expect: { status: 200, upstream: (received) => expect(received.field('x-public')).toBe('v') },
      },
    ],
  },
])
