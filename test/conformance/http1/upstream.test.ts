/** Broken and hostile upstream answers (T-30 … T-35): what the client sees, and that the connection is not used again. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openRaw, type RawAnswer } from '../../support/raw-client.ts'
import { startEchoUpstream } from '../../support/echo-upstream.ts'
import { PlainEvents, startWireGateway, target, wirePool } from '../../support/wire-gateway.ts'

interface UpstreamCase {
  readonly id: string
  readonly expect: '502' | '504' | 'pass' | 'abort' | 'either'
  readonly raw?: string
  readonly parts?: readonly (string | { readonly repeat: string; readonly times: number })[]
  readonly then?: string
  readonly check?: string
  readonly request_method?: string
}

const here = dirname(fileURLToPath(import.meta.url))
const folder = process.env.SALLYPORT_HTTP1_DIR ?? join(here, '../../../../shared/corpora/http1-strictness')
const file = join(folder, 'upstream-responses.json')
const isPresent = existsSync(file)
const LANES = 8
/** The runner would have to make these. */
const LEFT_OUT = new Set(['runner-generates'])

const problems: { id: string; problem: string }[] = []
let ran = 0
let leftOut = 0

beforeAll(async () => {
  if (!isPresent) return
  const corpus = JSON.parse(readFileSync(file, 'utf8')) as { cases: UpstreamCase[] }
  const cases = corpus.cases.filter((wanted) => wanted.then === undefined || !LEFT_OUT.has(wanted.then))
  leftOut = corpus.cases.length - cases.length
  let next = 0
  const lane = async (): Promise<void> => {
    const upstream = await startEchoUpstream()
    const gateway = await startWireGateway(
      new PlainEvents(),
      target(upstream.port, {
        timers: { connectMs: 1_000, queueMs: 2_000, firstByteMs: 1_000, idleMs: 1_000, keepAliveMs: 60_000 },
      }),
    )
    while (next < cases.length) {
      const wanted = cases[next++]!
      upstream.reset()
      const problem = await runCase(wanted, upstream, gateway.port)
      ran++
      if (problem !== '') problems.push({ id: wanted.id, problem })
    }
    expect(gateway.errors).toEqual([])
    await gateway.close()
    await upstream.close()
  }
  await Promise.all(Array.from({ length: LANES }, lane))
}, 180_000)

async function runCase(
  wanted: UpstreamCase,
  upstream: Awaited<ReturnType<typeof startEchoUpstream>>,
  port: number,
): Promise<string> {
  const bytes =
    wanted.raw ??
    (wanted.parts ?? []).map((piece) => (typeof piece === 'string' ? piece : piece.repeat.repeat(piece.times))).join('')
  const echo = upstream.answer
  let badConnection = -1
  upstream.answer = (request, socket) => {
    if (badConnection !== -1) {
      echo(request, socket)
      return
    }
    badConnection = request.connection
    if (wanted.then === 'send-unsolicited-408-while-idle') {
      echo(request, socket)
      setTimeout(() => socket.write('HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nevil'), 50)
      return
    }
    socket.write(Buffer.from(bytes, 'latin1'))
    if (wanted.then === 'close') socket.end()
    else if (wanted.then === 'reset') setTimeout(() => socket.resetAndDestroy(), 20)
    else if (wanted.then === 'answer-before-body-then-close') socket.end()
  }
  const method = wanted.request_method ?? 'GET'
  const client = await openRaw(port)
  client.send(`${method} /case HTTP/1.1\r\nHost: gw.test\r\n\r\n`)
  const answers = await client.answers(1, 4_000, [method])
  if (wanted.then === 'send-unsolicited-408-while-idle') await new Promise((resolve) => setTimeout(resolve, 150))
  const { isClosed, received } = client
  client.destroy()
  // A following request gets its own answer.
  const follow = await openRaw(port)
  follow.send('GET /follow HTTP/1.1\r\nHost: gw.test\r\n\r\n')
  const [after] = await follow.answers(1, 4_000)
  follow.destroy()
  if (after?.body.startsWith('GET /follow') !== true)
    return `the next request got ${after?.status} ${JSON.stringify(after?.body)}`
  const reused = upstream.requests.some(
    (request) => request.target === '/follow' && request.connection === badConnection,
  )
  return judge(wanted, answers[0], isClosed, received, reused)
}

function judge(
  wanted: UpstreamCase,
  answer: RawAnswer | undefined,
  isClosed: boolean,
  received: string,
  reused: boolean,
): string {
  const seen =
    answer === undefined
      ? `no answer${isClosed ? ', closed' : ''}`
      : `${answer.status}${answer.isComplete ? '' : ' incomplete'}`
  if (/evil/i.test(received) && wanted.expect !== 'either') return `bytes of the bad answer: ${seen}`
  switch (wanted.expect) {
    case '502':
      if (answer?.status !== 502) return `502 expected, saw ${seen}`
      break
    case '504':
      if (answer?.status !== 504) return `504 expected, saw ${seen}`
      break
    case 'pass':
      if (answer === undefined || answer.status >= 500 || !answer.isComplete) return `pass expected, saw ${seen}`
      break
    case 'abort':
      // Nothing was out yet when the fault showed: 502 is the better answer.
      if (answer !== undefined && answer.isComplete && answer.status < 500)
        return `broken transfer expected, saw ${seen}`
      break
    case 'either':
      if (answer === undefined && !isClosed) return `neither an answer nor a close`
      break
  }
  for (const check of (wanted.check ?? '').split('; ')) {
    if (check === 'upstream-connection-not-reused' && reused) return 'the connection was used again'
    if (check === 'one-framing-to-client' && answer !== undefined) {
      const framings = answer.fields.filter(
        ([name]) => name === 'content-length' || name === 'transfer-encoding',
      ).length
      if (framings > 1) return 'two framings to the client'
    }
    if (check.startsWith('client-body:') && answer?.body !== check.slice(12))
      return `body ${JSON.stringify(answer?.body)}`
    if (check.startsWith('client-final-status:') && String(answer?.status) !== check.slice(20))
      return `status ${answer?.status}`
  }
  return ''
}

/** Deviations of the undici pool, each with its reason; a case here that is right after all fails the test. */
const UNDICI_DEVIATIONS: Readonly<Record<string, string>> = {
  'up/status-line-13': 'undici does not tell the version of an answer; it is framed as HTTP/1.1',
  'up/status-line-14': 'undici does not tell the version of an answer; it is framed as HTTP/1.1',
  'up/chunk-trailer': 'undici counts a Content-Length among the trailers: the transfer breaks, where it could pass',
  'llhttp/invalid/Bare-CR-followed-by-CR-after-response-line': 'llhttp takes CR CR after the status line for its end',
}
/** The native pool has none. */
const DEVIATIONS: Readonly<Record<string, string>> = wirePool.name === 'native' ? {} : UNDICI_DEVIATIONS

afterAll(() => {
  if (!isPresent) {
    console.log(`skipped: no corpus at ${file}\n0 passed, 0 failed, 1 skipped`)
    return
  }
  const failed = problems.filter(({ id }) => DEVIATIONS[id] === undefined).length
  const deviations = problems.length - failed
  console.log(
    `upstream responses, ${wirePool.name} pool: ${ran} cases, ${deviations} deviations (pinned in upstream.test.ts)\n${ran - problems.length} passed, ${failed} failed, ${leftOut + deviations} skipped`,
  )
})

test.skipIf(!isPresent)('every bad answer is kept from the client, and its connection is dropped', () => {
  expect(ran).toBeGreaterThanOrEqual(97)
  expect(problems.filter(({ id }) => DEVIATIONS[id] === undefined)).toEqual([])
  const failing = new Set(problems.map(({ id }) => id))
  expect(Object.keys(DEVIATIONS).filter((id) => !failing.has(id))).toEqual([])
})
