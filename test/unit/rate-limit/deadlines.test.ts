/** O-76: no request waits longer than its deadline, and an answer that was there in time is not thrown away. */
import { connect } from 'node:net'
import { Worker } from 'node:worker_threads'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { Deadlines, type Waiting } from '../../../src/rate-limit/deadlines.ts'

function waiting(onExpire: () => void): Waiting {
  return { dueMs: 0, isDone: false, expire: onExpire }
}

/** From here on time passes when it is told to, milliseconds. */
function controlledTime(): (ms: number) => Promise<unknown> {
  vi.useFakeTimers({ toFake: ['setTimeout', 'setImmediate', 'performance'] })
  return (ms) => vi.advanceTimersByTimeAsync(ms)
}

afterEach(() => void vi.useRealTimers())

describe('Deadlines', () => {
  it('expires in order what is not done, each once', async () => {
    const pass = controlledTime()
    const deadlines = new Deadlines(20)
    const expired: number[] = []
    const all = Array.from({ length: 3000 }, (_, number) => waiting(() => expired.push(number)))
    for (const [number, one] of all.entries()) {
      deadlines.add(one)
      if (number % 3 === 0) one.isDone = true
    }
    await pass(10)
    const late = waiting(() => expired.push(-1))
    deadlines.add(late)
    expect(expired).toEqual([])
    await pass(60)
    expect(expired).toEqual([...all.keys()].filter((number) => number % 3 !== 0).concat(-1))
    await pass(60)
    expect(expired).toHaveLength(2001)
  })

  it('not before its time, and soon after', async () => {
    const pass = controlledTime()
    const deadlines = new Deadlines(30)
    let expired = false
    deadlines.add(waiting(() => (expired = true)))
    await pass(29)
    expect(expired).toBe(false)
    await pass(4)
    expect(expired).toBe(true)
  })

  it('after a busy turn, what arrived meanwhile is read first', async () => {
    // The echo runs in a thread: it answers while this one is busy.
    const echo = new Worker(
      `const { createServer } = require('node:net')
       const server = createServer((socket) => socket.pipe(socket))
       server.listen(0, '127.0.0.1', () => require('node:worker_threads').parentPort.postMessage(server.address().port))`,
      { eval: true },
    )
    const port = await new Promise<number>((resolve) => echo.once('message', resolve))
    const socket = connect(port, '127.0.0.1')
    await new Promise((resolve) => socket.once('connect', resolve))
    const deadlines = new Deadlines(20)
    const outcome = new Promise<string>((resolve) => {
      const one = waiting(() => resolve('expired'))
      socket.once('data', () => {
        one.isDone = true
        resolve('answered')
      })
      socket.write('x')
      deadlines.add(one)
    })
    // Its deadline has begun; busy beyond it.
    await new Promise((resolve) => setImmediate(resolve))
    const until = performance.now() + 60
    while (performance.now() < until);
    expect(await outcome).toBe('answered')
    socket.destroy()
    await echo.terminate()
  })

  it('what is added while something expires waits its own time', async () => {
    const pass = controlledTime()
    const deadlines = new Deadlines(20)
    let second = false
    deadlines.add(waiting(() => deadlines.add(waiting(() => (second = true)))))
    await pass(39)
    expect(second).toBe(false)
    await pass(6)
    expect(second).toBe(true)
  })
})
