/**
 * Parsed policy → frozen policy: every expression, interpolation and pattern compiled once, every error reported.
 *
 * Source: traffic-policy.md §1.3 (what is refused), §2.3 (what ends a phase), §8.3 (codes).
 */
import { type CompileContext, type PreparedAction, type RegisteredAction } from '../actions/action.ts'
import { ACTIONS, actionName } from '../actions/index.ts'
import type { TlsTermination } from '../actions/terminate-tls.ts'
import type { Diagnostics } from '../config/diagnostic.ts'
import type { ConfigNode, TextSource } from '../config/node.ts'
import type { Settings } from '../config/settings.ts'
import type { Span } from '../config/source.ts'
import { nearest } from '../config/spelling.ts'
import type { ExpressionEnvironment } from '../expression/environment.ts'
import { compileExpression, type Expression } from '../expression/expression.ts'
import type { PhaseName } from '../expression/source.ts'
import { compileTemplate } from '../expression/template.ts'
import { canForetell } from '../phase/foretell.ts'
import { RuleIndex } from '../phase/rule-index.ts'
import { WafProfiles } from '../waf/profiles.ts'
import type { ParsedAction, ParsedPolicy, ParsedRule } from './parse.ts'
import type { CompiledAction, CompiledPolicy, CompiledRule } from './policy.ts'

export interface PolicyOptions {
  readonly settings: Settings
  readonly diagnostics: Diagnostics
  /** Names buckets and the like; the endpoint's name. */
  readonly identity: string
  /** The endpoint's scheme: tcp and tls endpoints have no HTTP phases (2230). */
  readonly scheme: 'http' | 'https' | 'tcp' | 'tls'
  /** The endpoint's host; for policies that belong to one. */
  readonly host?: string
  /** Cloud endpoints have no upstream to fall back to: some rule must be able to end the request (2235). */
  readonly mustTerminate: boolean
  /** What `secrets.get` answers; without it there are no secrets. */
  readonly secret?: (vault: string, name: string) => string | undefined
}

/** A compiled policy and what it will need before it can serve. */
export interface PolicyWithNeeds {
  readonly policy: CompiledPolicy
  readonly waf: WafProfiles
  readonly keySetUrls: ReadonlySet<string>
  /** What it asks of the listener. */
  readonly terminations: readonly TlsTermination[]
}

/** Check `diagnostics` before using the result: after errors the policy is incomplete. */
export function compilePolicy(parsed: ParsedPolicy, options: PolicyOptions): PolicyWithNeeds {
  const waf = new WafProfiles()
  const keySetUrls = new Set<string>()
  const terminations: TlsTermination[] = []
  const compile = (phase: PhaseName): readonly CompiledRule[] => {
    const compiler = new PhaseCompiler(phase, parsed.legacyFormat, options, waf, keySetUrls, terminations)
    return Object.freeze(parsed.phases[phase].map((rule, index) => compiler.rule(rule, index)))
  }
  const onTcpConnect = compile('on_tcp_connect')
  const onHttpRequest = compile('on_http_request')
  const onHttpResponse = compile('on_http_response')
  const pathServers = onHttpRequest.flatMap((rule) => rule.actions).filter((it) => it.servePath !== undefined)
  const policy: CompiledPolicy = Object.freeze({
    onTcpConnect,
    onHttpRequest,
    onHttpResponse,
    pathServers: Object.freeze(pathServers),
    requestIndex: RuleIndex.of(onHttpRequest),
    responseIndex: RuleIndex.of(onHttpResponse),
    answersAreForetold: onHttpResponse.every((rule) => canForetell(rule)),
    onEventStreamMessage: compile('on_event_stream_message'),
    dependsOnPath: dependsOnPath(parsed),
    changesResponseBody: changesResponseBody(parsed),
  })
  checkPhases(parsed, options)
  checkOnlyOnce(parsed, 'ai-gateway', options.diagnostics)
  if (options.mustTerminate) checkTermination(parsed, options)
  return { policy, waf, keySetUrls, terminations }
}

/** `secrets.get('vault', 'name')` with both names written out. */
const SECRET_USE =
  /\b(?:secrets\s*\.\s*get|security\s*\.\s*secret)\s*\(\s*(['"])([^'"]*)\1\s*,\s*(['"])([^'"]*)\3\s*\)/g

class PhaseCompiler {
  readonly #phase: PhaseName
  /** One for the whole phase: scopes are kept per environment. */
  readonly #environment: ExpressionEnvironment
  readonly #legacyFormat: boolean
  readonly #options: PolicyOptions
  readonly #waf: WafProfiles
  readonly #keySetUrls: Set<string>
  readonly #terminations: TlsTermination[]

  constructor(
    phase: PhaseName,
    legacyFormat: boolean,
    options: PolicyOptions,
    waf: WafProfiles,
    keySetUrls: Set<string>,
    terminations: TlsTermination[],
  ) {
    this.#phase = phase
    this.#legacyFormat = legacyFormat
    this.#options = options
    this.#waf = waf
    this.#keySetUrls = keySetUrls
    this.#terminations = terminations
    this.#environment = { phase, overrides: true, legacy: legacyFormat, now: () => new Date(), secret: options.secret }
  }

  rule(rule: ParsedRule, index: number): CompiledRule {
    const { diagnostics, settings } = this.#options
    const expressions = rule.expressions.flatMap((source) => this.#condition(source) ?? [])
    const actions: CompiledAction[] = []
    let endedBy: string | undefined
    for (const [position, action] of rule.actions.entries()) {
      if (endedBy !== undefined) {
        const hint = `put it before ${endedBy}, or in a rule of its own`
        const text = `unreachable: ${endedBy} has already ended the phase`
        if (settings.policy.strict) diagnostics.error('ERR_NGROK_2207', text, action.typeSpan, hint)
        else diagnostics.warning('ERR_NGROK_2207', text, action.typeSpan, hint)
      }
      const prepared = this.#action(
        action,
        rule.expressions.length > 0,
        `${this.#phase}[${index}].actions[${position}]`,
      )
      if (prepared === undefined) continue
      actions.push(prepared.compiled)
      if (prepared.terminates) endedBy ??= action.type
    }
    return Object.freeze({ name: rule.name ?? `${this.#phase}[${index}]`, expressions, actions })
  }

  /** §2.2: only `true` lets a rule run, so an expression that can never be a bool never matches. */
  #condition(source: TextSource): Expression | undefined {
    const { diagnostics } = this.#options
    const expression = this.#expression(source)
    if (expression !== undefined && expression.type !== 'bool' && expression.type !== 'dyn') {
      const hint = 'compare it with something: a rule runs only when every expression is true'
      diagnostics.warning('EXPRESSION_NOT_BOOL', `this is ${expression.type}, never true`, source.span, hint)
    }
    return expression
  }

  #expression(source: TextSource, locals?: readonly string[]): Expression | undefined {
    this.#checkSecrets(source)
    const environment = locals === undefined ? this.#environment : { ...this.#environment, locals }
    return compileExpression(source, environment, this.#options.diagnostics)
  }

  /** A secret that is named and not there will fail at run time: it may still come, so this is no error. */
  #checkSecrets(source: TextSource): void {
    const { secret, diagnostics } = this.#options
    if (secret === undefined) return
    for (const use of source.text.matchAll(SECRET_USE)) {
      // the expression's groups always take part
      const [call, , vault, , name] = use as unknown as [string, string, string, string, string]
      if (secret(vault, name) !== undefined) continue
      const hint = `make it: sallyport api secrets create --vault-name ${vault} --name ${name} --value-file FILE`
      const place = source.spanAt(use.index, call.length)
      diagnostics.warning('ERR_NGROK_24009', `there is no secret ${name} in a vault ${vault}`, place, hint)
    }
  }

  #action(parsed: ParsedAction, isConditional: boolean, place: string): PreparedAction | undefined {
    const { diagnostics } = this.#options
    const action = lookUp(parsed, diagnostics)
    if (action === undefined) return undefined
    if (action.type === 'forward-internal' && this.#phase === 'on_tcp_connect') {
      const hint = 'http endpoints forward requests: put it under on_http_request'
      diagnostics.notServed(
        'ENDPOINT_NOT_SERVED',
        'whole connections are not forwarded; only http and https endpoints are served',
        parsed.typeSpan,
        hint,
      )
      return undefined
    }
    if (!action.phases.includes(this.#phase)) {
      const hint = `${action.type} runs in ${action.phases.join(', ')}`
      diagnostics.error('ERR_NGROK_2202', `${action.type} is not allowed in ${this.#phase}`, parsed.typeSpan, hint)
      return undefined
    }
    if (parsed.config === undefined && action.configRequired) {
      diagnostics.error('ERR_NGROK_2234', `${action.type} needs a config`, parsed.typeSpan)
      return undefined
    }
    const config = parsed.config ?? emptyConfig(parsed.span)
    return action.prepare(config, this.#context(config.span, isConditional, place))
  }

  #context(span: Span, isConditional: boolean, place: string): CompileContext {
    const { diagnostics, settings, identity, host } = this.#options
    return {
      host,
      diagnostics,
      settings,
      phase: this.#phase,
      span,
      identity: `${identity}\0${place}`,
      legacyFormat: this.#legacyFormat,
      expression: (source, locals) => this.#expression(source, locals),
      template: (source) => {
        this.#checkSecrets(source)
        return compileTemplate(source, this.#environment, diagnostics)
      },
      waf: this.#waf,
      secret: (vault, name) => this.#options.secret?.(vault, name),
      keySetUrls: this.#keySetUrls,
      isConditional,
      terminations: this.#terminations,
    }
  }
}

/** Names of early documents that never were names of actions. */
const FORMER_NAMES: Readonly<Record<string, string>> = { 'webhook-validation': 'verify-webhook' }

function lookUp(parsed: ParsedAction, diagnostics: Diagnostics): RegisteredAction | undefined {
  const name = actionName(parsed.type)
  const action = ACTIONS.get(name)
  if (action !== undefined) {
    if (name !== parsed.type) {
      const text = `${parsed.type} is another name of ${name}`
      diagnostics.warning('ACTION_ALIAS', text, parsed.typeSpan, `write ${name}`)
    }
    return action
  }
  const near = FORMER_NAMES[parsed.type] ?? nearest(parsed.type, [...ACTIONS.keys()])
  const hint = near === undefined ? undefined : `did you mean ${near}?`
  diagnostics.error('ERR_NGROK_2201', `unknown action ${parsed.type}`, parsed.typeSpan, hint)
  return undefined
}

function emptyConfig(span: Span): ConfigNode {
  return { kind: 'scalar', value: null, text: '', span, spanAt: () => span }
}

/** Some decision is made by the URL, the path or something made of them: ambiguous paths matter then (H-66). */
function dependsOnPath(parsed: ParsedPolicy): boolean {
  return Object.values(parsed.phases).some((rules) =>
    rules.some(
      (rule) =>
        rule.expressions.some(({ text }) => namesPath(text)) ||
        rule.actions.some(({ type, config }) => config !== undefined && decidesByPath(actionName(type), config)),
    ),
  )
}

/** Some action puts something else in the place of what an upstream's body says. */
function changesResponseBody({ phases }: ParsedPolicy): boolean {
  return [...phases.on_http_response, ...phases.on_event_stream_message].some((rule) =>
    rule.actions.some(({ type }) => BODY_CHANGING_ACTIONS.has(actionName(type))),
  )
}

const BODY_CHANGING_ACTIONS = new Set(['response-body-find-replace', 'sse-find-replace'])

/** Also by index (`req['url']`); that a text merely looks like it does no harm. */
function namesPath(text: string): boolean {
  return /\breq\s*(?:\.\s*|\[\s*['"])(?:url|URL|Path)\b/.test(text)
}

/** Their values decide where a request goes, or what later rules find. */
const DECIDING_ACTIONS = new Set(['forward-internal', 'rate-limit', 'set-vars'])

function decidesByPath(type: string, config: ConfigNode): boolean {
  // `from` of these is matched against the URL
  if (type === 'redirect' || type === 'url-rewrite') {
    return config.kind === 'map' && config.entries.some((entry) => entry.key === 'from')
  }
  return DECIDING_ACTIONS.has(type) && holdsPath(config)
}

function holdsPath(node: ConfigNode): boolean {
  switch (node.kind) {
    case 'scalar':
      return namesPath(node.text)
    case 'list':
      return node.items.some((item) => holdsPath(item))
    case 'map':
      return node.entries.some((entry) => holdsPath(entry.value))
  }
}

/** Appendix C: one per policy (2266). */
function checkOnlyOnce(parsed: ParsedPolicy, type: string, diagnostics: Diagnostics): void {
  const [, second] = Object.values(parsed.phases)
    .flat()
    .flatMap(({ actions }) => actions)
    .filter((action) => actionName(action.type) === type)
  if (second === undefined) return
  diagnostics.error('ERR_NGROK_2266', `a policy has one ${type} action at most`, second.typeSpan)
}

/** §1.1: phases that endpoints of this scheme do not have. */
function checkPhases(parsed: ParsedPolicy, { scheme, diagnostics, settings }: PolicyOptions): void {
  if (scheme === 'http' || scheme === 'https') return
  for (const phase of ['on_http_request', 'on_http_response', 'on_event_stream_message'] as const) {
    const first = parsed.phases[phase][0]
    if (first === undefined) continue
    const hint = `${scheme} endpoints have on_tcp_connect only`
    const text = `a ${scheme} endpoint has no ${phase}`
    // such an endpoint is not served anyway, and published documents have it
    if (settings.policy.strict) diagnostics.error('ERR_NGROK_2230', text, startOf(first.span), hint)
    else diagnostics.notServed('ERR_NGROK_2230', text, startOf(first.span), hint)
  }
}

/** §1.3: refused when no rule can end a request, warned about (or refused, strictly) when all that can are conditional. */
function checkTermination(parsed: ParsedPolicy, { diagnostics, settings, scheme }: PolicyOptions): void {
  // in connections the phase that ends them is the only one
  const rules = scheme === 'http' || scheme === 'https' ? parsed.phases.on_http_request : parsed.phases.on_tcp_connect
  const ending = rules.filter((rule) => rule.actions.some((action) => canEnd(action)))
  if (Object.values(parsed.phases).every((phase) => phase.length === 0)) {
    const hint = 'an endpoint without upstream answers by its rules only'
    diagnostics.error('ERR_NGROK_18011', 'a cloud endpoint needs a policy with rules', startOf(parsed.span), hint)
  } else if (ending.length === 0) {
    const text = 'no rule ends a request: a cloud endpoint has no upstream'
    const hint = 'let the last rule end in forward-internal, custom-response, redirect or deny'
    // a right document, an excerpt of one perhaps; it answers nobody
    if (settings.policy.strict) diagnostics.error('ERR_NGROK_2235', text, startOf(parsed.span), hint)
    else diagnostics.notServed('ERR_NGROK_2235', text, startOf(parsed.span), hint)
  } else if (ending.every((rule) => rule.expressions.length > 0)) {
    const text = 'every rule that ends a request is conditional: what matches none is answered 404 (ERR_NGROK_6029)'
    // the last rule that can end a request is where people add the one for everything else
    const place = startOf(ending.at(-1)!.span)
    if (settings.policy.strict) diagnostics.error('ERR_NGROK_2235', text, place)
    else diagnostics.warning('ERR_NGROK_2235', text, place)
  }
}

const ENDING_ACTIONS = new Set([
  'ai-gateway',
  'close-connection',
  'custom-response',
  'deny',
  'forward-internal',
  'redirect',
])

/** `forward-internal` with `on_error: continue` does not count, nor does a redirect that may leave the URL as it is. */
function canEnd(action: ParsedAction): boolean {
  const type = actionName(action.type)
  if (!ENDING_ACTIONS.has(type)) return false
  if (action.config?.kind !== 'map') return true
  const field = (name: string): ConfigNode | undefined =>
    action.config?.kind === 'map' ? action.config.entries.find((entry) => entry.key === name)?.value : undefined
  if (type === 'redirect') return field('from') === undefined
  const onError = type === 'forward-internal' || type === 'ai-gateway' ? field('on_error') : undefined
  return !(onError?.kind === 'scalar' && onError.value === 'continue')
}

function startOf(span: Span): Span {
  return { ...span, end: Math.min(span.end, span.start + 1) }
}
