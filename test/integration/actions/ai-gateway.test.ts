/** Appendix C ai-gateway: model providers as real servers that record what they get and answer as a case says. */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { freePorts, type RunningGateway, startGateway } from '../../support/start-gateway.ts'

interface Asked {
  readonly provider: string
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: Record<string, unknown>
}

const asked: Asked[] = []
/** By provider. */
let answers: Record<string, (response: ServerResponse, got: Asked) => void>
const servers: Server[] = []
let gateway: RunningGateway

const ok = (response: ServerResponse, { provider, body }: Asked): void => {
  response
    .writeHead(200, { 'content-type': 'application/json', 'x-ratelimit-remaining-requests': '42' })
    .end(JSON.stringify({ from: provider, model: body['model'] }))
}
const status =
  (code: number) =>
  (response: ServerResponse): void => {
    response.writeHead(code, { 'content-type': 'application/json' }).end('{"error":"internal detail of the provider"}')
  }

async function startProvider(name: string): Promise<number> {
  const server = createServer((incoming, response) => {
    let text = ''
    incoming.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    incoming.on('end', () => {
      const got = {
        provider: name,
        path: incoming.url ?? '',
        headers: incoming.headers,
        body: JSON.parse(text) as Record<string, unknown>,
      }
      asked.push(got)
      ;(answers[name] ?? ok)(response, got)
    })
  })
  servers.push(server)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return (server.address() as AddressInfo).port
}

const RESULT = `
on_http_response:
  - actions:
      - type: add-headers
        config:
          headers:
            x-tried: "\${actions.ngrok.ai_gateway.models_tried.map(m, m.provider + ':' + m.model).join(' ')}"
            x-status: "\${actions.ngrok.ai_gateway.status}"
            x-tokens: "\${actions.ngrok.ai_gateway.input_ngrok_tokens}"
            x-rejected: "\${actions.ngrok.ai_gateway.client.rejected_models.map(m, m.model).join(' ')}"
`

beforeAll(async () => {
  const [a, b, claude] = await Promise.all(['a', 'b', 'claude'].map((name) => startProvider(name)))
  const [nobody] = await freePorts(1)
  const providers = `
            - id: alpha
              id_aliases: [first]
              base_url: http://127.0.0.1:${a}/v1
              api_keys: [{ value: key-1 }, { value: "\${'key-' + '2'}" }]
              models:
                - { id: small, id_aliases: [mini], author_id: acme, max_output_tokens: 100, metadata: { tier: { name: cheap }, pricing: { input: 1, output: 2 } } }
                - { id: large, author_id: acme, unsupported_params: [{ name: temperature }], metadata: { pricing: { input: 10, output: 20 } } }
                - { id: gone, disabled: true }
            - id: beta
              base_url: http://127.0.0.1:${b}/openai/v1/
              api_keys: [{ value: key-b }]
              models: [{ id: small, author_id: other, metadata: { pricing: { input: 0.5, output: 0.5 } } }]`
  const policy = (config: string, more = RESULT): string => `
on_http_request:
  - actions:
      - type: ai-gateway
        config:
${config.replace(/^/gm, '          ')}
${more}`
  const policies: Record<string, string> = {
    chat: policy(`
providers:${providers.replaceAll('\n          ', '\n')}
headers: { x-team: "t-\${req.method}" }
query_params: { trace: "on" }
body: { user: "u-\${req.host.split('.')[0]}", temperature: 0.5 }
max_input_tokens: 1000
max_output_tokens: 200`),
    strict: policy(`
providers:${providers.replaceAll('\n          ', '\n')}
only_allow_configured_providers: true
only_allow_configured_models: true`),
    cheapest: policy(`
providers:${providers.replaceAll('\n          ', '\n')}
only_allow_configured_providers: true
model_selection:
  strategy:
    - ai.models.onlyAuthors(['nobody'])
    - ai.models.ignore(['alpha:large']).underCost('input', 5).sortBy('price')`),
    failing: policy(`
providers:${providers.replaceAll('\n          ', '\n')}
model_selection: { strategy: ["ai.models.get('none-such')"] }`),
    empty: policy(`
providers:${providers.replaceAll('\n          ', '\n')}
model_selection: { strategy: ["ai.models.filter(m, m.getMetadata('tier.name') == 'golden')"] }`),
    keys: policy(`
providers:${providers.replaceAll('\n          ', '\n')}
api_key_selection: { strategy: ["ai.keys.filter(k, k.index == 1 && k.error_rate.total < 2.0)", "ai.keys"] }`),
    claude: policy(`
providers:
  - id: anthropic
    base_url: http://127.0.0.1:${claude}/v1
    api_keys: [{ value: sk-ant }]
  - id: openai
    base_url: http://127.0.0.1:${a}/v1`),
    local: policy(`
providers: [{ id: ollama, base_url: "http://127.0.0.1:${a}/v1" }]
only_allow_configured_providers: true`),
    patient: policy(
      `
providers:
  - { id: down, base_url: "http://127.0.0.1:${nobody}/v1", models: [{ id: m }] }
  - { id: slow, base_url: "http://127.0.0.1:${a}/v1", models: [{ id: m }] }
  - { id: quick, base_url: "http://127.0.0.1:${b}/v1", models: [{ id: m }] }
per_request_timeout: 300ms
total_timeout: 20s`,
    ),
    hasty: policy(
      `
providers:
  - { id: slow, base_url: "http://127.0.0.1:${a}/v1", models: [{ id: m }] }
  - { id: slow2, base_url: "http://127.0.0.1:${b}/v1", models: [{ id: m }] }
per_request_timeout: 10s
total_timeout: 300ms`,
    ),
    down: policy(`providers: [{ id: down, base_url: "http://127.0.0.1:${nobody}/v1", models: [{ id: m }] }]`),
    going: policy(
      `
on_error: continue
providers: [{ id: alpha, base_url: "http://127.0.0.1:${a}/v1", models: [{ id: m }] }]`,
      `
  - actions:
      - type: custom-response
        config:
          status_code: 503
          body: "\${actions.ngrok.ai_gateway.status} \${actions.ngrok.ai_gateway.error.code}"
`,
    ),
    stream: policy(
      `providers: [{ id: alpha, base_url: "http://127.0.0.1:${a}/v1", models: [{ id: m }] }, { id: beta, base_url: "http://127.0.0.1:${b}/v1", models: [{ id: m }] }]`,
      `
on_event_stream_message:
  - actions: [{ type: sse-find-replace, config: { replacements: [{ from: secret, to: "***" }] } }]
`,
    ),
  }
  gateway = await startGateway({
    config: ({ port }) =>
      [
        `listeners: [{ address: 127.0.0.1:${port} }]`,
        'workers: 1',
        'endpoints:',
        ...Object.keys(policies).map(
          (name) => `  - { name: ${name}, url: "http://${name}.case.test:${port}", traffic_policy_file: ${name}.yaml }`,
        ),
      ].join('\n'),
    files: Object.fromEntries(Object.entries(policies).map(([name, text]) => [`${name}.yaml`, text])),
  })
})

afterAll(async () => {
  await gateway?.stop()
  for (const server of servers) {
    server.closeAllConnections()
    server.close()
  }
})

beforeEach(() => {
  asked.length = 0
  answers = {}
})

interface Reply {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

function call(
  name: string,
  body: unknown,
  options: { path?: string; headers?: Record<string, string>; onData?: (text: string) => void } = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        host: '127.0.0.1',
        port: gateway.port,
        method: 'POST',
        path: options.path ?? '/v1/chat/completions',
        headers: {
          host: `${name}.case.test:${gateway.port}`,
          'content-type': 'application/json',
          cookie: 'session=secret',
          'x-internal': 'secret',
          ...options.headers,
        },
        agent: false,
      },
      (incoming) => {
        let text = ''
        incoming.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk
          options.onData?.(text)
        })
        incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: text }))
        incoming.on('error', reject)
      },
    )
    outgoing.on('error', reject)
    outgoing.end(typeof body === 'string' ? body : JSON.stringify(body))
  })
}

const ask = (model: string | undefined, more: Record<string, unknown> = {}): Record<string, unknown> => ({
  ...(model !== undefined && { model }),
  messages: [{ role: 'user', content: 'Hello there' }],
  ...more,
})

describe('what a provider gets', () => {
  it('the body with its model and the policy’s fields; the policy’s key; nothing else of the client', async () => {
    const reply = await call(
      'chat',
      ask('large', { models: ['small'], temperature: 1, max_tokens: 5000, stream: false }),
      {
        headers: { authorization: 'Bearer client-key', 'user-agent': 'sdk/1', 'openai-beta': 'x=1' },
      },
    )
    expect(reply.status).toBe(200)
    expect(JSON.parse(reply.body)).toEqual({ from: 'a', model: 'large' })
    expect(asked).toHaveLength(1)
    const [got] = asked
    expect(got!.path).toBe('/v1/chat/completions?trace=on')
    expect(got!.body).toEqual({
      model: 'large',
      messages: [{ role: 'user', content: 'Hello there' }],
      max_tokens: 200,
      stream: false,
      user: 'u-chat',
    })
    expect(Object.keys(got!.headers).sort()).toEqual(
      ['authorization', 'content-length', 'content-type', 'host', 'openai-beta', 'user-agent', 'x-team'].sort(),
    )
    expect(got!.headers).toMatchObject({ authorization: 'Bearer key-1', 'user-agent': 'sdk/1', 'x-team': 't-POST' })
    expect(reply.headers).toMatchObject({ 'x-tried': 'alpha:large', 'x-status': 'success' })
    expect(Number(reply.headers['x-tokens'])).toBeGreaterThan(2)
  })

  it('aliases, provider:model, a base path, and a cap of the model', async () => {
    await call('chat', ask('first:mini', { max_completion_tokens: 150 }))
    await call('chat', ask('beta:small'), { path: '/any/prefix/v1/embeddings?x=1' })
    expect(asked.map(({ provider, path, body }) => [provider, path, body['model']])).toEqual([
      ['a', '/v1/chat/completions?trace=on', 'small'],
      ['b', '/openai/v1/embeddings?x=1&trace=on', 'small'],
    ])
    expect(asked[0]!.body).toMatchObject({ max_completion_tokens: 100, temperature: 0.5 })
  })

  it('Anthropic’s form goes to who understands it, with its own fields', async () => {
    const reply = await call('claude', ask('claude-x', { max_tokens: 10 }), { path: '/v1/messages' })
    expect(reply.status).toBe(200)
    expect(asked[0]).toMatchObject({ provider: 'claude', path: '/v1/messages' })
    expect(asked[0]!.headers).toMatchObject({ 'x-api-key': 'sk-ant', 'anthropic-version': '2023-06-01' })
    expect(asked[0]!.headers['authorization']).toBeUndefined()
    const other = await call('claude', ask('gpt-x'), { path: '/v1/messages', headers: { 'x-api-key': 'mine' } })
    expect([other.status, other.headers['ngrok-error-code']]).toEqual([422, 'ERR_NGROK_3813'])
  })

  it('where the policy has no key the client’s own goes along; a server of one’s own needs none', async () => {
    await call('claude', ask('gpt-x'), { headers: { authorization: 'Bearer mine' } })
    expect(asked[0]!.headers['authorization']).toBe('Bearer mine')
    const without = await call('claude', ask('gpt-x'))
    expect([without.status, without.headers['ngrok-error-code']]).toEqual([400, 'ERR_NGROK_3802'])
    const local = await call('local', ask('llama3'))
    expect([local.status, asked.at(-1)!.body['model'], asked.at(-1)!.headers['authorization']]).toEqual([
      200,
      'llama3',
      undefined,
    ])
  })
})

describe('fail-over', () => {
  it('next key, then next model, each pair once', async () => {
    answers['a'] = status(429)
    const reply = await call('chat', ask('small', { models: ['small', 'large'] }))
    expect(reply.status).toBe(200)
    expect(asked.map(({ provider, headers, body }) => [provider, headers['authorization'], body['model']])).toEqual([
      ['a', 'Bearer key-1', 'small'],
      ['a', 'Bearer key-2', 'small'],
      ['b', 'Bearer key-b', 'small'],
    ])
    expect(reply.headers['x-tried']).toBe('alpha:small beta:small')
  })

  it('models of the client in their order, unknown ones left out', async () => {
    answers['a'] = status(400)
    const reply = await call('chat', ask('no-such', { models: ['large', 'beta:small'] }))
    expect(asked.map(({ provider, body }) => `${provider}:${String(body['model'])}`)).toEqual([
      'a:large',
      'a:large',
      'b:small',
    ])
    expect(reply.headers['x-rejected']).toBe('no-such')
  })

  it('no connection and no answer in time', async () => {
    answers['a'] = () => {}
    const reply = await call('patient', ask('m'))
    expect(reply.status).toBe(200)
    expect(JSON.parse(reply.body)).toMatchObject({ from: 'b' })
    expect(reply.headers['x-tried']).toBe('down:m slow:m quick:m')
  })

  it('3812: all of them answered badly; what they said stays here', async () => {
    answers['a'] = status(500)
    answers['b'] = status(401)
    const reply = await call('chat', ask('small'))
    expect([reply.status, reply.headers['ngrok-error-code']]).toEqual([502, 'ERR_NGROK_3812'])
    expect(reply.body).not.toContain('internal detail')
    expect(asked).toHaveLength(3)
  })

  it('3800: nobody could be reached', async () => {
    const reply = await call('down', ask('m'))
    expect([reply.status, reply.headers['ngrok-error-code']]).toEqual([502, 'ERR_NGROK_3800'])
  })

  it('3810: total_timeout ends it', async () => {
    answers['a'] = answers['b'] = () => {}
    const reply = await call('hasty', ask('m'))
    expect([reply.status, reply.headers['ngrok-error-code']]).toEqual([504, 'ERR_NGROK_3810'])
    expect(asked).toHaveLength(1)
  })

  it('on_error: continue goes on with the policy', async () => {
    answers['a'] = status(500)
    const failed = await call('going', ask('m'))
    expect([failed.status, failed.body]).toEqual([503, 'error ERR_NGROK_3812'])
    const invalid = await call('going', 'no json')
    expect([invalid.status, invalid.body]).toEqual([503, 'error ERR_NGROK_3801'])
    answers['a'] = ok
    expect((await call('going', ask('m'))).status).toBe(200)
  })
})

describe('selection', () => {
  it('the first strategy that returns models wins; the client’s models limit it', async () => {
    answers['b'] = status(500)
    const reply = await call('cheapest', ask(undefined))
    expect(reply.headers['x-tried']).toBe('beta:small alpha:small')
    const limited = await call('cheapest', ask('alpha:small'))
    expect(limited.headers['x-tried']).toBe('alpha:small')
    const none = await call('cheapest', ask('large'))
    expect([none.status, none.headers['ngrok-error-code']]).toEqual([422, 'ERR_NGROK_3805'])
  })

  it('3803 a strategy that fails, 3805 one that leaves nothing', async () => {
    expect((await call('failing', ask('small'))).headers['ngrok-error-code']).toBe('ERR_NGROK_3803')
    expect((await call('empty', ask('small'))).headers['ngrok-error-code']).toBe('ERR_NGROK_3805')
    expect(asked).toHaveLength(0)
  })

  it('keys are ordered by their strategy', async () => {
    await call('keys', ask('large'))
    await call('keys', ask('beta:small'))
    expect(asked.map(({ headers }) => headers['authorization'])).toEqual(['Bearer key-2', 'Bearer key-b'])
  })

  it('3804: models that are not configured, disabled, or of no known provider', async () => {
    for (const [name, model] of [
      ['strict', 'gpt-4o'],
      ['strict', 'gone'],
      ['chat', 'alpha:gone'],
      ['chat', 'mystery'],
    ] as const) {
      const reply = await call(name, ask(model))
      expect([reply.status, reply.headers['ngrok-error-code']], model).toEqual([422, 'ERR_NGROK_3804'])
    }
    expect(asked).toHaveLength(0)
  })
})

describe('bad requests', () => {
  it.each([
    ['not json', 'x'],
    ['a list', '[]'],
    ['a model that is no text', '{"model":1}'],
    ['models that are no list', '{"models":"a"}'],
    ['models that hold no texts', '{"models":[1]}'],
    ['nothing', ''],
  ])('3801: %s', async (_, body) => {
    const reply = await call('chat', body)
    expect([reply.status, reply.headers['ngrok-error-code']]).toEqual([400, 'ERR_NGROK_3801'])
    expect(asked).toHaveLength(0)
  })

  it('3811: a prompt with more tokens than max_input_tokens', async () => {
    const reply = await call('chat', ask('small', { messages: [{ role: 'user', content: 'word '.repeat(2000) }] }))
    expect([reply.status, reply.headers['ngrok-error-code']]).toEqual([413, 'ERR_NGROK_3811'])
  })
})

describe('streams', () => {
  it('pass event by event, behind a provider that failed, and through the rules about events', async () => {
    answers['a'] = status(503)
    let response: ServerResponse | undefined
    answers['b'] = (it) => {
      response = it
      it.writeHead(200, { 'content-type': 'text/event-stream' })
      it.write('data: one secret\n\n')
    }
    let come = ''
    const reply = call('stream', ask('m', { stream: true }), { onData: (text) => (come = text) })
    await vi.waitFor(() => expect(come).toBe('data: one ***\n\n'), { timeout: 15_000, interval: 5 })
    response!.write('data: two\n\n')
    await vi.waitFor(() => expect(come).toBe('data: one ***\n\ndata: two\n\n'), { timeout: 15_000, interval: 5 })
    response!.end('data: [DONE]\n\n')
    expect((await reply).body).toBe('data: one ***\n\ndata: two\n\ndata: [DONE]\n\n')
  })
})
