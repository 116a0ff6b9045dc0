/**
 * Scans one message in a thread. Profiles and transactions are numbers that every thread of the process understands, so
 * the loop goes on with the transaction that a thread began.
 */
import { scanRequest, scanResponse } from '../native.ts'
import type { ScanTask } from './messages.ts'

export default function scan(task: ScanTask): number {
  const { memory, clientBytes, headBytes, bodyBytes } = task
  const body = new Uint8Array(memory, 0, bodyBytes)
  const client = new Uint8Array(memory, bodyBytes, clientBytes)
  const head = new Uint8Array(memory, bodyBytes + clientBytes, headBytes)
  return task.kind === 'request'
    ? scanRequest(task.profile, client, head, headBytes, body)
    : scanResponse(task.transaction, task.status, head, headBytes, body)
}
