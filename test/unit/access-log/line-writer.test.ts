import { spawn, spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { LineWriter } from '../../../src/access-log/line-writer.ts'
import { createLogger, openAccessLog } from '../../../src/access-log/logger.ts'
import { emptyAccessRecord } from '../../../src/access-log/record.ts'

let folder = ''

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-log-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true, force: true })
})

/** A pipe that nobody reads until `drain` is called; opening its write end needs a reader, so a process holds one. */
function stalledPipe(): { readonly descriptor: number; read(): Promise<string>; end(): void } {
  const path = join(folder, 'pipe')
  expect(spawnSync('mkfifo', [path]).status).toBe(0)
  // opened for both, so that neither open waits for the other
  const keeper = openSync(path, 'r+')
  const descriptor = openSync(path, 'w')
  return {
    descriptor,
    end: () => closeSync(keeper),
    read: () =>
      new Promise((resolve) => {
        const reader = spawn('cat', [path], { stdio: ['ignore', 'pipe', 'ignore'] })
        let text = ''
        reader.stdout.setEncoding('utf8').on('data', (part: string) => {
          text += part
          if (text.includes('last\n')) reader.kill()
        })
        reader.once('close', () => resolve(text))
      }),
  }
}

describe('LineWriter', () => {
  test('lines arrive in order and complete, ASCII or not, short or longer than a block', async () => {
    const path = join(folder, 'log')
    const writer = new LineWriter({ to: path, maxPendingBytes: 64 * 2 ** 20 })
    const lines: string[] = []
    for (let number = 0; number < 20_000; number++) {
      const text =
        number % 5000 === 1 ? `${number} ${'ü€😀'.repeat(40_000)}\n` : `${number} ${'x'.repeat(number % 700)}\n`
      lines.push(text)
      writer.write(text, Buffer.byteLength(text) === text.length)
      if (number % 1000 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    await writer.close()
    // compared as a whole: a difference of megabytes must not be printed
    expect(readFileSync(path, 'utf8') === lines.join('')).toBe(true)
    expect(writer.dropped).toBe(0)
  })

  test('a line waits only moments, without flush', async () => {
    const path = join(folder, 'log')
    const writer = new LineWriter({ to: path })
    writer.write('one\n')
    // without flush and without a second line it would stay where it is
    await vi.waitFor(() => expect(readFileSync(path, 'utf8')).toBe('one\n'), 10_000)
    await writer.close()
  })

  test('O-61: a reader that stands still costs bounded memory and the oldest lines, never the writer’s time', async () => {
    const pipe = stalledPipe()
    let lost = 0
    const writer = new LineWriter({
      to: pipe.descriptor,
      maxPendingBytes: 64 * 1024,
      onDropped: (lines) => (lost += lines),
    })
    const LINES = 50_000
    // nobody reads before all are written: a write that waited would wait for ever
    for (let number = 0; number < LINES; number++) {
      writer.write(`${number} ${'x'.repeat(93)}\n`.padStart(100), true)
      if (number % 500 === 0) await new Promise((resolve) => setImmediate(resolve))
    }
    writer.write('last\n', true)
    const reading = pipe.read()
    await writer.flush(5000)
    const text = await reading
    pipe.end()
    const numbers = text
      .trimEnd()
      .split('\n')
      .slice(0, -1)
      .map((line) => Number.parseInt(line, 10))
    expect(lost).toBe(LINES - numbers.length)
    expect(writer.dropped).toBe(lost)
    expect(lost).toBeGreaterThan(LINES / 2)
    // the newest are there, in order
    expect(numbers.at(-1)).toBe(LINES - 1)
    expect(numbers.every((number, index) => index === 0 || number > numbers[index - 1]!)).toBe(true)
    closeSync(pipe.descriptor)
  })

  test('O-20: reopen goes on in a new file after the old one was moved', async () => {
    const path = join(folder, 'log')
    const writer = new LineWriter({ to: path })
    writer.write('before\n')
    await writer.flush()
    renameSync(path, `${path}.1`)
    writer.reopen()
    writer.write('after\n')
    await writer.close()
    expect(readFileSync(`${path}.1`, 'utf8')).toBe('before\n')
    expect(readFileSync(path, 'utf8')).toBe('after\n')
  })

  test('a full disk loses lines and counts them', async () => {
    const writer = new LineWriter({ to: '/dev/full' })
    writer.write('one\ntwo\n')
    writer.write('three\n')
    await writer.close()
    expect(writer.dropped).toBe(2)
  })

  test('a file that cannot be opened is an error at once', () => {
    expect(() => new LineWriter({ to: join(folder, 'missing', 'log') })).toThrow('ENOENT')
  })

  test('flushSync writes what is left', () => {
    const path = join(folder, 'log')
    const writer = new LineWriter({ to: path })
    writer.write('one\n')
    writer.write('two\n')
    writer.flushSync()
    expect(readFileSync(path, 'utf8')).toBe('one\ntwo\n')
  })
})

describe('operational log', () => {
  async function written(
    format: 'json' | 'text',
    use: (log: ReturnType<typeof createLogger>) => void,
  ): Promise<string> {
    const path = join(folder, `log-${format}`)
    const descriptor = openSync(path, 'a')
    const log = createLogger({ level: 'info', format, to: descriptor, fields: { worker: 2 } })
    use(log)
    await log.flush()
    closeSync(descriptor)
    return readFileSync(path, 'utf8')
  }

  test('json: one object per line with level, time, fields; errors with cause; secrets masked', async () => {
    const text = await written('json', (log) => {
      log.debug({}, 'too quiet')
      log.setLevel('debug')
      log.debug({ a: 1 }, 'loud enough')
      log.crit({ err: new Error('outer', { cause: new TypeError('inner') }) }, 'bad')
      log.with({ part: 'jwt' }).warn({ authorization: 'sekret', nested: { token: 'sekret' } }, 'masked')
      log.error({ err: new Error(`token eyJhbGciOiJIUzI1NiJ9.${'x'.repeat(50)}.sekret`) }, 'with token')
    })
    const lines = text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(lines.map(({ level, msg, worker }) => [level, msg, worker])).toEqual([
      ['debug', 'loud enough', 2],
      ['crit', 'bad', 2],
      ['warn', 'masked', 2],
      ['error', 'with token', 2],
    ])
    expect(lines[1]).toMatchObject({
      err: { type: 'Error', message: 'outer', cause: { type: 'TypeError', message: 'inner' } },
    })
    expect(lines[2]).toMatchObject({ part: 'jwt', authorization: '***', nested: { token: '***' } })
    expect(text).not.toContain('sekret')
  })

  test('text: for people, controls escaped', async () => {
    const text = await written('text', (log) => log.warn({ signal: 'SIGKILL', why: 'a b\u001b[31m' }, 'worker\ndied'))
    expect(text).toMatch(/^\S+Z WARN {2}worker\\ndied worker=2 signal=SIGKILL why="a b\\u001b\[31m"\n$/)
  })
})

describe('access log', () => {
  test('off costs nothing and says so; a file gets lines', async () => {
    expect(openAccessLog({ output: 'off' }).enabled).toBe(false)
    const path = join(folder, 'access')
    const log = openAccessLog({ output: path })
    const record = emptyAccessRecord()
    for (let number = 0; number < 3; number++) {
      record.status = 200 + number
      log.write(record)
    }
    await log.close()
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
    expect(lines.map((line) => (JSON.parse(line) as { status: number }).status)).toEqual([200, 201, 202])
  })
})
