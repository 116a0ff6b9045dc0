/** The board of shared rows: in one process, and between processes over a real file. */
import { fork } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import { SharedBoard } from '../../../src/shared-state/board.ts'

const folder = mkdtempSync(join(tmpdir(), 'sallyport-board-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('rows', () => {
  test('the same name, the same row; another name, another one', () => {
    const board = SharedBoard.local()
    Atomics.store(board.obtain('a').words, 0, 7)
    expect(Atomics.load(board.obtain('a').words, 0)).toBe(7)
    expect(Atomics.load(board.obtain('b').words, 0)).toBe(0)
  })

  test('words and longs show the same bytes', () => {
    const { words, longs } = SharedBoard.local().obtain('a')
    Atomics.store(words, 2, 5)
    expect(Atomics.load(longs, 1)).toBe(5n)
    expect([words.length, longs.length]).toEqual([60, 30])
  })

  test('are bounded: what nobody has touched for longest makes room, cleared; what is in use stays', () => {
    let nowMs = 1_000_000
    const board = SharedBoard.local({ nowMs: () => nowMs })
    Atomics.store(board.obtain('kept').words, 0, 1)
    for (let index = 0; index < 20_000; index++) Atomics.store(board.obtain(`old ${index}`).words, 0, 1)
    expect(Atomics.load(board.obtain('kept').words, 0)).toBe(1)
    // a full board gives rows that nobody shares
    nowMs += 200_000
    board.obtain('kept')
    let shared = 0
    for (let index = 0; index < 500; index++) {
      const { words } = board.obtain(`new ${index}`)
      expect(Atomics.load(words, 0)).toBe(0)
      Atomics.store(words, 0, 2)
      if (Atomics.load(board.obtain(`new ${index}`).words, 0) === 2) shared++
    }
    expect(shared).toBe(500)
    expect(Atomics.load(board.obtain('kept').words, 0)).toBe(1)
  })

  test('time begins with the board and is the same for all', () => {
    const board = SharedBoard.local()
    expect(board.elapsedMs()).toBeLessThan(5000)
    expect(board.tick()).toBeGreaterThanOrEqual(1)
  })
})

describe('processes', () => {
  test('several of them change one row; nothing is lost, and one that is killed leaves it whole', async () => {
    const path = join(folder, 'board')
    const board = SharedBoard.create(path)
    const script = join(folder, 'child.mjs')
    const source = fileURLToPath(new URL('../../../dist/shared-state/board.js', import.meta.url))
    writeFileSync(
      script,
      `import { SharedBoard } from ${JSON.stringify(source)}
       const { words } = SharedBoard.open(${JSON.stringify(path)}).obtain('shared')
       for (let count = 0; count < 100_000; count++) Atomics.add(words, 3, 1)
       process.send('done')
       setInterval(() => {}, 1000)`,
    )
    const children = Array.from({ length: 3 }, () => fork(script))
    await Promise.all(
      children.map(
        (child) =>
          new Promise<void>((resolve) => {
            child.once('message', () => {
              child.once('exit', () => resolve())
              child.kill('SIGKILL')
            })
          }),
      ),
    )
    expect(Atomics.load(board.obtain('shared').words, 3)).toBe(300_000)
  }, 20_000)

  test('a file of another size is refused', () => {
    writeFileSync(join(folder, 'other'), 'x')
    expect(() => SharedBoard.open(join(folder, 'other'))).toThrow('has 1 bytes')
  })
})
