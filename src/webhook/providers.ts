/**
 * Who signs webhooks how: one line for each provider of `verify-webhook`.
 *
 * An entry that is wrong refuses good webhooks and never lets a bad one pass: each rests on the secret. Where a provider
 * has an older way beside the present one, the present one is taken when both signatures are there.
 *
 * Source: traffic-policy.md appendix A, and the providers' own documentation.
 */
import { createHash, timingSafeEqual } from 'node:crypto'
import { type Challenge, twitterChallenge, worldlineChallenge, xeroChallenge, zoomChallenge } from './challenges.ts'
import type { Scheme, WebhookRequest } from './scheme.ts'

export interface Provider {
  /** The first whose signature is there decides. */
  readonly schemes: readonly Scheme[]
  /** Requests by which the provider tries the endpoint, answered by us. */
  readonly challenge?: Challenge
}

const MINUTE_MS = 60_000
const FIVE_MINUTES_MS = 5 * MINUTE_MS

/** HMAC-SHA256 of the body in a header. */
const bodyHex = (header: string, prefix = '', more: Partial<Scheme> = {}): Provider => ({
  schemes: [{ signature: { header, prefix }, encoding: 'hex', ...more }],
})
const bodyBase64 = (header: string, prefix = '', more: Partial<Scheme> = {}): Provider => ({
  schemes: [{ signature: { header, prefix }, encoding: 'base64', ...more }],
})

/** One header `t=…,v1=…` holds time and signatures. */
const timed = (header: string, signaturePrefix = 'v1=', more: Partial<Scheme> = {}): Provider => ({
  schemes: [
    {
      signature: { header, prefix: signaturePrefix, list: ',' },
      timestamp: { header, prefix: 't=', list: ',' },
      signed: '{timestamp}.{body}',
      ...more,
    },
  ],
})

/** Standard Webhooks, which Svix began. */
const svixScheme = (prefix: string): Scheme => ({
  signature: { header: `${prefix}-signature`, prefix: 'v1,', list: ' ' },
  encoding: 'base64',
  key: 'svix',
  signed: '{id}.{timestamp}.{body}',
  values: { id: { header: `${prefix}-id` } },
  timestamp: { header: `${prefix}-timestamp` },
  toleranceMs: FIVE_MINUTES_MS,
})
const svix: Provider = { schemes: [svixScheme('svix'), svixScheme('webhook')] }

/** Meta's: SHA-256, with SHA-1 for older applications. */
const meta: Provider = {
  schemes: [
    { signature: { header: 'x-hub-signature-256', prefix: 'sha256=' } },
    { signature: { header: 'x-hub-signature', prefix: 'sha1=' }, hash: 'sha1' },
  ],
}

const hubspotVersion =
  (version: string) =>
  (request: WebhookRequest): boolean =>
    request.headers.all('x-hubspot-signature-version').join() === version

const TWILIO_BODY_HASH = /[?&]bodySHA256=([0-9a-f]{64})(?:&|$)/i

function twilioBodyMatches(request: WebhookRequest): boolean {
  const named = TWILIO_BODY_HASH.exec(request.target)?.[1]
  const hash = createHash('sha256').update(request.body).digest()
  return named !== undefined && timingSafeEqual(Buffer.from(named, 'hex'), hash)
}

/** Every provider whose scheme is public, but `sns`, which needs no secret and has a file of its own. */
export const PROVIDERS: ReadonlyMap<string, Provider> = new Map<string, Provider>([
  ['aftership', bodyBase64('aftership-hmac-sha256')],
  ['airship', bodyHex('x-ua-signature', '', { signed: '{timestamp}:{body}', timestamp: { header: 'x-ua-timestamp' } })],
  ['alchemy', bodyHex('x-alchemy-signature')],
  ['autodesk', bodyHex('x-adsk-signature', 'sha1hash=', { hash: 'sha1' })],
  ['bitbucket', bodyHex('x-hub-signature', 'sha256=')],
  ['bolt', bodyBase64('x-bolt-hmac-sha256')],
  [
    'box',
    {
      schemes: [
        {
          signature: [{ header: 'box-signature-primary' }, { header: 'box-signature-secondary' }],
          encoding: 'base64',
          signed: '{body}{timestamp}',
          timestamp: { header: 'box-delivery-timestamp' },
          toleranceMs: 10 * MINUTE_MS,
        },
      ],
    },
  ],
  ['brex', { schemes: [svixScheme('webhook')] }],
  [
    'buildkite',
    {
      schemes: [
        {
          signature: { header: 'x-buildkite-signature', prefix: 'signature=', list: ',' },
          signed: '{timestamp}.{body}',
          timestamp: { header: 'x-buildkite-signature', prefix: 'timestamp=', list: ',' },
        },
        { signature: { header: 'x-buildkite-token' }, method: 'token' },
      ],
    },
  ],
  ['calendly', timed('calendly-webhook-signature', 'v1=', { toleranceMs: 3 * MINUTE_MS })],
  ['castle', bodyBase64('x-castle-signature')],
  ['chargify', bodyHex('x-chargify-webhook-signature-hmac-sha-256')],
  ['circleci', { schemes: [{ signature: { header: 'circleci-signature', prefix: 'v1=', list: ',' } }] }],
  ['clearbit', bodyHex('x-request-signature', 'sha1=', { hash: 'sha1' })],
  ['clerk', svix],
  ['coinbase', bodyHex('x-cc-webhook-signature')],
  [
    'contentful',
    bodyHex('x-contentful-signature', '', {
      signed: '{method}\n{target}\n{contentful_headers}\n{body}',
      timestamp: { header: 'x-contentful-timestamp' },
      // what its own library allows
      toleranceMs: 30_000,
    }),
  ],
  [
    'docusign',
    {
      schemes: [
        {
          signature: Array.from({ length: 100 }, (_, index) => ({ header: `x-docusign-signature-${index + 1}` })),
          encoding: 'base64',
        },
      ],
    },
  ],
  ['dropbox', bodyHex('x-dropbox-signature')],
  ['facebook_graph_api', meta],
  ['facebook_messenger', meta],
  [
    'frameio',
    bodyHex('x-frameio-signature', 'v0=', {
      signed: 'v0:{timestamp}:{body}',
      timestamp: { header: 'x-frameio-request-timestamp' },
      toleranceMs: FIVE_MINUTES_MS,
    }),
  ],
  ['github', bodyHex('x-hub-signature-256', 'sha256=')],
  ['gitlab', { schemes: [{ signature: { header: 'x-gitlab-token' }, method: 'token' }] }],
  [
    'graphcms',
    timed('gcms-signature', 'sign=', {
      encoding: 'base64',
      signed: '{graphcms}',
      values: { environment: { header: 'gcms-signature', prefix: 'env=', list: ',' } },
    }),
  ],
  ['heroku', bodyBase64('heroku-webhook-hmac-sha256')],
  ['hostedhooks', timed('hostedhooks-signature')],
  [
    'hubspot',
    {
      schemes: [
        {
          signature: { header: 'x-hubspot-signature-v3' },
          encoding: 'base64',
          signed: '{method}{hubspot_url}{body}{timestamp}',
          timestamp: { header: 'x-hubspot-request-timestamp' },
          toleranceMs: FIVE_MINUTES_MS,
        },
        {
          when: hubspotVersion('v2'),
          signature: { header: 'x-hubspot-signature' },
          method: 'digest',
          signed: '{method}{url}{body}',
        },
        { when: hubspotVersion('v1'), signature: { header: 'x-hubspot-signature' }, method: 'digest' },
      ],
    },
  ],
  ['instagram', meta],
  ['intercom', bodyHex('x-hub-signature', 'sha1=', { hash: 'sha1' })],
  ['jira', bodyHex('x-hub-signature', 'sha256=')],
  ['launch_darkly', bodyHex('x-ld-signature')],
  ['linear', bodyHex('linear-signature', '', { timestamp: { json: ['webhookTimestamp'] }, toleranceMs: MINUTE_MS })],
  ['mailchimp', bodyBase64('x-mandrill-signature', '', { hash: 'sha1', signed: '{url}{form}' })],
  [
    'mailgun',
    {
      schemes: [
        {
          signature: { json: ['signature', 'signature'] },
          signed: '{timestamp}{token}',
          values: { token: { json: ['signature', 'token'] } },
          timestamp: { json: ['signature', 'timestamp'] },
        },
      ],
    },
  ],
  ['microsoft_teams', bodyBase64('authorization', 'HMAC ', { key: 'base64' })],
  ['modern_treasury', bodyHex('x-signature')],
  ['mongodb', bodyHex('endpoint-signature', 'sha256=')],
  ['mux', timed('mux-signature')],
  [
    'orb',
    bodyHex('x-orb-signature', 'v1=', { signed: 'v1:{timestamp}:{body}', timestamp: { header: 'x-orb-timestamp' } }),
  ],
  ['orbit', bodyHex('x-orbit-signature')],
  ['pagerduty', { schemes: [{ signature: { header: 'x-pagerduty-signature', prefix: 'v1=', list: ',' } }] }],
  [
    'pinwheel',
    bodyHex('x-pinwheel-signature', 'v2=', { signed: 'v2:{timestamp}:{body}', timestamp: { header: 'x-timestamp' } }),
  ],
  [
    'plivo',
    // version 3 only: version 2, which is sent beside it, covers neither query nor body
    {
      schemes: [
        {
          signature: { header: 'x-plivo-signature-v3', list: ',' },
          encoding: 'base64',
          signed: '{plivo_url}.{nonce}',
          values: { nonce: { header: 'x-plivo-signature-v3-nonce' } },
        },
      ],
    },
  ],
  [
    'pusher',
    {
      schemes: [
        { signature: { header: 'x-pusher-signature' } },
        { signature: { header: 'webhook-signature' }, hash: 'sha1' },
      ],
    },
  ],
  [
    'sendgrid',
    {
      schemes: [
        {
          signature: { header: 'x-twilio-email-event-webhook-signature' },
          method: 'ecdsa',
          encoding: 'base64',
          key: 'base64',
          signed: '{timestamp}{body}',
          timestamp: { header: 'x-twilio-email-event-webhook-timestamp' },
        },
      ],
    },
  ],
  ['sentry', bodyHex('sentry-hook-signature')],
  ['shopify', bodyBase64('x-shopify-hmac-sha256')],
  ['signal_sciences', bodyHex('x-sigsci-signature')],
  [
    'slack',
    bodyHex('x-slack-signature', 'v0=', {
      signed: 'v0:{timestamp}:{body}',
      timestamp: { header: 'x-slack-request-timestamp' },
      toleranceMs: FIVE_MINUTES_MS,
    }),
  ],
  ['sonatype', bodyHex('x-nexus-webhook-signature', '', { hash: 'sha1' })],
  [
    'square',
    {
      schemes: [
        { signature: { header: 'x-square-hmacsha256-signature' }, encoding: 'base64', signed: '{url}{body}' },
        { signature: { header: 'x-square-signature' }, encoding: 'base64', hash: 'sha1', signed: '{url}{body}' },
      ],
    },
  ],
  ['stripe', timed('stripe-signature', 'v1=', { toleranceMs: FIVE_MINUTES_MS })],
  ['svix', svix],
  ['terraform', bodyHex('x-tfe-notification-signature', '', { hash: 'sha512' })],
  ['tiktok', timed('tiktok-signature', 's=')],
  [
    'twilio',
    {
      schemes: [
        {
          when: (request) => TWILIO_BODY_HASH.test(request.target),
          signature: { header: 'x-twilio-signature' },
          encoding: 'base64',
          hash: 'sha1',
          signed: '{url}',
          also: twilioBodyMatches,
        },
        { signature: { header: 'x-twilio-signature' }, encoding: 'base64', hash: 'sha1', signed: '{url}{form}' },
      ],
    },
  ],
  ['twitter', { ...bodyBase64('x-twitter-webhooks-signature', 'sha256='), challenge: twitterChallenge }],
  ['typeform', bodyBase64('typeform-signature', 'sha256=')],
  ['webex', bodyHex('x-spark-signature', '', { hash: 'sha1' })],
  ['whatsapp', meta],
  ['worldline', { ...bodyBase64('x-gcs-signature'), challenge: worldlineChallenge }],
  ['xero', { ...bodyBase64('x-xero-signature'), challenge: xeroChallenge }],
  [
    'zendesk',
    bodyBase64('x-zendesk-webhook-signature', '', {
      signed: '{timestamp}{body}',
      timestamp: { header: 'x-zendesk-webhook-signature-timestamp' },
    }),
  ],
  [
    'zoom',
    {
      ...bodyHex('x-zm-signature', 'v0=', {
        signed: 'v0:{timestamp}:{body}',
        timestamp: { header: 'x-zm-request-timestamp' },
      }),
      challenge: zoomChallenge,
    },
  ],
])

/** ngrok's identifiers that nobody outside can verify. */
export const PROVIDERS_NOT_PUBLIC: readonly string[] = ['go1', 'trendmicro_conformity', 'vmware']
