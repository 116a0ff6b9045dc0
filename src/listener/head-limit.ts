/**
 * The library's limit for request heads. It lives in the environment of a process and is read once, when the library
 * is loaded: whoever forks a worker sets it. Kept apart from library.ts, so that the primary can know it without
 * loading the library.
 *
 * Source: operations.md F-07; H-13, H-14.
 */
import type { FrontEndLimits } from './front-end.ts'

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
