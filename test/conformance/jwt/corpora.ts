/** Where the JWT corpora lie, how a case is named, and the count that every run prints. */
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

const CHECKOUT = fileURLToPath(new URL('../../..', import.meta.url))

/** Folder of a corpus: its own variable, else CORPORA_DIR, else beside the checkout. */
export function corpusFolder(name: 'jwt-attacks' | 'jwt-rfc' | 'jwt-wycheproof'): string {
  const own = process.env[`${name.toUpperCase().replace('-', '_')}_DIR`]
  return resolve(own ?? join(process.env['CORPORA_DIR'] ?? join(CHECKOUT, '../shared/corpora'), name))
}

export function readCorpus<T>(name: Parameters<typeof corpusFolder>[0], file: string): T | undefined {
  const path = join(corpusFolder(name), file)
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as T) : undefined
}

export const isSharedPresent: boolean = existsSync(join(CHECKOUT, '../shared/corpora'))

interface Expectation {
  readonly cases: readonly string[]
  /** What happens instead: `status 403`, or `skipped`. */
  readonly instead: string
  readonly reason: string
}

/** Every deviation with its reason; see expectations.yaml. */
const expectations = parse(readFileSync(new URL('./expectations.yaml', import.meta.url), 'utf8')) as Expectation[]
const byCase = new Map(expectations.flatMap((entry) => entry.cases.map((name) => [name, entry] as const)))

/** Counts cases of all files; a failure carries its sentence. */
export class Tally {
  passed = 0
  skipped = 0
  readonly failures: string[] = []
  readonly #used = new Set<string>()

  /** `problem`: what is wrong, or undefined. `instead`: what was observed, to be compared with a written deviation. */
  record(name: string, problem: string | undefined, instead = 'other'): void {
    const expected = byCase.get(name)
    if (expected === undefined) {
      if (problem === undefined) this.passed++
      else this.failures.push(`${name}: ${problem}`)
      return
    }
    this.#used.add(name)
    if (problem === undefined) this.failures.push(`${name}: passes, but expectations.yaml says it does not`)
    else if (expected.instead === instead) this.passed++
    else this.failures.push(`${name}: ${problem} (written deviation: ${expected.instead})`)
  }

  /** A case that is not run; its reason stands in expectations.yaml. */
  skip(name: string): void {
    const expected = byCase.get(name)
    if (expected?.instead !== 'skipped') this.failures.push(`${name}: skipped without a reason in expectations.yaml`)
    this.#used.add(name)
    this.skipped++
  }

  /** Deviations of cases that no longer exist, among those whose name begins with `prefix`. */
  stale(prefix: string): string[] {
    return [...byCase.keys()].filter((name) => name.startsWith(prefix) && !this.#used.has(name))
  }
}
