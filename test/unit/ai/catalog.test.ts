import { describe, expect, it } from 'vitest'
import { AiCatalog, type AiModel, type AiProvider, BUILT_IN } from '../../../src/ai/catalog.ts'
import { estimateTokens, readAiRequest } from '../../../src/ai/request.ts'
import { UseRecords } from '../../../src/ai/use-records.ts'

function model(id: string, providerId: string, more: Partial<AiModel> = {}): AiModel {
  return {
    id,
    aliases: [],
    providerId,
    authorId: providerId,
    isConfigured: true,
    metadata: {},
    inputModalities: [],
    outputModalities: [],
    supportedFeatures: [],
    maxContextWindow: undefined,
    maxOutputTokens: undefined,
    unsupportedParams: [],
    ...more,
  }
}

function provider(id: string, more: Partial<AiProvider> = {}): AiProvider {
  return {
    id,
    aliases: [],
    baseUrl: new URL('https://x.example/v1'),
    isCustom: !BUILT_IN.has(id),
    isConfigured: true,
    metadata: {},
    keys: [],
    models: [],
    formats: new Set(['openai']),
    disabledModels: new Set(),
    ...more,
  }
}

const OPEN = { onlyConfiguredProviders: false, onlyConfiguredModels: false }
const builtIn = [...BUILT_IN.keys()].map((id) => provider(id, { isConfigured: false }))

describe('what a model name means', () => {
  const mine = provider('mine', { models: [model('llama', 'mine', { aliases: ['l'] }), model('both', 'mine')] })
  const other = provider('other', { aliases: ['o'], models: [model('both', 'other'), model('a:b', 'other')] })
  const catalog = new AiCatalog([mine, other, ...builtIn], OPEN)
  const found = (name: string, it = catalog): unknown => {
    const result = it.find(name)
    return 'reason' in result ? result.reason : result.map(({ providerId, id }) => `${providerId}/${id}`)
  }

  it.each([
    ['llama', ['mine/llama']],
    ['l', ['mine/llama']],
    ['both', ['mine/both', 'other/both']],
    ['o:both', ['other/both']],
    ['a:b', ['other/a:b']], // a colon in a name is no provider
    ['gpt-5', ['openai/gpt-5']],
    ['o3-mini', ['openai/o3-mini']],
    ['claude-next', ['anthropic/claude-next']],
    ['gemini-3', ['google/gemini-3']],
    ['deepseek-chat', ['deepseek/deepseek-chat']],
    ['mine:anything', ['mine/anything']],
    ['anything', 'no provider is known for the model'],
  ])('%s', (name, wanted) => expect(found(name)).toEqual(wanted))

  it('the switches leave out what is not configured', () => {
    const providersOnly = new AiCatalog([mine, ...builtIn], { ...OPEN, onlyConfiguredProviders: true })
    expect(found('gpt-5', providersOnly)).toBe('no provider is known for the model')
    const modelsOnly = new AiCatalog([mine, ...builtIn], { ...OPEN, onlyConfiguredModels: true })
    expect(found('gpt-5', modelsOnly)).toBe('the model is not configured')
    expect(found('mine:new', modelsOnly)).toBe('the model is not configured')
  })

  it('the only provider of one’s own gets what nobody else is known for', () => {
    const single = new AiCatalog([provider('ollama'), ...builtIn], OPEN)
    expect(found('qwen3', single)).toEqual(['ollama/qwen3'])
    expect(found('gpt-5', single)).toEqual(['openai/gpt-5'])
  })
})

describe('requests', () => {
  it.each([
    ['/v1/chat/completions', 'openai', '/chat/completions?x=1'],
    ['/v1/messages', 'anthropic', '/messages?x=1'],
    ['/team/v1/messages/count_tokens', 'anthropic', '/messages/count_tokens?x=1'],
    ['/responses', 'openai', '/responses?x=1'],
  ])('%s', (path, format, surface) => {
    expect(readAiRequest(path, 'x=1', '{"model":"m","models":["m","n","auto"],"stream":true}')).toMatchObject({
      format,
      surface,
      models: ['m', 'n'],
      streams: true,
    })
  })

  it('tokens grow with the text, whatever the shape of the messages; pictures are not text', () => {
    const text = 'four words of text '.repeat(100)
    const plain = estimateTokens({ messages: [{ role: 'user', content: text }] })
    expect(plain).toBeGreaterThanOrEqual(400)
    expect(plain).toBeLessThan(700)
    const parts = estimateTokens({ messages: [{ role: 'user', content: [{ type: 'text', text }] }] })
    expect(Math.abs(parts - plain)).toBeLessThan(10)
    const url = `data:image/png;base64,${'A'.repeat(100_000)}`
    expect(estimateTokens({ messages: [{ content: [{ image_url: { url } }] }] })).toBeLessThan(20)
    expect(estimateTokens({ input: '漢字'.repeat(100) })).toBeGreaterThan(10)
    expect(estimateTokens({ model: 'x', temperature: 1 })).toBe(0)
  })
})

describe('what is known of keys', () => {
  it('shares of the last 100 uses, and what the provider says is left', () => {
    const records = new UseRecords()
    expect(records.view('k').error_rate).toEqual({ total: 0, rate_limit: 0, timeout: 0 })
    for (const result of ['ok', 'rate_limit', 'timeout', 'error'] as const) records.note('k', result, 100)
    expect(records.view('k')).toEqual({
      error_rate: { total: 0.75, rate_limit: 0.25, timeout: 0.25 },
      quota: {},
      latency: { upstream_ms_avg: 100 },
    })
    records.noteQuota(
      'k',
      (name) => ({ 'x-ratelimit-remaining-requests': '7', 'x-ratelimit-remaining-tokens': 'many' })[name],
    )
    expect(records.view('k').quota).toEqual({ remaining_requests: 7 })
    for (let use = 0; use < 100; use++) records.note('k', 'ok', 300)
    expect(records.view('k').error_rate).toEqual({ total: 0, rate_limit: 0, timeout: 0 })
  })

  it('is bounded', () => {
    const records = new UseRecords()
    records.note('first', 'error', 1)
    for (let key = 0; key < 2000; key++) records.note(`k${key}`, 'error', 1)
    expect(records.view('first').error_rate).toEqual({ total: 0, rate_limit: 0, timeout: 0 })
  })
})
