import { describe, expect, it } from 'vitest'
import { inCidr, parseAddress, parseCidr } from '../../../src/exchange/cidr.ts'
import { clientAddress } from '../../../src/exchange/client-address.ts'
import { MessageHead } from '../../../src/exchange/message-head.ts'
import type { Peer } from '../../../src/listener/front-end.ts'

describe('addresses and ranges', () => {
  for (const [address, range, inside] of [
    ['10.1.2.3', '10.0.0.0/8', true],
    ['11.1.2.3', '10.0.0.0/8', false],
    ['66.249.66.9', '66.249.66.1/24', true],
    ['192.168.1.1', '192.168.1.1', true],
    ['192.168.1.2', '192.168.1.1', false],
    ['192.168.1.2', '192.168.1.2/32', true],
    ['192.168.1.129', '192.168.1.128/25', true],
    ['192.168.1.127', '192.168.1.128/25', false],
    ['2001:db8::1', '2001:db8::/32', true],
    ['2001:db9::1', '2001:db8::/32', false],
    ['::ffff:10.1.2.3', '10.0.0.0/8', true],
    ['10.1.2.3', '::/0', true],
    ['2001:db8::1', '0.0.0.0/0', false],
    ['::1', '::1', true],
    ['1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7:8/128', true],
  ] as const) {
    it(`${address} is ${inside ? '' : 'not '}in ${range}`, () => {
      expect(inCidr(parseAddress(address)!, parseCidr(range)!)).toBe(inside)
    })
  }

  for (const text of [
    '',
    '10.0.0',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '::/129',
    'example.com',
    '10.0.0.0/8/8',
    'fe80::1%eth0',
  ]) {
    it(`${JSON.stringify(text)} is no range`, () => expect(parseCidr(text)).toBeNull())
  }
})

/** O-71: the right-most address that no trusted proxy accounts for. */
describe('O-71: the client address', () => {
  const trusted = [parseCidr('10.0.0.0/8')!, parseCidr('2001:db8::/32')!]
  const from = (address: string, proxied?: string): Peer => ({
    address,
    port: 1234,
    localAddress: '127.0.0.1',
    localPort: 80,
    ...(proxied === undefined ? {} : { proxiedAddress: proxied, proxiedPort: 99 }),
  })

  for (const [name, peer, lists, expected] of [
    ['an untrusted peer is the client', from('203.0.113.9'), ['198.51.100.1'], '203.0.113.9'],
    ['no header', from('10.0.0.1'), [], '10.0.0.1'],
    ['one hop', from('10.0.0.1'), ['198.51.100.1'], '198.51.100.1'],
    ['the right-most untrusted one', from('10.0.0.1'), ['1.1.1.1, 198.51.100.1, 10.0.0.7'], '198.51.100.1'],
    ['a spoofed left part is not believed', from('10.0.0.1'), ['10.0.0.9, 198.51.100.1'], '198.51.100.1'],
    ['all trusted: the left-most', from('10.0.0.1'), ['10.0.0.3, 10.0.0.2'], '10.0.0.3'],
    ['several lines are one list', from('10.0.0.1'), ['1.1.1.1', '198.51.100.1, 10.0.0.2'], '198.51.100.1'],
    ['a malformed entry ends the walk', from('10.0.0.1'), ['198.51.100.1, nonsense, 10.0.0.2'], '10.0.0.2'],
    ['an empty entry ends the walk', from('10.0.0.1'), ['198.51.100.1, , 10.0.0.2'], '10.0.0.2'],
    ['a port is accepted', from('10.0.0.1'), ['198.51.100.1:4711'], '198.51.100.1'],
    ['brackets are accepted', from('10.0.0.1'), ['[2001:DB9::1]:443'], '2001:db9::1'],
    ['quotes are accepted', from('10.0.0.1'), ['"[2001:db9::2]"'], '2001:db9::2'],
    ['bare IPv6', from('10.0.0.1'), ['2001:db9::3'], '2001:db9::3'],
    ['IPv6 peers are trusted too', from('2001:db8::5'), ['198.51.100.2'], '198.51.100.2'],
    ['an unknown node ends the walk', from('10.0.0.1'), ['198.51.100.1, unknown'], '10.0.0.1'],
    ['an out-of-range octet ends the walk', from('10.0.0.1'), ['300.1.1.1'], '10.0.0.1'],
    ['a host name ends the walk', from('10.0.0.1'), ['client.example'], '10.0.0.1'],
    ['PROXY first', from('10.0.0.1', '198.51.100.7'), ['1.1.1.1'], '198.51.100.7'],
    ['PROXY of a trusted proxy, then the header', from('10.0.0.1', '10.0.0.9'), ['198.51.100.8'], '198.51.100.8'],
    ['PROXY from an untrusted peer is not believed', from('203.0.113.9', '198.51.100.7'), [], '203.0.113.9'],
  ] as const) {
    it(name, () => {
      const lines = lists.map((value) => `x-forwarded-for: ${value}\r\n`).join('')
      const head = new MessageHead(`GET / HTTP/1.1\r\nhost: h\r\n${lines}`)
      expect(clientAddress(peer, head, trusted).address).toBe(expected)
    })
  }
})
