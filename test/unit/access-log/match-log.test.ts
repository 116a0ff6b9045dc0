/** What the logs say of matches: masked, bounded, whole transactions, and what was not written is counted (O-60, O-61). */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Logger } from '../../../src/access-log/logger.ts'
import { MatchLog, type MatchedExchange, shownMatch } from '../../../src/access-log/match-log.ts'
import { modsecurityLine } from '../../../src/access-log/modsecurity-line.ts'
import type { RuleMatch, TransactionDetails } from '../../../src/native/rule-set.ts'

const EXCHANGE: MatchedExchange = {
  requestId: 'r1',
  endpoint: 'web',
  clientAddress: '203.0.113.7',
  clientPort: 4000,
  host: 'shop.example',
  target: '/a?token=secret&q=1',
  enforced: true,
  anomalyScore: 5,
}

function match(more: Partial<RuleMatch> = {}): RuleMatch {
  return {
    id: 942100,
    phase: 2,
    message: 'SQL Injection',
    data: 'Matched Data: s&1 found within ARGS:id: 1 or 1',
    severity: 'critical',
    variable: 'ARGS:id',
    value: '1 or 1',
    tags: ['attack-sqli', 'paranoia-level/1'],
    score: 5,
    file: '/crs/rules/REQUEST-942.conf',
    line: 46,
    version: 'OWASP_CRS/4.28.0',
    ...more,
  }
}

function details(matches: readonly RuleMatch[], more: Partial<TransactionDetails> = {}): TransactionDetails {
  const score = { score: 5, threshold: 5 }
  const none = { interruption: null, matchesLeftOut: 0, bodyError: null }
  return { ...none, matched: matches, matches, inbound: score, outbound: score, ...more }
}

/** A log whose fill the test sets. */
function fakeLog() {
  const lines: { level: string; fields: Record<string, unknown>; message: string }[] = []
  const state = { fill: 0, writesInfo: true }
  const write = (level: string) => (fields: Record<string, unknown>, message: string) =>
    void lines.push({ level, fields, message })
  const logger = {
    info: write('info'),
    infoJson: (members: string, message: string) =>
      write('info')(JSON.parse(`{${members}}`) as Record<string, unknown>, message),
    warn: write('warn'),
    get writesInfo() {
      return state.writesInfo
    },
    get fill() {
      return state.fill
    },
  } as unknown as Logger
  const counted: Record<string, number> = {}
  const metrics = {
    count: (key: string, _: readonly string[], by = 1) => void (counted[key] = (counted[key] ?? 0) + by),
    logDropped: (log: string, by: number) => void (counted[log] = (counted[log] ?? 0) + by),
  }
  return { lines, state, logger, counted, metrics }
}

describe('MatchLog', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('texts of matches are not read when neither log writes them', () => {
    const { lines, state, logger, metrics, counted } = fakeLog()
    state.writesInfo = false
    const log = new MatchLog({ logger, metrics, modsecurityOutput: 'off' })
    const found = details([match()])
    let reads = 0
    const watched = {
      ...found,
      get matches() {
        reads += 1
        return found.matches
      },
    }
    log.record(EXCHANGE, watched)
    expect([reads, lines, counted]).toEqual([0, [], {}])
    state.writesInfo = true
    log.record(EXCHANGE, watched)
    expect([reads, lines.length]).toEqual([1, 1])
  })

  it('one event per match: rule, message, variable, bytes, score, phase, tags', () => {
    const { lines, logger, metrics } = fakeLog()
    const log = new MatchLog({ logger, metrics, modsecurityOutput: 'off' })
    const decided = match({ id: 949110, variable: 'TX:score', value: '5', tags: [], severity: '' })
    const found = details([match(), decided], { interruption: { phase: 2, status: 403, ruleId: 949110 } })
    log.record(EXCHANGE, found)
    expect(lines).toMatchObject([
      {
        level: 'info',
        message: 'waf match',
        fields: {
          request_id: 'r1',
          endpoint: 'web',
          client_ip: '203.0.113.7',
          path: '/a?token=***&q=1',
          rule_id: 942100,
          phase: 2,
          message: 'SQL Injection',
          severity: 'critical',
          variable: 'ARGS:id',
          value: '1 or 1',
          data: 'Matched Data: s&1 found within ARGS:id: 1 or 1',
          score: 5,
          anomaly_score: 5,
          tags: ['attack-sqli', 'paranoia-level/1'],
        },
      },
      { fields: { rule_id: 949110, blocked: true } },
    ])
    expect(lines[0]?.fields).not.toHaveProperty('blocked')
  })

  it('of a transaction that matches too much a hundred are written and the rest is counted', () => {
    const { lines, logger, metrics, counted } = fakeLog()
    const log = new MatchLog({ logger, metrics, modsecurityOutput: 'off' })
    log.record(
      EXCHANGE,
      details(
        Array.from({ length: 130 }, () => match()),
        { matchesLeftOut: 7 },
      ),
    )
    expect(lines).toHaveLength(101)
    expect(lines.at(-1)).toMatchObject({ fields: { request_id: 'r1', matches: 37 } })
    expect(counted).toEqual({ wafMatchesUnlogged: 37 })
  })

  it('under a flood transactions are written whole or not at all, and one line a second says how many were not', () => {
    const { lines, state, logger, metrics, counted } = fakeLog()
    const log = new MatchLog({ logger, metrics, modsecurityOutput: 'off' })
    log.record(EXCHANGE, details([match(), match()]))
    state.fill = 0.6
    log.record(EXCHANGE, details([match(), match(), match()]))
    log.record(EXCHANGE, details([match()], { matchesLeftOut: 2 }))
    expect(lines).toHaveLength(2)
    expect(counted).toEqual({ wafMatchesUnlogged: 6 })
    vi.advanceTimersByTime(1000)
    expect(lines.at(-1)).toMatchObject({ level: 'warn', fields: { matches: 6, transactions: 2 } })
    vi.advanceTimersByTime(10_000)
    expect(lines).toHaveLength(3)
    state.fill = 0.1
    log.record(EXCHANGE, details([match()]))
    expect(lines).toHaveLength(4)
  })

  it('what was not written is said before the process ends', async () => {
    const { lines, state, logger, metrics } = fakeLog()
    const log = new MatchLog({ logger, metrics, modsecurityOutput: 'off' })
    state.fill = 1
    log.record(EXCHANGE, details([match()]))
    await log.close()
    expect(lines).toMatchObject([{ level: 'warn', fields: { matches: 1, transactions: 1 } }])
  })

  it('lines in ModSecurity’s form go to a file, opened anew when asked', async () => {
    vi.useRealTimers()
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-match-'))
    try {
      const path = join(folder, 'modsec.log')
      const { logger, metrics } = fakeLog()
      const log = new MatchLog({ logger, metrics, modsecurityOutput: path })
      log.record(EXCHANGE, details([match()]))
      log.flushSync()
      expect(readFileSync(path, 'utf8')).toMatch(
        /^\[.*ModSecurity: Warning\. Match at ARGS:id\. .*\[unique_id "r1"\]\n$/,
      )
      rmSync(path)
      log.reopen()
      log.record(EXCHANGE, details([match({ id: 1 })]))
      await log.close()
      expect(readFileSync(path, 'utf8')).toContain('[id "1"]')
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})

describe('a match without its secrets', () => {
  it.each([
    [
      'by the name of its variable',
      { variable: 'ARGS:password', value: 'hunter2', data: 'found within ARGS:password: hunter2' },
    ],
    ['a cookie', { variable: 'REQUEST_COOKIES:sid', value: 'hunter2', data: 'hunter2' }],
    ['a header', { variable: 'REQUEST_HEADERS:Authorization', value: 'Bearer hunter2', data: '' }],
    ['in a parameter of a target', { variable: 'REQUEST_URI', value: '/?x=1&access_token=hunter2', data: '' }],
    ['in what the rule quotes', { variable: 'TX:1', value: 'x', data: 'found within REQUEST_COOKIES:sid: hunter2' }],
    ['in what the rule says', { message: 'bad /?api_key=hunter2' }],
  ])('%s', (_, more) => {
    expect(JSON.stringify(shownMatch(match(more)))).not.toContain('hunter2')
  })
})

describe('a line in ModSecurity’s form', () => {
  const NOW = new Date(2026, 0, 4, 5, 6, 7, 89)
  /** What log readers take out of Apache's error log: time, level, client, verdict, then quoted fields. */
  const SHAPE =
    /^\[\w{3} \w{3} \d\d \d\d:\d\d:\d\d\.\d{6} \d{4}\] \[security2:error\] \[pid \d+:tid \d+\] \[client (\S+?)\] \[client \S+\] ModSecurity: (Warning|Access denied with code \d{3} \(phase [1-5]\))\. .*?((?: \[\w+ "(?:[^"\\]|\\.)*"\])+)\n$/

  it('has Apache’s frame and ModSecurity’s fields in their order', () => {
    const line = modsecurityLine(EXCHANGE, shownMatch(match()), null, NOW)
    expect(line.replace(/pid \d+:tid \d+/, 'pid 1:tid 1')).toBe(
      '[Sun Jan 04 05:06:07.089000 2026] [security2:error] [pid 1:tid 1] [client 203.0.113.7:4000] [client 203.0.113.7] ' +
        'ModSecurity: Warning. Match at ARGS:id. [file "/crs/rules/REQUEST-942.conf"] [line "46"] [id "942100"] ' +
        '[msg "SQL Injection"] [data "Matched Data: s&1 found within ARGS:id: 1 or 1"] [severity "CRITICAL"] ' +
        '[ver "OWASP_CRS/4.28.0"] [tag "attack-sqli"] [tag "paranoia-level/1"] [hostname "shop.example"] [uri "/a"] ' +
        '[unique_id "r1"]\n',
    )
    expect(line).toMatch(SHAPE)
  })

  it('names the status and phase of the rule that decided, where it is obeyed', () => {
    const decision = { status: 403, phase: 2 }
    expect(modsecurityLine(EXCHANGE, shownMatch(match()), decision, NOW)).toContain(
      'ModSecurity: Access denied with code 403 (phase 2).',
    )
    const tested = modsecurityLine({ ...EXCHANGE, enforced: false }, shownMatch(match()), decision, NOW)
    expect(tested).toContain('ModSecurity: Warning.')
  })

  it('no text of a request can end a field or a line', () => {
    const hostile = { ...EXCHANGE, host: 'a"] [id "1', target: '/"\\\n\u00ff' }
    const line = modsecurityLine(hostile, shownMatch(match()), null, NOW)
    expect(line).toMatch(SHAPE)
    expect(line).toContain('[hostname "a\\x22] [id \\x221"] [uri "/\\x22\\x5c\\x0a\\xff"]')
  })
})
