/** Policy regular expressions (RE2 semantics, linear time). */
import { NativeAddonError, addon } from './addon.ts'

/** A compiled policy regular expression. */
export type PatternHandle = number

/** A regular expression that does not compile; `message` says why, in one line. */
export class PatternError extends Error {
  override readonly name = 'PatternError'
}

/**
 * Compiles a policy regular expression (traffic-policy.md §3: RE2, no look-around, no back-references).
 * Throws PatternError.
 */
export function compilePattern(pattern: string): PatternHandle {
  try {
    return addon().compilePattern(pattern)
  } catch (error) {
    if (error instanceof NativeAddonError) throw error
    throw new PatternError((error as Error).message, { cause: error })
  }
}

/** Whether the pattern matches anywhere in `text`. */
export function patternTest(pattern: PatternHandle, text: string): boolean {
  return addon().patternTest(pattern, text)
}

/**
 * Replaces every match by `replacement` in Go's syntax (`$1`, `$name`, `${name}`, `$$`; `$1x` is the group named `1x`).
 * Returns null when nothing matched. Throws when the result would pass 16 MiB.
 */
export function patternReplace(pattern: PatternHandle, text: string, replacement: string): string | null {
  return addon().patternReplace(pattern, text, replacement)
}

/** The first `limit` matches, leftmost first, as text. */
export function patternFindAll(pattern: PatternHandle, text: string, limit: number): string[] {
  return addon().patternFindAll(pattern, text, limit)
}

/** Lets go of a compiled pattern. */
export function releasePattern(pattern: PatternHandle): void {
  addon().releasePattern(pattern)
}
