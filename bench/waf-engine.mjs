/**
 * `node bench/waf-engine.mjs RULES ROWS`: CPU µs per exchange of the native calls alone, on the requests of `bench:waf`,
 * as JSON. One call for the request and one for the response, which ends the transaction, as the gateway makes them.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  createProfile,
  endTransaction,
  loadRuleSet,
  scanRequest,
  scanResponse,
  scanTransaction,
} from '../dist/native/rule-set.js'
import { pages, ROWS } from './waf-requests.mjs'

const [folder, names] = process.argv.slice(2)
/** Least CPU time of a measurement. */
const MEASURE_US = 1_500_000

const read = (path) => ({ path, text: readFileSync(path, 'utf8') })
const inRules = (end) =>
  readdirSync(join(folder, 'rules'))
    .filter((name) => name.endsWith(end))
    .sort()
const setup = [join(folder, 'crs-setup.conf'), join(folder, 'crs-setup.conf.example')].find((file) => existsSync(file))
const ruleSet = await loadRuleSet({
  files: [
    { path: 'engine.conf', text: 'SecRuleEngine On\nInclude @recommended\nSecRequestBodyNoFilesLimit 1048576\n' },
    read(setup),
    ...inRules('.conf').map((name) => read(join(folder, 'rules', name))),
  ],
  data: inRules('.data').map((name) => read(join(folder, 'rules', name))),
  leftOut: [],
})
const profile = createProfile(ruleSet, {
  excludeRuleIds: [],
  requestBodyAccess: true,
  responseBodyAccess: true,
  requestBodyLimit: 2 ** 20,
  responseBodyLimit: 2 ** 20,
  paranoiaLevel: 1,
  inboundThreshold: 5,
  outboundThreshold: 4,
})
const client = '192.0.2.7 0 127.0.0.1 8080'
const requestId = '0192f5a0-7c11-7e53-8f4a-1d2c3b4a5968'
const page = Buffer.from(pages()['page.html'])
const small = Buffer.from('{"id":123,"name":"Ada Example","roles":["admin","editor"],"active":true}')

/** As the front end hands it over: names in lower case. */
function splitRequest(raw) {
  const end = raw.indexOf('\r\n\r\n') + 2
  const [line, ...fields] = raw.toString('latin1', 0, end).split('\r\n')
  const lines = fields.map((field) => field.replace(/^[^:]+/, (name) => name.toLowerCase()))
  return {
    head: [line, ...lines].join('\r\n'),
    body: raw.length > end + 2 ? raw.subarray(end + 2) : null,
  }
}

const result = {}
for (const name of names.split(',')) {
  const row = ROWS[name]
  const next = row.requests()
  const answer = row.page === true ? page : small
  const type = row.page === true ? 'text/html' : 'application/json'
  const head = `HTTP/1.1 200 OK\r\ncontent-type: ${type}\r\ncontent-length: ${answer.length}\r\n`
  const once = (request) => {
    const begun = scanTransaction(scanRequest(profile, client, requestId, request.head, request.body))
    const transaction = row.status === undefined ? scanTransaction(scanResponse(begun, 200, head, answer, true)) : begun
    if (transaction !== 0) endTransaction(transaction)
  }
  // making requests must not count, and asking for the time costs a system call
  const batch = () => Array.from({ length: row.heavy === true ? 4 : 256 }, () => splitRequest(next()))
  for (const request of batch()) once(request)
  let spentUs = 0
  let count = 0
  while (spentUs < MEASURE_US) {
    const requests = batch()
    const before = process.cpuUsage()
    for (const request of requests) once(request)
    const { user, system } = process.cpuUsage(before)
    spentUs += user + system
    count += requests.length
  }
  result[name] = spentUs / count
}
process.stdout.write(JSON.stringify(result))
