/** A parsed YAML or JSON document as we see it: values with their places, free of the parser's own classes. */
import type { Span } from './source.ts'

export type ConfigNode = ScalarNode | MapNode | ListNode

export interface ScalarNode {
  readonly kind: 'scalar'
  /** As YAML 1.2 core types it; `null` for an empty value. Integers beyond 2^53 are bigint. */
  readonly value: string | number | bigint | boolean | null
  /** The text as written for plain scalars, the decoded text for quoted and block scalars. */
  readonly text: string
  /** Written without quotes: after a substitution its type is found anew. */
  readonly plain?: boolean
  readonly span: Span
  /** The place of a part of the decoded text, as exact as the scalar's style allows. */
  readonly spanAt: (offset: number, length: number) => Span
}

export interface MapNode {
  readonly kind: 'map'
  readonly entries: readonly MapEntry[]
  readonly span: Span
}

export interface MapEntry {
  readonly key: string
  readonly keySpan: Span
  readonly value: ConfigNode
}

export interface ListNode {
  readonly kind: 'list'
  readonly items: readonly ConfigNode[]
  readonly span: Span
}

/** A text that holds CEL, with the way back to its place in the file. */
export interface TextSource {
  readonly text: string
  readonly span: Span
  readonly spanAt: (offset: number, length: number) => Span
}

export function textSource(node: ScalarNode): TextSource {
  return { text: node.text, span: node.span, spanAt: node.spanAt }
}

/** Mappings merge key by key; everything else of the later one replaces the earlier one's. */
export function mergeNodes(earlier: ConfigNode, later: ConfigNode): ConfigNode {
  if (earlier.kind !== 'map' || later.kind !== 'map') return later
  const entries = new Map<string, MapEntry>(earlier.entries.map((entry) => [entry.key, entry]))
  for (const entry of later.entries) {
    const before = entries.get(entry.key)
    entries.set(entry.key, before === undefined ? entry : { ...entry, value: mergeNodes(before.value, entry.value) })
  }
  return { kind: 'map', entries: [...entries.values()], span: later.span }
}
