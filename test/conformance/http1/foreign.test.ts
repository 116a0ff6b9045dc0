/**
 * The corpus of HTTP/1.1 strictness against a server that somebody else has started: `npm run conformance:http1 --
 * --address HOST:PORT --upstream PORT`. It must forward everything to PORT of this machine, where the recording upstream
 * listens; without authentication, rule set or limits of its own.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { startEchoUpstream } from '../../support/echo-upstream.ts'
import { openRaw } from '../../support/raw-client.ts'
import { type Http1Case, judgeCase, type Verdict } from './judge.ts'

const addresses = (process.env.SALLYPORT_HTTP1_ADDRESS ?? '').split(',').filter((address) => address !== '')
const upstreams = (process.env.SALLYPORT_HTTP1_UPSTREAM ?? '9000').split(',').map(Number)
const here = dirname(fileURLToPath(import.meta.url))
const folder = process.env.SALLYPORT_HTTP1_DIR ?? join(here, '../../../../shared/corpora/http1-strictness')
const file = join(folder, 'requests.json')

const NOTHING = { handlerCalls: () => 0, heads: (): readonly string[] => [] }

test.skipIf(addresses.length === 0)(
  'a server at an address',
  async () => {
    if (!existsSync(file)) {
      console.log(`skipped: no corpus at ${file}\n0 passed, 0 failed, 1 skipped`)
      return
    }
    const corpus = JSON.parse(readFileSync(file, 'utf8')) as { cases: Http1Case[] }
    const only = process.env.SALLYPORT_HTTP1_ONLY
    const cases = corpus.cases.filter(
      ({ needs, timed, id }) =>
        needs === undefined && timed !== true && (only === undefined || new RegExp(only).test(id)),
    )
    const verdicts = new Map<Http1Case, Verdict>()
    let next = 0
    const lane = async (address: string, index: number): Promise<void> => {
      const colon = address.lastIndexOf(':')
      const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1')
      const port = Number(address.slice(colon + 1))
      const upstream = await startEchoUpstream(upstreams[index] ?? 9000)
      try {
        while (next < cases.length) {
          const http1 = cases[next++]!
          upstream.reset()
          const verdict = await judgeCase(http1, port, upstream, NOTHING, 'whole', host)
          const isAlive = await answersFreshRequest(host, port)
          const problem = isAlive ? verdict.problem : 'no answer to a fresh request afterwards'
          verdicts.set(http1, { ...verdict, problem, isRight: problem === '' })
        }
      } finally {
        await upstream.close()
      }
    }
    await Promise.all(addresses.map(lane))
    const right = (list: readonly Http1Case[]): number => list.filter((it) => verdicts.get(it)?.isRight === true).length
    const lines = [`http1-strictness at ${addresses.join(', ')}: ${right(cases)} of ${cases.length} as a strict server`]
    for (const level of ['must', 'should', 'policy']) {
      const some = cases.filter((http1) => http1.level === level)
      lines.push(`  ${level}: ${right(some)} of ${some.length}`)
    }
    const wrong = cases.filter((http1) => verdicts.get(http1)?.isRight !== true)
    lines.push(...wrong.slice(0, 40).map(({ id }) => `  ${id}: ${problemOf(verdicts, id)}`))
    if (wrong.length > 40) lines.push(`  and ${wrong.length - 40} more`)
    const skipped = corpus.cases.length - cases.length
    lines.push(`${right(cases)} passed, ${wrong.length} failed, ${skipped} skipped`)
    console.log(lines.join('\n'))
    const report = process.env.SALLYPORT_HTTP1_REPORT
    if (report !== undefined) writeFileSync(report, JSON.stringify([...verdicts.values()], null, 1))
    expect(wrong.map(({ id }) => id)).toEqual([])
  },
  3_600_000,
)

function problemOf(verdicts: ReadonlyMap<Http1Case, Verdict>, id: string): string {
  for (const [http1, { problem }] of verdicts) if (http1.id === id) return problem
  return 'not judged'
}

async function answersFreshRequest(host: string, port: number): Promise<boolean> {
  const connection = await openRaw(port, { host })
  connection.send('GET /fresh HTTP/1.1\r\nHost: gw.test\r\n\r\n')
  const [answer] = await connection.answers(1, 3_000)
  connection.destroy()
  return answer?.status === 200
}
