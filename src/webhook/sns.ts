/**
 * Amazon SNS: messages signed with a certificate that the message names and only Amazon's hosts can give. There is no
 * secret: whoever has a topic of his own gets good signatures too, so the upstream must look at `TopicArn`.
 *
 * Source: traffic-policy.md appendix A; Amazon SNS developer guide, "Verifying the signatures of Amazon SNS messages".
 */
import { type KeyObject, verify as verifySignature, X509Certificate } from 'node:crypto'
import {
  checkAge,
  DEFAULT_TOLERANCE_MS,
  parseJson,
  refused,
  type WebhookRequest,
  type WebhookVerdict,
} from './scheme.ts'

/** Brings a certificate (PEM); throws an Error with one sentence when it cannot. */
export type FetchCertificate = (url: string) => Promise<string>

/** Members that are signed, in this order; the optional ones only where they are. */
const NOTIFICATION_MEMBERS = ['Message', 'MessageId', 'Subject', 'Timestamp', 'TopicArn', 'Type'] as const
const SUBSCRIPTION_MEMBERS = ['Message', 'MessageId', 'SubscribeURL', 'Timestamp', 'Token', 'TopicArn', 'Type'] as const
const MEMBERS: ReadonlyMap<string, readonly string[]> = new Map<string, readonly string[]>([
  ['Notification', NOTIFICATION_MEMBERS],
  ['SubscriptionConfirmation', SUBSCRIPTION_MEMBERS],
  ['UnsubscribeConfirmation', SUBSCRIPTION_MEMBERS],
])

const HASHES: ReadonlyMap<unknown, string> = new Map([
  ['1', 'sha1'],
  ['2', 'sha256'],
])

/** Verifies an SNS message. Waits only for a certificate that is not at hand. */
export function verifySns(
  request: WebhookRequest,
  certificates: SnsCertificates,
  nowMs: number,
): WebhookVerdict | Promise<WebhookVerdict> {
  const message = parseJson(request.body)
  if (typeof message !== 'object' || message === null) return refused('the body is no JSON object')
  const fields = message as Readonly<Record<string, unknown>>
  const members = MEMBERS.get(String(fields['Type']))
  const hash = HASHES.get(fields['SignatureVersion'])
  const { Signature: signature, SigningCertURL: certificateUrl, Timestamp: timestamp } = fields
  if (members === undefined || hash === undefined || typeof signature !== 'string' || typeof timestamp !== 'string') {
    return refused('the body is no signed SNS message')
  }
  if (typeof certificateUrl !== 'string' || !isCertificateUrl(certificateUrl)) {
    return refused('the certificate is not one of Amazon SNS')
  }
  let text = ''
  for (const member of members) {
    const value = fields[member]
    if (value === undefined && member === 'Subject') continue
    if (typeof value !== 'string') return refused(`the message has no ${member}`)
    text += `${member}\n${value}\n`
  }
  const age = checkAge(timestamp, DEFAULT_TOLERANCE_MS, nowMs)
  if (!age.verified) return age
  const decide = (key: KeyObject): WebhookVerdict =>
    verifySignature(hash, Buffer.from(text, 'utf8'), key, Buffer.from(signature, 'base64'))
      ? age
      : refused('the signature does not match')
  const key = certificates.keyOf(certificateUrl, nowMs)
  if (!(key instanceof Promise)) return decide(key)
  return key.then(decide, (error: unknown) => refused(`no certificate: ${(error as Error).message}`))
}

/** `https://sns.<region>.amazonaws.com[.cn]/….pem`, and nothing that a URL parser could read otherwise. */
export function isCertificateUrl(text: string): boolean {
  return /^https:\/\/sns\.[a-z0-9-]{3,32}\.amazonaws\.com(?:\.cn)?\/[A-Za-z0-9-]{1,128}\.pem$/.test(text)
}

export interface SnsCertificatesOptions {
  readonly fetchCertificate?: FetchCertificate
  readonly maxCertificates?: number
}

const KEEP_MS = 24 * 3_600_000
/** A URL that brought nothing is not asked again for so long. */
const KEEP_FAILURE_MS = 30_000
/** Amazon has one certificate per region and year; whoever asks for more at a time made them up. */
const MAX_FETCHES = 8
const FETCH_TIMEOUT_MS = 5000
const MAX_CERTIFICATE_BYTES = 64 * 1024

interface Kept<T> {
  readonly value: T
  readonly untilMs: number
}

/**
 * Public keys of certificates by their URL: fetched once, kept for a day. Requests choose the URLs, so keys, failures
 * and downloads are bounded each for itself: failures never push a good key out.
 */
export class SnsCertificates {
  readonly #fetchCertificate: FetchCertificate
  readonly #maxCertificates: number
  readonly #keys = new Map<string, Kept<KeyObject>>()
  readonly #failures = new Map<string, Kept<Error>>()
  readonly #fetches = new Map<string, Promise<KeyObject>>()

  constructor({ fetchCertificate = fetchPem, maxCertificates = 100 }: SnsCertificatesOptions = {}) {
    this.#fetchCertificate = fetchCertificate
    this.#maxCertificates = maxCertificates
  }

  /** The key, or a promise of it that rejects with one sentence. `url` has passed `isCertificateUrl`. */
  keyOf(url: string, nowMs: number): KeyObject | Promise<KeyObject> {
    const kept = this.#keys.get(url)
    if (kept !== undefined && nowMs < kept.untilMs) return kept.value
    const failure = this.#failures.get(url)
    if (failure !== undefined && nowMs < failure.untilMs) return Promise.reject(failure.value)
    const underWay = this.#fetches.get(url)
    if (underWay !== undefined) return underWay
    if (this.#fetches.size >= MAX_FETCHES) return Promise.reject(new Error('too many are being fetched'))
    const fetching = this.#fetch(url, nowMs)
    this.#fetches.set(url, fetching)
    return fetching
  }

  async #fetch(url: string, nowMs: number): Promise<KeyObject> {
    try {
      const key = publicKey(await this.#fetchCertificate(url), nowMs)
      keep(this.#keys, url, { value: key, untilMs: nowMs + KEEP_MS }, this.#maxCertificates)
      this.#failures.delete(url)
      return key
    } catch (error) {
      const failure = error instanceof Error ? error : new Error(String(error))
      keep(this.#failures, url, { value: failure, untilMs: nowMs + KEEP_FAILURE_MS }, this.#maxCertificates)
      throw failure
    } finally {
      this.#fetches.delete(url)
    }
  }
}

/** Adds an entry; beyond `max` the one that was added longest ago goes. */
function keep<T>(kept: Map<string, T>, url: string, entry: T, max: number): void {
  kept.delete(url)
  kept.set(url, entry)
  if (kept.size <= max) return
  const [oldest] = kept.keys() // a Map remembers the order of insertion
  if (oldest !== undefined) kept.delete(oldest)
}

function publicKey(pem: string, nowMs: number): KeyObject {
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(pem)
  } catch {
    throw new Error('what came is no certificate')
  }
  if (nowMs < Date.parse(certificate.validFrom) || nowMs > Date.parse(certificate.validTo)) {
    throw new Error('it has expired')
  }
  return certificate.publicKey
}

async function fetchPem(url: string): Promise<string> {
  const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(FETCH_TIMEOUT_MS) })
  if (response.status !== 200 || response.body === null) {
    await response.body?.cancel()
    throw new Error(`its host answered ${response.status}`)
  }
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.length
    if (bytes > MAX_CERTIFICATE_BYTES) throw new Error('it is too large')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('latin1')
}
