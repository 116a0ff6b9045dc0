/** The frozen shape of a policy that workers run: rules whose expressions and actions are compiled. */
import type { Exchange } from '../exchange/exchange.ts'
import type { Expression } from '../expression/expression.ts'
import type { ForetoldAnswer } from '../phase/foretell.ts'
import type { Close, Next, Outcome } from '../phase/outcome.ts'
import type { RuleIndex } from '../phase/rule-index.ts'
import type { PolicyScope } from './scope.ts'

export interface CompiledPolicy {
  readonly onTcpConnect: readonly CompiledRule[]
  readonly onHttpRequest: readonly CompiledRule[]
  readonly onHttpResponse: readonly CompiledRule[]
  /** Where a phase has many rules: which of them a request can match. */
  readonly requestIndex: RuleIndex | undefined
  readonly responseIndex: RuleIndex | undefined
  /** The response phase can be worked out before there is an answer. */
  readonly answersAreForetold: boolean
  readonly onEventStreamMessage: readonly CompiledRule[]
  /** Actions of the request phase that answer paths of their own before any rule runs. */
  readonly pathServers: readonly CompiledAction[]
  /** Some expression reads the path: ambiguous paths are then refused (H-66). */
  readonly dependsOnPath: boolean
  /** Some action replaces parts of response bodies: they are asked for whole, and in a coding that we can take off. */
  readonly changesResponseBody: boolean
}

export interface CompiledRule {
  /** The rule's name, or its position (`on_http_request[2]`): the label in logs. */
  readonly name: string
  readonly expressions: readonly Expression[]
  readonly actions: readonly CompiledAction[]
}

export interface CompiledAction {
  readonly type: string
  run(exchange: Exchange): Outcome | Promise<Outcome>
  /** Present where what it does to an answer can be told before that is there; see Action. */
  foretell?: (exchange: Exchange, answer: ForetoldAnswer) => boolean
  /** Present where the action may stand in `on_tcp_connect`. */
  runOnConnect?: (scope: PolicyScope) => Next | Close
  /** Present where the action has paths of its own; undefined: go on with the rules. */
  servePath?: (exchange: Exchange, isLast: boolean) => Outcome | Promise<Outcome> | undefined
}

export const EMPTY_POLICY: CompiledPolicy = Object.freeze({
  onTcpConnect: Object.freeze([]),
  onHttpRequest: Object.freeze([]),
  onHttpResponse: Object.freeze([]),
  requestIndex: undefined,
  responseIndex: undefined,
  answersAreForetold: true,
  onEventStreamMessage: Object.freeze([]),
  pathServers: Object.freeze([]),
  dependsOnPath: false,
  changesResponseBody: false,
})
