/** What the pages for people from elsewhere show does what they say: the tests behind a policy or configuration are played. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { runCommandLine } from '../../../src/cli/command-line.ts'
import { httpVerb } from '../../../src/cli/http.ts'
import { PROVIDERS_NOT_PUBLIC } from '../../../src/webhook/providers.ts'
import { installedRules } from '../../support/rule-set.ts'
import { codeBlocks, codeSpans, text } from './pages.ts'

let folder = ''
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-coming-from-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const rules = installedRules()

/** Each block of tests with the policy or configuration that stands in front of it. */
function played(path: string): { name: string; subject: string; tests: string }[] {
  const blocks = codeBlocks(text(path)).filter(({ language }) => language === 'yaml')
  return blocks.flatMap(({ code }, index) =>
    /^tests:/m.test(code)
      ? [{ name: `${path} (${index + 1})`, subject: blocks[index - 1]?.code ?? '', tests: code }]
      : [],
  )
}

const cases = [...played('docs/coming-from-ngrok.md'), ...played('docs/coming-from-nginx-and-kong.md')]

describe('pages for people from elsewhere', () => {
  it.each(cases)('$name is as it is told', async ({ name, subject, tests }) => {
    const needsRules = subject.includes('owasp-crs-')
    if (needsRules && rules === undefined) {
      console.log(`skipped: no rule set for ${name}`)
      return
    }
    if (needsRules) vi.stubEnv('SALLYPORT_WAF_RULES', rules)
    const isPolicy = /^on_\w+:/m.test(subject)
    writeFileSync(join(folder, 'subject.yaml'), subject)
    writeFileSync(join(folder, 'page.test.yaml'), `${isPolicy ? 'policy' : 'config'}: subject.yaml\n${tests}`)
    let printed = ''
    const collect = (line: string): unknown => (printed += line)
    const code = await runCommandLine(['test', join(folder, 'page.test.yaml')], {
      environment: {},
      out: collect,
      err: collect,
      isTerminal: false,
    })
    vi.unstubAllEnvs()
    expect(printed).toMatch(/^[1-9]\d* passed, 0 failed\n$/)
    expect(code).toBe(0)
  })

  it('there are some', () => {
    expect(cases.length).toBeGreaterThanOrEqual(10)
  })
})

describe('docs/coming-from-ngrok.md', () => {
  const page = text('docs/coming-from-ngrok.md')
  const spans = codeSpans(page)

  it('names every flag of `ngrok http` that is refused', () => {
    const flags = Object.keys(httpVerb.refused ?? {})
    // "and what begins with them"
    const named = flags.filter((flag) => !/^(?:oauth|oidc)-|^verify-webhook-secret$/.test(flag))
    expect(named.length).toBeGreaterThan(20)
    for (const flag of named) expect(spans, flag).toContain(`--${flag}`)
  })

  it('names the providers of webhooks that are refused', () => {
    for (const provider of PROVIDERS_NOT_PUBLIC) expect(spans).toContain(provider)
  })
})
