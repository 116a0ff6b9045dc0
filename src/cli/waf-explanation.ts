/** What `sallyport waf explain` prints: the same facts for people and as JSON. */
import { isAbsolute, relative } from 'node:path'
import { shownMatch, type ShownMatch } from '../access-log/match-log.ts'
import { maskTarget } from '../access-log/redact.ts'
import type { Settings } from '../config/settings.ts'
import type { RuleMatch } from '../native/rule-set.ts'
import type { Explanation, ExplainedMatch, Judgement } from '../waf/explain.ts'
import type { Exclusion } from '../waf/exclusions.ts'
import type { MessageFile } from '../waf/message-file.ts'

export interface ShownExplanation {
  readonly explanation: Explanation
  readonly settings: Settings['waf']
  readonly requestFile: MessageFile
  readonly responseFile: MessageFile | undefined
  /** What to call the policy. */
  readonly policy: string
  readonly notes: readonly string[]
  readonly showSecrets: boolean
}

/** A rule on a variable, with every value it fired on. */
interface Finding extends Omit<ExplainedMatch, 'match'> {
  readonly match: ShownMatch
  readonly values: readonly string[]
  /** Of all its values. */
  readonly score: number
}

export function explanationText(shown: ShownExplanation): string {
  const { explanation, settings, requestFile, responseFile } = shown
  const { ruleSet, request, response } = explanation
  const found = findings(shown)
  const lines = [
    row('rule set', `${ruleSet.componentSignatures.join(' ') || 'without a signature'}, ${ruleSet.rules} rules`),
    row('settings', settingsText(settings)),
    row('policy', shown.policy),
    row('request', `${requestFile.method} ${targetText(shown)}${bodyText(request)}`),
    ...(responseFile === undefined || response === undefined
      ? []
      : [row('response', `${responseFile.status}${bodyText(response)}`)]),
    ...shown.notes.map((note) => row('note', note)),
    '',
  ]
  if (found.length === 0) lines.push('no rule matched', '')
  for (const finding of found) lines.push(...findingText(finding), '')
  if (explanation.matchesLeftOut > 0) lines.push(`${explanation.matchesLeftOut} more matches are not shown`, '')
  lines.push(
    ...judgementText('request', request),
    ...(response === undefined ? [] : judgementText('response', response)),
  )
  lines.push(...wholeRules(found))
  return `${lines.join('\n')}\n`
}

function row(name: string, text: string): string {
  return `${name.padEnd(10)}${text}`
}

function targetText({ requestFile, showSecrets }: ShownExplanation): string {
  return showSecrets ? requestFile.target : maskTarget(requestFile.target)
}

function settingsText(settings: Settings['waf']): string {
  const { paranoiaLevel, detectionParanoiaLevel, inboundThreshold, outboundThreshold, mode } = settings
  const detection = detectionParanoiaLevel > paranoiaLevel ? `, detection at level ${detectionParanoiaLevel}` : ''
  const off = mode === 'off' ? ' (waf.mode is off: in traffic no rule runs)' : ''
  const modeText = mode === 'detection_only' ? ', detection only' : off
  return `paranoia level ${paranoiaLevel}${detection}, thresholds ${inboundThreshold} and ${outboundThreshold}${modeText}`
}

function bodyText({ bodyBytes, inspectedBytes }: Judgement): string {
  return bodyBytes === 0 ? '' : `, body of ${bodyBytes} bytes, ${inspectedBytes} inspected`
}

function findingText({ match, values, score, sumsUp, exclusions, direction }: Finding): string[] {
  const points = score === 0 ? '' : ` +${score}`
  const severity = match.severity === '' ? '' : ` ${match.severity}`
  const lines = [
    `${match.id}${severity}${points}  ${match.message || 'no message'}`,
    `    phase ${match.phase}, ${fromHere(match.file)}:${match.line}`,
    ...values.map((value) => `    ${match.variable} = ${value}`),
  ]
  if (match.data !== '') lines.push(`    data: ${match.data}`)
  if (sumsUp) {
    lines.push('    sums up what other rules found: exclude those, not this one')
    return lines
  }
  for (const exclusion of exclusions)
    lines.push(`    ${exclusionTitle(exclusion, direction)}`, `        ${exclusion.text}`)
  return lines
}

/** Relative to the working folder where it lies inside. */
function fromHere(path: string): string {
  const short = relative(process.cwd(), path)
  return !isAbsolute(path) || short.startsWith('..') ? path : short
}

function exclusionTitle({ scope, place }: Exclusion, direction: 'request' | 'response'): string {
  const where = place === 'policy' ? `config of owasp-crs-${direction}` : `a file under ${place}`
  switch (scope) {
    case 'target':
      return `not for this target (${where}):`
    case 'target_on_path':
      return `not for this target on this path (${where}; the id is yours to choose):`
    case 'rule':
      return `not at all (${where}):`
  }
}

function judgementText(message: string, judgement: Judgement): string[] {
  const { score, threshold, outcome, ruleId, answer } = judgement
  const by = ruleId === undefined ? '' : ruleId === 0 ? ' by a limit' : ` by rule ${ruleId}`
  const with_ = answer === undefined ? '' : `: ${answer.status} ${answer.code}`
  const why = outcome === 'would be blocked' ? ' (on_error: continue lets it pass)' : ''
  const text =
    outcome === 'not judged'
      ? 'not judged: the policy has no action for it'
      : `score ${score} of ${threshold}, ${outcome === 'refused' ? 'refused before any rule ran' : outcome}${by}${with_}${why}`
  return [row(message, text)]
}

/** What to write into the actions to be rid of everything, where there is more than one rule. */
function wholeRules(found: readonly Finding[]): string[] {
  return (['request', 'response'] as const).flatMap((direction) => {
    const ids = new Set(
      found
        .filter((it) => it.direction === direction && it.exclusions.some(({ place }) => place === 'policy'))
        .map(({ match }) => match.id),
    )
    return ids.size < 2
      ? []
      : [
          '',
          `all of them at once (config of owasp-crs-${direction}):`,
          `    exclude_rule_ids: [${[...ids].join(', ')}]`,
        ]
  })
}

/** Matches of one rule on one variable are one finding. */
function findings({ explanation, showSecrets }: ShownExplanation): Finding[] {
  const found = new Map<string, Finding>()
  for (const { match, direction, sumsUp, exclusions } of explanation.matches) {
    const shown = showSecrets ? bare(match) : shownMatch(match)
    const key = `${match.id} ${match.variable}`
    const before = found.get(key)
    found.set(key, {
      match: before?.match ?? shown,
      values: [...new Set([...(before?.values ?? []), shown.value])],
      score: (before?.score ?? 0) + shown.score,
      direction,
      sumsUp,
      exclusions,
    })
  }
  return [...found.values()]
}

function bare(match: RuleMatch): ShownMatch {
  return { ...match, score: match.score ?? 0 }
}

/** One JSON object; names as in the log. */
export function explanationJson(shown: ShownExplanation): string {
  const { explanation, settings, requestFile, responseFile } = shown
  const judged = (judgement: Judgement): Record<string, unknown> => ({
    score: judgement.score,
    threshold: judgement.threshold,
    outcome: judgement.outcome.replaceAll(' ', '_'),
    ...(judgement.ruleId === undefined ? {} : { rule_id: judgement.ruleId }),
    ...(judgement.answer === undefined ? {} : { answer: judgement.answer }),
    body_bytes: judgement.bodyBytes,
    inspected_bytes: judgement.inspectedBytes,
  })
  const whole = {
    rule_set: { signatures: explanation.ruleSet.componentSignatures, rules: explanation.ruleSet.rules },
    settings: {
      mode: settings.mode,
      paranoia_level: settings.paranoiaLevel,
      detection_paranoia_level: Math.max(settings.paranoiaLevel, settings.detectionParanoiaLevel),
      inbound_threshold: settings.inboundThreshold,
      outbound_threshold: settings.outboundThreshold,
    },
    policy: shown.policy,
    request: { method: requestFile.method, target: targetText(shown), ...judged(explanation.request) },
    ...(responseFile === undefined || explanation.response === undefined
      ? {}
      : { response: { status: responseFile.status, ...judged(explanation.response) } }),
    matches: findings(shown).map(({ match, values, score, direction, sumsUp, exclusions }) => ({
      rule_id: match.id,
      direction,
      phase: match.phase,
      message: match.message,
      severity: match.severity,
      variable: match.variable,
      values,
      data: match.data,
      score,
      tags: match.tags,
      file: match.file,
      line: match.line,
      sums_up: sumsUp,
      exclusions,
    })),
    matches_left_out: explanation.matchesLeftOut,
    notes: shown.notes,
  }
  return `${JSON.stringify(whole, undefined, 2)}\n`
}
