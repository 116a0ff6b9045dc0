/**
 * What `check` says about policies, word for word: each file under test/golden/policy holds the files of a
 * configuration, each behind a line `--- path`, and behind `--- said` every diagnostic of loading and compiling. An
 * empty `said` means that everything is accepted. UPDATE_GOLDEN=1 writes what is said now.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { inFileOrder, renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { loadConfiguration } from '../../../src/config/load.ts'
import { checkConfiguration } from '../../../src/process/snapshot.ts'
import { readerOf } from '../config/memory-files.ts'

const FOLDER = new URL('../../golden/policy/', import.meta.url)
const cases = readdirSync(FOLDER).filter((name) => name.endsWith('.txt'))
/** Every refusal is one `error:` line; a file without one is an accepted configuration. */
const MIN_REFUSALS = 100
const MIN_ACCEPTED = 5

/** Codes of traffic-policy.md §8.3 and of the carriers that can occur with the actions that are built. */
const CODES = (
  '2200 2201 2202 2203 2204 2206 2207 2210 2211 2212 2214 2215 2217 2218 2219 2221 2222 2223 ' +
  '2224 2225 2226 2228 2230 2231 2234 2235 2236 2240 2241 2242 2243 2244 2245 2250 2252 2255 2261 2262 2266 3604 5535 7173 18011'
)
  .split(' ')
  .map((code) => `ERR_NGROK_${code}`)

function partsOf(text: string): Map<string, string> {
  const parts = new Map<string, string>()
  for (const part of text.split(/^--- /m).slice(1)) {
    const end = part.indexOf('\n')
    parts.set(part.slice(0, end), part.slice(end + 1))
  }
  return parts
}

async function said(parts: ReadonlyMap<string, string>): Promise<string> {
  const files = Object.fromEntries([...parts].filter(([path]) => path !== 'said'))
  const reader = readerOf(files)
  const loaded = loadConfiguration({ files: ['gateway.yaml'] }, reader)
  await checkConfiguration(loaded, reader, '/m/state')
  return inFileOrder(loaded.diagnostics.all)
    .map((it) => `${renderDiagnostic(it)}\n`)
    .join('')
}

describe('test/golden/policy', () => {
  it.each(cases)('%s', async (name) => {
    const url = new URL(name, FOLDER)
    const text = readFileSync(url, 'utf8')
    const parts = partsOf(text)
    const now = await said(parts)
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(url, `${text.split(/^--- said\n/m)[0]}--- said\n${now}`)
    else expect(now).toBe(parts.get('said'))
  })

  it('holds a refusal for every code that can occur, and accepted policies', () => {
    const all = cases.map((name) => partsOf(readFileSync(new URL(name, FOLDER), 'utf8')).get('said') ?? '')
    const refusals = all.join('').match(/^\S+:\d+:\d+: error: .* \[\w+\]$/gm) ?? []
    const codes = new Set(refusals.map((line) => /\[(\w+)\]$/.exec(line)?.[1]))
    expect(CODES.filter((code) => !codes.has(code))).toEqual([])
    expect(refusals.length).toBeGreaterThanOrEqual(MIN_REFUSALS)
    expect(all.filter((text) => !text.includes(' error: ')).length).toBeGreaterThanOrEqual(MIN_ACCEPTED)
    console.log(`${refusals.length} refusals with ${codes.size} codes in ${cases.length} files`)
  })
})
