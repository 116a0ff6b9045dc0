/**
 * What a policy did with one request: every rule that was reached, the value of each of its expressions, every action
 * with its outcome and result. Recorded by wrapping compiled policies; what runs is what always runs.
 */
import type { Exchange } from '../exchange/exchange.ts'
import type { Expression } from '../expression/expression.ts'
import type { JsonValue, PhaseName, VariableSource } from '../expression/source.ts'
import type { Outcome } from '../phase/outcome.ts'
import type { CompiledAction, CompiledPolicy, CompiledRule } from '../policy/policy.ts'
import type { Snapshot } from '../process/snapshot.ts'
import type { Endpoint } from '../routing/endpoints.ts'
import { toGatewayError } from '../response/problem.ts'

export interface TracedExpression {
  readonly text: string
  readonly value: boolean | undefined
  /** Why it has no value: it then counts as false. */
  readonly error: string | undefined
}

export interface TracedAction {
  readonly type: string
  /** `next`, `respond`, `forward`, `close`, or `error`. */
  outcome: string
  /** Status of an answer, URL of an endpoint, code of an error. */
  detail: string | undefined
  /** `actions.ngrok.<name>` as the action left it. */
  result: JsonValue | undefined
}

export interface TracedRule {
  readonly endpoint: string
  readonly phase: PhaseName
  readonly name: string
  /** All its expressions held. */
  matched: boolean
  readonly expressions: TracedExpression[]
  readonly actions: TracedAction[]
}

/** One request's trace, in order. */
export class Trace {
  readonly rules: TracedRule[] = []
  #last: { readonly rule: CompiledRule; readonly traced: TracedRule; action: number } | undefined

  /** The same configuration, writing down what it does. */
  watch(snapshot: Snapshot): Snapshot {
    const known = new Map<Endpoint, Endpoint>()
    const watched = (endpoint: Endpoint | undefined): Endpoint | undefined => {
      if (endpoint === undefined) return undefined
      let wrapped = known.get(endpoint)
      if (wrapped === undefined) {
        wrapped = { ...endpoint, policy: this.#policy(endpoint) }
        known.set(endpoint, wrapped)
      }
      return wrapped
    }
    const { endpoints } = snapshot
    return {
      ...snapshot,
      endpoints: {
        ...endpoints,
        findPublic: (host, port) => watched(endpoints.findPublic(host, port)),
        findInternal: (scheme, host, port) => watched(endpoints.findInternal(scheme, host, port)),
      },
      defaultEndpoint: (place) => watched(snapshot.defaultEndpoint(place)),
    }
  }

  #policy({ name, policy }: Endpoint): CompiledPolicy {
    const rules = (phase: PhaseName, own: readonly CompiledRule[]): readonly CompiledRule[] =>
      own.map((rule) => this.#rule(name, phase, rule))
    return {
      ...policy,
      onHttpRequest: rules('on_http_request', policy.onHttpRequest),
      onHttpResponse: rules('on_http_response', policy.onHttpResponse),
      onEventStreamMessage: rules('on_event_stream_message', policy.onEventStreamMessage),
      // every rule is tried, so that the trace can say why it did not match
      requestIndex: undefined,
      responseIndex: undefined,
    }
  }

  #rule(endpoint: string, phase: PhaseName, rule: CompiledRule): CompiledRule {
    const wrapped: CompiledRule = {
      ...rule,
      expressions: rule.expressions.map((expression) => this.#expression(expression, () => begin())),
      actions: rule.actions.map((action, at) => this.#action(action, () => begin(at))),
    }
    // an expression or an action of it is the first that is heard of a rule; a second round begins again at its start
    const begin = (action = -1): TracedRule => {
      if (this.#last?.rule !== wrapped || (action !== -1 && action <= this.#last.action)) {
        const traced: TracedRule = { endpoint, phase, name: rule.name, matched: false, expressions: [], actions: [] }
        this.rules.push(traced)
        this.#last = { rule: wrapped, traced, action: -1 }
      }
      if (action !== -1) {
        this.#last.traced.matched = true
        this.#last.action = action
      }
      return this.#last.traced
    }
    return wrapped
  }

  #expression(expression: Expression, rule: () => TracedRule): Expression {
    return {
      source: expression.source,
      type: expression.type,
      needs: expression.needs,
      settled: expression.settled,
      evaluate: (source: VariableSource) => expression.evaluate(source),
      evaluateWhole: (source: VariableSource) => expression.evaluateWhole(source),
      test: (source: VariableSource) => {
        const { text } = expression.source
        const { expressions } = rule()
        try {
          const value = expression.test(source)
          expressions.push({ text, value, error: undefined })
          return value
        } catch (error) {
          expressions.push({ text, value: undefined, error: error instanceof Error ? error.message : String(error) })
          throw error
        }
      },
    }
  }

  #action(action: CompiledAction, rule: () => TracedRule): CompiledAction {
    return {
      ...action,
      run: (exchange) => {
        const traced: TracedAction = { type: action.type, outcome: 'error', detail: undefined, result: undefined }
        rule().actions.push(traced)
        const failed = (error: unknown): never => {
          const { code, message } = toGatewayError(error)
          traced.detail = `${code}: ${message}`
          note(traced, exchange)
          throw error
        }
        try {
          const outcome = action.run(exchange)
          if (outcome instanceof Promise) return outcome.then((settled) => ended(traced, settled, exchange), failed)
          return ended(traced, outcome, exchange)
        } catch (error) {
          return failed(error)
        }
      },
    }
  }
}

function ended(traced: TracedAction, outcome: Outcome, exchange: Exchange): Outcome {
  traced.outcome = outcome.kind
  if (outcome.kind === 'respond') traced.detail = String(outcome.status)
  if (outcome.kind === 'forward') traced.detail = outcome.endpoint.view.url
  if (outcome.kind === 'error') traced.detail = `${outcome.error.code}: ${outcome.error.message}`
  note(traced, exchange)
  return outcome
}

function note(traced: TracedAction, exchange: Exchange): void {
  traced.result = exchange.results.get(traced.type.replaceAll('-', '_'))
}
