/**
 * T-62: broken answers close the connection and fail the calls in flight; no call ever gets another's answer.
 *
 * Engine: none, no client connects to a listener.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { RedisClient, type RedisAnswer } from '../../../src/redis/client.ts'
import { loadRedisScript } from '../../../src/redis/script.ts'
import { RedisStore } from '../../../src/rate-limit/redis-store.ts'
import type { TakeResult } from '../../../src/rate-limit/store.ts'
import { startFakeRedis, type FakeRedis } from '../../support/fake-redis.ts'
import { eventually } from '../../support/start-redis.ts'
import { inTime } from '../../support/in-time.ts'

const SCRIPT = loadRedisScript('./take-sliding-window-1.lua', new URL('../../../src/rate-limit/', import.meta.url).href)
const CORPUS = fileURLToPath(new URL('../../../../shared/corpora/redis-faults/resp.json', import.meta.url))

interface RespCase {
  readonly id: string
  readonly raw?: string
  readonly parts?: readonly (string | { readonly repeat: string; readonly times: number })[]
  readonly expect: 'value' | 'error' | 'drop-connection'
  readonly why: string
}

/** Values that this client gives in another form than the corpus names, on purpose. */
const OTHER_FORM: Record<string, { readonly value: unknown; readonly reason: string }> = {
  'resp/map3': { value: ['a', 1], reason: 'maps are RESP3; this client speaks RESP2, where they are flat lists' },
  'resp/int64': { value: 2 ** 63, reason: 'numbers are JavaScript numbers; the stores refuse what is beyond 2^53' },
}

const local = {
  take: (): TakeResult => ({ admitted: true, remaining: 1, retryAfterMs: 0, mode: 'memory' }),
  close: () => Promise.resolve(),
}

let fake: FakeRedis | undefined
let client: RedisClient | undefined
let store: RedisStore | undefined

afterEach(async () => {
  client?.close()
  await store?.close()
  await fake?.close()
  client = store = fake = undefined
})

async function connect(url: string): Promise<RedisClient> {
  const made = new RedisClient({ url })
  client = made
  await eventually(() => made.isReady, 5000)
  return made
}

/** The outcome of a call and whether the connection outlived it. */
async function answerWith(
  bytes: Buffer,
): Promise<{ outcome: RedisAnswer | Error; isKept: boolean; isInTime: boolean }> {
  fake = await startFakeRedis((words) => (words[3] === 'broken' ? bytes : ':7\r\n'))
  const redis = await connect(fake.url)
  const call = redis.runScript(SCRIPT, 'broken', 1, 1).catch((error: Error) => error)
  const { value: outcome, isInTime } = await inTime(2500, call)
  await eventually(() => redis.isReady, 5000)
  // The connection, this or the next, is in step.
  expect(await redis.runScript(SCRIPT, 'sound', 1, 1)).toBe(7)
  return { outcome, isKept: fake.accepted === 1, isInTime }
}

describe('redis-faults: resp', () => {
  if (!existsSync(CORPUS)) {
    process.stdout.write('skipped: redis-faults: ../shared is not beside this checkout\n')
    it.skip('corpus')
    return
  }
  const { cases } = JSON.parse(readFileSync(CORPUS, 'utf8')) as { cases: RespCase[] }
  it('is whole', () => {
    process.stdout.write(`redis-faults: ${cases.length} cases of resp.json\n`)
    expect(cases.length).toBeGreaterThanOrEqual(27)
  })
  it.each(cases)('$id: $expect ($why)', async ({ id, raw, parts, expect: expected, why }) => {
    const text =
      raw ?? (parts ?? []).map((part) => (typeof part === 'string' ? part : part.repeat.repeat(part.times))).join('')
    const { outcome, isKept, isInTime } = await answerWith(Buffer.from(text, 'latin1'))
    if (expected === 'drop-connection') {
      expect(outcome).toBeInstanceOf(Error)
      expect(isKept).toBe(false)
      expect(isInTime).toBe(true)
      return
    }
    expect(isKept).toBe(true)
    if (expected === 'error') expect(outcome).toBeInstanceOf(Error)
    else
      expect(outcome).toEqual(
        OTHER_FORM[id] === undefined ? JSON.parse(why.replace(/^value /, '')) : OTHER_FORM[id].value,
      )
  })
})

describe('own cases of broken answers', () => {
  it.each([
    ['an unknown type', '@1\r\n'],
    ['CR without LF', '+OK\rx'],
    ['a bulk string longer than it said', '$2\r\nabc\r\n'],
    ['an aggregate below zero', '%-1\r\n'],
    ['an array of too many elements', '*70000\r\n'],
    ['nesting without end', '*1\r\n'.repeat(40)],
    ['a boolean that is none', '#x\r\n'],
    ['a number of a thousand digits', `:${'1'.repeat(1000)}\r\n`],
    ['a null with text', '_x\r\n'],
    ['a length of letters', '$a\r\n'],
    ['HTTP', 'HTTP/1.1 400 Bad Request\r\n\r\n'],
  ])('%s drops the connection', async (_name, text) => {
    const { outcome, isKept, isInTime } = await answerWith(Buffer.from(text))
    expect(outcome).toBeInstanceOf(Error)
    expect(isKept).toBe(false)
    expect(isInTime).toBe(true)
  })

  it('sound answers survive being cut at every byte', async () => {
    const answer = Buffer.from('*4\r\n:1\r\n$3\r\na\r\n\r\n*-1\r\n*2\r\n+x\r\n$-1\r\n')
    for (let cut = 1; cut < answer.length; cut += 1) {
      fake = await startFakeRedis((_words, socket) => {
        socket.write(answer.subarray(0, cut))
        setTimeout(() => socket.write(answer.subarray(cut)), 3)
        return undefined
      })
      const redis = await connect(fake.url)
      expect(await redis.runScript(SCRIPT, 'k', 1, 1)).toEqual([1, 'a\r\n', null, ['x', null]])
      expect(fake.accepted).toBe(1)
      redis.close()
      await fake.close()
    }
  })

  it('an error in the middle of a pipeline fails only its own call', async () => {
    fake = await startFakeRedis((words) => (words[3] === '5' ? '-ERR no\r\n' : `:${words[3]}\r\n`))
    const redis = await connect(fake.url)
    const outcomes = await Promise.all(
      Array.from({ length: 10 }, (_, call) => redis.runScript(SCRIPT, String(call), 1, 1).catch(() => 'failed')),
    )
    expect(outcomes).toEqual([0, 1, 2, 3, 4, 'failed', 6, 7, 8, 9])
    expect(fake.accepted).toBe(1)
  })

  it('all calls of a turn arrive in one segment', async () => {
    const sizes: number[] = []
    fake = await startFakeRedis((words, socket) => {
      if (words[3] === '0') sizes.push(socket.bytesRead)
      if (words[3] === '99') sizes.push(socket.bytesRead)
      return ':1\r\n'
    })
    const redis = await connect(fake.url)
    await Promise.all(Array.from({ length: 100 }, (_, call) => redis.runScript(SCRIPT, String(call), 1, 1)))
    // When the first call was read, the bytes of the last had been received with it.
    expect(sizes[0]).toBe(sizes[1])
  })

  it('a reset in the middle of an answer fails the call and does not send it again', async () => {
    fake = await startFakeRedis((_words, socket) => {
      socket.write('$10\r\nabc')
      setTimeout(() => socket.resetAndDestroy(), 5)
      return undefined
    })
    const redis = await connect(fake.url)
    await expect(redis.runScript(SCRIPT, 'k', 1, 1)).rejects.toThrow()
    await eventually(() => redis.isReady, 5000)
    await sleep(200)
    expect(fake.asked).toBe(1)
    expect(fake.accepted).toBe(2)
  })
})

describe('answers of the wrong kind to a take', () => {
  it.each([
    ['text', '+OK\r\n'],
    ['null', '$-1\r\n'],
    ['an array', '*1\r\n:1\r\n'],
    ['more than the capacity', ':10\r\n'],
    ['a wait longer than the window', ':-70000\r\n'],
  ])('%s: on_store_error decides and the connection is dropped', async (_name, bytes) => {
    // The probe (two arguments behind the key, the first a gateway's id) is answered well.
    fake = await startFakeRedis((words) => (words[3]?.endsWith('gateways') === true ? ':1\r\n' : bytes))
    store = new RedisStore({
      redis: { url: fake.url },
      local,
      logger: { info() {}, warn() {} },
      deadlineMs: 1000,
    })
    await eventually(() => store?.isAvailable === true, 5000)
    const before = fake.accepted
    expect(await store.take('k', 10, 60_000, 'closed')).toMatchObject({ admitted: false, mode: 'closed' })
    await eventually(() => (fake?.accepted ?? 0) > before, 5000)
  })

  it('late answers are thrown away and never given to a later take (T-61)', async () => {
    const held: (() => void)[] = []
    let isSlow = false
    fake = await startFakeRedis((words, socket) => {
      if (words[3]?.endsWith('gateways') === true) return ':1\r\n'
      // The answer names its call: the capacity less one.
      const bytes = `:${Number(words[4]) - 1}\r\n`
      if (!isSlow) return bytes
      held.push(() => socket.write(bytes))
      return undefined
    })
    store = new RedisStore({ redis: { url: fake.url }, local, logger: { info() {}, warn() {} } })
    const redis = store
    await eventually(() => redis.isAvailable, 5000)
    isSlow = true
    // Fewer than open the breaker.
    const takes = [1, 2, 3].map((call) => redis.take(`slow ${call}`, call + 100, 60_000, 'closed'))
    const { value: slow, isInTime } = await inTime(250, Promise.all(takes))
    expect(isInTime).toBe(true)
    expect(slow.map((result) => result.mode)).toEqual(['closed', 'closed', 'closed'])
    isSlow = false
    for (const release of held) release()
    for (let capacity = 1000; capacity < 1100; capacity += 1) {
      const taken = await redis.take(`key ${capacity}`, capacity, 60_000, 'closed')
      if (taken.mode === 'redis') expect(taken.remaining).toBe(capacity - 1)
    }
    expect(fake.accepted).toBe(1)
  })
})
