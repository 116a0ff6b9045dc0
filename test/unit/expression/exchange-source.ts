/** A VariableSource made of plain values, and texts as sources. */
import { Diagnostics, renderDiagnostic } from '../../../src/config/diagnostic.ts'
import type { TextSource } from '../../../src/config/node.ts'
import { SourceFile } from '../../../src/config/source.ts'
import type { ExpressionEnvironment } from '../../../src/expression/environment.ts'
import { compileExpression } from '../../../src/expression/expression.ts'
import type { Expression } from '../../../src/expression/expression.ts'
import type { PatternEngine } from '../../../src/expression/pattern.ts'
import type { HeaderView, JsonValue, VariableSource } from '../../../src/expression/source.ts'
import { compileTemplate } from '../../../src/expression/template.ts'
import type { Template } from '../../../src/expression/template.ts'
import type { CelValue } from '../../../src/expression/value.ts'

/** A text that stands alone in a file. */
export function textOf(text: string, path = 'policy.yaml'): TextSource {
  const source = new SourceFile(path, text)
  return {
    text,
    span: { source, start: 0, end: text.length },
    spanAt: (offset, length) => ({ source, start: offset, end: offset + length }),
  }
}

/** JavaScript's engine: for tests of everything but the patterns themselves. */
export const javaScriptPatterns: PatternEngine = {
  compile(pattern: string) {
    const flags = /^\(\?([ims]+)\)/.exec(pattern)
    const expression = new RegExp(flags === null ? pattern : pattern.slice(flags[0].length), `u${flags?.[1] ?? ''}`)
    return { test: (text: string) => expression.test(text) }
  },
}

export const environment: ExpressionEnvironment = {
  phase: 'on_http_response',
  overrides: true,
  now: () => new Date('2026-11-22T08:00:00.250Z'),
  patterns: javaScriptPatterns,
  secret: (vault, name) => (vault === 'my-vault' && name === 'password' ? 'geheim' : undefined),
}

export function headersOf(lines: readonly (readonly [string, string])[]): HeaderView {
  return {
    all: (name) => lines.filter(([own]) => own === name).map(([, value]) => value),
    has: (name) => lines.some(([own]) => own === name),
    names: () => [...new Set(lines.map(([own]) => own))],
  }
}

export interface SourceOptions {
  readonly method?: string
  readonly host?: string
  readonly path?: string
  readonly query?: string
  readonly headers?: readonly (readonly [string, string])[]
  readonly responseHeaders?: readonly (readonly [string, string])[]
  readonly status?: number
  readonly contentLength?: number
  readonly vars?: Readonly<Record<string, CelValue>>
  readonly results?: Readonly<Record<string, JsonValue>>
  readonly tls?: Readonly<Record<string, string>>
  readonly clientAddress?: string
}

export function sourceOf(options: SourceOptions = {}): VariableSource {
  const path = options.path ?? '/api/users/7'
  const query = options.query ?? ''
  const host = options.host ?? 'shop.example.com'
  return {
    connection: {
      clientAddress: options.clientAddress ?? '203.0.113.9',
      clientPort: 50_123,
      serverAddress: '198.51.100.1',
      serverPort: 443,
      serverRegion: 'eu',
      startedAtMs: Date.UTC(2026, 10, 22, 7, 59, 59),
      bytesIn: 120,
      bytesOut: 40,
      tls: options.tls && { get: (path) => options.tls?.[path], clientAuthorities: '' },
    },
    endpoint: { id: 'ep_1', url: `https://${host}`, host, port: 443, protocol: 'https' },
    request: {
      method: options.method ?? 'GET',
      host,
      version: 'HTTP/1.1',
      headers: headersOf(options.headers ?? [['host', host]]),
      url: { scheme: 'https', host, port: undefined, path, query, raw: `${path}?${query}`, rawPath: path },
      contentLength: options.contentLength,
      headReceivedAtMs: Date.UTC(2026, 10, 22, 8),
      bodyReceivedAtMs: undefined,
    },
    response: {
      statusCode: options.status ?? 200,
      headers: headersOf(options.responseHeaders ?? []),
      contentLength: undefined,
    },
    variables: new Map(Object.entries(options.vars ?? {})),
    results: new Map(Object.entries(options.results ?? {})),
  }
}

/** Compiles, or throws with the rendered diagnostics. */
export function expressionOf(text: string, own: ExpressionEnvironment = environment): Expression {
  const diagnostics = new Diagnostics()
  const expression = compileExpression(textOf(text), own, diagnostics)
  if (expression === undefined) throw new Error(diagnostics.all.map((one) => renderDiagnostic(one)).join('\n'))
  return expression
}

/** Rendered errors and warnings of a compilation. */
export function problemsOf(text: string, own: ExpressionEnvironment = environment): string {
  const diagnostics = new Diagnostics()
  compileExpression(textOf(text), own, diagnostics)
  return diagnostics.all.map((one) => renderDiagnostic(one)).join('\n')
}

export function templateOf(text: string, own: ExpressionEnvironment = environment): Template {
  const diagnostics = new Diagnostics()
  const template = compileTemplate(textOf(text), own, diagnostics)
  if (template === undefined) throw new Error(diagnostics.all.map((one) => renderDiagnostic(one)).join('\n'))
  return template
}
