/**
 * The corpus of HTTP/1.1 strictness against our front end: what our handler decides, and what the library decides
 * before or behind it.
 *
 * SALLYPORT_HTTP1_DIR names the folder with `requests.json`; without it the one beside the checkout is used.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openRaw } from '../../support/raw-client.ts'
import { startEchoUpstream } from '../../support/echo-upstream.ts'
import { PlainEvents, startWireGateway, target } from '../../support/wire-gateway.ts'
import { LIBRARY_DECISIONS } from './library-decisions.ts'
import { caseText, type Cutting, type Http1Case, judgeCase, type Verdict } from './judge.ts'

const here = dirname(fileURLToPath(import.meta.url))
const folder = process.env.SALLYPORT_HTTP1_DIR ?? join(here, '../../../../shared/corpora/http1-strictness')
const file = join(folder, 'requests.json')
const isPresent = existsSync(file)
/** Cases run side by side; the library leaves some of them unanswered for ten seconds. */
const LANES = 48

let verdicts: Verdict[] = []
let leftOut = 0
let skippedReason = ''

beforeAll(async () => {
  if (!isPresent) {
    skippedReason = `skipped: no corpus at ${file}`
    return
  }
  const corpus = JSON.parse(readFileSync(file, 'utf8')) as { cases: Http1Case[] }
  const only = process.env.SALLYPORT_HTTP1_ONLY
  const cases = corpus.cases.filter(
    (http1) =>
      http1.needs === undefined && http1.timed !== true && (only === undefined || new RegExp(only).test(http1.id)),
  )
  leftOut = corpus.cases.length - cases.length
  verdicts = await runAll(cases)
}, 300_000)

async function runAll(cases: readonly Http1Case[], cutting: Cutting = 'whole'): Promise<Verdict[]> {
  const results: Verdict[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    const upstream = await startEchoUpstream()
    const gateway = await startWireGateway(new PlainEvents(), target(upstream.port))
    const { events } = gateway
    const view = {
      handlerCalls: () => events.heads.length + events.refused.length,
      heads: () => events.heads,
    }
    while (next < cases.length) {
      const http1 = cases[next++]!
      upstream.reset()
      const verdict = await judgeCase(http1, gateway.port, upstream, view, cutting)
      const isAlive = await answersFreshRequest(gateway.port)
      results.push(
        isAlive ? verdict : { ...verdict, isRight: false, problem: 'no answer to a fresh request afterwards' },
      )
    }
    await gateway.close()
    await upstream.close()
  }
  await Promise.all(Array.from({ length: LANES }, lane))
  return results
}

async function answersFreshRequest(port: number): Promise<boolean> {
  const connection = await openRaw(port)
  connection.send('GET /fresh HTTP/1.1\r\nHost: gw.test\r\n\r\n')
  const [answer] = await connection.answers(1, 3_000)
  connection.destroy()
  return answer?.status === 200
}

const pinned = new Set(LIBRARY_DECISIONS.flatMap((decision) => decision.ids))
const isWhole = process.env.SALLYPORT_HTTP1_ONLY === undefined

afterAll(() => {
  if (skippedReason !== '') {
    console.log(`${skippedReason}\n0 passed, 0 failed, 1 skipped`)
    return
  }
  const handled = verdicts.filter((verdict) => verdict.handlerDecided && !pinned.has(verdict.id))
  const behind = verdicts.filter((verdict) => pinned.has(verdict.id))
  const before = verdicts.filter((verdict) => !verdict.handlerDecided && !pinned.has(verdict.id))
  const right = (list: readonly Verdict[]): number => list.filter((verdict) => verdict.isRight).length
  console.log(
    [
      `http1-strictness: ${verdicts.length} cases, ${right(verdicts)} as a strict server`,
      `  decided by our handler: ${right(handled)} of ${handled.length} right`,
      `  decided by the library, our handler not asked or overruled: ${right(before)} of ${before.length} right`,
      `  decided by the library behind our handler (pinned, library-decisions.ts): ${right(behind)} of ${behind.length} right`,
      `${right(handled)} passed, ${handled.length - right(handled)} failed, ${leftOut + before.length + behind.length} skipped`,
    ].join('\n'),
  )
  const report = process.env.SALLYPORT_HTTP1_REPORT
  if (report !== undefined) writeFileSync(report, JSON.stringify(verdicts, null, 1))
})

test.skipIf(!isPresent)('everything that our handler decides is decided right', () => {
  if (isWhole) expect(verdicts.length).toBeGreaterThanOrEqual(900)
  const handled = verdicts.filter((verdict) => verdict.handlerDecided && !pinned.has(verdict.id))
  if (isWhole) expect(handled.length).toBeGreaterThanOrEqual(280)
  expect(handled.filter((verdict) => !verdict.isRight)).toEqual([])
})

test.skipIf(!isPresent)('the library decides what it decided when its decisions were pinned', () => {
  expect(verdicts.filter((verdict) => pinned.has(verdict.id) && verdict.isRight).map((verdict) => verdict.id)).toEqual(
    [],
  )
  if (!isWhole) return
  // What the library answers by itself, right or wrong, cannot hurt an upstream: nothing of it gets there.
  const before = verdicts.filter((verdict) => !verdict.handlerDecided && !pinned.has(verdict.id))
  expect(before.filter((verdict) => verdict.problem.includes('upstream'))).toEqual([])
})

test.skipIf(!isPresent || !isWhole)(
  'a sample, byte by byte, is decided alike (H-125)',
  async () => {
    const corpus = JSON.parse(readFileSync(file, 'utf8')) as { cases: Http1Case[] }
    const byId = new Map(verdicts.map((verdict) => [verdict.id, verdict]))
    const sample = corpus.cases
      .filter(
        (http1) => byId.get(http1.id)?.handlerDecided === true && !pinned.has(http1.id) && caseText(http1).length < 600,
      )
      .filter((_, index) => index % 4 === 0)
    const cut = await runAll(sample, 'bytes')
    expect(cut.length).toBeGreaterThanOrEqual(60)
    expect(cut.filter((verdict) => !verdict.isRight)).toEqual([])
  },
  300_000,
)
