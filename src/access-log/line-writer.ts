/**
 * Lines to a file, pipe or terminal without ever making the writer wait: bounded memory, oldest lines dropped first.
 *
 * Lines are copied into blocks; one block is written at a time by the thread pool. A block ends at a line's end, and on
 * pipes and sockets it is at most PIPE_BUF long, so that lines of several processes never run into each other (pipe(7):
 * writes of up to PIPE_BUF bytes are atomic); files are opened for appending, where one write is one piece.
 *
 * Source: operations.md O-61.
 */
import { closeSync, fstatSync, openSync, write, writeSync } from 'node:fs'

/** Linux's PIPE_BUF. */
const PIPE_BLOCK_BYTES = 4096
const FILE_BLOCK_BYTES = 64 * 1024
/** How long a line may wait for company before it is written. */
const DELAY_MS = 20
const RETRY_MS = 20

interface Block {
  readonly bytes: Buffer
  used: number
  lines: number
}

export interface LineWriterOptions {
  /** A file to append to, or a descriptor that stays open for the life of the process (1, 2). */
  readonly to: string | number
  /** What may wait in memory; beyond it the oldest block goes. Default 4 MiB. */
  readonly maxPendingBytes?: number
  /** Called with the number of lines just lost. */
  readonly onDropped?: (lines: number) => void
}

export class LineWriter {
  readonly #path: string | undefined
  readonly #onDropped: ((lines: number) => void) | undefined
  readonly #maxBlocks: number
  readonly #blockBytes: number
  readonly #queue: Block[] = []
  readonly #spare: Buffer[] = []
  readonly #idle: (() => void)[] = []
  #descriptor: number
  #retired: number[] = []
  #open: Block | undefined
  #inFlight: Block | undefined
  #timer: NodeJS.Timeout | undefined
  #dropped = 0
  #closed = false

  /** Throws when the file cannot be opened for appending. */
  constructor(options: LineWriterOptions) {
    this.#path = typeof options.to === 'string' ? options.to : undefined
    this.#descriptor = typeof options.to === 'string' ? openSync(options.to, 'a', 0o640) : options.to
    this.#onDropped = options.onDropped
    this.#blockBytes = isRegularFile(this.#descriptor) ? FILE_BLOCK_BYTES : PIPE_BLOCK_BYTES
    this.#maxBlocks = Math.max(2, Math.floor((options.maxPendingBytes ?? 4 * 1024 * 1024) / this.#blockBytes))
  }

  /** How much of the room for waiting lines is taken: 0 to 1. */
  get fill(): number {
    return this.#queue.length / this.#maxBlocks
  }

  /** Lines lost so far. */
  get dropped(): number {
    return this.#dropped
  }

  /**
   * Takes one line that ends in a line feed.
   *
   * @param isAscii the caller knows that every character is one byte; saves a pass over the line
   */
  write(line: string, isAscii = false): void {
    if (this.#closed) return
    const bytes = isAscii ? line.length : Buffer.byteLength(line)
    let block = this.#open
    if (block === undefined || block.used + bytes > block.bytes.length) {
      this.#seal()
      block = this.#newBlock(bytes)
    }
    block.used += block.bytes.write(line, block.used, bytes, isAscii ? 'latin1' : 'utf8')
    block.lines += 1
    if (this.#inFlight === undefined && this.#timer === undefined) this.#schedule(DELAY_MS)
  }

  /** Opens the file anew (after it was moved away). Does nothing for descriptors. Throws when it cannot be opened. */
  reopen(): void {
    if (this.#path === undefined || this.#closed) return
    const descriptor = openSync(this.#path, 'a', 0o640)
    const before = this.#descriptor
    this.#descriptor = descriptor
    // a write under way still uses the old one
    if (this.#inFlight === undefined) closeSync(before)
    else this.#retired.push(before)
  }

  /** Resolves when everything taken so far is written, or after `timeoutMs`. */
  async flush(timeoutMs = 1000): Promise<void> {
    this.#seal()
    this.#start()
    if (this.#inFlight === undefined) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs)
      this.#idle.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }

  /** Writes what is left on the calling thread; for the moments before the process ends. Gives up after `attempts` full pipes. */
  flushSync(attempts = 20): void {
    this.#seal()
    for (let block = this.#queue.shift(); block !== undefined; block = this.#queue.shift()) {
      for (let at = 0; at < block.used;) {
        try {
          at += writeSync(this.#descriptor, block.bytes, at, block.used - at)
        } catch (error) {
          // the reader is slow: a short pause, then again; any other error is final
          if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || attempts-- <= 0) return this.#lost(block.lines)
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS)
        }
      }
    }
  }

  /** Writes what is left, within `timeoutMs`, and closes the file. Lines taken later are ignored. */
  async close(timeoutMs = 1000): Promise<void> {
    if (this.#closed) return
    await this.flush(timeoutMs)
    this.#closed = true
    clearTimeout(this.#timer)
    if (this.#path !== undefined && this.#inFlight === undefined) closeSync(this.#descriptor)
  }

  #newBlock(bytes: number): Block {
    if (this.#queue.length >= this.#maxBlocks) {
      const oldest = this.#queue.shift()
      if (oldest !== undefined) {
        this.#lost(oldest.lines)
        this.#recycle(oldest)
      }
    }
    // a line longer than a block gets one of its own
    const buffer =
      bytes <= this.#blockBytes ? (this.#spare.pop() ?? Buffer.allocUnsafeSlow(this.#blockBytes)) : undefined
    const block = { bytes: buffer ?? Buffer.allocUnsafeSlow(bytes), used: 0, lines: 0 }
    this.#open = block
    return block
  }

  #seal(): void {
    if (this.#open === undefined) return
    this.#queue.push(this.#open)
    this.#open = undefined
  }

  #recycle(block: Block): void {
    if (block.bytes.length === this.#blockBytes && this.#spare.length < 8) this.#spare.push(block.bytes)
  }

  #lost(lines: number): void {
    this.#dropped += lines
    this.#onDropped?.(lines)
  }

  #schedule(delayMs: number): void {
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#seal()
      this.#start()
    }, delayMs)
    // pending lines are written by flush() or close(), not by keeping the process alive
    this.#timer.unref()
  }

  #start(): void {
    if (this.#inFlight !== undefined) return
    const block = this.#queue.shift()
    if (block === undefined) {
      for (const resolve of this.#idle.splice(0)) resolve()
      return
    }
    this.#inFlight = block
    this.#writeOut(block, 0)
  }

  #writeOut(block: Block, from: number): void {
    write(this.#descriptor, block.bytes, from, block.used - from, null, (error, written) => {
      if (error === null && from + written < block.used) return this.#writeOut(block, from + written)
      if (error?.code === 'EAGAIN') {
        setTimeout(() => this.#writeOut(block, from), RETRY_MS).unref()
        return
      }
      // disk full, reader gone: what cannot be written is counted, and the next block is tried
      if (error !== null) this.#lost(block.lines)
      this.#inFlight = undefined
      this.#recycle(block)
      for (const descriptor of this.#retired.splice(0)) closeSync(descriptor)
      if (this.#queue.length > 0 || this.#idle.length > 0) {
        if (this.#queue.length === 0) this.#seal()
        this.#start()
      } else if (this.#open !== undefined && this.#timer === undefined) {
        this.#schedule(DELAY_MS)
      }
    })
  }
}

function isRegularFile(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isFile()
  } catch {
    // a closed descriptor: every write will fail and be counted
    return false
  }
}
