/** The JSON Schema of policy files, for editors: written from the schemas that check them. */
import { ACTIONS } from '../actions/index.ts'
import type { JsonSchema } from '../config/schema-kit.ts'
import type { PhaseName } from '../expression/source.ts'

/** Draft 2020-12. */
export function policyJsonSchema(): JsonSchema {
  const rules = (phase: PhaseName): JsonSchema => ({
    type: 'array',
    items: {
      type: 'object',
      properties: {
        name: { type: 'string' },
        expressions: { type: 'array', items: { type: ['string', 'boolean'] } },
        actions: { type: 'array', minItems: 1, items: { oneOf: actionsOf(phase) } },
      },
      required: ['actions'],
      additionalProperties: false,
    },
  })
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Traffic Policy, as Sallyport runs it',
    type: 'object',
    properties: {
      on_tcp_connect: rules('on_tcp_connect'),
      on_http_request: rules('on_http_request'),
      on_http_response: rules('on_http_response'),
      on_event_stream_message: rules('on_event_stream_message'),
    },
    additionalProperties: false,
  }
}

function actionsOf(phase: PhaseName): JsonSchema[] {
  const actions = [...new Set(ACTIONS.values())].filter((action) => action.phases.includes(phase))
  return actions.map((action) => ({
    type: 'object',
    properties: { type: { enum: [action.type, ...action.aliases] }, config: action.jsonSchema() },
    required: action.configRequired ? ['type', 'config'] : ['type'],
    additionalProperties: false,
  }))
}
