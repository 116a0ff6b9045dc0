/**
 * YAML values of any shape in which every string may hold `${…}`: what `log` and `set-vars` take.
 *
 * Source: traffic-policy.md §4 (result types), §5.11, §5.24.
 */
import { type ConfigNode, textSource } from '../config/node.ts'
import type { JsonValue } from '../expression/source.ts'
import { celFromJson } from '../expression/convert.ts'
import type { Template } from '../expression/template.ts'
import { type CelValue, EntryMap } from '../expression/value.ts'
import type { PolicyScope } from '../policy/scope.ts'
import type { CompileContext } from './action.ts'

export type TemplateTree =
  | { readonly kind: 'constant'; readonly value: JsonValue }
  | { readonly kind: 'template'; readonly template: Template }
  | { readonly kind: 'list'; readonly items: readonly TemplateTree[] }
  | { readonly kind: 'map'; readonly entries: readonly (readonly [string, TemplateTree])[] }

/** §5.24 `[U]`: deeper nesting is refused with 2250. */
const MAX_DEPTH = 10

/** Compiles every string of a value; undefined after errors. Keys are not interpolated. */
export function compileTree(node: ConfigNode, context: CompileContext, depth = 0): TemplateTree | undefined {
  if (depth > MAX_DEPTH) {
    context.diagnostics.error('ERR_NGROK_2250', `values may be nested ${MAX_DEPTH} deep at most`, node.span)
    return undefined
  }
  if (node.kind === 'scalar') {
    if (typeof node.value !== 'string') {
      const value = typeof node.value === 'bigint' ? Number(node.value) : node.value
      return { kind: 'constant', value }
    }
    if (!node.text.includes('$')) return { kind: 'constant', value: node.text }
    const template = context.template(textSource(node))
    return template && { kind: 'template', template }
  }
  if (node.kind === 'list') {
    const items = node.items.map((item) => compileTree(item, context, depth + 1))
    return items.includes(undefined) ? undefined : { kind: 'list', items: items as TemplateTree[] }
  }
  const entries = node.entries.map(({ key, value }) => [key, compileTree(value, context, depth + 1)] as const)
  const complete = entries.every((entry): entry is readonly [string, TemplateTree] => entry[1] !== undefined)
  return complete ? { kind: 'map', entries: entries as readonly (readonly [string, TemplateTree])[] } : undefined
}

/** The value with the types that lone interpolations give it. A failed interpolation becomes null and leaves a trace (§4). */
export function renderTree(tree: TemplateTree, scope: PolicyScope, field: string): CelValue {
  switch (tree.kind) {
    case 'constant':
      return celFromJson(tree.value)
    case 'template':
      try {
        return tree.template.value(scope)
      } catch (error) {
        scope.interpolationFailed(field, error)
        return null
      }
    case 'list':
      return tree.items.map((item) => renderTree(item, scope, field))
    case 'map':
      return EntryMap.of(tree.entries.map(([key, value]) => [key, renderTree(value, scope, `${field}.${key}`)]))
  }
}

/** The value with every interpolated string as text, as all fields but variables have it (§4); a failed one is empty. */
export function renderTexts(tree: TemplateTree, scope: PolicyScope, field: string): JsonValue {
  switch (tree.kind) {
    case 'constant':
      return tree.value
    case 'template':
      try {
        return tree.template.render(scope)
      } catch (error) {
        scope.interpolationFailed(field, error)
        return ''
      }
    case 'list':
      return tree.items.map((item) => renderTexts(item, scope, field))
    case 'map':
      return Object.fromEntries(tree.entries.map(([key, value]) => [key, renderTexts(value, scope, `${field}.${key}`)]))
  }
}
