/**
 * Policy tests: YAML files that say what a configuration must do with requests. docs/testing.md describes the format.
 *
 * Every error of a file is reported with its place, as for configurations.
 */
import { isIP } from 'node:net'
import { dirname, resolve } from 'node:path'
import type { Diagnostics } from '../config/diagnostic.ts'
import { parseDocuments } from '../config/document.ts'
import type { ConfigurationInput } from '../config/load.ts'
import type { ConfigNode } from '../config/node.ts'
import { readOrReport, type FileReader } from '../config/reader.ts'
import {
  INVALID,
  optional,
  settingsKit,
  transform,
  withDefault,
  type Infer,
  type InferSchema,
  type Schema,
} from '../config/schema-kit.ts'
import type { UpstreamAnswer } from './offline-front-end.ts'
import type { ReplayedRequest } from './replay.ts'
import { splitTarget } from './written-request.ts'
import { TEST_ALGORITHMS } from './test-keys.ts'

/** One test. */
export interface PolicyTest {
  readonly name: string
  readonly request: ReplayedRequest
  /** How often it is sent; the last one is judged. */
  readonly repeat: number
  readonly upstream: UpstreamAnswer
  readonly expect: Expectation
}

/** A file of tests. */
export interface PolicyTestFile {
  readonly path: string
  readonly configuration: ConfigurationInput
  readonly tests: readonly PolicyTest[]
}

const kit = settingsKit
const { object, string, integer, list, mapOf, enumeration, anyNode } = kit

const fieldValues = kit.byKind({ scalar: string(), list: list(string()) })
const fields = mapOf(fieldValues)

const FAILURES = [
  'connect_failed',
  'connect_timeout',
  'tls_failed',
  'upstream_reset',
  'upstream_bad_response',
  'first_byte_timeout',
] as const

const address: Schema<string> = transform(string(), (text, { node, diagnostics }) => {
  if (isIP(text) !== 0) return text
  diagnostics.error('POLICY_TESTS', `${text} is not an IP address`, node.span)
  return INVALID
})

const requestFields = {
  method: withDefault(string({ minLength: 1 }), 'GET'),
  url: string({ minLength: 1 }),
  headers: optional(fields),
  body: optional(string()),
  json: optional(anyNode()),
  client_ip: withDefault(address, '203.0.113.9'),
  claims: optional(anyNode()),
  algorithm: withDefault(enumeration(TEST_ALGORITHMS), 'RS256'),
}
export const requestSchema = object(requestFields)

const upstreamSchema = object({
  status: withDefault(integer({ min: 200, max: 599 }), 200),
  headers: optional(fields),
  body: optional(string()),
  json: optional(anyNode()),
  fails: optional(enumeration(FAILURES)),
})

/** A text, `/a pattern/`, or null: must not be there. */
const expectedValue = kit.byKind({ scalar: anyNode() })

const expectSchema = object({
  status: optional(integer({ min: 0, max: 599 })),
  headers: optional(mapOf(expectedValue)),
  body: optional(string()),
  endpoint: optional(string()),
  rule: optional(string()),
  action: optional(string()),
  reason: optional(string()),
  error_code: optional(string()),
  waf_rules: optional(list(integer({ min: 1 }))),
  matched: optional(list(string())),
  upstream: optional(
    kit.byKind({
      scalar: enumeration(['none']),
      map: object({
        target: optional(string()),
        method: optional(string()),
        path: optional(string()),
        headers: optional(mapOf(expectedValue)),
        body: optional(string()),
      }),
    }),
  ),
})

/** What a test expects; absent parts are not looked at. */
export type Expectation = InferSchema<typeof expectSchema>

const testSchema = object({
  name: string({ minLength: 1 }),
  request: requestSchema,
  repeat: withDefault(integer({ min: 1, max: 10_000 }), 1),
  upstream: optional(upstreamSchema),
  expect: expectSchema,
})

const fileSchema = object({
  config: optional(string({ minLength: 1 })),
  policy: optional(string({ minLength: 1 })),
  upstream: optional(upstreamSchema),
  tests: list(testSchema, { min: 1 }),
})

const requestsSchema = object({ requests: list(requestSchema, { min: 1 }) })

type RequestDocument = Infer<typeof requestFields>
type UpstreamDocument = InferSchema<typeof upstreamSchema>

const SILENT_UPSTREAM: UpstreamAnswer = { status: 200, fields: [], body: new Uint8Array(0) }

/** A configuration of nothing but one policy; a Replay takes it for every host. */
export function policyAlone(trafficPolicyFile: string): ConfigurationInput {
  return {
    files: [],
    inline: { upstream: 'http://127.0.0.1:9', url: 'http://localhost:80', name: 'policy', trafficPolicyFile },
  }
}

/** Reads a file of tests; errors land in `diagnostics`. */
export function readPolicyTests(
  path: string,
  reader: FileReader,
  diagnostics: Diagnostics,
): PolicyTestFile | undefined {
  const document = parsed(path, reader, diagnostics, fileSchema)
  if (document === undefined) return undefined
  const { config, policy } = document.value
  if ((config === undefined) === (policy === undefined)) {
    const text = 'a file of tests names either config (a gateway.yaml) or policy (a traffic policy)'
    diagnostics.error('POLICY_TESTS', text, document.node.span)
    return undefined
  }
  const beside = (name: string): string => resolve(dirname(path), name)
  const configuration: ConfigurationInput =
    config !== undefined ? { files: [beside(config)] } : policyAlone(beside(policy!))
  const common = document.value.upstream
  return {
    path,
    configuration,
    tests: document.value.tests.map((test) => ({
      name: test.name,
      request: requestOf(test.request),
      repeat: test.repeat,
      upstream: answerOf(test.upstream ?? common),
      expect: test.expect,
    })),
  }
}

/** Reads the requests of a file: `requests: […]`, or those of a file of tests. */
export function readRequests(
  path: string,
  reader: FileReader,
  diagnostics: Diagnostics,
): readonly { readonly name: string; readonly request: ReplayedRequest }[] | undefined {
  const [node] = documentsOf(path, reader, diagnostics)
  const hasTests = node?.kind === 'map' && node.entries.some(({ key }) => key === 'tests')
  if (hasTests) {
    const file = parsed(path, reader, diagnostics, fileSchema)
    return file?.value.tests.map(({ name, request }) => ({ name, request: requestOf(request) }))
  }
  const file = parsed(path, reader, diagnostics, requestsSchema)
  return file?.value.requests.map((request) => ({
    name: `${request.method} ${request.url}`,
    request: requestOf(request),
  }))
}

function documentsOf(path: string, reader: FileReader, diagnostics: Diagnostics): readonly ConfigNode[] {
  const source = readOrReport(path, reader, diagnostics)
  return source === undefined ? [] : parseDocuments(source, diagnostics)
}

function parsed<T>(
  path: string,
  reader: FileReader,
  diagnostics: Diagnostics,
  schema: Schema<T>,
): { readonly value: T; readonly node: ConfigNode } | undefined {
  const [node] = documentsOf(path, reader, diagnostics)
  if (node === undefined) {
    if (!diagnostics.hasErrors) diagnostics.error('POLICY_TESTS', `${path} is empty`)
    return undefined
  }
  const value = schema.parse(node, diagnostics, 'the file')
  return value === INVALID ? undefined : { value, node }
}

function requestOf(document: RequestDocument): ReplayedRequest {
  const { origin, host } = splitTarget(document.url)
  const written = fieldsOf(document.headers)
  const has = (name: string): boolean => written.some(([own]) => own.toLowerCase() === name)
  const body = bodyOf(document)
  const added: [string, string][] = []
  if (!has('host')) added.push(['host', host ?? 'localhost'])
  if (document.json !== undefined && !has('content-type')) added.push(['content-type', 'application/json'])
  if (body.length > 0 && !has('content-length')) added.push(['content-length', String(body.length)])
  const claims = document.claims === undefined ? undefined : (plain(document.claims) as Record<string, unknown>)
  return {
    method: document.method,
    target: origin.startsWith('/') ? origin : `/${origin}`,
    fields: [...added, ...written],
    body,
    clientAddress: document.client_ip,
    claims,
    algorithm: document.algorithm,
  }
}

function answerOf(document: UpstreamDocument | undefined): UpstreamAnswer {
  if (document === undefined) return SILENT_UPSTREAM
  const written = fieldsOf(document.headers)
  const isTyped = written.some(([name]) => name.toLowerCase() === 'content-type')
  const type = document.json === undefined || isTyped ? [] : [['content-type', 'application/json'] as const]
  return {
    status: document.status,
    fields: [...type, ...written],
    body: bodyOf(document),
    failure: document.fails,
  }
}

function bodyOf({
  body,
  json,
}: {
  readonly body: string | undefined
  readonly json: ConfigNode | undefined
}): Uint8Array {
  if (json !== undefined) return Buffer.from(JSON.stringify(plain(json)))
  return Buffer.from(body ?? '')
}

function fieldsOf(
  headers: ReadonlyMap<string, string | readonly string[]> | undefined,
): readonly (readonly [string, string])[] {
  return [...(headers ?? [])].flatMap(([name, value]) =>
    (typeof value === 'string' ? [value] : value).map(
      (one) => [name, Buffer.from(one, 'utf8').toString('latin1')] as const,
    ),
  )
}

/** A node of a file as JSON has it. */
export function plain(node: ConfigNode): unknown {
  switch (node.kind) {
    case 'scalar':
      return node.value
    case 'list':
      return node.items.map(plain)
    case 'map':
      return Object.fromEntries(node.entries.map(({ key, value }) => [key, plain(value)]))
  }
}
