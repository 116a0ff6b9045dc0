/**
 * `url-rewrite`: changes the URL that goes upstream and that later rules see; the client sees nothing of it. Never ends
 * the phase. Publishes `url_rewrite.matches`, `.url`, `.error`. Source: traffic-policy.md §5.26.
 */
import type { TextSource } from '../config/node.ts'
import { described, optional, policyKit } from '../config/schema-kit.ts'
import { NEXT } from '../phase/outcome.ts'
import type { Action } from './action.ts'
import { compileReplacement, type Replaced, replaceUrl, type UrlReplacement } from './url-replacement.ts'

interface Config {
  readonly from: TextSource | undefined
  readonly to: TextSource
  readonly format: string | undefined
}

export const urlRewrite: Action<Config, UrlReplacement> = {
  type: 'url-rewrite',
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object({
    from: described(
      optional(policyKit.text()),
      'Regular expression (RE2), searched in the whole URL; without it the URL becomes `to`.',
    ),
    to: described(policyKit.text(), 'The new URL; `$1` and `${1}` stand for groups of `from`, `${…}` for expressions.'),
    // written in 2024, ignored since (§9)
    format: described(optional(policyKit.string()), 'Stands in documents of 2024; has no meaning.'),
  }),
  compile: (config, context) => compileReplacement(config.from, config.to, context),
  run(plan, exchange) {
    const failed = (code: string, error: unknown, matches: readonly string[]): typeof NEXT => {
      const message = error instanceof Error ? error.message : String(error)
      exchange.setResult('url_rewrite', { matches, url: exchange.url.href, error: { code, message } })
      exchange.interpolationFailed('to', error)
      return NEXT
    }
    let replaced: Replaced | undefined
    try {
      replaced = replaceUrl(plan, exchange)
    } catch (error) {
      return failed('ERR_NGROK_2238', error, [])
    }
    if (replaced === undefined) {
      exchange.setResult('url_rewrite', { matches: [], url: exchange.url.href })
      return NEXT
    }
    const authority = exchange.url.authority
    if (!exchange.url.rewrite(replaced.url)) {
      return failed('ERR_NGROK_2247', `${replaced.url} is not a URL`, replaced.matches)
    }
    // a changed host changes the Host field upstream, not the routing (§5.26)
    if (exchange.url.authority !== authority) exchange.head.set('host', exchange.url.authority)
    exchange.setResult('url_rewrite', { matches: replaced.matches, url: exchange.url.href })
    return NEXT
  },
}
