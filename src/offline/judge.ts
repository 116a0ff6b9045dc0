/** Compares what came of a request with what a test expects of it, or with what came of it elsewhere. */
import type { ConfigNode } from '../config/node.ts'
import type { Expectation } from './policy-tests.ts'
import type { Replayed } from './replay.ts'
import { fieldsOfHead } from './written-request.ts'

/** One difference: what was looked at, what was expected, what is. */
export interface Difference {
  readonly what: string
  readonly expected: string
  readonly actual: string
}

/** Differences between an expectation and what came; none: the test passed. */
export function judge(expect: Expectation, came: Replayed): readonly Difference[] {
  const differences: Difference[] = []
  const same = (what: string, expected: unknown, actual: unknown): void => {
    if (expected === undefined || expected === actual) return
    differences.push({ what, expected: shown(expected), actual: shown(actual) })
  }
  const text = (what: string, expected: string | undefined, actual: string): void => {
    if (expected !== undefined && !isText(expected, actual)) {
      differences.push({ what, expected: shown(expected), actual: shown(clip(actual)) })
    }
  }
  const fields = (what: string, expected: ReadonlyMap<string, ConfigNode> | undefined, head: string): void => {
    for (const [name, node] of expected ?? []) {
      const value = node.kind === 'scalar' && node.value !== null ? node.text : null
      const actual = fieldsOf(head, name)
      if (value === null ? actual.length === 0 : actual.some((one) => isText(value, one))) continue
      const expectedText = value === null ? 'absent' : shown(value)
      differences.push({
        what: `${what} ${name}`,
        expected: expectedText,
        actual: actual.map(shown).join(', ') || 'absent',
      })
    }
  }
  same('status', expect.status, statusOf(came))
  fields('header', expect.headers, came.head)
  text('body', expect.body, bodyOf(came.body))
  same('endpoint', expect.endpoint, came.endpoints.at(-1) ?? '')
  same('rule', expect.rule, came.rule)
  same('action', expect.action, came.action)
  text('reason', expect.reason, came.reason)
  same('error_code', expect.error_code, errorCodeOf(came))
  same('waf_rules', expect.waf_rules?.join(' '), expect.waf_rules && came.wafRuleIds.join(' '))
  const matched = came.trace.rules.filter((rule) => rule.matched).map(({ name }) => name)
  same('matched', expect.matched?.join(', '), expect.matched && matched.join(', '))
  const leg = came.legs.at(-1)
  if (expect.upstream === 'none') {
    same('upstream', 'none', leg === undefined ? 'none' : `${leg.target}: ${startLine(leg.head)}`)
  } else if (expect.upstream !== undefined && leg === undefined) {
    differences.push({ what: 'upstream', expected: 'a request', actual: 'none' })
  } else if (expect.upstream !== undefined && leg !== undefined) {
    const [method = '', path = ''] = startLine(leg.head).split(' ')
    same('upstream target', expect.upstream.target, leg.target)
    same('upstream method', expect.upstream.method, method)
    text('upstream path', expect.upstream.path, path)
    fields('upstream header', expect.upstream.headers, leg.head)
    text('upstream body', expect.upstream.body, bodyOf(leg.body))
  }
  return differences
}

/** What is different between the same request's fates in two configurations. */
export function compare(before: Replayed, after: Replayed): readonly Difference[] {
  const differences: Difference[] = []
  const same = (what: string, old: string, now: string): void => {
    if (old !== now) differences.push({ what, expected: clip(old), actual: clip(now) })
  }
  same('status', String(statusOf(before)), String(statusOf(after)))
  same('reason', before.reason, after.reason)
  same('decided by', decider(before), decider(after))
  same('endpoints', before.endpoints.join(' → '), after.endpoints.join(' → '))
  same('waf rules', before.wafRuleIds.join(' '), after.wafRuleIds.join(' '))
  for (const [what, old, now] of [
    ['header', before.head, after.head],
    ['upstream header', before.legs.at(-1)?.head ?? '', after.legs.at(-1)?.head ?? ''],
  ] as const) {
    for (const name of new Set([...namesOf(old), ...namesOf(now)])) {
      if (VARYING.has(name)) continue
      same(`${what} ${name}`, fieldsOf(old, name).join(', ') || 'absent', fieldsOf(now, name).join(', ') || 'absent')
    }
  }
  same('upstream', legText(before), legText(after))
  same('body', withoutIds(before), withoutIds(after))
  return differences
}

/** Made anew for each request. */
const VARYING = new Set(['x-request-id', 'date', 'traceparent'])

export function statusOf({ head, refusal }: Replayed): number {
  return refusal?.status ?? Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1] ?? 0)
}

export function startLine(head: string): string {
  return head.slice(0, head.indexOf('\r\n'))
}

/** Values of a field; `name` in any case. */
export function fieldsOf(head: string, name: string): readonly string[] {
  const wanted = name.toLowerCase()
  return fieldsOfHead(head).flatMap(([own, value]) => (own.toLowerCase() === wanted ? [value] : []))
}

function namesOf(head: string): readonly string[] {
  return fieldsOfHead(head).map(([name]) => name.toLowerCase())
}

function errorCodeOf({ head }: Replayed): string {
  return fieldsOf(head, 'ngrok-error-code')[0] ?? fieldsOf(head, 'sallyport-error-code')[0] ?? ''
}

function decider({ rule, action }: Replayed): string {
  return rule === '' ? '' : `${rule} / ${action}`
}

function legText({ legs }: Replayed): string {
  const leg = legs.at(-1)
  return leg === undefined ? 'none' : `${leg.target}: ${startLine(leg.head)} ${bodyOf(leg.body)}`
}

function withoutIds(came: Replayed): string {
  const id = fieldsOf(came.head, 'x-request-id')[0]
  const body = bodyOf(came.body)
  return id === undefined ? body : body.replaceAll(id, '')
}

function bodyOf(body: Uint8Array): string {
  return Buffer.from(body).toString('utf8')
}

/** `/pattern/` is searched for; anything else must be the same. */
function isText(expected: string, actual: string): boolean {
  const pattern = /^\/(.+)\/$/s.exec(expected)?.[1]
  return pattern === undefined ? expected === actual : new RegExp(pattern, 'u').test(actual)
}

function clip(text: string): string {
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : String(value)
}
