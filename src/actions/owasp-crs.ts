/**
 * What both `owasp-crs-*` actions share: configuration, results, log events.
 *
 * Source: traffic-policy.md §5.14, §5.15.
 */
import { described, policyKit, withDefault } from '../config/schema-kit.ts'
import type { Schema } from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Settings } from '../config/settings.ts'
import type { JsonValue } from '../expression/source.ts'
import type { TransactionDetails } from '../native.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { WafProfile } from '../waf/profiles.ts'
import type { Verdict } from '../waf/scan.ts'

export interface OwaspConfig {
  readonly on_error: 'halt' | 'continue'
  readonly process_body: boolean
  readonly exclude_rule_ids: readonly number[]
}

export interface OwaspPlan {
  readonly profile: WafProfile
  readonly processBody: boolean
  /** `on_error: continue`: rules are evaluated, nothing is enforced. */
  readonly enforce: boolean
}

const { object, enumeration, boolean, list, integer } = policyKit

export const OWASP_SCHEMA: Schema<OwaspConfig> = object(
  {
    on_error: described(
      withDefault(enumeration(['halt', 'continue'] as const), 'halt'),
      '`continue`: a request or response that the rules would block passes, and the result says so.',
    ),
    process_body: described(withDefault(boolean(), false), 'Whether bodies are inspected.'),
    exclude_rule_ids: described(
      withDefault(list(integer({ min: 900_000, max: 999_999 })), []),
      'Rules of the rule set that do not count here.',
    ),
  },
  { allowNull: true },
)

type Direction = 'inbound' | 'outbound'

const RESULT_NAMES = { inbound: 'owasp_crs_request', outbound: 'owasp_crs_response' } as const
const BLOCKED = { inbound: 'WAF_REQUEST_BLOCKED', outbound: 'WAF_RESPONSE_BLOCKED' } as const

/** Scans and decides; `scan` may answer now or from a thread. */
export function judge(
  plan: OwaspPlan,
  exchange: Exchange,
  direction: Direction,
  scan: () => Verdict | Promise<Verdict>,
): Outcome | Promise<Outcome> {
  let verdict: Verdict | Promise<Verdict>
  try {
    verdict = scan()
  } catch (error) {
    return failed(plan, exchange, direction, error)
  }
  if (!(verdict instanceof Promise)) return decide(plan, exchange, direction, verdict)
  return verdict.then(
    (settled) => decide(plan, exchange, direction, settled),
    (error: unknown) => failed(plan, exchange, direction, error),
  )
}

/** `waf.mode: off`: the result says that nothing was found. */
export function notJudged(exchange: Exchange, direction: Direction): Outcome {
  exchange.setResult(RESULT_NAMES[direction], owaspResult(undefined, direction, exchange.snapshot.settings.waf, false))
  return NEXT
}

/** A response that does not fit, where `waf.response_body_limit_action` refuses it. */
export function tooLargeToJudge(exchange: Exchange): GatewayError {
  const error = { code: 'ERR_NGROK_3701', message: 'the response body is larger than waf.response_body' }
  const { waf } = exchange.snapshot.settings
  exchange.setResult(RESULT_NAMES.outbound, owaspResult(undefined, 'outbound', waf, false, error))
  return new GatewayError('WAF_FAILED', { reason: 'waf:response_too_large' })
}

/** One log event for a body, or the part of one, that passes unseen. */
export function notInspected(exchange: Exchange, message: string, inspectedBytes: number, why: string): void {
  exchange.services.logger.warn(
    { request_id: exchange.requestId, inspected_bytes: inspectedBytes, why },
    `a ${message} body is not inspected as a whole`,
  )
}

function decide(plan: OwaspPlan, exchange: Exchange, direction: Direction, verdict: Verdict): Outcome {
  const { details, blocked, bodyError } = verdict
  const { waf } = exchange.snapshot.settings
  if (bodyError && !blocked) {
    const message = details?.bodyError ?? 'the body cannot be parsed'
    const error = { code: 'ERR_NGROK_3701', message }
    exchange.setResult(RESULT_NAMES[direction], owaspResult(details, direction, waf, blocked, error))
    if (plan.enforce) throw new GatewayError('WAF_FAILED', { reason: 'waf:unreadable_body' })
    return NEXT
  }
  if (!blocked) {
    exchange.setResult(RESULT_NAMES[direction], owaspResult(details, direction, waf, blocked))
    return NEXT
  }
  // also where it is not enforced: policies under test log it
  const error = { code: direction === 'inbound' ? 'ERR_NGROK_3700' : 'ERR_NGROK_3702', message: 'blocked by the WAF' }
  exchange.setResult(RESULT_NAMES[direction], owaspResult(details, direction, waf, blocked, error))
  if (plan.enforce) {
    throw new GatewayError(BLOCKED[direction], { reason: `waf:${details?.interruption?.ruleId ?? direction}` })
  }
  return NEXT
}

/** The matcher itself failed: `on_error` decides. */
function failed(plan: OwaspPlan, exchange: Exchange, direction: Direction, error: unknown): Outcome {
  exchange.services.logger.error({ request_id: exchange.requestId, err: error }, 'waf scan failed')
  const failure = { code: 'ERR_NGROK_3701', message: 'the scan failed' }
  exchange.setResult(RESULT_NAMES[direction], { error: failure })
  if (plan.enforce) throw new GatewayError('WAF_FAILED', { cause: error })
  return NEXT
}

/** `actions.ngrok.owasp_crs_request` and `…_response`. The rules are listed when an expression asks, which most never do. */
function owaspResult(
  details: TransactionDetails | undefined,
  direction: Direction,
  settings: Settings['waf'],
  blocked: boolean,
  error?: { readonly code: string; readonly message: string },
): { readonly [field: string]: JsonValue } {
  const configured = direction === 'inbound' ? settings.inboundThreshold : settings.outboundThreshold
  return {
    decision: blocked ? 'deny' : 'allow',
    anomaly_score: details?.[direction].score ?? 0,
    anomaly_score_threshold: details?.[direction].threshold ?? configured,
    get matched_rules() {
      return details === undefined ? [] : scoredRules(details)
    },
    ...(error === undefined ? undefined : { error }),
  }
}

/** Rules with a score only: the ones that sum up and decide have none. */
function scoredRules({ matches }: TransactionDetails): JsonValue {
  return matches
    .filter((match) => match.severity !== '' && match.id >= 900_000 && !isDecision(match.id))
    .map(({ id, message, severity, data }) => ({ id, message, severity, data }))
}

/** CRS's own blocking and reporting rules (949, 959, 980). */
function isDecision(id: number): boolean {
  const family = Math.floor(id / 1000)
  return family === 949 || family === 959 || family === 980
}
