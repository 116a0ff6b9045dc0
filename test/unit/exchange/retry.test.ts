/** H-70, H-71: which failed upstream legs are tried again, where, and how often. */
import { describe, expect, it } from 'vitest'
import type { UpstreamFailure, UpstreamFailureReason } from '../../../src/listener/front-end.ts'
import { gatewayWith, type MemoryExchange, type MemoryGateway } from './memory-gateway.ts'

const NOTHING = 'on_http_request: []'

function gateway(settings = ''): Promise<MemoryGateway> {
  return gatewayWith(NOTHING, { settings })
}

function forwards(exchange: MemoryExchange): number {
  return exchange.calls.filter((call) => call.kind === 'forward').length
}

type Row = readonly [method: string, reason: UpstreamFailureReason, more: Partial<UpstreamFailure>, repeated: boolean]

/** H-70, row by row. */
const TABLE: readonly Row[] = [
  // known not to have been processed: any method
  ...(['GET', 'POST', 'PATCH'] as const).flatMap((method): Row[] => [
    [method, 'connect_failed', {}, true],
    [method, 'connect_timeout', {}, true],
    [method, 'tls_failed', {}, true],
    [method, 'upstream_reset', { notProcessed: true }, true],
  ]),
  // processed perhaps: methods that may be repeated
  ...['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'].map((method): Row => [method, 'upstream_reset', {}, true]),
  ...['POST', 'PATCH', 'CONNECT', 'get', 'X'].map((method): Row => [method, 'upstream_reset', {}, false]),
  // never
  ['GET', 'upstream_bad_response', {}, false],
  ['GET', 'first_byte_timeout', {}, false],
  ['GET', 'idle_timeout', {}, false],
  ['GET', 'overflow', {}, false],
  // H-71: only with the body at hand
  ['PUT', 'connect_failed', { bodyConsumed: true }, false],
  ['GET', 'upstream_reset', { bodyConsumed: true, notProcessed: true }, false],
]

describe('H-70: safe to repeat', () => {
  it.each(TABLE)('%s after %s %o: %s', async (method, reason, more, repeated) => {
    const exchange = (await gateway()).request({ method })
    exchange.fails(reason, more)
    expect(forwards(exchange)).toBe(repeated ? 2 : 1)
    if (!repeated) expect([502, 503, 504]).toContain(exchange.status)
  })

  it('Idempotency-Key makes a POST repeatable', async () => {
    const exchange = (await gateway()).request({ method: 'POST', fields: 'idempotency-key: 7\r\n' })
    exchange.fails('upstream_reset')
    expect(forwards(exchange)).toBe(2)
  })
})

describe('H-71: how often, and where', () => {
  it('once by default, with the same head', async () => {
    const exchange = (await gateway()).request()
    const { head } = exchange.last('forward')
    exchange.fails('connect_failed')
    expect(exchange.last('forward').head).toBe(head)
    exchange.fails('connect_failed')
    expect(exchange.status).toBe(502)
  })

  it.each([
    [0, 1],
    [3, 4],
  ])('upstream.retries: %i gives %i attempts', async (retries, attempts) => {
    const exchange = (await gateway(`upstream: {retries: ${retries}}`)).request()
    for (let index = 0; index < attempts; index++) exchange.fails('connect_failed')
    expect(forwards(exchange)).toBe(attempts)
    expect(exchange.status).toBe(502)
  })

  it('at a different target, if there is one', async () => {
    const several = await gatewayWith(
      'on_http_request: [{actions: [{type: forward-internal, config: {url: "https://pair.internal"}}]}]',
      {
        settings: 'upstream_hosts: {"pair.local:80": ["127.0.0.1:9001", "127.0.0.1:9002"]}',
        endpoints: '  - {name: pair, url: "https://pair.internal", upstream: {url: "http://pair.local:80"}}',
      },
    )
    for (let turn = 0; turn < 3; turn++) {
      const exchange = several.request()
      const first = exchange.last('forward').target.port
      exchange.fails('connect_failed')
      expect(exchange.last('forward').target.port).toBe(first === 9001 ? 9002 : 9001)
    }
  })
})
