/**
 * Checked trees to closures. What is known when the policy is loaded (paths of variables, literals, patterns) is done
 * then; what is left runs without looking anything up by name.
 *
 * Source: CEL language definition, "Evaluation"; T-66, T-67; traffic-policy.md §2.5 (absent results and null).
 */
import { operatorSign } from './check.ts'
import type { Checked } from './check.ts'
import { celFromJson } from './convert.ts'
import { EvaluationError, noSuchKey, noSuchOverload } from './evaluation-error.ts'
import { Frame } from './frame.ts'
import type { Implementation } from './functions/registry.ts'
import { memberOf } from './membership.ts'
import type { Variable } from './scope.ts'
import { sortedByKey } from './order.ts'
import type { JsonValue, VariableSource } from './source.ts'
import { ExpressionProblem } from './syntax.ts'
import type { BindNode, CallNode, ComprehensionNode, ExpressionNode, IndexNode, SelectNode } from './syntax.ts'
import {
  CelMap,
  CelOptional,
  CelType,
  CelUint,
  EntryMap,
  HybridString,
  celCompare,
  celEquals,
  isList,
  isNumeric,
  plain,
  typeNameOf,
} from './value.ts'
import type { CelList, CelValue } from './value.ts'

export type Evaluate = (frame: Frame) => CelValue

export interface Program {
  readonly evaluate: Evaluate
  /** Local variables that a frame needs room for. */
  readonly slotCount: number
  /** The value, when it needs no evaluation. */
  readonly constant: CelValue | undefined
}

/** Compiles a tree. Throws ExpressionProblem for literals that a function refuses (an invalid pattern). */
export function compileChecked(checked: Checked): Program {
  const compiler = new Compiler(checked)
  const code = compiler.compile(checked.root)
  return { evaluate: code.run, slotCount: compiler.slotCount, constant: code.constant }
}

interface Local {
  readonly name: string
  readonly slot: number
  /** Of `cel.bind`: computes the value when it is first read. */
  readonly value: Evaluate | undefined
}

/** Kept in place of a bound value that failed: it is not computed a second time. Never leaves the frame. */
class FailedValue extends CelType {
  readonly error: EvaluationError

  constructor(error: EvaluationError) {
    super('error')
    this.error = error
  }
}

function computed(frame: Frame, slot: number, value: Evaluate): CelValue {
  try {
    return (frame.slots[slot] = value(frame))
  } catch (error) {
    const failure = evaluationError(error)
    frame.slots[slot] = new FailedValue(failure)
    throw failure
  }
}

/** A slot whose value is not computed yet. */
const UNSET = undefined as unknown as CelValue

interface Code {
  readonly run: Evaluate
  /** Set when the value never changes. */
  readonly constant: CelValue | undefined
}

const NO_SOURCE = {} as VariableSource // constant folding reads no variable

class Compiler {
  slotCount = 0
  readonly #checked: Checked
  readonly #locals: Local[] = []

  constructor(checked: Checked) {
    this.#checked = checked
  }

  compile(node: ExpressionNode): Code {
    switch (node.kind) {
      case 'literal':
        return constant(node.value)
      case 'ident':
        return this.#ident(node)
      case 'select':
        return this.#select(node)
      case 'index':
        return this.#index(node)
      case 'has':
        return running(this.#has(node.operand))
      case 'call':
        return this.#call(node)
      case 'logic':
        return this.#logic(node.operator, node.operands)
      case 'conditional': {
        const condition = this.compile(node.condition)
        if (condition.constant === true) return this.compile(node.whenTrue)
        if (condition.constant === false) return this.compile(node.whenFalse)
        const [test, yes, no] = [condition.run, this.compile(node.whenTrue).run, this.compile(node.whenFalse).run]
        return running((frame) => {
          const outcome = test(frame)
          if (typeof outcome !== 'boolean') throw noSuchOverload(`${typeNameOf(outcome)} ? :`)
          return outcome ? yes(frame) : no(frame)
        })
      }
      case 'list':
        return this.#list(node)
      case 'map':
        return this.#map(node)
      case 'comprehension':
        return running(this.#comprehension(node))
      case 'bind':
        return running(this.#bind(node))
    }
  }

  // -- names, fields, indexes -----------------------------------------------------------------------------------------

  #localOf(name: string): Local | undefined {
    for (let at = this.#locals.length - 1; at >= 0; at--) {
      const local = this.#locals[at]!
      if (local.name === name) return local
    }
    return undefined
  }

  #ident(node: Extract<ExpressionNode, { kind: 'ident' }>): Code {
    const variable = this.#checked.variableOf(node)
    if (variable !== undefined) return running(readVariable(variable))
    const local = node.absolute ? undefined : this.#localOf(node.name)
    if (local === undefined) return failing(`undeclared reference to '${node.name}'`)
    const { slot, value } = local
    if (value === undefined) return running((frame) => frame.slots[slot]!) // set by the comprehension around
    return running((frame) => {
      const known = frame.slots[slot]
      if (known === undefined) return computed(frame, slot, value)
      if (known instanceof FailedValue) throw known.error
      return known
    })
  }

  #select(node: SelectNode): Code {
    const variable = this.#checked.variableOf(node)
    if (variable !== undefined) return running(readVariable(variable))
    const json = this.#jsonPath(node)
    if (json !== undefined) return running(readJson(json))
    const operand = this.compile(node.operand).run
    const { field, optional } = node
    if (optional) return running((frame) => selectOptional(operand(frame), field))
    return running((frame) => selectField(operand(frame), field))
  }

  #index(node: IndexNode): Code {
    const json = this.#jsonPath(node)
    if (json !== undefined) return running(readJson(json))
    const operandCode = this.compile(node.operand)
    const indexCode = this.compile(node.index)
    const [operand, index] = [operandCode.run, indexCode.run]
    if (node.optional) return running((frame) => indexOptional(operand(frame), index(frame)))
    if (operandCode.constant !== undefined && indexCode.constant !== undefined) {
      return folded((frame) => indexValue(operand(frame), index(frame)))
    }
    const key = indexCode.constant
    const headers = this.#checked.variableOf(node.operand)?.headers
    if (headers !== undefined && typeof key === 'string') {
      const name = key.toLowerCase()
      const missing = noSuchKey(key) // made once: rules over absent headers throw it on every request
      return running((frame) => {
        const values = headers(frame).all(name)
        if (values.length === 0) throw missing
        return values
      })
    }
    if (typeof key === 'bigint' && key >= 0n && key < 0x7fff_ffffn) {
      const at = Number(key)
      const missing = new EvaluationError(`index out of range: ${at}`)
      return running((frame) => {
        const value = operand(frame)
        if (!isList(value)) return indexValue(value, key)
        const item = value[at]
        if (item === undefined) throw missing
        return item
      })
    }
    return running((frame) => indexValue(operand(frame), index(frame)))
  }

  /** A chain of fields and literal indexes below a variable that is plain JSON. */
  #jsonPath(node: ExpressionNode): JsonPath | undefined {
    const steps: JsonStep[] = []
    let at = node
    for (;;) {
      const variable = this.#checked.variableOf(at)
      if (variable !== undefined) {
        const { json } = variable
        return json && { json, steps: steps.toReversed(), nullWhenAbsent: variable.nullWhenAbsent === true }
      }
      if (at.kind === 'select' && !at.optional) {
        steps.push(jsonStep(at.field))
        at = at.operand
      } else if (at.kind === 'index' && !at.optional && at.index.kind === 'literal') {
        const key = at.index.value
        if (typeof key === 'string') steps.push(jsonStep(key))
        else if (typeof key === 'bigint' && key >= 0n && key < 0x7fff_ffffn) steps.push(jsonStep(Number(key)))
        else return undefined
        at = at.operand
      } else {
        return undefined
      }
    }
  }

  #has(operand: SelectNode | IndexNode): Evaluate {
    const json = this.#jsonPath(operand)
    if (json !== undefined) return (frame) => walkJson(json, frame) !== undefined
    const variable = this.#checked.variableOf(operand)
    if (variable !== undefined) return (frame) => variable.read(frame) !== undefined
    const inner = this.compile(operand.operand).run
    if (operand.kind === 'select') {
      const { field } = operand
      return (frame) => hasField(inner(frame), field)
    }
    const index = this.compile(operand.index)
    const headers = this.#checked.variableOf(operand.operand)?.headers
    if (headers !== undefined && typeof index.constant === 'string') {
      const name = index.constant.toLowerCase()
      return (frame) => headers(frame).has(name)
    }
    return (frame) => {
      const container = inner(frame)
      const key = index.run(frame)
      if (isList(container)) {
        const at = listIndex(key)
        return at !== undefined && at >= 0 && at < container.length
      }
      return memberOf(key, container, frame)
    }
  }

  // -- operators and functions ----------------------------------------------------------------------------------------

  #call(node: CallNode): Code {
    const found = this.#checked.functionOf(node)
    if (found === undefined) return failing(`unknown function: '${node.name}'`)
    const { entry, global } = found
    const operands = global || node.target === undefined ? [...node.args] : [node.target, ...node.args]
    const codes = operands.map((operand) => this.compile(operand))
    if (this.#checked.joinsReceiver(node)) codes[0] = running(joined(codes[0]!.run))
    const receiver = !global
    const known = entry.overloads.some(
      (overload) =>
        overload.receiver === receiver &&
        (overload.params.length === codes.length || (overload.variadic && codes.length >= overload.params.length - 1)),
    )
    if (!known) return failing(`no such overload: ${operatorSign(entry.name)}`)
    const nullTest = this.#nullTest(node)
    if (nullTest !== undefined) return running(nullTest)
    const allConstant = codes.every((code) => code.constant !== undefined)
    const direct = operatorCode(entry.name, codes) ?? this.#headerMembership(node, codes)
    const special = direct === undefined ? specialized(entry.specialize, codes, node) : undefined
    const run = direct ?? invoke(special ?? entry.call, codes)
    return entry.pure && allConstant ? folded(run) : running(run)
  }

  /** `actions.ngrok.oauth.identity != null` (§2.5). */
  #nullTest(node: CallNode): Evaluate | undefined {
    if (node.name !== '_==_' && node.name !== '_!=_') return undefined
    const [left, right] = node.args
    const isNull = (side: ExpressionNode | undefined): boolean => side?.kind === 'literal' && side.value === null
    const other = isNull(left) ? right : isNull(right) ? left : undefined
    const json = other === undefined ? undefined : this.#jsonPath(other)
    if (json === undefined || !json.nullWhenAbsent) return undefined
    const negate = node.name === '_!=_'
    return (frame) => ((walkJson(json, frame) ?? null) === null) !== negate
  }

  /** `'x' in req.headers`. */
  #headerMembership(node: CallNode, codes: readonly Code[]): Evaluate | undefined {
    if (node.name !== '_in_') return undefined
    const key = codes[0]?.constant
    const headers = this.#checked.variableOf(node.args[1]!)?.headers // `in` has two operands
    if (headers === undefined || typeof key !== 'string') return undefined
    const name = key.toLowerCase()
    return (frame) => headers(frame).has(name)
  }

  /** `&&` and `||`: one operand that decides silences the errors of all others. */
  #logic(operator: '&&' | '||', operands: readonly ExpressionNode[]): Code {
    const deciding = operator === '||'
    const codes = operands.map((operand) => this.compile(operand))
    if (codes.some((code) => code.constant === deciding)) return constant(deciding)
    const rest = codes.filter((code) => code.constant !== !deciding)
    if (rest.length === 0) return constant(!deciding)
    const runs = rest.map((code) => code.run)
    const [first, second] = runs
    if (runs.length === 2) return running(logicPair(first!, second!, deciding, operator))
    return running((frame) => {
      let failure: unknown
      for (const run of runs) {
        try {
          const value = run(frame)
          if (value === deciding) return deciding
          if (value !== !deciding) failure ??= noSuchOverload(`${typeNameOf(value)} ${operator}`)
        } catch (error) {
          const silenced = absorbed(error, frame)
          failure ??= silenced
        }
      }
      if (failure !== undefined) throw failure
      return !deciding
    })
  }

  // -- literals with parts --------------------------------------------------------------------------------------------

  #list(node: Extract<ExpressionNode, { kind: 'list' }>): Code {
    const items = node.items.map((item) => ({ code: this.compile(item.value), optional: item.optional }))
    if (items.every((item) => item.code.constant !== undefined && !item.optional)) {
      return constant(items.map((item) => item.code.constant!))
    }
    if (items.some((item) => item.optional)) {
      return running((frame) => {
        const list: CelValue[] = []
        for (const item of items) {
          const value = item.code.run(frame)
          if (!item.optional) list.push(value)
          else if (!(value instanceof CelOptional)) throw noSuchOverload(`[?${typeNameOf(value)}]`)
          else if (value.value !== undefined) list.push(value.value)
        }
        return list
      })
    }
    const runs = items.map((item) => item.code.run)
    return running((frame) => {
      frame.spendLength(runs.length)
      return runs.map((run) => run(frame))
    })
  }

  #map(node: Extract<ExpressionNode, { kind: 'map' }>): Code {
    const items = node.items.map((item) => ({
      key: this.compile(item.key),
      value: this.compile(item.value),
      optional: item.optional,
    }))
    const run: Evaluate = (frame) => {
      frame.spendLength(items.length)
      const map = new EntryMap()
      for (const item of items) {
        const key = item.key.run(frame)
        const value = item.value.run(frame)
        if (!item.optional) map.add(key, value)
        else if (!(value instanceof CelOptional)) throw noSuchOverload(`{?k: ${typeNameOf(value)}}`)
        else if (value.value !== undefined) map.add(key, value.value)
      }
      return map
    }
    const fixed = items.every((item) => item.key.constant !== undefined && item.value.constant !== undefined)
    return fixed ? folded(run) : running(run)
  }

  // -- macros ---------------------------------------------------------------------------------------------------------

  #withLocals<T>(names: readonly string[], build: (slots: readonly number[]) => T, value?: Evaluate): T {
    const slots = names.map((name) => {
      const slot = this.slotCount++
      this.#locals.push({ name, slot, value })
      return slot
    })
    const built = build(slots)
    this.#locals.length -= names.length
    return built
  }

  #comprehension(node: ComprehensionNode): Evaluate {
    const range = this.compile(node.range).run
    return this.#withLocals(node.variables, (slots) => {
      const condition = node.condition === undefined ? undefined : this.compile(node.condition).run
      const body = this.compile(node.body).run
      const walk = walker(range, slots, node)
      switch (node.name) {
        case 'all':
          return quantifier(walk, body, false, '&&')
        case 'exists':
          return quantifier(walk, body, true, '||')
        case 'existsOne':
          return (frame) => {
            let count = 0
            walk(frame, () => {
              if (truth(body(frame), node.name)) count++
              return true
            })
            return count === 1
          }
        case 'filter':
          return (frame) => {
            const kept: CelValue[] = []
            walk(frame, (item) => {
              if (truth(body(frame), node.name)) kept.push(item)
              return true
            })
            return kept
          }
        case 'map':
        case 'transformList':
          return (frame) => {
            const results: CelValue[] = []
            walk(frame, () => {
              if (condition === undefined || truth(condition(frame), node.name)) results.push(body(frame))
              return true
            })
            return results
          }
        case 'transformMap':
        case 'transformMapEntry':
          return (frame) => {
            const results = new EntryMap()
            walk(frame, (_item, key) => {
              if (condition !== undefined && !truth(condition(frame), node.name)) return true
              const value = body(frame)
              if (node.name === 'transformMap') {
                results.add(key, value)
                return true
              }
              if (!(value instanceof CelMap)) throw noSuchOverload(`${node.name}(…, ${typeNameOf(value)})`)
              for (const name of value.keys()) results.add(name, value.get(name)!)
              return true
            })
            return results
          }
        case 'sortBy':
          return (frame) => {
            const items: (readonly [CelValue, CelValue])[] = []
            walk(frame, (item) => {
              items.push([body(frame), item])
              return true
            })
            return sortedByKey(items, frame)
          }
      }
    })
  }

  #bind(node: BindNode): Evaluate {
    const value = this.compile(node.value).run
    return this.#withLocals(
      node.variables,
      (slots) => {
        const body = this.compile(node.body).run
        const slot = slots[0]! // every form has a variable
        switch (node.form) {
          case 'bind':
            return (frame) => {
              // evaluated when it is first read: what is never read never fails
              frame.slots[slot] = UNSET
              return body(frame)
            }
          case 'optMap':
          case 'optFlatMap':
            return (frame) => {
              const optional = value(frame)
              if (!(optional instanceof CelOptional)) throw noSuchOverload(`${typeNameOf(optional)}.${node.form}`)
              if (optional.value === undefined) return optional
              frame.slots[slot] = optional.value
              const result = body(frame)
              if (node.form === 'optMap') return new CelOptional(result)
              if (!(result instanceof CelOptional)) throw noSuchOverload(`${node.form}(…, ${typeNameOf(result)})`)
              return result
            }
          case 'sort': {
            const other = slots[1] ?? slot
            return (frame) => {
              const list = value(frame)
              if (!isList(list)) throw noSuchOverload(`${typeNameOf(list)}.sort`)
              const less = (a: CelValue, b: CelValue): boolean => {
                frame.step(node.stepCost)
                frame.slots[slot] = a
                frame.slots[other] = b
                return truth(body(frame), 'sort')
              }
              return [...list].sort((a, b) => (less(a, b) ? -1 : less(b, a) ? 1 : 0))
            }
          }
        }
      },
      node.form === 'bind' ? value : undefined,
    )
  }
}

// -- building blocks --------------------------------------------------------------------------------------------------

function constant(value: CelValue): Code {
  return { run: () => value, constant: value }
}

function running(run: Evaluate): Code {
  return { run, constant: undefined }
}

/** The value now, if it can be had; what fails is left to fail when it runs (`1 / 0 == 0 || true` is true). */
function folded(run: Evaluate): Code {
  try {
    return constant(run(new Frame(NO_SOURCE, 0)))
  } catch (error) {
    evaluationError(error)
    return running(run)
  }
}

function failing(message: string): Code {
  return running(() => {
    throw new EvaluationError(message)
  })
}

/** What throwing and catching an error costs, in steps. */
const ERROR_COST = 50

/** An error that && or || may silence. It is charged for, and when nothing is left to charge, no one silences that. */
function absorbed(error: unknown, frame: Frame): EvaluationError {
  const failure = evaluationError(error)
  frame.spend(ERROR_COST)
  return failure
}

/** Only errors of expressions may be absorbed; a fault of ours must come out. */
function evaluationError(error: unknown): EvaluationError {
  if (error instanceof EvaluationError) return error
  throw error
}

function truth(value: CelValue, where: string): boolean {
  if (typeof value !== 'boolean') throw noSuchOverload(`${where}(…, ${typeNameOf(value)})`)
  return value
}

function readVariable(variable: Variable): Evaluate {
  const { read, name } = variable
  if (variable.always) return read as Evaluate // `always`: never undefined
  const missing = new EvaluationError(`${name} is not set`)
  return (frame) => {
    const value = read(frame)
    if (value === undefined) throw missing
    return value
  }
}

function selectField(value: CelValue, field: string): CelValue {
  if (value instanceof CelMap) {
    const member = value.get(field)
    if (member === undefined) throw noSuchKey(field)
    return member
  }
  if (value instanceof HybridString) return selectField(value.fields, field)
  if (value instanceof CelOptional) {
    return value.value === undefined ? value : selectOptional(value.value, field)
  }
  throw new EvaluationError(`a ${typeNameOf(value)} has no field '${field}'`)
}

function selectOptional(value: CelValue, field: string): CelOptional {
  if (value instanceof CelOptional) return value.value === undefined ? value : selectOptional(value.value, field)
  if (!(value instanceof CelMap)) throw new EvaluationError(`a ${typeNameOf(value)} has no field '${field}'`)
  const member = value.get(field)
  return member === undefined ? CelOptional.none : new CelOptional(member)
}

function hasField(value: CelValue, field: string): boolean {
  if (value instanceof CelMap) return value.has(field)
  if (value instanceof HybridString) return value.fields.has(field)
  if (value instanceof CelOptional) return value.value !== undefined && hasField(value.value, field)
  throw new EvaluationError(`a ${typeNameOf(value)} has no field '${field}'`)
}

/** The position an index value names; undefined when it is no integer. */
function listIndex(index: CelValue): number | undefined {
  if (typeof index === 'bigint') return Number(index)
  if (index instanceof CelUint) return Number(index.value)
  return typeof index === 'number' && Number.isInteger(index) ? index : undefined
}

function indexValue(operand: CelValue, index: CelValue): CelValue {
  if (isList(operand)) {
    const at = listIndex(index)
    if (at === undefined) throw noSuchOverload(`list[${typeNameOf(index)}]`)
    const item = operand[at]
    if (at < 0 || item === undefined) throw new EvaluationError(`index out of range: ${at}`)
    return item
  }
  if (operand instanceof CelMap) {
    const value = operand.get(index)
    if (value === undefined) throw noSuchKey(isNumeric(index) || typeof index === 'string' ? index : typeNameOf(index))
    return value
  }
  if (operand instanceof CelOptional) {
    return operand.value === undefined ? operand : indexOptional(operand.value, index)
  }
  throw noSuchOverload(`${typeNameOf(operand)}[${typeNameOf(index)}]`)
}

function indexOptional(operand: CelValue, index: CelValue): CelOptional {
  if (operand instanceof CelOptional) {
    return operand.value === undefined ? operand : indexOptional(operand.value, index)
  }
  if (isList(operand)) {
    const at = listIndex(index)
    if (at === undefined) throw noSuchOverload(`list[?${typeNameOf(index)}]`)
    const item = operand[at]
    return item === undefined ? CelOptional.none : new CelOptional(item)
  }
  if (!(operand instanceof CelMap)) throw noSuchOverload(`${typeNameOf(operand)}[?${typeNameOf(index)}]`)
  const value = operand.get(index)
  return value === undefined ? CelOptional.none : new CelOptional(value)
}

interface JsonStep {
  readonly key: string | number
  /** Every JavaScript object answers to this name: only then the slow question whether the member is its own (T-67). */
  readonly isInherited: boolean
}

function jsonStep(key: string | number): JsonStep {
  return { key, isInherited: typeof key === 'string' && key in Object.prototype }
}

interface JsonPath {
  readonly json: (frame: Frame) => unknown
  readonly steps: readonly JsonStep[]
  readonly nullWhenAbsent: boolean
}

/** The JSON at the end of the path, undefined when it is not there. Throws where a step meets a value without members. */
function walkJson(path: JsonPath, frame: Frame): JsonValue | undefined {
  let at = path.json(frame) as JsonValue | undefined
  for (const { key, isInherited } of path.steps) {
    if (at === undefined) return undefined
    if (typeof at !== 'object' || at === null) {
      throw new EvaluationError(`a ${typeNameOf(celFromJson(at))} has no member ${String(key)}`)
    }
    if (Array.isArray(at)) {
      if (typeof key !== 'number') throw new EvaluationError(`a list has no field '${key}'`)
      at = (at as readonly JsonValue[])[key]
    } else if (typeof key === 'number' || (isInherited && !Object.hasOwn(at, key))) {
      return undefined
    } else {
      at = (at as Readonly<Record<string, JsonValue>>)[key]
    }
  }
  return at
}

function readJson(path: JsonPath): Evaluate {
  const last = path.steps.at(-1)?.key
  const missing = typeof last === 'number' ? new EvaluationError(`index out of range: ${last}`) : noSuchKey(last)
  return (frame) => {
    const value = walkJson(path, frame)
    if (value === undefined) throw missing
    return celFromJson(value)
  }
}

function joined(run: Evaluate): Evaluate {
  return (frame) => {
    const values = run(frame)
    return isList(values) ? values.map((value) => plain(value)).join(', ') : values
  }
}

function logicPair(first: Evaluate, second: Evaluate, deciding: boolean, operator: string): Evaluate {
  const operand = (run: Evaluate, frame: Frame): boolean | EvaluationError => {
    try {
      const value = run(frame)
      return typeof value === 'boolean' ? value : noSuchOverload(`${typeNameOf(value)} ${operator}`)
    } catch (error) {
      return absorbed(error, frame)
    }
  }
  return (frame) => {
    const left = operand(first, frame)
    if (left === deciding) return deciding
    const right = operand(second, frame)
    if (right === deciding) return deciding
    if (typeof left !== 'boolean') throw left
    if (typeof right !== 'boolean') throw right
    return right
  }
}

type Walk = (frame: Frame, visit: (item: CelValue, key: CelValue) => boolean) => void

/** Walks a list's elements or a map's keys until `visit` says false. With two variables: index or key, then value. */
function walker(range: Evaluate, slots: readonly number[], node: ComprehensionNode): Walk {
  const [first, second] = slots as [number, number | undefined]
  const cost = node.stepCost
  return (frame, visit) => {
    const values = range(frame)
    const map = values instanceof CelMap ? values : undefined
    if (map === undefined && !isList(values)) throw noSuchOverload(`${typeNameOf(values)}.${node.name}`)
    const items = map === undefined ? (values as CelList) : map.keys()
    for (let at = 0; at < items.length; at++) {
      frame.step(cost)
      const item = items[at]! // at < length
      const key = map === undefined ? BigInt(at) : item
      if (second === undefined) {
        frame.slots[first] = item
      } else {
        frame.slots[first] = key
        frame.slots[second] = map === undefined ? item : map.get(item)!
      }
      if (!visit(item, key)) return
    }
  }
}

/** `all` and `exists`: as `&&` and `||` over the elements. */
function quantifier(walk: Walk, body: Evaluate, deciding: boolean, operator: string): Evaluate {
  return (frame) => {
    let failure: EvaluationError | undefined
    let decided = false
    walk(frame, () => {
      try {
        const value = body(frame)
        decided = value === deciding
        if (typeof value !== 'boolean') failure ??= noSuchOverload(`${typeNameOf(value)} ${operator}`)
      } catch (error) {
        const silenced = absorbed(error, frame)
        failure ??= silenced
      }
      return !decided
    })
    if (decided) return deciding
    if (failure !== undefined) throw failure
    return !deciding
  }
}

/** Operators worth their own code. */
function operatorCode(name: string, codes: readonly Code[]): Evaluate | undefined {
  if (codes.length !== 2) return undefined
  const [left, right] = [codes[0]!.run, codes[1]!.run]
  const literal = codes[1]!.constant
  switch (name) {
    case '_==_':
      if (typeof literal === 'string' || typeof literal === 'bigint') {
        return (frame) => {
          const value = left(frame)
          return (
            value === literal ||
            (typeof value === 'object' || typeof value === 'number' ? celEquals(value, literal, frame) : false)
          )
        }
      }
      return (frame) => celEquals(left(frame), right(frame), frame)
    case '_!=_':
      return (frame) => !celEquals(left(frame), right(frame), frame)
    case '_<_':
      return (frame) => celCompare(left(frame), right(frame)) < 0
    case '_<=_':
      return (frame) => celCompare(left(frame), right(frame)) <= 0
    case '_>_':
      return (frame) => celCompare(left(frame), right(frame)) > 0
    case '_>=_':
      return (frame) => celCompare(left(frame), right(frame)) >= 0
    case '_in_': {
      if (isList(literal ?? null) && (literal as CelList).every((item) => typeof item === 'string')) {
        const set = new Set<CelValue>(literal as CelList)
        return (frame) => set.has(plain(left(frame)))
      }
      return (frame) => memberOf(left(frame), right(frame), frame)
    }
    default:
      return undefined
  }
}

function specialized(
  specialize: ((literals: readonly (CelValue | undefined)[]) => Implementation | undefined) | undefined,
  codes: readonly Code[],
  node: CallNode,
): Implementation | undefined {
  if (specialize === undefined) return undefined
  try {
    return specialize(codes.map((code) => code.constant))
  } catch (error) {
    if (!(error instanceof EvaluationError)) throw error
    throw new ExpressionProblem(error.message, node.args.at(-1) ?? node)
  }
}

/** A call's closure, by its number of arguments. Absent optional arguments reach the implementation as undefined. */
function invoke(call: Implementation, codes: readonly Code[]): Evaluate {
  const none = undefined as unknown as CelValue
  const [a, b, c] = codes.map((code) => code.run)
  switch (codes.length) {
    case 0:
      return (frame) => call(frame, none, none, none)
    case 1:
      return (frame) => call(frame, a!(frame), none, none)
    case 2:
      return (frame) => call(frame, a!(frame), b!(frame), none)
    case 3:
      return (frame) => call(frame, a!(frame), b!(frame), c!(frame))
    default: {
      const runs = codes.map((code) => code.run)
      return (frame) => {
        const [first, second, third, ...more] = runs.map((run) => run(frame))
        return call(frame, first!, second!, third!, ...more)
      }
    }
  }
}
