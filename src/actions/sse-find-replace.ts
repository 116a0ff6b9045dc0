/**
 * `sse-find-replace`: replaces what patterns find in a field of each event of an event stream, as it passes. `event` and
 * `id` cannot be changed. An event without the field stays as it is. Publishes `sse_find_replace.replacements[]`.
 * Source: traffic-policy.md §5.21.
 */
import { EVENT_FIELDS, type EventField, type EventMessage } from '../body/event-stream.ts'
import { replaceInText, type FoundMatch } from '../body/replace.ts'
import type { TextSource } from '../config/node.ts'
import { described, optional, policyKit } from '../config/schema-kit.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Template } from '../expression/template.ts'
import { NEXT } from '../phase/outcome.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { Action } from './action.ts'
import {
  compileReplacement,
  rendered,
  type Replacement,
  REPLACEMENT_FIELDS,
  type ReplacementConfig,
  replacementsResult,
  stepOf,
} from './body-replacements.ts'

interface Config {
  readonly replacements: readonly (ReplacementConfig & { readonly field: TextSource | undefined })[]
}

interface Plan {
  readonly replacements: readonly (Replacement & { readonly field: EventField | Template })[]
}

export const sseFindReplace: Action<Config, Plan> = {
  type: 'sse-find-replace',
  phases: ['on_event_stream_message'],
  configRequired: true,
  schema: policyKit.object({
    replacements: described(
      policyKit.list(
        policyKit.object({
          field: described(optional(policyKit.text()), 'Field of the event: `data` or `retry`; default `data`.'),
          ...REPLACEMENT_FIELDS,
        }),
        {
          min: 1,
        },
      ),
      'What is looked for and put in its place, in order.',
    ),
  }),
  compile(config, context) {
    const replacements = config.replacements.flatMap((replacement): Plan['replacements'] => {
      const compiled = compileReplacement(replacement, context)
      const { field: source } = replacement
      const field = source === undefined ? 'data' : context.template(source)
      if (compiled === undefined || field === undefined) return []
      if (source === undefined || field === 'data') return [{ ...compiled, field: 'data' }]
      if (field.constant === undefined) return [{ ...compiled, field }]
      const known = EVENT_FIELDS.find((name) => name === field.constant)
      if (known !== undefined) return [{ ...compiled, field: known }]
      const hint = 'event and id cannot be changed'
      context.diagnostics.error('ERR_NGROK_2222', 'field must be data or retry', source.span, hint)
      return []
    })
    return replacements.length === config.replacements.length ? { replacements } : undefined
  },
  run(plan, exchange) {
    // the phase runs only with an event
    const message = exchange.eventMessage!
    const matches: FoundMatch[] = []
    for (const [index, replacement] of plan.replacements.entries()) {
      const content = replaceIn(message, fieldOf(replacement.field, exchange), replacement, exchange)
      if (content !== undefined) matches.push({ index, content })
    }
    exchange.setResult('sse_find_replace', replacementsResult(matches))
    return NEXT
  },
}

function fieldOf(field: EventField | Template, exchange: Exchange): EventField {
  if (typeof field === 'string') return field
  const name = rendered(field, exchange)
  const known = EVENT_FIELDS.find((candidate) => candidate === name)
  if (known === undefined) throw new GatewayError('BODY_VALUE_FAILED', { cause: `${name} is no field to change` })
  return known
}

/** What was found first; undefined when nothing was. */
function replaceIn(
  message: EventMessage,
  field: EventField,
  replacement: Replacement,
  exchange: Exchange,
): string | undefined {
  const text = message.get(field)
  if (text === undefined) return undefined
  const step = stepOf(replacement, exchange)
  let replaced
  try {
    replaced = replaceInText({ text, isUtf8: message.isUtf8 }, [step])
  } catch (error) {
    throw new GatewayError('BODY_CHANGE_FAILED', { cause: error })
  }
  if (replaced.text === undefined) return undefined
  message.set(field, replaced.text)
  return replaced.matches[0]?.content
}
