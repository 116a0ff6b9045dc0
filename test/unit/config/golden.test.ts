/**
 * What `check` says, word for word: each file under test/golden/config holds the files of a configuration, each behind
 * a line `--- path`, and behind `--- said` every diagnostic. UPDATE_GOLDEN=1 writes what is said now.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { inFileOrder, renderDiagnostic } from '../../../src/config/diagnostic.ts'
import { loadConfiguration } from '../../../src/config/load.ts'
import { readerOf } from './memory-files.ts'

const FOLDER = new URL('../../golden/config/', import.meta.url)
const cases = readdirSync(FOLDER).filter((name) => name.endsWith('.txt'))

function partsOf(text: string): Map<string, string> {
  const parts = new Map<string, string>()
  for (const part of text.split(/^--- /m).slice(1)) {
    const end = part.indexOf('\n')
    parts.set(part.slice(0, end), part.slice(end + 1))
  }
  return parts
}

describe('test/golden/config', () => {
  it('has its cases', () => {
    expect(cases.length).toBeGreaterThanOrEqual(12)
  })

  it.each(cases)('%s', (name) => {
    const url = new URL(name, FOLDER)
    const text = readFileSync(url, 'utf8')
    const parts = partsOf(text)
    const expected = parts.get('said')
    parts.delete('said')
    const paths = [...parts.keys()].filter((path) => /^gateway.*\.yaml$/.test(path))
    const { diagnostics } = loadConfiguration({ files: paths }, readerOf(Object.fromEntries(parts), { SET: 'value' }))
    const said = inFileOrder(diagnostics.all)
      .map((it) => `${renderDiagnostic(it)}\n`)
      .join('')
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(url, `${text.split(/^--- said\n/m)[0]}--- said\n${said}`)
    else expect(said).toBe(expected)
  })
})
