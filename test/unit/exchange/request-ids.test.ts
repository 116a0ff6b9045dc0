import { describe, expect, it } from 'vitest'
import { isRequestId, newRequestId, newTrace, traceContext } from '../../../src/exchange/request-ids.ts'

describe('O-67: request ids', () => {
  it('are UUIDv7: time first, version 7, right variant, never twice', () => {
    const ids = Array.from({ length: 2000 }, () => newRequestId(1_700_000_000_000))
    for (const id of ids) expect(id).toMatch(/^018bcfe5-6800-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('sort by time', () => expect(newRequestId(1000) < newRequestId(2_000_000)).toBe(true))

  for (const [value, kept] of [
    ['abc-123_~+/=.', true],
    ['', false],
    ['a'.repeat(128), true],
    ['a'.repeat(129), false],
    ['with blank', false],
    ['line\r\nbreak', false],
    ['<script>', false],
  ] as const) {
    it(`${JSON.stringify(value.slice(0, 20))} is ${kept ? 'kept' : 'replaced'}`, () =>
      expect(isRequestId(value)).toBe(kept))
  }
})

describe('O-68: trace context', () => {
  const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
  const SPAN = '00f067aa0ba902b7'

  it('a valid one keeps trace id and flags and gets a new span id', () => {
    const context = traceContext([`00-${TRACE}-${SPAN}-01`])
    expect(context.continued).toBe(true)
    expect(context.traceId).toBe(TRACE)
    expect(context.traceparent).toMatch(new RegExp(`^00-${TRACE}-[0-9a-f]{16}-01$`))
    expect(context.traceparent).not.toContain(SPAN)
  })

  it('a later version is read as version 00', () => {
    expect(traceContext([`cc-${TRACE}-${SPAN}-01-what-the-future-holds`]).traceparent).toMatch(/^00-/)
  })

  for (const [name, lines] of [
    ['none', []],
    ['two lines', [`00-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-01`]],
    ['zero trace id', [`00-${'0'.repeat(32)}-${SPAN}-01`]],
    ['zero span id', [`00-${TRACE}-${'0'.repeat(16)}-01`]],
    ['version ff', [`ff-${TRACE}-${SPAN}-01`]],
    ['upper case', [`00-${TRACE.toUpperCase()}-${SPAN}-01`]],
    ['trailing text in version 00', [`00-${TRACE}-${SPAN}-01-x`]],
    ['nonsense', ['garbage']],
  ] as const) {
    it(`${name}: a new trace`, () => {
      const context = traceContext([...lines])
      expect(context.continued).toBe(false)
      expect(context.traceId).not.toBe(TRACE)
      expect(context.traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
    })
  }
})

it('O-68: new traces have a form, an id of their own, and a span of their own', () => {
  const count = 1200
  const traces = Array.from({ length: count }, () => newTrace())
  for (const { traceId, traceparent, continued } of traces) {
    expect(traceparent).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
    expect(traceparent.slice(3, 35)).toBe(traceId)
    expect(continued).toBe(false)
  }
  expect(new Set(traces.map(({ traceId }) => traceId)).size).toBe(count)
  expect(new Set(traces.map(({ traceparent }) => traceparent.slice(36, 52))).size).toBe(count)
})
