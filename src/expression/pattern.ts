/**
 * Regular expressions of policies: RE2 semantics through the native part, compiled once for literals and kept in a
 * bounded cache for patterns that are only known at run time (T-67).
 */
import { compilePattern, patternTest, releasePattern } from '../native/pattern.ts'
import type { PatternHandle } from '../native/pattern.ts'

export interface CompiledPattern {
  /** Whether it matches anywhere in the text. */
  test(text: string): boolean
}

export interface PatternEngine {
  /** Throws an Error with one line of text for a pattern that is not valid. */
  compile(pattern: string): CompiledPattern
}

class NativePattern implements CompiledPattern {
  readonly #handle: PatternHandle

  constructor(handle: PatternHandle) {
    this.#handle = handle
  }

  test(text: string): boolean {
    return patternTest(this.#handle, text)
  }
}

// Compiled patterns live as long as the expressions of a configuration; a reload lets go of them without a call.
const released = new FinalizationRegistry<PatternHandle>((handle) => releasePattern(handle))

/** The engine of the native part. */
export const nativePatterns: PatternEngine = {
  compile(pattern: string): CompiledPattern {
    const handle = compilePattern(pattern)
    const compiled = new NativePattern(handle)
    released.register(compiled, handle)
    return compiled
  },
}

/** Patterns kept in a cache. */
const MAX_CACHED_PATTERNS = 256

/** The same engine with a cache of the patterns used last. */
export function cachedPatterns(engine: PatternEngine): PatternEngine {
  const cache = new Map<string, CompiledPattern>()
  return {
    compile(pattern: string): CompiledPattern {
      const known = cache.get(pattern)
      if (known !== undefined) {
        cache.delete(pattern)
        cache.set(pattern, known)
        return known
      }
      const compiled = engine.compile(pattern)
      cache.set(pattern, compiled)
      if (cache.size > MAX_CACHED_PATTERNS) {
        for (const oldest of cache.keys()) {
          cache.delete(oldest)
          break
        }
      }
      return compiled
    },
  }
}
