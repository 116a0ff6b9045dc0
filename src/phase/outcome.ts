/** What an action came to, and with it the phase that ran it. */
import type { Attempts } from '../exchange/exchange.ts'
import type { Endpoint } from '../routing/endpoints.ts'
import type { GatewayError } from '../response/gateway-error.ts'
import type { Reason } from '../response/reason.ts'

export type Outcome = Next | Respond | Forward | Send | Close | Refuse

/** Go on with the next action or rule. */
export interface Next {
  readonly kind: 'next'
}

/** Answer the client; what `on_http_response` rules still see of it is `responsePhase` (traffic-policy.md §2.4). */
export interface Respond {
  readonly kind: 'respond'
  readonly status: number
  /** Lines `name: value\r\n`, latin1, without `content-length` and `date`. */
  readonly lines: string
  readonly body: Uint8Array | string
  readonly reason: Reason
  readonly responsePhase: boolean
}

/** Hand the exchange to an internal endpoint. */
export interface Forward {
  readonly kind: 'forward'
  readonly endpoint: Endpoint
  /** `continue`: when it cannot be delivered, go on with the action after this one. */
  readonly onError: 'halt' | 'continue'
}

/** Send the exchange to servers that the action names, one after the other, until one answers well. */
export interface Send {
  readonly kind: 'send'
  readonly attempts: Attempts
}

/** Close the connection without an answer. */
export interface Close {
  readonly kind: 'close'
  readonly reason: Reason
}

/**
 * End the request with one of our error answers, as a thrown `GatewayError` does. For refusals that may come by the thousand:
 * unwinding costs more than the answer, and what leaves by throwing stays in the interpreter.
 */
export interface Refuse {
  readonly kind: 'error'
  readonly error: GatewayError
}

export const NEXT: Next = Object.freeze({ kind: 'next' })
