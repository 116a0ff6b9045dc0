/**
 * The demo tells its story, and notices when the gateway does less than it says.
 *
 * Engine: uws, as the demo says.
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { installedRules } from '../support/rule-set.ts'
import { freePorts } from '../support/start-gateway.ts'

const DEMO = fileURLToPath(new URL('../../demo/main.mjs', import.meta.url))

async function play(...options: string[]): Promise<{ code: number | null; lines: string[] }> {
  const [port] = await freePorts(1)
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [DEMO, '--once', '--port', String(port), ...options], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    child.once('close', (code) => resolve({ code, lines: text.split('\n') }))
  })
}

if (installedRules() === undefined) console.log('skipped: the demo: no Core Rule Set is installed')

describe.skipIf(installedRules() === undefined)('npm run demo -- --once', () => {
  it('ends with 0 when the whole story goes as told', async () => {
    const { code, lines } = await play()
    expect(lines.filter((line) => line.startsWith('FAIL'))).toEqual([])
    expect(lines.filter((line) => line.startsWith('ok ')).length).toBeGreaterThanOrEqual(17)
    expect(code, lines.join('\n')).toBe(0)
  })

  for (const [without, expected] of [
    ['waf', /FAIL GET \/api\/users\/1\?id=1' OR/],
    ['jwt', /FAIL GET \/api\/users\/1, no token/],
    ['limit', /FAIL 1050 ×/],
  ] as const) {
    it(`ends with 1 without ${without}`, async () => {
      const { code, lines } = await play('--without', without)
      expect(
        lines.some((line) => expected.test(line)),
        lines.join('\n'),
      ).toBe(true)
      expect(code).toBe(1)
    })
  }
})
