/**
 * Replacing names in scalars, with the way back to the text as it was written: `${NAME}` from the environment in our
 * own files, `$NAME` in policies and manifests.
 *
 * It works on decoded scalars, never on the raw text: a value can change a text, but not the structure of a document.
 * Source: operations.md O-12, O-13; spec/README.md "`$NAMES` in a policy file".
 */
import type { Diagnostics } from './diagnostic.ts'
import type { ConfigNode, MapEntry, ScalarNode } from './node.ts'
import { plainValue } from './plain-scalar.ts'
import { readOrReport, type FileReader } from './reader.ts'
import type { SourceFile, Span } from './source.ts'
import { nearest } from './spelling.ts'

/** A part of a text to replace: half open, in UTF-16 units. */
interface Replacement {
  readonly start: number
  readonly end: number
  readonly text: string
}

/** Finds what to replace in one text; `spanAt` leads to the file, for messages. Undefined: reported, the text is void. */
type Finder = (text: string, spanAt: ScalarNode['spanAt']) => readonly Replacement[] | undefined

// ---------------------------------------------------------------------------------------------------------------------
// ${NAME} in files we own

/**
 * Expands `${NAME}` and `${NAME:-default}` in every scalar, except where `isForeign` says that another language begins
 * (policies: there `${…}` is CEL). `$${` stands for `${` itself. A variable that is missing or empty takes the default;
 * missing without default is an error. `NAME_FILE` names a file that holds the value.
 */
export function expandEnvironment(
  node: ConfigNode,
  reader: FileReader,
  diagnostics: Diagnostics,
  isForeign: (path: readonly string[]) => boolean,
): ConfigNode {
  const find: Finder = (text, spanAt) => {
    const found: Replacement[] = []
    let valid = true
    for (const match of text.matchAll(/\$\$\{|\$\{([^}]*)(\}?)/g)) {
      const start = match.index
      const end = start + match[0].length
      if (match[1] === undefined) {
        found.push({ start, end, text: '${' })
        continue
      }
      const value = expandOne(match[1], match[2] === '}', reader, diagnostics, spanAt(start, end - start))
      if (value === undefined) valid = false
      else found.push({ start, end, text: value })
    }
    return valid ? found : undefined
  }
  return replaceIn(node, find, isForeign, new Map(), [])
}

function expandOne(
  inner: string,
  closed: boolean,
  reader: FileReader,
  diagnostics: Diagnostics,
  span: Span,
): string | undefined {
  const match = /^([A-Za-z_][A-Za-z0-9_]*)(?::-([\s\S]*))?$/.exec(inner)
  if (match === null || !closed) {
    const hint = 'write ${NAME} or ${NAME:-default}; $${ stands for ${ itself'
    diagnostics.error('INVALID_EXPANSION', closed ? `\${${inner}} names no variable` : '} is missing', span, hint)
    return undefined
  }
  const name = match[1]! // the first group always takes part
  const fallback = match[2]
  const value = variableOrFile(name, reader, diagnostics, span)
  if (value === INVALID_VARIABLE) return undefined
  if (value !== undefined && (value !== '' || fallback === undefined)) return value
  if (fallback !== undefined) return fallback
  const hint = `set it, or write \${${name}:-default}`
  diagnostics.error('MISSING_VARIABLE', `the environment variable ${name} is not set`, span, hint)
  return undefined
}

/** A variable that was reported already. */
export const INVALID_VARIABLE: unique symbol = Symbol('invalid variable')

/** The value of NAME, or the text of the file that NAME_FILE names (one line end at its end dropped); both at once are an error (O-13). */
export function variableOrFile(
  name: string,
  reader: FileReader,
  diagnostics: Diagnostics,
  span: Span | undefined,
): string | undefined | typeof INVALID_VARIABLE {
  const value = reader.variable(name)
  const file = reader.variable(`${name}_FILE`)
  if (file === undefined) return value
  if (value !== undefined) {
    diagnostics.error('VARIABLE_GIVEN_TWICE', `both ${name} and ${name}_FILE are set`, span, 'set one of them')
    return INVALID_VARIABLE
  }
  const called = `${file}, named by the environment variable ${name}_FILE`
  const source = readOrReport(file, reader, diagnostics, span, called)
  return source === undefined ? INVALID_VARIABLE : source.text.replace(/\r?\n$/, '')
}

// ---------------------------------------------------------------------------------------------------------------------
// $NAMES in policies and manifests

/** Names and what they stand for. */
export type Substitutions = ReadonlyMap<string, string>

/** `$NAME` with an upper-case name, not behind another `$` (Go's replacement syntax writes `$$` for a dollar sign). */
const NAME = /(?<!\$)\$([A-Z][A-Z0-9_]*)(?![A-Za-z0-9_])/g

/**
 * Replaces `$NAME` for the names given, in keys and values alike. Any other `$UPPER_CASE` outside `${…}` stays as it is
 * and is warned about; `$1`, `$host` and `${…}` mean something to policies and are left alone.
 */
export function substituteNames(node: ConfigNode, substitutions: Substitutions, diagnostics: Diagnostics): ConfigNode {
  const find: Finder = (text, spanAt) => {
    if (!text.includes('$')) return []
    const found: Replacement[] = []
    let interpolations: readonly Range[] | undefined
    for (const match of text.matchAll(NAME)) {
      const name = match[1]! // the group always takes part
      const start = match.index
      const end = start + match[0].length
      const value = substitutions.get(name)
      if (value !== undefined) {
        found.push({ start, end, text: value })
        continue
      }
      interpolations ??= interpolationsOf(text)
      if (interpolations.some((range) => start > range.start && start < range.end)) continue
      const near = nearest(name, substitutions.keys())
      const hint =
        near === undefined
          ? `if it shall be replaced, name it under substitutions in gateway.yaml`
          : `did you mean $${near}?`
      diagnostics.warning(
        'UNKNOWN_NAME',
        `$${name} is not replaced: no substitution has this name`,
        spanAt(start, end - start),
        hint,
      )
    }
    return found
  }
  return replaceIn(node, find, () => false, new Map(), [])
}

interface Range {
  readonly start: number
  readonly end: number
}

/** Where `${…}` stand: braces and CEL's quotes inside are skipped as pairs. */
function interpolationsOf(text: string): Range[] {
  const ranges: Range[] = []
  let at = text.indexOf('${')
  while (at !== -1) {
    const end = endOfInterpolation(text, at + 2)
    ranges.push({ start: at, end })
    at = text.indexOf('${', end)
  }
  return ranges
}

function endOfInterpolation(text: string, from: number): number {
  let depth = 1
  let quote = ''
  for (let at = from; at < text.length; at++) {
    const char = text[at]! // at < length
    if (quote !== '') {
      if (char === '\\') at++
      else if (char === quote) quote = ''
    } else if (char === "'" || char === '"') quote = char
    else if (char === '{') depth++
    else if (char === '}' && --depth === 0) return at + 1
  }
  return text.length
}

/** NAME=value lines: empty lines and `#` comments skipped, `export ` and a pair of quotes round the value taken off. */
export function parseNameFile(source: SourceFile, into: Map<string, string>, diagnostics: Diagnostics): void {
  let start = 0
  for (const rawLine of source.text.split('\n')) {
    const line = rawLine.replace(/\r$/, '')
    const match = /^\s*(?:export\s+)?([A-Z][A-Z0-9_]*)=(.*)$/s.exec(line)
    if (match !== null) {
      const value = match[2]!.trim() // both groups took part
      into.set(match[1]!, /^(".*"|'.*')$/s.test(value) ? value.slice(1, -1) : value)
    } else if (!/^\s*(#.*)?$/s.test(line)) {
      const span = { source, start, end: start + line.length }
      diagnostics.error('INVALID_LINE', 'a line must be NAME=value with an upper-case name', span)
    }
    start += rawLine.length + 1
  }
}

// ---------------------------------------------------------------------------------------------------------------------

/** The tree with every scalar (and key) that `find` wants to change. What does not change is shared with the old tree. */
function replaceIn(
  node: ConfigNode,
  find: Finder,
  isForeign: (path: readonly string[]) => boolean,
  done: Map<ConfigNode, ConfigNode>,
  path: string[],
): ConfigNode {
  if (isForeign(path)) return node
  const known = done.get(node)
  if (known !== undefined) return known
  const fresh = replaceFresh(node, find, isForeign, done, path)
  done.set(node, fresh)
  return fresh
}

function replaceFresh(
  node: ConfigNode,
  find: Finder,
  isForeign: (path: readonly string[]) => boolean,
  done: Map<ConfigNode, ConfigNode>,
  path: string[],
): ConfigNode {
  if (node.kind === 'scalar') {
    if (!node.text.includes('$')) return node
    const replacements = find(node.text, node.spanAt)
    // a value that is not known counts as not given, so that it causes no second error
    if (replacements === undefined) return { ...node, value: null, text: '' }
    return replacements.length === 0 ? node : replaced(node, replacements)
  }
  if (node.kind === 'list') {
    path.push('[]')
    const items = node.items.map((item) => replaceIn(item, find, isForeign, done, path))
    path.pop()
    return items.every((item, index) => item === node.items[index]) ? node : { ...node, items }
  }
  const entries = node.entries.map((entry): MapEntry => {
    const keySpan = entry.keySpan
    const replacements = (entry.key.includes('$') ? find(entry.key, () => keySpan) : undefined) ?? []
    path.push(entry.key)
    const value = replaceIn(entry.value, find, isForeign, done, path)
    path.pop()
    if (value === entry.value && replacements.length === 0) return entry
    return { key: assemble(entry.key, replacements), keySpan, value }
  })
  return entries.every((entry, index) => entry === node.entries[index]) ? node : { ...node, entries }
}

function assemble(text: string, replacements: readonly Replacement[]): string {
  let result = ''
  let at = 0
  for (const { start, end, text: value } of replacements) {
    result += text.slice(at, start) + value
    at = end
  }
  return result + text.slice(at)
}

/** A scalar with a new text: its own spans lead through the replacements to the text as written. */
function replaced(node: ScalarNode, replacements: readonly Replacement[]): ScalarNode {
  const text = assemble(node.text, replacements)
  const plain = node.plain === true
  return {
    kind: 'scalar',
    value: plain ? plainValue(text) : text,
    text,
    plain,
    span: node.span,
    spanAt(offset, length) {
      const start = before(offset, replacements, 'start')
      const end = length === 0 ? start : before(offset + length, replacements, 'end')
      return node.spanAt(start, Math.max(0, end - start))
    },
  }
}

/** The offset in the text as written. Inside a replaced part it is that part's own start or end. */
function before(offset: number, replacements: readonly Replacement[], edge: 'start' | 'end'): number {
  let shift = 0 // new text minus old text, up to here
  for (const { start, end, text } of replacements) {
    const from = start + shift
    const to = from + text.length
    if (edge === 'start' ? offset < from : offset <= from) break
    if (edge === 'start' ? offset < to : offset <= to) return edge === 'start' ? start : end
    shift += text.length - (end - start)
  }
  return offset - shift
}
