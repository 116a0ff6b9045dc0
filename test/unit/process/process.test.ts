import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ConfigError, Diagnostics } from '../../../src/config/diagnostic.ts'
import { SourceFile } from '../../../src/config/source.ts'
import { askInstance, startControlServer, UnreachableError, type ControlServer } from '../../../src/process/control.ts'
import { automaticWorkers, parseCpuMax } from '../../../src/process/cpu-quota.ts'
import { descriptorLimit, descriptorNeed } from '../../../src/process/descriptor-need.ts'
import { CRASH_LOOP_COUNT, CRASH_WINDOW_MS, CrashHistory } from '../../../src/process/crash-history.ts'
import { hasErrors, plainReport, reportThrown } from '../../../src/process/diagnostic-report.ts'
import { addressText, portProblem } from '../../../src/process/ports.ts'
import {
  controlSocketPath,
  defaultStateDir,
  loadLastGood,
  lockStateDir,
  saveLastGood,
  StateDirError,
} from '../../../src/process/state-dir.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-state-'))
})
afterEach(() => {
  rmSync(folder, { recursive: true, force: true })
})

describe('O-28: crash history', () => {
  test('the first death is answered at once, the next ones later and later, below a second until it is a loop', () => {
    const history = new CrashHistory()
    const pauses = Array.from({ length: 12 }, (_, index) => history.record(index * 10))
    expect(pauses.slice(0, 4)).toEqual([0, 100, 200, 400])
    for (const [index, pauseMs] of pauses.entries()) {
      if (index > 0) expect(pauseMs).toBeGreaterThanOrEqual(pauses[index - 1]!)
      expect(pauseMs).toBeLessThanOrEqual(10_000)
    }
    expect(pauses.at(-1)).toBe(10_000)
  })

  test('five within a minute are a loop; it ends when they are a minute old', () => {
    const history = new CrashHistory()
    for (let count = 1; count <= CRASH_LOOP_COUNT; count++) {
      expect(history.isLoop(count)).toBe(false)
      history.record(count)
    }
    expect(history.isLoop(CRASH_LOOP_COUNT)).toBe(true)
    expect(history.isLoop(CRASH_WINDOW_MS)).toBe(true)
    expect(history.isLoop(CRASH_WINDOW_MS + 1)).toBe(false)
    expect(history.record(3 * CRASH_WINDOW_MS)).toBe(0)
  })
})

describe('O-78: file descriptors', () => {
  test('what a worker may need is what its clients and targets may have', () => {
    expect(descriptorNeed({ listeners: 2, clients: 5000, targets: [256, 256] })).toBe(128 + 2 + 5000 + 512)
    expect(descriptorNeed({ listeners: 1, clients: 0, targets: [256] })).toBe(128 + 1 + 1024 + 256)
    expect(descriptorNeed({ listeners: 1, clients: 0, targets: [4000] })).toBe(128 + 1 + 4000 + 4000)
  })

  test('the limit is the one in force', () => {
    const limits = (line: string) => () =>
      `Limit   Soft Limit  Hard Limit  Units\nMax processes 1 2 processes\n${line}\n`
    expect(descriptorLimit(limits('Max open files            1024                 524288               files'))).toBe(
      1024,
    )
    expect(
      descriptorLimit(limits('Max open files            unlimited            unlimited            files')),
    ).toBeUndefined()
    expect(
      descriptorLimit(() => {
        throw new Error('ENOENT')
      }),
    ).toBeUndefined()
    expect(descriptorLimit()).toBeGreaterThan(0)
  })
})

describe('O-78: automatic workers', () => {
  const files = (texts: Record<string, string>) => (path: string) => {
    const text = texts[path]
    if (text === undefined) throw new Error('ENOENT')
    return text
  }

  test.each([
    ['no cgroup', {}, 8, 8],
    ['no quota', { '/sys/fs/cgroup/cpu.max': 'max 100000\n' }, 8, 8],
    ['a quota of 1.5 rounds up', { '/sys/fs/cgroup/cpu.max': '150000 100000\n' }, 8, 2],
    ['a quota below one is one', { '/sys/fs/cgroup/cpu.max': '10000 100000\n' }, 8, 1],
    ['a quota above the machine', { '/sys/fs/cgroup/cpu.max': '1600000 100000\n' }, 4, 4],
    [
      'the process’s own group',
      {
        '/proc/self/cgroup': '0::/system.slice/a.service\n',
        '/sys/fs/cgroup/system.slice/a.service/cpu.max': '200000 100000',
      },
      8,
      2,
    ],
    [
      'cgroup v1',
      { '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '300000\n', '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n' },
      8,
      3,
    ],
    [
      'cgroup v1 without quota',
      { '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n', '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n' },
      8,
      8,
    ],
    ['never more than 64', {}, 192, 64],
  ])('%s', (_name, texts, cores, workers) => {
    expect(automaticWorkers(files(texts as Record<string, string>), cores)).toBe(workers)
  })

  test('what is unreadable is no quota', () => {
    expect(['', 'x y', 'max', '0 100000', '-1 100000'].map(parseCpuMax)).toEqual(Array(5).fill(undefined))
  })
})

describe('ports', () => {
  test('a free port has no problem, a taken one is named', async () => {
    const server = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => server.once('listening', resolve))
    const { port } = server.address() as { port: number }
    expect(await portProblem({ host: '127.0.0.1', port })).toBe(
      `port ${port} is in use: another program listens on 127.0.0.1:${port}`,
    )
    expect(await portProblem({ host: '0.0.0.0', port })).toContain('is in use')
    await new Promise((resolve) => server.close(resolve))
    expect(await portProblem({ host: '127.0.0.1', port })).toBeUndefined()
    expect(await portProblem({ host: '192.0.2.1', port })).toContain('does not have that address')
  })

  test('IPv6 stands in brackets', () => {
    expect(addressText({ host: '::1', port: 80 })).toBe('[::1]:80')
  })
})

describe('state folder', () => {
  test('one owner at a time; free again when released', async () => {
    const stateDir = join(folder, 'deep', 'state')
    const lock = await lockStateDir(stateDir)
    expect(statSync(stateDir).mode & 0o777).toBe(0o700)
    await expect(lockStateDir(stateDir)).rejects.toThrow('another sallyport runs with the state folder')
    lock.release()
    const again = await lockStateDir(stateDir)
    again.release()
  })

  test('many at once: exactly one gets it', async () => {
    const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => lockStateDir(folder)))
    const won = outcomes.filter((outcome) => outcome.status === 'fulfilled')
    expect(won).toHaveLength(1)
    won[0]!.value.release()
  })

  test('a control socket that answers keeps the folder, whoever holds the lock', async () => {
    const control = await startControlServer(folder, () => Promise.resolve({ ok: true }))
    await expect(lockStateDir(folder)).rejects.toThrow(StateDirError)
    await control.close()
  })

  test('a dead socket file is cleared away', async () => {
    writeFileSync(controlSocketPath(folder), '')
    const lock = await lockStateDir(folder)
    expect(existsSync(controlSocketPath(folder))).toBe(false)
    lock.release()
  })

  test('a path too long for a socket, and a file in its place, are one sentence', async () => {
    await expect(lockStateDir(join(folder, 'x'.repeat(120)))).rejects.toThrow('too long for a socket')
    writeFileSync(join(folder, 'file'), '')
    await expect(lockStateDir(join(folder, 'file'))).rejects.toThrow('cannot be used')
  })

  test('the default is the XDG state folder where the system’s is not writable', () => {
    const stateDir = defaultStateDir({ XDG_STATE_HOME: '/xdg', HOME: '/home/ann' })
    expect(['/var/lib/sallyport', '/xdg/sallyport']).toContain(stateDir)
  })

  test('O-29: the last good configuration round-trips, is private, and damage is no error', () => {
    expect(loadLastGood(folder)).toBeUndefined()
    const kept = { savedAt: '2026-01-01T00:00:00Z', version: '1', input: '{}', bundle: { files: { a: 'b' } } }
    saveLastGood(folder, kept)
    chmodSync(join(folder, 'last-good.json'), 0o644)
    saveLastGood(folder, kept)
    expect(loadLastGood(folder)).toEqual(kept)
    expect(statSync(join(folder, 'last-good.json')).mode & 0o777).toBe(0o600)
    for (const text of ['', '{', 'null', '[]', '{"savedAt": 1}', '{"savedAt":"x","version":"1","input":"{}"}']) {
      writeFileSync(join(folder, 'last-good.json'), text)
      expect(loadLastGood(folder)).toBeUndefined()
    }
    mkdirSync(join(folder, 'read-only'))
    expect(() => saveLastGood(join(folder, 'missing'), kept)).toThrow('ENOENT')
  })
})

describe('control socket', () => {
  let server: ControlServer | undefined
  afterEach(() => server?.close())

  test('asks and answers; what throws becomes an answer', async () => {
    server = await startControlServer(folder, (request) => {
      if (request.verb === 'reload') return Promise.reject(new Error('no'))
      return Promise.resolve({ ok: true, request })
    })
    expect(statSync(controlSocketPath(folder)).mode & 0o777).toBe(0o600)
    expect(await askInstance(folder, { verb: 'stop', now: true }, 1000)).toEqual({
      ok: true,
      request: { verb: 'stop', now: true },
    })
    expect(await askInstance(folder, { verb: 'reload' }, 1000)).toEqual({ ok: false, message: 'no' })
  })

  test('nonsense is answered, not obeyed; a line without end is cut off', async () => {
    server = await startControlServer(folder, () => Promise.resolve({ ok: true }))
    const send = (text: string): Promise<string> =>
      new Promise((resolve) => {
        const socket = connect(controlSocketPath(folder), () => socket.write(text))
        let received = ''
        socket.on('data', (data) => (received += data.toString()))
        socket.once('close', () => resolve(received))
        socket.once('error', () => resolve(received))
      })
    for (const text of ['{}\n', 'nonsense\n', '[1]\n', 'null\n', '{"verb":"destroy"}\n']) {
      expect(JSON.parse(await send(text))).toEqual({ ok: false, message: 'this is no request that I know' })
    }
    expect(await send('x'.repeat(200_000))).toBe('')
  })

  test('nobody there, too slow, gone: UnreachableError', async () => {
    await expect(askInstance(folder, { verb: 'status' }, 1000)).rejects.toThrow(UnreachableError)
    server = await startControlServer(folder, () => new Promise(() => undefined))
    await expect(askInstance(folder, { verb: 'status' }, 50)).rejects.toThrow('did not answer within')
  })
})

describe('reports', () => {
  test('diagnostics keep place, code and rendering; other errors become one', () => {
    const diagnostics = new Diagnostics()
    const source = new SourceFile('a.yaml', 'x: 1\ny: 2\n')
    diagnostics.error('WRONG', 'y is wrong', { source, start: 5, end: 6 }, 'leave it out')
    diagnostics.warning('ODD', 'odd')
    const reports = reportThrown(new ConfigError(diagnostics.all))
    expect(reports[0]).toMatchObject({
      severity: 'error',
      code: 'WRONG',
      file: 'a.yaml',
      line: 2,
      column: 1,
      hint: 'leave it out',
    })
    expect(reports[0]?.rendered).toContain('a.yaml:2:1: error: y is wrong [WRONG]\n  2 | y: 2\n    | ^')
    expect(structuredClone(reports)).toEqual(reports)
    expect(hasErrors(reports)).toBe(true)
    expect(hasErrors([plainReport('X', 'y', 'warning')])).toBe(false)
    expect(reportThrown(new Error('plain'))).toEqual([plainReport('CONFIGURATION', 'plain')])
    expect(reportThrown('text')).toEqual([plainReport('CONFIGURATION', 'text')])
  })
})

test('the package has a version that the program can read', async () => {
  const { programVersion } = await import('../../../src/cli/version.ts')
  const text = readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')
  expect(programVersion()).toBe((JSON.parse(text) as { version: string }).version)
})
