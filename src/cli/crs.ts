/** `sallyport crs install`: obtains a rule set. Source: the work is waf/crs-install.ts. */
import type { CrsSource } from '../waf/crs-install.ts'
import { UsageError, type Arguments } from './arguments.ts'
import { stateDirOf } from './configuration.ts'
import { CONFIG_FLAG, EXIT, STATE_DIR_FLAG, type Surroundings, type Verb } from './verb.ts'

export const crsVerb: Verb = {
  name: 'crs',
  aliases: [],
  summary: 'Install the OWASP Core Rule Set into the state folder.',
  operands: { usage: 'install', min: 1, max: 1 },
  flags: {
    ...CONFIG_FLAG,
    ...STATE_DIR_FLAG,
    from: {
      type: 'text',
      value: 'SOURCE',
      oneOf: ['release', 'go', 'debian'],
      meaning: 'Only this source: release (official archive), go (Go module), debian (package). Default: each in turn.',
    },
  },
  notes: [
    'Says what it tries and which version it installed. A folder given with waf.rules wins over what is installed.',
  ],
  run: (given, surroundings) => install(given, surroundings),
}

async function install(given: Arguments, { out, err }: Surroundings): Promise<number> {
  if (given.operands[0] !== 'install') throw new UsageError(`crs knows \`install\`, not ${given.operands[0]}`)
  // loaded here only: no other verb needs it
  const { installCrs } = await import('../waf/crs-install.ts')
  // the flag takes no other words
  const from = given.text('from') as CrsSource | undefined
  try {
    const stateDir = stateDirOf(given)
    const { version, folder } = await installCrs({
      stateDir,
      say: (line) => err(`${line}\n`),
      ...(from === undefined ? {} : { from }),
    })
    out(`CRS ${version} is installed in ${folder}\n`)
    return EXIT.ok
  } catch (error) {
    err(`sallyport: ${(error as Error).message}\n`)
    return EXIT.failure
  }
}
