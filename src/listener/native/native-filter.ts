/**
 * A body filter between the native front end's two sides: what it makes goes back to native, and each side holds the other.
 *
 * Source: FrontEnd.continueResponse; H-38.
 */
import * as native from '../../native/front.ts'
import type { BodyFilter, FilterSink } from '../front-end.ts'

export class NativeFilter implements FilterSink {
  readonly #front: native.FrontHandle
  readonly #handle: number
  readonly #filter: BodyFilter
  readonly #failed: (error: unknown) => void
  #isOver = false

  /** `failed`: the filter threw outside of an event. */
  constructor(front: native.FrontHandle, handle: number, filter: BodyFilter, failed: (error: unknown) => void) {
    this.#front = front
    this.#handle = handle
    this.#filter = filter
    this.#failed = failed
    filter.attach(this)
  }

  // What native brings.

  data(chunk: Uint8Array): void {
    if (this.#isOver) return
    if (!this.#filter.write(chunk)) native.holdFront(this.#front, this.#handle, true)
  }

  end(): void {
    if (!this.#isOver) this.#filter.end()
  }

  /** The client takes more. */
  writable(): void {
    if (!this.#isOver) this.#filter.resume()
  }

  /** The exchange is over, or is answered otherwise. */
  close(): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#filter.close()
  }

  // What the filter brings.

  output(chunk: Uint8Array): void {
    if (this.#isOver || chunk.length === 0) return
    if (!native.writeFront(this.#front, this.#handle, chunk)) this.#guard(() => this.#filter.pause())
  }

  ready(): void {
    if (!this.#isOver) native.holdFront(this.#front, this.#handle, false)
  }

  finished(): void {
    if (this.#isOver) return
    this.#isOver = true
    native.endFront(this.#front, this.#handle)
  }

  broken(detail: string): void {
    if (this.#isOver) return
    native.breakFront(this.#front, this.#handle, detail)
  }

  #guard(step: () => void): void {
    try {
      step()
    } catch (error) {
      this.#failed(error)
    }
  }
}
