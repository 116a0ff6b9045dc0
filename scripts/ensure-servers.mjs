/** Programs that tests run against: taken from PATH, else installed from Debian's packages when root, else missing with a reason. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { has } from './set-up.mjs'

let listsAreFresh = false

/** Installs a Debian package; false when that cannot be done here. Services it brings do not start. */
function install(name) {
  if (process.getuid?.() !== 0 || !has('apt-get')) return false
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' }
  const apt = (args) =>
    spawnSync('apt-get', args, { stdio: ['ignore', 'ignore', 'inherit'], env: environment }).status === 0
  process.stdout.write(`installing ${name} (apt-get)\n`)
  if (!listsAreFresh) listsAreFresh = apt(['update', '-qq'])
  return apt(['install', '-y', '-qq', '--no-install-recommends', name])
}

/** True when redis-server can be started. */
export function ensureRedis() {
  if (has('redis-server')) return true
  if (install('redis-server') && has('redis-server')) return true
  process.stdout.write('skipped: tests with Redis: no redis-server in PATH, and it cannot be installed here\n')
  return false
}

/** True when a program is there or could be installed from the Debian package of that name; says nothing otherwise. */
export function ensureProgram(command, packageName) {
  const isThere = () => spawnSync(command, ['-v'], { stdio: 'ignore' }).error === undefined
  return isThere() || (install(packageName), isThere())
}

/** Makes the certificates of tests. */
export function ensureOpenssl() {
  if (has('openssl', ['version']) || install('openssl')) return
  process.stdout.write('skipped: tests with certificates: no openssl in PATH, and it cannot be installed here\n')
}

const LIBMODSECURITY = [
  '/usr/lib/x86_64-linux-gnu/libmodsecurity.so.3',
  '/usr/lib/aarch64-linux-gnu/libmodsecurity.so.3',
]

/** The library that the detectors are compared with. */
export function ensureLibmodsecurity() {
  if (!LIBMODSECURITY.some((path) => existsSync(path))) install('libmodsecurity3')
}

/** The older rule set that a test loads. */
export function ensureOlderRules() {
  if (!existsSync('/usr/share/modsecurity-crs/rules')) install('modsecurity-crs')
}

/** nginx with ModSecurity, for the benchmark that compares with it. */
export function ensureNginxModsecurity() {
  const isThere = () => has('nginx', ['-v']) && existsSync('/usr/lib/nginx/modules/ngx_http_modsecurity_module.so')
  if (isThere()) return true
  install('nginx')
  install('libnginx-mod-http-modsecurity')
  return isThere()
}

/** The browser that logs in. */
export function ensureChromium() {
  const isThere = () => existsSync('/usr/bin/chromium')
  if (isThere()) return true
  install('chromium')
  if (isThere()) return true
  process.stdout.write('skipped: tests with a browser: no chromium, and it cannot be installed here\n')
  return false
}
