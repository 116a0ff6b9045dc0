/** From flags to the configuration they mean. */
import { resolve } from 'node:path'
import { DiskReader, loadConfiguration, type ConfigurationInput, type SettingOverride } from '../config/load.ts'
import type { VaultSettings } from '../config/settings.ts'
import { defaultStateDir } from '../process/state-dir.ts'
import type { Arguments } from './arguments.ts'

/** Flags that stand for a setting. */
const SETTING_FLAGS: readonly (readonly [flag: string, key: string])[] = [
  ['state-dir', 'state_dir'],
  ['workers', 'workers'],
  ['log-level', 'log_level'],
]

/**
 * What `-c` and the flags that stand for settings say. Flags a verb does not have are not given.
 *
 * @param filesFlag the flag that names files of settings
 */
export function configurationInput(given: Arguments, filesFlag = 'config'): ConfigurationInput {
  const overrides = SETTING_FLAGS.flatMap(([flag, key]): SettingOverride[] => {
    const text = given.text(flag)
    return text === undefined ? [] : [{ key, text, origin: `--${flag}` }]
  })
  const files = filesOf(given, filesFlag)
  return { files, ...(overrides.length === 0 ? {} : { overrides }) }
}

/** Every file of a flag that may repeat; ngrok's commands take several with commas. */
export function filesOf(given: Arguments, flag: string): string[] {
  return given.list(flag).flatMap((value) => (value === '-' ? [value] : value.split(',')))
}

/** Settings of the configuration, as far as it can be read; the state folder is always known. */
export function settingsOf(given: Arguments): { readonly stateDir: string; readonly vaults: VaultSettings } {
  const { settings } = loadConfiguration(configurationInput(given), new DiskReader())
  return { stateDir: resolve(settings.stateDir ?? defaultStateDir()), vaults: settings.vaults }
}

/**
 * Where the running instance has its state folder: the flag, else the configuration, else the default. A configuration
 * with errors still says where: it may be the one that a reload is about to refuse.
 */
export function stateDirOf(given: Arguments): string {
  const flag = given.text('state-dir')
  if (flag !== undefined) return flag
  const input = configurationInput(given)
  if (input.files.includes('-')) return defaultStateDir()
  return loadConfiguration(input, new DiskReader()).settings.stateDir ?? defaultStateDir()
}
