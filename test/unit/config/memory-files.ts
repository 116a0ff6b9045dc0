/** A configuration in memory: files by path, loaded through the reader that workers use. */
import { Diagnostics, renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { parseDocuments } from '../../../src/config/document.ts'
import {
  BundleReader,
  loadConfiguration,
  type ConfigurationInput,
  type LoadedConfiguration,
} from '../../../src/config/load.ts'
import type { ConfigNode } from '../../../src/config/node.ts'
import type { Schema } from '../../../src/config/schema-kit.ts'
import { SourceFile } from '../../../src/config/source.ts'

export type Files = Readonly<Record<string, string>>

/** Patterns find nothing here but what `globs` says; a plain path finds its file. */
export function readerOf(
  files: Files,
  environment: Readonly<Record<string, string>> = {},
  globs: Readonly<Record<string, readonly string[]>> = {},
): BundleReader {
  const absolute = Object.fromEntries(
    Object.entries(files).map(([path, text]) => [path.startsWith('/') || path === '-' ? path : `/m/${path}`, text]),
  )
  const paths = Object.fromEntries(Object.keys(files).map((path) => [path, [path]]))
  return new BundleReader({ folder: '/m', files: absolute, globs: { ...paths, ...globs }, environment })
}

export function load(
  files: Files,
  input: Partial<ConfigurationInput> = {},
  environment: Readonly<Record<string, string>> = {},
): LoadedConfiguration {
  return loadConfiguration({ files: ['gateway.yaml'], ...input }, readerOf(files, environment))
}

/** `CODE message` of every diagnostic. */
export function problems(loaded: { readonly diagnostics: Diagnostics }): string[] {
  return loaded.diagnostics.all.map(({ code, message }) => `${code} ${message}`)
}

export function rendered(loaded: { readonly diagnostics: Diagnostics }): string {
  return loaded.diagnostics.all.map((diagnostic) => renderDiagnostic(diagnostic)).join('\n')
}

/** The only document of a YAML text. */
export function nodeOf(text: string, path = 'f.yaml'): ConfigNode {
  const diagnostics = new Diagnostics()
  const [node] = parseDocuments(new SourceFile(path, text), diagnostics)
  if (node === undefined || diagnostics.hasErrors) throw new Error(`not a document: ${rendered({ diagnostics })}`)
  return node
}

/** What a schema makes of a YAML text, with the diagnostics as `line:column CODE message (hint)`. */
export function check<T>(schema: Schema<T>, text: string): { value: T | symbol; errors: string[] } {
  const diagnostics = new Diagnostics()
  const value = schema.parse(nodeOf(text), diagnostics, 'it')
  const errors = diagnostics.all.map(({ code, message, span, hint }) => {
    const place = span?.source.position(span.start)
    return `${place?.line}:${place?.column} ${code} ${message}${hint === undefined ? '' : ` (${hint})`}`
  })
  return { value, errors }
}
