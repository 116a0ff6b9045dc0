/**
 * Everything the gateway asks of Rust: rule sets and scans, policy regular expressions, shared rate-limit buckets,
 * upstream connections, the native front end.
 * The only file that loads the addon. Handles are numbers; threads of one process share them, processes do not.
 * Source of the calls: native/binding/src (names there in snake case).
 */
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

// ---------------------------------------------------------------------------------------------------------------------
// The addon as it is exported: numbers, bytes and JSON text only. A test holds this list against the built file.

/** The addon's own exports. Call the functions below instead: they parse, type and document what comes back. */
export interface NativeAddon {
  loadRuleSet(sourcesJson: string): Promise<number>
  ruleFileReferences(path: string, text: string): string
  ruleSetSummary(ruleSet: number): string
  releaseRuleSet(ruleSet: number): void
  createProfile(ruleSet: number, optionsJson: string): number
  prepareProfile(ruleSet: number, optionsJson: string): Promise<number>
  releaseProfile(profile: number): void
  scanRequest(
    profile: number,
    client: string,
    requestId: string,
    head: string,
    body: Uint8Array | string | null,
    isLast: boolean,
  ): number
  scanResponse(
    transaction: number,
    status: number,
    head: string,
    body: Uint8Array | string | null,
    isLast: boolean,
  ): number
  startResponseTransaction(profile: number, client: string, requestId: string, head: string): number
  transactionDetails(transaction: number, fromPhase: number, withTexts: boolean): string
  endTransaction(transaction: number, withTexts: boolean): string | null
  openTransactions(): number
  compilePattern(pattern: string): number
  patternTest(pattern: number, text: string): boolean
  patternReplace(pattern: number, text: string, replacement: string): string | null
  patternFindAll(pattern: number, text: string, limit: number): string[]
  releasePattern(pattern: number): void
  createBuckets(path: string, entries: number): number
  createCollections(path: string, records: number): number
  openCollections(path: string): number
  closeCollections(collections: number): void
  collectionsSummary(collections: number): string
  openBuckets(path: string): number
  closeBuckets(buckets: number): void
  bucketsSummary(buckets: number): string
  takeBucket(buckets: number, key: Uint8Array, keyLength: number, capacity: number, windowMs: number): number
  openLibraryHeads(facts: Float64Array): void
  readLibraryHead(request: object, response: object, uriBytes: number, headBytes: number): string | undefined
  probeLibraryHead(request: object): number[] | null
  libraryConnection(response: object): number
  createUpstreamPool(bufferBytes: number, data: Buffer, onEvent: UpstreamEventListener): number
  closeUpstreamPool(pool: number): void
  addUpstreamTarget(
    pool: number,
    addresses: string,
    connectMs: number,
    queueMs: number,
    firstByteMs: number,
    idleMs: number,
    keepAliveMs: number,
    maxConnections: number,
    maxQueued: number,
  ): number
  changeUpstreamTarget(
    pool: number,
    target: number,
    addresses: string,
    connectMs: number,
    queueMs: number,
    firstByteMs: number,
    idleMs: number,
    keepAliveMs: number,
    maxConnections: number,
    maxQueued: number,
  ): void
  retireUpstreamTarget(pool: number, target: number): void
  secureUpstreamTarget(
    pool: number,
    target: number,
    authorities: string | null,
    name: string,
    isHttp2: boolean,
  ): boolean
  upstreamSpeaksHttp2(pool: number, target: number): void
  upstreamSend(pool: number, target: number, head: string, bodyLength: number, body: Uint8Array | null): number
  upstreamRelay(pool: number, target: number, kept: number, lines: string, split: number): number
  upstreamWrite(pool: number, leg: number, bytes: Uint8Array): boolean
  upstreamEnd(pool: number, leg: number): void
  upstreamPause(pool: number, leg: number): void
  upstreamResume(pool: number, leg: number): void
  upstreamAbort(pool: number, leg: number): void
  upstreamTick(pool: number): number
  mapSharedMemory(path: string, bytes: number, create: boolean): ArrayBuffer
  stopNewConnections(ports: number[]): number
  upstreamConnections(pool: number): [number, number, number]
  upstreamReads(pool: number): number
  createFront(limits: number[], clockMs: number, numbers: Float64Array, onEvent: FrontEventListener): number
  closeFront(front: number): void
  frontLimits(front: number, limits: number[]): void
  frontAskConnect(front: number, asks: boolean): void
  frontListen(front: number, id: number, address: string, proxyProtocol: boolean): number
  frontCloseListener(front: number, id: number): void
  frontTls(front: number, connection: number): string
  frontUseTls(front: number, listener: number, number: number): void
  ticketSecret(): number[]
  useTicketSecret(secret: Uint8Array): void
  prepareTls(rules: string): number
  dropTls(number: number): void
  frontDrain(front: number): void
  frontCounts(front: number): [number, number, number, number]
  frontConnections(front: number, listener: number): [number, number, number, number]
  frontPeer(front: number, connection: number): string
  frontRefuse(front: number, connection: number): void
  addFrontTarget(
    front: number,
    addresses: string,
    connectMs: number,
    queueMs: number,
    firstByteMs: number,
    idleMs: number,
    keepAliveMs: number,
    maxConnections: number,
    maxQueued: number,
  ): number
  changeFrontTarget(
    front: number,
    target: number,
    addresses: string,
    connectMs: number,
    queueMs: number,
    firstByteMs: number,
    idleMs: number,
    keepAliveMs: number,
    maxConnections: number,
    maxQueued: number,
  ): void
  retireFrontTarget(front: number, target: number): void
  secureFrontTarget(front: number, target: number, authorities: string | null, name: string, isHttp2: boolean): boolean
  frontSpeaksHttp2(front: number, target: number): void
  frontReadRequestBody(front: number, exchange: number, limitBytes: number): void
  frontHoldRequestBody(front: number, exchange: number, limitBytes: number): void
  frontHoldResponseBody(front: number, exchange: number, limitBytes: number): void
  frontHeldBody(front: number, exchange: number, isResponse: boolean): Uint8Array
  scanHeldRequest(
    front: number,
    exchange: number,
    threadThresholdBytes: number,
    ticket: number,
    profile: number,
    client: string,
    requestId: string,
    head: string,
    isLast: boolean,
  ): number
  scanHeldResponse(
    front: number,
    exchange: number,
    threadThresholdBytes: number,
    ticket: number,
    transaction: number,
    status: number,
    head: string,
    isLast: boolean,
  ): number
  allowScanThreads(mostThreads: number, mostWaiting: number): void
  frontForward(front: number, exchange: number, target: number, head: string, body: Uint8Array | null): number
  frontRelay(front: number, exchange: number, lines: string): number
  frontCanRepeat(front: number, exchange: number): boolean
  frontReadResponseBody(front: number, exchange: number, limitBytes: number): void
  frontContinue(front: number, exchange: number, head: string, body: Uint8Array | null, isFiltered: boolean): number
  frontRespond(front: number, exchange: number, head: string, body: Uint8Array): number
  frontAbort(front: number, exchange: number): number
  frontWrite(front: number, exchange: number, bytes: Uint8Array): boolean
  frontEnd(front: number, exchange: number): void
  frontHold(front: number, exchange: number, isHeld: boolean): void
  frontBreak(front: number, exchange: number, detail: string): void
}

/** Names of every export of the addon, for the test that holds declarations and file together. */
export const NATIVE_EXPORTS: readonly (keyof NativeAddon)[] = [
  'addFrontTarget',
  'addUpstreamTarget',
  'allowScanThreads',
  'bucketsSummary',
  'changeFrontTarget',
  'changeUpstreamTarget',
  'closeBuckets',
  'closeCollections',
  'closeFront',
  'closeUpstreamPool',
  'collectionsSummary',
  'compilePattern',
  'createBuckets',
  'createCollections',
  'createFront',
  'createProfile',
  'createUpstreamPool',
  'dropTls',
  'endTransaction',
  'frontAbort',
  'frontAskConnect',
  'frontBreak',
  'frontCanRepeat',
  'frontCloseListener',
  'frontConnections',
  'frontContinue',
  'frontCounts',
  'frontDrain',
  'frontEnd',
  'frontForward',
  'frontHeldBody',
  'frontHold',
  'frontHoldRequestBody',
  'frontHoldResponseBody',
  'frontLimits',
  'frontListen',
  'frontPeer',
  'frontReadRequestBody',
  'frontReadResponseBody',
  'frontRefuse',
  'frontRelay',
  'frontRespond',
  'frontSpeaksHttp2',
  'frontTls',
  'frontUseTls',
  'frontWrite',
  'libraryConnection',
  'loadRuleSet',
  'mapSharedMemory',
  'openBuckets',
  'openCollections',
  'openLibraryHeads',
  'openTransactions',
  'patternFindAll',
  'patternReplace',
  'patternTest',
  'ticketSecret',
  'useTicketSecret',
  'prepareProfile',
  'prepareTls',
  'probeLibraryHead',
  'readLibraryHead',
  'releasePattern',
  'releaseProfile',
  'releaseRuleSet',
  'retireFrontTarget',
  'retireUpstreamTarget',
  'ruleFileReferences',
  'ruleSetSummary',
  'scanHeldRequest',
  'scanHeldResponse',
  'scanRequest',
  'scanResponse',
  'secureFrontTarget',
  'secureUpstreamTarget',
  'startResponseTransaction',
  'stopNewConnections',
  'takeBucket',
  'transactionDetails',
  'upstreamAbort',
  'upstreamConnections',
  'upstreamEnd',
  'upstreamPause',
  'upstreamReads',
  'upstreamResume',
  'upstreamRelay',
  'upstreamSend',
  'upstreamSpeaksHttp2',
  'upstreamTick',
  'upstreamWrite',
]

/** Where the built addon lies: `native/sallyport.node` of the checkout, seen from src/ and from dist/ alike. */
export const NATIVE_ADDON_PATH: string = fileURLToPath(new URL('../native/sallyport.node', import.meta.url))

/** The addon is not there or does not load; `message` is one sentence that says what to run. */
export class NativeAddonError extends Error {
  override readonly name = 'NativeAddonError'
}

let loaded: NativeAddon | undefined

function addon(): NativeAddon {
  if (loaded !== undefined) return loaded
  try {
    // What comes back has exactly these exports: test/unit/native.test.ts compares them with NATIVE_EXPORTS.
    loaded = createRequire(import.meta.url)(NATIVE_ADDON_PATH) as NativeAddon
    return loaded
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND'
    const reason = missing ? 'is not built' : `does not load (${(error as Error).message})`
    throw new NativeAddonError(`The native part (${NATIVE_ADDON_PATH}) ${reason}: run \`npm run build\`.`, {
      cause: error,
    })
  }
}

/** Loads the addon now instead of at the first call. Throws NativeAddonError with one sentence when it is missing. */
export function loadNative(): void {
  addon()
}

// ---------------------------------------------------------------------------------------------------------------------
// Rule sets: SecLang sources → rule set → profile → transaction

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

/** Collections of the rule matcher (`ip`, `global`, …) in memory that processes share. */
export type CollectionsHandle = number

export interface CollectionsSummary {
  readonly records: number
  readonly bytes: number
  /** Records ever thrown out although they had not expired. */
  readonly evictions: number
  /** Members ever not stored because their record was full. */
  readonly refusals: number
}

/** Makes the table: the primary does, before it forks. 512 bytes a record. Throws when the file cannot be made. */
export function createCollections(path: string, records: number): CollectionsHandle {
  return addon().createCollections(path, records)
}

/** Opens the primary's table: workers do. Throws when it is not there. */
export function openCollections(path: string): CollectionsHandle {
  return addon().openCollections(path)
}

/** Lets go; rule sets keep what they use. */
export function closeCollections(collections: CollectionsHandle): void {
  addon().closeCollections(collections)
}

/** Size and losses. Throws on a stale handle. */
export function collectionsSummary(collections: CollectionsHandle): CollectionsSummary {
  return JSON.parse(addon().collectionsSummary(collections)) as CollectionsSummary
}

// ---------------------------------------------------------------------------------------------------------------------
// Policy regular expressions (RE2 semantics, linear time)

/** A compiled policy regular expression. */
export type PatternHandle = number

/** A regular expression that does not compile; `message` says why, in one line. */
export class PatternError extends Error {
  override readonly name = 'PatternError'
}

/**
 * Compiles a policy regular expression (traffic-policy.md §3: RE2, no look-around, no back-references).
 * Throws PatternError.
 */
export function compilePattern(pattern: string): PatternHandle {
  try {
    return addon().compilePattern(pattern)
  } catch (error) {
    if (error instanceof NativeAddonError) throw error
    throw new PatternError((error as Error).message, { cause: error })
  }
}

/** Whether the pattern matches anywhere in `text`. */
export function patternTest(pattern: PatternHandle, text: string): boolean {
  return addon().patternTest(pattern, text)
}

/**
 * Replaces every match by `replacement` in Go's syntax (`$1`, `$name`, `${name}`, `$$`; `$1x` is the group named `1x`).
 * Returns null when nothing matched. Throws when the result would pass 16 MiB.
 */
export function patternReplace(pattern: PatternHandle, text: string, replacement: string): string | null {
  return addon().patternReplace(pattern, text, replacement)
}

/** The first `limit` matches, leftmost first, as text. */
export function patternFindAll(pattern: PatternHandle, text: string, limit: number): string[] {
  return addon().patternFindAll(pattern, text, limit)
}

/** Lets go of a compiled pattern. */
export function releasePattern(pattern: PatternHandle): void {
  addon().releasePattern(pattern)
}

// ---------------------------------------------------------------------------------------------------------------------
// Rate-limit buckets in shared memory: one table per gateway, exact over all its worker processes

/** An open table of buckets. */
export type BucketsHandle = number

/** Facts about a table of buckets. */
export interface BucketsSummary {
  /** Buckets the table can hold. */
  readonly entries: number
  readonly bytes: number
  /** Buckets ever thrown out although they still held counts of their window. */
  readonly evictions: number
  /** Times a process died inside a critical section and the next one repaired the shard. */
  readonly repairs: number
}

/**
 * Creates the table (the primary does, before it forks). The file gets mode 0600; a file already there is replaced.
 * `entries` is rounded up to whole shards; 288 bytes each. Throws when the file cannot be made.
 */
export function createBuckets(path: string, entries: number): BucketsHandle {
  return addon().createBuckets(path, entries)
}

/** Opens a table that createBuckets made (workers do). Throws when the file is missing or not such a table. */
export function openBuckets(path: string): BucketsHandle {
  return addon().openBuckets(path)
}

/** Unmaps the table in this process; the file stays. */
export function closeBuckets(buckets: BucketsHandle): void {
  addon().closeBuckets(buckets)
}

/** Size, evictions and repairs of a table. */
export function bucketsSummary(buckets: BucketsHandle): BucketsSummary {
  return JSON.parse(addon().bucketsSummary(buckets)) as BucketsSummary
}

/** Keys up to a third of this many characters go through one buffer that is never given away. */
const KEY_SCRATCH = Buffer.alloc(3072)

/**
 * Takes one event from a bucket (sliding window of 60 + 1 slots, traffic-policy.md §5.16). About 0.3 µs.
 *
 * @param key any length; hashed inside
 * @param capacity events per window, integer
 * @param windowMs window length in milliseconds, above 0
 * @returns `>= 0`: admitted, so many remain; `< 0`: refused, its negative is the milliseconds until one may succeed
 */
export function takeBucket(buckets: BucketsHandle, key: string, capacity: number, windowMs: number): number {
  // A UTF-16 unit takes at most 3 bytes of UTF-8, so what passes this test fits whole.
  if (key.length * 3 <= KEY_SCRATCH.length) {
    return addon().takeBucket(buckets, KEY_SCRATCH, KEY_SCRATCH.write(key), capacity, windowMs)
  }
  const bytes = Buffer.from(key)
  return addon().takeBucket(buckets, bytes, bytes.length, capacity, windowMs)
}

// ---------------------------------------------------------------------------------------------------------------------
// Request heads that uWebSockets.js has parsed, out of its own memory (src/listener/library-head.ts)

/** Bits of the first fact of a head. */
export const LIBRARY_HEAD_CLOSE = 1
export const LIBRARY_HEAD_KEEP_ALIVE = 2
export const LIBRARY_HEAD_PROXY_FIELDS = 4
export const LIBRARY_HEAD_HAS_LENGTH = 8
/** Content-Length stands before Connection. */
export const LIBRARY_HEAD_LENGTH_FIRST = 16
export const LIBRARY_HEAD_IS_HEAD = 32
/** Host is that of the head that was read before. */
export const LIBRARY_HEAD_SAME_HOST = 64
/**
 * Facts of a head: the bits above, place and length of Host's value in the text, Content-Length, number of the connection, and
 * the number under which `relayUpstream` knows it until the next head is read.
 */
export const LIBRARY_HEAD_FACTS = 6

/** Where the facts of heads go, in this thread, from now on. */
export function openLibraryHeads(facts: Float64Array): void {
  addon().openLibraryHeads(facts)
}

/**
 * The head of a request whose handler is running, as it goes on: request line and `name: value` lines without Connection and
 * Content-Length. undefined when something in it is to be decided, or the library's memory cannot be read. Only
 * after `probeLibraryHead` has shown the memory to be as it is taken to be.
 */
export function readLibraryHead(
  request: object,
  response: object,
  uriBytes: number,
  headBytes: number,
): string | undefined {
  return addon().readLibraryHead(request, response, uriBytes, headBytes)
}

/** `method target` and `name: value` lines of the same, each with LF, read with care; undefined when that cannot be done. */
export function probeLibraryHead(request: object): Buffer | undefined {
  const bytes = addon().probeLibraryHead(request)
  return bytes === null ? undefined : Buffer.from(bytes)
}

/** Number of the connection that a response object of the library is about, for as long as it is open; 0 = not known. */
export function libraryConnection(response: object): number {
  return addon().libraryConnection(response)
}

// ---------------------------------------------------------------------------------------------------------------------
// Upstream connections: a pool per worker, on the thread that made it; src/upstream/native-pool.ts gives it its form

/** An open pool of upstream connections. */
export type UpstreamPoolHandle = number
/** A server within a pool, as connections are shared. */
export type UpstreamTargetHandle = number
/** A request within a pool. */
export type UpstreamLegHandle = number

/** Bits of an event's `kind`; several come together, and mean what they mean in this order. */
export const UPSTREAM_CONNECTED_NEW = 1
export const UPSTREAM_CONNECTED_REUSED = 2
export const UPSTREAM_WRITABLE = 4
export const UPSTREAM_HEAD = 8
export const UPSTREAM_DATA = 16
export const UPSTREAM_END = 32
export const UPSTREAM_FAILURE = 64
/** With HEAD and END: the head is ready to leave, as `relayUpstream` allowed. */
export const UPSTREAM_PASSED = 128

/**
 * Called once per event. After END or FAILURE the slot is another request's.
 *
 * @param slot see upstreamSlot
 * @param kind UPSTREAM_… bits
 * @param status of the head; with FAILURE the index of the reason in UPSTREAM_REASONS
 * @param text the head as latin1; with FAILURE a detail for the log
 * @param bodyLength 0 = no body, -1 = unknown; with FAILURE 1 = the upstream cannot have begun to process the request
 * @param contentLength the field as sent, -1 = none
 * @param dataLength so many body bytes are at the beginning of the buffer that createUpstreamPool was given, until this returns
 */
export type UpstreamEventListener = (
  slot: number,
  kind: number,
  status: number,
  text: string | undefined,
  bodyLength: number,
  contentLength: number,
  dataLength: number,
) => void

/** Failure reasons in the order of their numbers. */
export const UPSTREAM_REASONS = [
  'connect_failed',
  'connect_timeout',
  'upstream_reset',
  'upstream_bad_response',
  'first_byte_timeout',
  'idle_timeout',
  'overflow',
  'tls_failed',
  'tls_failed',
] as const

/** The second `tls_failed`: the upstream speaks a TLS that the native pool does not, or shows a certificate that it cannot judge. */
export const UPSTREAM_TLS_INCOMPATIBLE = 8

/** Addresses, limits and timers of a target; milliseconds, 0 = off. */
export interface UpstreamTargetSettings {
  /** `ip:port` or `[ip]:port`, separated by commas; tried in turn. */
  readonly addresses: string
  readonly connectMs: number
  /** Longest wait for a free connection. */
  readonly queueMs: number
  readonly firstByteMs: number
  readonly idleMs: number
  readonly keepAliveMs: number
  readonly maxConnections: number
  readonly maxQueued: number
}

/** What `sendUpstream` returns besides legs. */
export const UPSTREAM_OVERFLOW = -1
export const UPSTREAM_NO_TARGET = -2
export const UPSTREAM_BAD_HEAD = -3
/** Of `relayUpstream`: another head was read meanwhile. */
export const UPSTREAM_NOT_KEPT = -4

/** The most data of one event. */
export const UPSTREAM_DATA_BYTES: number = 64 * 1024

/**
 * A pool on this thread's event loop. `bufferBytes`: request bytes that may wait per leg. `data`: UPSTREAM_DATA_BYTES for
 * the data of events, the pool's as long as it is open. Throws without descriptors.
 */
export function createUpstreamPool(
  bufferBytes: number,
  data: Buffer,
  onEvent: UpstreamEventListener,
): UpstreamPoolHandle {
  return addon().createUpstreamPool(bufferBytes, data, onEvent)
}

/** Closes every connection at once; no event follows. */
export function closeUpstreamPool(pool: UpstreamPoolHandle): void {
  addon().closeUpstreamPool(pool)
}

/** Throws on an address that is none. */
export function addUpstreamTarget(pool: UpstreamPoolHandle, settings: UpstreamTargetSettings): UpstreamTargetHandle {
  const { addresses, connectMs, queueMs, firstByteMs, idleMs, keepAliveMs, maxConnections, maxQueued } = settings
  return addon().addUpstreamTarget(
    pool,
    addresses,
    connectMs,
    queueMs,
    firstByteMs,
    idleMs,
    keepAliveMs,
    maxConnections,
    maxQueued,
  )
}

/**
 * For a new target: TLS with a server that is verified by `name`, a host name or an address, against `authorities` (PEM;
 * null = not verified). False: that is not possible, and nothing was changed.
 */
export function secureUpstreamTarget(
  pool: UpstreamPoolHandle,
  target: UpstreamTargetHandle,
  authorities: string | null,
  name: string,
  isHttp2: boolean,
): boolean {
  return addon().secureUpstreamTarget(pool, target, authorities, name, isHttp2)
}

/** Has a new target speak HTTP/2: by prior knowledge, or, with TLS, when the server agrees to it (ALPN). */
export function upstreamSpeaksHttp2(pool: UpstreamPoolHandle, target: UpstreamTargetHandle): void {
  addon().upstreamSpeaksHttp2(pool, target)
}

/** For what begins from now on. */
export function changeUpstreamTarget(
  pool: UpstreamPoolHandle,
  target: UpstreamTargetHandle,
  settings: UpstreamTargetSettings,
): void {
  const { addresses, connectMs, queueMs, firstByteMs, idleMs, keepAliveMs, maxConnections, maxQueued } = settings
  addon().changeUpstreamTarget(
    pool,
    target,
    addresses,
    connectMs,
    queueMs,
    firstByteMs,
    idleMs,
    keepAliveMs,
    maxConnections,
    maxQueued,
  )
}

/** Takes no new requests; idle connections close now, the others after their request. */
export function retireUpstreamTarget(pool: UpstreamPoolHandle, target: UpstreamTargetHandle): void {
  addon().retireUpstreamTarget(pool, target)
}

/**
 * Sends a request: `head` is latin1 text, request line and `name: value` lines; framing is added. Without `body`,
 * `bodyLength` bytes (-1 = chunked) are to be written. Returns a number for upstreamLeg and upstreamIsReused,
 * UPSTREAM_OVERFLOW, UPSTREAM_NO_TARGET or UPSTREAM_BAD_HEAD. Events never come before it has returned.
 */
export function sendUpstream(
  pool: UpstreamPoolHandle,
  target: UpstreamTargetHandle,
  head: string,
  bodyLength: number,
  body: Uint8Array | null,
): number {
  return addon().upstreamSend(pool, target, head, bodyLength, body)
}

/**
 * Sends a request without a body with the head that `readLibraryHead` read last, if its number is `kept`, and `lines` behind it.
 * With `answerLines`, fields of ASCII, an answer that comes in one piece comes as PASSED: without `date` and what only we may say
 * (O-73), with these lines behind its own. Returns what sendUpstream does, or UPSTREAM_NOT_KEPT; then nothing was done.
 */
export function relayUpstream(
  pool: UpstreamPoolHandle,
  target: UpstreamTargetHandle,
  kept: number,
  lines: string,
  answerLines: string | undefined,
): number {
  return answerLines === undefined
    ? addon().upstreamRelay(pool, target, kept, lines, -1)
    : addon().upstreamRelay(pool, target, kept, lines + answerLines, lines.length)
}

/** The leg in what sendUpstream or relayUpstream returned. */
export function upstreamLeg(sent: number): UpstreamLegHandle {
  return Math.floor(sent / 2)
}

/** Whether the request is already on a connection that had carried one before. */
export function upstreamIsReused(sent: number): boolean {
  return sent % 2 === 1
}

/** The place of a leg: below 2^20, and not another leg's until its last event. */
export function upstreamSlot(leg: UpstreamLegHandle): number {
  return leg % 0x10_0000
}

/** A piece of the request body; false = wait for WRITABLE. */
export function writeUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle, bytes: Uint8Array): boolean {
  return addon().upstreamWrite(pool, leg, bytes)
}

/** The request body is complete. */
export function endUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle): void {
  addon().upstreamEnd(pool, leg)
}

/** Nothing more is read for the leg. */
export function pauseUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle): void {
  addon().upstreamPause(pool, leg)
}

/** Reads again. */
export function resumeUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle): void {
  addon().upstreamResume(pool, leg)
}

/** Gives up: no event follows. */
export function abortUpstream(pool: UpstreamPoolHandle, leg: UpstreamLegHandle): void {
  addon().upstreamAbort(pool, leg)
}

/** Enforces the deadlines; call it every 100 ms while it returns more than 0 (legs and connections). */
export function tickUpstream(pool: UpstreamPoolHandle): number {
  return addon().upstreamTick(pool)
}

/** `[open, idle, waiting]`: connections established or being established, of these without a request, and requests that wait for one. */
export function upstreamConnections(pool: UpstreamPoolHandle): readonly [number, number, number] {
  return addon().upstreamConnections(pool)
}

/** Reads made so far by a pool: what tests hold the end-of-file busy loop against. */
export function upstreamReads(pool: UpstreamPoolHandle): number {
  return addon().upstreamReads(pool)
}

// ---------------------------------------------------------------------------------------------------------------------
// The native front end: one per worker, on the thread that made it; src/listener/native gives it its form

/** An open front end. */
export type FrontHandle = number

/** Kinds of events. */
export const FRONT_CONNECTED = 1
export const FRONT_REQUEST = 2
export const FRONT_REQUEST_BODY = 3
export const FRONT_RESPONSE = 4
export const FRONT_RESPONSE_BODY = 5
export const FRONT_FILTER_DATA = 6
export const FRONT_FILTER_END = 7
export const FRONT_FILTER_WRITABLE = 8
export const FRONT_UPSTREAM_FAILED = 9
export const FRONT_DONE = 10
export const FRONT_REFUSED = 11
export const FRONT_REQUEST_HELD = 12
export const FRONT_RESPONSE_HELD = 13
export const FRONT_SCANNED = 14
export const FRONT_PASSED = 15
export const FRONT_ENDED = 16
export const FRONT_REJECTED = 17

/** What `continueFront`, `respondFront` and `abortFront` return. */
export const FRONT_IS_DONE = 1
export const FRONT_IS_FILTERED = 2
export const FRONT_BAD_HEAD = -1

/** Places of the numbers of a record. */
export const FRONT_RECORD = {
  status: 0,
  requestBodyBytes: 1,
  responseBodyBytes: 2,
  end: 3,
  /** Index of UPSTREAM_REASONS, -1 = none. */
  failureReason: 4,
  notProcessed: 5,
  connectedAtMs: 6,
  firstByteAtMs: 7,
  endedAtMs: 8,
  connectionReused: 9,
  tunnel: 10,
  /** The upstream's status where PASSED has not told it, else 0. */
  passedStatus: 11,
  exchange: 12,
} as const
export const FRONT_RECORD_NUMBERS: number = 13
/** Records that fit into the shared numbers: those of ENDED first, behind them the one that is told alone. */
export const FRONT_RECORDS: number = 65
/** Requests that are told in one call, at most. */
export const FRONT_MOST_TOLD: number = 16
/** Places of the numbers that REQUEST is told with: of the first; those of the others follow, FRONT_REQUEST_LENGTH each. */
export const FRONT_REQUEST_NUMBERS = {
  exchange: 845,
  /** The listener × 8, the version × 2, and 1 where some field is one that proxies write. */
  facts: 846,
  bodyLength: 847,
  connection: 848,
  receivedAtMs: 849,
} as const
export const FRONT_REQUEST_LENGTH: number = 5
/**
 * Places for what goes with the text of a relayed request: its own lines, those of the answer, names left out there. Those of
 * the first request that was told; then those of the others, and of one that `relayFront` relays, FRONT_RELAY_LENGTH each.
 */
export const FRONT_RELAY_NUMBERS = {
  /** -1 = it is not relayed. */
  target: 925,
  /** Where the text ends, of those of one call together; each begins where the one before it ends. */
  end: 926,
  /** Where the answer's lines begin; -1 = the answer is asked for, and nothing else follows. */
  answer: 927,
  /** Where the names begin. */
  removed: 928,
  /** How many places of the answer's lines are for the time, and, from `clocks` on, where in them; four at most. */
  clockCount: 929,
  clocks: 930,
} as const
export const FRONT_RELAY_LENGTH: number = 9
/** All shared numbers. */
export const FRONT_NUMBERS: number = 1078

/**
 * What happened; what is not named is absent. A string that is returned for REQUEST relays those whose
 * FRONT_RELAY_NUMBERS say so, as `relayFront` does; REJECTED follows where the lines are none. Of requests behind the first,
 * head and connection lines are in `others`.
 *
 * | kind | text | a | b | c | d | extra |
 * | --- | --- | --- | --- | --- | --- | --- |
 * | CONNECTED | | listener | connection | | | |
 * | REQUEST | head | number of requests | | | | connection lines |
 * | REQUEST_BODY, RESPONSE_BODY | | 1 = complete | | | | bytes |
 * | REQUEST_HELD, RESPONSE_HELD | | 1 = complete | its bytes, as many as were asked for at most | | | |
 * | SCANNED | | ticket | answer | | | |
 * | RESPONSE | head | status | body length | | | |
 * | FILTER_DATA | | | | | | bytes |
 * | UPSTREAM_FAILED | detail | index of UPSTREAM_REASONS | 1 = not processed | 1 = body consumed | | |
 * | PASSED | | status | first byte at, ms | | | |
 * | DONE | detail of its failure | | | | | rule by which we answered inside a request |
 * | ENDED | | number of records | | | | |
 * | REFUSED | request line | listener | status | | | rule, blank, address of the peer |
 */
export type FrontEventListener = (
  kind: number,
  exchange: number,
  text: string | undefined,
  a: number,
  b: number,
  c: number,
  d: number,
  extra: string | Uint8Array | undefined,
  ...others: (string | undefined)[]
) => string | undefined

/** Bytes and milliseconds, 0 = off; see the crate `front`. */
export interface FrontLimits {
  readonly headBytes: number
  readonly uriBytes: number
  readonly fields: number
  readonly bodyBytes: number
  readonly streamBufferBytes: number
  readonly headMs: number
  readonly idleMs: number
  readonly progressMs: number
  readonly lingerMs: number
  readonly tunnelIdleMs: number
  readonly maxTunnels: number
}

const limitNumbers = (limits: FrontLimits): number[] => [
  limits.headBytes,
  limits.uriBytes,
  limits.fields,
  limits.bodyBytes,
  limits.streamBufferBytes,
  limits.headMs,
  limits.idleMs,
  limits.progressMs,
  limits.lingerMs,
  limits.tunnelIdleMs,
  limits.maxTunnels,
]

/** A front end on this thread's event loop. `numbers`: FRONT_NUMBERS places, the records first. Throws without descriptors. */
export function createFront(limits: FrontLimits, numbers: Float64Array, onEvent: FrontEventListener): FrontHandle {
  return addon().createFront(limitNumbers(limits), performance.now(), numbers, onEvent)
}

/** Closes everything at once; the ends of open exchanges are told before it returns. */
export function closeFront(front: FrontHandle): void {
  addon().closeFront(front)
}

/** For what begins from now on. */
export function setFrontLimits(front: FrontHandle, limits: FrontLimits): void {
  addon().frontLimits(front, limitNumbers(limits))
}

/** Whether connections are announced before their first byte. */
export function askFrontConnect(front: FrontHandle, asks: boolean): void {
  addon().frontAskConnect(front, asks)
}

/** `address`: `ip:port` or `[ip]:port`. Returns the port; throws an `Error` that names address and cause. */
export function listenFront(front: FrontHandle, id: number, address: string, proxyProtocol: boolean): number {
  return addon().frontListen(front, id, address, proxyProtocol)
}

/** What a TLS listener shows its clients, and asks of them. */
export interface TlsRules {
  /** In the order preferred. */
  readonly alpn: readonly string[]
  /** The first serves clients that ask for no name, or for nobody's. */
  readonly hosts: readonly TlsHost[]
}

export interface TlsHost {
  /** Lower case; `*.example.org` stands for one label. */
  readonly names: readonly string[]
  /** PEM. */
  readonly chain: string
  readonly key: string
  readonly minVersion: '1.2' | '1.3'
  readonly maxVersion: '1.2' | '1.3'
  /** IANA's names; none = all that there are. */
  readonly ciphers: readonly string[]
  /** Null: they are not asked for certificates. */
  readonly clients: {
    readonly strategy: 'require-and-verify' | 'require-any' | 'request'
    /** PEM; null = none to verify against. */
    readonly authorities: string | null
  } | null
}

/** What is known of a client's TLS. */
export interface TlsFacts {
  /** What `prepareTls` returned, and which of its hosts it is. */
  readonly context: number
  readonly host: number
  /** '' = none, or one that no host has. */
  readonly serverName: string
  readonly version: '1.2' | '1.3'
  readonly cipherSuite: string
  /** '' = nothing was agreed on. */
  readonly alpn: string
  /** The client's JA4 fingerprint. */
  readonly ja4: string
  readonly isResumed: boolean
  /** DER in hexadecimal digits; '' = none was shown. */
  readonly clientCertificate: string
}

/**
 * The secret behind the tickets of this process's native TLS listeners as it is now, for another process of the same gateway;
 * made when there is none.
 */
export function ticketSecret(): Uint8Array {
  return Uint8Array.from(addon().ticketSecret())
}

/** Takes over what another process has; only the first call counts, and only before `prepareTls`. */
export function useTicketSecret(secret: Uint8Array): void {
  addon().useTicketSecret(secret)
}

/** A number for useFrontTls or dropTls. Throws with one sentence when something cannot be used. */
export function prepareTls(rules: TlsRules): number {
  return addon().prepareTls(JSON.stringify(rules))
}

export function dropTls(prepared: number): void {
  addon().dropTls(prepared)
}

/** For connections that come to a listener from now on; those that exist go on as they are. */
export function useFrontTls(front: FrontHandle, listener: number, prepared: number): void {
  addon().frontUseTls(front, listener, prepared)
}

/** Undefined on plain connections, and before the first request. */
export function frontTls(front: FrontHandle, connection: number): TlsFacts | undefined {
  const text = addon().frontTls(front, connection)
  return text === '' ? undefined : (JSON.parse(text) as TlsFacts)
}

/** Accepts nothing more there. */
export function closeFrontListener(front: FrontHandle, id: number): void {
  addon().frontCloseListener(front, id)
}

/** Every answer closes its connection from now on; connections between requests close now. */
export function drainFront(front: FrontHandle): void {
  addon().frontDrain(front)
}

/** `[exchanges, upstream connections, of these idle, requests that wait for one]` */
export function frontCounts(front: FrontHandle): readonly [number, number, number, number] {
  return addon().frontCounts(front)
}

/** `[connections, of these with HTTP/2, tunnels, of these streams of HTTP/2]` of a listener. */
export function frontConnections(front: FrontHandle, listener: number): readonly [number, number, number, number] {
  return addon().frontConnections(front, listener)
}

/** `address port localAddress localPort`, then `proxiedAddress proxiedPort` where a PROXY header named them; '' = gone. */
export function frontPeer(front: FrontHandle, connection: number): string {
  return addon().frontPeer(front, connection)
}

/** Turns a connection away that was announced. */
export function refuseFront(front: FrontHandle, connection: number): void {
  addon().frontRefuse(front, connection)
}

/** Throws on an address that is none. */
export function addFrontTarget(front: FrontHandle, settings: UpstreamTargetSettings): UpstreamTargetHandle {
  const { addresses, connectMs, queueMs, firstByteMs, idleMs, keepAliveMs, maxConnections, maxQueued } = settings
  return addon().addFrontTarget(
    front,
    addresses,
    connectMs,
    queueMs,
    firstByteMs,
    idleMs,
    keepAliveMs,
    maxConnections,
    maxQueued,
  )
}

/** For what begins from now on. */
export function changeFrontTarget(
  front: FrontHandle,
  target: UpstreamTargetHandle,
  settings: UpstreamTargetSettings,
): void {
  const { addresses, connectMs, queueMs, firstByteMs, idleMs, keepAliveMs, maxConnections, maxQueued } = settings
  addon().changeFrontTarget(
    front,
    target,
    addresses,
    connectMs,
    queueMs,
    firstByteMs,
    idleMs,
    keepAliveMs,
    maxConnections,
    maxQueued,
  )
}

/** See secureUpstreamTarget. */
export function secureFrontTarget(
  front: FrontHandle,
  target: UpstreamTargetHandle,
  authorities: string | null,
  name: string,
  isHttp2: boolean,
): boolean {
  return addon().secureFrontTarget(front, target, authorities, name, isHttp2)
}

/** See upstreamSpeaksHttp2. */
export function frontSpeaksHttp2(front: FrontHandle, target: UpstreamTargetHandle): void {
  addon().frontSpeaksHttp2(front, target)
}

/** Takes no new requests. */
export function retireFrontTarget(front: FrontHandle, target: UpstreamTargetHandle): void {
  addon().retireFrontTarget(front, target)
}

/** See FrontEnd.readRequestBody. */
export function readFrontRequestBody(front: FrontHandle, exchange: number, limitBytes: number): void {
  addon().frontReadRequestBody(front, exchange, limitBytes)
}

/** As readFrontRequestBody; the bytes stay where they are, and REQUEST_HELD says how many. */
export function holdFrontRequestBody(front: FrontHandle, exchange: number, limitBytes: number): void {
  addon().frontHoldRequestBody(front, exchange, limitBytes)
}

/** As readFrontResponseBody; the bytes stay where they are, and RESPONSE_HELD says how many. */
export function holdFrontResponseBody(front: FrontHandle, exchange: number, limitBytes: number): void {
  addon().frontHoldResponseBody(front, exchange, limitBytes)
}

/** A copy of a body that is held. */
export function frontHeldBody(front: FrontHandle, exchange: number, message: 'request' | 'response'): Uint8Array {
  return addon().frontHeldBody(front, exchange, message === 'response')
}

/** What a scan of a held body returns when a thread has it: the answer comes with SCANNED. */
export const SCAN_IN_THREAD = -1
/** What SCANNED says when the scan came to nothing. */
export const SCAN_FAILED = -2

/** How many native threads scan held bodies, and how many scans may wait for one; beyond that they are made at once. */
export function allowScanThreads(mostThreads: number, mostWaiting: number): void {
  addon().allowScanThreads(mostThreads, mostWaiting)
}

/**
 * scanRequest over the request body that is held. SCAN_IN_THREAD when it is larger than `threadThresholdBytes`: SCANNED then
 * brings the answer with `ticket`.
 */
export function scanHeldRequest(
  front: FrontHandle,
  exchange: number,
  threadThresholdBytes: number,
  ticket: number,
  profile: ProfileHandle,
  client: string,
  requestId: string,
  head: string,
  isLast: boolean,
): number {
  return addon().scanHeldRequest(
    front,
    exchange,
    threadThresholdBytes,
    ticket,
    profile,
    client,
    requestId,
    head,
    isLast,
  )
}

/** scanResponse over the response body that is held; otherwise as scanHeldRequest. */
export function scanHeldResponse(
  front: FrontHandle,
  exchange: number,
  threadThresholdBytes: number,
  ticket: number,
  transaction: TransactionHandle,
  status: number,
  head: string,
  isLast: boolean,
): number {
  return addon().scanHeldResponse(front, exchange, threadThresholdBytes, ticket, transaction, status, head, isLast)
}

/** See FrontEnd.forward. FRONT_BAD_HEAD or 0. */
export function forwardFront(
  front: FrontHandle,
  exchange: number,
  target: UpstreamTargetHandle,
  head: string,
  body: Uint8Array | null,
): number {
  return addon().frontForward(front, exchange, target, head, body)
}

/** See FrontEnd.relay; the FRONT_RELAY_NUMBERS say what is in `text`. FRONT_BAD_HEAD or 0. */
export function relayFront(front: FrontHandle, exchange: number, text: string): number {
  return addon().frontRelay(front, exchange, text)
}

/** See FrontEnd.canRepeat. */
export function frontCanRepeat(front: FrontHandle, exchange: number): boolean {
  return addon().frontCanRepeat(front, exchange)
}

/** See FrontEnd.readResponseBody. */
export function readFrontResponseBody(front: FrontHandle, exchange: number, limitBytes: number): void {
  addon().frontReadResponseBody(front, exchange, limitBytes)
}

/** See FrontEnd.continueResponse. FRONT_IS_DONE, FRONT_IS_FILTERED, FRONT_BAD_HEAD or 0. */
export function continueFront(
  front: FrontHandle,
  exchange: number,
  head: string,
  body: Uint8Array | null,
  isFiltered: boolean,
): number {
  return addon().frontContinue(front, exchange, head, body, isFiltered)
}

/** See FrontEnd.respond. FRONT_IS_DONE, FRONT_BAD_HEAD or 0. */
export function respondFront(front: FrontHandle, exchange: number, head: string, body: Uint8Array): number {
  return addon().frontRespond(front, exchange, head, body)
}

/** See FrontEnd.abort. FRONT_IS_DONE or 0. */
export function abortFront(front: FrontHandle, exchange: number): number {
  return addon().frontAbort(front, exchange)
}

/** A piece of what a filter made; false = wait for FILTER_WRITABLE. */
export function writeFront(front: FrontHandle, exchange: number, bytes: Uint8Array): boolean {
  return addon().frontWrite(front, exchange, bytes)
}

/** A filter has made everything. */
export function endFront(front: FrontHandle, exchange: number): void {
  addon().frontEnd(front, exchange)
}

/** A filter wants no more for now, or wants more again. */
export function holdFront(front: FrontHandle, exchange: number, isHeld: boolean): void {
  addon().frontHold(front, exchange, isHeld)
}

/** The upstream's body is not what a filter can change. */
export function breakFront(front: FrontHandle, exchange: number, detail: string): void {
  addon().frontBreak(front, exchange, detail)
}

// ---------------------------------------------------------------------------------------------------------------------
// What else only the system can do

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
