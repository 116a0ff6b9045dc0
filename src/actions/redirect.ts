/**
 * `redirect`: answers with a 3xx when the URL changes; otherwise goes on. Response rules run on the answer. Publishes
 * `redirect.matches`, `.url`, `.error`. Source: traffic-policy.md §5.17.
 */
import type { TextSource } from '../config/node.ts'
import { described, optional, policyKit, withDefault } from '../config/schema-kit.ts'
import { isFieldValue } from '../exchange/message-head.ts'
import { NEXT } from '../phase/outcome.ts'
import type { Action } from './action.ts'
import { compileHeaders, headerLines, headerMap, type HeaderPlan } from './header-values.ts'
import { compileReplacement, type Replaced, replaceUrl, type UrlReplacement } from './url-replacement.ts'

interface Config {
  readonly from: TextSource | undefined
  readonly to: TextSource
  readonly status_code: number
  readonly headers: ReadonlyMap<string, TextSource> | undefined
  readonly format: string | undefined
}

interface Plan {
  readonly replacement: UrlReplacement
  readonly status: number
  readonly headers: readonly HeaderPlan[]
}

export const redirect: Action<Config, Plan> = {
  type: 'redirect',
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object(
    {
      from: described(
        optional(policyKit.text()),
        'Regular expression (RE2), searched in the whole URL; without it every request is redirected.',
      ),
      to: described(policyKit.text(), 'Where to; `$1` and `${1}` stand for groups of `from`, `${…}` for expressions.'),
      status_code: described(
        withDefault(policyKit.enumeration([301, 302, 303, 307, 308] as const), 302),
        'Status of the redirect.',
      ),
      headers: described(optional(headerMap()), 'More header fields of the answer.'),
      // written in 2024, ignored since (§9)
      format: described(optional(policyKit.string()), 'Stands in documents of 2024; has no meaning.'),
    },
    { hints: { location: 'the target of a redirect is called `to`' } },
  ),
  compile(config, context) {
    const replacement = compileReplacement(config.from, config.to, context)
    const headers = config.headers === undefined ? [] : compileHeaders(config.headers, context)
    return replacement && headers && { replacement, headers, status: config.status_code }
  },
  run(plan, exchange) {
    let replaced: Replaced | undefined
    try {
      replaced = replaceUrl(plan.replacement, exchange)
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      exchange.setResult('redirect', { matches: [], url: '', error: { code: 'ERR_NGROK_2238', message } })
      exchange.interpolationFailed('from', error)
      return NEXT
    }
    if (replaced === undefined || replaced.url === exchange.url.href) {
      exchange.setResult('redirect', { matches: replaced?.matches ?? [], url: exchange.url.href })
      return NEXT
    }
    const { url, matches } = replaced
    exchange.setResult('redirect', { matches, url })
    if (!isFieldValue(url)) {
      // encodeUnsafe leaves no control byte; outer white space is encoded as well
      throw new Error('a redirect target with control characters')
    }
    return {
      kind: 'respond',
      status: plan.status,
      lines: `location: ${url}\r\n${headerLines(plan.headers, exchange)}`,
      body: '',
      reason: 'ok',
      responsePhase: true,
    }
  },
}
