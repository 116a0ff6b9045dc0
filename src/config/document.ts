/**
 * YAML and JSON texts as trees of nodes with places. The only importer of `yaml`.
 *
 * Source: YAML 1.2.2; traffic-policy.md §1.4 (duplicate keys refused; anchors, aliases and merge keys accepted).
 */
import { isAlias, isMap, isScalar, isSeq, parseAllDocuments, type Document, type Pair, type Scalar } from 'yaml'
import type { Diagnostics } from './diagnostic.ts'
import type { ConfigNode, MapEntry, ScalarNode } from './node.ts'
import { plainValue } from './plain-scalar.ts'
import { scalarPlaces, type Places, type ScalarStyle } from './scalar-places.ts'
import type { SourceFile, Span } from './source.ts'

/** Nodes that one document may have, aliases counted each time they are used. */
const MOST_NODES = 500_000

/** Options of parseDocuments. */
export interface ParseOptions {
  /** Instead of `YAML_SYNTAX`, `DUPLICATE_KEY` and so on: `ERR_NGROK_2236` for policies. */
  readonly code?: string
}

/**
 * Every document of a text that has content, in order. Errors go to `diagnostics`; then the answer is empty.
 * JSON is read as the YAML it also is.
 */
export function parseDocuments(source: SourceFile, diagnostics: Diagnostics, options: ParseOptions = {}): ConfigNode[] {
  return readDocuments(source, diagnostics, options) ?? []
}

/** The same, but undefined when there were errors, so that an empty text can be told from a wrong one. */
export function readDocuments(
  source: SourceFile,
  diagnostics: Diagnostics,
  options: ParseOptions = {},
): ConfigNode[] | undefined {
  const reporter = new Reporter(source, diagnostics, options.code)
  try {
    return readAll(source, reporter)
  } catch (error) {
    // the parser and the walk over its tree recurse: thousands of nested brackets end here
    if (!(error instanceof RangeError)) throw error
    reporter.error('YAML_TOO_DEEP', 'the text is nested too deeply', 0, 0)
    return undefined
  }
}

function readAll(source: SourceFile, reporter: Reporter): ConfigNode[] | undefined {
  const documents = parseAllDocuments(source.text, {
    uniqueKeys: false, // checked below, where the first place is known
    prettyErrors: false,
    strict: true,
    logLevel: 'silent',
    version: '1.2',
  })
  // an empty stream is an array without documents; its errors stand on itself
  const all = [...documents]
  if ('errors' in documents) reporter.syntax(documents.errors)
  for (const document of all) reporter.syntax([...document.errors, ...document.warnings])
  if (reporter.failed) return undefined
  const nodes: ConfigNode[] = []
  for (const document of all) {
    const { contents } = document
    const isEmpty =
      contents === null || (isScalar(contents) && contents.source === '' && contents.range?.[0] === contents.range?.[1])
    if (!isEmpty) nodes.push(new Converter(source, document, reporter).root(contents))
  }
  return reporter.failed ? undefined : nodes
}

interface SyntaxProblem {
  readonly code: string
  readonly message: string
  readonly pos: readonly [number, number]
}

class Reporter {
  failed = false
  readonly #source: SourceFile
  readonly #diagnostics: Diagnostics
  readonly #code: string | undefined

  constructor(source: SourceFile, diagnostics: Diagnostics, code: string | undefined) {
    this.#source = source
    this.#diagnostics = diagnostics
    this.#code = code
  }

  error(code: string, message: string, start: number, end: number, hint?: string, first?: Span): void {
    this.failed = true
    const span = { source: this.#source, start, end }
    const related = first && { message: 'first given here', span: first }
    this.#diagnostics.error(this.#code ?? code, message, span, hint, related)
  }

  /** One report per line, and one unexpected token: a parser that lost its way says more than it knows. */
  syntax(problems: readonly SyntaxProblem[]): void {
    let lastLine = 0
    let lost = false
    for (const { code, message, pos } of [...problems].sort((a, b) => a.pos[0] - b.pos[0])) {
      const { line } = this.#source.position(pos[0])
      if (line === lastLine || (lost && code === 'UNEXPECTED_TOKEN')) continue
      lastLine = line
      lost = true
      const kind = code === 'TAG_RESOLVE_FAILED' ? 'YAML_TAG' : 'YAML_SYNTAX'
      this.error(
        kind,
        `not valid YAML: ${message.replace(/\s*\n[\s\S]*$/, '')}`,
        pos[0],
        pos[1],
        syntaxHint(code, message, this.#source.text.slice(pos[0] - 1, pos[0] + 1)),
      )
    }
  }
}

function syntaxHint(code: string, message: string, around: string): string | undefined {
  if (around === '${') return 'put quotes round ${…} where it stands inside { } or [ ]'
  if (code === 'TAB_AS_INDENT') return 'indent with blanks'
  if (message.includes('Nested mappings')) return 'put quotes round a text that contains ": "'
  if (code === 'BAD_SCALAR_START') return 'put quotes round a text that starts with this character'
  if (code === 'BAD_INDENT' || code === 'MULTILINE_IMPLICIT_KEY')
    return 'check the indentation of this line and the one before it'
  return undefined
}

/** Converts one document. Anchored nodes are converted once and shared. */
class Converter {
  readonly #source: SourceFile
  readonly #document: Document
  readonly #reporter: Reporter
  readonly #done = new Map<unknown, { node: ConfigNode; size: number }>()
  readonly #open = new Set<unknown>()

  constructor(source: SourceFile, document: Document, reporter: Reporter) {
    this.#source = source
    this.#document = document
    this.#reporter = reporter
  }

  root(contents: unknown): ConfigNode {
    const { node, size } = this.#convert(contents, 0)
    if (size > MOST_NODES) {
      this.#reporter.error(
        'YAML_TOO_LARGE',
        `the document has more than ${MOST_NODES} values`,
        node.span.start,
        node.span.start,
      )
    }
    return node
  }

  #convert(it: unknown, at: number): { node: ConfigNode; size: number } {
    if (it === null) return { node: this.#empty(this.#span(it, at)), size: 1 } // `{a}`: a key without a value
    if (isAlias(it)) return this.#alias(it, at)
    const known = this.#done.get(it)
    if (known !== undefined) return known
    this.#open.add(it)
    const result = this.#fresh(it, at)
    this.#open.delete(it)
    this.#done.set(it, result)
    return result
  }

  #alias(alias: { source: string; resolve: (document: Document) => unknown; range?: unknown }, at: number) {
    const span = this.#span(alias, at)
    const target = alias.resolve(this.#document)
    if (target === undefined) {
      this.#reporter.error('YAML_ALIAS', `no anchor &${alias.source} stands before this`, span.start, span.end)
    } else if (this.#open.has(target)) {
      this.#reporter.error('YAML_ALIAS', `*${alias.source} contains itself`, span.start, span.end)
    } else {
      return this.#convert(target, at)
    }
    return { node: this.#empty(span), size: 1 }
  }

  #fresh(it: unknown, at: number): { node: ConfigNode; size: number } {
    const span = this.#span(it, at)
    if (isScalar(it)) return { node: this.#scalar(it, span), size: 1 }
    if (isSeq(it)) {
      const items = []
      let size = 1
      for (const child of it.items) {
        const converted = this.#convert(child, span.start)
        items.push(converted.node)
        size += converted.size
      }
      return { node: { kind: 'list', items, span }, size }
    }
    if (isMap(it)) return this.#map(it.items, span)
    return { node: this.#empty(span), size: 1 }
  }

  #map(pairs: readonly Pair[], span: Span): { node: ConfigNode; size: number } {
    const entries = new Map<string, MapEntry>()
    const merged = new Map<string, MapEntry>()
    let size = 1
    for (const pair of pairs) {
      const keyNode = isAlias(pair.key) ? pair.key.resolve(this.#document) : pair.key
      const keySpan = this.#span(pair.key, span.start)
      if (!isScalar(keyNode) || keyNode.source === undefined || keyNode.source === '') {
        this.#reporter.error('YAML_KEY', 'a key must be a text', keySpan.start, keySpan.end)
        continue
      }
      const value = this.#convert(pair.value, keySpan.end)
      size += value.size
      const key = keyNode.source
      if (key === '<<' && keyNode.type === 'PLAIN') {
        this.#merge(value.node, merged, keySpan)
        continue
      }
      const first = entries.get(key)
      if (first !== undefined) {
        this.#reporter.error(
          'DUPLICATE_KEY',
          `${key} is given twice`,
          keySpan.start,
          keySpan.end,
          undefined,
          first.keySpan,
        )
        continue
      }
      entries.set(key, { key, keySpan, value: value.node })
    }
    for (const [key, entry] of entries) merged.set(key, entry)
    return { node: { kind: 'map', entries: [...merged.values()], span }, size }
  }

  /** `<<`: one mapping or a list of them; what is named first wins, the mapping's own keys before all. */
  #merge(value: ConfigNode, into: Map<string, MapEntry>, keySpan: Span): void {
    for (const node of value.kind === 'list' ? value.items : [value]) {
      if (node.kind !== 'map') {
        this.#reporter.error('YAML_MERGE', '<< takes a mapping or a list of mappings', keySpan.start, keySpan.end)
        continue
      }
      for (const entry of node.entries) if (!into.has(entry.key)) into.set(entry.key, entry)
    }
  }

  #scalar(scalar: Scalar, span: Span): ScalarNode {
    const style = STYLES[scalar.type ?? 'PLAIN'] ?? 'plain'
    const text = scalar.source ?? ''
    const plain = style === 'plain' && scalar.tag === undefined
    let value: ScalarNode['value'] = plain ? plainValue(text) : text
    // an explicit tag (!!int, !!bool) was resolved by the parser; everything else quoted or tagged is a text
    if (scalar.tag !== undefined && (typeof scalar.value === 'number' || typeof scalar.value === 'boolean'))
      value = scalar.value
    if (scalar.tag !== undefined && scalar.value === null) value = null
    return { kind: 'scalar', value, text, plain, span, spanAt: spansOf(this.#source, span, style, text) }
  }

  #empty(span: Span): ScalarNode {
    return { kind: 'scalar', value: null, text: '', plain: true, span, spanAt: () => span }
  }

  #span(it: unknown, at: number): Span {
    const range = (it as { range?: readonly [number, number, number] | null } | null)?.range
    const start = range?.[0] ?? at
    return { source: this.#source, start, end: Math.max(start, range?.[1] ?? start) }
  }
}

const STYLES: Readonly<Record<string, ScalarStyle>> = {
  PLAIN: 'plain',
  QUOTE_SINGLE: 'single',
  QUOTE_DOUBLE: 'double',
  BLOCK_LITERAL: 'literal',
  BLOCK_FOLDED: 'folded',
}

/** Finds places on demand: few scalars of a document ever hold an error. */
function spansOf(source: SourceFile, span: Span, style: ScalarStyle, text: string): ScalarNode['spanAt'] {
  let places: Places | undefined | null = null
  return (offset, length) => {
    places ??= places === null ? scalarPlaces(style, source.text.slice(span.start, span.end), text) : undefined
    if (places === undefined) return span
    const start = places.starts[offset]
    // just behind the last character: the end of an expression that stops too early
    if (start === undefined) {
      const end = span.start + (places.ends.at(Math.min(offset, text.length) - 1) ?? 0)
      return { source, start: end, end }
    }
    const last = length > 0 ? places.ends[Math.min(offset + length, text.length) - 1] : undefined
    return { source, start: span.start + start, end: span.start + (last ?? start) }
  }
}
