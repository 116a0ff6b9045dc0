/** Sees to it that a redis-server is in PATH for the integration tests; installs Debian's package when it may, else says why not. */
import { spawnSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

/** Whether a program can be run from PATH (Debian puts servers where a user's PATH may not look). */
function has(program) {
  return [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin'].some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

function run(program, args, environment = {}) {
  return spawnSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, ...environment } })
}

function skip(reason) {
  process.stdout.write(`skipped: tests with a real redis-server: ${reason}\n`)
  process.exit(0)
}

if (has('redis-server')) process.exit(0)
if (process.getuid?.() !== 0)
  skip('redis-server is not in PATH and only root may install it (Debian: apt-get install redis-server)')
if (!has('apt-get')) skip('redis-server is not in PATH and there is no apt-get to install it with')

process.stdout.write('redis-server is not in PATH: installing the package redis-server\n')
const quiet = { DEBIAN_FRONTEND: 'noninteractive' }
run('apt-get', ['-qq', 'update'], quiet)
// policy-rc.d keeps the package from starting its service; where one is configured already it is left alone.
const installed = run('apt-get', ['-qq', 'install', '-y', '--no-install-recommends', 'redis-server'], {
  ...quiet,
  RUNLEVEL: '1',
})
if (installed.status !== 0 || !has('redis-server')) skip('apt-get could not install redis-server')
// The package may have started its service all the same; the tests start their own.
if (has('systemctl')) run('systemctl', ['stop', 'redis-server'])
else if (has('service')) run('service', ['redis-server', 'stop'])
