/**
 * The names of the policy language in one phase: variables by path, functions, and what to say about names that are
 * neither.
 *
 * Source: traffic-policy.md §6.10 (legacy spellings), §7, §11 (mistakes that real documents contain).
 */
import { nearest } from '../config/spelling.ts'
import type { ExpressionEnvironment } from './environment.ts'
import type { Frame } from './frame.ts'
import { functionTable } from './functions/functions.ts'
import type { FunctionEntry, FunctionTable } from './functions/registry.ts'
import { TYPE_NAMES } from './functions/conversions.ts'
import { MACRO_NAMES } from './parser.ts'
import type { Advice, Scope, Variable } from './scope.ts'
import { TYPE } from './type.ts'
import type { CelValue } from './value.ts'
import { variableTree, wholeValue } from './variables.ts'
import type { Branch } from './variables.ts'

export class PolicyScope implements Scope {
  readonly #tree: ReadonlyMap<string, Branch>
  readonly #functions: FunctionTable
  readonly #environment: ExpressionEnvironment

  constructor(environment: ExpressionEnvironment) {
    this.#environment = environment
    this.#tree = variableTree(environment.phase, () => environment.now(), environment.locals)
    this.#functions = functionTable(environment)
  }

  variable(path: readonly string[], absolute: boolean): Variable | undefined {
    if (!absolute) {
      const type = TYPE_NAMES.get(path.join('.'))
      if (type !== undefined) return { name: type.name, type: TYPE, read: () => type, always: true }
    }
    const current = this.#currentPath(absolute ? ['', ...path] : path)
    const branch = this.#branch(current ?? path)
    if (branch === undefined) return undefined
    const name = (current ?? path).join('.')
    const isLegacy = current !== undefined && this.#environment.legacy !== true
    return {
      name,
      type: branch.type,
      read: branch.read,
      always: branch.always,
      fieldNames: branch.fields === undefined ? undefined : [...branch.fields.keys()],
      json: branch.json,
      headers: branch.headers,
      nullWhenAbsent: branch.nullWhenAbsent,
      problem: branch.problem,
      warning: isLegacy
        ? `${absolute ? '.' : ''}${path.join('.')} is the spelling of the old format: write ${name}`
        : undefined,
    }
  }

  /** The value of a path together with its fields, for interpolations that keep the type. */
  whole(path: readonly string[]): ((frame: Frame) => CelValue | undefined) | undefined {
    const branch = this.#branch(this.#currentPath(path) ?? path)
    return branch?.fields === undefined ? undefined : (frame) => wholeValue(branch, frame)
  }

  /** Today's path of an old spelling: of the table, or in CamelCase (`conn.TLS.Version`). Undefined for other paths. */
  #currentPath(path: readonly string[]): string[] | undefined {
    const listed = legacyPath(path)
    const known = listed ?? path
    if (!known.some((name) => /[A-Z]/.test(name)) || this.#branch(known) !== undefined) return listed
    const snake = known.map((name) => snakeCase(name))
    return this.#branch(snake) === undefined ? listed : snake
  }

  #branch(path: readonly string[]): Branch | undefined {
    let branch = this.#tree.get(path[0] ?? '')
    for (const name of path.slice(1)) branch = branch?.fields?.get(name) ?? branch?.any?.(name)
    return branch
  }

  function(name: string): FunctionEntry | undefined {
    const entry = this.#functions.get(name)
    return entry?.phases?.includes(this.#environment.phase) === false ? undefined : entry
  }

  unknownVariable(path: readonly string[]): Advice {
    const name = path.join('.')
    const known = VARIABLE_HINTS[name] ?? VARIABLE_HINTS[`${path[0]}.*`]
    if (path.length === 1) {
      const guess = nearest(name, this.#tree.keys())
      // three letters are near to anything: a misspelt root at least begins alike
      const hint = guess?.[0] === name[0] ? didYouMean(guess) : undefined
      return { message: `unknown variable "${name}"`, hint: known ?? hint ?? QUOTE_HINT }
    }
    const parentPath = path.slice(0, -1)
    const parent = this.#branch(this.#currentPath(parentPath) ?? parentPath)
    const fields = [...(parent?.fields?.keys() ?? [])]
    const last = path.at(-1)!
    const guess = nearest(last, fields)
    const hint = known ?? didYouMean(guess && `${parentPath.join('.')}.${guess}`)
    return {
      message: `${parentPath.join('.')} has no field "${last}"`,
      hint: hint ?? (fields.length === 0 ? undefined : `its fields are ${fields.join(', ')}`),
    }
  }

  unknownFunction(name: string, receiver: boolean): Advice {
    const entry = this.#functions.get(name)
    if (entry !== undefined) {
      const phases = entry.phases?.join(' and ')
      return { message: `${name}() exists in ${phases} only, not in ${this.#environment.phase}` }
    }
    const hint = Object.hasOwn(FUNCTION_HINTS, name) ? FUNCTION_HINTS[name] : undefined
    if (hint !== undefined) return { message: `unknown function "${name}"`, hint }
    const candidates: string[] = receiver ? [...MACRO_NAMES] : ['has']
    for (const candidate of this.#functions.names()) {
      if (!/^[_!-]/.test(candidate)) candidates.push(candidate)
    }
    if (MACRO_NAMES.has(name)) {
      return { message: `${name}() is not called with these arguments`, hint: MACRO_HINTS[name] }
    }
    return { message: `unknown function "${name}"`, hint: didYouMean(nearest(name, candidates)) }
  }
}

function didYouMean(name: string | undefined): string | undefined {
  return name === undefined || name === '' ? undefined : `did you mean ${name}?`
}

const QUOTE_HINT = 'variables begin with conn, endpoint, req, res, time, vars or actions; text must stand in quotes'

const VARIABLE_HINTS: Readonly<Record<string, string>> = {
  'request.*': 'the request is called req: req.headers, req.url.path, req.method',
  request: 'the request is called req: req.headers, req.url.path, req.method',
  'response.*': 'the response is called res: res.status_code, res.headers',
  response: 'the response is called res: res.status_code, res.headers',
  headers: 'write req.headers or res.headers',
  path: 'write req.url.path',
  method: 'write req.method',
  host: 'write req.host',
  client_ip: 'write conn.client_ip',
  'req.path': 'write req.url.path',
  'req.uri': 'write req.url.uri',
  'req.query': 'write req.url.query, or req.url.query_params for single parameters',
  'req.query_params': 'write req.url.query_params',
  'req.params': 'write req.url.query_params',
  'req.raw': 'write req.url.raw',
  'req.ip': 'write conn.client_ip',
  'req.client_ip': 'write conn.client_ip',
  'req.scheme': 'write req.url.scheme',
  'req.protocol': 'write req.url.scheme, or req.version for the HTTP version',
  'req.header': 'write req.headers',
  'req.body': 'the body is not available in expressions',
  'res.body': 'the body is not available in expressions',
  'res.status': 'write res.status_code',
  'res.code': 'write res.status_code',
  now: 'write time.now (a text) or timestamp(time.now)',
  'conn.ip': 'write conn.client_ip',
  'conn.remote_ip': 'write conn.client_ip',
  undefined: 'ask with has(a.b), or compare with null',
}

const FUNCTION_HINTS: Readonly<Record<string, string>> = {
  includes: "write text.contains('…') for text and 'x' in list for lists",
  get: "write map['key'], or getReqHeader('name') for headers",
  length: 'write size(x)',
  len: 'write size(x)',
  count: 'write size(list.filter(v, …))',
  toLowerCase: 'write text.lowerAscii() or text.lower()',
  toUpperCase: 'write text.upperAscii() or text.upper()',
  toLower: 'write text.lowerAscii() or text.lower()',
  toUpper: 'write text.upperAscii() or text.upper()',
  toString: 'write string(x)',
  match: "write text.matches('pattern')",
  test: "write text.matches('pattern')",
  hasPrefix: 'write text.startsWith(…)',
  hasSuffix: 'write text.endsWith(…)',
  some: 'write list.exists(v, …)',
  any: 'write list.exists(v, …)',
  every: 'write list.all(v, …)',
  find: 'write list.filter(v, …)[0]',
  now: 'write timestamp(time.now)',
  header: "write getReqHeader('name')",
  query_param: "write getQueryParam('name')",
  path: 'write req.url.path',
  query: 'write req.url.query',
  secret: 'write secrets.get(vault, name)',
  not: 'write !(…)',
  isNull: 'compare with null',
}

const MACRO_HINTS: Readonly<Record<string, string>> = {
  has: 'has(a.b)',
  all: 'list.all(v, condition)',
  exists: 'list.exists(v, condition)',
  exists_one: 'list.exists_one(v, condition)',
  existsOne: 'list.existsOne(v, condition)',
  map: 'list.map(v, result) or list.map(v, condition, result)',
  filter: 'list.filter(v, condition)',
  sortBy: 'list.sortBy(v, key)',
}

/** §6.10, §11: spellings of 2023 and 2024, and what they are called today. A path begins with '' when written `.ngrok…`. */
const LEGACY_PATHS: ReadonlyMap<string, string> = new Map(
  Object.entries({
    'conn.ClientIP': 'conn.client_ip',
    'conn.Geo': 'conn.geo',
    'conn.Geo.CountryCode': 'conn.geo.country_code',
    'conn.Geo.Latitude': 'conn.geo.latitude',
    'conn.Geo.Longitude': 'conn.geo.longitude',
    'conn.Geo.LatLongRadiusKm': 'conn.geo.radius',
    'conn.start_ts': 'conn.ts.start',
    'conn.end_ts': 'conn.ts.end',
    'req.ClientTLS': 'conn.tls',
    'req.ClientTLS.CertCN': 'conn.tls.client.subject.common_name',
    'req.ClientTLS.CipherSuite': 'conn.tls.cipher_suite',
    'req.ClientTLS.SNI': 'conn.tls.sni',
    'req.ClientTLS.Version': 'conn.tls.version',
    'req.ContentLength': 'req.content_length',
    'req.Cookies': 'req.cookies',
    'req.Headers': 'req.headers',
    'req.Host': 'req.host',
    'req.Location': 'req.location',
    'req.Method': 'req.method',
    'req.Params': 'req.url.query_params',
    'req.Path': 'req.url.path',
    'req.Protocol': 'req.version',
    'req.Trailers': 'req.trailers',
    'req.URL': 'req.url',
    'req.url.user': 'req.url.user_password',
    'res.ContentLength': 'res.content_length',
    'res.Cookies': 'res.cookies',
    'res.Headers': 'res.headers',
    'res.Location': 'res.location',
    'res.StatusCode': 'res.status_code',
    'res.Trailers': 'res.trailers',
    'res.ServerTLS': 'conn.tls',
    'res.ServerTLS.CertCN': 'conn.tls.server.subject.common_name',
    'res.ServerTLS.CipherSuite': 'conn.tls.cipher_suite',
    'res.ServerTLS.SNI': 'conn.tls.sni',
    'res.ServerTLS.Version': 'conn.tls.version',
    '.ngrok': 'conn',
  }),
)

/** `ClientIP` → `client_ip`, `SNI` → `sni`. */
function snakeCase(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, '$1_$2').toLowerCase()
}

/** Today's path of an old one, with whatever follows it; undefined when the path is not in the table. */
function legacyPath(path: readonly string[]): string[] | undefined {
  for (let length = path.length; length > 0; length--) {
    const current = LEGACY_PATHS.get(path.slice(0, length).join('.'))
    if (current !== undefined) return [...current.split('.'), ...path.slice(length)]
  }
  return undefined
}
