/**
 * `sallyport start --all | NAME…`: a gateway that serves the endpoints of a configuration file of ngrok's agent.
 *
 * Source: kubernetes-objects.md §7; operations.md O-07.
 */
import type { ConfigurationInput } from '../config/load.ts'
import { UsageError, type Arguments, type Flags } from './arguments.ts'
import { configurationInput, filesOf } from './configuration.ts'
import { START_FLAGS, startGateway } from './run.ts'
import { ACCOUNT_FLAGS, type Verb } from './verb.ts'

/** Flags of the verbs that read an agent's file. `SALLYPORT_CONFIG` names settings of the gateway, so it is not read. */
export const AGENT_FLAGS = {
  config: {
    type: 'text',
    value: 'FILE',
    short: 'c',
    repeats: true,
    only: 'command-line',
    meaning:
      'Configuration of the agent, version 3; may repeat, later ones win. Default: where ngrok has its ngrok.yml.',
  },
  settings: {
    type: 'text',
    value: 'FILE|DIR',
    repeats: true,
    meaning: 'Settings of the gateway (gateway.yaml): listeners, certificates, limits and so on. Default: none.',
  },
} as const satisfies Flags

/** The configuration that an agent's file and settings of the gateway make together. */
export function agentConfiguration(given: Arguments, names: readonly string[] | 'all'): ConfigurationInput {
  return { ...configurationInput(given, 'settings'), agent: { files: filesOf(given, 'config'), names } }
}

export const startVerb: Verb = {
  name: 'start',
  aliases: [],
  summary: 'Run a gateway with endpoints of an ngrok agent configuration, version 3: `sallyport start --all`.',
  operands: { usage: '--all | NAME …', min: 0, max: 1000 },
  flags: {
    ...START_FLAGS,
    ...AGENT_FLAGS,
    all: { type: 'switch', meaning: 'Every endpoint of the file.', only: 'command-line' },
    ...ACCOUNT_FLAGS,
  },
  refused: {
    none: 'a gateway without endpoints answers nothing; name endpoints, or give --all',
    log: 'the log goes to standard error; send it to a file with 2>FILE',
  },
  notes: [
    'Endpoints with https urls need listeners with certificates, or behind a TLS terminator: name them in a file for --settings. docs/configuration.md shows one.',
  ],
  run: (given, surroundings) => {
    const all = given.switch('all') === true
    if (all && given.operands.length > 0) throw new UsageError('give either --all or names of endpoints')
    if (!all && given.operands.length === 0) throw new UsageError('name endpoints of the file, or give --all')
    for (const flag of ['authtoken', 'region']) {
      if (given.text(flag) !== undefined) surroundings.err(`sallyport: --${flag} has no meaning here and is ignored\n`)
    }
    return startGateway(agentConfiguration(given, all ? 'all' : given.operands), given, surroundings)
  },
}
