/**
 * Regular expressions of policies: RE2 semantics by the native part, literal ones compiled at load, interpolated ones
 * kept in a bounded cache. JavaScript's RegExp never sees a pattern from a user.
 *
 * Source: spec/README "regular expressions in policies"; traffic-policy.md §5.17.
 */
import {
  compilePattern,
  type PatternHandle,
  patternFindAll,
  patternReplace,
  PatternError,
  releasePattern,
} from '../native/pattern.ts'

/** Interpolated patterns kept compiled per process; the least recently used goes first. */
const MAX_DYNAMIC_PATTERNS = 256
/** Matches listed in an action's result. */
const MAX_LISTED_MATCHES = 32

const dynamic = new Map<string, PatternHandle>()

/** Throws PatternError with the reason. The handle lives as long as the process: literal patterns come from configuration. */
export function literalPattern(text: string): PatternHandle {
  return compilePattern(text)
}

/** For a pattern known only at run time. Throws PatternError. */
export function dynamicPattern(text: string): PatternHandle {
  const known = dynamic.get(text)
  if (known !== undefined) {
    dynamic.delete(text)
    dynamic.set(text, known)
    return known
  }
  const handle = compilePattern(text)
  dynamic.set(text, handle)
  if (dynamic.size > MAX_DYNAMIC_PATTERNS) {
    // the map is not empty, so there is a first entry
    const [oldest, oldestHandle] = dynamic.entries().next().value!
    dynamic.delete(oldest)
    releasePattern(oldestHandle)
  }
  return handle
}

/** Every match replaced, and the matches; null when nothing matched. */
export function replaceAll(
  pattern: PatternHandle,
  text: string,
  replacement: string,
): { readonly text: string; readonly matches: readonly string[] } | null {
  const replaced = patternReplace(pattern, text, replacement)
  return replaced === null ? null : { text: replaced, matches: patternFindAll(pattern, text, MAX_LISTED_MATCHES) }
}

export { PatternError }
