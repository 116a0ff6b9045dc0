/**
 * Requests to models: what of a client's request matters here, and what of it a provider gets.
 *
 * Source: traffic-policy.md appendix C; OpenAI's and Anthropic's public API references (paths, fields, headers).
 */
import type { JsonValue } from '../expression/source.ts'
import type { AiModel, AiProvider, ApiFormat } from './catalog.ts'

export interface AiRequest {
  readonly format: ApiFormat
  /** Path behind `/v1`, with query: `/chat/completions`. */
  readonly surface: string
  readonly body: { readonly [key: string]: JsonValue }
  /** What the client asks for, best first; empty: whatever the gateway chooses. */
  readonly models: readonly string[]
  readonly streams: boolean
}

/** Names by which a client leaves the choice to the gateway. */
const AUTO = new Set(['', 'auto', 'ngrok/auto'])

/** The request as it was read, or what is wrong with its body (3801). */
export function readAiRequest(path: string, query: string, body: string): AiRequest | string {
  let parsed: JsonValue
  try {
    parsed = JSON.parse(body) as JsonValue
  } catch {
    return 'the body is not JSON'
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) return 'the body is not a JSON object'
  const fields = parsed as { readonly [key: string]: JsonValue }
  const { model = '', models = [] } = fields
  if (typeof model !== 'string') return 'model must be a text'
  if (!Array.isArray(models)) return 'models must be a list'
  const names: string[] = []
  for (const name of [model, ...(models as readonly JsonValue[])]) {
    if (typeof name !== 'string') return 'models must hold texts only'
    if (!AUTO.has(name) && !names.includes(name)) names.push(name)
  }
  const at = path.lastIndexOf('/v1/')
  const surface = at === -1 ? path : path.slice(at + 3)
  return {
    format: /^\/messages(?:\/|$)/.test(surface) ? 'anthropic' : 'openai',
    surface: surface + (query === '' ? '' : `?${query}`),
    body: fields,
    models: names,
    streams: fields['stream'] === true,
  }
}

/** Fields that say how many tokens may come, in the three APIs. */
const OUTPUT_FIELDS = ['max_tokens', 'max_completion_tokens', 'max_output_tokens'] as const

/** The body for one model: its id, the policy's fields, parameters it does not know left out, output capped. */
export function bodyFor(
  request: AiRequest,
  model: AiModel,
  extra: { readonly [key: string]: JsonValue },
  maxOutputTokens: number | undefined,
): Uint8Array {
  const body: Record<string, JsonValue> = { ...request.body, ...extra, model: model.id }
  delete body['models']
  for (const name of model.unsupportedParams) delete body[name]
  const limits = [maxOutputTokens, model.maxOutputTokens].filter((limit) => limit !== undefined)
  if (limits.length > 0) {
    const limit = Math.min(...limits)
    const given = OUTPUT_FIELDS.filter((name) => typeof body[name] === 'number')
    for (const name of given) body[name] = Math.min(body[name] as number, limit)
    if (given.length === 0 && maxOutputTokens !== undefined) body[outputField(request)] = limit
  }
  return Buffer.from(JSON.stringify(body))
}

function outputField({ format, surface }: AiRequest): (typeof OUTPUT_FIELDS)[number] {
  if (format === 'anthropic') return 'max_tokens'
  return surface.startsWith('/responses') ? 'max_output_tokens' : 'max_tokens'
}

/** Fields of the client that mean something to a provider. Everything else is between the client and us. */
const PASSED_FIELDS = [
  'accept',
  'accept-language',
  'accept-encoding',
  'user-agent',
  'anthropic-version',
  'anthropic-beta',
  'openai-beta',
  'openai-organization',
  'openai-project',
  'idempotency-key',
] as const

/** The head for one provider. `lines`: fields of the policy; `key`: empty = none. */
export function headFor(
  request: AiRequest,
  provider: AiProvider,
  key: string,
  client: { all(name: string): readonly string[] },
  lines: string,
  parameters: URLSearchParams,
): string {
  const { baseUrl } = provider
  const url = new URL(baseUrl.pathname.replace(/\/$/, '') + request.surface, baseUrl)
  for (const [name, value] of parameters) url.searchParams.append(name, value)
  const fields = new Map<string, string>()
  for (const name of PASSED_FIELDS) {
    const values = client.all(name)
    if (values.length > 0) fields.set(name, values.join(', '))
  }
  fields.set('content-type', 'application/json')
  if (key !== '') {
    if (request.format === 'anthropic') fields.set('x-api-key', key)
    else fields.set('authorization', `Bearer ${key}`)
  }
  if (request.format === 'anthropic' && !fields.has('anthropic-version')) fields.set('anthropic-version', '2023-06-01')
  const own = new Set([...lines.matchAll(/^([^:]+):/gm)].map(([, name]) => name))
  let head = `POST ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\n`
  for (const [name, value] of fields) if (!own.has(name)) head += `${name}: ${value}\r\n`
  return head + lines
}

/**
 * An estimate of the tokens in a request: a token per four characters of text or per word, whichever is more; every
 * message costs some. Providers count differently, each in its own way.
 */
export function estimateTokens(body: { readonly [key: string]: JsonValue }): number {
  let tokens = 0
  const visit = (value: JsonValue): void => {
    if (typeof value === 'string') {
      // data urls of images and sounds are not read as text
      if (!value.startsWith('data:')) tokens += estimateText(value)
    } else if (Array.isArray(value)) for (const item of value as readonly JsonValue[]) visit(item)
    else if (typeof value === 'object' && value !== null) for (const item of Object.values(value)) visit(item)
  }
  for (const name of ['messages', 'system', 'prompt', 'input', 'instructions', 'tools', 'functions'] as const) {
    const value = body[name]
    if (value === undefined) continue
    visit(value)
    if (Array.isArray(value)) tokens += value.length * 3
  }
  return tokens
}

export function estimateText(text: string): number {
  return Math.max(Math.ceil(text.length / 4), text.match(/\S+/g)?.length ?? 0)
}
