/** The tree of a parsed expression. Offsets are UTF-16 code units into the expression's own text. */
import type { CelValue } from './value.ts'

export interface Place {
  readonly start: number
  readonly end: number
}

interface NodeBase extends Place {
  /** Levels below and including this node; bounded by the parser (T-67). */
  readonly height: number
}

export interface LiteralNode extends NodeBase {
  readonly kind: 'literal'
  readonly value: CelValue
}

export interface IdentNode extends NodeBase {
  readonly kind: 'ident'
  readonly name: string
  /** `.name`: not a name of the container or of a comprehension. */
  readonly absolute: boolean
}

export interface SelectNode extends NodeBase {
  readonly kind: 'select'
  readonly operand: ExpressionNode
  readonly field: string
  readonly fieldPlace: Place
  /** `a.?b`. */
  readonly optional: boolean
}

export interface IndexNode extends NodeBase {
  readonly kind: 'index'
  readonly operand: ExpressionNode
  readonly index: ExpressionNode
  /** `a[?b]`. */
  readonly optional: boolean
}

/** `has(e.f)`; with `e[k]` as operand it is ngrok's documented reading, membership (traffic-policy.md §3). */
export interface HasNode extends NodeBase {
  readonly kind: 'has'
  readonly operand: SelectNode | IndexNode
}

/** A function or operator call. Operators have names like `_+_`, which no text can spell. */
export interface CallNode extends NodeBase {
  readonly kind: 'call'
  readonly name: string
  readonly namePlace: Place
  readonly target: ExpressionNode | undefined
  readonly args: readonly ExpressionNode[]
  /** `!x` and the like written inside parentheses: told apart for the hint on `!x in list`. */
  readonly parenthesized: boolean
}

/** `a && b && c` in one node. */
export interface LogicNode extends NodeBase {
  readonly kind: 'logic'
  readonly operator: '&&' | '||'
  readonly operands: readonly ExpressionNode[]
}

export interface ConditionalNode extends NodeBase {
  readonly kind: 'conditional'
  readonly condition: ExpressionNode
  readonly whenTrue: ExpressionNode
  readonly whenFalse: ExpressionNode
}

export interface ListItem {
  readonly value: ExpressionNode
  /** `[?x]`. */
  readonly optional: boolean
}

export interface ListLiteralNode extends NodeBase {
  readonly kind: 'list'
  readonly items: readonly ListItem[]
}

export interface MapItem {
  readonly key: ExpressionNode
  readonly value: ExpressionNode
  /** `{?k: x}`. */
  readonly optional: boolean
}

export interface MapLiteralNode extends NodeBase {
  readonly kind: 'map'
  readonly items: readonly MapItem[]
}

export type ComprehensionName =
  | 'all'
  | 'exists'
  | 'existsOne'
  | 'map'
  | 'filter'
  | 'transformList'
  | 'transformMap'
  | 'transformMapEntry'
  | 'sortBy'

/** A macro that walks over a list or the keys of a map. */
export interface ComprehensionNode extends NodeBase {
  readonly kind: 'comprehension'
  readonly name: ComprehensionName
  readonly range: ExpressionNode
  /** One name, or two: index and element, key and value. */
  readonly variables: readonly string[]
  /** Only elements for which it holds are used (`map`, `transform…` in their longer form). */
  readonly condition: ExpressionNode | undefined
  readonly body: ExpressionNode
  /** Nodes of condition and body: what one step costs. */
  readonly stepCost: number
}

/** `cel.bind(x, value, body)`, `cel.block([values], body)`, `opt.optMap(x, body)`, `opt.optFlatMap(x, body)`, `l.sort(x, y, less)`. */
export interface BindNode extends NodeBase {
  readonly kind: 'bind'
  readonly form: 'bind' | 'optMap' | 'optFlatMap' | 'sort'
  readonly variables: readonly string[]
  readonly value: ExpressionNode
  readonly body: ExpressionNode
  /** Nodes of the body: what one comparison of `sort` costs. */
  readonly stepCost: number
}

export type ExpressionNode =
  | LiteralNode
  | IdentNode
  | SelectNode
  | IndexNode
  | HasNode
  | CallNode
  | LogicNode
  | ConditionalNode
  | ListLiteralNode
  | MapLiteralNode
  | ComprehensionNode
  | BindNode

/** One error of an expression, at its place. Thrown by lexer and parser, collected by the checker. */
export class ExpressionProblem extends Error {
  override readonly name = 'ExpressionProblem'
  readonly start: number
  readonly end: number
  readonly hint: string | undefined

  constructor(message: string, place: Place, hint?: string) {
    super(message)
    this.start = place.start
    this.end = place.end
    this.hint = hint
  }
}
