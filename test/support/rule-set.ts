/** The rule set that scripts/ensure-rules.mjs installed for the tests. */
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** The folder, or undefined when none could be installed (`npm test` says so). */
export function installedRules(): string | undefined {
  const folder = fileURLToPath(new URL('../../.state/crs/current', import.meta.url))
  return existsSync(folder) ? folder : undefined
}
