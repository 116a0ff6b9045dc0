/** Debian's Chromium, driven by playwright-core, with a profile of its own that ends with it. */
import { existsSync } from 'node:fs'
import { chromium, type Browser } from 'playwright-core'

const EXECUTABLE = '/usr/bin/chromium'

/** Undefined when there is a browser; else why not, as a line for the report. */
export const browserSkipReason: string | undefined = existsSync(EXECUTABLE)
  ? undefined
  : `skipped: ${EXECUTABLE} is not there: no tests with a browser`
if (browserSkipReason !== undefined) process.stdout.write(`${browserSkipReason}\n`)

/** A context is a person: cookies of its own. Names under `.localhost` are the loopback. */
export async function startBrowser(): Promise<Browser> {
  return await chromium.launch({
    executablePath: EXECUTABLE,
    headless: true,
    args: [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--disable-dev-shm-usage',
    ],
  })
}
