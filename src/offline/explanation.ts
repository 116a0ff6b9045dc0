/** A replayed request as people read it, and as programs do. Secrets in it are masked as in the logs (O-60). */
import { isSecretName, maskedJson, maskTarget, maskText } from '../access-log/redact.ts'
import type { JsonValue } from '../expression/source.ts'
import { startLine, statusOf } from './judge.ts'
import type { Replayed, ReplayedRequest } from './replay.ts'
import { fieldsOfHead } from './written-request.ts'
import type { TracedAction, TracedRule } from './trace.ts'

/** Longest text of one value. */
const MOST_CHARS = 300

/** The whole story, line by line. */
export function explanation(request: ReplayedRequest, came: Replayed): string {
  const lines = [`${request.method} ${maskTarget(request.target)} from ${request.clientAddress}`]
  if (came.refusal !== undefined) {
    lines.push(`refused before any policy: ${came.refusal.status} ${came.refusal.reason}: ${came.refusal.text}`)
    return `${lines.join('\n')}\n`
  }
  let place = ''
  for (const rule of came.trace.rules) {
    const at = `${rule.endpoint}, ${rule.phase}`
    if (at !== place) lines.push('', at)
    place = at
    lines.push(...ruleLines(rule))
  }
  if (came.trace.rules.length === 0) lines.push('', 'no rule was reached')
  for (const leg of came.legs) {
    lines.push('', `sent upstream to ${leg.target}`, `  ${maskTarget(startLine(leg.head))}`, ...shownFields(leg.head))
    if (leg.body.length > 0) lines.push(`  (${leg.body.length} bytes of body)`)
  }
  lines.push('')
  if (came.head === '') lines.push('the connection was closed without an answer')
  else
    lines.push(`answered ${startLine(came.head)}`, ...shownFields(came.head), `  (${came.body.length} bytes of body)`)
  const by = came.rule === '' ? '' : `, decided by rule ${came.rule}, action ${came.action}`
  lines.push(`reason: ${came.reason}${by}`)
  if (came.wafRuleIds.length > 0) lines.push(`rules of the rule set that matched: ${came.wafRuleIds.join(' ')}`)
  return `${lines.join('\n')}\n`
}

function ruleLines(rule: TracedRule): string[] {
  const lines = [`  ${rule.matched ? '+' : '-'} ${rule.name}${rule.matched ? '' : ': did not match'}`]
  for (const { text, value, error } of rule.expressions) {
    lines.push(`      ${text}  →  ${value === undefined ? `error: ${error} (counts as false)` : value}`)
  }
  for (const action of rule.actions) lines.push(`      ${actionText(action)}`)
  return lines
}

function actionText({ type, outcome, detail, result }: TracedAction): string {
  const what = { next: 'goes on', respond: 'answers', forward: 'forwards to', close: 'closes', error: 'fails:' }[
    outcome
  ]
  const found = result === undefined ? '' : `  ${clip(resultText(result))}`
  return `${type} ${what ?? outcome}${detail === undefined ? '' : ` ${detail}`}${found}`
}

/** Masked like everything that is written down, but for codes of errors: `code` elsewhere is a login's secret. */
function resultText(result: JsonValue): string {
  const masked = JSON.parse(maskedJson(result)) as { error?: { code?: string } }
  const code = (result as { error?: { code?: JsonValue } } | null)?.error?.code
  if (masked.error?.code !== undefined && typeof code === 'string' && /^ERR_[A-Z0-9_]+$/.test(code)) {
    masked.error.code = code
  }
  return JSON.stringify(masked)
}

function shownFields(head: string): string[] {
  return fieldsOfHead(head).map(([name, value]) => {
    // a challenge looks like credentials and holds none
    if (name.toLowerCase() === 'www-authenticate') return `  ${name}: ${clip(value)}`
    return `  ${name}: ${isSecretName(name) ? '***' : clip(maskText(value))}`
  })
}

function clip(text: string): string {
  return text.length > MOST_CHARS ? `${text.slice(0, MOST_CHARS)}…` : text
}

/** The same as plain data. */
export function explanationJson(request: ReplayedRequest, came: Replayed): Record<string, unknown> {
  return {
    request: { method: request.method, target: maskTarget(request.target), client_ip: request.clientAddress },
    refused: came.refusal === undefined ? undefined : { status: came.refusal.status, reason: came.refusal.reason },
    rules: came.trace.rules.map((rule) => ({
      endpoint: rule.endpoint,
      phase: rule.phase,
      name: rule.name,
      matched: rule.matched,
      expressions: rule.expressions,
      actions: rule.actions.map(({ type, outcome, detail, result }) => ({
        type,
        outcome,
        detail,
        result: result === undefined ? undefined : (JSON.parse(resultText(result)) as unknown),
      })),
    })),
    upstream: came.legs.map(({ target, head, body }) => ({
      target,
      request_line: maskTarget(startLine(head)),
      headers: shownFields(head).map((line) => line.trim()),
      body_bytes: body.length,
    })),
    response: {
      status: statusOf(came),
      headers: shownFields(came.head).map((line) => line.trim()),
      body_bytes: came.body.length,
    },
    reason: came.reason,
    rule: came.rule,
    action: came.action,
    waf_rules: came.wafRuleIds,
  }
}
