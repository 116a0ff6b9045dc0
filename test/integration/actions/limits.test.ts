import { expect } from 'vitest'
import { policyCases, type Step } from '../../support/policy-cases.ts'

const times = (count: number, step: Step): Step[] =>
  Array.from({ length: count }, (_, index) => ({ ...step, title: `${step.title} (${index + 1})` }))

const limit = (fields: string): string => `
on_http_request:
  - actions:
      - type: rate-limit
        config: { name: calls, algorithm: sliding_window, capacity: 2, rate: 60s, ${fields} }
      - { type: add-headers, config: { headers: { x-limited: "\${actions.ngrok.rate_limit.limited}" } } }
`

policyCases(
  '§5.16 rate-limit',
  [
    {
      name: 'per-key',
      policy: limit(`bucket_key: ["getReqHeader('x-api-key')", req.host]`),
      steps: [
        ...times(2, {
          title: 'within the capacity',
          headers: { 'x-api-key': 'a' },
          expect: { status: 200, upstream: (received) => expect(received.field('x-limited')).toBe('false') },
        }),
        {
          title: 'beyond it 429 with retry-after, nothing upstream',
          headers: { 'x-api-key': 'a' },
          expect: {
            status: 429,
            headers: { 'retry-after': /^(?:[1-9]|[1-6]\d)$/, ratelimit: /^"calls";r=0;t=\d+$/ },
            upstream: false,
            reason: 'rate_limited:calls',
          },
        },
        {
          title: 'another key has its own bucket',
          headers: { 'x-api-key': 'b' },
          expect: { status: 200, headers: { 'ratelimit-policy': '"calls";q=2;w=60' } },
        },
        { title: 'requests without the header share one bucket', expect: { status: 200 } },
        { title: 'and are counted', expect: { status: 200 } },
        { title: 'and limited', expect: { status: 429 } },
      ],
    },
    {
      name: 'not-enforced',
      policy: limit('bucket_key: ["conn.client_ip"], enforce: false'),
      steps: [
        ...times(2, { title: 'within the capacity', expect: { status: 200 } }),
        {
          title: 'beyond it the result says so and the request goes on',
          expect: { status: 200, upstream: (received) => expect(received.field('x-limited')).toBe('true') },
        },
      ],
    },
    {
      name: 'two-limits',
      policy: `
on_http_request:
  - actions:
      - { type: rate-limit, config: { name: wide, capacity: 100, rate: 60s, bucket_key: ["conn.client_ip"] } }
      - { type: rate-limit, config: { name: narrow, capacity: 1, rate: 60s, bucket_key: ["conn.client_ip"] } }
`,
      steps: [
        {
          title: 'both pass',
          expect: { status: 200, headers: { ratelimit: /"wide";r=99;t=\d+, "narrow";r=0;t=\d+/ } },
        },
        { title: 'the narrower one ends it', expect: { status: 429, reason: 'rate_limited:narrow' } },
      ],
    },
  ],
  'rate_limit: { headers: draft }',
)
