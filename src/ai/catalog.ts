/**
 * Providers and models of an `ai-gateway` action: the built-in providers, what the policy adds or changes, and what a
 * model name means. No list of the providers' models is shipped: they change weekly, and a name that is not configured
 * goes to the provider whose family of names it belongs to.
 *
 * Source: traffic-policy.md appendix C; the providers' public documentation for base urls.
 */
import type { JsonValue } from '../expression/source.ts'
import type { Template } from '../expression/template.ts'

export type ApiFormat = 'openai' | 'anthropic'

export interface AiModel {
  readonly id: string
  readonly aliases: readonly string[]
  readonly providerId: string
  readonly authorId: string
  readonly isConfigured: boolean
  readonly metadata: JsonValue
  readonly inputModalities: readonly string[]
  readonly outputModalities: readonly string[]
  readonly supportedFeatures: readonly string[]
  readonly maxContextWindow: number | undefined
  readonly maxOutputTokens: number | undefined
  readonly unsupportedParams: readonly string[]
}

export interface AiProvider {
  readonly id: string
  readonly aliases: readonly string[]
  /** Absolute, without a slash at the end; requests' paths behind `/v1` are appended. */
  readonly baseUrl: URL
  readonly isCustom: boolean
  readonly isConfigured: boolean
  readonly metadata: JsonValue
  readonly keys: readonly Template[]
  readonly models: readonly AiModel[]
  readonly formats: ReadonlySet<ApiFormat>
  /** Ids and aliases of models that the policy switched off. */
  readonly disabledModels: ReadonlySet<string>
}

interface BuiltIn {
  readonly baseUrl: string
  readonly formats: readonly ApiFormat[]
  /** Names of its models. */
  readonly names: RegExp
}

export const BUILT_IN: ReadonlyMap<string, BuiltIn> = new Map([
  [
    'openai',
    {
      baseUrl: 'https://api.openai.com/v1',
      formats: ['openai'],
      names: /^(?:gpt-|chatgpt-|o\d|text-embedding-|davinci|babbage|dall-e|whisper|tts-|omni-|codex|computer-use)/,
    },
  ],
  ['anthropic', { baseUrl: 'https://api.anthropic.com/v1', formats: ['anthropic', 'openai'], names: /^claude/ }],
  [
    'google',
    {
      baseUrl: 'https://generativelanguage.googleapis.com/v1beta/openai',
      formats: ['openai'],
      names: /^(?:models\/)?(?:gemini|gemma|imagen|veo|learnlm|text-embedding-00|embedding-00)/,
    },
  ],
  ['deepseek', { baseUrl: 'https://api.deepseek.com/v1', formats: ['openai', 'anthropic'], names: /^deepseek/ }],
])

export interface CatalogOptions {
  readonly onlyConfiguredProviders: boolean
  readonly onlyConfiguredModels: boolean
}

/** Why a name of the client's leads to no model. */
export interface RejectedModel {
  readonly model: string
  readonly reason: string
}

export class AiCatalog {
  readonly providers: readonly AiProvider[]
  readonly models: readonly AiModel[]
  readonly #options: CatalogOptions

  /** `providers`: the configured ones and the built-in ones that nothing switches off. */
  constructor(providers: readonly AiProvider[], options: CatalogOptions) {
    this.providers = options.onlyConfiguredProviders ? providers.filter((it) => it.isConfigured) : providers
    this.models = this.providers.flatMap(({ models }) => models)
    this.#options = options
  }

  provider(name: string): AiProvider | undefined {
    return this.providers.find(({ id, aliases }) => id === name || aliases.includes(name))
  }

  /** The models that a name means, in the order of the providers: `model`, `provider:model`, ids and aliases alike. */
  find(name: string): readonly AiModel[] | RejectedModel {
    const colon = name.indexOf(':')
    const provider = colon > 0 ? this.provider(name.slice(0, colon)) : undefined
    const model = provider === undefined ? name : name.slice(colon + 1)
    const candidates = provider === undefined ? this.models : provider.models
    const known = candidates.filter(({ id, aliases }) => id === model || aliases.includes(model))
    if (known.length > 0) return known
    if (this.#options.onlyConfiguredModels) return { model: name, reason: 'the model is not configured' }
    const guessed = provider ?? this.#familyOf(model)
    if (guessed === undefined) return { model: name, reason: 'no provider is known for the model' }
    if (guessed.disabledModels.has(model)) return { model: name, reason: 'the model is disabled' }
    return [unknownModel(model, guessed)]
  }

  #familyOf(model: string): AiProvider | undefined {
    for (const [id, { names }] of BUILT_IN) if (names.test(model)) return this.provider(id)
    // a single provider of one's own serves whatever it is asked for
    const custom = this.providers.filter(({ isCustom }) => isCustom)
    return custom.length === 1 && this.providers.every((it) => it.isCustom || !it.isConfigured) ? custom[0] : undefined
  }
}

function unknownModel(id: string, provider: AiProvider): AiModel {
  return {
    id,
    aliases: [],
    providerId: provider.id,
    authorId: provider.id,
    isConfigured: false,
    metadata: {},
    inputModalities: [],
    outputModalities: [],
    supportedFeatures: [],
    maxContextWindow: undefined,
    maxOutputTokens: undefined,
    unsupportedParams: [],
  }
}

/** What strategies see of a model. Prices and places are what its metadata say: nothing else knows them here. */
export function modelView(model: AiModel, metrics: JsonValue): JsonValue {
  const metadata = isObject(model.metadata) ? model.metadata : {}
  return {
    id: model.id,
    id_aliases: model.aliases,
    provider_id: model.providerId,
    author_id: model.authorId,
    known: BUILT_IN.has(model.providerId),
    custom: !BUILT_IN.has(model.providerId),
    metadata,
    input_modalities: model.inputModalities,
    output_modalities: model.outputModalities,
    supported_features: model.supportedFeatures,
    max_context_window: model.maxContextWindow ?? 0,
    max_output_tokens: model.maxOutputTokens ?? 0,
    pricing: metadata['pricing'] ?? {},
    datacenters: metadata['datacenters'] ?? [],
    metrics: { global: metrics, region: metrics, account: metrics, endpoint: metrics },
  }
}

function isObject(value: JsonValue): value is { readonly [key: string]: JsonValue } {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
