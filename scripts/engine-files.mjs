/** The files of test/integration whose result may depend on the engine that serves a run's clients. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './set-up.mjs'

const FOLDER = join('test', 'integration')

/** What the head of a test file says of itself, `Engine: none|uws|native, …`; undefined: it is about the engine of the run. */
export function engineOf(text) {
  return /^ \* Engine: (none|uws|native),/m.exec(text.slice(0, text.indexOf('*/')))?.[1]
}

/** Paths from the root, each with its text. */
export function integrationFiles() {
  const paths = readdirSync(join(root, FOLDER), { recursive: true }).filter((path) => path.endsWith('.test.ts'))
  return paths.sort().map((path) => {
    const file = join(FOLDER, path)
    return { file, text: readFileSync(join(root, file), 'utf8') }
  })
}

/** Those that each engine has to pass. */
export function filesOfEngines() {
  return integrationFiles().flatMap(({ file, text }) => (engineOf(text) === undefined ? [file] : []))
}
