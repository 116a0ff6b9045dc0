/** `npm run bench:micro [NAME …]`: the micro benchmarks of bench/micro, all of them or the ones named, one after the other. */
import { readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { failUsage, readArguments } from '../scripts/arguments.mjs'
import { run, setUp } from '../scripts/set-up.mjs'

const folder = join(dirname(fileURLToPath(import.meta.url)), 'micro')
const there = readdirSync(folder)
  .filter((name) => name.endsWith('.mjs'))
  .map((name) => name.slice(0, -'.mjs'.length))
const USAGE = `usage: npm run bench:micro [NAME …]
benchmarks: ${there.join(', ')}`
const { positionals: named } = readArguments(USAGE, {}, { allowPositionals: true })
for (const name of named) if (!there.includes(name)) failUsage(`unknown benchmark ${name}`, USAGE)

setUp()
for (const name of named.length === 0 ? there : named) {
  process.stdout.write(`\n── ${name} ──\n`)
  run(process.execPath, [join(folder, `${name}.mjs`)])
}
