/**
 * How many connections clients may have open: in all, and of one address (T-22). Decided when a connection comes, before
 * any byte of it; what is refused is closed at once, and what is open goes on.
 *
 * Front ends do not say whose connection has ended. So the kernel's table is counted, at most twice a second and only
 * while connections come; until the next count those that came since are added and those that went are not taken off. All
 * workers see the same table: over all of them an address gets at most as many too many as the others accept between
 * two counts. Reading the table costs the kernel about 10 µs a line on a small machine: that is the thread pool's work, and the
 * longer it takes the less often it is done.
 *
 * Source: threats.md T-22; proc(5), /proc/net/tcp and tcp6.
 */
import { readFile } from 'node:fs/promises'
import { performance } from 'node:perf_hooks'
import { addressText } from '../listener/peer-address.ts'

/** 0 = unlimited. */
export interface ConnectionLimits {
  readonly connections: number
  readonly connectionsPerAddress: number
}

const TABLES = ['/proc/net/tcp', '/proc/net/tcp6']
const COUNT_EVERY_MS = 500
/** This share of the time is spent on counting at most. */
const MAX_SHARE = 0.05
const ESTABLISHED = '01'
/** The client has said that it sends no more; the connection is still there. */
const CLOSE_WAIT = '08'
const WARN_EVERY_MS = 10_000

export class ConnectionLimit {
  readonly #warn: (facts: Record<string, string | number>, text: string) => void
  readonly #tables: readonly string[]
  /** By address, of the last count and with those that came since. */
  #open = new Map<string, number>()
  /** Those that came while the table is being read. */
  #cameMeanwhile: Map<string, number> | undefined
  #nextCountMs = 0
  #nextWarningMs = 0
  #refused = 0

  /** `warn` is told of refusals, at most every ten seconds. `tables`: for tests. */
  constructor(
    warn: (facts: Record<string, string | number>, text: string) => void,
    tables: readonly string[] = TABLES,
  ) {
    this.#warn = warn
    this.#tables = tables
  }

  /**
   * Whether one more connection of `address` may stay. `open`: connections of this worker with the new one; `ports`: those
   * that clients connect to. `isProxy`: the address is a trusted proxy, whose connections are many clients'.
   */
  allows(
    address: string,
    isProxy: boolean,
    open: number,
    ports: ReadonlySet<number>,
    { connections, connectionsPerAddress }: ConnectionLimits,
  ): boolean {
    if (connections > 0 && open > connections) return this.#refuse(address, 'limits.connections')
    if (connectionsPerAddress === 0 || isProxy) return true
    if (performance.now() >= this.#nextCountMs) this.#count(ports)
    const now = (this.#open.get(address) ?? 0) + 1
    if (now > connectionsPerAddress) return this.#refuse(address, 'limits.connections_per_address')
    this.#open.set(address, now)
    this.#cameMeanwhile?.set(address, (this.#cameMeanwhile.get(address) ?? 0) + 1)
    return true
  }

  #refuse(address: string, limit: string): false {
    this.#refused += 1
    const nowMs = performance.now()
    if (nowMs < this.#nextWarningMs) return false
    this.#nextWarningMs = nowMs + WARN_EVERY_MS
    this.#warn({ client_ip: address, limit, refused: this.#refused }, 'connections are refused')
    this.#refused = 0
    return false
  }

  #count(ports: ReadonlySet<number>): void {
    const startedAtMs = performance.now()
    this.#nextCountMs = Infinity
    const cameMeanwhile = new Map<string, number>()
    this.#cameMeanwhile = cameMeanwhile
    // a machine without IPv6 has one table
    void Promise.all(this.#tables.map((table) => readFile(table, 'latin1').catch(() => ''))).then((texts) => {
      const open = countByAddress(texts, ports)
      // the table may have been read before these were in it
      for (const [address, count] of cameMeanwhile) open.set(address, Math.max(count, open.get(address) ?? 0))
      this.#open = open
      this.#cameMeanwhile = undefined
      const endedAtMs = performance.now()
      this.#nextCountMs = endedAtMs + Math.max(COUNT_EVERY_MS, (endedAtMs - startedAtMs) / MAX_SHARE)
    })
  }
}

/** Connections to `ports` by the other end's address. Lines: number, local, remote, state; addresses in hex. */
export function countByAddress(tables: readonly string[], ports: ReadonlySet<number>): Map<string, number> {
  const counts = new Map<string, number>()
  // thousands of lines name few addresses
  const byHex = new Map<string, number>()
  const hexPorts = new Set([...ports].map((port) => port.toString(16).toUpperCase().padStart(4, '0')))
  for (const table of tables) {
    for (let at = table.indexOf('\n') + 1; at > 0 && at < table.length; at = table.indexOf('\n', at) + 1) {
      const local = table.indexOf(': ', at) + 2
      const digits = table.indexOf(':', local) - local
      const remote = local + digits + 6
      const state = table.slice(remote + digits + 6, remote + digits + 8)
      if (state !== ESTABLISHED && state !== CLOSE_WAIT) continue
      if (!hexPorts.has(table.slice(local + digits + 1, local + digits + 5))) continue
      const hex = table.slice(remote, remote + digits)
      byHex.set(hex, (byHex.get(hex) ?? 0) + 1)
    }
  }
  for (const [hex, count] of byHex) {
    // an IPv4 client of a socket for both families is the same client
    const address = addressText(tableBytes(hex))
    counts.set(address, (counts.get(address) ?? 0) + count)
  }
  return counts
}

/** The kernel writes 32-bit words in the machine's order, which is little-endian wherever we run. */
function tableBytes(hex: string): Uint8Array {
  return Buffer.from(hex, 'hex').swap32()
}
