/** Regular files of a tar archive in memory, as release archives have them. Source: POSIX.1-2017 pax, "ustar". */

export interface TarFile {
  readonly path: string
  readonly content: Uint8Array
}

const BLOCK = 512

/** Throws on a cut or damaged archive. Long names of pax headers are understood; links and folders are passed over. */
export function* readTar(archive: Buffer): Generator<TarFile> {
  let at = 0
  let longPath: string | undefined
  while (at + BLOCK <= archive.length) {
    const header = archive.subarray(at, at + BLOCK)
    if (header.every((byte) => byte === 0)) return
    if (!checksumHolds(header)) throw new Error('the tar archive is damaged')
    const size = octal(header, 124, 12)
    const start = at + BLOCK
    if (start + size > archive.length) throw new Error('the tar archive is cut')
    const content = archive.subarray(start, start + size)
    const type = String.fromCharCode(header[156]!)
    if (type === 'x') longPath = /^\d+ path=(.+)$/m.exec(content.toString('utf8'))?.[1]
    else if (type === '0' || type === '\0') {
      yield { path: longPath ?? fieldPath(header), content }
      longPath = undefined
    } else if (type !== 'g') longPath = undefined
    at = start + Math.ceil(size / BLOCK) * BLOCK
  }
  // an archive ends with blocks of zeros
  throw new Error('the tar archive is cut')
}

function fieldPath(header: Buffer): string {
  const name = text(header, 0, 100)
  const prefix = text(header, 345, 155)
  return prefix === '' ? name : `${prefix}/${name}`
}

function text(header: Buffer, start: number, length: number): string {
  const field = header.subarray(start, start + length)
  const end = field.indexOf(0)
  return field.toString('utf8', 0, end === -1 ? length : end)
}

function octal(header: Buffer, start: number, length: number): number {
  const value = Number.parseInt(text(header, start, length).trim(), 8)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error('the tar archive is damaged')
  return value
}

/** The sum of all bytes, the checksum field itself counted as blanks. */
function checksumHolds(header: Buffer): boolean {
  let sum = 8 * 0x20
  for (const [index, byte] of header.entries()) if (index < 148 || index >= 156) sum += byte
  return sum === octal(header, 148, 8)
}
