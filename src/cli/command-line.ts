/** From words to a verb to an exit code. Source: operations.md O-01 … O-11. */
import { nearest } from '../config/spelling.ts'
import { readArguments, UsageError } from './arguments.ts'
import { apiVerb } from './api.ts'
import { checkVerb } from './check.ts'
import { configVerb } from './config.ts'
import { crsVerb } from './crs.ts'
import { diffVerb } from './diff.ts'
import { explainVerb } from './explain.ts'
import { generalHelp, usageLine, verbHelp } from './help.ts'
import { httpVerb } from './http.ts'
import { drainVerb, healthVerb, reloadVerb, statusVerb, stopVerb, undrainVerb } from './instance.ts'
import { runVerb } from './run.ts'
import { startVerb } from './start.ts'
import { testVerb } from './test.ts'
import { EXIT, type Surroundings, type Verb } from './verb.ts'
import { versionVerb } from './version.ts'
import { wafVerb } from './waf.ts'

/** Every verb, in the order of the help. */
export const VERBS: readonly Verb[] = [
  runVerb,
  httpVerb,
  startVerb,
  checkVerb,
  configVerb,
  reloadVerb,
  stopVerb,
  statusVerb,
  healthVerb,
  drainVerb,
  undrainVerb,
  explainVerb,
  testVerb,
  diffVerb,
  apiVerb,
  crsVerb,
  wafVerb,
  versionVerb,
]

const HELP_WORDS = new Set(['help', '--help', '-h'])

/**
 * Runs one command.
 *
 * @param words the arguments behind the program's name
 * @returns the exit code (O-10); never rejects
 */
export async function runCommandLine(words: readonly string[], surroundings: Surroundings): Promise<number> {
  const [first, ...rest] = words
  if (first === undefined) {
    surroundings.err(generalHelp(VERBS))
    return EXIT.usage
  }
  if (HELP_WORDS.has(first)) return help(rest[0], surroundings)
  const verb = findVerb(first)
  if (verb === undefined) return unknownVerb(first, surroundings)
  if (rest.some((word) => word === '--help' || word === '-h')) return help(verb.name, surroundings)
  try {
    const given = readArguments(rest, verb.flags, verb.operands, surroundings.environment, verb.refused)
    return await verb.run(given, surroundings)
  } catch (error) {
    if (error instanceof UsageError) {
      surroundings.err(`sallyport ${verb.name}: ${error.message}\n${usageLine(verb)}\n`)
      return EXIT.usage
    }
    surroundings.err(`sallyport: internal error: ${String((error as Error)?.stack ?? error)}\n`)
    return EXIT.internal
  }
}

function findVerb(word: string): Verb | undefined {
  return VERBS.find(({ name, aliases }) => name === word || aliases.includes(word))
}

function help(word: string | undefined, surroundings: Surroundings): number {
  if (word === undefined) {
    surroundings.out(generalHelp(VERBS))
    return EXIT.ok
  }
  const verb = findVerb(word)
  if (verb === undefined) return unknownVerb(word, surroundings)
  surroundings.out(verbHelp(verb))
  return EXIT.ok
}

function unknownVerb(word: string, { err }: Surroundings): number {
  const near = nearest(
    word,
    VERBS.flatMap(({ name, aliases }) => [name, ...aliases]),
  )
  const hint = near === undefined ? '`sallyport --help` lists the verbs' : `did you mean ${near}?`
  err(`sallyport: unknown verb ${word}; ${hint}\n`)
  return EXIT.usage
}
