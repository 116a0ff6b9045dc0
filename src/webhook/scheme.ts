/**
 * How webhooks are signed, as data, and the one verifier that reads it: where the signature stands, what is signed, with
 * which key. Nothing here waits, opens anything or knows a provider by name.
 *
 * Source: traffic-policy.md §5.27, appendix A.
 */
import { createHash, createHmac, createPublicKey, timingSafeEqual, verify as verifySignature } from 'node:crypto'

/** A request as far as a signature can cover it. Texts are latin1: one character per byte. */
export interface WebhookRequest {
  readonly method: string
  /** Path and query as received. */
  readonly target: string
  /** The URLs under which the provider may know this target: who ends TLS in front of us changes scheme and port. */
  readonly urls: readonly string[]
  /** Values of every line of a header, name in lower case. */
  readonly headers: { all(name: string): readonly string[] }
  /** As received. */
  readonly body: Uint8Array
}

/** `reason` is for logs and results; it never quotes secret or signature. */
export type WebhookVerdict = { readonly verified: true } | { readonly verified: false; readonly reason: string }

/** Where a value stands. */
export type Place = HeaderPlace | BodyPlace

/**
 * A header, or what follows `prefix` in it. With `list` the header holds several entries, parted so; those without the
 * prefix are passed over: `{ header: 'stripe-signature', prefix: 'v1=', list: ',' }` finds two values in `t=1,v1=a,v1=b`.
 */
export interface HeaderPlace {
  readonly header: string
  readonly prefix?: string
  readonly list?: ',' | ' '
}

/** A text or number in a JSON body, by its path. */
export interface BodyPlace {
  readonly json: readonly string[]
}

export interface Scheme {
  /** Further condition for this scheme beside its signature being there. */
  readonly when?: (request: WebhookRequest) => boolean
  /** Any of the values may match. */
  readonly signature: Place | readonly Place[]
  /** `hmac`: HMAC; `digest`: hash of secret and text; `ecdsa`: the secret is a public key; `token`: is the secret itself. */
  readonly method?: 'hmac' | 'digest' | 'ecdsa' | 'token'
  readonly hash?: 'sha1' | 'sha256' | 'sha512'
  readonly encoding?: 'hex' | 'base64'
  /** How the secret's text becomes the key; `svix`: the base64 text behind `whsec_`. */
  readonly key?: 'text' | 'base64' | 'svix'
  /** What is signed: text with `{parts}`; a part is one of PARTS or one of `values`. */
  readonly signed?: string
  readonly values?: Readonly<Record<string, Place>>
  /** Where the signed time stands; `{timestamp}` in `signed` is its text. */
  readonly timestamp?: Place
  readonly toleranceMs?: number
  /** What must hold beside the signature. */
  readonly also?: (request: WebhookRequest) => boolean
}

/** §5.27: where the provider names none. */
export const DEFAULT_TOLERANCE_MS = 180_000

const VERIFIED: WebhookVerdict = Object.freeze({ verified: true })

/** Verifies by the first scheme whose signature is there. `nowMs`: milliseconds since the epoch. */
export function verifyBySchemes(
  schemes: readonly Scheme[],
  request: WebhookRequest,
  secret: string,
  nowMs: number,
): WebhookVerdict {
  for (const scheme of schemes) {
    if (scheme.when?.(request) === false) continue
    const signatures = [scheme.signature].flat().flatMap((place) => valuesAt(place, request))
    if (signatures.length > 0) return verifyByScheme(scheme, signatures, request, secret, nowMs)
  }
  return refused('the request carries no signature')
}

function verifyByScheme(
  scheme: Scheme,
  signatures: readonly string[],
  request: WebhookRequest,
  secret: string,
  nowMs: number,
): WebhookVerdict {
  const timestamp = scheme.timestamp === undefined ? undefined : onlyValueAt(scheme.timestamp, request)
  if (scheme.timestamp !== undefined && timestamp === undefined) return refused('the request carries no timestamp')
  const texts = signedTexts(scheme, request, timestamp)
  if (texts === undefined) return refused('the request lacks a value that is signed')
  const key = keyOf(scheme, secret)
  if (key === undefined) return refused('the secret does not have the form that the provider gives it')
  let matched = 0
  // no early end: the time says nothing about what matched. One hash per text, however many signatures a request brings
  for (const text of texts) {
    const matches = matcher(scheme, key, text)
    for (const signature of signatures) matched |= matches(signature) ? 1 : 0
  }
  if (matched === 0) return refused('the signature does not match')
  if (scheme.also?.(request) === false) return refused('the body does not match')
  return timestamp === undefined ? VERIFIED : checkAge(timestamp, scheme.toleranceMs ?? DEFAULT_TOLERANCE_MS, nowMs)
}

/** Whether a timestamp lies within the tolerance, in either direction. */
export function checkAge(timestamp: string, toleranceMs: number, nowMs: number): WebhookVerdict {
  const atMs = parseTimestamp(timestamp)
  if (atMs === undefined) return refused('the timestamp is none')
  return Math.abs(nowMs - atMs) <= toleranceMs ? VERIFIED : refused('the timestamp is too old or too far ahead')
}

export function refused(reason: string): WebhookVerdict {
  return { verified: false, reason }
}

/** Seconds or milliseconds since the epoch, told apart by their digits, or ISO 8601 (UTC when it names no zone). */
export function parseTimestamp(text: string): number | undefined {
  if (/^\d{9,11}(?:\.\d{1,9})?$/.test(text)) return Number(text) * 1000
  if (/^\d{12,14}$/.test(text)) return Number(text)
  const match = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d{1,9})?)(Z|[+-]\d\d:?\d\d)?$/i.exec(text)
  if (match === null) return undefined
  const ms = Date.parse(`${match[1]}T${match[2]}${match[3] ?? 'Z'}`)
  return Number.isNaN(ms) ? undefined : ms
}

// ── places ──

/** The only value of that place; undefined when there is none or there are several. */
function onlyValueAt(place: Place, request: WebhookRequest): string | undefined {
  const values = valuesAt(place, request)
  return values.length === 1 ? values[0] : undefined
}

function valuesAt(place: Place, request: WebhookRequest): readonly string[] {
  if ('json' in place) return bodyValues(place, request)
  const lines = request.headers.all(place.header)
  // which of several lines the provider wrote, nobody knows
  if (lines.length !== 1) return []
  const { prefix = '', list } = place
  const line = lines[0]! // there is exactly one
  const entries = list === undefined ? [line] : line.split(list).map((entry) => entry.trim())
  return entries.filter((entry) => entry.startsWith(prefix)).map((entry) => entry.slice(prefix.length))
}

function bodyValues({ json }: BodyPlace, request: WebhookRequest): readonly string[] {
  let value: unknown = parseJson(request.body)
  for (const name of json) {
    value =
      typeof value === 'object' && value !== null && Object.hasOwn(value, name) ? (value as never)[name] : undefined
  }
  return typeof value === 'string' || typeof value === 'number' ? [String(value)] : []
}

/** What the parser is given at most: nobody has signed it yet. An SNS message of 256 KiB may be six times that, escaped. */
const MAX_JSON_BYTES = 2 * 1024 * 1024
const MAX_JSON_DEPTH = 64

/** The value of a JSON text; undefined when it is none, too long, or nested deeper than any webhook. */
export function parseJson(body: Uint8Array): unknown {
  if (body.length > MAX_JSON_BYTES || !isShallow(body)) return undefined
  try {
    return JSON.parse(Buffer.from(body).toString('utf8')) as unknown
  } catch {
    return undefined // not JSON: whoever asks finds nothing in it
  }
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c]

/** One pass over the bytes: a million brackets cost the parser half a second. */
function isShallow(body: Uint8Array): boolean {
  let depth = 0
  let isText = false
  for (let at = 0; at < body.length; at++) {
    const byte = body[at]
    if (byte === QUOTE) isText = !isText
    else if (isText) {
      if (byte === BACKSLASH) at += 1
    } else if (byte === 0x5b || byte === 0x7b) {
      depth += 1
      if (depth > MAX_JSON_DEPTH) return false
    } else if (byte === 0x5d || byte === 0x7d) depth -= 1
  }
  return true
}

// ── keys and comparison ──

function keyOf(scheme: Scheme, secret: string): Buffer | undefined {
  const text = scheme.key === 'svix' ? secret.replace(/^whsec_/, '') : secret
  if (scheme.key === undefined || scheme.key === 'text') return Buffer.from(text, 'utf8')
  return /^[A-Za-z0-9+/_-]+={0,2}$/.test(text) ? Buffer.from(text, 'base64') : undefined
}

/** Tells of a presented signature whether it is the one of that text. */
function matcher(scheme: Scheme, key: Buffer, text: readonly Uint8Array[]): (presented: string) => boolean {
  const { method = 'hmac', hash = 'sha256', encoding = 'hex' } = scheme
  if (method === 'token') {
    const expected = sha256(key)
    return (presented) => timingSafeEqual(expected, sha256(Buffer.from(presented, 'latin1')))
  }
  const form = encoding === 'hex' ? /^[0-9a-f]+$/i : /^[A-Za-z0-9+/_-]+={0,2}$/
  if (method === 'ecdsa') {
    return (presented) => form.test(presented) && verifyWithPublicKey(hash, text, key, Buffer.from(presented, encoding))
  }
  const summer = method === 'digest' ? createHash(hash).update(key) : createHmac(hash, key)
  for (const part of text) summer.update(part)
  const expected = summer.digest()
  return (presented) => {
    if (!form.test(presented)) return false
    const signature = Buffer.from(presented, encoding)
    return signature.length === expected.length && timingSafeEqual(signature, expected)
  }
}

/** `key`: base64 of a SubjectPublicKeyInfo, as providers show it. */
function verifyWithPublicKey(
  hash: string,
  text: readonly Uint8Array[],
  key: Uint8Array,
  signature: Uint8Array,
): boolean {
  try {
    return verifySignature(
      hash,
      Buffer.concat(text),
      createPublicKey({ key: Buffer.from(key), format: 'der', type: 'spki' }),
      signature,
    )
  } catch {
    return false // the secret is no public key, or the signature no DER
  }
}

function sha256(data: Uint8Array): Buffer {
  return createHash('sha256').update(data).digest()
}

// ── what is signed ──

type PartOf = (request: WebhookRequest, url: string) => Uint8Array | string | undefined

/** Parts of a signed text. Texts are latin1; undefined = the request lacks it. */
const PARTS: Readonly<Record<string, PartOf>> = {
  body: (request) => request.body,
  method: (request) => request.method,
  target: (request) => request.target,
  url: (_, url) => url,
  hubspot_url: (_, url) => decodeSome(url),
  plivo_url: (request, url) => plivoUrl(request, url),
  form: (request) => sortedForm(formOf(request)),
  contentful_headers: (request) => contentfulHeaders(request),
}

const URL_PARTS = /\{(?:url|hubspot_url|plivo_url)\}/
const BODY_PARTS = /\{(?:body|plivo_url|form|graphcms)\}/

/** Whether verifying needs the body. */
export function needsBody({ signed = '{body}', method, values, timestamp, signature, also }: Scheme): boolean {
  const places = [signature, timestamp, Object.values(values ?? {})].flat()
  const readsBody = places.some((place) => place !== undefined && 'json' in place)
  return (method !== 'token' && BODY_PARTS.test(signed)) || readsBody || also !== undefined
}

/** One text for every URL under which it may have been signed, each in pieces. Undefined when something is missing. */
function signedTexts(
  scheme: Scheme,
  request: WebhookRequest,
  timestamp: string | undefined,
): readonly (readonly Uint8Array[])[] | undefined {
  if (scheme.method === 'token') return [[]]
  const { signed = '{body}', values = {} } = scheme
  const named = new Map<string, string | undefined>([['timestamp', timestamp]])
  for (const [name, place] of Object.entries(values)) named.set(name, onlyValueAt(place, request))
  const resolve = (piece: string, url: string): Uint8Array | undefined => {
    const name = piece.startsWith('{') ? piece.slice(1, -1) : undefined
    const value =
      name === undefined
        ? piece
        : name === 'graphcms'
          ? graphcmsText(request, named)
          : named.has(name)
            ? named.get(name)
            : PARTS[name]?.(request, url)
    return typeof value === 'string' ? Buffer.from(value, 'latin1') : value
  }
  const pieces = signed.split(/(\{[a-z_]+\})/)
  // computed once: forms can be long
  const common = pieces.map((piece) => (URL_PARTS.test(piece) ? undefined : resolve(piece, '')))
  const texts: Uint8Array[][] = []
  for (const url of URL_PARTS.test(signed) ? request.urls : ['']) {
    const text = pieces.map((piece, at) => (URL_PARTS.test(piece) ? resolve(piece, url) : common[at]))
    if (text.includes(undefined)) return undefined
    texts.push(text as Uint8Array[])
  }
  return texts
}

// ── parts that some provider invented ──

type FormFields = readonly (readonly [string, string])[]

/** More fields than any webhook has would only cost time to sort: nobody has signed them yet. */
const MAX_FORM_FIELDS = 2000

/** Decoded fields of a form body; none for any other content type. Undefined when there are too many. */
function formOf(request: WebhookRequest): FormFields | undefined {
  const type = request.headers.all('content-type')[0]?.split(';', 1)[0]?.trim().toLowerCase()
  if (type !== 'application/x-www-form-urlencoded') return []
  let separators = 0
  for (const byte of request.body) if (byte === AMPERSAND) separators += 1
  if (separators >= MAX_FORM_FIELDS) return undefined
  return [...new URLSearchParams(Buffer.from(request.body).toString('utf8'))]
}

const AMPERSAND = 0x26

const byNameAndValue = (left: readonly [string, string], right: readonly [string, string]): number =>
  compare(left[0], right[0]) || compare(left[1], right[1])

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0
}

/** Twilio, Mailchimp: names and values one behind the other, sorted; a pair that occurs twice counts once. */
function sortedForm(fields: FormFields | undefined): Uint8Array | undefined {
  if (fields === undefined) return undefined
  const pairs = fields.toSorted(byNameAndValue).map(([name, value]) => name + value)
  return Buffer.from([...new Set(pairs)].join(''), 'utf8')
}

/** Plivo, version 3: the query's parameters sorted and decoded; behind a POST's them those of the form. */
function plivoUrl(request: WebhookRequest, url: string): Uint8Array | undefined {
  const mark = url.indexOf('?')
  const base = mark === -1 ? url : url.slice(0, mark)
  const query = mark === -1 ? [] : [...new URLSearchParams(url.slice(mark + 1))].toSorted(byNameAndValue)
  const form = request.method === 'POST' ? formOf(request)?.toSorted(byNameAndValue) : []
  if (form === undefined) return undefined
  const queryText = query.map(([name, value]) => `${name}=${value}`).join('&')
  const formText = form.map(([name, value]) => name + value).join('')
  const text =
    base +
    (queryText === '' && form.length === 0 ? '' : `?${queryText}`) +
    (queryText !== '' && form.length > 0 ? '.' : '') +
    formText
  return Buffer.from(text, 'utf8')
}

/** HubSpot, version 3: these escapes are decoded in the URL, others stay. */
function decodeSome(url: string): string {
  return url.replace(/%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)/gi, (escape) => decodeURIComponent(escape))
}

/** Contentful: `name:value` of the headers that it names. Its timestamp and the list itself must be among them. */
function contentfulHeaders(request: WebhookRequest): string | undefined {
  const list = request.headers.all('x-contentful-signed-headers')
  const names = (list.length === 1 ? list[0]! : '').split(',').map((name) => name.trim().toLowerCase())
  if (!names.includes('x-contentful-timestamp') || !names.includes('x-contentful-signed-headers')) return undefined
  const lines: string[] = []
  for (const name of names) {
    const values = request.headers.all(name)
    if (values.length !== 1) return undefined
    lines.push(`${name}:${values[0]!.trim()}`)
  }
  return lines.join(';')
}

/** Hygraph (GraphCMS): a JSON text around the body. */
function graphcmsText(request: WebhookRequest, named: ReadonlyMap<string, string | undefined>): Uint8Array | undefined {
  const [environment, timestamp] = [named.get('environment'), named.get('timestamp')]
  if (environment === undefined || timestamp === undefined) return undefined
  const body = Buffer.from(request.body).toString('utf8')
  return Buffer.from(JSON.stringify({ Body: body, EnvironmentName: environment, TimeStamp: Number(timestamp) }), 'utf8')
}
