/**
 * The addon as it is exported, and how it is loaded: the only file that does. Numbers, bytes and JSON text only; a test holds the list
 * of names against the built file. The files beside this one parse, type and document what comes back: call those.
 * Source of the calls: native/binding/src (names there in snake case).
 */
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

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
 * | STANDING_PASSED | | standing relay | status | how long it took, ms | | |
 * | STANDING_FAILED | head | standing relay | index of UPSTREAM_REASONS | 1 = not processed | | request id, traceparent, detail, with blanks between; what REQUEST has in numbers is there |
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
  takeBucket(buckets: number, key: string, capacity: number, windowMs: number): number
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
  frontRestOn(front: number, version: Int32Array): void
  frontStand(front: number, listener: number, target: number, text: string, hostLength: number, version: number): number
  frontWithdraw(front: number, relay: number): number
  frontStanding(front: number, relay: number): number
  frontAbortStanding(front: number, relay: number): void
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
  'frontAbortStanding',
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
  'frontRestOn',
  'frontSpeaksHttp2',
  'frontStand',
  'frontStanding',
  'frontTls',
  'frontUseTls',
  'frontWithdraw',
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
export const NATIVE_ADDON_PATH: string = fileURLToPath(new URL('../../native/sallyport.node', import.meta.url))

/** The addon is not there or does not load; `message` is one sentence that says what to run. */
export class NativeAddonError extends Error {
  override readonly name = 'NativeAddonError'
}

let loaded: NativeAddon | undefined

export function addon(): NativeAddon {
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
