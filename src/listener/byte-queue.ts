/** Pieces of a body that wait, in their order. Mostly there is none or one, and then nothing is allocated. */

const EMPTY = new Uint8Array(0)

export class ByteQueue {
  /** Sum of the pieces. */
  bytes = 0
  #first: Uint8Array | undefined
  /** Behind the first one; empty when there is none. */
  #rest: Uint8Array[] | undefined

  get first(): Uint8Array | undefined {
    return this.#first
  }

  push(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.bytes += chunk.length
    if (this.#first === undefined) this.#first = chunk
    else if (this.#rest === undefined) this.#rest = [chunk]
    else this.#rest.push(chunk)
  }

  /** Takes the first piece out; there must be one. */
  shift(): Uint8Array {
    const first = this.#first! // as asked
    this.bytes -= first.length
    this.#next()
    return first
  }

  /** The first `bytes` of the first piece are gone. */
  consume(bytes: number): void {
    const first = this.#first
    if (first === undefined) return
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
      if (this.#first?.buffer === memory) this.#first = new Uint8Array(this.#first)
      return
    }
    const last = rest.at(-1)
    if (last?.buffer === memory) rest[rest.length - 1] = new Uint8Array(last)
  }

  clear(): void {
    this.bytes = 0
    this.#first = this.#rest = undefined
  }
}
