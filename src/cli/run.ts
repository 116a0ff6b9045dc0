/** `sallyport run`: the gateway in the foreground. Source: operations.md O-01. */
import type { ConfigurationInput } from '../config/load.ts'
import type { Arguments, Flags } from './arguments.ts'
import { configurationInput } from './configuration.ts'
import { programVersion } from './version.ts'
import { CONFIG_FLAG, LOG_FLAGS, STATE_DIR_FLAG, type Surroundings, type Verb } from './verb.ts'

/** Flags of the verbs that start a gateway. */
export const START_FLAGS = {
  ...CONFIG_FLAG,
  ...STATE_DIR_FLAG,
  workers: { type: 'text', value: 'N|auto', meaning: 'Worker processes, 1 to 64; instead of workers.' },
  ...LOG_FLAGS,
} as const satisfies Flags

/** Starts a gateway and waits for its end. */
export async function startGateway(
  input: ConfigurationInput,
  given: Arguments,
  surroundings: Surroundings,
): Promise<number> {
  const { environment, err, isTerminal } = surroundings
  if (environment['NGROK_AUTHTOKEN'] !== undefined || environment['NGROK_API_KEY'] !== undefined) {
    err('sallyport: NGROK_AUTHTOKEN and NGROK_API_KEY are not needed here and are ignored\n')
  }
  const { runGateway, MAIN_SCRIPT } = await import('../process/run.ts')
  return await runGateway({
    input,
    version: programVersion(),
    logFormat:
      given.text('log-format') === 'text' || (given.text('log-format') === undefined && isTerminal) ? 'text' : 'json',
    say: err,
    workerScript: MAIN_SCRIPT,
  })
}

export const runVerb: Verb = {
  name: 'run',
  aliases: [],
  summary: 'Run the gateway in the foreground.',
  operands: { usage: '', min: 0, max: 0 },
  flags: START_FLAGS,
  notes: [
    'SIGTERM, SIGINT and SIGQUIT drain; a second SIGTERM or SIGINT stops at once. SIGHUP reloads the configuration. SIGUSR1 opens log files anew.',
  ],
  run: (given, surroundings) => startGateway(configurationInput(given), given, surroundings),
}
