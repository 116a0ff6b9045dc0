/**
 * CEL's conformance tests against our evaluator without ngrok's readings.
 *
 * Source: https://github.com/google/cel-spec tests/simple (the corpus' README names the commit); T-66.
 * The folder is `../shared/corpora/cel-conformance` beside the checkout, or SALLYPORT_CEL_DIR.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { functionTable } from '../../../src/expression/functions/functions.ts'
import { NATIVE_ADDON_PATH } from '../../../src/native/addon.ts'
import { environment } from '../../unit/expression/exchange-source.ts'
import { judge } from './corpus.ts'
import type { CorpusCase } from './corpus.ts'

const checkout = fileURLToPath(new URL('../../../', import.meta.url))
const directory = process.env['SALLYPORT_CEL_DIR'] ?? join(checkout, '..', 'shared', 'corpora', 'cel-conformance')
const file = join(directory, 'cases.json')

interface Expectations {
  /** Extensions that we do not offer, with the reason. */
  readonly skipped: Readonly<Record<string, string>>
  /** Cases that may fail, with the reason. */
  readonly failing: Readonly<Record<string, string>>
  /** Fewest cases that must pass. */
  readonly floor: number
}

const expectations = parse(readFileSync(new URL('expectations.yaml', import.meta.url), 'utf8')) as Expectations

if (!existsSync(file)) {
  test.skip(`skipped: ${file} is not there`, () => {})
  process.stdout.write(`cel conformance: skipped: ${file} is not there\n`)
} else {
  test('cel conformance (T-66)', () => {
    const { cases } = JSON.parse(readFileSync(file, 'utf8')) as { cases: CorpusCase[] }
    // RE2 semantics where the native part is built, else JavaScript's engine: the cases agree on both
    const patterns = existsSync(NATIVE_ADDON_PATH) ? undefined : environment.patterns
    const functions = functionTable({ ...environment, overrides: false, patterns })
    const counts = { passed: 0, failed: 0, skipped: 0 }
    const perGroup = new Map<string, { passed: number; all: number }>()
    const unexpected: string[] = []
    for (const one of cases) {
      if (one.requires.some((need) => Object.hasOwn(expectations.skipped, need))) {
        counts.skipped++
        continue
      }
      const group = one.requires.join(' + ')
      const tally = perGroup.get(group) ?? { passed: 0, all: 0 }
      perGroup.set(group, tally)
      tally.all++
      const failure = judge(one, functions)
      const excused = Object.hasOwn(expectations.failing, one.id)
      if (failure === undefined) {
        counts.passed++
        tally.passed++
        if (excused) unexpected.push(`${one.id}: passes, but expectations.yaml says that it fails`)
      } else {
        counts.failed++
        if (!excused) unexpected.push(`${one.id}: ${one.expr.slice(0, 120)}\n    ${failure}`)
      }
    }
    for (const [group, tally] of perGroup) process.stdout.write(`  ${group}: ${tally.passed} of ${tally.all}\n`)
    process.stdout.write(
      `cel conformance: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`,
    )
    expect(unexpected.join('\n')).toBe('')
    // another folder may hold fewer cases
    const floor = process.env['SALLYPORT_CEL_DIR'] === undefined ? expectations.floor : 1
    expect(counts.passed).toBeGreaterThanOrEqual(floor)
  })
}
