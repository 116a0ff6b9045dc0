/**
 * One saved exchange against a rule set, with everything that the rules said of it: what `sallyport waf explain` prints.
 *
 * The exchange is judged as the actions judge it. Exclusions are tried out before they are shown: the rule set is built
 * once more with them, and one that does not take its match away is left out.
 * Source: traffic-policy.md §5.14, §5.15.
 */
import type { Settings } from '../config/settings.ts'
import {
  createProfile,
  endTransaction,
  loadRuleSet,
  releaseProfile,
  releaseRuleSet,
  RuleSetError,
  type RuleMatch,
  type RuleSetHandle,
  type RuleSetSources,
  type RuleSetSummary,
  ruleSetSummary,
  SCAN_BODY_ERROR,
  SCAN_INTERRUPTED,
  scanFlags,
  scanRequest,
  scanResponse,
  scanTransaction,
  startResponseTransaction,
  transactionDetails,
  type TransactionDetails,
} from '../native/rule-set.ts'
import { decodeBody, isPlain } from '../body/decoded-body.ts'
import { exclusionsFor, isDecisionRule, type Exclusion } from './exclusions.ts'
import type { MessageFile } from './message-file.ts'
import { profileOptions, type WafOptions } from './profiles.ts'

export interface ExplainInput {
  readonly settings: Settings['waf']
  readonly sources: RuleSetSources
  /** What the actions say; undefined where the policy has no such action. */
  readonly request: WafOptions | undefined
  readonly response: WafOptions | undefined
  readonly requestFile: MessageFile
  readonly responseFile: MessageFile | undefined
  readonly clientAddress: string
}

export interface ExplainedMatch {
  readonly match: RuleMatch
  readonly direction: Direction
  /** The rule sums up, decides or reports what others found. */
  readonly sumsUp: boolean
  readonly exclusions: readonly Exclusion[]
}

export type Direction = 'request' | 'response'

/** What became of one message. */
export interface Judgement {
  readonly score: number
  readonly threshold: number
  /** `not judged`: the policy has no action for it, or it never came so far. */
  readonly outcome: 'passes' | 'blocked' | 'would be blocked' | 'not judged' | 'refused'
  /** Of a block: the rule that decided. */
  readonly ruleId: number | undefined
  /** What the client gets, where it is not the upstream's answer. */
  readonly answer: { readonly status: number; readonly code: string } | undefined
  readonly bodyBytes: number
  readonly inspectedBytes: number
}

export interface Explanation {
  readonly ruleSet: RuleSetSummary
  readonly request: Judgement
  readonly response: Judgement | undefined
  readonly matches: readonly ExplainedMatch[]
  readonly matchesLeftOut: number
  /** One sentence each. */
  readonly notes: readonly string[]
}

/** Rejects with RuleSetError when the rule set does not load. */
export async function explain(input: ExplainInput): Promise<Explanation> {
  const ruleSet = await loadRuleSet(input.sources)
  try {
    const notes: string[] = []
    const summary = ruleSetSummary(ruleSet)
    const run = await judge(input, ruleSet, summary, notes)
    const found = run.matches.map((match) => ({
      match,
      direction: (match.phase <= 2 || (match.phase === 5 && input.responseFile === undefined)
        ? 'request'
        : 'response') as Direction,
      sumsUp: isDecisionRule(match.id) || match.phase === 5,
    }))
    const path = pathOf(input.requestFile)
    const candidates = found.map(({ match, sumsUp }, place) => (sumsUp ? [] : exclusionsFor(match, place, path)))
    const effective = await tryOut(input, candidates.flat(), run.matches)
    return {
      ruleSet: summary,
      request: run.request,
      response: run.response,
      matches: found.map((it, place) => ({
        ...it,
        exclusions: candidates[place]!.filter(
          ({ scope, text }) => scope === 'rule' || effective.has(`${text} ${keyOf(it.match)}`),
        ),
      })),
      matchesLeftOut: run.leftOut,
      notes,
    }
  } finally {
    releaseRuleSet(ruleSet)
  }
}

/** `REQUEST_FILENAME`: the target's path without its query, decoded. */
function pathOf(request: MessageFile): string | undefined {
  const path = request.target.replace(/^https?:\/\/[^/?#]*/i, '').split(/[?#]/, 1)[0]!
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined // not UTF-8
  }
}

// ── one exchange ──

interface Run {
  readonly request: Judgement
  readonly response: Judgement | undefined
  readonly matches: readonly RuleMatch[]
  readonly leftOut: number
}

const NOT_JUDGED: Judgement = {
  score: 0,
  threshold: 0,
  outcome: 'not judged',
  ruleId: undefined,
  answer: undefined,
  bodyBytes: 0,
  inspectedBytes: 0,
}

async function judge(
  input: ExplainInput,
  ruleSet: RuleSetHandle,
  summary: RuleSetSummary,
  notes: string[],
): Promise<Run> {
  const { settings, requestFile, responseFile } = input
  const profile = createProfile(ruleSet, profileOptions(input.request, input.response, settings))
  const client = `${input.clientAddress} 40000 127.0.0.1 80`
  const requestId = 'explain'
  const matches: RuleMatch[] = []
  let leftOut = 0
  let transaction = 0
  const end = (): void => {
    if (transaction === 0) return
    matches.push(...(endTransaction(transaction)?.matches ?? []))
    transaction = 0
  }
  const told = (details: TransactionDetails): TransactionDetails => {
    matches.push(...details.matches)
    leftOut = Math.max(leftOut, details.matchesLeftOut)
    return details
  }
  try {
    let request: Judgement = { ...NOT_JUDGED, threshold: settings.inboundThreshold }
    if (input.request !== undefined) {
      const body = await bodyFor(requestFile, 'request', input.request, settings, undefined, notes)
      if (body.refusal === undefined) {
        const scanned = scanRequest(profile, client, requestId, headFor(requestFile, body), body.bytes)
        transaction = scanTransaction(scanned)
        const details = told(transactionDetails(transaction))
        request = judgement(scanFlags(scanned), details, 'request', input.request, body, settings)
        if (request.outcome === 'blocked' || request.outcome === 'would be blocked') end()
      } else {
        request = { ...request, outcome: 'refused', answer: body.refusal, bodyBytes: requestFile.body.length }
      }
    }
    if (responseFile === undefined) {
      end()
      return { request, response: undefined, matches, leftOut }
    }
    if (request.answer !== undefined) {
      notes.push('in traffic the upstream would not have been asked; its response is judged all the same')
    }
    let response: Judgement = { ...NOT_JUDGED, threshold: settings.outboundThreshold }
    if (input.response !== undefined) {
      if (transaction === 0) {
        transaction = scanTransaction(startResponseTransaction(profile, client, requestId, requestFile.head))
      }
      const mimeTypes = new Set(summary.responseBodyMimeTypes)
      const body = await bodyFor(responseFile, 'response', input.response, settings, mimeTypes, notes)
      if (body.refusal === undefined) {
        const head = headFor(responseFile, body)
        const scanned = scanResponse(transaction, responseFile.status, head, body.bytes)
        const details = told(transactionDetails(transaction, 3))
        response = judgement(scanFlags(scanned), details, 'response', input.response, body, settings)
      } else {
        response = { ...response, outcome: 'refused', answer: body.refusal, bodyBytes: responseFile.body.length }
      }
    }
    end()
    return { request, response, matches, leftOut }
  } finally {
    end()
    releaseProfile(profile)
  }
}

interface GivenBody {
  /** What the rules see; null: nothing of it. */
  readonly bytes: Uint8Array | null
  readonly isDecoded: boolean
  readonly wholeBytes: number
  readonly inspectedBytes: number
  readonly refusal: Judgement['answer']
}

/** The body as the action would give it to the rules. */
async function bodyFor(
  file: MessageFile,
  direction: Direction,
  options: WafOptions,
  settings: Settings['waf'],
  mimeTypes: ReadonlySet<string> | undefined,
  notes: string[],
): Promise<GivenBody> {
  const wholeBytes = file.body.length
  const nothing: GivenBody = { bytes: null, isDecoded: false, wholeBytes, inspectedBytes: 0, refusal: undefined }
  if (wholeBytes === 0) return nothing
  if (!options.processBody) {
    notes.push(`the action has no process_body: the body of the ${direction} is not looked at`)
    return nothing
  }
  const mediaType = (file.field('content-type') ?? '').split(';', 1)[0]!.trim().toLowerCase()
  if (mimeTypes !== undefined && !mimeTypes.has(mediaType)) {
    notes.push(`bodies of the type ${mediaType === '' ? '(none)' : mediaType} are not inspected; they stream through`)
    return nothing
  }
  const limitBytes = direction === 'request' ? settings.requestBodyBytes : settings.responseBodyBytes
  const action = direction === 'request' ? settings.requestBodyLimitAction : settings.responseBodyLimitAction
  const setting = `waf.${direction}_body`
  const encoding = file.field('content-encoding')
  let bytes: Uint8Array = file.body
  let isWhole = true
  const isDecoded = encoding !== undefined && !isPlain(encoding)
  if (isDecoded) {
    const decodedBody = await decodeBody(encoding, { bytes, complete: true }, limitBytes + 1)
    if (decodedBody.kind !== 'decoded') {
      if (direction === 'request' && options.enforce) {
        notes.push(`the content coding of the body is ${decodedBody.kind}`)
        return { ...nothing, refusal: { status: 415, code: 'ERR_GW_1003' } }
      }
      notes.push(
        `the content coding of the ${direction}'s body is ${decodedBody.kind}: it passes without being looked at`,
      )
      return nothing
    }
    bytes = decodedBody.bytes
    isWhole = decodedBody.complete
  }
  if (!isWhole || bytes.length > limitBytes) {
    if (action === 'reject' && options.enforce) {
      notes.push(`the body is larger than ${setting} (${limitBytes} bytes)`)
      const refusal =
        direction === 'request' ? { status: 413, code: 'ERR_GW_1002' } : { status: 500, code: 'ERR_NGROK_3701' }
      return { ...nothing, refusal }
    }
    notes.push(`only the first ${limitBytes} bytes of the ${direction}'s body are inspected (${setting})`)
    if (direction === 'response') bytes = bytes.subarray(0, limitBytes)
  }
  return { bytes, isDecoded, wholeBytes, inspectedBytes: Math.min(bytes.length, limitBytes), refusal: undefined }
}

/** A decoded body comes with a head that announces no coding. */
function headFor({ head }: MessageFile, body: GivenBody): string {
  return body.isDecoded ? head.replace(/^content-encoding: .*\r\n/gm, '') : head
}

function judgement(
  flags: number,
  details: TransactionDetails,
  direction: Direction,
  options: WafOptions,
  body: GivenBody,
  settings: Settings['waf'],
): Judgement {
  const { score, threshold } = direction === 'request' ? details.inbound : details.outbound
  const configured = direction === 'request' ? settings.inboundThreshold : settings.outboundThreshold
  const stopped = (flags & SCAN_INTERRUPTED) !== 0
  const unreadable = !stopped && direction === 'request' && (flags & SCAN_BODY_ERROR) !== 0
  const code = unreadable ? 'ERR_NGROK_3701' : direction === 'request' ? 'ERR_NGROK_3700' : 'ERR_NGROK_3702'
  const isHeld = stopped || unreadable
  return {
    score,
    threshold: threshold === 0 ? configured : threshold,
    outcome: !isHeld ? 'passes' : options.enforce ? 'blocked' : 'would be blocked',
    ruleId: stopped ? details.interruption?.ruleId : undefined,
    answer: isHeld && options.enforce ? { status: unreadable ? 500 : 403, code } : undefined,
    bodyBytes: body.wholeBytes,
    inspectedBytes: body.inspectedBytes,
  }
}

// ── exclusions, tried out ──

/** A match as it is recognised in another run. */
function keyOf({ id, variable }: RuleMatch): string {
  return `${id} ${variable}`
}

/** The exclusions of targets that take their match away, each as its text and the match's key. */
async function tryOut(
  input: ExplainInput,
  candidates: readonly Exclusion[],
  before: readonly RuleMatch[],
): Promise<ReadonlySet<string>> {
  const effective = new Set<string>()
  for (const scope of ['target', 'target_on_path'] as const) {
    const texts = [...new Set(candidates.filter((it) => it.scope === scope).map(({ text }) => text))]
    if (texts.length === 0) continue
    // oxlint-disable-next-line no-await-in-loop -- each builds a rule set: one after the other needs half the memory
    const after = await matchesWith(input, texts, scope)
    if (after === undefined) continue
    const left = new Set(after.matches.map((match) => keyOf(match)))
    for (const match of before) {
      if (left.has(keyOf(match))) continue
      for (const text of after.texts) effective.add(`${text} ${keyOf(match)}`)
    }
  }
  return effective
}

interface Tried {
  readonly texts: readonly string[]
  readonly matches: readonly RuleMatch[]
}

const TRIED_PATH = 'sallyport:exclusions.conf'

/** What still matches with these exclusions; those that do not load are left out. */
async function matchesWith(
  input: ExplainInput,
  texts: readonly string[],
  scope: 'target' | 'target_on_path',
): Promise<Tried | undefined> {
  const { sources } = input
  const file = { path: TRIED_PATH, text: `${texts.join('\n')}\n` }
  // behind our own settings, which come first, and before everything else; or behind everything
  const at = scope === 'target' ? sources.files.length : 1
  const files = [...sources.files.slice(0, at), file, ...sources.files.slice(at)]
  let ruleSet: RuleSetHandle
  try {
    ruleSet = await loadRuleSet({ ...sources, files })
  } catch (error) {
    if (!(error instanceof RuleSetError)) throw error
    const wrong = new Set(error.diagnostics.filter(({ path }) => path === TRIED_PATH).map(({ line }) => line))
    const good = texts.filter((_, place) => !wrong.has(place + 1))
    return wrong.size === 0 || good.length === 0 ? undefined : await matchesWith(input, good, scope)
  }
  try {
    const run = await judge(input, ruleSet, ruleSetSummary(ruleSet), [])
    return { texts, matches: run.matches }
  } finally {
    releaseRuleSet(ruleSet)
  }
}
