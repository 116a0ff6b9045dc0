/** Where redirects of a server lead that was asked under another host (H-54). */
import { describe, expect, it } from 'vitest'
import { gatewayWith } from './memory-gateway.ts'

const REWRITTEN = 'on_http_request: [{actions: [{type: add-headers, config: {headers: {host: "Inner.test:9000"}}}]}]'

async function answered(policy: string, fields: string, host = 'shop.example.com:8080'): Promise<string> {
  const gateway = await gatewayWith(policy)
  const exchange = gateway.request({ host })
  exchange.answers(302, fields)
  return exchange.last('continue').head
}

describe('H-54: Location and Content-Location of a server whose Host was rewritten', () => {
  it.each([
    ['location: http://inner.test:9000/a?b#c\r\n', 'location: http://shop.example.com:8080/a?b#c\r\n'],
    ['location: HTTP://INNER.test:9000\r\n', 'location: http://shop.example.com:8080\r\n'],
    ['content-location: http://inner.test:9000/a\r\n', 'content-location: http://shop.example.com:8080/a\r\n'],
  ])('%s points at what the client asked for', async (fields, told) => {
    expect(await answered(REWRITTEN, fields)).toContain(told)
  })

  it.each([
    'location: https://inner.test:9000/secure\r\n',
    'location: http://inner.test/other-port\r\n',
    'location: http://other.test:9000/\r\n',
    'location: http://inner.test:9000.evil.test/\r\n',
    'location: //inner.test:9000/a\r\n',
    'location: /a\r\n',
    'location: http://inner.test:9000/a\r\nlocation: /b\r\n',
  ])('%s stays', async (fields) => {
    expect(await answered(REWRITTEN, fields)).toContain(fields)
  })

  it('stays where the Host went up as it came', async () => {
    const fields = 'location: http://shop.example.com:8080/a\r\n'
    expect(await answered('on_http_request: []', fields)).toContain(fields)
  })

  it('so does a rewritten url; rules of the response see what the client will', async () => {
    const policy = `
on_http_request: [{actions: [{type: url-rewrite, config: {from: '.*', to: 'http://inner.test:9000/x'}}]}]
on_http_response:
  - expressions: ["res.headers['location'][0].startsWith('http://shop.example.com:8080/')"]
    actions: [{type: add-headers, config: {headers: {x-seen: yes}}}]
`
    const head = await answered(policy, 'location: http://inner.test:9000/a\r\n')
    expect(head).toContain('location: http://shop.example.com:8080/a\r\n')
    expect(head).toContain('x-seen: yes\r\n')
  })
})
