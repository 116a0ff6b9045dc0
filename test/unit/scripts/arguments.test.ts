/** What a newcomer tries first with each command of package.json that has options. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

const COMMANDS = ['bench', 'bench:micro', 'bench:proxy', 'bench:waf', 'conformance:http1', 'demo', 'fuzz', 'test']
const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }

/** Runs the script of package.json as npm would. */
function run(name: string, argument: string): { status: number | null; stdout: string; stderr: string } {
  const [program, ...args] = scripts[name]!.split(' ')
  expect(program).toBe('node')
  return spawnSync(process.execPath, [...args, argument], { encoding: 'utf8', timeout: 20_000 })
}

test.each(COMMANDS)('npm run %s tells what it takes, and does nothing else', (name) => {
  const { status, stdout } = run(name, '--help')
  expect(stdout).toMatch(/^usage: npm (?:run )?[a-z]/)
  expect(status).toBe(0)
})

test.each(COMMANDS)('npm run %s refuses an option that it does not have', (name) => {
  const { status, stdout, stderr } = run(name, '--no-such-option')
  expect(stderr).toMatch(/^Unknown option '--no-such-option'\nusage: npm /)
  expect(stdout).toBe('')
  expect(status).toBe(2)
})
