/** Messages of Amazon SNS, signed here with a certificate of our own that is handed out in Amazon's place. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sign as signWithKey } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { WebhookRequest } from '../../../src/webhook/scheme.ts'
import { isCertificateUrl, SnsCertificates, verifySns } from '../../../src/webhook/sns.ts'

const URL = 'https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem'

let folder: string
let certificate: string
let key: string
/** The certificate is of today. */
const nowMs = Date.now() + 60_000

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-sns-'))
  const files = ['-keyout', join(folder, 'key.pem'), '-out', join(folder, 'cert.pem')]
  const options = ['-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', '/CN=sns.test']
  execFileSync('openssl', ['req', ...options, ...files], { stdio: 'ignore' })
  certificate = readFileSync(join(folder, 'cert.pem'), 'latin1')
  key = readFileSync(join(folder, 'key.pem'), 'latin1')
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

type Message = Record<string, unknown>

const notification = (changes: Message = {}): Message => ({
  Type: 'Notification',
  MessageId: 'id-1',
  TopicArn: 'arn:aws:sns:eu-central-1:123456789012:orders',
  Subject: 'Order',
  Message: 'paid: Zoë',
  Timestamp: new Date(nowMs).toISOString(),
  SignatureVersion: '2',
  SigningCertURL: URL,
  UnsubscribeURL: 'https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe',
  ...changes,
})

const subscription = (changes: Message = {}): Message => ({
  Type: 'SubscriptionConfirmation',
  MessageId: 'id-2',
  Token: 'token-1',
  TopicArn: 'arn:aws:sns:eu-central-1:123456789012:orders',
  Message: 'You have chosen to subscribe …',
  SubscribeURL: 'https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription',
  Timestamp: new Date(nowMs).toISOString(),
  SignatureVersion: '1',
  SigningCertURL: URL,
  ...changes,
})

const SIGNED = {
  Notification: ['Message', 'MessageId', 'Subject', 'Timestamp', 'TopicArn', 'Type'],
  SubscriptionConfirmation: ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'],
}

function signed(message: Message): Message {
  const members = message['Type'] === 'Notification' ? SIGNED.Notification : SIGNED.SubscriptionConfirmation
  const lines = members.filter((name) => name in message).map((name) => `${name}\n${String(message[name])}\n`)
  const hash = message['SignatureVersion'] === '1' ? 'sha1' : 'sha256'
  return { ...message, Signature: signWithKey(hash, Buffer.from(lines.join('')), key).toString('base64') }
}

function request(message: unknown): WebhookRequest {
  const body = Buffer.from(typeof message === 'string' ? message : JSON.stringify(message))
  return { method: 'POST', target: '/', urls: [], headers: { all: () => [] }, body }
}

/** Hands out our certificate and counts who asked. */
function certificates(pem: () => string = () => certificate): {
  readonly store: SnsCertificates
  readonly asked: string[]
} {
  const asked: string[] = []
  const fetchCertificate = (url: string): Promise<string> => {
    asked.push(url)
    return Promise.resolve().then(pem)
  }
  return { store: new SnsCertificates({ fetchCertificate, maxCertificates: 3 }), asked }
}

async function verdict(message: unknown, store = certificates().store, atMs = nowMs): Promise<string> {
  const result = await verifySns(request(message), store, atMs)
  return result.verified ? 'verified' : result.reason
}

describe('an SNS message', () => {
  it.each([
    ['a notification, version 2', notification],
    ['a notification, version 1', () => notification({ SignatureVersion: '1' })],
    ['a notification without subject', () => ({ ...notification(), Subject: undefined })],
    ['the confirmation of a subscription', subscription],
    ['the same, version 2', () => subscription({ SignatureVersion: '2' })],
    ['the end of one', () => subscription({ Type: 'UnsubscribeConfirmation' })],
  ])('verifies: %s', async (_, make) => {
    const message = JSON.parse(JSON.stringify(make())) as Message
    expect(await verdict(signed(message))).toBe('verified')
  })

  it.each([
    ['another text', { Message: 'refunded' }, /does not match/],
    ['another topic', { TopicArn: 'arn:aws:sns:eu-central-1:666:evil' }, /does not match/],
    ['a subject added or changed', { Subject: 'Refund' }, /does not match/],
    ['a certificate of somebody else', { SigningCertURL: 'https://evil.example.org/cert.pem' }, /not one of Amazon/],
    ['another version', { SignatureVersion: '3' }, /no signed SNS message/],
    ['the version as a number', { SignatureVersion: 2 }, /no signed SNS message/],
    ['another type', { Type: 'Notice' }, /no signed SNS message/],
    ['a message that is no text', { Message: { a: 1 } }, /has no Message/],
    ['no signature', { Signature: undefined }, /no signed SNS message/],
    ['a signature that is none', { Signature: 'AAAA' }, /does not match/],
  ])('is refused with %s', async (_, changes, reason) => {
    expect(await verdict({ ...signed(notification()), ...changes })).toMatch(reason)
  })

  it.each(['', 'null', '[]', '"x"', '{'])('is refused when the body is %j', async (body) => {
    expect(await verdict(body)).not.toBe('verified')
  })

  it('is refused three minutes later, and no certificate is fetched for it', async () => {
    const { store, asked } = certificates()
    expect(await verdict(signed(notification()), store, nowMs + 180_001)).toMatch(/too old/)
    expect(asked).toEqual([])
  })
})

describe('certificates', () => {
  it('are fetched once for any number of messages, also at the same time', async () => {
    const { store, asked } = certificates()
    const message = signed(notification())
    const verdicts = await Promise.all([verdict(message, store), verdict(message, store), verdict(message, store)])
    expect(verdicts).toEqual(['verified', 'verified', 'verified'])
    // the next one does not wait any more
    expect(verifySns(request(message), store, nowMs)).toEqual({ verified: true })
    expect(asked).toEqual([URL])
  })

  it('that cannot be had, or are none, or have expired, refuse; nobody is asked again for half a minute', async () => {
    for (const [pem, reason] of [
      [
        () => {
          throw new Error('its host answered 500')
        },
        /no certificate: its host answered 500/,
      ],
      [() => 'hello', /no certificate: what came is no certificate/],
    ] as const) {
      const { store, asked } = certificates(pem)
      const message = signed(notification())
      expect(await verdict(message, store)).toMatch(reason)
      expect(await verdict(message, store)).toMatch(reason)
      expect(asked).toHaveLength(1)
      const later = nowMs + 31_000
      expect(await verdict(message, store, later)).toMatch(reason)
      expect(asked).toHaveLength(2)
    }
    const farMs = nowMs + 10 * 86_400_000
    const old = signed(notification({ Timestamp: new Date(farMs).toISOString() }))
    expect(await verdict(old, certificates().store, farMs)).toMatch(/no certificate: it has expired/)
  })

  it('made up by requests neither grow without bound nor push out the good one', async () => {
    const { store, asked } = certificates(() => {
      const url = asked.at(-1)!
      if (url !== URL) throw new Error('its host answered 404')
      return certificate
    })
    expect(await verdict(signed(notification()), store)).toBe('verified')
    const made = (n: number): Message => signed(notification({ SigningCertURL: URL.replace('0123', String(1000 + n)) }))
    for (let n = 0; n < 20; n++) expect(await verdict(made(n), store)).toMatch(/404/)
    expect(asked).toHaveLength(21)
    expect(await verdict(signed(notification()), store)).toBe('verified')
    expect(asked).toHaveLength(21)
    const storm = await Promise.all(Array.from({ length: 30 }, (_, n) => verdict(made(100 + n), store)))
    expect(storm.filter((reason) => /too many are being fetched/.test(reason))).toHaveLength(22)
  })
})

it.each([
  [URL, true],
  ['https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-abc.pem', true],
  ['http://sns.eu-central-1.amazonaws.com/a.pem', false],
  ['https://sns.eu-central-1.amazonaws.com.evil.org/a.pem', false],
  ['https://sns.eu-central-1.amazonaws.com@evil.org/a.pem', false],
  ['https://evil.org/https://sns.eu-central-1.amazonaws.com/a.pem', false],
  ['https://sns.eu-central-1.amazonaws.com:8443/a.pem', false],
  ['https://sns.x.y.amazonaws.com/a.pem', false],
  ['https://s3.eu-central-1.amazonaws.com/bucket/a.pem', false],
  ['https://sns.eu-central-1.amazonaws.com/../a.pem', false],
  ['https://sns.eu-central-1.amazonaws.com/a.pem?x=1', false],
  ['https://sns.eu-central-1.amazonaws.com/a.pem\n', false],
  ['https://sns.eu-central-1.amazonaws.com/a.txt', false],
])('isCertificateUrl(%j)', (url, expected) => {
  expect(isCertificateUrl(url)).toBe(expected)
})
