/**
 * A flood of matches into a log that nobody reads: whole transactions or none, and every match is accounted for (O-61).
 *
 * Engine: none, no client connects to a listener.
 */
import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { createLogger } from '../../../src/access-log/logger.ts'
import { MatchLog } from '../../../src/access-log/match-log.ts'
import { Metrics } from '../../../src/metrics/metrics.ts'

const TRANSACTIONS = 2000
const MATCHES = 5

it('what is written is whole, and written and unwritten add up', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-flood-'))
  const path = join(folder, 'pipe')
  execFileSync('mkfifo', [path])
  const pipe = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
  try {
    const metrics = new Metrics()
    let dropped = 0
    const logger = createLogger({ level: 'info', format: 'json', to: pipe, onDropped: (lines) => (dropped += lines) })
    const log = new MatchLog({ logger, metrics, modsecurityOutput: 'off' })
    const match = {
      id: 942100,
      phase: 2,
      message: 'SQL Injection',
      data: '',
      severity: 'critical',
      variable: 'ARGS:id',
      value: '1',
      tags: [],
      file: 'f',
      line: 1,
    }
    const score = { score: 5, threshold: 5 }
    for (let at = 0; at < TRANSACTIONS; at++) {
      const exchange = {
        requestId: `r${at}`,
        endpoint: 'web',
        clientAddress: '203.0.113.7',
        clientPort: 1,
        host: 'a',
        target: '/',
        enforced: true,
        anomalyScore: 5,
      }
      const matches = Array.from({ length: MATCHES }, () => match)
      log.record(exchange, {
        interruption: null,
        matched: matches,
        matches,
        matchesLeftOut: 0,
        inbound: score,
        outbound: score,
        bodyError: null,
      })
    }
    const flushed = log.close().then(() => logger.flush())
    let text = ''
    const buffer = Buffer.alloc(65_536)
    for (const until = performance.now() + 10_000; performance.now() < until && !text.includes('too slow');) {
      try {
        text += buffer.toString('latin1', 0, readSync(pipe, buffer, 0, buffer.length, null))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
      }
      // oxlint-disable-next-line no-await-in-loop -- the writer needs a turn
      await new Promise((resolve) => {
        setTimeout(resolve, 1)
      })
    }
    await flushed
    const lines = text
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const perRequest = new Map<unknown, number>()
    for (const line of lines.filter(({ msg }) => msg === 'waf match')) {
      perRequest.set(line['request_id'], (perRequest.get(line['request_id']) ?? 0) + 1)
    }
    const summary = lines.find(({ level }) => level === 'warn')
    const unwritten = Number(summary?.['matches'])
    expect(dropped).toBe(0)
    expect(new Set(perRequest.values())).toEqual(new Set([MATCHES]))
    expect(unwritten).toBeGreaterThan(0)
    expect(perRequest.size * MATCHES + unwritten).toBe(TRANSACTIONS * MATCHES)
    expect(summary?.['transactions']).toBe(TRANSACTIONS - perRequest.size)
  } finally {
    closeSync(pipe)
    rmSync(folder, { recursive: true })
  }
})
