/**
 * How many file descriptors a worker may need, and how many it may have.
 *
 * Source: operations.md O-78.
 */
import { readFileSync } from 'node:fs'

/** Epoll instances, the libraries, logs, Redis, the primary, threads, key sets: with room to spare. */
const OWN = 128
/** Where the settings do not bound clients: fewer than this would be a bound that nobody asked for. */
const UNBOUNDED_CLIENTS = 1024

export interface DescriptorNeed {
  readonly listeners: number
  /** `limits.connections`, per worker; 0 = unlimited. */
  readonly clients: number
  /** `max_connections` of every target. */
  readonly targets: readonly number[]
}

/** With every client and every target at its bound. */
export function descriptorNeed({ listeners, clients, targets }: DescriptorNeed): number {
  const upstream = targets.reduce((sum, connections) => sum + connections, 0)
  return OWN + listeners + (clients > 0 ? clients : Math.max(UNBOUNDED_CLIENTS, upstream)) + upstream
}

/** The limit of this process as it is now; undefined = none, or not to be known. Node raises it to the highest allowed. */
export function descriptorLimit(
  readLimits: () => string = () => readFileSync('/proc/self/limits', 'utf8'),
): number | undefined {
  try {
    const limit = Number(/^Max open files\s+(\d+)/m.exec(readLimits())?.[1])
    return Number.isNaN(limit) ? undefined : limit
  } catch {
    return undefined
  }
}
