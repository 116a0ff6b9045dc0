/**
 * Where rules and tests come from: the folders that the environment names, the shared data beside the checkout, or the
 * Go module that carries both.
 */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export interface SuiteSources {
  /** A CRS distribution: `crs-setup.conf.example` and `rules/`. */
  readonly rules: string
  /** go-ftw test files, in any depth. */
  readonly tests: string
  /** The shared folder as it is: its counts are known. */
  readonly isWhole: boolean
  cleanUp(): void
}

const GO_MODULE = 'github.com/corazawaf/coraza-coreruleset/v4@v4.25.0'
const shared = fileURLToPath(new URL('../../../../shared/crs/', import.meta.url))

/** The folders, or in one sentence why there are none. */
export function findSources(): SuiteSources | string {
  const namedTests = process.env['SALLYPORT_CRS_TESTS']
  const namedRules = process.env['SALLYPORT_CRS_RULES']
  const tests = namedTests ?? join(shared, 'regression')
  const rules = namedRules ?? join(shared, 'rules-v4.28.0')
  const isWhole = namedTests === undefined && namedRules === undefined
  if (existsSync(tests) && existsSync(rules)) return { rules, tests, isWhole, cleanUp: () => undefined }
  if (namedTests !== undefined && !existsSync(namedTests)) return `no folder ${namedTests}`
  if (namedRules !== undefined && !existsSync(namedRules)) return `no folder ${namedRules}`
  return fromGoModule(namedTests)
}

/** The module has rules and tests of one tag under names of its own. */
function fromGoModule(namedTests: string | undefined): SuiteSources | string {
  let module: string
  try {
    const answer = execFileSync('go', ['mod', 'download', '-json', GO_MODULE], {
      cwd: tmpdir(),
      encoding: 'utf8',
      timeout: 100_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    module = (JSON.parse(answer) as { Dir: string }).Dir
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === 'ENOENT'
    const why = isMissing ? 'there is no `go` command' : `\`go mod download\` failed: ${(error as Error).message}`
    return `no shared data beside the checkout, and ${why.split('\n', 1)[0]}`
  }
  const rules = mkdtempSync(join(tmpdir(), 'sallyport-crs-'))
  cpSync(join(module, 'rules', '@owasp_crs'), join(rules, 'rules'), { recursive: true })
  cpSync(join(module, 'rules', '@crs-setup.conf.example'), join(rules, 'crs-setup.conf.example'))
  return {
    rules,
    tests: namedTests ?? join(module, 'tests'),
    isWhole: false,
    cleanUp: () => rmSync(rules, { recursive: true, force: true }),
  }
}
