/**
 * Where a token sits in a request and how it is taken out.
 * Source: traffic-policy.md §5.10 (`http.tokens[]`), §8.2; RFC 6750 §2.1, §2.2; threats.md T-55.
 */
import { isJsonObject, parseStrictJson } from './strict-json.ts'

export interface FoundToken {
  readonly kind: 'found'
  readonly token: string
}

export interface AbsentToken {
  readonly kind: 'absent'
  /** §8.2, for `jwt_validation.error.code`. */
  readonly code: string
  readonly reason: string
  /** The client sent something in that place, so the answer may say `invalid_token` (RFC 6750 §3.1). */
  readonly presented: boolean
}

export type ExtractedToken = FoundToken | AbsentToken

/** Values of every line of a header, name in lower case; HeaderView has this shape. */
export interface HeaderLookup {
  all(name: string): readonly string[]
}

/**
 * The token of a header. The name is compared without case. The value must begin with `prefix`, compared without case and
 * byte for byte otherwise: `Bearer ` asks for one blank, a tab does not do. More than one line of the header is refused,
 * whichever of them is good. What follows the prefix is the token, untrimmed.
 */
export function tokenFromHeader(headers: HeaderLookup, name: string, prefix: string): ExtractedToken {
  const values = headers.all(name.toLowerCase())
  const value = values[0]
  if (value === undefined) return absent('ERR_NGROK_3408', 'the header is not there', false)
  if (values.length > 1) return absent('ERR_NGROK_3416', 'the header occurs more than once', true)
  return withoutPrefix(value, prefix)
}

/** How a body is read. */
export type BodyForm = 'json' | 'form'

/**
 * Whether a body can hold a token at all, known from the head: asks before a body is buffered. The method must be POST,
 * PUT or PATCH; the content type JSON or a form.
 */
export function bodyForm(method: string, contentType: string | undefined): BodyForm | AbsentToken {
  if (method !== 'POST' && method !== 'PUT' && method !== 'PATCH') {
    return absent('ERR_NGROK_3415', 'the method has no token in its body', false)
  }
  const essence = contentType?.split(';', 1)[0]?.trim().toLowerCase()
  if (essence === 'application/json') return 'json'
  if (essence === 'application/x-www-form-urlencoded') return 'form'
  return absent('ERR_NGROK_3414', 'the content type is neither JSON nor a form', false)
}

/**
 * The token of a body field: a string member of the top object, or a form field. The name is compared without case; two
 * fields of that name are refused.
 */
export function tokenFromBody(form: BodyForm, body: Uint8Array, name: string, prefix: string): ExtractedToken {
  const wanted = name.toLowerCase()
  const fields = form === 'json' ? jsonFields(body) : formFields(body)
  if (fields === undefined) {
    const code = form === 'json' ? 'ERR_NGROK_3411' : 'ERR_NGROK_3412'
    return absent(code, 'the body does not parse', false)
  }
  const values = fields.filter(([field]) => field.toLowerCase() === wanted).map(([, value]) => value)
  const value = values[0]
  if (value === undefined) return absent('ERR_NGROK_3406', 'the body field is not there', false)
  if (values.length > 1) return absent('ERR_NGROK_3416', 'the body field occurs more than once', true)
  if (typeof value !== 'string') return absent('ERR_NGROK_3416', 'the body field is not a string', true)
  return withoutPrefix(value, prefix)
}

function withoutPrefix(value: string, prefix: string): ExtractedToken {
  const hasPrefix = value.startsWith(prefix) || value.slice(0, prefix.length).toLowerCase() === prefix.toLowerCase()
  if (!hasPrefix) {
    return absent('ERR_NGROK_3413', 'the prefix is not there', value !== '')
  }
  const token = value.slice(prefix.length)
  if (token === '') return absent('ERR_NGROK_3406', 'there is no token', false)
  return { kind: 'found', token }
}

function jsonFields(body: Uint8Array): readonly (readonly [string, unknown])[] | undefined {
  const text = decode(body)
  if (text === undefined) return undefined
  const parsed = parseStrictJson(text)
  return parsed.ok && isJsonObject(parsed.value) ? Object.entries(parsed.value) : undefined
}

/** URL Standard, "application/x-www-form-urlencoded parsing", but escapes that are none and bad UTF-8 are refused. */
function formFields(body: Uint8Array): readonly (readonly [string, string])[] | undefined {
  const text = decode(body)
  if (text === undefined) return undefined
  const fields: [string, string][] = []
  try {
    for (const pair of text.split('&')) {
      if (pair === '') continue
      const equals = pair.indexOf('=')
      const name = equals === -1 ? pair : pair.slice(0, equals)
      const value = equals === -1 ? '' : pair.slice(equals + 1)
      fields.push([decodeURIComponent(name.replaceAll('+', ' ')), decodeURIComponent(value.replaceAll('+', ' '))])
    }
  } catch {
    return undefined // an escape that is none
  }
  return fields
}

function decode(body: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body)
  } catch {
    return undefined // not UTF-8
  }
}

function absent(code: string, reason: string, presented: boolean): AbsentToken {
  return { kind: 'absent', code, reason, presented }
}
