/**
 * What every first command of a fresh clone needs: the right Node, the packages of package-lock.json, a build. Plain
 * JavaScript without packages, because nothing is installed when it runs. Each step says what it does; a missing tool
 * is one sentence.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** Ends the program with one sentence. */
export function fail(sentence) {
  process.stderr.write(`${sentence}\n`)
  process.exit(1)
}

/** Runs a command in the checkout with its output shown; ends the program when it fails. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit', ...options })
  if (result.error?.code === 'ENOENT') fail(`${command} was not found: install it and run this again.`)
  if (result.status !== 0) {
    process.stderr.write(`failed: ${command} ${args.join(' ')}\n`)
    process.exit(result.status ?? 1)
  }
}

/** Whether a command can be started. */
export function has(command, args = ['--version']) {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0
}

function checkTools() {
  const major = Number(process.versions.node.split('.')[0])
  if (major < 20 || major > 22) fail(`Node ${process.versions.node} is not supported: install Node 20 or 22.`)
  if (!has('cargo')) fail('cargo was not found: install Rust 1.85 or newer (https://rustup.rs) and run this again.')
  if (!has('cc'))
    fail('cc was not found: install a C toolchain (Debian: apt-get install build-essential) and run this again.')
}

/** Installs the packages of package-lock.json unless exactly they are there. */
export function ensurePackages() {
  const lock = createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .digest('hex')
  const stamp = join(root, 'node_modules', '.sallyport-lock')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return
  process.stdout.write('packages: npm install\n')
  // not `npm ci`: it refuses lock files that leave out other platforms' optional packages, which npm itself writes
  run('npm', ['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'])
  writeFileSync(stamp, lock)
}

/** Compiles TypeScript and the native crate; both compilers skip what has not changed. */
export function build() {
  process.stdout.write('typescript: tsc\n')
  run(process.execPath, [join(root, 'scripts', 'build-typescript.mjs')])
  run(process.execPath, [join(root, 'scripts', 'build-native.mjs')])
}

/** Everything a command needs before the product can run. */
export function setUp() {
  checkTools()
  ensurePackages()
  build()
}
