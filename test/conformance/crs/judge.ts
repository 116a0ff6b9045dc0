/** What one stage did, and whether that is what the suite expects. */
import { compilePattern, type PatternHandle, patternTest } from '../../../src/native/pattern.ts'
import type { LogLine } from '../../support/start-gateway.ts'
import type { FtwExpectation } from './go-ftw.ts'

/** One stage as it went. */
export interface StageResult {
  /** Of the answer; undefined when none came. */
  readonly status: number | undefined
  /** Raw, latin1. */
  readonly received: string
  /** Why no answer came: `closed` or `timeout`. */
  readonly failure: string | undefined
  /** The rules looked at the request. */
  readonly hasTransaction: boolean
  /** Why the gateway did not let it come so far, as its log says it. */
  readonly reason: string | undefined
  /** Rules that were logged. */
  readonly ids: readonly number[]
  /** One line per logged match, see `matchLine`. */
  readonly lines: readonly string[]
}

/**
 * A log event as a line in ModSecurity's order of fields (seclang.md §13), which the suite's regular expressions read.
 */
export function matchLine(event: LogLine): string {
  const field = (name: string, value: unknown): string =>
    value === undefined || value === '' ? '' : ` [${name} "${String(value)}"]`
  return `ModSecurity: Warning.${field('id', event['rule_id'])}${field('msg', event['message'])}${field('data', event['data'])}${field('severity', event['severity'])}`
}

/** In one clause what does not hold; undefined when everything does. Order of checks: crs/README.md §1.3. */
export function problemOf(expect: FtwExpectation, result: StageResult): string | undefined {
  if (expect.error) return result.status === undefined ? undefined : `an answer ${result.status} came`
  if (result.status === undefined) return `no answer: ${result.failure ?? 'unknown'}`
  if (expect.status !== undefined && result.status !== expect.status) {
    return `status ${result.status} instead of ${expect.status}`
  }
  if (expect.responseMatches !== undefined && !found(expect.responseMatches, [result.received])) {
    return `the response does not match ${expect.responseMatches}`
  }
  const missing = expect.expectIds.filter((id) => !result.ids.includes(id))
  if (missing.length > 0) return `missing ${missing.join(' ')}`
  const surplus = expect.forbiddenIds.filter((id) => result.ids.includes(id))
  if (surplus.length > 0) return `logged ${surplus.join(' ')}`
  for (const pattern of expect.matches) if (!found(pattern, result.lines)) return `no line matches ${pattern}`
  for (const pattern of expect.forbiddenMatches) if (found(pattern, result.lines)) return `a line matches ${pattern}`
  if (expect.isolated && new Set(result.ids).size !== 1) return `${new Set(result.ids).size} rules instead of one`
  return undefined
}

const patterns = new Map<string, PatternHandle>()

/** Go's regular expressions: the policy engine's have the same syntax. */
function found(pattern: string, lines: readonly string[]): boolean {
  let handle = patterns.get(pattern)
  if (handle === undefined) {
    handle = compilePattern(pattern)
    patterns.set(pattern, handle)
  }
  const compiled = handle
  return lines.some((line) => patternTest(compiled, line))
}
