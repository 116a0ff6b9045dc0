/** Request heads that uWebSockets.js has parsed, out of its own memory; src/listener/library-head.ts gives them their form. */
import { addon } from './addon.ts'

/** Bits of the first fact of a head. */
export const LIBRARY_HEAD_CLOSE = 1
export const LIBRARY_HEAD_KEEP_ALIVE = 2
export const LIBRARY_HEAD_PROXY_FIELDS = 4
export const LIBRARY_HEAD_HAS_LENGTH = 8
/** Content-Length stands before Connection. */
export const LIBRARY_HEAD_LENGTH_FIRST = 16
export const LIBRARY_HEAD_IS_HEAD = 32
/** Host is that of the head that was read before. */
export const LIBRARY_HEAD_SAME_HOST = 64
/** The path is canonical as it stands. */
export const LIBRARY_HEAD_PLAIN_PATH = 128
/**
 * Facts of a head: the bits above, place and length of Host's value in the text, Content-Length, number of the connection, and
 * the number under which `relayUpstream` knows it until the next head is read.
 */
export const LIBRARY_HEAD_FACTS = 6

/** Where the facts of heads go, in this thread, from now on. */
export function openLibraryHeads(facts: Float64Array): void {
  addon().openLibraryHeads(facts)
}

/**
 * The head of a request whose handler is running, as it goes on: request line and `name: value` lines without Connection and
 * Content-Length. undefined when something in it is to be decided, or the library's memory cannot be read. Only
 * after `probeLibraryHead` has shown the memory to be as it is taken to be.
 */
export function readLibraryHead(
  request: object,
  response: object,
  uriBytes: number,
  headBytes: number,
): string | undefined {
  return addon().readLibraryHead(request, response, uriBytes, headBytes)
}

/** `method target` and `name: value` lines of the same, each with LF, read with care; undefined when that cannot be done. */
export function probeLibraryHead(request: object): Buffer | undefined {
  const bytes = addon().probeLibraryHead(request)
  return bytes === null ? undefined : Buffer.from(bytes)
}

/** Number of the connection that a response object of the library is about, for as long as it is open; 0 = not known. */
export function libraryConnection(response: object): number {
  return addon().libraryConnection(response)
}
