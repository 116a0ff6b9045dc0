/** Rule sets: SecLang sources → rule set → profile → transaction. Handles are numbers; threads of one process share them. */
import { addon } from './addon.ts'
import type { CollectionsHandle } from './collections.ts'

/** A compiled rule set. Release it with releaseRuleSet; profiles made from it keep it alive. */
export type RuleSetHandle = number
/** What one owasp-crs action asks of a rule set. */
export type ProfileHandle = number
/** One scan of one exchange; must be ended with endTransaction. */
export type TransactionHandle = number

/** One file of SecLang text, or one *.data phrase list. */
export interface RuleSource {
  readonly path: string
  readonly text: string
}

/** What a rule set is made of. */
export interface RuleSetSources {
  /** In the order of evaluation. */
  readonly files: readonly RuleSource[]
  /** What the files name: phrase lists and further files of rules, found by their path relative to the naming file. */
  readonly data: readonly RuleSource[]
  /** Ids of the rules that may be left out because a construct of theirs is not implemented. */
  readonly leftOut: readonly number[]
}

/** A file that a file of rules names: by `Include`, as a phrase or address list, as a code-page map. */
export interface RuleFileReference {
  /** Seen from where the path of the naming file is seen from. */
  readonly path: string
  /** Where it is named; both start at 1. */
  readonly line: number
  readonly column: number
  /** The path holds `*`, `?` or `[…]`, none of which crosses a slash. */
  readonly isPattern: boolean
  /** What is named holds rules itself. */
  readonly holdsRules: boolean
}

/** One error of a load, pointing into the source that holds it. Line and column start at 1. */
export interface RuleDiagnostic {
  readonly path: string
  readonly line: number
  readonly column: number
  readonly code: string
  readonly message: string
}

/** A rule set that did not load, with every error found. */
export class RuleSetError extends Error {
  override readonly name = 'RuleSetError'
  readonly diagnostics: readonly RuleDiagnostic[]

  constructor(diagnostics: readonly RuleDiagnostic[]) {
    const first = diagnostics[0]
    const where = first === undefined ? '' : `: ${first.path}:${first.line}:${first.column} ${first.message}`
    super(`${diagnostics.length} error${diagnostics.length === 1 ? '' : 's'} in the rule set${where}`)
    this.diagnostics = diagnostics
  }
}

/** Facts about a loaded rule set. */
export interface RuleSetSummary {
  readonly rules: number
  readonly files: number
  /** Rules per phase, 1 to 5. */
  readonly phases: readonly number[]
  /** Rules that were left out, with the construct that is missing. */
  readonly leftOut: readonly { readonly id: number; readonly construct: string }[]
  /** MIME types whose response bodies the rule set wants to see; lower case. */
  readonly responseBodyMimeTypes: readonly string[]
  /** Bytes of a body that are inspected. */
  readonly requestBodyLimit: number
  readonly responseBodyLimit: number
  /** Texts of SecComponentSignature, such as `OWASP_CRS/4.28.0`. */
  readonly componentSignatures: readonly string[]
}

/** What one action asks of a rule set. Limits are bytes. */
export interface ProfileOptions {
  /** Of all phases. */
  readonly excludeRuleIds?: readonly number[]
  /** Of phases 1, 2 and 5. */
  readonly excludeRequestRuleIds?: readonly number[]
  /** Of phases 3, 4 and 5. */
  readonly excludeResponseRuleIds?: readonly number[]
  readonly requestBodyAccess: boolean
  readonly responseBodyAccess: boolean
  readonly requestBodyLimit: number
  readonly responseBodyLimit: number
  readonly paranoiaLevel?: number
  /** Level up to which rules run without their scores counting; default: the paranoia level. */
  readonly detectionParanoiaLevel?: number
  readonly inboundThreshold?: number
  readonly outboundThreshold?: number
  /** Rules run and are reported, but nothing interrupts. */
  readonly detectionOnly?: boolean
}

/** Bits of a scan's answer. */
export const SCAN_MATCHED = 1
export const SCAN_INTERRUPTED = 2
export const SCAN_BODY_ERROR = 4

/** One logged rule match. */
export interface RuleMatch {
  readonly id: number
  readonly phase: number
  readonly message: string
  readonly data: string
  readonly severity: string
  readonly variable: string
  /** At most 200 bytes, escaped. */
  readonly value: string
  readonly tags: readonly string[]
  /** What the match added to the anomaly score. */
  readonly score?: number
  /** Where the rule stands. */
  readonly file: string
  readonly line: number
  /** The rule's `ver`. */
  readonly version?: string
}

/** What a transaction found; fetched only when a scan's flags say so. */
export interface TransactionDetails {
  readonly interruption: { readonly phase: number; readonly status: number; readonly ruleId: number } | null
  /** Which rule of which phase each of `matches` is. */
  readonly matched: readonly Pick<RuleMatch, 'id' | 'phase'>[]
  /** At most 512 of a transaction. Their texts are most of the price of the details: read from JSON when first asked for. */
  readonly matches: readonly RuleMatch[]
  /** How many more there were. */
  readonly matchesLeftOut: number
  readonly inbound: { readonly score: number; readonly threshold: number }
  readonly outbound: { readonly score: number; readonly threshold: number }
  readonly bodyError: string | null
}

/** The SCAN_… bits of a scan's answer. */
export function scanFlags(answer: number): number {
  return answer % 16
}

/** The transaction of a scan's answer. */
export function scanTransaction(answer: number): TransactionHandle {
  return Math.floor(answer / 16)
}

/**
 * Parses and compiles SecLang sources off the event loop.
 * Rejects with RuleSetError that holds every error of the load.
 *
 * @param collections where `ip`, `global` and the like are kept; 0 = in memory of this rule set
 */
export async function loadRuleSet(sources: RuleSetSources, collections: CollectionsHandle = 0): Promise<RuleSetHandle> {
  try {
    return await addon().loadRuleSet(JSON.stringify({ ...sources, collections }))
  } catch (error) {
    throw toRuleSetError(error)
  }
}

/** The files that a file of rules names, in order; whether they are there is for the caller to find out. */
export function ruleFileReferences(source: RuleSource): readonly RuleFileReference[] {
  // most files name none, and the texts are long
  if (!NAMES_FILES.test(source.text)) return []
  return JSON.parse(addon().ruleFileReferences(source.path, source.text)) as RuleFileReference[]
}

const NAMES_FILES = /@(?:pm|ipMatch)F|^[ \t]*(?:Include|SecUnicodeMapFile)/im

function toRuleSetError(error: unknown): unknown {
  if (!(error instanceof Error) || !error.message.startsWith('{')) return error
  try {
    const parsed = JSON.parse(error.message) as { diagnostics?: readonly RuleDiagnostic[] }
    return Array.isArray(parsed.diagnostics) ? new RuleSetError(parsed.diagnostics) : error
  } catch {
    return error // not our JSON after all: the text itself is the best there is
  }
}

/** Facts about a loaded rule set. Throws on a stale handle. */
export function ruleSetSummary(ruleSet: RuleSetHandle): RuleSetSummary {
  return JSON.parse(addon().ruleSetSummary(ruleSet)) as RuleSetSummary
}

/** Lets go of a rule set; scans that run and profiles made from it keep it alive until they end. */
export function releaseRuleSet(ruleSet: RuleSetHandle): void {
  addon().releaseRuleSet(ruleSet)
}

/** Binds what one action asks to a rule set. Throws on a stale handle and on options that make no sense. */
export function createProfile(ruleSet: RuleSetHandle, options: ProfileOptions): ProfileHandle {
  return addon().createProfile(ruleSet, JSON.stringify(options))
}

/** As createProfile, off the event loop: a rule set of thousands of rules takes some ten milliseconds. */
export function prepareProfile(ruleSet: RuleSetHandle, options: ProfileOptions): Promise<ProfileHandle> {
  return addon().prepareProfile(ruleSet, JSON.stringify(options))
}

/** Lets go of a profile. */
export function releaseProfile(profile: ProfileHandle): void {
  addon().releaseProfile(profile)
}

/**
 * Phases 1 and 2. Synchronous; for large bodies call it in a thread.
 *
 * @param client ASCII `ip port serverIp serverPort`, separated by one blank
 * @param head `METHOD SP target SP HTTP/1.1 CRLF` and `name: value CRLF` lines, names in lower case; a character is a byte
 * @param body the whole body, or null when it is not to be looked at
 * @param isLast when nothing is found, phase 5 runs as well and the transaction is freed: the answer's transaction is then 0,
 *   unless a rule of phase 5 logged, which endTransaction tells
 * @returns a scan answer: read it with scanTransaction and scanFlags; a transaction that is not 0 must be ended
 */
export function scanRequest(
  profile: ProfileHandle,
  client: string,
  requestId: string,
  head: string,
  body: Uint8Array | string | null,
  isLast = false,
): number {
  return addon().scanRequest(profile, client, requestId, head, body, isLast)
}

/**
 * Phases 3 and 4 of a transaction from scanRequest or startResponseTransaction.
 *
 * @param head `HTTP/1.1 200 OK CRLF` and header lines; a character is a byte
 * @param isLast as for scanRequest
 * @returns a scan answer for the same transaction
 */
export function scanResponse(
  transaction: TransactionHandle,
  status: number,
  head: string,
  body: Uint8Array | string | null,
  isLast = false,
): number {
  return addon().scanResponse(transaction, status, head, body, isLast)
}

/** A transaction whose request was not scanned (owasp-crs-response alone): variables and set-up rules only. */
export function startResponseTransaction(
  profile: ProfileHandle,
  client: string,
  requestId: string,
  head: string,
): number {
  return addon().startResponseTransaction(profile, client, requestId, head)
}

/**
 * What a transaction found, of its matches those of `fromPhase` and later ones. Only worth its price when a scan's flags
 * say that something matched. Without `withTexts` the matches' texts, most of the price, are fetched when `matches` is
 * first read: the transaction must not have been ended by then.
 */
export function transactionDetails(
  transaction: TransactionHandle,
  fromPhase = 1,
  withTexts = true,
): TransactionDetails {
  const text = addon().transactionDetails(transaction, fromPhase, withTexts)
  return new FetchedDetails(text, () => addon().transactionDetails(transaction, fromPhase, true))
}

/** The addon gives two lines of JSON: everything but the matches' texts, and `matches`, where it was asked for them. */
class FetchedDetails implements TransactionDetails {
  readonly interruption: TransactionDetails['interruption']
  readonly matched: TransactionDetails['matched']
  readonly matchesLeftOut: number
  readonly inbound: TransactionDetails['inbound']
  readonly outbound: TransactionDetails['outbound']
  readonly bodyError: string | null
  readonly #text: string
  readonly #again: (() => string) | undefined
  #matches: readonly RuleMatch[] | undefined

  constructor(text: string, again?: () => string) {
    const end = text.indexOf('\n')
    const summary = JSON.parse(end === -1 ? text : text.slice(0, end)) as Omit<TransactionDetails, 'matches'>
    this.interruption = summary.interruption
    this.matched = summary.matched
    this.matchesLeftOut = summary.matchesLeftOut
    this.inbound = summary.inbound
    this.outbound = summary.outbound
    this.bodyError = summary.bodyError
    this.#text = text
    this.#again = again
  }

  get matches(): readonly RuleMatch[] {
    if (this.#matches === undefined) {
      const text = this.#text.includes('\n') ? this.#text : (this.#again?.() ?? '\n[]')
      this.#matches = JSON.parse(text.slice(text.indexOf('\n') + 1)) as readonly RuleMatch[]
    }
    return this.#matches
  }
}

/**
 * Runs phase 5 and frees the transaction. Calling it twice does no harm.
 * @param withTexts false: `matches` of what comes back is empty
 * @returns the details with the matches of phase 5, when a rule of it logged
 */
export function endTransaction(transaction: TransactionHandle, withTexts = true): TransactionDetails | undefined {
  const found = addon().endTransaction(transaction, withTexts)
  return found === null ? undefined : new FetchedDetails(found)
}

/** Transactions of this process that were not ended yet. */
export function openTransactions(): number {
  return addon().openTransactions()
}
