/**
 * The names under which a request is found again: X-Request-Id and W3C trace context.
 *
 * Source: operations.md O-67, O-68; W3C Trace Context §3.2; RFC 9562 §5.7 (UUIDv7).
 */
import { randomFillSync } from 'node:crypto'

const RANDOM_POOL_BYTES = 4096
const pool = Buffer.alloc(RANDOM_POOL_BYTES)
let poolAt = RANDOM_POOL_BYTES

/** Random bytes as lower-case hex, taken from a pool that is refilled in blocks. */
function randomHex(bytes: number): string {
  if (poolAt + bytes > RANDOM_POOL_BYTES) {
    randomFillSync(pool)
    poolAt = 0
  }
  const hex = pool.toString('hex', poolAt, poolAt + bytes)
  poolAt += bytes
  return hex
}

/** A UUIDv7: 48 bits of milliseconds, then random. */
export function newRequestId(nowMs: number): string {
  const time = Math.floor(nowMs).toString(16).padStart(12, '0')
  const random = randomHex(10)
  // RFC 9562 §5.7: version nibble 7; variant bits 10
  const variant = ((Number.parseInt(random[3]!, 16) & 0x3) | 0x8).toString(16)
  return `${time.slice(0, 8)}-${time.slice(8)}-7${random.slice(0, 3)}-${variant}${random.slice(4, 7)}-${random.slice(7, 19)}`
}

/** O-67: what an inbound X-Request-Id must look like to be kept. */
export function isRequestId(value: string): boolean {
  return /^[A-Za-z0-9._~+/=-]{1,128}$/.test(value)
}

export interface TraceContext {
  readonly traceId: string
  /** The value that goes upstream. */
  readonly traceparent: string
  /** False: a new trace began, and `tracestate` must not travel on. */
  readonly continued: boolean
}

/** A valid inbound `traceparent` keeps its trace id and flags and gets a new span id; anything else starts a new trace. */
export function traceContext(inbound: readonly string[]): TraceContext {
  const spanId = randomHex(8)
  const parts =
    inbound.length === 1 ? /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(inbound[0]!) : null
  const valid =
    parts !== null &&
    parts[1] !== 'ff' &&
    !/^0+$/.test(parts[2]!) &&
    !/^0+$/.test(parts[3]!) &&
    (parts[1] !== '00' || parts[5] === undefined)
  if (!valid) {
    const traceId = randomHex(16)
    return { traceId, traceparent: `00-${traceId}-${spanId}-00`, continued: false }
  }
  return { traceId: parts[2]!, traceparent: `00-${parts[2]}-${spanId}-${parts[4]}`, continued: true }
}
