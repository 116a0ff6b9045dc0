/**
 * A policy document → phases, rules and raw actions, each with its place. Takes today's format and the inbound/outbound
 * one of 2024.
 *
 * Source: traffic-policy.md §1.1, §1.3, §9 (old format), §11 (what real documents contain besides).
 */
import type { Diagnostics } from '../config/diagnostic.ts'
import {
  type ConfigNode,
  type MapEntry,
  type MapNode,
  type ScalarNode,
  type TextSource,
  textSource,
} from '../config/node.ts'
import type { Span } from '../config/source.ts'
import { nearest } from '../config/spelling.ts'
import type { PhaseName } from '../expression/source.ts'

export interface ParsedPolicy {
  readonly phases: Readonly<Record<PhaseName, readonly ParsedRule[]>>
  /** Written with `inbound`/`outbound`: old variable spellings and `$host`-like names are understood. */
  readonly legacyFormat: boolean
  readonly span: Span
}

export interface ParsedRule {
  readonly name: string | undefined
  readonly expressions: readonly TextSource[]
  readonly actions: readonly ParsedAction[]
  readonly span: Span
}

export interface ParsedAction {
  readonly type: string
  readonly typeSpan: Span
  /** Absent when the action has no `config`. */
  readonly config: ConfigNode | undefined
  readonly span: Span
}

const PHASES: readonly PhaseName[] = [
  'on_tcp_connect',
  'on_http_request',
  'on_http_response',
  'on_event_stream_message',
]
const LEGACY_PHASES: Readonly<Record<string, PhaseName>> = { inbound: 'on_http_request', outbound: 'on_http_response' }

const NOT_A_LIST_HINT = 'a phase is a list of rules: begin each with `- `'
const LIST_HINT = 'begin each entry with `- `'

/** Every error is reported; what could be read is returned all the same, so that its errors are found as well. */
export function parsePolicy(document: MapNode, diagnostics: Diagnostics): ParsedPolicy {
  const phases = noRules()
  const legacy = document.entries.filter((entry) => Object.hasOwn(LEGACY_PHASES, entry.key))
  let enabled = true
  for (const entry of document.entries) {
    const phase = PHASES.find((name) => name === entry.key)
    if (phase !== undefined) phases[phase].push(...parseRules(entry, diagnostics))
    else if (entry.key === 'enabled') enabled = isEnabled(entry, diagnostics)
    else if (!Object.hasOwn(LEGACY_PHASES, entry.key)) unknownPhase(entry, diagnostics)
  }
  // rules of the new phases come first (§9)
  for (const entry of legacy) phases[LEGACY_PHASES[entry.key]!].push(...parseRules(entry, diagnostics))
  const first = legacy[0]
  if (first !== undefined) {
    const hint = 'write on_http_request for inbound and on_http_response for outbound'
    diagnostics.warning('LEGACY_POLICY_FORMAT', 'inbound and outbound are the format of 2024', first.keySpan, hint)
  }
  return { phases: enabled ? phases : noRules(), legacyFormat: first !== undefined, span: document.span }
}

function noRules(): Record<PhaseName, ParsedRule[]> {
  return { on_tcp_connect: [], on_http_request: [], on_http_response: [], on_event_stream_message: [] }
}

function isEnabled(entry: MapEntry, diagnostics: Diagnostics): boolean {
  diagnostics.warning('ENABLED_FIELD_DEPRECATED', '`enabled` belongs to the format of 2024', entry.keySpan)
  if (entry.value.kind === 'scalar' && typeof entry.value.value === 'boolean') return entry.value.value
  diagnostics.error('ERR_NGROK_2236', '`enabled` must be true or false', entry.value.span)
  return true
}

function unknownPhase(entry: MapEntry, diagnostics: Diagnostics): void {
  const near = nearest(entry.key, [...PHASES, ...Object.keys(LEGACY_PHASES)])
  const hint = near === undefined ? `phases are ${PHASES.join(', ')}` : `did you mean ${near}?`
  diagnostics.error('ERR_NGROK_2236', `${entry.key} is not a phase`, entry.keySpan, hint)
}

function parseRules(entry: MapEntry, diagnostics: Diagnostics): ParsedRule[] {
  const { value } = entry
  if (isNull(value)) return []
  if (value.kind !== 'list') {
    const found = value.kind === 'map' ? 'map' : 'string'
    const text = `received invalid value of type '${found}' for traffic policy rule array`
    diagnostics.error('ERR_NGROK_2236', text, value.span, NOT_A_LIST_HINT)
    return []
  }
  return value.items.flatMap((item) => parseRule(item, diagnostics) ?? [])
}

const RULE_KEYS = ['name', 'expressions', 'actions']
const ACTION_AS_RULE_HINT = 'this is an action; put it in the `actions` list of a rule'
const RULE_HINTS: ReadonlyMap<string, string> = new Map([
  ['if', 'conditions are a list under `expressions`'],
  ['type', ACTION_AS_RULE_HINT],
  ['config', ACTION_AS_RULE_HINT],
])

function parseRule(node: ConfigNode, diagnostics: Diagnostics): ParsedRule | undefined {
  if (node.kind !== 'map') {
    diagnostics.error('ERR_NGROK_2236', 'a rule must be a mapping with `actions`', node.span)
    return undefined
  }
  let name: string | undefined
  let expressions: readonly TextSource[] = []
  let actions: readonly ParsedAction[] | undefined
  for (const { key, keySpan, value } of node.entries) {
    if (key === 'name') {
      if (value.kind === 'scalar') name = isNull(value) ? undefined : value.text
      else diagnostics.error('ERR_NGROK_2236', 'name must be a text', value.span)
    } else if (key === 'expressions') expressions = parseExpressions(value, diagnostics)
    else if (key === 'actions') actions = parseActions(value, diagnostics)
    else {
      const near = nearest(key, RULE_KEYS)
      const hint = RULE_HINTS.get(key) ?? (near === undefined ? undefined : `did you mean ${near}?`)
      diagnostics.error('ERR_NGROK_2236', `unknown key ${key} in a rule`, keySpan, hint)
    }
  }
  if (actions === undefined || (actions.length === 0 && isEmptyList(node))) {
    diagnostics.error('ERR_NGROK_2206', 'a rule needs at least one action', startOf(node.span))
  }
  return { name, expressions, actions: actions ?? [], span: node.span }
}

/** An empty `actions` list; a list whose entries were all refused has its own errors. */
function isEmptyList(node: MapNode): boolean {
  const value = node.entries.find((entry) => entry.key === 'actions')?.value
  return value === undefined || isNull(value) || (value.kind === 'list' && value.items.length === 0)
}

function parseExpressions(node: ConfigNode, diagnostics: Diagnostics): readonly TextSource[] {
  if (isNull(node)) return []
  if (node.kind !== 'list') {
    diagnostics.error('ERR_NGROK_2236', 'expressions must be a list of texts', node.span, LIST_HINT)
    return []
  }
  return node.items.flatMap((item) => {
    if (item.kind === 'scalar' && item.value !== null) return [textSource(item)]
    diagnostics.error('ERR_NGROK_2236', 'an expression must be a text', item.span)
    return []
  })
}

function parseActions(node: ConfigNode, diagnostics: Diagnostics): readonly ParsedAction[] {
  if (isNull(node)) return []
  if (node.kind !== 'list') {
    diagnostics.error('ERR_NGROK_2236', 'actions must be a list', node.span, LIST_HINT)
    return []
  }
  return node.items.flatMap((item) => parseAction(item, diagnostics) ?? [])
}

function parseAction(node: ConfigNode, diagnostics: Diagnostics): ParsedAction | undefined {
  if (node.kind !== 'map') {
    const hint = node.kind === 'scalar' && !isNull(node) ? `write {type: ${node.text}}` : undefined
    diagnostics.error('ERR_NGROK_2236', 'an action must be a mapping with `type`', node.span, hint)
    return undefined
  }
  let type: ScalarNode | undefined
  let config: ConfigNode | undefined
  for (const { key, keySpan, value } of node.entries) {
    if (key === 'type') {
      if (value.kind === 'scalar' && typeof value.value === 'string') type = value
      else diagnostics.error('ERR_NGROK_2201', 'type must be the name of an action', value.span)
    } else if (key === 'config') config = value
    else {
      const hint = nearest(key, ['type', 'config'])
      diagnostics.error(
        'ERR_NGROK_2203',
        `unknown key ${key} in an action`,
        keySpan,
        hint === undefined ? 'fields of an action belong under `config`' : `did you mean ${hint}?`,
      )
    }
  }
  if (type === undefined) {
    if (!node.entries.some((entry) => entry.key === 'type')) {
      diagnostics.error('ERR_NGROK_2201', 'an action needs a `type`', startOf(node.span))
    }
    return undefined
  }
  return { type: type.text, typeSpan: type.span, config, span: node.span }
}

function isNull(node: ConfigNode): boolean {
  return node.kind === 'scalar' && node.value === null
}

/** A whole mapping is too much to underline; its start shows the place. */
function startOf(span: Span): Span {
  return { ...span, end: Math.min(span.end, span.start + 1) }
}
