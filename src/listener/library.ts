/**
 * The one door to uWebSockets.js, and the facts about its environment that whoever forks a worker must know.
 *
 * Source: operations.md F-07, F-11, F-16.
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
import type { FrontEndLimits } from './front-end.ts'

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

/** Read by the library once, when it is loaded into a process: bytes of request line and header section together. */
export const HEAD_BYTES_VARIABLE = 'UWS_HTTP_MAX_HEADERS_SIZE'

/** What the request line needs beside the target: method (H-10: up to 32), spaces, version, CRLF. */
const REQUEST_LINE_EXTRA_BYTES = 64

/**
 * The environment a worker process must be started with, so that the library lets heads through up to our limits
 * (its default is 4,096 bytes). A limit raised by a reload needs a new process: beyond the old value the library
 * itself answers 431.
 */
export function workerEnvironment(limits: Pick<FrontEndLimits, 'headBytes' | 'uriBytes'>): Record<string, string> {
  return { [HEAD_BYTES_VARIABLE]: String(limits.headBytes + limits.uriBytes + REQUEST_LINE_EXTRA_BYTES) }
}

/** Whether the library in this process lets heads of this size through. */
export function libraryAllows(limits: Pick<FrontEndLimits, 'headBytes' | 'uriBytes'>): boolean {
  const allowed = Number(process.env[HEAD_BYTES_VARIABLE] ?? 4096)
  return allowed >= limits.headBytes + limits.uriBytes + REQUEST_LINE_EXTRA_BYTES
}
