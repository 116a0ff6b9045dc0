/** Help texts, made from the same table that reads the arguments. */
import { environmentName, type Flag } from './arguments.ts'
import type { Verb } from './verb.ts'

const WIDTH = 100

/** `sallyport --help`. */
export function generalHelp(verbs: readonly Verb[]): string {
  const rows = verbs.map(({ name, operands, summary }): readonly [string, string] => [
    `${name}${operands.usage === '' ? '' : ` ${operands.usage}`}`,
    summary,
  ])
  return `sallyport: API gateway that runs ngrok Traffic Policy files

usage: sallyport VERB [flags]

${table(rows)}
\`sallyport VERB --help\` explains a verb. Every flag can also be given as environment variable: --log-level is SALLYPORT_LOG_LEVEL.

exit codes: 0 success · 1 configuration or start failed · 2 wrong usage · 3 no instance reached · 4 stopped with work left · 70 internal error
`
}

/** `sallyport VERB --help`. */
export function verbHelp(verb: Verb): string {
  const flags = Object.entries(verb.flags)
  const rows = flags.map(([name, flag]): readonly [string, string] => [flagUsage(name, flag), flagMeaning(name, flag)])
  const aliases =
    verb.aliases.length === 0 ? '' : `\nalso: ${verb.aliases.map((alias) => `sallyport ${alias}`).join(', ')}\n`
  const notes = (verb.notes ?? []).map((note) => `\n${wrap(note, WIDTH).join('\n')}\n`).join('')
  return `${usageLine(verb)}\n\n${wrap(verb.summary, WIDTH).join('\n')}\n${aliases}${rows.length === 0 ? '' : `\n${table(rows)}`}${notes}`
}

/** `usage: sallyport reload [flags]`. */
export function usageLine(verb: Verb): string {
  const operands = verb.operands.usage === '' ? '' : ` ${verb.operands.usage}`
  return `usage: sallyport ${verb.name}${operands}${Object.keys(verb.flags).length === 0 ? '' : ' [flags]'}`
}

function flagUsage(name: string, flag: Flag): string {
  const short = flag.short === undefined ? '' : `-${flag.short}, `
  return `${short}--${name}${flag.value === undefined ? '' : ` ${flag.value}`}`
}

function flagMeaning(name: string, flag: Flag): string {
  const aliases = (flag.aliases ?? []).map((alias) => `--${alias}`).join(', ')
  const environment = flag.only === 'command-line' ? '' : ` [${environmentName(name)}]`
  return `${flag.meaning}${aliases === '' ? '' : ` Also: ${aliases}.`}${environment}`
}

function table(rows: readonly (readonly [string, string])[]): string {
  const left = Math.min(34, Math.max(...rows.map(([name]) => name.length)) + 4)
  return rows
    .map(([name, meaning]) => {
      const lines = wrap(meaning, WIDTH - left)
      const head = `  ${name}`
      // a long name has the line for itself
      const first = head.length < left ? `${head.padEnd(left)}${lines.shift() ?? ''}\n` : `${head}\n`
      return first + lines.map((line) => `${' '.repeat(left)}${line}\n`).join('')
    })
    .join('')
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else {
      line = line === '' ? word : `${line} ${word}`
    }
  }
  lines.push(line)
  return lines
}
