/**
 * JSON Schemas for editors, written from the definitions that check the files.
 *
 * Source: JSON Schema 2020-12.
 */
import type { JsonSchema } from './schema-kit.ts'
import { gatewaySchema } from './settings.ts'

const DIALECT = 'https://json-schema.org/draft/2020-12/schema'

/** Head of a schema document. */
export interface JsonSchemaHead {
  readonly title: string
  readonly description: string
  /** Parts that others refer to as `#/$defs/<name>`. */
  readonly definitions?: Readonly<Record<string, JsonSchema>>
}

/** A whole schema document. */
export function jsonSchemaDocument(schema: JsonSchema, head: JsonSchemaHead): JsonSchema {
  const { title, description, definitions } = head
  return {
    $schema: DIALECT,
    title,
    description,
    ...schema,
    ...(definitions !== undefined && { $defs: definitions }),
  }
}

/** The same as the text of a file: two blanks of indentation, a line end at its end. */
export function jsonSchemaText(schema: JsonSchema, head: JsonSchemaHead): string {
  return `${JSON.stringify(jsonSchemaDocument(schema, head), undefined, 2)}\n`
}

/**
 * The schema of gateway.yaml. `policy` is the schema of a traffic policy, alone or as a document with definitions of its
 * own; without it `traffic_policy` is any mapping.
 */
export function gatewayJsonSchema(policy: JsonSchema = { type: 'object' }): JsonSchema {
  const schema = withExpansion(gatewaySchema.jsonSchema()) as JsonSchema // an object stays one
  // `#/$defs/…` inside the policy's schema means this document now
  const { $schema: _, $defs: own, ...rest } = policy
  return jsonSchemaDocument(schema, {
    title: 'gateway.yaml',
    description: 'Settings of the gateway sallyport.',
    definitions: {
      ...(own as Record<string, JsonSchema> | undefined), // definitions are schemas by name
      policy: rest,
      expansion: {
        type: 'string',
        pattern: '\\$\\{',
        description: '${NAME} or ${NAME:-default} from the environment.',
      },
    },
  })
}

const EXPANSION = { $ref: '#/$defs/expansion' }
const ANNOTATIONS = ['description', 'default', 'deprecated']
const TEXT_LIMITS = ['pattern', 'minLength', 'maxLength']

/** Every single value may also be a text with `${…}` in it. */
function withExpansion(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(withExpansion)
  if (typeof schema !== 'object' || schema === null) return schema
  const entries = Object.entries(schema)
  if (!isLeaf(schema)) {
    return Object.fromEntries(entries.map(([key, value]) => [key, isData(key) ? value : withExpansion(value)]))
  }
  const outside = entries.filter(([key]) => ANNOTATIONS.includes(key))
  const inside = entries.filter(([key]) => !ANNOTATIONS.includes(key))
  return { ...Object.fromEntries(outside), anyOf: [Object.fromEntries(inside), EXPANSION] }
}

/** Texts without limits take `${…}` as they are. */
function isLeaf(schema: object): boolean {
  if ('enum' in schema || 'const' in schema) return true
  if (!('type' in schema)) return false
  const types = Array.isArray(schema.type) ? schema.type : [schema.type]
  if (types.includes('object') || types.includes('array')) return false
  return !types.includes('string') || TEXT_LIMITS.some((key) => key in schema)
}

/** Keys whose value is no schema. */
function isData(key: string): boolean {
  return key === 'default' || key === 'required' || key === 'propertyNames'
}
