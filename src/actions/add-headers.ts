/**
 * `add-headers`: appends headers to the request that goes upstream or to the response that goes to the client.
 *
 * An existing header stays and gets a second value; `host` replaces. Never ends the phase. Publishes
 * `add_headers.headers_added`. Source: traffic-policy.md §5.1.
 */
import type { TextSource } from '../config/node.ts'
import { described, policyKit } from '../config/schema-kit.ts'
import { PROXY_FIELDS } from '../exchange/forward-head.ts'
import { NEXT } from '../phase/outcome.ts'
import type { Action } from './action.ts'
import {
  compileHeaders,
  foretellHeader,
  type ForetoldLines,
  foretoldLines,
  headerMap,
  type HeaderPlan,
  headerValue,
} from './header-values.ts'

interface Config {
  readonly headers: ReadonlyMap<string, TextSource>
}

interface Plan {
  readonly headers: readonly HeaderPlan[]
  /** What they will be on an answer, where that can be told. */
  readonly foretold: readonly ForetoldLines[] | undefined
}

/** The gateway looks for these in what leaves. */
const FIELDS_OF_THE_LAST_WORD: ReadonlySet<string> = new Set(['date', 'x-request-id'])

export const addHeaders: Action<Config, Plan> = {
  type: 'add-headers',
  phases: ['on_http_request', 'on_http_response'],
  configRequired: true,
  schema: policyKit.object({
    headers: described(headerMap({ min: 1 }), 'Names and values; values may hold `${…}`. At most 10.'),
  }),
  compile(config, context) {
    const headers = compileHeaders(config.headers, context, { allowHost: context.phase === 'on_http_request' })
    if (headers === undefined) return undefined
    const isLast = headers.some(({ name }) => FIELDS_OF_THE_LAST_WORD.has(name))
    return { headers, foretold: isLast ? undefined : foretoldLines(headers) }
  },
  run(plan, exchange) {
    const { responseState } = exchange
    const head = responseState?.head ?? exchange.head
    const added: Record<string, string> = {}
    for (const header of plan.headers) {
      const value = headerValue(header, exchange)
      if (value === undefined) continue
      if (header.name === 'host') head.set('host', value)
      else if (responseState === undefined && PROXY_FIELDS.has(header.name)) exchange.assign(header.name, value)
      else head.add(header.name, value)
      added[header.name] = value
    }
    exchange.setResult('add_headers', { headers_added: added })
    return NEXT
  },
  canForetell: ({ foretold }) => foretold !== undefined,
  foretell(plan, exchange, answer) {
    for (const lines of plan.foretold!) {
      const isTold =
        'text' in lines ? answer.addLines(lines.text, lines.clocks) : foretellHeader(lines, exchange, answer)
      if (!isTold) return false
    }
    return true
  },
}
