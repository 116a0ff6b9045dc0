/** Response phases that are worked out ahead: which can be, and that they come to what the phase itself comes to. */
import { describe, expect, it } from 'vitest'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import type { MapNode } from '../../../src/config/node.ts'
import { Exchange } from '../../../src/exchange/exchange.ts'
import { MessageHead } from '../../../src/exchange/message-head.ts'
import { CLOCK_PLACE } from '../../../src/expression/template.ts'
import type { FrontEnd } from '../../../src/listener/front-end.ts'
import { foretell, type ForetoldAnswer, foretoldCame } from '../../../src/phase/foretell.ts'
import { NEXT } from '../../../src/phase/outcome.ts'
import { runPhase } from '../../../src/phase/run-phase.ts'
import { compilePolicy } from '../../../src/policy/compile.ts'
import { parsePolicy } from '../../../src/policy/parse.ts'
import type { CompiledPolicy } from '../../../src/policy/policy.ts'
import type { GatewayServices } from '../../../src/process/services.ts'
import type { Snapshot } from '../../../src/process/snapshot.ts'
import type { Endpoint } from '../../../src/routing/endpoints.ts'
import { load, nodeOf } from '../config/memory-files.ts'

const { settings } = load({ 'gateway.yaml': '' })

function policy(rules: string): CompiledPolicy {
  const diagnostics = new Diagnostics()
  const parsed = parsePolicy(nodeOf(`{on_http_response: [${rules}]}`) as MapNode, diagnostics)
  const compiled = compilePolicy(parsed, {
    settings,
    diagnostics,
    identity: 'shop',
    scheme: 'http',
    mustTerminate: false,
  })
  expect(diagnostics.all.filter(({ severity }) => severity === 'error')).toEqual([])
  return compiled.policy
}

const add = (headers: string): string => `{actions: [{type: add-headers, config: {headers: {${headers}}}}]}`
const remove = (names: string): string => `{actions: [{type: remove-headers, config: {headers: [${names}]}}]}`
const when = (expression: string, rule: string): string => rule.replace('{', `{expressions: [${expression}], `)

const REQUEST =
  'GET /api/users?a=1 HTTP/1.1\r\nhost: shop.example\r\naccept: text/html\r\nx-list: a\r\nx-list: b\r\nx-wide: \u00e9\r\n'
const ANSWER = 'HTTP/1.1 200 OK\r\nserver: theirs\r\nx-a: 1\r\nx-b: 2\r\nx-a: 3\r\n'

/** An exchange that came to these endpoints, outermost first; `counts`: what metrics were told. */
function exchange(...policies: readonly CompiledPolicy[]): { it: Exchange; counts: string[] } {
  const counts: string[] = []
  const metrics = {
    action: (...told: readonly string[]) => counts.push(told.join(' ')),
    policyDuration: (phase: string) => counts.push(phase),
  }
  const frontEnd = { peer: () => ({ address: '192.0.2.7', port: 4711, localAddress: '192.0.2.1', localPort: 80 }) }
  const facts = { listenerId: 1, bodyLength: 0, receivedAtMs: 0, connectionLines: '', proxyFields: true }
  const it = new Exchange(
    1,
    REQUEST,
    facts,
    0,
    frontEnd as unknown as FrontEnd,
    { settings, trustedProxies: [] } as unknown as Snapshot,
    { metrics, logger: { warn: () => undefined, debug: () => undefined } } as unknown as GatewayServices,
  )
  for (const [place, one] of policies.entries()) {
    const name = `endpoint-${place}`
    it.enter({ name, policy: one, view: { url: `http://${name}` } } as unknown as Endpoint, 'halt')
  }
  return { it, counts }
}

/** What the phases themselves make of the answer. */
function run({ it }: { it: Exchange }): string {
  const head = new MessageHead(ANSWER)
  it.setResponse({ status: 200, head, bodyLength: 0, ownBody: undefined })
  for (let place = it.frames.length - 1; place >= 0; place--) {
    it.beginResponsePhase(place)
    expect(runPhase(it.frame.endpoint.policy.onHttpResponse, it, it.frame.cursor)).toBe(NEXT)
  }
  return head.text
}

function apply(answer: ForetoldAnswer): string {
  const head = new MessageHead(ANSWER)
  for (const name of answer.removed.split('\n').slice(0, -1)) head.remove(name)
  for (const place of answer.clocks) expect(answer.lines.slice(place, place + CLOCK_PLACE.length)).toBe(CLOCK_PLACE)
  return head.text + answer.lines
}

const withoutTimes = (text: string): string => text.replaceAll(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, '<time>')

describe('§2.4 a response phase that is foretold comes to what it comes to by itself', () => {
  it.each([
    ['constants', add('X-One: a, x-two: "b c"')],
    ['values of connection, request and endpoint', add('x-ip: "${conn.client_ip}/${req.method} ${endpoint.url}"')],
    ['lists and paths', add(`x-list: "\${req.headers['x-list']}", x-path: "\${req.url.path.upperAscii()}"`)],
    ['bytes above ASCII', add(`x-wide: "\${req.headers['x-wide'][0]}"`)],
    [
      'the time, anywhere',
      `${add('x-at: "${time.now}"')}, ${add('x-b: "<${time.now}> ${conn.client_ip} ${time.now}"')}`,
    ],
    ['fields that go', `${remove('x-a, server, x-none')}, ${add('x-a: mine')}`],
    ['rules that apply', when(`"req.url.path.startsWith('/api') && req.method == 'GET'"`, add('x-api: yes'))],
    ['rules that do not', `${when(`"req.method != 'GET'"`, add('x-other: yes'))}, ${remove('x-b')}`],
    ['membership', when(`"'accept' in req.headers"`, add('x-asked: yes'))],
  ])('%s', (_, rules) => {
    const compiled = policy(rules)
    expect(compiled.answersAreForetold).toBe(true)
    const ahead = exchange(compiled)
    const answer = foretell(ahead.it)!
    expect(ahead.counts).toEqual([])
    const itself = exchange(compiled)
    expect(withoutTimes(apply(answer))).toBe(withoutTimes(run(itself)))
    foretoldCame(ahead.it, answer)
    expect(ahead.counts.filter((told) => told !== 'on_http_response')).toEqual(itself.counts)
    expect(ahead.counts).toContain('on_http_response')
  })

  it('several endpoints: the innermost first, each with its own expressions', () => {
    const outer = policy(`${remove('x-a')}, ${add('x-from: "${endpoint.url}"')}`)
    const inner = policy(add('x-from: "${endpoint.url}"'))
    const ahead = exchange(outer, policy(''), inner)
    const answer = foretell(ahead.it)!
    expect(ahead.it.frameIndex).toBe(2)
    const itself = exchange(outer, policy(''), inner)
    expect(apply(answer)).toBe(run(itself))
    expect(apply(answer)).toContain('x-from: http://endpoint-2\r\nx-from: http://endpoint-0\r\n')
    foretoldCame(ahead.it, answer)
    expect(ahead.counts.filter((told) => told !== 'on_http_response')).toEqual(itself.counts)
    expect(ahead.counts.filter((told) => told === 'on_http_response')).toHaveLength(2)
  })
})

describe('what is not foretold', () => {
  it.each([
    ['a look at the answer', when('"res.status_code == 200"', add('x: y'))],
    ['a value of the answer', add('x: "${res.status_code}"')],
    ['a result of an action', add('x: "${actions.ngrok.add_headers}"')],
    ['a variable', add('x: "${vars.a}"')],
    ['the time inside of an expression', add(`x: "\${time.now + 'x'}"`)],
    ['the time in a condition', when(`"time.now > '2'"`, add('x: y'))],
    ['something random', add('x: "${rand.int(0, 9)}"')],
    ['how much was received', add('x: "${conn.bytes_out}"')],
    ['when the body was received', add('x: "${req.ts.body_received}"')],
    ['all of a namespace', add('x: "${req}"')],
    ['another action', '{actions: [{type: log}]}'],
    ['a field that the gateway writes', add('Date: x')],
    ['the id of the request', add('X-Request-Id: x')],
  ])('%s', (_, rules) => {
    expect(policy(rules).answersAreForetold).toBe(false)
  })

  it.each([
    ['an expression that fails', add(`x: "\${req.headers['x-none'][0]}"`)],
    ['a condition that fails', when(`"req.headers['x-none'][0] == 'a'"`, add('x: y'))],
    ['white space that is taken off', add(`x: " \${req.method}"`)],
    ['control characters', add(`x: "\${base64.decode('AA==')}"`)],
    ['text beyond latin1', add(`x: "\${req.method}\u20ac"`)],
    ['a field that is added and removed', `${add('x: y')}, ${remove('x')}`],
    ['more times than there are places', add('x: "${time.now}${time.now}${time.now}${time.now}${time.now}"')],
  ])('at run time: %s', (_, rules) => {
    const compiled = policy(rules)
    expect(compiled.answersAreForetold).toBe(true)
    expect(foretell(exchange(compiled).it)).toBeUndefined()
  })
})
