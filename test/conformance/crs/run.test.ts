/**
 * The regression tests of the Core Rule Set through the gateway: a real process, raw sockets, the suite's own upstream.
 *
 * Each stage comes from a loopback address of its own, by which its access line is found. A test that does not hold is
 * excused only if the front end refused its request before any rule could run: its access line, if there is one, then
 * has no score; ten tests at most, in any folder. Whatever reached the rules must hold, in any folder. `SALLYPORT_TEST_ENGINE` says what reads the requests:
 * `native`, which is the default where listeners have that setting, or `uws`, which loses two tests that it lets reach the
 * rules (exceptions.ts). Folders: sources.ts. `SALLYPORT_CRS_ONLY`: a regular expression on test names.
 */
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseAnswers } from '../../support/raw-client.ts'
import { type LogLine, pause, type RunningGateway, startGateway } from '../../support/start-gateway.ts'
import { EXCEPTIONS } from './exceptions.ts'
import { type FtwStage, type FtwSuite, readSuite } from './go-ftw.ts'
import { matchLine, problemOf, type StageResult } from './judge.ts'
import { type Reflector, startReflector } from './reflector.ts'
import { findSources } from './sources.ts'

/** How many of the 3,315 tests in the shared folder must pass. */
const FLOORS = { native: 3_313, uws: 3_305 } as const
/** The most that may be excused, in any folder: a front end that refuses more would hide what the rules do. */
const MOST_EXCUSED = 10
/** Stages in flight. The library leaves some malformed requests without an answer for ten seconds. */
const LANES = 64
/** The same for tests whose log lines are wanted: the gateway drops lines rather than wait for a slow reader. */
const CAREFUL_LANES = 4
const ANSWER_TIMEOUT_MS = 12_000

const sources = findSources()
const only = process.env['SALLYPORT_CRS_ONLY']
const schema = readFileSync(new URL('../../../config/gateway.schema.json', import.meta.url), 'utf8')
const hasEngines = /"engine": \{/.test(schema)
const engine = hasEngines && process.env['SALLYPORT_TEST_ENGINE'] !== 'uws' ? 'native' : 'uws'
const exceptions: ReadonlyMap<string, string> = engine === 'uws' ? EXCEPTIONS : new Map()

/** A stage on its way: where it came from is its name. */
interface Run {
  readonly address: string
  readonly stage: FtwStage
  readonly wire: WireResult
}

interface WireResult {
  readonly status: number | undefined
  readonly received: string
  readonly failure: string | undefined
}

interface TestResult {
  readonly name: string
  readonly ruleId: string
  readonly outcome: 'passed' | 'failed' | 'skipped'
  readonly problem: string
  /** What the suite wants holds although no rule saw a request of it: a refusal is what it asks for, or is all right. */
  readonly passedUnseen: boolean
}

let suite: FtwSuite = { tests: [], unreadable: [] }
let results: TestResult[] = []
let reflector: Reflector | undefined
let gateway: RunningGateway | undefined

beforeAll(async () => {
  if (typeof sources === 'string') return
  suite = readSuite(sources.tests)
  if (only !== undefined) {
    suite = { ...suite, tests: suite.tests.filter(({ name }) => new RegExp(only).test(name)) }
  }
  reflector = await startReflector()
  const upstreamPort = reflector.port
  gateway = await startGateway({
    files: { 'suite-setup.conf': readFileSync(new URL('suite-setup.conf', import.meta.url), 'utf8') },
    config: ({
      port,
    }) => `listeners: [{ address: "127.0.0.1:${port}", default_endpoint: crs${hasEngines ? `, engine: ${engine}` : ''} }]
waf:
  rules: ${sources.rules}
  paranoia_level: 4
  request_body: 12800 KiB
  response_body: 1 MiB
  include_before: [suite-setup.conf]
endpoints:
  - name: crs
    url: http://localhost:${port}
    upstream: { url: http://127.0.0.1:${upstreamPort} }
    traffic_policy:
      on_http_request:
        - actions: [{ type: owasp-crs-request, config: { on_error: continue, process_body: true } }]
      on_http_response:
        - actions: [{ type: owasp-crs-response, config: { on_error: continue, process_body: true } }]
`,
  })
  results = await runSuite(gateway)
}, 400_000)

afterAll(async () => {
  await gateway?.stop()
  await reflector?.close()
  if (typeof sources !== 'string') sources.cleanUp()
})

test('the regression tests of the Core Rule Set pass through the gateway', ({ skip }) => {
  if (typeof sources === 'string') {
    process.stdout.write(`skipped: CRS regression over sockets: ${sources}\n`)
    skip()
    return
  }
  const of = (outcome: TestResult['outcome']): TestResult[] => results.filter((result) => result.outcome === outcome)
  const [passed, failed, skipped] = [of('passed'), of('failed'), of('skipped')]
  process.stdout.write(report(failed, skipped))
  const unseen = passed.filter(({ passedUnseen }) => passedUnseen).map(({ name }) => name)
  const unneeded = passed.filter(({ name }) => exceptions.has(name)).map(({ name }) => name)
  if (unneeded.length > 0) process.stdout.write(`passes and stands in exceptions.ts: ${unneeded.join(', ')}\n`)
  process.stdout.write(`passed without a transaction: ${unseen.length} (${unseen.join(', ')})\n`)
  process.stdout.write(
    `CRS regression over sockets (${engine}): ${passed.length} passed, ${failed.length} failed, ${skipped.length} skipped\n`,
  )
  expect(suite.unreadable).toEqual([])
  expect(results.length).toBe(suite.tests.length)
  expect(results.length).toBeGreaterThan(0)
  expect(gateway?.process.exitCode).toBeNull()
  // what fails must stand in exceptions.ts, in any folder; of what the gateway reads by itself nothing stands there
  expect(failed.filter(({ name }) => !exceptions.has(name)).map(({ name, problem }) => `${name}: ${problem}`)).toEqual(
    [],
  )
  expect(skipped.length).toBeLessThanOrEqual(MOST_EXCUSED)
  if (sources.isWhole && only === undefined) expect(passed.length).toBeGreaterThanOrEqual(FLOORS[engine])
})

/** Failures by what is wrong, then by rule; excused tests with what they were answered. */
function report(failed: readonly TestResult[], skipped: readonly TestResult[]): string {
  const causes = groupBy(failed, ({ problem }) => problem.replace(/ .*/, ''))
  let text = ''
  for (const [cause, members] of causes) {
    text += `failed, ${cause}: ${members.length}\n`
    for (const [ruleId, ofRule] of groupBy(members, (member) => member.ruleId)) {
      const list = ofRule.map(({ name, problem }) => `${name.slice(ruleId.length + 1)} (${problem})`)
      text += `  ${ruleId}: ${list.join(', ')}\n`
    }
  }
  for (const { name, problem } of skipped) text += `excused: ${name}: ${problem}\n`
  return text
}

// ── running ──

async function runSuite(gateway: RunningGateway): Promise<TestResult[]> {
  const runs: Run[][] = suite.tests.map(() => [])
  let lastAddress = 0
  const nextAddress = (): string => {
    lastAddress += 1
    return `127.${100 + (lastAddress >> 16)}.${(lastAddress >> 8) & 255}.${lastAddress & 255}`
  }
  const runTest = async (place: number): Promise<void> => {
    const made: Run[] = []
    // stages in order, each on a new connection
    for (const stage of suite.tests[place]!.stages) {
      const address = nextAddress()
      made.push({ address, stage, wire: await send(gateway.port, address, stage) })
    }
    runs[place] = made
  }
  const runAll = async (places: readonly number[], lanes: number): Promise<void> => {
    let next = 0
    const lane = async (): Promise<void> => {
      while (next < places.length) await runTest(places[next++]!)
    }
    await Promise.all(Array.from({ length: lanes }, lane))
    await allLogged(gateway, runs.flat())
  }
  await runAll(
    suite.tests.map((_, place) => place),
    LANES,
  )
  // once more: what the suite allows it for, and what cannot be judged because log lines were lost
  const log = readLog(gateway)
  const again = suite.tests.flatMap((test, place) => {
    const made = runs[place]!
    const mayRepeat =
      test.stages.some((stage) => stage.expect.retryOnce) &&
      judgeTest(test.name, test.ruleId, made, log).outcome === 'failed'
    return mayRepeat || made.some((run) => needsLines(run.stage) && linesLost(run, log)) ? [place] : []
  })
  if (again.length > 0) await runAll(again, CAREFUL_LANES)
  const finalLog = readLog(gateway)
  for (const run of runs.flat()) {
    if (needsLines(run.stage) && linesLost(run, finalLog)) throw new Error('the gateway lost lines of its log')
  }
  return suite.tests.map(({ name, ruleId }, place) => judgeTest(name, ruleId, runs[place]!, finalLog))
}

function needsLines(stage: FtwStage): boolean {
  return stage.expect.matches.length > 0 || stage.expect.forbiddenMatches.length > 0
}

/** The access line names rules of which there is no event. */
function linesLost({ address }: Run, log: Log): boolean {
  const access = log.access.get(address)
  const logged = new Set((log.matches.get(access?.['request_id']) ?? []).map((event) => event['rule_id']))
  return ((access?.['waf_rules'] as number[] | undefined) ?? []).some((id) => !logged.has(id))
}

/** One request on one connection, read until it closes, its answer is whole, or the time is over. */
function send(port: number, localAddress: string, stage: FtwStage): Promise<WireResult> {
  return new Promise((resolve) => {
    let received = ''
    const socket = connect({ port, host: '127.0.0.1', localAddress })
    const end = (failure: string): void => {
      clearTimeout(timer)
      socket.destroy()
      const [answer] = parseAnswers(received, failure === 'closed', [stage.method])
      resolve({ status: answer?.status, received, failure: answer === undefined ? failure : undefined })
    }
    const timer = setTimeout(() => end('timeout'), ANSWER_TIMEOUT_MS)
    socket.on('connect', () => socket.write(stage.request))
    socket.on('data', (chunk: Buffer) => {
      received += chunk.toString('latin1')
      if (parseAnswers(received, false, [stage.method])[0]?.isComplete === true) end('closed')
    })
    socket.on('error', () => undefined)
    socket.on('close', () => end('closed'))
  })
}

/** Waits until every exchange that was answered by the gateway itself (it says so by an id) has its access line. */
async function allLogged(gateway: RunningGateway, runs: readonly Run[]): Promise<void> {
  const answered = runs.filter(({ wire }) => /\r\nx-request-id: /i.test(wire.received)).map(({ address }) => address)
  for (const until = performance.now() + 20_000; performance.now() < until; await pause(200)) {
    const seen = new Set(gateway.access().map((line) => line['peer_ip']))
    if (answered.every((address) => seen.has(address))) {
      // the events of a match are written before the access line, by the same process, to another pipe
      await pause(200)
      return
    }
  }
  throw new Error('the access log does not have every exchange that was answered')
}

// ── judging ──

interface Log {
  /** Access lines by peer address. */
  readonly access: ReadonlyMap<unknown, LogLine>
  /** `waf match` events by request id. */
  readonly matches: ReadonlyMap<unknown, readonly LogLine[]>
}

function readLog(gateway: RunningGateway): Log {
  const access = new Map<unknown, LogLine>()
  // what comes behind a request on its connection has a line of its own
  for (const line of gateway.access())
    if (!access.has(line['peer_ip'])) access.set(line['peer_ip'], { level: '', ...line })
  const events = gateway.log().filter(({ msg }) => msg === 'waf match')
  return { access, matches: groupBy(events, (event) => event['request_id']) }
}

function judgeTest(name: string, ruleId: string, runs: readonly Run[], log: Log): TestResult {
  let passedUnseen = false
  for (const [place, run] of runs.entries()) {
    const result = resultOf(run, log)
    passedUnseen ||= !result.hasTransaction
    const problem = problemOf(run.stage.expect, result)
    if (problem === undefined) continue
    const at = runs.length === 1 ? '' : ` in stage ${place + 1}`
    if (result.hasTransaction) {
      const logged = [...new Set(result.ids)].join(' ')
      const text = `${problem}${at}; logged ${logged === '' ? 'none' : logged}`
      return { name, ruleId, outcome: 'failed', problem: text, passedUnseen: false }
    }
    const answered = result.status === undefined ? `no answer (${result.failure ?? ''})` : `status ${result.status}`
    const reason = result.reason === undefined ? 'by the library, no access line' : result.reason
    const text = `${answered}, ${reason}${at}; ${problem}`
    return { name, ruleId, outcome: 'skipped', problem: text, passedUnseen: false }
  }
  return { name, ruleId, outcome: 'passed', problem: '', passedUnseen }
}

function resultOf({ address, wire }: Run, log: Log): StageResult {
  const access = log.access.get(address)
  const matches = log.matches.get(access?.['request_id']) ?? []
  const logged = [...((access?.['waf_rules'] as number[] | undefined) ?? []), ...matches.map((it) => it['rule_id'])]
  return {
    ...wire,
    hasTransaction: access?.['waf_score'] !== undefined || logged.length > 0,
    reason: access?.['reason'] as string | undefined,
    ids: logged.map(Number),
    lines: matches.map((event) => matchLine(event)),
  }
}

function groupBy<T, K>(items: readonly T[], keyOf: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return groups
}
