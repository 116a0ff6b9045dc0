/**
 * `set-vars`: defines `vars.<name>` for the rest of the phase, in order. Never ends the phase. Publishes nothing.
 * Source: traffic-policy.md §5.24.
 */
import type { ConfigNode } from '../config/node.ts'
import { described, INVALID, policyKit, type Schema, transform } from '../config/schema-kit.ts'
import { NEXT, type Next } from '../phase/outcome.ts'
import type { PolicyScope } from '../policy/scope.ts'
import type { Action } from './action.ts'
import { compileTree, renderTree, type TemplateTree } from './template-tree.ts'

interface Config {
  readonly vars: ConfigNode
}

interface Plan {
  readonly vars: readonly { readonly name: string; readonly value: TemplateTree }[]
}

const MAX_VARS = 50
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/
const HINT = 'write a list of single-key mappings: `- name: value`'

const listSchema: Schema<Config> = policyKit.object({
  vars: described(
    transform(policyKit.anyNode(), (node, { diagnostics }) => {
      if (node.kind === 'list') return node
      diagnostics.error('ERR_NGROK_2252', 'vars must be a list', node.span, HINT)
      return INVALID
    }),
    'A list of maps of one name and its value each, so that later ones see earlier ones. At most 50.',
  ),
})

export const setVars: Action<Config, Plan> = {
  type: 'set-vars',
  phases: ['on_tcp_connect', 'on_http_request', 'on_http_response'],
  configRequired: true,
  schema: {
    ...listSchema,
    parse(node, diagnostics, label) {
      const first = node.kind === 'map' ? node.entries[0] : undefined
      if (node.kind !== 'map' || first === undefined || node.entries.some((entry) => entry.key === 'vars')) {
        return listSchema.parse(node, diagnostics, label)
      }
      // §11: variables directly under `config`
      const hint = 'variables stand in a list under `vars`: `vars: [{ name: value }]`'
      diagnostics.error('ERR_NGROK_2252', `the variable ${first.key} stands outside vars`, first.keySpan, hint)
      return INVALID
    },
  },
  compile(config, context) {
    const { diagnostics } = context
    // the schema let only lists through
    const items = config.vars.kind === 'list' ? config.vars.items : []
    if (items.length > MAX_VARS) {
      diagnostics.error('ERR_NGROK_2255', `at most ${MAX_VARS} variables per action`, config.vars.span)
      return undefined
    }
    const vars: { name: string; value: TemplateTree }[] = []
    for (const item of items) {
      const entry = item.kind === 'map' && item.entries.length === 1 ? item.entries[0] : undefined
      if (entry === undefined) {
        diagnostics.error('ERR_NGROK_2252', 'each entry of vars must have exactly one key', item.span, HINT)
        continue
      }
      if (!NAME.test(entry.key)) {
        diagnostics.error('ERR_NGROK_2204', `${entry.key} is not a variable name`, entry.keySpan)
        continue
      }
      const value = compileTree(entry.value, context)
      if (value !== undefined) vars.push({ name: entry.key, value })
    }
    return vars.length === items.length ? { vars } : undefined
  },
  run: assign,
  runOnConnect: assign,
}

function assign(plan: Plan, scope: PolicyScope): Next {
  for (const { name, value } of plan.vars) scope.setVariable(name, renderTree(value, scope, `vars.${name}`))
  return NEXT
}
