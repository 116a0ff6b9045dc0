/**
 * Texts for a library that wants to be given file names: files without a name, which nobody else can open and which
 * are gone with the process. Private keys never lie on a disk under a name of ours.
 *
 * Source: proc(5), `/proc/<pid>/fd`.
 */
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface NamelessFile {
  /** Opens it from the start, each time; only within this process, and until `close`. */
  readonly path: string
  close(): void
}

/** In memory where the system has such files, else in the folder for temporary files. Throws when neither takes one. */
export function namelessFile(text: string): NamelessFile {
  const descriptor = openNameless()
  try {
    writeSync(descriptor, text)
  } catch (error) {
    closeSync(descriptor)
    throw error
  }
  return { path: `/proc/self/fd/${descriptor}`, close: () => closeSync(descriptor) }
}

function openNameless(): number {
  const name = `sallyport-${randomBytes(12).toString('hex')}`
  for (const folder of ['/dev/shm', tmpdir()]) {
    const path = join(folder, name)
    try {
      const descriptor = openSync(path, 'wx+', 0o600)
      unlinkSync(path)
      return descriptor
    } catch (error) {
      if (folder !== '/dev/shm') throw error
    }
  }
  throw new Error('no folder for temporary files')
}
