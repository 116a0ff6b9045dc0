/**
 * What the front end asks of an upstream pool: one call per request, a leg to steer it, and five events. undici
 * implements it in `pool.ts`; a native pool can stand beside it.
 */
import type { UpstreamFailure, UpstreamTarget } from '../listener/front-end.ts'

/** A request as it shall arrive upstream. */
export interface UpstreamRequest {
  /**
   * Request line and `name: value\r\n` lines, latin1; no framing and no hop-by-hop fields (front-end.ts). `send` throws
   * when it is anything else: a head that would be two requests for somebody is a fault of ours (H-123).
   */
  readonly head: string
  /** 0 = none, -1 = chunked, else the exact number of bytes that will be written. */
  readonly bodyLength: number
  /** The whole body, when it is at hand; then nothing may be written to the leg. */
  readonly body: Uint8Array | undefined
  /** Where `head` goes on as it was received; only without a body, for receivers that have `onUpstreamAnswer`. A pool may ignore it. */
  readonly relayed?: RelayedHead | undefined
}

/** A head that was received, with lines behind it. */
export interface RelayedHead {
  /** See `lastHead` of listener/library-head.ts. */
  readonly kept: number
  readonly lines: string
  /** With these an answer may come as one that has passed. */
  readonly answerLines: string | undefined
}

/** What an upstream leg tells; never before `send` has returned, never after `UpstreamLeg.abort`, and nothing after `onUpstreamEnd` or `onUpstreamFailure`. */
export interface UpstreamHandler {
  /**
   * The final response head: status line and lines, names in lower case, hop-by-hop and framing fields removed.
   * `bodyLength`: 0 = no body follows, -1 = unknown. `contentLength`: the field as sent (also of HEAD and 304), -1 = none.
   * The body waits until `resume` when `pause` is called before this returns.
   */
  onUpstreamHead(status: number, head: string, bodyLength: number, contentLength: number): void
  /**
   * `isBorrowed`: the bytes are the pool's again after this call; nothing gathers with them, so what can leave should
   * leave now. Otherwise they are the receiver's to keep, and more may follow at once. Only receivers that have
   * `onUpstreamAnswer` are lent bytes.
   */
  onUpstreamData(chunk: Uint8Array, isBorrowed: boolean): void
  onUpstreamEnd(): void
  /**
   * A whole answer that came in one piece: instead of head, data and end, for receivers that want it so. `body` is
   * absent when it has no bytes, and the pool's again after this call. `hasPassed`, only where the request was relayed with lines
   * for the answer: the head leaves as it is, with those lines; it is ASCII, without Date and fields that only we may send.
   */
  onUpstreamAnswer?(
    status: number,
    head: string,
    bodyLength: number,
    contentLength: number,
    body: Uint8Array | undefined,
    hasPassed: boolean,
  ): void
  onUpstreamFailure(failure: UpstreamFailure): void
  /**
   * The request body may be written: comes first when the request has a connection (nothing should be written before,
   * so that a connection that fails has consumed nothing), then after each `write` that returned false.
   */
  onUpstreamWritable(): void
}

/** One request on its way. Calls after the end do nothing. */
export interface UpstreamLeg {
  /** `performance.now()` when the request got its connection; 0 = not yet. */
  readonly connectedAtMs: number
  /** The connection had carried a request before. */
  readonly connectionReused: boolean
  /** A piece of the request body; its bytes are the caller's again after the call. False: wait for `onUpstreamWritable`. */
  write(chunk: Uint8Array): boolean
  /** The request body is complete. */
  end(): void
  pause(): void
  resume(): void
  /** Nothing more is asked of the leg and no event follows; only the end of the answer is still to come. */
  detach(): void
  /** Gives up: the connection is closed if the request had begun, and no event follows. */
  abort(): void
}

/** Connections of all targets now, and the requests that wait for one. */
export interface ConnectionCounts {
  /** With a request, or being established for one. */
  readonly active: number
  readonly idle: number
  readonly pending: number
}

export interface UpstreamPool {
  send(target: UpstreamTarget, request: UpstreamRequest, handler: UpstreamHandler): UpstreamLeg
  readonly connections: ConnectionCounts
  /** Closes idle connections of targets that are not in the list; legs under way go on. */
  retain(targets: readonly UpstreamTarget[]): void
  close(): Promise<void>
}
