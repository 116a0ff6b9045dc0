/** What the rule matcher is given of a request: the head as it was sent (seclang.md §4.2). */
import { expect, it } from 'vitest'
import { MessageHead } from '../../../src/exchange/message-head.ts'
import { receivedHead } from '../../../src/waf/scan.ts'

const head = new MessageHead('GET /a HTTP/1.1\r\nhost: h\r\nx-a: 1\r\n')

it('the head with the lines that do not travel', () => {
  expect(receivedHead(head, '')).toBe(head.text)
  expect(receivedHead(head, 'content-length: 5\r\n')).toBe(`${head.text}content-length: 5\r\n`)
})

it('the request line as it was sent, where it was made another', () => {
  expect(receivedHead(head, '(request-line): GET http://h/a HTTP/1.0\r\nconnection: close\r\n')).toBe(
    'GET http://h/a HTTP/1.0\r\nhost: h\r\nx-a: 1\r\nconnection: close\r\n',
  )
})
