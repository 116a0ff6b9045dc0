/**
 * `npm run fuzz -- TARGET SECONDS`: one target of native/fuzz under libFuzzer, or `all`, each for so many seconds (default 60).
 *
 * libFuzzer needs a C++ compiler, which is installed when it can be; the compiler of Rust is the ordinary one: coverage
 * comes from flags that it has. What is found between runs stays in .state/fuzz/TARGET; a failing input is written beside
 * it. With `--keep` inputs of up to 160 bytes that cover most, 64 at most, are written to
 * native/fuzz/corpus/TARGET, which every run of the tests tries again.
 */
import { spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { failUsage, readArguments } from './arguments.mjs'
import { ensureProgram } from './ensure-servers.mjs'
import { fail, root } from './set-up.mjs'

const folder = join(root, 'native', 'fuzz')
const TARGETS = readdirSync(join(folder, 'fuzz_targets')).map((name) => name.replace(/\.rs$/, ''))
/** Coverage that guides the search; the counterpart of cargo-fuzz's own flags, without a sanitizer of memory: the crates have no unsafe code. */
const FLAGS = [
  '--cfg=fuzzing',
  '-Cpasses=sancov-module',
  '-Cllvm-args=-sanitizer-coverage-level=4',
  '-Cllvm-args=-sanitizer-coverage-inline-8bit-counters',
  '-Cllvm-args=-sanitizer-coverage-pc-table',
  '-Cllvm-args=-sanitizer-coverage-trace-compares',
]
/** Of what is kept: enough for every run of the tests. */
const KEPT_BYTES = 160
const KEPT_INPUTS = 64

const USAGE = `usage: npm run fuzz -- TARGET|all [SECONDS] [--keep]
  SECONDS  for each target (60)
  --keep   write short inputs that cover most to native/fuzz/corpus
targets: ${TARGETS.join(', ')}`
const { values, positionals } = readArguments(USAGE, { keep: { type: 'boolean' } }, { allowPositionals: true })
const [name, seconds = '60'] = positionals
if (name === undefined) failUsage('which target?', USAGE)
const targets = name === 'all' ? TARGETS : [name]
for (const target of targets) if (!TARGETS.includes(target)) failUsage(`unknown target ${target}`, USAGE)
if (!/^[1-9][0-9]{0,5}$/.test(seconds)) failUsage(`not a number of seconds: ${seconds}`, USAGE)
if (!ensureProgram('c++', 'g++')) fail('libFuzzer needs a C++ compiler (c++), and none can be installed here')

// A target of its own keeps build scripts free of the flags.
const host = /host: (\S+)/.exec(spawnSync('rustc', ['-vV'], { encoding: 'utf8' }).stdout)?.[1]
if (host === undefined) fail('rustc does not say what machine this is')

let passed = 0
const failed = []
for (const target of targets) {
  process.stdout.write(`\n── ${target} ──\n`)
  if (fuzz(target)) passed++
  else failed.push(target)
}
for (const target of failed) process.stdout.write(`failed: ${target}, see .state/fuzz/${target}/failing\n`)
process.stdout.write(`${passed} passed, ${failed.length} failed, 0 skipped\n`)
process.exit(failed.length === 0 ? 0 : 1)

function fuzz(target) {
  const environment = {
    ...process.env,
    RUSTFLAGS: FLAGS.join(' '),
    CARGO_TARGET_DIR: join(root, 'native', 'target', 'fuzz'),
  }
  const build = ['build', '--release', '--target', host, '--bin', target]
  if (spawnSync('cargo', build, { cwd: folder, env: environment, stdio: 'inherit' }).status !== 0) return false
  const program = join(environment.CARGO_TARGET_DIR, host, 'release', target)
  const found = join(root, '.state', 'fuzz', target, 'found')
  const failing = join(root, '.state', 'fuzz', target, 'failing')
  const kept = join(folder, 'corpus', target)
  for (const path of [found, failing]) mkdirSync(path, { recursive: true })
  const inputs = existsSync(kept) ? [found, kept] : [found]
  const args = [
    `-max_total_time=${seconds}`,
    '-max_len=8192',
    '-timeout=10',
    '-rss_limit_mb=2048',
    '-print_final_stats=1',
  ]
  const dictionary = join(folder, 'http.dict')
  const run = spawnSync(program, [...args, `-dict=${dictionary}`, `-artifact_prefix=${failing}/`, ...inputs], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  })
  const lines = run.stderr.split('\n')
  const isPanic = (line) => /panicked|SUMMARY|pieces make|Test unit written/.test(line)
  for (const line of lines.filter((text) => /DONE|stat::|Done \d+/.test(text) || isPanic(text))) {
    process.stdout.write(`${line}\n`)
  }
  if (run.status === 0 && values.keep === true) keep(program, target, found, kept)
  return run.status === 0
}

function keep(program, target, found, kept) {
  const merged = `${kept}.merging`
  mkdirSync(merged, { recursive: true })
  const inputs = existsSync(kept) ? [found, kept] : [found]
  // edges only: how often each is passed would keep thousands of inputs
  const flags = ['-set_cover_merge=1', '-use_counters=0', '-use_cmp=0', `-max_len=${KEPT_BYTES}`]
  const run = spawnSync(program, [...flags, merged, ...inputs], { encoding: 'utf8' })
  if (run.status !== 0) fail(`the inputs of ${target} could not be merged:\n${run.stderr.slice(-2000)}`)
  rmSync(kept, { recursive: true, force: true })
  mkdirSync(kept, { recursive: true })
  const names = readdirSync(merged).filter((name) => statSync(join(merged, name)).size <= KEPT_BYTES)
  const step = Math.max(1, names.length / KEPT_INPUTS)
  for (let at = 0; at < names.length; at += step) {
    const name = names[Math.floor(at)]
    copyFileSync(join(merged, name), join(kept, name))
  }
  rmSync(merged, { recursive: true })
  process.stdout.write(`${readdirSync(kept).length} inputs kept in native/fuzz/corpus/${target}\n`)
}
