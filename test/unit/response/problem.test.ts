import { describe, expect, it } from 'vitest'
import { ERRORS, type ErrorEntry, GatewayError } from '../../../src/response/gateway-error.ts'
import { errorAnswer, toGatewayError } from '../../../src/response/problem.ts'

const JSON_TYPE = 'application/problem+json'

describe('§8.1: the form of an error answer follows Accept', () => {
  for (const [accept, type] of [
    ['', 'text/html'],
    ['*/*', 'text/html'],
    ['text/html,application/xhtml+xml,*/*;q=0.8', 'text/html'],
    ['application/json', JSON_TYPE],
    ['application/problem+json', JSON_TYPE],
    ['application/json, text/plain, */*', JSON_TYPE],
    ['application/json, text/html', 'text/html'],
    ['text/html;q=0, application/json', JSON_TYPE],
    ['text/plain', 'text/plain'],
    ['text/*', 'text/plain'],
    ['image/png', 'text/html'],
    ['application/vnd.api+json', JSON_TYPE],
  ] as const) {
    it(`${accept === '' ? 'none' : accept} → ${type}`, () => {
      const { lines } = errorAnswer(new GatewayError('JWT_MISSING'), accept, 'id')
      expect(lines).toContain(`content-type: ${type}`)
    })
  }
})

describe('O-73: what an error answer says', () => {
  it('carries both codes, the id and no-store', () => {
    const answer = errorAnswer(new GatewayError('WAF_REQUEST_BLOCKED'), 'application/json', 'req-1')
    expect(answer.status).toBe(403)
    expect(answer.lines).toContain('ngrok-error-code: ERR_NGROK_3700\r\n')
    expect(answer.lines).toContain('sallyport-error-code: ERR_GW_1040\r\n')
    expect(answer.lines).toContain('cache-control: no-store\r\n')
    expect(JSON.parse(answer.body)).toMatchObject({ status: 403, error_code: 'ERR_NGROK_3700', request_id: 'req-1' })
  })

  it('the page names the code', () => {
    expect(errorAnswer(new GatewayError('JWT_MISSING'), 'text/html', 'id').body).toContain('(ERR_NGROK_3401)')
  })

  it('an unknown exception is 500 without detail', () => {
    const answer = errorAnswer(toGatewayError(new Error('password is hunter2')), 'text/plain', 'id')
    expect(answer.status).toBe(500)
    expect(answer.body).not.toContain('hunter2')
  })

  it('extra lines go along', () => {
    expect(errorAnswer(new GatewayError('RATE_LIMITED', { lines: 'retry-after: 7\r\n' }), '', 'id').lines).toContain(
      'retry-after: 7\r\n',
    )
  })
})

describe('the table of errors', () => {
  const entries: [string, ErrorEntry][] = Object.entries(ERRORS)

  it('gives every code a number of its own', () => {
    expect(new Set(entries.map(([, entry]) => entry.gw)).size).toBe(entries.length)
  })

  for (const [code, entry] of entries) {
    it(`${code} has an error status and a sentence`, () => {
      expect(entry.status).toBeGreaterThanOrEqual(400)
      expect(entry.status).toBeLessThan(600)
      expect(entry.message).toMatch(/^[A-Z].*\.$/)
    })
  }
})
