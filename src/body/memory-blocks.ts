/**
 * Memory for bodies that are looked at as a whole: a block serves one after the other. New memory for each large body would
 * make the garbage collector mark the whole heap every hundred bodies, at a multiple of what looking at them costs.
 */

/** Blocks have these sizes: from the smallest one on, each twice the one before. */
const SMALLEST_BYTES = 128 * 1024
const LARGEST_BYTES = 2 * 1024 * 1024
/** What is kept while nobody needs it. */
const MOST_SPARE_BYTES = 4 * 1024 * 1024

export class MemoryBlocks<Block extends { readonly byteLength: number }> {
  readonly #make: (bytes: number) => Block
  /** By size; what was given back last is taken first. */
  readonly #spare = new Map<number, Block[]>()
  #spareBytes = 0

  /** `make`: new memory of exactly so many bytes, with anything in them. */
  constructor(make: (bytes: number) => Block) {
    this.#make = make
  }

  /** At least so many bytes, with what earlier bodies left in them. */
  take(bytes: number): Block {
    let size = SMALLEST_BYTES
    while (size < bytes) size *= 2
    // as much as is needed: such a block is not used again
    if (size > LARGEST_BYTES) return this.#make(bytes)
    const block = this.#spare.get(size)?.pop()
    if (block === undefined) return this.#make(size)
    this.#spareBytes -= size
    return block
  }

  /** Nobody reads or writes this block any more. */
  give(block: Block): void {
    const size = block.byteLength
    if (size > LARGEST_BYTES || this.#spareBytes + size > MOST_SPARE_BYTES) return
    const blocks = this.#spare.get(size)
    if (blocks === undefined) this.#spare.set(size, [block])
    else blocks.push(block)
    this.#spareBytes += size
  }

  /** Bytes that wait for the next body. */
  get spareBytes(): number {
    return this.#spareBytes
  }
}
