/** What the pages point to is there: links, headings, npm scripts, files, folders, verbs, flags. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { describe, expect, it } from 'vitest'
import { VERBS } from '../../../src/cli/command-line.ts'
import { anchors, codeBlocks, codeSpans, PAGES, ROOT, rows, section, text } from './pages.ts'

const scripts = new Set(Object.keys((JSON.parse(text('package.json')) as { scripts: object }).scripts))

describe('links', () => {
  it.each(PAGES)('%s: every relative link resolves, its heading too', (path) => {
    const page = text(path)
    for (const [, target] of page.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue
      const [file = '', heading] = target!.split('#')
      const place = file === '' ? path : normalize(join(dirname(path), file))
      expect(existsSync(ROOT + place), `${path} → ${target}`).toBe(true)
      if (heading !== undefined) expect([...anchors(text(place))], `${path} → ${target}`).toContain(heading)
    }
  })

  it('every page of docs/ can be reached from the README', () => {
    const readme = text('README.md')
    // pages of actions hang from policy.md
    const pages = readdirSync(`${ROOT}docs`).filter((name) => name.endsWith('.md'))
    for (const name of pages) expect(readme).toContain(`(docs/${name}`)
  })
})

describe('npm scripts', () => {
  it.each(PAGES)('%s names only scripts that exist', (path) => {
    for (const [, name] of text(path).matchAll(/\bnpm run ([\w:-]+)/g)) expect([...scripts], path).toContain(name)
  })

  it('CONTRIBUTING lists every script, and the file behind each is there', () => {
    const page = text('CONTRIBUTING.md')
    const missing = [...scripts].filter((name) => name !== 'test' && !page.includes(`npm run ${name}`))
    // not a command for people until its file is there
    expect(missing.filter((name) => scriptFileExists(name))).toEqual([])
  })
})

function scriptFileExists(name: string): boolean {
  const command = (JSON.parse(text('package.json')) as { scripts: Record<string, string> }).scripts[name]!
  const file = /^node (\S+)/.exec(command)?.[1]
  return file === undefined || existsSync(ROOT + file)
}

describe('ARCHITECTURE.md', () => {
  const page = text('ARCHITECTURE.md')
  const map = rows(section(page, 'Code map')).map(([path]) => path!.replaceAll('`', ''))

  it('every path of the code map exists', () => {
    expect(map.length).toBeGreaterThan(25)
    for (const path of map) expect(existsSync(ROOT + path), path).toBe(true)
  })

  it('every folder of src/ and every crate is in the code map', () => {
    const folders = (parent: string): string[] =>
      readdirSync(ROOT + parent)
        .filter((name) => statSync(join(ROOT, parent, name)).isDirectory())
        .map((name) => `${parent}/${name}/`)
    // a crate that is not a member of the workspace is not built
    const members = /^members = \[(.*)\]$/m.exec(text('native/Cargo.toml'))![1]!
    const crates = [...members.matchAll(/"(.*?)"/g)].map((match) => `native/${match[1]}/`)
    expect(crates.length).toBeGreaterThan(4)
    for (const folder of [...folders('src'), ...crates]) expect(map).toContain(folder)
  })

  it('every file it names exists', () => {
    const sources = readdirSync(`${ROOT}src`, { recursive: true }).map(String)
    for (const span of codeSpans(page)) {
      if (!/^[\w./-]+\.(?:ts|rs|md|yaml|mjs|lua)$/.test(span)) continue
      const found = existsSync(ROOT + span) || sources.some((path) => path === span || path.endsWith(`/${span}`))
      expect(found, span).toBe(true)
    }
  })

  it('each package is imported by the one file that is named', () => {
    const doors = rows(section(page, 'One door per package')).map((cells) =>
      cells.map((cell) => cell.replaceAll('`', '')),
    )
    const found = new Map<string, string[]>()
    for (const path of readdirSync(`${ROOT}src`, { recursive: true }).map(String)) {
      if (!path.endsWith('.ts')) continue
      const source = readFileSync(`${ROOT}src/${path}`, 'utf8')
      const specifiers = source
        .split('\n')
        .flatMap((line) => /(?:from |import |import\.meta\.url\)\()'([^'.][^']*)'/.exec(line)?.[1] ?? [])
      for (const name of new Set(specifiers)) {
        if (!name.startsWith('node:')) found.set(name, [...(found.get(name) ?? []), `src/${path}`])
      }
    }
    expect([...found].sort()).toEqual(doors.map(([name, path]) => [name, [path]]).sort())
    expect(doors.length).toBeGreaterThan(5)
  })
})

describe('the command line as the pages write it', () => {
  const verbs = new Map(VERBS.flatMap((verb) => [verb.name, ...verb.aliases].map((name) => [name, verb] as const)))

  it.each(PAGES)('%s: every verb and flag exists', (path) => {
    const page = text(path)
    const commands = [
      ...codeSpans(page),
      ...codeBlocks(page)
        .filter(({ language }) => language === 'sh')
        .flatMap(({ code }) => code.replace(/\\\n/g, ' ').split('\n')),
    ]
    for (const command of commands) {
      const match = /^(?:npm exec )?sallyport (?:-- )?([a-z]\w*)(.*)$/.exec(command)
      if (match === null) continue
      const verb = verbs.get(match[1]!)
      expect(verb, `${path}: ${command}`).toBeDefined()
      for (const [, flag] of match[2]!.matchAll(/ --([a-z-]+)/g)) {
        const known = Object.entries(verb!.flags).flatMap(([name, { aliases }]) => [name, ...(aliases ?? [])])
        expect(known, `${path}: ${command}`).toContain(flag)
      }
    }
  })
})
