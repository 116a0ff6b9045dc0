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

/** What a scan reads: the body, then the client (requests only), then the head, one behind the other. */
export interface ScanInput {
  readonly memory: SharedArrayBuffer
  readonly clientBytes: number
  readonly headBytes: number
  readonly bodyBytes: number
}

/** Phases 1 and 2, as native.ts `scanRequest` takes them. */
export interface RequestScanTask extends ScanInput {
  readonly kind: 'request'
  readonly profile: number
}

/** Phases 3 and 4, as native.ts `scanResponse` takes them. */
export interface ResponseScanTask extends ScanInput {
  readonly kind: 'response'
  readonly transaction: number
  readonly status: number
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
