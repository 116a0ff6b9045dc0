/** The corpus of CEL conformance cases: its values, its declarations, and how one case is judged. */
import { checkExpression } from '../../../src/expression/check.ts'
import type { Checked } from '../../../src/expression/check.ts'
import { compileChecked } from '../../../src/expression/compile.ts'
import { EvaluationError } from '../../../src/expression/evaluation-error.ts'
import { Frame } from '../../../src/expression/frame.ts'
import { TYPE_NAMES } from '../../../src/expression/functions/conversions.ts'
import type { FunctionEntry, FunctionTable } from '../../../src/expression/functions/registry.ts'
import { parseExpression } from '../../../src/expression/parser.ts'
import type { Advice, Scope, Variable } from '../../../src/expression/scope.ts'
import type { VariableSource } from '../../../src/expression/source.ts'
import { ExpressionProblem } from '../../../src/expression/syntax.ts'
import { TYPE, parseType, typeText } from '../../../src/expression/type.ts'
import type { StaticType } from '../../../src/expression/type.ts'
import {
  CelDuration,
  CelMap,
  CelTimestamp,
  CelType,
  CelUint,
  EntryMap,
  isList,
  typeNameOf,
} from '../../../src/expression/value.ts'
import type { CelValue } from '../../../src/expression/value.ts'

export interface CorpusValue {
  readonly t: string
  readonly v?: unknown
  readonly seconds?: string
  readonly nanos?: number
}

interface Declaration {
  readonly type?: string
  readonly overloads?: readonly {
    readonly params: readonly string[]
    readonly result: string
    readonly receiver?: boolean
  }[]
}

export interface CorpusCase {
  readonly id: string
  readonly expr: string
  readonly container?: string
  readonly env?: Readonly<Record<string, Declaration>>
  readonly bindings?: Readonly<Record<string, CorpusValue>>
  readonly disable_check?: boolean
  readonly check_only?: boolean
  readonly disable_macros?: boolean
  readonly expect: {
    readonly value?: CorpusValue
    readonly type?: string
    readonly error?: boolean
    readonly hint?: readonly string[]
  }
  readonly requires: readonly string[]
  readonly disputed?: string
}

/** A value of the corpus as ours. */
export function valueOf(value: CorpusValue): CelValue {
  switch (value.t) {
    case 'int':
      return BigInt(value.v as string)
    case 'uint':
      return new CelUint(BigInt(value.v as string))
    case 'double':
      return Number(value.v)
    case 'string':
    case 'bool':
      return value.v as string | boolean
    case 'bytes':
      return new Uint8Array(Buffer.from(value.v as string, 'base64'))
    case 'null':
      return null
    case 'list':
      return (value.v as CorpusValue[]).map((item) => valueOf(item))
    case 'map':
      return EntryMap.of((value.v as [CorpusValue, CorpusValue][]).map(([key, item]) => [valueOf(key), valueOf(item)]))
    case 'type':
      return new CelType(value.v as string)
    case 'timestamp':
      return new CelTimestamp(nanosOf(value))
    case 'duration':
      return new CelDuration(nanosOf(value))
    default:
      throw new Error(`unknown type in the corpus: ${value.t}`)
  }
}

function nanosOf(value: CorpusValue): bigint {
  return BigInt(value.seconds ?? '0') * 1_000_000_000n + BigInt(value.nanos ?? 0)
}

/** Equal in type and value; maps without order; NaN is NaN, -0 is not 0. */
export function same(a: CelValue, b: CelValue): boolean {
  if (typeNameOf(a) !== typeNameOf(b)) return false
  if (typeof a === 'number') return Object.is(a, b)
  if (a instanceof CelUint) return a.value === (b as CelUint).value
  if (a instanceof CelTimestamp || a instanceof CelDuration) return a.nanos === (b as CelTimestamp).nanos
  if (a instanceof CelType) return a.name === (b as CelType).name
  if (a instanceof Uint8Array) return Buffer.compare(a, b as Uint8Array) === 0
  if (isList(a)) return isList(b) && a.length === b.length && a.every((item, index) => same(item, b[index]!))
  if (a instanceof CelMap) {
    const other = b as CelMap
    return (
      a.size === other.size &&
      a.keys().every((key) => {
        const right = other.get(key)
        return right !== undefined && same(a.get(key)!, right)
      })
    )
  }
  return a === b
}

type Bindings = ReadonlyMap<string, CelValue>

/** Names of one case: its declarations, types, functions, resolved from its container outwards. */
class CaseScope implements Scope {
  readonly #variables = new Map<string, StaticType>()
  readonly #own = new Map<string, FunctionEntry>()
  readonly #functions: FunctionTable
  readonly #containers: readonly string[]

  constructor(test: CorpusCase, functions: FunctionTable) {
    this.#functions = functions
    for (const [name, declaration] of Object.entries(test.env ?? {})) {
      if (declaration.type !== undefined) this.#variables.set(name, parseType(declaration.type))
      else this.#own.set(name, declared(name, declaration))
    }
    for (const name of Object.keys(test.bindings ?? {})) {
      if (!this.#variables.has(name)) this.#variables.set(name, parseType('dyn'))
    }
    const parts = test.container?.split('.') ?? []
    this.#containers = [...parts.map((_, index) => `${parts.slice(0, parts.length - index).join('.')}.`), '']
  }

  variable(path: readonly string[], absolute: boolean): Variable | undefined {
    const name = path.join('.')
    for (const container of absolute ? [''] : this.#containers) {
      const full = `${container}${name}`
      const type = this.#variables.get(full)
      if (type !== undefined) {
        return { name: full, type, read: (frame) => (frame.source as unknown as Bindings).get(full), always: false }
      }
      const typeValue = TYPE_NAMES.get(full)
      if (typeValue !== undefined) return { name: full, type: TYPE, read: () => typeValue, always: true }
    }
    return undefined
  }

  function(name: string): FunctionEntry | undefined {
    for (const container of this.#containers) {
      const entry = this.#own.get(`${container}${name}`) ?? this.#functions.get(`${container}${name}`)
      if (entry !== undefined) return entry
    }
    return undefined
  }

  unknownVariable(path: readonly string[]): Advice {
    return { message: `undeclared reference to '${path.join('.')}'` }
  }

  unknownFunction(name: string): Advice {
    return { message: `undeclared function '${name}'` }
  }
}

function declared(name: string, declaration: Declaration): FunctionEntry {
  return {
    name,
    overloads: (declaration.overloads ?? []).map((overload) => ({
      receiver: overload.receiver === true,
      params: overload.params.map((param) => parseType(param)),
      result: parseType(overload.result),
      variadic: false,
    })),
    call: () => {
      throw new EvaluationError(`${name} is declared only`)
    },
    pure: false,
  }
}

/** Undefined when the case passes, else what went wrong. */
export function judge(test: CorpusCase, functions: FunctionTable): string | undefined {
  let checked: Checked
  try {
    checked = checkExpression(
      parseExpression(test.expr, { overrides: false, macros: test.disable_macros !== true }),
      new CaseScope(test, functions),
      false,
    )
  } catch (error) {
    if (!(error instanceof ExpressionProblem)) throw error
    return test.expect.error === true ? undefined : `does not parse: ${error.message}`
  }
  const problem = checked.problems.find((one) => one.severity === 'error')
  if (test.disable_check !== true && problem !== undefined) {
    return test.expect.error === true ? undefined : `does not check: ${problem.message}`
  }
  if (test.expect.type !== undefined) {
    const type = typeText(checked.typeOf(checked.root))
    if (type !== test.expect.type) return `type ${type}, expected ${test.expect.type}`
  }
  if (test.check_only === true) return undefined
  return judgeValue(test, checked)
}

function judgeValue(test: CorpusCase, checked: Checked): string | undefined {
  const bindings = new Map(Object.entries(test.bindings ?? {}).map(([name, value]) => [name, valueOf(value)]))
  let value: CelValue
  try {
    const program = compileChecked(checked)
    value = program.evaluate(new Frame(bindings as unknown as VariableSource, program.slotCount))
  } catch (error) {
    if (!(error instanceof EvaluationError || error instanceof ExpressionProblem)) throw error
    return test.expect.error === true ? undefined : `fails: ${error.message}`
  }
  if (test.expect.error === true) return `no error, but ${show(value)}`
  if (test.expect.value === undefined) return undefined
  const expected = valueOf(test.expect.value)
  return same(value, expected) ? undefined : `${show(value)}, expected ${show(expected)}`
}

function show(value: CelValue): string {
  const text = JSON.stringify(value, (_key, item: unknown) => {
    if (typeof item === 'bigint') return String(item)
    if (item instanceof CelMap) return Object.fromEntries(item.keys().map((key) => [String(key), item.get(key)]))
    return item
  })
  return `${typeNameOf(value)} ${text}`
}
