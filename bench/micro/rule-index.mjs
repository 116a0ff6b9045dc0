/**
 * What a phase of a thousand path rules costs per request: microseconds of CPU with the index and without. Run
 * `npm run build`, then `node bench/micro/rule-index.mjs`.
 */
import { Diagnostics } from '../../dist/config/diagnostic.js'
import { SourceFile } from '../../dist/config/source.js'
import { compileExpression } from '../../dist/expression/expression.js'
import { RuleIndex } from '../../dist/phase/rule-index.js'
import { runPhase } from '../../dist/phase/run-phase.js'

const NEXT = Object.freeze({ kind: 'next' })
const environment = { phase: 'on_http_request', overrides: true, now: () => new Date() }

function expression(text) {
  const file = new SourceFile('policy.yaml', text)
  const spanAt = (offset, length) => ({ source: file, start: offset, end: offset + length })
  const diagnostics = new Diagnostics()
  const compiled = compileExpression({ text, span: spanAt(0, text.length), spanAt }, environment, diagnostics)
  if (compiled === undefined) throw new Error(diagnostics.all.map(({ message }) => message).join('\n'))
  return compiled
}

const SHAPES = {
  'a prefix each': (number) => [`req.url.path.startsWith('/api/v1/service-${number}/')`],
  'a path each': (number) => [`req.url.path == '/api/v1/service-${number}/items/7'`],
  'a method and a prefix each': (number) => [
    `req.method == 'GET'`,
    `req.url.path.startsWith('/api/v1/service-${number}/')`,
  ],
  'prefixes of 20 lengths': (number) => [
    `req.url.path.startsWith('/api/v1/service-${number}/${'x'.repeat(number % 20)}')`,
  ],
  'a host each': (number) => [`req.host == 'service-${number}.example'`],
}

let ran = 0
function exchangeFor(path, host) {
  return {
    request: { method: 'GET', host, url: { path } },
    snapshot: { settings: { policy: { strict: false } } },
    running() {
      ran += 1
    },
    ran() {},
    expressionFailed(_, error) {
      throw error
    },
  }
}

process.stdout.write(`node ${process.version}\n1000 rules, µs CPU per request; best of seven rounds\n`)
for (const [name, shape] of Object.entries(SHAPES)) {
  const rules = Array.from({ length: 1000 }, (_, number) => ({
    name: `rule ${number}`,
    expressions: shape(number).map(expression),
    actions: [{ type: 'log', run: () => NEXT }],
  }))
  const index = RuleIndex.of(rules)
  const exchanges = Array.from({ length: 100 }, (_, number) =>
    exchangeFor(`/api/v1/service-${number * 10}/items/7`, `service-${number * 10}.example`),
  )
  const measure = (requests, withIndex) => {
    let best = Infinity
    for (let round = 0; round < 7; round += 1) {
      const cpu = process.cpuUsage()
      for (let request = 0; request < requests; request += 1) {
        runPhase(rules, exchanges[request % exchanges.length], { rule: 0, action: 0 }, withIndex)
      }
      const { user, system } = process.cpuUsage(cpu)
      best = Math.min(best, (user + system) / requests)
    }
    return best
  }
  ran = 0
  runPhase(rules, exchanges[3], { rule: 0, action: 0 }, index)
  const indexed = measure(50_000, index)
  const linear = measure(2000, undefined)
  process.stdout.write(
    `${name.padEnd(28)} indexed ${indexed.toFixed(2).padStart(6)}   one by one ${linear.toFixed(1).padStart(6)}   rules run ${ran > 0 ? 'yes' : 'no'}\n`,
  )
}
