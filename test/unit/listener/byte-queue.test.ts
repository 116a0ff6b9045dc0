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
