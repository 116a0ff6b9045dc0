/** Lua scripts: found beside the module or in src/, and their names tell the truth. */
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { loadRedisScript } from '../../../src/redis/script.ts'

const folder = mkdtempSync(join(tmpdir(), 'sallyport-script-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
mkdirSync(join(folder, 'src', 'a'), { recursive: true })
mkdirSync(join(folder, 'dist', 'a'), { recursive: true })
const write = (path: string, text: string): void => writeFileSync(join(folder, path), text)
const beside = (path: string): string => pathToFileURL(join(folder, path)).href

describe('loadRedisScript', () => {
  it('reads a script and knows its hash and its keys', () => {
    const source = 'return { KEYS[1], KEYS[2] }'
    write('src/a/get-both-2.lua', source)
    expect(loadRedisScript('./get-both-2.lua', beside('src/a/module.ts'))).toEqual({
      name: 'get-both-2',
      source,
      sha: createHash('sha1').update(source).digest('hex'),
      numberOfKeys: 2,
    })
  })

  it('finds it in src/ when the build copied none', () => {
    expect(loadRedisScript('./get-both-2.lua', beside('dist/a/module.js')).numberOfKeys).toBe(2)
  })

  it('refuses a name that says nothing or something else, and a missing file', () => {
    write('src/a/get.lua', 'return 1')
    write('src/a/get-1.lua', 'return KEYS[2]')
    expect(() => loadRedisScript('./get.lua', beside('src/a/m.ts'))).toThrow(/does not end in its number of keys/)
    expect(() => loadRedisScript('./get-1.lua', beside('src/a/m.ts'))).toThrow(/reads KEYS\[2\], its name says 1/)
    expect(() => loadRedisScript('./none-1.lua', beside('src/a/m.ts'))).toThrow(/ENOENT/)
  })
})
