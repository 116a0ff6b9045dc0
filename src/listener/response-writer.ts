/**
 * The answer of one request on its way to the client: what waits, how it is framed, and how it ends.
 *
 * How an answer ends. The library closes a connection by itself only together with a whole body (`end(body, true)`):
 * after `write` the same call puts a header line into the body, and inside the tick of a chunked request's last chunk
 * it still serves what follows in the same segment (T-04). Therefore every other answer after which the connection
 * must close is left unfinished in the library's eyes: all its bytes are sent, framed completely, the library goes on
 * waiting, lets no second request through (it closes the connection when one arrives), and we close after a moment.
 *
 * Source: F-01 … F-14 and their measurements; H-28, H-31, H-32, H-38, H-58.
 */
import { performance } from 'node:perf_hooks'
import { ByteQueue } from './byte-queue.ts'
import type { HttpResponse } from './library.ts'
import { readyHead, statusOf, writeHead } from './outgoing-head.ts'

/** Above it even a whole body goes out in pieces, so that the library does not copy it into its own buffer. */
const MAX_AT_ONCE_BYTES = 64 * 1024

const EMPTY = new Uint8Array(0)
/**
 * The last chunk, for a chunked answer after which the connection closes. The library writes header lines wherever it
 * is told to, as `name: value` and CRLF: here the colon lies inside the value of a chunk extension, which every
 * recipient must ignore (RFC 9112 §7.1.1).
 */
const LAST_CHUNK_NAME = '\r\n0;end="'
const LAST_CHUNK_VALUE = '"\r\n'

/** The exchange that an answer belongs to. */
export interface ResponseOwner {
  /** Null when the library's object must not be touched any more: the writer says so when it has ended an answer. */
  res: HttpResponse | null
  readonly isHead: boolean
  /** The connection must not carry another request. */
  readonly mustClose: boolean
  /** The library closes by itself behind an answer, because the request said `close`. */
  readonly libraryCloses: boolean
  /** Nothing of the request can still be read as another one. */
  readonly requestIsOver: boolean
  /** Nothing more can be written until the client reads. */
  answerBlocked(): void
  /** The client reads again. */
  answerWritable(): void
  /** Time to call `flush`. */
  answerDue(): void
}

type Mode = 'none' | 'length' | 'chunked'

export class ResponseWriter {
  readonly #owner: ResponseOwner
  /** Sent to the client; 0 = nothing yet. */
  status = 0
  /** Body bytes that the library or the system has. */
  bodyBytes = 0
  /** Of the body that follows; -1 = unknown. */
  length = 0
  /** Content-Length as the upstream sent it, for answers without a body; -1 = none. */
  contentLength = -1
  /** The body is another than the upstream's, of a length that is known at its end only. */
  isFiltered = false
  /** No more of the body will come. */
  hasEnded = false
  /** All bytes are with the library or the system. */
  isSent = false
  isBlocked = false
  wasBlocked = false
  /** Since when the client has taken nothing; only of interest while blocked. */
  blockedSinceMs = 0

  #head: string | null = null
  #headIsAscii = false
  #mode: Mode = 'none'
  #total = 0
  #accepted = 0
  /** The library must not know that the answer is complete. */
  #unfinished = false
  readonly #waiting = new ByteQueue()
  /** Bytes in `#waiting` that are the pool's again when its call returns. */
  #borrowed: Uint8Array | null = null
  #writableAsked = false
  #isDue = false

  // What the library and the event loop call.
  readonly #write = (): void => this.#writeOut()
  readonly #onWritable = (): boolean => {
    this.isBlocked = false
    this.#owner.answerWritable()
    return !this.isBlocked
  }
  readonly #due = (): void => {
    this.#isDue = false
    this.#owner.answerDue()
  }

  constructor(owner: ResponseOwner) {
    this.#owner = owner
  }

  begin(): void {
    this.status = 0
    this.bodyBytes = 0
    this.length = 0
    this.contentLength = -1
    this.isFiltered = this.hasEnded = this.isSent = false
    this.isBlocked = this.wasBlocked = this.#writableAsked = false
    this.#head = null
    this.#mode = 'none'
    this.#total = this.#accepted = 0
    this.#unfinished = false
    this.drop()
  }

  /** A head was given: what happens to the body is decided. */
  get hasHead(): boolean {
    return this.#head !== null || this.#mode !== 'none'
  }

  /** Something has left us. */
  get hasBegun(): boolean {
    return this.status !== 0
  }

  // ── what is to be sent ──

  /** Nothing goes out before `flush`. Throws, and nothing is changed, when it is no head (H-123). */
  setHead(head: string): void {
    const { text, isAscii } = readyHead(head)
    this.#head = text
    this.#headIsAscii = isAscii
  }

  /** The same for a head that the native pool has made ready (see UpstreamHandler.onUpstreamAnswer). */
  setPassedHead(head: string): void {
    this.#head = head
    this.#headIsAscii = true
  }

  /** Takes the head back; nothing of it has left us. */
  dropHead(): void {
    this.#head = null
  }

  /** Bytes that wait. */
  get waitingBytes(): number {
    return this.#waiting.bytes
  }

  /** `isBorrowed`: the bytes are somebody else's again after this turn, see `keepBorrowed`. */
  push(chunk: Uint8Array, isBorrowed: boolean): void {
    this.#waiting.push(chunk)
    if (isBorrowed) this.#borrowed = chunk
  }

  /** Copies what has not left of bytes that were only lent. */
  keepBorrowed(): void {
    const borrowed = this.#borrowed
    if (borrowed === null) return
    this.#borrowed = null
    if (this.#waiting.bytes > 0) this.#waiting.keep(borrowed.buffer)
  }

  /** What comes is to be looked at as a whole: `bytes` of it are expected. See ByteQueue. */
  gather(bytes: number): void {
    this.#waiting.gather(bytes)
  }

  /** See ByteQueue. */
  disown(): void {
    this.#waiting.disown()
  }

  /** What waits, in one piece; it goes on waiting. */
  join(): Uint8Array {
    return this.#waiting.join()
  }

  /** What waits, taken out. */
  take(): readonly Uint8Array[] {
    return this.#waiting.take()
  }

  drop(): void {
    this.#waiting.clear()
  }

  /** The exchange is over: memory is given back. */
  release(): void {
    this.#waiting.release()
  }

  // ── sending ──

  /** `flush` after the upstream's present segment: a small answer then leaves as one write with its length known. */
  flushSoon(): void {
    if (this.#isDue) return
    this.#isDue = true
    queueMicrotask(this.#due)
  }

  /** Sends what may be sent now. Throws what the library throws. */
  flush(): void {
    this.#owner.res?.cork(this.#write)
  }

  /** Runs inside `cork`. */
  #writeOut(): void {
    const res = this.#owner.res!
    if (this.#head !== null) {
      // The library completes the head of a chunked answer with its first bytes only; until then a failure is still a 502.
      if (this.length === -1 && this.#waiting.bytes === 0 && !this.hasEnded) return
      if (!this.#start(res, this.#head)) return
    }
    while (this.#waiting.bytes > 0 && !this.isBlocked) {
      const chunk = this.#waiting.first! // bytes wait
      if (this.#mode === 'chunked') this.#writeChunk(res, chunk)
      else if (this.#writePart(res, chunk)) {
        this.#complete()
        return
      }
    }
    if (!this.hasEnded || this.#waiting.bytes > 0) return
    if (this.#mode === 'chunked') this.#endChunked(res)
    else if (this.#unfinished) this.isSent = true
    // Otherwise fewer bytes came than were announced; the pool reports that as a failure.
  }

  #writeChunk(res: HttpResponse, chunk: Uint8Array): void {
    // The library keeps what the socket does not take; we stop giving it more.
    const taken = res.write(chunk)
    this.#waiting.consume(chunk.length)
    this.bodyBytes += chunk.length
    if (!taken) this.#block(res)
  }

  /** A piece of a body whose length is known. True when it was the last one. */
  #writePart(res: HttpResponse, chunk: Uint8Array): boolean {
    const [taken, isDone] = res.tryEnd(chunk, this.#total)
    if (isDone) {
      this.bodyBytes += chunk.length
      this.drop()
      return true
    }
    const accepted = taken ? chunk.length : res.getWriteOffset() - this.#accepted
    this.#accepted += accepted
    this.bodyBytes += accepted
    this.#waiting.consume(accepted)
    if (!taken) this.#block(res)
    return false
  }

  #endChunked(res: HttpResponse): void {
    if (!this.#unfinished) {
      res.end()
      this.#complete()
    } else if (!this.isBlocked) {
      res.writeHeader(LAST_CHUNK_NAME, LAST_CHUNK_VALUE)
      this.isSent = true
    }
  }

  /** The library has ended the answer: its object is gone. */
  #complete(): void {
    this.#owner.res = null
    this.isSent = true
  }

  #block(res: HttpResponse): void {
    this.isBlocked = this.wasBlocked = true
    this.blockedSinceMs = performance.now()
    this.#owner.answerBlocked()
    if (this.#writableAsked) return
    this.#writableAsked = true
    res.onWritable(this.#onWritable)
  }

  /** Writes the head, and the whole answer if it is at hand. False when nothing is left to write. */
  #start(res: HttpResponse, head: string): boolean {
    const { isHead, mustClose: close, libraryCloses, requestIsOver } = this.#owner
    const status = statusOf(head)
    this.#head = null
    this.status = status
    let text = head
    const isAscii = this.#headIsAscii
    const bodiless = isHead || status === 204 || status === 304
    const length = bodiless ? 0 : this.hasEnded && !this.isFiltered ? this.waitingBytes : this.length
    const announced = bodiless ? this.#bodilessLength(status) : -1
    if (bodiless) this.drop()
    // Announced by us, except where the library does it together with `end`.
    const endsAtOnce = this.hasEnded && length === this.waitingBytes && !bodiless
    const libraryEnds = close && endsAtOnce && requestIsOver
    this.#unfinished = close && !libraryEnds && !(libraryCloses && requestIsOver)
    if (close && (!libraryEnds || libraryCloses)) text += 'connection: close\r\n'

    if (bodiless) {
      if (announced >= 0) text += `content-length: ${announced}\r\n`
      if (this.#unfinished) {
        writeHead(res, `${text}date: ${new Date().toUTCString()}\r\n\r\n`, isAscii)
        this.isSent = true
      } else {
        writeHead(res, text, isAscii)
        // Not with a length as argument: the library then waits for that many bytes.
        res.endWithoutBody()
        this.#complete()
      }
      return false
    }
    if (length === 0 && this.#unfinished) {
      writeHead(res, `${text}date: ${new Date().toUTCString()}\r\ncontent-length: 0\r\n\r\n`, isAscii)
      this.isSent = true
      return false
    }
    writeHead(res, text, isAscii)
    if (endsAtOnce && !this.#unfinished && length <= MAX_AT_ONCE_BYTES) {
      const body = this.join()
      this.bodyBytes = body.length
      this.drop()
      res.end(body, libraryEnds)
      this.#complete()
      return false
    }
    if (length === -1) {
      this.#mode = 'chunked'
      return true
    }
    this.#mode = 'length'
    this.#total = length
    if (this.#unfinished || this.#waiting.bytes === 0) {
      // Writes head and Content-Length only.
      res.tryEnd(EMPTY, length)
      // One byte more than there will be: never done in the library's eyes.
      if (this.#unfinished) this.#total = length + 1
    }
    return true
  }

  /** H-31: Content-Length of an answer without a body is metadata on HEAD and 304, and absent (-1) on 204. */
  #bodilessLength(status: number): number {
    if (status === 204) return -1
    if (this.contentLength !== -1) return this.contentLength
    return this.hasEnded && status !== 304 && this.waitingBytes > 0 ? this.waitingBytes : -1
  }
}
