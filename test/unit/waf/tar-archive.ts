/** Tar archives for tests, written as release archives are: ustar headers, pax headers for long names. */
import { gzipSync } from 'node:zlib'

const BLOCK = 512

export interface Entry {
  readonly path: string
  readonly content?: string
  /** '0' a file, '5' a folder, '2' a link, 'x' a pax header, 'g' a global one. */
  readonly type?: string
  readonly prefix?: string
}

export function tarOf(entries: readonly Entry[]): Buffer {
  const blocks = entries.flatMap((entry) => {
    const content = Buffer.from(entry.content ?? '')
    const padded = Buffer.alloc(Math.ceil(content.length / BLOCK) * BLOCK)
    content.copy(padded)
    return [headerOf(entry, content.length), padded]
  })
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)])
}

function headerOf({ path, type = '0', prefix = '' }: Entry, size: number): Buffer {
  const header = Buffer.alloc(BLOCK)
  header.write(path, 0, 100)
  header.write('0000644\0', 100)
  header.write(`${size.toString(8).padStart(11, '0')}\0`, 124)
  header.write('        ', 148)
  header.write(type, 156)
  header.write('ustar\x0000', 257)
  header.write(prefix, 345, 155)
  const sum = header.reduce((total, byte) => total + byte, 0)
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return header
}

/** A pax header with the path of the file that follows. */
export function paxPath(path: string): Entry {
  const body = ` path=${path}\n`
  let length = body.length + 2
  if (String(length).length + body.length !== length) length = body.length + String(length).length
  return { path: 'PaxHeaders/x', type: 'x', content: `${length}${body}` }
}

export function tarGzOf(entries: readonly Entry[]): Buffer {
  return gzipSync(tarOf(entries))
}
