import { policyCases, type Step } from '../../support/policy-cases.ts'
import { hmac, SECRET, SELF_MADE, type Sent, sent } from '../../support/webhook-vectors.ts'

// self-made vectors sign `https://hooks.case.test/…`: the gateway knows this endpoint under http and another port
const vectors = SELF_MADE.map(([provider, vector], place) => ({ provider, vector, place }))

const step = (title: string, place: number, it: Sent, expect: Step['expect']): Step => ({
  title,
  method: it.method ?? 'POST',
  path: it.target ?? '/',
  headers: { ...it.headers, 'x-place': String(place) },
  ...(it.method !== 'GET' && { body: it.body ?? '' }),
  expect,
})

/** The same request, no longer what was signed. */
function forged(it: Sent & { readonly body: string }): Sent {
  if (it.headers['x-gitlab-token'] !== undefined) return { ...it, headers: { 'x-gitlab-token': `${SECRET}!` } }
  if (it.headers['x-buildkite-token'] !== undefined) return { ...it, headers: { 'x-buildkite-token': 'another' } }
  if (it.headers['x-plivo-signature-v3-nonce'] !== undefined) {
    return { ...it, headers: { ...it.headers, 'x-plivo-signature-v3-nonce': '54321' } }
  }
  return it.body.includes('"f00"') ? { ...it, body: it.body.replace('f00', 'f01') } : { ...it, body: `${it.body} ` }
}

const REFUSED: Step['expect'] = {
  status: 403,
  headers: { 'ngrok-error-code': 'ERR_NGROK_3204', 'sallyport-error-code': 'ERR_GW_1025' },
  upstream: false,
  reason: 'auth:ERR_NGROK_3204',
}

const nowMs = Date.now()
console.log(`${vectors.length} self-made vectors, each once good and once forged`)

policyCases(
  '§5.27 verify-webhook',
  [
    {
      name: 'hooks',
      policy: [
        'on_http_request:',
        ...vectors.map(({ provider, vector, place }) =>
          [
            `  - expressions: ["req.headers['x-place'][0] == '${place}'"]`,
            `    actions: [{ type: verify-webhook, config: { provider: ${provider}, secret: ${JSON.stringify(vector.secret ?? SECRET)} } }]`,
          ].join('\n'),
        ),
      ].join('\n'),
      steps: vectors.flatMap(({ provider, vector, place }) => {
        const good = sent(vector, nowMs)
        const passes: Step['expect'] = {
          status: 200,
          upstream: (received) => {
            if (received.body !== Buffer.from(good.method === 'GET' ? '' : good.body).toString('latin1')) {
              throw new Error(`the body arrived as ${received.body}`)
            }
          },
        }
        return [
          step(`${provider} (${place}): signed`, place, good, passes),
          step(`${provider} (${place}): forged`, place, forged(good), REFUSED),
        ]
      }),
    },
    {
      name: 'hook-github',
      policy: `
on_http_request:
  - expressions: ["req.url.path == '/alias'"]
    actions: [{ type: webhook-verification, config: { provider: github, secret: "\${req.headers['x-secret'][0]}" } }]
  - expressions: ["req.url.path == '/noted'"]
    actions:
      - { type: verify-webhook, config: { provider: github, secret: "It's a Secret to Everybody", enforce: false } }
      - type: add-headers
        config: { headers: { x-verified: "\${actions.ngrok.verify_webhook.verified} \${actions.ngrok.verify_webhook.error.code}" } }
  - expressions: ["req.url.path == '/sns'"]
    actions: [{ type: verify-webhook, config: { provider: sns } }]
  - expressions: ["req.url.path == '/token'"]
    actions: [{ type: verify-webhook, config: { provider: gitlab, secret: secret! } }]
`,
      steps: [
        {
          title: 'GitHub’s published vector, an interpolated secret, a name of old',
          method: 'POST',
          path: '/alias',
          headers: {
            'x-secret': "It's a Secret to Everybody",
            'x-hub-signature-256': 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
          },
          body: 'Hello, World!',
          expect: { status: 200 },
        },
        {
          title: 'an empty secret fails closed',
          method: 'POST',
          path: '/alias',
          headers: { 'x-secret': '', 'x-hub-signature-256': `sha256=${hmac('x', 'hex', 'sha256', '')}` },
          body: 'x',
          expect: { status: 500, upstream: false },
        },
        {
          title: 'a secret that cannot be computed fails closed',
          method: 'POST',
          path: '/alias',
          body: 'x',
          expect: { status: 500, upstream: false },
        },
        {
          title: 'a request without body or signature is refused',
          path: '/alias',
          headers: { 'x-secret': 'x' },
          expect: REFUSED,
        },
        {
          title: 'enforce: false notes the failure and goes on',
          method: 'POST',
          path: '/noted',
          body: 'x'.repeat(200_000),
          expect: {
            status: 200,
            upstream: (received) => {
              if (received.field('x-verified') !== 'false ERR_NGROK_3204') throw new Error(received.head)
              if (received.body.length !== 200_000) throw new Error(`${received.body.length} bytes arrived`)
            },
          },
        },
        {
          title: 'the result of a good one has no error',
          method: 'POST',
          path: '/noted',
          headers: { 'x-hub-signature-256': `sha256=${hmac('x', 'hex', 'sha256', "It's a Secret to Everybody")}` },
          body: 'x',
          expect: {
            status: 200,
            upstream: (received) => {
              if (received.field('x-verified')?.trim() === 'false ERR_NGROK_3204') throw new Error(received.head)
            },
          },
        },
        {
          title: 'a body beyond limits.buffered_body is 413',
          method: 'POST',
          path: '/alias',
          headers: { 'x-secret': 'x' },
          body: 'x'.repeat(2_000_000),
          expect: { status: 413, upstream: false },
        },
        {
          title: 'also in chunks, without an announced length',
          method: 'POST',
          path: '/alias',
          headers: { 'x-secret': 'x', 'transfer-encoding': 'chunked' },
          body: 'x'.repeat(2_000_000),
          expect: { status: 413, upstream: false },
        },
        {
          title: 'it goes on with enforce: false, whole',
          method: 'POST',
          path: '/noted',
          body: 'x'.repeat(2_000_000),
          expect: {
            status: 200,
            upstream: (received) => {
              if (received.body.length !== 2_000_000) throw new Error(`${received.body.length} bytes arrived`)
            },
          },
        },
        {
          title: 'a token needs no body: any length passes',
          method: 'POST',
          path: '/token',
          headers: { 'x-gitlab-token': 'secret!' },
          body: 'x'.repeat(2_000_000),
          expect: { status: 200 },
        },
        {
          title: 'sns: a certificate of another host is not even fetched',
          method: 'POST',
          path: '/sns',
          body: JSON.stringify({
            Type: 'Notification',
            MessageId: '1',
            TopicArn: 'arn:aws:sns:eu-central-1:1:t',
            Message: 'm',
            Timestamp: new Date(nowMs).toISOString(),
            SignatureVersion: '2',
            Signature: 'AAAA',
            SigningCertURL: 'https://127.0.0.1/cert.pem',
          }),
          expect: REFUSED,
        },
      ],
    },
    {
      name: 'hook-challenges',
      policy: `
on_http_request:
  - expressions: ["req.url.path == '/twitter'"]
    actions: [{ type: verify-webhook, config: { provider: twitter, secret: "${SECRET}" } }]
  - expressions: ["req.url.path == '/worldline'"]
    actions: [{ type: verify-webhook, config: { provider: worldline, secret: "${SECRET}" } }]
  - expressions: ["req.url.path == '/xero'"]
    actions: [{ type: verify-webhook, config: { provider: xero, secret: "${SECRET}" } }]
  - expressions: ["req.url.path == '/zoom'"]
    actions: [{ type: verify-webhook, config: { provider: zoom, secret: "${SECRET}" } }]
on_http_response: [{ actions: [{ type: add-headers, config: { headers: { x-after: "yes" } } }] }]
`,
      steps: [
        {
          title: 'twitter’s is answered, by us alone',
          path: '/twitter?crc_token=abc123',
          expect: {
            status: 200,
            headers: { 'content-type': 'application/json', 'x-after': undefined },
            body: JSON.stringify({ response_token: `sha256=${hmac('abc123', 'base64')}` }),
            upstream: false,
            reason: 'ok',
          },
        },
        { title: 'another GET of twitter is refused', path: '/twitter', expect: REFUSED },
        {
          title: 'worldline’s is echoed as text',
          path: '/worldline',
          headers: { 'x-gcs-webhooks-endpoint-verification': 'e-c-h-o' },
          expect: { status: 200, body: 'e-c-h-o', headers: { 'content-type': 'text/plain' }, upstream: false },
        },
        ...([true, false] as const).map((isGood): Step => {
          const body = '{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"S0m3r4nd0mt3xt"}'
          return {
            title: `xero’s intent to receive with a ${isGood ? 'good' : 'bad'} signature`,
            method: 'POST',
            path: '/xero',
            headers: { 'x-xero-signature': hmac(isGood ? body : 'other', 'base64') },
            body,
            expect: {
              status: isGood ? 200 : 401,
              body: '',
              headers: { 'content-type': undefined },
              upstream: false,
              reason: isGood ? 'ok' : 'auth:ERR_NGROK_3204',
            },
          }
        }),
        ...([true, false] as const).map((isGood): Step => {
          const body = '{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"}}'
          const at = String(Math.floor(nowMs / 1000))
          return {
            title: `zoom’s with a ${isGood ? 'good' : 'bad'} signature`,
            method: 'POST',
            path: '/zoom',
            headers: {
              'x-zm-request-timestamp': at,
              'x-zm-signature': `v0=${hmac(`v0:${at}:${isGood ? body : ''}`)}`,
            },
            body,
            expect: isGood
              ? {
                  status: 200,
                  body: JSON.stringify({
                    plainToken: 'qgg8vlvZRS6UYooatFL8Aw',
                    encryptedToken: hmac('qgg8vlvZRS6UYooatFL8Aw'),
                  }),
                  upstream: false,
                }
              : REFUSED,
          }
        }),
      ],
    },
  ],
  'limits: { buffered_body: 1MiB }',
)
