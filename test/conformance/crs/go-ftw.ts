/**
 * Test files of go-ftw: reading them, and the bytes that each stage sends.
 *
 * Source: coreruleset/ftw-tests-schema v2; go-ftw v2.5 (crs/README.md §1).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { parse } from 'yaml'

export interface FtwTest {
  /** `RULEID-TESTID` */
  readonly name: string
  readonly ruleId: string
  readonly stages: readonly FtwStage[]
}

export interface FtwStage {
  /** What is sent; nothing is added to it. */
  readonly request: Buffer
  readonly method: string
  readonly expect: FtwExpectation
}

/** Everything given must hold. */
export interface FtwExpectation {
  readonly status: number | undefined
  readonly expectIds: readonly number[]
  readonly forbiddenIds: readonly number[]
  /** RE2, each searched in single log lines. */
  readonly matches: readonly string[]
  readonly forbiddenMatches: readonly string[]
  /** RE2, searched in the raw response. */
  readonly responseMatches: string | undefined
  /** Passes when sending or receiving fails; nothing else is looked at. */
  readonly error: boolean
  readonly retryOnce: boolean
  /** Exactly one rule may have been logged. */
  readonly isolated: boolean
}

export interface FtwSuite {
  readonly tests: readonly FtwTest[]
  /** Files that could not be read as tests, each with the reason. */
  readonly unreadable: readonly string[]
}

/** A YAML value whose scalars are all texts, as they stand in the file. */
type Plain = string | readonly Plain[] | { readonly [key: string]: Plain } | null | undefined

/** Every `*.yaml` and `*.yml` below a folder, by name. An empty file has no tests. */
export function readSuite(folder: string): FtwSuite {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => /\.ya?ml$/.test(path))
    .sort((a, b) => (basename(a) < basename(b) ? -1 : 1))
  const tests: FtwTest[] = []
  const unreadable: string[] = []
  for (const path of files) {
    try {
      tests.push(...readTests(basename(path), readFileSync(join(folder, path), 'utf8')))
    } catch (error) {
      unreadable.push(`${path}: ${(error as Error).message}`)
    }
  }
  return { tests, unreadable }
}

/** The tests of one file. Throws when the text is not of the format. */
export function readTests(fileName: string, text: string): FtwTest[] {
  // numbers and switches stay texts: a header value `0x10` must be sent as it is written
  const document = parse(text, { schema: 'failsafe', logLevel: 'silent' }) as Plain
  const file = mapping(document)
  const ruleId = scalar(file['rule_id']) ?? /\d+/.exec(fileName)?.[0] ?? fileName
  return sequence(file['tests']).map((entry, place) => {
    const test = mapping(entry)
    return {
      name: `${ruleId}-${scalar(test['test_id']) ?? place + 1}`,
      ruleId,
      // older files wrap each stage once more
      stages: sequence(test['stages']).map((stage) => readStage(mapping(mapping(stage)['stage'] ?? stage))),
    }
  })
}

function readStage(stage: Record<string, Plain>): FtwStage {
  const input = mapping(stage['input'])
  const output = mapping(stage['output'])
  const log = mapping(output['log'])
  const present = (...values: Plain[]): string[] => values.flatMap((value) => scalar(value) ?? [])
  return {
    request: buildRequest(input),
    method: scalar(input['method']) ?? 'GET',
    expect: {
      status: Number(scalar(output['status']) ?? 0) || undefined,
      expectIds: sequence(log['expect_ids']).map(Number),
      forbiddenIds: sequence(log['no_expect_ids']).map(Number),
      matches: present(log['match_regex'], output['log_contains']),
      forbiddenMatches: present(log['no_match_regex'], output['no_log_contains']),
      responseMatches: scalar(output['response_contains']),
      error: output['expect_error'] === 'true',
      retryOnce: output['retry_once'] === 'true',
      isolated: output['isolated'] === 'true',
    },
  }
}

const FORM = 'application/x-www-form-urlencoded'

/** §1.2: how go-ftw turns `input` into bytes. */
export function buildRequest(input: Readonly<Record<string, Plain>>): Buffer {
  const whole = scalar(input['encoded_request'])
  if (whole !== undefined && whole !== '') return Buffer.from(whole, 'base64')
  const method = scalar(input['method']) ?? 'GET'
  const completes = input['autocomplete_headers'] !== 'false' && input['stop_magic'] !== 'true'
  const headers: [string, string][] = [
    ...Object.entries(mapping(input['headers'])).map(([name, value]): [string, string] => [name, scalar(value) ?? '']),
    ...sequence(input['ordered_headers']).map((entry): [string, string] => {
      const { name, value } = mapping(entry)
      return [scalar(name) ?? '', scalar(value) ?? '']
    }),
  ]
  const valueOf = (wanted: string): string | undefined => headers.find(([name]) => name.toLowerCase() === wanted)?.[1]
  const encoded = scalar(input['encoded_data'])
  let body: Buffer =
    encoded === undefined || encoded === ''
      ? Buffer.from(expandTemplate(scalar(input['data']) ?? ''), 'utf8')
      : Buffer.from(encoded, 'base64')
  if (completes && body.length > 0) {
    if (valueOf('content-type') === undefined) headers.push(['Content-Type', FORM])
    if (valueOf('content-type') === FORM && !/[%+]/.test(body.toString('latin1'))) body = encodeForm(body)
  }
  if (valueOf('content-type')?.includes('multipart/form-data;') === true) {
    body = Buffer.from(body.toString('latin1').replace(/\r?\n/g, '\r\n'), 'latin1')
  }
  if (completes) {
    if (valueOf('connection') === undefined) headers.push(['Connection', 'close'])
    const hasLength = body.length > 0 || /^POST|PUT|PATCH|DELETE$/.test(method)
    if (hasLength && valueOf('content-length') === undefined) headers.push(['Content-Length', String(body.length)])
  }
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  const requestLine = `${method} ${scalar(input['uri']) ?? '/'} ${scalar(input['version']) ?? 'HTTP/1.1'}\r\n`
  return Buffer.concat([Buffer.from(`${requestLine}${lines}\r\n`, 'utf8'), body])
}

/** Go's `url.QueryEscape` on names and values; a piece without `=` is escaped as a whole. */
function encodeForm(body: Buffer): Buffer {
  const escape = (text: string): string =>
    text.replace(/[^A-Za-z0-9._~-]/g, (byte) =>
      byte === ' ' ? '+' : `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`,
    )
  const pieces = body
    .toString('latin1')
    .split('&')
    .map((piece) => {
      const equals = piece.indexOf('=')
      return equals === -1 ? escape(piece) : `${escape(piece.slice(0, equals))}=${escape(piece.slice(equals + 1))}`
    })
  return Buffer.from(pieces.join('&'), 'latin1')
}

/** The part of Go templates that the suite uses: `{{ "x" | repeat N }}` and `{{ repeat N "x" }}`. Throws on any other. */
function expandTemplate(text: string): string {
  return text.replace(/\{\{-?(.*?)-?\}\}/gs, (_, inner: string) => {
    const piped = /^\s*"((?:[^"\\]|\\.)*)"\s*\|\s*repeat\s+(\d+)\s*$/.exec(inner)
    if (piped !== null) return (JSON.parse(`"${piped[1]}"`) as string).repeat(Number(piped[2]))
    const called = /^\s*repeat\s+(\d+)\s+"((?:[^"\\]|\\.)*)"\s*$/.exec(inner)
    if (called !== null) return (JSON.parse(`"${called[2]}"`) as string).repeat(Number(called[1]))
    throw new Error(`a template that is not understood: {{${inner}}}`)
  })
}

function mapping(value: Plain): Record<string, Plain> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, Plain>) : {}
}

function sequence(value: Plain): readonly Plain[] {
  return Array.isArray(value) ? (value as readonly Plain[]) : []
}

function scalar(value: Plain): string | undefined {
  return typeof value === 'string' ? value : undefined
}
