/**
 * Every provider of `verify-webhook`: a request that is signed as appendix A says passes, one that is not does not.
 * The vectors of the first table are self-made (signed here, by node:crypto and nothing of the gateway's); those of
 * the second one were published by the providers.
 */
import { describe, expect, it } from 'vitest'
import { PROVIDERS, PROVIDERS_NOT_PUBLIC } from '../../../src/webhook/providers.ts'
import { parseJson, parseTimestamp, verifyBySchemes, type WebhookRequest } from '../../../src/webhook/scheme.ts'
import {
  EC_PUBLIC,
  FORM_TYPE,
  hmac,
  SECRET,
  SELF_MADE,
  type Sent,
  sent,
  WEBHOOK_HOST,
} from '../../support/webhook-vectors.ts'
import { expectLinear } from '../../support/linear-work.ts'

const NOW_MS = Date.UTC(2026, 4, 1, 12)
const BODY = '{"event":"order.paid"}'

function request({
  method = 'POST',
  target = '/hooks?a=1',
  host = WEBHOOK_HOST,
  headers,
  body = '',
}: Sent): WebhookRequest {
  const named = new Map(Object.entries(headers))
  return {
    method,
    target,
    urls: ['https', 'http'].map((scheme) => `${scheme}://${host}${target}`),
    headers: { all: (name) => (named.has(name) ? [named.get(name)!] : []) },
    body: Buffer.from(body, 'utf8'),
  }
}

function verdict(provider: string, sent: Sent, secret: string, nowMs = NOW_MS): string {
  const result = verifyBySchemes(PROVIDERS.get(provider)!.schemes, request(sent), secret, nowMs)
  return result.verified ? 'verified' : result.reason
}

describe.each(SELF_MADE)('%s, self-made vector', (provider, vector) => {
  const { secret = SECRET, toleranceMs } = vector

  it('verifies', () => {
    expect(verdict(provider, sent(vector, NOW_MS), secret)).toBe('verified')
  })

  it('is refused under another secret', () => {
    const other = provider === 'sendgrid' ? EC_PUBLIC.replace('MFkw', 'MFkx') : `b${secret.slice(1)}x`
    expect(verdict(provider, sent(vector, NOW_MS), other)).not.toBe('verified')
  })

  if (vector.withoutBody !== true)
    it('is refused with another body', () => {
      const good = sent(vector, NOW_MS)
      expect(verdict(provider, { ...good, body: `${good.body} ` }, secret)).not.toBe('verified')
      expect(verdict(provider, { ...good, body: '' }, secret)).not.toBe('verified')
    })

  it('is refused without each of its headers that is needed, and with another value of it', () => {
    const good = sent(vector, NOW_MS)
    for (const name of Object.keys(good.headers)) {
      const rest = Object.fromEntries(Object.entries(good.headers).filter(([known]) => known !== name))
      const isSpare =
        /^(?:box-signature-primary|x-docusign-signature-1|x-hubspot-signature|x-hubspot-signature-version)$/
      if (isSpare.test(name) && (provider !== 'hubspot' || 'x-hubspot-signature-v3' in good.headers)) continue
      expect(verdict(provider, { ...good, headers: rest }, secret), `without ${name}`).not.toBe('verified')
      if (name === 'content-type') continue
      const value = good.headers[name]!
      const at = Math.max(0, value.length - 10)
      const changed = `${value.slice(0, at)}${value[at] === '1' ? '2' : '1'}${value.slice(at + 1)}`
      const bent = { ...good, headers: { ...good.headers, [name]: changed } }
      expect(verdict(provider, bent, secret), `another ${name}`).not.toBe('verified')
    }
  })

  it('is refused when a header occurs twice', () => {
    const good = request(sent(vector, NOW_MS))
    const twice: WebhookRequest = {
      ...good,
      headers: { all: (name) => good.headers.all(name).flatMap((value) => [value, value]) },
    }
    const result = verifyBySchemes(PROVIDERS.get(provider)!.schemes, twice, secret, NOW_MS)
    expect(result.verified).toBe(provider === 'mailgun')
  })

  if (toleranceMs !== undefined)
    it('counts as a replay outside of the tolerance', () => {
      const good = sent(vector, NOW_MS)
      for (const side of [-1, 1]) {
        expect(verdict(provider, good, secret, NOW_MS + side * toleranceMs)).toBe('verified')
        expect(verdict(provider, good, secret, NOW_MS + side * (toleranceMs + 1))).toMatch(/too old or too far ahead/)
      }
    })
})

it('every provider whose scheme is public has a vector', () => {
  expect(new Set(SELF_MADE.map(([provider]) => provider))).toEqual(new Set(PROVIDERS.keys()))
  expect(PROVIDERS.size).toBeGreaterThanOrEqual(63)
  for (const name of PROVIDERS_NOT_PUBLIC) expect(PROVIDERS.has(name)).toBe(false)
})

// ── published vectors ──

const at = (text: string): number => parseTimestamp(text)!

const PUBLISHED: readonly (readonly [provider: string, source: string, secret: string, sent: Sent, nowMs?: number])[] =
  [
    [
      'github',
      'docs.github.com, "Validating webhook deliveries"',
      "It's a Secret to Everybody",
      {
        headers: {
          'x-hub-signature-256': 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
        },
        body: 'Hello, World!',
      },
    ],
    [
      'slack',
      'docs.slack.dev, "Verifying requests from Slack"',
      '8f742231b10e8888abcd99yyyzzz85a5',
      {
        headers: {
          'x-slack-request-timestamp': '1531420618',
          'x-slack-signature': 'v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503',
        },
        body: 'token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c',
      },
      at('1531420618'),
    ],
    [
      'svix',
      'docs.svix.com, "How to verify webhooks"',
      'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw',
      {
        headers: {
          'svix-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
          'svix-timestamp': '1614265330',
          'svix-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
        },
        body: '{"test": 2432232314}',
      },
      at('1614265330'),
    ],
    [
      'twilio',
      'twilio.com/docs, "Webhooks security"',
      '12345',
      {
        host: 'mycompany.com',
        target: '/myapp.php?foo=1&bar=2',
        headers: { ...FORM_TYPE, 'x-twilio-signature': 'RSOYDt4T1cUTdK1PDd93/VVr8B8=' },
        body: 'Digits=1234&To=%2B18005551212&From=%2B14158675309&Caller=%2B14158675309&CallSid=CA1234567890ABCDE',
      },
    ],
    [
      'hubspot',
      'developers.hubspot.com, "Validating requests", version 1',
      'yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy',
      {
        headers: {
          'x-hubspot-signature-version': 'v1',
          'x-hubspot-signature': '232db2615f3d666fe21a8ec971ac7b5402d33b9a925784df3ca654d05f4817de',
        },
        body: '[{"eventId":1,"subscriptionId":12345,"portalId":62515,"occurredAt":1564113600000,"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123,"changeSource":"CRM","changeFlag":"NEW","appId":54321}]',
      },
    ],
    [
      'hubspot',
      'the same, version 2, GET',
      'yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy',
      {
        method: 'GET',
        host: 'www.example.com',
        target: '/webhook_uri',
        headers: {
          'x-hubspot-signature-version': 'v2',
          'x-hubspot-signature': 'eee2dddcc73c94d699f5e395f4b9d454a069a6855fbfa152e91e88823087200e',
        },
      },
    ],
    [
      'hubspot',
      'the same, version 2, POST',
      'yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy',
      {
        host: 'www.example.com',
        target: '/webhook_uri',
        headers: {
          'x-hubspot-signature-version': 'v2',
          'x-hubspot-signature': '9569219f8ba981ffa6f6f16aa0f48637d35d728c7e4d93d0d52efaa512af7900',
        },
        body: '{"example_field":"example_value"}',
      },
    ],
    ...(['SamplePrimaryKey', 'SampleSecondaryKey'] as const).map(
      (key) =>
        [
          'box',
          'developer.box.com, "Verify webhook signatures"',
          key,
          {
            headers: {
              'box-delivery-timestamp': '2020-01-01T00:00:00-07:00',
              'box-signature-primary': '6TfeAW3A1PASkgboxxA5yqHNKOwFyMWuEXny/FPD5hI=',
              'box-signature-secondary': 'v+1CD1Jdo3muIcbpv5lxxgPglOqMfsNHPV899xWYydo=',
            },
            body: '{"type":"webhook_event","webhook":{"id":"1234567890"},"trigger":"FILE.UPLOADED","source":{"id":"1234567890","type":"file","name":"Test.txt"}}',
          },
          at('2020-01-01T00:00:00-07:00'),
        ] as const,
    ),
    [
      'square',
      'developer.squareup.com, "Validate webhook notifications"',
      'asdf1234',
      {
        host: 'example.com',
        target: '/webhook',
        headers: { 'x-square-hmacsha256-signature': '2kRE5qRU2tR+tBGlDwMEw2avJ7QM4ikPYD/PJ3bd9Og=' },
        body: '{"hello":"world"}',
      },
    ],
    [
      'sendgrid',
      'SendGrid’s own libraries, example of the event webhook',
      'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDr2LjtURuePQzplybdC+u4CwrqDqBaWjcMMsTbhdbcwHBcepxo7yAQGhHPTnlvFYPAZFceEu/1FwCM/QmGUhA==',
      {
        headers: {
          'x-twilio-email-event-webhook-timestamp': '1588788367',
          'x-twilio-email-event-webhook-signature':
            'MEUCIQCtIHJeH93Y+qpYeWrySphQgpNGNr/U+UyUlBkU6n7RAwIgJTz2C+8a8xonZGi6BpSzoQsbVRamr2nlxFDWYNH2j/0=',
        },
        body: '{"category":"example_payload","event":"test_event","message_id":"message_id"}',
      },
      at('1588788367'),
    ],
  ]

for (const [provider, source, secret, vector, nowMs] of PUBLISHED) {
  describe(`${provider}, published: ${source}`, () => {
    it('verifies, and does not with another body', () => {
      expect(verdict(provider, vector, secret, nowMs)).toBe('verified')
      const other = { ...vector, body: `${vector.body ?? ''}x` }
      expect(verdict(provider, other, secret, nowMs)).toBe('the signature does not match')
    })
  })
}

describe('a request', () => {
  it('without a signature says so, whatever else it carries', () => {
    for (const provider of PROVIDERS.keys()) {
      expect(verdict(provider, { headers: { 'x-other': 'sha256=00' }, body: BODY }, SECRET)).toBe(
        'the request carries no signature',
      )
    }
  })

  it('under http, or on another port, is as good: who ends TLS is not seen here', () => {
    const headers = { 'x-square-hmacsha256-signature': hmac(`http://hooks.case.test/hooks?a=1${BODY}`, 'base64') }
    expect(verdict('square', { headers, body: BODY }, SECRET)).toBe('verified')
    const elsewhere = { 'x-square-hmacsha256-signature': hmac(`https://evil.example.org/hooks?a=1${BODY}`, 'base64') }
    expect(verdict('square', { headers: elsewhere, body: BODY }, SECRET)).not.toBe('verified')
  })

  it('of Contentful must sign its time', () => {
    const names = 'x-contentful-signed-headers,x-topic'
    const headers = {
      'x-contentful-signed-headers': names,
      'x-contentful-timestamp': String(NOW_MS),
      'x-topic': 'publish',
      'x-contentful-signature': hmac(`POST\n/hooks?a=1\nx-contentful-signed-headers:${names};x-topic:publish\n${BODY}`),
    }
    expect(verdict('contentful', { headers, body: BODY }, SECRET)).toBe('the request lacks a value that is signed')
  })

  it('is refused, not verified with an empty key, when the secret has not the provider’s form', () => {
    const vector = sent(SELF_MADE.find(([provider]) => provider === 'svix')![1], NOW_MS)
    for (const secret of ['whsec_', 'whsec_{your secret}', '{webhook_secret}']) {
      expect(verdict('svix', vector, secret)).toMatch(/the secret does not have the form/)
    }
  })

  it('with thousands of signatures costs one hash of its body', () => {
    const body = 'x'.repeat(400_000)
    const at = String(NOW_MS / 1000)
    const last = hmac(`${at}.${body}`)
    const expectCheap = (): void =>
      expectLinear(
        // one hash for each would cost eight times as much; one for all costs the same
        (times) => ({ 'stripe-signature': `t=${at}${',v1=00'.repeat(1000 * times)},v1=${last}` }),
        (headers) => expect(verdict('stripe', { headers, body }, SECRET)).toBe('verified'),
        { most: 4 },
      )
    expect(expectCheap).not.toThrow()
  })

  it('with a form of too many fields is refused before they are sorted', () => {
    for (const provider of ['twilio', 'mailchimp', 'plivo']) {
      const headers = {
        ...FORM_TYPE,
        'x-twilio-signature': 'AAAA',
        'x-mandrill-signature': 'AAAA',
        'x-plivo-signature-v3': 'AAAA',
        'x-plivo-signature-v3-nonce': '1',
      }
      expect(verdict(provider, { headers, body: 'a&'.repeat(2000) }, SECRET)).toBe(
        'the request lacks a value that is signed',
      )
      expect(verdict(provider, { headers, body: 'a&'.repeat(1999) }, SECRET)).toBe('the signature does not match')
    }
  })

  it('with a body that nests deeply or is no JSON is refused', () => {
    for (const body of ['', 'null', '[]', '{"signature":5}', '['.repeat(100_000), '{"signature":{"timestamp":{}}}']) {
      expect(verdict('mailgun', { headers: {}, body }, SECRET)).toBe('the request carries no signature')
    }
  })
})

describe('parseJson', () => {
  const parse = (text: string): unknown => parseJson(Buffer.from(text))

  it('takes what webhooks are made of', () => {
    expect(parse('{"a":"[[\\"{","b":[{"c":[1]}]}')).toEqual({ a: '[["{', b: [{ c: [1] }] })
    const deep = `${'['.repeat(64)}${']'.repeat(64)}`
    expect(parse(deep)).toBeDefined()
    expect(parse(`[${'[[]],'.repeat(1000)}1]`)).toHaveLength(1001)
  })

  it('takes nothing that is nested deeper, or longer, before anybody has signed it', () => {
    expect(parse(`${'['.repeat(65)}${']'.repeat(65)}`)).toBeUndefined()
    expect(parse(`"${'x'.repeat(2_100_000)}"`)).toBeUndefined()
    expectLinear(
      (times) => '['.repeat(250_000 * times),
      (text) => expect(parse(text)).toBeUndefined(),
    )
  })

  it.each(['', '{', '{"a":}', '"\\', ']]]]'])('takes %j for none', (text) => {
    expect(parse(text)).toBeUndefined()
  })
})

it.each([
  ['1614265330', 1_614_265_330_000],
  ['1614265330.5', 1_614_265_330_500],
  ['1614265330123', 1_614_265_330_123],
  ['2021-02-25T15:02:10Z', 1_614_265_330_000],
  ['2021-02-25T16:02:10.25+01:00', 1_614_265_330_250],
  ['2021-02-25T15:02:10.000000', 1_614_265_330_000],
  ['', undefined],
  ['now', undefined],
  ['-1614265330', undefined],
  ['1e9', undefined],
  ['2021-13-45T15:02:10Z', undefined],
  ['99999999999999999999', undefined],
])('timestamp %s', (text, expected) => {
  expect(parseTimestamp(text)).toBe(expected)
})
