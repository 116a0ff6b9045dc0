/**
 * `npm test`: sets up what is missing and runs every suite, or the ones named: unit, native, integration, engine, conformance.
 *
 * `engine`: the integration suite once more with `engine: native`, but for the files whose head says `Engine: …`: none (no client
 * connects to a listener), uws or native (whatever the run is about). What an engine cannot do is skipped by its capabilities.
 *
 * What failed is named once more at the end, each with the first line of its reason.
 *
 * A suite whose data or server is not at hand prints `skipped: …` with the reason. With CI=true and the shared data
 * beside the checkout a skip is a failure. The count of our own cases (unit, native, integration) has a floor.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { failUsage, readArguments } from './arguments.mjs'
import { filesOfEngines } from './engine-files.mjs'
import { ensureRules } from './ensure-rules.mjs'
import {
  ensureChromium,
  ensureLibmodsecurity,
  ensureOlderRules,
  ensureOpenssl,
  ensureRedis,
} from './ensure-servers.mjs'
import { runAndWatch } from './run-and-watch.mjs'
import { root, setUp } from './set-up.mjs'

const SUITES = ['unit', 'native', 'integration', 'engine', 'conformance']
const ON_NATIVE = { env: { ...process.env, SALLYPORT_TEST_ENGINE: 'native' } }
/** Our own cases that must have passed when every suite ran. */
const FLOOR = 4_500

const USAGE = `usage: npm test [-- SUITE …]
suites: ${SUITES.join(', ')}`
const { positionals: named } = readArguments(USAGE, {}, { allowPositionals: true })
for (const name of named) if (!SUITES.includes(name)) failUsage(`unknown suite ${name}`, USAGE)
const suites = named.length === 0 ? SUITES : named
const skipsFail = process.env.CI === 'true' && existsSync(join(root, '..', 'shared'))

setUp()
const totals = { passed: 0, failed: 0, skipped: 0 }
const skips = []
const failures = []
let ownPassed = 0
let broken = false

for (const suite of suites) {
  process.stdout.write(`\n── ${suite} ──\n`)
  const result = suite === 'native' ? await native() : await vitest(suite)
  skips.push(...result.skips)
  failures.push(...result.failures.map((failure) => `failed: ${suite}: ${failure}`))
  if (result.status !== 0 && result.failures.length === 0)
    failures.push(`failed: ${suite}: ended with ${result.status}`)
  broken ||= result.status !== 0
  for (const key of Object.keys(totals)) totals[key] += result[key]
  if (suite !== 'conformance') ownPassed += result.own
  process.stdout.write(`${suite}: ${result.passed} passed, ${result.failed} failed, ${result.skipped} skipped\n`)
}

process.stdout.write('\n')
for (const skip of skips) process.stdout.write(`${skip}\n`)
if (skips.length > 0 && skipsFail) {
  process.stdout.write('a skip is a failure here: the shared data is beside the checkout\n')
  broken = true
}
for (const failure of failures) process.stdout.write(`${failure}\n`)
process.stdout.write(`own cases: ${ownPassed} passed\n`)
if (suites.length === SUITES.length && ownPassed < FLOOR) {
  process.stdout.write(`fewer than the floor of ${FLOOR}\n`)
  broken = true
}
if (broken && totals.failed === 0) totals.failed = 1
process.stdout.write(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped\n`)
process.exit(broken || totals.failed > 0 ? 1 : 0)

/** Vitest counts its cases; conformance suites also print how many vectors ran. */
async function vitest(suite) {
  ensureOpenssl()
  ensureRules()
  if (suite !== 'unit') {
    ensureRedis()
    ensureOlderRules()
  }
  if (suite === 'integration' || suite === 'engine') ensureChromium()
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-test-'))
  const report = join(folder, 'report.json')
  const args = [
    join(root, 'node_modules', 'vitest', 'vitest.mjs'),
    'run',
    ...(suite === 'engine' ? filesOfEngines() : []),
    '--project',
    suite === 'engine' ? 'integration' : suite,
    '--reporter=default',
    `--reporter=${join(root, 'scripts', 'second-tries.mjs')}`,
    '--reporter=json',
    `--outputFile.json=${report}`,
  ]
  const { status, lines } = await runAndWatch(process.execPath, args, suite === 'engine' ? ON_NATIVE : {})
  const found = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined
  rmSync(folder, { recursive: true, force: true })
  if (found === undefined) return { status: 1, passed: 0, failed: 1, skipped: 0, own: 0, skips: [], failures: [] }
  const vectors = suite === 'conformance' ? countLines(lines) : { passed: 0, failed: 0, skipped: 0 }
  return {
    status,
    passed: found.numPassedTests + vectors.passed,
    failed: found.numFailedTests + found.numFailedTestSuites * (found.numFailedTests === 0 ? 1 : 0),
    skipped: found.numPendingTests + vectors.skipped,
    own: found.numPassedTests,
    skips: skipLines(lines),
    failures: [...failedTests(found), ...unhandledErrors(lines)],
  }
}

/** The cases of vitest's report that failed, and the files that could not be run at all. */
function failedTests(report) {
  return report.testResults.flatMap((file) => {
    const name = relative(root, file.name)
    const cases = file.assertionResults.filter((test) => test.status === 'failed')
    if (cases.length === 0) return file.status === 'failed' ? [`${name}: ${firstLine(file.message)}`] : []
    return cases.map((test) => `${name} > ${test.fullName}: ${firstLine(test.failureMessages[0])}`)
  })
}

/** Errors outside any test fail vitest's run without a case that fails: the line under each heading of its output names one. */
function unhandledErrors(lines) {
  return lines.flatMap((line, i) => {
    const kind = /⎯ (Uncaught \w+|Unhandled Rejection) ⎯/.exec(line)?.[1]
    return kind === undefined ? [] : [`${kind}: ${lines[i + 1]?.trim() ?? ''}`]
  })
}

function firstLine(text) {
  return (text ?? '').trim().split('\n')[0]
}

async function native() {
  ensureLibmodsecurity()
  const args = ['test', '--release', '--workspace', '--', '--nocapture']
  // a release is optimised as one piece: every program of tests would be, for a quarter of a minute each
  const env = { CARGO_PROFILE_RELEASE_LTO: 'off', CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16', ...process.env }
  const { status, lines } = await runAndWatch('cargo', args, { cwd: join(root, 'native'), env })
  const result = {
    status,
    passed: 0,
    failed: 0,
    skipped: 0,
    own: 0,
    skips: skipLines(lines),
    failures: failedInCargo(lines),
  }
  for (const line of lines) {
    const match = /^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line)
    if (match === null) continue
    result.passed += Number(match[1])
    result.failed += Number(match[2])
    result.skipped += Number(match[3])
  }
  result.own = result.passed
  const vectors = countLines(lines)
  result.passed += vectors.passed
  result.skipped += vectors.skipped
  return result
}

/** Cargo's `test NAME ... FAILED`, the places that panicked, and what kept a test from being built or ended it. */
function failedInCargo(lines) {
  return lines.flatMap((line, i) => {
    if (/^test .* \.\.\. FAILED$/.test(line) || /^error(\[E\d+\])?: /.test(line)) return [line]
    return /^thread '.*' .*panicked at /.test(line) ? [`${line} ${lines[i + 1] ?? ''}`] : []
  })
}

function skipLines(lines) {
  return lines.flatMap((line) => /skipped: .*/.exec(line)?.[0] ?? [])
}

/** Sums the `N passed, N failed, N skipped` lines of suites that read vectors; failures show in the test's own result. */
function countLines(lines) {
  const sum = { passed: 0, failed: 0, skipped: 0 }
  for (const line of lines) {
    const match = /(\d+) passed, (\d+) failed, (\d+) skipped/.exec(line)
    if (match === null) continue
    sum.passed += Number(match[1])
    sum.failed += Number(match[2])
    sum.skipped += Number(match[3])
  }
  return sum
}
