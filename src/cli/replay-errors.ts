/** What verbs that replay requests say of configurations and files they cannot use. */
import { ConfigError, renderDiagnostic } from '../config/diagnostic.ts'
import { ReplayError } from '../offline/replay.ts'
import { EXIT } from './verb.ts'

/** Runs it; a refused configuration or file is reported and becomes exit code 1. */
export async function orReport(err: (text: string) => void, run: () => Promise<number>): Promise<number> {
  try {
    return await run()
  } catch (error) {
    if (!(error instanceof ReplayError) && !(error instanceof ConfigError)) throw error
    for (const diagnostic of error.diagnostics) err(`${renderDiagnostic(diagnostic)}\n`)
    return EXIT.failure
  }
}
