/** Diagnostics in a form that crosses processes: plain JSON, already rendered for people. Source: operations.md O-03. */
import { ConfigError, diagnosticToJson, renderDiagnostic, type Diagnostic } from '../config/diagnostic.ts'

export interface DiagnosticReport {
  readonly severity: 'error' | 'warning'
  readonly code: string
  readonly message: string
  readonly file?: string
  /** From 1. */
  readonly line?: number
  readonly column?: number
  readonly hint?: string
  /** Headline, line and caret, as `check` prints it. */
  readonly rendered: string
}

export function reportDiagnostic(diagnostic: Diagnostic): DiagnosticReport {
  const { severity, code, message } = diagnostic
  return { ...diagnosticToJson(diagnostic), severity, code, message, rendered: renderDiagnostic(diagnostic) }
}

/** A problem that has no place in a file. */
export function plainReport(code: string, message: string, severity: 'error' | 'warning' = 'error'): DiagnosticReport {
  return { severity, code, message, rendered: `${severity}: ${message} [${code}]` }
}

/** Whatever was thrown while a configuration was read or built. */
export function reportThrown(error: unknown): readonly DiagnosticReport[] {
  if (error instanceof ConfigError) return error.diagnostics.map((diagnostic) => reportDiagnostic(diagnostic))
  const message = error instanceof Error ? error.message : String(error)
  return [plainReport('CONFIGURATION', message)]
}

export function hasErrors(reports: readonly DiagnosticReport[]): boolean {
  return reports.some((report) => report.severity === 'error')
}
