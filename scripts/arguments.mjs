/** What every command of package.json does with its arguments: `--help` tells them, a wrong one is a sentence and exit 2. */
import { parseArgs } from 'node:util'

/**
 * Reads the command line by `options` (of node:util's parseArgs). `usage`: what `--help` prints, without the last line end.
 * Returns `{ values, positionals }`. Positional arguments are refused unless `allowPositionals` says otherwise.
 */
export function readArguments(usage, options = {}, { allowPositionals = false } = {}) {
  let read
  try {
    read = parseArgs({ options: { ...options, help: { type: 'boolean', short: 'h' } }, allowPositionals })
  } catch (error) {
    failUsage(error.message.split('. ', 1)[0], usage)
  }
  if (!read.values.help) return read
  process.stdout.write(`${usage}\n`)
  process.exit(0)
}

/** Ends the program with what is wrong about its arguments and how they are meant. */
export function failUsage(sentence, usage) {
  process.stderr.write(`${sentence}\n${usage}\n`)
  process.exit(2)
}
