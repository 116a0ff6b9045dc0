/**
 * Cookies of logins on the wire: their names, the parts a large one is cut into, and the lines that set and delete them.
 *
 * Source: RFC 6265 §4.1, §6.1 (browsers keep at least 4096 bytes of a cookie); RFC 6265bis §4.1.3 (prefixes);
 * traffic-policy.md §5.12.
 */

/** Name, value and attributes of one cookie stay below what every browser keeps. */
const MAX_VALUE_CHARS = 3800
/** More would not pass the header limits of usual servers and browsers. */
export const MAX_PARTS = 6

/** How cookies of one login are named and where browsers send them. */
export interface CookieScope {
  /** The client speaks TLS: then cookies are Secure and have a prefix that no other host can set. */
  readonly secure: boolean
  /** `auth_cookie_domain`. */
  readonly domain: string | undefined
  readonly authId: string
}

/** `session`, `nonce` and so on as the browser knows it. */
export function cookieName(base: string, scope: CookieScope): string {
  const prefix = !scope.secure ? '' : scope.domain === undefined ? '__Host-' : '__Secure-'
  return `${prefix}${base}${scope.authId === '' ? '' : `_${scope.authId}`}`
}

/** The value of the first cookie of that name in a Cookie field; undefined when there is none. */
export function cookieIn(field: string, name: string): string | undefined {
  const needle = `${name}=`
  let at = field.indexOf(needle)
  while (at !== -1) {
    // a name begins the field, or stands behind `;` and spaces
    let before = at - 1
    while (before >= 0 && field.charCodeAt(before) === 32) before -= 1
    if (before === -1 || field.charCodeAt(before) === 59) {
      const end = field.indexOf(';', at)
      return field.slice(at + needle.length, end === -1 ? undefined : end).trimEnd()
    }
    at = field.indexOf(needle, at + 1)
  }
  return undefined
}

/** What `writeParts` wrote; undefined when it is not there or a part is missing. */
export function readParts(field: string, name: string): string | undefined {
  const first = cookieIn(field, name)
  if (first === undefined || first.charCodeAt(1) !== 46) return undefined
  const count = first.charCodeAt(0) - 48
  if (count === 1) return first.slice(2)
  if (count < 1 || count > MAX_PARTS) return undefined
  let text = first.slice(2)
  for (let part = 1; part < count; part++) {
    const next = cookieIn(field, `${name}.${part}`)
    if (next === undefined) return undefined
    text += next
  }
  return text
}

/**
 * `set-cookie` lines for a text, cut into as many cookies as it takes; parts of an older, longer one that `field` shows
 * are deleted. Undefined when it is too long.
 */
export function writeParts(
  text: string,
  name: string,
  scope: CookieScope,
  options: { readonly maxAgeSeconds?: number | undefined; readonly field: string },
): string | undefined {
  const count = Math.max(1, Math.ceil((text.length + 2) / MAX_VALUE_CHARS))
  if (count > MAX_PARTS) return undefined
  const whole = `${count}.${text}`
  let lines = ''
  for (let part = 0; part < count; part++) {
    const value = whole.slice(part * MAX_VALUE_CHARS, (part + 1) * MAX_VALUE_CHARS)
    lines += setCookie(partName(name, part), value, scope, options.maxAgeSeconds)
  }
  for (let part = count; part < MAX_PARTS; part++) {
    if (cookieIn(options.field, partName(name, part)) !== undefined) lines += deleteCookie(partName(name, part), scope)
  }
  return lines
}

/** Lines that delete a cookie and all parts of it that `field` shows. */
export function deleteParts(name: string, scope: CookieScope, field: string): string {
  let lines = ''
  for (let part = 0; part < MAX_PARTS; part++) {
    if (part === 0 || cookieIn(field, partName(name, part)) !== undefined) {
      lines += deleteCookie(partName(name, part), scope)
    }
  }
  return lines
}

function partName(name: string, part: number): string {
  return part === 0 ? name : `${name}.${part}`
}

export type SameSite = 'Lax' | 'None' | ''

/** One `set-cookie` line. `maxAgeSeconds` undefined: until the browser closes. */
export function setCookie(
  name: string,
  value: string,
  scope: CookieScope,
  maxAgeSeconds?: number,
  sameSite: SameSite = 'Lax',
): string {
  const age = maxAgeSeconds === undefined ? '' : `; Max-Age=${Math.max(0, Math.floor(maxAgeSeconds))}`
  const domain = scope.domain === undefined ? '' : `; Domain=${scope.domain}`
  const site = sameSite === '' ? '' : `; SameSite=${sameSite}`
  return `set-cookie: ${name}=${value}; Path=/${domain}${age}; HttpOnly${site}${scope.secure ? '; Secure' : ''}\r\n`
}

export function deleteCookie(name: string, scope: CookieScope, sameSite: SameSite = 'Lax'): string {
  return setCookie(name, '', scope, 0, sameSite)
}
