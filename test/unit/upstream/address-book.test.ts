/** Names of upstreams against a real name server: TTLs, changes, outages. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { AddressBook } from '../../../src/upstream/address-book.ts'
import { type NameServer, startNameServer } from '../../support/name-server.ts'

let server: NameServer
let book: AddressBook
const changes: (readonly string[])[] = []
const failures: string[] = []

beforeEach(async () => {
  server = await startNameServer()
  server.names.set('users.test', { addresses: ['127.0.0.2'], ttlSeconds: 1 })
  changes.length = failures.length = 0
  book = new AddressBook({
    servers: [server.address],
    minTtlMs: 300,
    onChange: (_name, addresses) => changes.push(addresses),
    onFailure: (name) => failures.push(name),
  })
})
afterEach(async () => {
  book.close()
  await server.close()
})

describe('F-09 names are looked up again when their TTL is over', () => {
  test('a watched name follows what the server says; nobody has to ask', async () => {
    await book.watch(['users.test'])
    expect(book.known('users.test')).toEqual(['127.0.0.2'])
    const { version } = book
    server.names.set('users.test', { addresses: ['127.0.0.3', '127.0.0.4'], ttlSeconds: 60 })
    // within its TTL the old answer holds
    expect(book.find('users.test')).toEqual(['127.0.0.2'])
    await expect.poll(() => book.known('users.test'), { timeout: 10_000 }).toEqual(['127.0.0.3', '127.0.0.4'])
    expect(book.version).toBeGreaterThan(version)
    expect(changes.at(-1)).toEqual(['127.0.0.3', '127.0.0.4'])
    // a long TTL is believed
    const { asked } = server
    await new Promise((resolve) => {
      setTimeout(resolve, 1200)
    })
    expect(server.asked).toBe(asked)
  })

  test('while the server is silent, or denies the name, the old addresses stay in use; then it is asked again', async () => {
    await book.watch(['users.test'])
    server.isSilent = true
    await expect.poll(() => failures, { timeout: 20_000 }).toEqual(['users.test'])
    expect(book.find('users.test')).toEqual(['127.0.0.2'])
    server.isSilent = false
    server.names.delete('users.test')
    const { asked } = server
    await expect.poll(() => server.asked, { timeout: 20_000 }).toBeGreaterThan(asked + 1)
    expect(book.find('users.test')).toEqual(['127.0.0.2'])
    server.names.set('users.test', { addresses: ['127.0.0.5'], ttlSeconds: 1 })
    await expect.poll(() => book.known('users.test'), { timeout: 20_000 }).toEqual(['127.0.0.5'])
    // told once for the whole outage
    expect(failures).toEqual(['users.test'])
  }, 60_000)

  test('a TTL of 0 counts as the least, one that is too long as the most', async () => {
    server.names.set('zero.test', { addresses: ['127.0.0.2'], ttlSeconds: 0 })
    server.names.set('long.test', { addresses: ['127.0.0.2'], ttlSeconds: 86_400 })
    let nowMs = 0
    const timed = new AddressBook({
      servers: [server.address],
      minTtlMs: 2_000,
      maxTtlMs: 5_000,
      nowMs: () => nowMs,
    })
    for (const [name, ms] of [
      ['zero.test', 2_000],
      ['long.test', 5_000],
    ] as const) {
      nowMs = 0
      await timed.find(name)
      const before = server.asked
      nowMs = ms - 1
      expect(timed.find(name)).toEqual(['127.0.0.2'])
      nowMs = ms
      expect(timed.find(name)).toEqual(['127.0.0.2'])
      await expect.poll(() => server.asked).toBe(before + 1)
    }
  })

  test('a name that does not exist is an error for whoever asks', async () => {
    await expect(book.find('none.test')).rejects.toThrow('ENOTFOUND')
  })
})
