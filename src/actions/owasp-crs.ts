/**
 * What both `owasp-crs-*` actions share: configuration, results, log events.
 *
 * Source: traffic-policy.md §5.14, §5.15.
 */
import { described, policyKit, withDefault } from '../config/schema-kit.ts'
import type { Schema } from '../config/schema-kit.ts'
import type { Exchange, JudgedBody, TextBody } from '../exchange/exchange.ts'
import type { Settings } from '../config/settings.ts'
import type { JsonValue } from '../expression/source.ts'
import type { TransactionDetails } from '../native/rule-set.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import { type ErrorCode, GatewayError } from '../response/gateway-error.ts'
import type { WafProfile } from '../waf/profiles.ts'
import { type ScannedBody, scanRequest, scanResponse, type Verdict } from '../waf/scan.ts'

type Direction = 'inbound' | 'outbound'

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
  /** What the action publishes when no rule matched. */
  readonly cleanResult: JsonValue
}

/** `profile`: of the action's direction. */
export function owaspPlan(
  config: OwaspConfig,
  direction: Direction,
  profile: WafProfile,
  settings: Settings['waf'],
): OwaspPlan {
  const threshold = direction === 'inbound' ? settings.inboundThreshold : settings.outboundThreshold
  return {
    profile,
    processBody: config.process_body,
    enforce: config.on_error === 'halt',
    cleanResult: { decision: 'allow', anomaly_score: 0, anomaly_score_threshold: threshold, matched_rules: [] },
  }
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

const RESULT_NAMES = { inbound: 'owasp_crs_request', outbound: 'owasp_crs_response' } as const
const BLOCKED = { inbound: 'WAF_REQUEST_BLOCKED', outbound: 'WAF_RESPONSE_BLOCKED' } as const

/** Scans the message and decides, now or when a thread answers. `body` and `isDecoded` as scan.ts takes them. */
export function judge(
  plan: OwaspPlan,
  exchange: Exchange,
  direction: Direction,
  body: ScannedBody | null,
  isDecoded: boolean,
): Outcome | Promise<Outcome> {
  let verdict: Verdict | Promise<Verdict>
  try {
    const scan = direction === 'inbound' ? scanRequest : scanResponse
    verdict = scan(exchange, plan, body, isDecoded)
  } catch (error) {
    return failed(plan, exchange, direction, error)
  }
  if (!(verdict instanceof Promise)) return decide(plan, exchange, direction, verdict)
  return verdict.then(
    (settled) => decide(plan, exchange, direction, settled),
    (error: unknown) => failed(plan, exchange, direction, error),
  )
}

/** How much of a body was collected. */
export function bytesOf(body: JudgedBody | TextBody): number {
  return 'bytes' in body ? body.bytes.length : body.length
}

/** `waf.mode: off`: the result says that nothing was found. */
export function notJudged(plan: OwaspPlan, exchange: Exchange, direction: Direction): Outcome {
  exchange.setResult(RESULT_NAMES[direction], plan.cleanResult)
  return NEXT
}

/** A response that does not fit, where `waf.response_body_limit_action` refuses it. */
export function tooLargeToJudge(plan: OwaspPlan, exchange: Exchange): Outcome {
  const error = { code: 'ERR_NGROK_3701', message: 'the response body is larger than waf.response_body' }
  exchange.setResult(RESULT_NAMES.outbound, { ...(plan.cleanResult as object), error })
  return refuse('WAF_FAILED', { reason: 'waf:response_too_large' })
}

/** A refusal by the rules or because of a body that cannot be judged. */
export function refuse(code: ErrorCode, options?: ConstructorParameters<typeof GatewayError>[1]): Outcome {
  return { kind: 'error', error: new GatewayError(code, options) }
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
  const name = RESULT_NAMES[direction]
  if (details === undefined) {
    exchange.setResult(name, plan.cleanResult)
    return NEXT
  }
  if (blocked) {
    // also where it is not enforced: policies under test log it
    const code = direction === 'inbound' ? 'ERR_NGROK_3700' : 'ERR_NGROK_3702'
    const error = { code, message: 'blocked by the WAF' }
    exchange.setResult(name, () => owaspResult(details, direction, 'deny', error))
    return plan.enforce
      ? refuse(BLOCKED[direction], { reason: `waf:${details.interruption?.ruleId ?? direction}` })
      : NEXT
  }
  if (bodyError) {
    const error = { code: 'ERR_NGROK_3701', message: details.bodyError ?? 'the body cannot be parsed' }
    exchange.setResult(name, () => owaspResult(details, direction, 'allow', error))
    return plan.enforce ? refuse('WAF_FAILED', { reason: 'waf:unreadable_body' }) : NEXT
  }
  exchange.setResult(name, () => owaspResult(details, direction, 'allow', undefined))
  return NEXT
}

/** The matcher itself failed: `on_error` decides. */
function failed(plan: OwaspPlan, exchange: Exchange, direction: Direction, error: unknown): Outcome {
  exchange.services.logger.error({ request_id: exchange.requestId, err: error }, 'waf scan failed')
  const failure = { code: 'ERR_NGROK_3701', message: 'the scan failed' }
  exchange.setResult(RESULT_NAMES[direction], { error: failure })
  return plan.enforce ? refuse('WAF_FAILED', { cause: error }) : NEXT
}

/** `actions.ngrok.owasp_crs_request` and `…_response`. */
function owaspResult(
  details: TransactionDetails,
  direction: Direction,
  decision: 'deny' | 'allow',
  error: { readonly code: string; readonly message: string } | undefined,
): JsonValue {
  return {
    decision,
    anomaly_score: details[direction].score,
    anomaly_score_threshold: details[direction].threshold,
    matched_rules: scoredRules(details),
    ...(error && { error }),
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
