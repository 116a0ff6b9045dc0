import { describe, expect, it } from 'vitest'
import { ByteQueue } from '../../../src/listener/byte-queue.ts'

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const piece = (letter: string, bytes: number): Uint8Array => Buffer.alloc(bytes, letter)

describe('ByteQueue.gather', () => {
  it('makes one piece of what waits and what comes, and copies what is pushed', () => {
    const queue = new ByteQueue()
    const lent = Buffer.from('first ')
    queue.push(lent)
    queue.gather(100)
    lent.fill('x')
    // it was copied when gathering began
    queue.push(Buffer.from('second'))
    expect(text(queue.join())).toBe('first second')
    expect(queue.bytes).toBe(12)
    expect(queue.take().map(text)).toEqual(['first second'])
    expect(queue.bytes).toBe(0)
  })

  it('grows when more comes than was expected', () => {
    const queue = new ByteQueue()
    queue.gather(10)
    let expected = ''
    for (const letter of 'abcdefgh') {
      queue.push(piece(letter, 100_000))
      expected += letter.repeat(100_000)
    }
    expect(queue.bytes).toBe(800_000)
    expect(text(queue.join())).toBe(expected)
    queue.release()
  })

  it('bytes that were shown stay as they are while the queue grows', () => {
    const queue = new ByteQueue()
    queue.gather(10)
    queue.push(piece('a', 100_000))
    const shown = queue.join()
    queue.push(piece('b', 400_000))
    const other = new ByteQueue()
    other.gather(10)
    other.push(piece('c', 100_000))
    expect(text(shown)).toBe('a'.repeat(100_000))
    expect(queue.join().length).toBe(500_000)
    queue.release()
    other.release()
  })

  it('ends when something is taken out: what comes then is a piece of its own', () => {
    const queue = new ByteQueue()
    queue.gather(100)
    queue.push(Buffer.from('gathered'))
    queue.consume(4)
    queue.push(Buffer.from('apart'))
    expect(queue.take().map(text)).toEqual(['ered', 'apart'])
  })

  it('memory serves the next body only after it was released, and never when it was disowned', () => {
    const first = new ByteQueue()
    first.gather(1000)
    first.push(piece('a', 1000))
    const { buffer } = first.join()
    const meanwhile = new ByteQueue()
    meanwhile.gather(1000)
    meanwhile.push(piece('b', 1000))
    expect(meanwhile.join().buffer).not.toBe(buffer)
    first.release()
    const second = new ByteQueue()
    second.gather(1000)
    second.push(piece('c', 1000))
    expect(second.join().buffer).toBe(buffer)
    second.disown()
    second.release()
    const third = new ByteQueue()
    third.gather(1000)
    third.push(piece('d', 1000))
    expect(third.join().buffer).not.toBe(buffer)
    meanwhile.release()
    third.release()
  })
})

describe('ByteQueue.pushCopy', () => {
  it('puts small pieces behind each other, and keeps none of the memory that they came in', () => {
    const queue = new ByteQueue()
    const lent = Buffer.alloc(1)
    for (let number = 0; number < 40_000; number++) {
      lent[0] = number % 251
      queue.pushCopy(lent)
    }
    expect(queue.bytes).toBe(40_000)
    const pieces = queue.take()
    // the first stands alone, the others in blocks of 16 KiB
    expect(pieces.length).toBeLessThanOrEqual(4)
    const all = Buffer.concat(pieces)
    expect(all.length).toBe(40_000)
    expect(all.every((byte, number) => byte === number % 251)).toBe(true)
  })

  it('keeps the order with large pieces between, and what was taken out does not change', () => {
    const queue = new ByteQueue()
    const sent: Buffer[] = []
    const taken: Uint8Array[] = []
    const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below
    let seed = 7
    for (let step = 0; step < 5_000; step++) {
      const chunk = Buffer.alloc(1 + random(random(10) === 0 ? 2_000 : 40), step % 251)
      sent.push(Buffer.from(chunk))
      queue.pushCopy(chunk)
      chunk.fill(255)
      if (random(5) === 0) taken.push(queue.shift())
      if (random(9) === 0 && queue.first !== undefined && queue.first.length > 1) {
        taken.push(queue.first.subarray(0, 1))
        queue.consume(1)
      }
      if (random(200) === 0) queue.putBack([taken.pop()!])
      if (random(300) === 0) queue.join()
    }
    expect(Buffer.concat([...taken, ...queue.take()]).equals(Buffer.concat(sent))).toBe(true)
  })
})
