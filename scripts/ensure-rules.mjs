/** A Core Rule Set for the demo and the tests, in `.state/` of the checkout, installed once by the product itself. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './set-up.mjs'

const state = join(root, '.state')

/** True when `.state/crs/current` holds a rule set; needs a build. Says why not otherwise. */
export function ensureRules() {
  if (existsSync(join(state, 'crs', 'current', 'rules'))) return true
  mkdirSync(state, { recursive: true })
  process.stdout.write('rule set: sallyport crs install\n')
  const args = [join(root, 'dist', 'main.js'), 'crs', 'install', '--state-dir', state]
  if (spawnSync(process.execPath, args, { stdio: 'inherit' }).status === 0) return true
  process.stdout.write('skipped: tests with the Core Rule Set: none could be installed\n')
  return false
}
