/**
 * Which SecLang texts make up the rule set, and in which order: engine configuration, includes before, CRS set-up,
 * CRS rules by file name, includes after; and the files that these name.
 *
 * Source: seclang.md §2 (order of files), §3 and §11 (engine configuration around CRS).
 */
import { basename, join } from 'node:path'
import type { Diagnostics } from '../config/diagnostic.ts'
import { type FileReader, readOrReport } from '../config/reader.ts'
import type { Settings } from '../config/settings.ts'
import { SourceFile } from '../config/source.ts'
import { ruleFileReferences, type RuleSetSources, type RuleSource } from '../native/rule-set.ts'

type BodyLimits = Pick<
  Settings['waf'],
  'requestBodyBytes' | 'responseBodyBytes' | 'requestBodyLimitAction' | 'responseBodyLimitAction'
>

const LIMIT_ACTIONS = { reject: 'Reject', process_partial: 'ProcessPartial' } as const
/** What `waf.request_body` may be at most, and one. */
const LARGEST_BODY_BYTES = 2 ** 30 + 1

/**
 * The settings and rules that CRS assumes of the engine around it, which the engine has with it, under our own limits:
 * what `waf.request_body` and `waf.response_body` let in is inspected whole (T-40).
 */
export function engineSource(settings: BodyLimits): RuleSource {
  const rejects = settings.requestBodyLimitAction === 'reject'
  const lines = [
    'SecRuleEngine On',
    'Include @recommended',
    `SecRequestBodyLimit ${settings.requestBodyBytes}`,
    `SecRequestBodyLimitAction ${LIMIT_ACTIONS[settings.requestBodyLimitAction]}`,
    // a larger one is no fault where only its beginning is looked at
    `SecRequestBodyNoFilesLimit ${rejects ? settings.requestBodyBytes : LARGEST_BODY_BYTES}`,
    `SecResponseBodyLimit ${settings.responseBodyBytes}`,
    `SecResponseBodyLimitAction ${LIMIT_ACTIONS[settings.responseBodyLimitAction]}`,
  ]
  return { path: 'sallyport:engine.conf', text: `${lines.join('\n')}\n` }
}

/** Where `crs install` puts the rule set of a gateway. */
export function installedRulesFolder(stateDir: string): string {
  return join(stateDir, 'crs', 'current')
}

/**
 * Reads everything through `reader`, so that workers are given the same texts. `folder` holds a CRS distribution
 * (`crs-setup.conf[.example]` and `rules/`) or just the rule files. Undefined after errors.
 */
export function readRuleFiles(
  settings: Settings['waf'],
  folder: string,
  reader: FileReader,
  diagnostics: Diagnostics,
): RuleSetSources | undefined {
  const rulesFolder = [join(folder, 'rules'), folder].find((place) => rulesIn(place, reader).length > 0)
  if (rulesFolder === undefined) {
    const hint = 'run `sallyport crs install`, or name a folder with rules under waf.rules'
    diagnostics.error(
      'WAF_RULES_MISSING',
      `no rule files (*.conf) in ${folder}, which owasp-crs actions need`,
      undefined,
      hint,
    )
    return undefined
  }
  const setup = [
    join(folder, 'crs-setup.conf'),
    join(rulesFolder, 'crs-setup.conf'),
    join(folder, 'crs-setup.conf.example'),
  ]
    .flatMap((path) => reader.list(path))
    .slice(0, 1)
  const rules = rulesIn(rulesFolder, reader)
  const read = (path: string): RuleSource => ({ path, text: reader.read(path).text })
  const text = ({ path, text }: { path: string; text: string }): RuleSource => ({ path, text })
  const files = [
    engineSource(settings),
    ...settings.includeBefore.map(text),
    ...setup.map(read),
    ...rules.map(read),
    ...settings.includeAfter.map(text),
  ]
  return { files, data: readNamedFiles(files, reader, diagnostics), leftOut: settings.leaveOutRules }
}

/** How many files rules may name, beyond those of the configuration. */
const MOST_NAMED = 1_000

/**
 * What `files` name, and what these name: phrase lists, address lists, code-page maps, included rules. One that is not
 * there is not an error here: the loader says so at its place, and takes built-in ones instead.
 */
function readNamedFiles(files: readonly RuleSource[], reader: FileReader, diagnostics: Diagnostics): RuleSource[] {
  const known = new Set(files.map(({ path }) => path))
  const named: RuleSource[] = []
  const open = [...files]
  for (let source = open.shift(); source !== undefined; source = open.shift()) {
    for (const reference of ruleFileReferences(source)) {
      // the reader knows no classes: it lists more, and the loader takes what matches
      const pattern = reference.isPattern ? reference.path.replace(/\[[^\]/]+\]/g, '?') : reference.path
      for (const path of reader.list(pattern)) {
        if (known.has(path)) continue
        known.add(path)
        const place = new SourceFile(source.path, source.text)
        const start = place.offset(reference.line, reference.column)
        const span = { source: place, start, end: start + 1 }
        if (named.length >= MOST_NAMED) {
          diagnostics.error('WAF_RULES_TOO_MANY', `rules name more than ${MOST_NAMED} files`, span)
          return named
        }
        const text = readOrReport(path, reader, diagnostics, span)?.text
        if (text === undefined) continue
        named.push({ path, text })
        if (reference.holdsRules) open.push({ path, text })
      }
    }
  }
  return named
}

/** By name; the set-up alone makes no rule set. */
function rulesIn(folder: string, reader: FileReader): readonly string[] {
  return reader.list(join(folder, '*.conf')).filter((path) => !basename(path).startsWith('crs-setup'))
}
