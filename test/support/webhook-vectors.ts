/**
 * A signed request of every provider of `verify-webhook`, self-made: signed here as appendix A of the specification says,
 * by node:crypto and nothing of the gateway's.
 */
import { createHash, createHmac, generateKeyPairSync, sign as signWithKey } from 'node:crypto'

export type Headers = Readonly<Record<string, string>>

export interface Sent {
  readonly method?: string
  readonly target?: string
  readonly host?: string
  readonly headers: Headers
  readonly body?: string
}

export const SECRET = 'a secret of ours'
const BODY = '{"event":"order.paid","name":"Zoë"}'
/** The host under which providers know the endpoint, and its URL. */
export const WEBHOOK_HOST = 'hooks.case.test'
export const WEBHOOK_URL = `https://${WEBHOOK_HOST}/hooks?a=1`
const FORM = 'To=%2B1800&From=a+b&CallSid=CA1&Caller=%C3%A9'
export const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded; charset=utf-8' }

export type Digest = 'hex' | 'base64'
export const hmac = (text: string, digest: Digest = 'hex', hash = 'sha256', key: string | Buffer = SECRET): string =>
  createHmac(hash, key).update(text, 'utf8').digest(digest)

const seconds = (atMs: number): string => String(Math.floor(atMs / 1000))

const WHSEC = `whsec_${Buffer.from('twenty-four bytes of key').toString('base64')}`
const TEAMS = Buffer.from('teams key').toString('base64')
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
export const EC_PUBLIC: string = ec.publicKey.export({ format: 'der', type: 'spki' }).toString('base64')

export interface SelfMade extends Partial<Sent> {
  readonly secret?: string
  /** The headers of a request signed at that time. */
  sign(atMs: number, body: string): Headers
  /** Present where the scheme has a signed time. */
  readonly toleranceMs?: number
  /** The body is made at signing. */
  bodyOf?(atMs: number): string
  /** The signature does not cover the body. */
  readonly withoutBody?: boolean
}

const plain = (header: string, digest: Digest, prefix = '', hash = 'sha256'): SelfMade => ({
  sign: (_, body) => ({ [header]: prefix + hmac(body, digest, hash) }),
})
const stripeLike = (header: string, name: string, toleranceMs = 180_000): SelfMade => ({
  toleranceMs,
  sign: (atMs, body) => ({ [header]: `t=${seconds(atMs)},${name}=${hmac(`${seconds(atMs)}.${body}`)}` }),
})
const svixLike = (prefix: string): SelfMade => ({
  secret: WHSEC,
  toleranceMs: 300_000,
  sign: (atMs, body) => {
    const good = hmac(`msg_1.${seconds(atMs)}.${body}`, 'base64', 'sha256', Buffer.from('twenty-four bytes of key'))
    return {
      [`${prefix}-id`]: 'msg_1',
      [`${prefix}-timestamp`]: seconds(atMs),
      [`${prefix}-signature`]: `v1,${hmac('other', 'base64')} v1a,xyz v1,${good}`,
    }
  },
})
const colon = (signature: string, timestamp: string, version: string, toleranceMs = 180_000): SelfMade => ({
  toleranceMs,
  sign: (atMs, body) => ({
    [timestamp]: seconds(atMs),
    [signature]: `${version}=${hmac(`${version}:${seconds(atMs)}:${body}`)}`,
  }),
})
const sha = (text: string): string => createHash('sha256').update(text, 'utf8').digest('hex')
const iso = (atMs: number): string => new Date(atMs).toISOString()

export const SELF_MADE: readonly (readonly [provider: string, vector: SelfMade])[] = [
  ['aftership', plain('aftership-hmac-sha256', 'base64')],
  [
    'airship',
    {
      toleranceMs: 180_000,
      sign: (atMs, body) => ({ 'x-ua-timestamp': iso(atMs), 'x-ua-signature': hmac(`${iso(atMs)}:${body}`) }),
    },
  ],
  ['alchemy', plain('x-alchemy-signature', 'hex')],
  ['autodesk', plain('x-adsk-signature', 'hex', 'sha1hash=', 'sha1')],
  ['bitbucket', plain('x-hub-signature', 'hex', 'sha256=')],
  ['bolt', plain('x-bolt-hmac-sha256', 'base64')],
  [
    'box',
    {
      toleranceMs: 600_000,
      sign: (atMs, body) => ({
        'box-delivery-timestamp': iso(atMs),
        'box-signature-primary': hmac('another key', 'base64'),
        'box-signature-secondary': hmac(body + iso(atMs), 'base64'),
      }),
    },
  ],
  ['brex', svixLike('webhook')],
  [
    'buildkite',
    {
      toleranceMs: 180_000,
      sign: (atMs, body) => ({
        'x-buildkite-signature': `timestamp=${seconds(atMs)},signature=${hmac(`${seconds(atMs)}.${body}`)}`,
      }),
    },
  ],
  ['buildkite', { withoutBody: true, sign: () => ({ 'x-buildkite-token': SECRET }) }],
  ['calendly', stripeLike('calendly-webhook-signature', 'v1')],
  ['castle', plain('x-castle-signature', 'base64')],
  ['chargify', plain('x-chargify-webhook-signature-hmac-sha-256', 'hex')],
  ['circleci', plain('circleci-signature', 'hex', 'v2=x,v1=')],
  ['clearbit', plain('x-request-signature', 'hex', 'sha1=', 'sha1')],
  ['clerk', svixLike('svix')],
  ['coinbase', plain('x-cc-webhook-signature', 'hex')],
  [
    'contentful',
    {
      toleranceMs: 30_000,
      sign: (atMs, body) => {
        const names = 'x-contentful-signed-headers,x-contentful-timestamp,x-topic'
        const signed = `x-contentful-signed-headers:${names};x-contentful-timestamp:${atMs};x-topic:publish`
        return {
          'x-contentful-signed-headers': names,
          'x-contentful-timestamp': String(atMs),
          'x-topic': 'publish',
          'x-contentful-signature': hmac(`POST\n/hooks?a=1\n${signed}\n${body}`),
        }
      },
    },
  ],
  [
    'docusign',
    {
      sign: (_, body) => ({
        'x-docusign-signature-1': hmac('other', 'base64'),
        'x-docusign-signature-3': hmac(body, 'base64'),
      }),
    },
  ],
  ['dropbox', plain('x-dropbox-signature', 'hex')],
  ['facebook_graph_api', plain('x-hub-signature-256', 'hex', 'sha256=')],
  ['facebook_graph_api', plain('x-hub-signature', 'hex', 'sha1=', 'sha1')],
  ['facebook_messenger', plain('x-hub-signature-256', 'hex', 'sha256=')],
  ['frameio', colon('x-frameio-signature', 'x-frameio-request-timestamp', 'v0', 300_000)],
  ['github', plain('x-hub-signature-256', 'hex', 'sha256=')],
  ['gitlab', { withoutBody: true, sign: () => ({ 'x-gitlab-token': SECRET }) }],
  [
    'graphcms',
    {
      toleranceMs: 180_000,
      sign: (atMs, body) => {
        const signed = JSON.stringify({ Body: body, EnvironmentName: 'master', TimeStamp: atMs })
        return { 'gcms-signature': `sign=${hmac(signed, 'base64')}, env=master, t=${atMs}` }
      },
    },
  ],
  ['heroku', plain('heroku-webhook-hmac-sha256', 'base64')],
  ['hostedhooks', stripeLike('hostedhooks-signature', 'v1')],
  [
    'hubspot',
    {
      target: '/hooks?to=a%3Ab%20c',
      toleranceMs: 300_000,
      sign: (atMs, body) => ({
        'x-hubspot-request-timestamp': String(atMs),
        'x-hubspot-signature-v3': hmac(`POSThttps://hooks.case.test/hooks?to=a:b%20c${body}${atMs}`, 'base64'),
        'x-hubspot-signature-version': 'v1',
        'x-hubspot-signature': 'of an older version, and not looked at',
      }),
    },
  ],
  [
    'hubspot',
    {
      sign: (_, body) => ({
        'x-hubspot-signature-version': 'v2',
        'x-hubspot-signature': sha(`${SECRET}POST${WEBHOOK_URL}${body}`),
      }),
    },
  ],
  [
    'hubspot',
    { sign: (_, body) => ({ 'x-hubspot-signature-version': 'v1', 'x-hubspot-signature': sha(SECRET + body) }) },
  ],
  ['instagram', plain('x-hub-signature-256', 'hex', 'sha256=')],
  ['intercom', plain('x-hub-signature', 'hex', 'sha1=', 'sha1')],
  ['jira', plain('x-hub-signature', 'hex', 'sha256=')],
  ['launch_darkly', plain('x-ld-signature', 'hex')],
  [
    'linear',
    {
      ...plain('linear-signature', 'hex'),
      toleranceMs: 60_000,
      bodyOf: (atMs) => JSON.stringify({ action: 'create', webhookTimestamp: atMs }),
    },
  ],
  [
    'mailchimp',
    {
      body: FORM,
      sign: (_, body) => ({
        ...FORM_TYPE,
        'x-mandrill-signature': hmac(
          body === FORM ? `${WEBHOOK_URL}CallSidCA1CalleréFroma bTo+1800` : '',
          'base64',
          'sha1',
        ),
      }),
    },
  ],
  [
    'mailgun',
    {
      withoutBody: true,
      toleranceMs: 180_000,
      sign: () => ({}),
      bodyOf: (atMs) => {
        const timestamp = seconds(atMs)
        return JSON.stringify({
          signature: { timestamp, token: 'f00', signature: hmac(`${timestamp}f00`) },
          'event-data': {},
        })
      },
    },
  ],
  [
    'microsoft_teams',
    {
      secret: TEAMS,
      sign: (_, body) => ({ authorization: `HMAC ${hmac(body, 'base64', 'sha256', Buffer.from('teams key'))}` }),
    },
  ],
  ['modern_treasury', plain('x-signature', 'hex')],
  ['mongodb', plain('endpoint-signature', 'hex', 'sha256=')],
  ['mux', stripeLike('mux-signature', 'v1')],
  ['orb', colon('x-orb-signature', 'x-orb-timestamp', 'v1')],
  ['orbit', plain('x-orbit-signature', 'hex')],
  ['pagerduty', plain('x-pagerduty-signature', 'hex', `v1=${hmac('other')},v1=`)],
  ['pinwheel', colon('x-pinwheel-signature', 'x-timestamp', 'v2')],
  [
    'plivo',
    {
      target: '/hooks?b=2&a=1%20x',
      body: 'To=1&From=2',
      sign: (_, body) => ({
        ...FORM_TYPE,
        'x-plivo-signature-v3-nonce': '12345',
        'x-plivo-signature-v3': `${hmac('other', 'base64')},${hmac(
          `https://hooks.case.test/hooks?a=1 x&b=2.${body === 'To=1&From=2' ? 'From2To1' : ''}.12345`,
          'base64',
        )}`,
      }),
    },
  ],
  [
    'plivo',
    {
      method: 'GET',
      target: '/hooks',
      body: '',
      withoutBody: true,
      sign: () => ({
        'x-plivo-signature-v3-nonce': '12345',
        'x-plivo-signature-v3': hmac('https://hooks.case.test/hooks.12345', 'base64'),
      }),
    },
  ],
  ['pusher', plain('x-pusher-signature', 'hex')],
  ['pusher', plain('webhook-signature', 'hex', '', 'sha1')],
  [
    'sendgrid',
    {
      secret: EC_PUBLIC,
      toleranceMs: 180_000,
      sign: (atMs, body) => ({
        'x-twilio-email-event-webhook-timestamp': seconds(atMs),
        'x-twilio-email-event-webhook-signature': signWithKey(
          'sha256',
          Buffer.from(seconds(atMs) + body),
          ec.privateKey,
        ).toString('base64'),
      }),
    },
  ],
  ['sentry', plain('sentry-hook-signature', 'hex')],
  ['shopify', plain('x-shopify-hmac-sha256', 'base64')],
  ['signal_sciences', plain('x-sigsci-signature', 'hex')],
  ['slack', colon('x-slack-signature', 'x-slack-request-timestamp', 'v0', 300_000)],
  ['sonatype', plain('x-nexus-webhook-signature', 'hex', '', 'sha1')],
  ['square', { sign: (_, body) => ({ 'x-square-hmacsha256-signature': hmac(WEBHOOK_URL + body, 'base64') }) }],
  ['square', { sign: (_, body) => ({ 'x-square-signature': hmac(WEBHOOK_URL + body, 'base64', 'sha1') }) }],
  ['stripe', stripeLike('stripe-signature', 'v1', 300_000)],
  [
    'stripe',
    {
      toleranceMs: 300_000,
      sign: (atMs, body) => ({
        'stripe-signature': `t=${seconds(atMs)},v0=${hmac(body)},v1=${hmac('other')},v1=${hmac(`${seconds(atMs)}.${body}`)}`,
      }),
    },
  ],
  ['svix', svixLike('svix')],
  ['svix', svixLike('webhook')],
  ['terraform', plain('x-tfe-notification-signature', 'hex', '', 'sha512')],
  ['tiktok', stripeLike('tiktok-signature', 's')],
  [
    'twilio',
    {
      target: `/hooks?bodySHA256=${sha(BODY)}`,
      sign: () => ({
        'x-twilio-signature': hmac(`https://hooks.case.test/hooks?bodySHA256=${sha(BODY)}`, 'base64', 'sha1'),
      }),
    },
  ],
  [
    'twilio',
    {
      body: FORM,
      sign: (_, body) => ({
        ...FORM_TYPE,
        'x-twilio-signature': hmac(
          body === FORM ? `${WEBHOOK_URL}CallSidCA1CalleréFroma bTo+1800` : '',
          'base64',
          'sha1',
        ),
      }),
    },
  ],
  ['twitter', plain('x-twitter-webhooks-signature', 'base64', 'sha256=')],
  ['typeform', plain('typeform-signature', 'base64', 'sha256=')],
  ['webex', plain('x-spark-signature', 'hex', '', 'sha1')],
  ['whatsapp', plain('x-hub-signature-256', 'hex', 'sha256=')],
  ['worldline', plain('x-gcs-signature', 'base64')],
  ['xero', plain('x-xero-signature', 'base64')],
  [
    'zendesk',
    {
      toleranceMs: 180_000,
      sign: (atMs, body) => ({
        'x-zendesk-webhook-signature-timestamp': iso(atMs),
        'x-zendesk-webhook-signature': hmac(iso(atMs) + body, 'base64'),
      }),
    },
  ],
  ['zoom', colon('x-zm-signature', 'x-zm-request-timestamp', 'v0')],
]

/** The request of a self-made vector, as its provider would send it at that time. */
export function sent(vector: SelfMade, atMs: number): Sent & { readonly body: string; readonly headers: Headers } {
  const body = vector.bodyOf?.(atMs) ?? vector.body ?? BODY
  const { method = 'POST', target = '/hooks?a=1' } = vector
  return { method, target, body, headers: vector.sign(atMs, body) }
}
