/** What this program is: `sallyport version`, and the version in metrics and status. */
import { readFileSync } from 'node:fs'
import { EXIT, type Verb } from './verb.ts'

let known: string | undefined

/** The version in package.json, which stands beside src/ and dist/. */
export function programVersion(): string {
  if (known === undefined) {
    const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
    // our own file
    known = (JSON.parse(text) as { version: string }).version
  }
  return known
}

export const versionVerb: Verb = {
  name: 'version',
  aliases: ['--version', '-v'],
  summary: 'Print the version.',
  operands: { usage: '', min: 0, max: 0 },
  flags: {
    json: { type: 'switch', meaning: 'As JSON, with the versions of Node.js and its parts.', only: 'command-line' },
  },
  run: (given, { out }) => {
    const version = programVersion()
    const { node, uv, openssl } = process.versions
    const facts = { version, node, libuv: uv, openssl, platform: process.platform, arch: process.arch }
    out(given.switch('json') === true ? `${JSON.stringify(facts)}\n` : `sallyport ${version}\n`)
    return Promise.resolve(EXIT.ok)
  },
}
