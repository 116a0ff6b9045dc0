/**
 * The type check: resolves names, picks overloads, infers types, and reports everything that cannot work, with places.
 *
 * Source: CEL language definition, "Gradual Type Checking" and "Name Resolution"; traffic-policy.md §3, §11.
 */
import type { FunctionEntry } from './functions/registry.ts'
import { MACRO_NAMES, nameOf } from './parser.ts'
import type { Scope, Variable } from './scope.ts'
import type { BindNode, CallNode, ComprehensionNode, ExpressionNode, Place, SelectNode } from './syntax.ts'
import {
  BOOL,
  BYTES,
  DOUBLE,
  DYN,
  INT,
  NULL,
  STRING,
  Substitution,
  UINT,
  listOf,
  mapOf,
  mostGeneral,
  typeText,
} from './type.ts'
import type { StaticType } from './type.ts'
import { CelUint } from './value.ts'

export interface CheckProblem extends Place {
  readonly severity: 'error' | 'warning'
  readonly message: string
  readonly hint?: string | undefined
}

/** What the check found out about a tree; nodes are the keys. */
export interface Checked {
  readonly root: ExpressionNode
  readonly problems: readonly CheckProblem[]
  typeOf(node: ExpressionNode): StaticType
  variableOf(node: ExpressionNode): Variable | undefined
  /** The function of a call; `global` when the call's target was part of the function's name (`math.abs(x)`). */
  functionOf(node: CallNode): { readonly entry: FunctionEntry; readonly global: boolean } | undefined
  /** The receiver is a header's values and the function wants text: they are joined first. */
  joinsReceiver(node: CallNode): boolean
}

/** Checks a tree against a scope. Never throws for bad expressions. */
export function checkExpression(root: ExpressionNode, scope: Scope, overrides: boolean): Checked {
  const checker = new Checker(scope, overrides)
  checker.check(root)
  return {
    root,
    problems: checker.problems,
    typeOf: (node) => checker.finalType(node),
    variableOf: (node) => checker.variables.get(node),
    functionOf: (node) => checker.functions.get(node),
    joinsReceiver: (node) => checker.joins.has(node),
  }
}

/** The type with its article: `a string`, `an int`. */
function aType(type: StaticType): string {
  const text = typeText(type)
  return `${/^[aeio]/.test(text) ? 'an' : 'a'} ${text}`
}

/** How operators are written, by their internal names. */
const OPERATOR_SIGNS: Readonly<Record<string, string>> = {
  '!_': '!',
  '-_': '-',
  _in_: 'in',
}

/** `_+_` → `+`; other names stay. */
export function operatorSign(name: string): string {
  return OPERATOR_SIGNS[name] ?? (name.startsWith('_') && name.endsWith('_') ? name.slice(1, -1) : name)
}

class Checker {
  readonly problems: CheckProblem[] = []
  readonly variables = new Map<ExpressionNode, Variable>()
  readonly functions = new Map<CallNode, { entry: FunctionEntry; global: boolean }>()
  readonly joins = new Set<CallNode>()
  readonly #types = new Map<ExpressionNode, StaticType>()
  readonly #substitution = new Substitution()
  readonly #scope: Scope
  readonly #overrides: boolean
  readonly #locals: { readonly name: string; readonly type: StaticType }[] = []

  constructor(scope: Scope, overrides: boolean) {
    this.#scope = scope
    this.#overrides = overrides
  }

  finalType(node: ExpressionNode): StaticType {
    return this.#substitution.apply(this.#types.get(node) ?? DYN, true)
  }

  check(node: ExpressionNode): StaticType {
    const type = this.#substitution.apply(this.#check(node))
    this.#types.set(node, type)
    return type
  }

  #error(message: string, place: Place, hint?: string): StaticType {
    this.problems.push({ severity: 'error', message, hint, start: place.start, end: place.end })
    return DYN
  }

  #check(node: ExpressionNode): StaticType {
    switch (node.kind) {
      case 'literal':
        return this.#literal(node.value, node)
      case 'ident':
        return this.#path(node) ?? this.#unknown([node.name], node)
      case 'select':
        return this.#path(node) ?? this.#select(node)
      case 'index':
        return this.#index(node)
      case 'has':
        if (node.operand.kind === 'select') {
          const variable = this.#path(node.operand)
          if (variable === undefined) this.#select(node.operand)
        } else {
          this.check(node.operand)
        }
        return BOOL
      case 'call':
        return this.#call(node)
      case 'logic':
        for (const operand of node.operands) this.#wantBool(operand, node.operator)
        return BOOL
      case 'conditional': {
        this.#wantBool(node.condition, '?')
        return this.#join(this.check(node.whenTrue), this.check(node.whenFalse))
      }
      case 'list': {
        let element: StaticType | undefined
        for (const item of node.items) element = this.#joinNext(element, this.#optionalItem(item.value, item.optional))
        return listOf(element ?? this.#substitution.freshParam())
      }
      case 'map': {
        let key: StaticType | undefined
        let value: StaticType | undefined
        for (const item of node.items) {
          key = this.#joinNext(key, this.check(item.key))
          value = this.#joinNext(value, this.#optionalItem(item.value, item.optional))
        }
        const fresh = this.#substitution
        return mapOf(key ?? fresh.freshParam(), value ?? fresh.freshParam())
      }
      case 'comprehension':
        return this.#comprehension(node)
      case 'bind':
        return this.#bind(node)
    }
  }

  #literal(value: unknown, place: Place): StaticType {
    switch (typeof value) {
      case 'boolean':
        return BOOL
      case 'bigint':
        return INT
      case 'number':
        return DOUBLE
      case 'string':
        if (this.#overrides && value.includes('${')) {
          this.#error(
            'an interpolation ${…} has no meaning inside an expression',
            place,
            'join texts with +: "a" + req.host',
          )
        }
        return STRING
      default:
        return value === null ? NULL : value instanceof CelUint ? UINT : BYTES
    }
  }

  // -- names ----------------------------------------------------------------------------------------------------------

  /** Resolves `a.b.c` as a local variable (only `a`) or as a variable of the scope. Undefined when it is neither. */
  #path(node: ExpressionNode): StaticType | undefined {
    const names = pathOf(node)
    if (names === undefined) return undefined
    if (!names.absolute) {
      const local = this.#local(names.path[0]!) // a path has at least its root
      if (local !== undefined) return names.path.length === 1 ? local : undefined
    }
    const variable = this.#scope.variable(names.path, names.absolute)
    if (variable === undefined) return undefined
    if (variable.problem !== undefined) this.#error(variable.problem.message, node, variable.problem.hint)
    if (variable.warning !== undefined) {
      this.problems.push({ severity: 'warning', message: variable.warning, start: node.start, end: node.end })
    }
    this.variables.set(node, variable)
    this.#types.set(node, variable.type)
    return variable.type
  }

  #local(name: string): StaticType | undefined {
    for (let at = this.#locals.length - 1; at >= 0; at--) {
      const local = this.#locals[at]!
      if (local.name === name) return local.type
    }
    return undefined
  }

  #unknown(path: readonly string[], place: Place): StaticType {
    const advice = this.#scope.unknownVariable(path)
    return this.#error(advice.message, place, advice.hint)
  }

  #select(node: SelectNode): StaticType {
    const before = this.problems.length
    const operand = this.check(node.operand)
    if (this.problems.slice(before).some((problem) => problem.severity === 'error')) return DYN
    const variable = this.variables.get(node.operand)
    const names = pathOf(node)
    if (variable?.fieldNames !== undefined && names !== undefined) return this.#unknown(names.path, node.fieldPlace)
    return this.#selection(operand, node)
  }

  #selection(operand: StaticType, node: SelectNode): StaticType {
    const type = this.#substitution.apply(operand)
    switch (type.kind) {
      case 'map':
        return this.#wrapOptional(type.params[1]!, node.optional) // maps have two parameters
      case 'optional':
        return optionalOf(this.#selection(type.params[0]!, { ...node, optional: false }))
      case 'dyn':
      case 'param':
        return this.#wrapOptional(DYN, node.optional)
      default: {
        const hint = FIELD_HINTS[node.field] ?? (type.header ? `use an index: …['${node.field}']` : undefined)
        return this.#error(`${aType(type)} has no field "${node.field}"`, node.fieldPlace, hint)
      }
    }
  }

  #index(node: Extract<ExpressionNode, { kind: 'index' }>): StaticType {
    const operand = this.check(node.operand)
    const index = this.check(node.index)
    return this.#indexType(operand, index, node)
  }

  #indexType(operandType: StaticType, index: StaticType, node: Extract<ExpressionNode, { kind: 'index' }>): StaticType {
    const operand = this.#substitution.apply(operandType)
    const variable = this.variables.get(node.operand)
    if (variable?.fieldNames !== undefined && node.index.kind === 'literal' && typeof node.index.value === 'string') {
      const path = [...variable.name.split('.'), node.index.value]
      if (!variable.fieldNames.includes(node.index.value)) return this.#unknown(path, node.index)
    }
    switch (operand.kind) {
      case 'list':
        if (!this.#fits(INT, index)) {
          return this.#error(`a list is indexed by an int, not by ${aType(index)}`, node.index)
        }
        return this.#wrapOptional(operand.params[0]!, node.optional) // lists have one parameter
      case 'map':
        if (!this.#fits(operand.params[0]!, index)) {
          const wanted = typeText(this.#substitution.apply(operand.params[0]!))
          return this.#error(`the map's keys are ${wanted}, not ${typeText(index)}`, node.index)
        }
        return this.#wrapOptional(operand.params[1]!, node.optional)
      case 'optional':
        return optionalOf(this.#indexType(operand.params[0]!, index, { ...node, optional: false }))
      case 'dyn':
      case 'param':
        return this.#wrapOptional(DYN, node.optional)
      default:
        return this.#error(`${aType(operand)} cannot be indexed`, node.index)
    }
  }

  #wrapOptional(type: StaticType, optional: boolean): StaticType {
    return optional ? optionalOf(type) : type
  }

  #optionalItem(node: ExpressionNode, optional: boolean): StaticType {
    const type = this.check(node)
    if (!optional) return type
    return type.kind === 'optional' ? type.params[0]! : DYN
  }

  // -- types ----------------------------------------------------------------------------------------------------------

  #fits(to: StaticType, from: StaticType): boolean {
    return this.#substitution.assignable([to], [from])
  }

  #joinNext(before: StaticType | undefined, next: StaticType): StaticType {
    return before === undefined ? next : this.#join(before, next)
  }

  #join(left: StaticType, right: StaticType): StaticType {
    const a = this.#substitution.apply(left)
    const b = this.#substitution.apply(right)
    return this.#fits(a, b) ? mostGeneral(this.#substitution.apply(a), this.#substitution.apply(b)) : DYN
  }

  #wantBool(node: ExpressionNode, operator: string): void {
    const type = this.check(node)
    if (this.#fits(BOOL, type)) return
    const hint = type.kind === 'list' || type.kind === 'map' ? 'test its size: size(x) > 0' : undefined
    this.#error(`"${operator}" wants a bool, this is ${aType(type)}`, node, hint)
  }

  // -- calls ----------------------------------------------------------------------------------------------------------

  #call(node: CallNode): StaticType {
    const found = this.#find(node)
    if (found === undefined) {
      const before = this.problems.length
      if (node.target !== undefined) this.check(node.target)
      // `request.headers.get(…)`: the unknown name in front says it all
      if (this.problems.length > before) return DYN
      const advice = this.#scope.unknownFunction(node.name, node.target !== undefined)
      this.#error(advice.message, node.namePlace, advice.hint)
      // arguments of a misused macro name variables that nobody declared
      if (!MACRO_NAMES.has(node.name)) for (const argument of node.args) this.check(argument)
      return DYN
    }
    this.functions.set(node, found)
    const { entry, global } = found
    const receiver = global ? undefined : node.target
    const operands = receiver === undefined ? node.args : [receiver, ...node.args]
    const before = this.problems.length
    const types = operands.map((operand) => this.check(operand))
    if (this.#overrides) this.#refuseNotIn(node)
    if (this.problems.slice(before).some((problem) => problem.severity === 'error')) return DYN
    const result = this.#resolve(entry, receiver !== undefined, types)
    if (result !== undefined) return result
    if (receiver !== undefined && types[0]!.header && types[0]!.kind === 'list') {
      const joined = this.#resolve(entry, true, [STRING, ...types.slice(1)])
      if (joined !== undefined) {
        this.joins.add(node)
        this.problems.push({
          severity: 'warning',
          message: `${entry.name}() is used on all values of a header: they are joined with ", "`,
          start: node.start,
          end: node.end,
        })
        return joined
      }
    }
    return this.#noOverload(node, entry, receiver !== undefined, types)
  }

  #find(node: CallNode): { entry: FunctionEntry; global: boolean } | undefined {
    const { target } = node
    if (target === undefined) {
      const entry = this.#scope.function(node.name)
      return entry && { entry, global: true }
    }
    const path = pathOf(target)
    if (path !== undefined && (path.absolute || this.#local(path.path[0]!) === undefined)) {
      const entry = this.#scope.function(`${nameOf(target)}.${node.name}`)
      if (entry !== undefined) return { entry, global: true }
    }
    const entry = this.#scope.function(node.name)
    return entry && { entry, global: false }
  }

  /** The result type over all overloads that fit, as cel-go joins them; undefined when none does. */
  #resolve(entry: FunctionEntry, receiver: boolean, types: readonly StaticType[]): StaticType | undefined {
    let result: StaticType | undefined
    for (const overload of entry.overloads) {
      if (overload.receiver !== receiver) continue
      let params = overload.params
      if (overload.variadic) {
        const last = params.at(-1)!
        params = [
          ...params.slice(0, -1),
          ...Array.from({ length: Math.max(0, types.length - params.length + 1) }, () => last),
        ]
      }
      if (params.length !== types.length) continue
      const [own, ...instantiated] = this.#substitution.instantiate([overload.result, ...params])
      if (!this.#substitution.assignable(instantiated, types)) continue
      if (result === undefined) result = own!
      else if (!sameType(this.#substitution.apply(result), this.#substitution.apply(own!))) return DYN
    }
    return result
  }

  #noOverload(node: CallNode, entry: FunctionEntry, receiver: boolean, types: readonly StaticType[]): StaticType {
    const sign = operatorSign(entry.name)
    const texts = types.map((type) => typeText(type))
    if (sign !== entry.name) {
      const [left, right] = texts
      const message =
        right === undefined
          ? `"${sign}" does not take ${aType(types[0]!)}`
          : `"${sign}" does not take ${left} and ${right}`
      return this.#error(message, node, operatorHint(sign, types))
    }
    const fitting = entry.overloads.filter((overload) => overload.receiver === receiver)
    if (fitting.length === 0) {
      const hint = receiver ? `write ${entry.name}(…)` : `write x.${entry.name}(…)`
      return this.#error(
        `${entry.name}() is ${receiver ? 'not called on a value' : 'called on a value'}`,
        node.namePlace,
        hint,
      )
    }
    const counts = [...new Set(fitting.map((overload) => overload.params.length - (receiver ? 1 : 0)))].sort(
      (a, b) => a - b,
    )
    const given = node.args.length
    if (!fitting.some((overload) => overload.variadic) && !counts.includes(given)) {
      const wanted = counts.join(' or ')
      return this.#error(
        `${entry.name}() takes ${wanted} argument${wanted === '1' ? '' : 's'}, not ${given}`,
        node.namePlace,
      )
    }
    const applied = receiver ? `${texts[0]}.(${texts.slice(1).join(', ')})` : `(${texts.join(', ')})`
    return this.#error(`${entry.name}() does not take ${applied}`, node.namePlace, headerHint(types))
  }

  /** §11: `!x in list` is read as `(!x) in list`, which never is what was meant. */
  #refuseNotIn(node: CallNode): void {
    const negation = node.args[0]
    if (node.name !== '_in_' || negation?.kind !== 'call' || negation.name !== '!_' || negation.parenthesized) return
    const operand = negation.args[0]!
    if (this.#substitution.apply(this.#types.get(operand) ?? DYN).kind === 'bool') return
    const added = this.problems.findIndex(
      (problem) => problem.start === negation.start && problem.message.startsWith('"!" '),
    )
    if (added !== -1) this.problems.splice(added, 1)
    this.#error(
      '"!" binds tighter than "in": this negates the value, not the membership',
      negation,
      'write !(x in list)',
    )
  }

  // -- macros ---------------------------------------------------------------------------------------------------------

  #comprehension(node: ComprehensionNode): StaticType {
    const range = this.#substitution.apply(this.check(node.range))
    const [key, element] = this.#rangeTypes(range, node)
    const twoVariables = node.variables.length === 2
    const types = twoVariables ? [key, element] : [range.kind === 'map' ? key : element]
    for (const [index, name] of node.variables.entries()) this.#locals.push({ name, type: types[index]! })
    if (node.condition !== undefined) this.#wantBool(node.condition, node.name)
    const predicate =
      node.name === 'all' || node.name === 'exists' || node.name === 'existsOne' || node.name === 'filter'
    let body = DYN
    if (predicate) this.#wantBool(node.body, node.name)
    else body = this.check(node.body)
    this.#locals.length -= node.variables.length
    switch (node.name) {
      case 'all':
      case 'exists':
      case 'existsOne':
        return BOOL
      case 'filter':
      case 'sortBy':
        return range.header ? range : listOf(range.kind === 'map' ? key : element)
      case 'map':
      case 'transformList':
        return listOf(body)
      case 'transformMap':
        return mapOf(range.kind === 'map' ? key : INT, body)
      case 'transformMapEntry':
        return body
    }
  }

  #rangeTypes(range: StaticType, node: ComprehensionNode): [StaticType, StaticType] {
    switch (range.kind) {
      case 'list':
        return [INT, range.params[0]!]
      case 'map':
        return [range.params[0]!, range.params[1]!]
      case 'dyn':
      case 'param':
        return [DYN, DYN]
      default:
        this.#error(`${node.name}() walks over a list or a map, this is ${aType(range)}`, node.range)
        return [DYN, DYN]
    }
  }

  #bind(node: BindNode): StaticType {
    const value = this.#substitution.apply(this.check(node.value))
    let local = value
    if (node.form === 'sort') local = value.kind === 'list' ? value.params[0]! : DYN
    else if (node.form !== 'bind') local = value.kind === 'optional' ? value.params[0]! : DYN
    for (const name of node.variables) this.#locals.push({ name, type: local })
    const body = this.check(node.body)
    this.#locals.length -= node.variables.length
    if (node.form === 'sort') return value
    if (node.form === 'optMap') return optionalOf(body)
    return body
  }
}

function optionalOf(type: StaticType): StaticType {
  return { kind: 'optional', params: [type], name: '', header: false }
}

function sameType(a: StaticType, b: StaticType): boolean {
  if (a.kind !== b.kind || a.name !== b.name || a.params.length !== b.params.length) return false
  return a.params.every((param, index) => sameType(param, b.params[index]!)) // equal lengths
}

/** The names of `a.b.c`; undefined for anything else. */
export function pathOf(node: ExpressionNode): { path: string[]; absolute: boolean } | undefined {
  const path: string[] = []
  let at = node
  while (at.kind === 'select' && !at.optional) {
    path.push(at.field)
    at = at.operand
  }
  if (at.kind !== 'ident') return undefined
  path.push(at.name)
  return { path: path.toReversed(), absolute: at.absolute }
}

const FIELD_HINTS: Readonly<Record<string, string>> = {
  length: 'write size(x)',
}

function operatorHint(sign: string, types: readonly StaticType[]): string | undefined {
  const [left, right] = types
  if (left === undefined || right === undefined) return undefined
  const header = headerHint(types)
  if (header !== undefined && sign !== 'in') return header
  const kinds = new Set([left.kind, right.kind])
  if (kinds.has('string') && (kinds.has('int') || kinds.has('double') || kinds.has('uint'))) {
    return sign === '+'
      ? 'convert the number: string(x)'
      : 'compare numbers with numbers (without quotes) and text with text'
  }
  if (kinds.has('timestamp') && kinds.has('string')) return 'make a time of the text: timestamp(x)'
  if (kinds.has('duration') && kinds.has('string')) return "make a duration of the text: duration('5m')"
  if (kinds.has('int') && kinds.has('double')) return 'convert one side: double(x) or int(x)'
  if (sign === 'in' && right.kind === 'string') return 'write text.contains(part)'
  return undefined
}

function headerHint(types: readonly StaticType[]): string | undefined {
  const header = types.some((type) => type.header && type.kind === 'list')
  return header ? "a header has a list of values: take the first with […][0], or write 'x' in […]" : undefined
}
