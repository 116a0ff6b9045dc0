/**
 * Errors and warnings about configuration: collected, never thrown one by one, printed with place and caret.
 *
 * Source: operations.md O-03 (`file:line:col: error|warning: text [CODE]`, then the line, then the caret).
 */
import type { Span } from './source.ts'

export interface Diagnostic {
  readonly severity: 'error' | 'warning'
  /** Stable identifier: `ERR_NGROK_…` where traffic-policy.md §8.3 has one, else `UPPER_SNAKE`. */
  readonly code: string
  readonly message: string
  readonly span?: Span | undefined
  /** What to do about it, in one sentence. */
  readonly hint?: string | undefined
  /** The other place, when two clash. */
  readonly related?: { readonly message: string; readonly span: Span } | undefined
  /** Right as a document, so `check` only warns; but this gateway cannot serve it, so `run` refuses. */
  readonly refusesRun?: boolean | undefined
}

/** Collects every diagnostic of a load. The same at the same place is kept once: endpoints share policy files. */
export class Diagnostics {
  readonly #list: Diagnostic[] = []
  readonly #said = new Set<string>()

  error(code: string, message: string, span?: Span, hint?: string, related?: Diagnostic['related']): void {
    this.add({ severity: 'error', code, message, span, hint, related })
  }

  warning(code: string, message: string, span?: Span, hint?: string): void {
    this.add({ severity: 'warning', code, message, span, hint })
  }

  /** Right as a document, and nothing that this gateway can serve: a warning of `check`, an error of `run`. */
  notServed(code: string, message: string, span?: Span, hint?: string): void {
    this.add({ severity: 'warning', code, message, span, hint, refusesRun: true })
  }

  add(diagnostic: Diagnostic): void {
    const { severity, code, message, span } = diagnostic
    if (span !== undefined && span.source.path !== '') {
      const key = `${severity} ${code} ${span.source.path}:${span.start} ${message}`
      if (this.#said.has(key)) return
      this.#said.add(key)
    }
    this.#list.push(diagnostic)
  }

  get all(): readonly Diagnostic[] {
    return this.#list
  }

  get hasErrors(): boolean {
    return this.#list.some((diagnostic) => diagnostic.severity === 'error')
  }
}

/** A configuration that was refused; carries every diagnostic, warnings included. */
export class ConfigError extends Error {
  readonly diagnostics: readonly Diagnostic[]

  constructor(diagnostics: readonly Diagnostic[]) {
    super(diagnostics.map((diagnostic) => renderDiagnostic(diagnostic)).join('\n'))
    this.name = 'ConfigError'
    this.diagnostics = diagnostics
  }
}

/** One diagnostic as people read it: headline, offending line, caret, hint, related place. No colours. */
export function renderDiagnostic(diagnostic: Diagnostic): string {
  const { severity, code, message, span, hint, related } = diagnostic
  const lines = [`${placeOf(span)}${severity}: ${message} [${code}]`]
  if (span !== undefined) lines.push(...excerpt(span))
  if (hint !== undefined) lines.push(`  hint: ${hint}`)
  if (related !== undefined) lines.push(`${placeOf(related.span)}note: ${related.message}`, ...excerpt(related.span))
  return lines.join('\n')
}

/** The same for machines (`check --format json`). Line and column count from 1. */
export function diagnosticToJson(diagnostic: Diagnostic): Record<string, unknown> {
  const { severity, code, message, span, hint } = diagnostic
  const place = span && { file: span.source.path, ...span.source.position(span.start) }
  return { severity, code, message, ...place, ...(hint === undefined ? {} : { hint }) }
}

function placeOf(span: Span | undefined): string {
  if (span === undefined) return ''
  const { line, column } = span.source.position(span.start)
  return `${span.source.path}:${line}:${column}: `
}

function excerpt(span: Span): string[] {
  const { line, column } = span.source.position(span.start)
  const text = span.source.line(line)
  const number = String(line)
  const width = Math.max(1, Math.min(span.end, span.start + text.length - column + 1) - span.start)
  // tabs stay tabs in the caret line, so that the caret stands under its place in any terminal
  const indent = text.slice(0, column - 1).replace(/[^\t]/g, ' ')
  return [`  ${number} | ${text}`, `  ${' '.repeat(number.length)} | ${indent}${'^'.repeat(width)}`]
}

/** By file in the order of first mention, then by place; what has no place comes first. */
export function inFileOrder(diagnostics: readonly Diagnostic[]): Diagnostic[] {
  const files = new Map<string, number>()
  for (const { span } of diagnostics) {
    if (span !== undefined && !files.has(span.source.path)) files.set(span.source.path, files.size)
  }
  const fileOf = ({ span }: Diagnostic): number => (span === undefined ? -1 : (files.get(span.source.path) ?? -1))
  return [...diagnostics].sort((a, b) => fileOf(a) - fileOf(b) || (a.span?.start ?? 0) - (b.span?.start ?? 0))
}
