/**
 * `rate-limit`: admits at most `capacity` requests per bucket in any window of length `rate`; others get 429 with
 * `retry-after`. Publishes `rate_limit.bucket_key`, `.limited`.
 *
 * The bucket is named by (endpoint, rule, action, `name`, key tuple); a key that cannot be computed is an empty part.
 * Source: traffic-policy.md §5.16; operations.md O-75 (header fields), O-76 (store trouble).
 */
import type { TextSource } from '../config/node.ts'
import { described, policyKit, withDefault } from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Expression } from '../expression/expression.ts'
import { celToText } from '../expression/convert.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import type { TakeResult } from '../rate-limit/store.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { Action } from './action.ts'

interface Config {
  readonly name: string
  readonly algorithm: 'sliding_window'
  readonly capacity: number
  readonly rate: number
  readonly bucket_key: readonly TextSource[]
  readonly enforce: boolean
}

interface Plan {
  readonly name: string
  /** Everything of the bucket's name that configuration decides. */
  readonly scope: string
  readonly capacity: number
  readonly windowMs: number
  readonly keys: readonly Expression[]
  readonly enforce: boolean
  /** `RateLimit` fields by O-75, or none. */
  readonly headers: 'none' | 'draft' | 'legacy' | 'x'
}

const MINUTE_MS = 60_000
const DAY_MS = 24 * 60 * MINUTE_MS

export const rateLimit: Action<Config, Plan> = {
  type: 'rate-limit',
  phases: ['on_http_request'],
  configRequired: true,
  schema: policyKit.object({
    name: described(policyKit.string({ minLength: 1, maxLength: 1023 }), 'Name of the limit, for metrics and logs.'),
    algorithm: described(
      withDefault(policyKit.enumeration(['sliding_window'] as const), 'sliding_window'),
      'Only `sliding_window` exists.',
    ),
    capacity: described(
      policyKit.integer({ min: 1, max: 2_000_000_000 }),
      'Requests that one bucket admits in any window.',
    ),
    rate: described(
      policyKit.durationMs({ minMs: MINUTE_MS, maxMs: DAY_MS, multipleOfMs: 10_000 }),
      'Length of the window, in steps of 10 s.',
    ),
    bucket_key: described(
      policyKit.list(policyKit.expressionText(), { min: 1, max: 10 }),
      'Expressions; requests with the same values share a bucket.',
    ),
    enforce: described(
      withDefault(policyKit.boolean(), true),
      'false: only the result says that a request was over the limit.',
    ),
  }),
  compile(config, context) {
    const keys = config.bucket_key.map((source) => context.expression(source))
    if (keys.includes(undefined)) return undefined
    return {
      name: config.name,
      scope: `${context.identity}\0${config.name}\0${config.capacity}/${config.rate}\0`,
      capacity: config.capacity,
      windowMs: config.rate,
      keys: keys as Expression[],
      enforce: config.enforce,
      headers: context.settings.rateLimit.headers,
    }
  },
  run(plan, exchange) {
    const parts: string[] = []
    let key = plan.scope
    for (const expression of plan.keys) {
      const part = keyPart(expression, exchange)
      parts.push(part)
      // with its length in front, so that no value can pose as two
      key += `${part.length}:${part}`
    }
    const { onStoreError } = exchange.snapshot.settings.rateLimit
    const taken = exchange.services.rateLimits.take(key, plan.capacity, plan.windowMs, onStoreError)
    if (!(taken instanceof Promise)) return decide(plan, exchange, parts, taken)
    const askedAt = performance.now()
    return taken.then((result) => {
      exchange.services.metrics.rateLimitStore(performance.now() - askedAt)
      return decide(plan, exchange, parts, result)
    })
  },
}

function keyPart(expression: Expression, exchange: Exchange): string {
  try {
    return celToText(expression.evaluate(exchange))
  } catch {
    // `[U]`: a missing header or claim gives an empty part
    return ''
  }
}

function decide(plan: Plan, exchange: Exchange, parts: readonly string[], result: TakeResult): Outcome {
  const { metrics } = exchange.services
  metrics.rateLimit(plan.name, result.admitted ? 'allowed' : 'limited', result.mode)
  const { admitted } = result
  exchange.setResult('rate_limit', () => ({ bucket_key: parts.join(','), limited: !admitted }))
  if (plan.headers !== 'none') exchange.answerLines += limitLines(plan, result)
  if (result.admitted || !plan.enforce) return NEXT
  const seconds = Math.max(1, Math.ceil(result.retryAfterMs / 1000))
  const lines = `retry-after: ${seconds}\r\n`
  if (result.mode === 'closed') throw new GatewayError('LIMITER_DOWN', { lines })
  throw new GatewayError('RATE_LIMITED', { lines, reason: `rate_limited:${plan.name}` })
}

/** O-75. Several limits add several lines, which is the list form. */
function limitLines(plan: Plan, result: TakeResult): string {
  const windowSeconds = plan.windowMs / 1000
  const resetSeconds = Math.ceil((result.admitted ? plan.windowMs : result.retryAfterMs) / 1000)
  if (plan.headers === 'draft') {
    const name = JSON.stringify(plan.name.replace(/[^\x20-\x7e]/g, '?'))
    return (
      `ratelimit-policy: ${name};q=${plan.capacity};w=${windowSeconds}\r\n` +
      `ratelimit: ${name};r=${result.remaining};t=${resetSeconds}\r\n`
    )
  }
  const prefix = plan.headers === 'x' ? 'x-ratelimit' : 'ratelimit'
  return `${prefix}-limit: ${plan.capacity}\r\n${prefix}-remaining: ${result.remaining}\r\n${prefix}-reset: ${resetSeconds}\r\n`
}
