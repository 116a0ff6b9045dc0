/** The demo's command line; read before anything is installed, so that `--help` needs nothing. */
import { failUsage, readArguments } from '../scripts/arguments.mjs'

/** What can be taken out of the policy, and the action that it is. */
export const ACTIONS = { waf: 'owasp-crs-request', jwt: 'jwt-validation', limit: 'rate-limit' }

const USAGE = `usage: npm run demo -- [OPTIONS]
  --once          end after the story, with 0 or 1
  --port N        where the gateway listens (8080)
  --without NAME  take an action out of the policy, which the story must notice: ${Object.keys(ACTIONS).join(', ')}`

/** `{ once, port, without }` of the command line. */
export function readOptions() {
  const { values } = readArguments(USAGE, {
    once: { type: 'boolean', default: false },
    port: { type: 'string', default: '8080' },
    without: { type: 'string' },
  })
  if (values.without !== undefined && ACTIONS[values.without] === undefined) {
    failUsage(`--without takes ${Object.keys(ACTIONS).join(', ')}`, USAGE)
  }
  return values
}
