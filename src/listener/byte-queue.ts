/**
 * Pieces of a body that wait, in their order. Mostly there is none or one, and then nothing is allocated. What is to be
 * looked at as a whole is gathered in one piece from the beginning.
 */
import { MemoryBlocks } from '../body/memory-blocks.ts'

/** Shared by all bodies of a worker. */
const blocks = new MemoryBlocks<Uint8Array>((bytes) => Buffer.allocUnsafeSlow(bytes))

const EMPTY = new Uint8Array(0)

/** Pieces below this are put behind each other in blocks of that size: a body of 10,000 chunks is few pieces (T-21). */
export const SMALL_BYTES = 512
const TAIL_BYTES = 16 * 1024

export class ByteQueue {
  /** Sum of the pieces. */
  bytes = 0
  #first: Uint8Array | undefined
  /** Behind the first one; empty when there is none. */
  #rest: Uint8Array[] | undefined
  /** Where pieces are gathered: `#first` is its beginning, and there is no other piece. */
  #block: Uint8Array | undefined
  /** The block in which pieces are or were gathered; nobody else keeps bytes of it. */
  #own: Uint8Array | undefined
  /** What was gathered has been shown. */
  #isShown = false
  /** Where small pieces are put behind each other, how much of it is used, and the piece that ends there. */
  #tail: Uint8Array | undefined
  #tailBytes = 0
  #tailPiece: Uint8Array | undefined

  get first(): Uint8Array | undefined {
    return this.#first
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    if (this.#block !== undefined) {
      this.#gather(this.#block, chunk)
      return
    }
    this.bytes += chunk.length
    if (this.#first === undefined) this.#first = chunk
    else if (this.#rest === undefined) this.#rest = [chunk]
    else this.#rest.push(chunk)
  }

  /** As `push`, of bytes that are somebody else's as soon as this returns. */
  pushCopy(chunk: Uint8Array): void {
    if (this.#block !== undefined) this.#gather(this.#block, chunk)
    else if (this.bytes === 0 || chunk.length >= SMALL_BYTES) this.push(new Uint8Array(chunk))
    else this.#pushSmall(chunk)
  }

  #pushSmall(chunk: Uint8Array): void {
    if (this.#tail === undefined || this.#tail.length - this.#tailBytes < chunk.length) {
      this.#tail = new Uint8Array(TAIL_BYTES)
      this.#tailBytes = 0
      this.#tailPiece = undefined
    }
    const start = this.#tailBytes
    const end = (this.#tailBytes += chunk.length)
    this.#tail.set(chunk, start)
    const before = this.#tailPiece
    const last = this.#rest === undefined ? this.#first : this.#rest.at(-1)
    if (before === undefined || before !== last) {
      this.push((this.#tailPiece = this.#tail.subarray(start, end)))
      return
    }
    this.bytes += chunk.length
    const piece = (this.#tailPiece = this.#tail.subarray(before.byteOffset, end))
    if (this.#rest === undefined) this.#first = piece
    else this.#rest[this.#rest.length - 1] = piece
  }

  /**
   * From now on pieces are copied behind each other into one block, until something is taken out; what waits already is
   * the first of them. `bytes`: how much is expected.
   */
  gather(bytes: number): void {
    if (this.#own !== undefined) return
    const waiting = this.take()
    this.#block = this.#own = blocks.take(bytes)
    this.#isShown = false
    for (const chunk of waiting) this.push(chunk)
  }

  #gather(block: Uint8Array, chunk: Uint8Array): void {
    const { bytes } = this
    const length = bytes + chunk.length
    let target = block
    if (length > block.length) {
      target = blocks.take(Math.max(length, 2 * block.length))
      target.set(block.subarray(0, bytes))
      if (this.#own !== undefined && !this.#isShown) blocks.give(this.#own)
      this.#block = target
      if (this.#own !== undefined) this.#own = target
    }
    target.set(chunk, bytes)
    this.bytes = length
    this.#first = target.subarray(0, length)
  }

  /** Somebody else keeps bytes that were gathered: their memory is not given back. */
  disown(): void {
    this.#own = undefined
  }

  /** Empties the queue and gives the memory back in which pieces were gathered: nobody looks at them any more. */
  release(): void {
    this.clear()
    if (this.#own === undefined) return
    blocks.give(this.#own)
    this.#own = undefined
  }

  /** Takes the first piece out; there must be one. */
  shift(): Uint8Array {
    const first = this.#first! // as asked
    this.#block = undefined
    this.bytes -= first.length
    this.#next()
    return first
  }

  /** The first `bytes` of the first piece are gone. */
  consume(bytes: number): void {
    const first = this.#first
    if (first === undefined) return
    this.#block = undefined
    this.bytes -= bytes
    if (bytes === first.length) this.#next()
    else this.#first = first.subarray(bytes)
  }

  #next(): void {
    const rest = this.#rest
    this.#first = rest?.shift()
    if (rest?.length === 0) this.#rest = undefined
  }

  /** Puts other pieces before those that wait. */
  putBack(chunks: readonly Uint8Array[]): void {
    const waiting = this.take()
    for (const chunk of chunks) this.push(chunk)
    for (const chunk of waiting) this.push(chunk)
  }

  /** Takes all pieces out. */
  take(): readonly Uint8Array[] {
    if (this.#first === undefined) return []
    const chunks = [this.#first, ...(this.#rest ?? [])]
    this.clear()
    return chunks
  }

  /** All of it in one piece, which goes on waiting. */
  join(): Uint8Array {
    this.#isShown = true
    if (this.#rest !== undefined) {
      const joined = Buffer.concat([this.#first!, ...this.#rest], this.bytes) // nothing is behind nothing
      this.#first = joined
      this.#rest = undefined
    }
    return this.#first ?? EMPTY
  }

  /** The last piece becomes a copy of itself when it lies in `memory`, which its owner wants back. */
  keep(memory: ArrayBufferLike): void {
    const rest = this.#rest
    if (rest === undefined) {
      // a small copy has no memory of its own
      if (this.#first?.buffer === memory) this.#first = Buffer.from(this.#first)
      return
    }
    const last = rest.at(-1)
    if (last?.buffer === memory) rest[rest.length - 1] = new Uint8Array(last)
  }

  clear(): void {
    this.bytes = 0
    this.#first = this.#rest = this.#block = this.#tail = this.#tailPiece = undefined
  }
}
