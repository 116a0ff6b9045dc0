/**
 * What `redirect` and `url-rewrite` share: `from` matched against the whole URL, `to` put in its place.
 *
 * Source: traffic-policy.md §5.17, §5.26, §9 (named variables of the old format).
 */
import type { TextSource } from '../config/node.ts'
import type { Exchange } from '../exchange/exchange.ts'
import { encodeUnsafe } from '../exchange/request-url.ts'
import type { Template } from '../expression/template.ts'
import type { PatternHandle } from '../native/pattern.ts'
import { dynamicPattern, literalPattern, PatternError, replaceAll } from '../policy/pattern.ts'
import type { CompileContext } from './action.ts'

export interface UrlReplacement {
  readonly from: Template | undefined
  /** Compiled once when `from` is constant. */
  readonly pattern: PatternHandle | undefined
  readonly to: Template
  /** The document is in the inbound/outbound format, where `$host` and its kin are variables. */
  readonly namedVariables: boolean
}

/** What became of the URL. */
export interface Replaced {
  readonly url: string
  readonly matches: readonly string[]
}

export function compileReplacement(
  from: TextSource | undefined,
  to: TextSource,
  context: CompileContext,
): UrlReplacement | undefined {
  const fromTemplate = from === undefined ? undefined : context.template(from)
  const toTemplate = context.template(to)
  if (toTemplate === undefined || (from !== undefined && fromTemplate === undefined)) return undefined
  let pattern: PatternHandle | undefined
  if (from !== undefined && fromTemplate?.constant !== undefined && !context.legacyFormat) {
    try {
      pattern = literalPattern(fromTemplate.constant)
    } catch (error) {
      if (!(error instanceof PatternError)) throw error
      context.diagnostics.error('ERR_NGROK_2261', error.message, from.span)
      return undefined
    }
  }
  return { from: fromTemplate, pattern, to: toTemplate, namedVariables: context.legacyFormat }
}

/**
 * The URL after replacement; undefined when `from` does not match. A relative `to` without `from` is resolved against
 * the request's scheme and host. Throws PatternError or an evaluation error.
 */
export function replaceUrl(plan: UrlReplacement, exchange: Exchange): Replaced | undefined {
  const { url } = exchange
  const expand = (text: string): string => (plan.namedVariables ? expandNamed(text, exchange) : text)
  const to = expand(plan.to.constant ?? plan.to.render(exchange))
  if (plan.from === undefined) {
    const absolute = to.startsWith('/') ? `${url.scheme}://${url.authority}${to}` : to
    return { url: changed(absolute, url.href), matches: [url.href] }
  }
  const pattern = plan.pattern ?? dynamicPattern(expand(plan.from.constant ?? plan.from.render(exchange)))
  const replaced = replaceAll(pattern, url.href, to)
  return replaced === null ? undefined : { url: changed(replaced.text, url.href), matches: replaced.matches }
}

/** Made safe for a header field, unless nothing changed: a URL that only gets other escapes is no new one. */
function changed(replaced: string, original: string): string {
  return replaced === original ? original : encodeUnsafe(replaced)
}

/** §9: `$args`, `$query_string`, `$is_args`, `$uri`, `$arg_<name>`, `$scheme`, `$host`, `$authority`, `$port`, `$user`, `$is_user`. */
function expandNamed(text: string, exchange: Exchange): string {
  if (!text.includes('$')) return text
  const { url } = exchange
  return text.replace(
    /\$(query_string|args|is_args|uri|arg_[A-Za-z0-9_]+|scheme|host|authority|port|user|is_user)\b/g,
    (_, name: string) => {
      switch (name) {
        case 'args':
        case 'query_string':
          return url.query
        case 'is_args':
          return url.query === '' ? '' : '?'
        case 'uri':
          return url.path + (url.query === '' ? '' : `?${url.query}`)
        case 'scheme':
          return url.scheme
        case 'host':
          return url.host
        case 'authority':
          return url.authority
        case 'port':
          return url.port === undefined ? '' : String(url.port)
        case 'user':
        case 'is_user':
          // a request target never carries user information (H-11)
          return ''
        default:
          return new URLSearchParams(url.query).get(name.slice('arg_'.length)) ?? ''
      }
    },
  )
}
