/** Which texts make up the rule set, and in which order (seclang.md §2). */
import { describe, expect, it } from 'vitest'
import { Diagnostics } from '../../../src/config/diagnostic.ts'
import { FileError, type FileReader } from '../../../src/config/reader.ts'
import { SourceFile } from '../../../src/config/source.ts'
import { installedRulesFolder, readRuleFiles } from '../../../src/waf/rule-files.ts'
import { load } from '../config/memory-files.ts'

const { waf } = load({ 'gateway.yaml': '' }).settings

/** `*` in the last part of a pattern, sorted by name: what the loader's own readers do. */
function readerOf(paths: readonly string[], texts: Readonly<Record<string, string>>): FileReader {
  return {
    read: (path) => new SourceFile(path, texts[path] ?? `# ${path}`),
    list: (pattern) => {
      const [before, after] = pattern.replace('?', '*').replace('**', '*').split('*')
      if (after === undefined) return paths.filter((path) => path === pattern)
      return paths
        .filter((path) => path.startsWith(before!) && path.endsWith(after) && !path.slice(before!.length).includes('/'))
        .toSorted()
    },
    variable: () => undefined,
  }
}

function read(paths: readonly string[], settings: typeof waf = waf, texts: Readonly<Record<string, string>> = {}) {
  const diagnostics = new Diagnostics()
  const sources = readRuleFiles(settings, '/crs', readerOf(paths, texts), diagnostics)
  return {
    files: sources?.files.map(({ path }) => path),
    data: sources?.data.map(({ path }) => path),
    sources,
    diagnostics,
  }
}

const ENGINE = 'sallyport:engine.conf'

describe('readRuleFiles', () => {
  it('engine configuration, set-up, rules by name; data files apart', () => {
    const { files, data, sources } = read(
      [
        '/crs/rules/REQUEST-942.conf',
        '/crs/rules/REQUEST-901.conf',
        '/crs/rules/RESPONSE-950.conf',
        '/crs/rules/words.data',
        '/crs/rules/not-named.data',
        '/crs/rules/REQUEST-900-BEFORE.conf.example',
        '/crs/crs-setup.conf.example',
        '/crs/README.md',
      ],
      waf,
      { '/crs/rules/REQUEST-942.conf': 'SecRule ARGS "@pmFromFile words.data" "id:1"' },
    )
    expect(files).toEqual([
      ENGINE,
      '/crs/crs-setup.conf.example',
      '/crs/rules/REQUEST-901.conf',
      '/crs/rules/REQUEST-942.conf',
      '/crs/rules/RESPONSE-950.conf',
    ])
    expect(data).toEqual(['/crs/rules/words.data'])
    expect(sources?.files[0]?.text).toContain('SecRuleEngine On')
  })

  it('includes stand before the set-up and behind the rules', () => {
    const include = (path: string) => new SourceFile(path, '#')
    const settings = { ...waf, includeBefore: [include('b1'), include('b2')], includeAfter: [include('a1')] }
    const { files } = read(['/crs/rules/r.conf', '/crs/crs-setup.conf'], settings)
    expect(files).toEqual([ENGINE, 'b1', 'b2', '/crs/crs-setup.conf', '/crs/rules/r.conf', 'a1'])
  })

  it('what included files name is read beside them, whatever its name, and what those name as well', () => {
    const before = new SourceFile(
      'plugins/shop-before.conf',
      'SecRule ARGS "!@pmFromFile shop.data ../lists/more" "id:1"\nInclude parts/[a-c]*.conf\nInclude shop-before.conf\n',
    )
    const { data, diagnostics } = read(
      [
        '/crs/r.conf',
        'lists/more',
        'nets',
        'plugins/shop.data',
        'plugins/parts/a.conf',
        'plugins/parts/d.conf',
        'plugins/parts/never',
      ],
      { ...waf, includeBefore: [before] },
      { 'plugins/parts/a.conf': 'SecRule REMOTE_ADDR "@ipMatchFromFile ../../nets missing" "id:2"' },
    )
    // the reader knows no classes: d.conf is read, and the loader does not take it
    const parts = ['plugins/parts/a.conf', 'plugins/parts/d.conf']
    expect(data?.toSorted()).toEqual(['lists/more', 'nets', ...parts, 'plugins/shop.data'])
    expect(diagnostics.all).toEqual([])
  })

  it('a named file that cannot be read is an error where it is named', () => {
    const diagnostics = new Diagnostics()
    const before = new SourceFile('own.conf', '# first\nSecRule ARGS \\\n  "@pmFromFile words.bin" "id:1"\n')
    const reader: FileReader = {
      ...readerOf(['/crs/r.conf', 'words.bin'], {}),
      read: (path) => {
        if (path === 'words.bin') throw new FileError('NOT_TEXT', path)
        return new SourceFile(path, '#')
      },
    }
    readRuleFiles({ ...waf, includeBefore: [before] }, '/crs', reader, diagnostics)
    const [problem] = diagnostics.all
    expect(problem).toMatchObject({ code: 'FILE_NOT_TEXT', message: 'words.bin: not UTF-8 text' })
    expect(problem?.span?.source.position(problem.span.start)).toEqual({ line: 3, column: 4 })
  })

  it('a set-up of one’s own comes before the example; only one is read', () => {
    const { files } = read(['/crs/crs-setup.conf', '/crs/crs-setup.conf.example', '/crs/rules/r.conf'])
    expect(files).toEqual([ENGINE, '/crs/crs-setup.conf', '/crs/rules/r.conf'])
  })

  it('a folder of rule files without `rules/` will do', () => {
    const { files } = read(['/crs/crs-setup.conf', '/crs/b.conf', '/crs/a.conf'])
    expect(files).toEqual([ENGINE, '/crs/crs-setup.conf', '/crs/a.conf', '/crs/b.conf'])
  })

  it.each([
    ['nothing', []],
    ['a set-up alone', ['/crs/crs-setup.conf', '/crs/crs-setup.conf.example']],
    ['a set-up beside an empty rules/', ['/crs/crs-setup.conf', '/crs/rules/README']],
    ['data alone', ['/crs/rules/words.data']],
  ])('%s is no rule set: the error names the folder and the cure', (_, paths) => {
    const { sources, diagnostics } = read(paths)
    expect(sources).toBeUndefined()
    expect(diagnostics.all).toMatchObject([
      {
        code: 'WAF_RULES_MISSING',
        message: expect.stringContaining('/crs'),
        hint: expect.stringContaining('crs install'),
      },
    ])
  })

  it('rules installed by `crs install` are found below the state folder', () => {
    expect(installedRulesFolder('/var/lib/sallyport')).toBe('/var/lib/sallyport/crs/current')
  })
})
