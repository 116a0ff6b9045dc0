/** `sallyport test`: policy tests from YAML files. Source: operations.md O-06. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ConfigError, Diagnostics } from '../config/diagnostic.ts'
import { DiskReader } from '../config/load.ts'
import { judge } from '../offline/judge.ts'
import { readPolicyTests, type PolicyTest } from '../offline/policy-tests.ts'
import { Replay } from '../offline/replay.ts'
import { UsageError } from './arguments.ts'
import { orReport } from './replay-errors.ts'
import { EXIT, type Verb } from './verb.ts'

const TEST_FILE = /\.test\.ya?ml$/

export const testVerb: Verb = {
  name: 'test',
  aliases: [],
  summary: 'Run policy tests: send the requests of *.test.yaml files through their configurations, and compare.',
  operands: { usage: 'DIR|FILE …', min: 1, max: 1000 },
  flags: {
    verbose: { type: 'switch', short: 'v', meaning: 'Name the tests that passed, too.', only: 'command-line' },
  },
  notes: [
    'The format is described in docs/testing.md. Nothing is served and no upstream is asked.',
    'Exits 0 when every test passed, 1 when one failed or a file is wrong.',
  ],
  run: (given, { out, err }) =>
    orReport(err, async () => {
      let passed = 0
      let failed = 0
      for (const path of given.operands.flatMap((operand) => testFiles(operand))) {
        const diagnostics = new Diagnostics()
        const file = readPolicyTests(path, new DiskReader(), diagnostics)
        if (file === undefined) throw new ConfigError(diagnostics.all)
        const replay = await Replay.open(file.configuration)
        try {
          for (const test of file.tests) {
            const problems = await play(replay, test)
            if (problems.length === 0) passed += 1
            else failed += 1
            if (problems.length > 0)
              out(`FAILED ${path}: ${test.name}\n${problems.map((line) => `  ${line}\n`).join('')}`)
            else if (given.switch('verbose') === true) out(`passed ${path}: ${test.name}\n`)
          }
        } finally {
          await replay.close()
        }
      }
      out(`${passed} passed, ${failed} failed\n`)
      return failed === 0 ? EXIT.ok : EXIT.failure
    }),
}

async function play(replay: Replay, test: PolicyTest): Promise<readonly string[]> {
  const came = await replay.run(
    Array.from({ length: test.repeat }, () => test.request),
    test.upstream,
  )
  // `repeat` is at least 1
  return judge(test.expect, came.at(-1)!).map(
    ({ what, expected, actual }) => `${what}: expected ${expected}, was ${actual}`,
  )
}

/** A file itself, or the test files of a folder and those below it, sorted. */
function testFiles(path: string): readonly string[] {
  let isFolder: boolean
  try {
    isFolder = statSync(path).isDirectory()
  } catch (error) {
    throw new UsageError(`${path}: ${(error as Error).message}`)
  }
  if (!isFolder) return [path]
  const found = readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((name) => TEST_FILE.test(name))
    .sort()
    .map((name) => join(path, name))
  if (found.length === 0) throw new UsageError(`${path} has no *.test.yaml`)
  return found
}
