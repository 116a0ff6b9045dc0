/** One answer of an upstream as a whole: for requests that the gateway makes itself. Bounded by size; time is the caller's. */
import type { UpstreamFailure } from '../listener/front-end.ts'
import type { UpstreamHandler, UpstreamLeg } from '../upstream/upstream-pool.ts'

export interface OutboundAnswer {
  readonly status: number
  /** Status line and lines, names in lower case (front-end.ts). */
  readonly head: string
  readonly body: Uint8Array
  /** Address that answered; empty when it is not known. */
  readonly address: string
}

/** Why there is no answer. `message` may stand in results and logs. */
export class OutboundError extends Error {
  readonly kind: 'failed' | 'timeout' | 'too_large' | 'refused'

  constructor(kind: OutboundError['kind'], message: string) {
    super(message)
    this.name = 'OutboundError'
    this.kind = kind
  }
}

/** Collects one answer; give it to `UpstreamPool.send` and set `leg` to what comes back. */
export class AnswerCollector implements UpstreamHandler {
  leg: UpstreamLeg | undefined
  readonly answer: Promise<OutboundAnswer>
  readonly #maxBytes: number
  readonly #address: string
  #resolve!: (answer: OutboundAnswer) => void
  #reject!: (error: OutboundError) => void
  #status = 0
  #head = ''
  #chunks: Uint8Array[] = []
  #bytes = 0

  constructor(maxBytes: number, address: string) {
    this.#maxBytes = maxBytes
    this.#address = address
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Gives up; later events change nothing. */
  abort(error: OutboundError): void {
    this.leg?.abort()
    this.#reject(error)
  }

  onUpstreamHead(status: number, head: string): void {
    this.#status = status
    this.#head = head
  }

  onUpstreamData(chunk: Uint8Array): void {
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes > this.#maxBytes) this.abort(tooLarge(this.#maxBytes))
  }

  onUpstreamEnd(): void {
    const body = Buffer.concat(this.#chunks, this.#bytes)
    this.#resolve({ status: this.#status, head: this.#head, body, address: this.#address })
  }

  onUpstreamFailure(failure: UpstreamFailure): void {
    this.#reject(failureOf(failure))
  }

  onUpstreamWritable(): void {
    // the body went with the request
  }
}

export function tooLarge(maxBytes: number): OutboundError {
  return new OutboundError('too_large', `the answer has more than ${maxBytes} bytes`)
}

export function failureOf({ reason, detail }: UpstreamFailure): OutboundError {
  const kind = reason.endsWith('timeout') ? 'timeout' : 'failed'
  return new OutboundError(kind, `${reason.replaceAll('_', ' ')}: ${detail}`)
}
