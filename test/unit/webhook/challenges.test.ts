/** Requests by which providers try an endpoint (§5.27). Vectors self-made. */
import { createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import {
  type Challenge,
  twitterChallenge,
  worldlineChallenge,
  xeroChallenge,
  zoomChallenge,
} from '../../../src/webhook/challenges.ts'

interface Asked {
  readonly method?: string
  readonly target?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: string
}

function ask(challenge: Challenge, { method = 'GET', target = '/', headers = {}, body = '' }: Asked, verified = false) {
  const all = (name: string): readonly string[] => (name in headers ? [headers[name]!] : [])
  return challenge({ method, target, urls: [], headers: { all }, body: Buffer.from(body) }, 'secret', verified)
}

const hmac = (text: string, digest: 'hex' | 'base64'): string =>
  createHmac('sha256', 'secret').update(text).digest(digest)

describe('twitter', () => {
  it('gets the HMAC of its token', () => {
    const answer = ask(twitterChallenge, { target: '/hooks?crc_token=MTIz-_.Zz%3D&nonce=1' })
    expect(answer).toEqual({
      status: 200,
      contentType: 'application/json',
      body: JSON.stringify({ response_token: `sha256=${hmac('MTIz-_.Zz=', 'base64')}` }),
    })
  })

  it.each([
    ['another method', { method: 'POST', target: '/?crc_token=abc' }],
    ['no token', { target: '/?nonce=abc' }],
    ['no query', { target: '/' }],
    ['an empty token', { target: '/?crc_token=' }],
    // its HMAC would be the signature of that body
    ['a token that is a webhook’s body', { target: `/?crc_token=${encodeURIComponent('{"for_user_id":"1"}')}` }],
    ['a token that is too long', { target: `/?crc_token=${'a'.repeat(257)}` }],
  ])('gets nothing for %s', (_, asked) => {
    expect(ask(twitterChallenge, asked)).toBeUndefined()
  })
})

describe('worldline', () => {
  const name = 'x-gcs-webhooks-endpoint-verification'

  it('gets its header back', () => {
    expect(ask(worldlineChallenge, { headers: { [name]: 'a-b-c' } })).toEqual({
      status: 200,
      contentType: 'text/plain',
      body: 'a-b-c',
    })
  })

  it('gets nothing without it, or for a POST', () => {
    expect(ask(worldlineChallenge, {})).toBeUndefined()
    expect(ask(worldlineChallenge, { method: 'POST', headers: { [name]: 'a' } })).toBeUndefined()
    expect(ask(worldlineChallenge, { headers: { [name]: 'a'.repeat(257) } })).toBeUndefined()
  })
})

describe('xero', () => {
  const intent = { method: 'POST', body: '{"events":[],"firstEventSequence":0,"lastEventSequence":0,"entropy":"x"}' }

  it('gets 200 for a good signature and 401 for a bad one', () => {
    expect(ask(xeroChallenge, intent, true)).toEqual({ status: 200, contentType: '', body: '' })
    expect(ask(xeroChallenge, intent, false)).toEqual({ status: 401, contentType: '', body: '' })
  })

  it.each(['{"events":[{}]}', '{}', 'null', '5', '', '{"events":{}}', ' '.repeat(9000) + '{"events":[]}'])(
    'a body %j is no challenge',
    (body) => {
      expect(ask(xeroChallenge, { method: 'POST', body }, true)).toBeUndefined()
    },
  )
})

describe('zoom', () => {
  const event = (plainToken: unknown): Asked => ({
    method: 'POST',
    body: JSON.stringify({ event: 'endpoint.url_validation', payload: { plainToken } }),
  })

  it('gets the HMAC of its token when the event is signed', () => {
    expect(ask(zoomChallenge, event('qgg8vlvZRS6UYooatFL8Aw'), true)?.body).toBe(
      JSON.stringify({
        plainToken: 'qgg8vlvZRS6UYooatFL8Aw',
        encryptedToken: hmac('qgg8vlvZRS6UYooatFL8Aw', 'hex'),
      }),
    )
    expect(ask(zoomChallenge, event('qgg8vlvZRS6UYooatFL8Aw'), false)).toBeUndefined()
  })

  it.each([
    ['a token that could be a signed text', event('v0:1614265330:{}')],
    ['a token that is none', event(5)],
    ['another event', { method: 'POST', body: '{"event":"meeting.started","payload":{"plainToken":"a"}}' }],
    ['no payload', { method: 'POST', body: '{"event":"endpoint.url_validation"}' }],
    ['a null payload', { method: 'POST', body: '{"event":"endpoint.url_validation","payload":null}' }],
    ['no object', { method: 'POST', body: 'null' }],
  ])('gets nothing for %s', (_, asked) => {
    expect(ask(zoomChallenge, asked, true)).toBeUndefined()
  })
})
