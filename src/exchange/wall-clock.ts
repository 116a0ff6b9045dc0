/** The time of day of moments at which somebody has looked at `performance.now()`: asking for one of the two is enough. */
import { performance } from 'node:perf_hooks'

/** How long the distance between the two clocks is taken to be the same: the time of day may be set. */
const KEPT_MS = 1000

let offsetMs = 0
let offsetUntilMs = -Infinity

/** Whole milliseconds since the epoch, of `atMs` on `performance.now()`; less than 2 ms off what `Date.now()` said then. */
export function wallMs(atMs: number): number {
  if (atMs >= offsetUntilMs) {
    const nowMs = performance.now()
    offsetMs = Date.now() - nowMs
    offsetUntilMs = nowMs + KEPT_MS
  }
  return Math.floor(atMs + offsetMs)
}
