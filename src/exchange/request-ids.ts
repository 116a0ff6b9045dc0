/**
 * The names under which a request is found again: X-Request-Id and W3C trace context.
 *
 * Source: operations.md O-67, O-68; W3C Trace Context §3.2; RFC 9562 §5.7 (UUIDv7).
 */
import { randomFillSync } from 'node:crypto'

const pool = Buffer.alloc(32 * 1024)
/** The pool as text; pieces of it are handed out, each once. */
let poolHex = ''
let poolAt = 0

/** So many random digits in lower-case hex, taken from a pool that is refilled in blocks. */
function randomHex(digits: number): string {
  if (poolAt + digits > poolHex.length) {
    poolHex = randomFillSync(pool).toString('hex')
    poolAt = 0
  }
  poolAt += digits
  return poolHex.slice(poolAt - digits, poolAt)
}

// Many requests come within one millisecond.
let timeMs = -1
let timeText = ''
/** RFC 9562 §5.7: variant bits 10 before two random ones. */
const VARIANTS = ['8', '9', 'a', 'b'] as const

/** How many ids share their random digits: the last byte counts them (RFC 9562 §6.2, method 1). */
const BLOCK = 256
const BYTES: readonly string[] = Array.from({ length: BLOCK }, (_, byte) => byte.toString(16).padStart(2, '0'))
let blockText = ''
let blockAt = BLOCK
/** Everything before the count, as one piece of text. */
let prefix = ''

/** A UUIDv7: 48 bits of milliseconds, 66 random bits, and a count of eight. */
export function newRequestId(nowMs: number): string {
  if (nowMs !== timeMs) {
    timeMs = nowMs
    const hex = Math.floor(nowMs).toString(16).padStart(12, '0')
    timeText = `${hex.slice(0, 8)}-${hex.slice(8)}-7`
    prefix = ''
  }
  if (blockAt === BLOCK) {
    blockAt = 0
    const variant = VARIANTS[Number.parseInt(randomHex(1), 16) & 3]! // two bits are an index into four
    blockText = `${randomHex(3)}-${variant}${randomHex(3)}-${randomHex(10)}`
    prefix = ''
  }
  if (prefix === '') prefix = Buffer.from(timeText + blockText, 'latin1').toString('latin1')
  return prefix + BYTES[blockAt++]
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
  const parts =
    inbound.length === 1 ? /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(inbound[0]!) : null
  const valid =
    parts !== null &&
    parts[1] !== 'ff' &&
    !/^0+$/.test(parts[2]!) &&
    !/^0+$/.test(parts[3]!) &&
    (parts[1] !== '00' || parts[5] === undefined)
  if (!valid) return newTrace()
  return { traceId: parts[2]!, traceparent: `00-${parts[2]}-${randomHex(16)}-${parts[4]}`, continued: true }
}

/** Traces that are made at a time, as text in memory: the digits are written over those of the block before. */
const TRACES = 256
const TRACE_START = '\r\ntraceparent: 00-'.length
const SPAN_START = TRACE_START + 32 + '-'.length
const TRACE_LENGTH = SPAN_START + 16 + '-00\r\n'.length
const traceText = Buffer.from(`\r\ntraceparent: 00-${'0'.repeat(32)}-${'0'.repeat(16)}-00\r\n`.repeat(TRACES), 'latin1')
const traceBytes = Buffer.alloc(TRACES * (16 + 8))
const HEX_DIGITS = Buffer.from('0123456789abcdef', 'latin1')
let traces = ''
let tracesAt = 0

/** The digits of `bytes` bytes, as they are put into the text. */
function writeHex(from: number, bytes: number, to: number): void {
  for (let place = 0; place < bytes; place++) {
    const byte = traceBytes[from + place]! // callers stay within both
    traceText[to + 2 * place] = HEX_DIGITS[byte >>> 4]!
    traceText[to + 2 * place + 1] = HEX_DIGITS[byte & 15]!
  }
}

/** A trace that begins here. */
export class NewTrace implements TraceContext {
  readonly continued = false
  /** The field with a line end on either side: what is put together of fewer pieces is sent with less work. */
  readonly line: string

  constructor(line: string) {
    this.line = line
  }

  get traceId(): string {
    return this.line.slice(TRACE_START, TRACE_START + 32)
  }

  get traceparent(): string {
    return this.line.slice(TRACE_START - 3, -2)
  }
}

/** For a request that brings no trace. */
export function newTrace(): NewTrace {
  if (tracesAt === traces.length) {
    randomFillSync(traceBytes)
    for (let count = 0; count < TRACES; count++) {
      writeHex(count * 24, 16, count * TRACE_LENGTH + TRACE_START)
      writeHex(count * 24 + 16, 8, count * TRACE_LENGTH + SPAN_START)
    }
    traces = traceText.toString('latin1')
    tracesAt = 0
  }
  tracesAt += TRACE_LENGTH
  return new NewTrace(traces.slice(tracesAt - TRACE_LENGTH, tracesAt))
}
