/**
 * Threads for work that would hold the event loop for too long: signatures of large keys, scans of large bodies,
 * replacing in them. None is started before there is work; idle ones end. The only file that knows piscina.
 * Source: bench/results/2026-11-22-jwt.md (what a hand-over costs); piscina README, "Class: Piscina".
 */
import type { KeyObject } from 'node:crypto'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { Piscina } from 'piscina'
import { MemoryBlocks } from '../body/memory-blocks.ts'
import type { SignatureAlgorithm } from '../jwt/signature.ts'
import type {
  ReplaceAnswer,
  ReplaceTask,
  RequestScanTask,
  ResponseScanTask,
  ScanMemory,
  ScanTask,
  SignatureTask,
} from './messages.ts'

/** A message to be scanned, as src/native/rule-set.ts takes it. */
export type Scan = (Omit<RequestScanTask, keyof ScanMemory> | Omit<ResponseScanTask, keyof ScanMemory>) & {
  readonly body: Uint8Array
}

export interface ThreadPoolOptions {
  /** Default: the cores there are, but at most 4. With several worker processes: their share. */
  readonly maxThreads?: number
  /** Tasks that may wait. Beyond it tasks are not taken, and the caller works itself. Default 256. */
  readonly maxQueue?: number
  /** How long a thread without work stays. Default 60 s. */
  readonly idleTimeoutMs?: number
  /** Where the built task files are; default: beside the built form of this file. */
  readonly taskDirectory?: URL
}

/** For /metrics. */
export interface ThreadCounters {
  readonly threads: number
  readonly queued: number
  /** Tasks that ended, well or not. */
  readonly completed: number
  /** Tasks not taken because the queue was full. */
  readonly declined: number
}

export class ThreadPool {
  readonly #pool: Piscina<SignatureTask | ScanTask | ReplaceTask, unknown>
  readonly #maxQueue: number
  readonly #signatureFile: string
  readonly #scanOptions: { readonly filename: string }
  /** Threads see the same memory: nothing is copied on the way, and nothing has to come back. */
  readonly #blocks = new MemoryBlocks((bytes) => new SharedArrayBuffer(bytes))
  readonly #replaceFile: string
  #declined = 0

  constructor(options: ThreadPoolOptions = {}) {
    const directory = options.taskDirectory ?? builtDirectory()
    this.#signatureFile = fileURLToPath(new URL('jwt-verify.task.js', directory))
    this.#scanOptions = { filename: fileURLToPath(new URL('waf-scan.task.js', directory)) }
    this.#replaceFile = fileURLToPath(new URL('replace.task.js', directory))
    this.#maxQueue = options.maxQueue ?? 256
    this.#pool = new Piscina({
      minThreads: 0,
      maxThreads: options.maxThreads ?? Math.min(4, availableParallelism()),
      maxQueue: this.#maxQueue,
      idleTimeout: options.idleTimeoutMs ?? 60_000,
      concurrentTasksPerWorker: 1,
      recordTiming: false,
      trackUnmanagedFds: false,
    })
  }

  /**
   * Whether `signature` is good, as checkSignature says. Undefined when too many tasks wait. Rejects when the thread dies
   * or the pool is closed.
   */
  verifySignature(
    algorithm: SignatureAlgorithm,
    key: KeyObject,
    input: Uint8Array,
    signature: Uint8Array,
  ): Promise<boolean> | undefined {
    if (this.#isFull()) return undefined
    // Some hundred bytes: cloning them is cheaper than transferring.
    return this.#pool.run({ algorithm, key, input, signature }, { filename: this.#signatureFile }) as Promise<boolean>
  }

  /**
   * Scans a message; answers the number that scanFlags and scanTransaction of src/native/rule-set.ts read. Undefined when too many tasks
   * wait. Rejects when the scan throws, the thread dies or the pool is closed. The body is copied before this returns.
   */
  scan(scan: Scan): Promise<number> | undefined {
    if (this.#isFull()) return undefined
    const { body, ...rest } = scan
    const memory = this.#blocks.take(body.length)
    // from its beginning: into shared memory V8 copies word by word what is aligned, and the rest byte by byte
    new Uint8Array(memory).set(body)
    const task: ScanTask = { ...rest, memory, bodyBytes: body.length }
    const answer = this.#pool.run(task, this.#scanOptions) as Promise<number>
    // a thread that died took the block with it
    return answer.then((flags) => {
      this.#blocks.give(memory)
      return flags
    })
  }

  /**
   * Find and replace, as replaceInBytes does it. Undefined when too many tasks wait. Rejects when a step throws, the thread
   * dies or the pool is closed. The bytes are copied before this returns.
   */
  replace(task: ReplaceTask): Promise<ReplaceAnswer> | undefined {
    if (this.#isFull()) return undefined
    const bytes = new Uint8Array(task.bytes)
    const own = { bytes, steps: task.steps }
    return this.#pool.run(own, {
      filename: this.#replaceFile,
      transferList: [bytes.buffer],
    }) as Promise<ReplaceAnswer>
  }

  get counters(): ThreadCounters {
    const { threads, queueSize, completed } = this.#pool
    return { threads: threads.length, queued: queueSize, completed, declined: this.#declined }
  }

  /** Ends the threads. Tasks that wait or run are rejected. */
  async close(): Promise<void> {
    await this.#pool.destroy()
  }

  #isFull(): boolean {
    if (this.#pool.queueSize < this.#maxQueue) return false
    this.#declined++
    return true
  }
}

/** Threads load JavaScript: from dist/ also when this file itself runs as TypeScript. */
function builtDirectory(): URL {
  return new URL(import.meta.url.endsWith('.ts') ? '../../dist/threads/' : './', import.meta.url)
}
