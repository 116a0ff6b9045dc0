/**
 * The response phase worked out before there is an answer, for policies that only add and remove fields, by expressions whose
 * values are settled: the front end then sends the upstream's answer on as it is told here, without a call for it.
 *
 * Exact or not at all: what a rule would do otherwise in its own phase (a failing expression, a value with control
 * characters) is not foretold, and the phase runs when the answer is there.
 */
import { performance } from 'node:perf_hooks'
import type { Exchange, Frame } from '../exchange/exchange.ts'
import type { AnswerEdits } from '../listener/front-end.ts'
import type { CompiledRule } from '../policy/policy.ts'

/** The front end has places for so many. */
const MOST_CLOCKS = 4

/** What will be done to an answer's head. */
export class ForetoldAnswer implements AnswerEdits {
  lines = ''
  removed = ''
  readonly clocks: number[] = []
  /** What was told, for the counts when it has come to pass: a rule, and whose it is. */
  readonly ran: { readonly frame: Frame; readonly rule: CompiledRule }[] = []
  /** How long that took, by frame with rules. */
  readonly tookMs: number[] = []

  /** A line behind all others. `clocks`: places in the value where the time will stand. False: too many of these. */
  add(name: string, value: string, clocks?: readonly number[]): boolean {
    if (clocks !== undefined) {
      const start = this.lines.length + name.length + 2
      for (const place of clocks) this.clocks.push(start + place)
    }
    this.lines += `${name}: ${value}\r\n`
    return this.clocks.length <= MOST_CLOCKS
  }

  /** Several lines behind all others; likewise. */
  addLines(text: string, clocks: readonly number[]): boolean {
    for (const place of clocks) this.clocks.push(this.lines.length + place)
    this.lines += text
    return this.clocks.length <= MOST_CLOCKS
  }

  /** All lines of that name. False: one of them was added here. */
  remove(name: string): boolean {
    if (this.lines.startsWith(`${name}: `) || this.lines.includes(`\n${name}: `)) return false
    this.removed += `${name}\n`
    return true
  }
}

export function canForetell(rule: CompiledRule): boolean {
  const { expressions, actions } = rule
  return (
    expressions.every(({ settled }) => settled === 'yes') && actions.every(({ foretell }) => foretell !== undefined)
  )
}

/** What the rules of all endpoints will do, innermost first; undefined: that cannot be told. Called when a leg begins. */
export function foretell(exchange: Exchange): ForetoldAnswer | undefined {
  const { frames, frameIndex } = exchange
  const answer = new ForetoldAnswer()
  let fromMs = exchange.legStartedAtMs
  try {
    for (let place = frames.length - 1; place >= 0; place--) {
      // expressions read the endpoint whose rule it is
      exchange.frameIndex = place
      const frame = frames[place]!
      if (frame.endpoint.policy.onHttpResponse.length === 0) continue
      if (!foretellFrame(exchange, frame, answer)) return undefined
      const nowMs = performance.now()
      answer.tookMs.push(nowMs - fromMs)
      fromMs = nowMs
    }
    return answer
  } catch {
    return undefined
  } finally {
    exchange.frameIndex = frameIndex
  }
}

function foretellFrame(exchange: Exchange, frame: Frame, answer: ForetoldAnswer): boolean {
  for (const rule of frame.endpoint.policy.onHttpResponse) {
    if (rule.expressions.length > 0 && !rule.expressions.every((expression) => expression.test(exchange))) continue
    for (const action of rule.actions) if (!action.foretell!(exchange, answer)) return false // asked in canForetell
    answer.ran.push({ frame, rule })
  }
  return true
}

/** The answer has left as it was told: the phase has run. */
export function foretoldCame(exchange: Exchange, { ran, tookMs }: ForetoldAnswer): void {
  const { metrics } = exchange.services
  for (const ms of tookMs) metrics.policyDuration('on_http_response', ms)
  for (const { frame, rule } of ran) {
    for (const { type } of rule.actions) metrics.action(frame.endpoint.name, type, 'next')
  }
}
