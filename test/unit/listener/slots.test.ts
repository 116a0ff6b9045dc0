import { expect, test } from 'vitest'
import { HANDLE_SLOT_MASK } from '../../../src/listener/front-end.ts'
import { SlotTable } from '../../../src/listener/slots.ts'

const create = (slot: number): { slot: number; generation: number; handle: number } => ({
  slot,
  generation: 0,
  handle: 0,
})

test('handles are never 0, never equal, and stale after release', () => {
  const table = new SlotTable(create)
  const seen = new Set<number>()
  let stale = 0
  for (let round = 0; round < 5_000; round++) {
    const item = table.acquire()!
    const { handle } = item
    expect(handle).not.toBe(0)
    expect(handle % (HANDLE_SLOT_MASK + 1)).toBe(item.slot * 2)
    expect(seen.has(handle)).toBe(false)
    seen.add(handle)
    expect(table.find(handle)).toBe(item)
    expect(table.find(stale)).toBeUndefined()
    table.release(item)
    expect(table.find(handle)).toBeUndefined()
    stale = handle
  }
  expect(table.inUse).toBe(0)
})

test('handles beyond 32 bits are told apart', () => {
  const table = new SlotTable(create)
  const item = table.acquire()!
  table.release(item)
  item.generation = 2 ** 20
  const first = table.acquire()!.handle
  expect(first).toBeGreaterThan(2 ** 32)
  table.release(item)
  item.generation = 2 ** 21 - 1
  const second = table.acquire()!.handle
  expect(second & HANDLE_SLOT_MASK).toBe(first & HANDLE_SLOT_MASK)
  expect(table.find(first)).toBeUndefined()
  expect(table.find(second)).toBe(item)
})

test('the capacity is a bound; a release makes room; releasing twice does nothing', () => {
  const table = new SlotTable(create, 2)
  const one = table.acquire()!
  const two = table.acquire()!
  expect(table.acquire()).toBeUndefined()
  table.release(one)
  table.release(one)
  expect(table.inUse).toBe(1)
  expect([...table.live()]).toEqual([two])
  expect(table.acquire()).toBe(one)
  expect(table.acquire()).toBeUndefined()
})
