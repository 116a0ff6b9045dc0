/**
 * The client's side of an agreed WebSocket: the 101, and what the library is told of it.
 *
 * Source: RFC 6455 §4.2.2; H-60, H-91.
 */
import { withoutFields } from '../upstream/hop-headers.ts'
import type { UpstreamWebSocket } from '../upstream/web-socket.ts'
import type { HttpResponse, UpgradeContext } from './library.ts'
import { readyHead, writeHead } from './outgoing-head.ts'
import type { WebSocketRequest } from './read-head.ts'
import type { WebSocketRelay } from './web-socket-relay.ts'

/** Fields of a 101 that the library writes. */
const UPGRADE_FIELDS = [
  'date',
  'connection',
  'upgrade',
  'content-length',
  'transfer-encoding',
  'sec-websocket-accept',
  'sec-websocket-extensions',
  'sec-websocket-protocol',
]

/** Sends the 101 with the lines of `head`; the library then hands its messages to the relay. */
export function switchProtocols(
  res: HttpResponse,
  head: string,
  relay: WebSocketRelay,
  socket: UpstreamWebSocket,
  { request, context }: { readonly request: WebSocketRequest; readonly context: UpgradeContext },
): void {
  const { text, isAscii } = readyHead(head)
  const lines = withoutFields(text.slice(text.indexOf('\r\n') + 2), UPGRADE_FIELDS)
  res.cork(() => {
    writeHead(res, `HTTP/1.1 101 Switching Protocols\r\n${lines}`, isAscii)
    // an extension that the upstream did not accept is not offered to the client (H-91)
    res.upgrade({ relay }, request.key, socket.protocol, socket.compresses ? request.extensions : '', context)
  })
}
