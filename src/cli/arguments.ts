/**
 * Arguments of one verb: flags with their environment twins, operands, and a sentence for everything else.
 *
 * Source: operations.md O-07 (refuse with a sentence, never ignore), O-11 (flag > environment > file > default).
 */
import { parseArgs } from 'node:util'
import { nearest } from '../config/spelling.ts'

export interface Flag {
  readonly type: 'text' | 'switch'
  /** What stands for the value in the help: `FILE`. */
  readonly value?: string
  readonly meaning: string
  readonly short?: string
  /** May be given several times, or as a list with commas in the environment. */
  readonly repeats?: boolean
  /** The only values that are accepted. */
  readonly oneOf?: readonly string[]
  /** Another name of the same flag. */
  readonly aliases?: readonly string[]
  /** No environment twin. */
  readonly only?: 'command-line'
}

export type Flags = Readonly<Record<string, Flag>>

/** Wrong usage: printed with the verb's usage line, exit 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** What a verb was given. */
export interface Arguments {
  /** The last value; undefined when neither flag nor environment has one. */
  text(flag: string): string | undefined
  /** Every value in order. */
  list(flag: string): readonly string[]
  /** Undefined when not given; `--flag=false` and `--no-flag` are false. */
  switch(flag: string): boolean | undefined
  readonly operands: readonly string[]
}

/** `--traffic-policy-file` → `SALLYPORT_TRAFFIC_POLICY_FILE`. */
export function environmentName(flag: string): string {
  return `SALLYPORT_${flag.toUpperCase().replaceAll('-', '_')}`
}

const YES = new Set(['', '1', 'true', 'yes', 'on'])
const NO = new Set(['0', 'false', 'no', 'off'])

/**
 * Reads the arguments behind the verb.
 *
 * @param refused flags of ngrok that make no sense here, with the sentence that says what to do instead
 * @throws UsageError for an unknown or refused flag, a missing or wrong value, or a wrong number of operands
 */
export function readArguments(
  words: readonly string[],
  flags: Flags,
  operands: { readonly min: number; readonly max: number },
  environment: Readonly<Record<string, string | undefined>>,
  refused: Readonly<Record<string, string>> = {},
): Arguments {
  const canonical = new Map<string, string>()
  for (const [name, flag] of Object.entries(flags)) {
    canonical.set(name, name)
    for (const alias of flag.aliases ?? []) canonical.set(alias, name)
  }
  const options = Object.fromEntries(
    [...canonical].map(([name, of]) => {
      const flag = flags[of]! // canonical names are keys of flags
      const short = flag.short !== undefined && name === of ? { short: flag.short } : {}
      return [name, { type: flag.type === 'text' ? 'string' : 'boolean', multiple: true, ...short } as const]
    }),
  )
  const { tokens } = parseArgs({ args: [...words], options, strict: false, allowPositionals: true, tokens: true })
  const values = new Map<string, string[]>()
  const found: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') found.push(token.value)
    if (token.kind !== 'option') continue
    const denied = canonical.has(token.name) ? undefined : token.name.match(/^no-(.+)$/)?.[1]
    const name = canonical.get(token.name) ?? (denied === undefined ? undefined : canonical.get(denied))
    const flag = name === undefined ? undefined : flags[name]
    if (name === undefined || flag === undefined || (denied !== undefined && flag.type !== 'switch')) {
      throw unknownFlag(token.name, token.rawName, [...canonical.keys()], refused)
    }
    const value = denied === undefined ? checkedValue(token.rawName, flag, token.value) : 'false'
    values.set(name, flag.repeats === true ? [...(values.get(name) ?? []), value] : [value])
  }
  for (const [name, flag] of Object.entries(flags)) {
    const fromEnvironment = flag.only === 'command-line' ? undefined : environment[environmentName(name)]
    if (values.has(name) || fromEnvironment === undefined || (fromEnvironment === '' && flag.type === 'text')) continue
    const parts = flag.repeats === true ? fromEnvironment.split(',') : [fromEnvironment]
    values.set(
      name,
      parts.map((part) => checkedValue(environmentName(name), flag, part)),
    )
  }
  if (found.length < operands.min) throw new UsageError('an operand is missing')
  if (found.length > operands.max) throw new UsageError(`unexpected operand ${JSON.stringify(found[operands.max])}`)
  return {
    text: (flag) => values.get(flag)?.at(-1),
    list: (flag) => values.get(flag) ?? [],
    switch: (flag) => {
      const value = values.get(flag)?.at(-1)
      return value === undefined ? undefined : YES.has(value)
    },
    operands: found,
  }
}

function checkedValue(written: string, flag: Flag, value: string | undefined): string {
  if (flag.type === 'switch') {
    const word = (value ?? '').toLowerCase()
    if (!YES.has(word) && !NO.has(word))
      throw new UsageError(`${written} is true or false, not ${JSON.stringify(value)}`)
    return word
  }
  if (value === undefined) throw new UsageError(`${written} needs a value`)
  if (flag.oneOf !== undefined && !flag.oneOf.includes(value)) {
    const near = nearest(value, flag.oneOf)
    throw new UsageError(
      `${written} is one of ${flag.oneOf.join(', ')}, not ${JSON.stringify(value)}${near === undefined ? '' : `; did you mean ${near}?`}`,
    )
  }
  return value
}

function unknownFlag(
  name: string,
  written: string,
  known: readonly string[],
  refused: Readonly<Record<string, string>>,
): UsageError {
  const sentence = refused[name]
  if (sentence !== undefined) return new UsageError(`${written}: ${sentence}`)
  const near = nearest(name, known)
  return new UsageError(`unknown flag ${written}${near === undefined ? '' : `; did you mean --${near}?`}`)
}
