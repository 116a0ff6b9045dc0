/** A zlib stream of Node as a body filter: bounded, with back-pressure both ways. */
import type { Transform } from 'node:stream'
import type { BodyFilter, FilterSink } from '../listener/front-end.ts'

/** What may wait in front of the stream; beyond it the upstream pauses. */
const MAX_PENDING_BYTES = 128 * 1024

type ZlibStream = Transform & { flush(kind: number, done: () => void): void }

export class ZlibFilter implements BodyFilter {
  /** Made with the first bytes where the format must be seen first. */
  #stream: ZlibStream | undefined
  readonly #make: ((first: Uint8Array) => Transform) | undefined
  readonly #flushKind: number | undefined
  #sink: FilterSink | undefined
  #pendingBytes = 0
  #isFull = false
  #isEnding = false
  #isPaused = false

  /** `flushKind`: flush this way whenever everything that has come is worked in; undefined: only at the end. */
  constructor(stream: Transform | ((first: Uint8Array) => Transform), flushKind?: number) {
    this.#make = typeof stream === 'function' ? stream : undefined
    this.#flushKind = flushKind
    if (typeof stream !== 'function') this.#open(stream)
  }

  attach(sink: FilterSink): void {
    this.#sink = sink
  }

  write(chunk: Uint8Array): boolean {
    if (this.#sink === undefined || chunk.length === 0) return true
    const stream = this.#stream ?? this.#open(this.#make!(chunk)) // one of the two is there
    this.#pendingBytes += chunk.length
    stream.write(chunk, () => this.#worked(chunk.length))
    this.#isFull = this.#pendingBytes >= MAX_PENDING_BYTES
    return !this.#isFull
  }

  end(): void {
    this.#isEnding = true
    if (this.#stream !== undefined) this.#stream.end()
    else this.#finish()
  }

  pause(): void {
    this.#isPaused = true
    this.#stream?.pause()
  }

  resume(): void {
    this.#isPaused = false
    this.#stream?.resume()
  }

  close(): void {
    this.#sink = undefined
    this.#stream?.destroy()
  }

  #open(made: Transform): ZlibStream {
    const stream = made as ZlibStream // every stream of node:zlib has flush
    this.#stream = stream
    stream.on('data', (chunk: Uint8Array) => this.#sink?.output(chunk))
    stream.on('end', () => this.#finish())
    stream.on('error', (error) => {
      const sink = this.#sink
      this.#sink = undefined
      sink?.broken(error.message)
    })
    if (this.#isPaused) stream.pause()
    return stream
  }

  /** A piece has gone through. */
  #worked(bytes: number): void {
    this.#pendingBytes -= bytes
    if (this.#sink === undefined) return
    if (this.#pendingBytes === 0 && this.#flushKind !== undefined && !this.#isEnding) {
      this.#stream?.flush(this.#flushKind, () => {})
    }
    if (this.#isFull && this.#pendingBytes < MAX_PENDING_BYTES / 2) {
      this.#isFull = false
      this.#sink.ready()
    }
  }

  #finish(): void {
    const sink = this.#sink
    this.#sink = undefined
    sink?.finished()
  }
}
