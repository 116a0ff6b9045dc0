/**
 * `sallyport waf explain` against kept output: test/golden/waf/*.txt hold files, arguments and what is printed.
 * `UPDATE_GOLDEN=1` writes the output anew.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { runCommandLine } from '../../../src/cli/command-line.ts'
import { installedRules } from '../../support/rule-set.ts'

const FOLDER = fileURLToPath(new URL('../../golden/waf/', import.meta.url))
const RULES = join(FOLDER, 'rules')

let folder = ''
const before = process.cwd()
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sallyport-explain-'))
  process.chdir(folder)
})
afterEach(() => {
  process.chdir(before)
  rmSync(folder, { recursive: true, force: true })
})

async function explain(words: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  let out = ''
  let err = ''
  const code = await runCommandLine(['waf', 'explain', ...words], {
    environment: {},
    out: (text) => (out += text),
    err: (text) => (err += text),
    isTerminal: false,
  })
  return { code, out, err }
}

/** `--- name ---` lines with the text between them. */
function sections(text: string): Map<string, string> {
  const parts = text.split(/^--- (.+) ---\n/m)
  return new Map(Array.from({ length: (parts.length - 1) / 2 }, (_, at) => [parts[2 * at + 1]!, parts[2 * at + 2]!]))
}

describe('waf explain', () => {
  const cases = readdirSync(FOLDER).filter((name) => name.endsWith('.txt'))

  it.each(cases)('%s', async (name) => {
    const text = readFileSync(join(FOLDER, name), 'utf8')
    const parts = sections(text)
    for (const [path, content] of parts) {
      if (path === 'arguments' || path.startsWith('exit ')) continue
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), content)
    }
    const words = parts.get('arguments')!.trim().split(' ')
    const { code, out, err } = await explain(words.map((word) => (word === 'RULES' ? RULES : word)))
    const said = `${out}${err}`.replaceAll(RULES, 'RULES').replaceAll(folder, 'FOLDER')
    const given = text.split(/^--- exit \d+ ---\n/m)[0]!
    const whole = `${given}--- exit ${code} ---\n${said}`
    if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(join(FOLDER, name), whole)
    else expect(whole).toBe(text)
    expect(said.includes('hunter2')).toBe(name === 'secrets-shown.txt')
  })

  it.each([
    [['--request', 'r', '--client', 'nobody'], '--client is an address, not "nobody"'],
    [[], '--request FILE is missing'],
    [['--request', 'r', '--respons', 's'], 'did you mean --response?'],
  ])('%j is wrong usage', async (words, sentence) => {
    const { code, err } = await explain(words)
    expect(code).toBe(2)
    expect(err).toContain(sentence)
  })

  it('every exclusion it prints, pasted, takes its match away', async () => {
    writeFileSync('r.http', 'GET /x?a%5Bb%5D=attack&c|d=attack HTTP/1.1\nHost: a.example\nUser-Agent: t\n\n')
    const read = async (...more: string[]): Promise<Explained> =>
      JSON.parse((await explain(['--request', 'r.http', '--rules', RULES, '--json', ...more])).out) as Explained
    const first = await read()
    const attacks = first.matches.filter(({ rule_id: id }) => id === 942001)
    expect(attacks.map(({ variable }) => variable)).toEqual(['ARGS:a[b]', 'ARGS:c|d'])
    for (const scope of ['target', 'target_on_path'] as const) {
      const pasted = attacks.flatMap(({ exclusions }) => exclusions.filter((it) => it.scope === scope))
      expect(pasted).toHaveLength(2)
      writeFileSync('own.conf', pasted.map(({ text }) => `${text}\n`).join(''))
      writeFileSync('g.yaml', `${pasted[0]!.place.replace('.', ': { ')}: [own.conf] }\n`)
      // oxlint-disable-next-line no-await-in-loop -- both use the same files
      const after = await read('-c', 'g.yaml')
      expect(after.matches).toEqual([])
      expect(after.request.outcome).toBe('passes')
    }
    writeFileSync(
      'p.yaml',
      `on_http_request: [{ actions: [{ type: owasp-crs-request, config: { ${attacks[0]!.exclusions.at(-1)!.text} } }] }]`,
    )
    expect((await read('--policy', 'p.yaml')).matches).toEqual([])
  })

  const rules = installedRules()
  it.skipIf(rules === undefined)('the Core Rule Set is explained by its own signature and rules', async () => {
    writeFileSync(
      'r.http',
      "GET /?id=1'%20OR%20'1'='1'%20--%20 HTTP/1.1\nHost: a.example\nUser-Agent: t\nAccept: */*\n\n",
    )
    const { code, out } = await explain(['--request', 'r.http', '--rules', rules!])
    expect(code).toBe(0)
    expect(out).toMatch(/^rule set {2}OWASP_CRS\/\d/)
    expect(out).toContain('SecRuleUpdateTargetById 942100 "!ARGS:id"')
    expect(out).toContain('blocked by rule 949110: 403 ERR_NGROK_3700')
    expect(out).toContain('980170')
  })
})

interface Explained {
  readonly matches: readonly {
    readonly rule_id: number
    readonly variable: string
    readonly exclusions: readonly { readonly scope: string; readonly place: string; readonly text: string }[]
  }[]
  readonly request: { readonly outcome: string }
}
