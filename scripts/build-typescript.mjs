/** src/ → dist/: compiled, with the files that are read at run time beside their code. */
import { spawnSync } from 'node:child_process'
import { cpSync, readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './set-up.mjs'

const source = join(root, 'src')
const output = join(root, 'dist')

const compiled = spawnSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', 'tsconfig.json'], {
  cwd: root,
  stdio: 'inherit',
})
if (compiled.status !== 0) {
  process.stderr.write('TypeScript did not compile; the messages above say why.\n')
  process.exit(1)
}
// a file that is gone from src must not live on in dist
const sources = new Set(readdirSync(source, { recursive: true }))
for (const path of readdirSync(output, { recursive: true })) {
  if (path.endsWith('.js') && !sources.has(path.replace(/\.js$/, '.ts'))) rmSync(join(output, path))
}
for (const path of sources) {
  if (path.endsWith('.lua')) cpSync(join(source, path), join(output, path))
}
