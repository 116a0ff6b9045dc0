/** What the tests of the scripts use of engine-files.mjs. */
export function engineOf(text: string): 'none' | 'uws' | 'native' | undefined
export function integrationFiles(): { readonly file: string; readonly text: string }[]
export function filesOfEngines(): string[]
