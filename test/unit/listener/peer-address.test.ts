import { expect, test } from 'vitest'
import { addressText } from '../../../src/listener/peer-address.ts'

const v6 = (...groups: number[]): Uint8Array => new Uint8Array(groups.flatMap((group) => [group >> 8, group & 0xff]))

test.each([
  [new Uint8Array([127, 0, 0, 1]), '127.0.0.1'],
  [v6(0, 0, 0, 0, 0, 0, 0, 1), '::1'],
  [v6(0, 0, 0, 0, 0, 0, 0, 0), '::'],
  [v6(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), '2001:db8::1'],
  [v6(0x2001, 0xdb8, 0, 0, 1, 0, 0, 1), '2001:db8::1:0:0:1'],
  [v6(0x2001, 0xdb8, 0, 1, 1, 1, 1, 1), '2001:db8:0:1:1:1:1:1'],
  [v6(0xfe80, 0, 0, 0, 0xabcd, 0, 0, 0), 'fe80::abcd:0:0:0'],
  [v6(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201), '192.0.2.1'],
  [new Uint8Array(0), ''],
])('RFC 5952 %#', (bytes, text) => {
  expect(addressText(bytes)).toBe(text)
})
