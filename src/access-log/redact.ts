/**
 * What must never be read in a log: masked by name of header, query parameter or key, and by the look of a token.
 *
 * Every function here is linear in its input: a client chooses what it is given.
 * Source: operations.md O-39, O-60; threats.md T-79.
 */

export const MASK = '***'

/** O-60 names the first seven; the others are the same secrets under their usual names. Lower case, without `-` and `_`. */
const SECRET_NAMES: ReadonlySet<string> = new Set([
  'token',
  'key',
  'password',
  'secret',
  'code',
  'accesstoken',
  'idtoken',
  'refreshtoken',
  'clientsecret',
  'clientassertion',
  'apikey',
  'apitoken',
  'xapikey',
  'authkey',
  'authtoken',
  'xauthtoken',
  'xaccesstoken',
  'auth',
  'authorization',
  'proxyauthorization',
  'cookie',
  'setcookie',
  'passwd',
  'pwd',
  'jwt',
  'assertion',
  'samlresponse',
  'credentials',
  'privatekey',
  // signed links open what they name, and session ids in a target stand for the cookie
  'sig',
  'signature',
  'xamzsignature',
  'xamzsecuritytoken',
  'xgoogsignature',
  'sessionid',
  'jsessionid',
  'phpsessid',
])

/** Whether a header, query parameter or key of this name holds a secret. Case, `-` and `_` do not matter. */
export function isSecretName(name: string): boolean {
  if (name.length > 64) return false
  return SECRET_NAMES.has(name.toLowerCase().replace(/[-_]/g, ''))
}

/**
 * A request target with the values of secret query parameters and everything that looks like a JWT replaced by `***`.
 * The rest stays byte for byte.
 */
export function maskTarget(target: string): string {
  const queryAt = target.indexOf('?')
  if (queryAt === -1) return maskPath(target)
  return `${maskPath(target.slice(0, queryAt + 1))}${maskQuery(target.slice(queryAt + 1))}`
}

/** Segments may carry parameters of their own: `/cart;token=…/pay` (RFC 3986 §3.3). */
function maskPath(path: string): string {
  return path.includes('=') ? maskPairs(path, PATH_SEPARATORS) : maskTokens(path)
}

/**
 * A prefilter without false negatives: each of SECRET_NAMES holds one of these parts unless a `-`, `_` or `%` stands
 * within it, and what looks like a token holds `eyJ`.
 */
const MAY_HOLD_SECRET = /eyJ|tok|key|pass|pwd|secret|code|auth|cookie|jwt|assert|saml|cred|sig|sess|[-_%]/i

/** A query string, without its `?`, masked. Both separators that servers accept, `&` and `;`, end a parameter. */
export function maskQuery(query: string): string {
  return MAY_HOLD_SECRET.test(query) ? maskPairs(query, QUERY_SEPARATORS) : query
}

/** Which characters end a pair, by their code: 1 for those of `characters`, which are ASCII. */
function separatorTable(characters: string): Uint8Array {
  const table = new Uint8Array(128)
  for (const character of characters) table[character.charCodeAt(0)] = 1
  return table
}

const PATH_SEPARATORS = separatorTable('/;?')
const QUERY_SEPARATORS = separatorTable('&;')
const TEXT_SEPARATORS = separatorTable('/?&; \t\r\n')

function maskPairs(text: string, separators: Uint8Array): string {
  let out = ''
  let at = 0
  while (at <= text.length) {
    let end = at
    // beyond the table is beyond ASCII: no separator
    while (end < text.length && separators[text.charCodeAt(end)] !== 1) end += 1
    const pair = text.slice(at, end)
    const equals = pair.indexOf('=')
    if (equals !== -1 && isSecretName(decodedName(pair.slice(0, equals)))) out += `${pair.slice(0, equals + 1)}${MASK}`
    else out += maskTokens(pair)
    out += text.charAt(end)
    at = end + 1
  }
  return out
}

/** `%74oken` is `token` for the upstream, so it is here; `user[password]` counts as `password`. */
function decodedName(name: string): string {
  let plain = name
  if (name.includes('%')) {
    try {
      plain = decodeURIComponent(name)
    } catch {
      // not UTF-8: no server reads it as one of our names
      plain = name
    }
  }
  const bracket = plain.endsWith(']') ? plain.lastIndexOf('[') : -1
  return bracket === -1 ? plain : plain.slice(bracket + 1, -1)
}

/** `eyJ` is `{"` in base64url: how the header of every JSON token begins. */
const TOKEN_START = 'eyJ'

/** Text with everything that looks like a JWT or JWE replaced by `***`. One pass. */
export function maskTokens(text: string): string {
  let found = text.indexOf(TOKEN_START)
  if (found === -1) return text
  let out = ''
  let from = 0
  while (found !== -1) {
    let end = found
    let dots = 0
    for (; end < text.length && isTokenCharacter(text.charCodeAt(end)); end++) if (text[end] === '.') dots += 1
    // three letters alone are no token, and a run without dots is not one either unless it is long
    if (dots > 0 || end - found >= 40) {
      out += `${text.slice(from, found)}${MASK}`
      from = end
    }
    found = text.indexOf(TOKEN_START, end)
  }
  return out + text.slice(from)
}

/** Base64url and the dot. */
function isTokenCharacter(code: number): boolean {
  return (
    (code >= 97 && code <= 122) ||
    (code >= 65 && code <= 90) ||
    (code >= 48 && code <= 57) ||
    code === 45 ||
    code === 95 ||
    code === 46
  )
}

type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json }

/** Deepest nesting that is logged. */
const MAX_DEPTH = 16

/**
 * A JSON value with the values of secret keys, `Bearer`/`Basic` credentials and tokens replaced by `***`.
 * For metadata of `log` actions and for configuration dumps.
 */
export function maskValue(value: Json, depth = 0): Json {
  if (typeof value === 'string') return maskText(value)
  if (value === null || typeof value !== 'object') return value
  if (depth >= MAX_DEPTH) return '…'
  // isArray does not narrow readonly arrays
  if (Array.isArray(value)) return (value as readonly Json[]).map((item) => maskValue(item, depth + 1))
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, isSecretName(key) ? MASK : maskValue(item, depth + 1)]),
  )
}

/** A JSON value masked and written as JSON text. */
export function maskedJson(value: Json): string {
  return JSON.stringify(maskValue(value))
}

/** Free text: credentials after an authentication scheme, and tokens. */
export function maskText(text: string): string {
  const scheme = /^\s{0,8}(bearer|basic|digest|dpop)\s+\S/i.exec(text)
  // the expression has one group, which took part
  return scheme === null ? maskTokens(text) : `${scheme[1]!} ${MASK}`
}

/** Words that make a variable of the rule matcher secret wherever they stand in its name. */
const SECRET_VARIABLE = /authorization|cookie|api[-_]?key|token|password|secret/i

/**
 * Whether a variable of the rule matcher holds a secret by its name: `REQUEST_COOKIES:sid`, `ARGS:user[pwd]`,
 * `ARGS:json.code`.
 */
export function isSecretVariable(variable: string): boolean {
  if (SECRET_VARIABLE.test(variable)) return true
  const member = variable.slice(variable.indexOf(':') + 1)
  return isSecretName(decodedName(member.slice(member.lastIndexOf('.') + 1)))
}

/**
 * Text in which a rule matched: a target, a request line, a referer, a form or a sentence around one of them. Values
 * of secret parameters and tokens are replaced by `***`.
 */
export function maskMatched(text: string): string {
  return text.includes('=') && MAY_HOLD_SECRET.test(text) ? maskPairs(text, TEXT_SEPARATORS) : maskTokens(text)
}

/** A URL whose user information is masked: `redis://user:pw@host` → `redis://***@host`. */
export function maskUrl(url: string): string {
  const authority = url.indexOf('://')
  if (authority === -1) return url
  const rest = url.slice(authority + 3)
  const slash = rest.search(/[/?#]/)
  const at = rest.slice(0, slash === -1 ? rest.length : slash).lastIndexOf('@')
  return at === -1 ? url : `${url.slice(0, authority + 3)}${MASK}${rest.slice(at)}`
}
