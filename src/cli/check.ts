/** `sallyport check`: says what `run` would say about the configuration, and starts nothing. Source: operations.md O-02, O-03. */
import type { ConfigurationInput } from '../config/load.ts'
import { checkFromDisk } from '../process/configuration.ts'
import { configurationInput } from './configuration.ts'
import type { Arguments, Flags } from './arguments.ts'
import { CONFIG_FLAG, EXIT, STATE_DIR_FLAG, type Surroundings, type Verb } from './verb.ts'

/** Flags of the verbs that check. */
export const CHECK_FLAGS = {
  strict: { type: 'switch', meaning: 'Warnings are errors.' },
  format: {
    type: 'text',
    value: 'FORMAT',
    oneOf: ['text', 'json'],
    meaning: 'text, or json: an array on standard output.',
    only: 'command-line',
  },
} as const satisfies Flags

export const checkVerb: Verb = {
  name: 'check',
  aliases: ['validate', '-t'],
  summary: 'Read the configuration exactly as `run` would, report every error, and start nothing.',
  operands: { usage: '', min: 0, max: 0 },
  flags: {
    ...CONFIG_FLAG,
    ...STATE_DIR_FLAG,
    ...CHECK_FLAGS,
  },
  notes: ['Exits 0 when the configuration is good, 1 when it is not. Warnings alone are good, except with --strict.'],
  run: (given, surroundings) => checkAndReport(configurationInput(given), given, surroundings),
}

/** Prints what is wrong with a configuration, then a summary. Resolves with the exit code. */
export async function checkAndReport(
  input: ConfigurationInput,
  given: Arguments,
  { out, err }: Surroundings,
): Promise<number> {
  const { reports } = await checkFromDisk(input, 'check')
  const errors = reports.filter(({ severity }) => severity === 'error').length
  const warnings = reports.length - errors
  const isGood = errors === 0 && (warnings === 0 || given.switch('strict') !== true)
  if (given.text('format') === 'json') {
    const plain = reports.map(({ rendered: _rendered, ...report }) => report)
    out(`${JSON.stringify(plain, undefined, 2)}\n`)
  } else {
    for (const { rendered } of reports) err(`${rendered}\n`)
    const count = (number: number, word: string): string => `${number} ${word}${number === 1 ? '' : 's'}`
    const summary = `${count(errors, 'error')}, ${count(warnings, 'warning')}`
    if (isGood) out(`the configuration is good${warnings === 0 ? '' : `; ${summary}`}\n`)
    else err(`the configuration was refused: ${summary}\n`)
  }
  return isGood ? EXIT.ok : EXIT.failure
}
