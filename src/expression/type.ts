/** Static types of expressions and the notation in which functions declare them. Source: CEL language definition, "Gradual Type Checking". */

export type TypeKind =
  | 'dyn'
  | 'null'
  | 'bool'
  | 'int'
  | 'uint'
  | 'double'
  | 'string'
  | 'bytes'
  | 'timestamp'
  | 'duration'
  | 'type'
  | 'list'
  | 'map'
  | 'optional'
  /** A type variable of a declaration or of an empty literal. */
  | 'param'
  /** A named type that only declarations know. */
  | 'abstract'

export interface StaticType {
  readonly kind: TypeKind
  readonly params: readonly StaticType[]
  /** Of `param` and `abstract`. */
  readonly name: string
  /** A header's values or a map of headers: text functions apply to the joined values (traffic-policy.md §11). */
  readonly header: boolean
}

function simple(kind: TypeKind): StaticType {
  return { kind, params: [], name: '', header: false }
}

export const DYN = simple('dyn')
export const NULL = simple('null')
export const BOOL = simple('bool')
export const INT = simple('int')
export const UINT = simple('uint')
export const DOUBLE = simple('double')
export const STRING = simple('string')
export const BYTES = simple('bytes')
export const TIMESTAMP = simple('timestamp')
export const DURATION = simple('duration')
export const TYPE = simple('type')

export function listOf(element: StaticType): StaticType {
  return { kind: 'list', params: [element], name: '', header: false }
}

export function mapOf(key: StaticType, value: StaticType): StaticType {
  return { kind: 'map', params: [key, value], name: '', header: false }
}

export function paramNamed(name: string): StaticType {
  return { kind: 'param', params: [], name, header: false }
}

/** The values of one header. */
export const HEADER_VALUES: StaticType = { kind: 'list', params: [STRING], name: '', header: true }
/** All headers of a message. */
export const HEADER_MAP: StaticType = { kind: 'map', params: [STRING, HEADER_VALUES], name: '', header: true }

const NAMES: Readonly<Record<string, StaticType>> = {
  dyn: DYN,
  null_type: NULL,
  bool: BOOL,
  int: INT,
  uint: UINT,
  double: DOUBLE,
  string: STRING,
  bytes: BYTES,
  timestamp: TIMESTAMP,
  'google.protobuf.Timestamp': TIMESTAMP,
  duration: DURATION,
  'google.protobuf.Duration': DURATION,
  type: TYPE,
  headers: HEADER_MAP,
  header_values: HEADER_VALUES,
}

/** `list(map(string, T))` to a type. A single capital letter (or `param:T`) is a type variable. */
export function parseType(text: string): StaticType {
  const trimmed = text.trim()
  const open = trimmed.indexOf('(')
  if (open === -1) {
    if (/^(?:param:)?[A-Z]$/.test(trimmed)) return paramNamed(trimmed.slice(-1))
    if (Object.hasOwn(NAMES, trimmed)) return NAMES[trimmed]!
    return trimmed === 'list' ? listOf(DYN) : trimmed === 'map' ? mapOf(DYN, DYN) : abstract(trimmed, [])
  }
  const name = trimmed.slice(0, open)
  const params = splitTypes(trimmed.slice(open + 1, -1)).map((part) => parseType(part))
  switch (name) {
    case 'list':
      return listOf(params[0] ?? DYN)
    case 'map':
      return mapOf(params[0] ?? DYN, params[1] ?? DYN)
    case 'type':
      return TYPE
    case 'optional':
    case 'optional_type':
      return { kind: 'optional', params: [params[0] ?? DYN], name: '', header: false }
    default:
      return abstract(name, params)
  }
}

function abstract(name: string, params: readonly StaticType[]): StaticType {
  return { kind: 'abstract', params, name, header: false }
}

function splitTypes(text: string): string[] {
  const parts: string[] = []
  let depth = 0
  let from = 0
  for (let at = 0; at < text.length; at++) {
    if (text[at] === '(') depth++
    else if (text[at] === ')') depth--
    else if (text[at] === ',' && depth === 0) {
      parts.push(text.slice(from, at))
      from = at + 1
    }
  }
  if (text.slice(from).trim() !== '') parts.push(text.slice(from))
  return parts
}

/** One way to call a function. */
export interface Overload {
  /** Called as `x.f()`; the receiver is then the first parameter. */
  readonly receiver: boolean
  readonly params: readonly StaticType[]
  readonly result: StaticType
  /** The last parameter may come any number of times (also none). */
  readonly variadic: boolean
}

/** Reads `string.charAt(int) -> string` (receiver) or `math.abs(int) -> int` (global; dots belong to the name then). */
export function parseOverload(name: string, text: string): Overload {
  const known = overloads.get(text)
  if (known !== undefined) return known
  const overload = readOverload(name, text)
  overloads.set(text, overload)
  return overload
}

/** Declarations are constants of our own code, and every scope declares the same ones. */
const overloads = new Map<string, Overload>()

function readOverload(name: string, text: string): Overload {
  const arrow = text.lastIndexOf('->')
  const result = parseType(text.slice(arrow + 2))
  const head = text.slice(0, arrow).trim()
  const receiver = !head.startsWith(`${name}(`)
  const open = receiver ? head.lastIndexOf(`.${name}(`) + name.length + 1 : name.length
  let inside = head.slice(open + 1, -1)
  const variadic = inside.endsWith('...')
  if (variadic) inside = inside.slice(0, -3)
  const params = splitTypes(inside).map((part) => parseType(part))
  if (receiver) params.unshift(parseType(head.slice(0, open - name.length - 1)))
  return { receiver, params, result, variadic }
}

/** The type as people write it: `list(string)`. */
export function typeText(type: StaticType): string {
  switch (type.kind) {
    case 'null':
      return 'null_type'
    case 'param':
      return 'dyn'
    case 'optional':
      return `optional_type(${type.params.map((param) => typeText(param)).join(', ')})`
    case 'list':
    case 'map':
      return `${type.kind}(${type.params.map((param) => typeText(param)).join(', ')})`
    case 'abstract':
      return type.params.length === 0
        ? type.name
        : `${type.name}(${type.params.map((param) => typeText(param)).join(', ')})`
    default:
      return type.kind
  }
}

/** What type variables stand for, while one expression is checked. */
export class Substitution {
  #bound = new Map<string, StaticType>()
  #fresh = 0

  /** The declared types with their own, unused type variables. */
  instantiate(types: readonly StaticType[]): StaticType[] {
    const names = new Map<string, StaticType>()
    const copy = (type: StaticType): StaticType => {
      if (type.kind === 'param') {
        let own = names.get(type.name)
        if (own === undefined) names.set(type.name, (own = this.freshParam()))
        return own
      }
      return type.params.length === 0 || type.header ? type : { ...type, params: type.params.map((p) => copy(p)) }
    }
    return types.map((type) => copy(type))
  }

  freshParam(): StaticType {
    return paramNamed(`#${this.#fresh++}`)
  }

  /** The type with everything known filled in; with `final`, unknown variables become dyn. */
  apply(type: StaticType, final = false): StaticType {
    if (type.kind === 'param') {
      const bound = this.#bound.get(type.name)
      if (bound === undefined) return final ? DYN : type
      return this.apply(bound, final)
    }
    if (type.params.length === 0 || type.header) return type
    return { ...type, params: type.params.map((param) => this.apply(param, final)) }
  }

  /** Whether values of `from` may stand where `to` is wanted; binds variables only when all fit. */
  assignable(to: readonly StaticType[], from: readonly StaticType[]): boolean {
    if (to.length !== from.length) return false
    const saved = new Map(this.#bound)
    // equal lengths: the element exists
    if (to.every((type, index) => this.#unify(type, from[index]!))) return true
    this.#bound = saved
    return false
  }

  #unify(to: StaticType, from: StaticType): boolean {
    if (to.kind === 'param') return this.#bind(to, from)
    if (from.kind === 'param') return this.#bind(from, to)
    if (to.kind === 'dyn' || from.kind === 'dyn') return true
    if (from.kind === 'null') return NULLABLE.has(to.kind)
    if (to.kind === 'null') return NULLABLE.has(from.kind)
    if (to.kind !== from.kind || to.name !== from.name || to.params.length !== from.params.length) return false
    return to.params.every((param, index) => this.#unify(param, from.params[index]!)) // equal lengths
  }

  #bind(param: StaticType, type: StaticType): boolean {
    if (type.kind === 'param' && this.#resolve(type) === this.#resolve(param)) return true
    const bound = this.#bound.get(param.name)
    if (bound !== undefined) {
      if (!this.#unify(bound, type)) return false
      const general = mostGeneral(bound, type)
      if (!this.#occurs(param.name, general)) this.#bound.set(param.name, general)
      return true
    }
    if (this.#occurs(param.name, type)) return false
    this.#bound.set(param.name, type)
    return true
  }

  #resolve(type: StaticType): string {
    const bound = this.#bound.get(type.name)
    return bound?.kind === 'param' ? this.#resolve(bound) : type.name
  }

  #occurs(name: string, type: StaticType): boolean {
    if (type.kind === 'param') {
      if (type.name === name) return true
      const bound = this.#bound.get(type.name)
      return bound !== undefined && this.#occurs(name, bound)
    }
    return type.params.some((param) => this.#occurs(name, param))
  }
}

const NULLABLE = new Set<TypeKind>(['null', 'timestamp', 'duration', 'optional', 'abstract'])

/** Of two types that fit each other, the one that says less. */
export function mostGeneral(a: StaticType, b: StaticType): StaticType {
  return lessSpecific(a, b) ? a : b
}

function lessSpecific(a: StaticType, b: StaticType): boolean {
  if (a.kind === 'dyn' || a.kind === 'param') return true
  if (b.kind === 'dyn' || b.kind === 'param') return false
  if (b.kind === 'null') return true
  if (a.kind !== b.kind || a.params.length !== b.params.length) return false
  return a.params.every((param, index) => lessSpecific(param, b.params[index]!)) // equal lengths
}
