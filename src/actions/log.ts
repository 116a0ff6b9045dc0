/**
 * `log`: adds an entry to the event that is written when the exchange ends. Never ends the phase. Publishes
 * `log.metadata`. Source: traffic-policy.md §5.11.
 */
import type { ConfigNode } from '../config/node.ts'
import { described, optional, policyKit } from '../config/schema-kit.ts'
import { NEXT, type Next } from '../phase/outcome.ts'
import type { PolicyScope } from '../policy/scope.ts'
import type { Action } from './action.ts'
import { compileTree, renderTexts, type TemplateTree } from './template-tree.ts'

interface Config {
  readonly metadata: ConfigNode | undefined
}

interface Plan {
  readonly metadata: TemplateTree | undefined
}

export const log: Action<Config, Plan> = {
  type: 'log',
  phases: ['on_tcp_connect', 'on_http_request', 'on_http_response'],
  configRequired: false,
  schema: policyKit.object(
    {
      metadata: described(
        optional(policyKit.anyNode()),
        'A map that is written into the access log line; texts may hold `${…}`.',
      ),
    },
    { allowNull: true },
  ),
  compile(config, context) {
    if (config.metadata === undefined) return { metadata: undefined }
    if (config.metadata.kind !== 'map') {
      context.diagnostics.error('ERR_NGROK_2203', 'metadata must be a mapping', config.metadata.span)
      return undefined
    }
    const metadata = compileTree(config.metadata, context)
    return metadata && { metadata }
  },
  run: append,
  runOnConnect: append,
}

function append(plan: Plan, scope: PolicyScope): Next {
  const metadata = plan.metadata === undefined ? {} : renderTexts(plan.metadata, scope, 'metadata')
  scope.appendLog(metadata)
  scope.setResult('log', { metadata })
  return NEXT
}
