/**
 * Which expressions have the same value from the end of the request phase to the end of the exchange: those of the
 * connection, the endpoint and the head of the request, worked on by pure functions. Rules of the response that are made of
 * them can be worked out before the answer is there (phase/foretell.ts).
 *
 * Source: traffic-policy.md §6 (what the variables are). In doubt an expression is not settled: it is then evaluated in its phase.
 */
import { type Checked, pathOf } from './check.ts'
import type { ExpressionNode } from './syntax.ts'

/** Variables whose values do not change any more, with everything below them. */
const SETTLED = [
  'conn.client_ip',
  'conn.client_port',
  'conn.server_ip',
  'conn.server_port',
  'conn.server_region',
  'conn.geo',
  'conn.tls',
  'endpoint',
  'req.content_type',
  'req.cookies',
  'req.headers',
  'req.host',
  'req.method',
  'req.url',
  'req.user_agent',
  'req.version',
].map((path) => path.split('.'))

/** The time at which a rule runs: different each time, but known by its form. */
const CLOCK = 'time.now'

/** `clock`: it is `time.now`, and nothing else. */
export type Settled = 'yes' | 'no' | 'clock'

export function settledOf(root: ExpressionNode, checked: Checked): Settled {
  if (pathOf(root)?.path.join('.') === CLOCK) return 'clock'
  return isSettled(root, checked) ? 'yes' : 'no'
}

function isSettled(node: ExpressionNode, checked: Checked): boolean {
  const path = pathOf(node)?.path
  if (path !== undefined) return SETTLED.some((names) => names.every((name, place) => path[place] === name))
  const all = (nodes: readonly ExpressionNode[]): boolean => nodes.every((one) => isSettled(one, checked))
  switch (node.kind) {
    case 'literal':
      return true
    case 'select':
      return isSettled(node.operand, checked)
    case 'index':
      return all([node.operand, node.index])
    case 'has':
      return isSettled(node.operand, checked)
    case 'logic':
      return all(node.operands)
    case 'conditional':
      return all([node.condition, node.whenTrue, node.whenFalse])
    case 'list':
      return all(node.items.map(({ value }) => value))
    case 'call': {
      const called = checked.functionOf(node)
      if (called?.entry.pure !== true) return false
      // of a global function the target is a part of its name
      return all(node.target === undefined || called.global ? node.args : [node.target, ...node.args])
    }
    default:
      return false
  }
}
