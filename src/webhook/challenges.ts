/**
 * Requests by which a provider makes sure that an endpoint is its owner's, and the answers to them.
 *
 * Some of them ask for an HMAC of a text that the request brings: that must never be one that could pass as a signed body.
 * Source: traffic-policy.md §5.27, appendix A.
 */
import { createHmac } from 'node:crypto'
import { parseJson, type WebhookRequest } from './scheme.ts'

export interface ChallengeAnswer {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

/** The answer to a challenge; undefined when the request is none. `verified`: its signature is good. */
export type Challenge = (request: WebhookRequest, secret: string, verified: boolean) => ChallengeAnswer | undefined

/** No webhook's body looks like that: they are JSON objects. */
const TOKEN = /^[A-Za-z0-9_=.+/~-]{1,256}$/

/** Challenges are short; nobody parses megabytes to find out that a request is none. */
const MAX_CHALLENGE_BYTES = 8192

/** Twitter (X): `GET ?crc_token=…` wants its HMAC. Unsigned. */
export const twitterChallenge: Challenge = (request, secret) => {
  if (request.method !== 'GET') return undefined
  const mark = request.target.indexOf('?')
  const token = mark === -1 ? null : new URLSearchParams(request.target.slice(mark + 1)).get('crc_token')
  if (token === null || !TOKEN.test(token)) return undefined
  const signature = createHmac('sha256', secret).update(token).digest('base64')
  return json({ response_token: `sha256=${signature}` })
}

/** Worldline: a GET wants the value of a header back. Unsigned. */
export const worldlineChallenge: Challenge = (request) => {
  const values = request.headers.all('x-gcs-webhooks-endpoint-verification')
  if (request.method !== 'GET' || values.length !== 1 || !/^[\x21-\x7e]{1,256}$/.test(values[0]!)) return undefined
  return { status: 200, contentType: 'text/plain', body: values[0]! }
}

/** Xero, "intent to receive": a webhook without events, signed well or badly, wants 200 or 401. */
export const xeroChallenge: Challenge = (request, _, verified) => {
  const body =
    request.body.length <= MAX_CHALLENGE_BYTES ? (parseJson(request.body) as { events?: unknown } | null) : null
  if (!Array.isArray(body?.events) || body.events.length > 0) return undefined
  return { status: verified ? 200 : 401, contentType: '', body: '' }
}

/** Zoom: a signed event wants the HMAC of its token. */
export const zoomChallenge: Challenge = (request, secret, verified) => {
  if (!verified || request.body.length > MAX_CHALLENGE_BYTES) return undefined
  const event = parseJson(request.body) as { event?: unknown; payload?: { plainToken?: unknown } | null } | null
  if (event?.event !== 'endpoint.url_validation') return undefined
  const plainToken = event.payload?.plainToken
  if (typeof plainToken !== 'string' || !TOKEN.test(plainToken)) return undefined
  return json({ plainToken, encryptedToken: createHmac('sha256', secret).update(plainToken).digest('hex') })
}

function json(value: object): ChallengeAnswer {
  return { status: 200, contentType: 'application/json', body: JSON.stringify(value) }
}
