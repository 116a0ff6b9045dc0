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
import { type Http1Case, judgeCase, type Verdict } from './judge.ts'

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

async function runAll(cases: readonly Http1Case[]): Promise<Verdict[]> {
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
      const verdict = await judgeCase(http1, gateway.port, upstream, view)
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

afterAll(() => {
  if (skippedReason !== '') {
    console.log(`${skippedReason}\n0 passed, 0 failed, 1 skipped`)
    return
  }
  const handled = verdicts.filter((verdict) => verdict.handlerDecided)
  const own = verdicts.filter((verdict) => !verdict.handlerDecided)
  const right = verdicts.filter((verdict) => verdict.isRight).length
  console.log(
    [
      `http1-strictness: ${verdicts.length} cases`,
      `  our handler called: ${handled.filter((verdict) => verdict.isRight).length} of ${handled.length} right`,
      `  decided by the library alone: ${own.filter((verdict) => verdict.isRight).length} of ${own.length} right`,
      `${right} passed, ${verdicts.length - right} failed, ${leftOut} skipped`,
    ].join('\n'),
  )
  const report = process.env.SALLYPORT_HTTP1_REPORT
  if (report !== undefined) writeFileSync(report, JSON.stringify(verdicts, null, 1))
})

test.skipIf(!isPresent)('runs', () => {
  expect(verdicts.length).toBeGreaterThanOrEqual(900)
})
