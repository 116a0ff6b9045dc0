/**
 * Find and replace in bodies: patterns one after the other, each on what the one before left.
 *
 * Source: traffic-policy.md §5.19, §5.20, §5.21.
 */
import { type PatternHandle, patternFindAll, patternReplace } from '../native/pattern.ts'
import { dynamicPattern } from '../policy/pattern.ts'
import { type BodyText, bodyBytes, bodyText, insertable } from './body-text.ts'

/** A pattern from the configuration is a handle; one that was computed is its text. */
export interface ReplaceStep {
  readonly pattern: PatternHandle | string
  readonly to: string
}

/** Which steps found something, and what first. */
export interface FoundMatch {
  readonly index: number
  readonly content: string
}

/** What a result shows of a match. */
const MAX_SHOWN = 4096

/** `text` is undefined when no step found anything. Throws PatternError, or an Error when the text grows beyond 16 MiB. */
export function replaceInText(
  body: BodyText,
  steps: readonly ReplaceStep[],
): { readonly text: string | undefined; readonly matches: readonly FoundMatch[] } {
  const matches: FoundMatch[] = []
  let { text } = body
  for (const [index, { pattern, to }] of steps.entries()) {
    const handle = typeof pattern === 'string' ? dynamicPattern(pattern) : pattern
    const replaced = patternReplace(handle, text, insertable(to, body.isUtf8))
    if (replaced === null) continue
    const [content = ''] = patternFindAll(handle, text, 1)
    matches.push({ index, content: content.slice(0, MAX_SHOWN) })
    text = replaced
  }
  return { text: matches.length === 0 ? undefined : text, matches }
}

/** The same for bytes. */
export function replaceInBytes(
  bytes: Uint8Array,
  steps: readonly ReplaceStep[],
): { readonly bytes: Uint8Array | undefined; readonly matches: readonly FoundMatch[] } {
  const body = bodyText(bytes)
  const { text, matches } = replaceInText(body, steps)
  return { bytes: text === undefined ? undefined : bodyBytes({ text, isUtf8: body.isUtf8 }), matches }
}
