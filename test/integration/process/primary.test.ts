/**
 * The primary against workers that refuse, hang and die (test/support/fake-worker.mjs). Real processes, no traffic.
 *
 * Engine: none, no client connects to a listener.
 */
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'
import type { Logger } from '../../../src/access-log/logger.ts'
import { plainReport } from '../../../src/process/diagnostic-report.ts'
import {
  Primary,
  StartError,
  type CheckedConfiguration,
  type Deadlines,
  type PrimarySettings,
} from '../../../src/process/primary.ts'

interface Bundle {
  readonly name: string
  readonly refuse?: number | 'all'
  readonly dieInPrepare?: number | 'all'
  readonly hangInPrepare?: number | 'all'
  readonly dieInCommit?: number | 'all'
  readonly throwInCommit?: number | 'all'
  readonly busy?: number | 'all'
}

const SETTINGS = {
  workers: 2,
  listeners: [],
  drain: { delayMs: 0, timeoutMs: 500 },
  logLevel: 'info',
  limits: { headBytes: 65_536, uriBytes: 16_384 },
  rateLimit: { memoryBuckets: 1024 },
  webSocket: { maxMessageBytes: 1024 },
  redis: { url: undefined },
  admin: { address: undefined },
  accessLog: { output: 'off' },
  jwt: {},
  waf: { modsecurityLog: 'off', collectionRecords: 64 },
} as unknown as PrimarySettings

function configuration(bundle: Bundle): CheckedConfiguration {
  return { reports: [], settings: SETTINGS, certificates: [], bundle, fingerprint: JSON.stringify(bundle) }
}

const primaries: Primary[] = []
afterEach(async () => {
  await Promise.all(primaries.splice(0).map((primary) => primary.stopNow('end of test')))
})

interface Made {
  readonly primary: Primary
  readonly accepted: Bundle[]
  readonly messages: string[]
  /** What the next reload reads. */
  next: CheckedConfiguration
}

function makePrimary(deadlines: Partial<Deadlines> = {}): Made {
  const accepted: Bundle[] = []
  const messages: string[] = []
  const say = (_fields: object, message: string): void => void messages.push(message)
  const logger: Logger = {
    crit: say,
    error: say,
    warn: say,
    info: say,
    infoJson: (_, message) => void messages.push(message),
    debug: say,
    trace: say,
    setLevel: () => undefined,
    with: () => logger,
    flush: () => Promise.resolve(),
    writesInfo: true,
    fill: 0,
    flushSync: () => undefined,
  }
  const made: Made = {
    accepted,
    messages,
    next: configuration({ name: 'unset' }),
    primary: new Primary({
      logger,
      check: () => Promise.resolve(made.next),
      onAccepted: ({ bundle }) => void accepted.push(bundle as Bundle),
      stateDir: '/nowhere',
      version: '0.0.0',
      instanceId: 'test',
      logFormat: 'json',
      workerScript: fileURLToPath(new URL('../../support/fake-worker.mjs', import.meta.url)),
      workerEnvironment: () => ({}),
      createBuckets: () => ({
        path: '',
        evictions: () => 0,
        collections: { path: '', losses: () => ({ evictions: 0, refusals: 0 }) },
      }),
      deadlines,
    }),
  }
  primaries.push(made.primary)
  return made
}

async function retries(primary: Primary, what: string): Promise<number> {
  const text = await primary.exposition('prometheus')
  const line = text.split('\n').find((candidate) => candidate.includes(`reason="${what}"`))
  return Number(line?.split(' ').at(-1) ?? 0)
}

async function until(condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  for (const end = performance.now() + timeoutMs; !condition();) {
    if (performance.now() > end) throw new Error(`did not happen within ${timeoutMs} ms`)
    await new Promise((resolve) => {
      setTimeout(resolve, 10)
    })
  }
}

describe('start', () => {
  test('every worker serves before it is ready', async () => {
    const { primary, accepted } = makePrimary()
    expect(primary.notReadyReasons()).toEqual(['starting'])
    const starting = primary.start(configuration({ name: 'first' }))
    expect(primary.hasBeenReady).toBe(false)
    await starting
    expect(primary.notReadyReasons()).toEqual([])
    expect(primary.hasBeenReady).toBe(true)
    expect(accepted).toEqual([{ name: 'first' }])
    expect(await retries(primary, 'committed first')).toBe(2)
    expect(await primary.drain('test')).toBe(0)
    expect(primary.notReadyReasons()).toEqual(['draining'])
  })

  test('one worker that cannot build it fails the start, with its reason', async () => {
    const { primary } = makePrimary()
    await expect(primary.start(configuration({ name: 'bad', refuse: 2 }))).rejects.toThrow('worker 2 refuses bad')
    expect(primary.status().workers.map(({ pid }) => pid)).toEqual([undefined, undefined])
  })

  test('a worker that dies three times while it starts fails the start', async () => {
    const { primary } = makePrimary()
    const error = await primary
      .start(configuration({ name: 'deadly', dieInPrepare: 1 }))
      .catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(StartError)
    expect((error as StartError).reports[0]).toMatchObject({ code: 'WORKER_DIED' })
  })

  test('a configuration with errors starts nothing', async () => {
    const { primary } = makePrimary()
    const bad = { ...configuration({ name: 'x' }), settings: undefined, reports: [plainReport('BAD', 'it is bad')] }
    await expect(primary.start(bad)).rejects.toThrow('it is bad')
  })

  test('a drain that comes while it starts ends it with 0', async () => {
    const { primary } = makePrimary()
    const starting = primary.start(configuration({ name: 'slow', hangInPrepare: 'all' }))
    await until(() => primary.status().workers.every(({ pid }) => pid !== undefined))
    expect(await primary.drain('test')).toBe(0)
    await starting
  })
})

describe('O-23, T-70: a reload is all or nothing', () => {
  test.each([
    ['one worker refuses', { refuse: 2 }, 'worker 2 refuses next'],
    ['one worker dies while it builds', { dieInPrepare: 1 }, 'worker 1 was killed by SIGKILL'],
    ['one worker never finishes', { hangInPrepare: 2 }, 'worker 2 did not build the configuration within 0.5 s'],
  ] as const)('%s: refused everywhere', async (_name, misbehaviour, reason) => {
    const made = makePrimary({ prepareMs: 500 })
    const { primary, accepted } = made
    await primary.start(configuration({ name: 'first' }))
    made.next = configuration({ name: 'next', ...misbehaviour })
    const result = await primary.reload()
    expect(result).toMatchObject({ ok: false, changed: false, generation: 1 })
    expect(result.reports.map(({ message }) => message)).toContain(reason)
    await until(() => primary.notReadyReasons().length === 0)
    expect(accepted).toEqual([{ name: 'first' }])
    expect(await retries(primary, 'committed next')).toBe(0)
    expect(primary.status().lastReload).toMatchObject({ ok: false })
    // and the next good one is taken
    made.next = configuration({ name: 'good' })
    expect(await primary.reload()).toMatchObject({ ok: true, changed: true })
    expect(await retries(primary, 'committed good')).toBe(2)
  })

  test('the others give up what they had built', async () => {
    const made = makePrimary()
    await made.primary.start(configuration({ name: 'first' }))
    made.next = configuration({ name: 'next', refuse: 2 })
    await made.primary.reload()
    expect(await retries(made.primary, 'aborted next')).toBe(1)
  })

  test.each([
    ['dies', { dieInCommit: 1 }],
    ['throws', { throwInCommit: 1 }],
  ] as const)(
    'a worker that %s at the swap: accepted, but not told as serving while it is not',
    async (_name, misbehaviour) => {
      const made = makePrimary({ commitMs: 500, liveMs: 700 })
      const { primary } = made
      await primary.start(configuration({ name: 'first' }))
      made.next = configuration({ name: 'next', ...misbehaviour })
      const result = await primary.reload()
      expect(result).toMatchObject({ ok: false, changed: true, generation: 2 })
      expect(result.message).toContain('does not serve in worker 1 yet')
      expect(primary.notReadyReasons()).not.toEqual([])
      expect(primary.status().workers[1]).toMatchObject({ state: 'live', generation: 2 })
    },
  )

  test('who asks while one is under way gets a reading of the files that is newer than the question', async () => {
    const made = makePrimary()
    const { primary } = made
    await primary.start(configuration({ name: 'first' }))
    made.next = configuration({ name: 'second' })
    const one = primary.reload()
    made.next = configuration({ name: 'third' })
    const two = primary.reload()
    const three = primary.reload()
    expect(three).toBe(two)
    expect((await one).ok).toBe(true)
    expect((await two).ok).toBe(true)
    expect(made.accepted.at(-1)).toEqual({ name: 'third' })
    expect(await primary.reload()).toMatchObject({ ok: true, changed: false })
  })

  test('a reload while it drains is refused', async () => {
    const made = makePrimary()
    await made.primary.start(configuration({ name: 'first' }))
    const draining = made.primary.drain('test')
    expect(await made.primary.reload()).toMatchObject({ ok: false, message: 'the gateway is stopping' })
    await draining
  })
})

describe('end', () => {
  test('O-10: work left at the deadline is exit 4', async () => {
    const { primary } = makePrimary()
    await primary.start(configuration({ name: 'busy', busy: 2 }))
    const startMs = performance.now()
    expect(await primary.drain('test')).toBe(4)
    expect(performance.now() - startMs).toBeGreaterThan(480)
  })

  test('O-20: SIGUSR1 reaches every worker', async () => {
    const { primary } = makePrimary()
    await primary.start(configuration({ name: 'first' }))
    primary.reopenLogs()
    let count = 0
    for (let attempt = 0; attempt < 100 && count < 2; attempt++) count = await retries(primary, 'reopened')
    expect(count).toBe(2)
  })
})
