/**
 * What the logs say of rules that matched: one event per match in the operational log, and, where it is wanted, one
 * line in ModSecurity's form.
 *
 * A flood of attacks is a flood of matches, and the operational log has room for some of them only. So matches may fill
 * half of it at most, a transaction's are written all or not at all, and what was not written is counted: in a metric,
 * and in one line a second.
 *
 * Source: operations.md O-60 (secrets), O-61 (a log never waits, what it loses is counted); seclang.md §13.
 */
import type { Metrics } from '../metrics/metrics.ts'
import type { RuleMatch, TransactionDetails } from '../native/rule-set.ts'
import { LineWriter } from './line-writer.ts'
import type { Logger } from './logger.ts'
import { modsecurityLine } from './modsecurity-line.ts'
import { isSecretVariable, MASK, maskMatched, maskTarget, maskTokens } from './redact.ts'

/** The exchange whose rules matched. Texts as the client sent them: what is secret in them is masked here. */
export interface MatchedExchange {
  readonly requestId: string
  /** Name of the endpoint whose policy ran the rules. */
  readonly endpoint: string
  readonly clientAddress: string
  readonly clientPort: number
  /** Value of the Host field. */
  readonly host: string
  /** The request target. */
  readonly target: string
  /** Whether a rule that decides to block is obeyed. */
  readonly enforced: boolean
  /** The anomaly score so far of the message that was judged. */
  readonly anomalyScore: number
}

/** A match as logs may show it. */
export interface ShownMatch extends Pick<
  RuleMatch,
  'id' | 'phase' | 'message' | 'severity' | 'variable' | 'value' | 'data' | 'tags' | 'file' | 'line' | 'version'
> {
  /** What the match added to the anomaly score. */
  readonly score: number
}

/** Most matches of one transaction that are written. An attack that matches more has been described well enough. */
const MATCHES_PER_TRANSACTION = 100
/** How full a log may be for the matches of one more transaction to be taken. */
const FULL = 0.5
/** How often a line says what was not written. */
const SUMMARY_MS = 1000

export interface MatchLogOptions {
  readonly logger: Logger
  readonly metrics: Pick<Metrics, 'count' | 'logDropped'>
  /** For lines in ModSecurity's form: `stdout`, `stderr`, `off`, or the path of a file. */
  readonly modsecurityOutput: string
}

export class MatchLog {
  readonly #logger: Logger
  readonly #metrics: MatchLogOptions['metrics']
  readonly #lines: LineWriter | undefined
  #unwritten = { matches: 0, transactions: 0 }
  #timer: NodeJS.Timeout | undefined

  /** Throws when the file cannot be opened for appending. */
  constructor({ logger, metrics, modsecurityOutput }: MatchLogOptions) {
    this.#logger = logger
    this.#metrics = metrics
    if (modsecurityOutput !== 'off') {
      this.#lines = new LineWriter({
        to: modsecurityOutput === 'stdout' ? 1 : modsecurityOutput === 'stderr' ? 2 : modsecurityOutput,
        onDropped: (lines) => metrics.logDropped('modsecurity', lines),
      })
    }
  }

  /** Whether matches are written at the moment: otherwise nobody here asks for their texts. */
  get writes(): boolean {
    return (
      (this.#logger.writesInfo && this.#logger.fill < FULL) || (this.#lines !== undefined && this.#lines.fill < FULL)
    )
  }

  /** Writes what a scan found, or none of it. */
  record(exchange: MatchedExchange, details: TransactionDetails): void {
    const { matched, interruption } = details
    if (matched.length === 0) return
    const takesEvents = this.#logger.fill < FULL
    const takesLines = this.#lines !== undefined && this.#lines.fill < FULL
    const writesEvents = takesEvents && this.#logger.writesInfo
    const leftOut = details.matchesLeftOut + Math.max(0, matched.length - MATCHES_PER_TRANSACTION)
    if (writesEvents || takesLines) {
      const members = writesEvents ? exchangeMembers(exchange) : ''
      for (const match of details.matches.slice(0, MATCHES_PER_TRANSACTION)) {
        const shown = shownMatch(match)
        const decided = interruption?.ruleId === match.id
        if (writesEvents) this.#logger.infoJson(members + matchMembers(exchange, shown, decided), 'waf match')
        if (takesLines) this.#lines?.write(modsecurityLine(exchange, shown, decided ? interruption : null), true)
      }
    }
    if (this.#lines !== undefined && !takesLines) this.#metrics.logDropped('modsecurity', matched.length)
    if (!takesEvents) this.#notWritten(matched.length + details.matchesLeftOut)
    else if (leftOut > 0) {
      this.#metrics.count('wafMatchesUnlogged', [], leftOut)
      this.#logger.info(
        { request_id: exchange.requestId, matches: leftOut },
        'more waf matches, not written one by one',
      )
    }
  }

  #notWritten(matches: number): void {
    this.#metrics.count('wafMatchesUnlogged', [], matches)
    this.#unwritten.matches += matches
    this.#unwritten.transactions += 1
    if (this.#timer !== undefined) return
    this.#timer = setTimeout(() => this.#summarize(), SUMMARY_MS)
    this.#timer.unref()
  }

  /** Matches leave half of the log to others, so there is room for this line. */
  #summarize(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const { matches, transactions } = this.#unwritten
    if (transactions === 0) return
    this.#unwritten = { matches: 0, transactions: 0 }
    this.#logger.warn({ matches, transactions }, 'waf matches were not written: the reader of this log is too slow')
  }

  /** Opens the file anew (after it was moved away). Throws when it cannot be opened. */
  reopen(): void {
    this.#lines?.reopen()
  }

  flushSync(): void {
    this.#summarize()
    this.#lines?.flushSync()
  }

  async close(): Promise<void> {
    this.#summarize()
    await this.#lines?.close()
  }
}

/** The match without its secrets. Its texts are printable ASCII as the matcher gives them. */
export function shownMatch(match: RuleMatch): ShownMatch {
  const { id, phase, severity, tags, file, line, version } = match
  const isSecret = isSecretVariable(match.variable)
  return {
    id,
    phase,
    severity,
    tags,
    file,
    line,
    ...(version === undefined ? {} : { version }),
    message: maskMatched(match.message),
    variable: maskTokens(match.variable),
    value: isSecret ? MASK : maskMatched(match.value),
    // what a rule says about its match may quote other variables than the one that matched
    data: isSecret || isSecretVariable(match.data) ? MASK : maskMatched(match.data),
    score: match.score ?? 0,
  }
}

/** The fields that all events of an exchange have, as JSON without its braces, with a comma behind. */
function exchangeMembers(exchange: MatchedExchange): string {
  const fields = {
    request_id: exchange.requestId,
    endpoint: exchange.endpoint,
    client_ip: exchange.clientAddress,
    path: bounded(maskTarget(exchange.target)),
  }
  return `${JSON.stringify(fields).slice(1, -1)},`
}

function matchMembers(exchange: MatchedExchange, match: ShownMatch, decided: boolean): string {
  const fields = {
    rule_id: match.id,
    phase: match.phase,
    message: match.message,
    severity: match.severity,
    variable: match.variable,
    value: match.value,
    data: match.data,
    score: match.score,
    anomaly_score: exchange.anomalyScore,
    tags: match.tags,
    blocked: decided ? exchange.enforced : undefined,
  }
  return JSON.stringify(fields).slice(1, -1)
}

/** Longest target in an event, in characters: the whole one is in the access log. */
const MAX_PATH = 256

function bounded(text: string): string {
  return text.length > MAX_PATH ? `${text.slice(0, MAX_PATH)}…` : text
}
