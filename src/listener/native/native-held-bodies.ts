/**
 * Bodies that the native front end holds for the rule matcher. Small ones are scanned at once, large ones by a native thread
 * that answers by an event: the hand-over costs no copy, and no thread of JavaScript.
 */
import * as native from '../../native/front.ts'
import type { ExchangeHandle, HeldBodies, HeldRequestScan, HeldResponseScan } from '../front-end.ts'

interface Waiting {
  readonly resolve: (answer: number) => void
  readonly reject: (error: Error) => void
}

export class NativeHeldBodies implements HeldBodies {
  readonly #front: native.FrontHandle
  /** Scans that threads have, by ticket. */
  readonly #waiting = new Map<number, Waiting>()
  #lastTicket = 0
  #isClosed = false

  constructor(front: native.FrontHandle) {
    this.#front = front
  }

  holdRequestBody(handle: ExchangeHandle, limitBytes: number): void {
    if (!this.#isClosed) native.holdFrontRequestBody(this.#front, handle, limitBytes)
  }

  holdResponseBody(handle: ExchangeHandle, limitBytes: number): void {
    if (!this.#isClosed) native.holdFrontResponseBody(this.#front, handle, limitBytes)
  }

  requestBytes(handle: ExchangeHandle): Uint8Array {
    return native.frontHeldBody(this.#front, handle, 'request')
  }

  responseBytes(handle: ExchangeHandle): Uint8Array {
    return native.frontHeldBody(this.#front, handle, 'response')
  }

  scanRequest(handle: ExchangeHandle, scan: HeldRequestScan): number | Promise<number> {
    const { profile, client, requestId, head, isLast, threadThresholdBytes: most } = scan
    const ticket = this.#ticket()
    return this.#answer(
      native.scanHeldRequest(this.#front, handle, most, ticket, profile, client, requestId, head, isLast),
      ticket,
    )
  }

  scanResponse(handle: ExchangeHandle, scan: HeldResponseScan): number | Promise<number> {
    const { transaction, status, head, isLast, threadThresholdBytes: most } = scan
    const ticket = this.#ticket()
    return this.#answer(
      native.scanHeldResponse(this.#front, handle, most, ticket, transaction, status, head, isLast),
      ticket,
    )
  }

  /** A number that no scan under way has: threads have a few hundred at most. */
  #ticket(): number {
    this.#lastTicket = (this.#lastTicket + 1) >>> 0
    return this.#lastTicket
  }

  #answer(answer: number, ticket: number): number | Promise<number> {
    if (answer !== native.SCAN_IN_THREAD) return answer
    return new Promise((resolve, reject) => this.#waiting.set(ticket, { resolve, reject }))
  }

  /** A thread is done. */
  scanned(ticket: number, answer: number): void {
    const waiting = this.#waiting.get(ticket)
    this.#waiting.delete(ticket)
    if (answer === native.SCAN_FAILED) waiting?.reject(new Error('the scan failed in its thread'))
    else waiting?.resolve(answer)
  }

  /** Nothing will answer any more. */
  close(): void {
    this.#isClosed = true
    for (const { reject } of this.#waiting.values()) reject(new Error('the front end is closed'))
    this.#waiting.clear()
  }
}
