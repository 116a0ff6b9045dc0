/**
 * The one door to uWebSockets.js.
 *
 * Source: operations.md F-11, F-16.
 */
import * as library from 'uWebSockets.js'
import {
  App,
  type HttpRequest,
  type HttpResponse as DeclaredHttpResponse,
  SSLApp as DeclaredSslApp,
  type TemplatedApp,
  type WebSocket,
  us_listen_socket_close,
  us_socket_local_port,
  type us_listen_socket,
} from 'uWebSockets.js'

// Without its own mark header in every answer (F-11, O-72). Whole process, hence here and once.
// The typings leave `_cfg` out.
const untyped = library as unknown as { _cfg(option: string): void }
untyped._cfg('silent')
// declared as types only
const compression = library as unknown as { SHARED_COMPRESSOR: number; SHARED_DECOMPRESSOR: number }

/** A client's WebSocket with its relay: the library hands out the object that the upgrade was given, with its own methods. */
export type ClientWebSocket = WebSocket<unknown>
export type UpgradeContext = Parameters<HttpResponse['upgrade']>[4]

/** Compressing and decompressing share their memory over all connections. */
export const SHARED_COMPRESSION: number = compression.SHARED_COMPRESSOR | compression.SHARED_DECOMPRESSOR

export { App, us_listen_socket_close as closeListenSocket, type HttpRequest, type TemplatedApp }

/** What the typings leave out, too: the certificate that a client showed, PEM, '' when it showed none. */
export type HttpResponse = DeclaredHttpResponse & { getX509Certificate(): string }

/**
 * An app that can be handed connections by another one of its kind. The library made this for apps on several threads;
 * within one thread it lets the app behind a listen socket be replaced.
 */
export interface SslApp extends TemplatedApp {
  getDescriptor(): unknown
  addChildAppDescriptor(descriptor: unknown): void
  removeChildAppDescriptor(descriptor: unknown): void
}

/** Throws when certificate or key cannot be used. */
export const createSslApp = DeclaredSslApp as (options: {
  readonly cert_file_name: string
  readonly key_file_name: string
  readonly ca_file_name?: string
}) => SslApp
export type ListenSocket = us_listen_socket

/** The port a listen socket got; the useful answer when port 0 was asked for. */
export function portOf(socket: ListenSocket): number {
  // The library hands out one object kind for both; its type names differ only on paper.
  return us_socket_local_port(socket as Parameters<typeof us_socket_local_port>[0])
}

export { workerEnvironment } from './head-limit.ts'
