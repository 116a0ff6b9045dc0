/** `npm run test:node22`: the integration suite once more, on the Node 22 that npm's `node` package brings. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ensureRules } from './ensure-rules.mjs'
import { ensureChromium, ensureOlderRules, ensureOpenssl, ensureRedis } from './ensure-servers.mjs'
import { root, run, setUp } from './set-up.mjs'
import { runAndWatch } from './run-and-watch.mjs'

const VERSION = '22.23.3'

setUp()
ensureOpenssl()
ensureRedis()
ensureChromium()
ensureRules()
ensureOlderRules()
const folder = join(root, 'node_modules', '.node22')
const node = join(folder, 'node_modules', 'node', 'bin', 'node')
if (!existsSync(node))
  run('npm', ['install', '--prefix', folder, '--no-save', '--no-audit', '--no-fund', `node@${VERSION}`])
run(node, ['--version'])
const { status, lines } = await runAndWatch(node, ['node_modules/vitest/vitest.mjs', 'run', '--project', 'integration'])
const tests = lines.findLast((line) => /^\s*Tests\s/.test(line)) ?? ''
const count = (word) => Number(new RegExp(`(\\d+) ${word}`).exec(tests)?.[1] ?? 0)
process.stdout.write(`${count('passed')} passed, ${count('failed')} failed, ${count('skipped')} skipped\n`)
process.exit(status)
