/**
 * `url-rewrite`: changes the URL that goes upstream and that later rules see; the client sees nothing of it. Never ends
 * the phase. Publishes `url_rewrite.matches`, `.url`, `.error`. Source: traffic-policy.md §5.26.
 */
import type { TextSource } from '../config/node.ts'
import { optional, policyKit } from '../config/schema-kit.ts'
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
    from: optional(policyKit.text()),
    to: policyKit.text(),
    // written in 2024, ignored since (§9)
    format: optional(policyKit.string()),
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
