/** H-10: Max-Forwards of OPTIONS. Source: RFC 9110 §7.6.2. */
import { describe, expect, it } from 'vitest'
import { gatewayWith } from './memory-gateway.ts'

const forwards = (value: string): string => `max-forwards: ${value}\r\n`

describe('H-10: Max-Forwards', () => {
  it('OPTIONS with none left is answered here, behind the policy', async () => {
    const gateway = await gatewayWith('on_http_request: []')
    const exchange = gateway.request({ method: 'OPTIONS', fields: forwards('0') })
    const { head, body } = exchange.last('respond')
    expect(head).toMatch(/^HTTP\/1\.1 200 /)
    expect(head).toContain('\r\nallow: GET, HEAD, ')
    expect(body).toBe('')
    const strict = await gatewayWith('on_http_request: [{ actions: [{ type: deny, config: { status_code: 403 } }] }]')
    const denied = strict.request({ method: 'OPTIONS', fields: forwards('0') })
    expect(denied.last('respond').head).toMatch(/^HTTP\/1\.1 403 /)
  })

  it.each([
    ['OPTIONS', '1', '0'],
    ['OPTIONS', '10', '9'],
    ['OPTIONS', '000', undefined],
    ['OPTIONS', 'many', 'many'],
    ['OPTIONS', '-1', '-1'],
    ['GET', '0', '0'],
    ['GET', '3', '3'],
  ])('%s with %s goes on with %s', async (method, sent, arrives) => {
    const gateway = await gatewayWith('on_http_request: []')
    const exchange = gateway.request({ method, fields: `x-max-forwards: 5\r\n${forwards(sent)}` })
    if (arrives === undefined) {
      expect(exchange.last('respond').head).toMatch(/^HTTP\/1\.1 200 /)
      return
    }
    const { head } = exchange.last('forward')
    expect(head).toContain(`\r\nmax-forwards: ${arrives}\r\n`)
    expect(head).toContain('\r\nx-max-forwards: 5\r\n')
  })
})
