/**
 * The cookie that brings a client back to the target that answered it first: which one a request names, and the line that
 * names one. Its value is a hash: it tells nothing about the target, and one that was made up leads nowhere.
 *
 * Source: RFC 6265 §4.1, §5.4; issue text "sticky cookie".
 */
import type { StickySettings } from '../config/upstream-settings.ts'

export class StickyCookie {
  readonly #settings: StickySettings
  readonly #prefix: string

  constructor(settings: StickySettings) {
    this.#settings = settings
    this.#prefix = `${settings.cookie}=`
  }

  /** The value in a request's Cookie fields; the first one counts. */
  read(cookies: readonly string[]): string | undefined {
    for (const field of cookies) {
      for (const part of field.split(';')) {
        const pair = part.trim()
        if (pair.startsWith(this.#prefix)) return pair.slice(this.#prefix.length)
      }
    }
    return undefined
  }

  /** A response line that sets it. `isSecure`: the client used https. */
  line(value: string, isSecure: boolean): string {
    const { cookie, path, maxAgeMs, sameSite, secure } = this.#settings
    const maxAge = maxAgeMs > 0 ? `; Max-Age=${Math.ceil(maxAgeMs / 1000)}` : ''
    const site = sameSite === 'lax' ? 'Lax' : sameSite === 'strict' ? 'Strict' : 'None'
    const onlySecure = secure === 'always' || (secure === 'auto' && isSecure) ? '; Secure' : ''
    return `set-cookie: ${cookie}=${value}; Path=${path}${maxAge}; HttpOnly; SameSite=${site}${onlySecure}\r\n`
  }
}
