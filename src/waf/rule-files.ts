/**
 * Which SecLang texts make up the rule set, and in which order: engine configuration, includes before, CRS set-up,
 * CRS rules by file name, includes after.
 *
 * Source: seclang.md §2 (order of files), §3 and §11 (engine configuration around CRS).
 */
import { basename, join } from 'node:path'
import type { Diagnostics } from '../config/diagnostic.ts'
import type { FileReader } from '../config/reader.ts'
import type { Settings } from '../config/settings.ts'
import type { RuleSetSources, RuleSource } from '../native.ts'

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
  return {
    files: [
      engineSource(settings),
      ...settings.includeBefore.map(text),
      ...setup.map(read),
      ...rules.map(read),
      ...settings.includeAfter.map(text),
    ],
    data: reader.list(join(rulesFolder, '*.data')).map(read),
    leftOut: settings.leaveOutRules,
  }
}

/** By name; the set-up alone makes no rule set. */
function rulesIn(folder: string, reader: FileReader): readonly string[] {
  return reader.list(join(folder, '*.conf')).filter((path) => !basename(path).startsWith('crs-setup'))
}
