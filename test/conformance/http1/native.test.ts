/**
 * The corpus of HTTP/1.1 strictness against the native front end: in one write, cut behind every CR and LF, and byte by
 * byte. All of it must be right; what cannot be stands in EXCEPTIONS with its reason.
 *
 * SALLYPORT_HTTP1_DIR names the folder with `requests.json`; without it the one beside the checkout is used.
 */
import '../../support/native-engine.ts'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { startEchoUpstream } from '../../support/echo-upstream.ts'
import { openRaw } from '../../support/raw-client.ts'
import { testCapabilities } from '../../support/test-engine.ts'
import { PlainEvents, startWireGateway, target } from '../../support/wire-gateway.ts'
import { type Cutting, type Http1Case, judgeCase, type Verdict } from './judge.ts'

const here = dirname(fileURLToPath(import.meta.url))
const folder = process.env.SALLYPORT_HTTP1_DIR ?? join(here, '../../../../shared/corpora/http1-strictness')
const file = join(folder, 'requests.json')
const only = process.env.SALLYPORT_HTTP1_ONLY
/** Cases run side by side: some wait for the timer of heads. */
const LANES = 48
const FLOOR = 900

/** Cases that no strict server can meet. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  'llhttp/pipelining/Should-parse-multiple-events':
    'the third request announces five bytes and has four: two complete requests are right, not three',
}

/** RFC 9113 §3.4: to a server that speaks HTTP/2 these bytes begin such a connection, and it answers in kind. */
const isHttp2 = ({ raw = '' }: Http1Case): boolean => raw.startsWith('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

async function runAll(cases: readonly Http1Case[], cutting: Cutting): Promise<Verdict[]> {
  const results: Verdict[] = []
  let next = 0
  const lane = async (): Promise<void> => {
    const upstream = await startEchoUpstream()
    const gateway = await startWireGateway(new PlainEvents(), target(upstream.port))
    const { events } = gateway
    const view = { handlerCalls: () => events.heads.length + events.refused.length, heads: () => events.heads }
    while (next < cases.length) {
      const http1 = cases[next++]!
      upstream.reset()
      const verdict = await judgeCase(http1, gateway.port, upstream, view, cutting)
      const isAlive = await answersFreshRequest(gateway.port)
      const problem = isAlive ? verdict.problem : 'no answer to a fresh request afterwards'
      results.push({ ...verdict, problem, isRight: problem === '' })
    }
    expect(gateway.errors).toEqual([])
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

test.each<Cutting>(['whole', 'lines', 'single'])(
  'H-120, H-125: every case is decided as a strict server must, cut: %s',
  async (cutting) => {
    if (!existsSync(file)) {
      console.log(`skipped: no corpus at ${file}\n0 passed, 0 failed, 1 skipped`)
      return
    }
    const corpus = JSON.parse(readFileSync(file, 'utf8')) as { cases: Http1Case[] }
    const cases = corpus.cases.filter(
      (http1) =>
        http1.needs === undefined &&
        http1.timed !== true &&
        !(testCapabilities.http2 && isHttp2(http1)) &&
        (only === undefined || new RegExp(only).test(http1.id)),
    )
    const first = await runAll(cases, cutting)
    // The judge waits for silence by the clock: what it finds wrong beside 47 others is judged once more without them.
    const doubtful = new Set(first.filter(({ isRight }) => !isRight).map(({ id }) => id))
    const second = await runAll(
      cases.filter(({ id }) => doubtful.has(id)),
      cutting,
    )
    const verdicts = [...first.filter(({ isRight }) => isRight), ...second]
    const wrong = verdicts.filter(({ isRight }) => !isRight)
    const unexpected = wrong.filter(({ id }) => EXCEPTIONS[id] === undefined)
    const met = verdicts.filter(({ id, isRight }) => isRight && EXCEPTIONS[id] !== undefined)
    const skipped = corpus.cases.length - cases.length + wrong.length - unexpected.length
    console.log(
      [
        `http1-strictness, native front end, ${cutting}: ${verdicts.length} cases`,
        ...unexpected.slice(0, 40).map(({ id, problem }) => `  ${id}: ${problem.slice(0, 300)}`),
        `${verdicts.length - wrong.length} passed, ${unexpected.length} failed, ${skipped} skipped`,
      ].join('\n'),
    )
    const report = process.env.SALLYPORT_HTTP1_REPORT
    if (report !== undefined) writeFileSync(`${report}.${cutting}`, JSON.stringify(verdicts, null, 1))
    expect(unexpected).toEqual([])
    expect(met, 'these are exceptions no more').toEqual([])
    if (only === undefined && process.env.SALLYPORT_HTTP1_DIR === undefined) {
      expect(verdicts.length).toBeGreaterThanOrEqual(FLOOR)
    }
  },
  300_000,
)
