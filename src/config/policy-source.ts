/** Policy documents as text: read, parsed, names filled in. What they mean is policy/'s business. */
import type { Diagnostics } from './diagnostic.ts'
import { readDocuments } from './document.ts'
import type { ConfigNode, MapNode } from './node.ts'
import { readOrReport, type FileReader } from './reader.ts'
import { besideItsFile, type PathText } from './settings.ts'
import type { SourceFile } from './source.ts'
import { substituteNames, type Substitutions } from './substitution.ts'

/** traffic-policy.md §1.3: a document that cannot be parsed. */
const NOT_PARSEABLE = 'ERR_NGROK_2236'

/** Reads each policy file once, however many endpoints name it. */
export class PolicyFiles {
  readonly #reader: FileReader
  readonly #diagnostics: Diagnostics
  readonly #substitutions: Substitutions
  readonly #known = new Map<string, MapNode | undefined>()

  constructor(reader: FileReader, diagnostics: Diagnostics, substitutions: Substitutions) {
    this.#reader = reader
    this.#diagnostics = diagnostics
    this.#substitutions = substitutions
  }

  /** The document of a file; undefined, and reported, when it cannot be read or parsed. */
  read(file: PathText): MapNode | undefined {
    const path = besideItsFile(file)
    if (this.#known.has(path)) return this.#known.get(path)
    const source = readOrReport(path, this.#reader, this.#diagnostics, file.span)
    const node = source && policyDocument(source, this.#substitutions, this.#diagnostics)
    this.#known.set(path, node)
    return node
  }

  /** A policy that stands inside another document. */
  inline(node: ConfigNode): MapNode {
    // names are replaced inside the values of a mapping, which stays one
    return substituteNames(node, this.#substitutions, this.#diagnostics) as MapNode
  }
}

/** One policy per text: several documents are refused (traffic-policy.md §1.4). An empty text is an empty policy. */
export function policyDocument(
  source: SourceFile,
  substitutions: Substitutions,
  diagnostics: Diagnostics,
): MapNode | undefined {
  const documents = readDocuments(source, diagnostics, { code: NOT_PARSEABLE })
  if (documents === undefined) return undefined
  const [document, second] = documents
  if (second !== undefined) {
    const start = { ...second.span, end: Math.min(second.span.end, second.span.start + 1) }
    diagnostics.error(NOT_PARSEABLE, 'a policy file holds one document; a second one starts here', start)
    return undefined
  }
  if (document === undefined) return { kind: 'map', entries: [], span: { source, start: 0, end: 0 } }
  const node = substituteNames(document, substitutions, diagnostics)
  if (node.kind === 'map') return node
  if (node.kind === 'scalar' && node.value === null) return { kind: 'map', entries: [], span: node.span }
  const found = node.kind === 'list' ? 'a list' : 'a text'
  diagnostics.error(NOT_PARSEABLE, `a traffic policy must be a mapping of phases, not ${found}`, node.span)
  return undefined
}
