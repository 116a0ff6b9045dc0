/** Find and replace in bodies, and compression: over real HTTP, with the bytes that arrive on either side. */
import { brotliCompressSync, brotliDecompressSync, deflateSync, gunzipSync, gzipSync, inflateSync } from 'node:zlib'
import { expect } from 'vitest'
import { policyCases } from '../../support/policy-cases.ts'

const bytes = (body: string): Buffer => Buffer.from(body, 'latin1')
const LONG = 'the quick brown fox jumps over the lazy dog. '.repeat(4000)

policyCases(
  '§5.19 request-body-find-replace',
  [
    {
      name: 'request',
      policy: `
on_http_request:
  - actions:
      - type: request-body-find-replace
        config:
          replacements:
            - { from: '"card":"(\\d{4})\\d+"', to: '"card":"$1…"' }
            - { from: '$1…', to: 'never' }
            - { from: '…', to: '****' }
            - { from: '(?i)SECRET\\s*' }
      - type: add-headers
        config:
          headers:
            x-found: "\${actions.ngrok.request_body_find_replace.replacements.map(r, string(r.replacement_index) + '=' + r.matched_content).join(' | ')}"
            x-length: "\${req.content_length}"
`,
      steps: [
        {
          title: 'replacements work one after the other; the new length is announced; results name what was found',
          method: 'POST',
          body: '{"card":"4111222233334444","note":"Secret  stuff"}',
          expect: {
            status: 200,
            upstream: (received) => {
              expect(received.body).toBe('{"card":"4111****","note":"stuff"}')
              expect(received.field('content-length')).toBe('34')
              expect(received.field('x-length')).toBe('34')
              expect(Buffer.from(received.field('x-found')!, 'latin1').toString()).toBe(
                '0="card":"4111222233334444" | 2=… | 3=Secret',
              )
            },
          },
        },
        {
          title: 'a body in which nothing is found passes byte for byte',
          method: 'POST',
          headers: { 'content-encoding': 'gzip', 'transfer-encoding': 'chunked' },
          body: gzipSync('nothing here'),
          expect: {
            status: 200,
            upstream: (received) => {
              expect(gunzipSync(bytes(received.body)).toString()).toBe('nothing here')
              expect(received.field('content-encoding')).toBe('gzip')
              expect(received.field('x-found')).toBe('')
            },
          },
        },
        ...(
          [
            ['gzip', gzipSync],
            ['deflate', deflateSync],
            ['br', brotliCompressSync],
          ] as const
        ).map(([coding, encode]) => ({
          title: `a body in ${coding} is decoded when something is found`,
          method: 'PUT',
          headers: { 'content-encoding': coding, 'content-md5': 'x' },
          body: encode('my secret word'),
          expect: {
            status: 200,
            upstream: (received: { body: string; field(name: string): string | undefined }) => {
              expect(received.body).toBe('my word')
              expect(received.field('content-encoding')).toBeUndefined()
              expect(received.field('content-md5')).toBeUndefined()
              expect(received.field('content-length')).toBe('7')
            },
          },
        })),
        {
          title: 'T-43: a coding that cannot be taken off is refused',
          method: 'POST',
          headers: { 'content-encoding': 'zstd' },
          body: 'x',
          expect: { status: 415, upstream: false },
        },
        {
          title: 'bytes that are not what their coding says are refused',
          method: 'POST',
          headers: { 'content-encoding': 'gzip' },
          body: 'plain',
          expect: { status: 415, upstream: false },
        },
        {
          title: 'T-21: a body that grows beyond the limit is refused',
          method: 'POST',
          headers: { 'content-encoding': 'gzip' },
          body: gzipSync(Buffer.alloc(300_000, 'a')),
          expect: { status: 413, upstream: false },
        },
        {
          title: 'a body beyond the limit is refused, announced or not',
          method: 'POST',
          headers: { 'transfer-encoding': 'chunked' },
          body: 'a'.repeat(200_000),
          expect: { status: 413, upstream: false },
        },
        {
          title: 'bytes that are no UTF-8 stay',
          method: 'POST',
          body: bytes('\xff\xfe secret \x80'),
          expect: { status: 200, upstream: (received) => expect(received.body).toBe('\xff\xfe \x80') },
        },
        {
          title: 'a large body is worked on as well, and matches across its pieces are found',
          method: 'POST',
          body: `${'a'.repeat(65_530)}secret ${'b'.repeat(30_000)}secret`,
          expect: {
            status: 200,
            upstream: (received) => expect(received.body).toBe(`${'a'.repeat(65_530)}${'b'.repeat(30_000)}`),
          },
        },
        {
          title: 'a request without a body passes',
          expect: { status: 200, upstream: (received) => expect(received.field('x-found')).toBe('') },
        },
      ],
    },
    {
      name: 'computed',
      policy: `
on_http_request:
  - actions:
      - type: request-body-find-replace
        config:
          replacements:
            - { from: "\${req.headers['x-from'][0]}", to: "[\${req.headers['x-to'][0]}]" }
`,
      steps: [
        {
          title: 'from and to are computed',
          method: 'POST',
          headers: { 'x-from': '(b+)', 'x-to': '$1$1' },
          body: 'abbc',
          expect: { status: 200, upstream: (received) => expect(received.body).toBe('a[bbbb]c') },
        },
        {
          title: '3901: a computed pattern that is none',
          method: 'POST',
          headers: { 'x-from': '(', 'x-to': '' },
          body: 'abbc',
          expect: { status: 500, headers: { 'ngrok-error-code': 'ERR_NGROK_3901' }, upstream: false },
        },
        {
          title: '3900: a value that cannot be computed',
          method: 'POST',
          headers: { 'x-from': 'a' },
          body: 'abbc',
          expect: { status: 500, headers: { 'ngrok-error-code': 'ERR_NGROK_3900' }, upstream: false },
        },
        {
          title: '3904: a replacement that grows beyond all bounds',
          method: 'POST',
          headers: { 'x-from': 'a', 'x-to': 'x'.repeat(4000) },
          body: 'a'.repeat(10_000),
          expect: { status: 500, headers: { 'ngrok-error-code': 'ERR_NGROK_3904' }, upstream: false },
        },
      ],
    },
  ],
  'limits: { buffered_body: 128KiB }',
)

policyCases(
  '§5.20 response-body-find-replace',
  [
    {
      name: 'response',
      policy: `
on_http_response:
  - expressions: ["res.status_code != 202"]
    actions:
      - type: response-body-find-replace
        config:
          replacements:
            - { from: '\\d{3}-\\d{2}-(\\d{4})', to: '***-**-$1' }
      - type: add-headers
        config:
          headers: { x-found: "\${actions.ngrok.response_body_find_replace.replacements.size()}" }
`,
      steps: [
        {
          title: 'replaces, announces the new length, weakens the tag, takes checksums away',
          answer: {
            status: 200,
            fields: 'content-type: text/plain\r\netag: "abc"\r\ncontent-md5: x\r\naccept-ranges: bytes\r\n',
            body: 'ssn 123-45-6789 and 987-65-4321.',
          },
          expect: {
            status: 200,
            body: 'ssn ***-**-6789 and ***-**-4321.',
            headers: {
              'content-length': '32',
              etag: 'W/"abc"',
              'content-md5': undefined,
              'accept-ranges': undefined,
              'x-found': '1',
            },
          },
        },
        {
          title: 'what is not found passes as it came, in its coding',
          answer: { status: 200, fields: 'content-encoding: gzip\r\netag: "abc"\r\n', body: gzipSync('nothing') },
          headers: { 'accept-encoding': 'gzip, zstd;q=0.5' },
          expect: {
            status: 200,
            headers: { 'content-encoding': 'gzip', etag: '"abc"', 'x-found': '0' },
            upstream: (received) => expect(received.field('accept-encoding')).toBe('gzip'),
          },
        },
        {
          title: 'a body in br is decoded when something is found',
          answer: { status: 200, fields: 'content-encoding: br\r\n', body: brotliCompressSync('123-45-6789') },
          expect: {
            status: 200,
            body: '***-**-6789',
            headers: { 'content-encoding': undefined, 'content-length': '11' },
          },
        },
        {
          title: 'a coding that cannot be taken off is not let through',
          answer: { status: 200, fields: 'content-encoding: zstd\r\n', body: '123-45-6789' },
          expect: { status: 502, headers: { 'ngrok-error-code': 'ERR_NGROK_3903' } },
        },
        {
          title: 'a body beyond the limit is not let through',
          answer: { status: 200, body: 'a'.repeat(200_000) },
          expect: { status: 502, headers: { 'ngrok-error-code': 'ERR_NGROK_3903' } },
        },
        {
          title: 'ranges are not asked for, and a part that comes all the same is not let through',
          headers: { range: 'bytes=0-4', 'if-range': '"abc"' },
          answer: { status: 206, fields: 'content-range: bytes 0-4/11\r\n', body: '123-4' },
          expect: {
            status: 500,
            headers: { 'ngrok-error-code': 'ERR_NGROK_3904' },
            upstream: (received) => {
              expect(received.field('range')).toBeUndefined()
              expect(received.field('if-range')).toBeUndefined()
            },
          },
        },
        {
          title: 'a response that no rule touches passes',
          answer: { status: 202, fields: 'content-encoding: zstd\r\n', body: '123-45-6789' },
          expect: { status: 202, body: '123-45-6789', headers: { 'content-encoding': 'zstd' } },
        },
        {
          title: 'an event stream is left to sse-find-replace',
          answer: {
            status: 200,
            fields: 'content-type: text/event-stream; charset=utf-8\r\n',
            body: 'data: 123-45-6789\n\n',
          },
          expect: { status: 200, body: 'data: 123-45-6789\n\n' },
        },
        {
          title: '304 has no body',
          answer: { status: 304, fields: 'etag: "abc"\r\n', body: '' },
          expect: { status: 304, headers: { etag: '"abc"' } },
        },
        {
          title: 'HEAD does not announce the length of another body',
          method: 'HEAD',
          expect: { status: 200, headers: { 'content-length': undefined, 'x-echo': 'yes' } },
        },
      ],
    },
    {
      name: 'own',
      policy: `
on_http_request:
  - actions: [{ type: custom-response, config: { body: "number 123-45-6789" } }]
on_http_response:
  - actions:
      - { type: response-body-find-replace, config: { replacements: [{ from: "number (.*)", to: "no. $1 of \${req.host}" }] } }
      - { type: compress-response, config: { algorithms: [gzip] } }
      - { type: response-body-find-replace, config: { replacements: [{ from: "[0-9]{3}-", to: "" }] } }
`,
      steps: [
        {
          title: 'answers of the policy are changed too',
          expect: { status: 200, body: /^no\. 45-6789 of own\.case\.test/, upstream: false },
        },
        {
          title: 'compression comes last, whatever the order of the actions',
          headers: { 'accept-encoding': 'gzip' },
          expect: {
            status: 200,
            headers: { 'content-encoding': 'gzip' },
            upstream: false,
            decoded: (body) => expect(gunzipSync(body).toString()).toMatch(/^no\. 45-6789 of own/),
          },
        },
      ],
    },
  ],
  'limits: { buffered_body: 128KiB }',
)

policyCases('§5.5 compress-response', [
  {
    name: 'compress',
    policy: `
on_http_response:
  - actions:
      - type: compress-response
      - type: add-headers
        config:
          headers:
            x-coding: "\${actions.ngrok.compress.negotiated_algorithm}"
            x-already: "\${actions.ngrok.compress.already_compressed}"
            x-sees: "\${res.headers['content-encoding']}"
`,
    steps: [
      ...(
        [
          ['gzip', 'gzip', gunzipSync],
          ['deflate;q=0.9, gzip;q=0.5', 'deflate', inflateSync],
          ['br, *;q=0.1', 'br', brotliDecompressSync],
          ['*', 'gzip', gunzipSync],
        ] as const
      ).map(([accept, coding, decode]) => ({
        title: `${accept} → ${coding}`,
        headers: { 'accept-encoding': accept },
        answer: {
          status: 200,
          fields: 'content-type: text/html\r\netag: "v1"\r\naccept-ranges: bytes\r\n',
          body: LONG,
        },
        expect: {
          status: 200,
          headers: {
            'content-encoding': coding,
            'content-length': undefined,
            'transfer-encoding': 'chunked',
            'accept-ranges': undefined,
            vary: 'accept-encoding',
            etag: 'W/"v1"',
            'x-coding': coding,
            'x-already': 'false',
            'x-sees': coding,
          },
          decoded: (body: Buffer) => {
            expect(body.length).toBeLessThan(LONG.length / 10)
            expect(decode(body).toString()).toBe(LONG)
          },
        },
      })),
      {
        title: 'a client that asks for nothing gets the body as it is, and caches learn what it depends on',
        answer: { status: 200, fields: 'content-type: text/html\r\netag: "v1"\r\nvary: Cookie\r\n', body: 'text' },
        expect: {
          status: 200,
          body: 'text',
          headers: {
            'content-encoding': undefined,
            etag: '"v1"',
            vary: 'Cookie, accept-encoding',
            'content-length': '4',
          },
        },
      },
      {
        title: 'a client that takes no coding of ours, too',
        headers: { 'accept-encoding': 'zstd, compress, gzip;q=0' },
        answer: { status: 200, body: 'text' },
        expect: { status: 200, body: 'text', headers: { 'content-encoding': undefined, 'x-coding': '' } },
      },
      {
        title: 'an encoded body stays',
        headers: { 'accept-encoding': 'gzip, br' },
        answer: { status: 200, fields: 'content-encoding: br\r\netag: "v1"\r\n', body: brotliCompressSync('text') },
        expect: {
          status: 200,
          headers: { 'content-encoding': 'br', 'x-already': 'true', 'x-coding': '', etag: '"v1"', vary: undefined },
          decoded: (body) => expect(brotliDecompressSync(body).toString()).toBe('text'),
        },
      },
      ...[
        ['no-transform', 200, 'cache-control: public, no-transform\r\ncontent-type: text/plain\r\n'],
        ['a part', 206, 'content-range: bytes 0-3/10\r\ncontent-type: text/plain\r\n'],
        ['media that are compressed in themselves', 200, 'content-type: image/png\r\n'],
      ].map(([title, status, fields]) => ({
        title: `${title}: the body stays`,
        headers: { 'accept-encoding': 'gzip' },
        answer: { status: Number(status), fields: String(fields), body: 'data' },
        expect: {
          status: Number(status),
          body: 'data',
          headers: { 'content-encoding': undefined, 'content-length': '4' },
        },
      })),
      {
        title: 'pictures that are text are compressed',
        headers: { 'accept-encoding': 'gzip' },
        answer: { status: 200, fields: 'content-type: image/svg+xml\r\n', body: LONG },
        expect: { status: 200, headers: { 'content-encoding': 'gzip' } },
      },
      {
        title: 'HEAD tells what GET would, without a length',
        method: 'HEAD',
        headers: { 'accept-encoding': 'br' },
        expect: {
          status: 200,
          body: '',
          headers: { 'content-encoding': 'br', 'content-length': undefined, vary: 'accept-encoding' },
        },
      },
      {
        title: '304 has the tag of what was compressed',
        headers: { 'accept-encoding': 'gzip', 'if-none-match': 'W/"v1"' },
        answer: { status: 304, fields: 'etag: "v1"\r\n', body: '' },
        expect: { status: 304, headers: { etag: 'W/"v1"', 'content-encoding': undefined } },
      },
      {
        title: 'an empty body stays empty',
        headers: { 'accept-encoding': 'gzip' },
        answer: { status: 200, body: '' },
        expect: { status: 200, body: '', headers: { 'content-encoding': undefined } },
      },
      {
        title: 'an error of the upstream is compressed like anything',
        headers: { 'accept-encoding': 'gzip' },
        answer: { status: 500, fields: 'content-type: text/plain\r\n', body: LONG },
        expect: { status: 500, headers: { 'content-encoding': 'gzip' } },
      },
    ],
  },
  {
    name: 'order',
    policy: `
on_http_response:
  - actions: [{ type: compress-response, config: { algorithms: [br, gzip, compress] } }]
`,
    steps: [
      {
        title: 'between equals the policy decides',
        headers: { 'accept-encoding': 'gzip, deflate, br' },
        expect: { status: 200, headers: { 'content-encoding': 'br' } },
      },
      {
        title: 'what the policy does not name is not used',
        headers: { 'accept-encoding': 'deflate' },
        expect: { status: 200, headers: { 'content-encoding': undefined } },
      },
    ],
  },
  {
    name: 'twice',
    endpoints: `  - name: inner
    url: https://inner.internal
    upstream: { url: UPSTREAM }
    traffic_policy:
      on_http_response:
        - actions: [{ type: compress-response }]
`,
    policy: `
on_http_request:
  - actions: [{ type: forward-internal, config: { url: https://inner.internal } }]
on_http_response:
  - actions:
      - { type: response-body-find-replace, config: { replacements: [{ from: fox, to: cat }] } }
      - type: compress-response
`,
    steps: [
      {
        title: 'an outer endpoint finds and replaces in what an inner one compresses, and it is compressed once',
        headers: { 'accept-encoding': 'gzip' },
        answer: { status: 200, fields: 'content-type: text/plain\r\n', body: 'fox and fox' },
        expect: {
          status: 200,
          headers: { 'content-encoding': 'gzip' },
          decoded: (body) => expect(gunzipSync(body).toString()).toBe('cat and cat'),
        },
      },
    ],
  },
])
