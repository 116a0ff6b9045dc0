import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { createLogger, type LoggerOptions } from '../../../src/access-log/logger.ts'

let folder: string
let descriptor: number

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-logger-'))
  descriptor = openSync(join(folder, 'log'), 'a')
})

afterEach(() => {
  closeSync(descriptor)
  rmSync(folder, { recursive: true })
})

function written(options: Partial<LoggerOptions>): string[] {
  const fields = { rule_id: 942100, value: '"quoted" \u{1f600} \u2028 \ud800', tags: ['a', 'b'] }
  const logger = createLogger({ level: 'info', format: 'json', to: descriptor, fields: { worker: 2 }, ...options })
  for (const one of [logger, logger.with({ endpoint: 'web' })]) {
    one.info(fields, 'waf match')
    one.infoJson(JSON.stringify(fields).slice(1, -1), 'waf match')
  }
  logger.flushSync()
  return readFileSync(join(folder, 'log'), 'utf8').split('\n').slice(0, -1)
}

test('infoJson writes what info writes', () => {
  const lines = written({}).map((line) => ({ ...(JSON.parse(line) as object), time: '' }))
  expect(lines).toHaveLength(4)
  expect(lines[1]).toEqual(lines[0])
  expect(lines[3]).toEqual(lines[2])
  expect(Object.keys(lines[3]!)).toEqual(['level', 'time', 'worker', 'endpoint', 'rule_id', 'value', 'tags', 'msg'])
})

test('infoJson writes text where that is wanted, and nothing below the level', () => {
  const [first, second] = written({ format: 'text' }).map((line) => line.slice(line.indexOf(' ')))
  expect(second).toBe(first)
  expect(first).toContain('INFO  waf match worker=2 rule_id=942100')
  expect(written({ level: 'warn' })).toHaveLength(4)
})
