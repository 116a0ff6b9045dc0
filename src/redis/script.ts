/** Lua scripts as files: read once, called by their hash. The file's name ends in its number of keys. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'

/** A script ready to be called. */
export interface RedisScript {
  readonly name: string
  readonly source: string
  /** SHA-1 of the source in hexadecimal digits, as EVALSHA wants it. */
  readonly sha: string
  readonly numberOfKeys: number
}

/**
 * Reads a script that lies beside the module that asks. A build that copied no .lua files beside its modules finds them in
 * src/. Throws when the file is missing, or its name does not end in `-<number of keys>.lua`, or it reads other keys.
 */
export function loadRedisScript(file: string, moduleUrl: string): RedisScript {
  const source = readFirst([
    fileURLToPath(new URL(file, moduleUrl)),
    fileURLToPath(new URL(file, moduleUrl.replace(/\/dist\/(?!.*\/dist\/)/, '/src/'))),
  ])
  const name = basename(file, '.lua')
  const ending = /-(\d+)$/.exec(name)
  if (ending === null) throw new Error(`the name of the script ${file} does not end in its number of keys`)
  const numberOfKeys = Number(ending[1])
  const used = [...source.matchAll(/KEYS\[(\d+)\]/g)].map((match) => Number(match[1]))
  if (Math.max(0, ...used) !== numberOfKeys) {
    throw new Error(`the script ${file} reads KEYS[${Math.max(0, ...used)}], its name says ${numberOfKeys}`)
  }
  return { name, source, sha: createHash('sha1').update(source).digest('hex'), numberOfKeys }
}

function readFirst(paths: readonly string[]): string {
  let first: unknown
  for (const path of paths) {
    try {
      return readFileSync(path, 'utf8')
    } catch (error) {
      first ??= error
    }
  }
  throw first
}
