/** `npm run check`: format, lint, types, clippy, and generated files that must be what their sources say. */
import { join } from 'node:path'
import { root, run, setUp } from './set-up.mjs'

const bin = (name) => join(root, 'node_modules', '.bin', name)
const native = { cwd: join(root, 'native') }

setUp()
run(bin('oxfmt'), ['--check', '.'])
run(bin('oxlint'), ['--type-aware', '--deny-warnings'])
run(bin('tsc'), ['-p', 'test/tsconfig.json'])
run('cargo', ['fmt', '--all', '--check'], native)
run('cargo', ['clippy', '--release', '--workspace', '--all-targets', '--', '-D', 'warnings'], native)
run(process.execPath, ['scripts/generate.mjs', '--check'])
process.stdout.write('check: format, lint, types, clippy and generated files are in order\n')
