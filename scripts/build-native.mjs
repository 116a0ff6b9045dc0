/** Builds the native part and puts it where src/native/addon.ts looks for it. Needs cargo; downloads crates at the first run. */
import { spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, renameSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const nativeFolder = join(dirname(dirname(fileURLToPath(import.meta.url))), 'native')

/** Ends with one sentence. */
function fail(sentence) {
  process.stderr.write(`${sentence}\n`)
  process.exit(1)
}

if (process.platform !== 'linux') {
  fail('The native part needs Linux (robust shared mutexes, CLOCK_BOOTTIME).')
}
const probe = spawnSync('cargo', ['--version'], { encoding: 'utf8' })
if (probe.error !== undefined || probe.status !== 0) {
  fail(
    'cargo was not found: install Rust 1.85 or newer (https://rustup.rs, or your distribution’s rustup) and run this again.',
  )
}

process.stdout.write(`native: cargo build --release (${probe.stdout.trim()})\n`)
const build = spawnSync('cargo', ['build', '--release', '-p', 'sallyport-binding'], {
  cwd: nativeFolder,
  stdio: 'inherit',
})
if (build.status !== 0) fail('The native part did not build; the messages above say why.')

// Renamed into place: a process that has the old file mapped keeps it whole.
const targetFolder = process.env.CARGO_TARGET_DIR ?? join(nativeFolder, 'target')
const addon = join(nativeFolder, 'sallyport.node')
const unfinished = `${addon}.${process.pid}.new`
copyFileSync(join(targetFolder, 'release', 'libsallyport_binding.so'), unfinished)
chmodSync(unfinished, 0o755)
renameSync(unfinished, addon)
process.stdout.write('native: native/sallyport.node is ready\n')
