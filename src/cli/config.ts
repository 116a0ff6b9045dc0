/** `sallyport config check`: checks a configuration file of ngrok's agent. Source: kubernetes-objects.md §7; operations.md O-07. */
import { UsageError } from './arguments.ts'
import { CHECK_FLAGS, checkAndReport } from './check.ts'
import { AGENT_FLAGS, agentConfiguration } from './start.ts'
import { STATE_DIR_FLAG, type Verb } from './verb.ts'

/** Other commands of ngrok's `config`, with what to do instead. */
const REFUSED: Readonly<Record<string, string>> = {
  edit: 'open the file in your editor, then run `sallyport config check`',
  upgrade: 'the file stays as it is; `ngrok config upgrade` writes version 3, and `check` says what is missing',
  'add-authtoken': 'no account is needed; leave the token out',
  'add-api-key': 'no account is needed; leave the key out',
}

export const configVerb: Verb = {
  name: 'config',
  aliases: [],
  summary:
    'Check an ngrok agent configuration, version 3, with every endpoint and policy in it: `sallyport config check`.',
  operands: { usage: 'check', min: 1, max: 2 },
  flags: { ...AGENT_FLAGS, ...STATE_DIR_FLAG, ...CHECK_FLAGS },
  notes: [
    '`sallyport check` checks settings of the gateway. Exits 0 when the file is good, 1 when it is not. What is right but cannot be served here is a warning, and refused by `sallyport start`.',
  ],
  run: (given, surroundings) => {
    const [word = '', more] = given.operands
    const instead = Object.hasOwn(REFUSED, word) ? REFUSED[word] : undefined
    if (instead !== undefined) throw new UsageError(`config ${word}: ${instead}`)
    if (word !== 'check') throw new UsageError(`config knows \`check\`, not ${word}`)
    if (more !== undefined) throw new UsageError(`unexpected operand "${more}"; name the file with --config`)
    return checkAndReport(agentConfiguration(given, 'all'), given, surroundings)
  },
}
