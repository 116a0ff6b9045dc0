/** Every action has a page whose table is the schema's, and whose example does what it says. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { ACTIONS } from '../../../src/actions/index.ts'
import { runCommandLine } from '../../../src/cli/command-line.ts'
import { withActionReference } from '../../../src/policy/action-reference.ts'
import { installedRules } from '../../support/rule-set.ts'
import { codeBlocks, text } from './pages.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-pages-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const rules = installedRules()

describe.each([...new Set(ACTIONS.values())].map((action) => ({ type: action.type, action })))(
  'docs/actions/$type.md',
  ({ type, action }) => {
    const path = `docs/actions/${type}.md`
    const page = existsSync(path) ? readFileSync(path, 'utf8') : ''

    it('lists the keys of the schema, each with its meaning', () => {
      expect(withActionReference(page, action)).toBe(page)
      const table = page.slice(0, page.indexOf('<!-- /keys -->'))
      expect(table.split('\n').filter((line) => /^\| `.*\| +\|$/.test(line))).toEqual([])
    })

    it('names itself as its title, and is on the list of actions', () => {
      expect(page.startsWith(`# ${type}\n`)).toBe(true)
      expect(text('docs/policy.md')).toContain(`(actions/${type}.md)`)
    })

    it.skipIf(type.startsWith('owasp-') && rules === undefined)('has an example that does what it says', async () => {
      if (rules !== undefined) vi.stubEnv('SALLYPORT_WAF_RULES', rules)
      const blocks = codeBlocks(page).filter(({ language }) => language === 'yaml')
      const policy = blocks.find(({ code }) => /^on_\w+:/m.test(code))
      const tests = blocks.find(({ code }) => /^tests:/m.test(code))
      writeFileSync(join(folder, `${type}.yaml`), policy?.code ?? '')
      writeFileSync(join(folder, `${type}.test.yaml`), `policy: ${type}.yaml\n${tests?.code ?? ''}`)
      let printed = ''
      const code = await runCommandLine(['test', join(folder, `${type}.test.yaml`)], {
        environment: {},
        out: (line) => (printed += line),
        err: (line) => (printed += line),
        isTerminal: false,
      })
      vi.unstubAllEnvs()
      expect(printed).toMatch(/^[1-9]\d* passed, 0 failed\n$/)
      expect(code).toBe(0)
    })
  },
)
