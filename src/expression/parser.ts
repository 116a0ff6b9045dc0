/**
 * Parser of CEL: text to tree, with exact places, bounded depth (T-67) and hints for what people write instead of CEL.
 *
 * Source: CEL language definition, "Syntax" and "Macros"; traffic-policy.md §3 (`has` with an index, `sortBy`), §11.
 */
import { Lexer } from './lexer.ts'
import type { Token } from './lexer.ts'
import { ExpressionProblem } from './syntax.ts'
import type { CallNode, ComprehensionName, ExpressionNode, ListItem, MapItem, Place } from './syntax.ts'
import { INT_MAX } from './value.ts'
import type { CelUint } from './value.ts'

/** Characters of one expression (16 KiB, traffic-policy.md §3). */
export const MAX_EXPRESSION_LENGTH = 16_384
/** Nesting of calls, selections, brackets and parentheses; the height of the tree. */
export const MAX_NESTING = 250

export interface ParserOptions {
  /** ngrok's reading of `has(a['b'])`. */
  readonly overrides: boolean
  /** `\"text\"` is a text: in interpolations. */
  readonly escapedQuotes?: boolean
  /** `false`: `has`, `all`, `map` … are calls like any other. */
  readonly macros?: boolean
}

/** Parses a whole expression. Throws ExpressionProblem. */
export function parseExpression(text: string, options: ParserOptions): ExpressionNode {
  if (text.length > MAX_EXPRESSION_LENGTH) {
    throw new ExpressionProblem(
      `an expression may have at most ${MAX_EXPRESSION_LENGTH} characters, this one has ${text.length}`,
      {
        start: 0,
        end: 1,
      },
    )
  }
  return new Parser(text, options).parse()
}

const RESERVED = new Set(
  'as break const continue else false for function if import in let loop package namespace null return true var void while'.split(
    ' ',
  ),
)
const NOT_SELECTABLE = new Set(['false', 'in', 'null', 'true'])
const RELATIONS: Readonly<Record<string, string>> = {
  '==': '_==_',
  '!=': '_!=_',
  '<': '_<_',
  '<=': '_<=_',
  '>': '_>_',
  '>=': '_>=_',
  in: '_in_',
}
const SUMS: Readonly<Record<string, string>> = { '+': '_+_', '-': '_-_' }
const PRODUCTS: Readonly<Record<string, string>> = { '*': '_*_', '/': '_/_', '%': '_%_' }

/** `receiver macro name : number of arguments` → what it becomes. */
const COMPREHENSIONS: Readonly<Record<string, readonly [ComprehensionName, number, boolean]>> = {
  // name, number of variables, has a condition before its result
  'all:2': ['all', 1, false],
  'all:3': ['all', 2, false],
  'exists:2': ['exists', 1, false],
  'exists:3': ['exists', 2, false],
  'exists_one:2': ['existsOne', 1, false],
  'exists_one:3': ['existsOne', 2, false],
  'existsOne:2': ['existsOne', 1, false],
  'existsOne:3': ['existsOne', 2, false],
  'map:2': ['map', 1, false],
  'map:3': ['map', 1, true],
  'filter:2': ['filter', 1, false],
  'transformList:3': ['transformList', 2, false],
  'transformList:4': ['transformList', 2, true],
  'transformMap:3': ['transformMap', 2, false],
  'transformMap:4': ['transformMap', 2, true],
  'transformMapEntry:3': ['transformMapEntry', 2, false],
  'transformMapEntry:4': ['transformMapEntry', 2, true],
  'sortBy:2': ['sortBy', 1, false],
}

/** Macro names and their argument counts, for the message when the count is wrong. */
export const MACRO_NAMES: ReadonlySet<string> = new Set([
  'has',
  ...Object.keys(COMPREHENSIONS).map((key) => key.slice(0, key.indexOf(':'))),
])

class Parser {
  readonly #lexer: Lexer
  readonly #options: ParserOptions
  #token: Token
  #depth = 0

  constructor(text: string, options: ParserOptions) {
    this.#lexer = new Lexer(text, 0, options.escapedQuotes)
    this.#options = options
    this.#token = this.#lexer.next()
  }

  parse(): ExpressionNode {
    if (this.#isEnd()) throw new ExpressionProblem('the expression is empty', widened(this.#token))
    const node = this.#expression()
    if (!this.#isEnd()) throw this.#unexpected('an operator or the end of the expression')
    return node
  }

  // -- tokens ---------------------------------------------------------------------------------------------------------

  #advance(): Token {
    const token = this.#token
    this.#token = this.#lexer.next()
    return token
  }

  #isEnd(): boolean {
    return this.#token.kind === 'end'
  }

  #at(mark: string): boolean {
    return this.#token.kind === 'punctuation' && this.#token.text === mark
  }

  #accept(mark: string): boolean {
    if (!this.#at(mark)) return false
    this.#advance()
    return true
  }

  #expect(mark: string, opened?: Token): Token {
    if (this.#at(mark)) return this.#advance()
    if (opened !== undefined && this.#token.kind === 'end') {
      throw new ExpressionProblem(`"${opened.text}" is not closed: "${mark}" is missing`, opened)
    }
    throw this.#unexpected(`"${mark}"`)
  }

  #unexpected(wanted: string): ExpressionProblem {
    const token = this.#token
    const found = token.kind === 'end' ? 'the end of the expression' : `"${clip(token.text)}"`
    return new ExpressionProblem(`expected ${wanted}, found ${found}`, widened(token), hintForWord(token))
  }

  // -- nodes ----------------------------------------------------------------------------------------------------------

  #height(place: Place, ...below: readonly ExpressionNode[]): number {
    let height = 0
    for (const node of below) if (node.height > height) height = node.height
    if (height >= MAX_NESTING) {
      throw new ExpressionProblem(`the expression is nested deeper than ${MAX_NESTING} levels`, place)
    }
    return height + 1
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > MAX_NESTING) {
      throw new ExpressionProblem(`the expression is nested deeper than ${MAX_NESTING} levels`, widened(this.#token))
    }
    const node = read()
    this.#depth--
    return node
  }

  #operator(name: string, token: Token, args: readonly ExpressionNode[]): CallNode {
    const start = Math.min(token.start, args[0]!.start) // operators have at least one operand
    const end = args.at(-1)!.end
    const height = this.#height(token, ...args)
    return { kind: 'call', name, namePlace: token, target: undefined, args, parenthesized: false, start, end, height }
  }

  // -- grammar --------------------------------------------------------------------------------------------------------

  #expression(): ExpressionNode {
    return this.#nested(() => {
      const condition = this.#logic('||')
      if (!this.#at('?')) return condition
      const mark = this.#advance()
      const whenTrue = this.#logic('||')
      this.#expect(':')
      const whenFalse = this.#expression()
      return {
        kind: 'conditional',
        condition,
        whenTrue,
        whenFalse,
        start: condition.start,
        end: whenFalse.end,
        height: this.#height(mark, condition, whenTrue, whenFalse),
      }
    })
  }

  #logic(operator: '&&' | '||'): ExpressionNode {
    const operand = (): ExpressionNode => (operator === '||' ? this.#logic('&&') : this.#relation())
    const first = operand()
    if (!this.#at(operator)) return first
    const operands = [first]
    while (this.#accept(operator)) operands.push(operand())
    const place = { start: first.start, end: operands.at(-1)!.end }
    return { kind: 'logic', operator, operands, ...place, height: this.#height(place, ...operands) }
  }

  #relation(): ExpressionNode {
    let left = this.#binary(SUMS, () => this.#binary(PRODUCTS, () => this.#unary()))
    for (;;) {
      const token = this.#token
      const isIn = token.kind === 'ident' && token.text === 'in'
      const name = (token.kind === 'punctuation' || isIn) && RELATIONS[token.text]
      if (!name) return left
      this.#advance()
      const right = this.#binary(SUMS, () => this.#binary(PRODUCTS, () => this.#unary()))
      left = this.#operator(name, token, [left, right])
    }
  }

  #binary(operators: Readonly<Record<string, string>>, operand: () => ExpressionNode): ExpressionNode {
    let left = operand()
    for (;;) {
      const token = this.#token
      const name = token.kind === 'punctuation' ? operators[token.text] : undefined
      if (name === undefined) return left
      this.#advance()
      left = this.#operator(name, token, [left, operand()])
    }
  }

  #unary(): ExpressionNode {
    if (!this.#at('!') && !this.#at('-')) return this.#postfix(this.#primary())
    return this.#nested(() => {
      const token = this.#advance()
      if (token.text === '!') return this.#operator('!_', token, [this.#unary()])
      const number = this.#token
      if (number.kind === 'int' || number.kind === 'double') {
        this.#advance()
        const value = number.kind === 'int' ? -(number.value as bigint) : -(number.value as number)
        const place = { start: token.start, end: number.end }
        return this.#postfix({ kind: 'literal', value, ...place, height: this.#height(place) })
      }
      return this.#operator('-_', token, [this.#unary()])
    })
  }

  #postfix(start: ExpressionNode): ExpressionNode {
    let node = start
    for (;;) {
      if (this.#at('.')) {
        this.#advance()
        const optional = this.#accept('?')
        node = this.#member(node, optional)
      } else if (this.#at('[')) {
        const open = this.#advance()
        const optional = this.#accept('?')
        const index = this.#expression()
        const close = this.#expect(']', open)
        const place = { start: node.start, end: close.end }
        node = { kind: 'index', operand: node, index, optional, ...place, height: this.#height(open, node, index) }
      } else if (this.#at('{') && nameOf(node) !== undefined) {
        throw new ExpressionProblem('messages cannot be built here', this.#token, 'write a map: {"key": value}')
      } else if (this.#at('(') && node.kind === 'call') {
        throw new ExpressionProblem('the result of a call cannot be called', this.#token)
      } else {
        return node
      }
    }
  }

  #member(operand: ExpressionNode, optional: boolean): ExpressionNode {
    const token = this.#token
    const isName = token.kind === 'ident' ? !NOT_SELECTABLE.has(token.text) : token.kind === 'quotedIdent'
    if (!isName) throw this.#unexpected('a name after "."')
    this.#advance()
    if (!optional && token.kind === 'ident' && this.#at('(')) {
      const { args, end } = this.#arguments()
      return this.#call(token, operand, args, end)
    }
    return {
      kind: 'select',
      operand,
      field: token.text,
      fieldPlace: token,
      optional,
      start: operand.start,
      end: token.end,
      height: this.#height(token, operand),
    }
  }

  #arguments(): { args: ExpressionNode[]; end: number } {
    const open = this.#expect('(')
    const args: ExpressionNode[] = []
    if (!this.#at(')')) {
      do args.push(this.#expression())
      while (this.#accept(','))
    }
    return { args, end: this.#expect(')', open).end }
  }

  #primary(): ExpressionNode {
    const token = this.#token
    switch (token.kind) {
      case 'int':
        if ((token.value as bigint) > INT_MAX) throw new ExpressionProblem('does not fit into a 64-bit int', token)
        return this.#literal(token.value as bigint)
      case 'uint':
      case 'double':
      case 'string':
      case 'bytes':
        return this.#literal(token.value as number | string | Uint8Array | CelUint)
      case 'ident':
        return this.#identifier(false)
      case 'quotedIdent':
      case 'end':
        throw this.#unexpected('a value')
      case 'punctuation':
        break
    }
    if (token.text === '(') return this.#parentheses()
    if (token.text === '[') return this.#list()
    if (token.text === '{') return this.#map()
    if (token.text === '.') {
      this.#advance()
      if (this.#token.kind !== 'ident') throw this.#unexpected('a name after "."')
      return this.#identifier(true, token.start)
    }
    throw this.#unexpected('a value')
  }

  #literal(value: bigint | number | string | boolean | null | Uint8Array | CelUint): ExpressionNode {
    const token = this.#advance()
    return { kind: 'literal', value, start: token.start, end: token.end, height: this.#height(token) }
  }

  #identifier(absolute: boolean, start = this.#token.start): ExpressionNode {
    const name = this.#token.text
    if (!absolute) {
      if (name === 'true') return this.#literal(true)
      if (name === 'false') return this.#literal(false)
      if (name === 'null') return this.#literal(null)
    }
    if (RESERVED.has(name)) {
      throw new ExpressionProblem(`"${name}" is a reserved word`, this.#token, hintForWord(this.#token))
    }
    const token = this.#advance()
    if (this.#at('(')) {
      const { args, end } = this.#arguments()
      return this.#call(token, undefined, args, end)
    }
    return { kind: 'ident', name, absolute, start, end: token.end, height: this.#height(token) }
  }

  #parentheses(): ExpressionNode {
    const open = this.#advance()
    const node = this.#expression()
    this.#expect(')', open)
    return node.kind === 'call' ? { ...node, parenthesized: true } : node
  }

  #list(): ExpressionNode {
    const open = this.#advance()
    const items: ListItem[] = []
    while (!this.#at(']')) {
      const optional = this.#accept('?')
      const value = this.#expression()
      if (this.#token.kind === 'ident' && this.#token.text === 'for') {
        throw new ExpressionProblem(
          'list comprehensions are not CEL',
          this.#token,
          'write list.map(v, …) or list.filter(v, …)',
        )
      }
      items.push({ value, optional })
      if (!this.#accept(',')) break
    }
    const close = this.#expect(']', open)
    const place = { start: open.start, end: close.end }
    return { kind: 'list', items, ...place, height: this.#height(place, ...items.map((item) => item.value)) }
  }

  #map(): ExpressionNode {
    const open = this.#advance()
    const items: MapItem[] = []
    while (!this.#at('}')) {
      const optional = this.#accept('?')
      const key = this.#expression()
      this.#expect(':')
      items.push({ key, value: this.#expression(), optional })
      if (!this.#accept(',')) break
    }
    const close = this.#expect('}', open)
    const place = { start: open.start, end: close.end }
    const height = this.#height(place, ...items.flatMap((item) => [item.key, item.value]))
    return { kind: 'map', items, ...place, height }
  }

  // -- calls and macros -----------------------------------------------------------------------------------------------

  #call(name: Token, target: ExpressionNode | undefined, args: readonly ExpressionNode[], end: number): ExpressionNode {
    const place = { start: target?.start ?? name.start, end }
    const macro =
      this.#options.macros === false
        ? undefined
        : target === undefined
          ? this.#globalMacro(name, args, place)
          : this.#macro(name, target, args, place)
    if (macro !== undefined) return macro
    return {
      kind: 'call',
      name: name.text,
      namePlace: name,
      target,
      args,
      parenthesized: false,
      ...place,
      height: this.#height(name, ...(target === undefined ? [] : [target]), ...args),
    }
  }

  #globalMacro(name: Token, args: readonly ExpressionNode[], place: Place): ExpressionNode | undefined {
    if (name.text !== 'has' || args.length !== 1) return undefined
    const operand = args[0]!
    if (operand.kind === 'select' || (operand.kind === 'index' && this.#options.overrides)) {
      return { kind: 'has', operand, ...place, height: this.#height(name, operand) }
    }
    throw new ExpressionProblem('has() wants a field: has(a.b)', operand)
  }

  #macro(
    name: Token,
    target: ExpressionNode,
    args: readonly ExpressionNode[],
    place: Place,
  ): ExpressionNode | undefined {
    const key = `${name.text}:${args.length}`
    if (Object.hasOwn(COMPREHENSIONS, key)) {
      const [kind, variableCount, conditional] = COMPREHENSIONS[key]!
      const variables = args.slice(0, variableCount).map((argument) => this.#variableName(argument, name))
      const condition = conditional ? args[variableCount] : undefined
      const body = args.at(-1)!
      const height = this.#height(name, target, ...args.slice(variableCount))
      const stepCost = countNodes(body) + (condition === undefined ? 0 : countNodes(condition))
      return {
        kind: 'comprehension',
        name: kind,
        range: target,
        variables,
        condition,
        body,
        stepCost,
        ...place,
        height,
      }
    }
    if (key === 'sort:3') return this.#bind('sort', name, args.slice(0, 2), target, args[2]!, place)
    const path = nameOf(target)
    if (path === 'cel') {
      if (key === 'bind:3') return this.#bind('bind', name, args.slice(0, 1), args[1]!, args[2]!, place)
      return this.#blockMacro(name, args, place)
    }
    if (key === 'optMap:2' || key === 'optFlatMap:2') {
      return this.#bind(name.text as 'optMap' | 'optFlatMap', name, args.slice(0, 1), target, args[1]!, place)
    }
    return undefined
  }

  #bind(
    form: 'bind' | 'optMap' | 'optFlatMap' | 'sort',
    name: Token,
    variables: readonly ExpressionNode[],
    value: ExpressionNode,
    body: ExpressionNode,
    place: Place,
  ): ExpressionNode {
    const names = variables.map((variable) => this.#variableName(variable, name))
    return {
      kind: 'bind',
      form,
      variables: names,
      value,
      body,
      stepCost: countNodes(body),
      ...place,
      height: this.#height(name, value, body),
    }
  }

  /** `cel.block([a, b], body)` nests binds of `@index0`, `@index1`; `cel.index(0)` and `cel.iterVar(0, 1)` are names. */
  #blockMacro(name: Token, args: readonly ExpressionNode[], place: Place): ExpressionNode | undefined {
    const numbers = args.map((argument) => (argument.kind === 'literal' ? String(argument.value) : '?'))
    const identifier = (text: string): ExpressionNode => {
      return { kind: 'ident', name: text, absolute: false, ...place, height: this.#height(place) }
    }
    if (name.text === 'index' && args.length === 1) return identifier(`@index${numbers[0]}`)
    if (name.text === 'iterVar' && args.length === 2) return identifier(`@iterVar${numbers.join('_')}`)
    const list = args[0]
    if (name.text !== 'block' || args.length !== 2 || list?.kind !== 'list') return undefined
    let node = args[1]!
    for (let index = list.items.length - 1; index >= 0; index--) {
      const value = list.items[index]!.value
      const height = this.#height(name, value, node)
      node = {
        kind: 'bind',
        form: 'bind',
        variables: [`@index${index}`],
        value,
        body: node,
        stepCost: countNodes(node),
        ...place,
        height,
      }
    }
    return node
  }

  #variableName(node: ExpressionNode, macro: Token): string {
    if (node.kind === 'ident' && !node.absolute) return node.name
    throw new ExpressionProblem(`${macro.text}() wants a simple name here`, node)
  }
}

/** `a.b.c` of names alone, else undefined. */
export function nameOf(node: ExpressionNode): string | undefined {
  if (node.kind === 'ident') return node.absolute ? `.${node.name}` : node.name
  if (node.kind !== 'select' || node.optional) return undefined
  const before = nameOf(node.operand)
  return before === undefined ? undefined : `${before}.${node.field}`
}

function countNodes(node: ExpressionNode): number {
  let count = 1
  for (const child of childrenOf(node)) count += countNodes(child)
  return count
}

/** The nodes directly below, in the order of evaluation. */
export function childrenOf(node: ExpressionNode): readonly ExpressionNode[] {
  switch (node.kind) {
    case 'literal':
    case 'ident':
      return []
    case 'select':
      return [node.operand]
    case 'index':
      return [node.operand, node.index]
    case 'has':
      return childrenOf(node.operand)
    case 'call':
      return node.target === undefined ? node.args : [node.target, ...node.args]
    case 'logic':
      return node.operands
    case 'conditional':
      return [node.condition, node.whenTrue, node.whenFalse]
    case 'list':
      return node.items.map((item) => item.value)
    case 'map':
      return node.items.flatMap((item) => [item.key, item.value])
    case 'comprehension':
      return node.condition === undefined ? [node.range, node.body] : [node.range, node.condition, node.body]
    case 'bind':
      return [node.value, node.body]
  }
}

function widened(token: Token): Place {
  return { start: token.start, end: Math.max(token.end, token.start + 1) }
}

function clip(text: string): string {
  return text.length > 32 ? `${text.slice(0, 32)}…` : text
}

const WORD_HINTS: Readonly<Record<string, string>> = {
  var: 'CEL has no variables of its own: set them with the action set-vars and read vars.<name>',
  let: 'CEL has no variables of its own: set them with the action set-vars and read vars.<name>',
  if: 'write condition ? a : b',
  for: 'write list.all(v, …), list.exists(v, …), list.map(v, …) or list.filter(v, …)',
  and: 'write &&',
  or: 'write ||',
  not: 'write !(…)',
  return: 'an expression is one value: leave out "return"',
  function: 'functions cannot be defined in an expression',
}

function hintForWord(token: Token): string | undefined {
  if (token.kind === 'ident' && Object.hasOwn(WORD_HINTS, token.text)) return WORD_HINTS[token.text]
  if (token.kind === 'string' || token.kind === 'ident') {
    return token.kind === 'string'
      ? undefined
      : 'text must stand in quotes; a quote inside text of the same kind ends it'
  }
  return undefined
}
