/**
 * The one door to uWebSockets.js.
 *
 * Source: operations.md F-11, F-16.
 */
import * as library from 'uWebSockets.js'
import {
  App,
  type HttpRequest,
  type HttpResponse,
  type TemplatedApp,
  us_listen_socket_close,
  us_socket_local_port,
  type us_listen_socket,
} from 'uWebSockets.js'

// Without its own mark header in every answer (F-11, O-72). Whole process, hence here and once.
// The typings leave `_cfg` out.
;(library as unknown as { _cfg(option: string): void })._cfg('silent')

export { App, us_listen_socket_close as closeListenSocket, type HttpRequest, type HttpResponse, type TemplatedApp }
export type ListenSocket = us_listen_socket

/** The port a listen socket got; the useful answer when port 0 was asked for. */
export function portOf(socket: ListenSocket): number {
  // The library hands out one object kind for both; its type names differ only on paper.
  return us_socket_local_port(socket as Parameters<typeof us_socket_local_port>[0])
}

export { workerEnvironment } from './head-limit.ts'
