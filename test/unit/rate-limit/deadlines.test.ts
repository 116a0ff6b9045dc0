/** O-76: no request waits longer than its deadline, and an answer that was there in time is not thrown away. */
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { Worker } from 'node:worker_threads'
import { describe, expect, it } from 'vitest'
import { Deadlines, type Waiting } from '../../../src/rate-limit/deadlines.ts'

function waiting(onExpire: () => void): Waiting {
  return { dueMs: 0, isDone: false, expire: onExpire }
}

describe('Deadlines', () => {
  it('expires in order what is not done, each once', async () => {
    const deadlines = new Deadlines(20)
    const expired: number[] = []
    const all = Array.from({ length: 3000 }, (_, number) => waiting(() => expired.push(number)))
    for (const [number, one] of all.entries()) {
      deadlines.add(one)
      if (number % 3 === 0) one.isDone = true
    }
    await sleep(10)
    const late = waiting(() => expired.push(-1))
    deadlines.add(late)
    expect(expired).toEqual([])
    await sleep(60)
    expect(expired).toEqual([...all.keys()].filter((number) => number % 3 !== 0).concat(-1))
    await sleep(60)
    expect(expired).toHaveLength(2001)
  })

  it('not before its time, and soon after', async () => {
    const deadlines = new Deadlines(30)
    const start = performance.now()
    const expiredMs = await new Promise<number>((resolve) => {
      deadlines.add(waiting(() => resolve(performance.now() - start)))
    })
    expect(expiredMs).toBeGreaterThanOrEqual(30)
    expect(expiredMs).toBeLessThan(2000)
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
    const deadlines = new Deadlines(20)
    const start = performance.now()
    const secondMs = await new Promise<number>((resolve) => {
      deadlines.add(
        waiting(() => {
          deadlines.add(waiting(() => resolve(performance.now() - start)))
        }),
      )
    })
    expect(secondMs).toBeGreaterThanOrEqual(40)
  })
})
