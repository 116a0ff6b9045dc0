/** Threads load built files: these tests build the tasks, and nothing else, into a folder of their own. */
import { execFileSync } from 'node:child_process'
import { generateKeyPairSync, sign } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { NATIVE_ADDON_PATH } from '../../../src/native/addon.ts'
import {
  createProfile,
  endTransaction,
  loadRuleSet,
  SCAN_INTERRUPTED,
  scanFlags,
  scanTransaction,
  transactionDetails,
} from '../../../src/native/rule-set.ts'
import { ThreadPool } from '../../../src/threads/pool.ts'

const CHECKOUT = fileURLToPath(new URL('../../../', import.meta.url))
/** A small checkout of its own: built files in dist/, and what they look for beside it. */
const FOLDER = mkdtempSync(join(tmpdir(), 'sallyport-threads-'))
const BUILT = join(FOLDER, 'dist')
const directory = pathToFileURL(join(BUILT, 'threads/'))

beforeAll(() => {
  for (const name of ['native', 'node_modules', 'package.json']) symlinkSync(join(CHECKOUT, name), join(FOLDER, name))
  const tasks = ['jwt-verify', 'waf-scan'].map((name) => join(CHECKOUT, `src/threads/${name}.task.ts`))
  const flags =
    '--target es2023 --lib es2023 --module nodenext --types node --rewriteRelativeImportExtensions --skipLibCheck'
  const tsc = join(CHECKOUT, 'node_modules/typescript/bin/tsc')
  const folders = ['--rootDir', join(CHECKOUT, 'src'), '--outDir', BUILT, '--ignoreConfig']
  execFileSync(process.execPath, [tsc, ...flags.split(' '), ...folders, ...tasks], { cwd: CHECKOUT })
}, 60_000)

afterAll(() => rmSync(FOLDER, { recursive: true, force: true }))

let pool: ThreadPool | undefined
afterEach(async () => {
  await pool?.close()
  pool = undefined
})

const pair = generateKeyPairSync('ec', { namedCurve: 'P-384' })
const input = Buffer.from('header.payload')
const signature = sign('sha384', input, { key: pair.privateKey, dsaEncoding: 'ieee-p1363' })

describe('the thread pool', () => {
  it('starts no thread before there is work', () => {
    pool = new ThreadPool({ taskDirectory: directory })
    expect(pool.counters).toEqual({ threads: 0, queued: 0, completed: 0, declined: 0 })
  })

  it('checks signatures', async () => {
    pool = new ThreadPool({ taskDirectory: directory, maxThreads: 1 })
    expect(await pool.verifySignature('ES384', pair.publicKey, input, signature)).toBe(true)
    expect(await pool.verifySignature('ES384', pair.publicKey, Buffer.from('other'), signature)).toBe(false)
    expect(input.toString()).toBe('header.payload') // nothing of ours was moved away
    expect(pool.counters).toMatchObject({ threads: 1, completed: 2 })
  })

  it('takes no task when too many wait', async () => {
    pool = new ThreadPool({ taskDirectory: directory, maxThreads: 1, maxQueue: 2 })
    const tasks = Array.from({ length: 20 }, () => pool!.verifySignature('ES384', pair.publicKey, input, signature))
    const taken = tasks.filter((task) => task !== undefined)
    expect(taken.length).toBeLessThan(20)
    expect(taken.length).toBeGreaterThanOrEqual(2)
    expect(await Promise.all(taken)).toEqual(taken.map(() => true))
    expect(pool.counters.declined).toBe(20 - taken.length)
  })

  it('lets idle threads end', async () => {
    pool = new ThreadPool({ taskDirectory: directory, maxThreads: 1, idleTimeoutMs: 50 })
    await pool.verifySignature('ES384', pair.publicKey, input, signature)
    const until = Date.now() + 5000
    while (pool.counters.threads > 0 && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20))
    expect(pool.counters.threads).toBe(0)
    expect(await pool.verifySignature('ES384', pair.publicKey, input, signature)).toBe(true)
  })

  it('rejects what waits when it is closed', async () => {
    pool = new ThreadPool({ taskDirectory: directory, maxThreads: 1 })
    const task = pool.verifySignature('ES384', pair.publicKey, input, signature)
    const settled = expect(task).rejects.toThrow()
    await pool.close()
    await settled
  })

  it.skipIf(!existsSync(NATIVE_ADDON_PATH))(
    'scans bodies with the rule set of the process (skipped: the addon is not built)',
    async () => {
      const text = [
        'SecRuleEngine On',
        'SecRequestBodyAccess On',
        'SecRule ARGS "@contains attack" "id:1,phase:2,deny,status:403,log,msg:\'found\'"',
      ].join('\n')
      const ruleSet = await loadRuleSet({ files: [{ path: 'test.conf', text }], data: [], leftOut: [] })
      const limits = { requestBodyLimit: 131_072, responseBodyLimit: 131_072, excludeRuleIds: [] }
      const profile = createProfile(ruleSet, { ...limits, requestBodyAccess: true, responseBodyAccess: true })
      pool = new ThreadPool({ taskDirectory: directory, maxThreads: 1 })
      const client = '192.0.2.1 1234 192.0.2.2 80'
      const requestId = 'request-1'
      const scan = async (body: Buffer): Promise<number> => {
        const head = `POST /x HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: ${body.length}\r\n`
        return (await pool!.scan({ kind: 'request', profile, client, requestId, head, body, isLast: false }))!
      }
      const body = Buffer.from(`q=${'x'.repeat(100_000)}&r=attack`)
      const bad = await scan(body)
      expect(scanFlags(bad) & SCAN_INTERRUPTED).toBe(SCAN_INTERRUPTED)
      // the transaction that the thread began is known here
      expect(transactionDetails(scanTransaction(bad)).interruption).toMatchObject({ status: 403, ruleId: 1 })
      endTransaction(scanTransaction(bad))
      expect(body.length).toBe(100_011) // the caller's bytes stay whole
      const fine = await scan(Buffer.from('q=hello'))
      expect(scanFlags(fine) & SCAN_INTERRUPTED).toBe(0)
      endTransaction(scanTransaction(fine))
    },
  )
})
