/** Reading release archives: what is in them, and how damage shows. */
import { describe, expect, it } from 'vitest'
import { readTar } from '../../../src/waf/tar.ts'
import { paxPath, tarOf } from './tar-archive.ts'

const filesOf = (archive: Buffer): (readonly [string, string])[] =>
  [...readTar(archive)].map(({ path, content }) => [path, Buffer.from(content).toString()] as const)

describe('readTar', () => {
  it('gives regular files with their content, and passes over folders, links and global headers', () => {
    const archive = tarOf([
      { path: 'pax_global_header', type: 'g', content: '52 comment=0123456789012345678901234567890123456789\n' },
      { path: 'crs/', type: '5' },
      { path: 'crs/a.conf', content: 'SecRule' },
      { path: 'crs/link', type: '2' },
      { path: 'crs/empty.conf' },
      { path: 'crs/block.data', content: 'x'.repeat(512) },
      { path: 'crs/long.data', content: 'y'.repeat(1300) },
    ])
    expect(filesOf(archive)).toEqual([
      ['crs/a.conf', 'SecRule'],
      ['crs/empty.conf', ''],
      ['crs/block.data', 'x'.repeat(512)],
      ['crs/long.data', 'y'.repeat(1300)],
    ])
  })

  it('joins the prefix of a long name, and takes the name of a pax header for the next file only', () => {
    const long = `crs/${'d'.repeat(200)}/é.conf`
    const archive = tarOf([
      { path: 'b.conf', prefix: 'crs/rules', content: '1' },
      paxPath(long),
      { path: 'cut', content: '2' },
      { path: 'c.conf', content: '3' },
      paxPath('of-a-folder'),
      { path: 'folder/', type: '5' },
      { path: 'd.conf', content: '4' },
    ])
    expect(filesOf(archive)).toEqual([
      ['crs/rules/b.conf', '1'],
      [long, '2'],
      ['c.conf', '3'],
      ['d.conf', '4'],
    ])
  })

  const whole = tarOf([
    { path: 'a', content: 'x'.repeat(700) },
    { path: 'b', content: 'y' },
  ])

  it.each([
    ['inside a file', 1000],
    ['inside a header', 1536 + 100],
    ['between two files', 1536],
    ['before its end', whole.length - 1024],
    ['everything', 0],
  ])('refuses an archive that is cut %s', (_, length) => {
    expect(() => filesOf(whole.subarray(0, length))).toThrow('cut')
  })

  it('refuses a header whose checksum does not hold, wherever the bit is', () => {
    for (const at of [0, 99, 124, 130, 148, 156, 300, 511]) {
      const damaged = Buffer.from(whole)
      damaged[at]! ^= 1
      expect(() => filesOf(damaged), `byte ${at}`).toThrow('damaged')
    }
  })

  it('refuses a size that is no number', () => {
    const damaged = Buffer.from(whole)
    damaged.write('not a number', 124)
    expect(() => filesOf(damaged)).toThrow('damaged')
    expect(() => filesOf(Buffer.alloc(512, 'a'))).toThrow('damaged')
  })
})
