/**
 * The one shape of a Traffic Policy action: schema, compile once, run per exchange.
 *
 * `Config` is the YAML as written (snake_case and all); `Plan` is ours: checked, compiled, in our units. `run` returns
 * an outcome by name and a promise only where it truly waits.
 */
import type { Diagnostics } from '../config/diagnostic.ts'
import type { ConfigNode, TextSource } from '../config/node.ts'
import { INVALID, type JsonSchema, type Schema } from '../config/schema-kit.ts'
import type { Settings } from '../config/settings.ts'
import type { Span } from '../config/source.ts'
import type { Exchange } from '../exchange/exchange.ts'
import type { Expression } from '../expression/expression.ts'
import type { PhaseName } from '../expression/source.ts'
import type { Template } from '../expression/template.ts'
import type { ForetoldAnswer } from '../phase/foretell.ts'
import type { Close, Next, Outcome } from '../phase/outcome.ts'
import type { CompiledAction } from '../policy/policy.ts'
import type { PolicyScope } from '../policy/scope.ts'
import type { WafProfiles } from '../waf/profiles.ts'
import type { TlsTermination } from './terminate-tls.ts'

export interface Action<Config, Plan> {
  readonly type: string
  /** Other spellings of public documents, accepted with a warning (§11). */
  readonly aliases?: readonly string[]
  readonly phases: readonly PhaseName[]
  /** False: `config` may be absent, and the schema accepts an empty value. */
  readonly configRequired: boolean
  readonly schema: Schema<Config>
  /** Whether the action always ends its phase (2207 unreachable, 2235 termination). */
  terminates?(config: Config): boolean
  /** Undefined after errors, which are in `context.diagnostics`. */
  compile(config: Config, context: CompileContext): Plan | undefined
  run(plan: Plan, exchange: Exchange): Outcome | Promise<Outcome>
  /**
   * What the action will do to an answer that is not there yet: to its head only, whatever that will be, and with nothing
   * said but counts. False: that cannot be told; what was told so far does not count then.
   */
  foretell?(plan: Plan, exchange: Exchange, answer: ForetoldAnswer): boolean
  /** With this plan, in the response phase. Given where `foretell` is. */
  canForetell?(plan: Plan): boolean
  /** Given exactly where `phases` has `on_tcp_connect`. */
  runOnConnect?(plan: Plan, scope: PolicyScope): Next | Close
  /**
   * Asked before any rule of the endpoint, whether or not a rule will run the action: paths of its own that no rule may
   * stand in front of. Undefined: go on with the rules. `isLast`: no other action of the policy will be asked.
   */
  servePath?(plan: Plan, exchange: Exchange, isLast: boolean): Outcome | Promise<Outcome> | undefined
}

/** What compiling an action may use. Nothing here opens a file, a socket or a thread. */
export interface CompileContext {
  readonly diagnostics: Diagnostics
  readonly settings: Settings
  readonly phase: PhaseName
  /** The whole `config` value, for errors that belong to no single field. */
  readonly span: Span
  /** (endpoint, phase, rule, action): stable as long as the policy keeps its shape; scopes buckets (§5.16). */
  readonly identity: string
  /** Written in the inbound/outbound format of 2024 (§9). */
  readonly legacyFormat: boolean
  /** `locals`: names that the action gives values for when it evaluates (Exchange.locals). */
  expression(source: TextSource, locals?: readonly string[]): Expression | undefined
  template(source: TextSource): Template | undefined
  readonly waf: WafProfiles
  /** Host of the endpoint's url, `*.` included; undefined where a policy is compiled by itself. */
  readonly host: string | undefined
  /** The rule that holds the action has expressions. */
  readonly isConditional: boolean
  /** What actions ask of the listener before the endpoint. */
  readonly terminations: TlsTermination[]
  /** The value of a secret at the moment; undefined when there is none, or no vault. */
  secret(vault: string, name: string): string | undefined
  /** Key sets that some action will need: fetched in the background once the policy serves. */
  readonly keySetUrls: Set<string>
}

/** An action with its types tied together, as the registry and the policy compiler see it. */
export interface RegisteredAction {
  readonly type: string
  readonly aliases: readonly string[]
  readonly phases: readonly PhaseName[]
  readonly configRequired: boolean
  readonly servesConnections: boolean
  jsonSchema(): JsonSchema
  /** Undefined after errors, which are in `context.diagnostics`. */
  prepare(node: ConfigNode, context: CompileContext): PreparedAction | undefined
}

export interface PreparedAction {
  readonly terminates: boolean
  readonly compiled: CompiledAction
}

export function register<Config, Plan>(action: Action<Config, Plan>): RegisteredAction {
  const { type, phases, configRequired, schema } = action
  return {
    type,
    aliases: action.aliases ?? [],
    phases,
    configRequired,
    servesConnections: action.runOnConnect !== undefined,
    jsonSchema: () => schema.jsonSchema(),
    prepare(node, context) {
      const config = schema.parse(node, context.diagnostics, `${type} config`)
      if (config === INVALID) return undefined
      const plan = action.compile(config, context)
      if (plan === undefined) return undefined
      return {
        terminates: action.terminates?.(config) ?? false,
        compiled: {
          type,
          run: (exchange) => action.run(plan, exchange),
          ...(action.canForetell?.(plan) === true && {
            foretell: (exchange, answer) => action.foretell!(plan, exchange, answer),
          }),
          ...(action.servePath && {
            servePath: (exchange, isLast) => action.servePath!(plan, exchange, isLast),
          }),
          ...(action.runOnConnect && { runOnConnect: (scope) => action.runOnConnect!(plan, scope) }),
        },
      }
    },
  }
}
