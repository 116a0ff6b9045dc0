/**
 * `npm run conformance:NAME -- [--dir D]`: one conformance suite, over the shared data beside the checkout or over the
 * folder D, which holds cases of the same format. `conformance:http1` takes `--address HOST:PORT`, too: the cases are then
 * sent to whatever listens there, and must be forwarded to `--upstream PORT` of this machine (default 9000). Lists, one
 * upstream per address, are worked through side by side: `--address 127.0.0.1:8001,127.0.0.1:8002 --upstream 9001,9002`. `--engine native` runs
 * the native front end alone. The last line is `N passed, N failed, N skipped`.
 */
import { join, resolve } from 'node:path'
import { failUsage, readArguments } from './arguments.mjs'
import { ensureLibmodsecurity } from './ensure-servers.mjs'
import { runAndWatch } from './run-and-watch.mjs'
import { root, setUp } from './set-up.mjs'

/** How each suite runs, and the variable that names its folder. */
const SUITES = {
  cel: { vitest: 'test/conformance/cel', folder: 'SALLYPORT_CEL_DIR' },
  // over sockets; the same tests without them are among the engine's own (cargo test -p sallyport-engine)
  crs: { vitest: 'test/conformance/crs', folder: 'SALLYPORT_CRS_TESTS' },
  http1: { vitest: 'test/conformance/http1', folder: 'SALLYPORT_HTTP1_DIR' },
  jwt: { vitest: 'test/conformance/jwt', folder: 'CORPORA_DIR' },
  libinjection: {
    cargo: ['-p', 'sallyport-libinjection', '--test', 'vectors'],
    folder: 'SALLYPORT_LIBINJECTION_VECTORS',
  },
  policies: { vitest: 'test/conformance/policies', folder: 'SALLYPORT_POLICIES_DIR' },
  // against libmodsecurity, which the set-up installs
  waf: {
    cargo: ['-p', 'sallyport-engine', '--test', 'waf_differential'],
    folder: 'SALLYPORT_WAF_CORPORA',
    prepare: ensureLibmodsecurity,
  },
  // single cases of two families, and whole transactions of libmodsecurity's where D has `modsecurity-v3-regression`
  seclang: {
    cargo: ['-p', 'sallyport-engine', '--test', 'seclang_vectors', '--test', 'modsecurity_v3'],
    folder: 'SALLYPORT_SECLANG_VECTORS',
  },
}

const USAGE = `usage: npm run conformance:NAME -- [--dir D]
  --dir D            cases of the same format instead of the shared ones
conformance:http1 takes, too:
  --engine native    the native front end alone
  --address A        judge what listens at HOST:PORT (a list: one upstream for each)
  --upstream PORT    where that forwards to, on this machine (9000)
suites: ${Object.keys(SUITES).join(', ')}`
const text = { type: 'string' }
const { values, positionals } = readArguments(
  USAGE,
  { dir: text, address: text, upstream: text, engine: text },
  { allowPositionals: true },
)
const suite = SUITES[positionals[0]]
if (suite === undefined) failUsage(`unknown suite ${positionals[0]}`, USAGE)

setUp()
suite.prepare?.()
const env = {
  ...process.env,
  ...(values.dir === undefined ? {} : { [suite.folder]: resolve(values.dir) }),
  ...(values.address === undefined ? {} : { SALLYPORT_HTTP1_ADDRESS: values.address }),
  ...(values.upstream === undefined ? {} : { SALLYPORT_HTTP1_UPSTREAM: values.upstream }),
}
if (values.engine === 'native') suite.vitest = 'test/conformance/http1/native.test.ts'
if (values.address !== undefined) suite.vitest = 'test/conformance/http1/foreign.test.ts'
const { status, lines } =
  suite.vitest === undefined
    ? await runAndWatch('cargo', ['test', '--release', ...suite.cargo, '--', '--nocapture'], {
        cwd: join(root, 'native'),
        env,
      })
    : await runAndWatch(
        process.execPath,
        ['node_modules/vitest/vitest.mjs', 'run', '--project', 'conformance', suite.vitest],
        { env },
      )

const sum = { passed: 0, failed: 0, skipped: 0 }
for (const line of lines) {
  const match = /(\d+) passed, (\d+) failed, (\d+) skipped/.exec(line)
  if (match === null) continue
  sum.passed += Number(match[1])
  sum.failed += Number(match[2])
  sum.skipped += Number(match[3])
}
process.stdout.write(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped\n`)
process.exit(status)
