/** How far a request of OPTIONS may travel. Source: RFC 9110 §7.6.2, §9.3.7; H-10. TRACE is refused by the front end. */
import type { Respond } from '../phase/outcome.ts'
import type { Exchange } from './exchange.ts'

const LAST_HOP = /^max-forwards: 0+\r$/m
const COUNTS = /^(max-forwards: )([0-9]{1,9})\r$/gm

/** The answer to a request that must not be forwarded: we are the ones it asks. */
const OWN_OPTIONS: Respond = Object.freeze({
  kind: 'respond',
  status: 200,
  lines: 'allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n',
  body: '',
  reason: 'ok',
  responsePhase: true,
})

/** What answers the request here; undefined: it goes on. A value that is no number says nothing. */
export function answerOfLastHop({ method, head }: Exchange): Respond | undefined {
  return method === 'OPTIONS' && LAST_HOP.test(head.text) ? OWN_OPTIONS : undefined
}

/** The head of a request of OPTIONS with one hop less to go. */
export function withOneHopLess(head: string): string {
  return head.replaceAll(COUNTS, (_, name: string, hops: string) => `${name}${Math.max(0, Number(hops) - 1)}\r`)
}
