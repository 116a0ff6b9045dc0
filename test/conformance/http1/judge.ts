/** Sends one case of the corpus and judges what came of it. Source: the corpus' own README. */
import { openRaw, parseAnswers, type RawAnswer } from '../../support/raw-client.ts'
import type { EchoUpstream, RecordedRequest } from '../../support/echo-upstream.ts'

/** A case as the corpus writes it; strings hold one byte per character. */
export interface Http1Case {
  readonly id: string
  readonly group: string
  readonly expect: 'reject-400' | 'accept' | 'wait' | 'close' | 'either'
  readonly status?: readonly number[]
  readonly or_close?: boolean
  readonly upstream: number
  readonly level: string
  readonly why: string
  readonly needs?: string
  readonly timed?: boolean
  readonly checks?: readonly string[]
  readonly raw?: string
  readonly parts?: readonly (string | { readonly repeat: string; readonly times: number })[]
  readonly steps?: readonly (Pick<Http1Case, 'raw' | 'parts'> & { readonly wait_ms?: number })[]
}

/** What is looked at on the gateway's side of a case. */
export interface GatewayView {
  /** Requests the library handed to our handler, passed on or refused. */
  handlerCalls(): number
  /** Heads as the handler saw them. */
  heads(): readonly string[]
}

export interface Verdict {
  readonly id: string
  readonly isRight: boolean
  readonly problem: string
  /** The library called our handler at least once, and the answer (or its absence) is not the library's own. */
  readonly handlerDecided: boolean
  /** `200`, `400 closed`, `closed`, `silent`: what the client saw. */
  readonly seen: string
}

function bytesOf(part: Pick<Http1Case, 'raw' | 'parts'>): string {
  if (part.raw !== undefined) return part.raw
  return (part.parts ?? [])
    .map((piece) => (typeof piece === 'string' ? piece : piece.repeat.repeat(piece.times)))
    .join('')
}

export function caseText(http1: Http1Case): string {
  return http1.steps === undefined ? bytesOf(http1) : http1.steps.map(bytesOf).join('')
}

/** Longer than the library's own timer of ten seconds. */
const SILENCE_MS = 12_500
const QUIET_MS = 120
/** For the answer to one step before the next one is sent. */
const STEP_MS = 150
/** Longer than any answered connection lingers. */
const CLOSE_MS = 3_000

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/**
 * How the bytes are cut into writes: `lines` = behind each CR and each LF; `single` = one by one, longer cases by the
 * thousand; `bytes` = one by one behind the request line.
 */
export type Cutting = 'whole' | 'lines' | 'single' | 'bytes'

/** Beyond it one write per byte takes too long. */
const SINGLE_BYTES = 4096

function* piecesOf(bytes: string, cutting: 'lines' | 'single'): Generator<string> {
  const pieceBytes = cutting === 'single' && bytes.length <= SINGLE_BYTES ? 1 : 1000
  let start = 0
  while (start < bytes.length) {
    const lineEnd = bytes.slice(start).search(/[\r\n]/)
    const length = cutting === 'single' ? pieceBytes : lineEnd === -1 ? bytes.length - start : lineEnd + 1
    yield bytes.slice(start, start + length)
    start += length
  }
}

export async function judgeCase(
  http1: Http1Case,
  port: number,
  upstream: EchoUpstream,
  gateway: GatewayView,
  cutting: Cutting = 'whole',
  host = '127.0.0.1',
): Promise<Verdict> {
  const callsBefore = gateway.handlerCalls()
  const headsBefore = gateway.heads().length
  const connection = await openRaw(port, { host })
  const text = caseText(http1)
  const steps = http1.steps ?? [http1]
  // many steps make one request: its head must be there before the timer of heads
  const stepMs = steps.length > 10 ? 5 : STEP_MS
  for (const [index, step] of steps.entries()) {
    if (index > 0) {
      // Whatever answers the step before comes first; incomplete steps have none.
      const before = connection.received.length
      for (
        let waitedMs = 0;
        waitedMs < stepMs && connection.received.length === before && !connection.isClosed;
        waitedMs += 5
      ) {
        await pause(5)
      }
      await pause('wait_ms' in step && step.wait_ms !== undefined ? step.wait_ms : 5)
    }
    if (cutting === 'whole') connection.send(bytesOf(step))
    else if (cutting !== 'bytes') {
      for (const piece of piecesOf(bytesOf(step), cutting)) {
        if (connection.isClosed) break
        connection.send(piece)
        await new Promise((resolve) => setImmediate(resolve))
      }
    } else {
      // A segment that ends inside a request line is answered 505 by the library (pinned in framing.test.ts).
      const bytes = bytesOf(step)
      const lineEnd = bytes.search(/[\r\n](?![\r\n]|$)/) + 2
      connection.send(bytes.slice(0, lineEnd))
      await pause(2)
      for (const byte of bytes.slice(lineEnd)) {
        if (connection.isClosed) break
        connection.send(byte)
        await new Promise((resolve) => setImmediate(resolve))
      }
    }
  }
  const methods = [...text.matchAll(/(?:^|\r\n\r\n|\n)([A-Z]+) [^\r\n ]+ HTTP\/1\.1/g)].map((match) => match[1]!)
  const startedMs = performance.now()
  let lastLength = -1
  let changedMs = startedMs
  for (;;) {
    if (connection.isClosed) break
    const nowMs = performance.now()
    if (connection.received.length !== lastLength) {
      lastLength = connection.received.length
      changedMs = nowMs
    }
    const called = gateway.handlerCalls() > callsBefore
    // An incomplete message that we hold: our own timer is a minute, nothing will change.
    if (lastLength === 0 && called && http1.expect === 'wait' && nowMs - startedMs > 1_000) break
    if (lastLength > 0 && nowMs - changedMs > QUIET_MS) {
      const mustClose =
        http1.expect === 'reject-400' ||
        http1.expect === 'close' ||
        http1.checks?.includes('connection-closed-after') === true
      const first = parseAnswers(connection.received, false, methods)[0]
      if (!mustClose || (first !== undefined && first.status < 300) || nowMs - changedMs > CLOSE_MS) break
    }
    if (nowMs - startedMs > SILENCE_MS) break
    await pause(10)
  }
  const { received, isClosed } = connection
  connection.destroy()
  const answers = parseAnswers(received, isClosed, methods)
  // The upstream may still be reading what is already on its way.
  await pause(20)
  const complete = upstream.complete
  const heads = gateway.heads().slice(headsBefore)
  const problem = findProblem(http1, answers, isClosed, complete, upstream.raw.join(''), heads, received)
  const isLibraryAnswer = answers.some((answer) => answer.status === 505 || answer.body.includes('uWebSockets'))
  const handlerDecided = gateway.handlerCalls() > callsBefore && !isLibraryAnswer
  const seen =
    `${answers.map((answer) => answer.status).join(',')}${isClosed ? ' closed' : answers.length === 0 ? 'silent' : ''}`.trim()
  return { id: http1.id, isRight: problem === '', problem, handlerDecided, seen }
}

function findProblem(
  http1: Http1Case,
  answers: readonly RawAnswer[],
  isClosed: boolean,
  complete: readonly RecordedRequest[],
  upstreamRaw: string,
  heads: readonly string[],
  received: string,
): string {
  const { expect, upstream } = http1
  const status = http1.status ?? []
  const final = answers[0]?.status
  const isTwoHundred = final !== undefined && final >= 200 && final < 300
  const refusedRight = final !== undefined && status.includes(final)
  const seen = `${answers.map((answer) => answer.status).join(',') || 'no answer'}${isClosed ? ', closed' : ''}`
  switch (expect) {
    case 'accept':
      if (!isTwoHundred && !refusedRight) return `accept expected, saw ${seen}`
      if (isTwoHundred && complete.length !== upstream)
        return `${complete.length} requests upstream instead of ${upstream}`
      break
    case 'reject-400':
      if (refusedRight ? !isClosed : !(http1.or_close === true && isClosed && !isTwoHundred && final === undefined)) {
        return `refusal expected (${status.join(',')}), saw ${seen}`
      }
      break
    case 'wait':
      if (isTwoHundred) return `incomplete message answered with ${final}`
      if (final !== undefined && !refusedRight) return `status ${final}`
      break
    case 'close':
      if (isTwoHundred) return `garbage answered with ${final}`
      if (!isClosed && !refusedRight) return 'the connection stayed open'
      break
    case 'either':
      if (!isTwoHundred && !refusedRight && !(final === undefined && isClosed && http1.or_close === true))
        return `saw ${seen}`
      break
  }
  if (complete.length > upstream) return `${complete.length} requests upstream, at most ${upstream} expected`
  for (const check of http1.checks ?? []) {
    const problem = runCheck(check, http1, answers, isClosed, complete, upstreamRaw, heads, received)
    if (problem !== '') return `${check}: ${problem}`
  }
  return ''
}

/** Checks that need a policy, an address, the rules about forwarding fields (O-69) or a memory probe: a whole gateway. */
const ELSEWHERE = new Set([
  'not-forwarded-value',
  'deny-admin',
  'client-ip-is-socket',
  'client-ip-not',
  'rate-limit-key-unchanged',
  'route-unchanged',
  'auth-decision-unchanged',
  'no-preallocation',
])

function runCheck(
  check: string,
  http1: Http1Case,
  answers: readonly RawAnswer[],
  isClosed: boolean,
  complete: readonly RecordedRequest[],
  upstreamRaw: string,
  heads: readonly string[],
  received: string,
): string {
  const colon = check.indexOf(':')
  const kind = colon === -1 ? check : check.slice(0, colon)
  const argument = colon === -1 ? '' : check.slice(colon + 1)
  if (ELSEWHERE.has(kind)) return ''
  const first = complete[0]
  const wrong = (isFine: boolean, text: string): string => (isFine ? '' : text)
  const text = caseText(http1)
  const equals = argument.indexOf('=')
  const name = (equals === -1 ? argument : argument.slice(0, equals)).toLowerCase()
  const value = argument.slice(equals + 1)
  switch (kind) {
    case 'upstream-body':
      return first === undefined ? '' : wrong(first.body === argument, JSON.stringify(first.body.slice(0, 100)))
    case 'upstream-body-length':
      return first === undefined ? '' : wrong(first.body.length === Number(argument), String(first.body.length))
    case 'upstream-target':
      return first === undefined ? '' : wrong(first.target === argument, first.target)
    case 'upstream-host':
      return first === undefined ? '' : wrong(first.field('host') === argument, String(first.field('host')))
    case 'upstream-has':
      if (first === undefined) return ''
      return wrong(equals === -1 ? first.all(name).length > 0 : first.all(name).includes(value), first.head)
    case 'upstream-lacks':
      return wrong(
        complete.every((request) => request.all(name).length === 0),
        first?.head ?? '',
      )
    case 'upstream-lacks-value':
      return wrong(
        complete.every((request) => !request.all(name).includes(value)),
        first?.head ?? '',
      )
    case 'upstream-at-most':
      return wrong(complete.length <= Number(argument), String(complete.length))
    case 'upstream-cookie-pairs':
      return first === undefined
        ? ''
        : wrong(
            argument.split(',').every((pair) => first.all('cookie').join('; ').includes(pair)),
            first.head,
          )
    case 'no-desync':
    case 'answers-in-order': {
      // The echo names the target of the request it answers.
      const echoed = answers.filter((answer) => answer.status === 200).map((answer) => answer.body.split('\n')[0])
      const sent = complete.map((request) => (request.method === 'HEAD' ? '' : `${request.method} ${request.target}`))
      return wrong(
        echoed.every((line, index) => line === sent[index]),
        `${echoed.join('|')} for ${sent.join('|')}`,
      )
    }
    case 'connection-closed-after':
      return wrong(isClosed, 'still open')
    case 'canonical-content-length':
      return wrong(
        complete.every((request) =>
          request.all('content-length').every((length) => /^(?:0|[1-9][0-9]*)$/.test(length)),
        ),
        first?.head ?? '',
      )
    case 'header-not-renamed': {
      const known = new Set(['host', 'connection', 'content-length', 'transfer-encoding'])
      const lower = text.toLowerCase()
      return wrong(
        complete.every((request) => request.fields.every(([field]) => known.has(field) || lower.includes(`${field}:`))),
        first?.head ?? '',
      )
    }
    case 'trailer-not-merged': {
      const trailer = text.slice(text.lastIndexOf('\r\n0') + 3)
      const names = [...trailer.matchAll(/\r\n([A-Za-z][A-Za-z-]*):/g)].map((match) => match[1]!.toLowerCase())
      const inHead = text.slice(0, text.indexOf('\r\n\r\n')).toLowerCase()
      return wrong(
        complete.every((request) =>
          request.fields.every(([field]) => !names.includes(field) || inHead.includes(`${field}:`)),
        ),
        first?.head ?? '',
      )
    }
    case 'chunk-extension-not-forwarded':
      return wrong(!/\r\n[0-9a-f]+[ \t]*;/i.test(upstreamRaw), 'extension upstream')
    case 'fragment-not-forwarded':
      return wrong(
        complete.every((request) => !request.target.includes('#')),
        first?.target ?? '',
      )
    case 'path-consistent':
      // what another front end's handler saw is not known
      if (heads.length === 0) return ''
      return wrong(
        complete.every((request, index) => heads[index]?.startsWith(`${request.method} ${request.target} `) === true),
        `${heads.join('|')}`,
      )
    case 'one-host-everywhere':
      return wrong(
        complete.every((request) => request.all('host').length === 1),
        first?.head ?? '',
      )
    case 'first-answer-2xx':
      return wrong(answers[0] !== undefined && answers[0].status < 300, String(answers[0]?.status))
    case 'second-answer-2xx-or-closed':
      return wrong(isClosed || (answers[1] !== undefined && answers[1].status < 300), String(answers[1]?.status))
    case 'second-parse-error-closes':
      return wrong(isClosed, 'still open')
    case 'no-101':
      return wrong(!received.includes('HTTP/1.1 101'), '101')
    case 'no-1xx':
      return wrong(!/HTTP\/1\.1 1\d\d/.test(received), '1xx')
    case 'response-has':
      return wrong(
        answers.every((answer) => answer.field(name) !== undefined),
        'missing',
      )
    case 'response-lacks':
      return wrong(!received.includes(argument), 'present')
    case 'response-has-no-body':
      return wrong(
        answers.every((answer) => answer.body === ''),
        'a body',
      )
    case 'method-not-treated-as':
      return wrong(
        complete.every((request) => request.method !== argument),
        argument,
      )
    case 'method-unchanged-if-forwarded':
      return wrong(
        complete.every((request) => text.startsWith(`${request.method} `)),
        first?.method ?? '',
      )
    case 'single-content-type-if-forwarded':
      return wrong(
        complete.every((request) => request.all('content-type').length <= 1),
        first?.head ?? '',
      )
    default:
      return `unknown check ${kind}`
  }
}
