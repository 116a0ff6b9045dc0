/**
 * Scans one message in a thread. Profiles and transactions are numbers that every thread of the process understands, so
 * the loop goes on with the transaction that a thread began.
 */
import { scanRequest, scanResponse } from '../native/rule-set.ts'
import type { ScanTask } from './messages.ts'

export default function scan(task: ScanTask): number {
  const { head, isLast } = task
  const body = new Uint8Array(task.memory, 0, task.bodyBytes)
  return task.kind === 'request'
    ? scanRequest(task.profile, task.client, task.requestId, head, body, isLast)
    : scanResponse(task.transaction, task.status, head, body, isLast)
}
