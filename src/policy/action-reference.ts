/**
 * The part of an action's page that its schema decides: phases, keys, kinds of values, defaults. `npm run generate`
 * writes it between two marks; everything else on the page is written by hand.
 */
import type { RegisteredAction } from '../actions/action.ts'
import type { JsonSchema } from '../config/schema-kit.ts'

const BEGIN = '<!-- keys: written by npm run generate -->'
const END = '<!-- /keys -->'

/** The page with its generated part as the action has it now. Throws when the marks are missing. */
export function withActionReference(page: string, action: RegisteredAction): string {
  const begin = page.indexOf(BEGIN)
  const end = page.indexOf(END)
  if (begin === -1 || end < begin) throw new Error(`the page of ${action.type} lacks ${BEGIN} … ${END}`)
  return `${page.slice(0, begin)}${BEGIN}\n\n${actionReference(action)}\n${page.slice(end)}`
}

/** Phases and table of keys, in Markdown. */
export function actionReference(action: RegisteredAction): string {
  const phases = action.phases.map((phase) => `\`${phase}\``).join(', ')
  const aliases = action.aliases.length === 0 ? '' : `\n\nAlso written ${action.aliases.map(code).join(', ')}.`
  const rows = keysOf(action.jsonSchema(), '')
  if (rows.length === 0) return `Phases: ${phases}. It has no keys.${aliases}\n`
  const table = rows.map((row) => `| ${row.key} | ${row.value} | ${row.initial} | ${row.meaning} |`).join('\n')
  return `Phases: ${phases}.${aliases}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n${table}\n`
}

interface Row {
  readonly key: string
  readonly value: string
  readonly initial: string
  readonly meaning: string
}

interface Node extends JsonSchema {
  readonly type?: string | readonly string[]
  readonly properties?: Readonly<Record<string, Node>>
  readonly required?: readonly string[]
  readonly items?: Node
  readonly oneOf?: readonly Node[]
  readonly anyOf?: readonly Node[]
  readonly enum?: readonly unknown[]
  readonly additionalProperties?: boolean | Node
  readonly minimum?: number
  readonly maximum?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly pattern?: string
  readonly default?: unknown
  readonly description?: string
}

function keysOf(schema: JsonSchema, prefix: string): Row[] {
  const { properties = {}, required = [] } = schema as Node
  return Object.entries(properties).flatMap(([name, node]) => {
    const key = `${prefix}${name}`
    const row: Row = {
      key: code(key),
      value: valueOf(node),
      initial: required.includes(name) ? 'required' : defaultOf(node),
      meaning: (node.description ?? '').replaceAll('|', '\\|'),
    }
    // the one form with keys of its own: a mapping, or the items of a list of them
    const forms = [node, node.items, ...(node.oneOf ?? node.anyOf ?? [])]
    const inner = forms.find((form) => form?.properties !== undefined)
    const below = inner === node.items ? `${key}[].` : `${key}.`
    return inner === undefined ? [row] : [row, ...keysOf(inner, below)]
  })
}

function valueOf(node: Node): string {
  if (node.enum !== undefined) return node.enum.map((value) => code(String(value))).join(', ')
  const forms = node.oneOf ?? node.anyOf
  if (forms !== undefined) return [...new Set(forms.map(valueOf))].join(', or ')
  const type = typeof node.type === 'string' ? [node.type] : (node.type ?? [])
  if (type.includes('array')) return `list${rangeOf(node.minItems, node.maxItems)}`
  if (type.includes('object')) return node.properties === undefined ? 'names and values' : 'mapping'
  if (type.includes('integer')) return `whole number${rangeOf(node.minimum, node.maximum)}`
  if (type.includes('number') && !type.includes('string')) return `number${rangeOf(node.minimum, node.maximum)}`
  if (type.includes('boolean') && !type.includes('string')) return '`true` or `false`'
  if (node.pattern?.includes('ns|us|') === true) return 'duration'
  if (type.includes('string')) return type.includes('number') ? 'text' : 'expression'
  return 'anything'
}

function rangeOf(least: number | undefined, most: number | undefined): string {
  if (least !== undefined && most !== undefined) return `, ${least} to ${most}`
  if (most !== undefined) return `, at most ${most}`
  return least === undefined || least === 0 ? '' : `, at least ${least}`
}

function defaultOf({ default: initial }: Node): string {
  if (initial === undefined) return ''
  if (Array.isArray(initial) && initial.length === 0) return 'none'
  if (Array.isArray(initial)) return (initial as readonly unknown[]).map((value) => code(String(value))).join(', ')
  return initial === '' ? '' : code(String(initial))
}

function code(text: string): string {
  return `\`${text}\``
}
