/** Upstream connections: a pool per worker, on the thread that made it; src/upstream/native-pool.ts gives it its form. */
import { type UpstreamEventListener, addon } from './addon.ts'

/** An open pool of upstream connections. */
export type UpstreamPoolHandle = number
/** A server within a pool, as connections are shared. */
export type UpstreamTargetHandle = number
/** A request within a pool. */
export type UpstreamLegHandle = number

/** Bits of an event's `kind`; several come together, and mean what they mean in this order. */
export const UPSTREAM_CONNECTED_NEW = 1
export const UPSTREAM_CONNECTED_REUSED = 2
export const UPSTREAM_WRITABLE = 4
export const UPSTREAM_HEAD = 8
export const UPSTREAM_DATA = 16
export const UPSTREAM_END = 32
export const UPSTREAM_FAILURE = 64
/** With HEAD and END: the head is ready to leave, as `relayUpstream` allowed. */
export const UPSTREAM_PASSED = 128

/** Failure reasons in the order of their numbers. */
export const UPSTREAM_REASONS = [
  'connect_failed',
  'connect_timeout',
  'upstream_reset',
  'upstream_bad_response',
  'first_byte_timeout',
  'idle_timeout',
  'overflow',
  'tls_failed',
  'tls_failed',
] as const

/** The second `tls_failed`: the upstream speaks a TLS that the native pool does not, or shows a certificate that it cannot judge. */
export const UPSTREAM_TLS_INCOMPATIBLE = 8

/** Addresses, limits and timers of a target; milliseconds, 0 = off. */
export interface UpstreamTargetSettings {
  /** `ip:port` or `[ip]:port`, separated by commas; tried in turn. */
  readonly addresses: string
  readonly connectMs: number
  /** Longest wait for a free connection. */
  readonly queueMs: number
  readonly firstByteMs: number
  readonly idleMs: number
  readonly keepAliveMs: number
  readonly maxConnections: number
  readonly maxQueued: number
}

/** What `sendUpstream` returns besides legs. */
export const UPSTREAM_OVERFLOW = -1
export const UPSTREAM_NO_TARGET = -2
export const UPSTREAM_BAD_HEAD = -3
/** Of `relayUpstream`: another head was read meanwhile. */
export const UPSTREAM_NOT_KEPT = -4

/** The most data of one event. */
export const UPSTREAM_DATA_BYTES: number = 64 * 1024

/**
 * A pool on this thread's event loop. `bufferBytes`: request bytes that may wait per leg. `data`: UPSTREAM_DATA_BYTES for
 * the data of events, the pool's as long as it is open. Throws without descriptors.
 */
export function createUpstreamPool(
  bufferBytes: number,
  data: Buffer,
  onEvent: UpstreamEventListener,
): UpstreamPoolHandle {
  return addon().createUpstreamPool(bufferBytes, data, onEvent)
}

/** Closes every connection at once; no event follows. */
export function closeUpstreamPool(pool: UpstreamPoolHandle): void {
  addon().closeUpstreamPool(pool)
}

/** Throws on an address that is none. */
export function addUpstreamTarget(pool: UpstreamPoolHandle, settings: UpstreamTargetSettings): UpstreamTargetHandle {
  const { addresses, connectMs, queueMs, firstByteMs, idleMs, keepAliveMs, maxConnections, maxQueued } = settings
  return addon().addUpstreamTarget(
    pool,
    addresses,
    connectMs,
    queueMs,
    firstByteMs,
    idleMs,
    keepAliveMs,
    maxConnections,
    maxQueued,
  )
}

/**
 * For a new target: TLS with a server that is verified by `name`, a host name or an address, against `authorities` (PEM;
 * null = not verified). False: that is not possible, and nothing was changed.
 */
export function secureUpstreamTarget(
  pool: UpstreamPoolHandle,
  target: UpstreamTargetHandle,
  authorities: string | null,
  name: string,
  isHttp2: boolean,
): boolean {
  return addon().secureUpstreamTarget(pool, target, authorities, name, isHttp2)
}

/** Has a new target speak HTTP/2: by prior knowledge, or, with TLS, when the server agrees to it (ALPN). */
export function upstreamSpeaksHttp2(pool: UpstreamPoolHandle, target: UpstreamTargetHandle): void {
  addon().upstreamSpeaksHttp2(pool, target)
}

/** For what begins from now on. */
export function changeUpstreamTarget(
  pool: UpstreamPoolHandle,
  target: UpstreamTargetHandle,
  settings: UpstreamTargetSettings,
): void {
  const { addresses, connectMs, queueMs, firstByteMs, idleMs, keepAliveMs, maxConnections, maxQueued } = settings
  addon().changeUpstreamTarget(
    pool,
    target,
    addresses,
    connectMs,
    queueMs,
    firstByteMs,
    idleMs,
    keepAliveMs,
    maxConnections,
    maxQueued,
  )
}

/** Takes no new requests; idle connections close now, the others after their request. */
export function retireUpstreamTarget(pool: UpstreamPoolHandle, target: UpstreamTargetHandle): void {
  addon().retireUpstreamTarget(pool, target)
}

/**
 * Sends a request: `head` is latin1 text, request line and `name: value` lines; framing is added. Without `body`,
 * `bodyLength` bytes (-1 = chunked) are to be written. Returns a number for upstreamLeg and upstreamIsReused,
 * UPSTREAM_OVERFLOW, UPSTREAM_NO_TARGET or UPSTREAM_BAD_HEAD. Events never come before it has returned.
 */
export function sendUpstream(
  pool: UpstreamPoolHandle,
  target: UpstreamTargetHandle,
  head: string,
  bodyLength: number,
  body: Uint8Array | null,
): number {
  return addon().upstreamSend(pool, target, head, bodyLength, body)
}

/**
 * Sends a request without a body with the head that `readLibraryHead` read last, if its number is `kept`, and `lines` behind it.
 * With `answerLines`, fields of ASCII, an answer that comes in one piece comes as PASSED: without `date` and what only we may say
 * (O-73), with these lines behind its own. Returns what sendUpstream does, or UPSTREAM_NOT_KEPT; then nothing was done.
 */
export function relayUpstream(
  pool: UpstreamPoolHandle,
  target: UpstreamTargetHandle,
  kept: number,
  lines: string,
  answerLines: string | undefined,
): number {
  return answerLines === undefined
    ? addon().upstreamRelay(pool, target, kept, lines, -1)
    : addon().upstreamRelay(pool, target, kept, lines + answerLines, lines.length)
}

/** The leg in what sendUpstream or relayUpstream returned. */
export function upstreamLeg(sent: number): UpstreamLegHandle {
  return Math.floor(sent / 2)
}

/** Whether the request is already on a connection that had carried one before. */
export function upstreamIsReused(sent: number): boolean {
  return sent % 2 === 1
}

/** The place of a leg: below 2^20, and not another leg's until its last event. */
export function upstreamSlot(leg: UpstreamLegHandle): number {
  return leg % 0x10_0000
}

/** A piece of the request body; false = wait for WRITABLE. */
export function writeUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle, bytes: Uint8Array): boolean {
  return addon().upstreamWrite(pool, leg, bytes)
}

/** The request body is complete. */
export function endUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle): void {
  addon().upstreamEnd(pool, leg)
}

/** Nothing more is read for the leg. */
export function pauseUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle): void {
  addon().upstreamPause(pool, leg)
}

/** Reads again. */
export function resumeUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle): void {
  addon().upstreamResume(pool, leg)
}

/** Gives up: no event follows. */
export function abortUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle): void {
  addon().upstreamAbort(pool, leg)
}

/** Enforces the deadlines; call it every 100 ms while it returns more than 0 (legs and connections). */
export function tickUpstream(pool: UpstreamPoolHandle): number {
  return addon().upstreamTick(pool)
}

/** `[open, idle, waiting]`: connections established or being established, of these without a request, and requests that wait for one. */
export function upstreamConnections(pool: UpstreamPoolHandle): readonly [number, number, number] {
  return addon().upstreamConnections(pool)
}

/** Reads made so far by a pool: what tests hold the end-of-file busy loop against. */
export function upstreamReads(pool: UpstreamPoolHandle): number {
  return addon().upstreamReads(pool)
}
