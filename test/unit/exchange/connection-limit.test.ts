/** The kernel's table of connections, and who of it counts. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { ConnectionLimit, countByAddress } from '../../../src/exchange/connection-limit.ts'

const HEAD = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n'
const line = (local: string, remote: string, state: string): string =>
  `   0: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 12345 1 0000000000000000 20 4 30 10 -1\n`

/** 127.0.0.1:8080 and so on, as proc(5) writes them. */
const HERE = '0100007F:1F90'
const HERE_MAPPED = '0000000000000000FFFF00000100007F:1F90'

const folder = mkdtempSync(join(tmpdir(), 'sallyport-connections-'))
afterAll(() => rmSync(folder, { recursive: true }))

describe('T-22 counting', () => {
  test('established connections to our ports, IPv4 in both tables and IPv6', () => {
    const tcp =
      HEAD +
      line('00000000:1F90', '00000000:0000', '0A') +
      line(HERE, '0200000A:C350', '01') +
      line(HERE, '0200000A:C351', '08') +
      line(HERE, '0200000A:C352', '06') +
      line('0100007F:1F91', '0200000A:C353', '01')
    const tcp6 =
      HEAD +
      line(HERE_MAPPED, '0000000000000000FFFF00000200000A:C354', '01') +
      line(HERE_MAPPED, 'B80D0120000000000000000001000000:C355', '01')
    expect([...countByAddress([tcp, tcp6], new Set([8080]))]).toEqual([
      ['10.0.0.2', 3],
      ['2001:db8::1', 1],
    ])
    expect(countByAddress(['', HEAD], new Set([8080])).size).toBe(0)
  })

  test('between two counts what comes is added; refusals are told once in a while', async () => {
    const table = join(folder, 'tcp')
    writeFileSync(table, HEAD + line(HERE, '0200000A:C350', '01') + line(HERE, '0300000A:C350', '01'))
    const told: unknown[] = []
    const limit = new ConnectionLimit((facts) => told.push(facts), [table, join(folder, 'none')])
    const limits = { connections: 0, connectionsPerAddress: 3 }
    const ask = (address: string): boolean => limit.allows(address, false, 1, new Set([8080]), limits)
    // asks for the count, whose result comes later
    expect(limit.allows('10.0.0.9', false, 1, new Set([8080]), limits)).toBe(true)
    await new Promise((resolve) => {
      setTimeout(resolve, 100)
    })
    expect([ask('10.0.0.2'), ask('10.0.0.2'), ask('10.0.0.2'), ask('10.0.0.2')]).toEqual([true, true, false, false])
    expect([ask('10.0.0.3'), ask('10.0.0.3'), ask('10.0.0.3')]).toEqual([true, true, false])
    expect(limit.allows('10.0.0.2', true, 1, new Set([8080]), limits)).toBe(true)
    expect(told).toEqual([{ client_ip: '10.0.0.2', limit: 'limits.connections_per_address', refused: 1 }])
  })

  test('0 is no limit', () => {
    const limit = new ConnectionLimit(() => undefined, [])
    const none = { connections: 0, connectionsPerAddress: 0 }
    expect(limit.allows('10.0.0.2', false, 1_000_000, new Set([8080]), none)).toBe(true)
    expect(limit.allows('10.0.0.2', false, 11, new Set([8080]), { ...none, connections: 10 })).toBe(false)
  })
})
