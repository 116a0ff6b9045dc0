/**
 * What the three find-replace actions share: `replacements`, compiled and computed, and the body actions' work.
 *
 * A value that cannot be computed fails the request (3900), as does a computed pattern that is none (3901): the usual
 * replacement hides something. Source: traffic-policy.md §5.19 – §5.21, §4.
 */
import { decodeBody, isPlain } from '../body/decoded-body.ts'
import type { FoundMatch, ReplaceStep } from '../body/replace.ts'
import { replaceInBytes } from '../body/replace.ts'
import type { TextSource } from '../config/node.ts'
import { described, type Field, optional, policyKit, type Schema } from '../config/schema-kit.ts'
import type { CollectedBody, Exchange } from '../exchange/exchange.ts'
import type { MessageHead } from '../exchange/message-head.ts'
import type { JsonValue } from '../expression/source.ts'
import type { Template } from '../expression/template.ts'
import type { PatternHandle } from '../native/pattern.ts'
import { dynamicPattern, literalPattern, PatternError } from '../policy/pattern.ts'
import { GatewayError } from '../response/gateway-error.ts'
import type { CompileContext } from './action.ts'

export interface ReplacementConfig {
  readonly from: TextSource
  readonly to: TextSource | undefined
}

export interface Replacement {
  readonly from: Template
  /** Compiled once when `from` is constant. */
  readonly pattern: PatternHandle | undefined
  /** Undefined: what is found is taken out. */
  readonly to: Template | undefined
}

export interface ReplacementsConfig {
  readonly replacements: readonly ReplacementConfig[]
}

export interface ReplacementsPlan {
  readonly replacements: readonly Replacement[]
}

export const REPLACEMENT_FIELDS: { readonly from: Schema<TextSource>; readonly to: Field<TextSource | undefined> } = {
  from: described(policyKit.text(), 'Regular expression (RE2).'),
  to: described(
    optional(policyKit.text()),
    'What is put in its place; `$1` stands for a group. Without it the match goes.',
  ),
}

export const REPLACEMENTS_SCHEMA: Schema<ReplacementsConfig> = policyKit.object({
  replacements: described(
    policyKit.list(policyKit.object(REPLACEMENT_FIELDS), { min: 1 }),
    'What is looked for and put in its place, in order.',
  ),
})

/** Undefined after errors. */
export function compileReplacement(config: ReplacementConfig, context: CompileContext): Replacement | undefined {
  const { diagnostics } = context
  const from = context.template(config.from)
  const to = config.to === undefined ? undefined : context.template(config.to)
  if (from === undefined || (config.to !== undefined && to === undefined)) return undefined
  if (from.constant === undefined) return { from, pattern: undefined, to }
  if (from.constant === '') {
    const hint = 'an empty pattern would match between any two characters'
    diagnostics.error('ERR_NGROK_2223', 'from must not be empty', config.from.span, hint)
    return undefined
  }
  try {
    return { from, pattern: literalPattern(from.constant), to }
  } catch (error) {
    if (!(error instanceof PatternError)) throw error
    diagnostics.error('ERR_NGROK_2261', error.message, config.from.span, 'patterns are RE2')
    return undefined
  }
}

export function compileReplacements(
  configs: readonly ReplacementConfig[],
  context: CompileContext,
): ReplacementsPlan | undefined {
  const replacements = configs.flatMap((config) => compileReplacement(config, context) ?? [])
  return replacements.length === configs.length ? { replacements } : undefined
}

/** What to look for and to write now. Throws BODY_VALUE_FAILED (3900) or BODY_PATTERN_INVALID (3901). */
export function stepOf({ from, pattern, to }: Replacement, exchange: Exchange): ReplaceStep {
  const written = to === undefined ? '' : rendered(to, exchange)
  if (pattern !== undefined) return { pattern, to: written }
  const text = rendered(from, exchange)
  try {
    dynamicPattern(text)
  } catch (error) {
    throw new GatewayError('BODY_PATTERN_INVALID', { cause: error })
  }
  return { pattern: text, to: written }
}

export function rendered(template: Template, exchange: Exchange): string {
  try {
    return template.render(exchange)
  } catch (error) {
    throw new GatewayError('BODY_VALUE_FAILED', { cause: error })
  }
}

/** `actions.ngrok.<action>`: the replacements that found something, and what first. */
export function replacementsResult(matches: readonly FoundMatch[]): JsonValue {
  return {
    replacements: matches.map(({ index, content }) => ({ replacement_index: index, matched_content: content })),
  }
}

/** A body as text can be looked for in it, or why there is none. */
export type ReadableBody = Uint8Array | 'too large' | 'unreadable'

/** Takes the content coding off. `limitBytes` holds for both forms. */
export function readable(
  body: CollectedBody,
  coding: string | undefined,
  limitBytes: number,
): ReadableBody | Promise<ReadableBody> {
  if (!body.complete || body.bytes.length > limitBytes) return 'too large'
  if (coding === undefined || isPlain(coding)) return body.bytes
  return decodeBody(coding, body, limitBytes).then((decoded) => {
    if (decoded.kind !== 'decoded') return 'unreadable'
    return decoded.complete ? decoded.bytes : 'too large'
  })
}

/** Bodies above it are worked on in a thread. */
const IN_THREAD_BYTES = 64 * 1024

interface Replaced {
  /** Undefined: nothing was found. */
  readonly bytes: Uint8Array | undefined
  readonly matches: readonly FoundMatch[]
}

/** All replacements on a whole body; large ones in a thread. Throws, or rejects with, a GatewayError. */
export function replaceInBody(
  plan: ReplacementsPlan,
  exchange: Exchange,
  bytes: Uint8Array,
): Replaced | Promise<Replaced> {
  const steps = plan.replacements.map((replacement) => stepOf(replacement, exchange))
  if (bytes.length > IN_THREAD_BYTES) {
    const answer = exchange.services.threads.replace({ bytes, steps })
    if (answer !== undefined) {
      return answer.catch((error: unknown) => {
        throw new GatewayError('BODY_CHANGE_FAILED', { cause: error })
      })
    }
  }
  try {
    return replaceInBytes(bytes, steps)
  } catch (error) {
    throw new GatewayError('BODY_CHANGE_FAILED', { cause: error })
  }
}

/** Fields about bytes that are no longer the ones of the body. */
const BYTE_FIELDS = [
  'content-md5',
  'digest',
  'content-digest',
  'repr-digest',
  'accept-ranges',
  'content-length',
] as const

/** The head of a message whose body was changed: no checksums, no ranges, and an ETag that promises no equal bytes. */
export function describeChange(head: MessageHead): void {
  for (const name of BYTE_FIELDS) head.remove(name)
  const tag = head.first('etag')
  if (tag?.startsWith('"') === true) head.set('etag', `W/${tag}`)
}
