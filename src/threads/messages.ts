/**
 * What crosses to a thread and back. Bytes are copied once, into memory that is transferred, or that both see where it
 * serves one scan after the other: the caller's arrays stay whole. Keys are handles that node:crypto shares between threads.
 */
import type { KeyObject } from 'node:crypto'
import type { FoundMatch, ReplaceStep } from '../body/replace.ts'
import type { SignatureAlgorithm } from '../jwt/signature.ts'

/** For jwt-verify.task.ts; answers whether the signature is good. */
export interface SignatureTask {
  readonly algorithm: SignatureAlgorithm
  readonly key: KeyObject
  readonly input: Uint8Array
  readonly signature: Uint8Array
}

/** The body is at the beginning of the memory. */
export interface ScanMemory {
  readonly memory: SharedArrayBuffer
  readonly bodyBytes: number
}

/** Phases 1 and 2, as src/native/rule-set.ts `scanRequest` takes them. */
export interface RequestScanTask extends ScanMemory {
  readonly kind: 'request'
  readonly profile: number
  readonly client: string
  readonly requestId: string
  readonly head: string
  readonly isLast: boolean
}

/** Phases 3 and 4, as src/native/rule-set.ts `scanResponse` takes them. */
export interface ResponseScanTask extends ScanMemory {
  readonly kind: 'response'
  readonly transaction: number
  readonly status: number
  readonly head: string
  readonly isLast: boolean
}

/** For waf-scan.task.ts; answers the number that scanFlags and scanTransaction read. */
export type ScanTask = RequestScanTask | ResponseScanTask

/** For replace.task.ts. */
export interface ReplaceTask {
  readonly bytes: Uint8Array
  readonly steps: readonly ReplaceStep[]
}

/** As replaceInBytes answers. */
export interface ReplaceAnswer {
  readonly bytes: Uint8Array | undefined
  readonly matches: readonly FoundMatch[]
}
