/** Checks one signature in a thread: for algorithms and keys that would hold the loop too long. */
import { checkSignature } from '../jwt/signature.ts'
import type { SignatureTask } from './messages.ts'

export default function verifySignature(task: SignatureTask): boolean {
  return checkSignature(task.algorithm, task.key, task.input, task.signature)
}
