/**
 * `ai-gateway`: sends a request in OpenAI's or Anthropic's form to one of several model providers; on a timeout, an error
 * status or no connection to the next key, then to the next model. The first good answer streams to the client, through
 * the response rules. Ends the phase, unless `on_error: continue` and nothing answered well. Publishes `ai_gateway.*`.
 *
 * A provider gets the client's body with its own model name and key, and of the client's fields only those that mean
 * something to it. Nothing is translated between the two forms. Source: traffic-policy.md appendix C.
 */
import { createHash } from 'node:crypto'
import { AiCatalog, type AiModel, type AiProvider, type ApiFormat, BUILT_IN, modelView } from '../ai/catalog.ts'
import { type AiRequest, bodyFor, estimateTokens, headFor, readAiRequest } from '../ai/request.ts'
import { UseRecords } from '../ai/use-records.ts'
import type { ConfigNode, TextSource } from '../config/node.ts'
import { described, located, optional, policyKit, type Schema, withDefault } from '../config/schema-kit.ts'
import type { Attempt, Attempts, Exchange } from '../exchange/exchange.ts'
import type { MessageHead } from '../exchange/message-head.ts'
import { celFromJson, celToJson } from '../expression/convert.ts'
import type { Expression } from '../expression/expression.ts'
import type { JsonValue } from '../expression/source.ts'
import type { Template } from '../expression/template.ts'
import { type CelValue, isList } from '../expression/value.ts'
import type { UpstreamFailure, UpstreamTarget } from '../listener/front-end.ts'
import { NEXT, type Outcome } from '../phase/outcome.ts'
import { type ErrorCode, ERRORS, type ErrorEntry, GatewayError } from '../response/gateway-error.ts'
import type { Action, CompileContext } from './action.ts'
import { readable } from './body-replacements.ts'
import { compileHeaders, headerMap, type HeaderPlan, headerValue } from './header-values.ts'
import { compileTree, renderTexts, type TemplateTree } from './template-tree.ts'

const { object, string, boolean, list, text, mapOf, integer, enumeration, durationMs, expressionText, anyNode } =
  policyKit

const texts = (): Schema<readonly string[]> => list(string({ minLength: 1 }))
const named = (): Schema<readonly { readonly name: string }[]> =>
  list(object({ name: described(string({ minLength: 1 }), 'Name of the field.') }))

const modelSchema = object({
  id: described(string({ minLength: 1 }), 'Name, as the provider knows it.'),
  id_aliases: described(withDefault(texts(), []), 'Other names for it.'),
  author_id: described(optional(string()), 'Who made it; default: the provider.'),
  display_name: described(optional(string()), 'For people.'),
  description: described(optional(string()), 'For people.'),
  disabled: described(withDefault(boolean(), false), 'It is not used.'),
  metadata: described(
    optional(anyNode()),
    "Anything, for strategies; `pricing` and `datacenters` are what `underCost`, `sortBy('price')`, `inRegion` and `inCountryCode` look at.",
  ),
  input_modalities: described(withDefault(texts(), []), 'What it takes, for strategies.'),
  output_modalities: described(withDefault(texts(), []), 'What it gives, for strategies.'),
  max_context_window: described(optional(integer({ min: 1 })), 'Tokens, for strategies.'),
  max_output_tokens: described(optional(integer({ min: 1 })), 'Cap of the tokens that a request may ask for.'),
  supported_features: described(withDefault(texts(), []), 'For strategies.'),
  unsupported_params: described(withDefault(named(), []), 'Fields that are taken out of its requests.'),
})

const providerSchema = object({
  id: described(
    located(string({ minLength: 1, pattern: /^[^:\s]+$/, must: 'must be a name without colons and blanks' })),
    '`openai`, `anthropic`, `google`, `deepseek`, or one of your own.',
  ),
  id_aliases: described(withDefault(texts(), []), 'Other names for it.'),
  base_url: described(
    optional(text()),
    'Where its API is; required for one of your own. Paths behind `/v1` are appended.',
  ),
  display_name: described(optional(string()), 'For people.'),
  description: described(optional(string()), 'For people.'),
  website: described(optional(string()), 'For people.'),
  disabled: described(withDefault(boolean(), false), 'It is not used.'),
  metadata: described(optional(anyNode()), 'Anything, for strategies.'),
  api_keys: described(
    withDefault(list(object({ value: described(text(), 'The key; may hold `${…}`.') })), []),
    "Keys in the order they are tried; without one the client's own goes along.",
  ),
  models: described(withDefault(list(modelSchema), []), 'Its models.'),
  supported_api_surfaces: described(
    optional(
      list(
        object({
          format: described(enumeration(['openai', 'anthropic'] as const), 'Whose form.'),
          surface: described(optional(string()), 'For people.'),
          supported_params: described(withDefault(named(), []), 'For people.'),
        }),
      ),
    ),
    'What it understands; default: what is known of a built-in one, else `openai`.',
  ),
})

const MAX_TOKENS = 500_000

const schema = object(
  {
    max_input_tokens: described(
      optional(integer({ min: 1, max: MAX_TOKENS })),
      'Requests with more tokens, by an estimate, are answered 413.',
    ),
    max_output_tokens: described(
      optional(integer({ min: 1, max: MAX_TOKENS })),
      'Cap of the tokens that a request may ask for.',
    ),
    headers: described(optional(headerMap()), 'Fields added to requests; values may hold `${…}`.'),
    query_params: described(optional(mapOf(text())), 'Query parameters added to requests; values may hold `${…}`.'),
    body: described(optional(anyNode()), 'Fields put into the JSON of requests; may hold `${…}`.'),
    on_error: described(
      withDefault(enumeration(['halt', 'continue'] as const), 'halt'),
      '`continue`: go on with the next action when nothing answered well.',
    ),
    total_timeout: described(withDefault(durationMs({ minMs: 1 }), 300_000), 'Longest time until an answer begins.'),
    per_request_timeout: described(withDefault(durationMs({ minMs: 1 }), 30_000), 'The same for one try.'),
    providers: described(
      withDefault(list(providerSchema), []),
      'Providers: settings of the built-in ones, or your own.',
    ),
    only_allow_configured_providers: described(
      withDefault(boolean(), false),
      'Built-in providers that are not listed are not used.',
    ),
    only_allow_configured_models: described(withDefault(boolean(), false), 'Models that are not listed are not used.'),
    model_selection: described(
      optional(
        object({
          strategy: described(
            list(expressionText(), { min: 1 }),
            'Expressions over `ai`; the first that returns something wins.',
          ),
        }),
      ),
      'Which models are tried; without it those that the client names, or all.',
    ),
    api_key_selection: described(
      optional(
        object({
          strategy: described(
            list(expressionText(), { min: 1 }),
            'Expressions over `ai`; the first that returns something wins.',
          ),
        }),
      ),
      'Which keys are tried; without it all, in their order.',
    ),
  },
  { allowNull: true },
)

type Config = typeof schema extends Schema<infer T> ? T : never
type ProviderConfig = Config['providers'][number]

interface Plan {
  readonly catalog: AiCatalog
  readonly targets: ReadonlyMap<string, UpstreamTarget>
  readonly headers: readonly HeaderPlan[]
  readonly query: readonly { readonly name: string; readonly value: Template }[]
  readonly body: TemplateTree | undefined
  readonly maxInputTokens: number | undefined
  readonly maxOutputTokens: number | undefined
  readonly totalTimeoutMs: number
  readonly onError: 'halt' | 'continue'
  readonly modelStrategies: readonly Expression[]
  readonly keyStrategies: readonly Expression[]
}

/** Shared by all policies of a worker; keys are known by their hash. */
const records = new UseRecords()

export const aiGateway: Action<Config, Plan> = {
  type: 'ai-gateway',
  phases: ['on_http_request'],
  configRequired: false,
  schema,
  terminates: (config) => config.on_error === 'halt',
  compile(config, context) {
    const errorsBefore = context.diagnostics.all.length
    const providers = compileProviders(config, context)
    const headers = config.headers === undefined ? [] : compileHeaders(config.headers, context)
    const query = [...(config.query_params ?? [])].flatMap(([name, source]) => {
      const value = context.template(source)
      return value === undefined ? [] : [{ name, value }]
    })
    const body = config.body === undefined ? undefined : compileTree(config.body, context)
    if (config.body !== undefined && config.body.kind !== 'map') {
      context.diagnostics.error('ERR_NGROK_2203', 'body must be a mapping', config.body.span)
    }
    const strategies = (sources: readonly TextSource[] | undefined): readonly Expression[] =>
      (sources ?? []).flatMap((source) => context.expression(source, ['ai']) ?? [])
    const modelStrategies = strategies(config.model_selection?.strategy)
    const keyStrategies = strategies(config.api_key_selection?.strategy)
    const isValid = !context.diagnostics.all.slice(errorsBefore).some(({ severity }) => severity === 'error')
    if (!isValid || headers === undefined) return undefined
    const perRequestMs = config.per_request_timeout
    return {
      catalog: new AiCatalog(providers, {
        onlyConfiguredProviders: config.only_allow_configured_providers,
        onlyConfiguredModels: config.only_allow_configured_models,
      }),
      targets: new Map(providers.map((provider) => [provider.id, targetOf(provider, perRequestMs)])),
      headers,
      query,
      body,
      maxInputTokens: config.max_input_tokens,
      maxOutputTokens: config.max_output_tokens,
      totalTimeoutMs: config.total_timeout,
      onError: config.on_error,
      modelStrategies,
      keyStrategies,
    }
  },
  async run(plan, exchange) {
    const startedAtMs = performance.now()
    const trail: Trail = {
      startedAtMs,
      request: undefined,
      selection: [],
      rejected: [],
      tried: [],
      inputTokens: 0,
      keyHash: '',
    }
    try {
      const request = await readRequest(exchange)
      if (exchange.finished) return NEXT
      trail.request = request
      trail.inputTokens = estimateTokens(request.body)
      const { maxInputTokens } = plan
      if (maxInputTokens !== undefined && trail.inputTokens > maxInputTokens)
        throw new GatewayError('AI_PROMPT_TOO_LARGE')
      const models = selectModels(plan, exchange, request, trail)
      return { kind: 'send', attempts: new ModelAttempts(plan, exchange, request, models, trail) }
    } catch (error) {
      if (!(error instanceof GatewayError)) throw error
      return giveUp(plan, exchange, trail, error)
    }
  },
}

// ── configuration ──

function compileProviders(config: Config, context: CompileContext): readonly AiProvider[] {
  const { diagnostics } = context
  const configured = new Map<string, AiProvider | undefined>()
  for (const entry of config.providers) {
    const { value: id, span } = entry.id
    if (configured.has(id)) diagnostics.error('ERR_NGROK_2231', `the provider ${id} is given twice`, span)
    configured.set(id, entry.disabled ? undefined : compileProvider(entry, context))
  }
  const builtIn = [...BUILT_IN].flatMap(([id, { baseUrl, formats }]): AiProvider[] => {
    if (configured.has(id)) return []
    const base = { aliases: [], isCustom: false, isConfigured: false, metadata: {}, keys: [], models: [] }
    return [{ id, baseUrl: new URL(baseUrl), formats: new Set(formats), disabledModels: new Set(), ...base }]
  })
  return [...[...configured.values()].filter((it) => it !== undefined), ...builtIn]
}

function compileProvider(entry: ProviderConfig, context: CompileContext): AiProvider | undefined {
  const { diagnostics } = context
  const { value: id, span } = entry.id
  const builtIn = BUILT_IN.get(id)
  const written = entry.base_url?.text ?? builtIn?.baseUrl
  if (written === undefined) {
    const hint = `built-in providers are ${[...BUILT_IN.keys()].join(', ')}`
    diagnostics.error('ERR_NGROK_2234', `the provider ${id} needs a base_url`, span, hint)
    return undefined
  }
  const baseUrl = parseBaseUrl(written)
  if (baseUrl === undefined) {
    const place = entry.base_url?.span ?? span
    diagnostics.error('ERR_NGROK_2226', `${JSON.stringify(written)} is not an http or https url`, place)
    return undefined
  }
  const keys = entry.api_keys.flatMap(({ value }) => context.template(value) ?? [])
  const formats = entry.supported_api_surfaces?.map(({ format }) => format) ?? builtIn?.formats ?? ['openai' as const]
  const models = entry.models.filter(({ disabled }) => !disabled)
  return {
    id,
    aliases: entry.id_aliases,
    baseUrl,
    isCustom: builtIn === undefined,
    isConfigured: true,
    metadata: plainJson(entry.metadata),
    keys,
    formats: new Set<ApiFormat>(formats),
    disabledModels: new Set(entry.models.filter((it) => it.disabled).flatMap((it) => [it.id, ...it.id_aliases])),
    models: models.map((model) => ({
      id: model.id,
      aliases: model.id_aliases,
      providerId: id,
      authorId: model.author_id ?? id,
      isConfigured: true,
      metadata: plainJson(model.metadata),
      inputModalities: model.input_modalities,
      outputModalities: model.output_modalities,
      supportedFeatures: model.supported_features,
      maxContextWindow: model.max_context_window,
      maxOutputTokens: model.max_output_tokens,
      unsupportedParams: model.unsupported_params.map(({ name }) => name),
    })),
  }
}

function parseBaseUrl(written: string): URL | undefined {
  try {
    const url = new URL(written)
    return url.protocol === 'http:' || url.protocol === 'https:' ? url : undefined
  } catch {
    return undefined
  }
}

function plainJson(node: ConfigNode | undefined): JsonValue {
  if (node === undefined) return {}
  switch (node.kind) {
    case 'scalar':
      return typeof node.value === 'bigint' ? Number(node.value) : node.value
    case 'list':
      return node.items.map((item) => plainJson(item))
    case 'map':
      return Object.fromEntries(node.entries.map(({ key, value }) => [key, plainJson(value)]))
  }
}

/** How long an answer may pause once it streams. */
const IDLE_MS = 300_000
const MAX_CONNECT_MS = 10_000

function targetOf({ baseUrl }: AiProvider, perRequestMs: number): UpstreamTarget {
  const protocol = baseUrl.protocol === 'https:' ? 'https' : 'http'
  const host = baseUrl.hostname.replace(/^\[|\]$/g, '')
  const port = baseUrl.port === '' ? (protocol === 'https' ? 443 : 80) : Number(baseUrl.port)
  return {
    name: `${host}:${port}`,
    protocol,
    host,
    port,
    tls: protocol === 'https' ? { verify: true } : undefined,
    timers: {
      connectMs: Math.min(perRequestMs, MAX_CONNECT_MS),
      queueMs: Math.min(perRequestMs, MAX_CONNECT_MS),
      firstByteMs: perRequestMs,
      idleMs: IDLE_MS,
      keepAliveMs: 60_000,
    },
    maxConnections: 256,
    maxQueued: 1024,
  }
}

// ── the request and its models ──

/** What happened so far, for the results. */
interface Trail {
  readonly startedAtMs: number
  request: AiRequest | undefined
  readonly selection: JsonValue[]
  readonly rejected: JsonValue[]
  readonly tried: TriedModel[]
  inputTokens: number
  keyHash: string
}

interface TriedModel {
  readonly model: AiModel
  readonly keySelection: readonly JsonValue[]
  readonly keys: JsonValue[]
}

async function readRequest(exchange: Exchange): Promise<AiRequest> {
  const limitBytes = exchange.snapshot.settings.limits.bufferedBodyBytes
  if (exchange.requestBodyLength > limitBytes) throw new GatewayError('BODY_TOO_LARGE')
  const collected = await exchange.requestBody(limitBytes)
  const body = await readable(collected, exchange.head.first('content-encoding'), limitBytes)
  if (body === 'too large') throw new GatewayError('BODY_TOO_LARGE')
  if (body === 'unreadable') throw new GatewayError('UNSUPPORTED_ENCODING')
  const { path, query } = exchange.url
  const request = readAiRequest(path, query, Buffer.from(body).toString())
  if (typeof request === 'string') throw new GatewayError('AI_BODY_INVALID', { cause: request })
  return request
}

/** The models to try, best first. Throws AI_SELECTION_FAILED, AI_SELECTION_EMPTY, AI_NO_MODEL, AI_FORMAT_UNSUPPORTED. */
function selectModels(plan: Plan, exchange: Exchange, request: AiRequest, trail: Trail): readonly AiModel[] {
  const { catalog } = plan
  const wanted: AiModel[] = []
  for (const name of request.models) {
    const found = catalog.find(name)
    if ('reason' in found) trail.rejected.push({ model: found.model, reason: found.reason })
    else wanted.push(...found)
  }
  if (request.models.length > 0 && wanted.length === 0) throw new GatewayError('AI_NO_MODEL')
  const chosen = plan.modelStrategies.length === 0 ? undefined : chooseModels(plan, exchange, request, wanted, trail)
  const candidates = chosen ?? (request.models.length > 0 ? wanted : catalog.models)
  if (candidates.length === 0) throw new GatewayError(chosen === undefined ? 'AI_NO_MODEL' : 'AI_SELECTION_EMPTY')
  const fitting = candidates.filter(({ providerId }) => catalog.provider(providerId)?.formats.has(request.format))
  if (fitting.length === 0) throw new GatewayError('AI_FORMAT_UNSUPPORTED')
  return fitting
}

/** The first strategy that leaves a model which the client accepts, too. */
function chooseModels(
  plan: Plan,
  exchange: Exchange,
  request: AiRequest,
  wanted: readonly AiModel[],
  trail: Trail,
): readonly AiModel[] {
  const { catalog } = plan
  // models that are only named by the client can be chosen like the configured ones
  const known = new Map([...catalog.models, ...wanted].map((model) => [`${model.providerId}:${model.id}`, model]))
  const views = [...known].map(([name, model]) => modelView(model, metricsOf(name)))
  const ai = {
    models: views,
    providers: catalog.providers.map(({ id, aliases, metadata }) => ({ id, id_aliases: aliases, metadata })),
    authors: [...new Set([...known.values()].map(({ authorId }) => authorId))].map((id) => ({ id })),
  }
  const accepted = new Set(wanted)
  for (const strategy of plan.modelStrategies) {
    const entry = { strategy: strategy.source.text }
    let returned: readonly JsonValue[]
    try {
      returned = evaluate(strategy, exchange, ai)
    } catch (error) {
      trail.selection.push({ ...entry, error: messageOf(error) })
      throw new GatewayError('AI_SELECTION_FAILED', { cause: error })
    }
    const allowed = returned.flatMap((value) => known.get(nameOf(value)) ?? [])
    const matching = request.models.length === 0 ? allowed : allowed.filter((model) => accepted.has(model))
    trail.selection.push({
      ...entry,
      error: '',
      candidates_returned: returned.length,
      candidates_after_allowed_filter: allowed.length,
      candidates_after_client_filter: matching.length,
      models_to_try: matching.map(({ providerId, id }) => `${providerId}:${id}`),
    })
    if (matching.length > 0) return matching
  }
  return []
}

/** A strategy's result: a list of entries, or one. Throws EvaluationError. */
function evaluate(strategy: Expression, exchange: Exchange, ai: JsonValue): readonly JsonValue[] {
  exchange.locals = new Map<string, CelValue>([['ai', celFromJson(ai)]])
  try {
    const value = strategy.evaluate(exchange)
    return (isList(value) ? value : [value]).map((item) => celToJson(item))
  } finally {
    exchange.locals = undefined
  }
}

function nameOf(value: JsonValue): string {
  if (typeof value === 'string') return value
  const { provider_id: provider, id } = (value ?? {}) as { readonly provider_id?: JsonValue; readonly id?: JsonValue }
  return `${String(provider)}:${String(id)}`
}

function metricsOf(name: string): JsonValue {
  const { error_rate: errorRate, latency } = records.view(name)
  return { error_rate: errorRate, latency }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

// ── trying them ──

interface Candidate {
  readonly model: AiModel
  readonly provider: AiProvider
  readonly key: string
  readonly keyName: string
}

/** Key after key of a model, then the next model. The same pair is never tried twice. */
class ModelAttempts implements Attempts {
  readonly #plan: Plan
  readonly #exchange: Exchange
  readonly #request: AiRequest
  readonly #models: readonly AiModel[]
  readonly #trail: Trail
  readonly #endsAtMs: number
  readonly #lines: string
  readonly #parameters = new URLSearchParams()
  readonly #extra: { readonly [key: string]: JsonValue }
  readonly #seen = new Set<string>()
  #place = 0
  #keys: Candidate[] = []
  #current: Candidate | undefined
  #startedAtMs = 0
  #answered = false
  #tries = 0

  constructor(plan: Plan, exchange: Exchange, request: AiRequest, models: readonly AiModel[], trail: Trail) {
    this.#plan = plan
    this.#exchange = exchange
    this.#request = request
    this.#models = models
    this.#trail = trail
    this.#endsAtMs = trail.startedAtMs + plan.totalTimeoutMs
    let lines = ''
    for (const header of plan.headers) {
      const value = headerValue(header, exchange)
      if (value !== undefined) lines += `${header.name}: ${value}\r\n`
    }
    this.#lines = lines
    for (const { name, value } of plan.query) this.#parameters.append(name, rendered(value, exchange, name))
    const extra = plan.body === undefined ? {} : renderTexts(plan.body, exchange, 'body')
    this.#extra = extra as { readonly [key: string]: JsonValue } // compile let only mappings through
  }

  next(): Attempt | undefined {
    const remainingMs = this.#endsAtMs - performance.now()
    if (remainingMs <= 0) return undefined
    const candidate = this.#nextCandidate()
    if (candidate === undefined) return undefined
    this.#current = candidate
    this.#tries += 1
    this.#startedAtMs = performance.now()
    const { model, provider, key } = candidate
    const target = this.#plan.targets.get(provider.id)! // made for every provider
    const { timers } = target
    return {
      target:
        timers.firstByteMs <= remainingMs
          ? target
          : { ...target, timers: { ...timers, firstByteMs: Math.ceil(remainingMs) } },
      head: headFor(this.#request, provider, key, this.#exchange.head, this.#lines, this.#parameters),
      body: bodyFor(this.#request, model, this.#extra, this.#plan.maxOutputTokens),
    }
  }

  takes(status: number, head: MessageHead): boolean {
    const { keyName } = this.#current!
    records.noteQuota(keyName, (field) => head.first(field))
    this.#answered = true
    if (status < 400) {
      this.#note('ok', '')
      return true
    }
    this.#note(status === 429 ? 'rate_limit' : 'error', `status ${status}`)
    return false
  }

  failed({ reason }: UpstreamFailure): void {
    this.#note(reason.endsWith('timeout') ? 'timeout' : 'error', reason.replaceAll('_', ' '))
  }

  taken(): void {
    publish(this.#exchange, this.#trail, undefined)
  }

  exhausted(): Outcome {
    const code: ErrorCode =
      performance.now() >= this.#endsAtMs
        ? 'AI_TIMEOUT'
        : this.#tries === 0
          ? 'AI_KEY_MISSING'
          : this.#answered
            ? 'AI_ATTEMPTS_FAILED'
            : 'AI_UNREACHABLE'
    return giveUp(this.#plan, this.#exchange, this.#trail, new GatewayError(code))
  }

  #note(result: 'ok' | 'rate_limit' | 'timeout' | 'error', error: string): void {
    const { model, keyName } = this.#current!
    const durationMs = performance.now() - this.#startedAtMs
    records.note(keyName, result, durationMs)
    records.note(`${model.providerId}:${model.id}`, result, durationMs)
    this.#trail.tried.at(-1)?.keys.push({ key: keyName, error, time_ms: Math.round(durationMs) })
  }

  #nextCandidate(): Candidate | undefined {
    while (this.#keys.length === 0) {
      const model = this.#models[this.#place++]
      if (model === undefined) return undefined
      const provider = this.#plan.catalog.provider(model.providerId)
      if (provider === undefined) continue
      const selection: JsonValue[] = []
      this.#keys = this.#keysFor(model, provider, selection)
      this.#trail.tried.push({ model, keySelection: selection, keys: [] })
    }
    return this.#keys.shift()
  }

  #keysFor(model: AiModel, provider: AiProvider, selection: JsonValue[]): Candidate[] {
    const named = provider.keys.flatMap((template, index) => {
      const key = rendered(template, this.#exchange, `providers.${provider.id}.api_keys[${index}]`)
      return key === '' ? [] : [{ model, provider, key, keyName: hashOf(key), index }]
    })
    if (provider.keys.length === 0) {
      const own = clientKey(this.#exchange.head)
      if (own !== '') this.#trail.keyHash = hashOf(own)
      // servers of one's own often want no key
      if (own !== '' || provider.isCustom) named.push({ model, provider, key: own, keyName: hashOf(own), index: 0 })
    }
    const ordered = this.#plan.keyStrategies.length === 0 ? named : this.#order(named, selection)
    const fresh = ordered.filter(({ keyName }) => !this.#seen.has(`${provider.id}:${model.id}:${keyName}`))
    for (const { keyName } of fresh) this.#seen.add(`${provider.id}:${model.id}:${keyName}`)
    return fresh
  }

  /** The first strategy that leaves a key. */
  #order<K extends Candidate & { readonly index: number }>(keys: readonly K[], selection: JsonValue[]): K[] {
    const views = keys.map(({ keyName, provider, index }) => {
      const { error_rate: errorRate, quota } = records.view(keyName)
      return { id: keyName, index, provider_id: provider.id, error_rate: errorRate, quota }
    })
    for (const strategy of this.#plan.keyStrategies) {
      const entry = { strategy: strategy.source.text }
      try {
        const returned = evaluate(strategy, this.#exchange, { keys: views })
        const ids = returned.map((value) => String((value as { readonly id?: JsonValue } | null)?.id))
        const chosen = ids.flatMap((id) => keys.find(({ keyName }) => keyName === id) ?? [])
        selection.push({ ...entry, error: '', candidates_returned: chosen.length })
        if (chosen.length > 0) return chosen
      } catch (error) {
        selection.push({ ...entry, error: messageOf(error) })
      }
    }
    return []
  }
}

/** A key or parameter that cannot be computed is none. */
function rendered(template: Template, exchange: Exchange, field: string): string {
  try {
    return template.render(exchange).trim()
  } catch (error) {
    exchange.interpolationFailed(field, error)
    return ''
  }
}

/** The key that the client brings for itself, where the policy has none. */
function clientKey(head: MessageHead): string {
  const bearer = /^Bearer\s+(\S+)\s*$/i.exec(head.first('authorization') ?? '')?.[1]
  return bearer ?? head.first('x-api-key')?.trim() ?? ''
}

function hashOf(key: string): string {
  return key === '' ? '' : createHash('sha256').update(key).digest('hex').slice(0, 16)
}

// ── results ──

function giveUp(plan: Plan, exchange: Exchange, trail: Trail, error: GatewayError): Outcome {
  publish(exchange, trail, error)
  exchange.services.logger.warn(
    { request_id: exchange.requestId, error: error.message, models_tried: trail.tried.length },
    'ai-gateway has no answer',
  )
  if (plan.onError === 'halt') throw error
  return NEXT
}

function publish(exchange: Exchange, trail: Trail, error: GatewayError | undefined): void {
  const { request } = trail
  const { head } = exchange
  const entry: ErrorEntry | undefined = error === undefined ? undefined : ERRORS[error.code]
  exchange.setResult('ai_gateway', {
    status: error === undefined ? 'success' : 'error',
    ...(entry !== undefined && {
      error: {
        code: entry.ngrok === undefined ? `ERR_GW_${entry.gw}` : `ERR_NGROK_${entry.ngrok}`,
        message: entry.message,
      },
    }),
    client: {
      method: exchange.method,
      path: exchange.url.path,
      request_headers: Object.fromEntries(
        head
          .names()
          .filter((name) => !['authorization', 'x-api-key', 'cookie', 'proxy-authorization'].includes(name))
          .map((name) => [name, head.all(name)]),
      ),
      user_agent: head.first('user-agent') ?? '',
      model: typeof request?.body['model'] === 'string' ? request.body['model'] : '',
      models: request?.models ?? [],
      api_key_hash: trail.keyHash,
      rejected_models: trail.rejected,
    },
    input_ngrok_tokens: trail.inputTokens,
    gateway_latency_ms: Math.round(performance.now() - trail.startedAtMs),
    model_selection: trail.selection,
    models_tried: trail.tried.map(({ model, keySelection, keys }) => ({
      model: model.id,
      provider: model.providerId,
      author: model.authorId,
      api_key_selection: keySelection,
      attempts: keys,
    })),
  })
}
