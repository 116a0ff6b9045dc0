/**
 * §1.1 on_event_stream_message, §5.21 sse-find-replace, and compression of streams: in lockstep. The upstream writes an
 * event only when the client has the one before, so that a gateway that holds one back never gets the next.
 */
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { createBrotliDecompress, createGunzip, gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { installedRules } from '../../support/rule-set.ts'
import { type RunningGateway, startGateway } from '../../support/start-gateway.ts'

const WAIT = { timeout: 15_000, interval: 5 }
const rules = installedRules()

let upstream: Server
let gateway: RunningGateway
/** Answers the next request. */
let serve: (response: ServerResponse, incoming: IncomingMessage) => void

beforeAll(async () => {
  upstream = createServer((incoming, response) => {
    response.on('error', () => {})
    serve(response, incoming)
  })
  await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve))
  const address = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`
  const endpoint = (name: string, port: number): string =>
    `  - { name: ${name}, url: "http://${name}.case.test:${port}", upstream: { url: "${address}" }, traffic_policy_file: ${name}.yaml }`
  gateway = await startGateway({
    config: ({ port }) =>
      [
        `listeners: [{ address: 127.0.0.1:${port} }]`,
        'limits: { buffered_body: 64KiB }',
        rules === undefined ? '' : `waf: { rules: ${rules} }`,
        'endpoints:',
        endpoint('mask', port),
        endpoint('packed', port),
        endpoint('broken', port),
        ...(rules === undefined ? [] : [endpoint('guarded', port)]),
      ].join('\n'),
    files: {
      'mask.yaml': `
on_http_request:
  - actions: [{ type: set-vars, config: { vars: [{ lost: "x" }] } }]
on_event_stream_message:
  - expressions: ["res.status_code == 200", "'x-mask' in req.headers"]
    actions:
      - type: sse-find-replace
        config:
          replacements:
            - { from: '\\d{3}-\\d{2}-(\\d{4})', to: '***-**-$1' }
            - { field: retry, from: '^\\d+$', to: "\${req.headers['x-retry'][0]}" }
  - expressions: ["actions.ngrok.sse_find_replace.replacements.exists(r, r.matched_content == '123-45-6789')"]
    actions:
      - { type: sse-find-replace, config: { replacements: [{ from: '$', to: ' (seen)' }] } }
`,
      'packed.yaml': `
on_http_response:
  - actions: [{ type: compress-response }]
on_event_stream_message:
  - actions: [{ type: sse-find-replace, config: { replacements: [{ from: secret, to: '***' }] } }]
`,
      'broken.yaml': `
on_event_stream_message:
  - actions: [{ type: sse-find-replace, config: { replacements: [{ from: a, to: "\${req.headers['x-none'][0]}" }] } }]
`,
      'guarded.yaml': `
on_http_request:
  - actions: [{ type: owasp-crs-request, config: { process_body: true } }]
on_http_response:
  - actions:
      - { type: owasp-crs-response, config: { process_body: true } }
      - { type: response-body-find-replace, config: { replacements: [{ from: secret, to: 'never' }] } }
on_event_stream_message:
  - actions: [{ type: sse-find-replace, config: { replacements: [{ from: secret, to: '***' }] } }]
`,
    },
  })
})

afterAll(async () => {
  await gateway?.stop()
  upstream?.closeAllConnections()
  upstream?.close()
})

interface Stream {
  readonly incoming: IncomingMessage
  /** What has come, decoded. */
  readonly text: string
  /** `end`, `cut`, or undefined while it runs. */
  readonly over: string | undefined
}

function open(name: string, headers: Record<string, string> = {}): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        host: '127.0.0.1',
        port: gateway.port,
        headers: { host: `${name}.case.test:${gateway.port}`, ...headers },
        agent: false,
      },
      (incoming) => {
        const coding = incoming.headers['content-encoding']
        const decode = coding === 'gzip' ? createGunzip() : coding === 'br' ? createBrotliDecompress() : undefined
        const stream = { incoming, text: '', over: undefined as string | undefined }
        const source = decode === undefined ? incoming : incoming.pipe(decode)
        source.on('data', (chunk: Buffer) => (stream.text += chunk.toString()))
        source.on('end', () => (stream.over ??= 'end'))
        incoming.on('error', () => (stream.over = 'cut'))
        source.on('error', () => (stream.over ??= 'cut'))
        resolve(stream)
      },
    )
    outgoing.on('error', reject)
    outgoing.end()
  })
}

const SSE = { 'content-type': 'text/event-stream' }

/** Plays pairs of what is sent and what must have come before the next is sent. */
async function lockstep(
  name: string,
  headers: Record<string, string>,
  pairs: readonly (readonly [string, string])[],
  head: Record<string, string> = SSE,
): Promise<Stream> {
  let response: ServerResponse | undefined
  serve = (it) => {
    response = it
    it.writeHead(200, head)
    it.write(pairs[0]![0])
  }
  const stream = await open(name, headers)
  let wanted = ''
  for (const [at, [sent, come]] of pairs.entries()) {
    if (at > 0) response!.write(sent)
    wanted += come
    await vi.waitFor(() => expect(stream.text).toBe(wanted), WAIT)
  }
  expect(stream.over).toBeUndefined()
  response!.end()
  await vi.waitFor(() => expect(stream.over).toBe('end'), WAIT)
  expect(stream.text).toBe(wanted)
  return stream
}

describe('§5.21 sse-find-replace', () => {
  it('changes data and retry of each event, which passes at once; other rules see its result', async () => {
    const stream = await lockstep('mask', { 'x-mask': '1', 'x-retry': '5000' }, [
      ['data: hello\n\n', 'data: hello\n\n'],
      [': ping\n\n', ': ping\n\n'],
      ['id: 1\r\ndata: ssn 123-45-6789\r\n\r\n', 'id: 1\r\ndata: ssn ***-**-6789 (seen)\r\n\r\n'],
      ['event: x\ndata: a\ndata: 000-00-0000\nretry: 10\n\n', 'event: x\ndata: a\ndata: ***-**-0000\nretry: 5000\n\n'],
      ['data: 123-45', ''],
      ['-6789\n\n', 'data: ***-**-6789 (seen)\n\n'],
    ])
    expect(stream.incoming.headers['content-type']).toBe('text/event-stream')
    expect(stream.incoming.headers['transfer-encoding']).toBe('chunked')
  })

  it('expressions decide for each event', async () => {
    await lockstep('mask', {}, [['data: 123-45-6789\n\n', 'data: 123-45-6789\n\n']])
  })

  it('a stream with a length, and an answer that is no stream', async () => {
    serve = (it) => {
      it.writeHead(200, { ...SSE, 'content-length': '19' })
      it.end('data: 123-45-6789\n\n')
    }
    const stream = await open('mask', { 'x-mask': '1', 'x-retry': '1' })
    await vi.waitFor(() => expect(stream.over).toBe('end'), WAIT)
    expect(stream.text).toBe('data: ***-**-6789 (seen)\n\n')
    serve = (it) => {
      it.writeHead(200, { 'content-type': 'text/plain' })
      it.end('data: 123-45-6789\n\n')
    }
    const plain = await open('mask', { 'x-mask': '1', 'x-retry': '1' })
    await vi.waitFor(() => expect(plain.over).toBe('end'), WAIT)
    expect(plain.text).toBe('data: 123-45-6789\n\n')
  })

  it('a compressed stream is decoded first', async () => {
    serve = (it, incoming) => {
      expect(incoming.headers['accept-encoding']).toBe('gzip')
      it.writeHead(200, { ...SSE, 'content-encoding': 'gzip' })
      it.end(gzipSync('data: 123-45-6789\n\n'))
    }
    const stream = await open('mask', { 'x-mask': '1', 'x-retry': '1', 'accept-encoding': 'gzip, zstd' })
    await vi.waitFor(() => expect(stream.over).toBe('end'), WAIT)
    expect(stream.incoming.headers['content-encoding']).toBeUndefined()
    expect(stream.text).toBe('data: ***-**-6789 (seen)\n\n')
  })

  it('a stream in a coding that cannot be taken off is not let through', async () => {
    serve = (it) => {
      it.writeHead(200, { ...SSE, 'content-encoding': 'zstd' })
      it.end('data: 123-45-6789\n\n')
    }
    const stream = await open('mask', { 'x-mask': '1' })
    expect(stream.incoming.statusCode).toBe(502)
    expect(stream.incoming.headers['ngrok-error-code']).toBe('ERR_NGROK_3903')
  })

  it('bytes that are not what their coding says: 502, and nothing of them', async () => {
    serve = (it) => {
      it.writeHead(200, { ...SSE, 'content-encoding': 'gzip' })
      it.end('data: 123-45-6789\n\n')
    }
    const stream = await open('mask', { 'x-mask': '1' })
    expect(stream.incoming.statusCode).toBe(502)
  })

  it('an event beyond limits.buffered_body ends the stream, and nothing of it passes', async () => {
    let response: ServerResponse | undefined
    serve = (it) => {
      response = it
      it.writeHead(200, SSE)
      it.write('data: ok\n\n')
    }
    const stream = await open('mask', { 'x-mask': '1' })
    await vi.waitFor(() => expect(stream.text).toBe('data: ok\n\n'), WAIT)
    response!.write(`data: ${'123-45-6789 '.repeat(10_000)}`)
    await vi.waitFor(() => expect(stream.over).toBe('cut'), WAIT)
    expect(stream.text).toBe('data: ok\n\n')
  })

  it('3900: a value that cannot be computed ends the stream before the event', async () => {
    serve = (it) => {
      it.writeHead(200, SSE)
      it.write('data: secret\n\n')
      it.end('data: b\n\n')
    }
    const stream = await open('broken')
    await vi.waitFor(() => expect(stream.over).toBeDefined(), WAIT)
    expect(stream.text).not.toContain('secret')
    await vi.waitFor(
      () => expect(gateway.log().some(({ msg }) => msg.includes('an event could not be changed'))).toBe(true),
      WAIT,
    )
  })

  it.skipIf(rules === undefined)('the rule set and body replacements let a stream pass', async () => {
    await lockstep('guarded', {}, [
      ['data: a secret\n\n', 'data: a ***\n\n'],
      ['data: b\n\n', 'data: b\n\n'],
    ])
  })
})

describe('compression of streams', () => {
  it.each(['gzip', 'br'])('%s: each event can be read when it was sent', async (coding) => {
    const stream = await lockstep('packed', { 'accept-encoding': coding }, [
      ['data: a secret\n\n', 'data: a ***\n\n'],
      ['data: b\n\n', 'data: b\n\n'],
      ['data: c\n\n', 'data: c\n\n'],
    ])
    expect(stream.incoming.headers['content-encoding']).toBe(coding)
    expect(stream.incoming.headers['vary']).toBe('accept-encoding')
  })

  it('so can what comes of a body of unknown length', async () => {
    await lockstep(
      'packed',
      { 'accept-encoding': 'gzip' },
      [
        ['one secret ', 'one secret '],
        ['two', 'two'],
      ],
      { 'content-type': 'text/plain' },
    )
  })

  it('H-38: a client that does not read holds the upstream up', async () => {
    let sent = 0
    const limit = { bytes: 64 * 1024 * 1024 }
    serve = (it) => {
      it.writeHead(200, SSE)
      // random text: compression must not make it disappear
      const more = (): void => {
        while (sent < limit.bytes) {
          const event = `data: ${Array.from({ length: 800 }, () => Math.random().toString(36)).join('')}\n\n`
          sent += event.length
          if (!it.write(event)) {
            it.once('drain', more)
            return
          }
        }
      }
      more()
    }
    const socket = connect(gateway.port, '127.0.0.1')
    socket.pause()
    socket.write(`GET / HTTP/1.1\r\nhost: packed.case.test:${gateway.port}\r\naccept-encoding: gzip\r\n\r\n`)
    let before = -1
    await vi.waitFor(
      () => {
        const now = sent
        const rests = now > 0 && now === before
        before = now
        expect(rests).toBe(true)
      },
      { timeout: 20_000, interval: 1000 },
    )
    limit.bytes = 0
    socket.destroy()
    // what the buffers of three sockets and the gateway hold
    expect(sent).toBeLessThan(32 * 1024 * 1024)
  })
})
