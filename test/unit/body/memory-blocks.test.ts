import { expect, test } from 'vitest'
import { MemoryBlocks } from '../../../src/body/memory-blocks.ts'

test('a block is used again once it was given back, by what fits into it', () => {
  const blocks = new MemoryBlocks((bytes) => new ArrayBuffer(bytes))
  const small = blocks.take(1)
  const large = blocks.take(300_000)
  expect(small.byteLength).toBe(131_072)
  expect(large.byteLength).toBe(524_288)
  expect(blocks.take(1)).not.toBe(small)
  blocks.give(small)
  blocks.give(large)
  expect(blocks.take(524_288)).toBe(large)
  expect(blocks.take(131_072)).toBe(small)
  expect(blocks.spareBytes).toBe(0)
})

test('what is kept is bounded, and very large blocks are not kept', () => {
  const blocks = new MemoryBlocks((bytes) => ({ byteLength: bytes }))
  const taken = Array.from({ length: 100 }, () => blocks.take(500_000))
  for (const block of taken) blocks.give(block)
  expect(blocks.spareBytes).toBe(4 * 1024 * 1024)
  const huge = blocks.take(10_000_000)
  expect(huge.byteLength).toBe(10_000_000)
  blocks.give(huge)
  expect(blocks.take(10_000_000)).not.toBe(huge)
})
