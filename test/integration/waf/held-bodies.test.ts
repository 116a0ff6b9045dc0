/**
 * Bodies in native memory, asked for by their front end's own calls: what the gateway above it never lets happen, too.
 *
 * Engine: native, and in every run.
 */
import { afterEach, beforeAll, expect, it } from 'vitest'
import type { ExchangeHandle, HeldBodies, HeldRequestScan } from '../../../src/listener/front-end.ts'
import { NativeFrontEnd } from '../../../src/listener/native/native-front-end.ts'
import {
  createProfile,
  endTransaction,
  loadRuleSet,
  openTransactions,
  scanFlags,
  SCAN_INTERRUPTED,
  scanTransaction,
} from '../../../src/native/rule-set.ts'
import { AddressBook } from '../../../src/upstream/address-book.ts'
import { openRaw } from '../../support/raw-client.ts'
import { pause } from '../../support/start-gateway.ts'
import { PlainEvents, WIRE_LIMITS } from '../../support/wire-gateway.ts'

const HEAD = 'POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/x-www-form-urlencoded\r\n'

class HoldingEvents extends PlainEvents {
  held: ((handle: ExchangeHandle, bytes: number, complete: boolean) => void) | undefined

  override onRequest(handle: ExchangeHandle): void {
    this.frontEnd.heldBodies!(handle)!.holdRequestBody(handle, 1024 * 1024)
  }
  onRequestHeld(handle: ExchangeHandle, bytes: number, complete: boolean): void {
    this.held?.(handle, bytes, complete)
  }
}

let profile = 0
let frontEnd: NativeFrontEnd
let events: HoldingEvents

beforeAll(async () => {
  const text = 'SecRuleEngine On\nSecRequestBodyAccess On\nSecRule ARGS:a "@contains attack" "id:7,phase:2,deny"\n'
  const ruleSet = await loadRuleSet({ files: [{ path: 'own.conf', text }], data: [], leftOut: [] })
  profile = createProfile(ruleSet, {
    excludeRuleIds: [],
    requestBodyAccess: true,
    responseBodyAccess: true,
    requestBodyLimit: 2 ** 20,
    responseBodyLimit: 2 ** 20,
    paranoiaLevel: 1,
    inboundThreshold: 5,
    outboundThreshold: 4,
  })
})

afterEach(async () => {
  await frontEnd.close()
})

const scanOf = (threadThresholdBytes: number): HeldRequestScan => ({
  profile,
  client: '192.0.2.7 1 192.0.2.1 80',
  requestId: 'request-1',
  head: HEAD,
  isLast: false,
  threadThresholdBytes,
})

/** A front end that holds the body of one request. */
async function hold(body: string) {
  events = new HoldingEvents()
  frontEnd = new NativeFrontEnd({
    events,
    limits: WIRE_LIMITS,
    addressBook: new AddressBook(),
    report: (error) => {
      throw error
    },
  })
  events.frontEnd = frontEnd
  await frontEnd.listen({ id: 1, host: '127.0.0.1', port: 0, proxyProtocol: false })
  const isHeld = new Promise<readonly [ExchangeHandle, number, boolean]>((resolve) => {
    events.held = (...facts) => resolve(facts)
  })
  const connection = await openRaw(frontEnd.portOf(1))
  connection.send(`POST / HTTP/1.1\r\nHost: h\r\nContent-Length: ${body.length}\r\n\r\n${body}`)
  const [handle, bytes, complete] = await isHeld
  expect([bytes, complete]).toEqual([body.length, true])
  const bodies: HeldBodies = frontEnd.heldBodies(handle)!
  return { connection, handle, bodies }
}

async function noneIsOpen(): Promise<void> {
  // oxlint-disable-next-line no-await-in-loop -- polling
  for (const until = performance.now() + 5000; performance.now() < until && openTransactions() > 0;) await pause(10)
  expect(openTransactions()).toBe(0)
}

it('the loop and a thread find the same, and leave the body as it was', async () => {
  const body = `a=${'x'.repeat(50_000)}+attack`
  const { connection, handle, bodies } = await hold(body)
  const atOnce = bodies.scanRequest(handle, scanOf(body.length))
  expect(atOnce).toBeTypeOf('number')
  const later = bodies.scanRequest(handle, scanOf(body.length - 1))
  expect(later).toBeInstanceOf(Promise)
  for (const answer of [atOnce as number, await later]) {
    expect(scanFlags(answer) & SCAN_INTERRUPTED).toBe(SCAN_INTERRUPTED)
    endTransaction(scanTransaction(answer))
  }
  expect(Buffer.from(bodies.requestBytes(handle)).toString()).toBe(body)
  frontEnd.respond(handle, 'HTTP/1.1 204 No Content\r\n', '')
  expect((await connection.answers(1))[0]?.status).toBe(204)
  // the exchange is over: there is nothing to read, and nothing breaks
  expect(bodies.requestBytes(handle)).toHaveLength(0)
  connection.destroy()
  await noneIsOpen()
})

it('many scans at once, more than may wait: each has its own answer', async () => {
  const { connection, handle, bodies } = await hold(`a=${'x'.repeat(20_000)}`)
  const answers = await Promise.all(Array.from({ length: 600 }, () => bodies.scanRequest(handle, scanOf(0))))
  expect(new Set(answers.map(scanTransaction)).size).toBe(600)
  for (const answer of answers) endTransaction(scanTransaction(answer))
  connection.destroy()
  await noneIsOpen()
})

it('an exchange that ends while a thread has its body: the answer comes all the same', async () => {
  const { connection, handle, bodies } = await hold(`a=${'x'.repeat(500_000)}attack`)
  const later = bodies.scanRequest(handle, scanOf(0))
  frontEnd.abort(handle)
  const answer = await later
  expect(scanFlags(answer) & SCAN_INTERRUPTED).toBe(SCAN_INTERRUPTED)
  endTransaction(scanTransaction(answer))
  connection.destroy()
  await noneIsOpen()
})

it('a front end that closes while threads scan: every scan is settled, and none stays open', async () => {
  const { connection, handle, bodies } = await hold(`a=${'x'.repeat(500_000)}`)
  const scans = Array.from({ length: 20 }, () => bodies.scanRequest(handle, scanOf(0)))
  const closed = frontEnd.close()
  for (const scan of await Promise.allSettled(scans)) {
    if (scan.status === 'fulfilled') endTransaction(scanTransaction(scan.value))
    else expect(String(scan.reason)).toContain('the front end is closed')
  }
  await closed
  connection.destroy()
  await noneIsOpen()
})
