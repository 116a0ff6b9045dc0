/**
 * Reading and checking a configuration as the primary does: from disk, or from what was kept of the last good one.
 *
 * Source: operations.md O-02, O-23, O-29.
 */
import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import { reportDates, type ServerCertificate } from '../config/certificate.ts'
import { BundleReader, DiskReader, loadBundle, loadConfiguration } from '../config/load.ts'
import type { ConfigurationBundle, ConfigurationInput, LoadedConfiguration } from '../config/load.ts'
import type { FileReader } from '../config/reader.ts'
import { reportDiagnostic, type DiagnosticReport } from './diagnostic-report.ts'
import type { CheckedConfiguration } from './primary.ts'
import { checkConfiguration } from './snapshot.ts'
import { defaultStateDir } from './state-dir.ts'

/** Checked, with what `run` must know before there is a primary. */
export interface LoadedAndChecked extends CheckedConfiguration {
  readonly bundle: ConfigurationBundle
  readonly stateDir: string
  /** Every error says that a file could not be had: the content itself may be as good as before. */
  readonly isUnreadable: boolean
}

/** Errors about files, not about what they say. */
const UNREADABLE = new Set(['FILE_NOT_FOUND', 'FILE_NOT_READABLE', 'NO_CONFIGURATION'])

/**
 * What `check` does, and `run` and a reload begin with. Opens no socket. Never rejects for bad content. What is right
 * but cannot be served here is an error only for those who want to serve it.
 */
export async function checkFromDisk(
  input: ConfigurationInput,
  purpose: 'check' | 'run' = 'run',
): Promise<LoadedAndChecked> {
  const reader = new DiskReader()
  const loaded = loadConfiguration(input, reader)
  const stateDir = stateDirOf(loaded)
  const certificates = await check(loaded, reader, stateDir)
  for (const certificate of certificates) reportDates(certificate, Date.now(), loaded.diagnostics)
  // the check has read more files: rule sets
  return checked(loaded, certificates, { ...reader.recorded(), input }, stateDir, purpose)
}

/** The same for texts that were kept. */
export async function checkBundle(bundle: ConfigurationBundle): Promise<LoadedAndChecked> {
  const loaded = loadBundle(bundle)
  const stateDir = stateDirOf(loaded)
  const certificates = await check(loaded, new BundleReader(bundle), stateDir)
  return checked(loaded, certificates, bundle, stateDir, 'run')
}

/** Absolute: what is read below it is recorded under this name, and workers ask for it under the same. */
function stateDirOf(loaded: LoadedConfiguration): string {
  return resolve(loaded.settings.stateDir ?? defaultStateDir())
}

async function check(
  loaded: LoadedConfiguration,
  reader: FileReader,
  stateDir: string,
): Promise<readonly ServerCertificate[]> {
  try {
    return await checkConfiguration(loaded, reader, stateDir)
  } catch (error) {
    // a missing native part, a file that vanished between two looks: an error like any other
    loaded.diagnostics.error('CONFIGURATION', error instanceof Error ? error.message : String(error))
    return []
  }
}

function checked(
  loaded: LoadedConfiguration,
  certificates: readonly ServerCertificate[],
  bundle: ConfigurationBundle,
  stateDir: string,
  purpose: 'check' | 'run',
): LoadedAndChecked {
  const { diagnostics, settings } = loaded
  const reports: readonly DiagnosticReport[] = diagnostics.all.map((diagnostic) =>
    reportDiagnostic(
      purpose === 'run' && diagnostic.refusesRun === true ? { ...diagnostic, severity: 'error' } : diagnostic,
    ),
  )
  const errors = reports.filter(({ severity }) => severity === 'error')
  return {
    reports,
    settings: errors.length > 0 ? undefined : settings,
    certificates: endsOf(certificates),
    bundle,
    endpoints: loaded.endpoints,
    dns: settings.upstream.dns,
    fingerprint: createHash('sha256').update(JSON.stringify(bundle)).digest('hex'),
    stateDir,
    isUnreadable: errors.length > 0 && errors.every(({ code }) => UNREADABLE.has(code)),
  }
}

/** The earliest end wins where a name has several. */
function endsOf(certificates: readonly ServerCertificate[]): CheckedConfiguration['certificates'] {
  const ends = new Map<string, number>()
  for (const { names, notAfterMs } of certificates) {
    for (const name of names) ends.set(name, Math.min(ends.get(name) ?? Infinity, notAfterMs))
  }
  return [...ends].map(([name, notAfterMs]) => ({ name, notAfterMs }))
}
