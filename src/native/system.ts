/** What else only the system can do. */
import { addon } from './addon.ts'

/**
 * Maps a file of exactly `bytes` bytes that all processes of a gateway share; `create` makes it first (0600, zeroes). The
 * memory changes at any time: read and write it through `Atomics` only. Throws when the file cannot be had.
 */
export function mapSharedMemory(path: string, bytes: number, create: boolean): ArrayBuffer {
  return addon().mapSharedMemory(path, bytes, create)
}

/**
 * From now on the kernel begins no connection on this process's listening sockets of these ports; those it has begun can
 * still be taken. For sockets that are about to close. Returns how many sockets there were.
 */
export function stopNewConnections(ports: readonly number[]): number {
  return addon().stopNewConnections([...ports])
}
