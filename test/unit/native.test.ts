/** The typed binding against the built addon: the same exports, typed errors, and what crosses the boundary. */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { afterAll, describe, expect, it } from 'vitest'
import * as native from '../../src/native/rule-set.ts'
import { NATIVE_ADDON_PATH, NATIVE_EXPORTS } from '../../src/native/addon.ts'
import { bucketsSummary, closeBuckets, createBuckets, openBuckets, takeBucket } from '../../src/native/buckets.ts'
import {
  type CollectionsHandle,
  closeCollections,
  collectionsSummary,
  createCollections,
  openCollections,
} from '../../src/native/collections.ts'
import {
  PatternError,
  compilePattern,
  patternFindAll,
  patternReplace,
  patternTest,
  releasePattern,
} from '../../src/native/pattern.ts'

const folder = mkdtempSync(join(tmpdir(), 'sallyport-native-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1')
const CLIENT = '198.51.100.7 50123 192.0.2.1 8080'
const ID = 'request-1'
const HEAD = 'GET /search?q=union+select HTTP/1.1\r\nhost: a.example\r\n'
const PLAIN = 'GET / HTTP/1.1\r\nhost: a.example\r\n'

const RULES = `
SecRuleEngine On
SecRequestBodyAccess On
SecResponseBodyAccess On
SecRule ARGS "@rx union" "id:100,phase:2,deny,status:403,log,msg:'SQL',severity:CRITICAL,tag:'attack-sqli'"
SecRule RESPONSE_BODY "@contains ORA-00933" "id:200,phase:4,deny,status:502,log,msg:'leak'"
`

async function profileOf(text: string, more: Partial<native.ProfileOptions> = {}): Promise<native.ProfileHandle> {
  const ruleSet = await native.loadRuleSet({ files: [{ path: 'rules/a.conf', text }], data: [], leftOut: [] })
  const profile = native.createProfile(ruleSet, {
    excludeRuleIds: [],
    requestBodyAccess: true,
    responseBodyAccess: true,
    requestBodyLimit: 1000,
    responseBodyLimit: 1000,
    ...more,
  })
  native.releaseRuleSet(ruleSet) // the profile keeps it
  return profile
}

describe('the addon', () => {
  it('exports what src/native/addon.ts declares, and nothing else', () => {
    const addon = createRequire(import.meta.url)(NATIVE_ADDON_PATH) as Record<string, unknown>
    expect(Object.keys(addon).sort()).toEqual([...NATIVE_EXPORTS].sort())
    expect(Object.values(addon).every((value) => typeof value === 'function')).toBe(true)
  })

  it('declares each export once, with the parameters that Rust has', () => {
    const declared = readFileSync(new URL('../../src/native/addon.ts', import.meta.url), 'utf8')
    const body = /interface NativeAddon \{([\s\S]*?)\n\}/.exec(declared)?.[1] ?? ''
    const parameters = new Map(
      [...body.matchAll(/^ {2}(\w+)\(([\s\S]*?)\): /gm)].map((match) => [
        match[1],
        (match[2] ?? '').split(',').filter((part) => part.trim() !== '').length,
      ]),
    )
    expect([...parameters.keys()].sort()).toEqual([...NATIVE_EXPORTS].sort())
    const binding = [
      'buckets',
      'collections',
      'front',
      'held_scan',
      'library_head',
      'listening',
      'pattern',
      'raw',
      'raw_exports',
      'rule_set',
      'scan',
      'shared_memory',
      'tls',
      'upstream',
    ]
      .map((file) => readFileSync(new URL(`../../native/binding/src/${file}.rs`, import.meta.url), 'utf8'))
      .join('\n')
    const exported = [
      ...binding.matchAll(/#\[napi\(catch_unwind\)\]\s*pub fn (\w+)(?:<'env>)?\(([\s\S]*?)\)(?: ->| \{)/g),
    ]
    // Those without napi-rs's conversions: a table, and their parameters in words.
    const raw = [...binding.matchAll(/^ {4}\("(\w+)", crate::/gm)].map(([, name]) => name!)
    expect(exported.length + raw.length).toBe(NATIVE_EXPORTS.length)
    // Without catch_unwind a panic aborts the whole process; the raw ones catch by themselves.
    expect(binding.match(/#\[napi(?!\(module_exports\))/g)).toHaveLength(exported.length)
    for (const name of raw) {
      const list = new RegExp(`^/// \`${name}\\(([^)]*)\\)`, 'm').exec(binding)?.[1]
      expect([name, list?.split(',').length]).toEqual([name, parameters.get(name)])
    }
    for (const [, snake, list] of exported) {
      const camel = (snake ?? '').replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
      // the environment is not JavaScript's to give
      const count = (list ?? '').split(',').filter((part) => part.trim() !== '' && !part.includes('env:')).length
      expect([camel, count]).toEqual([camel, parameters.get(camel)])
    }
  })

  it('says in one sentence what to run when it is missing', () => {
    const copy = join(folder, 'elsewhere', 'src', 'native')
    mkdirSync(copy, { recursive: true })
    // Types are stripped by hand here: the file as JavaScript, in a place without native/sallyport.node.
    cpSync(new URL('../../src/native/addon.ts', import.meta.url), join(copy, 'addon.ts'))
    const script = `
      import { createServer } from 'vite'
      const server = await createServer({ configFile: false, logLevel: 'silent', server: { middlewareMode: true }, appType: 'custom', optimizeDeps: { noDiscovery: true } })
      const module = await server.ssrLoadModule(${JSON.stringify(join(copy, 'addon.ts'))})
      try { module.loadNative() } catch (error) { console.log(error.name + ': ' + error.message) }
      await server.close()
    `
    const printed = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      cwd: new URL('../..', import.meta.url),
    })
    expect(printed.trim()).toBe(
      `NativeAddonError: The native part (${join(folder, 'elsewhere', 'native', 'sallyport.node')}) is not built: run \`npm run build\`.`,
    )
  })

  it('shares handles with the threads of the process', async () => {
    const pattern = compilePattern('^a+$')
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads')
       const addon = require(workerData.path)
       parentPort.postMessage(addon.patternTest(workerData.pattern, 'aaa'))`,
      { eval: true, workerData: { path: NATIVE_ADDON_PATH, pattern } },
    )
    const answer = await new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    expect(answer).toBe(true)
    await worker.terminate()
  })
})

describe('rule sets', () => {
  it('a request is scanned, explained and ended', async () => {
    const profile = await profileOf(RULES)
    const answer = native.scanRequest(profile, CLIENT, ID, HEAD, null)
    expect(native.scanFlags(answer)).toBe(native.SCAN_MATCHED | native.SCAN_INTERRUPTED)
    const transaction = native.scanTransaction(answer)
    expect(native.transactionDetails(transaction)).toMatchObject({
      interruption: { phase: 2, status: 403, ruleId: 100 },
      matches: [
        { id: 100, phase: 2, message: 'SQL', variable: 'ARGS:q', value: 'union select', tags: ['attack-sqli'] },
      ],
      bodyError: null,
    })
    native.endTransaction(transaction)
    native.endTransaction(transaction)
    expect(() => native.transactionDetails(transaction)).toThrow(/no transaction has the handle/)
    native.releaseProfile(profile)
    expect(() => native.scanRequest(profile, CLIENT, ID, HEAD, null)).toThrow(/no profile has the handle/)
  })

  it('a head of any length is read, a character as a byte, and a body that is a text as UTF-8', async () => {
    const rules = [
      'SecRule REQUEST_HEADERS:x "@rx ^\\xe9+$" "id:1,phase:1,pass,log,msg:\'head\',chain"',
      'SecRule REQUEST_HEADERS:x "@eq 200000" "t:length"',
      'SecRule RESPONSE_BODY "@rx ^\\xc3\\xa9\\xe2\\x82\\xac$" "id:2,phase:4,pass,log,msg:\'body\'"',
    ].join('\n')
    const profile = await profileOf(rules)
    const begun = native.scanRequest(profile, CLIENT, ID, `GET / HTTP/1.1\r\nx: ${'é'.repeat(200_000)}\r\n`, null)
    expect(native.scanFlags(begun)).toBe(native.SCAN_MATCHED)
    const transaction = native.scanTransaction(begun)
    const head = 'HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n'
    expect(native.scanFlags(native.scanResponse(transaction, 200, head, 'é€'))).toBe(native.SCAN_MATCHED)
    expect(native.endTransaction(transaction)).toBeUndefined()
  })

  it('the last scan ends a transaction in which nothing was found, and no other', async () => {
    const head = 'HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n'
    const open = native.openTransactions()
    const profile = await profileOf(RULES)
    expect(native.scanRequest(profile, CLIENT, ID, PLAIN, null, true)).toBe(0)
    expect(native.openTransactions()).toBe(open)
    const begun = native.scanTransaction(native.scanRequest(profile, CLIENT, ID, PLAIN, null))
    expect(native.openTransactions()).toBe(open + 1)
    expect(native.scanResponse(begun, 200, head, 'fine', true)).toBe(0)
    expect(native.openTransactions()).toBe(open)
    expect(() => native.scanResponse(begun, 200, head, 'fine', true)).toThrow(/no transaction has the handle/)
    // what was found is asked for, and what phase 5 logs is told at the end
    const found = native.scanRequest(profile, CLIENT, ID, HEAD, null, true)
    expect(native.transactionDetails(native.scanTransaction(found)).interruption?.ruleId).toBe(100)
    native.endTransaction(native.scanTransaction(found))
    const reporting = await profileOf(`SecAction "id:105,phase:5,pass,log,msg:'the end'"`)
    const answer = native.scanRequest(reporting, CLIENT, ID, PLAIN, null, true)
    expect(native.scanFlags(answer)).toBe(0)
    expect(native.endTransaction(native.scanTransaction(answer))?.matches.map(({ id }) => id)).toEqual([105])
    expect(native.openTransactions()).toBe(open)
  })

  it('a response is scanned in the transaction of its request, or in one of its own', async () => {
    const profile = await profileOf(RULES)
    const head = 'HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n'
    const body = bytes('<p>ORA-00933: SQL command not properly ended')
    for (const begun of [
      native.scanRequest(profile, CLIENT, ID, PLAIN, null),
      native.startResponseTransaction(profile, CLIENT, ID, HEAD),
    ]) {
      expect(native.scanFlags(begun)).toBe(0)
      const transaction = native.scanTransaction(begun)
      const answer = native.scanResponse(transaction, 200, head, body)
      expect(native.scanTransaction(answer)).toBe(transaction)
      expect(native.scanFlags(answer)).toBe(native.SCAN_MATCHED | native.SCAN_INTERRUPTED)
      expect(native.transactionDetails(transaction).interruption).toEqual({ phase: 4, status: 502, ruleId: 200 })
      native.endTransaction(transaction)
    }
  })

  it('an excluded rule is silent, and detection alone interrupts nothing', async () => {
    for (const [more, flags] of [
      [{ excludeRuleIds: [100] }, 0],
      [{ detectionOnly: true }, native.SCAN_MATCHED],
    ] as const) {
      const answer = native.scanRequest(await profileOf(RULES, more), CLIENT, ID, HEAD, null)
      expect(native.scanFlags(answer)).toBe(flags)
      native.endTransaction(native.scanTransaction(answer))
    }
  })

  it('exclusions of a direction count for its phases, and for the report at the end', async () => {
    const rules = [1, 2, 3, 4, 5]
      .map((phase) => `SecAction "id:10${phase},phase:${phase},pass,log,msg:'phase ${phase}'"`)
      .join('\n')
    const logged = async (more: Partial<native.ProfileOptions>): Promise<number[]> => {
      const begun = native.scanRequest(await profileOf(rules, more), CLIENT, ID, HEAD, null)
      const transaction = native.scanTransaction(begun)
      const head = 'HTTP/1.1 200 OK\r\n'
      native.scanResponse(transaction, 200, head, null)
      const { matches } = native.transactionDetails(transaction)
      return [...matches, ...(native.endTransaction(transaction)?.matches ?? [])].map(({ id }) => id)
    }
    const all = [101, 102, 103, 104, 105]
    expect(await logged({})).toEqual(all)
    expect(await logged({ excludeRequestRuleIds: all })).toEqual([103, 104])
    expect(await logged({ excludeResponseRuleIds: all })).toEqual([101, 102])
    expect(await logged({ excludeRuleIds: [102, 104] })).toEqual([101, 103, 105])
  })

  it('collections in shared memory are those of every rule set and process that opens them', async () => {
    const path = join(folder, 'collections')
    const created = createCollections(path, 100)
    const text =
      'SecAction "id:1,phase:1,pass,nolog,initcol:ip=%{REMOTE_ADDR},setvar:ip.seen=+1"\n' +
      'SecRule IP:seen "@ge 2" "id:2,phase:1,pass,log,msg:\'%{ip.seen}\'"'
    const scan = async (collections: CollectionsHandle): Promise<string | undefined> => {
      const ruleSet = await native.loadRuleSet(
        { files: [{ path: 'a.conf', text }], data: [], leftOut: [] },
        collections,
      )
      const profile = native.createProfile(ruleSet, {
        requestBodyAccess: false,
        responseBodyAccess: false,
        requestBodyLimit: 1,
        responseBodyLimit: 1,
      })
      const transaction = native.scanTransaction(native.scanRequest(profile, CLIENT, ID, HEAD, null))
      const message = native.transactionDetails(transaction).matches[0]?.message
      native.endTransaction(transaction)
      native.releaseProfile(profile)
      native.releaseRuleSet(ruleSet)
      return message
    }
    const opened = openCollections(path)
    expect([await scan(created), await scan(opened), await scan(0), await scan(opened)]).toEqual([
      undefined,
      '2',
      undefined,
      '3',
    ])
    expect(collectionsSummary(created)).toMatchObject({ evictions: 0, refusals: 0 })
    closeCollections(opened)
    await expect(scan(opened)).rejects.toThrow(/no collection table has the handle/)
    expect(() => openCollections(join(folder, 'nowhere'))).toThrow(/cannot open the collection table/)
    closeCollections(created)
  })

  it('the end tells what phase 5 reported, and only that', async () => {
    const profile = await profileOf(
      `${RULES}\nSecRule TX:bad "@eq 1" "id:300,phase:5,pass,log,msg:'score %{tx.bad}'"\n` +
        `SecRule ARGS:q "@contains bad" "id:301,phase:1,pass,log,setvar:tx.bad=1"`,
    )
    const end = (target: string): native.TransactionDetails | undefined => {
      const head = `GET ${target} HTTP/1.1\r\nhost: a.example\r\n`
      const begun = native.scanTransaction(native.scanRequest(profile, CLIENT, ID, head, null))
      expect(native.openTransactions()).toBe(open + 1)
      return native.endTransaction(begun)
    }
    const open = native.openTransactions()
    expect(end('/?q=good')).toBeUndefined()
    expect(end('/?q=bad')?.matches).toMatchObject([{ id: 300, phase: 5, message: 'score 1' }])
    expect(native.openTransactions()).toBe(open)
  })

  it('details can begin with a phase', async () => {
    const profile = await profileOf(
      'SecAction "id:1,phase:1,pass,log"\nSecAction "id:2,phase:2,pass,log"\nSecAction "id:3,phase:3,pass,log"',
    )
    const transaction = native.scanTransaction(native.scanRequest(profile, CLIENT, ID, HEAD, null))
    const head = 'HTTP/1.1 200 OK\r\n'
    native.scanResponse(transaction, 200, head, null)
    expect(native.transactionDetails(transaction, 3).matches.map(({ id }) => id)).toEqual([3])
    native.endTransaction(transaction)
  })

  it('texts of matches can wait until they are asked for', async () => {
    const profile = await profileOf(
      'SecAction "id:1,phase:1,pass,log,msg:\'one\'"\nSecAction "id:3,phase:3,pass,log,msg:\'three\'"\n' +
        'SecAction "id:5,phase:5,pass,log"',
    )
    const transaction = native.scanTransaction(native.scanRequest(profile, CLIENT, ID, HEAD, null))
    const head = 'HTTP/1.1 200 OK\r\n'
    native.scanResponse(transaction, 200, head, null)
    for (const from of [1, 3]) {
      const at = native.transactionDetails(transaction, from)
      const later = native.transactionDetails(transaction, from, false)
      expect(later.matched).toEqual(at.matched)
      expect(later.matches).toEqual(at.matches)
      expect(later.matches.map(({ message }) => message)).toEqual(from === 1 ? ['one', 'three'] : ['three'])
    }
    const late = native.transactionDetails(transaction, 1, false)
    const end = native.endTransaction(transaction, false)
    expect([end?.matched, end?.matches]).toEqual([[{ id: 5, phase: 5 }], []])
    expect(() => late.matches).toThrow(/no transaction has the handle/)
  })

  it('what is not kept of many matches is counted', async () => {
    const profile = await profileOf('SecRule ARGS "@rx ." "id:1,phase:2,pass,log"')
    const head = `GET /?${Array.from({ length: 600 }, (_, at) => `a${at}=1`).join('&')} HTTP/1.1\r\n`
    const transaction = native.scanTransaction(native.scanRequest(profile, CLIENT, ID, head, null))
    const { matches, matchesLeftOut } = native.transactionDetails(transaction)
    expect([matches.length, matchesLeftOut]).toEqual([512, 88])
    native.endTransaction(transaction)
  })

  it('every error of a load comes back with its place', async () => {
    const text = 'SecRule NOWHERE "@rx a" "id:1,phase:2,deny"\nSecNothing\n'
    const load = native.loadRuleSet({ files: [{ path: 'rules/b.conf', text }], data: [], leftOut: [] })
    const error = await load.catch((reason: unknown) => reason)
    if (!(error instanceof native.RuleSetError)) throw new Error('a RuleSetError was expected')
    expect(error.diagnostics.map(({ path, line }) => `${path}:${line}`)).toEqual(['rules/b.conf:1', 'rules/b.conf:2'])
    expect(error.message).toMatch(/^2 errors in the rule set: rules\/b\.conf:1:/)
  })

  it('facts of a rule set', async () => {
    const ruleSet = await native.loadRuleSet({ files: [{ path: 'a.conf', text: RULES }], data: [], leftOut: [] })
    expect(native.ruleSetSummary(ruleSet)).toMatchObject({ rules: 2, files: 1, leftOut: [] })
    native.releaseRuleSet(ruleSet)
    expect(() => native.ruleSetSummary(ruleSet)).toThrow(/no rule set has the handle/)
    expect(() => native.createProfile(ruleSet, {} as native.ProfileOptions)).toThrow()
  })
})

describe('patterns', () => {
  it('compile, test, replace, find', () => {
    const pattern = compilePattern(String.raw`(?P<word>\w+)-(\d)`)
    expect(patternTest(pattern, 'é ab-1')).toBe(true)
    expect(patternTest(pattern, 'é')).toBe(false)
    expect(patternReplace(pattern, 'ab-1 cd-2', '$2${word}')).toBe('1ab 2cd')
    expect(patternReplace(pattern, 'none', 'x')).toBeNull()
    expect(patternFindAll(pattern, 'ab-1 cd-2 ef-3', 2)).toEqual(['ab-1', 'cd-2'])
    releasePattern(pattern)
    expect(() => patternTest(pattern, 'a')).toThrow(/no pattern has the handle/)
  })

  it('a bad one is a PatternError that says why in one line', () => {
    expect(() => compilePattern('a(?=b)')).toThrow(PatternError)
    expect(() => compilePattern('a(?=b)')).toThrow('RE2 has no such group: `(?=` (look-ahead) (at character 2)')
  })
})

describe('buckets', () => {
  const base = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()

  it('two openings of a table count together; the file is private', () => {
    const path = join(base, `sallyport-test-${randomUUID()}`)
    const created = createBuckets(path, 1000)
    const opened = openBuckets(path)
    expect(statSync(path).mode & 0o777).toBe(0o600)
    expect(takeBucket(created, 'k', 2, 60_000)).toBe(1)
    expect(takeBucket(opened, 'k', 2, 60_000)).toBe(0)
    const refused = takeBucket(created, 'k', 2, 60_000)
    expect(refused).toBeLessThan(-58_000)
    expect(refused).toBeGreaterThanOrEqual(-61_000)
    expect(bucketsSummary(opened)).toMatchObject({ evictions: 0, repairs: 0 })
    expect(bucketsSummary(opened).entries).toBeGreaterThanOrEqual(1000)
    closeBuckets(created)
    closeBuckets(opened)
    expect(() => takeBucket(created, 'k', 2, 60_000)).toThrow(/no bucket table has the handle/)
    rmSync(path)
  })

  it('keys longer than the scratch buffer, and of any script, are told apart', () => {
    const path = join(base, `sallyport-test-${randomUUID()}`)
    const buckets = createBuckets(path, 1000)
    const keys = [
      '',
      'a',
      'é',
      '🦀',
      'x'.repeat(1023),
      'x'.repeat(1024),
      'x'.repeat(1025),
      'é'.repeat(5000),
      `${'é'.repeat(5000)}x`,
    ]
    for (const key of keys) expect(takeBucket(buckets, key, 1, 60_000)).toBe(0)
    for (const key of keys) expect(takeBucket(buckets, key, 1, 60_000)).toBeLessThan(0)
    closeBuckets(buckets)
    rmSync(path)
  })

  it('what is no table is refused with its path', () => {
    const path = join(folder, 'no-table')
    expect(() => openBuckets(path)).toThrow(`cannot open the bucket table ${path}`)
    writeFileSync(path, 'x'.repeat(5000))
    expect(() => openBuckets(path)).toThrow(`${path} is not a bucket table`)
    expect(() => createBuckets(path, 0)).toThrow('a bucket table has 1 to 4194304 entries, not 0')
  })
})
